"""Deep looks by real agents in real namespaces: what became of each shot, at each vantage point."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product

import pytest
import test_agent_kit as kit
from deepkit import FAMILIES, PROBES, TRACE, Deep, flows, shot
from scenarios import Rule, address, gateway, ip_commands, load, match, probe_match, sysctl
from test_agent_kit import SYSTEM_PYTHON, Agent, look, peers, ship
from test_agent_life import _RAW_ALONE
from test_agent_noise import flood, tcp, udp
from test_agent_pythons import teams

from preflight.core.diagnosis.trial import Form, Observed, Purpose
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Leg, Probe
from preflight.lab import Lab
from preflight.lab.topology import ROUTER

agent = kit.agent
ANSWERS = ("answered", "returned", "received")
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
_RATE_LIMITS = ("net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit")


@pytest.fixture
def deep(lab4: Lab, agent: Callable[..., Agent]) -> Deep:
    """Deep looks in the shared lab, between n1 in rack a and n3 in rack b."""
    return Deep(lab4, agent)


@pytest.fixture
def talkative(lab4: Lab) -> Iterator[None]:
    """Every ICMP error is sent that there is cause for, whatever the tests before had of them."""
    with ExitStack() as stack:
        for where in (ROUTER, *(node.name for node in lab4.nodes)):
            for key in _RATE_LIMITS:
                stack.enter_context(sysctl(lab4, where, key, "0"))
        yield


def seen(one: Observed) -> str:
    """The vantage points where all was seen, each by its letter, and `?` where nobody watched.

    s(ent) l(eft) a(rrived) A(ccepted) w (answered) r(eturned) R(eceived)
    """
    every = (1 << len(one.trial.shots)) - 1
    out = ""
    for letter, (vantage, mask) in zip("slaAwrR", one.seen.items(), strict=True):
        assert mask in (None, 0, every), (vantage, mask)
        out += "?" if mask is None else letter if mask else "-"
    return out


# --- what is seen --------------------------------------------------------------------------------


def test_a_clean_path(deep: Deep) -> None:
    """All probes over both families, both ways, at once; each end sees all of it."""
    ways = list(product((("n1", "n3"), ("n3", "n1")), PROBES, FAMILIES))
    trials = [
        deep.trial(number, *ends, probe, flows(probe, 5), family)
        for number, (ends, probe, family) in enumerate(ways)
    ]
    told = deep.look(*trials)
    for trial, (ends, probe, family) in zip(trials, ways, strict=True):
        one = told[trial.number]
        assert seen(one) == ("slaA???" if probe is GENEVE else "slaAwrR")
        assert one.resets == ({"answered": 31, "received": 31} if probe is HEALTH else {})
        assert (one.send_errors, one.hits, one.neighbour_failed) == ({}, [], False)
        source, destination = (deep.lab.node(name) for name in ends)
        assert (one.gateway, one.mtu) == (gateway(source, family), 1500)
        assert {end.trace for end in one.ends.values()} == {"not asked"}
        for vantage, passages in one.passages.items():
            assert sorted(passages) == list(range(5))
            back = vantage in ANSWERS
            for number, passage in passages.items():
                wanted = trial.shots[number]
                here, there = address(source, family), address(destination, family)
                first, second = wanted.source_port, wanted.port
                if back and probe is HEALTH:
                    first, second = second, first
                if back:
                    here, there = there, here
                assert passage[:5] == ("eth0", here, first, there, second)
                assert passage.ttl == (64 if vantage in ("left", "answered") else 63)
                assert passage.tos == 0
        sizes = {p.size for p in one.passages["arrived"].values()}
        assert sizes == {{GENEVE: 62, HEALTH: 44, ECHO: 84}[probe] + 20 * (family == "ipv6")}


BLOCKED = [
    # where, hook, leg, what is seen, the errno of sending
    ("n1", "output", Leg.FORWARD, "-------", errno.EPERM),
    ("n1", "egress", Leg.FORWARD, "s------", 0),
    (ROUTER, "forward", Leg.FORWARD, "sl-----", 0),
    ("n3", "ingress", Leg.FORWARD, "sla----", 0),
    ("n3", "prerouting", Leg.FORWARD, "sla----", 0),
    ("n3", "input", Leg.FORWARD, "sla----", 0),
    ("n3", "output", Leg.REPLY, "slaA---", 0),
    (ROUTER, "forward", Leg.REPLY, "slaAw--", 0),
    ("n1", "input", Leg.REPLY, "slaAwr-", 0),
]


@pytest.mark.parametrize(("where", "hook", "leg", "wanted", "code"), BLOCKED)
def test_what_is_dropped_is_seen_up_to_there(
    deep: Deep, where: str, hook: str, leg: Leg, wanted: str, code: int
) -> None:
    """All probes over both families at once; what goes the other way, nobody drops."""
    n1, _, n3, _ = deep.lab.nodes
    cells = [(p, f) for p, f in product(PROBES, FAMILIES) if leg is Leg.FORWARD or not p.one_way]
    load(deep.lab, [Rule(where, hook, f"{match(n1, n3, *cell, leg)} drop") for cell in cells])
    trials = [
        deep.trial(2 * n + back, *ends, probe, flows(probe, 3), family)
        for n, (probe, family) in enumerate(cells)
        for back, ends in enumerate((("n1", "n3"), ("n3", "n1")))
    ]
    told = deep.look(*trials, wait=0.2)
    for number, (probe, _) in enumerate(cells):
        there, back = told[2 * number], told[2 * number + 1]
        assert seen(there) == (wanted[:4] + "???" if probe is GENEVE else wanted)
        assert there.send_errors == (dict.fromkeys(range(3), code) if code else {})
        assert seen(back) == ("slaA???" if probe is GENEVE else "slaAwrR")


@EVERY_FAMILY
@pytest.mark.parametrize(
    ("where", "hook"), [("n1", "output"), (ROUTER, "forward"), ("n3", "input")]
)
def test_what_is_rejected_tells_by_whom(
    deep: Deep, talkative: None, family: Family, where: str, hook: str
) -> None:
    n1, _, n3, _ = deep.lab.nodes
    actions = {GENEVE: "reject", HEALTH: "reject with tcp reset", ECHO: "reject with icmpx "
               "admin-prohibited"}  # fmt: skip
    rules = [
        Rule(where, hook, f"{match(n1, n3, probe, family)} {action}")
        for probe, action in actions.items()
    ]
    load(deep.lab, rules)
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 3), family) for n, p in enumerate(PROBES)]
    told = deep.look(*trials)
    sender = {"n1": address(n1, family), ROUTER: gateway(n1, family), "n3": address(n3, family)}
    v6 = family is Family.IPV6
    codes = {GENEVE: (1, 4) if v6 else (3, 3), ECHO: (1, 1) if v6 else (3, 13)}
    forward = {"n1": "---", ROUTER: "sl-", "n3": "sla"}[where]
    for number, probe in enumerate(PROBES):
        one = told[number]
        assert seen(one)[:4] == f"{forward:-<4}"
        if where == "n1":
            assert one.send_errors == dict.fromkeys(range(3), errno.EPERM)
        if probe is HEALTH:
            # The RST of the source's own firewall goes over its loopback device.
            assert seen(one)[4:] == {"n1": "--R", ROUTER: "-rR", "n3": "wrR"}[where]
            assert one.resets["received"] == 0b111
            assert one.errors == []
        else:
            assert {(e.sender, e.type, e.code) for e in one.errors} == {
                (sender[where], *codes[probe])
            }
            assert {error.shot for error in one.errors} == {0, 1, 2}


def test_a_listener_answers_with_no_reset(deep: Deep) -> None:
    from labs import listen

    own = address(deep.lab.node("n3"), Family.IPV4)
    with deep.lab.call("n3", lambda: listen(own, 4240)):
        one = deep.look(deep.trial(0, "n1", "n3", HEALTH, flows(HEALTH, 3)))[0]
    assert seen(one) == "slaAwrR"
    assert one.resets == {}


# --- one shot unlike the others ------------------------------------------------------------------


@pytest.fixture
def two_routers(lab4: Lab, talkative: None) -> Iterator[None]:
    """From rack a the way to n4 leads through n3 as well."""
    n3, n4 = lab4.node("n3"), lab4.node("n4")
    with ExitStack() as stack:
        for key, value in (
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/eth0/send_redirects", "0"),
        ):
            stack.enter_context(sysctl(lab4, "n3", key, value))
        commands = []
        for family, prefix in ((Family.IPV4, ""), (Family.IPV6, "-6 ")):
            way = f"{address(n4, family)} via {address(n3, family)}"
            commands.append((ROUTER, f"{prefix}route add {way}", f"{prefix}route del {way}"))
        stack.enter_context(ip_commands(lab4, *commands))
        yield


def test_a_ttl_that_runs_out_names_the_router(deep: Deep, two_routers: None) -> None:
    """The very same flow; the third hop is the destination."""
    cells = list(product(PROBES, FAMILIES))
    trials = []
    for number, (probe, family) in enumerate(cells):
        first = 7 if probe is ECHO else 40000
        shots = [shot(probe, first, ttl=ttl, purpose=Purpose.HOP) for ttl in (1, 2, 3, 64)]
        trials.append(deep.trial(number, "n1", "n4", probe, shots, family))
    told = deep.look(*trials)
    n1, n3 = deep.lab.node("n1"), deep.lab.node("n3")
    for number, (probe, family) in enumerate(cells):
        one = told[number]
        exceeded = (11, 0) if family is Family.IPV4 else (3, 0)
        assert {(e.shot, e.sender) for e in one.errors if (e.type, e.code) == exceeded} == {
            (0, gateway(n1, family)),
            (1, address(n3, family)),
        }
        assert one.seen["sent"] == one.seen["left"] == 0b1111
        assert one.seen["arrived"] == one.seen["accepted"] == 0b1100
        assert [one.passages["arrived"][n].ttl for n in (2, 3)] == [1, 62]
        if probe is not GENEVE:
            assert one.seen["received"] == 0b1100


@EVERY_FAMILY
def test_sizes(deep: Deep, talkative: None, family: Family) -> None:
    """Too large for the source's device, for a router's with and without DF, and neither."""
    lab = deep.lab
    n3 = "n3"
    commands = [
        (ROUTER, f"link set {n3} mtu 1400", f"link set {n3} mtu 1500"),
        # A bridge takes its port's only as long as nobody has given it one.
        (ROUTER, "link set rack-b mtu 1400", "link set rack-b mtu 1500"),
        (n3, "link set eth0 mtu 1400", "link set eth0 mtu 1500"),
    ]
    shots = [
        shot(GENEVE, 40000 + n, size=size, dont_fragment=df, purpose=Purpose.SIZE)
        for n, (size, df) in enumerate(
            ((0, True), (1400, True), (1401, True), (1401, False), (1500, True), (1501, False))
        )
    ]
    with ip_commands(lab, *commands):
        one = deep.look(deep.trial(0, "n1", "n3", GENEVE, shots, family))[0]
    assert one.send_errors == {5: errno.EMSGSIZE}
    fragmented = 0b001000 if family is Family.IPV4 else 0
    assert one.seen["sent"] == one.seen["left"] == 0b011111
    assert one.seen["arrived"] == one.seen["accepted"] == 0b000011 | fragmented
    too_big = {(e.shot, e.sender, e.type, e.code, e.mtu) for e in one.errors if e.mtu}
    code = (3, 4) if family is Family.IPV4 else (2, 0)
    wanted = {2, 4} if fragmented else {2, 3, 4}
    router = gateway(lab.node("n1"), family)
    assert too_big == {(n, router, *code, 1400) for n in wanted}
    assert [one.passages["left"][n].size for n in range(5)][1:] == [1400, 1401, 1401, 1500]
    if fragmented:
        assert one.passages["arrived"][3].size < 1401  # the first fragment
        assert [one.passages["left"][n].dont_fragment for n in (2, 3)] == [True, False]


@pytest.mark.parametrize("probe", [GENEVE, HEALTH], ids=lambda probe: probe.name)
@EVERY_FAMILY
def test_a_control_port_tells_a_port_rule(deep: Deep, probe: Probe, family: Family) -> None:
    load(deep.lab, [Rule(ROUTER, "forward", f"{probe_match(probe, family)} drop")])
    shots = [shot(probe, 40000), shot(probe, 40000, port=9999, purpose=Purpose.CONTROL)]
    one = deep.look(deep.trial(0, "n1", "n3", probe, shots, family))[0]
    assert (one.seen["left"], one.seen["arrived"], one.seen["accepted"]) == (0b11, 0b10, 0b10)
    if probe is HEALTH:
        assert one.seen["received"] == 0b10
    assert one.passages["arrived"][1].port == 9999


@EVERY_FAMILY
def test_other_bytes_tell_an_inspection(deep: Deep, family: Family) -> None:
    """Who drops GENEVE's protocol type lets everything else pass, in the same flow."""
    rule = f"{probe_match(GENEVE, family)} @th,80,16 0x6558 drop"
    load(deep.lab, [Rule(ROUTER, "forward", rule)])
    forms = (Form.PLAIN, Form.HARMLESS, Form.RANDOM)
    shots = [shot(GENEVE, 40000, form=form, purpose=Purpose.CONTENT) for form in forms]
    one = deep.look(deep.trial(0, "n1", "n3", GENEVE, shots, family))[0]
    assert (one.seen["left"], one.seen["arrived"], one.seen["accepted"]) == (0b111, 0b110, 0b110)


def test_a_source_port_that_does_not_pass(deep: Deep) -> None:
    load(deep.lab, [Rule(ROUTER, "forward", "udp sport 0-1023 drop")])
    shots = [shot(GENEVE, port, purpose=Purpose.FLOW) for port in (1, 700, 1024, 6081, 65535)]
    one = deep.look(deep.trial(0, "n1", "n3", GENEVE, shots))[0]
    assert one.seen["arrived"] == 0b11100


def test_a_large_trial(deep: Deep) -> None:
    """1,024 shots is the most; each is told apart."""
    load(deep.lab, [Rule(ROUTER, "forward", "udp sport & 7 == 5 drop")])
    shots = [shot(GENEVE, 1024 + 60 * n) for n in range(1024)]
    one = deep.look(deep.trial(255, "n1", "n3", GENEVE, shots), rate=4000)[0 + 255]
    wanted = sum(1 << n for n, s in enumerate(shots) if s.source_port & 7 != 5)
    assert one.seen["left"] == (1 << 1024) - 1
    assert one.seen["arrived"] == one.seen["accepted"] == wanted
    assert len(one.passages["arrived"]) == wanted.bit_count()


# --- what is rewritten on the way ----------------------------------------------------------------


# Each with source ports of its own: a router that knows a flow goes on as it began.


@EVERY_FAMILY
def test_a_translated_source(deep: Deep, family: Family) -> None:
    n1, n3 = deep.lab.node("n1"), deep.lab.node("n3")
    other = address(n3, family)
    ip = "ip" if family is Family.IPV4 else "ip6"
    rules = [
        Rule(ROUTER, "snat", f"{ip} saddr {address(n1, family)} {ip} daddr {other} masquerade")
    ]
    load(deep.lab, rules)
    trials = [
        deep.trial(n, "n1", "n3", p, flows(p, 3, 62000), family) for n, p in enumerate(PROBES)
    ]
    told = deep.look(*trials)
    for number, probe in enumerate(PROBES):
        one = told[number]
        assert seen(one) == ("slaA???" if probe is GENEVE else "slaAwrR"), probe
        sources = {p.source for p in one.passages["arrived"].values()}
        assert sources == {gateway(n3, family)}
        assert {p.source for p in one.passages["left"].values()} == {address(n1, family)}
        if probe is not GENEVE:
            assert {p.source for p in one.passages["returned"].values()} == {other}


@EVERY_FAMILY
def test_a_translated_port(deep: Deep, family: Family) -> None:
    """What comes to another port has come, but not what the destination's own rules lead there."""
    rules = [
        Rule(where, "dnat", f"{probe_match(probe, family)} redirect to :{port}")
        if where == "n3"
        else Rule(where, "dnat", f"{probe_match(probe, family)} dnat {ip} to {target}:{port}")
        for where, probe, port, ip, target in (
            (ROUTER, GENEVE, 7000, *_target(deep, family)),
            ("n3", HEALTH, 7001, "", ""),
        )
    ]
    load(deep.lab, rules)
    trials = [
        deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 3, 63000), family),
        deep.trial(1, "n1", "n3", HEALTH, flows(HEALTH, 3, 63000), family),
    ]
    told = deep.look(*trials)
    assert seen(told[0]) == "slaA???"
    assert {p.port for p in told[0].passages["left"].values()} == {6081}
    assert {p.port for p in told[0].passages["arrived"].values()} == {7000}
    assert seen(told[1]) == "sla-wrR"
    assert {p.port for p in told[1].passages["arrived"].values()} == {4240}


def _target(deep: Deep, family: Family) -> tuple[str, str]:
    own = address(deep.lab.node("n3"), family)
    return ("ip", own) if family is Family.IPV4 else ("ip6", f"[{own}]")


@EVERY_FAMILY
def test_a_rewritten_sequence_number(deep: Deep, family: Family) -> None:
    """The RST acknowledges the rewritten one, everywhere; and a TTL ends some on the way."""
    load(deep.lab, [Rule(ROUTER, "forward", "tcp dport 4240 tcp sequence set 305419896")])
    shots = [*flows(HEALTH, 3, 61500), shot(HEALTH, 61700, ttl=1), shot(HEALTH, 61700)]
    one = deep.look(deep.trial(0, "n1", "n3", HEALTH, shots, family))[0]
    assert one.seen["left"] == 0b11111
    for vantage in ("arrived", "accepted", *ANSWERS):
        assert one.seen[vantage] == 0b10111, vantage
    assert one.resets == {"answered": 0b10111, "received": 0b10111}


def test_marks_and_ttl_set_on_the_way(deep: Deep) -> None:
    rules = ["udp dport 6081 ip dscp set ef", "udp dport 6081 ip ttl set 9"]
    load(deep.lab, [Rule(ROUTER, "forward", rule) for rule in rules])
    one = deep.look(deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 2)))[0]
    assert {(p.tos, p.ttl) for p in one.passages["arrived"].values()} == {(46 << 2, 9)}


# --- devices, neighbours, routes -----------------------------------------------------------------


def test_a_bridge_below_the_address(lab4: Lab, deep: Deep, talkative: None) -> None:
    """What dies between it and the device below never left; what comes in has come once."""
    n1, n2 = lab4.node("n1"), lab4.node("n2")
    commands = [
        ("n1", f"link add br0 address {n1.mac} type bridge", "link del br0"),
        ("n1", "link set eth0 master br0", "link set eth0 nomaster"),
        ("n1", "link set br0 up", ""),
    ]
    for family, prefix in ((0, ""), (1, "-6 ")):
        own = n1.interfaces[family]
        way = f"{prefix}route replace default via {n1.gateways[family].ip}"
        nodad = " nodad" if family else ""
        commands.append(("n1", f"addr del {own} dev eth0", way))
        commands.append(("n1", f"addr add {own} dev br0{nodad}",
                         f"addr add {own} dev eth0{nodad}"))  # fmt: skip
        commands.append(("n1", way, f"addr del {own} dev br0"))
    trials = [
        deep.trial(0, "n1", "n2", GENEVE, flows(GENEVE, 2)),
        deep.trial(1, "n2", "n1", GENEVE, flows(GENEVE, 2)),
        deep.trial(2, "n1", "n2", HEALTH, flows(HEALTH, 2)),
    ]
    with ip_commands(lab4, *commands):
        clean = deep.look(*trials, pcap=True)
        ways = [way for _, way, _, _ in deep.reports[0]["pcap"]]
        for hook, ends in (("bridge output", (n1, n2)), ("bridge input", (n2, n1))):
            load(lab4, [Rule("n1", hook, match(*ends, GENEVE, Family.IPV4) + " drop")])
        told = deep.look(*trials)
    assert [seen(clean[n]) for n in range(3)] == ["slaA???", "slaA???", "slaAwrR"]
    assert {p.device for p in clean[0].passages["left"].values()} == {"eth0"}
    assert {p.device for p in clean[1].passages["arrived"].values()} == {"eth0"}
    # Two of each: our shots, theirs, our SYNs, their RSTs, and errors of either side; each once.
    assert (ways.count("in"), ways.count("out")) == (6, 6)
    assert [seen(told[n]) for n in range(3)] == ["s---???", "sla-???", "slaAwrR"]


def test_a_next_hop_that_does_not_answer(deep: Deep) -> None:
    """In one rack; a neighbour entry that nobody fills. And an address that is no node's at all."""
    lab = deep.lab
    commands = [
        ("n2", "link set eth0 arp off", "link set eth0 arp on"),
        ("n1", "neigh flush dev eth0", ""),
    ]
    with ip_commands(lab, *commands):
        one = deep.look(deep.trial(0, "n1", "n2", GENEVE, flows(GENEVE, 3)))[0]
    assert (one.seen["sent"], one.seen["left"], one.seen["arrived"]) == (0b111, 0, 0)
    assert one.neighbour_failed
    assert one.gateway == address(lab.node("n2"), Family.IPV4)


def test_no_route_at_all(deep: Deep) -> None:
    target = address(deep.lab.node("n3"), Family.IPV4)
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 2)) for n, p in enumerate(PROBES)]
    commands = [("n1", f"route add prohibit {target}", f"route del prohibit {target}")]
    with ip_commands(deep.lab, *commands):
        told = deep.look(*trials, wait=0.1)
    for number in range(3):
        assert told[number].send_errors == {0: errno.EACCES, 1: errno.EACCES}
        assert told[number].gateway == ""


@EVERY_FAMILY
def test_routes_of_its_own_for_the_port_or_the_address(deep: Deep, family: Family) -> None:
    """UDP is routed as the kernel's own tunnel is, what is answered as the node's address is."""
    n1, n3 = deep.lab.node("n1"), deep.lab.node("n3")
    ip = "" if family is Family.IPV4 else "-6 "
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 2), family) for n, p in enumerate(PROBES)]
    trials.append(deep.trial(3, "n1", "n3", GENEVE, [shot(GENEVE, 40000, port=9999)], family))
    by_port = "ipproto udp dport 6081 prohibit"
    by_address = f"from {address(n1, family)} to {address(n3, family)} prohibit"
    forbidden = {0: errno.EACCES, 1: errno.EACCES}
    for rule, wanted in (
        (by_port, [forbidden, {}, {}, {}]),
        (by_address, [{}, forbidden, forbidden, {}]),
    ):
        with ip_commands(deep.lab, ("n1", f"{ip}rule add {rule}", f"{ip}rule del {rule}")):
            told = deep.look(*trials, wait=0.1)
        assert [told[n].send_errors for n in range(4)] == wanted, rule


# --- captures ------------------------------------------------------------------------------------


def test_a_capture_that_overruns_has_not_watched(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n3 stands still while it is shot at, with buffers for a few packets."""
    deep.start(0)
    deep.start(1)
    ship(monkeypatch, [("agent.deep.look", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")])
    shots = flows(GENEVE, 200)
    trials = [deep.trial(0, "n1", "n3", GENEVE, shots), deep.trial(1, "n1", "n2", GENEVE, shots)]
    part = deep.order(*trials)
    still = deep.agents[2].process
    still.send_signal(signal.SIGSTOP)
    assert deep.agents[0].hear()["t"] == "sent"
    still.send_signal(signal.SIGCONT)
    told = deep.collect(trials, part, 0.5, already={0})
    assert deep.reports[2]["trials"][0]["lost"] == ["arrived", "answered", "accepted"]
    assert told[0].seen["arrived"] is None
    assert told[0].seen["accepted"] is None
    assert seen(told[1]) == "slaA???"


def test_what_was_lost_before_the_shots_is_nobodys_loss(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n3 stands still in the idle window, while strangers' SYNs fill its buffers."""
    lab = deep.lab
    deep.start(0)
    ship(monkeypatch, [("agent.deep.look", "_BUFFER = 4 << 20", "_BUFFER = 4 << 10")])
    still, target = deep.start(2), address(lab.node("n3"), Family.IPV4)
    trial = deep.trial(0, "n1", "n3", HEALTH, flows(HEALTH, 2))
    still.say(deep.frame(2, [trial], {"trace": TRACE, "settle": 3600}))
    while "preflight" not in lab.run("n3", "nft", "list", "tables").stdout:
        assert still.process.poll() is None
    still.process.send_signal(signal.SIGSTOP)
    with lab.call("n4", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)) as raw:
        for number in range(500):
            raw.sendto(tcp(target, 1, 4240, number.to_bytes(4, "big")), (target, 0))
    still.process.send_signal(signal.SIGCONT)
    still.say({"t": "drain", "wait": 3600})  # which ends any wait, that one too
    deep.agents[0].say(deep.frame(0, [trial], {}))
    for one in (deep.agents[0], still):
        assert one.hear()["t"] == "ready"
        one.say({"t": "go"})
    told = deep.collect([trial], [0, 2], 0.2)
    assert deep.reports[2]["trials"][0]["lost"] == []
    assert seen(told[0]) == "slaAwrR"


def test_a_node_without_packet_sockets_says_what_it_can(
    deep: Deep, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = "self._tap = ShotTap(filters.tap(), devices)"
    ship(monkeypatch, [("agent.deep.look", refused, "raise OSError(1, 'not permitted')")])
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 3)) for n, p in enumerate(PROBES)]
    told = deep.look(*trials)
    assert [seen(told[n]) for n in range(3)] == ["s??A???", "s??A??R", "s??A??R"]
    assert not told[0].neighbour_failed


def test_packets_are_kept_where_they_are_asked_for(deep: Deep, talkative: None) -> None:
    """From their IP header on, as scapy reads them; of ours, and nobody else's errors."""
    from scapy.layers.inet import ICMP, IP, TCP

    target = address(deep.lab.node("n3"), Family.IPV4)
    strangers = target, udp(target, 9, b"")  # each is answered with a port unreachable
    trials = [
        deep.trial(0, "n1", "n3", HEALTH, flows(HEALTH, 2)),
        deep.trial(1, "n1", "n3", GENEVE, [shot(GENEVE, 40000, ttl=1), shot(GENEVE, 40000)]),
    ]
    with flood(deep.lab, "n4", 200, [strangers]):
        deep.look(*trials, pcap=True)
    kept = deep.reports[0]["pcap"]
    packets = [(way, IP(bytes.fromhex(data))) for _, way, _, data in kept]
    assert [str(p[TCP].flags) for way, p in packets if way == "out" and TCP in p] == ["S", "S"]
    assert [str(p[TCP].flags) for way, p in packets if way == "in" and TCP in p] == ["RA", "RA"]
    errors = [p[ICMP].type for way, p in packets if way == "in" and ICMP in p]
    assert sorted(errors) == [3, 11]
    assert {device for _, _, device, _ in kept} == {"eth0"}
    times = [seconds for seconds, _, _, _ in kept]
    assert times == sorted(times)
    # Two SYNs and their RSTs, one GENEVE packet and that nobody listens there.
    ways = [way for _, way, _, _ in deep.reports[2]["pcap"]]
    assert (ways.count("in"), ways.count("out")) == (3, 3)
    assert all(len(data) <= 512 for *_, data in kept)
    deep.look(*trials)
    assert "pcap" not in deep.reports[0]


# --- the node's own firewall ---------------------------------------------------------------------


@pytest.mark.parametrize(("where", "hook", "leg", "action"), [
    ("n1", "output", Leg.FORWARD, "drop"),
    ("n3", "prerouting", Leg.FORWARD, "drop"),
    ("n3", "input", Leg.FORWARD, "reject"),
    ("n3", "output", Leg.REPLY, "drop"),
    ("n1", "input", Leg.REPLY, "drop"),
])  # fmt: skip
def test_the_rule_is_named(deep: Deep, where: str, hook: str, leg: Leg, action: str) -> None:
    """For every probe and family at once, with the shots that it ended and no others."""
    cells = [(p, f) for p in PROBES for f in FAMILIES if leg is Leg.FORWARD or not p.one_way]
    n1, _, n3, _ = deep.lab.nodes
    rules = [
        Rule(where, hook, f'{match(n1, n3, p, f, leg)} {action} comment "{p.name} {f}"')
        for p, f in cells
    ]
    load(deep.lab, rules)
    # Another port, and a TTL that ends on the way, meet no rule.
    trials = []
    for number, (probe, family) in enumerate(cells):
        others = [shot(probe, 5, ttl=1)]
        if probe is not ECHO:
            others.append(shot(probe, 60999, port=9999))
        trials.append(deep.trial(number, "n1", "n3", probe, [*flows(probe, 3), *others], family))
    told = deep.look(*trials, trace=TRACE)
    for number, (probe, family) in enumerate(cells):
        one = told[number]
        (hit,) = one.hits
        assert hit.node == {"n1": 0, "n3": 2}[where]
        assert hit.leg == leg
        assert hit.shots == ({0, 1, 2, 3} if (where, hook) == ("n1", "output") else {0, 1, 2})
        assert hit.rule.comment == f"{probe.name} {family}"
        assert (hit.rule.hook, hit.rule.tool) == (hook, "nft")
        assert {end.trace for end in one.ends.values()} == {""}
    assert deep.lab.run("n3", "nft", "list", "tables").stdout.count("preflight") == 0


def test_an_iptables_legacy_rule_is_told_by_its_counter(deep: Deep) -> None:
    lab = deep.lab
    rule = ("INPUT", "-p", "udp", "--dport", "6081", "-j", "DROP")
    lab.run("n3", "iptables-legacy", "-A", *rule)
    try:
        trial = deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 3))
        one = deep.look(trial, trace=TRACE, settle=0.1)[0]
    finally:
        lab.run("n3", "iptables-legacy", "-D", *rule)
    (hit,) = one.hits
    assert (hit.node, hit.leg, hit.shots) == (2, "forward", {0, 1, 2})
    assert (hit.rule.tool, hit.rule.table, hit.rule.chain) == ("iptables-legacy", "filter", "INPUT")
    assert hit.rule.sure


def test_what_the_kernel_counts_is_told(deep: Deep) -> None:
    """Nothing listens on 6081: the kernel itself counts every GENEVE shot, and not while idle."""
    one = deep.look(deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 7)), trace=TRACE, settle=0.1)[0]
    end = one.ends["destination"]
    assert end.moved["UdpNoPorts"] == 7
    assert end.idle["UdpNoPorts"] == 0
    idle_s, _ = deep.reports[2]["node"]["counters"]["seconds"]
    assert idle_s >= 0.1
    assert "net.ipv4.conf.all.rp_filter" in end.settings
    assert deep.reports[2]["node"]["failed"] == {}


def test_without_the_right_to_look_inside_the_rest_is_seen(
    lab4: Lab, agent: Callable[..., Agent]
) -> None:
    """CAP_NET_RAW alone: no rules, no drop reasons, and every vantage point."""
    drops = [Rule("n3", "input", f"{probe_match(HEALTH, Family.IPV4)} drop")]
    load(lab4, drops)
    deep = Deep(lab4, agent, pythons=[(*_RAW_ALONE, SYSTEM_PYTHON)])
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 3)) for n, p in enumerate(PROBES)]
    told = deep.look(*trials, trace=TRACE)
    assert [seen(told[n]) for n in range(3)] == ["slaA???", "sla----", "slaAwrR"]
    assert told[1].ends["destination"].trace == "no CAP_NET_ADMIN"
    assert told[1].hits == []
    assert told[0].ends["destination"].moved["UdpNoPorts"] == 3


# --- in bad company ------------------------------------------------------------------------------


def test_a_look_after_a_deep_one_has_no_strays(deep: Deep) -> None:
    """Not even where shots of the latter are still under way while the former looks."""
    lab = deep.lab
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 50)) for n, p in enumerate(PROBES)]
    for one in (deep.start(0), deep.start(2)):
        one.say(peers(lab))
    deep.look(*trials, pcap=True)
    packets = [bytes.fromhex(data) for _, way, _, data in deep.reports[0]["pcap"] if way == "out"]
    late = next(packet for packet in packets if packet[9] == 17)
    target = address(lab.node("n3"), Family.IPV4)
    both = [(deep.agents[0], [2]), (deep.agents[2], [0])]
    with flood(lab, "n1", 500, [(target, late)]):
        for one, other in both:
            one.say(look(other, other, number=3))
        for one, _ in both:
            assert one.hear()["t"] == "sent"
        for one, _ in both:
            one.say({"t": "drain", "wait": 0.3})
        reports = [one.hear() for one, _ in both]
    for report in reports:
        assert report["strays"] == [0, []]
        assert not any(report["seen"].values())


def test_it_gives_everything_back(deep: Deep) -> None:
    """Each look opens as many files as it closes, whatever it looked into."""
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 2)) for n, p in enumerate(PROBES)]
    counts = []
    for _ in range(3):
        deep.look(*trials, trace=TRACE)
        counts.append([len(open_files(one)) for one in deep.agents.values()])
    assert counts[0] == counts[1] == counts[2]


def open_files(one: Agent) -> list[str]:
    return os.listdir(f"/proc/{one.process.pid}/fd")


def test_two_deep_looks_do_not_take_each_others_shots(deep: Deep) -> None:
    """The same trial again, in which everything is dropped, after one in which nothing was."""
    trial = deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 3))
    assert seen(deep.look(trial)[0]) == "slaA???"
    load(deep.lab, [Rule(ROUTER, "forward", "udp dport 6081 drop")])
    assert seen(deep.look(trial)[0]) == "sl--???"


def test_nobody_waits_for_what_has_come(deep: Deep) -> None:
    """Each shot was answered; the drain would last an hour."""
    trials = [deep.trial(n, "n1", "n3", p, flows(p, 5)) for n, p in enumerate((HEALTH, ECHO))]
    told = deep.look(*trials, wait=3600)
    assert [seen(told[n]) for n in range(2)] == ["slaAwrR", "slaAwrR"]


def test_a_source_whose_shots_all_came_to_grief_need_not_wait(deep: Deep, talkative: None) -> None:
    """Nobody listens on 6081, which is an error for each; and two are too large to be sent."""
    shots = [*flows(GENEVE, 5), *(shot(GENEVE, 60000 + n, size=2000) for n in range(2))]
    one = deep.look(deep.trial(0, "n1", "n3", GENEVE, shots), wait=3600, without={2})[0]
    assert {error.shot for error in one.errors} == {0, 1, 2, 3, 4}
    assert set(one.send_errors) == {5, 6}


def test_the_controller_may_end_it_early(deep: Deep) -> None:
    """An interruption: go and drain at once, whatever is left to be sent."""
    trial = deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 100))
    part = deep.order(trial, go=False, rate=1)
    for node in part:
        deep.agents[node].say({"t": "go"}, {"t": "drain", "wait": 0})
    told = deep.collect([trial], part, 0)
    assert told[0].seen["sent"] in (0, 1, 0b11)


def test_one_that_was_too_slow_to_begin_hears_that_all_have_sent(deep: Deep) -> None:
    """The others did not wait for it: what they were told while it was busy is told it as well."""
    frame = deep.frame(0, [deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 100))], {})
    one = deep.start(0)
    one.say(frame, {"t": "go"}, {"t": "drain", "number": frame["number"], "wait": 0})
    assert [one.hear()["t"] for _ in range(3)] == ["ready", "sent", "report"]
    later = {**frame, "number": frame["number"] + 1}  # for which nobody has said so
    one.say(later, {"t": "go"})
    assert [one.hear()["t"] for _ in range(2)] == ["ready", "sent"]
    one.say({"t": "drain", "wait": 0})
    assert one.hear()["t"] == "report"


@pytest.mark.parametrize("moment", ["settling", "ready", "sending", "draining"])
def test_an_agent_that_is_killed_leaves_nothing(deep: Deep, moment: str) -> None:
    lab = deep.lab
    trial = deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 100))
    if moment == "settling":
        one = deep.start(0)
        one.say(deep.frame(0, [trial], {"trace": TRACE, "settle": 3600}))
        while "preflight" not in lab.run("n1", "nft", "list", "tables").stdout:
            assert one.process.poll() is None
    else:
        deep.order(trial, trace=TRACE, go=moment != "ready",
                   rate=0.01 if moment == "sending" else 10_000)  # fmt: skip
        one = deep.agents[0]
        if moment == "draining":
            assert one.hear()["t"] == "sent"
        assert "preflight" in lab.run("n1", "nft", "list", "tables").stdout
    one.process.kill()
    one.end()
    assert lab.run("n1", "nft", "list", "tables").stdout == ""
    assert lab.run("n1", "ss", "-Hw").stdout + lab.run("n1", "ss", "-H0").stdout == ""


def test_an_agent_goes_when_its_input_ends(deep: Deep) -> None:
    trial = deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 100))
    deep.order(trial, trace=TRACE, rate=0.01)
    for one in deep.agents.values():
        one.process.stdin.close()
        assert one.end() == 0
    for node in ("n1", "n3"):
        assert deep.lab.run(node, "nft", "list", "tables").stdout == ""


@pytest.mark.parametrize("team", teams(), ids=lambda team: "-".join(team[0].split("/")[-3:]))
def test_it_runs_under_every_python(
    lab4: Lab, agent: Callable[..., Agent], team: list[str]
) -> None:
    """All nodes run another; with a rule to be found, and whatever else of a node can be read."""
    for node in ("n1", "n3"):
        load(lab4, [Rule(node, "input", f"{probe_match(HEALTH, Family.IPV4)} drop")])
        load(lab4, [Rule(node, "input", f"{probe_match(HEALTH, Family.IPV6)} drop")])
    deep = Deep(lab4, agent, pythons=[(python,) for python in team])
    ends = [("n1", "n3"), ("n3", "n1"), ("n2", "n4"), ("n4", "n2")]
    ways = list(product(ends, PROBES, FAMILIES))
    trials = [deep.trial(n, *e, p, flows(p, 2), f) for n, (e, p, f) in enumerate(ways)]
    told = deep.look(*trials, trace=TRACE, pcap=True)
    for number, ((_, destination), probe, _) in enumerate(ways):
        dropped = probe is HEALTH and destination in ("n1", "n3")
        clean = "slaA???" if probe is GENEVE else "slaAwrR"
        assert seen(told[number]) == ("sla----" if dropped else clean)
        assert len(told[number].hits) == dropped
    for report in deep.reports.values():
        assert report["node"]["failed"] == {}
    for one in deep.agents.values():
        one.process.stdin.close()
        assert one.end() == 0
