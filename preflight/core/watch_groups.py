"""What turned, and what is not open now, in as few words as `core.groups` finds. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from preflight.core.groups import Block, FamilyProbe, Kind, blocks, layer, where
from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.model import Severity, Verdict
from preflight.core.naming import Naming, members
from preflight.core.watch import Change, History, Sort, Standing

K = TypeVar("K", bound=Hashable)
_WORST_FIRST = (Verdict.BLOCKED, Verdict.LOSSY, Verdict.CLOSED, Verdict.UNKNOWN, Verdict.OPEN)


class Extent(NamedTuple):
    """Which cells: those of every source to every destination in these tests, as far as planned."""

    tests: tuple[FamilyProbe, ...]
    severity: Severity  # the highest of the tests' probes
    where: str  # in words: `rack=a → rack=b`
    pairs: int
    cells: tuple[int, ...]  # positions in the matrix


class Turned(NamedTuple):
    """Cells that turned alike, at the same time."""

    extent: Extent
    sort: Sort
    was: Kind
    now: Kind
    was_since: float | None
    at: float


class Stands(NamedTuple):
    """Cells that are not open, all in the same way and since the same time."""

    extent: Extent
    standing: Standing


def turned(matrix: Matrix, changes: Iterable[Change]) -> list[Turned]:
    """The changes of one round, what matters most first."""
    found = _extents(matrix, {change.cell: change[1:] for change in changes})
    out = [Turned(extent, *told) for told, extent in found]
    return sorted(out, key=lambda t: (t.at, _importance(t.extent, t.now)))


def stands(matrix: Matrix, history: History) -> list[Stands]:
    """All that is not open, what matters most first."""
    found = [Stands(e, standing) for standing, e in _extents(matrix, dict(history.not_open()))]
    return sorted(found, key=lambda s: _importance(s.extent, s.standing.kind))


def _importance(extent: Extent, kind: Kind) -> tuple[bool, int, int]:
    recommended = extent.severity is not Severity.REQUIRED
    return recommended, _WORST_FIRST.index(kind.verdict), -len(extent.cells)


def _extents(matrix: Matrix, told: Mapping[int, K]) -> list[tuple[K, Extent]]:
    """Cells of which the same is told, as blocks."""
    n, naming = len(matrix.nodes), Naming(matrix.nodes)
    tests: dict[int, dict[K, dict[int, int]]] = {}
    for cell, what in told.items():
        test, place = divmod(cell, n * n)
        source, destination = divmod(place, n)
        rows = tests.setdefault(test, {}).setdefault(what, {})
        rows[source] = rows.get(source, 0) | 1 << destination
    signs = [48 + (number != NOT_PLANNED) for number in range(len(matrix.table))]
    layers = []
    for test, kinds in sorted(tests.items()):
        f, p = divmod(test, len(matrix.probes))
        planned = [int(row[::-1], 2) for row in matrix.rows(f, p, signs)]
        layers.append(layer(FamilyProbe(p, matrix.families[f]), planned, kinds))
    return [(block.kind, _extent(matrix, naming, block)) for block in blocks(naming, layers)]


def _extent(matrix: Matrix, naming: Naming, block: Block[K]) -> Extent:
    n = len(matrix.nodes)
    cells = []
    ways = [(block.sources, block.destinations)]
    if block.both_ways:
        ways.append((block.destinations, block.sources))
    for known in block.layers:
        f = matrix.families.index(known.test.family)
        start = matrix.index(f, known.test.probe, 0, 0)
        there = {
            start + s * n + d
            for s, row in known.rows[block.kind].items()
            for d in members(row)
            if any(a >> s & 1 and b >> d & 1 for a, b in ways)
        }
        cells += sorted(there)
    tests = tuple(known.test for known in block.layers)
    required = any(matrix.probes[t.probe].severity is Severity.REQUIRED for t in tests)
    return Extent(
        tests,
        Severity.REQUIRED if required else Severity.RECOMMENDED,
        where(naming, block),
        block.pairs,
        tuple(cells),
    )
