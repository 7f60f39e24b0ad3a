"""Policy routing: the `ip rule`s besides the kernel's own three, from rtnetlink."""

import _socket as socket
import struct

from preflight.agent.netlink import Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RTM_NEWRULE, RTM_GETRULE = 32, 34
FRA_SRC, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_PROTOCOL = 2, 6, 10, 15, 21
_FAMILIES = {socket.AF_INET: 4, socket.AF_INET6: 6}
_OWN = ((0, 255), (32766, 254), (32767, 253))  # priority and table: local, main, default
_MOST = 64  # enough to see what it is


def read(netlink: Netlink) -> "list[dict[str, Any]]":
    """The rules of both families. Raises OSError."""
    return parse(netlink.ask(RTM_GETRULE, bytes(12), dump=True))


def parse(messages: "list[tuple[int, bytes]]") -> "list[dict[str, Any]]":
    """RTM_NEWRULE messages; `protocol` numbers who made a rule, 2 is the kernel."""
    found = []
    for kind, body in messages:
        if kind != RTM_NEWRULE or body[0] not in _FAMILIES:
            continue
        has = attributes(body[12:])
        source = has.get(FRA_SRC)
        found.append(
            {
                "family": _FAMILIES[body[0]],
                "priority": _number(has.get(FRA_PRIORITY)) or 0,
                "table": _number(has.get(FRA_TABLE)) or body[4],
                "mark": _number(has.get(FRA_FWMARK)),
                "source": socket.inet_ntop(body[0], source) if source else None,
                "protocol": has[FRA_PROTOCOL][0] if FRA_PROTOCOL in has else None,
            }
        )
    return foreign(found)


def foreign(found: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """Those that are not the kernel's own three."""
    return [r for r in found if (r["priority"], r["table"]) not in _OWN][:_MOST]


def _number(data: "bytes | None") -> "int | None":
    return int(struct.unpack("=I", data)[0]) if data is not None and len(data) == 4 else None
