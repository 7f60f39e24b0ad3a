"""Groups of cells that lack ARP or neighbour discovery: what of them one node explains.

Rules of this file:
1. A node explains the cells that it is an end of, on the side and over the family that a look
   accuses. What else is in the group is another cause's.
2. A packet that came that way, of whatever probe, proves that the node had been found.
3. Nodes that nobody looked at go with the others where at least two were, and all of them agree.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.discovery import culprits
from preflight.core.diagnosis.trial import SEEKS, SOUGHT
from preflight.core.findings.atoms import Atom, Looked, Part, at, told
from preflight.core.findings.contradictions import culprit
from preflight.core.findings.shapes import Shapes, pairs
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Leg, Place

_MUTE = "mute"  # in place of a rule's name
_FURTHER = 4  # nodes of one group to look at beside its first
# What a packet was seen at that got there: the vantage points of the pair, and of the pair back.
_PAST = {
    SOUGHT: (("arrived", "accepted", "answered"), ("returned", "received")),
    SEEKS: (("left", "arrived", "accepted"), ("answered", "returned", "received")),
}


class Lack(NamedTuple):
    """Whom one look accuses of missing discovery."""

    node: int
    leg: str  # SOUGHT, SEEKS
    name: Hashable  # what is alike on nodes that are set up alike


def lacks(diagnosis: Diagnosis) -> list[Lack]:
    """What is missing, where that alone explains the cell; rules before what has no name."""
    sure = [hit for hit in diagnosis.hits if hit.rule.sure]
    if not all(hit.of_discovery for hit in sure):
        return []
    named = [Lack(hit.node, hit.leg, culprit(diagnosis._replace(hits=(hit,)))) for hit in sure]
    if not named and diagnosis.mute_node is not None and diagnosis.kernel is None:
        return [Lack(diagnosis.mute_node, SOUGHT, _MUTE)]
    return named


def one_node_each(group: Group) -> list[Atom]:
    """Cells of a group each of which is worth a look, as each of its nodes may be to blame for its
    own alone.
    """
    six = _six(group)
    if not six or not culprits(group.kind):
        return []
    sources, destinations = (
        sum(1 << n for n in side) for side in (group.sources, group.destinations)
    )
    at_source = group.kind.leg is Leg.REPLY
    if group.kind.cause is Cause.NO_NEIGHBOUR:
        at_source = len(group.sources) < len(group.destinations)
    if at_source:
        return [Atom(six[0], 1 << n, destinations, 0) for n in group.sources[:_FURTHER]]
    return [Atom(six[0], sources, 1 << n, 0) for n in group.destinations[:_FURTHER]]


def hidden(group: Group, looks: Sequence[Looked]) -> set[int]:
    """The nodes for want of which the cells of an explained part die."""
    accused = {(lack.node, lack.leg) for look in looks for lack in lacks(look.diagnosis)}
    found: set[int] = set()
    for place, leg in culprits(group.kind):
        nodes = _side(group, place)
        if any((node, leg) in accused for node in nodes):
            found |= set(nodes)
    return found


class Cut(NamedTuple):
    """A group taken apart: what discovery explains, with the looks that say so, and the rest."""

    explained: list[Part]
    rest: list[Part]


def cut(matrix: Matrix, shapes: Shapes, group: Group, looks: Sequence[Looked]) -> Cut:
    """The group's parts; all of it is the rest where no look accuses anybody of this."""
    if not culprits(group.kind):
        return Cut([], [Part(group, list(looks))])
    looks = [_credible(matrix, group, look) for look in looks]
    explained: list[Part] = []
    rest: list[Group] = []
    for family in dict.fromkeys(test.family for test in group.tests):
        part = group._replace(tests=tuple(t for t in group.tests if t.family is family))
        own = [look for look in looks if _family(group, look) is family]
        blame, left = _taken_apart(matrix, shapes, group, part, own)
        for name, found in blame.items():
            accusers = [look for look in own if name in {k.name for k in lacks(look.diagnosis)}]
            explained += [Part(one, accusers) for one in found]
        rest += left
    if not explained:
        return Cut([], [Part(group, looks)])
    if not rest and len(explained) == 1:
        return Cut([Part(group, explained[0].looks)], [])
    return Cut(explained, [Part(part, at(shapes, part, looks)) for part in rest])


def _taken_apart(
    matrix: Matrix, shapes: Shapes, whole: Group, group: Group, looks: Sequence[Looked]
) -> tuple[dict[Hashable, list[Group]], list[Group]]:
    """What of one family's cells is explained, by name, and what is left."""
    accused = _accused(matrix, group, looks)
    if not accused:
        sides = (group.sources, group.destinations)
        return {}, list(_parts(matrix, shapes, whole, group, [sides]))
    explained: dict[Hashable, list[Group]] = {}
    rest: list[Group] = []
    for way in _ways(group):
        own: dict[Place, dict[int, Hashable]] = {Place.SOURCE: {}, Place.DESTINATION: {}}
        for place, leg in culprits(group.kind):
            known = accused.get(leg, {})
            own[place] = {n: known[n] for n in _side(way, place) if n in known}
        others = tuple(n for n in way.sources if n not in own[Place.SOURCE])
        for name in dict.fromkeys(name for known in own.values() for name in known.values()):
            at_source, at_destination = (
                tuple(n for n, other in own[place].items() if other == name)
                for place in (Place.SOURCE, Place.DESTINATION)
            )
            blocks = [(at_source, way.destinations), (others, at_destination)]
            explained.setdefault(name, []).extend(_parts(matrix, shapes, whole, way, blocks))
        far = tuple(n for n in way.destinations if n not in own[Place.DESTINATION])
        rest += _parts(matrix, shapes, whole, way, [(others, far)])
    return explained, rest


def _six(group: Group) -> tuple[FamilyProbe, ...]:
    return tuple(test for test in group.tests if test.family is Family.IPV6)


def _family(group: Group, look: Looked) -> Family:
    return (look.test or group.tests[0]).family


def _credible(matrix: Matrix, group: Group, look: Looked) -> Looked:
    """The look less what another cell of the same two nodes refutes."""
    refuted = {
        (lack.node, lack.leg)
        for lack in lacks(look.diagnosis)
        if _refuted(matrix, _family(group, look), lack, look.source + look.destination)
    }
    hits = tuple(hit for hit in look.diagnosis.hits if (hit.node, hit.leg) not in refuted)
    mute = look.diagnosis.mute_node
    told = look.diagnosis._replace(hits=hits, mute_node=None if (mute, SOUGHT) in refuted else mute)
    return look._replace(diagnosis=told) if refuted else look


def _refuted(matrix: Matrix, family: Family, lack: Lack, both: int) -> bool:
    """Whether any packet between that node and the other one got past that discovery."""
    other = both - lack.node
    there = (other, lack.node) if lack.leg == SOUGHT else (lack.node, other)
    number = matrix.families.index(family)
    for ends, points in zip((there, there[::-1]), _PAST[lack.leg], strict=True):
        for probe in range(len(matrix.probes)):
            outcome = matrix.outcome(matrix.index(number, probe, *ends))
            if outcome and any(getattr(outcome.evidence, point) for point in points):
                return True
    return False


def _accused(
    matrix: Matrix, group: Group, looks: Sequence[Looked]
) -> dict[str, dict[int, Hashable]]:
    """For each leg of discovery the nodes accused, and of what."""
    found: dict[str, dict[int, Hashable]] = {}
    cleared: set[int] = set()
    for look in looks:
        for lack in lacks(look.diagnosis):
            known = found.setdefault(lack.leg, {})
            if known.get(lack.node, _MUTE) == _MUTE:
                known[lack.node] = lack.name
        if not lacks(look.diagnosis):
            cleared |= {look.source, look.destination}
    nothing_passes = len(group.tests) == len(matrix.probes)
    for known in found.values():
        names = set(known.values())
        if nothing_passes and len(known) > 1 and len(names) == 1:
            unknown = {*group.sources, *group.destinations} - cleared - known.keys()
            known.update(dict.fromkeys(unknown, names.pop()))
    return found


def _ways(group: Group) -> list[Group]:
    """The group, one direction at a time."""
    there = group._replace(both_ways=False)
    if not group.both_ways:
        return [there]
    return [there, there._replace(sources=group.destinations, destinations=group.sources)]


def _side(group: Group, place: Place) -> tuple[int, ...]:
    return group.sources if place is Place.SOURCE else group.destinations


def _parts(
    matrix: Matrix,
    shapes: Shapes,
    group: Group,
    like: Group,
    blocks: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
) -> Iterator[Group]:
    """Those of `blocks` that have cells, each `like` that part of the group."""
    for sources, destinations in blocks:
        part = like._replace(sources=sources, destinations=destinations)
        if sources and destinations and (cells := list(pairs(shapes.rows(part)))):
            yield told(matrix, shapes, group, part, cells)
