"""Why a kernel throws packets away, and who must testify to it: one table, which `kernel` walks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from preflight.core.diagnosis.settings import (
    REFUSED,
    Attached,
    DeviceSwitch,
    Direction,
    Full,
    Mask,
    ReversePathFilter,
    Switch,
    Way,
)
from preflight.core.diagnosis.witnesses import Dropped, Rise, Witness
from preflight.core.model import Family, Protocol


class Reason(StrEnum):
    """Why the kernel threw a packet away."""

    RP_FILTER = "rp-filter"
    OWN_ADDRESS = "own-address"
    NOT_LOCAL = "not-local"
    ROUTE_REFUSES = "route-refuses"
    FORWARDED = "forwarded"
    NO_ROUTE_BACK = "no-route-back"
    CONNTRACK_FULL = "conntrack-full"
    CHECKSUM = "checksum"
    ECHO_IGNORED = "echo-ignored"
    ECHO_LIMITED = "echo-limited"
    IPSEC = "ipsec"
    IPV6_DISABLED = "ipv6-disabled"
    NEIGHBOUR_TABLE_FULL = "neighbour-table-full"
    QUEUE = "queue"
    TC = "tc"
    XDP = "xdp"
    BACKLOG = "backlog"


TITLES: Final = {
    Reason.RP_FILTER: "reverse path filter (rp_filter): the route back to the sender does not "
    "leave by the device that it came in by",
    Reason.OWN_ADDRESS: "the sender's address is also this node's own",
    Reason.NOT_LOCAL: "its routing takes it for another's: the destination address is not on this "
    "node, or was rewritten on the way, or a routing rule refuses it",
    Reason.ROUTE_REFUSES: "a blackhole, prohibit or unreachable route or routing rule",
    Reason.FORWARDED: "the node forwards it instead of taking it in",
    Reason.NO_ROUTE_BACK: "no route back to the sender",
    Reason.CONNTRACK_FULL: "connection tracking table full",
    Reason.CHECKSUM: "wrong checksum",
    Reason.ECHO_IGNORED: "echo requests are ignored by sysctl",
    Reason.ECHO_LIMITED: "echo replies are rate-limited by sysctl",
    Reason.IPSEC: "IPsec policy",
    Reason.IPV6_DISABLED: "IPv6 is disabled on the device that it comes in by",
    Reason.NEIGHBOUR_TABLE_FULL: "neighbour table full",
    Reason.QUEUE: "a device's queue (qdisc) drops it",
    Reason.TC: "a traffic control filter or BPF program (tc) drops it",
    Reason.XDP: "an XDP program drops it",
    Reason.BACKLOG: "the queue between driver and network stack is full",
}


class Stage(StrEnum):
    """What a node was doing with the packet when it was lost."""

    ARRIVE = "arrive"  # before the tap
    TAKE_IN = "take-in"  # from the tap to the raw socket
    ANSWER = "answer"  # from the request at the raw socket to the answer at the tap
    SEND = "send"  # from the sender's call to the tap


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason and who must testify to it."""

    reason: Reason
    stages: tuple[Stage, ...]
    needs: tuple[Witness, ...]
    supports: tuple[Witness, ...] = ()
    family: Family | None = None  # None: either
    protocol: Protocol | None = None  # None: any


_V4, _V6 = Family.IPV4, Family.IPV6
_TCP, _ICMP = Protocol.TCP, Protocol.ICMP
_IN, _ANSWER, _ARRIVE = (Stage.TAKE_IN,), (Stage.ANSWER,), (Stage.ARRIVE,)
_OUT = (Stage.SEND, Stage.ANSWER)

_TAKEN_FOR_ANOTHERS = {
    _V4: Rise(("IpInAddrErrors", "IpExtInNoRoutes")),
    _V6: Rise(("Ip6InAddrErrors", "Ip6InNoRoutes")),
}
_FORWARDED = {_V4: Rise(("IpForwDatagrams",)), _V6: Rise(("Ip6OutForwDatagrams",))}
# Machine-wide, and the kernel counts there too what the others above count.
_REFUSED = Rise(("rt_cache:in_no_route",), ("IpInAddrErrors", "IpExtInNoRoutes"))
_UNANSWERED = {
    _V4: Rise(("IcmpInEchos",), ("IcmpOutEchoReps",), restless=True),
    _V6: Rise(("Icmp6InEchos",), ("Icmp6OutEchoReplies",), restless=True),
}
# TCP counts the RST that it makes, whether there is a way for it or not.
_RESETS = {
    _V4: Rise(("TcpOutRsts", "IpOutNoRoutes"), restless=True),
    _V6: Rise(("TcpOutRsts", "Ip6OutNoRoutes"), restless=True),
}
_DISCARDED = {_V4: Rise(("IpOutDiscards",)), _V6: Rise(("Ip6OutDiscards",))}
_NO_NEIGHBOUR = {_V4: Rise(("IpOutDiscards",)), _V6: Rise(("Ip6OutNoRoutes",))}
_NEIGHBOURS = {
    _V4: ("arp_cache", "net.ipv4.neigh.default.gc_thresh3"),
    _V6: ("ndisc_cache", "net.ipv6.neigh.default.gc_thresh3"),
}
_ECHO_REPLY = {_V4: ("net.ipv4.icmp_ratemask", 0), _V6: ("net.ipv6.icmp.ratemask", 129)}
_IGNORE = {_V4: "net.ipv4.icmp_echo_ignore_all", _V6: "net.ipv6.icmp.echo_ignore_all"}
_ICMP_CHECKSUM = {
    _V4: (Rise(("IcmpInCsumErrors",)), Dropped(("ICMP_CSUM",), ("icmp_rcv",))),
    _V6: (Rise(("Icmp6InCsumErrors",)), Dropped(("ICMP_CSUM",), ("icmpv6_rcv",))),
}
_CHECKED = {_V4: _ANSWER, _V6: _IN}  # a raw ICMPv6 socket checks by itself
_IPSEC_IN = Rise(("XfrmInNoPols", "XfrmInPolBlock", "XfrmInPolError", "XfrmInTmplMismatch"))
_IPSEC_OUT = Rise(
    ("XfrmOutPolBlock", "XfrmOutPolDead", "XfrmOutPolError", "XfrmOutNoStates", "XfrmAcquireError")
)
_TC = Rise(("* tc * dropped",))
_QUEUE_REASONS = (
    "QDISC_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "CAKE_FLOOD",
    "FQ_BAND_LIMIT", "FQ_HORIZON_LIMIT", "FQ_FLOW_LIMIT", "DUALPI2_STEP_DROP",
)  # fmt: skip
_NO_TABLE_ENTRY = Dropped(("NEIGH_CREATEFAIL",), ("ip_finish_output2", "ip6_finish_output2"))


def _rows(family: Family) -> tuple[Rule, ...]:
    """What IPv4 and IPv6 have in common, under their own names."""
    table, limit = _NEIGHBOURS[family]
    full = Full(f"{table}:entries", limit, 4, strict=False)
    return (
        Rule(
            Reason.NOT_LOCAL,
            _IN,
            (_TAKEN_FOR_ANOTHERS[family],),
            (
                Dropped(
                    ("IP_INADDRERRORS", "IP_INNOROUTES"),
                    ("ip_error", "ip6_forward", "ip6_pkt_drop", "ip6_pkt_discard"),
                ),
                Way(Direction.IN, ("EHOSTUNREACH", "ENETUNREACH", "EACCES", "EINVAL")),
            ),
            family,
        ),
        Rule(
            Reason.FORWARDED,
            _IN,
            (_FORWARDED[family], Way(Direction.IN, ("unicast",))),
            (),
            family,
        ),
        Rule(
            Reason.ECHO_IGNORED,
            _ANSWER,
            (_UNANSWERED[family], Switch(_IGNORE[family], 1, 0, "echo requests are ignored")),
            (),
            family,
            _ICMP,
        ),
        Rule(
            Reason.ECHO_LIMITED,
            _ANSWER,
            (_UNANSWERED[family], Mask(*_ECHO_REPLY[family], "includes echo replies")),
            (),
            family,
            _ICMP,
        ),
        Rule(Reason.CHECKSUM, _CHECKED[family], _ICMP_CHECKSUM[family], (), family, _ICMP),
        Rule(
            Reason.NO_ROUTE_BACK,
            _ANSWER,
            (_UNANSWERED[family], Way(Direction.OUT, REFUSED)),
            (),
            family,
            _ICMP,
        ),
        Rule(
            Reason.NO_ROUTE_BACK,
            _ANSWER,
            (_RESETS[family], Way(Direction.OUT, REFUSED)),
            (),
            family,
            _TCP,
        ),
        Rule(
            Reason.NEIGHBOUR_TABLE_FULL,
            _OUT,
            (Rise((f"{table}:table_fulls",)),),
            (_NO_TABLE_ENTRY, _NO_NEIGHBOUR[family], full),
            family,
        ),
        Rule(
            Reason.NEIGHBOUR_TABLE_FULL,
            _OUT,
            (_NO_TABLE_ENTRY,),
            (_NO_NEIGHBOUR[family], full),
            family,
        ),
        Rule(
            Reason.QUEUE,
            _OUT,
            (Rise(("* qdisc * dropped",)),),
            (Dropped(_QUEUE_REASONS, ("__dev_queue_xmit", "__dev_xmit_skb")), _DISCARDED[family]),
            family,
        ),
        Rule(
            Reason.TC,
            _OUT,
            (_TC,),
            (
                Dropped(("TC_EGRESS",), ("__dev_queue_xmit", "sch_handle_egress")),
                _DISCARDED[family],
            ),
            family,
        ),
    )


TABLE: Final[tuple[Rule, ...]] = (
    Rule(
        Reason.RP_FILTER,
        _IN,
        (Rise(("TcpExtIPReversePathFilter",)),),
        (
            ReversePathFilter(),
            Dropped(("IP_RPFILTER",), ("ip_rcv_finish_core", "ip_rcv_finish")),
            # EXDEV before Linux 6.14, EINVAL since.
            Way(Direction.IN, ("EXDEV", "EINVAL"), denies=True),
            # Without any way back loose would let nothing in either.
            Way(Direction.BACK, ("unicast",), denies=True),
        ),
        _V4,
    ),
    Rule(
        Reason.NO_ROUTE_BACK,
        _IN,
        (Rise(("TcpExtIPReversePathFilter",)), Way(Direction.BACK, REFUSED)),
        (Dropped(("IP_RPFILTER",), ("ip_rcv_finish_core", "ip_rcv_finish")),),
        _V4,
    ),
    Rule(
        Reason.OWN_ADDRESS,
        _IN,
        (
            Rise(("rt_cache:in_martian_src",), ("TcpExtIPReversePathFilter",)),
            Way(Direction.BACK, ("local",)),
        ),
        (Dropped(("IP_LOCAL_SOURCE",), ("ip_rcv_finish_core", "ip_rcv_finish")),),
        _V4,
    ),
    Rule(
        Reason.ROUTE_REFUSES,
        _IN,
        (_REFUSED, Way(Direction.IN, ("EINVAL", "EACCES", "EHOSTUNREACH"))),
        (Dropped((), ("ip_error",)),),
        _V4,
    ),
    Rule(
        Reason.ROUTE_REFUSES,
        _IN,
        (Dropped((), ("dst_discard", "dst_discard_out")), Way(Direction.IN, ("EINVAL",))),
        (),
        _V6,
    ),
    Rule(
        Reason.CONNTRACK_FULL,
        (Stage.TAKE_IN, Stage.SEND),
        (
            Rise(("nf_conntrack:drop",), restless=True),
            Full("net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max", 2),
        ),
    ),
    Rule(
        Reason.CHECKSUM,
        _IN,
        (Rise(("IpExtInCsumErrors",)), Dropped(("IP_CSUM",), ("ip_rcv_core", "ip_rcv"))),
        (),
        _V4,
    ),
    Rule(
        Reason.CHECKSUM,
        _ANSWER,
        (Rise(("TcpInCsumErrors",)), Dropped(("TCP_CSUM",), ("tcp_v4_rcv", "tcp_v6_rcv"))),
        (),
        protocol=_TCP,
    ),
    Rule(
        Reason.IPSEC,
        _IN,
        (_IPSEC_IN,),
        (
            Dropped(("XFRM_POLICY",), ("raw_rcv", "rawv6_rcv", "raw_local_deliver")),
            Attached("ip xfrm policy list dir in", "IPsec policies"),
        ),
    ),
    Rule(
        Reason.IPSEC,
        _OUT,
        (_IPSEC_OUT,),
        (
            Dropped((), ("dst_discard", "dst_discard_out")),
            Attached("ip xfrm policy list dir out", "IPsec policies"),
        ),
    ),
    Rule(
        Reason.IPV6_DISABLED,
        _IN,
        (
            Rise(("Ip6InDiscards",)),
            DeviceSwitch("net.ipv6.conf.*.disable_ipv6", 1, 0, "IPv6 is disabled"),
        ),
        (Dropped(("IPV6DISABLED",)),),
        _V6,
    ),
    Rule(
        Reason.TC,
        _IN,
        (_TC, Dropped(("TC_INGRESS",), ("__netif_receive_skb_core", "sch_handle_ingress"))),
    ),
    Rule(
        Reason.XDP,
        _ARRIVE,
        (
            Dropped(("XDP",), ("do_xdp_generic", "netif_receive_generic_xdp", "veth_xdp_rcv_skb")),
            Attached("ip -d link show *", "an XDP program"),
        ),
    ),
    Rule(
        Reason.BACKLOG,
        _ARRIVE,
        (Rise(("softnet:dropped",)), Dropped(("CPU_BACKLOG",), ("enqueue_to_backlog",))),
    ),
    *(row for family in Family for row in _rows(family)),
)
