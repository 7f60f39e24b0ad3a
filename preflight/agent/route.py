"""How this node reaches each peer: device, its MTU, and the source address the kernel picks."""

import _socket as socket
import errno
import fcntl
import struct

from preflight.agent.netlink import Netlink

_SIOCGIFMTU = 0x8921
_MAX_PACKET = 65535


# What prohibit and unreachable give; EINVAL may be an old kernel's answer to the question itself.
_FORBIDDEN = (errno.EACCES, errno.EHOSTUNREACH, errno.ENETUNREACH)


class Route:
    """The kernel's way to one address. `device` is 0 and `mtu` 0 where there is none."""

    __slots__ = ("device", "gateway", "mtu", "source")

    def __init__(self, device: int, gateway: bytes, source: bytes, mtu: int) -> None:
        self.device = device
        self.gateway = gateway  # packed; the destination itself where it is on the link
        self.source = source  # packed, b"" where the kernel names none
        self.mtu = mtu


class Routes:
    """The main table's routes, asked once each."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._known: dict[str, Route] = {}
        self._refusals: dict[tuple[str, int], int] = {}
        self._mtus: dict[int, int] = {}
        self._control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def to(self, family: int, address: str) -> Route:
        """The route to `address`."""
        route = self._known.get(address)
        if route is None:
            route = self._known[address] = self._ask(family, address)
        return route

    def _ask(self, family: int, address: str) -> Route:
        try:
            destination = socket.inet_pton(_domain(family), address)
            device, gateway, source = self._netlink.route(destination)
        except OSError:
            return Route(0, b"", b"", 0)
        return Route(device, gateway, source, self.mtu(device))

    def refusal(self, address: str, family: int, udp_port: int) -> int:
        """The errno with which an `ip rule` for UDP to that port forbids it; 0 for none.

        A raw socket is not routed by such rules, and Cilium's own UDP is.
        """
        key = (address, udp_port)
        if key not in self._refusals:
            self._refusals[key] = 0
            try:
                self._netlink.route(socket.inet_pton(_domain(family), address), udp_port)
            except OSError as error:
                if error.errno in _FORBIDDEN:
                    self._refusals[key] = error.errno or 0
        return self._refusals[key]

    def mtu(self, device: int) -> int:
        """The largest IP packet that a device takes, in bytes; 0 where it does not say."""
        if device not in self._mtus:
            try:
                name = socket.if_indextoname(device).encode()
                request = fcntl.ioctl(self._control, _SIOCGIFMTU, struct.pack("16si", name, 0))
                self._mtus[device] = min(struct.unpack_from("i", request, 16)[0], _MAX_PACKET)
            except OSError:
                self._mtus[device] = 0
        return self._mtus[device]

    def close(self) -> None:
        """Give the sockets back."""
        self._netlink.close()
        self._control.close()


def _domain(family: int) -> int:
    return socket.AF_INET if family == 4 else socket.AF_INET6
