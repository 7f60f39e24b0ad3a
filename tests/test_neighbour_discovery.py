"""Nodes that are not found: who asks, who does not answer, which rule keeps it from that, and what
it explains of a matrix.
"""

from __future__ import annotations

import os
import shlex
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from typing import Any, NamedTuple

import pytest
import test_agent_kit as kit
from deepkit import TRACE, Deep, flows
from samples import DROPPED_ON_PATH, Fault, blocked, sample
from scenarios import Rule as Firewall
from scenarios import check, load
from test_agent_bpf import icmp, ip6, kernel
from test_agent_kit import Agent

from preflight.agent.deep.neighbours import (
    ENDING,
    IDLE,
    OURS,
    TURNING,
    Discovery,
    known,
    undisputed,
)
from preflight.agent.deep.shotfilter import ShotFilters
from preflight.agent.packets import ICMPV6, checksum
from preflight.agent.route import Route
from preflight.core.diagnosis.conclude import conclude
from preflight.core.diagnosis.conclusions import Diagnosis, NextHop
from preflight.core.diagnosis.trial import (
    ASKED,
    SEEKS,
    SOUGHT,
    Observed,
    Purpose,
    Rule,
    RuleHit,
    Shot,
    ShotError,
    Trial,
)
from preflight.core.findings import discovery
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import FamilyProbe, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import (
    GENEVE,
    HEALTH,
    Evidence,
    Family,
    Leg,
    Outcome,
    Phase,
    Place,
    Verdict,
)
from preflight.core.model import Cause as CellCause
from preflight.core.options import CheckOptions
from preflight.lab import Lab
from preflight.lab.topology import ROUTER, LabNode

agent = kit.agent
needs_lab = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
BOTH = (Family.IPV4, Family.IPV6)
V6 = Family.IPV6


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


# --- the agent: what its tap and its traces tell --------------------------------------------------

OWN, PEER, FAR = "2001:db8::11", "2001:db8::12", "2001:db8:1::11"
GATEWAY, ROUTERS_OWN, STRANGER = "2001:db8::1", "fe80::1", "2001:db8::bad"
OWN4, FAR4, GATEWAY4 = "192.0.2.11", "198.51.100.11", "192.0.2.1"
DEVICE, MAC = 7, bytes.fromhex("020000000001")


class End(NamedTuple):
    """As much of an agent's trial as it takes."""

    own: str
    far: str

    @property
    def family(self) -> int:
        return 6 if ":" in self.own else 4


class Ways:
    """Everything but the peer lies behind the gateway."""

    def to(self, family: int, far: str) -> Route:
        hop = far if far == PEER else GATEWAY if family == 6 else GATEWAY4
        return Route(DEVICE, packed(hop), b"", 1500)


def made(*ends: End) -> Discovery:
    out = Discovery(list(ends), Ways())  # type: ignore[arg-type]
    out.here = {packed(OWN)}
    return out


def nd(kind: int, source: str, destination: str, target: str) -> bytes:
    body = struct.pack("!BBHI", kind, 0, 0, 0) + packed(target)
    header = struct.pack("!IHBB", 6 << 28, len(body), ICMPV6, 255)
    return header + packed(source) + packed(destination) + body


def solicited(target: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, packed("ff02::1:ff00:0")[:13] + packed(target)[13:])


def question(asker: str, target: str = OWN) -> bytes:
    return nd(135, asker, solicited(target), target)


def answer(source: str, whom: str, target: str) -> bytes:
    return nd(136, source, whom, target)


def ended(packet: bytes) -> dict[str, Any]:
    """As a trace tells of it: with 20 bytes of its transport header."""
    ends = (socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24))
    source, destination = ends
    return {
        "protocol": packet[6], "transport": packet[40:60].hex(), "source": source,
        "destination": destination,
    }  # fmt: skip


ROUTED, LINK = End(OWN, FAR), End(OWN, PEER)
SILENT = {(DEVICE, packed(GATEWAY))}


@pytest.mark.parametrize(("end", "asker", "leg"), [
    (ROUTED, ROUTERS_OWN, ASKED),
    (ROUTED, GATEWAY, SOUGHT),
    (ROUTED, FAR, SOUGHT),  # whose route is another than ours to it
    (ROUTED, STRANGER, ""),
    (ROUTED, PEER, ""),
    (ROUTED, "::", ""),  # who asks whether an address is free
    (LINK, PEER, SOUGHT),
    (LINK, ROUTERS_OWN, ""),
    (LINK, GATEWAY, ""),
    (LINK, STRANGER, ""),
])  # fmt: skip
def test_only_who_brings_the_far_ends_packets_counts(end: End, asker: str, leg: str) -> None:
    for packet in (question(asker), answer(OWN, asker, OWN)):
        one = made(end)
        assert one.at_tap(question(asker), False)
        assert one.of_hit(ended(packet), set()) == ([(0, leg)] if leg else [])
        assert one.mute(0) is (leg == SOUGHT)


@pytest.mark.parametrize(("neighbours", "leg"), [
    ({ROUTERS_OWN: (b"", True)}, SOUGHT),  # it has said so itself
    ({GATEWAY: (MAC, True)}, SOUGHT),  # the same device asks
    ({GATEWAY: (MAC[::-1], True), ROUTERS_OWN: (MAC, False)}, ASKED),
    ({GATEWAY: (b"", False)}, ASKED),
])  # fmt: skip
def test_a_router_is_known_by_its_word_or_its_mac_address(
    neighbours: dict[str, tuple[bytes, bool]], leg: str
) -> None:
    one = made(ROUTED)
    one.neighbours = {packed(address): known for address, known in neighbours.items()}
    one.at_tap(question(ROUTERS_OWN) + b"\1\1" + MAC, False)
    assert one.of_hit(ended(question(ROUTERS_OWN)), set()) == [(0, leg)]


def test_the_kernels_neighbours() -> None:
    def entry(address: str, mac: bytes, flags: int) -> tuple[int, bytes]:
        body = struct.pack("=BxxxiHBB", socket.AF_INET6, DEVICE, 2, flags, 1)
        for number, value in ((1, packed(address)), (2, mac)):
            body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
        return 28, body

    entries = [entry(GATEWAY, MAC, 0x80), entry(PEER, MAC[::-1], 0), (3, b"")]
    assert known(entries) == {packed(GATEWAY): (MAC, True), packed(PEER): (MAC[::-1], False)}


def test_who_was_answered_once_has_found_us() -> None:
    """A rule that drops some of it only."""
    for whom in (ROUTERS_OWN, "ff02::1"):
        one = made(ROUTED)
        one.at_tap(question(ROUTERS_OWN), False)
        one.at_tap(answer(OWN, whom, OWN), True)
        assert one.of_hit(ended(question(ROUTERS_OWN)), set()) == []
        assert not one.mute(0)


def test_a_tap_that_lost_packets_has_not_seen_that_nobody_answered() -> None:
    one = made(ROUTED)
    one.at_tap(question(ROUTERS_OWN), False)
    one.blind = True
    assert one.of_hit(ended(question(ROUTERS_OWN)), set()) == []
    assert not one.mute(0)


@pytest.mark.parametrize("packet", [
    nd(135, OWN, solicited(GATEWAY), GATEWAY),
    nd(135, OWN, GATEWAY, GATEWAY),  # once more to a neighbour that was there
    answer(GATEWAY, OWN, GATEWAY),
])  # fmt: skip
def test_what_it_asks_counts_where_its_kernel_found_nobody(packet: bytes) -> None:
    one = made(ROUTED, LINK, End(OWN, "2001:db8:2::1"))
    assert one.of_hit(ended(packet), SILENT) == [(0, SEEKS), (2, SEEKS)]
    assert one.of_hit(ended(packet), set()) == []
    assert one.of_hit(ended(packet), {(DEVICE, packed(PEER))}) == []


def test_what_is_no_neighbour_discovery() -> None:
    one = made(ROUTED)
    echo = nd(128, ROUTERS_OWN, OWN, OWN)
    assert one.of_hit(ended(echo), set()) is None
    assert one.of_hit({**ended(question(GATEWAY)), "protocol": 17}, set()) is None
    assert not one.at_tap(echo, False)
    assert not one.at_tap(question(GATEWAY)[:63], False)
    one.at_tap(question(ROUTERS_OWN, PEER), False)  # about another
    assert not one.mute(0)


def arp(operation: int, sender: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + bytes(6) + packed(sender) + bytes(6) + packed(target)


def test_arp_that_nobody_answers() -> None:
    one = made(End(OWN4, FAR4))
    one.at_tap(arp(1, "192.0.2.99", OWN4), False)
    assert not one.mute(0)
    one.at_tap(arp(1, GATEWAY4, OWN4), False)
    assert one.mute(0)
    one.at_tap(arp(2, OWN4, GATEWAY4), True)
    assert not one.mute(0)
    assert one.marks() == []


def test_counters_are_asked_for_what_the_tap_saw() -> None:
    """A question may have ended on its way in, or its answer on the way out."""
    one = made(ROUTED)
    one.neighbours = {packed(ROUTERS_OWN): (MAC, True)}
    for phase, count in ((IDLE, 3), (TURNING, 1), (OURS, 2), (ENDING, 5)):
        one.phase = phase
        for _ in range(count):
            one.at_tap(question(ROUTERS_OWN), False)
    one.phase = OURS
    one.at_tap(answer(GATEWAY, OWN, GATEWAY), False)
    there, back, told = one.losses(SILENT)
    assert [(loss.leg, loss.trials, loss.lost.incoming) for loss in (there, back, told)] == [
        (SOUGHT, [0], True), (SOUGHT, [0], False), (SEEKS, [0], True)
    ]  # fmt: skip
    assert (there.lost.packets, there.lost.idle, there.lost.doubtful) == (2, 4, 6)
    assert there.lost.kind == 135
    assert (back.lost.source, back.lost.destination) == (OWN, ROUTERS_OWN)
    assert (told.lost.packets, told.lost.kind) == (1, 136)
    assert len(one.losses(set())) == 2


def test_what_counters_say_twice_is_not_known() -> None:
    one, other = (0, SOUGHT, 5, None), (0, SOUGHT, 6, None)
    probes = [(0, "forward", 5, 1), (0, "forward", 6, 1)]
    assert undisputed([one], []) == [one]
    assert undisputed([one, other, *probes], []) == probes
    assert undisputed([one, *probes], [other]) == probes


def test_the_filter_lets_up_what_is_about_these_neighbours() -> None:
    filters = ShotFilters([22], [], [], b"abcd", [packed(OWN), packed(OWN4)])
    about = struct.pack("!I", 0) + packed(OWN)
    with kernel(filters.tap()) as tap, kernel(filters.raw(ICMPV6, True)) as raw:
        for kind in (133, 134, 135, 136, 137):
            body = icmp(kind, b"")[:4] + about
            assert bool(tap(ip6(ICMPV6, body))) is (kind in (135, 136))
            assert not raw(body)
        assert not tap(ip6(ICMPV6, icmp(135, b"")[:4] + struct.pack("!I", 0) + packed(PEER)))
        assert tap(arp(1, GATEWAY4, OWN4))
        assert tap(arp(2, OWN4, GATEWAY4))
        assert not tap(arp(1, GATEWAY4, FAR4))
        assert not tap(arp(1, GATEWAY4, OWN4)[:20])


# --- the rule, on real nodes ----------------------------------------------------------------------


@contextmanager
def forgotten(lab: Lab, *names: str) -> Iterator[None]:
    """Nobody knows these nodes, and they know everybody: they give no occasion to learn of them."""
    try:
        forget(lab)
        for name in names:
            node = lab.node(name)
            for family, gate in enumerate(node.gateways):
                near = {str(gate.ip): _router_mac(lab, node)}
                near |= {n.addresses[family]: n.mac for n in lab.nodes if n.rack == node.rack}
                near.pop(node.addresses[family])
                for neighbour, mac in near.items():
                    lab.run(name, *f"ip neigh replace {neighbour} lladdr {mac} dev eth0".split(),
                            "nud", "permanent")  # fmt: skip
        yield
    finally:
        for name in names:
            lab.run(name, "ip", "neigh", "flush", "nud", "permanent", "dev", "eth0")
        forget(lab)


def forget(lab: Lab) -> None:
    """No neighbour is known to anybody but who knows it for ever."""
    for where in (ROUTER, *(node.name for node in lab.nodes)):
        lab.run(where, "ip", "neigh", "flush", "all")


def _router_mac(lab: Lab, node: LabNode) -> str:
    said = lab.run(ROUTER, "ip", "-o", "link", "show", f"rack-{node.rack}").stdout
    return said.partition("link/ether ")[2].split()[0]


ENDS = [
    # hook, what it drops, who is known by whom, source and destination, leg
    ("input", "nd-neighbor-solicit", "n3", ("n1", "n3"), SOUGHT),
    ("input", "nd-neighbor-solicit", "n3", ("n4", "n3"), SOUGHT),
    ("output", "nd-neighbor-advert", "n3", ("n1", "n3"), SOUGHT),
    ("input", "nd-neighbor-advert", "", ("n3", "n1"), SEEKS),
    ("output", "nd-neighbor-solicit", "", ("n3", "n4"), SEEKS),
]


@needs_lab
@pytest.mark.parametrize(("hook", "what", "mute", "ends", "leg"), ENDS)
def test_the_rule_that_ends_it_is_named(
    lab4: Lab,
    agent: Callable[..., Agent],
    hook: str,
    what: str,
    mute: str,
    ends: tuple[str, str],
    leg: str,
) -> None:
    deep = Deep(lab4, agent)
    load(lab4, [Firewall("n3", hook, f'icmpv6 type {what} drop comment "corp"')])
    with forgotten(lab4, *mute.split()):
        trials = [deep.trial(n, *ends, GENEVE, flows(GENEVE, 2), f) for n, f in enumerate(BOTH)]
        over4, over6 = deep.look(*trials, trace=TRACE, wait=1.0).values()
    hit = RuleHit(2, leg, frozenset(), over6.hits[0].rule)
    assert over6.hits == [hit]
    assert (hit.rule.comment, hit.rule.hook, hit.rule.sure) == ("corp", hook, True)
    assert over6.seen["arrived"] == 0
    assert (over6.mute, over6.neighbour_failed) == (
        ({2}, ends[0] == "n4") if leg == SOUGHT else (set(), True)
    )
    assert (over4.hits, over4.mute, over4.seen["arrived"]) == ([], set(), 0b11)


@needs_lab
def test_a_shot_is_sent_again_while_all_wait(lab4: Lab, agent: Callable[..., Agent]) -> None:
    """A kernel asks three times, a second apart, and then waits for another packet."""
    deep = Deep(lab4, agent)
    load(lab4, [Firewall(ROUTER, "forward", "udp dport 6081 drop")])
    one = replace(deep.trial(0, "n1", "n3", GENEVE, flows(GENEVE, 2), V6), again=1)
    told = deep.look(one, wait=0.7, pcap=True)[0]
    sent = [data for _, way, _, data in deep.reports[0]["pcap"] if way == "out"]
    assert sent[0] not in sent[1:]
    assert set(sent[1:]) == {sent[1]}
    assert len(sent) > 3
    assert told.seen["left"] == 0b11


# --- from end to end ------------------------------------------------------------------------------


def mended(lab: Lab, found: Sequence[Finding]) -> Matrix:
    """After all commands, and a moment for those who had given up."""
    for finding in found:
        for change in finding.changes:
            for command in change.commands:
                lab.run(change.node, "sh", "-ec", command)
    forget(lab)
    return check(lab, CheckOptions()).matrix


def all_open(matrix: Matrix) -> bool:
    return {cell.outcome.verdict for cell in matrix.cells()} == {Verdict.OPEN}


@needs_lab
def test_a_policy_that_forgot_it(lab4: Lab) -> None:
    """Over IPv4 probes and answers die there, over IPv6 nobody gets so far, at a router and on a
    link: one finding, and commands for all of it.
    """
    lab4.nft(
        "n3",
        "table inet corp {\nchain out {\ntype filter hook output priority 0; policy drop;\n"
        "tcp sport 22 accept\ntcp dport 22 accept\n}\n}\n",
    )
    with forgotten(lab4):
        before = check(lab4, CheckOptions())
    (one,) = before.findings
    assert (one.cause, one.nodes, one.cells) == (Cause.RULE, (2,), 33)
    assert one.title == (
        "n3 itself drops UDP 6081, TCP 4240, ICMP echo and ICMPv6 echo, and IPv6 neighbour "
        "discovery: nftables policy of chain inet corp out"
    )
    assert {kind.cause for kind in one.kinds} == {CellCause.DROPPED, CellCause.NO_NEIGHBOUR}
    assert {kind.place for kind in one.kinds} == set(Place)
    assert all_open(mended(lab4, before.findings))


@needs_lab
def test_two_nodes_that_are_not_found(lab4: Lab) -> None:
    """By rules of iptables' two kinds: what each hides, and what each of them does not."""
    rule = "INPUT -p ipv6-icmp --icmpv6-type 135 -j DROP"
    lab4.run("n3", *f"ip6tables -A {rule}".split())
    lab4.run("n1", *f"ip6tables-legacy -A {rule}".split())
    try:
        with forgotten(lab4, "n1", "n3"):
            before = check(lab4, CheckOptions())
            assert {(f.cause, f.nodes, f.cells) for f in before.findings} == {
                (Cause.RULE, (0,), 13), (Cause.RULE, (2,), 13)
            }  # fmt: skip
            tools = {f.nodes: f.diagnosis.hits[0].rule.tool for f in before.findings if f.diagnosis}
            assert tools == {(0,): "ip6tables-legacy", (2,): "ip6tables"}
            assert all("drops IPv6 neighbour discovery" in f.title for f in before.findings)
            assert all_open(mended(lab4, before.findings))
    finally:
        lab4.run("n1", "ip6tables-legacy", "-F")


@needs_lab
def test_rules_that_hide_nobody_are_not_accused(lab4: Lab) -> None:
    """One against a stranger, one against too many: the router asks, is answered, and drops."""
    load(lab4, [
        Firewall("n3", "input", "ip6 saddr fe80::bad icmpv6 type nd-neighbor-solicit counter drop"),
        Firewall("n3", "input", "icmpv6 type nd-neighbor-solicit limit rate over 1/minute burst 8 "
                 "packets drop"),
        Firewall(ROUTER, "forward", f"ip6 daddr {lab4.node('n3').addresses[1]} drop"),
    ])  # fmt: skip
    with forgotten(lab4, "n3"), asking(lab4, "fe80::bad", "n3"):
        (one,) = check(lab4, CheckOptions()).findings
    assert (one.cause, one.nodes, one.cells) == (Cause.NETWORK, (), 10)
    assert "counter packets 0" not in lab4.run("n3", "nft", "list", "ruleset").stdout


@contextmanager
def asking(lab: Lab, stranger: str, name: str) -> Iterator[None]:
    """Somebody in a node's rack asks for it all the while, and cannot be answered."""
    node = lab.node(name)
    end, ended = threading.Event(), threading.Event()
    packet = question(stranger, node.addresses[1])
    mac = bytes.fromhex(_router_mac(lab, node).replace(":", ""))

    def ask() -> None:
        device = f"rack-{node.rack}"
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((device, 0))
            group = b"\x33\x33" + packet[36:40]
            while not end.wait(0.02):
                raw.send(group + mac + b"\x86\xdd" + summed(packet))
        ended.set()

    lab.call(ROUTER, lambda: threading.Thread(target=ask, daemon=True).start())
    try:
        yield
    finally:
        end.set()
        assert ended.wait(10)


def summed(packet: bytes) -> bytes:
    """With its checksum, as the kernel takes no other."""
    body = packet[40:42] + bytes(2) + packet[44:]
    pseudo = packet[8:40] + struct.pack("!II", len(body), ICMPV6)
    return packet[:42] + struct.pack("!H", checksum(pseudo + body)) + packet[44:]


@needs_lab
def test_arp_that_a_node_does_not_answer_is_not_the_networks(lab4: Lab) -> None:
    lab4.nft("n3", "table arp corp {\nchain out {\ntype filter hook output priority 0; policy "
             "drop;\n}\n}\n")  # fmt: skip
    with forgotten(lab4, "n3"):
        (one,) = check(lab4, CheckOptions()).findings
    assert (one.cause, one.nodes, one.cells) == (Cause.NEIGHBOUR, (2,), 15)
    assert one.title == "n3 itself does not answer ARP for its own address"


# --- what a trial proves --------------------------------------------------------------------------

POLICY = Rule(
    "nft", "inet", "filter", "output", 0, 0, True, "policy drop", "", False, "output",
    (("inet", "filter", "output"),), True,
)  # fmt: skip
DROP = POLICY._replace(handle=4, policy=False, text="icmpv6 type nd-neighbor-solicit drop",
                       chain="input", hook="input")  # fmt: skip
SHOTS = tuple(Shot(Purpose.PLAIN, source_port=40000 + n, port=4240) for n in range(2))
ALL = 0b11
PATH = Kind(Verdict.BLOCKED, Leg.FORWARD, Place.PATH, CellCause.DROPPED, None)
UNSENT = PATH._replace(cause=CellCause.NO_NEIGHBOUR)
BACK = PATH._replace(leg=Leg.REPLY)
STUCK = BACK._replace(place=Place.DESTINATION)
LEFT = {"sent": ALL, "left": ALL, "arrived": 0, "accepted": 0}
CAME = {"sent": ALL, "left": ALL, "arrived": ALL, "accepted": ALL}
ANSWERED = {**CAME, "answered": ALL, "returned": 0, "received": 0}
NOT_ANSWERED = {**CAME, "answered": 0, "returned": 0, "received": 0}
NOT_LEFT = {"sent": ALL, "left": 0, "arrived": 0, "accepted": 0}
SOURCE, DESTINATION = "2001:db8:1::1", "2001:db8:2::2"


def hit(node: int, leg: str = SOUGHT, rule: Rule = DROP) -> RuleHit:
    return RuleHit(node, leg, frozenset(), rule)


def observed(seen: dict[str, int], *hits: RuleHit, **more: Any) -> Observed:
    one = Observed(Trial(0, 0, 1, 1, more.pop("family", V6), SHOTS), hits=list(hits), **more)
    one.seen.update(seen)
    one.source_address, one.destination_address = SOURCE, DESTINATION
    return one


def proved(one: Observed, kind: Kind, on_link: bool | None) -> list[tuple[int, str]]:
    told = conclude(one, HEALTH, kind, Phase.BEFORE, on_link=on_link)
    return [(hit.node, hit.leg) for hit in told.hits]


EITHER = tuple(hit(node, leg) for node in (0, 1) for leg in (SOUGHT, SEEKS))
HERE = {"gateway_back": SOURCE, "neighbour_failed_back": True}
NOWHERE = {"gateway_back": GATEWAY, "neighbour_failed_back": True}
LIES_WITH = [
    # the cell, on one link, what was seen, what else is known, who is to blame for it
    (PATH, False, LEFT, {}, {1}),
    (PATH, True, LEFT, {}, set()),  # what left on a link has found its neighbour
    (PATH, None, LEFT, {}, set()),
    (BACK, False, ANSWERED, {}, {0}),
    (BACK, True, ANSWERED, {}, set()),
    (UNSENT, False, NOT_LEFT, {"neighbour_failed": True}, {0}),  # it is a router it seeks
    (UNSENT, True, NOT_LEFT, {"neighbour_failed": True}, {0, 1}),
    (UNSENT, True, NOT_LEFT, {}, set()),
    (STUCK, False, NOT_ANSWERED, NOWHERE, {1}),
    (STUCK, True, NOT_ANSWERED, HERE, {0, 1}),
    (STUCK, True, NOT_ANSWERED, {}, set()),
]


@pytest.mark.parametrize(("kind", "on_link", "seen", "known", "guilty"), LIES_WITH)
def test_whom_a_loss_may_be_laid_to(
    kind: Kind, on_link: bool | None, seen: dict[str, int], known: dict[str, Any], guilty: set[int]
) -> None:
    assert {node for node, _ in proved(observed(seen, *EITHER, **known), kind, on_link)} == guilty


@pytest.mark.parametrize("leg", [SOUGHT, SEEKS])
def test_on_the_path_it_is_who_is_not_found(leg: str) -> None:
    """What the destination seeks itself has nothing to do with it."""
    assert proved(observed(LEFT, hit(1, leg)), PATH, False) == (
        [(1, SOUGHT)] if leg == SOUGHT else []
    )


NOT_FOUND, FORBIDDEN, TOO_FAR = (1, 3), (1, 1), (3, 0)


@pytest.mark.parametrize(("kind", "change", "errors", "proves"), [
    (PATH, {}, [NOT_FOUND], True),
    (PATH, {}, [TOO_FAR], True),
    (PATH._replace(cause=CellCause.REJECTED), {}, [NOT_FOUND], True),
    (PATH._replace(cause=CellCause.REJECTED), {}, [NOT_FOUND, FORBIDDEN], False),
    (PATH, {}, [FORBIDDEN], False),
    (PATH, {"arrived": 0b01}, [], False),  # who brought that one had found it
    (PATH, {"arrived": None}, [], False),
    (PATH, {"left": 0}, [], False),
    (PATH._replace(verdict=Verdict.LOSSY), {}, [], False),
    (PATH._replace(cause=CellCause.INTERCEPTED), {}, [], False),
    (PATH._replace(verdict=Verdict.OPEN, leg=None, place=None, cause=None), {}, [], False),
])  # fmt: skip
def test_what_speaks_against_it(
    kind: Kind, change: dict[str, int], errors: Sequence[tuple[int, int]], proves: bool
) -> None:
    one = observed({**LEFT, **change}, hit(1), mute={1})
    one.errors = [ShotError(0, GATEWAY, *error, 0) for error in errors]
    assert proved(one, kind, False) == ([(1, SOUGHT)] if proves else [])
    told = conclude(one, HEALTH, kind, Phase.BEFORE, on_link=False)
    assert told.mute_node == (1 if proves else None)


@pytest.mark.parametrize(("text", "proves"), [
    ("icmpv6 type nd-neighbor-solicit drop", True),
    ("policy drop", True),
    ("-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j DROP", True),
    ("ip6 saddr fe80::bad icmpv6 type nd-neighbor-solicit drop", False),
    ("icmpv6 type nd-neighbor-solicit limit rate over 5/second drop", False),
    ("ether saddr != 02:00:00:00:00:01 drop", False),
    ("ip6 saddr @strangers drop", False),
    ("-A INPUT -s fe80::bad/128 -p ipv6-icmp -j DROP", False),
    ("-A INPUT -p ipv6-icmp -m mac --mac-source 02:00:00:00:00:09 -j DROP", False),
    ("-A INPUT -p ipv6-icmp -m limit --limit 1/sec -j DROP", False),
])  # fmt: skip
def test_whoever_it_was_that_asked(text: str, proves: bool) -> None:
    """Somebody who may be the router; a rule that knows no difference ends the router's as well."""
    one = observed(LEFT, hit(1, ASKED, DROP._replace(text=text)))
    assert proved(one, PATH, False) == ([(1, SOUGHT)] if proves else [])
    sure = observed(LEFT, hit(1, SOUGHT, DROP._replace(text=text)))
    assert proved(sure, PATH, False) == [(1, SOUGHT)]


def test_a_rule_that_ends_probes_explains_what_else_it_ends_and_nothing_more() -> None:
    seen = {"sent": 0, "left": 0, "arrived": 0, "accepted": 0}
    own = RuleHit(0, "forward", frozenset({0, 1}), POLICY)
    kind = PATH._replace(place=Place.SOURCE)
    one = observed(seen, own, hit(0, SOUGHT, POLICY), hit(0, SEEKS), hit(1))
    assert proved(one, kind, False) == [(0, "forward"), (0, SOUGHT)]


def test_over_ipv4_it_is_who_does_not_answer() -> None:
    one = observed(LEFT, mute={1}, family=Family.IPV4)
    assert conclude(one, HEALTH, PATH, Phase.BEFORE, on_link=False).mute_node == 1
    one.errors = [ShotError(0, GATEWAY4, 3, 13, 0)]
    assert conclude(one, HEALTH, PATH, Phase.BEFORE, on_link=False).mute_node is None
    one = observed(LEFT, mute={0}, family=Family.IPV4)
    assert conclude(one, HEALTH, PATH, Phase.BEFORE, on_link=False).mute_node is None


# --- findings -------------------------------------------------------------------------------------

NO_NEIGHBOUR = blocked(Place.PATH, cause=CellCause.NO_NEIGHBOUR, evidence=Evidence(20, 0, 0, 0))
NO_ANSWER = blocked(Place.DESTINATION, Leg.REPLY)
LOST_BACK = blocked(Place.PATH, Leg.REPLY)
UNFOUND = [
    Fault(DROPPED_ON_PATH, "rack=a", "n3", family=V6),
    Fault(NO_NEIGHBOUR, "n4", "n3", family=V6),
    Fault(LOST_BACK, "n3", "rack=a", "health,echo", V6),
    Fault(NO_ANSWER, "n3", "n4", "health,echo", V6),
]


def told(matrix: Matrix, *looks: Looked) -> list[Finding]:
    """Each look for all groups that have its cell."""
    bad = groups(matrix)
    own = {
        i: [
            look
            for look in looks
            if look.test in group.tests
            and (look.source in group.sources and look.destination in group.destinations)
        ]
        for i, group in enumerate(bad)
    }
    return findings(matrix, bad, own)


def looked(source: int, destination: int, *hits: RuleHit, probe: int = 1, **more: Any) -> Looked:
    test = FamilyProbe(probe, more.pop("family", V6))
    return Looked(source - 1, destination - 1, Diagnosis(hits=hits, **more), test)


def node(number: int, leg: str = SOUGHT, rule: Rule = DROP) -> RuleHit:
    return hit(number - 1, leg, rule)


def test_all_that_one_node_hides_is_one_finding() -> None:
    matrix = sample(4, 2, UNFOUND, families=BOTH).matrix
    looks = [looked(*ends, node(3)) for ends in ((1, 3), (4, 3), (3, 1), (3, 4))]
    (one,) = told(matrix, *looks)
    assert (one.cause, one.nodes, one.cells) == (Cause.RULE, (2,), 15)
    assert one.title == (
        'n3 itself drops IPv6 neighbour discovery: nftables rule "icmpv6 type nd-neighbor-solicit '
        'drop" (inet filter input handle 4)'
    )
    assert "can send it nothing over IPv6" in one.evidence[0]
    (change,) = one.changes
    assert (change.node, change.tool) == ("n3", "nft")
    assert change.commands == (
        "nft insert rule inet filter input position 4 "
        + shlex.quote(
            "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept comment "
            '"IPv6 neighbour discovery"'
        ),
    )
    assert one.requests == ()


def test_a_rule_for_icmpv6_ends_echo_and_discovery_and_not_udp() -> None:
    """UDP and TCP over IPv6 die for want of a neighbour."""
    matrix = sample(4, 2, [
        Fault(NO_NEIGHBOUR, "n3", "*", family=V6),
        Fault(NO_ANSWER, "*", "n3", "health", V6),
        Fault(blocked(Place.DESTINATION), "*", "n3", "echo", V6),
    ], families=(Family.IPV6,)).matrix  # fmt: skip
    rule = DROP._replace(text="-A INPUT -p ipv6-icmp -j DROP", handle=7)
    unfound = node(3, SEEKS, rule)
    own = RuleHit(2, "forward", frozenset({1}), rule)
    (one,) = told(matrix, *(looked(3, 1, unfound, probe=n) for n in range(3)),
                  looked(1, 3, unfound), looked(1, 3, own, probe=2))  # fmt: skip
    assert one.title.startswith("n3 itself drops ICMPv6 echo, and IPv6 neighbour discovery: ")


def test_the_same_policy_over_ipv4_is_the_same_finding() -> None:
    faults = [*UNFOUND[:2], Fault(blocked(Place.SOURCE), "n3", "*")]
    matrix = sample(4, 2, faults, families=BOTH).matrix
    own = RuleHit(2, "forward", frozenset({1}), POLICY)
    looks = [
        looked(1, 3, node(3, rule=POLICY)), looked(4, 3, node(3, rule=POLICY)),
        looked(3, 1, own), looked(3, 1, own, family=Family.IPV4),
    ]  # fmt: skip
    (one,) = told(matrix, *looks)
    assert one.nodes == (2,)
    assert "ICMPv6 echo, and IPv6 neighbour discovery: nftables policy of chain inet" in one.title
    commands = " ".join(one.changes[0].commands)
    assert "nd-neighbor-solicit" in commands
    # What it would end of X → n3 once that comes so far: the answers.
    assert "icmpv6 type echo-reply" in commands
    own = own._replace(rule=DROP._replace(text="drop", handle=7))
    other = told(matrix, *looks[:2], looked(3, 1, own), looked(3, 1, own, family=Family.IPV4))
    assert {f.title.partition(":")[0] for f in other} == {
        "n3 itself drops IPv6 neighbour discovery",
        "n3 itself drops UDP 6081, TCP 4240, ICMP echo and ICMPv6 echo",
    }


@pytest.mark.parametrize(
    ("text", "also"),
    [
        ("meta l4proto ipv6-icmp drop", {"echo-request", "echo-reply"}),
        ("ip6 nexthdr ipv6-icmp counter packets 3 bytes 9 drop", {"echo-request", "echo-reply"}),
        ('meta l4proto ipv6-icmp reject comment "x"', {"echo-request", "echo-reply"}),
        ("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop", set()),
        ("meta l4proto ipv6-icmp limit rate over 9/second drop", set()),
    ],
)
def test_a_rule_that_ends_all_of_icmpv6_ends_echoes_and_answers_too(
    text: str, also: set[str]
) -> None:
    """They come so far only once neighbours are found."""
    matrix = sample(4, 2, UNFOUND, families=BOTH).matrix
    rule = DROP._replace(text=text)
    looks = [looked(*ends, node(3, rule=rule)) for ends in ((1, 3), (4, 3), (3, 1), (3, 4))]
    (one,) = told(matrix, *looks)
    said = " ".join(one.changes[0].commands)
    assert {name for name in ("echo-request", "echo-reply") if name in said} == also
    assert "6081" not in said
    without = [
        Fault(DROPPED_ON_PATH, "rack=a", "n3", "geneve,health", V6),
        Fault(NO_NEIGHBOUR, "n4", "n3", "geneve,health", V6),
        Fault(LOST_BACK, "n3", "rack=a", "health", V6),
        Fault(NO_ANSWER, "n3", "n4", "health", V6),
    ]
    found = told(sample(4, 2, without, probes=(GENEVE, HEALTH), families=BOTH).matrix, *looks)
    said = " ".join(c for one in found for change in one.changes for c in change.commands)
    assert "nd-neighbor-solicit" in said
    assert "echo" not in said


def test_what_else_is_lost_on_the_path_is_not_the_nodes() -> None:
    """Over IPv6 the network drops all of rack a to rack b, and n3 is not found besides."""
    faults = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b"), UNFOUND[2]]
    matrix = sample(4, 2, faults, families=BOTH).matrix
    looks = (looked(1, 3, node(3)), looked(3, 1, node(3)), looked(1, 4))
    found = {f.where: f for f in told(matrix, *looks, looked(1, 3, family=BOTH[0]))}
    own = found.pop("rack=a → n3 (UDP 6081); rack=a ↔ n3 (TCP 4240 and ICMPv6 echo)")
    assert (own.cause, own.cells, own.nodes) == (Cause.RULE, 10, (2,))
    assert {test.family for test in own.tests} == {V6}
    assert {(f.cause, where, f.cells) for where, f in found.items()} == {
        (Cause.NETWORK, "rack=a → rack=b", 12), (Cause.NETWORK, "rack=a → n4", 6)
    }  # fmt: skip


def rejected(by: str) -> Outcome:
    return blocked(Place.PATH, cause=CellCause.REJECTED, rejected_by=by)


def test_no_shape_lays_ipv4_or_the_networks_own_to_it() -> None:
    both = [
        Fault(rejected("198.51.100.1"), "rack=a", "n3", family=BOTH[0]),
        Fault(rejected(GATEWAY), "rack=a", "n3", family=V6),
        UNFOUND[2],
    ]
    matrix = sample(4, 2, both, families=BOTH).matrix
    looks = [looked(1, 3, node(3)), looked(3, 1, node(3)), looked(1, 3, family=BOTH[0])]
    found = told(matrix, *looks)
    assert {(f.cause, f.cells) for f in found} == {(Cause.RULE, 10), (Cause.NETWORK, 6)}
    between = [
        Fault(rejected(GATEWAY), f"rack={a}", f"rack={b}", family=V6)
        for a, b in permutations("abc", 2)
    ]
    between.append(Fault(DROPPED_ON_PATH, "rack=a", "rack=b", family=V6))
    matrix = sample(6, 3, between, families=BOTH).matrix
    found = told(matrix, looked(1, 3, node(3)), looked(2, 4, node(4)), looked(1, 5))
    assert {(f.cause, f.cells) for f in found} == {(Cause.RULE, 12), (Cause.NETWORK, 60)}


def test_a_packet_of_another_probe_that_got_there_proves_that_it_was_found() -> None:
    """A rule that drops what exceeds a rate, on a node with open cells."""
    for fault in (
        Fault(DROPPED_ON_PATH, "rack=a", "n3", "geneve", V6),
        Fault(DROPPED_ON_PATH, "rack=a", "n3", "geneve,health", V6),
    ):
        matrix = sample(4, 2, [fault], families=BOTH).matrix
        (one,) = told(matrix, looked(1, 3, node(3), probe=0, mute_node=2))
        assert (one.cause, one.nodes) == (Cause.NETWORK, ())
        assert one.requests
    back = [
        Fault(DROPPED_ON_PATH, "rack=a", "n3", family=V6),
        Fault(None, "n3", "rack=a", "geneve", V6),
    ]  # fmt: skip
    matrix = sample(4, 2, back, families=BOTH).matrix
    assert told(matrix, looked(1, 3, node(3)))[0].cause is Cause.NETWORK  # echoes of n3 come back


def test_a_fleet_with_one_baseline() -> None:
    everywhere = [Fault(NO_NEIGHBOUR, family=V6)]
    matrix = sample(6, 1, everywhere, families=BOTH).matrix
    looks = [looked(2, 1, node(1)), looked(1, 2, node(2))]
    (one,) = told(matrix, *looks)
    assert one.title.startswith("n1, n2: each node itself drops IPv6 neighbour discovery: ")
    assert one.cells == 90
    assert "n3" in one.advice  # needs the same change
    # One alone speaks for itself; and one that was found to be another's case is left out.
    alone = told(matrix, looks[0])
    assert [(f.cause, f.cells) for f in alone] == [(Cause.NEIGHBOUR, 75), (Cause.RULE, 15)]
    cleared = told(matrix, *looks, looked(4, 3))
    assert {(f.cause, f.cells) for f in cleared} == {(Cause.RULE, 60), (Cause.NEIGHBOUR, 30)}


def test_two_nodes_are_two_findings() -> None:
    faults = [
        Fault(DROPPED_ON_PATH, "rack=a", "rack=b", family=V6),
        Fault(LOST_BACK, "rack=b", "rack=a", "health,echo", V6),
    ]
    matrix = sample(4, 2, faults, families=BOTH).matrix
    other = DROP._replace(handle=9, text="meta l4proto ipv6-icmp drop")
    looks = [looked(*ends, node(3)) for ends in ((1, 3), (3, 1))]
    looks += [looked(*ends, node(4, rule=other)) for ends in ((2, 4), (4, 1))]
    first, second = told(matrix, *looks)
    assert {(f.cause, f.nodes, f.cells) for f in (first, second)} == {
        (Cause.RULE, (2,), 10), (Cause.RULE, (3,), 10)
    }  # fmt: skip


def test_who_does_not_answer_is_named_without_a_rule() -> None:
    matrix = sample(4, 2, [replace(f, family=BOTH[0]) for f in UNFOUND], families=BOTH).matrix
    ends = ((1, 3), (4, 3), (3, 1), (3, 4))
    (one,) = told(matrix, *[looked(*e, mute_node=2, family=BOTH[0]) for e in ends])
    assert (one.cause, one.nodes, one.cells) == (Cause.NEIGHBOUR, (2,), 15)
    assert one.title == "n3 itself does not answer ARP for its own address"
    assert one.requests == ()
    assert "arptables" in one.advice


def test_a_silent_next_hop_names_nobody() -> None:
    """Its node's answers do not leave either, and that is not its firewall."""
    faults = [Fault(NO_NEIGHBOUR, "n3", "*"), Fault(NO_ANSWER, "*", "n3", "health,echo")]
    matrix = sample(4, 1, faults).matrix
    first = looked(3, 1, family=BOTH[0])
    (one,) = told(matrix, first, looked(1, 3, stuck_back=True, family=BOTH[0]))
    assert (one.cause, one.nodes, one.cells) == (Cause.NEIGHBOUR, (), 15)
    alone = sample(4, 1, faults[1:]).matrix
    (one,) = told(alone, looked(1, 3, stuck_back=True, family=BOTH[0]))
    assert (one.cause, one.nodes) == (Cause.NEIGHBOUR, ())
    assert one.title.startswith("all → n3: the destination's next hop for answers does not answer")
    assert one.advice.startswith("n3: ")
    (one,) = told(alone, looked(1, 3, family=BOTH[0]))
    assert one.cause is Cause.NODE_FIREWALL


def test_a_silent_next_hop_is_named_with_its_device() -> None:
    faults = [Fault(NO_NEIGHBOUR, "n3", "*"), Fault(NO_NEIGHBOUR, "n2", "n4")]
    matrix = sample(4, 1, [replace(f, family=BOTH[0]) for f in faults], families=BOTH).matrix
    far = NextHop(2, "10.9.9.9", "bond0.7")
    near = NextHop(1, matrix.nodes[3].address, "")
    first, second = told(
        matrix,
        looked(3, 1, next_hop=far, family=BOTH[0]),
        looked(2, 4, next_hop=near, family=BOTH[0]),
    )
    assert first.title == "n3 → all: the next hop 10.9.9.9 on bond0.7 does not answer ARP"
    assert "`ip neigh show 10.9.9.9 dev bond0.7`" in first.advice
    assert second.title == f"n2 → n4: the next hop {near.address} (n4) does not answer ARP"


# --- the change -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "family", "says"), [
    ("nft", "ip6", "nft add rule ip6 filter output 'icmpv6 type { nd-"),
    ("ip6tables", "ip6", "ip6tables -w -t filter -A output -p ipv6-icmp --icmpv6-type 135 "),
    ("ip6tables-legacy", "ip6", "ip6tables-legacy -w -t filter -A output -p ipv6-icmp --icmpv6-"),
])  # fmt: skip
def test_in_each_tools_words(tool: str, family: str, says: str) -> None:
    done = discovery.mend("n3", POLICY._replace(tool=tool, family=family))
    (change,) = done.changes
    assert change.commands[0].startswith(says)
    assert len(change.commands) == (1 if tool == "nft" else 2)
    assert change.tool == tool.removesuffix("-legacy")
    assert change.persist


@pytest.mark.parametrize(("change", "says"), [
    ({"table": "firewalld", "chain": "filter_IN_drop", "hook": "input"}, "allow-host-ipv6"),
    ({"tool": "ip6tables", "chain": "ufw6-user-input"}, "/etc/ufw/before6.rules"),
    ({"tool": "ip6tables", "chain": "cali-from-host"}, "GlobalNetworkPolicy"),
    ({"sure": False}, "one of several rules"),
    ({"text": "", "policy": False}, "could not be read"),
    ({"chain": "in;reboot"}, "accept IPv6 neighbour discovery"),
    ({"policy": False}, "accept IPv6 neighbour discovery"),  # without a handle
])  # fmt: skip
def test_where_there_are_only_words(change: dict[str, Any], says: str) -> None:
    done = discovery.mend("n3", POLICY._replace(**change))
    assert done.changes == ()
    assert says in " ".join(done.advice)


@pytest.mark.parametrize(("text", "all_of_it"), [
    ("drop", True),
    ("counter packets 1 bytes 2 drop", True),
    ('counter log prefix "in: " drop comment "the rest"', True),
    ("reject with icmpx admin-prohibited", True),
    ("-A INPUT -j DROP", True),
    ("-A INPUT -m comment --comment rest -j REJECT --reject-with icmp6-port-unreachable", True),
    ("icmpv6 type nd-neighbor-solicit drop", False),
    ("meta l4proto ipv6-icmp drop", False),
    ("-A INPUT -p ipv6-icmp -j DROP", False),
    ("ct state invalid drop", False),
])  # fmt: skip
def test_what_ends_all_will_end_probes_too(text: str, all_of_it: bool) -> None:
    assert discovery.ends_all(POLICY._replace(policy=False, text=text)) is all_of_it
    assert discovery.ends_all(POLICY)
