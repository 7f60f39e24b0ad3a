"""One character for a cell. It alone tells the verdict; colour only repeats it."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.core.model import Leg, Outcome, Place, Severity, Verdict

OPEN = "·"
LOSSY = "~"
UNKNOWN = "?"
SAME_NODE = "\\"
NOT_PLANNED = " "

# In this order the legend tells them.
LEGEND: Mapping[str, str] = {
    OPEN: "open",
    "S": "blocked inside the source",
    "P": "blocked on the path",
    "D": "blocked inside the destination",
    "d": "answer blocked inside the destination",
    "p": "answer blocked on the path",
    "s": "answer blocked inside the source",
    "B": "blocked, place not known",
    LOSSY: "lossy",
    "c": "closed: Cilium does not serve the port",
    UNKNOWN: "unknown",
    NOT_PLANNED: "blank: not tested",
}

_OF_VERDICT = {
    Verdict.OPEN: OPEN,
    Verdict.CLOSED: "c",
    Verdict.BLOCKED: "B",
    Verdict.LOSSY: LOSSY,
    Verdict.UNKNOWN: UNKNOWN,
}
_OF_PLACE = {Place.SOURCE: "S", Place.PATH: "P", Place.DESTINATION: "D"}


def symbol(outcome: Outcome | None) -> str:
    """The character for a cell; None is a cell that was not planned."""
    if outcome is None:
        return NOT_PLANNED
    if outcome.verdict is Verdict.BLOCKED and outcome.place is not None:
        letter = _OF_PLACE[outcome.place]
        return letter.lower() if outcome.leg is Leg.REPLY else letter
    return _OF_VERDICT[outcome.verdict]


def style(sign: str, severity: Severity) -> str | None:
    """The style of a cell: red where what Cilium requires is bad, yellow where it is less."""
    if sign == OPEN:
        return "good"
    if sign == UNKNOWN:
        return "unknown"
    if sign in (SAME_NODE, NOT_PLANNED):
        return "dim"
    return "bad" if severity is Severity.REQUIRED else "warn"
