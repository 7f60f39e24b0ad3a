"""What the process of a diff answers."""

from __future__ import annotations

from preflight.core.diff.model import Diff
from preflight.core.diff.turns import COMPARED, LOST, WORSENED
from preflight.core.model import Severity
from preflight.errors import ExitCode


def exit_code(diff: Diff, *, strict: bool) -> ExitCode:
    """BAD where something required got worse, else INCOMPLETE where some is not known any more.

    A cell that was known and was not tested again is not known, unless one of its nodes went. Where
    no cell is known in both runs the answer is INCOMPLETE, too. With `strict` all is required.
    """
    wanted = [t for t in diff.tallies if strict or t.severity is Severity.REQUIRED]
    turns = {turn for tally in wanted for turn in tally.turns}
    if turns & WORSENED:
        return ExitCode.BAD
    compared = any(tally.turns.keys() & COMPARED for tally in diff.tallies)
    return ExitCode.INCOMPLETE if turns & LOST or not compared else ExitCode.OK
