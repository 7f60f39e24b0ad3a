"""Which shots count, and which of them arrived: `core.evidence`'s rules 1 to 3 for a trial."""

from __future__ import annotations

from preflight.core.diagnosis.trial import Observed
from preflight.core.evidence import REFUSALS

_AT_SOURCE = ("sent", "left")


def arrived(observed: Observed) -> int | None:
    """Shots that reached the destination's device; None where nobody watched that."""
    there = observed.seen.get("arrived")
    if there is None:
        return None
    return (there | (observed.seen.get("accepted") or 0)) & _every(observed)


def passed(observed: Observed) -> int | None:
    """Shots that got through: accepted, or arrived where accepted was not watched."""
    accepted = observed.seen.get("accepted")
    return arrived(observed) if accepted is None else accepted & _every(observed)


def tried(observed: Observed) -> int:
    """Shots that tell something: the kernel took them, or refused them for good.

    One that its own kernel had no room for was never sent.
    """
    proved = 0
    for vantage in ("left", "arrived", "accepted"):
        proved |= observed.seen.get(vantage) or 0
    failed = refused = 0
    for shot, errno in observed.send_errors.items():
        failed |= 1 << shot
        if errno in REFUSALS:
            refused |= 1 << shot
    sent = observed.seen.get("sent")
    if sent is None:
        sent = ~failed
    return (sent | refused | proved) & _every(observed)


def source_reported(observed: Observed) -> bool:
    """Whether the source told of its part, so that an error it does not mention did not come."""
    if "source" in observed.ends or observed.errors or observed.send_errors:
        return True
    return any(observed.seen.get(vantage) is not None for vantage in _AT_SOURCE)


def shots_in(mask: int) -> list[int]:
    """The positions in a mask, in order."""
    out = []
    while mask:
        lowest = mask & -mask
        out.append(lowest.bit_length() - 1)
        mask ^= lowest
    return out


def _every(observed: Observed) -> int:
    return (1 << len(observed.trial.shots)) - 1
