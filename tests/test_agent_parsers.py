"""What the agent takes from the wire and from the kernel: any bytes, and only its own count."""

import errno
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preflight.agent import host, netlink
from preflight.agent.look import IN, OUT, Look, Run
from preflight.agent.packets import ICMP, ICMPV6, TCP, UDP, Patcher, run_ident, run_tag
from preflight.agent.taps import STACKED, Devices, Tap, failed_neighbours, stacks
from preflight.agent.watch import Watcher, kind_of, previous
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe
from preflight.craft.templates import template
from preflight.lab import Lab

KEY = b"k" * 32
ME, PEER = 1, 0
ADDRESSES = {4: ["10.0.0.1", "10.0.0.2", ""], 6: ["fd00::1", "fd00::2", "fd00::3"]}
OFFSETS = {6081: 22, 9000: 0}
NUMBERS = {4: {UDP: UDP, TCP: TCP, ICMP: ICMP}, 6: {UDP: UDP, TCP: TCP, ICMP: ICMPV6}}
FAMILIES = {4: Family.IPV4, 6: Family.IPV6}
_PROTOCOLS = {"udp": UDP, "tcp": TCP, "icmp": ICMP}


class FakeRaw:
    """A raw socket in which these packets wait, from their transport headers on."""

    def __init__(self, family: int, protocol: int, *packets: tuple[bytes, str, float]) -> None:
        self.family = family
        self.protocol = protocol
        self._packets = list(packets)

    def receive(self) -> tuple[bytes, str, float] | None:
        return self._packets.pop(0) if self._packets else None


@cache
def crafted(probe: Probe, family: Family) -> dict[str, object]:
    return template(probe, family, harmless=False)


def a_look(*, taps: bool = True, number: int = 1) -> Look:
    """Node 1's part of a look of three probes over both families, to and from node 0."""
    cells = [
        {
            "probe": n, "family": family, "protocol": NUMBERS[family][_PROTOCOLS[probe.protocol]],
            "port": probe.port or 0, "count": 4, "full": 0, "flows": 2, "gap": 0.0,
            "out": [PEER], "in": [PEER], "inert": [],
            "template": crafted(probe, FAMILIES[family]),
            "harmless": crafted(probe, FAMILIES[family]),
        }
        for family in (4, 6) for n, probe in enumerate((GENEVE, HEALTH, ECHO))
    ]  # fmt: skip
    frame = {"number": number, "rate": 5000, "taps": taps, "settle": False, "cells": cells}
    return Look(Run(KEY, ME, ADDRESSES), frame)


def a_tap(look: Look) -> Tap:
    """A tap without its socket."""
    tap = Tap.__new__(Tap)
    tap._look, tap._offsets, tap._devices = look, OFFSETS, Devices([("br0", "eth0")])
    return tap


def number(family: int, probe: Probe) -> int:
    return (family == 6) * 3 + (GENEVE, HEALTH, ECHO).index(probe)


def packet(look: Look, family: int, probe: Probe, sequence: int, *, sent: bool) -> bytes:
    """One probe from its IP header on: one that this node sends, or one that it is sent."""
    run, cell = look.run, look.cells[number(family, probe)]
    pair = (ME, PEER) if sent else (PEER, ME)
    ends = [socket.inet_pton(domain(family), ADDRESSES[family][end]) for end in pair]
    patcher = Patcher(cell.plain, run.tag, run.ident, ends[0], look.number)
    tokens = cell.tokens(run.key, look.number, pair)
    first = cell.firsts(run.key, look.number, pair)[sequence]
    return bytes(patcher.patch(patcher.aim(ends[1]), first, tokens[sequence]))


def domain(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6


def body(data: bytes) -> bytes:
    return data[40 if data[0] >> 4 == 6 else 20 :]


def watched(look: Look, family: int, protocol: int, *packets: tuple[bytes, str, float]) -> None:
    Watcher(look, OFFSETS).read(FakeRaw(family, protocol, *packets))  # type: ignore[arg-type]


def counts(look: Look) -> dict[str, int]:
    """How many probes each vantage point has seen, where any."""
    found = {v: sum(mask.bit_count() for mask in masks) for v, masks in look.seen.items()}
    return {vantage: count for vantage, count in found.items() if count}


BOTH = pytest.mark.parametrize("family", [4, 6])
EACH = pytest.mark.parametrize("probe", [GENEVE, HEALTH, ECHO], ids=lambda probe: probe.name)


def protocol_of(family: int, probe: Probe) -> int:
    return NUMBERS[family][_PROTOCOLS[probe.protocol]]


# --- any bytes -----------------------------------------------------------------------------------


@st.composite
def nearly_ours(draw: st.DrawFn) -> bytes:
    """Pieces of real packets, cut, joined and with bytes changed; or anything at all."""
    look = a_look()
    family = draw(st.sampled_from([4, 6]))
    probe = draw(st.sampled_from([GENEVE, HEALTH, ECHO]))
    data = bytearray(packet(look, family, probe, draw(st.integers(0, 3)), sent=draw(st.booleans())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        if not data:
            break
    return bytes(data[draw(st.integers(0, 48)) :])


ANYTHING = st.one_of(st.binary(max_size=120), nearly_ours())
SENDERS = st.sampled_from(["10.0.0.1", "192.0.2.9", "fd00::1", "fe80::1%eth0"])


@settings(max_examples=400, deadline=None)
@given(data=ANYTHING, sender=SENDERS, family=st.sampled_from([4, 6]))
@example(data=b"", sender="10.0.0.1", family=4)
@example(data=b"\0", sender="10.0.0.1", family=4)
@example(data=b"\3\0\0\0\0\0\0\0" + b"\x41" + bytes(11), sender="10.0.0.1", family=4)
def test_the_raw_sockets_take_any_bytes(data: bytes, sender: str, family: int) -> None:
    look = a_look()
    for protocol in (UDP, TCP, ICMP if family == 4 else ICMPV6):
        watched(look, family, protocol, (data, sender, 1.0), (data[:13], sender, 0.0))


@settings(max_examples=400, deadline=None)
@given(data=ANYTHING, outgoing=st.booleans())
@example(data=b"", outgoing=True)
@example(data=b"\x40" + bytes(8), outgoing=False)
@example(data=b"\x41" + bytes(8) + b"\6" + bytes(8), outgoing=False)  # 4 bytes of IPv4 header
@example(data=b"\x60" + bytes(5) + b"\6" + bytes(40), outgoing=True)
def test_the_tap_takes_any_bytes(data: bytes, outgoing: bool) -> None:
    a_tap(a_look())._match(data, outgoing)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=120), family=st.sampled_from([4, 6]), outgoing=st.booleans())
def test_strangers_bytes_count_for_nothing(data: bytes, family: int, outgoing: bool) -> None:
    look = a_look()
    missing = look.missing
    for protocol in (UDP, TCP, ICMP if family == 4 else ICMPV6):
        watched(look, family, protocol, (data, "192.0.2.9", 1.0))
        a_tap(look)._match(
            bytes((0x45,)) + bytes(8) + bytes((protocol,)) + bytes(10) + data, outgoing
        )
    assert counts(look) == {}
    assert (look.missing, look.errors, look.sources) == (missing, {}, {})


@BOTH
@EACH
def test_a_probe_that_is_cut_short_counts_for_nothing(family: int, probe: Probe) -> None:
    """At every length up to the end of its token; from there on it is ours."""
    look = a_look()
    whole = packet(look, family, probe, 0, sent=False)
    token = {UDP: 34, TCP: 4, ICMP: 12}[_PROTOCOLS[probe.protocol]]
    needed = token + (10 if probe is HEALTH else 8)  # up to the flags of a SYN
    protocol = protocol_of(family, probe)
    for size in range(needed):
        watched(look, family, protocol, (body(whole)[:size], ADDRESSES[family][PEER], 0.0))
        a_tap(look)._match(whole[: len(whole) - len(body(whole)) + size], False)
    assert counts(look) == {}
    watched(look, family, protocol, (body(whole)[:needed], ADDRESSES[family][PEER], 0.0))
    assert counts(look) == {"accepted": 1}


@BOTH
@EACH
def test_probes_of_another_look_or_run_count_for_nothing(family: int, probe: Probe) -> None:
    look = a_look()
    other_run = a_look()
    other_run.run.key = b"o" * 32
    for stranger in (a_look(number=2), other_run):
        for sent in (True, False):
            data = packet(stranger, family, probe, 1, sent=sent)
            if probe is HEALTH:  # from its own port it would be one that was rewritten
                data = data[:-24] + b"\x04\x00" + data[-22:]
            watched(look, family, protocol_of(family, probe), (body(data), "192.0.2.1", 0.0))
            a_tap(look)._match(data, sent)
    assert counts(look) == {}


# --- packets that come too late ------------------------------------------------------------------


@BOTH
@EACH
@pytest.mark.parametrize("sent", [True, False])
def test_what_an_earlier_look_gave_up_is_late_and_not_lost(
    family: int, probe: Probe, sent: bool
) -> None:
    """A probe from PEER, or PEER's answer to ours, that comes in the look after."""
    first, second = a_look(number=1), a_look(number=2)
    second.run = first.run
    early = packet(first, family, probe, 0, sent=False)
    watched(first, family, protocol_of(family, probe), (body(early), ADDRESSES[family][PEER], 0.0))
    first.remember()
    data = body(packet(first, family, probe, 1, sent=sent))
    if sent and probe is HEALTH:
        data = reply(first, family, 1, 0x14)
    elif sent and probe is ECHO:
        data = (b"\0" if family == 4 else b"\x81") + data[1:]
    if probe is HEALTH and not sent:  # by its flow it is this look's, if the ports are drawn again
        data = b"\x04\x00" + data[2:]
    watched(second, family, protocol_of(family, probe), (data, "192.0.2.1", 0.0))
    watched(second, family, protocol_of(family, probe), (body(early), "192.0.2.1", 0.0))
    assert counts(second) == {}
    one_way = probe is GENEVE and sent  # nobody answers it, so nothing was due
    side = "out" if sent else "in"
    assert second.late == (set() if one_way else {(number(family, probe), PEER, side)})


# --- our own probes, at the raw sockets ----------------------------------------------------------


@BOTH
@EACH
def test_each_probe_counts_once(family: int, probe: Probe) -> None:
    look = a_look()
    missing = look.missing
    peer = ADDRESSES[family][PEER]
    data = [(body(packet(look, family, probe, i, sent=False)), peer, 0.0) for i in (0, 1, 1, 3)]
    watched(look, family, protocol_of(family, probe), *data)
    assert counts(look) == {"accepted": 3}
    assert look.seen["accepted"][number(family, probe) * 3 + PEER] == 0b1011
    assert look.missing == missing - 3
    assert look.sources == {}


@BOTH
@EACH
def test_another_source_address_is_noted_and_no_loss(family: int, probe: Probe) -> None:
    look = a_look()
    data = body(packet(look, family, probe, 0, sent=False))
    watched(look, family, protocol_of(family, probe), (data, "192.0.2.77", 0.0))
    assert counts(look) == {"accepted": 1}
    assert look.sources == {number(family, probe) * 3 + PEER: "192.0.2.77"}


@BOTH
def test_a_syn_with_a_rewritten_sequence_number_is_known_by_its_flow(family: int) -> None:
    look = a_look()
    data = bytearray(body(packet(look, family, HEALTH, 2, sent=False)))
    data[4:8] = b"\1\2\3\4"
    watched(look, family, TCP, (bytes(data), ADDRESSES[family][PEER], 0.0))
    assert look.seen["accepted"][number(family, HEALTH) * 3 + PEER] == 0b100


def reply(look: Look, family: int, sequence: int, flags: int, *, rewritten: int = 0) -> bytes:
    """What PEER answers to our SYN."""
    syn = body(packet(look, family, HEALTH, sequence, sent=True))
    ack = (int.from_bytes(syn[4:8], "big") + 1 + rewritten) & 0xFFFFFFFF
    return syn[2:4] + syn[:2] + bytes(4) + ack.to_bytes(4, "big") + bytes((0x50, flags)) + bytes(6)


@BOTH
@pytest.mark.parametrize(("flags", "kind"), [(0x14, "rst"), (0x04, "rst"), (0x12, "syn_ack")])
@pytest.mark.parametrize("rewritten", [0, 12345])
def test_answers_are_told_apart(family: int, flags: int, kind: str, rewritten: int) -> None:
    look = a_look()
    data = reply(look, family, 1, flags, rewritten=rewritten)
    watched(look, family, TCP, (data, ADDRESSES[family][PEER], 0.0))
    assert counts(look) == {"received": 1, f"received_{kind}": 1}


@BOTH
def test_one_syn_may_draw_two_kinds_of_answers(family: int) -> None:
    look = a_look()
    answers = [reply(look, family, 0, flags) for flags in (0x12, 0x14)]
    peer = ADDRESSES[family][PEER]
    watched(look, family, TCP, *((data, peer, 0.0) for data in answers))
    assert counts(look) == {"received": 1, "received_rst": 1, "received_syn_ack": 1}


@BOTH
def test_echo_replies_are_timed_by_the_least(family: int) -> None:
    look = a_look()
    slot = number(family, ECHO) * 3 + PEER
    look.sent_at = {slot << 6 | i: 100.0 for i in range(4)}
    kind = b"\0" if family == 4 else b"\x81"
    times = (100.004, 100.002, 99.0, 1000.0)  # a clock that was set back, or far ahead, tells none
    replies = [
        (kind + body(packet(look, family, ECHO, i, sent=True))[1:], ADDRESSES[family][PEER], at)
        for i, at in enumerate(times)
    ]
    watched(look, family, protocol_of(family, ECHO), *replies)
    assert counts(look) == {"received": 4}
    assert look.rtt[slot] == pytest.approx(0.002, abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_an_acknowledgement_names_what_it_answers(sequence: int) -> None:
    answer = ((sequence + 1) % 2**32).to_bytes(4, "big")
    assert previous(answer) == sequence.to_bytes(4, "big")


def test_every_flag_combination_has_one_meaning() -> None:
    for flags in range(256):
        rst, syn, ack = flags & 4, flags & 2, flags & 16
        wanted = "rst" if rst else "syn_ack" if syn and ack else "syn" if syn else None
        assert kind_of(flags) == wanted


# --- ICMP errors ---------------------------------------------------------------------------------


def complaint(quoted: bytes, family: int, kind: int, code: int) -> tuple[bytes, str, float]:
    return bytes((kind, code, 0, 0, 0, 0, 0, 0)) + quoted, "192.0.2.254", 0.0


def errors(look: Look, family: int, *messages: tuple[bytes, str, float]) -> dict[int, Any]:
    watched(look, family, ICMP if family == 4 else ICMPV6, *messages)
    assert counts(look) == {}  # an error counts no probe
    return look.errors


@BOTH
@EACH
def test_an_error_is_laid_to_the_cell_that_it_quotes(family: int, probe: Probe) -> None:
    """Also where it quotes only 8 bytes past the IP header, or one that has options."""
    kind = 3 if family == 4 else 1
    whole = packet(a_look(), family, probe, 0, sent=True)
    header = len(whole) - len(body(whole))
    quotes = [whole, whole[: header + 8]]
    if family == 4:
        quotes.append(b"\x46" + whole[1:20] + b"\1\1\1\1" + body(whole)[:8])
    for quoted in quotes:
        found = errors(look := a_look(), family, complaint(quoted, family, kind, 1))
        assert found == {number(family, probe) * 3 + PEER: ("192.0.2.254", kind, 1)}
        assert look.cell_of(next(iter(found))).number == number(family, probe)
    cut = complaint(whole[: header + 7], family, kind, 1)
    assert errors(a_look(), family, cut) == {}


@BOTH
def test_an_error_about_another_destination_or_port_is_not_ours(family: int) -> None:
    kind = 3 if family == 4 else 1
    whole = bytearray(packet(a_look(), family, GENEVE, 0, sent=True))
    header = 40 if family == 6 else 20
    whole[header - 1] ^= 3
    assert errors(a_look(), family, complaint(bytes(whole), family, kind, 1)) == {}
    whole[header - 1] ^= 3
    whole[header + 3] ^= 1
    assert errors(a_look(), family, complaint(bytes(whole), family, kind, 1)) == {}


@BOTH
def test_an_error_about_an_earlier_look_tells_nothing_of_this_one(family: int) -> None:
    """Its probes may have got through since."""
    kind = 3 if family == 4 else 1
    for probe in (GENEVE, HEALTH, ECHO):
        old = packet(a_look(number=1), family, probe, 0, sent=True)
        assert errors(a_look(number=2), family, complaint(old, family, kind, 1)) == {}


@BOTH
def test_an_error_about_our_answer_is_not_about_a_probe(family: int) -> None:
    whole = bytearray(packet(a_look(), family, ECHO, 0, sent=True))
    whole[40 if family == 6 else 20] = 129 if family == 6 else 0
    found = errors(a_look(), family, complaint(bytes(whole), family, 3 if family == 4 else 1, 1))
    assert found == {}


@BOTH
def test_a_port_unreachable_gives_way_to_any_other_error(family: int) -> None:
    quoted = packet(a_look(), family, HEALTH, 0, sent=True)
    vague, clear = ((3, 3), (3, 13)) if family == 4 else ((1, 4), (1, 1))
    messages = [complaint(quoted, family, *what) for what in (vague, clear)]
    for order in (messages, messages[::-1]):
        found = errors(a_look(), family, *order)
        assert next(iter(found.values()))[1:] == clear


# --- the tap -------------------------------------------------------------------------------------


@BOTH
@EACH
def test_the_tap_sees_requests_leave_and_arrive(family: int, probe: Probe) -> None:
    look = a_look()
    a_tap(look)._match(packet(look, family, probe, 0, sent=True), True)
    a_tap(look)._match(packet(look, family, probe, 1, sent=False), False)
    slot = number(family, probe) * 3 + PEER
    assert counts(look) == {"left": 1, "arrived": 1}
    assert (look.seen["left"][slot], look.seen["arrived"][slot]) == (0b01, 0b10)


def ip_of(family: int, protocol: int, source: str, target: str, data: bytes) -> bytes:
    ends = b"".join(socket.inet_pton(domain(family), a) for a in (source, target))
    if family == 6:
        return struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + ends + data
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, protocol, 0) + ends + data


@BOTH
@pytest.mark.parametrize(("flags", "kind"), [(0x14, "rst"), (0x12, "syn_ack")])
@pytest.mark.parametrize("rewritten", [0, 12345])
def test_the_tap_sees_answers_leave_and_return(
    family: int, flags: int, kind: str, rewritten: int
) -> None:
    look = a_look()
    mine, theirs = ADDRESSES[family][ME], ADDRESSES[family][PEER]
    back = reply(look, family, 0, flags, rewritten=rewritten)
    a_tap(look)._match(ip_of(family, TCP, theirs, mine, back), False)
    assert counts(look) == {"returned": 1}
    syn = body(packet(look, family, HEALTH, 0, sent=False))
    ack = (int.from_bytes(syn[4:8], "big") + 1 + rewritten) & 0xFFFFFFFF
    out = syn[2:4] + syn[:2] + bytes(4) + ack.to_bytes(4, "big") + bytes((0x50, flags)) + bytes(6)
    a_tap(look)._match(ip_of(family, TCP, mine, theirs, out), True)
    assert counts(look) == {"returned": 1, "answered": 1, f"answered_{kind}": 1}


def frames(tap: Tap, *seen: tuple[str, int, bytes]) -> Iterator[None]:
    left = list(seen)

    def receive() -> tuple[bytes, tuple[str, int, int]]:
        if not left:
            raise BlockingIOError
        device, kind, data = left.pop(0)
        return data, (device, 0, kind)

    tap._receive = receive  # type: ignore[method-assign]
    tap.read()
    yield None


def test_what_a_bridge_sends_has_not_left_before_the_device_below_it() -> None:
    look = a_look()
    data = packet(look, 4, GENEVE, 0, sent=True)
    list(frames(a_tap(look), ("br0", socket.PACKET_OUTGOING, data)))
    assert counts(look) == {}
    list(frames(a_tap(look), ("eth0", socket.PACKET_OUTGOING, data)))
    assert counts(look) == {"left": 1}


def test_what_a_device_takes_in_for_a_bridge_has_arrived_once() -> None:
    look = a_look()
    data = packet(look, 4, GENEVE, 0, sent=False)
    list(frames(a_tap(look), ("eth0", 0, data), ("br0", 0, data)))
    assert counts(look) == {"arrived": 1}


def test_what_is_flooded_to_us_for_another_has_not_arrived() -> None:
    """Unless it is a bridge's port: the bridge may have that address."""
    look = a_look()
    data = packet(look, 4, GENEVE, 0, sent=False)
    list(frames(a_tap(look), ("eth1", socket.PACKET_OTHERHOST, data)))
    assert counts(look) == {}
    list(frames(a_tap(look), ("eth0", socket.PACKET_OTHERHOST, data)))
    assert counts(look) == {"arrived": 1}


def test_what_goes_over_the_loopback_device_has_gone_nowhere() -> None:
    look = a_look()
    data = packet(look, 4, GENEVE, 0, sent=True)
    list(frames(a_tap(look), ("lo", socket.PACKET_OUTGOING, data), ("lo", 0, data)))
    assert counts(look) == {}


# --- rtnetlink and /proc -------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=200))
@example(struct.pack("=HH", 3, 1))
@example(struct.pack("=HH", 0, 1) * 4)
@example(struct.pack("=HH", 65535, 1))
def test_attributes_take_any_bytes(data: bytes) -> None:
    for value in netlink.attributes(data).values():
        assert value in data
    for _, payload in netlink.messages(data):
        assert payload in data


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=20), max_size=8))
def test_attributes_are_read_back(wanted: dict[int, bytes]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in wanted.items())
    assert netlink.attributes(data) == wanted
    nested = b"".join(attribute(kind | 0x8000, value) for kind, value in wanted.items())
    assert netlink.attributes(nested) == wanted


@given(st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=20)), max_size=6))
def test_messages_are_read_back(wanted: Sequence[tuple[int, bytes]]) -> None:
    data = b"".join(
        struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)
        for kind, body in wanted
    )
    assert netlink.messages(data) == list(wanted)


def link(index: int, name: str, *attributes: bytes) -> tuple[int, bytes]:
    head = struct.pack("=BBHiII", 0, 0, 0, index, 0, 0)
    return netlink.RTM_NEWLINK, head + attribute(3, name.encode() + b"\0") + b"".join(attributes)


def info(kind: bytes) -> bytes:
    return attribute(18, attribute(1, kind + b"\0"))


def test_devices_that_stand_on_ours_are_known() -> None:
    """Bridges and bonds by their members, VLANs and their like by the device below them."""
    below, elsewhere = attribute(5, struct.pack("=i", 2)), attribute(37, struct.pack("=i", 0))
    links = [
        link(1, "lo"),
        link(2, "eth0", attribute(10, struct.pack("=i", 4))),
        link(4, "br0", info(b"bridge")),
        link(5, "eth0.7", below, info(b"vlan")),
        link(6, "mv0", below, elsewhere, info(b"macvlan")),  # the device below is the host's
        link(7, "veth0", below, info(b"veth")),
        link(8, "empty", info(b"bridge")),
    ]
    pairs = stacks(links)
    assert sorted(pairs) == [("br0", "eth0"), ("eth0.7", "eth0")]
    assert Devices(pairs).below("br0") == ["br0", "eth0"]
    assert b"vlan" in STACKED


def test_neighbours_that_do_not_answer_are_known() -> None:
    def neighbour(device: int, state: int, address: bytes) -> tuple[int, bytes]:
        head = struct.pack("=BBHiHBB", 2, 0, 0, device, state, 0, 0)
        return netlink.RTM_NEWNEIGH, head + attribute(1, address)

    entries = [neighbour(2, 0x01, b"\12\0\0\1"), neighbour(2, 0x02, b"\12\0\0\2"),
               neighbour(3, 0x20, b"\12\0\0\3"), neighbour(3, 0x80, b"\12\0\0\4")]  # fmt: skip
    assert failed_neighbours(entries) == {(2, b"\12\0\0\1"), (3, b"\12\0\0\3")}


@settings(max_examples=300)
@given(st.binary(max_size=300), st.sampled_from([None, b"0A", b"07"]))
@example(b"header\n 0: :+0F1 x 0A\n", b"0A")
def test_port_tables_take_any_bytes(table: bytes, state: bytes | None) -> None:
    assert all(0 <= port <= 65535 for _, port in host.local_sockets(table, state))


ROWS = st.lists(st.tuples(st.integers(0, 65535), st.sampled_from(["0A", "01", "07"])), max_size=8)


@given(ROWS)
def test_port_tables_are_read_back(rows: list[tuple[int, str]]) -> None:
    lines = ["  sl  local_address rem_address   st tx_queue rx_queue"]
    lines += [f"   {n}: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000"
              for n, (port, state) in enumerate(rows)]  # fmt: skip
    table = "\n".join(lines).encode() + b"\n"
    own = socket.inet_aton("127.0.0.1")
    assert host.local_sockets(table, None) == {(own, port) for port, _ in rows}
    listening = {(own, port) for port, state in rows if state == "0A"}
    assert host.local_sockets(table, b"0A") == listening


@pytest.mark.parametrize("domain", [socket.AF_INET, socket.AF_INET6])
def test_this_machines_ports_are_found(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(domain, socket.SOCK_DGRAM) as udp, socket.socket(domain) as tcp:
        for one in (udp, tcp):
            one.bind(("127.0.0.1" if domain == socket.AF_INET else "::1", 0))
        bound, listening = udp.getsockname()[1], tcp.getsockname()[1]
        assert host.ports(host.udp_sockets(), {bound, 1}) == [bound]
        assert host.ports(host.listeners(), {listening}) == []
        tcp.listen()
        with socket.create_connection(tcp.getsockname()[:2]):
            assert host.ports(host.listeners(), {listening, 1}) == [listening]
            with monkeypatch.context() as without_tcp_diag:
                without_tcp_diag.setattr(host, "_diagnosed", no_such_module)
                assert host.ports(host.listeners(), {listening, 1}) == [listening]


def no_such_module(_: int) -> None:
    raise OSError(errno.ENOENT, "no tcp_diag")


def test_a_listener_counts_for_whom_it_serves() -> None:
    wanted = {"udp": {6081, 53}, "tcp": {4240}}
    own, other = b"\12\0\0\1", b"\12\0\0\2"
    nobody: dict[int, set[tuple[bytes, int]]] = {4: set(), 6: set()}
    for address, port, says in (
        (own, 4240, [4240]),
        (bytes(4), 4240, [4240]),
        (other, 4240, []),
        (own, 4241, []),
    ):
        tcp = {4: {(address, port)}, 6: set()}
        assert host.served(4, own, wanted, nobody, tcp)["tcp"] == says
        assert host.served(6, bytes(15) + b"\1", wanted, nobody, tcp)["tcp"] == []
    dual = {4: set(), 6: {(bytes(16), 4240), (bytes(16), 6081)}}
    assert host.served(4, own, wanted, dual, dual) == {"udp": [], "tcp": [4240], "unsure": [6081]}
    alone = {4: {(own, 6081)}, 6: dual[6]}
    assert host.served(4, own, wanted, alone, nobody)["unsure"] == []
    assert host.served(6, bytes(15) + b"\1", wanted, dual, dual)["udp"] == [6081]


def test_what_is_not_there_is_read_as_empty() -> None:
    assert host.read("/proc/none/of/this") == b""
    assert host.read("/proc/self/comm") != b""


def test_this_machines_addresses_are_known() -> None:
    loopback = socket.inet_aton("127.0.0.1")
    elsewhere = socket.inet_pton(socket.AF_INET6, "2001:db8::dead")
    here = host.addresses()
    assert socket.if_indextoname(here[loopback]) == "lo"
    assert elsewhere not in here


def test_the_vantage_points_are_those_of_a_look() -> None:
    look = a_look()
    assert set(look.seen) >= set(OUT) | set(IN)
    assert look.run.tag == run_tag(KEY)
    assert look.run.ident == run_ident(KEY)
    assert look.missing == 2 * (4 + 8 + 8)


def test_another_namespaces_card_of_the_same_name_is_not_ours(lab4: Lab) -> None:
    """sysfs, as a node without a mount of its own sees it, may show the first namespace's eth0."""
    ask = "from preflight.agent import host; print(host.drivers('eth0'), host.drivers('lo'))"
    enter = ["nsenter", f"--net=/run/netns/{lab4.node('n1').namespace}"]
    done = subprocess.run(
        [*enter, sys.executable, "-c", ask], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[] []\n"
