"""A snapshot through a filter: what is asked for of a run, and how much of it that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

from preflight.core.findings.model import Finding
from preflight.core.matrix import NOT_PLANNED, Matrix
from preflight.core.model import Family, Node, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import listed, plural


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cells are asked for. Within one field any will do, all fields must hold; empty: all.

    `labels` are keys and values: a cell is kept where one of its two nodes carries all of them.
    """

    sources: Sequence[int] = ()
    destinations: Sequence[int] = ()
    probes: Sequence[int] = ()
    families: Sequence[Family] = ()
    verdicts: Sequence[Verdict] = ()
    labels: Sequence[tuple[str, str]] = ()

    def words(self, matrix: Matrix) -> str:
        """`source n1 and n2, verdict blocked`; empty where all is asked for."""
        asked = (
            ("source", [matrix.nodes[i].name for i in self.sources]),
            ("destination", [matrix.nodes[i].name for i in self.destinations]),
            ("probe", [matrix.probes[i].name for i in self.probes]),
            ("family", self.families),
            ("verdict", self.verdicts),
            ("label", [f"{key}={value}" for key, value in self.labels]),
        )
        return ", ".join(f"{name} {listed(values)}" for name, values in asked if values)


@dataclass(frozen=True, slots=True)
class View:
    """What is shown of a run. Cells that are not asked for are as if they had not been planned."""

    whole: Snapshot
    shown: Snapshot  # `whole` itself where nothing is left out
    words: str  # the filter; empty where there is none

    @property
    def told(self) -> str:
        """`Showing 12 of 600 cells: source n1.` Empty where there is no filter."""
        if not self.words:
            return ""
        some, all_ = self.cells
        return f"Showing {some:,} of {plural(all_, 'cell')}: {self.words}."

    @property
    def noted(self) -> Snapshot:
        """What is shown, with a note of what that is: for who reads it without the filter."""
        if not self.words:
            return self.shown
        return replace(self.shown, notes=(self.told, *self.shown.notes))

    @property
    def cells(self) -> tuple[int, int]:
        """How many are shown, and how many there are."""
        shown, whole = self.shown.matrix, self.whole.matrix
        return sum(shown.outcomes().values()), sum(whole.outcomes().values())


def view(snapshot: Snapshot, wanted: Filter | None = None) -> View:
    """Those cells that are wanted, and the findings that touch one of them.

    A hazard touches no cell: it is kept where one of its nodes is in a cell that is shown, unless
    verdicts are asked for.
    """
    if wanted is None or not any(getattr(wanted, field.name) for field in fields(wanted)):
        return View(snapshot, snapshot, "")
    matrix = _only(snapshot.matrix, wanted)
    touched = _Touched(matrix)
    findings = tuple(
        finding
        for finding in snapshot.findings
        if touched.by(finding)
        or (not finding.blocks and not wanted.verdicts and touched.nodes(finding))
    )
    shown = replace(snapshot, matrix=matrix, findings=findings)
    return View(snapshot, shown, wanted.words(snapshot.matrix))


def _only(matrix: Matrix, wanted: Filter) -> Matrix:
    """A matrix of the same nodes, probes and families with fewer cells."""
    new = Matrix(matrix.nodes, matrix.probes, matrix.families)
    for outcome in matrix.table:
        new.number(outcome)
    numbers = [
        number
        if outcome is None or not wanted.verdicts or outcome.verdict in wanted.verdicts
        else NOT_PLANNED
        for number, outcome in enumerate(matrix.table)
    ]
    masks = list(_masks(matrix.nodes, wanted))
    for (f, family), probe in product(enumerate(matrix.families), range(len(matrix.probes))):
        if (wanted.families and family not in wanted.families) or (
            wanted.probes and probe not in wanted.probes
        ):
            continue
        for source, mask in enumerate(masks):
            if mask is not None and any(mask):
                row = matrix.numbers(f, probe, source)
                kept = [numbers[n] if m else NOT_PLANNED for n, m in zip(row, mask, strict=True)]
                if any(kept):
                    new.set_row(f, probe, source, kept, matrix.times(f, probe, source))
    return new


def _masks(nodes: Sequence[Node], wanted: Filter) -> Iterator[bytes | None]:
    """For each source a byte for each destination that is not 0 where the pair is wanted."""
    sources = set(wanted.sources or range(len(nodes)))
    asked = set(wanted.destinations or range(len(nodes)))
    marked = [all(node.labels.get(k) == v for k, v in wanted.labels) for node in nodes]
    everywhere = bytes(position in asked for position in range(len(nodes)))
    marked_only = bytes(a and m for a, m in zip(everywhere, marked, strict=True))
    for source in range(len(nodes)):
        if source not in sources:
            yield None
        else:
            yield everywhere if marked[source] else marked_only


class _Touched:
    """The cells of a matrix as sets of nodes."""

    def __init__(self, matrix: Matrix) -> None:
        signs = [ord("1" if outcome else "0") for outcome in matrix.table]
        self._rows = {
            (probe, family): [int(row[::-1], 2) for row in matrix.rows(f, probe, signs)]
            for f, family in enumerate(matrix.families)
            for probe in range(len(matrix.probes))
        }
        self._nodes = 0
        for rows in self._rows.values():
            for source, row in enumerate(rows):
                self._nodes |= row | (1 << source if row else 0)

    def by(self, finding: Finding) -> bool:
        """Whether one of them is the finding's."""
        for block in finding.blocks:
            there = sum(1 << node for node in block.destinations)
            back = sum(1 << node for node in block.sources)
            for test in block.tests:
                rows = self._rows[test.probe, test.family]
                if any(rows[node] & there for node in block.sources):
                    return True
                if block.both_ways and any(rows[node] & back for node in block.destinations):
                    return True
        return False

    def nodes(self, finding: Finding) -> bool:
        """Whether one of them is a cell of the finding's nodes."""
        return any(self._nodes >> node & 1 for node in finding.nodes)
