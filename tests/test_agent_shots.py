"""Shots as bytes, with scapy as the oracle, and knowing them again whatever became of them."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from deepkit import forms
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.agent.deep.shots import DESTINATION, SOURCE, Book, Packet, Trial, build
from preflight.agent.inet import packed, text
from preflight.agent.packets import ICMP, ICMPV6, TAG, TCP, TOKEN, UDP, run_ident, run_tag
from preflight.core.diagnosis.trial import Form
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe, ProbeKind, Protocol, Severity
from preflight.core.offsets import tag_offset

KEY = bytes(range(32))
RUN_TAG, RUN_IDENT = run_tag(KEY), run_ident(KEY)
LOOK = 7
VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
WIREGUARD = Probe("wireguard", ProbeKind.UDP, Protocol.UDP, 51871, Severity.RECOMMENDED)
PROBES = (GENEVE, HEALTH, ECHO, VXLAN, WIREGUARD)
ENDS = {
    Family.IPV4: ("192.0.2.1", "198.51.100.254"),
    Family.IPV6: ("2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe"),
}
ELSEWHERE = {Family.IPV4: "203.0.113.9", Family.IPV6: "2001:db8:9::9"}
BOTH = pytest.mark.parametrize("family", Family)
Row = tuple[Any, ...]  # form, source port, port, TTL, size, DF, and perhaps TOS


def trial(
    probe: Probe,
    family: Family,
    rows: list[Row],
    *,
    role: str = SOURCE,
    number: int = 3,
    look: int = LOOK,
    ends: tuple[str, str] | None = None,
) -> Trial:
    """A trial from the first to the second of `ENDS`."""
    source, destination = ends or ENDS[family]
    own, far = (source, destination) if role == SOURCE else (destination, source)
    v6 = family is Family.IPV6
    numbers = {Protocol.UDP: UDP, Protocol.TCP: TCP, Protocol.ICMP: ICMPV6 if v6 else ICMP}
    fields = {
        "id": number, "role": role, "source": 0, "destination": 1, "own": own, "far": far,
        "family": 6 if v6 else 4, "protocol": numbers[probe.protocol],
        "port": 0 if probe is ECHO else probe.port, "tag_at": tag_offset(probe),
        "forms": forms(probe, family), "shots": rows,
    }  # fmt: skip
    return Trial(fields, KEY, look)


def row(probe: Probe, source_port: int = 40000, **fields: Any) -> Row:
    known = {"form": "plain", "port": 0 if probe is ECHO else probe.port, "ttl": 64, "size": 0,
             "df": False} | fields  # fmt: skip
    return (known["form"], source_port, known["port"], known["ttl"], known["size"], known["df"])


def made(one: Trial, shot: int = 0) -> bytes:
    """The shot as it is on its way: from the source's address to the destination's."""
    ends = (one.own, one.far) if one.role == SOURCE else (one.far, one.own)
    source, destination = (packed(one.family, end) for end in ends)
    return bytes(build(one, shot, RUN_TAG, RUN_IDENT, source, destination))


def dissect(data: bytes) -> Any:
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6

    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


# --- bytes ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
@settings(max_examples=40, deadline=None)
@given(
    form=st.sampled_from([str(form) for form in Form]),
    first=st.integers(0, 0xFFFF),
    port=st.integers(1, 0xFFFF),
    ttl=st.integers(1, 255),
    size=st.sampled_from([0, 40, 576, 1280, 1499, 1500, 9001, 65535, 70000]),
    df=st.booleans(),
    tos=st.sampled_from([(), (0,), (184,), (255,)]),
    before=st.integers(0, 3),
)
def test_a_shot_is_what_scapy_makes_of_it(
    probe: Probe, family: Family, form: str, first: int, port: int, ttl: int, size: int, df: bool,
    tos: tuple[int, ...], before: int,
) -> None:  # fmt: skip
    port = 0 if probe is ECHO else port
    one = trial(probe, family, [(form, first, port, ttl, size, df, *tos)] * (before + 1))
    marked = sum(tos)
    data = made(one, before)
    least = len(forms(probe, family)[form]["packet"]) // 2
    assert len(data) == min(max(size, least), 65535)
    packet = dissect(data)
    assert (packet.src, packet.dst) == ENDS[family]
    if family is Family.IPV4:
        assert (packet.len, packet.ttl, packet.tos) == (len(data), ttl, marked)
        assert str(packet.flags) == ("DF" if df else "")
        assert packet.id == one.identification(RUN_IDENT, before)
    else:
        assert (packet.plen, packet.hlim, packet.tc) == (len(data) - 40, ttl, marked)
    template = one.template(form)
    if probe.protocol is not Protocol.TCP:
        at = template.token
        assert data[at - TAG : at + TOKEN] == RUN_TAG + one.tokens[before]
    if probe is ECHO:
        assert (packet.payload.id, packet.payload.seq) == (RUN_IDENT + 1 + one.number, first)
    else:
        assert (packet.payload.sport, packet.payload.dport) == (first, port)
    if probe is HEALTH:
        assert packet.payload.flags == "S"
        assert packet.payload.seq == int.from_bytes(one.tokens[before], "big")
    verify_checksums(packet, data, template.header)
    # What is left is the form's own.
    end = len(template.packet)
    if probe.protocol is Protocol.UDP:
        assert (
            data[template.header + 8 : template.token - TAG]
            == bytes.fromhex(forms(probe, family)[form]["packet"])[
                template.header + 8 : template.token - TAG
            ]
        )
    assert data[end:] == bytes(len(data) - end)


def verify_checksums(packet: Any, data: bytes, header: int) -> None:
    """All that there should be, and UDP's over IPv4 is none."""
    if packet.version == 4 and packet.proto == UDP:
        assert packet.payload.chksum == 0
        return
    layer = packet.payload
    field = "cksum" if packet.version == 6 and layer.name.startswith("ICMPv6") else "chksum"
    at = header + {"UDP": 6, "TCP": 16}.get(layer.name, 2)
    delattr(layer, field)
    if layer.name == "UDP":  # as bytes: scapy may take it for some tunnel, and spell that anew
        from scapy.packet import Raw

        layer.remove_payload()
        layer.add_payload(Raw(data[header + 8 :]))
    wanted = bytes(packet)[at : at + 2]
    # 0 and 0xFFFF are one number in this arithmetic; UDP may only say the latter.
    assert data[at : at + 2] == (wanted if wanted != b"\0\0" else b"\xff\xff")


@BOTH
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_thousand_shots_differ(probe: Probe, family: Family) -> None:
    """In token and identification: 1,024 is the most of a trial."""
    one = trial(probe, family, [row(probe)] * 1024)
    assert len(set(one.tokens)) == 1024
    numbers = {one.identification(RUN_IDENT, shot) for shot in range(1024)}
    assert len(numbers) == 1024
    assert all(0 < number <= 0xFFFF for number in numbers)
    assert one.every == (1 << 1024) - 1


@given(st.integers(0, 0xFFFF), st.integers(1, 0xFFFF), st.integers(0, 255))
def test_no_identification_is_zero(ident: int, look: int, number: int) -> None:
    """The kernel would replace it. One of 65,536 in a row would be."""
    one = trial(HEALTH, Family.IPV4, [], number=number, look=look)
    zero = -one.identification(ident, 0)
    found = {one.identification(ident, zero + more) for more in (-1, 0, 1, 0x10000)}
    assert all(0 < number <= 0xFFFF for number in found)


@BOTH
def test_a_checksum_that_comes_out_as_zero(family: Family) -> None:
    """UDP over IPv6 may not say so, and to all others it is the same number."""
    for probe in PROBES:
        if probe.protocol is Protocol.UDP and family is Family.IPV4:
            continue
        one = trial(probe, family, [row(probe, 0)])
        at = one.template("plain").header + {UDP: 6, TCP: 16}.get(one.protocol, 2)
        sum_ = int.from_bytes(made(one)[at : at + 2], "big")
        assert made(trial(probe, family, [row(probe, sum_)]))[at : at + 2] == b"\xff\xff"


@given(st.integers(0, 0xFFFF), st.integers(1, 0xFFFF), st.integers(0, 255), st.integers(0, 255))
def test_trials_of_256_shots_share_no_identification(
    ident: int, look: int, one: int, other: int
) -> None:
    a, b = (trial(HEALTH, Family.IPV4, [], number=n, look=look) for n in (one, other))
    first, second = ({t.identification(ident, shot) for shot in (0, 1, 254, 255)} for t in (a, b))
    # 65,536 places, and one number too few.
    assert one == other or len(first & second) <= 1


def test_random_bytes_are_no_tunnels() -> None:
    """Whatever they are sent to throws them away; they are as long as what they stand for."""
    for probe in (GENEVE, VXLAN):
        for family in Family:
            header = 48 if family is Family.IPV6 else 28
            plain, noise = (
                bytes.fromhex(forms(probe, family)[str(form)]["packet"])[header:]
                for form in (Form.PLAIN, Form.RANDOM)
            )
            assert len(plain) == len(noise)
            assert noise[0] >> 6 != 0  # no version of GENEVE's
            assert not noise[0] & 0x08  # VXLAN's I flag
            assert sum(a != b for a, b in zip(plain, noise, strict=True)) > 15
            token = forms(probe, family)["random"]["token"]
            assert token == forms(probe, family)["plain"]["token"]
            assert noise[token - header - TAG :] == bytes(TAG + TOKEN)


def test_other_protocols_have_one_form() -> None:
    for probe in (HEALTH, ECHO):
        for family in Family:
            assert len({str(form) for form in forms(probe, family).values()}) == 1


# --- packets as a tap sees them ------------------------------------------------------------------


@BOTH
@given(first=st.integers(0, 0xFFFF), ttl=st.integers(1, 255), df=st.booleans(),
       tos=st.integers(0, 255))  # fmt: skip
@settings(deadline=None)
def test_a_packets_header_is_read(family: Family, first: int, ttl: int, df: bool, tos: int) -> None:
    for probe in (GENEVE, HEALTH, ECHO):
        data = made(trial(probe, family, [row(probe, first, ttl=ttl, df=df)]))
        length = len(data)
        if family is Family.IPV4:
            data = data[:1] + bytes((tos,)) + data[2:]
        else:
            data = struct.pack("!I", 6 << 28 | tos << 20) + data[4:]
        packet = Packet(data + bytes(7))  # a short frame is padded
        v6 = family is Family.IPV6
        assert packet.ports() == (first, 0 if probe is ECHO else probe.port)
        assert (packet.ttl, packet.tos, packet.size) == (ttl, tos, length)
        assert packet.df is (df and not v6)
        assert (packet.source, packet.destination) == tuple(
            packed(6 if v6 else 4, end) for end in ENDS[family]
        )


@given(st.binary(max_size=80))
def test_anything_may_be_on_the_wire(data: bytes) -> None:
    book = Book([trial(GENEVE, family, [row(GENEVE)]) for family in Family], RUN_IDENT)
    for family in (4, 6):
        assert book.quoted(family, data) is None
    try:
        Packet(data).ports()
    except ValueError:
        assert len(data) < 48 or data[0] >> 4 not in (4, 6) or data[0] & 15 < 5 or data[0] >> 4 == 4


# --- known again ---------------------------------------------------------------------------------


def test_a_token_is_known_at_its_own_end_alone() -> None:
    out = trial(GENEVE, Family.IPV4, [row(GENEVE), row(GENEVE, 40001)])
    come = trial(GENEVE, Family.IPV4, [row(GENEVE)], role=DESTINATION, number=4)
    book = Book([out, come], RUN_IDENT)
    assert book.find(SOURCE, out.tokens[1]) == (0, 1)
    assert book.find(DESTINATION, out.tokens[1]) is None
    assert book.find(DESTINATION, come.tokens[0]) == (1, 0)
    assert set(book.tokens()) == {*out.tokens, *come.tokens}


def syns(rows: list[Row], role: str = DESTINATION) -> tuple[Trial, Book, tuple[bytes, int, int]]:
    one = trial(HEALTH, Family.IPV4, rows, role=role)
    return one, Book([one], RUN_IDENT), (packed(4, one.far), rows[0][1], rows[0][2])


def test_a_rewritten_sequence_number_leaves_the_flow() -> None:
    """And whatever else of that packet is met again, also at another vantage point."""
    one, book, flow = syns([row(HEALTH)])
    assert book.find(DESTINATION, b"\1\2\3\4") is None
    assert book.find(DESTINATION, b"\1\2\3\4", flow) == (0, 0)
    assert book.find(DESTINATION, b"\1\2\3\4", flow) == (0, 0)  # its RST
    assert book.find(DESTINATION, b"\5\6\7\x08", flow) is None  # a second one was never sent
    assert one.tokens[0] != b"\1\2\3\4"


@pytest.mark.parametrize("other", [
    (packed(4, "203.0.113.9"), 40000, 4240), (packed(4, ENDS[Family.IPV4][0]), 40001, 4240),
    (packed(4, ENDS[Family.IPV4][0]), 40000, 443),
])  # fmt: skip
def test_another_flow_is_somebody_elses(other: tuple[bytes, int, int]) -> None:
    _, book, _ = syns([row(HEALTH)])
    assert book.find(DESTINATION, b"\1\2\3\4", other) is None


def test_of_one_flows_shots_those_with_the_largest_ttl_got_through() -> None:
    """Their sequence numbers are rewritten; so is the identification."""
    rows = [row(HEALTH, ttl=ttl) for ttl in (1, 2, 3, 64, 4)]
    _, book, flow = syns(rows)
    found = [book.find(DESTINATION, bytes((n,) * 4), flow) for n in range(3)]
    assert found == [(0, 3), (0, 4), (0, 2)]


def test_an_identification_or_a_size_tells_more_than_a_ttl() -> None:
    rows = [row(HEALTH, ttl=1), row(HEALTH, ttl=64), row(HEALTH, ttl=9, size=900)]
    one, book, flow = syns(rows)
    first = Packet(made(one, 0))
    assert book.find(DESTINATION, b"\1\2\3\4", flow, first) == (0, 0)
    long = Packet(made(one, 2))
    long.ident = 1
    assert book.find(DESTINATION, b"\2\3\4\5", flow, long) == (0, 2)
    assert book.find(DESTINATION, b"\3\4\5\6", flow, Packet(made(one, 1))) == (0, 1)


def test_a_shot_that_was_seen_by_its_token_is_not_guessed_again() -> None:
    one, book, flow = syns([row(HEALTH), row(HEALTH, ttl=5)])
    assert book.find(DESTINATION, one.tokens[0], flow) == (0, 0)
    assert book.find(DESTINATION, b"\1\2\3\4", flow) == (0, 1)


def test_what_we_sent_ourselves_takes_nothing_away_from_its_answer() -> None:
    one, book, flow = syns([row(HEALTH)], SOURCE)
    assert book.find(SOURCE, one.tokens[0]) == (0, 0)  # it leaves
    assert book.find(SOURCE, b"\1\2\3\4", flow) == (0, 0)  # an RST that acknowledges another


# --- quoted by ICMP errors -----------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_an_error_that_quotes_all_names_the_shot(probe: Probe, family: Family) -> None:
    """Shots of one flow, alike in all but what nobody quotes."""
    one = trial(probe, family, [row(probe, ttl=ttl) for ttl in range(1, 30)])
    book = Book([one], RUN_IDENT)
    version = 4 if family is Family.IPV4 else 6
    for shot in range(29):
        assert book.quoted(version, made(one, shot)) == (0, shot)
        assert book.quoted(10 - version, made(one, shot)) is None


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_eight_bytes_and_the_identification_are_enough_on_ipv4(probe: Probe) -> None:
    """As RFC 792 has it; and where the router spells the length in an order of its own."""
    one = trial(probe, Family.IPV4, [row(probe, ttl=ttl) for ttl in range(1, 30)])
    book = Book([one], RUN_IDENT)
    for shot in range(29):
        quote = made(one, shot)[:28]
        assert book.quoted(4, quote) == (0, shot)
        assert book.quoted(4, quote[:2] + quote[3:1:-1] + quote[4:]) == (0, shot)
        assert book.quoted(4, quote[:27]) is None


def test_a_short_quote_on_ipv6_leaves_it_open() -> None:
    """But where only one shot has such a flow, or such a size; a SYN has its token in time."""
    rows = [row(GENEVE, ttl=1), row(GENEVE, ttl=2), row(GENEVE, 40001), row(GENEVE, size=900)]
    one = trial(GENEVE, Family.IPV6, rows)
    book = Book([one], RUN_IDENT)
    quotes = [made(one, shot)[:48] for shot in range(4)]
    assert [book.quoted(6, quote) for quote in quotes] == [None, None, (0, 2), (0, 3)]
    syn = trial(HEALTH, Family.IPV6, [row(HEALTH, ttl=1), row(HEALTH, ttl=2)])
    book = Book([syn], RUN_IDENT)
    assert [book.quoted(6, made(syn, shot)[:48]) for shot in (0, 1)] == [(0, 0), (0, 1)]


@BOTH
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_what_this_node_itself_says_of_what_it_got(probe: Probe, family: Family) -> None:
    """An error on its way out, however much of the shot it quotes."""
    come = trial(probe, family, [row(probe), row(probe, 40001)], role=DESTINATION)
    book, version = Book([come], RUN_IDENT), 4 if family is Family.IPV4 else 6
    for quote in (made(come, 1), made(come, 1)[: 28 if version == 4 else 48]):
        assert book.quoted(version, quote, DESTINATION) == (0, 1)
        assert book.quoted(version, quote) is None


@BOTH
def test_a_quote_with_a_rewritten_sequence_number(family: Family) -> None:
    one = trial(HEALTH, family, [row(HEALTH)])
    book = Book([one], RUN_IDENT)
    at = one.template("plain").token
    data = made(one)
    quote = data[:at] + b"\1\2\3\4" + data[at + 4 :]
    assert book.quoted(4 if family is Family.IPV4 else 6, quote) == (0, 0)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_quote_out_of_an_address_translation(probe: Probe) -> None:
    """Its destination, or its ports, are not those that were sent to."""
    one = trial(probe, Family.IPV4, [row(probe)])
    book = Book([one], RUN_IDENT)
    quote = made(one)[:28]
    elsewhere = packed(4, ELSEWHERE[Family.IPV4])
    assert book.quoted(4, quote[:16] + elsewhere + quote[20:]) == (0, 0)
    if probe is not ECHO:
        assert book.quoted(4, quote[:20] + b"\1\1" + quote[22:]) == (0, 0)
        both = book.quoted(4, quote[:16] + elsewhere + b"\1\1" + quote[22:])
        assert both == ((0, 0) if probe is HEALTH else None)  # a SYN's token is in eight bytes


@BOTH
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_what_an_error_quotes_may_be_anothers(probe: Probe, family: Family) -> None:
    """Another run's packet of the very same flow, an earlier look's, or what a peer sent to us."""
    one = trial(probe, family, [row(probe)])
    book = Book([one], RUN_IDENT)
    version = 4 if family is Family.IPV4 else 6
    earlier = trial(probe, family, [row(probe)], look=LOOK - 1)
    quote = made(earlier)
    if probe is HEALTH and family is Family.IPV6:
        quote = made(trial(probe, family, [row(probe, 40001)], look=LOOK - 1))
    assert book.quoted(version, quote) is None
    come = trial(probe, family, [row(probe)], role=DESTINATION)
    assert Book([come], RUN_IDENT).quoted(version, made(come)) is None


@BOTH
def test_an_error_about_an_answer_of_ours_is_about_no_shot(family: Family) -> None:
    one = trial(ECHO, family, [row(ECHO)])
    data = made(one)
    header = one.template("plain").header
    reply = data[:header] + (b"\0" if family is Family.IPV4 else b"\x81") + data[header + 1 :]
    assert Book([one], RUN_IDENT).quoted(4 if family is Family.IPV4 else 6, reply) is None


def test_addresses_are_packed_as_they_stand() -> None:
    assert packed(4, "192.0.2.1") == socket.inet_aton("192.0.2.1")
    assert packed(6, "2001:db8::1")[-1] == 1
    for family, address in ((4, "192.0.2.1"), (6, "2001:db8::1")):
        assert text(packed(family, address)) == address
