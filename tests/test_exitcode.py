"""The exit code: the worst of what is required, and of what is recommended only with --strict."""

from itertools import permutations

import pytest

from preflight.core.exitcode import exit_code
from preflight.core.matrix import Matrix
from preflight.core.model import GENEVE, HEALTH, Family, Node, Outcome, Verdict
from preflight.errors import ExitCode

BAD = (Verdict.BLOCKED, Verdict.CLOSED, Verdict.LOSSY)


def matrix(geneve: Verdict, health: Verdict, family: Family = Family.IPV4) -> Matrix:
    """Three nodes, all open but one cell of each probe, over `family`."""
    nodes = [Node(name, (f"10.0.0.{n}",), name) for n, name in enumerate("abc", 1)]
    made = Matrix(nodes, (GENEVE, HEALTH), (Family.IPV4, Family.IPV6))
    for probe, odd in enumerate((geneve, health)):
        for f, of in enumerate(made.families):
            for source, destination in permutations(range(3), 2):
                last = (source, destination) == (2, 1) and of is family
                verdict = odd if last else Verdict.OPEN
                made.set(made.index(f, probe, source, destination), Outcome(verdict))
    return made


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("bad", BAD)
def test_something_required_is_bad(bad: Verdict, family: Family) -> None:
    assert exit_code(matrix(bad, Verdict.OPEN, family), strict=False) is ExitCode.BAD
    assert exit_code(matrix(bad, Verdict.UNKNOWN, family), strict=True) is ExitCode.BAD


@pytest.mark.parametrize("bad", BAD)
def test_recommended_probes_count_with_strict_alone(bad: Verdict) -> None:
    assert exit_code(matrix(Verdict.OPEN, bad), strict=False) is ExitCode.OK
    assert exit_code(matrix(Verdict.OPEN, bad), strict=True) is ExitCode.BAD


def test_unknown_is_incomplete_unless_something_is_bad() -> None:
    assert exit_code(matrix(Verdict.UNKNOWN, Verdict.OPEN), strict=False) is ExitCode.INCOMPLETE
    assert exit_code(matrix(Verdict.OPEN, Verdict.UNKNOWN), strict=False) is ExitCode.OK
    assert exit_code(matrix(Verdict.OPEN, Verdict.UNKNOWN), strict=True) is ExitCode.INCOMPLETE
    # What is bad wins, also over an unknown that was met before it.
    assert exit_code(matrix(Verdict.UNKNOWN, Verdict.LOSSY), strict=True) is ExitCode.BAD


def test_all_open_is_ok_and_cells_never_planned_do_not_count() -> None:
    assert exit_code(matrix(Verdict.OPEN, Verdict.OPEN), strict=True) is ExitCode.OK


@pytest.mark.parametrize("strict", [False, True])
def test_a_matrix_without_a_cell_says_nothing(strict: bool) -> None:
    alone = Node("a", ("10.0.0.1",), "a")
    for nodes in ([], [alone]):
        assert exit_code(Matrix(nodes, (GENEVE,), (Family.IPV4,)), strict) is ExitCode.INCOMPLETE


def test_recommended_probes_alone_are_ok_where_nobody_asks_for_more() -> None:
    made = matrix(Verdict.OPEN, Verdict.BLOCKED)
    alone = Matrix(made.nodes, (HEALTH,), (Family.IPV4,))
    alone.set(alone.index(0, 0, 0, 1), Outcome(Verdict.BLOCKED))
    assert exit_code(alone, strict=False) is ExitCode.OK
    assert exit_code(alone, strict=True) is ExitCode.BAD


def test_outcomes_of_counts_one_probe_over_one_family() -> None:
    made = matrix(Verdict.LOSSY, Verdict.OPEN, Family.IPV6)
    assert made.outcomes_of(0, 0) == {Outcome(Verdict.OPEN): 6}
    assert made.outcomes_of(1, 0) == {Outcome(Verdict.OPEN): 5, Outcome(Verdict.LOSSY): 1}
    assert made.outcomes_of(1, 1) == {Outcome(Verdict.OPEN): 6}
