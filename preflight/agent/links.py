"""What this node's own tables say of the run's addresses: who has them, and how they are reached.

The kernel's word, and no packet: an address of another node that it takes for its own, an address
of its own that it does not use, the link-layer address that it sends to, a route that forbids or
leads elsewhere.
"""

import struct

from preflight.agent import forbids, trails
from preflight.agent.inet import domain, packed, text
from preflight.agent.kernel.fib import kind_of
from preflight.agent.netlink import (
    IFA_ADDRESS,
    IFA_LOCAL,
    NDA_DST,
    NDA_LLADDR,
    RTA_DST,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    Netlink,
    attributes,
)
from preflight.agent.nexthops import Neighbours
from preflight.agent.route import name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from preflight.agent.route import Routes

    Messages = list[tuple[int, bytes]]
    Entries = dict[tuple[int, bytes], tuple[bytes, int]]  # device, address -> MAC, state

# linux/if_addr.h
_IFA_FLAGS = 8
_DADFAILED, _OPTIMISTIC, _TENTATIVE = 0x08, 0x04, 0x40
_UNUSED = ((_DADFAILED, "dadfailed"), (_TENTATIVE, "tentative"))
# linux/if_link.h, linux/if_arp.h, linux/neighbour.h
_IFLA_ADDRESS, _IFLA_PERM_ADDRESS, _ARPHRD_ETHER = 1, 54, 1
_NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
_NUD_PERMANENT = 0x80
_NUD_SILENT = 0x01 | 0x20  # incomplete, failed
_MOST_MACS = 4096


def answer(
    frame: "dict[str, Any]",
    peers: "dict[int, list[str]]",
    own: "dict[int, str]",
    routes: "Routes",
) -> "dict[str, Any]":
    """The `links` frame's answer, as `preflight.wire` has it.

    `peers` are the addresses of the run's nodes by family, "" for none, and `own` this node's.
    """
    out: dict[str, Any] = {"t": "links", "number": frame["number"]}
    netlink = Netlink()
    try:
        found = netlink.ask(RTM_GETADDR, bytes(8), dump=True)
        out["held"] = _held(netlink, found, peers, own)
        out["unused"] = _unused(found, own)
        links = netlink.ask(RTM_GETLINK, bytes(16), dump=True)
        out["macs"] = macs(links) if frame["macs"] else None
        neighbours = netlink.ask(RTM_GETNEIGH, bytes(12), dump=True)
        entries = _entries(neighbours, _ethernets(links))
        out["hops"] = _hops(entries, frame["to"], peers, routes)
        out["gateways"] = _gateways(entries, peers, routes)
        out["forbidden"] = forbids.told(netlink, frame, peers, own)
        known = Neighbours(entries, _silent(neighbours))
        out["trails"] = trails.told(netlink, frame["trails"], peers, own, routes, known)
        out["lengths"] = _lengths(found, own)
        out["forwards"] = [family for family in sorted(own) if trails.forwards(family)]
    finally:
        netlink.close()
    return out


def _held(
    netlink: Netlink, found: "Messages", peers: "dict[int, list[str]]", own: "dict[int, str]"
) -> "list[list[Any]]":
    """[peer, address, prefix length, device] of other nodes' addresses that this one takes for its
    own: those of a VRF, or whose duplicate was detected, it does not.
    """
    wanted: dict[bytes, tuple[int, str]] = {}
    for family, addresses in peers.items():
        for peer, address in enumerate(addresses):
            if address and address != own.get(family):
                wanted[packed(family, address)] = (peer, address)
    out: list[list[Any]] = []
    for held, body, _ in _addresses(found):
        if held in wanted and _is_local(netlink, held):
            device = name_of(struct.unpack_from("=I", body, 4)[0])
            out.append([*wanted[held], body[1], device])
    return out


def _unused(found: "Messages", own: "dict[int, str]") -> "list[list[Any]]":
    """[address, flag, prefix length, device] of the node's own that its kernel does not use."""
    wanted = {packed(family, address): address for family, address in own.items()}
    here = {held for held, _, _ in _addresses(found)}
    out: list[list[Any]] = [[a, "missing", 0, ""] for p, a in wanted.items() if p not in here]
    for held, body, flags in _addresses(found):
        flag = next((word for bit, word in _UNUSED if flags & bit), "")
        if held in wanted and flag and not flags & _OPTIMISTIC:
            device = name_of(struct.unpack_from("=I", body, 4)[0])
            out.append([wanted[held], flag, body[1], device])
    return out


def _addresses(found: "Messages") -> "list[tuple[bytes, bytes, int]]":
    """(packed address, message, flags) of each RTM_NEWADDR."""
    out = []
    for kind, body in found:
        if kind == RTM_NEWADDR:
            fields = attributes(body[8:])
            flags = struct.unpack("=I", fields[_IFA_FLAGS])[0] if _IFA_FLAGS in fields else body[2]
            held = fields.get(IFA_LOCAL) or fields.get(IFA_ADDRESS, b"")
            out.append((held, body, flags))
    return out


def _is_local(netlink: Netlink, held: bytes) -> bool:
    wanted = struct.pack("=BBBBBBBBI", domain(len(held)), len(held) * 8, 0, 0, 0, 0, 0, 0, 0)
    wanted += struct.pack("=HH", 4 + len(held), RTA_DST) + held
    try:
        answers = netlink.ask(RTM_GETROUTE, wanted)
    except OSError:
        return False
    return any(number == RTM_NEWROUTE and kind_of(body) == "local" for number, body in answers)


def macs(links: "Messages") -> "list[str]":
    """The link-layer addresses of all devices, those that bonds took from their cards included."""
    found = set()
    for kind, body in links:
        if kind == RTM_NEWLINK:
            fields = attributes(body[16:])
            found |= {fields.get(key, b"") for key in (_IFLA_ADDRESS, _IFLA_PERM_ADDRESS)}
    return sorted(_mac(one) for one in found if len(one) == 6 and any(one))[:_MOST_MACS]


def _ethernets(links: "Messages") -> "set[int]":
    ethernets = set()
    for kind, body in links:
        if kind == RTM_NEWLINK and struct.unpack_from("=H", body, 2)[0] == _ARPHRD_ETHER:
            ethernets.add(struct.unpack_from("=i", body, 4)[0])
    return ethernets


def _entries(found: "Messages", devices: "set[int]") -> "Entries":
    """The neighbours that the kernel sends to without asking first, or while it asks."""
    out: Entries = {}
    for kind, body in found:
        if kind == RTM_NEWNEIGH:
            device, state = struct.unpack_from("=iH", body, 4)
            fields = attributes(body[12:])
            mac, address = fields.get(NDA_LLADDR, b""), fields.get(NDA_DST, b"")
            if device in devices and state & _NUD_KNOWN and len(mac) == 6:
                out[device, address] = mac, state
    return out


def _silent(found: "Messages") -> "set[tuple[int, bytes]]":
    """(device, address) of those that do not answer."""
    out = set()
    for kind, body in found:
        if kind == RTM_NEWNEIGH:
            device, state = struct.unpack_from("=iH", body, 4)
            if state & _NUD_SILENT:
                out.add((device, attributes(body[12:]).get(NDA_DST, b"")))
    return out


def _lengths(found: "Messages", own: "dict[int, str]") -> "list[list[int]]":
    """[family, prefix length] of the node's own addresses, every one that it has them with."""
    wanted = {packed(family, address): family for family, address in own.items()}
    return [[wanted[held], body[1]] for held, body, _ in _addresses(found) if held in wanted]


def _hops(
    entries: "Entries",
    to: "dict[str, list[int]]",
    peers: "dict[int, list[str]]",
    routes: "Routes",
) -> "list[list[Any]]":
    """[family, peer, next hop, device, MAC, permanent, others have it too] of each way in `to`."""
    out: list[list[Any]] = []
    alike: dict[tuple[bytes, int], int] = {}
    for (_, address), (mac, _) in entries.items():
        alike[mac, len(address)] = alike.get((mac, len(address)), 0) + 1
    for version, wanted in to.items():
        family = int(version)
        for peer in wanted:
            route = routes.to(family, peers[family][peer])
            entry = entries.get((route.device, route.gateway))
            if entry is not None:
                others = alike[entry[0], len(route.gateway)] > 1
                hop = [text(route.gateway), name_of(route.device), _mac(entry[0])]
                out.append([family, peer, *hop, bool(entry[1] & _NUD_PERMANENT), others])
    return out


def _gateways(
    entries: "Entries", peers: "dict[int, list[str]]", routes: "Routes"
) -> "list[list[Any]]":
    """[family, address, device, MAC, permanent, peers] of each next hop that is no node of the run;
    the peers that are reached by it are the bits of a hexadecimal number.
    """
    out: list[list[Any]] = []
    for family, addresses in peers.items():
        known = {packed(family, address) for address in addresses if address}
        by: dict[tuple[int, bytes], int] = {}
        for peer, address in enumerate(addresses):
            route = routes.to(family, address) if address else None
            if route is not None and route.gateway not in known:
                hop = route.device, route.gateway
                by[hop] = by.get(hop, 0) | 1 << peer
        for hop, reached in by.items():
            if hop in entries:
                mac, state = entries[hop]
                permanent = bool(state & _NUD_PERMANENT)
                told = [text(hop[1]), name_of(hop[0]), _mac(mac), permanent, "%x" % reached]
                out.append([family, *told])
    return out


def _mac(held: bytes) -> str:
    return ":".join("%02x" % byte for byte in held)
