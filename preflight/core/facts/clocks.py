"""Clocks that are apart: certificates are not valid yet or no more, logs cannot be put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median_low

from preflight.core.facts.risk import Clock, Risk, RiskKey, Situation
from preflight.core.model import Severity

_APART_S = 1.0
_SOURCE = "certificates are dated; Kubernetes asks for synchronised clocks"


def apart(situation: Situation) -> Iterator[Risk]:
    """Some nodes' clocks differ from the others' by more than a second, measuring error apart."""
    for cluster in situation.clusters():
        clocks = {n: situation.clocks[n] for n in cluster if n in situation.clocks}
        if len(clocks) < 2 or _spread(clocks) <= _APART_S:
            continue
        middle = median_low(clock.offset for clock in clocks.values())
        off = {
            n: clock
            for n, clock in clocks.items()
            if abs(clock.offset - middle) - clock.uncertainty > _APART_S
        }
        # Two nodes have no middle: then both are named.
        concerned = sorted(off) if off and len(clocks) > 2 else sorted(clocks)
        yield Risk(
            RiskKey.CLOCKS,
            Severity.RECOMMENDED,
            tuple(concerned),
            f"The {'clock' if len(concerned) == 1 else 'clocks'} of {situation.who(concerned)} "
            f"{_how_far(clocks, concerned, middle)}.",
            tuple(_told(situation, n, clocks[n]) for n in concerned[:4]),
            ("timedatectl set-ntp true",),
            "Or have chrony or ntpd keep the clocks, and step them once.",
            _SOURCE,
        )


def _spread(clocks: Mapping[int, Clock]) -> float:
    """How far apart the clocks are at least."""
    latest = max(clock.offset - clock.uncertainty for clock in clocks.values())
    earliest = min(clock.offset + clock.uncertainty for clock in clocks.values())
    return latest - earliest


def _how_far(clocks: Mapping[int, Clock], concerned: list[int], middle: float) -> str:
    if len(clocks) == 2:
        first, second = (clock.offset for clock in clocks.values())
        return f"are {abs(first - second):,.1f} s apart"
    if len(concerned) == 1:
        ahead = clocks[concerned[0]].offset - middle
        return f"is {abs(ahead):,.1f} s {'ahead of' if ahead > 0 else 'behind'} the others'"
    most = max(abs(clocks[n].offset - middle) for n in concerned)
    return f"differ from the others' by up to {most:,.1f} s"


def _told(situation: Situation, node: int, clock: Clock) -> str:
    facts = situation.facts[node]
    kept = facts.timekeeping if facts is not None else None
    words = ""
    if kept is not None:
        words = f"; its kernel calls it {'synchronised' if kept.synchronised else 'unsynchronised'}"
    side = "ahead of" if clock.offset >= 0 else "behind"
    return (
        f"{situation.nodes[node].name}: {abs(clock.offset):,.2f} s {side} this machine, "
        f"within {clock.uncertainty:,.2f} s{words}"
    )
