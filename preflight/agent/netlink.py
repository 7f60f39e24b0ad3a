"""The node's addresses and routes, from rtnetlink (linux/rtnetlink.h), with no library.

Only what probing itself needs; everything else about a node is a fact, and read elsewhere.
"""

import _socket as socket
import struct

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTM_NEWRULE, RTM_GETRULE = 32, 34
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300

IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_VIA = 1, 2, 3, 4, 5, 7, 18
RTA_IP_PROTO, RTA_DPORT = 27, 29
NDA_DST, NDA_LLADDR = 1, 2  # linux/neighbour.h
NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12  # linux/netlink.h, Linux 4.20

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def attributes(data: bytes) -> "dict[int, bytes]":
    """The rtattr list at the end of a message; what is cut short is left out."""
    out = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < 4 or at + size > len(data):
            break
        out[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return out


def messages(data: bytes) -> "list[tuple[int, bytes]]":
    """The (type, payload) of each netlink message in a datagram."""
    out = []
    at = 0
    while at + 16 <= len(data):
        size, kind = _HEADER.unpack_from(data, at)[:2]
        if size < 16 or at + size > len(data):
            break
        out.append((kind, data[at + 16 : at + size]))
        at += (size + 3) & ~3
    return out


class Netlink:
    """One netlink socket, rtnetlink's by default. Raises OSError where the kernel says no."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(2)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def option(self, level: int, name: int, value: int) -> None:
        """Set a socket option; OSError where the kernel does not know it."""
        self._socket.setsockopt(level, name, value)

    def ask(self, kind: int, payload: bytes, dump: bool = False) -> "list[tuple[int, bytes]]":
        """One request's answer; a dump's answers up to its end."""
        flags = NLM_F_REQUEST | (NLM_F_DUMP if dump else 0)
        self._socket.send(_HEADER.pack(16 + len(payload), kind, flags, 0, 0) + payload)
        out: list[tuple[int, bytes]] = []
        while True:
            for got, body in messages(self._socket.recv(1 << 18)):
                if got == NLMSG_DONE:
                    return out
                if got == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise OSError(code, "netlink request %d" % kind)
                    continue
                out.append((got, body))
            if not dump:
                return out

    def rules(self, family: int) -> "list[dict[int, bytes]]":
        """The attributes of every `ip rule` of a family: socket.AF_INET or AF_INET6."""
        found = self.ask(RTM_GETRULE, bytes([family]) + bytes(11), dump=True)
        return [attributes(body[12:]) for kind, body in found if kind == RTM_NEWRULE]

    def addresses(self) -> "dict[bytes, int]":
        """Every address of the node, packed (4 or 16 bytes), with the index of its device."""
        out = {}
        for kind, body in self.ask(RTM_GETADDR, bytes(8), dump=True):
            if kind == RTM_NEWADDR:
                found = attributes(body[8:])
                address = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS, b"")
                out[address] = struct.unpack_from("=I", body, 4)[0]
        return out

    def route(
        self, destination: bytes, protocol: int = 0, port: int = 0, source: bytes = b""
    ) -> "tuple[int, bytes, bytes]":
        """The way to `destination`: device index, next hop, source address; packed addresses.

        With `protocol` (TCP, UDP or ICMP) the way of that, and to that port, which an `ip rule` may
        send elsewhere; with `source` the way of what bears that address already. Raises OSError
        with the errno that a socket would get.
        """
        family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
        size = len(destination)
        header = struct.pack("=BBBBBBBBI", family, size * 8, len(source) * 8, 0, 0, 0, 0, 0, 0)
        wanted = _ATTRIBUTE.pack(4 + size, RTA_DST) + destination
        if source:
            wanted += _ATTRIBUTE.pack(4 + len(source), RTA_SRC) + source
        if protocol:
            wanted += _ATTRIBUTE.pack(5, RTA_IP_PROTO) + struct.pack("B3x", protocol)
        if port:
            wanted += _ATTRIBUTE.pack(6, RTA_DPORT) + struct.pack("!H2x", port)
        for kind, body in self.ask(RTM_GETROUTE, header + wanted):
            if kind == RTM_NEWROUTE:
                found = attributes(body[12:])
                device = struct.unpack("=I", found[RTA_OIF])[0] if RTA_OIF in found else 0
                via = found.get(RTA_VIA, b"")[2:]  # an IPv4 route through an IPv6 gateway
                gateway = found.get(RTA_GATEWAY) or via or destination
                return device, gateway, found.get(RTA_PREFSRC, b"")
        raise OSError(101, "no route")
