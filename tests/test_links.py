"""What nodes' own tables prove: faults of addresses, neighbour entries and routes, end to end."""

from __future__ import annotations

import pytest
from faultbench import Fault, Find, Row, assert_found, examine, filled, injected, mend
from linkrows import ADDRESSES, DELIVERY, FORGET, LOST, NEIGHBOURS, REVERSE, ROUTES, TRAILS
from netns import NetnsConnector
from scenarios import Silent
from test_agent_kit import ship

from preflight.core.findings.model import Cause
from preflight.core.model import Family
from preflight.core.options import CheckOptions
from preflight.inventory import load
from preflight.lab import Lab
from preflight.runs import check as run
from preflight.runs.trace import Tracing

pytestmark = pytest.mark.lab


ROWS = ADDRESSES + NEIGHBOURS + DELIVERY + ROUTES + REVERSE + TRAILS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_found(lab4: Lab, row: Row) -> None:
    with injected(lab4, row.faults):
        first = examine(lab4, row)
        assert_found(lab4, first, row.finds)
        if any(find.mends for find in row.finds):
            mend(lab4, first)
            left = [finding.title for finding in examine(lab4, row).findings]
            assert left == [filled(lab4, title) for title in row.after]


@pytest.mark.parametrize("row", LOST, ids=lambda row: row.name)
def test_a_node_that_does_not_use_its_own_address(lab4: Lab, row: Row) -> None:
    def forget() -> None:
        for where, command in FORGET:
            lab4.run(where, *command.split())

    try:
        with injected(lab4, row.faults):
            first = examine(lab4, row)
            assert all(agent.state == "ok" for agent in first.agents)
            assert_found(lab4, first, row.finds)
            if any(find.mends for find in row.finds):
                mend(lab4, first)
                forget()
                assert not examine(lab4, row).findings
    finally:
        forget()


def test_a_duplicate_on_the_link_that_gets_what_others_send(lab4: Lab) -> None:
    """The router takes the wrong node for the owner, for as long as the test lasts."""
    learnt = f"ip neigh replace $n3 lladdr {lab4.node('n4').mac} dev rack-b nud permanent"
    forget = "ip neigh del $n3 dev rack-b"
    row = Row(
        "",
        (
            Fault("n4", "ip addr add $n3/24 dev eth0", "ip addr del $n3/24 dev eth0 || true"),
            Fault("fw", learnt, f"{forget} || true"),
        ),
        (
            Find(
                Cause.ADDRESS,
                "n3 ↔ n4 and rack=a → n3 (UDP 6081)",
                16,
                (
                    "n3's address $n3 is also configured on n4",
                    "packets for n3 from $n1 and $n2 came to n4",
                    "arping",
                ),
                "n4",
                mends=True,
            ),
        ),
    )
    with injected(lab4, row.faults):
        first = examine(lab4, row)
        (found,) = first.findings
        assert found.where.partition(" (UDP 6081)")[0] in (
            "n3 ↔ n4 and rack=a → n3",
            "n3 ↔ n4 and n3 ↔ rack=a",
        )
        assert_found(lab4, first, [row.finds[0]._replace(where=found.where)])
        assert not any("meant for another node" in note for note in first.notes)
        mend(lab4, first)
        lab4.run("fw", "sh", "-c", filled(lab4, forget))
        assert not examine(lab4, row).findings


def test_without_a_closer_look_no_node_is_asked(lab4: Lab) -> None:
    row = ADDRESSES[0]
    with injected(lab4, row.faults):
        found = examine(lab4, row, diagnose=False)
    assert not any(finding.cause is Cause.ADDRESS for finding in found.findings)
    (note,) = found.notes
    assert note.endswith("or this node has the other's address, too")


def test_a_pair_that_is_traced_is_told_the_same(lab4: Lab) -> None:
    row = NEIGHBOURS[0]
    with injected(lab4, row.faults):
        options = CheckOptions(sources=("n1",), destinations=("n2",), family=Family.IPV4)
        tracing = Tracing(sizes=False, pcap=False)
        connector = NetnsConnector(lab4.popen)
        inventory = load(lab4.inventory_path)
        found = run.check(inventory, options, lambda _: connector, Silent(), tracing)
    assert [(one.cause, one.cells) for one in found.findings] == [(Cause.NEIGHBOUR, 3)]


def test_what_an_agent_cannot_read_costs_no_agent(
    lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses; and an answer without sense."""
    row = ADDRESSES[0]
    for was, now in (
        ('out["held"] = _held', 'raise OSError(1, "no")\n        out["held"] = _held'),
        ('out["macs"] = macs(links)', 'out["macs"] = 7\n        macs(links)'),
    ):
        with injected(lab4, row.faults), monkeypatch.context() as patch:
            ship(patch, [("agent.links", was, now)])
            found = examine(lab4, row)
        assert all(agent.state == "ok" for agent in found.agents)
        assert {f.cause for f in found.findings} >= {Cause.KERNEL, Cause.RULE}
