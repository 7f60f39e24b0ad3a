"""Who has a port: the sockets with their inodes, from /proc/net/udp and sock_diag.

/proc/net/udp lists the sockets of kernel tunnels too. sock_diag is not asked for UDP: that could
load a module into the kernel, and /proc has the same.
"""

import _socket as socket
import struct

from preflight.agent.facts import files
from preflight.agent.host import local_address
from preflight.agent.netlink import NETLINK_SOCK_DIAG, Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Found = tuple[int, str, int, int]  # family, address, port, inode

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_LISTEN = b"0A"
_LISTEN_BIT = 1 << 10
_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}


def read(udp: "list[int]", tcp: "list[int]") -> "list[dict[str, Any]]":
    """The bound UDP and the listening TCP sockets that have one of the ports. Raises OSError."""
    out = []
    for protocol, wanted, found in (("udp", udp, _udp()), ("tcp", tcp, _tcp())):
        for family, address, port, inode in sorted(found):
            if port in wanted:
                out.append(
                    {
                        "protocol": protocol,
                        "family": family,
                        "address": address,
                        "port": port,
                        "inode": inode,
                    }
                )
    return out


def _udp() -> "list[Found]":
    return _tables("/proc/net/udp", None)


def _tcp() -> "list[Found]":
    try:
        return _diagnosed(4) + _diagnosed(6)
    except OSError:  # no tcp_diag in this kernel
        return _tables("/proc/net/tcp", _LISTEN)


def _tables(path: str, state: "bytes | None") -> "list[Found]":
    found = parse(4, files.read(path), state)
    try:
        return found + parse(6, files.read(path + "6"), state)
    except OSError:  # a kernel without IPv6
        return found


def parse(family: int, table: bytes, state: "bytes | None") -> "list[Found]":
    """The sockets of a /proc/net/{tcp,udp}{,6} table, those in `state` where that is given."""
    out = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or (state is not None and fields[3] != state):
            continue
        words, _, port = fields[1].rpartition(b":")
        try:
            packed = local_address(bytes.fromhex(words.decode()))
            address = socket.inet_ntop(_DOMAINS[family], packed)
            out.append((family, address, int(port, 16), int(fields[9])))
        except (ValueError, OSError):
            continue
    return out


def _diagnosed(family: int) -> "list[Found]":
    netlink = Netlink(NETLINK_SOCK_DIAG)
    try:
        request = struct.pack("=BBBxI48x", _DOMAINS[family], socket.IPPROTO_TCP, 0, _LISTEN_BIT)
        found = netlink.ask(_SOCK_DIAG_BY_FAMILY, request, dump=True)
    finally:
        netlink.close()
    return parse_diag([body for kind, body in found if kind == _SOCK_DIAG_BY_FAMILY])


def parse_diag(bodies: "list[bytes]") -> "list[Found]":
    """The sockets in messages that are a struct inet_diag_msg (linux/inet_diag.h)."""
    out = []
    for body in bodies:
        family = 4 if body[0] == socket.AF_INET else 6
        packed = body[8 : 8 + (4 if family == 4 else 16)]
        address = socket.inet_ntop(_DOMAINS[family], packed)
        inode = struct.unpack_from("=I", body, 68)[0]
        out.append((family, address, body[4] << 8 | body[5], inode))
    return out
