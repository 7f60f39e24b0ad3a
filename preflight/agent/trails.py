"""The routes that the kernel takes to peers to which something is blocked, as `ip route` has them.

A lookup that asks for the table's own entry (RTM_F_FIB_MATCH, Linux 4.13) names it.
"""

import os
import struct

from preflight.agent import nexthops
from preflight.agent.forbids import (
    FRA_DST,
    FRA_TABLE,
    PROTOCOLS,
    goes_by_address,
    holds,
    prefix_of,
    rule_in_words,
    table_of,
)
from preflight.agent.inet import domain, packed, text
from preflight.agent.kernel.fib import kind_of, way_in
from preflight.agent.netlink import (
    RTA_DST,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    Netlink,
    attributes,
)
from preflight.agent.route import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.route import Routes

_FIB_MATCH, _LOOKUP_TABLE = 0x2000, 0x1000  # linux/rtnetlink.h; IPv4 tells no table otherwise
_RTA_PRIORITY, _RTA_TABLE, _RTA_NH_ID = 6, 15, 30
_MAIN, _LOCAL = 254, 255
_TO_TABLE = 1  # of a rule, linux/fib_rules.h
_KERNEL, _BOOT = 2, 3  # of rtm_protocol
_CONF = "/proc/sys/net/ipv%d/conf"


def told(
    netlink: Netlink,
    wanted: "dict[str, list[int]]",
    peers: "dict[int, list[str]]",
    own: "dict[int, str]",
    routes: "Routes",
    neighbours: nexthops.Neighbours,
) -> "list[list[Any]]":
    """[family, peer, kind, gateway, device, own, words, command, way in, peers beside, next hops,
    rule] of each.

    See `preflight.wire`.
    """
    out: list[list[Any]] = []
    here = netlink.addresses()
    for version, positions in wanted.items():
        family = int(version)
        if family not in own:
            continue
        device = here.get(packed(family, own[family]), 0)
        for peer in positions:
            address = peers[family][peer]
            entry = _Entry.of(netlink, family, address) if address else None
            if entry is not None:
                beside = _beside(routes, family, peers[family], address, device)
                back = ""
                if device:
                    back = way_in(netlink, address, own[family], name_of(device))[1]
                way = [entry.kind, entry.gateway, name_of(entry.device), entry.device == device]
                taken = None
                if len(entry.hops) > 1:
                    taken = nexthops.taken(
                        netlink, packed(family, address), packed(family, own[family])
                    )
                hops = nexthops.told(entry.hops, neighbours, taken, entry.route())
                rule = entry.rule(netlink, family, packed(family, address))
                way += [*entry.told(), back, "%x" % beside, hops, rule]
                out.append([family, peer, *way])
    return out


def forwards(family: int) -> bool:
    """Whether any device forwards; also where that is not known."""
    conf = _CONF % family
    try:
        for device in os.listdir(conf):
            with open("%s/%s/forwarding" % (conf, device)) as setting:
                if setting.read().strip() != "0":
                    return True
    except OSError:
        return True
    return False


class _Entry:
    """One route of a table."""

    def __init__(self, family: int, body: bytes) -> None:
        fields = attributes(body[12:])
        self._ip = "ip" if family == 4 else "ip -6"
        self._bits = body[1]
        self._whole = 32 if family == 4 else 128
        self._target = fields.get(RTA_DST, bytes(self._whole // 8))
        self._table = _number(fields, _RTA_TABLE) or body[4]
        self._protocol = body[5]
        self._metric = _number(fields, _RTA_PRIORITY)
        self.kind = kind_of(body)
        self.hops = nexthops.of(body, fields)
        self._object = _number(fields, _RTA_NH_ID)
        one = self.hops[0] if len(self.hops) == 1 else None
        self.device = one.device if one else 0
        self.gateway = text(one.address) if one and one.address else ""

    @classmethod
    def of(cls, netlink: Netlink, family: int, address: str) -> "_Entry | None":
        """The one that a packet to that address takes."""
        target = packed(family, address)
        bits, flags = len(target) * 8, _FIB_MATCH | _LOOKUP_TABLE
        header = struct.pack("=BBBBBBBBI", domain(family), bits, 0, 0, 0, 0, 0, 0, flags)
        question = header + struct.pack("=HH", 4 + len(target), RTA_DST) + target
        try:
            for number, body in netlink.ask(RTM_GETROUTE, question):
                if number == RTM_NEWROUTE and len(body) >= 12:
                    entry = cls(family, body)
                    return entry if entry.hops else None
        except OSError:
            pass
        return None

    def told(self) -> "tuple[str, str]":
        """As `ip` prints it, without next hops where it has several, and what deletes it; that is
        empty for what goes with an address.
        """
        kind = "" if self.kind == "unicast" else self.kind + " "
        way = self.hops[0].words() if self.device else ""
        onlink = " onlink" if self.device and self.hops[0].onlink else ""
        prefix = prefix_of(self._target, self._bits)
        shown = prefix.partition("/")[0] if self._bits == self._whole else prefix
        where, by, rank = self._more()
        nexthop = " nhid %d" % self._object if self._object else ""
        words = "%s%s%s%s%s%s%s%s" % (kind, shown, nexthop, way, where, by, rank, onlink)
        if self._protocol == _KERNEL:
            return words, ""
        # A route by a nexthop object is not found by where that leads.
        command = self._ip, kind, prefix, nexthop or way, where, rank
        return words, "%s route del %s%s%s%s%s" % command

    def route(self) -> "list[str]":
        """For commands that take out one next hop; see `nexthops.told`."""
        if self._protocol == _KERNEL or self._object or self.kind != "unicast":
            return []
        where, by, rank = self._more()
        rest = where + by + rank if self._ip == "ip" else where + rank
        return [self._ip, prefix_of(self._target, self._bits), rest]

    def rule(self, netlink: Netlink, family: int, target: bytes) -> "list[str]":
        """The first `ip rule` that leads to its table by the destination alone, as `ip` prints it,
        and what deletes it; nothing for usual tables.
        """
        if self._table in (0, _MAIN, _LOCAL):
            return []
        question = bytes([domain(family)]) + bytes(11)
        for number, body in netlink.ask(RTM_GETRULE, question, dump=True):
            fields = attributes(body[12:])
            leads = number == RTM_NEWRULE and body[7] == _TO_TABLE
            if (
                leads
                and table_of(body[4], fields, FRA_TABLE) == self._table
                and goes_by_address(body, fields)
                and holds(fields, FRA_DST, body[1], target)
            ):
                return list(rule_in_words(family, body, fields, "lookup %d" % self._table))
        return []

    def _more(self) -> "tuple[str, str, str]":
        # Without rules of one's own the two are searched as one, and told as either.
        usual = (_MAIN, _LOCAL) if self.kind == "local" else (_MAIN,)
        where = " table %d" % self._table if self._table not in usual else ""
        by = ""
        if self._protocol != _BOOT:
            by = " proto " + PROTOCOLS.get(self._protocol, str(self._protocol))
        return where, by, " metric %d" % self._metric if self._metric else ""


def _beside(routes: "Routes", family: int, addresses: "list[str]", address: str, own: int) -> int:
    """The peers reached by the same device; where that is its own, by the same gateway."""
    way = routes.to(family, address)
    out = 0
    for peer, other in enumerate(addresses):
        if other:
            route = routes.to(family, other)
            same = route.device == way.device and (
                way.device != own or route.gateway == way.gateway
            )
            out |= same << peer
    return out


def _number(fields: "dict[int, bytes]", key: int) -> int:
    return int(struct.unpack("=I", fields[key])[0]) if len(fields.get(key, b"")) == 4 else 0
