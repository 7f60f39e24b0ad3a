"""Merging on one page: fleet, cells, conflicts, findings, notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from preflight.core.matrix import Matrix
from preflight.core.meeting import NOTE
from preflight.core.merge.cells import Spot, combine
from preflight.core.merge.explain import explained
from preflight.core.merge.fleet import Named, unite
from preflight.core.merge.meetings import records, told
from preflight.core.merge.model import Claim, Conflict, Merged, Origin
from preflight.core.merge.words import notes
from preflight.core.model import AgentState, Cause, Outcome, Verdict
from preflight.core.snapshot import Snapshot


def merge(parts: Sequence[Named]) -> Snapshot:
    """One snapshot of all; any order of the parts gives the same. `parts` are named by their files.

    Raises UsageError where they cannot be of one fleet in one phase.
    """
    fleet = unite(parts)
    said = told(parts)
    matrix, differing = combine(fleet, [part.matrix for _, part in said])
    conflicts = _conflicts(said, matrix, differing)
    origins = tuple(sorted({o for file, part in parts for o in _origins(file, part)},
                           key=lambda origin: (origin.started, origin)))  # fmt: skip
    merged = Merged(origins, conflicts)
    plain = sorted({*fleet.notes, *(note for _, part in parts for note in _plain_notes(part))})
    cut = any(o.cause is Cause.INTERRUPTED for o in matrix.outcomes())
    whole = Snapshot(
        phase=parts[0][1].phase,
        started=min(part.started for _, part in parts),
        finished=max(part.finished for _, part in parts),
        matrix=matrix,
        agents=fleet.agents,
        timings=_timings([part for _, part in parts]),
        notes=(*notes(merged), *plain),
        interrupted=cut,  # unless other files know what it left
        records=records(parts),
        merged=merged,
    )
    return replace(whole, findings=explained(matrix, [part for _, part in parts]))


def _timings(parts: Iterable[Snapshot]) -> dict[str, float]:
    longest: dict[str, float] = {}
    for part in parts:
        for key, seconds in part.timings.items():
            longest[key] = max(seconds, longest.get(key, 0.0))
    return dict(sorted(longest.items()))


def _origins(file: str, part: Snapshot) -> Iterator[Origin]:
    if part.merged is not None:
        yield from part.merged.origins
        return
    names = [node.name for node in part.matrix.nodes]
    present = [n for n, agent in zip(names, part.agents, strict=True) if _there(agent.state)]
    yield Origin(file, part.started, part.finished, tuple(present))


def _there(state: AgentState) -> bool:
    return state in (AgentState.OK, AgentState.LOST)


def _plain_notes(part: Snapshot) -> Sequence[str]:
    """Its notes, less those that merging made: they are made anew."""
    made = notes(part.merged) if part.merged is not None else ()
    return [note for note in part.notes if note not in made and note != NOTE]


# --- conflicts

_Key = tuple[str, str, str, str]  # source, destination, probe, family


def _conflicts(
    parts: Sequence[Named], matrix: Matrix, differing: Sequence[Spot]
) -> tuple[Conflict, ...]:
    claims: dict[_Key, set[Claim]] = {_names(matrix, spot): set() for spot in differing}
    told: list[set[_Key]] = []  # of each part: where it says itself which file says what
    for _, part in parts:
        inner = {_key(old): old.claims for old in part.merged.conflicts} if part.merged else {}
        for key, old in inner.items():
            claims.setdefault(key, set()).update(old)
        told.append(set(inner))
    for (file, part), inner_keys in zip(parts, told, strict=True):
        find = _Finder(part.matrix)
        for key in claims.keys() - inner_keys:
            outcome = find(key)
            if outcome is not None and outcome.verdict is not Verdict.UNKNOWN:
                claims[key].add(Claim(file, *outcome[:4]))
    families = {str(family): family for family in matrix.families}
    return tuple(
        Conflict(*key[:3], families[key[3]], tuple(sorted(said, key=_order)))
        for key, said in sorted(claims.items())
    )


def _key(conflict: Conflict) -> _Key:
    return conflict.source, conflict.destination, conflict.probe, str(conflict.family)


def _order(claim: Claim) -> tuple[str, ...]:
    return tuple(map(str, claim))


def _names(matrix: Matrix, spot: Spot) -> _Key:
    return (
        matrix.nodes[spot.source].name,
        matrix.nodes[spot.destination].name,
        matrix.probes[spot.probe].name,
        str(matrix.families[spot.family]),
    )


class _Finder:
    """Finds cells by names."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._nodes = {node.name: i for i, node in enumerate(matrix.nodes)}
        self._probes = {probe.name: i for i, probe in enumerate(matrix.probes)}
        self._families = {str(family): i for i, family in enumerate(matrix.families)}

    def __call__(self, key: _Key) -> Outcome | None:
        s, d = self._nodes.get(key[0]), self._nodes.get(key[1])
        p, f = self._probes.get(key[2]), self._families.get(key[3])
        if f is None or p is None or s is None or d is None:
            return None
        return self._matrix.outcome(self._matrix.index(f, p, s, d))
