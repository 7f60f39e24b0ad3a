"""The routes that the kernel takes to peers to which something is blocked, as `ip route` has them.

A lookup that asks for the table's own entry (RTM_F_FIB_MATCH, Linux 4.13) names it.
"""

import os
import struct

from preflight.agent.forbids import PROTOCOLS
from preflight.agent.inet import domain, packed, text
from preflight.agent.kernel.fib import kind_of, way_in
from preflight.agent.netlink import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_VIA,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    Netlink,
    attributes,
)
from preflight.agent.route import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.route import Routes

_FIB_MATCH = 0x2000  # linux/rtnetlink.h
_RTA_PRIORITY, _RTA_TABLE = 6, 15
_MAIN, _LOCAL = 254, 255
_KERNEL, _BOOT = 2, 3  # of rtm_protocol
_CONF = "/proc/sys/net/ipv%d/conf"


def told(
    netlink: Netlink,
    wanted: "dict[str, list[int]]",
    peers: "dict[int, list[str]]",
    own: "dict[int, str]",
    routes: "Routes",
) -> "list[list[Any]]":
    """[family, peer, kind, gateway, device, own, words, command, way in, peers beside] of each.

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
                out.append([family, peer, *way, *entry.told(), back, "%x" % beside])
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
        self.device = _number(fields, RTA_OIF)
        gateway = fields.get(RTA_GATEWAY) or fields.get(RTA_VIA, b"")[2:]
        self.gateway = text(gateway) if gateway else ""
        self._foreign = RTA_VIA in fields

    @classmethod
    def of(cls, netlink: Netlink, family: int, address: str) -> "_Entry | None":
        """The one that a packet to that address takes."""
        target = packed(family, address)
        bits = len(target) * 8
        header = struct.pack("=BBBBBBBBI", domain(family), bits, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
        question = header + struct.pack("=HH", 4 + len(target), RTA_DST) + target
        try:
            for number, body in netlink.ask(RTM_GETROUTE, question):
                if number == RTM_NEWROUTE and len(body) >= 12:
                    entry = cls(family, body)
                    return entry if entry.device else None  # none: several ways
        except OSError:
            pass
        return None

    def told(self) -> "tuple[str, str]":
        """As `ip` prints it, and what deletes it; that is empty for what goes with an address, and
        for a default route.
        """
        kind = "" if self.kind == "unicast" else self.kind + " "
        via = " via %s%s" % ("inet6 " if self._foreign else "", self.gateway)
        way = "%s dev %s" % (via if self.gateway else "", name_of(self.device))
        # Without rules of one's own the two are searched as one, and told as either.
        usual = (_MAIN, _LOCAL) if self.kind == "local" else (_MAIN,)
        where = " table %d" % self._table if self._table not in usual else ""
        by = ""
        if self._protocol != _BOOT:
            by = " proto " + PROTOCOLS.get(self._protocol, str(self._protocol))
        rank = " metric %d" % self._metric if self._metric else ""
        prefix = "%s/%d" % (text(self._target), self._bits) if self._bits else "default"
        shown = prefix.partition("/")[0] if self._bits == self._whole else prefix
        words = "%s%s%s%s%s%s" % (kind, shown, way, where, by, rank)
        if not self._bits or self._protocol == _KERNEL:
            return words, ""
        return words, "%s route del %s%s%s%s%s" % (self._ip, kind, prefix, way, where, rank)


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
