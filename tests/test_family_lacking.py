"""A node whose kernel has no IPv6 at all, among others that have it."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from scenarios import address, check, gateway
from test_agent_kit import ship

from preflight.core.model import AgentState, Family, Verdict
from preflight.lab import Lab

pytestmark = pytest.mark.lab


def test_a_node_without_ipv6_is_tested_over_ipv4(
    lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ipv6.disable=1; two nodes share no link with it, and one does."""
    six = gateway(lab4.node("n2"), Family.IPV6)
    own = f"{address(lab4.node('n2'), Family.IPV6)}/64"
    line = "self.socket = socket.socket(domain, kind, protocol)"
    none = "(63 if domain == 10 and 'fd70' not in open('/proc/net/if_inet6').read() else domain)"
    ship(monkeypatch, [("agent.sockets", line, line.replace("domain", none))])
    lab4.run("n2", "ip", "-6", "addr", "del", own, "dev", "eth0")
    try:
        snapshot = check(lab4)
    finally:
        lab4.run("n2", "ip", "-6", "addr", "add", own, "dev", "eth0", "nodad")
        lab4.run("n2", "ip", "-6", "route", "replace", "default", "via", six)
    assert {agent.state for agent in snapshot.agents} == {AgentState.OK}
    matrix = snapshot.matrix
    for f, family in enumerate(matrix.families):
        for probe, (source, destination) in product(range(3), permutations(range(4), 2)):
            outcome = matrix.outcome(matrix.index(f, probe, source, destination))
            assert outcome is not None
            lacks = family is Family.IPV6 and 1 in (source, destination)
            assert (outcome.verdict is Verdict.OPEN) is not lacks, (family, source, destination)
    (one,) = snapshot.findings
    assert one.title.startswith("n2 does not have its own address fd70:")
