"""All pairs x probes x families, in arrays: 500 nodes make 748,500 cells, 5,000 make 75 million.

A cell is a number into a table of outcomes, since most cells are alike: one byte while there are
no more than 255 outcomes. Round-trip times take room only for tests that have any.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from math import isnan, nan
from typing import NamedTuple

from preflight.core.model import Family, Node, Outcome, Probe

NOT_PLANNED = 0  # the number of a cell that does not exist
_WIDER = {"B": "H", "H": "I"}
_ROUNDS = 12  # numbers that are counted by taking them out, before each byte is looked at


class Cell(NamedTuple):
    """One planned cell. `source`, `destination` and `probe` index the matrix's nodes and probes."""

    source: int
    destination: int
    probe: int
    family: Family
    outcome: Outcome
    rtt_ms: float | None


class Matrix:
    """What is known of every ordered pair. Cells that were never planned do not exist.

    A test is one probe over one family. Cells stand by family, probe, source, destination; all of
    these are positions, also where a test's cells are read or written together.
    """

    def __init__(
        self, nodes: Sequence[Node], probes: Sequence[Probe], families: Sequence[Family]
    ) -> None:
        self.nodes = tuple(nodes)
        self.probes = tuple(probes)
        self.families = tuple(families)
        self._area = len(self.nodes) ** 2  # cells of one test
        tests = len(self.families) * len(self.probes)
        self._cells = array("B", bytes(tests * self._area))
        self._times: list[array[float] | None] = [None] * tests
        self._outcomes: list[Outcome | None] = [None]
        self._numbers: dict[Outcome | None, int] = {None: NOT_PLANNED}
        self._latest: tuple[Outcome | None, int] = (None, NOT_PLANNED)
        self._counted: dict[int, dict[int, int]] = {}  # of each test, while nothing is set

    def index(self, family: int, probe: int, source: int, destination: int) -> int:
        """The position of a cell; `family` and `probe` are positions too."""
        n = len(self.nodes)
        return ((family * len(self.probes) + probe) * n + source) * n + destination

    # --- a cell at a time

    def number(self, outcome: Outcome | None) -> int:
        """The number that stands for `outcome` in the cells; None stands for not planned."""
        if outcome is self._latest[0]:  # most often it is: hashing one costs more than all else
            return self._latest[1]
        number = self._numbers.get(outcome)
        if number is None:
            number = self._numbers[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
            if number >= 1 << 8 * self._cells.itemsize:
                self._cells = _widened(self._cells)
        self._latest = (outcome, number)
        return number

    def set(self, index: int, outcome: Outcome | None, rtt_ms: float | None = None) -> None:
        """Decide one cell, or with None take it out of the plan."""
        number = self.number(outcome)
        self._cells[index] = number
        if self._counted:
            self._counted.clear()
        test, place = divmod(index, self._area)
        times = self._times[test]
        if times is not None:
            times[place] = nan if rtt_ms is None else rtt_ms
        elif rtt_ms is not None:
            times = self._times[test] = array("f", [nan]) * self._area
            times[place] = rtt_ms

    def outcome(self, index: int) -> Outcome | None:
        """What is known of the cell at `index`; None where it was not planned."""
        return self._outcomes[self._cells[index]]

    def rtt_ms(self, index: int) -> float | None:
        """The round-trip time of the cell at `index` in milliseconds, None where not measured."""
        test, place = divmod(index, self._area)
        times = self._times[test]
        if times is None:
            return None
        rtt = times[place]
        return None if isnan(rtt) else rtt

    def cells(self) -> Iterator[Cell]:
        """Every planned cell, by family, probe, source, destination."""
        n = range(len(self.nodes))
        for f, family in enumerate(self.families):
            for probe, source in product(range(len(self.probes)), n):
                times = self.times(f, probe, source)
                for destination, number in enumerate(self.numbers(f, probe, source)):
                    outcome = self._outcomes[number]
                    if outcome is not None:
                        rtt = nan if times is None else times[destination]
                        yield Cell(
                            source, destination, probe, family, outcome, None if isnan(rtt) else rtt
                        )

    # --- many cells at a time

    @property
    def table(self) -> Sequence[Outcome | None]:
        """What the numbers in the cells stand for; some may stand for no cell any more."""
        return self._outcomes

    def numbers(self, family: int, probe: int, source: int) -> Sequence[int]:
        """One source's cells by destination, as numbers into `table`."""
        start = self.index(family, probe, source, 0)
        return self._cells[start : start + len(self.nodes)]

    def times(self, family: int, probe: int, source: int) -> Sequence[float] | None:
        """One source's round-trip times by destination in milliseconds, NaN where not measured.

        None where the whole test has none. What stands at a cell that was not planned is no time.
        """
        times = self._times[family * len(self.probes) + probe]
        start = source * len(self.nodes)
        return None if times is None else times[start : start + len(self.nodes)]

    def set_row(
        self,
        family: int,
        probe: int,
        source: int,
        numbers: Sequence[int],
        times: Sequence[float] | None = None,
    ) -> None:
        """Decide all cells of one source in one test; `numbers` are what `number` gave.

        `times` are NaN where not measured, None where none was.
        """
        start, n = self.index(family, probe, source, 0), len(self.nodes)
        if len(numbers) != n or max(numbers, default=0) >= len(self._outcomes):
            raise ValueError("a row has a known number for each node")
        self._cells[start : start + n] = array(self._cells.typecode, numbers)
        self._counted.clear()
        test = family * len(self.probes) + probe
        known = self._times[test]
        if known is None and times is not None:
            known = self._times[test] = array("f", [nan]) * self._area
        if known is not None:
            own = array("f", [nan]) * n if times is None else array("f", times)
            known[source * n : (source + 1) * n] = own

    def rows(self, family: int, probe: int, signs: Sequence[int]) -> Iterator[bytes]:
        """For each source its cells by destination as bytes; `signs` has one for each number."""
        n = len(self.nodes)
        start = self.index(family, probe, 0, 0)
        if self._cells.itemsize == 1:
            raw = memoryview(self._cells)[start : start + self._area].tobytes()
            raw = raw.translate(bytes(signs).ljust(256, b"\0"))
            yield from (raw[at : at + n] for at in range(0, self._area, n or 1))
        else:
            for at in range(start, start + self._area, n or 1):
                yield bytes(map(signs.__getitem__, self._cells[at : at + n]))

    def test(self, family: int, probe: int) -> array[int]:
        """A copy of the numbers of all cells of one test."""
        start = self.index(family, probe, 0, 0)
        return self._cells[start : start + self._area]

    def test_times(self, family: int, probe: int) -> array[float] | None:
        """The times of all cells of one test; do not change them."""
        return self._times[family * len(self.probes) + probe]

    def set_test(
        self, family: int, probe: int, numbers: array[int], times: array[float] | None
    ) -> None:
        """Decide all cells of one test; every number is known, and there is one for each pair."""
        if len(numbers) != self._area or (times is not None and len(times) != self._area):
            raise ValueError("a test has a number for each pair")
        if numbers.typecode != self._cells.typecode:
            numbers = array(self._cells.typecode, numbers)
        start = self.index(family, probe, 0, 0)
        self._cells[start : start + self._area] = numbers
        self._times[family * len(self.probes) + probe] = times
        self._counted.clear()

    def counts(self, family: int, probe: int) -> dict[int, int]:
        """How many cells of one test have each number; those that are not planned, too."""
        test = family * len(self.probes) + probe
        known = self._counted.get(test)
        if known is None:
            known = self._counted[test] = _counts(self.test(family, probe))
        return known

    def tidy(self) -> None:
        """Number outcomes in the order in which cells have them, and forget those that none has.

        What is written of a run is then the same as of its file.
        """
        order: dict[int, None] = {NOT_PLANNED: None}
        for family, probe in product(range(len(self.families)), range(len(self.probes))):
            numbers = self.test(family, probe)
            new = set(self.counts(family, probe)) - order.keys()
            order |= dict.fromkeys(sorted(new, key=numbers.index))
        outcomes = [self._outcomes[number] for number in order]
        own = {number: position for position, number in enumerate(order)}
        for start in range(0, len(self._cells), self._area or 1):
            part = self._cells[start : start + self._area]
            renumbered = array(self._cells.typecode, map(own.__getitem__, part))
            self._cells[start : start + self._area] = renumbered
        self._outcomes = outcomes
        self._numbers = {outcome: number for number, outcome in enumerate(outcomes)}
        self._latest = (None, NOT_PLANNED)
        self._counted.clear()

    def outcomes(self) -> dict[Outcome, int]:
        """Each distinct outcome with the number of its cells, in the order of their numbers."""
        counts: Counter[int] = Counter()
        for family in range(len(self.families)):
            for probe in range(len(self.probes)):
                counts.update(self.counts(family, probe))
        return self._planned(counts)

    def outcomes_of(self, family: int, probe: int) -> dict[Outcome, int]:
        """As `outcomes`, of one probe over one family."""
        return self._planned(self.counts(family, probe))

    def _planned(self, counts: dict[int, int]) -> dict[Outcome, int]:
        found = ((self._outcomes[number], counts[number]) for number in sorted(counts))
        return {outcome: count for outcome, count in found if outcome is not None and count}

    def grid(self, family: int, probe: int) -> list[list[Outcome | None]]:
        """One probe over one family: rows are sources, columns destinations."""
        of = self._outcomes.__getitem__
        return [
            list(map(of, self.numbers(family, probe, source))) for source in range(len(self.nodes))
        ]


def _widened(cells: array[int]) -> array[int]:
    return array(_WIDER[cells.typecode], cells)


def _counts(numbers: array[int]) -> dict[int, int]:
    """How often each number occurs; bytes are counted by taking out the commonest ones whole."""
    if numbers.itemsize > 1:
        return Counter(numbers)
    counts: dict[int, int] = {}
    rest = numbers.tobytes()
    for _ in range(_ROUNDS):
        if not rest:
            return counts
        likely = rest[len(rest) // 2]
        less = rest.translate(None, bytes((likely,)))
        counts[likely] = len(rest) - len(less)
        rest = less
    return {**counts, **Counter(rest)}
