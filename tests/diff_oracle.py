"""What a diff must say of each cell, worked out cell by cell from two snapshots' results.

It shares nothing with `preflight.core.diff` but the names of the turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from preflight.core.matrix import Matrix
from preflight.core.model import Family, Node, Outcome, Probe

# How much of the traffic is served: all, some, none over an open way, none at all.
SERVED = {"open": 3, "lossy": 2, "closed": 1, "blocked": 0}


class Spot(NamedTuple):
    """One cell: nodes by their AFTER names, probes by what they send."""

    source: str
    destination: str
    probe: tuple[str, str, int | None, str]
    family: Family


def sends(probe: Probe) -> tuple[str, str, int | None, str]:
    return str(probe.kind), str(probe.protocol), probe.port, probe.name


def spots(matrix: Matrix, names: Mapping[str, str]) -> dict[Spot, Outcome]:
    """Every cell; `names` give the AFTER name of each node."""
    return {
        Spot(
            names[matrix.nodes[cell.source].name],
            names[matrix.nodes[cell.destination].name],
            sends(matrix.probes[cell.probe]),
            cell.family,
        ): cell.outcome
        for cell in matrix.cells()
    }


def called(before: Matrix, after: Matrix) -> dict[str, str]:
    """The name that each BEFORE node has in the diff: its own, or another for the same machine."""
    old, new = {n.name: n for n in before.nodes}, {n.name: n for n in after.nodes}
    common = old.keys() & new.keys()
    out = {}
    for name, node in old.items():
        out[name] = name
        if name in new:
            continue
        heirs = [
            n for n in new.values() if n.name not in old and set(n.addresses) & set(node.addresses)
        ]
        if len(heirs) == 1:
            rivals = [
                o
                for o in old.values()
                if o.name not in new and set(o.addresses) & set(heirs[0].addresses)
            ]
            short = {n.split(".")[0].lower() for n in (name, heirs[0].name)}
            if rivals == [node] and (not common or len(short) == 1):
                out[name] = heirs[0].name
    return out


def expected(before: Matrix, after: Matrix) -> dict[Spot, str]:
    """What became of each cell that either run tested."""
    names = called(before, after)
    was = spots(before, names)
    now = spots(after, {n.name: n.name for n in after.nodes})
    old = {names[n.name]: n for n in before.nodes}
    new = {n.name: n for n in after.nodes}
    return {spot: one(spot, was.get(spot), now.get(spot), old, new) for spot in {**was, **now}}


def one(
    spot: Spot,
    was: Outcome | None,
    now: Outcome | None,
    old: Mapping[str, Node],
    new: Mapping[str, Node],
) -> str:
    ends = {spot.source, spot.destination}
    if not ends <= new.keys():
        return "went"
    if not ends <= old.keys():
        return "came"
    known = [o is not None and o.verdict != "unknown" for o in (was, now)]
    if was is None or now is None:
        if known[0]:
            return "only-before"
        return "only-after" if known[1] else "unknown"
    if not known[0] or not known[1]:
        if known[0]:
            return "lost"
        if not known[1]:
            return "unknown"
        return "cleared" if now.verdict == "open" else "revealed"
    less = SERVED[was.verdict] - SERVED[now.verdict]
    if was.verdict == now.verdict == "open":
        return "same"
    if less > 0:
        return "broken" if was.verdict == "open" else "worse"
    if less < 0:
        return "mended" if now.verdict == "open" else "eased"
    unlike = (
        bool(was.leg and now.leg and was.leg != now.leg)
        or bool(was.place and now.place and was.place != now.place)
        or bool(was.cause and now.cause and was.cause != now.cause)
        or rejecters_differ(spot, was, now, old, new)
    )
    return "otherwise" if unlike else "still"


def rejecters_differ(
    spot: Spot, was: Outcome, now: Outcome, old: Mapping[str, Node], new: Mapping[str, Node]
) -> bool:
    """The pair's own ends are known by their part in it, other nodes by their present address."""
    if was.rejected_by is None or now.rejected_by is None:
        return False
    who = []
    for address, nodes in ((was.rejected_by, old), (now.rejected_by, new)):
        owner = next((name for name, node in nodes.items() if address in node.addresses), None)
        if owner in (spot.source, spot.destination):
            who.append("source" if owner == spot.source else "destination")
        else:
            present = new.get(owner or "")
            who.append(address if present is None else present.address)
    return who[0] != who[1]
