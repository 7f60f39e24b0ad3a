"""The agent's sockets: raw IP ones that prove delivery, and raw IP ones that send.

A raw IP socket sees a packet past netfilter's INPUT, with nothing bound and also where a tunnel
device owns the port; sending on one passes OUTPUT, which AF_PACKET would bypass.
"""

import _socket as socket
import struct
import sys

from preflight.agent.bpf import Filters
from preflight.agent.packets import ICMP, ICMPV6, TCP, UDP

SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_MEMINFO, MEMINFO_DROPS = 55, 8
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_PROBE = 3  # full size means the device's MTU, whatever the kernel has learned of the path

PROTOCOLS = {4: (UDP, TCP, ICMP), 6: (UDP, TCP, ICMPV6)}
_ANCILLARY = 64
_MAX_DRAIN = 4096


def attach(sock: socket.socket, program: bytes) -> None:
    """Let only what `program` accepts into the socket."""
    if sys.implementation.name == "cpython":
        # A bytes object ends with its data and a NUL; array costs 4 ms of imports to tell where.
        keep, address = program, id(program) + bytes.__basicsize__ - 1
    else:  # pragma: no cover
        from array import array

        keep = array("B", program)  # type: ignore[assignment]
        address = keep.buffer_info()[0]  # type: ignore[attr-defined]
    fprog = struct.pack("HL", len(keep) // 8, address)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def enlarge(sock: socket.socket, size: int) -> None:
    """As large a receive buffer as we may have; without CAP_NET_ADMIN that is rmem_max."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def drain(sock: socket.socket) -> None:
    """Throw away what came in before the filter was attached."""
    for _ in range(_MAX_DRAIN):
        try:
            sock.recv(1)
        except BlockingIOError:
            return


def stamp_of(ancillary: "list[tuple[int, int, bytes]]") -> float:
    """The kernel's time of a packet in seconds since the epoch, 0 where it gave none."""
    for _, kind, value in ancillary:
        if kind == SO_TIMESTAMPNS:
            form = "=qq" if len(value) == 16 else "=ii"
            seconds, nanoseconds = struct.unpack(form, value)
            return float(seconds + nanoseconds * 1e-9)
    return 0.0


class RawSocket:
    """One raw IP socket that watches for our probes and their answers."""

    def __init__(self, family: int, protocol: int, filters: Filters, size: int) -> None:
        self.family = family
        self.protocol = protocol
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        self.socket = socket.socket(domain, kind, protocol)
        enlarge(self.socket, size)
        attach(self.socket, filters.raw(protocol, family == 6))
        if protocol != UDP:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        drain(self.socket)
        self._drops = self._dropped()

    def fileno(self) -> int:
        """For poll."""
        return self.socket.fileno()

    def receive(self) -> "tuple[bytes, str, float] | None":
        """The next packet from its transport header on, its sender, its time; None for no more.

        The time is the kernel's, in seconds since the epoch, 0 where it gave none.
        """
        try:
            data, ancillary, _, sender = self.socket.recvmsg(2048, _ANCILLARY)
        except BlockingIOError:
            return None
        if self.family == 4:
            data = data[(data[0] & 15) * 4 :]
        return data, sender[0], stamp_of(ancillary)

    @property
    def counts(self) -> bool:
        """Whether the kernel tells how many packets it dropped."""
        return self._drops >= 0

    def lost(self) -> int:
        """How many packets it dropped since last asked; 1 where it cannot tell."""
        now = self._dropped()
        lost = now - self._drops if now >= 0 else 1
        self._drops = now
        return lost

    def _dropped(self) -> int:
        try:
            info = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)
            return int(struct.unpack_from("=I", info, 4 * MEMINFO_DROPS)[0])
        except (OSError, struct.error):  # Linux before 4.12
            return -1

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()


def sender(family: int, source: "str | None") -> socket.socket:
    """A socket for whole IP packets. Bound to `source` it follows that address's `ip rule`."""
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(domain, kind, socket.IPPROTO_RAW)
    if family == 4:
        level, discover = socket.IPPROTO_IP, IP_MTU_DISCOVER
    else:
        level, discover = socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER
    # No IP_RECVERR: with it a filter on the device's way out would come back as ENOBUFS, like a
    # busy moment, and what it drops would count as never sent. The tap tells that it did not leave.
    sock.setsockopt(level, discover, PMTUDISC_PROBE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    if source is not None:
        try:
            sock.bind((source, 0))
        except OSError:
            sock.close()
            raise
    return sock
