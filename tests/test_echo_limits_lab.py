"""Limits on ICMP echo end to end: a router's, and a node's in front of its policy."""

from __future__ import annotations

import pytest
from faultbench import Fault, Row, examine, fw, injected, mend
from faultrows import GENEVE

from preflight.core.findings.model import Cause
from preflight.core.matrix import Matrix
from preflight.core.model import Place, Verdict
from preflight.lab import Lab

pytestmark = pytest.mark.lab

ROW = Row("", (), ())
POLICY = (
    "iif lo accept", "ct state established,related accept", "tcp dport { 22, 4240 } accept",
    f"{GENEVE} accept",
)  # fmt: skip


def lost(matrix: Matrix) -> set[tuple[int, int, int]]:
    return {
        (cell.probe, cell.source, cell.destination)
        for cell in matrix.cells()
        if cell.outcome.verdict is not Verdict.OPEN
    }


def test_a_router_that_takes_few_echoes_a_second_blocks_nobody(lab4: Lab) -> None:
    limit = fw("forward", "icmp type { 8, 0 } limit rate over 3/second burst 4 packets drop")
    with injected(lab4, (Fault("fw", limit),)):
        snapshot = examine(lab4, ROW)
    assert len(snapshot.findings) == 1, snapshot.findings
    (one,) = snapshot.findings
    assert one.cause is Cause.RATE_LIMIT, one
    assert "something on the path limits ICMP echo" in one.title
    assert (one.requests, one.changes) == ((), ())
    bad = lost(snapshot.matrix)
    assert {probe for probe, _, _ in bad} == {2}
    assert one.cells == len(bad)


def test_a_node_that_takes_few_echoes_a_second_is_told_from_one_that_takes_none(lab4: Lab) -> None:
    few = "icmp type echo-request limit rate 1/second burst 1 packets accept"
    faults = (
        Fault("n1", fw("input", *POLICY, few, policy="drop")),
        Fault("n3", fw("input", *POLICY, policy="drop")),
    )
    with injected(lab4, faults):
        snapshot = examine(lab4, ROW)
        told = {finding.nodes: finding for finding in snapshot.findings}
        assert told[0,].cause is Cause.RATE_LIMIT, told
        assert "n1 itself limits ICMP echo: what is too much is dropped by" in told[0,].title
        assert told[2,].cause is Cause.RULE
        assert told[2,].title.startswith("n3 itself drops ICMP echo: nftables policy of chain")
        assert len(told) == 2
        places = {kind.place for kind in told[0,].kinds}
        assert places == {Place.DESTINATION}
        mend(lab4, snapshot)
        assert examine(lab4, ROW).findings == ()
