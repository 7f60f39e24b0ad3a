"""What the kernel's routing says of a packet, asked as `ip route get` asks.

The answer is a route's type, or the error that the packet would meet: EXDEV is rp_filter.
"""

import _socket as socket
import errno
import struct

from preflight.agent.netlink import (
    RTA_DST,
    RTA_IIF,
    RTA_IP_PROTO,
    RTA_SRC,
    RTM_GETADDR,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    Netlink,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_TYPES = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast",
    6: "blackhole", 7: "unreachable", 8: "prohibit",
}  # fmt: skip


def way_in(
    netlink: Netlink, source: str, destination: str, device: str, protocol: int = 0
) -> "tuple[str, str]":
    """The question, and what becomes of a packet that comes in by `device`; see `ask`.

    With `protocol`, an IP header's number, what becomes of one of that.
    """
    question = "ip route get %s from %s iif %s" % (destination, source, device)
    return question, _answer(netlink, source, destination, device, protocol)


def way_out(netlink: Netlink, source: str, destination: str) -> "tuple[str, str]":
    """The question, and what becomes of a packet that this node sends; see `ask`."""
    question = "ip route get %s from %s" % (destination, source)
    return question, _answer(netlink, source, destination, "")


def ask(pairs: "Iterable[tuple[str, str]]", devices: "Iterable[str]") -> "dict[str, int | str]":
    """For each (own address, peer's address): the way out to it, and in from it by each device.

    The answers by question, which is the command that asks it: `local`, `unicast`, `blackhole`
    and so on, or an errno's name. What could not be asked is left out. And how many IPv4
    addresses each device has: by one without any, rp_filter lets nothing in.
    """
    out: dict[str, int | str] = {}
    devices = list(devices)
    netlink = Netlink()
    try:
        numbered = addressed(netlink.ask(RTM_GETADDR, bytes(8), dump=True))
        for device in devices:
            try:
                count = numbered.get(socket.if_nametoindex(device), 0)
            except OSError:  # no such device any more
                continue
            out["ip -4 address show dev " + device] = count
        for own, peer in pairs:
            told = [way_out(netlink, own, peer)]
            told += [way_in(netlink, peer, own, device) for device in devices]
            out.update({question: answer for question, answer in told if answer})
    finally:
        netlink.close()
    return out


def _answer(netlink: Netlink, source: str, destination: str, device: str, protocol: int = 0) -> str:
    domain = socket.AF_INET6 if ":" in destination else socket.AF_INET
    try:
        to, from_ = socket.inet_pton(domain, destination), socket.inet_pton(domain, source)
        bits = len(to) * 8
        wanted = struct.pack("=BBBBBBBBI", domain, bits, bits, 0, 0, 0, 0, 0, 0)
        wanted += struct.pack("=HH", 4 + len(to), RTA_DST) + to
        wanted += struct.pack("=HH", 4 + len(to), RTA_SRC) + from_
        if device:
            wanted += struct.pack("=HHI", 8, RTA_IIF, socket.if_nametoindex(device))
        if protocol:
            wanted += struct.pack("=HHB3x", 5, RTA_IP_PROTO, protocol)
    except OSError:
        return ""  # no such device any more
    try:
        answers = netlink.ask(RTM_GETROUTE, wanted)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "")
    return next((kind_of(body) for number, body in answers if number == RTM_NEWROUTE), "")


def addressed(messages: "list[tuple[int, bytes]]") -> "dict[int, int]":
    """How many IPv4 addresses each device has, by its index, from RTM_NEWADDR messages."""
    out: dict[int, int] = {}
    for number, body in messages:
        if number == RTM_NEWADDR and len(body) >= 8 and body[0] == socket.AF_INET:
            index = struct.unpack_from("=I", body, 4)[0]
            out[index] = out.get(index, 0) + 1
    return out


def kind_of(body: bytes) -> str:
    """The type of the route that an RTM_NEWROUTE message tells of."""
    return _TYPES.get(body[7], "") if len(body) >= 12 else ""
