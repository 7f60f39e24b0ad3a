"""The closer look from end to end: real faults in, findings out, and what mends them.

The scenarios are rows of `faultrows`; see `faultbench` for what is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from signal import SIGINT, raise_signal

import pytest
from farlab import FarLab, far_lab
from faultbench import (
    Fault,
    Find,
    Row,
    assert_found,
    examine,
    filled,
    fw,
    gets_through,
    injected,
    mend,
)
from faultrows import GENEVE, HOPS, KERNEL, LESS, NODES, PATH
from labs import PREFIX
from scenarios import Agents, Silent, change
from translationrows import TRANSLATIONS

from preflight.core.findings.model import Cause
from preflight.core.model import AgentState, Connection, Phase
from preflight.lab import Lab

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("row", NODES + PATH + KERNEL + TRANSLATIONS, ids=lambda row: row.name)
def test_what_is_found(lab4: Lab, row: Row) -> None:
    with injected(lab4, row.faults):
        first = examine(lab4, row)
        assert_found(lab4, first, row.finds)
        if not any(find.mends for find in row.finds):
            return
        assert not any(gets_through(lab4, packet) for packet in row.shut)
        mend(lab4, first)
        changed = {change.node for finding in first.findings for change in finding.changes}
        for node in changed:  # as is advised where rules translate
            lab4.forget_connections(node)
        assert [finding.title for finding in examine(lab4, row).findings] == [
            filled(lab4, title) for title in row.after
        ]
        assert not any(gets_through(lab4, packet) for packet in row.shut)
    assert all(gets_through(lab4, packet) for packet in row.shut)


# --- how it may end ------------------------------------------------------------------------------

DROPPED = Row("", (Fault("n3", fw("input", f"{GENEVE} drop")),), ())
LOOKING = "a closer look"


class Meddler(Silent):
    """Does something once the closer look begins."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        self._meddle = meddle

    def phase(self, text: str, total: int) -> None:
        if text.startswith(LOOKING):
            self._meddle()


def test_without_a_closer_look_the_place_is_told_and_no_rule(lab4: Lab) -> None:
    with injected(lab4, DROPPED.faults):
        (finding,) = examine(lab4, DROPPED, diagnose=False).findings
    assert (finding.cause, finding.where) == (Cause.NODE_FIREWALL, "all → n3")
    assert finding.diagnosis is None
    assert not finding.changes


def test_of_a_node_without_an_agent_nobody_is_accused(lab4: Lab) -> None:
    """n4 rejects it, which a firewall before it may do in its name."""
    row = Row("", (Fault("n4", fw("input", "tcp dport 4240 reject")),), (
        Find(Cause.NETWORK, "all → n4", 3, ("something rejects", "look at the destination's own"),
             severity=LESS, asks=1),
        Find(Cause.NO_AGENT, "n4 ↔ all, where nothing else is known", 15, ("agent on n4",)),
    ), among=change("n4", connection=Connection.NONE))  # fmt: skip
    with injected(lab4, row.faults):
        assert_found(lab4, examine(lab4, row), row.finds)


def test_after_the_installation_nothing_is_sent_that_a_tunnel_takes_in(lab4: Lab) -> None:
    """The router counts what goes to UDP 6081, and of that what bears Cilium's protocol type."""
    counted = fw(
        "inet prerouting raw",
        f"{GENEVE} @ih,16,16 {{ 0x6558, 0x0800, 0x86dd }} counter name taken",
        f"{GENEVE} counter name every",
        more="counter taken {}\ncounter every {}",
    )
    faults = (Fault("fw", counted), Fault("fw", fw("forward", f"{GENEVE} drop")))
    with injected(lab4, faults):
        found = examine(lab4, DROPPED, phase=Phase.AFTER)
        counters = lab4.run("fw", "nft", "list", "counters").stdout
    packets = [int(number) for number in re.findall(r"packets (\d+)", counters)]
    assert packets[0] == 0 < packets[1], counters
    (blocked,) = (f for f in found.findings if f.cause is Cause.NETWORK)
    assert (blocked.where, blocked.cells) == ("rack=a ↔ rack=b", 8)


@pytest.mark.parametrize("whose", ["n1", "n3"])
def test_an_agent_that_dies_meanwhile_costs_its_own_word_alone(lab4: Lab, whose: str) -> None:
    faults = (*DROPPED.faults, Fault("n2", fw("input", "tcp dport 4240 drop")))
    agents = Agents(lab4)

    def kill() -> None:
        agents.processes[whose].kill()

    with injected(lab4, faults):
        snapshot = examine(lab4, DROPPED, progress=Meddler(kill), agents=agents)
    told = {finding.where: finding for finding in snapshot.findings}
    assert set(told) == {"all → n3", "all → n2"}
    assert {finding.cause for finding in told.values()} <= {Cause.RULE, Cause.NODE_FIREWALL}
    # Another node sends to n3 as well, and n3's own word is what names its rule.
    assert told["all → n3"].cause is (Cause.RULE if whose == "n1" else Cause.NODE_FIREWALL)
    assert [finding.nodes for finding in told.values()] == [(2,), (1,)]
    matrix = snapshot.matrix
    states = {node.name: snapshot.agents[i].state for i, node in enumerate(matrix.nodes)}
    assert {name for name, state in states.items() if state is not AgentState.OK} == {whose}


def test_an_interruption_meanwhile_leaves_what_is_known(lab4: Lab) -> None:
    with injected(lab4, DROPPED.faults):
        snapshot = examine(lab4, DROPPED, progress=Meddler(lambda: raise_signal(SIGINT)))
    assert snapshot.interrupted
    (finding,) = snapshot.findings
    assert (finding.cause, finding.where) == (Cause.NODE_FIREWALL, "all → n3")


@pytest.mark.parametrize("where", ["fw", "n1"])
def test_who_translates_is_not_said_where_nobody_looked(lab4: Lab, where: str) -> None:
    snat = fw("ip postrouting srcnat", "ip saddr $n1 udp dport 6081 snat to 198.18.200.1")
    with injected(lab4, (Fault(where, snat),)):
        (hazard,) = examine(lab4, DROPPED, diagnose=False).findings
    address = filled(lab4, "$n1")
    assert hazard.title == f"n1: tunnel packets arrive from 198.18.200.1, not from {address}"
    assert (hazard.cause, hazard.nodes, hazard.changes) == (Cause.TRANSLATION, (), ())


# --- two routers ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def far() -> Iterator[FarLab]:
    with far_lab(f"{PREFIX}-far") as lab:
        yield lab


@pytest.mark.parametrize("row", HOPS, ids=lambda row: row.name)
def test_the_hop_is_found(far: FarLab, row: Row) -> None:
    talkative = Fault("fw", "sysctl -qw net.ipv4.icmp_ratelimit=0")
    with injected(far, (talkative, talkative._replace(where="r2"), *row.faults)):
        assert_found(far, examine(far, row), row.finds)
