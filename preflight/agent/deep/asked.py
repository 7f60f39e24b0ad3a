"""Real connections of a deep look: rules that no SYN meets are met by what a connection carries.

The source asks `GET /hello` from the port that both ends were told, so both know its packets.
"""

import struct

from preflight.agent.deep.shots import SOURCE
from preflight.agent.hello import Asker
from preflight.agent.packets import TCP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from preflight.agent.deep.marks import Mark
    from preflight.agent.deep.shots import Trial

_RATE = 1000.0  # connections a second
_WAIT_S = 0.7  # for the answer: what is lost is sent again after 0.2 s


def ports(trial: "Trial") -> "dict[bytes, str]":
    """The ports of its packets, as a TCP header begins, by leg; none where it does not ask."""
    if not trial.ask:
        return {}
    ends = trial.ask, trial.port
    return {struct.pack("!HH", *ends): "forward", struct.pack("!HH", *ends[::-1]): "reply"}


def request_marks(trials: "list[Trial]") -> "list[Mark]":
    """Those of all connections, whichever of the node's addresses they have."""
    return [
        (trial.family, TCP, (("transport", 0, own),)) for trial in trials for own in ports(trial)
    ]


def request_of(trials: "list[Trial]", protocol: int, header: bytes) -> "tuple[int, str] | None":
    """Position of the trial, and leg, of a packet of a connection; None for any other packet."""
    if protocol == TCP:
        for number, trial in enumerate(trials):
            leg = ports(trial).get(header[:4])
            if leg:
                return number, leg
    return None


def ask(trials: "list[Trial]", idle: "Callable[[float], bool]") -> None:
    """One request of each, all at once; nothing is told of them but what rules they met."""
    mine = [trial for trial in trials if trial.ask and trial.role == SOURCE]
    if not mine:
        return
    frame = {
        "number": 0,
        "rate": _RATE,
        "parallel": len(mine),
        "wait": _WAIT_S,
        "cells": [
            {"family": trial.family, "port": trial.port, "from": trial.ask, "out": [number]}
            for number, trial in enumerate(mine)
        ],
    }
    far = [trial.far for trial in mine]
    own = {trial.family: trial.own for trial in mine}
    Asker(frame, dict.fromkeys(own, far), own).run(lambda: _watch(idle))


def _watch(idle: "Callable[[float], bool]") -> None:
    idle(0.0)
