"""What became of a cell: one table from what it was and what it is.

Rules of this file:

1. The table is data and total: open, lossy, closed, blocked, unknown and not tested, on each side.
2. Only what was known in both runs got worse or better. Unknown and not tested are never a loss
   nor a gain.
3. Open, lossy, closed, blocked: each is worse than the one before it. All of Cilium's traffic is
   served; some of it; none, though the way is open; none, and the way is not open either.
4. Two cells are bad in the same way unless something that is known of both differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from preflight.core.groups import Kind
from preflight.core.model import Verdict


class Turn(StrEnum):
    """What became of one cell, or of all cells of a group."""

    SAME = "same"  # open in both
    BROKEN = "broken"  # it was open, and is not now
    WORSE = "worse"  # it was bad, and is worse now
    EASED = "eased"  # it was bad, and is less so now
    MENDED = "mended"  # it was bad, and is open now
    STILL = "still"  # as bad as before, in the same way
    OTHERWISE = "otherwise"  # as bad as before, with another leg, place, cause or rejecter
    REVEALED = "revealed"  # it was unknown, and is known to be bad now
    CLEARED = "cleared"  # it was unknown, and is known to be open now
    LOST = "lost"  # it was known, and is unknown now
    UNKNOWN = "unknown"  # known in neither: unknown, or not tested
    ONLY_BEFORE = "only-before"  # it was known, and was not tested after; both nodes are there
    ONLY_AFTER = "only-after"  # it is known, and was not tested before; both nodes were there
    WENT = "went"  # one of its nodes is not in the AFTER run
    CAME = "came"  # one of its nodes is not in the BEFORE run


NOT_TESTED: Final = "not-tested"
STATES: Final = (
    Verdict.OPEN, Verdict.LOSSY, Verdict.CLOSED, Verdict.BLOCKED, Verdict.UNKNOWN, None
)  # fmt: skip

_T = Turn
_PAST, _NEW = Turn.ONLY_BEFORE, Turn.ONLY_AFTER
_ROWS: Mapping[Verdict | None, Sequence[Turn | None]] = {
    # after:           open        lossy        closed       blocked      unknown     not tested
    Verdict.OPEN:    (_T.SAME,    _T.BROKEN,   _T.BROKEN,   _T.BROKEN,   _T.LOST,    _PAST),
    Verdict.LOSSY:   (_T.MENDED,  _T.STILL,    _T.WORSE,    _T.WORSE,    _T.LOST,    _PAST),
    Verdict.CLOSED:  (_T.MENDED,  _T.EASED,    _T.STILL,    _T.WORSE,    _T.LOST,    _PAST),
    Verdict.BLOCKED: (_T.MENDED,  _T.EASED,    _T.EASED,    _T.STILL,    _T.LOST,    _PAST),
    Verdict.UNKNOWN: (_T.CLEARED, _T.REVEALED, _T.REVEALED, _T.REVEALED, _T.UNKNOWN, _T.UNKNOWN),
    None:            (_NEW,       _NEW,        _NEW,        _NEW,        _T.UNKNOWN, None),
}  # fmt: skip
TABLE: Mapping[tuple[Verdict | None, Verdict | None], Turn | None] = {
    (before, after): turn
    for before, row in _ROWS.items()
    for after, turn in zip(STATES, row, strict=True)
}

WORSENED = frozenset({Turn.BROKEN, Turn.WORSE})
LOST = frozenset({Turn.LOST, Turn.ONLY_BEFORE})  # known before, and not now
BETTERED = frozenset({Turn.MENDED, Turn.EASED})
STILL_BAD = frozenset({Turn.WORSE, Turn.EASED, Turn.STILL, Turn.OTHERWISE})
COMPARED = frozenset({Turn.SAME, Turn.BROKEN, Turn.MENDED}) | STILL_BAD  # known in both

MEANINGS: Mapping[Turn, str] = {
    Turn.SAME: "Open in both.",
    Turn.BROKEN: "It was open, and is not now.",
    Turn.WORSE: "It was bad, and is worse now.",
    Turn.EASED: "It was bad, and is less so now.",
    Turn.MENDED: "It was bad, and is open now.",
    Turn.STILL: "As bad as before, in the same way. `otherwise` where leg, place, cause or "
    "rejecter differ and both are known.",
    Turn.REVEALED: "It was unknown, and is known to be bad now: no proof that it got worse.",
    Turn.CLEARED: "It was unknown, and is known to be open now: no proof that it was mended.",
    Turn.LOST: "It was known, and is unknown now.",
    Turn.UNKNOWN: "Known in neither run.",
    Turn.ONLY_BEFORE: "It was known, and was not tested after. `went` where a node is gone.",
    Turn.ONLY_AFTER: "It is known, and was not tested before. `came` where a node is new.",
}  # fmt: skip


def turn(before: Kind | None, after: Kind | None) -> Turn | None:
    """What became of a cell of two nodes that both runs know; None where neither tested it."""
    found = TABLE[before and before.verdict, after and after.verdict]
    if found is Turn.STILL and before is not None and after is not None:
        return Turn.STILL if alike(before, after) else Turn.OTHERWISE
    return found


def alike(before: Kind, after: Kind) -> bool:
    """Whether two kinds of one verdict differ in nothing that is known of both."""
    pairs = zip(before, after, strict=True)
    return all(one is None or other is None or one == other for one, other in pairs)


def readme_table() -> str:
    """The table in Markdown, for the README, which is tested to hold it."""
    names = [str(state) if state else "not tested" for state in STATES]
    lines = [
        "| before \\ after | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for name, state in zip(names, STATES, strict=True):
        cells = (TABLE[state, after] for after in STATES)
        lines.append(f"| {name} | " + " | ".join(f"`{t}`" if t else "" for t in cells) + " |")
    lines += ["", *(f"- `{turn}`: {means}" for turn, means in MEANINGS.items())]
    return "\n".join(lines) + "\n"
