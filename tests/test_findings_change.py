"""What a node is told to do: for whom, where, in whose words, and never what a hostile node wants.

That the commands work is shown in test_change_mends.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rulesets import ends, read

from preflight.core.diagnosis.conclusions import Diagnosis, Rewrite, RewrittenField, Size
from preflight.core.diagnosis.kernel import KernelReason
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.diagnosis.witnesses import SysctlChange
from preflight.core.findings.advice import for_kernel, for_neighbour, for_route, for_size
from preflight.core.findings.change import Facts, changes
from preflight.core.findings.model import Block
from preflight.core.findings.remedy import Remedy
from preflight.core.groups import FamilyProbe
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Family,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
)

IPV4, IPV6 = Family.IPV4, Family.IPV6
OWN = Probe("x\"; reboot; '", ProbeKind.UDP, Protocol.UDP, 53, Severity.REQUIRED)
PROBES = (GENEVE, HEALTH, ECHO, OWN)
NODES = [Node(f"n{n}", (f"10.0.1.{10 + n}", f"fd00::{n}"), f"n{n}") for n in range(1, 6)]
GENEVE4 = FamilyProbe(0, IPV4)
ALL = tuple(FamilyProbe(p, f) for f in Family for p in range(3))
TO_N3 = (Block((0, 1, 3, 4), (2,), False, "all → n3"),)
FROM_N1 = (Block((0,), (1, 2, 3, 4), False, "n1 → all"),)
PEERS = "10.0.1.11, 10.0.1.12, 10.0.1.14/31"


def never(source: int, destination: int, test: FamilyProbe) -> bool:
    """No other pair is shut."""
    return False


def rule(**fields: object) -> Rule:
    made = {
        "tool": "nft", "family": "inet", "table": "filter", "chain": "input", "handle": 12,
        "position": 3, "policy": False, "text": "udp dport 6081 drop", "comment": "",
        "rejects": False, "hook": "input", "path": (), "sure": True,
    } | fields  # fmt: skip
    return Rule(**made)  # type: ignore[arg-type]


def remedy(
    hit: Rule,
    *,
    node: int = 2,
    leg: str = "forward",
    tests: Sequence[FamilyProbe] = (GENEVE4,),
    blocks: tuple[Block, ...] = TO_N3,
    nodes: Sequence[Node] = NODES,
    rewrites: tuple[Rewrite, ...] = (),
    is_shut: Callable[[int, int, FamilyProbe], bool] | None = None,
    blamed: tuple[int, ...] = (),
) -> Remedy:
    found = Diagnosis(hits=(RuleHit(node, leg, frozenset(), hit),), rewrites=rewrites)
    return changes(Facts(nodes, PROBES, tuple(tests), blocks, [found], is_shut or never, blamed))


def commands(done: Remedy) -> list[str]:
    return [command for change in done.changes for command in change.commands]


# --- for whom, and where -------------------------------------------------------------------------


def test_the_peers_that_are_blocked_and_nobody_else() -> None:
    done = remedy(rule())
    rule_text = f'ip saddr {{ {PEERS} }} udp dport 6081 accept comment "Cilium GENEVE"'
    assert commands(done) == [f"nft insert rule inet filter input position 12 '{rule_text}'"]
    assert [(c.node, c.tool) for c in done.changes] == [("n3", "nft")]
    assert "/etc/nftables.conf" in done.changes[0].persist[0]
    one = remedy(rule(), blocks=(Block((1,), (2, 3), False, ""),))
    assert "ip saddr 10.0.1.12 udp" in commands(one)[0]


def test_each_family_in_its_own_words_where_the_table_has_both() -> None:
    tests = (GENEVE4, FamilyProbe(0, IPV6))
    both = commands(remedy(rule(), tests=tests))
    assert [c.split("'")[1].split(" ")[0] for c in both] == ["ip", "ip6"]
    for family, tool, word in (("ip", "iptables", "ip"), ("ip6", "ip6tables", "ip6")):
        (command,) = commands(remedy(rule(family=family), tests=tests))
        assert command.split("'")[1].startswith(f"{word} saddr")
        (command,) = commands(remedy(rule(tool=tool, family=family), tests=tests))
        assert command.startswith(f"{tool} -w -t filter -I input 3 -s ")
        assert (":" in command) == (family == "ip6")


def test_a_policy_is_met_at_the_chains_end() -> None:
    met = rule(policy=True, handle=0, position=0, text="policy drop")
    assert commands(remedy(met))[0].startswith("nft add rule inet filter input 'ip saddr")
    xt = met._replace(tool="iptables", family="ip", chain="INPUT", text="-P INPUT DROP")
    assert commands(remedy(xt))[0].startswith("iptables -w -t filter -A INPUT -s 10.0.1.11,10.0.1.")
    # A rule that led past the end is known: before it, then.
    led = met._replace(handle=9)
    assert "nft insert rule inet filter input position 9 " in commands(remedy(led))[0]
    walked = tuple(("inet", "filter", c) for c in ("input", "lan"))
    assert "goto" in remedy(met._replace(path=walked)).advice[0]
    assert remedy(met._replace(path=walked[:1])).advice == ()


@pytest.mark.parametrize(
    ("hook", "leg", "blocks", "node", "expected"),
    [
        ("input", "forward", TO_N3, 2, f"ip saddr {{ {PEERS} }} tcp dport 4240"),
        ("prerouting", "forward", TO_N3, 2,
         f"ip saddr {{ {PEERS} }} ip daddr 10.0.1.13 tcp dport 4240"),
        ("ingress", "forward", TO_N3, 2,
         f"ip saddr {{ {PEERS} }} ip daddr 10.0.1.13 tcp dport 4240"),
        ("output", "forward", FROM_N1, 0, "ip daddr 10.0.1.12/30 tcp dport 4240"),
        ("egress", "forward", FROM_N1, 0, "ip daddr 10.0.1.12/30 tcp dport 4240"),
        ("output", "reply", TO_N3, 2, f"ip daddr {{ {PEERS} }} tcp sport 4240 tcp flags"),
        ("input", "reply", FROM_N1, 0,
         "ip saddr 10.0.1.12/30 tcp sport 4240 tcp flags"),
        ("", "forward", TO_N3, 2, f"ip saddr {{ {PEERS} }} ip daddr 10.0.1.13 tcp dport 4240"),
        ("", "reply", TO_N3, 2, f"ip saddr 10.0.1.13 ip daddr {{ {PEERS} }} tcp sport 4240"),
    ],
)  # fmt: skip
def test_the_packets_are_described_as_they_meet_the_rule(
    hook: str, leg: str, blocks: tuple[Block, ...], node: int, expected: str
) -> None:
    met = rule(hook=hook, text="drop")
    (command,) = commands(
        remedy(met, node=node, leg=leg, blocks=blocks, tests=[FamilyProbe(1, IPV4)])
    )
    assert expected in command


def test_what_another_fault_hides_is_let_in_at_once() -> None:
    """n4 → n3 is shut elsewhere, too: it would come to this rule next."""
    hidden = {(3, 2)}

    def is_shut(source: int, destination: int, test: FamilyProbe) -> bool:
        return (source, destination) in hidden and test == GENEVE4

    one = (Block((0,), (2,), False, ""),)
    (command,) = commands(remedy(rule(), blocks=one, is_shut=is_shut))
    assert "ip saddr { 10.0.1.11, 10.0.1.14 } udp" in command
    six = commands(remedy(rule(), blocks=one, is_shut=is_shut, tests=[FamilyProbe(0, IPV6)]))
    assert "ip6 saddr fd00::1 udp" in six[0]
    out = commands(remedy(rule(hook="output"), node=3, blocks=(Block((3,), (0,), False, ""),),
                          is_shut=is_shut))  # fmt: skip
    assert "ip daddr { 10.0.1.11, 10.0.1.13 } udp" in out[0]


def test_both_ways_means_both_ends() -> None:
    both = (Block((0, 1), (2, 3), True, "rack=a ↔ rack=b"),)
    assert "ip saddr { 10.0.1.13, 10.0.1.14 }" in commands(remedy(rule(), node=0, blocks=both))[0]
    assert "ip saddr { 10.0.1.11, 10.0.1.12 }" in commands(remedy(rule(), node=3, blocks=both))[0]
    out = rule(hook="output")
    assert "ip daddr { 10.0.1.13, 10.0.1.14 }" in commands(remedy(out, node=0, blocks=both))[0]


def test_answers_are_no_way_in() -> None:
    tests = [FamilyProbe(p, f) for p in (0, 1, 2) for f in Family]
    found = commands(remedy(rule(hook="output", text="drop"), leg="reply", tests=tests))
    assert [re.search(r"(tcp sport 4240 .*|icmp\S* type \S+) accept", c)[1] for c in found] == [
        "tcp sport 4240 tcp flags & (fin | syn | rst | ack) != syn",
        "tcp sport 4240 tcp flags & (fin | syn | rst | ack) != syn",
        "icmp type echo-reply",
        "icmpv6 type echo-reply",
    ]  # a GENEVE packet has no answer
    xt = rule(tool="iptables", family="ip", hook="input", text="-A INPUT -p tcp -j DROP")
    (command,) = commands(
        remedy(xt, node=0, leg="reply", blocks=FROM_N1, tests=[FamilyProbe(1, IPV4)])
    )
    assert "-p tcp --sport 4240 ! --syn" in command


def test_a_rule_speaks_of_the_probes_it_is_about() -> None:
    def ports(text: str) -> list[str]:
        found = commands(remedy(rule(text=text), tests=ALL))
        return sorted({re.findall(r"dport \d+|type \S+", c)[0] for c in found})

    assert ports("udp dport 6081 drop") == ["dport 6081"]
    assert ports("tcp dport 4240 reject with tcp reset") == ["dport 4240"]
    assert ports("tcp dport 22 drop") == ["dport 4240", "dport 6081", "type echo-request"]  # odd
    assert ports("udp dport 6000-7000 drop") == ["dport 6081"]
    assert ports("-A INPUT -p udp -m udp --dport 6000:7000 -j DROP") == ["dport 6081"]
    assert ports("-A INPUT -p udp -m udp ! --dport 53 -j DROP") == ["dport 6081"]
    assert ports('-p udp --dport 6081 -m comment --comment "no tcp" -j DROP') == ["dport 6081"]
    assert ports("ip protocol icmp drop") == ["type echo-request"]
    assert ports("meta l4proto { tcp, udp } drop") == ["dport 4240", "dport 6081"]
    assert ports("drop") == ["dport 4240", "dport 6081", "type echo-request"]


def test_translated_sources_are_allowed_as_they_arrive_and_as_they_left() -> None:
    """The latter are what comes once nobody translates them any more."""
    seen = (Rewrite(RewrittenField.SOURCE, "10.0.1.11", "192.0.2.7 in 3 of 40 packets"),)
    done = remedy(rule(), rewrites=seen)
    (command,) = commands(done)
    assert "{ 10.0.1.11, 10.0.1.12, 10.0.1.14/31, 192.0.2.7 }" in command
    (told,) = done.advice
    assert "(10.0.1.11 arrives as 192.0.2.7 in 3 of 40 packets)" in told
    assert "that alone mends this" in told
    (command,) = commands(remedy(rule(hook="output"), node=0, blocks=FROM_N1, rewrites=seen))
    assert "192.0.2.7" not in command


def test_no_peer_of_another_cluster_or_without_the_family() -> None:
    nodes = [*NODES[:3], Node("n4", ("10.0.1.14",), "n4"), Node("n5", NODES[4].addresses, "n5",
                                                               cluster="other")]  # fmt: skip
    (command,) = commands(remedy(rule(), nodes=nodes, tests=[FamilyProbe(0, IPV6)]))
    assert "ip6 saddr { fd00::1, fd00::2 }" in command


def test_many_peers_become_subnets_without_strangers() -> None:
    many = [Node(f"n{i}", (f"10.9.{i % 3}.{7 + 2 * (i // 3)}",), f"n{i}") for i in range(60)]
    block = (Block(tuple(range(1, 60)), (0,), False, ""),)
    (command,) = commands(remedy(rule(), node=0, blocks=block, nodes=many))
    assert command.count(",") < 12


def test_other_nodes_of_the_finding_are_not_forgotten() -> None:
    block = (Block((0, 1), (2, 3, 4), False, ""),)
    done = remedy(rule(), blocks=block, blamed=(2, 3, 4))
    assert [c.node for c in done.changes] == ["n3"]
    assert remedy(rule(), blocks=block, blamed=(2,)).advice == ()
    (words,) = done.advice
    assert words.startswith("Of these nodes, only n3 told which rule: n4, n5 need the same change")


def all_of(*hits: RuleHit, blocks: tuple[Block, ...] = TO_N3) -> Remedy:
    found = [Diagnosis(hits=(hit,)) for hit in hits]
    return changes(Facts(NODES, PROBES, (GENEVE4,), blocks, found, never))


def test_a_rule_for_some_senders_needs_an_exception_for_those() -> None:
    about = rule(text="ip saddr { 10.0.1.11, 10.0.1.14/31 } udp dport 6081 drop")
    (command,) = commands(remedy(about))
    assert "'ip saddr { 10.0.1.11, 10.0.1.14/31 } udp dport 6081 accept" in command
    other = rule(text="ip saddr 192.0.2.1 udp dport 6081 drop")  # then they are translated
    assert PEERS in commands(remedy(other))[0]


def test_rules_of_one_chain_need_one_command_before_the_first() -> None:
    rules = [rule(handle=20 - n, position=n, text=f"ip saddr 10.0.1.{10 + n} udp dport 6081 drop")
             for n in (2, 1)]  # fmt: skip
    hits = [RuleHit(2, "forward", frozenset(), one) for one in rules]
    (command,) = commands(all_of(*hits))
    assert "position 19 'ip saddr { 10.0.1.11, 10.0.1.12 } udp" in command
    unordered = [hit._replace(rule=hit.rule._replace(position=0)) for hit in hits]
    assert len(commands(all_of(*unordered))) == 2
    elsewhere = [hits[0], hits[1]._replace(rule=rules[1]._replace(chain="corp"))]
    assert len(commands(all_of(*elsewhere))) == 2


def test_nodes_that_are_set_up_alike_get_the_same_command() -> None:
    among = (Block((0, 1, 2), (0, 1, 2), False, "n1…n3"),)
    hits = [RuleHit(node, "forward", frozenset(), rule()) for node in range(3)]
    done = all_of(*hits, blocks=among)
    assert [c.node for c in done.changes] == ["n1", "n2", "n3"]
    assert len(set(commands(done))) == 1
    assert "ip saddr { 10.0.1.11, 10.0.1.12/31 } udp" in commands(done)[0]
    done = all_of(*hits[:1], blocks=among)  # a node alone is no peer of its own
    assert "ip saddr 10.0.1.12/31 udp" in commands(done)[0]


def test_one_change_for_each_node_and_tool() -> None:
    hits = tuple(
        RuleHit(node, "forward", frozenset(), rule(text=text, handle=handle))
        for node in (2, 3)
        for handle, text in ((12, "udp dport 6081 drop"), (13, "tcp dport 4240 drop"))
    )
    block = (Block((0, 1), (2, 3), False, ""),)
    looks = [Diagnosis(hits=hits), Diagnosis(hits=hits)]
    done = changes(Facts(NODES, PROBES, ALL, block, looks, never))
    assert [(c.node, c.tool, len(c.commands)) for c in done.changes] == [
        ("n3", "nft", 4), ("n4", "nft", 4),
    ]  # fmt: skip
    assert [len(c.persist) for c in done.changes] == [1, 1]


# --- where a command would be a guess ------------------------------------------------------------


@pytest.mark.parametrize(
    "doubtful",
    [
        rule(sure=False),
        rule(text=""),
        rule(handle=0),
        rule(tool="iptables", family="ip", position=0),
        rule(tool="ebtables"),
        rule(family="arp"),
    ],
)
def test_what_is_not_sure_is_told_in_words(doubtful: Rule) -> None:
    done = remedy(doubtful)
    assert done.changes == ()
    (words,) = done.advice
    assert words.startswith("n3: ")
    assert f"accept UDP 6081 from {PEERS} before it" in words


def test_a_doubtful_rule_is_not_told_of_beside_a_sure_one() -> None:
    hits = (RuleHit(2, "forward", frozenset(), rule(sure=False, handle=3)),
            RuleHit(2, "forward", frozenset(), rule()))  # fmt: skip
    done = changes(Facts(NODES, PROBES, (GENEVE4,), TO_N3, [Diagnosis(hits=hits)], never))
    assert len(commands(done)) == 1
    assert done.advice == ()


def test_no_rule_no_change() -> None:
    assert changes(Facts(NODES, PROBES, (GENEVE4,), TO_N3, [Diagnosis()], never)) == Remedy()
    assert changes(Facts(NODES, PROBES, (GENEVE4,), TO_N3, [], never)) == Remedy()


def test_a_rate_and_an_unknown_connection_are_said() -> None:
    (words,) = remedy(rule(text="udp dport 6081 limit rate over 10/second drop")).advice
    assert "exceeds a rate" in words
    (words,) = remedy(rule(text="ct state invalid drop")).advice
    assert "no connection" in words


# --- in whose words ------------------------------------------------------------------------------


def recorded(name: str, chain: str, text: str = "") -> Rule:
    return next(r for r in ends(read(name)) if r.chain == chain and text in r.text)


FIREWALLD = "firewalld-1.3.nft"


@pytest.mark.parametrize(
    ("chain", "text", "expected"),
    [
        ("filter_IN_public", "", "--zone=public --add-rich-rule='rule family"),
        ("filter_IN_k8s-nodes", "", "--zone=k8s-nodes --add-rich-rule='rule family"),
        ("filter_INPUT", "reject", "--zone=public --add-rich-rule='rule family"),
        ("filter_IN_public_deny", "udp", '--zone=public --add-rich-rule=\'rule priority="-32768"'),
        ("filter_IN_public_pre", "", '--zone=public --add-rich-rule=\'rule priority="-32768"'),
        ("filter_IN_public_post", "", "--zone=public --add-rich-rule='rule family"),
    ],
)
def test_firewalld_gets_rich_rules_of_the_zone(chain: str, text: str, expected: str) -> None:
    block = (Block((0,), (2,), False, ""),)
    met = recorded(FIREWALLD, chain, text)._replace(text="drop")
    done = remedy(met, blocks=block)
    assert commands(done)[0].startswith(f"firewall-cmd {expected}")
    assert done.changes[0].persist[0].startswith(f"firewall-cmd --permanent {expected}")
    assert 'source address="10.0.1.11" port port="6081" protocol="udp" accept' in commands(done)[0]


def test_firewalld_policies_judge_what_leaves() -> None:
    met = recorded(FIREWALLD, "filter_OUT_policy_egress")
    found = commands(remedy(met, node=0, blocks=(Block((0,), (2,), False, ""),), tests=ALL))
    assert found[0] == (
        'firewall-cmd --policy=egress --add-rich-rule=\'rule family="ipv4" destination '
        'address="10.0.1.13" port port="6081" protocol="udp" accept\''
    )
    assert 'family="ipv6"' in found[-1]
    assert 'icmp-type name="echo-request" accept' in found[-1]


def test_the_well_known_mistake_is_told_and_undone() -> None:
    met = recorded(FIREWALLD, "filter_IN_public_deny", "icmp type")
    done = remedy(met, tests=[FamilyProbe(2, IPV4)])
    assert commands(done) == ["firewall-cmd --zone=public --remove-icmp-block=echo-request"]
    assert done.changes[0].persist == (
        "firewall-cmd --permanent --zone=public --remove-icmp-block=echo-request",
    )
    assert "does not allow ICMP echo: it blocks it" in done.advice[0]


def test_firewalld_without_a_zone_is_asked_for_it() -> None:
    met = recorded(FIREWALLD, "filter_INPUT", "reject")._replace(path=())
    done = remedy(met)
    assert done.changes == ()
    assert "--get-active-zones" in done.advice[0]
    for chain, text, words in (
        ("filter_INPUT", "invalid", "no connection"),
        ("filter_PREROUTING", "fib", "IPv6_rpfilter"),
    ):
        early = remedy(recorded(FIREWALLD, chain, text))
        assert early.changes == ()
        assert words in early.advice[0]


def test_firewalls_direct_rules_come_before_their_like() -> None:
    met = recorded("firewalld-1.3.save", "INPUT_direct")
    block = (Block((0,), (2,), False, ""),)
    (command,) = commands(remedy(met._replace(text="-A INPUT_direct -j DROP"), blocks=block))
    assert command == (
        "firewall-cmd --direct --add-rule ipv4 filter INPUT -32768 -s 10.0.1.11 -p udp --dport "
        "6081 -j ACCEPT"
    )


@pytest.mark.parametrize(
    ("name", "chain", "family", "expected"),
    [
        ("ufw-0.36.save", "INPUT", IPV4, "ufw allow proto udp from 10.0.1.11 to any port 6081"),
        ("ufw6-0.36.save", "INPUT", IPV6, "ufw allow proto udp from fd00::1 to any port 6081"),
        ("ufw-0.36.save", "ufw-user-input", IPV4,
         "ufw prepend allow proto udp from 10.0.1.11 to any port 6081"),
        ("ufw-0.36.save", "ufw-skip-to-policy-input", IPV4,
         "ufw allow proto udp from 10.0.1.11 to any port 6081"),
        ("ufw-0.36.save", "ufw-user-output", IPV4,
         "ufw prepend allow out proto udp from any to 10.0.1.13 port 6081"),
    ],
)  # fmt: skip
def test_ufw_is_told_in_its_words(name: str, chain: str, family: Family, expected: str) -> None:
    met = recorded(name, chain)
    node = 0 if "output" in chain else 2
    done = remedy(met, node=node, blocks=(Block((0,), (2,), False, ""),),
                  tests=[FamilyProbe(0, family)])  # fmt: skip
    assert commands(done) == [f"{expected} comment 'Cilium GENEVE'"]
    assert done.changes[0].tool == "ufw"


def test_ufw_has_no_words_for_icmp_but_a_file() -> None:
    met = recorded("ufw-0.36.save", "INPUT")
    done = remedy(met, tests=[FamilyProbe(2, IPV4)], blocks=(Block((0,), (2,), False, ""),))
    (command,) = commands(done)
    assert command == (
        "iptables -w -t filter -I ufw-before-input 1 -s 10.0.1.11 -p icmp --icmp-type echo-request "
        "-m comment --comment 'Cilium health' -j ACCEPT"
    )
    assert "/etc/ufw/before.rules" in done.changes[0].persist[0]
    early = recorded("ufw6-0.36.save", "ufw6-before-input", "INVALID")
    done = remedy(early._replace(text="-A ufw6-before-input -j DROP"),
                  tests=[FamilyProbe(0, IPV6)], blocks=(Block((0,), (2,), False, ""),))  # fmt: skip
    assert commands(done)[0].startswith("ip6tables -w -t filter -I ufw6-before-input ")
    assert "/etc/ufw/before6.rules" in done.changes[0].persist[0]


def test_fail2ban_frees_the_peers() -> None:
    met = rule(tool="iptables", family="ip", chain="f2b-recidive", text="-A f2b-recidive -j REJECT")
    assert commands(remedy(met)) == [f"fail2ban-client unban 10.0.1.{n}" for n in (11, 12, 14, 15)]
    many = [Node(f"n{i}", (f"10.9.{i % 3}.{7 + 2 * (i // 3)}",), f"n{i}") for i in range(90)]
    block = (Block(tuple(range(1, 90)), (0,), False, ""),)
    assert commands(remedy(met, node=0, blocks=block, nodes=many)) == []


def test_docker_leaves_a_chain_to_its_admin() -> None:
    met = rule(tool="iptables", family="ip", chain="DOCKER-ISOLATION-STAGE-2", hook="forward",
               text="-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP")  # fmt: skip
    (command,) = commands(remedy(met))
    assert command.startswith("iptables -w -t filter -I DOCKER-USER 1 -s 10.0.1.11,")
    assert " -d 10.0.1.13 " in command
    own = met._replace(chain="DOCKER-USER", position=4)
    assert " -I DOCKER-USER 4 " in commands(remedy(own))[0]
    assert remedy(met._replace(tool="nft", table="docker-bridges", family="ip")).changes == ()


@pytest.mark.parametrize(
    ("chain", "word"),
    [("cali-INPUT", "GlobalNetworkPolicy"), ("CILIUM_INPUT", "CiliumClusterwideNetworkPolicy"),
     ("KUBE-FIREWALL", "mark"), ("LIBVIRT_INP", "hooks")],
)  # fmt: skip
def test_who_writes_rules_anew_is_told_elsewhere(chain: str, word: str) -> None:
    done = remedy(rule(tool="iptables", family="ip", chain=chain))
    assert done.changes == ()
    assert word in done.advice[0]
    assert f"UDP 6081 from {PEERS}" in done.advice[0]


# --- hostile names -------------------------------------------------------------------------------

WORDS = st.one_of(
    st.text(max_size=30),
    st.text(alphabet=" ;|&$`'\"\\(){}<>*?!#~\n\t-=abz019", max_size=20),
    st.sampled_from(["; reboot", "$(reboot)", "`reboot`", "a' 'b", "-x", "--", "x\ny", "a b",
                     "drop; flush ruleset", "filter_IN_$(reboot)_deny", "IN_;id;_deny"]),
)  # fmt: skip
SAFE = re.compile(r"[A-Za-z0-9_./:,{}()&|!=\" -]*")
# Everything that a command may hold, apart from addresses and names that were found to be safe.
_WORDS = """
nft insert add rule position inet ip ip6 bridge netdev iptables ip6tables iptables-legacy
ip6tables-legacy iptables-nft ip6tables-nft -w -t -I -A -s -d -p -m -j udp tcp icmp ipv6-icmp
--dport --sport --icmp-type --icmpv6-type --syn ! echo-request echo-reply comment --comment
ACCEPT ufw prepend allow out proto from to any port firewall-cmd --direct --add-rule ipv4 ipv6
--remove-icmp-block=echo-request --permanent fail2ban-client unban
"""
VOCABULARY = frozenset(_WORDS.split())


@settings(deadline=None)
@given(
    hit=st.builds(
        rule,
        tool=st.sampled_from(["nft", "iptables", "ip6tables", "iptables-legacy", "x; reboot"]),
        family=st.one_of(st.sampled_from(["inet", "ip", "ip6", "bridge", "netdev"]), WORDS),
        table=st.one_of(st.sampled_from(["filter", "firewalld", "raw", "f2b-table"]), WORDS),
        chain=st.one_of(
            st.sampled_from(["INPUT", "ufw-user-input", "INPUT_direct", "DOCKER-USER", "f2b-x"]),
            WORDS, WORDS.map("filter_IN_{}".format), WORDS.map("ufw-{}".format),
            WORDS.map("{}_direct".format), WORDS.map("filter_OUT_policy_{}_deny".format),
        ),
        handle=st.integers(0, 99),
        position=st.integers(0, 99),
        policy=st.booleans(),
        text=WORDS,
        comment=WORDS,
        hook=st.one_of(st.sampled_from(["input", "output", "forward", "prerouting"]), WORDS),
        path=st.lists(
            st.tuples(st.just("inet"), st.sampled_from(["firewalld", "filter"]),
                      st.one_of(WORDS, WORDS.map("filter_IN_{}".format), st.just("INPUT_ZONES"))),
            max_size=3,
        ).map(tuple),
    ),
    leg=st.sampled_from(["forward", "reply"]),
)  # fmt: skip
@example(rule(table="firewalld", chain="filter_IN_$(reboot)", text="drop"), "forward")
@example(rule(table="firewalld", chain="filter_IN_x;reboot_deny", text="drop"), "forward")
@example(rule(chain="input; flush ruleset"), "forward")
@example(rule(table="x' ; reboot ; '"), "forward")
@example(rule(tool="iptables", family="ip", chain="-F"), "forward")
@example(rule(tool="nft;reboot"), "forward")
@example(
    rule(tool="iptables", family="ip", table="filter", chain="ufw-$(id)", position=1), "forward"
)
def test_a_hostile_name_never_becomes_a_command(hit: Rule, leg: str) -> None:
    tests = [*ALL, FamilyProbe(3, IPV4)]
    done = remedy(hit, leg=leg, tests=tests)
    own = {hit.table, hit.chain, hit.chain.removesuffix("_direct"), "DOCKER-USER",
           *(f"ufw{v}-before-{way}" for v in ("", "6") for way in ("input", "output"))}  # fmt: skip
    for change in done.changes:
        # Of what makes them last, all but sentences: that is to be pasted as it is, too.
        for command in (*change.commands, *(p for p in change.persist if not p.endswith("."))):
            assert "\n" not in command
            plain, *quoted = re.split(r"'([^']*)'", command)
            assert SAFE.fullmatch("".join([plain, *quoted[1::2]])), command
            assert all(SAFE.fullmatch(text) for text in quoted[::2]), command
            for word in shlex.split(command):
                address = re.fullmatch(r"[0-9a-f:./,]+|-?\d+", word)
                text = " " in word or word.startswith(("--add-rich-rule=", "--zone=", "--policy="))
                assert word in VOCABULARY or address or text or word in own, command
                if word in own - VOCABULARY:
                    assert re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_./-]*", word)


def test_a_shell_takes_each_command_for_one(tmp_path: object) -> None:
    """Every recorded rule's commands, read by a real shell that runs nothing."""
    for name in ("firewalld-1.3.nft", "firewalld-1.3.save", "ufw-0.36.save", "ufw6-0.36.save"):
        for met in ends(read(name)):
            for command in commands(remedy(met, tests=ALL)):
                checked = subprocess.run(
                    ["bash", "-c", f'set -- {command}\nprintf "%s\\0" "$@"'],
                    capture_output=True, text=True, check=True, timeout=20,
                )  # fmt: skip
                assert checked.stdout.split("\0")[:-1] == shlex.split(command)


# --- what is no firewall's -----------------------------------------------------------------------


def test_kernel_settings() -> None:
    found = KernelReason(
        Reason.RP_FILTER, "reverse path filter", (),
        (SysctlChange("net.ipv4.conf.all.rp_filter", "1", "2"),
         SysctlChange("net.ipv4.conf.a/b;reboot.rp_filter", "1", "2")),
    )  # fmt: skip
    done = for_kernel("n3", found)
    assert commands(done) == [
        "sysctl -w net.ipv4.conf.all.rp_filter=2",
        "sysctl -w 'net.ipv4.conf.a/b;reboot.rp_filter=2'",
    ]
    assert done.changes[0].persist[0] == (
        "echo 'net.ipv4.conf.all.rp_filter = 2' >>/etc/sysctl.d/98-cilium-nodes.conf"
    )
    assert "ip route get" in done.advice[0]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_of_the_kernel_has_a_command_or_words(reason: Reason) -> None:
    settings = (SysctlChange("net.core.netdev_max_backlog", "10", "1000"),)
    by_setting = {Reason.ECHO_IGNORED, Reason.ECHO_LIMITED, Reason.IPV6_DISABLED,
                  Reason.NEIGHBOUR_TABLE_FULL, Reason.BACKLOG}  # fmt: skip
    known = KernelReason(reason, "", (), settings if reason in by_setting else ())
    done = for_kernel("n3", known)
    assert done.changes or done.advice


def test_sizes_are_told_to_cilium_and_to_the_network() -> None:
    sizes = [
        Diagnosis(size=Size(1450, 1451, 1450, 1500, True, None, None)),
        Diagnosis(size=Size(1400, 1401, None, 1500, False, "192.0.2.1", 1400)),
        Diagnosis(),
    ]
    done = for_size(sizes, [IPV4, IPV6])
    (change,) = done.changes
    assert (change.node, change.tool, change.commands) == ("", "cilium", ())
    told = " ".join(change.persist)
    assert "MTU=1400" in told
    assert "1,350 over IPv4 and 1,330 over IPv6" in told
    assert "tunnelProtocol: geneve" in told  # helmValues replace all that EKS Anywhere gives
    assert "192.0.2.1" in done.advice[0]
    assert "1,500 bytes" in done.advice[0]
    assert all(text.endswith(".") for text in (*change.persist, *done.advice))
    assert for_size([Diagnosis()], [IPV4]) == Remedy()
    silent = for_size(sizes[:1], [IPV4])
    assert "Make every link between these nodes take packets of 1,500 bytes" in silent.advice[0]


def test_routes_and_neighbours() -> None:
    assert "ip route get 10.0.1.13" in for_route("n1", "10.0.1.13").advice[0]
    assert "ip neigh" in for_neighbour("n1, n2").advice[0]
