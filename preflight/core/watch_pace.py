"""When a watch makes its next round, when it ends, and when a node is tried again. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preflight.core.model import AgentState

DEFAULT_INTERVAL_S = 10.0
CONFIRM_S = 2.0  # so soon a round that saw something new is followed by the one that confirms it
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)")

# A node that was lost may be back at once, and one that reboots in minutes. Whoever waits for a
# person is asked seldom: a login that is refused counts, on many nodes, towards a lock-out.
_FIRST_S, _MOST_S, _SELDOM_S = 2.0, 30.0, 60.0
_COMES_BACK = frozenset({AgentState.UNREACHABLE, AgentState.LOST})
_COUNTED = frozenset({AgentState.AUTH, AgentState.BECOME})
_REFUSALS = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, and how long. Times are seconds."""

    interval_s: float = DEFAULT_INTERVAL_S  # from the beginning of a round to that of the next
    count: int | None = None  # rounds
    for_s: float | None = None

    def next_at(self, begun: float, ended: float, *, confirm: bool, delay_s: float) -> float:
        """When the round after one that lasted from `begun` to `ended` begins.

        `delay_s` is how long, from `ended`, new flows have to wait for room in firewalls.
        """
        soon = ended + min(CONFIRM_S, self.interval_s)
        return max(soon if confirm else begun + self.interval_s, ended + delay_s)

    def over(self, rounds: int, watched_s: float) -> bool:
        """Whether no round begins any more, after so many and at that time."""
        enough = self.count is not None and rounds >= self.count
        return enough or (self.for_s is not None and watched_s >= self.for_s)


def seconds(text: str) -> float:
    """`90`, `90s`, `1.5m`, `2h` in seconds. Raises ValueError."""
    found = _TIME.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text}: write it as seconds, or like 30s, 10m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def retry_s(state: AgentState, failures: int, *, was_there: bool) -> float | None:
    """How long to wait before a node in `state` is tried again; None: it is not.

    `failures` counts those in a row, the loss of an agent being the first. `was_there` says that
    an agent has run there in this watch: then even a refused login may be one of a node that boots.
    """
    if state in _COMES_BACK:
        return min(_FIRST_S * 2.0 ** min(failures - 1, 8), _MOST_S)
    if state in _COUNTED and (not was_there or failures > _REFUSALS):
        return None
    return _SELDOM_S
