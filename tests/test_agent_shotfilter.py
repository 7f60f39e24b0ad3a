"""A deep look's filters, run by this machine's kernel."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from test_agent_bpf import Passes, icmp, ip4, ip6, kernel, tagged, tcp, udp

from preflight.agent.deep.shotfilter import ShotFilters
from preflight.agent.packets import ICMP, ICMPV6, TCP, UDP

TAG = b"\xa1\xb2\xc3\xd4"
FILTERS = ShotFilters([22, 0], [4240, 443], [61000, 61999], TAG)
Everywhere = Callable[[ShotFilters, int, int, bytes], set[bool]]


@pytest.fixture
def everywhere() -> Iterator[Everywhere]:
    """What the raw sockets' and the tap's filters say of a packet over either family."""
    with ExitStack() as stack:
        opened: dict[bytes, Passes] = {}

        def passes(program: bytes, packet: bytes) -> bool:
            if program not in opened:
                opened[program] = stack.enter_context(kernel(program))
            return bool(opened[program](packet))

        def ask(filters: ShotFilters, four: int, six: int, body: bytes) -> set[bool]:
            options = ip4(four, body, options=b"\x94\4\0\0")
            return {
                passes(filters.raw(four, False), ip4(four, body)),
                passes(filters.raw(four, False), options),
                passes(filters.raw(six, True), body),
                passes(filters.tap(), ip4(four, body)),
                passes(filters.tap(), options),
                passes(filters.tap(), ip6(six, body)),
            }

        yield ask


@pytest.mark.parametrize(("wanted", "body"), [
    (True, udp(6081, tagged(22))),
    (True, udp(6082, tagged(22))),  # a control port
    (True, udp(53, tagged(0))),
    (False, udp(6081, tagged(22, b"\xa1\xb2\xc3\xd5"))),  # another run's
    (False, udp(6081, tagged(21))),
    (False, udp(6081, tagged(22)[:25])),
    (False, udp(6081, b"")),
])  # fmt: skip
def test_udp_is_known_by_the_tag_alone(everywhere: Everywhere, wanted: bool, body: bytes) -> None:
    assert everywhere(FILTERS, UDP, UDP, body) == {wanted}


@pytest.mark.parametrize(("wanted", "body"), [
    (True, tcp(40000, 4240, 0x02)),
    (True, tcp(40000, 443, 0x02)),
    (True, tcp(61000, 8080, 0x02)),  # sent on to another port
    (True, tcp(61999, 8080, 0xC2)),
    (False, tcp(61001, 8080, 0x02)),
    (False, tcp(62000, 8080, 0x02)),
    (False, tcp(61000, 4240, 0x10)),
    (False, tcp(61000, 4240, 0x18)),
    (False, tcp(61000, 4240, 0x11)),
    (True, tcp(4240, 40000, 0x12)),
    (True, tcp(8080, 61999, 0x14)),
    (True, tcp(443, 1, 0x04)),
    (False, tcp(8080, 61500, 0x14)),
    (False, tcp(40000, 4240, 0x14)),  # an RST to that port is none of our answers
    (False, tcp(4240, 61000, 0x10)),
    (False, tcp(61000, 4240, 0x02)[:13]),
])  # fmt: skip
def test_tcp(everywhere: Everywhere, wanted: bool, body: bytes) -> None:
    assert everywhere(FILTERS, TCP, TCP, body) == {wanted}


def test_a_look_without_tcp_lets_none_up(everywhere: Everywhere) -> None:
    filters = ShotFilters([22], [], [], TAG)
    for flags in (0x02, 0x12, 0x14):
        assert everywhere(filters, TCP, TCP, tcp(61000, 4240, flags)) == {False}
        assert everywhere(filters, TCP, TCP, tcp(0, 0, flags)) == {False}


def test_many_ports_are_a_range(everywhere: Everywhere) -> None:
    """A program has room for 4,096 instructions; this one would take as many ports."""
    filters = ShotFilters([22], list(range(100, 1124)), [61000], TAG)
    for port, wanted in ((99, False), (100, True), (700, True), (1123, True), (1124, False)):
        assert everywhere(filters, TCP, TCP, tcp(1, port, 0x02)) == {wanted}
    turned = ShotFilters([22], [4240], list(range(100, 1124)), TAG)
    assert everywhere(turned, TCP, TCP, tcp(700, 1, 0x02)) == {True}
    assert everywhere(turned, TCP, TCP, tcp(1, 1123, 0x14)) == {True}
    assert everywhere(turned, TCP, TCP, tcp(1, 1124, 0x14)) == {False}
    known = ShotFilters([22], list(range(1, 48, 2)), [], TAG)
    assert everywhere(known, TCP, TCP, tcp(1, 47, 0x02)) == {True}
    assert everywhere(known, TCP, TCP, tcp(1, 46, 0x02)) == {False}


@pytest.mark.parametrize("kinds", [(8, 128), (0, 129)], ids=["request", "reply"])
def test_echo(kinds: tuple[int, int]) -> None:
    four, six = kinds
    for wanted, payload in ((True, tagged(0)), (False, tagged(1)), (False, b"")):
        for kind, protocol in ((four, ICMP), (six, ICMPV6)):
            assert one_family(protocol, icmp(kind, payload)) == {wanted}


@pytest.mark.parametrize("kind", range(256))
def test_icmp_errors_come_up_whatever_they_quote(kind: int) -> None:
    """At the tap too: a node's own firewall may keep them from its sockets."""
    assert one_family(ICMP, icmp(kind, b"")) == {kind in (3, 11, 12)}
    assert one_family(ICMPV6, icmp(kind, b"")) == {kind in (1, 2, 3, 4)}


def one_family(protocol: int, body: bytes) -> set[bool]:
    """At the raw socket and the tap of the family that has that protocol."""
    with ExitStack() as stack:
        raw = stack.enter_context(kernel(FILTERS.raw(protocol, protocol == ICMPV6)))
        tap = stack.enter_context(kernel(FILTERS.tap()))
        if protocol == ICMP:
            return {bool(raw(ip4(ICMP, body))), bool(tap(ip4(ICMP, body)))}
        return {bool(raw(body)), bool(tap(ip6(ICMPV6, body)))}


def test_later_fragments_and_other_protocols_stay_down() -> None:
    body = udp(6081, tagged(22))
    with kernel(FILTERS.tap()) as tap:
        assert tap(ip4(UDP, body, fragment=0x2000))
        assert not tap(ip4(UDP, body, fragment=0x2001))
        assert not tap(ip4(47, body))
        assert not tap(ip6(44, body))
