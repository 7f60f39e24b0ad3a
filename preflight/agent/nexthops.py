"""The next hops of one route: who they are, whether they answer, and which of them flows take."""

import struct

from preflight.agent.inet import text
from preflight.agent.netlink import RTA_GATEWAY, RTA_OIF, RTA_VIA, Netlink, attributes
from preflight.agent.route import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Key = tuple[int, bytes]  # device, address

_RTA_MULTIPATH = 9
_NEXT = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, weight - 1, device
_DEAD, _ONLINK = 0x01, 0x04  # linux/rtnetlink.h, RTNH_F_*
_POLICY = "/proc/sys/net/ipv4/fib_multipath_hash_policy"


class Neighbours:
    """What the kernel knows of those on its links."""

    def __init__(self, macs: "dict[Key, tuple[bytes, int]]", silent: "set[Key]") -> None:
        self.macs = macs  # those it sends to, with their state
        self.silent = silent  # those it asked for in vain

    def of(self, hop: "NextHop") -> "tuple[str, bool]":
        """Its MAC address, empty where not known, and whether it did not answer."""
        key = hop.device, hop.address
        mac = self.macs[key][0] if key in self.macs else b""
        return ":".join("%02x" % byte for byte in mac), key in self.silent


class NextHop:
    """One of them; the address is empty where the route ends on a link."""

    __slots__ = ("address", "device", "dead", "foreign", "onlink", "weight")

    def __init__(self, fields: "dict[int, bytes]", device: int, flags: int, weight: int) -> None:
        self.address = fields.get(RTA_GATEWAY) or fields.get(RTA_VIA, b"")[2:]
        self.foreign = RTA_VIA in fields  # an IPv4 route through an IPv6 gateway
        self.device = device
        self.weight = weight
        self.dead = bool(flags & _DEAD)
        self.onlink = bool(flags & _ONLINK)

    def words(self) -> str:
        """`via 10.0.0.1 dev eth0`, with a space before it."""
        via = ""
        if self.address:
            via = " via %s%s" % ("inet6 " if self.foreign else "", text(self.address))
        return "%s dev %s" % (via, name_of(self.device))


def of(body: bytes, fields: "dict[int, bytes]") -> "list[NextHop]":
    """All that an RTM_NEWROUTE message has."""
    data = fields.get(_RTA_MULTIPATH, b"")
    if not data:
        device = struct.unpack("=I", fields[RTA_OIF])[0] if RTA_OIF in fields else 0
        return [NextHop(fields, device, struct.unpack_from("=I", body, 8)[0], 1)] if device else []
    out = []
    at = 0
    while at + _NEXT.size <= len(data):
        size, flags, weight, device = _NEXT.unpack_from(data, at)
        if size < _NEXT.size or at + size > len(data):
            break
        out.append(
            NextHop(attributes(data[at + _NEXT.size : at + size]), device, flags, weight + 1)
        )
        at += (size + 3) & ~3
    return out


def told(
    hops: "list[NextHop]", neighbours: Neighbours, taken: "set[bytes] | None", route: "list[str]"
) -> "list[list[Any]]":
    """[address, device, MAC, silent, taken, command] of each; see `preflight.wire`.

    `taken` are those of which that is known, None for all; `route` is `ip` with its family, the
    route's prefix and its other words, or nothing where no command can take out one hop alone.
    """
    used = [hop for hop in hops if not hop.dead]
    out: list[list[Any]] = []
    for hop in used:
        mac, silent = neighbours.of(hop)
        others = [other for other in used if other is not hop]
        command = _without(hop, others, route) if route and others else ""
        address = text(hop.address) if hop.address else ""
        mine = taken is None or hop.address in taken
        out.append([address, name_of(hop.device), mac, silent, mine, command])
    return out


def _without(hop: NextHop, others: "list[NextHop]", route: "list[str]") -> str:
    """IPv4 has no command for one alone: the route is set anew, without it."""
    ip, prefix, rest = route
    if ip != "ip":
        return "%s route del %s%s%s" % (ip, prefix, hop.words(), rest)
    if len(others) == 1:
        kept = others[0].words() + (" onlink" if others[0].onlink else "")
        return "%s route replace %s%s%s" % (ip, prefix, kept, rest)
    kept = "".join(
        " nexthop%s weight %d%s" % (one.words(), one.weight, " onlink" if one.onlink else "")
        for one in others
    )
    return "%s route replace %s%s%s" % (ip, prefix, rest, kept)


def taken(netlink: Netlink, target: bytes, own: bytes) -> "set[bytes] | None":
    """The next hops of what this node sends there, without a source address yet and from `own`;
    None where it depends on more than addresses.
    """
    try:
        with open(_POLICY) as policy:
            if len(target) != 4 or policy.read().strip() != "0":
                return None  # over IPv6 the flow label counts, too
        return {netlink.route(target, source=source)[1] for source in (b"", own)}
    except OSError:
        return None
