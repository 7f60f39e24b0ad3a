"""How the nodes of a picture are put together: by a label, by subnet, by how they fare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import NamedTuple

from preflight.core.classes import classes
from preflight.core.model import Family, Node, family_of
from preflight.core.naming import Naming
from preflight.report.layers import Layer

_MOST = 1000  # groups; a label with more values (a host name, a serial number) groups nothing
_FIRST = ("rack", "zone", "topology.kubernetes.io/zone", "room", "row", "site", "region")
_LENGTHS = {Family.IPV4: (24, 22, 20, 16, 12, 8), Family.IPV6: (64, 56, 48, 40, 32)}
_WIDE = 64  # subnets at most, where larger ones can be had
_COMPARED = 600  # nodes, up to which it is looked for those that fare alike
_NUMBER = re.compile(r"(\d+)")


class Grouping(NamedTuple):
    """Every node in one group."""

    title: str  # `rack`
    names: tuple[str, ...]  # of the groups: `rack=a`
    of: tuple[int, ...]  # for each node its group


def groupings(nodes: Sequence[Node], tests: Sequence[Layer]) -> list[Grouping]:
    """All that have two groups or more, the one to begin with first."""
    found = sorted(_labels(nodes), key=_rank)
    found += _subnets(nodes)
    found += _alike(nodes, tests)
    return found


def _labels(nodes: Sequence[Node]) -> Iterator[Grouping]:
    keys = dict.fromkeys(key for node in nodes for key in node.labels)
    for key in keys:
        yield from _grouping(key, [node.labels.get(key) for node in nodes])
    if any(node.cluster for node in nodes):
        yield from _grouping("cluster", [node.cluster for node in nodes])


def _grouping(title: str, values: Sequence[str | None]) -> Iterator[Grouping]:
    known = sorted({value for value in values if value is not None}, key=_natural)
    names = [f"{title}={value}" for value in known]
    positions: dict[str | None, int] = {value: i for i, value in enumerate(known)}
    if None in values:
        positions[None] = len(names)
        names.append(f"no {title}")
    if 2 <= len(names) <= _MOST and len(names) < len(values):
        yield Grouping(title, tuple(names), tuple(positions[value] for value in values))


def _rank(grouping: Grouping) -> tuple[bool, int]:
    known = grouping.title in _FIRST
    return not known, _FIRST.index(grouping.title) if known else 0


def _subnets(nodes: Sequence[Node]) -> Iterator[Grouping]:
    """By the widest of the usual prefixes that still tells nodes apart, or the first that may."""
    family = family_of(nodes[0].address) if nodes else Family.IPV4
    addresses = [node.address_in(family) for node in nodes]
    for length in _LENGTHS[family]:
        networks = [
            None if a is None else str(ip_network(f"{a}/{length}", strict=False)) for a in addresses
        ]
        different = set(networks)
        if len(different) < 2:
            return
        if len(different) <= min(_WIDE, len(nodes) - 1):
            for grouping in _grouping("subnet", networks):
                bare = tuple(name.removeprefix("subnet=") for name in grouping.names)
                yield grouping._replace(names=bare)
            return


def _alike(nodes: Sequence[Node], tests: Sequence[Layer]) -> Iterator[Grouping]:
    """Those that could change places and nobody would notice."""
    if not tests or not 8 < len(nodes) <= _COMPARED:
        return
    kinds = classes([test.lines for test in tests])
    if not 2 <= len(kinds) <= len(nodes) // 3:
        return
    of = [0] * len(nodes)
    for number, kind in enumerate(kinds):
        for node in kind:
            of[node] = number
    naming = Naming(nodes)
    names = tuple(naming.name(sum(1 << node for node in kind), most=2) for kind in kinds)
    yield Grouping("how they fare", names, tuple(of))


def _natural(value: str) -> list[tuple[int, int, str]]:
    """n2 before n10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in _NUMBER.split(value)
        if part
    ]
