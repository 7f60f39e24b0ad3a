"""The kernel's own reasons, each made to happen: named, mended by what is proposed, or left alone.

A wrong accusation is worse than none: the innocent are tried here as well.
"""

import ctypes
import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from kernelbed import ADDRESSES, COUNT, PATIENCE_S, Bed, probes
from labs import PREFIX

from preflight.core.diagnosis.kernel import KernelReason, explain
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import End
from preflight.core.model import Family, Leg, Place, Protocol

pytestmark = pytest.mark.lab

_numbers = itertools.count()
TAKE_IN = (Leg.FORWARD, Place.DESTINATION)
ANSWER = (Leg.REPLY, Place.DESTINATION)
SEND = (Leg.FORWARD, Place.SOURCE)
TAKE_ANSWER_IN = (Leg.REPLY, Place.SOURCE)
ARRIVE = (Leg.FORWARD, Place.PATH)


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(f"preflight-{PREFIX}-k{next(_numbers)}") as built:
        yield built


# --- one fault -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What is broken, for which probes, and where they then are lost."""

    name: str
    reason: Reason | None
    broken: Callable[[Bed], object]
    stage: tuple[Leg, Place]
    protocol: str = "udp"
    v6: bool = False
    source: str = ""  # of the probes, where it is not a's first address
    destination: str = ""
    spoil: bool = False
    mended: dict[str, str] = field(default_factory=dict)  # settings that are proposed
    says: tuple[str, ...] = ()  # in the evidence
    device: str = "v0"
    at_least: int = COUNT  # so many are lost
    devices: tuple[str, ...] = ("v0", "w0")  # that are asked for

    @property
    def ends(self) -> tuple[str, str]:
        return (
            self.source or ADDRESSES["a"][self.v6],
            self.destination or ADDRESSES["b"][self.v6],
        )

    @property
    def node(self) -> str:
        return "a" if self.stage[1] is Place.SOURCE else "b"

    def packets(self) -> list[bytes]:
        return probes(self.protocol, *self.ends, spoil=self.spoil)


@dataclass
class Loss:
    came: int
    lost: int
    end: End


def measure(
    bed: Bed,
    fault: Fault,
    *,
    send: Callable[[list[bytes]], object] | None = None,
    before: Callable[[], object] = lambda: None,
) -> Loss:
    """Send, watch, and have the node account for it. `before` falls into the idle window."""
    own, peer = fault.ends if fault.node == "a" else fault.ends[::-1]
    send = send or (lambda packets: bed.send("a", packets))
    with (
        bed.account(fault.node, pairs=[(own, peer)], devices=fault.devices, idle=False) as account,
        bed.watch(fault.node, fault.protocol, v6=fault.v6, device=fault.device) as seen,
    ):
        assert account.trouble == ""
        before()
        account.idle()
        packets = fault.packets()
        seen.forget()
        send(packets)
        if fault.stage == SEND:
            seen.read()
            came, went = len(packets), seen.left
        elif fault.stage == ARRIVE:
            _until(lambda: bed.received("b", "v0") >= COUNT)
            seen.read()
            came, went = len(packets), seen.arrived
        elif fault.stage == ANSWER:
            seen.wait(lambda s: s.accepted >= COUNT)
            came, went = seen.accepted, seen.left
        else:
            seen.wait(lambda s: s.arrived >= COUNT)
            came, went = seen.arrived, seen.accepted
        end = account.end()
    return Loss(came, came - went, end)


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end


def judge(fault: Fault, loss: Loss, *, device: str | None = None) -> KernelReason | None:
    """The accusation, from what a node told over a wire."""
    leg, place = fault.stage
    source, destination = fault.ends
    told = json.loads(json.dumps([loss.end.settings, loss.end.idle, loss.end.moved]))
    end = End("", *told, loss.end.drops, loss.end.idle_drops)
    incoming = fault.device if fault.stage in (TAKE_IN, TAKE_ANSWER_IN, ARRIVE) else ""
    return explain(
        leg=leg,
        place=place,
        protocol=Protocol(fault.protocol),
        family=Family.IPV6 if fault.v6 else Family.IPV4,
        lost=loss.lost,
        came=loss.came,
        device=incoming if device is None else device,
        end=end,
        source=source,
        destination=destination,
    )


# --- what is broken ------------------------------------------------------------------------------

_SHOOT = "'1,6 0 0 2,'"  # a classic BPF program that returns TC_ACT_SHOT for every packet


def rp_filter(value: int, *, route: str = "10.77.0.0/24 dev w0", everywhere: int = 0) -> Callable:
    def broken(bed: Bed) -> None:
        bed.ip("a", "address add 10.77.0.1/32 dev v0")
        if route:
            bed.ip("b", f"route add {route}")
        bed.sysctl("b", "net.ipv4.conf.v0.rp_filter", value)
        bed.sysctl("b", "net.ipv4.conf.all.rp_filter", everywhere)

    return broken


def elsewhere(*commands: str, forwarding: bool = False) -> Callable:
    """`a` sends to b what is for 10.88.0.1 or fd88::1."""

    def broken(bed: Bed) -> None:
        bed.ip("a", "route add 10.88.0.0/24 via 10.9.0.2")
        bed.ip("a", "-6 route add fd88::/64 via fd09::2")
        bed.sysctl("b", "net.ipv4.ip_forward", int(forwarding))
        bed.sysctl("b", "net.ipv6.conf.all.forwarding", int(forwarding))
        for command in commands:
            bed.ip("b", command)

    return broken


def sysctls(**values: object) -> Callable:
    def broken(bed: Bed) -> None:
        for name, value in values.items():
            bed.sysctl("b", name.replace("__", "."), value)

    return broken


def ip(node: str, *commands: str) -> Callable:
    return lambda bed: [bed.ip(node, command) for command in commands]


def tc(node: str, *commands: str) -> Callable:
    return lambda bed: [bed.tc(node, command) for command in commands]


def ipv6_disabled(bed: Bed) -> None:
    # Its own address is then gone from the device: this one is on another.
    bed.ip("b", "address add fd55::2/128 dev lo nodad")
    bed.sysctl("b", "net.ipv6.conf.v0.disable_ipv6", 1)
    bed.ip("a", "-6 route add fd55::2/128 dev v0")
    bed.ip("a", f"neighbour add fd55::2 lladdr {bed.mac('b', 'v0')} dev v0")


def bridged(bed: Bed) -> None:
    """b's address is on a bridge with v0 in it; v0's own filter is off, and would not count."""
    for command in (
        f"link add br0 address {bed.mac('b', 'v0')} type bridge", "link set br0 up",
        "address del 10.9.0.2/24 dev v0", "link set v0 master br0",
        "address add 10.9.0.2/24 dev br0",
    ):  # fmt: skip
        bed.ip("b", command)
    bed.ip("a", "address add 10.77.0.1/32 dev v0")
    bed.ip("b", "route add 10.77.0.0/24 dev w0")
    bed.sysctl("b", "net.ipv4.conf.br0.rp_filter", 1)


def answers_elsewhere(bed: Bed) -> None:
    """b answers by its second device, and a's reverse path filter there is strict."""
    bed.ip("b", "route add 10.9.0.1/32 dev w0")
    bed.sysctl("a", "net.ipv4.conf.w0.rp_filter", 1)


def xdp(generic: bool) -> Callable:
    """b's device has a program that drops everything: r0 = XDP_DROP; exit."""

    def attach() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
        held = [ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")]
        form = struct.pack("=IIQQ24x", 6, 2, *(ctypes.addressof(h) for h in held))
        program = libc.syscall(321, 5, ctypes.create_string_buffer(form), len(form))
        assert program >= 0
        inner = struct.pack("=HHiHHI", 8, 1, program, 8, 3, 2 if generic else 4)
        body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex("v0"), 0, 0)
        body += struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.send(struct.pack("=IHHII", 16 + len(body), 19, 5, 1, 0) + body)
            assert struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0

    return lambda bed: bed.inside("b", attach)


_BLOCK = "src {0}/32 dst {1}/32 action block"
_FAULTS = [
    Fault(
        "rp_filter strict, the way back by another device", Reason.RP_FILTER, rp_filter(1),
        TAKE_IN, source="10.77.0.1", mended={"net.ipv4.conf.v0.rp_filter": "2"},
        says=("TcpExtIPReversePathFilter rose by 20", "net.ipv4.conf.v0.rp_filter = 1 (strict)",
              "`ip route get 10.9.0.2 from 10.77.0.1 iif v0` says"),
    ),
    Fault(
        "rp_filter strict by `all`", Reason.RP_FILTER, rp_filter(0, everywhere=1),
        TAKE_IN, "tcp", source="10.77.0.1", mended={"net.ipv4.conf.v0.rp_filter": "2"},
        says=("net.ipv4.conf.v0.rp_filter = 0, but net.ipv4.conf.all.rp_filter = 1 counts",),
    ),
    Fault(
        "rp_filter loose, no way back at all", Reason.RP_FILTER, rp_filter(2, route=""),
        TAKE_IN, "icmp", source="10.77.0.1", says=("= 2 (loose)",),
    ),
    Fault(
        "rp_filter at the source, for answers by another device", Reason.RP_FILTER,
        answers_elsewhere, TAKE_ANSWER_IN, "icmp", device="w0",
        mended={"net.ipv4.conf.w0.rp_filter": "0"},
        says=("`ip -4 address show dev w0` shows no address: there, loose is as strict",),
    ),
    Fault(
        "rp_filter of a bridge, whose port they come in by", Reason.RP_FILTER, bridged, TAKE_IN,
        source="10.77.0.1", devices=("v0", "br0"),
        mended={"net.ipv4.conf.br0.rp_filter": "2"},
    ),
    Fault(
        "not this node's address", Reason.NOT_LOCAL, elsewhere(), TAKE_IN,
        destination="10.88.0.1",
        says=("IpInAddrErrors rose by 20", "10.88.0.1 from 10.9.0.1 iif v0` says No route to host"),
    ),
    Fault(
        "not this node's address, IPv6", Reason.NOT_LOCAL,
        elsewhere("-6 route add default dev w0"), TAKE_IN, v6=True, destination="fd88::1",
        says=("Ip6InAddrErrors rose by 20",),
    ),
    Fault(
        "no route in, a forwarding node", Reason.NOT_LOCAL, elsewhere(forwarding=True), TAKE_IN,
        destination="10.88.0.1", says=("IpExtInNoRoutes rose by 20",),
    ),
    Fault(
        "forwarded", Reason.FORWARDED,
        elsewhere("route add 10.88.0.0/24 dev w0", forwarding=True), TAKE_IN,
        destination="10.88.0.1", says=("IpForwDatagrams rose by 20", "says unicast"),
    ),
    Fault(
        "forwarded, IPv6", Reason.FORWARDED,
        elsewhere("-6 route add fd88::/64 dev w0", forwarding=True), TAKE_IN, v6=True,
        destination="fd88::1",
    ),
    Fault(
        "blackhole", Reason.ROUTE_REFUSES,
        elsewhere("route add blackhole 10.88.0.0/24", forwarding=True), TAKE_IN,
        destination="10.88.0.1", says=("says Invalid argument",),
    ),
    Fault(
        "prohibited", Reason.ROUTE_REFUSES,
        elsewhere("route add prohibit 10.88.0.0/24", forwarding=True), TAKE_IN,
        destination="10.88.0.1", says=("says Permission denied",),
    ),
    Fault(
        "blackhole, IPv6", Reason.ROUTE_REFUSES,
        elsewhere("-6 route add blackhole fd88::/64", forwarding=True), TAKE_IN, v6=True,
        destination="fd88::1",
    ),
    Fault(
        "the sender's address is ours too", Reason.OWN_ADDRESS,
        ip("b", "address add 10.9.0.1/32 dev lo"), TAKE_IN, says=("rt_cache:in_martian_src",),
    ),
    Fault("wrong TCP checksum", Reason.CHECKSUM, lambda _: None, ANSWER, "tcp", spoil=True,
          says=("TcpInCsumErrors rose by 20", "TCP_CSUM")),
    Fault("wrong TCP checksum, IPv6", Reason.CHECKSUM, lambda _: None, ANSWER, "tcp", True,
          spoil=True),
    Fault("wrong ICMP checksum", Reason.CHECKSUM, lambda _: None, ANSWER, "icmp", spoil=True),
    Fault("wrong ICMPv6 checksum", Reason.CHECKSUM, lambda _: None, TAKE_IN, "icmp", True,
          spoil=True),
    Fault("IPsec wants it encrypted", Reason.IPSEC,
          ip("b", "xfrm policy add dir in src 10.9.0.1/32 dst 10.9.0.2/32 "
             "tmpl proto esp mode transport"), TAKE_IN,
          says=("XfrmInTmplMismatch", "`ip xfrm policy list dir in` shows IPsec policies: 1")),
    Fault("IPsec blocks it, IPv6", Reason.IPSEC,
          ip("b", "xfrm policy add dir in src fd09::1/128 dst fd09::2/128 action block"),
          TAKE_IN, "tcp", True, says=("XfrmInPolBlock",)),
    Fault("IPsec has no key to send", Reason.IPSEC,
          ip("a", "xfrm policy add dir out src 10.9.0.1/32 dst 10.9.0.2/32 "
             "tmpl proto esp mode transport"), SEND, says=("XfrmOutNoStates",)),
    Fault("IPsec refuses to send", Reason.IPSEC,
          ip("a", "xfrm policy add dir out src 10.9.0.1/32 dst 10.9.0.2/32 action block"), SEND,
          says=("XfrmOutPolBlock", "dir out` shows")),
    Fault("IPsec refuses to answer", Reason.IPSEC,
          ip("b", "xfrm policy add dir out src 10.9.0.2/32 dst 10.9.0.1/32 action block"), ANSWER,
          "icmp"),
    Fault("IPv6 disabled on the device", Reason.IPV6_DISABLED, ipv6_disabled, TAKE_IN, v6=True,
          destination="fd55::2", mended={"net.ipv6.conf.v0.disable_ipv6": "0"}),
    Fault("tc coming in", Reason.TC,
          tc("b", "qdisc add dev v0 clsact",
             f"filter add dev v0 ingress bpf da bytecode {_SHOOT}"), TAKE_IN,
          says=("v0 tc clsact dropped rose by 20", "TC_INGRESS")),
    Fault("tc coming in, an ingress qdisc", Reason.TC,
          tc("b", "qdisc add dev v0 ingress",
             f"filter add dev v0 parent ffff: bpf da bytecode {_SHOOT}"), TAKE_IN, "tcp"),
    Fault("tc going out", Reason.TC,
          tc("a", "qdisc add dev v0 clsact",
             f"filter add dev v0 egress bpf da bytecode {_SHOOT}"), SEND,
          says=("TC_EGRESS", "IpOutDiscards rose by 20")),
    Fault("tc going out, IPv6", Reason.TC,
          tc("a", "qdisc add dev v0 clsact",
             f"filter add dev v0 egress bpf da bytecode {_SHOOT}"), SEND, v6=True),
    Fault("tc drops answers", Reason.TC,
          tc("b", "qdisc add dev v0 clsact",
             f"filter add dev v0 egress bpf da bytecode {_SHOOT}"), ANSWER, "icmp"),
    Fault("echo ignored", Reason.ECHO_IGNORED, sysctls(net__ipv4__icmp_echo_ignore_all=1), ANSWER,
          "icmp", mended={"net.ipv4.icmp_echo_ignore_all": "0"},
          says=("IcmpInEchos rose by 20 and IcmpOutEchoReps by 0",)),
    Fault("echo ignored, IPv6", Reason.ECHO_IGNORED, sysctls(net__ipv6__icmp__echo_ignore_all=1),
          ANSWER, "icmp", True, mended={"net.ipv6.icmp.echo_ignore_all": "0"}),
    Fault("echo replies limited", Reason.ECHO_LIMITED, sysctls(net__ipv4__icmp_ratemask=6169),
          ANSWER, "icmp", mended={"net.ipv4.icmp_ratemask": "6168"}, at_least=10),
    Fault("echo replies limited, IPv6", Reason.ECHO_LIMITED,
          sysctls(net__ipv6__icmp__ratemask="0-1,3-129"), ANSWER, "icmp", True,
          mended={"net.ipv6.icmp.ratemask": "0-1,3-128"}, at_least=10),
    *(
        Fault(f"no way back, {protocol}, {'v6' if v6 else 'v4'}: {route or 'none'}",
              Reason.NO_ROUTE_BACK,
              lambda bed, r=route: (
                  bed.ip("a", "address add 10.77.0.1/32 dev v0"),
                  bed.ip("a", "address add fd77::1/128 dev v0 nodad"),
                  r and bed.ip("b", r),
              ),
              ANSWER, protocol, v6, source="fd77::1" if v6 else "10.77.0.1")
        for protocol, v6, route in (
            ("tcp", False, ""), ("tcp", True, ""), ("icmp", False, ""), ("icmp", True, ""),
            ("tcp", False, "route add blackhole 10.77.0.0/24"),
            ("icmp", False, "route add prohibit 10.77.0.0/24"),
            ("icmp", True, "-6 route add unreachable fd77::/64"),
        )
    ),
    Fault("XDP, generic", Reason.XDP, xdp(True), ARRIVE,
          says=("`ip -d link show v0` shows an XDP program: xdpgeneric",)),
    Fault("XDP, the driver's", Reason.XDP, xdp(False), ARRIVE, "tcp"),
]  # fmt: skip


@pytest.mark.parametrize("fault", _FAULTS, ids=lambda fault: fault.name)
def test_the_kernels_reason_is_named_and_the_proposed_setting_mends_it(
    bed: Bed, fault: Fault
) -> None:
    fault.broken(bed)
    loss = measure(bed, fault)
    assert loss.came == COUNT
    assert loss.lost >= fault.at_least
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is fault.reason
    assert {change.name: change.better for change in found.settings} == fault.mended
    for words in fault.says:
        assert any(words in sentence for sentence in found.evidence), found.evidence
    if fault.mended:
        for change in found.settings:
            bed.sysctl(fault.node, change.name, change.better)
        again = measure_open(bed, fault)
        assert again == COUNT


def measure_open(bed: Bed, fault: Fault) -> int:
    """How many pass now where they were lost."""
    with bed.watch(fault.node, fault.protocol, v6=fault.v6, device=fault.device) as seen:
        bed.send("a", fault.packets())
        seen.wait(lambda s: (s.left if fault.stage == ANSWER else s.accepted) >= COUNT)
        return COUNT


def test_a_wrong_ip_checksum_is_named(bed: Bed) -> None:
    fault = Fault("wrong IP checksum", None, lambda _: None, TAKE_IN)

    def spoilt(packets: list[bytes]) -> None:
        bed.inject("a", [p[:10] + bytes([p[10] ^ 0x55]) + p[11:] for p in packets])

    loss = measure(bed, fault, send=spoilt)
    found = judge(fault, loss)
    assert found is not None
    assert found.reason is Reason.CHECKSUM
    assert "IpExtInCsumErrors rose by 20" in found.evidence[0]
    assert "IP_CSUM" in found.evidence[1]


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_queue_that_is_full_is_named(bed: Bed, v6: bool) -> None:
    bed.tc("a", "qdisc add dev v0 root tbf rate 1mbit burst 1600 limit 200")
    fault = Fault("queue", None, lambda _: None, SEND, v6=v6)
    packets = probes("udp", *fault.ends, count=400)

    def dropped() -> int:
        told = json.loads(bed.run("a", "tc", "-j", "-s", "qdisc", "show", "dev", "v0"))
        return sum(queue["drops"] for queue in told)

    with bed.account("a") as account, bed.watch("a", "udp", v6=v6) as seen:
        bed.send("a", packets)
        lost = dropped()
        seen.wait(lambda s: s.left == len(packets) - lost)  # what still was in the queue
        loss = Loss(len(packets), lost, account.end())
    assert lost > 100
    found = judge(fault, loss)
    assert found is not None
    assert found.reason is Reason.QUEUE
    assert f"v0 qdisc tbf dropped rose by {lost}" in found.evidence[0]
    assert any("QDISC_" in sentence for sentence in found.evidence)


@pytest.mark.parametrize("v6", [False, True], ids=["ipv4", "ipv6"])
def test_a_full_neighbour_table_is_named(bed: Bed, v6: bool) -> None:
    """The table is the machine's: for the moment of this burst its limit is below what it holds."""
    bed.ip("a", "-6 route add fd66::/64 dev v0" if v6 else "route add 10.64.0.0/16 dev v0")
    limit = Path(f"/proc/sys/net/ipv{6 if v6 else 4}/neigh/default/gc_thresh3")
    table = "ndisc_cache" if v6 else "arp_cache"
    fresh = (f"fd66::{i:x}" if v6 else f"10.64.{i >> 8}.{i & 255}" for i in range(1, 60000))
    fault = Fault("", None, lambda _: None, SEND, v6=v6, destination="fd66::ffff" if v6
                  else "10.64.255.255")  # fmt: skip

    def send(packets: list[bytes]) -> None:
        bed.send("a", [probes("udp", fault.ends[0], next(fresh), count=1)[0] for _ in range(64)])
        full = _overflows(table)
        former = limit.read_text("ascii")
        try:
            limit.write_text("8", "ascii")
            for address in fresh:  # until nothing old is left to make room
                bed.send("a", probes("udp", fault.ends[0], address, count=1))
                if _overflows(table) > full:
                    break
            bed.send("a", packets)
        finally:
            limit.write_text(former, "ascii")

    loss = measure(bed, fault, send=send)
    assert loss.lost == COUNT
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is Reason.NEIGHBOUR_TABLE_FULL
    assert "NEIGH_CREATEFAIL" in found.evidence[0]


def _overflows(table: str) -> int:
    rows = [line.split() for line in Path("/proc/1/net/stat", table).read_text().splitlines()]
    return sum(int(row[rows[0].index("table_fulls")], 16) for row in rows[1:])


# --- the connection tracking table ----------------------------------------------------------------

_NFNL_CONNTRACK, _NEW, _CREATE = 12, 0x100, 0x601
_TRACKED = "table ip t {{ chain c {{ type filter hook {} priority 0; ct state new accept; }}; }}"


def fill_conntrack(count: int) -> None:
    """So many assured entries, which do not make room for others; of this namespace."""

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def flow(kind: int, source: bytes, destination: bytes, ports: tuple[bytes, bytes]) -> bytes:
        addresses = attribute(1, source) + attribute(2, destination)
        udp = attribute(1, b"\x11") + attribute(2, ports[0]) + attribute(3, ports[1])
        return attribute(0x8000 | kind, attribute(0x8001, addresses) + attribute(0x8002, udp))

    far, port, here, service = b"AAAA", b"PP", b"\x0a\x09\0\x02", b"\0\x09"
    body = struct.pack("=BBH", socket.AF_INET, 0, 0)
    body += flow(1, far, here, (port, service)) + flow(2, here, far, (service, port))
    body += attribute(3, struct.pack("!I", 0x0E)) + attribute(7, struct.pack("!I", 600))
    entry = struct.pack("=IHHII", 16 + len(body), _NEW, _CREATE, 0, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NFNL_CONNTRACK) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
        for block in range(0, count, 1000):
            of_block = entry.replace(far, struct.pack("!I", 0x0B000000 + block))
            before, between, after = of_block.split(port)
            netlink.send(
                b"".join(
                    before + number + between + number + after
                    for number in (struct.pack("!H", 1024 + i) for i in range(1000))
                )
            )


@pytest.mark.parametrize("node", ["a", "b"])
def test_a_full_connection_tracking_table_is_named(bed: Bed, node: str) -> None:
    most = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text("ascii"))
    if most > 300_000:
        pytest.skip(f"this machine tracks {most} connections in each namespace")
    # The limit is the machine's, the count each namespace's own.
    hook = "output" if node == "a" else "input"
    bed.run(node, "nft", "-f", "-", input=_TRACKED.format(hook))
    stage = SEND if node == "a" else TAKE_IN
    fault = Fault("full", None, lambda _: None, stage)
    bed.inside(node, lambda: fill_conntrack(most))
    loss = measure(bed, fault)
    assert loss.lost == COUNT
    found = judge(fault, loss)
    assert found is not None, loss
    assert found.reason is Reason.CONNTRACK_FULL
    assert "nf_conntrack:drop rose by 20" in found.evidence[0]
    (change,) = found.settings
    assert change.name == "net.netfilter.nf_conntrack_max"
    assert change.better == str(2 * most)


# --- the innocent ---------------------------------------------------------------------------------

_DROP = "table inet t {{ chain c {{ type filter hook {} priority 0; {} drop; }}; }}"


def strict_but_innocent(bed: Bed) -> None:
    """Strict everywhere, and a firewall that drops: the counter does not move."""
    bed.sysctl("b", "net.ipv4.conf.all.rp_filter", 1)
    bed.run("b", "nft", "-f", "-", input=_DROP.format("input", "udp dport 6081"))


def no_answer_for_a_rule(bed: Bed) -> None:
    bed.run("b", "nft", "-f", "-", input=_DROP.format("output", "meta l4proto icmp"))


_INNOCENT = [
    Fault("strict, but a rule drops", None, strict_but_innocent, TAKE_IN),
    Fault("a rule drops echo replies", None, no_answer_for_a_rule, ANSWER, "icmp"),
    Fault("nothing is wrong but a rule, IPv6", None,
          lambda bed: bed.run("b", "nft", "-f", "-",
                              input=_DROP.format("prerouting", "udp dport 6081")),
          TAKE_IN, v6=True),
]  # fmt: skip


@pytest.mark.parametrize("fault", _INNOCENT, ids=lambda fault: fault.name)
def test_nobody_is_accused_for_what_a_firewall_drops(bed: Bed, fault: Fault) -> None:
    fault.broken(bed)
    loss = measure(bed, fault)
    assert loss.lost == COUNT
    assert judge(fault, loss) is None


def test_what_moves_anyway_is_no_evidence(bed: Bed) -> None:
    fault = replace(_FAULTS[0])
    fault.broken(bed)
    loss = measure(bed, fault, before=lambda: bed.send("a", fault.packets()))
    assert loss.lost == COUNT
    assert judge(fault, loss) is None


def test_others_losses_are_not_taken_for_ours(bed: Bed) -> None:
    """Reverse path filtering drops a stranger's packets while a firewall drops ours."""
    stranger = _FAULTS[0]
    stranger.broken(bed)
    fault = Fault("ours", None, lambda _: None, TAKE_IN)
    rule = "ip saddr 10.9.0.1 udp dport 6081"
    bed.run("b", "nft", "-f", "-", input=_DROP.format("input", rule))

    def send(packets: Sequence[bytes]) -> None:
        bed.send("a", packets)
        bed.send("a", probes("tcp", *stranger.ends))

    loss = measure(bed, fault, send=send)
    loss.came, loss.lost = COUNT, COUNT
    assert loss.end.moved["TcpExtIPReversePathFilter"] == COUNT
    assert judge(fault, loss) is None
    assert judge(stranger, loss) is not None
