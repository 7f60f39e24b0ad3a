"""How far answers get that are lost on their way back.

An answer that this node sent is sent again, byte for byte, with a rising TTL: a firewall that
keeps state takes it for what it was. Which one an ICMP error quotes is told on IPv4 by the
identification, on IPv6 by what nobody reads: a segment's urgent pointer, or the length of an echo.
"""

import _socket as socket
import struct
from time import monotonic

from preflight.agent.deep.shots import DESTINATION, Packet
from preflight.agent.packets import ICMP, ICMPV6, TCP, checksum
from preflight.agent.sockets import sender
from preflight.agent.watch import MAX_READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.deep.shots import Trial

_ROUNDS, _EVERY_S = 2, 0.2
_LAST_S = 0.3  # how long an error may take
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1  # linux/icmp.h, linux/icmpv6.h
_TOLD = {4: (3, 11), 6: (1, 3)}  # destination unreachable, time exceeded
_FIRST_NUMBER, _NUMBERS = 0xA000, 256  # IPv4 identifications: of each trial, one for a TTL
_URGENT = 18  # offset in a TCP header
_CHECKSUM_AT = {TCP: 16, ICMP: 2, ICMPV6: 2}


class Answers:
    """Those of the trials of which that is asked: `back` is their largest TTL."""

    def __init__(self, trials: "list[Trial]") -> None:
        asked = (i for i, t in enumerate(trials) if t.role == DESTINATION and t.back and t.two_way)
        self._trials = {position: trials[position] for position in asked}
        self._answers: dict[int, bytes] = {}
        self._sockets: dict[int, socket.socket] = {}  # by family: where errors come in
        self._senders: dict[tuple[int, str], socket.socket] = {}
        self._rounds = 0
        self._next = 0.0
        # position of the trial -> TTL, sender, type and code of each error
        self.errors: dict[int, set[tuple[int, str, int, int]]] = {}
        self.sent: dict[int, int] = {}  # position of the trial -> its largest TTL, once all left

    def open(self) -> None:
        """Begin to listen; where that is not allowed, nothing is sent either."""
        for family in {trial.family for trial in self._trials.values()}:
            try:
                self._sockets[family] = _listener(family)
            except OSError:
                continue

    def answered(self, position: int, shot: int, data: bytes) -> None:
        """An answer to a shot of that trial has left; `data` from its IP header on."""
        trial = self._trials.get(position)
        if trial is not None and position not in self._answers:
            wanted = trial.shots[shot]
            if wanted.port == trial.port and trial.family in self._sockets:
                self._answers[position] = data

    @property
    def pending(self) -> bool:
        """More is to be sent, or may still come back."""
        return bool(self._answers) and (self._rounds < _ROUNDS or monotonic() < self._next)

    def send(self) -> None:
        """The next round, once it is due."""
        if self._rounds == _ROUNDS or not self._answers or monotonic() < self._next:
            return
        self._rounds += 1
        self._next = monotonic() + (_EVERY_S if self._rounds < _ROUNDS else _LAST_S)
        for position, answer in self._answers.items():
            trial = self._trials[position]
            try:
                for ttl in range(1, trial.back + 1):
                    packet = again(answer, ttl, _number(position, ttl))
                    self._sender(trial).sendto(packet, (trial.far, 0))
                self.sent[position] = trial.back
            except OSError:
                continue

    def read(self) -> None:
        """Everything that is waiting."""
        for family, sock in self._sockets.items():
            for _ in range(MAX_READ):
                try:
                    data, address = sock.recvfrom(2048)
                except BlockingIOError:
                    break
                body = data[(data[0] & 15) * 4 :] if family == 4 else data
                self._error(family, body, address[0].partition("%")[0])

    def _error(self, family: int, body: bytes, router: str) -> None:
        try:
            quoted = Packet(body[8:])
        except ValueError:
            return
        for position, answer in self._answers.items():
            if self._trials[position].family == family == quoted.family:
                ttl = _ttl(quoted, Packet(answer), position)
                if 0 < ttl <= self._trials[position].back:
                    found = self.errors.setdefault(position, set())
                    found.add((ttl, router, body[0], body[1]))

    def _sender(self, trial: "Trial") -> socket.socket:
        key = trial.family, trial.own
        if key not in self._senders:
            self._senders[key] = sender(*key)
        return self._senders[key]

    def close(self) -> None:
        """Give the sockets back."""
        for sock in [*self._sockets.values(), *self._senders.values()]:
            sock.close()


def again(answer: bytes, ttl: int, number: int) -> bytes:
    """The same packet with another TTL, and marked by it."""
    packet = bytearray(answer)
    family = packet[0] >> 4
    l4 = 40 if family == 6 else (packet[0] & 15) * 4
    protocol = packet[6] if family == 6 else packet[9]
    if family == 4:
        struct.pack_into("!H", packet, 4, number)
        packet[8] = ttl
        addresses = bytes(packet[12:20])
    else:
        packet[7] = ttl
        addresses = bytes(packet[8:40])
        if protocol == TCP:
            struct.pack_into("!H", packet, l4 + _URGENT, ttl)
        else:
            packet += bytes(ttl)
            struct.pack_into("!H", packet, 4, len(packet) - l4)
    at = l4 + _CHECKSUM_AT[protocol]
    packet[at : at + 2] = bytes(2)
    head = b"" if protocol == ICMP else addresses + struct.pack("!HH", protocol, len(packet) - l4)
    struct.pack_into("!H", packet, at, checksum(head + bytes(packet[l4:])))
    return bytes(packet)


def _ttl(quoted: Packet, answer: Packet, position: int) -> int:
    """The TTL with which a quoted copy of `answer` left; 0 where it is none."""
    if (quoted.protocol, quoted.destination) != (answer.protocol, answer.destination):
        return 0
    # Ports, or an echo's type and identifier; its checksum differs.
    same = slice(0, 4) if answer.protocol == TCP else slice(4, 8)
    if quoted.body[same] != answer.body[same]:
        return 0
    if answer.family == 4:
        return quoted.ident - _number(position, 0)
    if answer.protocol == TCP:
        return int.from_bytes(quoted.body[_URGENT : _URGENT + 2], "big")
    return quoted.size - answer.size


def _number(position: int, ttl: int) -> int:
    return (_FIRST_NUMBER + _NUMBERS * position + ttl) & 0xFFFF


def _listener(family: int) -> socket.socket:
    """A raw ICMP socket that the kernel gives errors alone."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    told = sum(1 << number for number in _TOLD[family])
    if family == 4:
        sock = socket.socket(socket.AF_INET, kind, ICMP)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~told & 0xFFFFFFFF))
    else:
        sock = socket.socket(socket.AF_INET6, kind, ICMPV6)
        blocked = struct.pack("=I", ~told & 0xFFFFFFFF) + b"\xff" * 28
        sock.setsockopt(ICMPV6, _ICMP6_FILTER, blocked)
    return sock
