"""All pairs x probes x families, in arrays: 500 nodes make 748,500 cells, 5,000 make 75 million.

A cell is a number into a table of outcomes, since most cells are alike.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan, nan
from typing import NamedTuple

from preflight.core.model import Family, Node, Outcome, Probe

_NOT_PLANNED = 0


class Cell(NamedTuple):
    """One planned cell. `source`, `destination` and `probe` index the matrix's nodes and probes."""

    source: int
    destination: int
    probe: int
    family: Family
    outcome: Outcome
    rtt_ms: float | None


class Matrix:
    """What is known of every ordered pair. Cells that were never planned do not exist."""

    def __init__(
        self, nodes: Sequence[Node], probes: Sequence[Probe], families: Sequence[Family]
    ) -> None:
        self.nodes = tuple(nodes)
        self.probes = tuple(probes)
        self.families = tuple(families)
        size = len(self.families) * len(self.probes) * len(self.nodes) ** 2
        self._cells = array("I", bytes(4 * size))
        self._rtt = array("f", [nan]) * size
        self._outcomes: list[Outcome | None] = [None]
        self._numbers: dict[Outcome | None, int] = {None: _NOT_PLANNED}
        self._latest: tuple[Outcome | None, int] = (None, _NOT_PLANNED)

    def index(self, family: int, probe: int, source: int, destination: int) -> int:
        """The position of a cell; `family` and `probe` are positions too."""
        n = len(self.nodes)
        return ((family * len(self.probes) + probe) * n + source) * n + destination

    def number(self, outcome: Outcome | None) -> int:
        """The number that stands for `outcome` in the cells; None stands for not planned."""
        if outcome is self._latest[0]:  # most often it is: hashing one costs more than all else
            return self._latest[1]
        number = self._numbers.get(outcome)
        if number is None:
            number = self._numbers[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
        self._latest = (outcome, number)
        return number

    def set(self, index: int, outcome: Outcome | None, rtt_ms: float | None = None) -> None:
        """Decide one cell, or with None take it out of the plan."""
        self._cells[index] = self.number(outcome)
        self._rtt[index] = nan if rtt_ms is None else rtt_ms

    def outcome(self, index: int) -> Outcome | None:
        """What is known of the cell at `index`; None where it was not planned."""
        return self._outcomes[self._cells[index]]

    def rtt_ms(self, index: int) -> float | None:
        """The round-trip time of the cell at `index` in milliseconds, None where not measured."""
        rtt = self._rtt[index]
        return None if isnan(rtt) else rtt

    def outcomes(self) -> dict[Outcome, int]:
        """Each distinct outcome with the number of its cells."""
        counts = [0] * len(self._outcomes)
        for number in self._cells:
            counts[number] += 1
        return {o: c for o, c in zip(self._outcomes, counts, strict=True) if o is not None and c}

    def outcomes_of(self, family: int, probe: int) -> dict[Outcome, int]:
        """As `outcomes`, of one probe over one family."""
        start = self.index(family, probe, 0, 0)
        counts = Counter(self._cells[start : start + len(self.nodes) ** 2])
        found = ((self._outcomes[number], count) for number, count in counts.items())
        return {outcome: count for outcome, count in found if outcome is not None}

    def cells(self) -> Iterator[Cell]:
        """Every planned cell, by family, probe, source, destination."""
        index = 0
        for family in self.families:
            for probe in range(len(self.probes)):
                for source in range(len(self.nodes)):
                    for destination in range(len(self.nodes)):
                        outcome = self._outcomes[self._cells[index]]
                        if outcome is not None:
                            yield Cell(
                                source, destination, probe, family, outcome, self.rtt_ms(index)
                            )
                        index += 1

    def grid(self, family: int, probe: int) -> list[list[Outcome | None]]:
        """One probe over one family: rows are sources, columns destinations."""
        n = len(self.nodes)
        start = self.index(family, probe, 0, 0)
        flat = [self._outcomes[c] for c in self._cells[start : start + n * n]]
        return [flat[row * n : (row + 1) * n] for row in range(n)]
