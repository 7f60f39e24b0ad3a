"""Splits a set of cells into blocks: what firewalls make comes out as the block it is.

A block is a set of sources by a set of destinations, both as ints (`core.naming`). Blocks are
found greedily, largest first. That is not always the smallest number of blocks, but a column, a
row, or one rack to another is found whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from preflight.core.naming import members

# After so many blocks nobody reads on: what is left is told row by row, without a search.
_BLOCKS = 100
_THIN = 50  # of so many pairs one: to look at each bit is then faster than to transpose
_SPARSE = 8  # of so many sources one: to pick it out of a set is then faster than to try all


def cover(
    rows: Mapping[int, int], planned: Sequence[int], hints: Iterable[int]
) -> Iterator[tuple[int, int]]:
    """Split cells into blocks, roughly largest first: sets of sources and of destinations.

    `rows` holds for each source the set of its destinations. A block may extend over cells that
    were never planned, and over nothing else outside `rows`. `hints` are sets of nodes that
    blocks are likely made of.
    """
    return _Search(rows, planned, hints).blocks()


class _Search:
    """The greedy search. A seed is a set of destinations that could be a block's.

    Seeds are the rows, the columns, what neighbouring rows share (a block in noise), and the
    hints. Each is filed under an estimate of its block's size and worked out only when it comes
    up, so that few patterns need few of the n^2 steps that working out a block takes.
    """

    def __init__(
        self, rows: Mapping[int, int], planned: Sequence[int], hints: Iterable[int]
    ) -> None:
        self._rows = dict(rows)
        full = (1 << len(planned)) - 1
        self._free = {s: full & ~planned[s] for s in rows}
        self._allowed = {s: row | self._free[s] for s, row in rows.items()}
        self._columns = transposed(self._allowed)  # what is taken later stays in them
        self._heap: list[tuple[int, int, int, int]] = []  # (-size, order, source, fixed seed)
        self._file(hints)

    def blocks(self) -> Iterator[tuple[int, int]]:
        for _ in range(_BLOCKS):
            block = self._largest()
            if block is None:
                return
            sources, destinations = block
            for s in sources:
                self._take(s, destinations)
            yield sum(1 << s for s in sources), destinations
        columns = transposed(self._rows)
        if len(columns) < len(self._rows):
            yield from ((sources, 1 << d) for d, sources in columns.items())
        else:
            yield from ((1 << s, row) for s, row in self._rows.items())

    def _largest(self) -> tuple[list[int], int] | None:
        """The best block left, or None."""
        while self._heap:
            _, order, source, fixed = heappop(self._heap)
            size, sources, destinations = self._block(fixed or self._rows.get(source, 0))
            if not size:
                continue
            heappush(self._heap, (-size, order, source, fixed))  # until nothing is left of it
            if self._heap[0] >= (-size, order, source, fixed):
                return sources, destinations
        return None

    def _take(self, source: int, destinations: int) -> None:
        left = self._rows[source] & ~destinations
        if left:
            self._rows[source] = left
            self._allowed[source] = left | self._free[source]
        else:
            del self._rows[source], self._allowed[source]

    def _block(self, seed: int) -> tuple[int, list[int], int]:
        """The largest block of all sources that reach the whole seed, with its size first."""
        if not seed:
            return 0, [], 0
        first, last = (seed & -seed).bit_length() - 1, seed.bit_length() - 1
        likely = self._columns.get(first, 0) & self._columns.get(last, 0)
        few = likely.bit_count() < len(self._rows) // _SPARSE
        sources = [
            s
            for s in (members(likely) if few else self._rows)
            if s in self._rows and not seed & ~self._allowed[s] and self._rows[s] & seed
        ]
        shared, reached = -1, 0
        for s in sources:
            shared &= self._allowed[s]
            reached |= self._rows[s]
        destinations = shared & reached
        return (
            sum((self._rows[s] & destinations).bit_count() for s in sources),
            sources,
            destinations,
        )

    def _file(self, hints: Iterable[int]) -> None:
        rows = self._rows
        # A row inside a block between the same nodes lacks its own bit: count it with and without.
        alike = _counted([*rows.values(), *(r | 1 << s for s, r in rows.items() if not r >> s & 1)])
        for source, row in rows.items():
            size = row.bit_count() * max(alike[row], alike.get(row | 1 << source, 0))
            self._heap.append((-size, 2, source, 0))
        columns = transposed(rows)
        alike = _counted(
            [*columns.values(), *(c | 1 << d for d, c in columns.items() if not c >> d & 1)]
        )
        for destination, column in columns.items():
            size = column.bit_count() * max(alike[column], alike.get(column | 1 << destination, 0))
            self._heap.append((-size, 1, -1, 1 << destination))
        for seed, number in _counted(a & b for a, b in pairwise(rows.values())).items():
            if seed and number > 1:
                self._heap.append((-seed.bit_count() * (number + 1), 3, -1, seed))
        reached = 0
        for row in rows.values():
            reached |= row
        for hint in hints:
            if seed := hint & reached:
                self._heap.append((-self._block(seed)[0], 0, -1, seed))
        heapify(self._heap)


def _counted(values: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


def transposed(rows: Mapping[int, int]) -> dict[int, int]:
    """For each destination the set of its sources, destinations without one left out."""
    width = max((row.bit_length() for row in rows.values()), default=0)
    last = max(rows, default=0)
    if sum(row.bit_count() for row in rows.values()) * _THIN < width * (last + 1):
        thin: dict[int, int] = {}
        for source, row in rows.items():
            for destination in members(row):
                thin[destination] = thin.get(destination, 0) | 1 << source
        return dict(sorted(thin.items(), reverse=True))
    # As text, since a bit at a time takes two hundred times as long.
    lines = "".join([format(rows.get(source, 0), f"0{width}b") for source in range(last, -1, -1)])
    text = lines.encode("ascii")
    columns = [int(text[place::width], 2) for place in range(width)]
    return {width - 1 - i: sources for i, sources in enumerate(columns) if sources}
