"""Which cells a closer look is made at: as few as tell all findings apart.

Rules of this file:
1. One of each group comes first, then one of each part that may be bad for another reason.
2. What room is left goes to ends that a group has no sample of, where more packets spoil nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from preflight.core.diagnosis.plan import SAMPLES, by_connection
from preflight.core.findings.atoms import Atom, atoms
from preflight.core.findings.shapes import Shapes
from preflight.core.findings.unfound import one_node_each
from preflight.core.groups import Group, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Place, Verdict
from preflight.core.naming import members

_CONSIDERED = 16  # sources, and destinations of each, for a sample
_MORE = 2  # samples of a group, for ends that no other sample has
_MORE_OF_SIZES = 3
_CLEAR = (Cause.NO_ROUTE, Cause.NO_NEIGHBOUR)  # whatever the probe


class Sample(NamedTuple):
    """One cell to look at closely; positions, and what its cell says."""

    source: int
    destination: int
    probe: int
    family: Family
    kind: Kind
    brief: bool = False  # only who ends it is asked
    quiet: bool = False  # only whether it passes when few packets are sent

    def of(self, atom: Atom) -> bool:
        """Whether it is one of these cells, whatever the probe."""
        there = atom.sources >> self.source & atom.destinations >> self.destination & 1
        return bool(there) and self.family is atom.test.family


def samples(matrix: Matrix, groups: Sequence[Group], usable: set[int]) -> list[tuple[int, Sample]]:
    """Cells to look at, each with the position of its group: one of each group, then one of each
    further part of them that may be bad for another reason.

    Groups of which a closer look can say no more are left out.
    """
    busy: Counter[int] = Counter()
    chosen: list[tuple[int, Sample]] = []
    shapes = Shapes(matrix)
    ranked = [
        (atom.rank, position, atom)
        for position, group in enumerate(groups)
        if _may_tell(group.kind)
        for atom in atoms(shapes, group)
        if not matrix.probes[atom.test.probe].overlay  # nobody can watch there
        if atom.rank == 0 or group.kind.cause not in _CLEAR
    ]

    def choose(position: int, atom: Atom) -> None:
        group = groups[position]
        pairs = [pair for pair in _pairs(shapes, group, atom) if pair[0] in usable]
        if pairs and len(chosen) < SAMPLES:
            pair = min(pairs, key=lambda pair: (busy[pair[0]], pair[1] not in usable))
            busy[pair[0]] += 1
            chosen.append((position, Sample(*pair, *atom.test, group.kind)))

    for _, position, atom in sorted(ranked, key=lambda entry: entry[0]):
        choose(position, atom)
    for position, group in enumerate(groups):
        own = [sample for number, sample in chosen if number == position]
        for atom in one_node_each(group):
            if not any(sample.of(atom) for sample in own):
                choose(position, atom)
    chosen += _further(shapes, groups, chosen, usable)
    return chosen


def _may_tell(kind: Kind) -> bool:
    """Whether a closer look may say more of it."""
    if kind.verdict in (Verdict.BLOCKED, Verdict.LOSSY) and kind.cause is not Cause.DATA:
        return True
    return by_connection(kind)


def _further(
    shapes: Shapes, groups: Sequence[Group], chosen: Sequence[tuple[int, Sample]], usable: set[int]
) -> list[tuple[int, Sample]]:
    """As many more as there is room for, each from a source or to a destination that its group has
    no sample of: one rule may be for one sender, one path narrower than another.
    """
    # What rejects may do so only so often, and drops the rest: the fewer ask it, the better.
    rejected = any(group.kind.cause is Cause.REJECTED for group in groups)
    asked: dict[int, list[Sample]] = {}
    for position, sample in chosen:
        kind = groups[position].kind
        if _may_differ(kind) and not (rejected and kind.place is Place.PATH):
            asked.setdefault(position, []).append(sample)
    more: list[tuple[int, Sample]] = []
    for turn in range(_MORE_OF_SIZES):
        for position, own in asked.items():
            if turn >= _MORE and groups[position].kind.cause is not Cause.SIZE:
                continue
            if len(chosen) + len(more) >= SAMPLES:
                return more
            found = _other(shapes, groups[position], own, usable)
            if found is not None:
                own.append(found)
                more.append((position, found))
    return more


def _may_differ(kind: Kind) -> bool:
    """Whether more packets do not spoil what is to be found out: a limiter counts them all."""
    if kind.cause is Cause.SIZE:
        return True
    return kind.verdict is Verdict.BLOCKED and kind.cause is Cause.DROPPED


def _other(shapes: Shapes, group: Group, own: Sequence[Sample], usable: set[int]) -> Sample | None:
    """A pair of the same test as the first sample, with an end that none of them has."""
    test = own[0]
    ends = {(0, s.source) for s in own} | {(1, s.destination) for s in own}
    busy = Counter(sample.source for sample in own)
    # A router tells one sender only so often that a TTL has run out.
    routed = group.kind.place is Place.PATH and group.kind.cause is not Cause.SIZE
    pairs = [
        (source, destination)
        for source, row in shapes.rows(group).items()
        if source in usable
        for destination in islice(members(row), _CONSIDERED)
        if (0, source) not in ends or ((1, destination) not in ends and not routed)
    ][: _CONSIDERED**2]
    if not pairs and group.kind.cause is Cause.SIZE:
        pairs = _crossing(shapes, group, own)
    if not pairs or group.tests[0] != (test.probe, test.family):
        return None
    fresh = min(pairs, key=lambda p: (busy[p[0]], ((0, p[0]) in ends) + ((1, p[1]) in ends)))
    return Sample(*fresh, test.probe, test.family, group.kind)


def _crossing(shapes: Shapes, group: Group, own: Sequence[Sample]) -> list[tuple[int, int]]:
    """Pairs of ends that samples have, and no sample together: they tell whether it is the source
    or the destination by which sizes differ.
    """
    rows, known = shapes.rows(group), {(s.source, s.destination) for s in own}
    ends = sorted({s.source for s in own}), sorted({s.destination for s in own})
    every = ((s, d) for s in ends[0] for d in ends[1] if rows.get(s, 0) >> d & 1)
    return [pair for pair in every if pair not in known]


def _pairs(shapes: Shapes, group: Group, atom: Atom) -> list[tuple[int, int]]:
    """Some pairs of a part of a group."""
    rows = shapes.rows(group)
    return [
        (source, destination)
        for source in islice(members(atom.sources), _CONSIDERED)
        for destination in islice(members(rows.get(source, 0) & atom.destinations), _CONSIDERED)
    ]
