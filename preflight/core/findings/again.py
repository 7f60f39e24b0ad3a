"""Which cells are looked at again once the first looks are in: what they make doubtful.

Rules of this file:
1. A router that did not answer in time looks like one that drops. Where a brief look ends behind
   another router than the rest of its group, it must do so twice, or nothing is known of its cell.
2. Where flows end behind unlike routers nothing can be said of a cell by its like: more are asked,
   when routers have rested. So are those again of which a look found no router at all.
3. Packets that go missing do so for unlike reasons at unlike pairs, which few looks tell apart; but
   two at once would share what a limiter lets through. So other pairs are asked after the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice

from preflight.core.findings.atoms import Looked
from preflight.core.findings.contradictions import contradict
from preflight.core.findings.samples import Sample
from preflight.core.findings.shapes import Shapes, pairs
from preflight.core.groups import FamilyProbe, Group
from preflight.core.model import Cause, Leg, Place, Verdict

_LOSSY = 3  # further cells of a run
_PATHS = 12
_CONSIDERED = 256  # cells of a group


def doubtful(shapes: Shapes, looks: Sequence[Looked]) -> list[Looked]:
    """The brief looks at one group that another look contradicts."""
    return [
        look
        for look in looks
        if look.brief and any(contradict(shapes, look, other) for other in looks)
    ]


def more_paths(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    usable: set[int],
) -> list[tuple[int, Sample]]:
    """Cells between nodes to ask in brief once routers have rested, each with its group's position:
    those of looks that found no router where others found some, and where flows end behind unlike
    routers, cells that nobody looked at. Of each source and family one: routers give it few errors.
    """
    paths = {i: own for i, own in looks.items() if _dropped_on_the_way(groups[i])}
    every = [look for own in paths.values() for look in own]
    ends = [look for look in every if _ends(look)]
    if not ends:
        return []
    chosen: dict[object, tuple[int, Sample]] = {}

    def choose(position: int, pair: tuple[int, int], test: FamilyProbe) -> None:
        if {*pair} <= usable:
            sample = Sample(*pair, *test, groups[position].kind, brief=True)
            chosen.setdefault((pair[0], test.family), (position, sample))

    for i, own in paths.items():
        for look in own:
            if not (_ends(look) or look.diagnosis.rejecters or _on_link(look)):
                choose(i, (look.source, look.destination), look.test or groups[i].tests[0])
    if any(contradict(shapes, a, b) for a, b in combinations(ends, 2)):
        for i, own in paths.items():
            known = {(look.source, look.destination, look.test) for look in own}
            for test in groups[i].tests:
                for pair in islice(pairs(shapes.rows(groups[i])), _CONSIDERED):
                    if (*pair, test) not in known:
                        choose(i, pair, test)
    return list(chosen.values())[:_PATHS]


def _dropped_on_the_way(group: Group) -> bool:
    kind = group.kind
    forward = (kind.leg, kind.place) == (Leg.FORWARD, Place.PATH)
    return forward and (kind.verdict, kind.cause) == (Verdict.BLOCKED, Cause.DROPPED)


def _on_link(look: Looked) -> bool:
    path = look.diagnosis.path
    return path is not None and path.on_link


def _ends(look: Looked) -> bool:
    path = look.diagnosis.path
    return path is not None and path.silent is not None


def confirmed(look: Looked, again: Looked | None) -> bool:
    """Whether a second look at the same cell says the same of where it ends."""
    if again is None or look.diagnosis.path is None or again.diagnosis.path is None:
        return False
    first, second = look.diagnosis.path, again.diagnosis.path
    return (first.routers[-1:], first.silent) == (second.routers[-1:], second.silent)


def lossy(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    usable: set[int],
) -> list[tuple[int, Sample]]:
    """Further cells of groups that lose some packets on the way, each with its group's position."""
    out: list[tuple[int, Sample]] = []
    for position, own in looks.items():
        group = groups[position]
        kind = group.kind
        if kind.verdict is not Verdict.LOSSY or kind.cause is not Cause.DROPPED:
            continue
        if kind.place is Place.SOURCE or not own:
            continue
        test = own[0].test or group.tests[0]
        asked = [(look.source, look.destination) for look in own]
        for _ in range(_LOSSY - len(out)):
            left = (
                pair
                for pair in pairs(shapes.rows(group))
                if pair not in asked and {*pair} <= usable
            )
            found = min(
                islice(left, _CONSIDERED), key=lambda pair: _known(asked, *pair), default=None
            )
            if found is None:
                break
            asked.append(found)
            out.append((position, Sample(*found, *test, kind)))
    return out


def _known(asked: Sequence[tuple[int, int]], source: int, destination: int) -> int:
    """How many ends of a pair are those of others."""
    return sum((s == source) + (d == destination) for s, d in asked)
