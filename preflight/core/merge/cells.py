"""All cells of several matrices in one: row by row, by the numbers of their outcomes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import product
from math import isnan, nan
from typing import NamedTuple

from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.merge.choice import differ, rank
from preflight.core.merge.fleet import Fleet
from preflight.core.model import Outcome


class Spot(NamedTuple):
    """A cell, by positions in the merged matrix."""

    family: int
    probe: int
    source: int
    destination: int


def combine(fleet: Fleet, matrices: Sequence[Matrix]) -> tuple[Matrix, list[Spot]]:
    """The merged matrix, and the cells of which the parts say unlike things."""
    out = Matrix(fleet.nodes, fleet.probes, fleet.families)
    # What is made of a matrix may depend on the order in which outcomes were met in it.
    for outcome in sorted({o for m in matrices for o in m.outcomes()}, key=rank, reverse=True):
        out.number(outcome)
    parts = [_Part(out, matrix) for matrix in matrices]
    chooser = _Chooser(out)
    differing = []
    size = len(fleet.nodes)
    tests = product(range(len(fleet.families)), range(len(fleet.probes)))
    for (family, probe), source in product(tests, range(size)):
        row = _Row(size)
        for part in parts:
            part.add(row, chooser, family, probe, source)
        out.set_row(family, probe, source, row.numbers, row.told_times())
        differing += [Spot(family, probe, source, d) for d in sorted(row.differing)]
    return out, differing


class _Row:
    """One source's cells in the making."""

    def __init__(self, size: int) -> None:
        self.numbers = array("I", bytes(4 * size))
        self.times: array[float] | None = None
        self.differing: set[int] = set()

    def told_times(self) -> array[float] | None:
        return self.times

    def time(self, position: int, rtt: float) -> None:
        if self.times is None:
            if isnan(rtt):
                return
            self.times = array("f", [nan]) * len(self.numbers)
        self.times[position] = rtt

    def faster(self, position: int, rtt: float) -> None:
        known = nan if self.times is None else self.times[position]
        if isnan(known) or rtt < known:
            self.time(position, rtt)


class _Chooser:
    """Which of two numbers stands, and whether they contradict each other."""

    def __init__(self, out: Matrix) -> None:
        self._out = out
        self._known: dict[tuple[int, int], tuple[bool, bool]] = {}

    def later_stands(self, a: int, b: int) -> tuple[bool, bool]:
        found = self._known.get((a, b))
        if found is None:
            one, other = self._outcome(a), self._outcome(b)
            found = rank(other) > rank(one), differ(one, other)
            self._known[a, b] = found
        return found

    def _outcome(self, number: int) -> Outcome:
        outcome = self._out.table[number]
        assert outcome is not None
        return outcome


class _Part:
    """One of the matrices, as the merged one numbers things."""

    def __init__(self, out: Matrix, matrix: Matrix) -> None:
        self._matrix = matrix
        used = matrix.outcomes()
        self._numbers = [
            out.number(outcome) if outcome in used else NOT_PLANNED for outcome in matrix.table
        ]
        here = {node.name: i for i, node in enumerate(matrix.nodes)}
        self._nodes = [here.get(node.name) for node in out.nodes]
        self._same = self._nodes == list(range(len(matrix.nodes)))
        probes = {probe.name: i for i, probe in enumerate(matrix.probes)}
        self._probes = [probes.get(probe.name) for probe in out.probes]
        families = {family: i for i, family in enumerate(matrix.families)}
        self._families = [families.get(family) for family in out.families]

    def add(self, row: _Row, chooser: _Chooser, family: int, probe: int, source: int) -> None:
        """Put this part's cells of one source into `row`."""
        f, p, s = self._families[family], self._probes[probe], self._nodes[source]
        if f is None or p is None or s is None:
            return
        found = self._matrix.numbers(f, p, s)
        times = self._matrix.times(f, p, s)
        for d, number in self._planned(found):
            own = self._numbers[number]
            rtt = nan
            position = d
            if not self._same:
                back = self._nodes[d]
                assert back is not None
                position = back
            if times is not None:
                rtt = times[position]
            known = row.numbers[d]
            if known == own:
                row.faster(d, rtt)
                continue
            stands = True
            if known != NOT_PLANNED:
                stands, contrary = chooser.later_stands(known, own)
                if contrary:
                    row.differing.add(d)
            if stands:
                row.numbers[d] = own
                row.time(d, rtt)

    def _planned(self, found: Sequence[int]) -> Iterator[tuple[int, int]]:
        """(position in the merged matrix, number here) of each planned cell."""
        if self._same:
            yield from ((d, number) for d, number in enumerate(found) if number != NOT_PLANNED)
            return
        for d, position in enumerate(self._nodes):
            if position is not None and found[position] != NOT_PLANNED:
                yield d, found[position]
