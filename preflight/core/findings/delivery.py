"""Nodes to which the last router delivers nothing, whatever it is, and their neighbours it serves.

A wrong neighbour entry there, or a route for that address alone, looks like a firewall's rule: so
it is what to see first, and the rule is asked for where both are right.

Rules of this file:
1. Nothing comes to the node from any of several others behind routers, and what its neighbours
   send comes.
2. Each of those others gets through to some of its neighbours, and these to it.
3. What the node sends there arrives, or does not leave, as the router does not answer when it asks
   for its address: a firewall that did not know the node would drop what it sends, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from preflight.core.findings.claims import Cells, cells_of, extent
from preflight.core.findings.hop_words import asks, silent_hops
from preflight.core.findings.made import Made
from preflight.core.findings.model import Cause, Finding
from preflight.core.findings.shapes import Rows, Shapes, union
from preflight.core.findings.titles import hops
from preflight.core.groups import groups
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Place, Verdict
from preflight.core.naming import members
from preflight.core.terms import listed
from preflight.core.ways import Ways

_FEWEST = 2  # of others: one pair's own rule looks the same


class Cut(NamedTuple):
    """A node that nothing reaches from elsewhere."""

    node: int
    far: int  # the set of nodes behind routers
    near: int  # the set of neighbours that are reached
    families: frozenset[Family]


def undelivered(matrix: Matrix, shapes: Shapes, made: Sequence[Made]) -> list[Made]:
    """All findings, those about such a node in other words, and as one."""
    if not any(_fits(one) for one in made):
        return list(made)
    out = list(made)
    for cut in _cuts(matrix, shapes):
        own = [one for one in out if _fits(one) and _about(shapes, one.finding, cut)]
        first = next((one for one in own if one.finding.cause is Cause.NETWORK), None)
        if first is not None:
            diagnoses = [d for one in own for d in one.diagnoses]
            told = _told(matrix, shapes, cut, [first, *(o for o in own if o is not first)])
            out = [
                Made(told, diagnoses) if o is first else o
                for o in out
                if o is first or o not in own
            ]
    return out


def _cuts(matrix: Matrix, shapes: Shapes) -> list[Cut]:
    found: dict[tuple[int, int, int], set[Family]] = {}
    for family in matrix.families:
        for cut in _of_family(shapes, Ways(matrix, family)):
            found.setdefault(cut, set()).add(family)
    return [Cut(*cut, frozenset(families)) for cut, families in found.items()]


def _of_family(shapes: Shapes, ways: Ways) -> Iterator[tuple[int, int, int]]:
    """Node, far and near, as of `Cut`."""
    planned: Rows = union(dict(enumerate(shapes.planned(test))) for test in ways.tests)
    reach = {s: ways.came.get(s, 0) for s in planned}
    for node in planned:
        beside = shapes.neighbourhoods[shapes.neighbourhood(node)] & ~(1 << node)
        sources = sum(1 << s for s, row in planned.items() if row >> node & 1)
        far, near = sources & ~beside, sources & beside
        shut = all(ways.dead(s) >> node & 1 and reach[s] & near for s in members(far))
        served = all(
            reach[n] >> node & 1 and not planned[n] & far & ~reach[n] for n in members(near)
        )
        several = far.bit_count() >= _FEWEST and bool(near)
        if several and shut and served and not ways.lost.get(node, 0) & far:
            yield node, far, near


def _fits(one: Made) -> bool:
    """Whether its cells say no more than that nothing got there."""
    finding = one.finding
    if any(diagnosis.hits or diagnosis.rejecters for diagnosis in one.diagnoses):
        return False
    if any(kind.verdict is not Verdict.BLOCKED for kind in finding.kinds):
        return False
    if finding.cause is Cause.NEIGHBOUR:
        return bool(silent_hops(one.diagnoses))
    lost = Place.PATH, CellCause.DROPPED
    return finding.cause is Cause.NETWORK and all((k.place, k.cause) == lost for k in finding.kinds)


def _about(shapes: Shapes, finding: Finding, cut: Cut) -> bool:
    """Whether all its cells are between that node and those others."""
    return {test.family for test in finding.tests} <= cut.families and all(
        not row & ~cut.far if source == cut.node else row == 1 << cut.node
        for rows in cells_of(shapes, finding).values()
        for source, row in rows.items()
    )


def _told(matrix: Matrix, shapes: Shapes, cut: Cut, own: Sequence[Made]) -> Finding:
    first = own[0].finding
    diagnoses = [d for one in own for d in one.diagnoses]
    every: Cells = {}
    for one in own:
        for test, rows in cells_of(shapes, one.finding).items():
            every[test] = union([every.get(test, {}), rows])
    told = extent(
        shapes,
        groups(matrix, lambda test, source: every.get(test, {}).get(source, 0)),
        first,
    )
    node = matrix.nodes[cut.node]
    beside, far = shapes.name(members(cut.near)), shapes.name(members(cut.far))
    asked = [
        f"{node.name} asks for {hop.address}{f' on {hop.device}' if hop.device else ''} by "
        f"{asks(hop)} and gets no answer, while {beside}, beside it, gets through to {far}"
        for hop in silent_hops(diagnoses)
    ]
    addresses = [a for f in sorted(cut.families) if (a := node.address_in(f)) is not None]
    if_right = (
        f"only if the last router's neighbour entry and route for {listed(addresses)} are right"
    )
    after = hops([d.path for d in diagnoses if d.path])
    return told._replace(
        title=f"{far} → {node.name}: nothing that is sent to {node.name} gets there{after}, "
        f"whatever it is; what is sent to {beside}, beside it, does",
        evidence=tuple(dict.fromkeys((*asked, *(e for one in own for e in one.finding.evidence)))),
        advice=" ".join((_advice(node.name, addresses), *filter(None, [first.advice]))),
        requests=tuple(r._replace(reason=f"{if_right}; {r.reason}") for r in first.requests),
    )


def _advice(name: str, addresses: Sequence[str]) -> str:
    entries = listed(f"`ip neigh get {a} dev DEVICE`" for a in addresses)
    ways = listed(f"`ip route get {a}`" for a in addresses)
    return (
        f"On the last router before {name}, see first its neighbour entry for that address (show "
        f"arp, {entries}: is it {name}'s own MAC address?) and its route there ({ways}). A rule is "
        "needed only if both are right: then something there drops all that is for that address."
    )
