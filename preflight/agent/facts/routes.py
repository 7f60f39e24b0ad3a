"""The way to each peer as the kernel has it now: device, next hop, source address, MTU.

From rtnetlink: the answer to RTM_GETROUTE for one address is what a packet would meet, policy rules
and learned path MTUs included. Asking sends nothing.
"""

import _socket as socket
import struct

from preflight.agent.netlink import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_VIA,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    Netlink,
    attributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

RTA_METRICS, RTA_CACHEINFO, RTAX_MTU = 8, 12, 2
# Addresses of documentation (RFC 5737, 3849, 9637) go the default way. Several, as labs use them.
_ANYWHERE = {
    4: ("192.0.2.1", "198.51.100.1", "203.0.113.1"),
    6: ("2001:db8::1", "3fff::1"),
}
_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}


def gather(
    ask: "Callable[[int, str], dict[str, Any]]", peers: "dict[int, list[str | None]]"
) -> "list[dict[str, Any]]":
    """The ways to the peers, by family 4 or 6; peers that share one are named in it together."""
    ways: "dict[tuple[Any, ...], dict[str, Any]]" = {}
    for family, addresses in peers.items():
        for position, address in enumerate(addresses):
            if address is None:
                continue
            found = ask(family, address)
            key = tuple(found.values())
            if key not in ways:
                ways[key] = dict(found, peers=[])
            ways[key]["peers"].append(position)
    return list(ways.values())


def defaults(ask: "Callable[[int, str], dict[str, Any]]") -> "list[dict[str, Any]]":
    """The default way of each family that has one through a gateway."""
    out = []
    for family, addresses in _ANYWHERE.items():
        found = [ask(family, address) for address in addresses]
        out += [one for one in found if one["gateway"] is not None][:1]
    return out


def read(netlink: Netlink, family: int, address: str, names: "dict[int, str]") -> "dict[str, Any]":
    """The way to one address; `names` are the devices' by index."""
    packed = socket.inet_pton(_DOMAINS[family], address)
    header = struct.pack("=BB10x", _DOMAINS[family], len(packed) * 8)
    wanted = struct.pack("=HH", 4 + len(packed), RTA_DST) + packed
    try:
        return parse(family, netlink.ask(RTM_GETROUTE, header + wanted), names)
    except OSError as error:
        return way(family, error=error.errno)


def parse(
    family: int, messages: "list[tuple[int, bytes]]", names: "dict[int, str]"
) -> "dict[str, Any]":
    """The way that an RTM_NEWROUTE message tells; `mtu` only where the route has one of its own."""
    for kind, body in messages:
        if kind != RTM_NEWROUTE:
            continue
        has = attributes(body[12:])
        metrics = attributes(has.get(RTA_METRICS, b""))
        cache = has.get(RTA_CACHEINFO, b"")
        expires = struct.unpack_from("=i", cache, 8)[0] if len(cache) >= 12 else 0
        via = has.get(RTA_GATEWAY) or has.get(RTA_VIA, b"")[2:]  # the latter: an IPv6 next hop
        return way(
            family,
            device=names.get(struct.unpack("=I", has[RTA_OIF])[0]) if RTA_OIF in has else None,
            gateway=_text(via),
            source=_text(has.get(RTA_PREFSRC, b"")),
            mtu=struct.unpack("=I", metrics[RTAX_MTU])[0] if RTAX_MTU in metrics else None,
            learned=RTAX_MTU in metrics and expires > 0,
        )
    return way(family, error=101)


def way(family: int, **known: "Any") -> "dict[str, Any]":
    """One way as a frame has it."""
    out: "dict[str, Any]" = {
        "family": family,
        "device": None,
        "gateway": None,
        "source": None,
        "mtu": None,
        "learned": False,
        "error": None,
    }
    out.update(known)
    return out


def _text(packed: bytes) -> "str | None":
    domains = {4: socket.AF_INET, 16: socket.AF_INET6}
    return socket.inet_ntop(domains[len(packed)], packed) if len(packed) in domains else None
