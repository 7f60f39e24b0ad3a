"""What the reader of a merged snapshot must know of its parts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from preflight.core.merge.model import Claim, Conflict, Merged, Origin
from preflight.core.terms import listed, plural

_SHOWN = 6
_APART_S = 3600.0


def notes(merged: Merged) -> list[str]:
    """Plain sentences: what went in, how far apart, and where the parts contradict each other."""
    return [*_origins(merged.origins), *_apart(merged.origins), *_conflicts(merged.conflicts)]


def _origins(origins: tuple[Origin, ...]) -> Iterator[str]:
    told = [f"{o.file} ({_agents(o.agents)}, {o.started})" for o in origins[:_SHOWN]]
    more = [f"{len(origins) - _SHOWN} more"] if len(origins) > _SHOWN else []
    yield f"merged from {plural(len(origins), 'file')}: {listed([*told, *more])}"


def _agents(names: tuple[str, ...]) -> str:
    if not names:
        return "no agent"
    return listed(names) if len(names) <= _SHOWN else f"{len(names)} agents"


def _apart(origins: tuple[Origin, ...]) -> Iterator[str]:
    try:
        times = [datetime.fromisoformat(origin.started) for origin in origins]
        seconds = (max(times) - min(times)).total_seconds()
    except (TypeError, ValueError):  # a file may say anything
        return
    if seconds > _APART_S:
        yield (
            f"these runs began up to {seconds / 3600:.0f} h apart: what was changed in between "
            "shows as a contradiction, or not at all"
        )


def _conflicts(conflicts: tuple[Conflict, ...]) -> Iterator[str]:
    alike: dict[tuple[str, ...], list[Conflict]] = {}
    for conflict in conflicts:
        test = (conflict.probe, conflict.family)
        alike.setdefault((*test, *map(_says, conflict.claims)), []).append(conflict)
    for group in list(alike.values())[:_SHOWN]:
        first = group[0]
        pairs = [f"{c.source} → {c.destination}" for c in group[:_SHOWN]]
        more = [plural(len(group) - _SHOWN, "pair") + " more"] if len(group) > _SHOWN else []
        said = "; ".join(map(_says, first.claims))
        yield (
            f"contradiction: {first.probe} over {first.family.replace('ipv', 'IPv')} "
            f"{listed([*pairs, *more])}: {said}; the worse stands"
        )
    left = sum(len(group) for group in list(alike.values())[_SHOWN:])
    if left:
        yield f"and {plural(left, 'contradiction')} more: --format json has them all"


def _says(claim: Claim) -> str:
    where = {None: "", "path": " on the path"}.get(claim.place, f" inside the {claim.place}")
    answer = "answer " if claim.leg == "reply" else ""
    return f"{answer}{claim.verdict}{where} in {claim.file}"
