"""The suggested commands, run where they say: what was blocked passes, and nothing else does.

Each case is a real firewall, a packet of ours that it ends, the rule as the node's own trace tells
it, the commands for it, and packets that nobody asked for.
"""

import os
from collections.abc import Iterator

import pytest
from mendkit import (
    OTHER,
    STRANGER,
    Case,
    apply,
    chain,
    mends,
    passes,
    ready,
    remedy,
    send,
    set_up,
)
from rulebench import FAR, NEAR, Bench, bench
from scenarios import check

from preflight.core.diagnosis import trial
from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.model import Cause
from preflight.core.model import ECHO, HEALTH, Verdict
from preflight.core.options import CheckOptions
from preflight.lab import Lab

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]


def shell(*lines: str) -> str:
    return "#!\n" + "\n".join(lines)


HOME = "ip saddr 10.77.0.200 drop"  # another rule, before the one to blame
CASES = (
    Case("a rule of INPUT", chain("inet", "input", HOME, 'udp dport 6081 drop comment "corp"')),
    Case("over IPv6", chain("inet", "input", "udp dport 6081 drop"), v6=True),
    Case("a table of IPv6", chain("ip6", "input", "udp dport 6081 drop"), v6=True),
    Case("a rejection", chain("ip", "input", "udp dport 6081 reject with icmp admin-prohibited")),
    Case("a range", chain("inet", "input", "udp dport 6000-7000 drop"), wide=True),
    Case("a verdict map", chain("inet", "input", "udp dport vmap { 6081 : drop, 6082 : drop }"),
         wide=True),
    Case("everything that is left", chain("inet", "input", "tcp dport 22 accept", "drop"),
         wide=True),
    Case("a policy", chain("inet", "input", "ct state established accept", "tcp dport 22 accept",
                           policy="drop"), wide=True),
    Case("a policy after a chain that returns",
         chain("inet", "input", "jump services", policy="drop",
               more="chain services {\ntcp dport 22 accept\n}"), wide=True),
    Case("a chain that is jumped to",
         chain("inet", "input", "jump deny", more="chain deny {\nudp dport 6081 drop\n}")),
    Case("a chain that is gone to",
         chain("inet", "input", "goto deny", "accept",
               more="chain deny {\ntcp dport 22 accept\ndrop\n}"), wide=True),
    Case("two jumps deep",
         chain("inet", "input", "jump one",
               more="chain two {\nudp dport 6081 drop\n}\nchain one {\njump two\n}")),
    Case("PREROUTING", chain("inet", "prerouting priority -300", "udp dport 6081 drop")),
    Case("a device on the way in",
         chain("netdev", "ingress device eth0 priority 0", "udp dport { 6081, 6082 } drop"),
         wide=True),
    Case("a device on the way in, IPv6",
         chain("netdev", "ingress device eth0 priority 0", "udp dport 6081 drop"), v6=True),
    Case("a rate",
         chain("inet", "input", "udp dport 6081 limit rate over 1/day burst 1 packets drop")),
    Case("OUTPUT", chain("inet", "output", "udp dport 6081 drop"), near=True),
    Case("the policy of OUTPUT", chain("ip", "output", "tcp dport 22 accept", policy="drop"),
         near=True, wide=True),
    Case("POSTROUTING", chain("inet", "postrouting", "udp dport 6000-6999 drop"), near=True,
         wide=True),
    Case("health", chain("inet", "input", "tcp dport 4240 drop"), HEALTH),
    Case("health, reset", chain("inet", "input", "tcp dport 4240 reject with tcp reset"), HEALTH),
    Case("answers at OUTPUT", chain("inet", "output", "tcp sport 4240 drop"), HEALTH, reply=True),
    Case("answers at INPUT", chain("inet", "input", "tcp flags & ack == ack drop"), HEALTH,
         reply=True, near=True),
    Case("answers, IPv6", chain("ip6", "output", "tcp sport 4240 drop"), HEALTH, reply=True,
         v6=True),
    Case("echo", chain("inet", "input", "icmp type echo-request drop"), ECHO),
    Case("echo, IPv6", chain("inet", "input", "icmpv6 type echo-request drop"), ECHO, v6=True),
    Case("echo answers", chain("inet", "output", "icmp type echo-reply drop"), ECHO, reply=True),
    Case("iptables",
         shell("iptables -A INPUT -s 10.77.0.200 -j DROP",
               "iptables -A INPUT -p udp --dport 6081 -m comment --comment 'corp it' -j DROP")),
    Case("ip6tables", shell("ip6tables -A INPUT -p udp --dport 6081 -j REJECT"), v6=True),
    Case("iptables, a policy",
         shell("iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
               "iptables -P INPUT DROP"), wide=True),
    Case("iptables, a chain",
         shell("iptables -N CORP-IN", "iptables -A INPUT -j CORP-IN",
               "iptables -A CORP-IN -p tcp --dport 22 -j RETURN",
               "iptables -A CORP-IN -p udp -j DROP"), wide=True),
    Case("iptables, raw", shell("iptables -t raw -A PREROUTING -p udp --dport 6081 -j DROP")),
    Case("iptables, mangle",
         shell("iptables -t mangle -A PREROUTING -p udp --dport 6081 -j DROP")),
    Case("iptables, OUTPUT", shell("iptables -A OUTPUT -p udp -j DROP"), near=True, wide=True),
    Case("iptables, answers", shell("iptables -A OUTPUT -p tcp --sport 4240 -j DROP"), HEALTH,
         reply=True),
    Case("iptables, echo", shell("iptables -A INPUT -p icmp -j DROP"), ECHO),
    Case("ip6tables, echo",
         shell("ip6tables -A INPUT -p ipv6-icmp --icmpv6-type 128 -j DROP"), ECHO, v6=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench("mends") as out:
        ready(out)
        yield out


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces without rules."""
    yield shared
    shared.clean()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_command_mends_it_and_nothing_more(cable: Bench, case: Case) -> None:
    set_up(cable, cable.near if case.near else cable.far, case.ruleset)
    mends(cable, case)


# --- bridges, and tables that iptables-legacy made ------------------------------------------------


@pytest.mark.parametrize("hook", ["input", "prerouting priority -300"])
@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_rule_of_a_bridge(bridged: Bench, hook: str, v6: bool) -> None:
    case = Case("bridge", chain("bridge", hook, "udp dport 6000-7000 drop"), v6=v6, wide=True)
    bridged.nft(bridged.far, case.ruleset)
    mends(bridged, case, ("eth0", "br0"))


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bench]:
    with bench("mends-br", bridge=True) as out:
        ready(out)
        yield out


@pytest.fixture
def bridged(bridge: Bench) -> Iterator[Bench]:
    yield bridge
    bridge.clean()


LEGACY = (
    Case("a rule", "iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT\n"
         "iptables-legacy -A INPUT -p udp --dport 6081 -j DROP"),
    Case("a policy", "iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT\n"
         "iptables-legacy -P INPUT DROP", wide=True),
    Case("a chain of raw", "iptables-legacy -t raw -N HARD\n"
         "iptables-legacy -t raw -A PREROUTING -j HARD\n"
         "iptables-legacy -t raw -A HARD -p udp -j DROP", wide=True),
    Case("IPv6", "ip6tables-legacy -A INPUT -p udp -j REJECT", v6=True, wide=True),
)  # fmt: skip
RESET = "\n".join(
    f"{tool}-legacy -t {table} -{flag}"
    for tool in ("iptables", "ip6tables")
    for table in ("filter", "raw")
    for flag in ("F", "X")
)


@pytest.fixture(scope="module")
def old() -> Iterator[Bench]:
    with bench("mends-old") as out:
        ready(out)
        yield out


@pytest.mark.parametrize("case", LEGACY, ids=lambda case: case.name)
def test_a_rule_of_iptables_legacy(old: Bench, case: Case) -> None:
    old.run(old.far, "sh", "-ec", case.ruleset)
    try:
        rules = counted(old, case, NEAR[case.v6], 6081)
        assert [rule.sure for rule in rules] == [True]
        apply(old, remedy(case, rules[0]))
        assert passes(old, case)
        assert counted(old, case, STRANGER[case.v6], 6081)
        if case.wide:
            assert counted(old, case, NEAR[case.v6], OTHER)
    finally:
        old.run(old.far, "sh", "-ec", f"iptables-legacy -P INPUT ACCEPT\n{RESET}")


def counted(on: Bench, case: Case, source: str, port: int) -> list[Rule]:
    """The rules whose counters say that they ended a packet from `source` to `port`."""
    worker = on.worker(on.far)
    worker("traces.__setitem__('c', legacy.LegacyCounters())")
    worker("(traces['c'].before(), traces['c'].settle())")
    send(on, case, source, port)
    lost = f"xtmatch.Lost(17, {source!r}, {FAR[case.v6]!r}, 1, port={port})"
    found = worker(f"(traces['c'].after(), traces['c'].suspects([{lost}]))[1][0]")
    worker.close()
    return [trial._rule(fields) for fields in found]


# --- the whole way -------------------------------------------------------------------------------


def test_the_matrix_turns_green(lab4: Lab) -> None:
    """Faults in three nodes, one of which hides another's; every suggested command; open."""
    lab4.nft(
        "n3",
        "table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n"
        "ct state established accept\niif lo accept\nmeta l4proto icmpv6 accept\n}\n}\n",
    )
    lab4.nft("n1", chain("inet", "output", 'tcp dport 4240 drop comment "corp baseline"'))
    lab4.run("n4", "sh", "-ec", "iptables -N CORP; iptables -A INPUT -j CORP\n"
             "iptables -A CORP -p udp --dport 6081 -j REJECT")  # fmt: skip
    before = check(lab4, CheckOptions())
    assert {f.cause for f in before.findings} == {Cause.RULE}
    for finding in before.findings:
        for change in finding.changes:
            for command in change.commands:
                lab4.run(change.node, "sh", "-ec", command)
    after = check(lab4, CheckOptions())
    assert {cell.outcome.verdict for cell in after.matrix.cells()} == {Verdict.OPEN}
    assert list(after.findings) == []
