"""Round trips that moved beyond noise.

A cell has one time, the least of a few packets', and that alone is noise: a busy node moves it. So
an ordered pair counts where at least two times were measured in both runs (of its own probes, or
where it has one probe alone with the way back), and **each** of them after is at least half as
long again, and a millisecond longer, than **each** before; or the other way round. What is told is
a block of such pairs. Times are compared as a saved file holds them, to 6 %.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, islice, repeat
from statistics import median
from typing import NamedTuple

from preflight.core.diff.cells import Book
from preflight.core.diff.model import RttMove
from preflight.core.groups import Block, FamilyProbe, blocks, layer, where
from preflight.core.model import Family
from preflight.core.naming import Naming, members
from preflight.core.packing import milliseconds, time_codes

FACTOR = 1.5
LEAST_MS = 1.0
_MOST = 127  # so that a byte has a bit to spare
_SAMPLES = 2000  # pairs of a block whose median is told


class _Sample(NamedTuple):
    """One probe's times, a row of bytes for each source, in both runs and both directions."""

    before: Sequence[bytes]
    after: Sequence[bytes]


def moved(book: Book, naming: Naming) -> Iterator[RttMove]:
    """All blocks of pairs whose round trips moved, the largest first."""
    for family in book.families:
        samples = list(_samples(book, family))
        if not samples:
            continue
        pairs = _Pairs(samples, len(book.nodes))
        planned, rows = pairs.moved()
        if not rows:
            continue
        made = blocks(naming, [layer(FamilyProbe(0, family), planned, rows)])
        for block in sorted(made, key=lambda b: -b.pairs):
            yield _move(family, samples, naming, block)


def _samples(book: Book, family: Family) -> Iterator[_Sample]:
    before, after = book.before.matrix, book.after.matrix
    if family not in before.families or family not in after.families:
        return
    for pairing in book.probes:
        if pairing.before is None or pairing.after is None or pairing.probe.one_way:
            continue
        was = time_codes(before, before.families.index(family), pairing.before)
        now = time_codes(after, after.families.index(family), pairing.after)
        if was is not None and now is not None:
            yield _Sample(book.before.lines(was), book.after.lines(now))


class _Pairs:
    """Rows of bytes compared as one big number each: the high bit of a byte is the answer."""

    def __init__(self, samples: Sequence[_Sample], nodes: int) -> None:
        self._nodes = nodes
        self._high = int.from_bytes(b"\x80" * nodes)
        self._low = int.from_bytes(b"\x7f" * nodes)
        self._samples = list(samples)
        if len(samples) == 1:  # one probe alone: its way back is the second time
            self._samples.append(_Sample(*(_columns(lines, nodes) for lines in samples[0])))

    def moved(self) -> tuple[list[int], dict[bool, dict[int, int]]]:
        """For each source those compared; and by whether it is slower now, the pairs' rows."""
        compared: list[int] = []
        rows: dict[bool, dict[int, int]] = {}
        for source in range(self._nodes):
            was = [int.from_bytes(sample.before[source]) for sample in self._samples]
            now = [int.from_bytes(sample.after[source]) for sample in self._samples]
            both = [self._measured(w) & self._measured(n) for w, n in zip(was, now, strict=True)]
            enough = 0
            for one, other in combinations(both, 2):
                enough |= one & other
            compared.append(self._set(enough))
            if not enough:
                continue
            old = [int.from_bytes(s.before[source].translate(_limits())) for s in self._samples]
            new = [int.from_bytes(s.after[source].translate(_limits())) for s in self._samples]
            for slower, low, high in ((True, old, now), (False, new, was)):
                if there := self._beyond(enough, low, high, both):
                    rows.setdefault(slower, {})[source] = self._set(there)
        return compared, rows

    def _beyond(
        self, pairs: int, limits: Sequence[int], times: Sequence[int], both: Sequence[int]
    ) -> int:
        """The pairs of which each time is at or above each limit, as far as measured in both."""
        for limit, one in zip(limits, both, strict=True):
            for time, other in zip(times, both, strict=True):
                above = (time | self._high) - limit & self._high
                pairs &= above | self._high ^ (one & other)
                if not pairs:
                    return 0
        return pairs

    def _measured(self, times: int) -> int:
        return times + self._low & self._high

    def _set(self, marked: int) -> int:
        """High bits of bytes as the set of their positions."""
        if not marked:
            return 0
        text = marked.to_bytes(self._nodes)[::-1].translate(_DIGITS)
        return int(text, 2)


_DIGITS = bytes(0x31 if byte else 0x30 for byte in range(256))


def _columns(lines: Sequence[bytes], nodes: int) -> list[bytes]:
    whole = b"".join(lines)
    return [whole[node::nodes] for node in range(nodes)]


@cache
def _limits() -> bytes:
    """For each byte the least one that is beyond noise above it; 128: none is."""
    times = milliseconds()
    limits = [0]
    for time in times:
        least = max(FACTOR * time, time + LEAST_MS)
        limits.append(min(bisect_left(times, least * (1 - 1e-9)), _MOST) + 1)
    return bytes(limits).ljust(256, b"\x80")


def _move(
    family: Family,
    samples: Sequence[_Sample],
    naming: Naming,
    block: Block[bool],
) -> RttMove:
    times = milliseconds()
    (rows,) = (one.rows for one in block.layers)
    here = list(islice(_pairs(rows[block.kind], block), _SAMPLES))
    least: tuple[list[float], list[float]] = ([], [])
    for source, destination in here:
        codes = [(s.before[source][destination], s.after[source][destination]) for s in samples]
        for own, found in zip(least, zip(*filter(all, codes), strict=True), strict=True):
            own.append(times[min(found) - 1])
    middle = [median(own) for own in least]
    return RttMove(
        family=family,
        slower=block.kind,
        where=where(naming, block),
        sources=tuple(members(block.sources)),
        destinations=tuple(members(block.destinations)),
        both_ways=block.both_ways,
        pairs=block.pairs,
        before_ms=round(middle[0], 2),
        after_ms=round(middle[1], 2),
    )


def _pairs(rows: Mapping[int, int], block: Block[bool]) -> Iterator[tuple[int, int]]:
    """The block's own, those of unlike sources near to each other."""
    waiting = [
        zip(repeat(source), members(rows.get(source, 0) & block.destinations), strict=False)
        for source in members(block.sources)
    ]
    while waiting:
        rest = []
        for pairs in waiting:
            found = next(pairs, None)
            if found is not None:
                yield found
                rest.append(pairs)
        waiting = rest
