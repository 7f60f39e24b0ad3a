"""Ordinary packets whose time to live runs out on the way: nobody refused them."""

from __future__ import annotations

from ipaddress import ip_address

from preflight.core.diagnosis.arrivals import arrived
from preflight.core.diagnosis.conclusions import Expired
from preflight.core.diagnosis.trial import Observed, Purpose
from preflight.core.model import Family

TTL_EXCEEDED = {Family.IPV4: (11, 0), Family.IPV6: (3, 0)}
_ORDINARY = (Purpose.PLAIN, Purpose.FLOW)


def expired(observed: Observed) -> Expired | None:
    """Who says it of shots that were sent with the usual TTL; None where nobody does.

    What the destination says counts for nothing: it has got them.
    """
    shots, trial = observed.trial.shots, observed.trial
    there = arrived(observed) or 0
    meant = observed.destination_address
    own = ip_address(meant) if meant else None
    left = observed.passages.get("left", {})
    at: dict[str, None] = {}
    ttls, lowered, count = set(), True, 0
    for error in observed.errors:
        shot = shots[error.shot]
        if shot.purpose not in _ORDINARY or (error.type, error.code) != TTL_EXCEEDED[trial.family]:
            continue
        if there >> error.shot & 1 or ip_address(error.sender) == own:
            continue
        at[str(ip_address(error.sender))] = None
        gone = left.get(error.shot)
        if gone is not None:
            ttls.add(gone.ttl)
        lowered = lowered and gone is not None and gone.ttl < shot.ttl
        count += 1
    return Expired(tuple(at), tuple(sorted(ttls)), lowered, count) if at else None
