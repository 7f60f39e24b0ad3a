"""The nodes, probes and families of several snapshots, as one.

Nodes go by name and probes as well. Who gives one name two addresses, or one address two names, has
mixed up inventories: that is refused, with both files named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from preflight.core.model import (
    BUILT_IN_PROBES,
    AgentInfo,
    AgentState,
    Connection,
    Family,
    Node,
    Probe,
    Severity,
    family_of,
)
from preflight.core.snapshot import Snapshot
from preflight.errors import UsageError

_DIGITS = re.compile(r"(\d+)")
# What is known of an agent where it is absent, the least telling first.
_ABSENT = (AgentState.NONE, AgentState.FAILED)

Named = tuple[str, Snapshot]  # a file's name, and what is in it
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Fleet:
    """All nodes, with their agents, probes and families; notes tell what is not alike."""

    nodes: tuple[Node, ...]
    agents: tuple[AgentInfo, ...]
    probes: tuple[Probe, ...]
    families: tuple[Family, ...]
    notes: tuple[str, ...]


def unite(parts: Sequence[Named]) -> Fleet:
    """Raises UsageError where the parts cannot be of one fleet."""
    first, whole = parts[0]
    for file, part in parts[1:]:
        if part.phase is not whole.phase:
            raise UsageError(
                f"{first} is of phase {whole.phase}, {file} of phase {part.phase}: "
                "`preflight diff` compares these, merge takes files of one phase"
            )
    notes: dict[str, None] = {}
    nodes, agents = _nodes(parts, notes)
    probes = _probes(parts, notes)
    families = _ordered([p.matrix.families for _, p in parts], list(Family).index)
    return Fleet(nodes, agents, probes, families, tuple(notes))


# --- nodes


def _nodes(
    parts: Sequence[Named], notes: dict[str, None]
) -> tuple[tuple[Node, ...], tuple[AgentInfo, ...]]:
    known: dict[str, Node] = {}
    agents: dict[str, AgentInfo] = {}
    at: dict[tuple[str, Family], tuple[str, str]] = {}  # a node's address and its file
    owner: dict[str, tuple[str, str]] = {}  # an address's node and its file
    for file, part in parts:
        for node, agent in zip(part.matrix.nodes, part.agents, strict=True):
            for address in node.addresses:
                _agree_on_address(node.name, address, file, at, owner)
            before = known.get(node.name)
            known[node.name] = node if before is None else _together(before, node, file, notes)
            heard = agents.get(node.name)
            agents[node.name] = agent if heard is None else max(heard, agent, key=_presence)
    names = _ordered([[n.name for n in p.matrix.nodes] for _, p in parts], _natural)
    told = [agents[name] for name in names]
    nodes = [
        replace(
            known[name],
            connection=Connection.NONE if agent.state is AgentState.NONE else Connection.SSH,
            host=known[name].address,
        )
        for name, agent in zip(names, told, strict=True)
    ]
    return tuple(nodes), tuple(told)


def _agree_on_address(
    name: str,
    address: str,
    file: str,
    at: dict[tuple[str, Family], tuple[str, str]],
    owner: dict[str, tuple[str, str]],
) -> None:
    there, where = at.setdefault((name, family_of(address)), (address, file))
    if there != address:
        raise UsageError(
            f"node {name} has the address {there} in {where} and {address} in {file}: these are "
            "of unlike inventories; measure one of them again"
        )
    called, where = owner.setdefault(address, (name, file))
    if called != name:
        raise UsageError(
            f"{address} is node {called} in {where} and node {name} in {file}: these are of "
            "unlike inventories; measure one of them again"
        )


def _together(a: Node, b: Node, file: str, notes: dict[str, None]) -> Node:
    labels = dict(a.labels)
    for key, value in b.labels.items():
        known = labels.setdefault(key, value)
        if known != value:
            labels[key] = min(known, value)
            notes[
                f"{file}: node {a.name} is labelled {key}={value} there and {key}={known} "
                f"elsewhere: {key}={labels[key]} is used"
            ] = None
    addresses = max(a.addresses, b.addresses, key=lambda some: (len(some), some))
    addresses += tuple(sorted({*a.addresses, *b.addresses} - set(addresses)))
    if a.cluster is not None and b.cluster is not None and a.cluster != b.cluster:
        raise UsageError(
            f"node {a.name} is of cluster {b.cluster} in {file} and of {a.cluster} elsewhere"
        )
    clusters = [c for c in (a.cluster, b.cluster) if c is not None]
    return replace(
        a,
        addresses=addresses,
        labels=dict(sorted(labels.items())),
        cluster=clusters[0] if clusters else None,
    )


def _presence(agent: AgentInfo) -> tuple[int, tuple[str, ...]]:
    """The greater is told."""
    if agent.state is AgentState.OK:
        told = len(_ABSENT) + 1
    else:
        told = _ABSENT.index(agent.state) if agent.state in _ABSENT else len(_ABSENT)
    return told, tuple(str(part) for part in (agent.state, agent.reason, agent.python,
                                              agent.kernel))  # fmt: skip


# --- probes


def _probes(parts: Sequence[Named], notes: dict[str, None]) -> tuple[Probe, ...]:
    known: dict[str, tuple[Probe, str]] = {}
    for file, part in parts:
        for probe in part.matrix.probes:
            there, where = known.setdefault(probe.name, (probe, file))
            if _what(there) != _what(probe):
                raise UsageError(
                    f"probe {probe.name} is {_words(there)} in {where} and {_words(probe)} in "
                    f"{file}: these are not the same test"
                )
            if there.severity is not probe.severity:
                notes[
                    f"probe {probe.name} is required in some of the files and recommended in "
                    "others: it is taken as required"
                ] = None
                known[probe.name] = replace(there, severity=Severity.REQUIRED), where
    names = _ordered([[p.name for p in part.matrix.probes] for _, part in parts], _usual)
    return tuple(known[name][0] for name in names)


def _what(probe: Probe) -> tuple[object, ...]:
    return probe.kind, probe.protocol, probe.port


def _words(probe: Probe) -> str:
    port = f" {probe.port}" if probe.port is not None else ""
    return f"{probe.protocol.upper()}{port}"


# --- order


def _ordered(lists: Iterable[Sequence[Thing]], key: object) -> tuple[Thing, ...]:
    """The order that all of them share; else that of `key`, whatever the order of the files."""
    every = [tuple(some) for some in lists]
    if all(some == every[0] for some in every):
        return every[0]
    return tuple(sorted({one for some in every for one in some}, key=key))  # type: ignore[call-overload]


def _natural(name: str) -> tuple[object, ...]:
    """n2 before n10."""
    parts = _DIGITS.split(name)
    return tuple((int(p), p) if i % 2 else (0, p) for i, p in enumerate(parts))


def _usual(name: str) -> tuple[int, str]:
    built_in: Mapping[str, int] = {known: i for i, known in enumerate(BUILT_IN_PROBES)}
    return built_in.get(name, len(built_in)), name
