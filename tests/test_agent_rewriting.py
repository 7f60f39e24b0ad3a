"""Which rule translates: real rules of every sort in real namespaces, and what packets became."""

from collections.abc import Iterator
from typing import Any

import pytest
import rulebench
from rulebench import FAR, NEAR, UDP, Bench, Worker, bench, udp

from preflight.agent.firewall.rewriting import words

pytestmark = rulebench.NEEDS_LAB
shared = rulebench.shared
ELSE = ("10.77.0.9", "fd77::9")
DNAT, OUT, SNAT = ("prerouting", "dstnat"), ("output", "-100"), ("postrouting", "srcnat")
XT = {0: "iptables-nft", 1: "ip6tables-nft"}


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces without rules and without connections."""
    for end in (shared.near, shared.far):
        shared.run(end, "sysctl", "-qw", "net.ipv4.ip_forward=0")
    yield shared
    shared.clean()


def nat(where: tuple[str, str], *rules: str, family: str = "inet") -> str:
    hook, priority = where
    lines = "\n".join(rules)
    chain = f"type nat hook {hook} priority {priority};\n{lines}"
    return f"table {family} t {{\nchain c {{\n{chain}\n}}\n}}\n"


def found(worker: Worker, count: int) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = worker(f"culprits(traces['test'], {count})")
    return out


SORTS = [
    # where, the ruleset, IPv6?, what it rewrites, what that becomes, the rule's handle
    ("far", nat(DNAT, "udp dport 53 accept", "udp dport 6081 redirect to :6082"), 0,
     "destination", ["", 6082]),
    ("far", nat(DNAT, "udp dport 6081 redirect to :6082"), 1, "destination", ["", 6082]),
    ("far", nat(DNAT, f"udp dport 6081 dnat ip to {ELSE[0]}"), 0, "destination", ["", 0]),
    ("far", nat(DNAT, f"udp dport 6081 dnat to {NEAR[0]}:7", family="ip"), 0, "destination",
     ["", 0]),
    ("far", nat(("prerouting", "raw"), "udp dport 6081 udp dport set 7").replace("nat", "filter"),
     0, "destination", ["", 7]),
    ("near", nat(OUT, f"udp dport 6081 dnat ip to {ELSE[0]}"), 0, "destination", [ELSE[0], 0]),
    ("near", nat(OUT, "udp dport 6081 redirect to :6082", family="ip6"), 1, "destination",
     ["::1", 6082]),
    ("near", nat(SNAT, f"udp dport 6081 snat ip to {ELSE[0]}"), 0, "source", [ELSE[0], 0]),
    ("near", nat(SNAT, f"udp dport 6081 snat ip6 to {ELSE[1]}"), 1, "source", [ELSE[1], 0]),
    ("near", nat(SNAT, "udp dport 6081 masquerade to :9"), 0, "source", ["", 9]),
]  # fmt: skip


@pytest.mark.parametrize(("end", "ruleset", "six", "side", "becomes"), SORTS)
def test_the_rule_that_translates_is_named(
    cable: Bench, end: str, ruleset: str, six: int, side: str, becomes: list[Any]
) -> None:
    where = getattr(cable, end)
    worker = cable.worker(where)
    assert worker.open(UDP) == ""
    cable.nft(where, ruleset)
    port = 20000 + SORTS.index((end, ruleset, six, side, becomes))  # a flow of its own
    udp(cable, 1, v6=bool(six), source=port)
    (one,) = found(worker, 1)
    assert (one["rewrites"], one["becomes"]) == (side, becomes)
    assert (one["table"], one["chain"], one["base"]) == ("t", "c", "c")
    assert (one["source"], one["destination"]) == (NEAR[six], FAR[six])  # as first seen
    (rule,) = worker(f"ruletext.describe([{one!r}])")
    assert rule["text"] in ruleset
    assert any(name in rule["text"] for name in ("redirect", "dnat", "snat", "set", "masquerade"))
    assert worker.hits(0) == []


XTABLES = [
    ("far", "-A PREROUTING -p udp --dport 6081 -j REDIRECT --to-ports 6082", 0, ["", 6082]),
    ("far", "-A PREROUTING -p udp --dport 6081 -j REDIRECT --to-ports 6082", 1, ["", 6082]),
    ("near", f"-A OUTPUT -p udp -j DNAT --to-destination {ELSE[0]}", 0, [ELSE[0], 0]),
    ("near", f"-A POSTROUTING -p udp -j SNAT --to-source {ELSE[0]}", 0, [ELSE[0], 0]),
    ("near", "-A POSTROUTING -p udp -j MASQUERADE --to-ports 9", 0, ["", 9]),
]


@pytest.mark.parametrize(("end", "rule", "six", "becomes"), XTABLES)
def test_iptables_too(cable: Bench, end: str, rule: str, six: int, becomes: list[Any]) -> None:
    where = getattr(cable, end)
    worker = cable.worker(where)
    assert worker.open(UDP) == ""
    cable.run(where, XT[six], "-t", "nat", *rule.split())
    udp(cable, 1, v6=bool(six), source=21000 + XTABLES.index((end, rule, six, becomes)))
    (one,) = found(worker, 1)
    assert one["becomes"] == becomes
    (told,) = worker(f"ruletext.describe([{one!r}])")
    assert (told["tool"], told["position"], told["base"]["type"]) == (
        XT[six].removesuffix("-nft"), 1, "nat"
    )  # fmt: skip


@pytest.mark.parametrize(
    "ruleset",
    [
        nat(DNAT, "udp dport 6081 accept"),  # it ends the chain as a translation does
        nat(DNAT, "udp dport 6081 redirect to :6081"),
        nat(DNAT, f"udp dport 6081 dnat ip to {FAR[0]}"),
        nat(("prerouting", "raw"), "udp dport 6081 ip dscp set ef").replace("nat", "filter"),
    ],
)
def test_what_changes_nothing_is_no_translation(cable: Bench, ruleset: str) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    cable.nft(cable.far, ruleset + rulebench.base("inet u input 0", "udp dport 6081 drop"))
    udp(cable, 1, source=22000 + len(ruleset))
    worker.hits(1)
    assert found(worker, 0) == []


@pytest.mark.parametrize(
    ("becomes", "told"),
    [
        ([("", 6082)], "port 6082"),
        ([("10.0.0.9", 0), ("10.0.0.9", 0)], "10.0.0.9"),
        ([("10.0.0.9", 7)], "10.0.0.9 port 7"),
        ([("", 6082), ("", 6083)], "other ports"),
        ([("10.0.0.9", 6082), ("10.0.0.9", 6083)], "10.0.0.9"),
        ([("10.0.0.9", 0), ("10.0.0.8", 0)], "other addresses"),
        ([("", 0)], ""),
    ],
)
def test_what_it_becomes_in_words(becomes: list[tuple[str, int]], told: str) -> None:
    assert words(becomes) == told


def test_nothing_of_it_where_messages_were_lost() -> None:
    with bench("lost") as cable:
        worker = cable.worker(cable.far)
        assert worker.open(UDP) == ""
        cable.nft(cable.far, nat(DNAT, f"udp dport 6081 dnat ip to {ELSE[0]}"))
        udp(cable, 1)
        assert len(found(worker, 1)) == 1
        worker("setattr(traces['test'], 'lost', True)")
        assert found(worker, 0) == []
