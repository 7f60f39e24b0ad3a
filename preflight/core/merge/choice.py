"""Which of two outcomes of one cell stands. Any order of files gives the same: it is a maximum.

Rules that live here:

1. What was decided stands before what is unknown, and that is no conflict.
2. Of two decided ones the worse stands: who reads the merged matrix alone must not be told that a
   path is open which one of the files saw blocked. That it is a conflict is told besides.
3. Of two that say the same the one stands that saw more. Counts of two runs are never added up:
   nobody has seen them together.
"""

from __future__ import annotations

from preflight.core.model import Cause, Outcome, Verdict

_WORSE = (Verdict.OPEN, Verdict.CLOSED, Verdict.LOSSY, Verdict.BLOCKED)
_TELLING = (Cause.NO_AGENT, Cause.INTERRUPTED)  # of unknown ones the least first

Rank = tuple[int, int, int, int, int, int, tuple[str, ...]]


def rank(outcome: Outcome) -> Rank:
    """The greater one stands; equal ranks are equal outcomes."""
    seen = [count for count in outcome.evidence if count is not None]
    if outcome.verdict is Verdict.UNKNOWN:
        bad = specific = 0
        told = _TELLING.index(outcome.cause) if outcome.cause in _TELLING else len(_TELLING)
    else:
        bad = 1 + _WORSE.index(outcome.verdict)
        specific = (outcome.place is not None) + (outcome.leg is not None)
        told = int(outcome.hello is not None)
    return bad, specific, len(seen), told, sum(seen), bool(outcome.detail), _text(outcome)


def _text(outcome: Outcome) -> tuple[str, ...]:
    return tuple(str(part) for part in (*outcome[:5], *outcome[5], *outcome[6:]))


def differ(a: Outcome, b: Outcome) -> bool:
    """Whether they contradict each other; a place that is not known contradicts none."""
    if Verdict.UNKNOWN in (a.verdict, b.verdict):
        return False
    if a.verdict is not b.verdict:
        return True
    return any(
        x is not None and y is not None and x is not y
        for x, y in ((a.leg, b.leg), (a.place, b.place))
    )
