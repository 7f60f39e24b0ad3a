"""The filters, run by this machine's kernel: what they let up, and what they keep down.

A filter on a datagram socket of the AF_UNIX family is run over the very bytes that are sent, so a
pair of them is the kernel's filter machine with nothing around it.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_agent_kit import PATIENCE_S

from preflight.agent.bpf import SNAP, Filters
from preflight.agent.packets import ICMP, ICMPV6, TCP, TCP_PORTS, UDP, Patcher, Template
from preflight.agent.sockets import RawSocket, attach, sender
from preflight.agent.taps import Tap
from preflight.core.model import ECHO, GENEVE, HEALTH, Family
from preflight.craft.templates import template
from preflight.lab import Lab

TAG, IDENT = b"\xa1\xb2\xc3\xd4", 0x1230
LOOK = 5  # in the last bits of the identification
PORTS = {6081: 22, 9000: 0}
FILTERS = Filters(PORTS, [4240, 10250], True, TAG, IDENT)
Passes = Callable[[bytes], int]


@contextmanager
def kernel(program: bytes) -> Iterator[Passes]:
    """How many bytes of a packet the kernel lets up through `program`; 0 for none."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with far, near:
        attach(near, program)
        near.setblocking(False)

        def passes(packet: bytes) -> int:
            far.send(packet)
            try:
                return len(near.recv(65536))
            except BlockingIOError:
                return 0

        yield passes


@pytest.fixture(scope="module")
def raw() -> Iterator[Callable[[int, bool], Passes]]:
    """The filter of the raw socket for that protocol, over IPv6 or not."""
    opened = []

    def one(protocol: int, v6: bool) -> Passes:
        context = kernel(FILTERS.raw(protocol, v6))
        opened.append(context)
        return context.__enter__()

    yield one
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def tap() -> Iterator[Passes]:
    with kernel(FILTERS.tap()) as passes:
        yield passes


# --- packets -------------------------------------------------------------------------------------


def ip4(protocol: int, body: bytes, *, options: bytes = b"", fragment: int = 0) -> bytes:
    words = 5 + len(options) // 4
    total = 4 * words + len(body)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, total, IDENT | LOOK, fragment, 64, protocol, 0)
    return head + bytes((10, 0, 0, 1, 10, 0, 0, 2)) + options + body


def ip6(protocol: int, body: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + bytes(32) + body


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload


def tcp(source: int, port: int, flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source, port, 1, 2, 0x50, flags, 0, 0, 0)


def icmp(kind: int, rest: bytes, code: int = 0) -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, IDENT, 1) + rest


def tagged(offset: int, tag: bytes = TAG) -> bytes:
    return bytes(offset) + tag + bytes(8)


UDP_TABLE = [
    (True, udp(6081, tagged(22))),
    (True, udp(9000, tagged(0))),
    (False, udp(6081, tagged(22, b"\xa1\xb2\xc3\xd5"))),  # another run's tag
    (False, udp(6081, tagged(0))),  # the tag at another port's place
    (False, udp(9000, tagged(22))),
    (False, udp(6082, tagged(22))),
    (False, udp(6081, tagged(22)[:25])),  # cut within the tag
    (True, udp(6081, tagged(22)[:26])),
    (False, udp(6081, b"")),
    (False, udp(6081, tagged(22))[:7]),
    (False, b""),
]
TCP_TABLE = [
    (True, tcp(61000, 4240, 0x02)),
    (True, tcp(1, 10250, 0x02)),  # a SYN from any port: what comes through a NAT
    (True, tcp(61000, 4240, 0xC2)),  # with ECN
    (False, tcp(61000, 4240, 0x10)),
    (False, tcp(61000, 4240, 0x18)),
    (False, tcp(61000, 4240, 0x12)),  # that is an answer, and from a port that serves nothing
    (False, tcp(61000, 4241, 0x02)),
    (True, tcp(4240, 61000, 0x12)),
    (True, tcp(4240, 64999, 0x14)),
    (True, tcp(10250, 62000, 0x04)),
    (False, tcp(4240, 60999, 0x12)),  # of a connection that is none of ours
    (False, tcp(4240, 65000, 0x14)),
    (False, tcp(4241, 62000, 0x14)),
    (False, tcp(4240, 62000, 0x10)),  # data of a connection
    (False, tcp(4240, 62000, 0x11)),
    (False, tcp(61000, 4240, 0x02)[:13]),
]
ECHO_TABLE = [(True, tagged(0)), (False, tagged(0, bytes(4))), (False, tagged(1)), (False, b"")]


@pytest.mark.parametrize(("wanted", "body"), UDP_TABLE)
def test_udp(raw: Callable[[int, bool], Passes], tap: Passes, wanted: bool, body: bytes) -> None:
    verify(raw, tap, UDP, UDP, wanted, body)


@pytest.mark.parametrize(("wanted", "body"), TCP_TABLE)
def test_tcp(raw: Callable[[int, bool], Passes], tap: Passes, wanted: bool, body: bytes) -> None:
    verify(raw, tap, TCP, TCP, wanted, body)


@pytest.mark.parametrize(("wanted", "payload"), ECHO_TABLE)
@pytest.mark.parametrize("kinds", [(8, 128), (0, 129)], ids=["request", "reply"])
def test_echo(
    raw: Callable[[int, bool], Passes], tap: Passes, wanted: bool, payload: bytes,
    kinds: tuple[int, int],
) -> None:  # fmt: skip
    four, six = (icmp(kind, payload) for kind in kinds)
    assert bool(raw(ICMP, False)(ip4(ICMP, four))) is wanted
    assert bool(tap(ip4(ICMP, four))) is wanted
    assert bool(raw(ICMPV6, True)(six)) is wanted
    assert bool(tap(ip6(ICMPV6, six))) is wanted


def verify(
    raw: Callable[[int, bool], Passes], tap: Passes, four: int, six: int, wanted: bool, body: bytes
) -> None:
    """All five places where such a packet comes by; IPv4 options move it, and change nothing."""
    assert bool(raw(four, False)(ip4(four, body))) is wanted
    assert bool(raw(four, False)(ip4(four, body, options=b"\x94\4\0\0" + bytes(36)))) is wanted
    assert bool(raw(six, True)(body or b"\0")) is wanted
    assert bool(tap(ip4(four, body))) is wanted
    assert bool(tap(ip4(four, body, options=b"\x94\4\0\0"))) is wanted
    assert bool(tap(ip6(six, body))) is wanted


def test_the_tap_takes_first_fragments_alone(tap: Passes) -> None:
    """A later one has no ports, whatever its bytes look like."""
    body = udp(6081, tagged(22))
    assert tap(ip4(UDP, body, fragment=0x2000))
    assert tap(ip4(UDP, body, fragment=0x4000))  # DF
    assert not tap(ip4(UDP, body, fragment=0x2001))
    assert not tap(ip4(UDP, body, fragment=0x0001))


@pytest.mark.parametrize("protocol", [0, 2, 4, 41, 43, 44, 47, 50, 51, 132, 255])
def test_the_tap_takes_no_other_protocol(tap: Passes, protocol: int) -> None:
    for body in (udp(6081, tagged(22)), tcp(1, 4240, 2), icmp(8, tagged(0))):
        assert not tap(ip4(protocol, body))
        assert not tap(ip6(protocol, body))


def test_the_tap_takes_no_other_network_protocol(tap: Passes) -> None:
    packet = ip4(UDP, udp(6081, tagged(22)))
    assert tap(packet)
    for first in set(range(256)) - set(range(0x40, 0x50)) - set(range(0x60, 0x70)):
        assert not tap(bytes((first,)) + packet[1:])
    assert not tap(ip4(ICMPV6, icmp(128, tagged(0))))
    assert not tap(ip6(ICMP, icmp(8, tagged(0))))


def test_what_comes_up_is_cut_to_what_is_read(tap: Passes) -> None:
    assert tap(ip4(UDP, udp(6081, tagged(22) + bytes(8900)))) == SNAP


# --- ICMP errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(256))
def test_which_icmp_messages_are_errors(raw: Callable[[int, bool], Passes], kind: int) -> None:
    four = raw(ICMP, False)(ip4(ICMP, icmp(kind, ip4(UDP, udp(6081, b"")))))
    six = raw(ICMPV6, True)(icmp(kind, ip6(UDP, udp(6081, b""))))
    assert bool(four) is (kind in (3, 11, 12))
    assert bool(six) is (kind in (1, 2, 3))


def test_ipv4_errors_are_known_by_our_identification(raw: Callable[[int, bool], Passes]) -> None:
    passes = raw(ICMP, False)
    ours = ip4(TCP, tcp(61000, 4240, 2))
    assert passes(ip4(ICMP, icmp(3, ours[:28], 13)))  # 8 bytes past the header, as RFC 792 has it
    assert passes(ip4(ICMP, icmp(3, ours[:6])))
    assert not passes(ip4(ICMP, icmp(3, ours[:5])))
    assert passes(ip4(ICMP, icmp(3, ours[:4] + b"\x12\x3f" + ours[6:])))  # another look's
    assert not passes(ip4(ICMP, icmp(3, ours[:4] + b"\x12\x45" + ours[6:])))


def test_ipv6_errors_are_known_by_our_ports(raw: Callable[[int, bool], Passes]) -> None:
    passes = raw(ICMPV6, True)
    for wanted, quoted in (
        (True, ip6(UDP, udp(6081, b""))),
        (True, ip6(UDP, udp(9000, b""))),
        (False, ip6(UDP, udp(53, b""))),
        (True, ip6(TCP, tcp(61000, 4240, 2)[:8])),
        (False, ip6(TCP, tcp(4240, 443, 2))),
        (True, ip6(ICMPV6, icmp(128, b""))),
        (False, ip6(ICMPV6, b"\x80\0\0\0\x12\x36\0\1")),
        (False, ip6(47, udp(6081, b""))),
        (False, ip6(UDP, b"\0\0\x17")),
    ):
        assert bool(passes(icmp(1, quoted))) is wanted
    assert not passes(icmp(1, ip6(UDP, b"")))


def test_the_tap_takes_no_errors(tap: Passes) -> None:
    """Nobody counts them there, and a busy router sees many."""
    assert not tap(ip4(ICMP, icmp(3, ip4(UDP, udp(6081, tagged(22))))))
    assert not tap(ip6(ICMPV6, icmp(1, ip6(UDP, udp(6081, tagged(22))))))


# --- what was not asked for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "dead"),
    [
        (Filters({}, [4240], True, TAG, IDENT), "udp"),
        (Filters(PORTS, [], True, TAG, IDENT), "tcp"),
        (Filters(PORTS, [4240], False, TAG, IDENT), "echo"),
    ],
    ids=["no UDP", "no TCP", "no echo"],
)
def test_a_probe_that_is_not_asked_for_does_not_come_up(filters: Filters, dead: str) -> None:
    packets = {
        "udp": ip4(UDP, udp(6081, tagged(22))),
        "tcp": ip4(TCP, tcp(1, 4240, 2)),
        "echo": ip4(ICMP, icmp(8, tagged(0))),
    }
    with kernel(filters.tap()) as passes:
        assert {name for name, packet in packets.items() if not passes(packet)} == {dead}


def test_as_many_ports_as_anybody_will_ask_for() -> None:
    """A conditional jump reaches 255 instructions far; these programs are longer."""
    udp_ports, tcp_ports = dict.fromkeys(range(5000, 5100), 0), [*range(6000, 6100)]
    many = Filters(udp_ports, tcp_ports, True, TAG, IDENT)
    with kernel(many.tap()) as passes:
        for n in range(100):
            assert passes(ip4(UDP, udp(5000 + n, tagged(0))))
            assert passes(ip6(TCP, tcp(1, 6000 + n, 2)))
            assert passes(ip4(TCP, tcp(6000 + n, 62000, 4)))
        assert passes(ip6(ICMPV6, icmp(129, tagged(0))))
        assert passes(ip4(ICMP, icmp(0, tagged(0))))
        assert not passes(ip4(UDP, udp(5100, tagged(0))))
        assert not passes(ip4(TCP, tcp(1, 6100, 2)))
        assert not passes(ip4(47, tcp(1, 6000, 2)))
    with kernel(many.raw(ICMPV6, True)) as passes:
        assert passes(icmp(1, ip6(TCP, tcp(1, 6099, 2))))
        assert passes(icmp(1, ip6(UDP, udp(5099, b""))))
        assert not passes(icmp(1, ip6(TCP, tcp(1, 6100, 2))))


# --- against a second opinion --------------------------------------------------------------------


def field(data: bytes, at: int, size: int) -> int | None:
    return int.from_bytes(data[at : at + size], "big") if at + size <= len(data) else None


def opinion(data: bytes, protocol: int) -> bool:
    """What the filters promise, said once more and in other words; `data` from the L4 header on."""
    if protocol == UDP:
        offset = PORTS.get(field(data, 2, 2) or -1)
        return offset is not None and data[8 + offset :][:4] == TAG
    if protocol == TCP:
        if len(data) < 14:
            return False
        source, port, flags = field(data, 0, 2), field(data, 2, 2), data[13]
        served = (4240, 10250)
        if port in served and flags & 0x17 == 0x02:
            return True
        back = source in served and TCP_PORTS[0] <= (port or 0) <= TCP_PORTS[1]
        return back and (bool(flags & 0x04) or flags & 0x12 == 0x12)
    kinds = (8, 0) if protocol == ICMP else (128, 129)
    return bool(data) and data[0] in kinds and data[8:12] == TAG


INTERESTING = st.sampled_from(
    [b"\x17\xc1", b"\x23\x28", b"\x10\x90", b"\x28\x0a", b"\xee\x48", b"\xfd\xe8", b"\xfd\xe7",
     b"\x08\0", b"\x80\0", b"\0\0", b"\x02", b"\x12", b"\x14", TAG, bytes(22), bytes(8)]
)  # fmt: skip
BODIES = st.one_of(
    st.binary(max_size=64),
    st.lists(st.one_of(INTERESTING, st.binary(max_size=4)), max_size=12).map(b"".join),
    st.builds(tcp, st.sampled_from([4240, 10250, 61000, 64999, 65000, 1]),
              st.sampled_from([4240, 10250, 61000, 64999, 60999, 65000]), st.integers(0, 255)),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(body=BODIES, protocol=st.sampled_from([UDP, TCP, ICMP]), options=st.integers(0, 10))
def test_the_kernel_agrees_with_a_second_opinion(body: bytes, protocol: int, options: int) -> None:
    six = ICMPV6 if protocol == ICMP else protocol
    packet = ip4(protocol, body, options=bytes(4 * options))
    with kernel(FILTERS.tap()) as passes:
        assert bool(passes(packet)) is opinion(body, protocol)
        assert bool(passes(ip6(six, body))) is opinion(body, six)
    if protocol != ICMP:  # there errors come up too
        with kernel(FILTERS.raw(protocol, False)) as passes:
            assert bool(passes(packet)) is opinion(body, protocol)
        with kernel(FILTERS.raw(protocol, True)) as passes:
            assert bool(passes(body or b"\0")) is opinion(body, protocol)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_the_kernel_runs_the_filters_over_anything(data: bytes) -> None:
    for program in (FILTERS.tap(), FILTERS.raw(ICMP, False), FILTERS.raw(ICMPV6, True)):
        with kernel(program) as passes:
            assert passes(data) <= SNAP


# --- the sockets themselves ----------------------------------------------------------------------

PROBES = [(GENEVE, UDP), (HEALTH, TCP), (ECHO, ICMP)]


@pytest.mark.parametrize(("probe", "protocol"), PROBES, ids=str)
@pytest.mark.parametrize("family", [4, 6])
def test_raw_sockets_hear_ours_alone(lab4: Lab, probe, protocol: int, family: int) -> None:  # type: ignore[no-untyped-def]
    """From n1 to n3 through the router: one of another run first, then one of ours."""
    if protocol == ICMP and family == 6:
        protocol = ICMPV6
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    ends = [next(str(a) for a in lab4.node(n).addresses if (":" in str(a)) is (family == 6))
            for n in ("n1", "n3")]  # fmt: skip
    packed = [socket.inet_pton(domain, address) for address in ends]
    form = Template.of(template(probe, Family.IPV4 if family == 4 else Family.IPV6, harmless=False))
    strange = {UDP: b"none", TCP: TAG, ICMP: b"none", ICMPV6: b"none"}[protocol]
    hears = lab4.call("n3", lambda: RawSocket(family, protocol, FILTERS, 1 << 20))
    sends = lab4.call("n1", lambda: sender(family, None))
    try:
        for tag, token in ((strange, b"strangers"), (TAG, b"8 bytes.")):
            other = bytearray(form.packet)
            if protocol == TCP and token == b"strangers":
                other[form.header + 2 : form.header + 4] = (4241).to_bytes(2, "big")
            made = Patcher(Template(bytes(other), form.protocol, form.token), tag, IDENT, packed[0])
            packet = made.patch(made.aim(packed[1]), 61000, token[: 4 if protocol == TCP else 8])
            sends.sendto(packet, (ends[1], 0))
        hears.socket.settimeout(PATIENCE_S)
        heard = hears.receive()
        assert heard is not None
        data, source, stamp = heard
        assert source == ends[0]
        at = form.token - form.header
        assert data[at : at + 4] == b"8 by"
        assert (stamp > 0) is (protocol != UDP)
        hears.socket.setblocking(False)
        assert hears.receive() is None
        assert hears.lost() == 0
    finally:
        hears.close()
        sends.close()


def test_a_raw_socket_that_is_full_counts_what_it_lost(lab4: Lab) -> None:
    own = next(str(a) for a in lab4.node("n1").addresses if ":" not in str(a))
    made = Patcher(Template.of(template(GENEVE, Family.IPV4, harmless=False)), TAG, IDENT, bytes(4))
    aim = made.aim(socket.inet_aton(own))
    hears = lab4.call("n1", lambda: RawSocket(4, UDP, FILTERS, 4096))
    sends = lab4.call("n1", lambda: sender(4, None))
    try:
        for n in range(100):
            sends.sendto(made.patch(aim, 40000, n.to_bytes(8, "big")), (own, 0))
        kept = 0
        while hears.receive() is not None:
            kept += 1
        assert 0 < kept < 100
        assert hears.lost() == 100 - kept
        assert hears.lost() == 0
    finally:
        hears.close()
        sends.close()


def test_a_tap_that_is_full_counts_what_it_lost(lab4: Lab) -> None:
    """On the loopback device each packet comes by twice: as it leaves, and as it arrives."""
    own = next(str(a) for a in lab4.node("n1").addresses if ":" not in str(a))
    made = Patcher(Template.of(template(GENEVE, Family.IPV4, harmless=False)), TAG, IDENT, bytes(4))
    aim = made.aim(socket.inet_aton(own))

    def opened() -> Tap:
        return Tap(None, FILTERS, PORTS, 4096)  # type: ignore[arg-type]

    hears = lab4.call("n1", opened)
    sends = lab4.call("n1", lambda: sender(4, None))
    try:
        for n in range(100):
            sends.sendto(made.patch(aim, 40000, n.to_bytes(8, "big")), (own, 0))
        kept = 0
        while True:
            try:
                data, (device, _, _) = hears._receive()
            except BlockingIOError:
                break
            assert (device, data[22:24]) == ("lo", b"\x17\xc1")
            kept += 1
        assert 0 < kept < 200
        assert hears.lost() == 200 - kept
        assert hears.lost() == 0
    finally:
        hears.close()
        sends.close()
