"""Looks, and the parts of a group of cells that one of them may speak for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Place, Severity
from preflight.core.naming import members


class Looked(NamedTuple):
    """A closer look at one cell of a group; `test` None stands for the group's first."""

    source: int
    destination: int
    diagnosis: Diagnosis
    test: FamilyProbe | None = None
    brief: bool = False  # only who ends it was asked
    quiet: bool = False  # only whether it passes when few packets are sent


class Atom(NamedTuple):
    """Cells of a group that one look may speak for: of one test, inside one node or between two
    subnets. Sources and destinations are sets of nodes.
    """

    test: FamilyProbe
    sources: int
    destinations: int
    rank: int  # 0: the group's first; then other tests of that, the first test of others, the rest

    def holds(self, look: Looked) -> bool:
        """Whether the look was at one of these cells."""
        there = self.sources >> look.source & self.destinations >> look.destination & 1
        return bool(there) and look.test in (None, self.test)


class Part(NamedTuple):
    """A part of a group, or all of it."""

    group: Group
    looks: list[Looked]  # at it
    cause: int | None = None  # parts of one group with the same number died of the same


def blamed(group: Group) -> tuple[int, ...]:
    """The nodes inside which a group's cells die; none where they do not die inside nodes."""
    if group.kind.place not in (Place.SOURCE, Place.DESTINATION):
        return ()
    if group.both_ways:
        return tuple(sorted({*group.sources, *group.destinations}))
    return group.sources if group.kind.place is Place.SOURCE else group.destinations


def atoms(shapes: Shapes, group: Group) -> list[Atom]:
    """A group's cells, those together that one look may speak for; the most telling first."""
    found: dict[Atom, None] = {}
    for number, test in enumerate(group.tests):
        for place, (sources, destinations) in enumerate(_places(shapes, group)):
            rank = 2 * bool(place) + bool(number)
            found.setdefault(Atom(test, sources, destinations, rank))
    return sorted(found, key=lambda atom: atom.rank)


def _places(shapes: Shapes, group: Group) -> Iterator[tuple[int, int]]:
    sets = (sum(1 << n for n in group.sources), sum(1 << n for n in group.destinations))
    for sources, destinations in (sets, sets[::-1])[: 1 + group.both_ways]:
        if group.kind.place is Place.SOURCE:
            yield from ((1 << node, destinations) for node in members(sources))
        elif group.kind.place is Place.DESTINATION:
            yield from ((sources, 1 << node) for node in members(destinations))
        else:
            near = shapes.neighbourhoods
            yield from (
                (s & sources, d & destinations)
                for s in near
                for d in near
                if s & sources and d & destinations
            )


def at(
    shapes: Shapes, part: Group, looks: Sequence[Looked], first: FamilyProbe | None = None
) -> list[Looked]:
    """The looks at cells of a part; `first` is the test of those that name none, if not its own."""
    rows = shapes.rows(part)
    return [
        look
        for look in looks
        if rows.get(look.source, 0) >> look.destination & 1
        and (look.test or first or part.tests[0]) in part.tests
    ]


def told(
    matrix: Matrix,
    shapes: Shapes,
    group: Group,
    part: Group,
    cells: Sequence[tuple[int, int]],
) -> Group:
    """A part with its own words and numbers."""
    test = part.tests[0]
    required = any(matrix.probes[t.probe].severity is Severity.REQUIRED for t in part.tests)
    index = matrix.index(matrix.families.index(test.family), test.probe, *cells[0])
    outcome = matrix.outcome(index)
    assert outcome is not None  # it was planned
    sides = (part.sources, part.destinations, part.both_ways)
    where = group.where
    if sides != (group.sources, group.destinations, group.both_ways):
        where = shapes.way(*(sum(1 << n for n in side) for side in sides[:2]))
        where = where.replace(" → ", " ↔ ") if part.both_ways else where
    return part._replace(
        severity=Severity.REQUIRED if required else Severity.RECOMMENDED,
        where=where,
        pairs=len(cells),
        cells=len(cells) * len(part.tests),
        sample=group.sample._replace(
            source=cells[0][0],
            destination=cells[0][1],
            probe=test.probe,
            family=test.family,
            outcome=outcome,
        ),
    )
