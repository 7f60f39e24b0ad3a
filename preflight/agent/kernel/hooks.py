"""What else a packet meets on its way in and out: devices on devices, XDP programs, IPsec policies.

Programs and policies are told under the command that shows them.
"""

from preflight.agent.netlink import RTM_GETLINK, RTM_NEWLINK, Netlink, attributes
from preflight.agent.taps import IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NETLINK_XFRM = 6
XFRM_MSG_NEWPOLICY, XFRM_MSG_GETPOLICY = 0x13, 0x15
IFLA_XDP, IFLA_XDP_ATTACHED = 43, 2
_XDP = {1: "xdp", 2: "xdpgeneric", 3: "xdpoffload", 4: "xdp"}  # as `ip link` calls them
_DIRECTIONS = ("in", "out", "fwd")
# Of struct xfrm_userpolicy_info: after a selector, two sets of limits, a priority and an index.
_DIRECTION_AT = 160
_POLICY_ID = 64  # struct xfrm_userpolicy_id, empty in a request for all


def read(devices: "Sequence[str]") -> "dict[str, int | str]":
    """The kinds of XDP programs on `devices`, and how many IPsec policies there are.

    What there is none of, or what cannot be read, is left out. `above eth0` are the devices that
    take in what comes by eth0, where that is not eth0 alone.
    """
    out: dict[str, int | str] = {}
    links = _dump(0, RTM_GETLINK, 16)
    for device, kind in xdp(links).items():
        if device in devices:
            out["ip -d link show " + device] = kind
    for device in devices:
        above = takers(links, device)
        if above != [device]:
            out["above " + device] = " ".join(above)
    for direction, count in policies(_dump(NETLINK_XFRM, XFRM_MSG_GETPOLICY, _POLICY_ID)).items():
        out["ip xfrm policy list dir " + direction] = count
    return out


def xdp(messages: "list[tuple[int, bytes]]") -> "dict[str, str]":
    """How XDP is attached, by device, from RTM_NEWLINK messages."""
    out = {}
    for number, body in messages:
        found = _attributes(body)
        kind = attributes(found.get(IFLA_XDP, b"")).get(IFLA_XDP_ATTACHED, b"\0")
        if number == RTM_NEWLINK and kind[:1] and kind[0] in _XDP:
            out[_name(found)] = _XDP[kind[0]]
    return out


def takers(messages: "list[tuple[int, bytes]]", device: str) -> "list[str]":
    """The devices whose IP layer takes in what comes by `device`, from RTM_NEWLINK messages.

    A bridge, a bond or a VRF takes in all for its ports; a VLAN or a macvlan its own part.
    """
    links = [body for number, body in messages if number == RTM_NEWLINK and _is_link(body)]
    enslaved = {
        _name(found) for found in map(_attributes, links) if any(found.get(IFLA_MASTER, b""))
    }
    pairs = stacks([(RTM_NEWLINK, body) for body in links])
    way = [device]
    for lower in way:  # which grows meanwhile
        way += [upper for upper, low in pairs if low == lower and upper not in way]
    return [one for one in way if one not in enslaved]


def _is_link(body: bytes) -> bool:
    found = _attributes(body)
    return len(body) >= 16 and all(
        len(found.get(n, bytes(4))) == 4 for n in (IFLA_MASTER, IFLA_LINK)
    )


def _attributes(body: bytes) -> "dict[int, bytes]":
    return attributes(body[16:])


def _name(found: "dict[int, bytes]") -> str:
    return found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")


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
