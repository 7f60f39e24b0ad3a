"""What a run's process answers: the matrix in one number that users script against."""

from __future__ import annotations

from preflight.core.matrix import Matrix
from preflight.core.model import Severity, Verdict
from preflight.errors import ExitCode

_BAD = frozenset({Verdict.BLOCKED, Verdict.CLOSED, Verdict.LOSSY})


def exit_code(matrix: Matrix, strict: bool) -> ExitCode:
    """OK, BAD or INCOMPLETE; `strict` takes recommended probes for required ones.

    What a matrix cannot say (no node reached, a run interrupted) is its caller's to say first.
    """
    incomplete = False
    for position, probe in enumerate(matrix.probes):
        if not strict and probe.severity is not Severity.REQUIRED:
            continue
        for family in range(len(matrix.families)):
            verdicts = {outcome.verdict for outcome in matrix.outcomes_of(family, position)}
            if verdicts & _BAD:
                return ExitCode.BAD
            incomplete = incomplete or Verdict.UNKNOWN in verdicts
    return ExitCode.INCOMPLETE if incomplete else ExitCode.OK
