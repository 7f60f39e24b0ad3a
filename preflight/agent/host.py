"""What the agent reads of its node before anything is sent: /proc and rtnetlink, nothing else."""

import posix
import sys

from preflight.agent.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LISTEN = b"0A"
_MAX_READ = 1 << 24


def read(path: str, enough: "Callable[[bytes], bool] | None" = None) -> bytes:
    """A file of /proc, empty where it does not exist; no further than what is `enough`."""
    try:
        fd = posix.open(path, posix.O_RDONLY)
    except OSError:
        return b""
    try:
        out = b""
        while len(out) < _MAX_READ:
            piece = posix.read(fd, 1 << 14)
            out += piece
            if not piece or (enough is not None and enough(out)):
                break
        return out
    finally:
        posix.close(fd)


def owned_udp_ports(wanted: "set[int]") -> "list[int]":
    """Which of `wanted` somebody owns, a kernel tunnel device included."""
    found = set()
    for name in ("udp", "udp6"):
        found |= local_ports(read("/proc/net/" + name), None)
    return sorted(found & wanted)


def listening_tcp_ports(wanted: "set[int]") -> "list[int]":
    """Which of `wanted` somebody listens on."""
    found = set()
    for name in ("tcp", "tcp6"):
        found |= local_ports(_listeners("/proc/net/" + name), _LISTEN)
    return sorted(found & wanted)


def served(family: int, own: bytes, wanted: "dict[str, set[int]]") -> "dict[str, list[int]]":
    """Which of the `wanted` ports (udp, tcp) somebody serves at the address `own` (packed).

    `unsure` are UDP ports that an IPv6 socket for any address has: whether it takes IPv4 too,
    /proc does not tell. For TCP it is taken to; what the port answers will show.
    """
    out = {}
    unsure: set[int] = set()
    for protocol, state in (("udp", None), ("tcp", _LISTEN)):
        read_table = read if state is None else _listeners
        found = set()
        for address, port in local_sockets(read_table("/proc/net/" + protocol), state):
            if family == 4 and address in (bytes(4), own):
                found.add(port)
        for address, port in local_sockets(read_table("/proc/net/" + protocol + "6"), state):
            if family == 6 and address in (bytes(16), own):
                found.add(port)
            elif family == 4 and address == bytes(16):
                (found if state else unsure).add(port)
        out[protocol] = sorted(found & wanted[protocol])
    out["unsure"] = sorted((unsure & wanted["udp"]) - set(out["udp"]))
    return out


def _listeners(path: str) -> bytes:
    return read(path, _past_listeners)


def _past_listeners(table: bytes) -> bool:
    # The kernel lists listeners first; a node with 100,000 connections need not list those.
    last = table.rsplit(b"\n", 2)[-2].split() if table.count(b"\n") > 1 else []
    return len(last) > 3 and last[3] not in (_LISTEN, b"st")


def local_ports(table: bytes, state: "bytes | None") -> "set[int]":
    """The local ports of a /proc/net/{tcp,udp} table, of sockets in `state` where that is given."""
    return {port for _, port in local_sockets(table, state)}


def local_sockets(table: bytes, state: "bytes | None") -> "set[tuple[bytes, int]]":
    """Likewise (packed local address, port)."""
    sockets = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and (state is None or fields[3] == state):
            words, _, port = fields[1].rpartition(b":")
            try:
                if len(port) == 4:
                    sockets.add((_address(bytes.fromhex(words.decode())), int(port, 16)))
            except ValueError:
                continue
    return sockets


def _address(words: bytes) -> bytes:
    # The kernel prints 32-bit words as numbers of its own byte order.
    if sys.byteorder == "big":
        return words
    return b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))


def echo_ignored() -> "list[int]":
    """The families whose echo requests this node's sysctls tell it to ignore."""
    paths = {
        4: "/proc/sys/net/ipv4/icmp_echo_ignore_all",
        6: "/proc/sys/net/ipv6/icmp/echo_ignore_all",
    }
    return [family for family, path in paths.items() if read(path).strip() not in (b"", b"0")]


def identity() -> "dict[str, object]":
    """The interpreter's and the kernel's version."""
    return {
        "python": "%d.%d.%d" % sys.version_info[:3],
        "kernel": posix.uname().release,
    }


def absent(addresses: "list[bytes]") -> "list[bytes]":
    """Which of `addresses` (packed) are not on this node."""
    netlink = Netlink()
    try:
        here = netlink.addresses()
    finally:
        netlink.close()
    return [a for a in addresses if a not in here]
