"""Words for packets whose TTL runs out."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.core.detail import ran_out
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.groups import Group
from preflight.core.terms import listed, plural

_SHOWN = 2  # routers
_WHY = "it goes round in a loop, or something on the way sets its TTL"


def runs_out(what: str, group: Group, diagnoses: Sequence[Diagnosis], own: str) -> str:
    """Where that is, and who set it if that is known; nothing where it does not. `own` is the
    source.
    """
    found = [d.expired for d in diagnoses if d.expired]
    if not found:
        who = by_its_cells(group, diagnoses)
        return f"the TTL of {what} runs out at {who}: {_WHY}" if who else ""
    at = list(dict.fromkeys(address for one in found for address in one.at))
    more = [f"{plural(len(at) - _SHOWN, 'router')} more"] if len(at) > _SHOWN else []
    told = f"the TTL of {what} runs out at {listed([*at[:_SHOWN], *more])}"
    if all(one.by_source for one in found):
        ttls = sorted({ttl for one in found for ttl in one.left})
        return f"{told}: it leaves {own} with TTL {listed(map(str, ttls))}"
    return f"{told}: {_WHY}"


def by_its_cells(group: Group, diagnoses: Sequence[Diagnosis]) -> str:
    """The router that said so of a cell itself, where no look knows better; else nothing."""
    known = any(d.expired or d.rejecters for d in diagnoses)
    return "" if known or not ran_out(group.sample.outcome) else group.kind.rejected_by or ""
