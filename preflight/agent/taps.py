"""The four vantage points at the devices: AF_PACKET, before netfilter comes in and after it is out.

Only looks that have something to explain open a tap, so this file is sent to a node when the first
such look is.
"""

import _socket as socket
import struct

from preflight.agent.netlink import (
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    Netlink,
    attributes,
)
from preflight.agent.packets import ICMP, ICMPV6, TAG, TCP, TOKEN, UDP
from preflight.agent.sockets import attach, drain, enlarge
from preflight.agent.watch import MAX_READ, kind_of, previous

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.bpf import Filters
    from preflight.agent.look import Look

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_STATISTICS = 263, 6
IFLA_IFNAME, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
IFLA_INFO_KIND = 1
NDA_DST = 1
NUD_INCOMPLETE, NUD_FAILED = 0x01, 0x20
STACKED = (b"vlan", b"macvlan", b"macvtap", b"ipvlan", b"ipvtap", b"macsec")
_SNAP = 512
_LOOPBACK = "lo"
_ECHO = {8: "request", 0: "reply", 128: "request", 129: "reply"}


def stacks(links: "list[tuple[int, bytes]]") -> "list[tuple[str, str]]":
    """(upper, lower) of every two devices of which one sends through the other: bridges, bonds,
    VLANs and their like. `links` are RTM_NEWLINK messages.
    """
    names: dict[int, str] = {}
    pairs = []
    for kind, body in links:
        if kind != RTM_NEWLINK:
            continue
        index = struct.unpack_from("=i", body, 4)[0]
        found = attributes(body[16:])
        names[index] = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        if IFLA_MASTER in found:
            pairs.append((struct.unpack("=i", found[IFLA_MASTER])[0], index))
        info = attributes(found.get(IFLA_LINKINFO, b""))
        below_is_ours = IFLA_LINK in found and IFLA_LINK_NETNSID not in found
        if below_is_ours and info.get(IFLA_INFO_KIND, b"").rstrip(b"\0") in STACKED:
            pairs.append((index, struct.unpack("=i", found[IFLA_LINK])[0]))
    return [(names.get(upper, ""), names.get(lower, "")) for upper, lower in pairs]


def failed_neighbours(entries: "list[tuple[int, bytes]]") -> "set[tuple[int, bytes]]":
    """(device, packed address) of each neighbour that does not answer ARP or ND.

    `entries` are RTM_NEWNEIGH messages.
    """
    out = set()
    for kind, body in entries:
        if kind == RTM_NEWNEIGH:
            device, state = struct.unpack_from("=iH", body, 4)
            if state & (NUD_INCOMPLETE | NUD_FAILED):
                out.add((device, attributes(body[12:]).get(NDA_DST, b"")))
    return out


class Devices:
    """Where a packet counts as seen, of all the devices that it passes on one node.

    What an upper device sends has not left the node before the one below it sends it too; a frame
    on a lower one may be for the MAC address of the one above it.
    """

    def __init__(self, pairs: "list[tuple[str, str]]") -> None:
        """`pairs` are those of `stacks`."""
        self._pairs = pairs
        self._upper = {upper for upper, _ in pairs}
        self._lower = {lower for _, lower in pairs}

    @classmethod
    def here(cls) -> "Devices":
        """Those of this node, now."""
        netlink = Netlink()
        try:
            return cls(stacks(netlink.ask(RTM_GETLINK, bytes(16), dump=True)))
        finally:
            netlink.close()

    def counts(self, device: str, kind: int) -> bool:
        """Whether a packet of that PACKET_ type has left by this device, or come to this node."""
        if device == _LOOPBACK:
            return False  # it went nowhere: the destination's address is this node's as well
        if kind == socket.PACKET_OUTGOING:
            return device not in self._upper
        # Flooded to us, but for another's MAC address: the kernel will not take it.
        return kind != socket.PACKET_OTHERHOST or device in self._lower

    def below(self, device: str) -> "list[str]":
        """It, and every device that it sends through."""
        out = [device]
        for upper in out:  # which grows meanwhile
            out += [lower for up, lower in self._pairs if up == upper and lower not in out]
        return out


class PacketSocket:
    """One cooked packet socket over all devices, which lets up what `program` accepts."""

    def __init__(self, program: bytes, size: int) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Python's bind cannot name all devices, so it hears everything until the filter is there.
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        attach(self._socket, program)
        drain(self._socket)
        enlarge(self._socket, size)
        self.lost()

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def lost(self) -> int:
        """How many packets the kernel dropped for want of room since last asked."""
        answer = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack_from("=I", answer, 4)[0])


class Tap(PacketSocket):
    """The devices' vantage points, matched against one look."""

    def __init__(
        self, look: "Look", filters: "Filters", offsets: "dict[int, int]", size: int
    ) -> None:
        super().__init__(filters.tap(), size)
        self._look = look
        self._offsets = offsets
        self._devices = Devices.here()

    def read(self) -> None:
        """Everything that is waiting."""
        for _ in range(MAX_READ):
            try:
                data, (device, _, kind) = self._receive()
            except BlockingIOError:
                return
            outgoing = kind == socket.PACKET_OUTGOING
            if self._devices.counts(device, kind):
                self._match(data, outgoing)

    def _receive(self) -> "tuple[bytes, tuple[str, int, int]]":
        data, address = self._socket.recvfrom(_SNAP)
        return data, address[:3]

    def _match(self, data: bytes, outgoing: bool) -> None:
        if len(data) < 20:
            return  # a tap sees what the IP layer has not checked yet
        v6 = data[0] >> 4 == 6
        header = 40 if v6 else (data[0] & 15) * 4
        protocol = data[6] if v6 else data[9]
        body = data[header:]
        if len(body) < 8:
            return
        if protocol == UDP:
            at = 8 + self._offsets.get(body[2] << 8 | body[3], 0) + TAG
            self._request(outgoing, body[at : at + TOKEN])
        elif protocol in (ICMP, ICMPV6):
            token = body[8 + TAG : 8 + TAG + TOKEN]
            if _ECHO.get(body[0]) == "request":
                self._request(outgoing, token)
            else:
                self._answer(outgoing, token, None, None)
        elif protocol == TCP and len(body) >= 14:
            far = data[24:40] if outgoing else data[8:24]
            if not v6:
                far = data[16:20] if outgoing else data[12:16]
            self._tcp(outgoing, body, socket.inet_ntop(_domain(v6), far))

    def _tcp(self, outgoing: bool, body: bytes, far: str) -> None:
        source, port = body[0] << 8 | body[1], body[2] << 8 | body[3]
        kind = kind_of(body[13])
        if kind == "syn":
            self._request(outgoing, body[4:8], None if outgoing else (far, source, port))
        elif kind is not None:
            mine, theirs = (source, port) if outgoing else (port, source)
            flow = (far, theirs, mine) if outgoing else (far, mine, theirs)
            self._answer(outgoing, previous(body[8:12]), flow, kind)

    def _request(
        self, outgoing: bool, key: bytes, flow: "tuple[str, int, int] | None" = None
    ) -> None:
        look = self._look
        place = (look.own if outgoing else look.requests).get(key)
        if place is None and flow is not None:
            place = look.request_flows.get(flow)
        if place is not None:
            look.sight("left" if outgoing else "arrived", place)

    def _answer(
        self,
        outgoing: bool,
        key: bytes,
        flow: "tuple[str, int, int] | None",
        kind: "str | None",
    ) -> None:
        look = self._look
        place = (look.requests if outgoing else look.own).get(key)
        if place is None and flow is not None:
            place = (look.request_flows if outgoing else look.own_flows).get(flow)
        if place is None:
            return
        look.sight("answered" if outgoing else "returned", place)
        if outgoing and kind is not None:
            look.sight("answered_" + kind, place)


def _domain(v6: bool) -> int:
    return socket.AF_INET6 if v6 else socket.AF_INET


def silent_neighbours() -> "set[tuple[int, bytes]]":
    """`failed_neighbours` of this node, now."""
    return failed_neighbours(neighbours())


def neighbours() -> "list[tuple[int, bytes]]":
    """The kernel's table, as RTM_NEWNEIGH messages."""
    netlink = Netlink()
    try:
        return netlink.ask(RTM_GETNEIGH, bytes(12), dump=True)
    finally:
        netlink.close()
