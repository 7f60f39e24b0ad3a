"""Put a look's probes through the node's own stack, at the look's pace."""

import errno
from time import monotonic, sleep, time

from preflight.agent.inet import packed
from preflight.agent.packets import UDP, Patcher
from preflight.agent.sockets import sender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from preflight.agent.look import Cell, Flight, Look, Shot
    from preflight.agent.route import Routes

_CHUNK = 32  # probes between two looks at the clock
_FALLEN_BEHIND_S = 0.05
_BUSY = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_RETRIES, _RETRY_S = 3, 0.003
_PATIENCE_S = 1.0  # for a look's retries together, or a full neighbour table would hold it up


def timetable(look: "Look") -> "list[tuple[float, Cell, int]]":
    """(seconds from the start, cell, sequence): in one round every peer gets one probe.

    What is answered goes first: Linux sends few ICMP errors to one peer, and the UDP probes would
    use them up before a SYN's rejection. A cell's `gap` is the least time between two rounds, so
    that two nodes alone do not get in a burst what fifty get in turn.
    """
    out = []
    clock = 0.0
    for two_way in (True, False):
        cells = [c for c in look.cells if c.two_way is two_way and c.out]
        for sequence in range(max([c.count for c in cells] or [0])):
            begin = clock
            for cell in cells:
                if sequence < cell.count:
                    out.append((clock, cell, sequence))
                    clock += len(cell.out) / look.rate
            clock = max(clock, begin + max(c.gap for c in cells))
    return out


class Sender:
    """Sends looks. UDP leaves with the source address that the kernel picks, as Cilium's own device
    does; what is answered leaves from the node's address, so that the answer comes back to it.
    """

    def __init__(self, tag: bytes, ident: int, own: "dict[int, str]", routes: "Routes") -> None:
        self._tag = tag
        self._ident = ident
        self._own = own
        self._routes = routes
        self._sockets: dict[tuple[int, bool], Callable[..., int]] = {}
        self._patchers: dict[tuple[int, bool, int | None, bytes], Patcher] = {}  # of one look
        self._patience = 0.0
        self._look = 0

    def run(self, look: "Look", idle: "Callable[[float], bool]") -> None:
        """Send everything; `idle(seconds)` watches meanwhile and says False when all is over."""
        self._patchers.clear()
        self._look = look.number
        self._patience = _PATIENCE_S
        for cell in look.cells:
            for flight in look.flights[cell.number]:
                flight.refused = self._routes.refusal(
                    flight.address, cell.family, cell.protocol, cell.port
                )
        started = monotonic()
        for offset, cell, sequence in timetable(look):
            flights = look.flights[cell.number]
            for at in range(0, len(flights), _CHUNK):
                late = monotonic() - (started + offset + at / look.rate)
                if late > _FALLEN_BEHIND_S:
                    started += late  # who was held up does not make up for it in a burst
                if not idle(max(-late, 0.0)):
                    return
                self._burst(look, cell, sequence, flights[at : at + _CHUNK])

    def _burst(self, look: "Look", cell: "Cell", sequence: int, flights: "list[Flight]") -> None:
        bit = 1 << sequence
        sent, sent_at, timed = look.seen["sent"], look.sent_at, cell.two_way
        sendto = self._socket(cell)
        full = sequence >= cell.count - cell.full
        for flight in flights:
            if flight.refused:
                key = (flight.slot, flight.refused)
                look.send_errors[key] = look.send_errors.get(key, 0) | bit
                continue
            patcher, aim = (flight.full if full else flight.small) or self._aim(cell, flight, full)
            packet = patcher.patch(aim, flight.firsts[sequence], flight.tokens[sequence])
            if timed:
                sent_at[flight.slot << 6 | sequence] = time()
            try:
                sendto(packet, flight.target)
            except OSError as error:
                code = self._again(sendto, packet, flight.target, error)
                if code:
                    key = (flight.slot, code)
                    look.send_errors[key] = look.send_errors.get(key, 0) | bit
                    continue
            sent[flight.slot] |= bit

    def _socket(self, cell: "Cell") -> "Callable[..., int]":
        bound = cell.protocol != UDP
        key = (cell.family, bound)
        if key not in self._sockets:
            own = self._own[cell.family] if bound else None
            try:
                self._sockets[key] = sender(cell.family, own).sendto
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                self._sockets[key] = _without_address
        return self._sockets[key]

    def _aim(self, cell: "Cell", flight: "Flight", full: bool) -> "Shot":
        inert = flight.peer in cell.inert
        size = self._routes.to(cell.family, flight.address).mtu if full else None
        source = self._source(cell, flight)
        key = (cell.number, inert, size, source)
        patcher = self._patchers.get(key)
        if patcher is None:
            template = cell.harmless if inert else cell.plain
            if size is not None:
                template = template.full(size)
            patcher = Patcher(template, self._tag, self._ident, source, self._look)
            self._patchers[key] = patcher
        shot = (patcher, patcher.aim(packed(cell.family, flight.address)))
        if full:
            flight.full = shot
        else:
            flight.small = shot
        return shot

    def _source(self, cell: "Cell", flight: "Flight") -> bytes:
        if cell.protocol == UDP:
            if cell.family == 4:
                return bytes(4)  # the kernel fills it in
            picked = self._routes.to(6, flight.address).source
            if picked:
                return picked
        return packed(cell.family, self._own[cell.family])

    def _again(
        self, sendto: "Any", packet: bytearray, target: "tuple[str, int]", error: OSError
    ) -> int:
        """0 where a short wait helped a full queue, else the errno."""
        for _ in range(_RETRIES if error.errno in _BUSY else 0):
            if self._patience <= 0:
                break
            self._patience -= _RETRY_S
            sleep(_RETRY_S)
            try:
                sendto(packet, target)
            except OSError as again:
                error = again
            else:
                return 0
        return error.errno or errno.EIO


def _without_address(*_: object) -> int:
    """In place of `sendto` where the kernel does not use the node's address: IPv6, a duplicate."""
    raise OSError(errno.EADDRNOTAVAIL, "")
