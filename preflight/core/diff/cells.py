"""Both runs' cells side by side: all of them row by row, or a single one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.diff.rows import Sets, Side
from preflight.core.diff.turns import Turn, turn
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Outcome
from preflight.core.naming import members


class CellChange(NamedTuple):
    """One cell in both runs. Positions are of `Diff.nodes` and `Diff.probes`."""

    source: int
    destination: int
    probe: int
    family: Family
    turn: Turn
    before: Outcome | None  # None: not tested
    after: Outcome | None
    rtt_before_ms: float | None
    rtt_after_ms: float | None


class Turned(NamedTuple):
    """What cells have in common: what they were, what they are, and what that is called."""

    turn: Turn
    before: Kind | None  # None: not tested
    after: Kind | None


@dataclass(frozen=True, slots=True)
class _Where:
    """A test's positions in one run's matrix."""

    family: int
    probe: int


class Book:
    """Both runs under the numbers of `Diff.nodes` and `Diff.probes`."""

    def __init__(
        self,
        before: Matrix,
        after: Matrix,
        nodes: Sequence[NodePairing],
        probes: Sequence[ProbePairing],
        families: Sequence[Family],
    ) -> None:
        self.nodes = tuple(nodes)
        self.probes = tuple(probes)
        self.families = tuple(families)
        self.before = Side(before, nodes, after=False)
        self.after = Side(after, nodes, after=True)
        self.tests = [FamilyProbe(p, f) for f in families for p in range(len(probes))]
        self.went = sum(1 << i for i, node in enumerate(nodes) if node.went)
        self.came = sum(1 << i for i, node in enumerate(nodes) if node.came)
        self._turns: dict[tuple[Kind | None, Kind | None], Turned | None] = {}

    def rows(self, test: FamilyProbe) -> Iterator[dict[Turned, int]]:
        """For each node as a source the sets of destinations whose cells turned alike."""
        there, here = self._where(test)
        nothing: Iterator[Sets] = iter([{}] * len(self.nodes))
        was = self.before.rows(there.family, there.probe) if there else nothing
        now = self.after.rows(here.family, here.probe) if here else iter([{}] * len(self.nodes))
        for source, (before, after) in enumerate(zip(was, now, strict=True)):
            yield self._turned(source, before, after)

    def row(self, test: FamilyProbe, source: int) -> list[Turn | None]:
        """As `Diff.row`."""
        out: list[Turn | None] = [None] * len(self.nodes)
        for turned, there in self._row(test, source).items():
            for destination in members(there):
                out[destination] = turned.turn
        return out

    def cell(self, test: FamilyProbe, source: int, destination: int) -> CellChange | None:
        """As `Diff.cell`."""
        for turned, there in self._row(test, source).items():
            if there >> destination & 1:
                return self._cell(test, source, destination, turned.turn)
        return None

    def outcomes(
        self, test: FamilyProbe, source: int
    ) -> tuple[Sequence[Outcome | None], Sequence[Outcome | None]]:
        """What each run knows of the cells of one source; None where not tested."""
        there, here = self._where(test)
        return _outcomes(self.before, there, source), _outcomes(self.after, here, source)

    def changed(self) -> Iterator[CellChange]:
        """As `Diff.cells`."""
        for test in self.tests:
            for source, row in enumerate(self.rows(test)):
                turns = {
                    destination: turned.turn
                    for turned, there in row.items()
                    if turned.turn is not Turn.SAME
                    for destination in members(there)
                }
                for destination in sorted(turns):
                    yield self._cell(test, source, destination, turns[destination])

    def _row(self, test: FamilyProbe, source: int) -> dict[Turned, int]:
        there, here = self._where(test)
        before = self.before.row(there.family, there.probe, source) if there else {}
        after = self.after.row(here.family, here.probe, source) if here else {}
        return self._turned(source, before, after)

    def _turned(self, source: int, before: Sets, after: Sets) -> dict[Turned, int]:
        found: dict[Turned, int] = {}
        went = -1 if self.went >> source & 1 else self.went
        came = -1 if self.came >> source & 1 else self.came
        rest = dict(after)
        for was, there in before.items():
            if gone := there & went:
                found[Turned(Turn.WENT, was, None)] = gone
            left = there & ~went
            for now, here in rest.items():
                if same := left & here:
                    self._add(found, was, now, same)
                    left &= ~same
                    rest[now] = here & ~same
            if left:
                self._add(found, was, None, left)
        for now, here in rest.items():
            if new := here & came:
                found[Turned(Turn.CAME, None, now)] = new
            if left := here & ~came:
                self._add(found, None, now, left)
        return found

    def _add(
        self, found: dict[Turned, int], was: Kind | None, now: Kind | None, cells: int
    ) -> None:
        try:
            turned = self._turns[was, now]
        except KeyError:
            which = turn(was, now)
            turned = self._turns[was, now] = None if which is None else Turned(which, was, now)
        if turned is not None:
            found[turned] = found.get(turned, 0) | cells

    def _where(self, test: FamilyProbe) -> tuple[_Where | None, _Where | None]:
        """Where a test stands in each run, None where it does not."""
        pairing = self.probes[test.probe]
        found = []
        for matrix, probe in (
            (self.before.matrix, pairing.before),
            (self.after.matrix, pairing.after),
        ):
            known = probe is not None and test.family in matrix.families
            found.append(_Where(matrix.families.index(test.family), probe or 0) if known else None)
        return found[0], found[1]

    def _cell(self, test: FamilyProbe, source: int, destination: int, which: Turn) -> CellChange:
        there, here = self._where(test)
        was = _look(self.before, there, source, destination)
        now = _look(self.after, here, source, destination)
        return CellChange(
            source, destination, test.probe, test.family, which, was[0], now[0], was[1], now[1]
        )


def _outcomes(side: Side, where: _Where | None, source: int) -> Sequence[Outcome | None]:
    position = side.position(source)
    if where is None or position is None:
        return [None] * len(side.positions)
    numbers, table = side.matrix.numbers(where.family, where.probe, position), side.matrix.table
    return [None if p is None else table[numbers[p]] for p in side.positions]


def _look(
    side: Side, where: _Where | None, source: int, destination: int
) -> tuple[Outcome | None, float | None]:
    from_, to = side.position(source), side.position(destination)
    if where is None or from_ is None or to is None:
        return None, None
    index = side.matrix.index(where.family, where.probe, from_, to)
    return side.matrix.outcome(index), side.matrix.rtt_ms(index)
