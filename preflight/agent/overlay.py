"""Echo requests to addresses in the overlay, and counters that tell of wrong checksums there.

The kernel picks source address and route, as it does for the node's own traffic to pods. Only a run
after the installation asks, so this file is sent to a node when it first does.
"""

import _socket as socket
import errno
import posix
import select
import struct
from time import monotonic

from preflight.agent.sockets import IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE, enlarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Key = tuple[int, int, int]  # cell, peer, number of the request

_BUFFER = 4 << 20
_STEP_S = 0.02
_MAX_READ = 4096
_SNAP = 2048
_SMALL = 56  # bytes behind the ICMP header
_IP_MTU, _IPV6_MTU = 14, 24
_SOL_RAW, _ICMP_FILTER, _ICMPV6_FILTER = 255, 1, 1
_TOKEN = struct.Struct("!HHH")
_ECHO = {4: (8, 0, (3, 11, 12)), 6: (128, 129, (1, 2, 3))}  # request, reply, errors
_HEADER = {4: 20, 6: 40}


class Echoer:
    """Sends all of an `echo` frame's requests, at the frame's pace, and hears the answers."""

    def __init__(self, frame: "dict[str, Any]") -> None:
        self._frame = frame
        self._token = bytes.fromhex(frame["token"])
        self._ident = frame["ident"]
        self._sockets: dict[int, socket.socket] = {}
        self._errno: dict[tuple[int, int], int] = {}
        self._sizes: dict[tuple[int, int], int] = {}
        self._sent: dict[Key, float] = {}
        self._answered: dict[Key, float] = {}
        self._errors: dict[tuple[int, int], list[object]] = {}
        self._by_sequence: dict[tuple[int, int], Key] = {}  # family, number over all

    def run(self, breathe: "Callable[[], None]") -> "dict[str, Any]":
        """The answer to the frame; `breathe` hears the controller meanwhile."""
        cells = self._frame["cells"]
        waiting = [
            (c, peer, number)
            for number in range(self._frame["small"] + self._frame["full"])
            for c, cell in enumerate(cells)
            for peer in cell["out"]
        ]
        waiting.reverse()
        try:
            self._open({cell["family"] for cell in cells})
            start, end = monotonic(), 0.0
            while waiting or (monotonic() < end and len(self._answered) < len(self._sent)):
                now = monotonic()
                while waiting and now >= start:
                    start = max(start, now - _STEP_S) + 1 / self._frame["rate"]
                    self._send(*waiting.pop())
                    end = now + self._frame["wait"]
                pause = min(max(start - now, 0), _STEP_S) if waiting else _STEP_S
                self._read(pause)
                breathe()
        finally:
            for sock in self._sockets.values():
                sock.close()
        out = [self._row(c, peer) for c, cell in enumerate(cells) for peer in cell["out"]]
        return {"t": "echoed", "number": self._frame["number"], "cells": out}

    def _open(self, families: "set[int]") -> None:
        for family in families:
            domain = socket.AF_INET if family == 4 else socket.AF_INET6
            protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            sock = self._sockets[family] = socket.socket(domain, kind, protocol)
            enlarge(sock, _BUFFER)
            _, reply, errors = _ECHO[family]
            if family == 4:
                keep = 1 << reply | sum(1 << number for number in errors)
                sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~keep & 0xFFFFFFFF))
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
            else:
                words = [0xFFFFFFFF] * 8
                for number in (reply, *errors):
                    words[number >> 5] &= ~(1 << (number & 31))
                told = struct.pack("=8I", *words)
                sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, told)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)

    def _address(self, family: int, peer: int) -> str:
        return str(self._frame["addresses"][str(family)][peer])

    def _mtu(self, family: int, peer: int) -> int:
        """Of the route to a peer, as the kernel has it for connections of its own."""
        domain = socket.AF_INET if family == 4 else socket.AF_INET6
        sock = socket.socket(domain, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect((self._address(family, peer), 9))
            if family == 4:
                return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
            return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
        except OSError:
            return 0
        finally:
            sock.close()

    def _send(self, c: int, peer: int, number: int) -> None:
        family = self._frame["cells"][c]["family"]
        body = _SMALL
        if number >= self._frame["small"]:
            if (c, peer) not in self._sizes:
                self._sizes[c, peer] = self._mtu(family, peer)
            body = self._sizes[c, peer] - _HEADER[family] - 8
            if body < _SMALL:
                return
        at = len(self._sent)
        self._by_sequence[family, at] = (c, peer, number)
        data = self._token + _TOKEN.pack(c, peer, number)
        head = struct.pack("!BBHHH", _ECHO[family][0], 0, 0, self._ident, at & 0xFFFF)
        packet = head + data.ljust(body, b"\0")
        if family == 4:  # over IPv6 the kernel does it
            packet = packet[:2] + struct.pack("!H", _checksum(packet)) + packet[4:]
        try:
            self._sockets[family].sendto(packet, (self._address(family, peer), 0))
        except OSError as error:
            self._errno[c, peer] = error.errno or errno.EIO
            return
        self._sent[c, peer, number] = monotonic()

    def _read(self, pause: float) -> None:
        select.select(list(self._sockets.values()), [], [], pause)
        for family, sock in self._sockets.items():
            for _ in range(_MAX_READ):
                try:
                    data, sender = sock.recvfrom(_SNAP)
                except BlockingIOError:
                    break
                except OSError:
                    continue
                if family == 4:
                    data = data[(data[0] & 15) * 4 :] if data else data
                self._heard(family, data, sender[0].partition("%")[0])

    def _heard(self, family: int, data: bytes, sender: str) -> None:
        if len(data) < 8:
            return
        _, reply, errors = _ECHO[family]
        if data[0] == reply:
            key = self._ours(data)
            if key in self._sent and sender == self._address(family, key[1]):
                self._answered.setdefault(key, monotonic())
        elif data[0] in errors:
            quoted = data[8:]
            if family == 4:
                quoted = quoted[(quoted[0] & 15) * 4 :] if quoted else quoted
            else:
                quoted = quoted[40:]
            if len(quoted) < 8 or quoted[0] != _ECHO[family][0]:
                return
            ident, sequence = struct.unpack("!HH", quoted[4:8])
            key = self._quoted(family, sequence) if ident == self._ident else (-1, -1, -1)
            if key in self._sent:
                mtu = data[6] << 8 | data[7]
                self._errors.setdefault(key[:2], [sender, data[0], data[1], mtu])

    def _ours(self, data: bytes) -> "Key":
        ident, told = struct.unpack("!H", data[4:6])[0], data[8:]
        if ident != self._ident or not told.startswith(self._token):
            return (-1, -1, -1)
        rest = told[len(self._token) :][: _TOKEN.size]
        return _TOKEN.unpack(rest) if len(rest) == _TOKEN.size else (-1, -1, -1)

    def _quoted(self, family: int, sequence: int) -> "Key":
        """An ICMP error may quote no more than the header: then the latest of that number."""
        last = (len(self._sent) - 1 - sequence) // 65536 * 65536 + sequence
        return self._by_sequence.get((family, last), (-1, -1, -1))

    def _row(self, c: int, peer: int) -> "list[object]":
        small = self._frame["small"]
        numbers = range(small + self._frame["full"])
        sent = [n for n in numbers if (c, peer, n) in self._sent]
        back = [n for n in sent if (c, peer, n) in self._answered]
        times = [self._answered[c, peer, n] - self._sent[c, peer, n] for n in back if n < small]
        return [
            c,
            peer,
            sum(n < small for n in sent),
            sum(n >= small for n in sent),
            sum(n < small for n in back),
            sum(n >= small for n in back),
            self._errno.get((c, peer), 0),
            self._errors.get((c, peer)),
            self._sizes.get((c, peer), 0),
            int(min(times) * 1e6) if times else None,
        ]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack("!%dH" % (len(data) // 2), data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def wrong_checksums() -> int:
    """TCP segments thrown away for theirs so far, in all network namespaces that have a process.

    A health endpoint has a namespace of its own, with counters of its own.
    """
    seen: set[str] = set()
    total = 0
    for name in posix.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            space = posix.readlink("/proc/%s/ns/net" % name)
            if space in seen:
                continue
            seen.add(space)
            total += _in_errors(_text("/proc/%s/net/snmp" % name))
        except OSError:  # it has ended
            continue
    return total


def _in_errors(snmp: str) -> int:
    lines = [line.split() for line in snmp.split("\n") if line.startswith("Tcp:")]
    if len(lines) < 2 or "InCsumErrors" not in lines[0]:
        return 0
    return int(lines[1][lines[0].index("InCsumErrors")])


def _text(path: str) -> str:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 1 << 16).decode("ascii", "replace")
    finally:
        posix.close(fd)
