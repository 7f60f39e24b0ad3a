"""The cells of both runs as sets of nodes, row by row, so that 75 million need no loop of ours.

A row is one source of one test. Its cells are told apart by kind, and each kind's destinations are
an int whose bit i stands for node i of `Diff.nodes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter

from preflight.core.diff.pairing import NodePairing
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Verdict, family_of

Line = bytes | tuple[int, ...]  # the kinds of a row, as numbers
Sets = Mapping[Kind, int]  # for each kind the set of destinations; what was not tested is in none

OPEN = Kind(Verdict.OPEN, None, None, None, None)
_CAPPED = bytes(min(byte, 127) for byte in range(256))
_BYTE = 255  # kinds that a byte can tell apart, besides "not tested"


class Side:
    """One of the two runs."""

    def __init__(self, matrix: Matrix, nodes: Sequence[NodePairing], *, after: bool) -> None:
        self.matrix = matrix
        self._size = len(nodes)
        own = [(p.after if after else p.before) for p in nodes]
        self.positions: Sequence[int | None] = own  # in this run's matrix, of each of `nodes`
        self._straight = all(position in (None, i) for i, position in enumerate(own))
        # The place of a node that this run lacks is read from one cell more, which is not tested.
        lacking = len(matrix.nodes)
        order = [lacking if position is None else position for position in own]
        self._ordered = itemgetter(*order) if len(order) > 1 else None
        self._kinds: list[tuple[Kind, int | None] | None] = [None]
        self._signs = self._classified(nodes)

    def _classified(self, nodes: Sequence[NodePairing]) -> list[int]:
        """For each number of the matrix's table the position of its kind, 0 for not tested.

        A rejecter that is a node goes by the address that the node has now.
        """
        owners = {
            address: (i, pairing)
            for i, pairing in enumerate(nodes)
            if self.positions[i] is not None
            for address in self.matrix.nodes[self.positions[i] or 0].addresses
        }
        known: dict[tuple[Kind, int | None], int] = {}
        signs = []
        for outcome in self.matrix.table:
            if outcome is None:
                signs.append(0)
                continue
            kind, owner = Kind(*outcome[:5]), None
            if outcome.verdict is Verdict.OPEN:
                kind = OPEN
            elif kind.rejected_by in owners:
                owner, pairing = owners[kind.rejected_by]
                now = pairing.node.address_in(family_of(kind.rejected_by))
                kind = kind._replace(rejected_by=now or kind.rejected_by)
            sign = known.get((kind, owner))
            if sign is None:
                sign = known[kind, owner] = len(self._kinds)
                self._kinds.append((kind, owner))
            signs.append(sign)
        return signs

    def rows(self, family: int, probe: int) -> Iterator[Sets]:
        """The sets of each node as a source, in the order of `Diff.nodes`.

        `family` and `probe` are positions in this run's matrix.
        """
        lines: Sequence[bytes] | None = None
        if len(self._kinds) <= _BYTE + 1:
            lines = list(self.matrix.rows(family, probe, self._signs))
        for source, position in enumerate(self.positions):
            if position is None:
                yield {}
            elif lines is None:
                yield self.row(family, probe, source)
            else:
                yield self._named(_sets(self._arranged(lines[position])), source)

    def row(self, family: int, probe: int, source: int) -> Sets:
        """The sets of one node as a source."""
        position = self.positions[source]
        if position is None:
            return {}
        numbers = self.matrix.numbers(family, probe, position)
        line = tuple(map(self._signs.__getitem__, numbers))
        return self._named(_sets(self._arranged(line)), source)

    def lines(self, cells: bytes) -> list[bytes]:
        """A byte for each pair of this run's nodes as rows of pairs of `Diff.nodes`, 0 if lacking.

        No byte is more than 127: what is, becomes that.
        """
        own = len(self.matrix.nodes)
        cells = cells.translate(_CAPPED)
        lines = []
        for position in self.positions:
            if position is None:
                lines.append(bytes(self._size))
            else:
                line = self._arranged(cells[position * own : (position + 1) * own])
                lines.append(bytes(line).ljust(self._size, b"\0"))
        return lines

    def position(self, node: int) -> int | None:
        """Where a node of `Diff.nodes` stands in this run's matrix."""
        return self.positions[node]

    def _arranged(self, line: Line) -> Line:
        """A row in the order of `Diff.nodes`."""
        if self._straight or self._ordered is None:
            return line
        if isinstance(line, bytes):
            return bytes(self._ordered(line + b"\0"))
        return tuple(self._ordered((*line, 0)))

    def _named(self, sets: Mapping[int, int], source: int) -> Sets:
        found: dict[Kind, int] = {}
        for sign, there in sets.items():
            known = self._kinds[sign]
            assert known is not None  # 0 is in no set
            kind, owner = known
            if owner is None:
                parts = [(kind, there)]
            elif owner == source:
                parts = [(kind._replace(rejected_by=BY_THE_SOURCE), there)]
            else:
                own = there & 1 << owner
                rest = there & ~own
                parts = [(kind._replace(rejected_by=BY_THE_DESTINATION), own)] if own else []
                parts += [(kind, rest)] if rest else []
            for kind_, part in parts:
                found[kind_] = found.get(kind_, 0) | part
        return found


def _sets(line: Line) -> dict[int, int]:
    """For each number but 0 the set of its positions."""
    different = set(line) - {0}
    if isinstance(line, bytes) and len(different) <= 32:
        back = line[::-1]
        return {number: int(back.translate(_only(number)), 2) for number in different}
    sets: dict[int, int] = {}
    for position, number in enumerate(line):
        if number:
            sets[number] = sets.get(number, 0) | 1 << position
    return sets


@cache
def _only(number: int) -> bytes:
    """A table to translate by: that number to `1`, all else to `0`."""
    return bytes(0x31 if i == number else 0x30 for i in range(256))
