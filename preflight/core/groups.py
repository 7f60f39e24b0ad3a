"""The cells that are not open, in as few words as they have causes: 200 cells, one line.

Rules of this file:
1. Cells share a group only where verdict, leg, place, cause and rejecter are equal.
2. A group is a block, every source to every destination, and holds no other cell.
3. Every cell that is not open is in exactly one group.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import product, starmap
from typing import Generic, NamedTuple, TypeVar

from preflight.core.cover import cover, transposed
from preflight.core.matrix import Cell, Matrix
from preflight.core.model import Cause, Family, Leg, Place, Severity, Verdict
from preflight.core.naming import Naming, members

BY_THE_SOURCE = "source"
BY_THE_DESTINATION = "destination"

K = TypeVar("K", bound=Hashable)

_DIFFERENT = 60  # sets that are found faster one by one than bit by bit
_ONLY = [b"0" * n + b"1" + b"0" * (255 - n) for n in range(256)]  # one byte as 1, all others as 0

_WORST_FIRST = (Verdict.BLOCKED, Verdict.LOSSY, Verdict.CLOSED, Verdict.UNKNOWN)


class Kind(NamedTuple):
    """What the cells of a group have in common."""

    verdict: Verdict
    leg: Leg | None
    place: Place | None
    cause: Cause | None
    rejected_by: str | None  # an address, or BY_THE_SOURCE, BY_THE_DESTINATION: the pair's own


class FamilyProbe(NamedTuple):
    """One probe over one family; `probe` is its position in the matrix."""

    probe: int
    family: Family


class Group(NamedTuple):
    """Cells that are not open and alike in all but their evidence.

    They are those of every source to every destination and, with `both_ways`, back; as far as
    such a cell was planned.
    """

    kind: Kind
    severity: Severity  # the highest of its probes'
    tests: tuple[FamilyProbe, ...]
    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    both_ways: bool
    where: str  # the same in words: `rack=a → rack=b`, `all ↔ n3`, `within rack=a`
    pairs: int
    cells: int  # pairs x tests
    sample: Cell  # the first of them


Meant = Callable[[FamilyProbe, int], int]


def groups(matrix: Matrix, meant: Meant | None = None) -> list[Group]:
    """Every cell that is not open in exactly one group, what matters most first.

    `meant` gives, of a test and a source, the set of destinations whose cells alone are looked at.
    """
    naming = Naming(matrix.nodes)
    layers = _Layers(matrix, meant)
    tests = product(range(len(matrix.families)), range(len(matrix.probes)))
    found = blocks(naming, starmap(layers.layer, tests))
    return sorted((group_of(matrix, naming, b) for b in found), key=_importance)


class _Key(NamedTuple, Generic[K]):
    kind: K
    sources: int
    destinations: int
    cells: tuple[int, ...]


class Layer(NamedTuple, Generic[K]):
    """One test's cells as sets of nodes, told apart by a kind of any sort."""

    test: FamilyProbe
    planned: list[int]  # for each source the set of its destinations
    columns: list[int]  # for each destination the set of its sources
    senders: int
    receivers: int
    rows: dict[K, dict[int, int]]  # of each kind, sources without one left out


class Block(NamedTuple, Generic[K]):
    """Cells of one kind: every source to every destination, as far as planned; as sets of nodes."""

    kind: K
    sources: int
    destinations: int
    both_ways: bool
    pairs: int
    layers: list[Layer[K]]


def blocks(naming: Naming, layers: Iterable[Layer[K]]) -> list[Block[K]]:
    """Every cell of the layers' rows in exactly one block."""
    found: dict[_Key[K], list[Layer[K]]] = {}
    for layer in layers:
        for kind, rows in layer.rows.items():
            for sources, destinations in cover(rows, layer.planned, naming.blocks()):
                cells = tuple(rows[s] & destinations for s in members(sources))
                key = _Key(kind, sources, destinations, cells)
                found.setdefault(key, []).append(layer)
    return _mutual(
        [
            Block(
                key.kind,
                key.sources,
                key.destinations,
                False,
                sum(map(int.bit_count, key.cells)),
                ls,
            )
            for key, ls in found.items()
        ]
    )


def layer(test: FamilyProbe, planned: list[int], rows: dict[K, dict[int, int]]) -> Layer[K]:
    """A layer of these rows; `planned` are all cells of the test, whatever their kind."""
    columns = transposed(dict(enumerate(planned)))
    return Layer(
        test,
        planned,
        [columns.get(node, 0) for node in range(len(planned))],
        sum(1 << source for source, row in enumerate(planned) if row),
        sum(1 << destination for destination in columns),
        rows,
    )


class _Layers:
    """Takes a matrix apart by kind."""

    _NOT_PLANNED, _OPEN = 0, 1

    def __init__(self, matrix: Matrix, meant: Meant | None) -> None:
        self._matrix = matrix
        self._meant = meant
        owners = {a: i for i, node in enumerate(matrix.nodes) for a in node.addresses}
        # A kind, and the node whose address its rejecter has: that node's own cells differ.
        self._kinds: list[tuple[Kind, int | None] | None] = [None, None]
        self._numbers: list[int] = []  # of each outcome in the matrix's table
        known: dict[Kind, int] = {}
        for outcome in matrix.table:
            kind = Kind(*outcome[:5]) if outcome is not None else None
            number = self._NOT_PLANNED
            if kind is not None:
                number = self._OPEN if kind.verdict is Verdict.OPEN else known.get(kind, -1)
            if kind is not None and number < 0:
                number = known[kind] = len(self._kinds)
                self._kinds.append((kind, owners.get(kind.rejected_by or "")))
            self._numbers.append(number)

    def layer(self, family: int, probe: int) -> Layer[Kind]:
        rows: dict[Kind, dict[int, int]] = {}
        planned = []
        full = (1 << len(self._matrix.nodes)) - 1
        test = FamilyProbe(probe, self._matrix.families[family])
        for source, numbers in enumerate(self._rows(family, probe)):
            sets = sets_of(numbers)
            planned.append(full & ~sets.pop(self._NOT_PLANNED, 0))
            sets.pop(self._OPEN, None)
            ours = full if self._meant is None else self._meant(test, source)
            for number, there in sets.items():
                if not there & ours:
                    continue
                for kind, part in self._parts(number, source, there & ours):
                    cells = rows.setdefault(kind, {})
                    cells[source] = cells.get(source, 0) | part
        return layer(test, planned, rows)

    def _rows(self, family: int, probe: int) -> Iterator[Sequence[int]]:
        """For each source the numbers of its cells' kinds, as bytes where these can hold them."""
        if len(self._kinds) <= 256:
            yield from self._matrix.rows(family, probe, self._numbers)
        else:
            for source in range(len(self._matrix.nodes)):
                numbers = self._matrix.numbers(family, probe, source)
                yield list(map(self._numbers.__getitem__, numbers))

    def _parts(self, number: int, source: int, there: int) -> Iterator[tuple[Kind, int]]:
        """One source's cells of one number, split by whether the pair itself rejects."""
        known = self._kinds[number]
        assert known is not None  # neither open nor not planned
        kind, owner = known
        if owner == source:
            yield kind._replace(rejected_by=BY_THE_SOURCE), there
            return
        own = 0 if owner is None else there & 1 << owner
        if own:
            yield kind._replace(rejected_by=BY_THE_DESTINATION), own
        if there & ~own:
            yield kind, there & ~own


def sets_of(numbers: Sequence[int]) -> dict[int, int]:
    """For each number the set of its positions."""
    different = set(numbers)
    sets = {}
    if isinstance(numbers, bytes) and len(different) <= _DIFFERENT:
        backwards = numbers[::-1]
        for number in different:
            sets[number] = int(backwards.translate(_ONLY[number]), 2)
        return sets
    for position, number in enumerate(numbers):
        sets[number] = sets.get(number, 0) | 1 << position
    return sets


def _mutual(blocks: list[Block[K]]) -> list[Block[K]]:
    """The blocks, those that are each other's way back as one."""
    ways = {(b.kind, _tests(b), b.sources, b.destinations): b for b in blocks}
    taken: set[int] = set()
    mutual = []
    for block in blocks:
        for few, many in (
            (block.sources, block.destinations),
            (block.destinations, block.sources),
        ):
            # What runs inside the smaller side may be in this block; the way back then lacks it.
            there, back = (few, many & ~few), (many & ~few, few)
            rest = ways.get((block.kind, _tests(block), *(back if few == block.sources else there)))
            overlap = few & many not in (0, few)  # part of the smaller side runs one way only
            if rest is None or overlap or id(block) in taken or id(rest) in taken:
                continue
            taken.update((id(block), id(rest)))
            pairs = block.pairs + rest.pairs
            # Racks in the inventory's order, but a single node before all others.
            later = few & many == 0 and few.bit_count() > 1 and many & -many < few & -few
            sides = (many, few) if later else (few, many)
            mutual.append(Block(block.kind, *sides, True, pairs, block.layers))
    return mutual + [block for block in blocks if id(block) not in taken]


def _tests(block: Block[K]) -> tuple[FamilyProbe, ...]:
    return tuple(layer.test for layer in block.layers)


def group_of(matrix: Matrix, naming: Naming, block: Block[Kind]) -> Group:
    """A block as a group."""
    tests = _tests(block)
    required = any(matrix.probes[t.probe].severity is Severity.REQUIRED for t in tests)
    sources, destinations = tuple(members(block.sources)), tuple(members(block.destinations))
    return Group(
        kind=block.kind,
        severity=Severity.REQUIRED if required else Severity.RECOMMENDED,
        tests=tests,
        sources=sources,
        destinations=destinations,
        both_ways=block.both_ways,
        where=where(naming, block),
        pairs=block.pairs,
        cells=block.pairs * len(tests),
        sample=_sample(matrix, block.layers[0], sources, destinations),
    )


def where(naming: Naming, block: Block[K]) -> str:
    """A block in words: `rack=a → rack=b`, `all ↔ n3`, `within rack=a`."""
    sources, destinations = block.sources, block.destinations
    senders = receivers = 0  # all that were planned
    free_senders = free_receivers = naming.all  # those with no cell to or from the other side
    for layer in block.layers:
        senders |= layer.senders
        receivers |= layer.receivers
        free_senders = _without(free_senders, layer.columns, destinations)
        free_receivers = _without(free_receivers, layer.planned, sources)
        if block.both_ways:
            free_senders = _without(free_senders, layer.planned, destinations)
            free_receivers = _without(free_receivers, layer.columns, sources)
    if block.both_ways:
        senders = receivers = senders | receivers
    if not block.both_ways and sources != destinations:
        sources = sources & ~free_senders or sources  # a node alone on the other side, too
        destinations = destinations & ~free_receivers or destinations
    source = naming.name(sources, free_senders, tested=senders)
    destination = naming.name(destinations, free_receivers, tested=receivers)
    if block.both_ways:
        return f"{source} ↔ {destination}"
    if sources == destinations:
        return f"among {source} nodes" if source in ("all", "all tested") else f"within {source}"
    return f"{source} → {destination}"


def _without(nodes: int, neighbours: Sequence[int], side: int) -> int:
    """`nodes` less every neighbour of a node in `side`."""
    for node in members(side):
        if not nodes:
            break
        nodes &= ~neighbours[node]
    return nodes


def _sample(
    matrix: Matrix, layer: Layer[Kind], sources: tuple[int, ...], destinations: tuple[int, ...]
) -> Cell:
    source = next(s for s in sources if any(layer.planned[s] >> d & 1 for d in destinations))
    destination = next(d for d in destinations if layer.planned[source] >> d & 1)
    probe, family = layer.test
    index = matrix.index(matrix.families.index(family), probe, source, destination)
    outcome = matrix.outcome(index)
    assert outcome is not None  # it was planned
    return Cell(source, destination, probe, family, outcome, matrix.rtt_ms(index))


def _importance(group: Group) -> tuple[bool, int, int]:
    return (
        group.severity is not Severity.REQUIRED,
        _WORST_FIRST.index(group.kind.verdict),
        -group.cells,
    )
