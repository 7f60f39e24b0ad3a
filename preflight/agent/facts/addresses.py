"""The node's addresses, by device: rtnetlink (linux/if_addr.h)."""

import _socket as socket
import struct

from preflight.agent.netlink import (
    IFA_ADDRESS,
    IFA_LOCAL,
    RTM_GETADDR,
    RTM_NEWADDR,
    Netlink,
    attributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}


def read(netlink: Netlink, names: "dict[int, str]") -> "list[dict[str, Any]]":
    """Every address; `names` are the devices' by index. Raises OSError."""
    return parse(netlink.ask(RTM_GETADDR, bytes(8), dump=True), names)


def parse(messages: "list[tuple[int, bytes]]", names: "dict[int, str]") -> "list[dict[str, Any]]":
    """RTM_NEWADDR messages as device, address, prefix length and scope."""
    out = []
    for kind, body in messages:
        if kind != RTM_NEWADDR:
            continue
        family, prefix, _, scope, index = struct.unpack_from("=BBBBI", body)
        has = attributes(body[8:])
        # On a point-to-point device IFA_ADDRESS is the other end's.
        packed = has.get(IFA_LOCAL) or has.get(IFA_ADDRESS)
        if packed is not None and family in (socket.AF_INET, socket.AF_INET6):
            address = socket.inet_ntop(family, packed)
            out.append(
                {
                    "device": names.get(index, "?"),
                    "address": address,
                    "prefix": prefix,
                    "scope": _SCOPES.get(scope, str(scope)),
                }
            )
    return out
