"""What one cause on the path does, in pieces where cells with another fault are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from preflight.core.detail import ran_out
from preflight.core.findings.atoms import Looked
from preflight.core.findings.contradictions import contradict
from preflight.core.findings.shapes import HALF, Rows, Shapes, pairs, union
from preflight.core.findings.unfound import lacks
from preflight.core.groups import Group
from preflight.core.model import Family, Leg, Place, Verdict

_BAD = (Verdict.BLOCKED, Verdict.LOSSY)
_ALL = 0  # every cell may be
_COMPARED = 64  # of more groups, or looks, nobody reads the last


def families(
    shapes: Shapes, groups: Sequence[Group], looks: Mapping[int, Sequence[Looked]]
) -> Iterator[tuple[int, int]]:
    """A group over one family and its like over the other, less a few cells that are bad for
    another reason: pairs of positions.
    """
    alike: dict[object, list[int]] = {}
    for i, group in enumerate(groups[:_COMPARED]):
        if len({test.family for test in group.tests}) == 1 and _on_the_path(
            group, looks.get(i, ())
        ):
            probes = frozenset(test.probe for test in group.tests)
            key = (*group.kind[:4], ran_out(group.sample.outcome), probes)
            alike.setdefault(key, []).append(i)
    for like in alike.values():
        for i in like:
            pieces = [j for j in like if _family(groups[j]) is not _family(groups[i])]
            pieces = [j for j in pieces if shapes.within(groups[j], groups[i])]
            own = [look for j in (i, *pieces) for look in looks.get(j, ())]
            if not pieces or _at_odds(shapes, own):
                continue
            rows, whole = union(shapes.rows(groups[j]) for j in pieces), shapes.rows(groups[i])
            tests = groups[pieces[0]].tests
            if all(shapes.nearly(rows, whole, test, HALF) for test in tests):
                yield from ((i, j) for j in pieces)


def forwards(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    reply: int,
) -> list[int]:
    """The groups that together are lost on the way that the answers of one take, each test of it
    by one of them; none where one is missing that no other fault hides.
    """
    group = groups[reply]
    if group.kind.leg is not Leg.REPLY or not _on_the_path(group, looks.get(reply, ())):
        return []
    found = [
        i
        for i, other in enumerate(groups[:_COMPARED])
        if other.kind.leg is Leg.FORWARD
        and other.kind.verdict is group.kind.verdict
        and _on_the_path(other, looks.get(i, ()))
        and {*other.tests} & {*group.tests}
        and not ran_out(other.sample.outcome)
        and shapes.back_within(group, other)
    ]
    there = {test for i in found for test in groups[i].tests}
    way: Rows = {}
    for source, destination in pairs(shapes.rows(group)):
        way[destination] = way.get(destination, 0) | 1 << source
    hidden = all(shapes.nearly({}, way, test, _ALL) for test in {*group.tests} - there)
    return found if hidden else []


def _family(group: Group) -> Family:
    return group.tests[0].family


def _on_the_path(group: Group, looks: Sequence[Looked]) -> bool:
    """It is not for want of ARP or neighbour discovery, which one family alone dies of."""
    bad = group.kind.verdict in _BAD and group.kind.place is Place.PATH
    return bad and not any(lacks(look.diagnosis) for look in looks)


def _at_odds(shapes: Shapes, looks: Sequence[Looked]) -> bool:
    """Whether they tell of unlike causes."""
    return any(contradict(shapes, a, b) for a, b in combinations(looks[:_COMPARED], 2))
