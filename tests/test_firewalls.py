"""Real firewalls at every place, on both legs: the verdict, its place, its cause, its rejecter.

A row of `FAULTS` is one rule; each is tried with every probe it can meet, over both families.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from scenarios import (
    ANSWERED,
    NOT_LISTENING,
    Fault,
    Rule,
    Spot,
    Told,
    address,
    assert_matrix,
    blocked,
    check,
    gateway,
    ip_commands,
    load,
    place_faults,
    spots,
)
from scenarios_actors import Packet, listening, udp_payloads, witness

from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Inventory,
    Leg,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
)
from preflight.core.options import CheckOptions
from preflight.lab import Lab, topology
from preflight.lab.topology import ROUTER

DROPPED, REJECTED = Cause.DROPPED, Cause.REJECTED
SOURCE, PATH, DESTINATION = Place.SOURCE, Place.PATH, Place.DESTINATION
FORWARD, REPLY = Leg.FORWARD, Leg.REPLY
PROHIBITED = "reject with icmpx admin-prohibited"
RESET = "reject with tcp reset"

FAULTS = (
    Fault("the source's OUTPUT drops it", "source", "output", FORWARD, "drop", SOURCE, DROPPED),
    Fault(
        "the source's POSTROUTING drops it",
        "source", "postrouting", FORWARD, "drop", SOURCE, DROPPED,
    ),
    Fault(
        "the source's device drops it on the way out, after its kernel has taken it",
        "source", "egress", FORWARD, "drop", SOURCE, DROPPED,
    ),
    Fault(
        "the source's OUTPUT rejects it with a port unreachable to itself",
        "source", "output", FORWARD, "reject", SOURCE, REJECTED, "source",
    ),
    Fault(
        "the source's OUTPUT rejects it as prohibited",
        "source", "output", FORWARD, PROHIBITED, SOURCE, REJECTED, "source",
    ),
    Fault(
        "the source's OUTPUT rejects it with an RST in the destination's name",
        "source", "output", FORWARD, RESET, SOURCE, REJECTED, None, (HEALTH,),
    ),
    Fault("the router's FORWARD drops it", "router", "forward", FORWARD, "drop", PATH, DROPPED),
    Fault(
        "the router drops it before it routes it",
        "router", "prerouting", FORWARD, "drop", PATH, DROPPED,
    ),
    Fault(
        "the router's FORWARD rejects it with a port unreachable",
        "router", "forward", FORWARD, "reject", PATH, REJECTED, "router",
    ),
    Fault(
        "the router's FORWARD rejects it as prohibited",
        "router", "forward", FORWARD, PROHIBITED, PATH, REJECTED, "router",
    ),
    Fault(
        "the router's FORWARD rejects it with an RST in the destination's name",
        "router", "forward", FORWARD, RESET, PATH, REJECTED, None, (HEALTH,),
    ),
    Fault(
        "the switch between two nodes of one rack drops it",
        "switch", "bridge forward", FORWARD, "drop", PATH, DROPPED,
    ),
    Fault(
        "the destination's device drops it on the way in",
        "destination", "ingress", FORWARD, "drop", DESTINATION, DROPPED,
    ),
    Fault(
        "the destination's raw PREROUTING drops it",
        "destination", "prerouting", FORWARD, "drop", DESTINATION, DROPPED,
    ),
    Fault(
        "the destination's INPUT drops it",
        "destination", "input", FORWARD, "drop", DESTINATION, DROPPED,
    ),
    Fault(
        "the destination's INPUT rejects it with a port unreachable, as a closed port would",
        "destination", "input", FORWARD, "reject", DESTINATION, REJECTED, "destination",
    ),
    Fault(
        "the destination's INPUT rejects it as prohibited",
        "destination", "input", FORWARD, PROHIBITED, DESTINATION, REJECTED, "destination",
    ),
    Fault(
        "the destination's INPUT rejects it with an RST, as a closed port would",
        "destination", "input", FORWARD, RESET, DESTINATION, REJECTED, "destination", (HEALTH,),
    ),
    Fault(
        "the destination's OUTPUT drops its answer",
        "destination", "output", REPLY, "drop", DESTINATION, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the destination's OUTPUT rejects its answer, which it alone is told",
        "destination", "output", REPLY, "reject", DESTINATION, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the destination's device drops its answer on the way out",
        "destination", "egress", REPLY, "drop", DESTINATION, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the router's FORWARD drops the answer",
        "router", "forward", REPLY, "drop", PATH, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the router's FORWARD rejects the answer, which the destination is told",
        "router", "forward", REPLY, PROHIBITED, PATH, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the switch between two nodes of one rack drops the answer",
        "switch", "bridge forward", REPLY, "drop", PATH, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the source's device drops the answer on the way in",
        "source", "ingress", REPLY, "drop", SOURCE, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the source's raw PREROUTING drops the answer",
        "source", "prerouting", REPLY, "drop", SOURCE, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the source's INPUT drops the answer",
        "source", "input", REPLY, "drop", SOURCE, DROPPED, None, ANSWERED,
    ),
    Fault(
        "the source's INPUT rejects the answer",
        "source", "input", REPLY, "reject", SOURCE, DROPPED, None, ANSWERED,
    ),
)  # fmt: skip
ROUNDS = place_faults(topology.plan("rounds").nodes, FAULTS)


@pytest.mark.lab
@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_place_leg_cause_and_rejecter_are_told(lab4: Lab, number: int) -> None:
    expected: dict[Spot, Told] = {}
    why: dict[Spot, str] = {}
    rules: list[Rule] = []
    for placed in ROUNDS[number]:
        source, destination = lab4.node(placed.source.name), lab4.node(placed.destination.name)
        for family in Family:
            spot = Spot(source.name, destination.name, placed.probe.name, family)
            rules.append(placed.fault.rule(source, destination, placed.probe, family))
            expected[spot] = placed.fault.told(source, destination, family)
            why[spot] = placed.fault.sentence
    load(lab4, rules)
    with ExitStack() as stack:
        everybody = [node.name for node in lab4.nodes]
        if number % 3:  # then a SYN-ACK is the true answer
            stack.enter_context(listening(lab4, *everybody))
        if number % 3 == 2:  # and 6081 has an owner
            stack.enter_context(tunnels(lab4, 6081, *everybody))
        phase = Phase.AFTER if number % 3 == 2 else Phase.BEFORE
        assert_matrix(check(lab4, CheckOptions(phase=phase)), expected, why)


# --- iptables, old and new ---------------------------------------------------------------------

IPTABLES = (
    # (where, chain, rule, source, destination, probe, place, cause, who rejects)
    ("n1", "OUTPUT", "-d {d} {probe} -j DROP", "n1", "n3", GENEVE, SOURCE, DROPPED, None),
    ("n1", "OUTPUT", "-d {d} {probe} -j REJECT", "n1", "n4", ECHO, SOURCE, REJECTED, "n1"),
    (ROUTER, "FORWARD", "-s {s} -d {d} {probe} -j DROP", "n2", "n4", HEALTH, PATH, DROPPED, None),
    (
        ROUTER, "FORWARD", "-s {s} -d {d} {probe} -j REJECT",
        "n4", "n2", GENEVE, PATH, REJECTED, ROUTER,
    ),
    ("n2", "INPUT", "-s {s} {probe} -j DROP", "n1", "n2", GENEVE, DESTINATION, DROPPED, None),
    ("n1", "INPUT", "-s {s} {probe} -j REJECT", "n2", "n1", GENEVE, DESTINATION, REJECTED, "n1"),
    (
        "n3", "INPUT", "-s {s} {probe} -j REJECT --reject-with tcp-reset",
        "n2", "n3", HEALTH, DESTINATION, REJECTED, "n3",
    ),
    ("n1", "INPUT", "-s {s} {probe} -j REJECT", "n3", "n1", ECHO, DESTINATION, REJECTED, "n1"),
)  # fmt: skip


@contextmanager
def iptables(lab: Lab, backend: str, rules: list[tuple[Family, str, str]]) -> Iterator[None]:
    """(family, where, rule) in the filter tables of one backend, and nothing of them afterwards."""
    tools = {Family.IPV4: f"iptables-{backend}", Family.IPV6: f"ip6tables-{backend}"}
    try:
        for family, where, rule in rules:
            lab.run(where, tools[family], "-w", "-A", *rule.split())
        yield
    finally:
        for family, where in {(family, where) for family, where, _ in rules}:
            lab.run(where, tools[family], "-w", "-F")


@pytest.mark.lab
@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_iptables_rules_are_told_as_nftables_ones_are(lab4: Lab, backend: str) -> None:
    rules: list[tuple[Family, str, str]] = []
    expected: dict[Spot, Told] = {}
    why: dict[Spot, str] = {}
    for where, chain, rule, source, destination, probe, place, cause, rejecter in IPTABLES:
        for family in Family:
            s, d = lab4.node(source), lab4.node(destination)
            senders = {n.name: address(n, family) for n in lab4.nodes}
            senders[ROUTER] = gateway(s, family)
            text = rule.format(
                s=address(s, family), d=address(d, family), probe=in_iptables(probe, family)
            )
            rules.append((family, where, f"{chain} {text}"))
            spot = Spot(source, destination, probe.name, family)
            expected[spot] = blocked(FORWARD, place, cause, rejecter and senders[rejecter])
            why[spot] = f"{where} {chain} {text}"
    with iptables(lab4, backend, rules):
        assert_matrix(check(lab4), expected, why)


def in_iptables(probe: Probe, family: Family) -> str:
    """A probe's packets in iptables' words."""
    if probe.protocol is Protocol.ICMP:
        if family is Family.IPV4:
            return "-p icmp --icmp-type echo-request"
        return "-p icmpv6 --icmpv6-type echo-request"
    return f"-p {probe.protocol} --dport {probe.port}"


# --- firewalls with a memory -------------------------------------------------------------------

# ARP is not of the inet family, its successor in IPv6 is.
NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
ANOTHER = Probe("another", ProbeKind.UDP, Protocol.UDP, 6082, Severity.RECOMMENDED)
REPLIES = "ct state established,related accept"


@pytest.mark.lab
def test_what_a_stateful_firewall_lets_back_in_is_told_from_what_is_new(lab4: Lab) -> None:
    """The router lets rack a open connections to rack b, not the other way round; n2 takes ssh.

    GENEVE has no replies: what comes the other way is a new flow.
    """
    load(
        lab4,
        [
            Rule(ROUTER, "forward", REPLIES),
            Rule(ROUTER, "forward", 'iifname "rack-a" oifname "rack-b" ct state new accept'),
            Rule(ROUTER, "forward", 'iifname "rack-b" oifname "rack-a" drop'),
            Rule("n2", "input", f"{REPLIES}"),
            Rule("n2", "input", NEIGHBOURS),
            Rule("n2", "input", "tcp dport 22 accept"),
            Rule("n2", "input", "drop"),
        ],
    )
    expected = dict.fromkeys(spots(lab4, "n1", "n2"), blocked(FORWARD, DESTINATION, DROPPED))
    expected |= dict.fromkeys(spots(lab4, "n3 n4", "n1 n2"), blocked(FORWARD, PATH, DROPPED))
    assert_matrix(check(lab4), expected)


@pytest.mark.lab
def test_firewalls_that_let_only_the_documented_traffic_pass_are_open(lab4: Lab) -> None:
    """Default drop everywhere, in and out: what EKS Anywhere's documents ask for, and no more."""

    def and_another(known: Inventory) -> Inventory:
        return replace(known, probes=(*known.probes, ANOTHER))

    allowed = (
        "ct state invalid drop",
        REPLIES,
        NEIGHBOURS,
        "udp dport 6081 accept",
        "tcp dport 4240 accept",
        "icmp type echo-request accept",
        "icmpv6 type echo-request accept",
        "drop",
    )
    chains = [(ROUTER, "forward")]
    chains += [(node.name, hook) for node in lab4.nodes for hook in ("input", "output")]
    chains += [(node.name, "prerouting") for node in lab4.nodes]
    reverse_path = ("fib saddr . iif oif missing drop",)
    load(
        lab4,
        [
            Rule(where, hook, text)
            for where, hook in chains
            for text in (reverse_path if hook == "prerouting" else allowed)
        ],
    )
    snapshot = check(lab4, among=and_another)
    undocumented = blocked(FORWARD, SOURCE, DROPPED)
    assert_matrix(snapshot, dict.fromkeys(spots(lab4, probes=(ANOTHER,)), undocumented))
    assert not snapshot.notes


# --- who serves the ports ----------------------------------------------------------------------

TUNNEL = "tunnel0"
VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
KERNEL_TAKES = {0x6558, 0x0800, 0x86DD}  # GENEVE protocol types


@contextmanager
def tunnels(lab: Lab, port: int, *where: str) -> Iterator[None]:
    """A kernel tunnel device on `port` that takes any VNI over both families, as Cilium's does.

    VXLAN stands in for GENEVE.
    """
    make = f"link add {TUNNEL} type vxlan external dstport {port}"
    commands = []
    for name in where:
        commands += [(name, make, f"link del {TUNNEL}"), (name, f"link set {TUNNEL} up", "")]
    with ip_commands(lab, *commands):
        yield


def came_out(lab: Lab, where: str) -> int:
    """How many packets the tunnel device of a node has handed to it."""
    (link,) = json.loads(lab.run(where, "ip", "-s", "-j", "link", "show", TUNNEL).stdout)
    return int(link["stats64"]["rx"]["packets"])


def send_udp(lab: Lab, where: str, payload: bytes, target: tuple[str, int]) -> None:
    """One datagram from a node."""
    with lab.call(where, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.sendto(payload, target)


def protocol_types(packets: list[Packet], kind: int = socket.PACKET_HOST) -> set[int]:
    """Of the GENEVE headers among `packets`."""
    return {int.from_bytes(p[2:4], "big") for p in udp_payloads(packets, 6081, kind)}


@pytest.mark.lab
def test_after_the_installation_ports_must_be_served_and_tunnels_are_left_in_peace(
    lab4: Lab,
) -> None:
    """n1 and n2 have a tunnel device on 6081, n1 and n3 a server on 4240, n4 has nothing."""
    with (
        tunnels(lab4, 6081, "n1", "n2"),
        listening(lab4, "n1", "n3"),
        witness(lab4, "n2") as seen,
    ):
        snapshot = check(lab4, CheckOptions(phase=Phase.AFTER))
    expected = dict.fromkeys(spots(lab4, "", "n3 n4", (GENEVE,)), NOT_LISTENING)
    expected |= dict.fromkeys(spots(lab4, "", "n2 n4", (HEALTH,)), NOT_LISTENING)
    assert_matrix(snapshot, expected)
    kinds = protocol_types(seen) | protocol_types(seen, socket.PACKET_OUTGOING)
    assert kinds
    assert not kinds & KERNEL_TAKES


@pytest.mark.lab
def test_before_the_installation_a_port_in_use_gets_inert_probes_only(lab4: Lab) -> None:
    """A check run by mistake on a live cluster: the tunnel devices of n1 and n4 hear none of it."""

    def and_vxlan(known: Inventory) -> Inventory:
        return replace(known, probes=(*known.probes, VXLAN))

    with (
        tunnels(lab4, 6081, "n1"),
        tunnels(lab4, 8472, "n4"),
        witness(lab4, "n1") as at_n1,
        witness(lab4, "n2") as at_n2,
        witness(lab4, "n4") as at_n4,
    ):
        snapshot = check(lab4, among=and_vxlan)
        assert came_out(lab4, "n1") == came_out(lab4, "n4") == 0
        not_inert = next(p for p in udp_payloads(at_n2, 8472) if p[0] & 8)
        send_udp(lab4, "n3", not_inert, (lab4.node("n4").addresses[0], 8472))
        assert came_out(lab4, "n4") == 1, "what n2 got, a tunnel device does hear"
    assert_matrix(snapshot, {})
    used = [note for note in snapshot.notes if "is in use" in note]
    assert len(used) == 2
    assert "UDP 6081 is in use on n1: " in used[0]
    assert "UDP 8472 is in use on n4: " in used[1]
    assert protocol_types(at_n1)
    assert not protocol_types(at_n1) & KERNEL_TAKES
    assert protocol_types(at_n2) == {0x6558}, "who has no tunnel gets what Cilium will send"
    probes_to_n4 = udp_payloads(at_n4, 8472)
    assert [p[0] & 8 for p in probes_to_n4] == [0] * (len(probes_to_n4) - 1) + [8]


@pytest.mark.lab
def test_a_server_on_the_health_port_before_the_installation_does_no_harm(lab4: Lab) -> None:
    with listening(lab4, "n1", "n4"):
        assert_matrix(check(lab4), {})
