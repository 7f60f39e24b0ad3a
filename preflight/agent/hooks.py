"""What else may stand in a packet's way: XDP programs on devices, and IPsec policies.

Told under the command that shows it.
"""

from preflight.agent.netlink import RTM_GETLINK, RTM_NEWLINK, Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NETLINK_XFRM = 6
XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY = 0x13, 0x15
IFLA_IFNAME, IFLA_XDP, IFLA_XDP_ATTACHED = 3, 43, 2
_XDP = {1: "xdp", 2: "xdpgeneric", 3: "xdpoffload", 4: "xdp"}  # as `ip link` calls them
_DIRECTIONS = ("in", "out", "fwd")
# Of struct xfrm_userpolicy_info: after a selector, two sets of limits, a priority and an index.
_DIRECTION_AT = 160
_POLICY_ID = 64  # struct xfrm_userpolicy_id, empty in a request for all


def read(devices: "Sequence[str]") -> "dict[str, int | str]":
    """The kinds of XDP programs on `devices`, and how many IPsec policies there are.

    What there is none of, or what cannot be read, is left out.
    """
    out: dict[str, int | str] = {}
    for device, kind in xdp(_dump(0, RTM_GETLINK, 16)).items():
        if device in devices:
            out["ip -d link show " + device] = kind
    for direction, count in policies(_dump(NETLINK_XFRM, XFRM_MSG_GETPOLICY, _POLICY_ID)).items():
        out["ip xfrm policy list dir " + direction] = count
    return out


def xdp(messages: "list[tuple[int, bytes]]") -> "dict[str, str]":
    """How XDP is attached, by device, from RTM_NEWLINK messages."""
    out = {}
    for number, body in messages:
        found = attributes(body[16:])
        kind = attributes(found.get(IFLA_XDP, b"")).get(IFLA_XDP_ATTACHED, b"\0")
        if number == RTM_NEWLINK and kind[:1] and kind[0] in _XDP:
            name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            out[name] = _XDP[kind[0]]
    return out


def policies(messages: "list[tuple[int, bytes]]") -> "dict[str, int]":
    """How many IPsec policies there are in each direction, from XFRM_MSG_NEWPOLICY messages."""
    out: dict[str, int] = {}
    for number, body in messages:
        direction = body[_DIRECTION_AT] if len(body) > _DIRECTION_AT else 255
        if number == XFRM_MSG_NEWPOLICY and direction < len(_DIRECTIONS):
            name = _DIRECTIONS[direction]
            out[name] = out.get(name, 0) + 1
    return out


def _dump(protocol: int, request: int, size: int) -> "list[tuple[int, bytes]]":
    try:
        netlink = Netlink(protocol)
    except OSError:  # a kernel without IPsec
        return []
    try:
        return netlink.ask(request, bytes(size), dump=True)
    except OSError:
        return []
    finally:
        netlink.close()
