"""Cells without an agent at an end are told by the nodes that have none."""

from collections.abc import Collection, Sequence

import pytest
from samples import DROPPED_ON_PATH, NO_AGENT, Fault, sample

from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.model import Severity, Verdict


def told(faults: Sequence[Fault], agentless: Collection[int]) -> list[Finding]:
    """The findings about what is unknown; every cell that is not open is in some finding."""
    matrix = sample(6, 3, faults).matrix
    found = findings(matrix, groups(matrix), agentless=agentless)
    assert sum(one.cells for one in found) == sum(
        cell.outcome.verdict is not Verdict.OPEN for cell in matrix.cells()
    )
    return [one for one in found if one.cause is Cause.NO_AGENT]


def no_agent(*names: str) -> list[Fault]:
    return [f for name in names for f in (Fault(NO_AGENT, name, "*"), Fault(NO_AGENT, "*", name))]


def test_one_node() -> None:
    (one,) = told(no_agent("n4"), {3})
    assert one.where == "n4 ↔ all"
    assert one.title.endswith("are unknown, for want of an agent on n4")
    assert (one.pairs, one.cells) == (10, 30)


def test_several_are_named_and_not_the_blocks_between_them() -> None:
    faults = [*no_agent("n1", "n3", "n5", "n6"), Fault(DROPPED_ON_PATH, "n4", "n3")]
    (one,) = told(faults, {0, 2, 4, 5})
    assert one.where == "n1, n3, n5, n6 ↔ all, where nothing else is known"
    assert one.title.startswith(f"{one.where}: UDP 6081")
    assert one.title.endswith("for want of an agent on n1, n3, n5, n6")
    assert one.pairs == 27


@pytest.mark.parametrize("refused", ["geneve", "health,echo"])
def test_required_and_recommended_ones_are_one_finding(refused: str) -> None:
    """Of some cells an ICMP error told more."""
    faults = [*no_agent("n4"), Fault(DROPPED_ON_PATH, "rack=a", "n4", refused)]
    (one,) = told(faults, {3})
    assert one.severity is Severity.REQUIRED
    assert one.where == "n4 ↔ all, where nothing else is known"


def test_a_rack_keeps_its_name() -> None:
    (one,) = told(no_agent("n3", "n4"), {2, 3})
    assert one.where == "rack=b ↔ all"
    assert one.title.endswith("for want of an agent on rack=b")


def test_nobody_has_one() -> None:
    (one,) = told([Fault(NO_AGENT, "*", "*")], range(6))
    assert one.where == "among all nodes"
    assert one.title.endswith("for want of an agent on any of these nodes")


def test_no_node_is_named_where_one_was_lost_only_later() -> None:
    (one,) = told(no_agent("n4"), {0})
    assert one.where == "n4 ↔ all"
    assert one.title.endswith("for want of an agent at both ends")
