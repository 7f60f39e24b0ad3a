"""What a run's process answers: the matrix in one number that users script against."""

from __future__ import annotations

from preflight.core.matrix import Matrix
from preflight.core.model import Severity, Verdict
from preflight.errors import ExitCode

_REQUIRED = Severity.REQUIRED
_BAD = frozenset({Verdict.BLOCKED, Verdict.CLOSED, Verdict.LOSSY})


def exit_code(matrix: Matrix, strict: bool) -> ExitCode:
    """OK, BAD or INCOMPLETE; `strict` takes recommended probes for required ones.

    A matrix without any cell is INCOMPLETE: nothing is known of any node.

    What a matrix cannot say (no node reached, a run interrupted) is its caller's to say first.
    """
    seen: set[Verdict] = set()
    wanted = [p for p, one in enumerate(matrix.probes) if strict or one.severity is _REQUIRED]
    for position in wanted:
        seen |= _verdicts(matrix, position)
        if seen & _BAD:
            return ExitCode.BAD
    if not seen:
        seen = set().union(*(_verdicts(matrix, position) for position in range(len(matrix.probes))))
        return ExitCode.OK if seen else ExitCode.INCOMPLETE
    return ExitCode.INCOMPLETE if Verdict.UNKNOWN in seen else ExitCode.OK


def _verdicts(matrix: Matrix, probe: int) -> set[Verdict]:
    families = range(len(matrix.families))
    return {outcome.verdict for f in families for outcome in matrix.outcomes_of(f, probe)}
