"""Rules that limit, or that hand packets to a program: what a person reads of them."""

from __future__ import annotations

import pytest
from found import RULE

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.accept import Traffic
from preflight.core.findings.firewalls import mend
from preflight.core.findings.limits import connections, limits
from preflight.core.findings.queues import end, verb
from preflight.core.findings.rule_words import rule_in_words
from preflight.core.model import GENEVE, HEALTH, Family, Probe

CONNLIMIT = "-A INPUT -p udp -m connlimit --connlimit-above 4 --connlimit-mask"
ONE_SOURCE = "over 4 at once from one source"


def rule(text: str, tool: str = "nft", **more: object) -> Rule:
    return RULE._replace(text=text, tool=tool, position=1, comment="", **more)


def advised(one: Rule, probe: Probe = GENEVE) -> str:
    six = one.tool.startswith("ip6")
    family, address = (Family.IPV6, "fd00::1/128") if six else (Family.IPV4, "10.0.0.1/32")
    done = mend("n4", one, [Traffic(probe, family, False, (address,), ())])
    assert len(done.changes) == 1
    return " ".join(done.advice)


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (rule("udp dport 6081 add @s { ip saddr ct count over 4 } counter drop"), ONE_SOURCE),
        (rule("udp dport 6081 update @s { ip6 saddr ct count over 4 } drop"), ONE_SOURCE),
        (rule("add @s { ip saddr timeout 1m ct count over 4 } drop"), ONE_SOURCE),
        (rule("meter m { ip saddr ct count over 4 } drop"), ONE_SOURCE),
        (rule("add @s { ip daddr ct count over 4 } drop"), "over 4 at once to one destination"),
        (rule("add @s { ip saddr . ip daddr ct count over 4 } drop"),
         "over 4 at once for each ip saddr . ip daddr"),
        (rule("udp dport 6081 ct count over 20 drop"), "over 20 at once from all together"),
        (rule(f"{CONNLIMIT} 32 --connlimit-saddr -j DROP", "iptables"), ONE_SOURCE),
        (rule(f"{CONNLIMIT} 128 --connlimit-saddr -j DROP", "ip6tables-legacy"), ONE_SOURCE),
        (rule(f"{CONNLIMIT} 32 --connlimit-saddr -j DROP", "ip6tables"),
         "over 4 at once from one /32"),
        (rule(f"{CONNLIMIT} 24 --connlimit-daddr -j DROP", "iptables"),
         "over 4 at once to one /24"),
        (rule(f"{CONNLIMIT} 0 -j REJECT", "iptables-legacy"), "over 4 at once from all together"),
    ],
)  # fmt: skip
def test_a_limit_of_connections_is_no_rate(one: Rule, says: str) -> None:
    assert str(connections(one)) == says
    assert f"counts connections and drops new ones: {says}" in advised(one)
    assert "rate" not in advised(one)
    assert "no higher number would do" in advised(one)
    assert "no higher number would do" not in advised(one, HEALTH)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("limit rate over 10/second burst 5 packets drop", "a rate"),
        ("add @s { ip saddr limit rate over 10/second } drop", "a rate"),
        ("-A INPUT -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP", "a rate"),
        ("-A INPUT -m recent --update --seconds 60 -j DROP", "how often a sender came of late"),
        ("quota over 10 mbytes drop", "an amount of data"),
        ("udp dport 6081 ct count 4 drop", "a number of connections at once"),
    ],
)
def test_what_else_is_too_much(text: str, says: str) -> None:
    assert connections(rule(text)) is None
    assert limits(rule(text)) == f"drops what exceeds {says}"


@pytest.mark.parametrize("text", ["udp dport 6081 drop", "udp dport @ct_count drop", ""])
def test_what_limits_nothing(text: str) -> None:
    assert limits(rule(text)) == ""


@pytest.mark.parametrize(
    ("queue", "reader", "says"),
    [
        ("9", 0, "no program reads queue 9: start"),
        ("0-3", 0, "no program reads queues 0-3: start"),
        ("9", 4711, "the program that reads queue 9 drops it"),
        ("9", None, "the program that reads queue 9 drops it"),
    ],
)
def test_what_is_said_of_a_queue(queue: str, reader: int | None, says: str) -> None:
    one = rule("-A INPUT -j NFQUEUE --queue-num 9", "iptables", queue=queue, reader=reader)
    assert says in advised(one)
    assert "NFQUEUE" in rule_in_words(one)
    assert (verb(one), bool(end(one))) == (("hands", True) if reader else ("drops", False))
    unsure = mend("n4", one._replace(sure=False), [Traffic(GENEVE, Family.IPV4, False, (), ())])
    assert not unsure.changes
    assert (f"whoever reads queue {queue} may" in unsure.advice[0]) is (reader != 0)
