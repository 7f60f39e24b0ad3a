"""Tokens, source ports and patched packets; scapy is the oracle for every byte of the last."""

import socket
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preflight.agent import packets
from preflight.agent.packets import (
    ICMP,
    ICMPV6,
    IDENT_MASK,
    TAG,
    TCP,
    TCP_PORTS,
    TOKEN,
    UDP,
    Patcher,
    Template,
    checksum,
    identification,
    run_ident,
    run_tag,
    tcp_ports,
    token_width,
    tokens,
    udp_ports,
)
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe, ProbeKind, Protocol, Severity
from preflight.craft.templates import template

KEYS = st.binary(min_size=32, max_size=32)
LOOKS = st.integers(1, 0xFFF0)
FAMILY_NUMBERS = st.sampled_from([4, 6])
PROBE_NUMBERS = st.integers(0, 255)
NODES = st.integers(0, 0xFFFF)
PAIRS = st.tuples(NODES, NODES)
COUNTS = st.integers(1, 64)
CELLS = st.tuples(KEYS, LOOKS, FAMILY_NUMBERS, PROBE_NUMBERS, PAIRS)

VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
PLAIN = Probe("wireguard", ProbeKind.UDP, Protocol.UDP, 51871, Severity.RECOMMENDED)
KUBELET = Probe("kubelet", ProbeKind.TCP, Protocol.TCP, 10250, Severity.REQUIRED)
PROBES = (GENEVE, HEALTH, ECHO, VXLAN, PLAIN, KUBELET)
ENDS = {
    Family.IPV4: ("192.0.2.1", "198.51.100.254"),
    Family.IPV6: ("2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe"),
}

# --- tokens --------------------------------------------------------------------------------------


@given(st.lists(CELLS, min_size=1, max_size=6, unique=True), COUNTS)
def test_no_two_probes_share_a_token(cells: list[Any], count: int) -> None:
    """Over keys, looks, families, probes, pairs and sequence numbers."""
    drawn = [token for cell in cells for token in tokens(*(*cell, count))]
    assert all(len(token) == TOKEN for token in drawn)
    assert len(set(drawn)) == len(cells) * count


@given(CELLS, st.integers(1, 63))
def test_a_token_is_its_probes_however_many_are_sent(cell: Any, count: int) -> None:
    assert tokens(*(*cell, count)) == tokens(*(*cell, 64))[:count]


@given(KEYS, LOOKS, FAMILY_NUMBERS, PROBE_NUMBERS, NODES, NODES)
def test_a_direction_has_its_own_tokens(
    key: bytes, look: int, family: int, probe: int, one: int, other: int
) -> None:
    there = tokens(key, look, family, probe, (one, other), 8)
    back = tokens(key, look, family, probe, (other, one), 8)
    assert one == other or not set(there) & set(back)


@given(st.lists(KEYS, min_size=2, max_size=2, unique=True))
def test_a_key_names_its_run(keys: list[bytes]) -> None:
    tags = {run_tag(key) for key in keys}
    assert len(tags) == 2
    assert all(len(tag) == TAG for tag in tags)
    assert all(0 < run_ident(key) <= 0xFFFF for key in keys)


@given(KEYS, LOOKS)
def test_the_identification_names_run_and_look(key: bytes, look: int) -> None:
    """The look by its last four bits; the kernel would replace a 0."""
    ident = run_ident(key)
    assert not ident & 0xF
    assert identification(ident, look) & IDENT_MASK == ident
    assert identification(ident, look) & 0xF == look & 0xF
    assert identification(ident, look) > 0


def test_a_syn_has_room_for_half_a_token() -> None:
    assert [token_width(p) for p in (UDP, TCP, ICMP, ICMPV6)] == [8, 4, 8, 8]


# --- ports ---------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(KEYS, FAMILY_NUMBERS, PROBE_NUMBERS, PAIRS, st.integers(1, 40))
def test_udp_ports(key: bytes, family: int, probe: int, pair: tuple[int, int], count: int) -> None:
    """Distinct, valid, none that a stateful firewall takes for a reply's; one is privileged."""
    ports = udp_ports(key, family, probe, pair, count)
    assert len(set(ports)) == count
    assert all(1 <= port <= 65535 for port in ports)
    assert not {4789, 6081, 8472} & set(ports)
    assert [port for port in ports if port < 1024] == ports[:1]
    assert udp_ports(key, family, probe, pair, count) == ports  # a flow is one flow in every look


@given(KEYS, FAMILY_NUMBERS, PROBE_NUMBERS, PAIRS, st.integers(8, 20))
@example(
    bytes.fromhex("27d30412b99278bac57d87da2478486aa16089bfa73f8d8ea6d52ff339cbacc2"),
    6,
    0,
    (44481, 1247),
    14,
)
def test_udp_ports_are_spread(
    key: bytes, family: int, probe: int, pair: tuple[int, int], count: int
) -> None:
    """Over the whole range, and over every residue that a link bundle may choose a member by."""
    ports = udp_ports(key, family, probe, pair, count)
    high = ports[1:]
    width = (65535 - 1024) // len(high)
    assert [(port - 1024) // width for port in high] == list(range(len(high)))
    for members in (2, 4, 8):
        assert {port % members for port in ports} == set(range(members))


@given(CELLS, st.integers(1, 16))
def test_tcp_ports(cell: Any, count: int) -> None:
    """Distinct, and above the default range of a node's own connections."""
    ports = tcp_ports(*(*cell, count))
    assert len(set(ports)) == count
    assert all(TCP_PORTS[0] <= port <= TCP_PORTS[1] for port in ports)


@given(KEYS, LOOKS, FAMILY_NUMBERS, PROBE_NUMBERS, PAIRS)
def test_a_later_look_leaves_from_other_tcp_ports(
    key: bytes, look: int, family: int, probe: int, pair: tuple[int, int]
) -> None:
    """At least most of the time: some firewalls drop a second SYN of one flow."""
    drawn = {tcp_ports(key, n, family, probe, pair, 1)[0] for n in range(look, look + 8)}
    assert len(drawn) > 1


# --- checksums -----------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, 0xFFFF))
def test_the_checksum_is_that_of_rfc_1071(data: bytes, start: int) -> None:
    total = start
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data, start) == ~total & 0xFFFF


# --- patched packets -----------------------------------------------------------------------------


@cache
def crafted(probe: Probe, family: Family, *, harmless: bool) -> Template:
    return Template.of(template(probe, family, harmless=harmless))


def patcher(template: Template, key: bytes, family: Family) -> tuple[Patcher, tuple[bytes, int]]:
    domain = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    source, target = (socket.inet_pton(domain, address) for address in ENDS[family])
    made = Patcher(template, run_tag(key), run_ident(key), source)
    return made, made.aim(target)


def dissect(data: bytes, family: Family):  # type: ignore[no-untyped-def]
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    return IP(data) if family is Family.IPV4 else IPv6(data)


def summed(data: bytes, family: Family) -> bytes:
    """The same packet with every checksum that scapy would give it; the IP header's is left.

    What UDP carries stays bytes: by the ports scapy would take it for VXLAN or DNS, and rewrite it.
    """
    from scapy.packet import Raw

    packet = dissect(data, family)
    if "UDP" in packet:
        packet["UDP"].payload = Raw(packet["UDP"].original[8:])
    for layer, field in (("UDP", "chksum"), ("TCP", "chksum"), ("ICMP", "chksum"),
                         ("ICMPv6 Echo Request", "cksum")):  # fmt: skip
        if layer in packet:
            delattr(packet[layer], field)
    if family is Family.IPV4:
        packet.chksum = 0
    return bytes(packet)


FORMS = [
    (probe, family, harmless) for probe in PROBES for family in Family for harmless in (False, True)
]


@pytest.mark.parametrize(("probe", "family", "harmless"), FORMS, ids=str)
@settings(max_examples=15, deadline=None)
@example(key=bytes(32), token=b"\xff" * 8, first=8472, size=1280)
@given(
    key=KEYS,
    token=st.one_of(st.binary(min_size=8, max_size=8), st.just(b"\xff" * 8), st.just(bytes(8))),
    first=st.integers(0, 65535),
    size=st.sampled_from([0, 1280, 1499, 1500, 9000, 65535]),
)
def test_patched_packets_are_whole(
    probe: Probe, family: Family, harmless: bool, key: bytes, token: bytes, first: int, size: int
) -> None:
    form = crafted(probe, family, harmless=harmless)
    token = token[: token_width(form.protocol)]
    if size:
        form = form.full(size)
    made, aim = patcher(form, key, family)
    made.patch(aim, 4242, bytes(reversed(token)))  # whatever was patched before leaves nothing
    data = bytes(made.patch(aim, first, token))
    packet = dissect(data, family)
    assert (packet.src, packet.dst) == ENDS[family]
    assert len(data) == (size or len(form.packet))
    if family is Family.IPV4:
        assert (packet.len, packet.id, packet.ttl) == (len(data), run_ident(key), 64)
        assert ("DF" in packet.flags) == bool(size)
    else:
        assert (packet.plen, packet.hlim) == (len(data) - 40, 64)
    if probe.protocol is Protocol.UDP:
        assert (packet["UDP"].sport, packet["UDP"].dport) == (first, probe.port)
        assert packet["UDP"].len == len(data) - form.header
    elif probe.protocol is Protocol.TCP:
        assert (packet["TCP"].sport, packet["TCP"].dport) == (first, probe.port)
        assert packet["TCP"].flags == "S"
        assert packet["TCP"].seq == int.from_bytes(token, "big")
        assert dict(packet["TCP"].options) == {"MSS": 1460}
    else:
        echo = packet.payload
        assert (echo.type, echo.code) == ((8, 0) if family is Family.IPV4 else (128, 0))
        assert (echo.id, echo.seq) == (run_ident(key), first)
    if probe.protocol is not Protocol.TCP:
        at = form.token
        assert data[at - TAG : at + TOKEN] == run_tag(key) + token
    if probe.protocol is Protocol.UDP and family is Family.IPV4:
        assert packet["UDP"].chksum == 0
        return
    field = {UDP: 6, TCP: 16, ICMP: 2, ICMPV6: 2}[form.protocol] + form.header
    wanted = int.from_bytes(summed(data, family)[field : field + 2], "big")
    # 0 and 0xFFFF are one number in this arithmetic; UDP may only say the latter.
    assert int.from_bytes(data[field : field + 2], "big") == (wanted or 0xFFFF)


@pytest.mark.parametrize("family", Family)
@given(firsts=st.lists(st.integers(0, 65535), min_size=2, max_size=5))
def test_one_patcher_serves_many_destinations(family: Family, firsts: list[int]) -> None:
    """In turn, without a trace of the one before."""
    form, key = crafted(HEALTH, family, harmless=False), b"k" * 32
    domain = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    source = socket.inet_pton(domain, ENDS[family][0])
    shared = Patcher(form, run_tag(key), run_ident(key), source)
    aims = [shared.aim(source[:-1] + bytes((n,))) for n in range(len(firsts))]
    for n, (aim, first) in enumerate(zip(aims, firsts, strict=True)):
        alone = Patcher(form, run_tag(key), run_ident(key), source)
        wanted = alone.patch(alone.aim(source[:-1] + bytes((n,))), first, b"toke")
        assert shared.patch(aim, first, b"toke") == wanted


@pytest.mark.parametrize("family", Family)
def test_a_size_that_is_too_small_changes_no_size(family: Family) -> None:
    """An interface whose MTU nobody knows: the packet stays as it is."""
    form = crafted(GENEVE, family, harmless=False)
    assert len(form.full(0).packet) == len(form.packet)
    assert packets.checksum(b"") == 0xFFFF
