"""Puts a deep look's shots through the node's own stack, at the look's pace."""

import errno
from time import monotonic

from preflight.agent.deep.shots import SOURCE, build
from preflight.agent.inet import packed
from preflight.agent.sockets import sender

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket as socket
    from collections.abc import Callable

    from preflight.agent.deep.shots import Place, Trial
    from preflight.agent.deep.sightings import Record
    from preflight.agent.route import Routes

_FALLEN_BEHIND_S = 0.05
_BUSY = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_RETRIES, _RETRY_S = 3, 0.003
_PATIENCE = 300  # retries of a look together, or a full neighbour table would hold it up


def order(trials: "list[Trial]") -> "list[Place]":
    """Every shot that this node sends: one of each trial, then the next of each.

    What is answered goes first: Linux sends few ICMP errors to one peer, and the UDP shots would
    use them up.
    """
    out = []
    for two_way in (True, False):
        here = [
            number
            for number, trial in enumerate(trials)
            if trial.role == SOURCE and trial.two_way is two_way
        ]
        longest = max([len(trials[number].shots) for number in here] or [0])
        rounds = [(number, shot) for shot in range(longest) for number in here]
        out += [(number, shot) for number, shot in rounds if shot < len(trials[number].shots)]
    return out


class Shooter:
    """Sends from raw IP sockets, as `send.Sender` does and with the same source addresses."""

    def __init__(self, tag: bytes, ident: int, routes: "Routes") -> None:
        self._tag, self._ident = tag, ident
        self._routes = routes
        self._sockets: dict[tuple[int, str | None], socket.socket] = {}
        self._patience = _PATIENCE

    def run(
        self,
        trials: "list[Trial]",
        records: "list[Record]",
        rate: float,
        idle: "Callable[[float], bool]",
    ) -> None:
        """Send everything, `rate` shots a second; `idle(seconds)` watches meanwhile and says False
        when all is over.
        """
        started = monotonic()
        for position, (number, shot) in enumerate(order(trials)):
            late = monotonic() - started - position / rate
            if late > _FALLEN_BEHIND_S:
                started += late  # who was held up does not make up for it in a burst
            if not idle(max(-late, 0.0)):
                return
            code = self._shoot(trials[number], shot, idle)
            if code:
                records[number].send_errors[shot] = code
            else:
                records[number].see("sent", shot)

    def again(self, trials: "list[Trial]") -> None:
        """Once more those of which that is asked; nothing is told of it."""
        for trial in trials:
            if trial.role == SOURCE and trial.again is not None:
                self._shoot(trial, trial.again, lambda _: False)

    def _shoot(self, trial: "Trial", shot: int, idle: "Callable[[float], bool]") -> int:
        """0, or the errno."""
        port = trial.shots[shot].port
        code = self._routes.refusal(trial.far, trial.family, trial.protocol, port)
        if code:
            return code
        far = packed(trial.family, trial.far)
        packet = build(trial, shot, self._tag, self._ident, self._source(trial), far)
        code = self._send(trial, packet)
        for _ in range(_RETRIES if code in _BUSY else 0):
            if not self._patience or not idle(_RETRY_S):
                break
            self._patience -= 1
            code = self._send(trial, packet)
        return code

    def _send(self, trial: "Trial", packet: bytearray) -> int:
        try:
            self._socket(trial).sendto(packet, (trial.far, 0))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _socket(self, trial: "Trial") -> "socket.socket":
        """UDP leaves unbound, as from Cilium's own device; what is answered from our address."""
        key = trial.family, trial.own if trial.two_way else None
        if key not in self._sockets:
            self._sockets[key] = sender(*key)
        return self._sockets[key]

    def _source(self, trial: "Trial") -> bytes:
        if not trial.two_way:
            if trial.family == 4:
                return bytes(4)  # the kernel fills it in
            picked = self._routes.to(6, trial.far).source
            if picked:
                return picked
        return packed(trial.family, trial.own)

    def close(self) -> None:
        """Give the sockets back."""
        for sock in self._sockets.values():
            sock.close()
