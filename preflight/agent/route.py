"""How this node reaches each peer: device, its MTU, and the source address the kernel picks."""

import _socket as socket
import errno
import fcntl
import struct

from preflight.agent.inet import domain, packed
from preflight.agent.netlink import Netlink

_SIOCGIFMTU = 0x8921
_MAX_PACKET = 65535


# What prohibit, unreachable, no route and blackhole give.
_FORBIDDEN = (errno.EACCES, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINVAL)
ELSEWHERE = errno.EXDEV  # in place of an errno: it goes, but another way than a raw socket's
_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 22, 23, 24  # linux/fib_rules.h, Linux 4.17
_PORTS = (6, 17)  # protocols that have some
_USUAL = (1, 6, 17)  # the only ones that Linux can be asked for


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
        self._refusals: dict[tuple[str, int, int], int] = {}
        self._by_protocol: dict[int, bool] = {}
        self._named: dict[int, set[bytes]] = {}  # protocols that rules go by
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
            destination = packed(family, address)
            device, gateway, source = self._netlink.route(destination, self._plain(family))
        except OSError:
            return Route(0, b"", b"", 0)
        return Route(device, gateway, source, self.mtu(device))

    def refusal(self, address: str, family: int, protocol: int, port: int) -> int:
        """The errno with which an `ip rule` for that protocol and port forbids it, ELSEWHERE where
        it sends it another way; 0 for none.

        A raw socket is not routed by such rules, and what Cilium sends is.
        """
        key = (address, protocol, port)
        if key not in self._refusals:
            found = self._divides(family) and self._refusal(address, family, protocol, port)
            self._refusals[key] = int(found)
        return self._refusals[key]

    def _refusal(self, address: str, family: int, protocol: int, port: int) -> int:
        usual = self.to(family, address)
        try:
            destination = packed(family, address)
            way = self._netlink.route(destination, protocol, port if protocol in _PORTS else 0)
        except OSError as error:
            return (error.errno or 0) if error.errno in _FORBIDDEN else 0
        return 0 if way[:2] == (usual.device, usual.gateway) else ELSEWHERE

    def _divides(self, family: int) -> bool:
        """Whether there is any `ip rule` that goes by protocol or ports."""
        if family not in self._by_protocol:
            wanted = (_FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE)
            try:
                rules = self._netlink.rules(domain(family))
            except OSError:
                rules = []
            self._by_protocol[family] = any(key in rule for rule in rules for key in wanted)
            self._named[family] = {rule.get(_FRA_IP_PROTO, b"") for rule in rules}
        return self._by_protocol[family]

    def _plain(self, family: int) -> int:
        """A protocol that no rule goes by, for a raw socket's way; 0 where none is needed.

        Linux answers who asks for none as for UDP, over IPv4 (inet_rtm_getroute).
        """
        if family != 4 or not self._divides(family):
            return 0
        free = (number for number in _USUAL if bytes([number]) not in self._named[family])
        return next(free, 0)

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


def name_of(device: int) -> str:
    """A device's name by its number; empty where it has gone."""
    try:
        return socket.if_indextoname(device)
    except OSError:  # it has just gone
        return ""
