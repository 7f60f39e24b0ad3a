"""Which cells are looked at again once the first looks are in: what they make doubtful.

Rules of this file:
1. A router that did not answer in time looks like one that drops. Where a brief look ends behind
   another router than the rest of its group, it must do so twice.
2. Packets that go missing do so for unlike reasons at unlike pairs, which few looks tell apart; but
   two at once would share what a limiter lets through. So other pairs are asked after the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from preflight.core.findings.atoms import Looked
from preflight.core.findings.contradictions import contradict
from preflight.core.findings.samples import Sample
from preflight.core.findings.shapes import Shapes, pairs
from preflight.core.groups import Group
from preflight.core.model import Cause, Place, Verdict

_LOSSY = 3  # further cells of a run
_CONSIDERED = 256  # cells of a group


def doubtful(shapes: Shapes, looks: Sequence[Looked]) -> list[Looked]:
    """The brief looks at one group that another look contradicts."""
    return [
        look
        for look in looks
        if look.brief and any(contradict(shapes, look, other) for other in looks)
    ]


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
