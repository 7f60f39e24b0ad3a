"""What the agent reads of its node before anything is sent: /proc and rtnetlink, nothing else."""

import _socket as socket
import posix
import struct
import sys

from preflight.agent.netlink import (
    NETLINK_SOCK_DIAG,
    RTM_GETLINK,
    RTM_NEWLINK,
    Netlink,
    attributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sockets = set[tuple[bytes, int]]  # packed local address, port

_LISTEN = b"0A"  # TCP_LISTEN of include/net/tcp_states.h, as /proc spells it
_LISTEN_BIT = 1 << 10
_MAX_READ = 1 << 24
IFLA_LINKINFO, IFLA_INFO_KIND = 18, 1
_STACKED = ("bond", "bridge", "vlan", "team")  # send through the cards below them
_MOST_BELOW = 8  # a bridge may have a port for each of a hundred containers
_UDP_TABLES = ((4, ""), (6, "6"))
_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h


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


def udp_sockets() -> "dict[int, Sockets]":
    """The bound UDP sockets by family (4 or 6), those of kernel tunnel devices included."""
    return {f: local_sockets(read("/proc/net/udp" + name), None) for f, name in _UDP_TABLES}


def ports(sockets: "dict[int, Sockets]", wanted: "set[int]") -> "list[int]":
    """Which of `wanted` somebody has, at whatever address."""
    return sorted({port for those in sockets.values() for _, port in those} & wanted)


def listeners() -> "dict[int, Sockets]":
    """The TCP sockets that listen, by family (4 or 6)."""
    try:
        return {family: _diagnosed(family) for family in (4, 6)}
    except OSError:  # no tcp_diag in this kernel
        names = {4: "/proc/net/tcp", 6: "/proc/net/tcp6"}
        return {
            family: local_sockets(read(path, _past_listeners), _LISTEN)
            for family, path in names.items()
        }


def _diagnosed(family: int) -> "Sockets":
    """By sock_diag: /proc walks the whole table of connections, 5 ms with none in it."""
    netlink = Netlink(NETLINK_SOCK_DIAG)
    try:
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        request = struct.pack("=BBBxI48x", domain, socket.IPPROTO_TCP, 0, _LISTEN_BIT)
        found = netlink.ask(_SOCK_DIAG_BY_FAMILY, request, dump=True)
    finally:
        netlink.close()
    return {listener(body) for kind, body in found if kind == _SOCK_DIAG_BY_FAMILY}


def listener(body: bytes) -> "tuple[bytes, int]":
    """(packed local address, port) of a struct inet_diag_msg (linux/inet_diag.h)."""
    size = 4 if body[0] == socket.AF_INET else 16
    return body[8 : 8 + size], body[4] << 8 | body[5]


def served(
    family: int,
    own: bytes,
    wanted: "dict[str, set[int]]",
    udp: "dict[int, Sockets]",
    tcp: "dict[int, Sockets]",
) -> "dict[str, list[int]]":
    """Which of the `wanted` ports (udp, tcp) somebody serves at the address `own` (packed).

    `udp` and `tcp` are the node's sockets. `unsure` are UDP ports that an IPv6 socket for any
    address has: whether it takes IPv4 too is not told. For TCP it is taken to; what the port
    answers will show.
    """
    found = {}
    for protocol, sockets in (("udp", udp), ("tcp", tcp)):
        here = (bytes(len(own)), own)
        found[protocol] = {port for address, port in sockets[family] if address in here}
    shared: set[int] = set()
    if family == 4:
        found["tcp"] |= {port for address, port in tcp[6] if address == bytes(16)}
        shared = {port for address, port in udp[6] if address == bytes(16)}
    out = {protocol: sorted(has & wanted[protocol]) for protocol, has in found.items()}
    out["unsure"] = sorted((shared & wanted["udp"]) - set(out["udp"]))
    return out


def _past_listeners(table: bytes) -> bool:
    # The kernel lists listeners first; a node with 100,000 connections need not list those.
    last = table.rsplit(b"\n", 2)[-2].split() if table.count(b"\n") > 1 else []
    return len(last) > 3 and last[3] not in (_LISTEN, b"st")


def local_sockets(table: bytes, state: "bytes | None") -> "Sockets":
    """(packed local address, port) of a /proc/net/{tcp,udp} table, of sockets in `state` where that
    is given.
    """
    sockets = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 3 and (state is None or fields[3] == state):
            words, _, port = fields[1].rpartition(b":")
            try:
                if len(port) == 4:
                    sockets.add((local_address(bytes.fromhex(words.decode())), int(port, 16)))
            except ValueError:
                continue
    return sockets


def local_address(words: bytes) -> bytes:
    """A packed address of the words that /proc prints it in."""
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


def addresses() -> "dict[bytes, int]":
    """The node's addresses, packed, with the index of each one's device."""
    netlink = Netlink()
    try:
        return netlink.addresses()
    finally:
        netlink.close()


def drivers(device: str) -> "list[str]":
    """The drivers of the network cards that a device sends through; none for virtual ones."""
    kind = _kind(device)
    if kind and kind not in _STACKED:
        return []
    found = set()
    devices = [device]
    for name in devices:  # which grows meanwhile
        folder = "/sys/class/net/" + name
        try:
            found.add(posix.readlink(folder + "/device/driver").rpartition("/")[2])
        except OSError:
            pass
        try:
            entries = posix.listdir(folder)
        except OSError:
            continue
        below = [entry[6:] for entry in entries if entry.startswith("lower_")]
        devices += [lower for lower in below[:_MOST_BELOW] if lower not in devices]
    return sorted(found)


def _kind(device: str) -> str:
    """What kind of virtual device it is, empty for a card.

    sysfs cannot be asked: in a namespace it may show another one's device of the same name.
    """
    netlink = Netlink()
    try:
        wanted = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(device), 0, 0)
        for kind, body in netlink.ask(RTM_GETLINK, wanted):
            if kind == RTM_NEWLINK:
                info = attributes(attributes(body[16:]).get(IFLA_LINKINFO, b""))
                return info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    except OSError:
        pass
    finally:
        netlink.close()
    return ""
