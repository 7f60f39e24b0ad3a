"""The kernel's own counts of what it did with packets: /proc/net, and the queues' by rtnetlink.

Their names are those under which an administrator finds them: nstat's (TcpExtIPReversePathFilter),
lnstat's (nf_conntrack:drop), and after a device's name and a space, `ip -s link`'s and `tc -s`'s.
"""

import _socket as socket
import struct

from preflight.agent.host import read as read_file
from preflight.agent.netlink import Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Counts = dict[str, int]

RTM_NEWQDISC, RTM_GETQDISC = 36, 38
TCA_KIND, TCA_STATS2, TCA_STATS_QUEUE = 1, 7, 3  # linux/rtnetlink.h, linux/gen_stats.h

# What may move by a probe, or by one that is lost; all else is somebody's traffic.
_WANTED = {
    "Ip": "InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards InDelivers "
    "OutRequests OutDiscards OutNoRoutes ReasmReqds ReasmOKs ReasmFails FragFails FragOKs",
    "IpExt": "InNoRoutes InTruncatedPkts InCsumErrors",
    "Icmp": "InErrors InCsumErrors InEchos OutEchoReps OutErrors OutRateLimitGlobal "
    "OutRateLimitHost",
    "Tcp": "InSegs InErrs OutRsts InCsumErrors",
    "TcpExt": "IPReversePathFilter ArpFilter ListenOverflows ListenDrops TCPReqQFullDrop",
    "Udp": "InDatagrams NoPorts InErrors RcvbufErrors InCsumErrors MemErrors",
    "Ip6": "InHdrErrors InTooBigErrors InNoRoutes InAddrErrors InUnknownProtos InDiscards "
    "InDelivers OutForwDatagrams OutRequests OutDiscards OutNoRoutes ReasmReqds ReasmOKs "
    "ReasmFails FragFails FragOKs",
    "Icmp6": "InErrors InCsumErrors InEchos OutEchoReplies OutErrors OutRateLimitHost",
    "Udp6": "InDatagrams NoPorts InErrors RcvbufErrors InCsumErrors MemErrors",
    "Xfrm": "InNoPols InPolBlock InPolError InTmplMismatch OutPolBlock OutPolDead OutPolError "
    "OutNoStates AcquireError",
}
_NAMES = frozenset(prefix + name for prefix, names in _WANTED.items() for name in names.split())
_TABLES = {
    "nf_conntrack": ("invalid", "insert_failed", "drop", "early_drop"),
    "arp_cache": ("res_failed", "unresolved_discards", "table_fulls"),
    "ndisc_cache": ("res_failed", "unresolved_discards", "table_fulls"),
    "rt_cache": ("in_no_route", "in_martian_dst", "in_martian_src"),
}
# Columns of /proc/net/dev: receive's eight, then transmit's.
_DEVICE = {
    1: "rx_packets", 2: "rx_errors", 3: "rx_dropped", 4: "rx_fifo", 5: "rx_frame",
    9: "tx_packets", 10: "tx_errors", 11: "tx_dropped", 12: "tx_fifo", 14: "tx_carrier",
}  # fmt: skip
_FILTERING = ("clsact", "ingress")
_WRAP = 1 << 32  # the tables of /proc/net/stat and qdisc statistics are 32 bits wide


def pairs_of_lines(text: bytes) -> "Counts":
    """/proc/net/snmp and netstat: a line of names, and one of numbers, with the same beginning."""
    out: Counts = {}
    names: list[bytes] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if names and names[0] == words[0]:
            prefix = words[0].rstrip(b":")
            for name, value in zip(names[1:], words[1:]):
                _put(out, prefix + name, value)
            names = []
        else:
            names = words
    return out


def lines(text: bytes) -> "Counts":
    """/proc/net/snmp6 and xfrm_stat: a name and a number on each line."""
    out: Counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2:
            _put(out, words[0], words[1])
    return out


def columns(text: bytes) -> "Counts":
    """/proc/net/stat: a line of names, and one of hexadecimal numbers for each CPU, here summed."""
    rows = [line.split() for line in text.splitlines()]
    out: Counts = {}
    for row in rows[1:]:
        for name, value in zip(rows[0], row):
            number = _number(value, 16)
            if number is not None:
                key = name.decode("ascii", "replace")
                out[key] = out.get(key, 0) + number
    return out


def devices(text: bytes, wanted: "Sequence[str]") -> "Counts":
    """/proc/net/dev, of the `wanted` devices."""
    out: Counts = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(b":")
        device = name.strip().decode("utf-8", "replace")
        if colon and device in wanted:
            words = rest.split()
            for at, what in _DEVICE.items():
                if at < len(words):
                    number = _number(words[at])
                    if number is not None:
                        out["%s %s" % (device, what)] = number
    return out


def backlog(text: bytes) -> "Counts":
    """/proc/net/softnet_stat: what the queue between driver and stack had no room for."""
    total = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1:
            total += _number(words[1], 16) or 0
    return {"softnet:dropped": total} if text.strip() else {}


def queues(messages: "list[tuple[int, bytes]]", wanted: "dict[int, str]") -> "Counts":
    """What qdiscs dropped, by kind, from RTM_NEWQDISC messages; `wanted` are devices by index.

    Those of one kind are summed: the queues of mq, the leaves of htb. `tc` are those that queue
    nothing: what their filters and programs dropped, coming in and going out.
    """
    out: Counts = {}
    for number, body in messages:
        if number != RTM_NEWQDISC or len(body) < 20:
            continue
        device = wanted.get(struct.unpack_from("=i", body, 4)[0])
        found = attributes(body[20:])
        stats = attributes(found.get(TCA_STATS2, b"")).get(TCA_STATS_QUEUE, b"")
        if device is None or len(stats) < 12:
            continue
        kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
        where = "tc" if kind in _FILTERING else "qdisc"
        key = "%s %s %s dropped" % (device, where, kind)
        out[key] = out.get(key, 0) + int(struct.unpack_from("=I", stats, 8)[0])
    return out


def read(names: "Sequence[str]" = ()) -> "Counts":
    """All counters of this network namespace that tell of lost packets, with devices by name.

    What this kernel does not count is left out. The tables of neighbours and routes are the
    machine's, not the namespace's.
    """
    found = pairs_of_lines(read_file("/proc/net/snmp"))
    found.update(pairs_of_lines(read_file("/proc/net/netstat")))
    found.update(lines(read_file("/proc/net/snmp6")))
    found.update(lines(read_file("/proc/net/xfrm_stat")))
    out = {name: count for name, count in found.items() if name in _NAMES}
    for table, columns_of in _TABLES.items():
        told = columns(read_file("/proc/net/stat/" + table))
        out.update({"%s:%s" % (table, c): told[c] for c in columns_of if c in told})
    out.update(backlog(read_file("/proc/net/softnet_stat")))
    if names:
        out.update(devices(read_file("/proc/net/dev"), names))
        out.update(_queues(names))
    return out


def moved(before: "Counts", after: "Counts") -> "Counts":
    """By how much each counter rose, 0 included: what is missing was not counted.

    What fell was set back meanwhile, and is left out, but where 32 bits ran over.
    """
    out = {}
    for name, start in before.items():
        if name not in after:
            continue
        rise = after[name] - start
        if rise < -_WRAP // 2 and (":" in name or name.endswith(" dropped")):
            rise += _WRAP
        if rise >= 0:
            out[name] = rise
    return out


def _queues(names: "Sequence[str]") -> "Counts":
    wanted = {}
    for name in names:
        try:
            wanted[socket.if_nametoindex(name)] = name
        except OSError:
            continue
    netlink = Netlink()
    try:
        return queues(netlink.ask(RTM_GETQDISC, bytes(20), dump=True), wanted)
    except OSError:  # a kernel without traffic control
        return {}
    finally:
        netlink.close()


def _put(out: "Counts", name: bytes, value: bytes) -> None:
    number = _number(value)
    if number is not None:
        out[name.decode("ascii", "replace")] = number


def _number(text: bytes, base: int = 10) -> "int | None":
    try:
        return int(text, base)
    except ValueError:
        return None
