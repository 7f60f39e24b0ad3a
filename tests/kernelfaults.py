"""What can be broken so that a kernel throws our probes away, and what is to be said of it."""

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kernelbed import ADDRESSES, COUNT, Bed, probes

from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.model import Leg, Place

TAKE_IN = (Leg.FORWARD, Place.DESTINATION)
ANSWER = (Leg.REPLY, Place.DESTINATION)
SEND = (Leg.FORWARD, Place.SOURCE)
TAKE_ANSWER_IN = (Leg.REPLY, Place.SOURCE)
ARRIVE = (Leg.FORWARD, Place.PATH)


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
        program = libc.syscall(
            {"aarch64": 280}.get(os.uname().machine, 321),
            5,
            ctypes.create_string_buffer(form),
            len(form),
        )
        assert program >= 0
        inner = struct.pack("=HHiHHI", 8, 1, program, 8, 3, 2 if generic else 4)
        body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex("v0"), 0, 0)
        body += struct.pack("=HH", 4 + len(inner), 43 | 0x8000) + inner
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.send(struct.pack("=IHHII", 16 + len(body), 19, 5, 1, 0) + body)
            assert struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0

    return lambda bed: bed.inside("b", attach)


FAULTS = [
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
        "rp_filter loose, no way back at all", Reason.NO_ROUTE_BACK, rp_filter(2, route=""),
        TAKE_IN, "icmp", source="10.77.0.1", says=("unreachable", "IP_RPFILTER"),
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
