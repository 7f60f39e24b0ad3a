"""Every network device: its kind and MTU, what is above and below it, and what a tunnel listens on.

From rtnetlink: linux/if_link.h has the attributes.
"""

import struct

from preflight.agent.netlink import RTM_GETLINK, RTM_NEWLINK, Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 3, 4, 5, 10
IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 29, 37
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_REQUEST = bytes(16) + struct.pack("=HHI", 8, IFLA_EXT_MASK, _SKIP_STATS)

# Where a tunnel of each kind has its identifier, its UDP port and whether each packet says itself
# where it goes (`external`, as Cilium's devices do).
_TUNNELS = {"geneve": (1, 5, 6), "vxlan": (1, 15, 25), "bareudp": (None, 1, None)}
_VLAN_ID = 1
_BOND_MODE = 1
_BOND_MODES = (
    "balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb",
    "balance-alb",
)  # fmt: skip


def read(netlink: Netlink) -> "list[dict[str, Any]]":
    """Every device of this network namespace. Raises OSError."""
    return parse(netlink.ask(RTM_GETLINK, _REQUEST, dump=True))


def parse(messages: "list[tuple[int, bytes]]") -> "list[dict[str, Any]]":
    """RTM_NEWLINK messages as devices; `lower` and `master` are names."""
    found = [_device(body) for kind, body in messages if kind == RTM_NEWLINK]
    names = {device["index"]: device["name"] for device in found}
    for device in found:
        for key in ("lower", "master"):
            device[key] = names.get(device[key])
    return found


def _device(body: bytes) -> "dict[str, Any]":
    index, flags = struct.unpack_from("=iI", body, 4)
    has = attributes(body[16:])
    info = attributes(has.get(IFLA_LINKINFO, b""))
    kind = info[IFLA_INFO_KIND].rstrip(b"\0").decode() if IFLA_INFO_KIND in info else None
    # A veth's other end may be in another namespace, whose numbers are not ours.
    ours = IFLA_LINK in has and IFLA_LINK_NETNSID not in has and kind != "veth"
    data = attributes(info.get(IFLA_INFO_DATA, b""))
    return {
        "name": has.get(IFLA_IFNAME, b"?").rstrip(b"\0").decode("utf-8", "replace"),
        "index": index,
        "kind": kind,
        "mtu": _number(has.get(IFLA_MTU)) or 0,
        "up": bool(flags & IFF_UP),
        "carrier": bool(flags & IFF_LOWER_UP),
        "lower": _number(has[IFLA_LINK]) if ours else None,
        "master": _number(has.get(IFLA_MASTER)),
        "tunnel": _tunnel(kind, data),
        "vlan": _number(data.get(_VLAN_ID)) if kind == "vlan" else None,
        "bond": bond(_number(data.get(_BOND_MODE))) if kind == "bond" else None,
    }


def _tunnel(kind: "str | None", data: "dict[int, bytes]") -> "dict[str, Any] | None":
    if kind not in _TUNNELS:
        return None
    identifier, port, external = _TUNNELS[kind]
    flag = data.get(external) if external is not None else None
    return tunnel(
        _number(data.get(identifier)) if identifier is not None else None,
        struct.unpack("!H", data[port])[0] if len(data.get(port, b"")) == 2 else None,
        # GENEVE's is there or not, VXLAN's is always there, and 0 or 1.
        flag is not None and flag != b"\0",
    )


def tunnel(vni: "int | None", port: "int | None", external: bool) -> "dict[str, Any]":
    """What a tunnel device listens on, as a frame has it."""
    return {"vni": vni, "port": port, "external": external}


def bond(mode: "int | None") -> "dict[str, Any]":
    """A bond's mode, by the number that the kernel has for it."""
    known = mode is not None and mode < len(_BOND_MODES)
    return {"mode": _BOND_MODES[mode] if known and mode is not None else None}


def _number(data: "bytes | None") -> "int | None":
    formats = {1: "=B", 2: "=H", 4: "=I"}
    if data is None or len(data) not in formats:
        return None
    return int(struct.unpack(formats[len(data)], data)[0])
