"""Where the largest packet that gets through is another one now.

A closer look searches it between a size that arrived and one that was lost, so two runs differ
only where one run's largest is at or above what the other run lost. Where one run has no such
finding and the sample's cell was open in it, full-size packets passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from preflight.core.diagnosis.conclusions import Size
from preflight.core.diff.findings import Known, apart
from preflight.core.diff.model import MtuMove
from preflight.core.diff.turns import Turn
from preflight.core.findings.model import Cause
from preflight.core.groups import FamilyProbe

# What became of a cell; None where neither run tested it.
TurnOf = Callable[[FamilyProbe, int, int], Turn | None]


def moved(before: Sequence[Known], after: Sequence[Known], turn: TurnOf) -> Iterator[MtuMove]:
    """All that moved, once for each finding of AFTER, then for those that are no more."""
    were = [found for known in before if (found := _sized(known))]
    are = [found for known in after if (found := _sized(known))]
    for now, size, sample in are:
        former = [w for w in were if _holds(w[0], sample) and _holds(now, w[2])]
        for _, old, _ in former:
            if apart(old, size):
                yield MtuMove(now.finding.where, old.largest, size.largest, *sample)
                break
        if not former and _turned(now, sample, turn, Turn.BROKEN):
            yield MtuMove(now.finding.where, None, size.largest, *sample)
    for was, size, sample in were:
        if _turned(was, sample, turn, Turn.MENDED):
            yield MtuMove(was.finding.where, size.largest, None, *sample)


def _sized(known: Known) -> tuple[Known, Size, tuple[int, int]] | None:
    diagnosis = known.finding.diagnosis
    if known.finding.cause is not Cause.SIZE or diagnosis is None or diagnosis.size is None:
        return None
    return None if known.sample is None else (known, diagnosis.size, known.sample)


def _holds(known: Known, pair: tuple[int, int]) -> bool:
    return any(rows.get(pair[0], 0) >> pair[1] & 1 for rows in known.area.values())


def _turned(known: Known, pair: tuple[int, int], turn: TurnOf, wanted: Turn) -> bool:
    return any(turn(test, *pair) is wanted for test in known.area)
