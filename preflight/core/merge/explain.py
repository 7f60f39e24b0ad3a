"""Findings of a merged matrix: made anew from its cells, with the closer looks that still fit.

A closer look of one of the runs is kept where its cell still says what it said then, and for the
other cells of its finding that die inside the same node. What a node's own tables proved is kept
for such cells, too. What no cell shows, a hazard, is kept as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.plain import plain, read_diagnosis
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.claims import Cells, Claim, Claims, Told, bad
from preflight.core.findings.hazards import numbered
from preflight.core.findings.model import Block, Cause, Finding
from preflight.core.groups import FamilyProbe, Group, Kind
from preflight.core.matrix import Matrix
from preflight.core.snapshot import Snapshot

_BY_TABLES = (Cause.ADDRESS, Cause.ROUTE, Cause.NEIGHBOUR)
_CELLS = 256  # of a finding for which its look stands


def explained(matrix: Matrix, parts: Sequence[Snapshot]) -> tuple[Finding, ...]:
    """What matters most first."""
    claims = Claims(matrix)
    _prove(claims, parts)
    own = claims.rest()
    looks: dict[int, list[Looked]] = {}
    for look in sorted({look for part in parts for look in _looks(matrix, part)}, key=_order):
        for position, group in enumerate(own):
            if _holds(group, look):
                looks.setdefault(position, []).append(look)
                break
    hazards = {
        (finding.title, finding.nodes, finding.advice): finding
        for part in parts
        for finding in _hazards(matrix, part)
    }
    rest = [hazards[key] for key in sorted(hazards)]
    found = findings(matrix, own, looks, proven=claims.found)
    return tuple(numbered(found, rest))


def _prove(claims: Claims, parts: Sequence[Snapshot]) -> None:
    """Have the cells claimed that a node's tables explained in one of the runs."""
    cells: dict[Told, list[Cells]] = {}
    for part in parts:
        mapped = _Mapped(claims.matrix, part.matrix)
        for finding in part.findings:
            if finding.cause in _BY_TABLES and finding.kinds and finding.diagnosis is None:
                told = Told(
                    finding.cause, finding.title, tuple(sorted(map(mapped.node, finding.nodes))),
                    finding.evidence, finding.changes, finding.advice,
                )  # fmt: skip
                cells.setdefault(told, []).extend(mapped.cells(finding))
    for told in sorted(cells, key=str):
        taken = [
            claims.take(test.family, [Claim(rows, bad, (test,))])
            for same in cells[told]
            for test, rows in same.items()
        ]
        claims.tell(taken, told)


class _Mapped:
    """One run's nodes, tests and cells as those of the merged matrix."""

    def __init__(self, matrix: Matrix, old: Matrix) -> None:
        self._matrix, self._old = matrix, old
        positions = {node.name: i for i, node in enumerate(matrix.nodes)}
        self._nodes = [positions[node.name] for node in old.nodes]
        self._probes = {probe.name: i for i, probe in enumerate(matrix.probes)}

    def node(self, position: int) -> int:
        """The position of a node of that run."""
        return self._nodes[position]

    def test(self, test: FamilyProbe) -> FamilyProbe:
        """The same of a test."""
        return test._replace(probe=self._probes[self._old.probes[test.probe].name])

    def stands(self, test: FamilyProbe, source: int, destination: int) -> bool:
        """Whether a cell of that run says in the merged matrix what it said then."""
        now = self.test(test)
        ends = self._nodes[source], self._nodes[destination]
        outcomes = (
            self._old.outcome(
                self._old.index(self._old.families.index(test.family), test.probe, source,
                                destination)
            ),
            self._matrix.outcome(
                self._matrix.index(self._matrix.families.index(now.family), now.probe, *ends)
            ),
        )  # fmt: skip
        was, is_ = (None if outcome is None else Kind(*outcome[:5]) for outcome in outcomes)
        return was is not None and was == is_

    def cells(self, finding: Finding) -> Iterator[Cells]:
        """Those of a finding that stand, as the merged matrix's."""
        for block in finding.blocks:
            for test in block.tests:
                rows: dict[int, int] = {}
                for source, destination in _pairs(block):
                    if source != destination and self.stands(test, source, destination):
                        at = self._nodes[source]
                        rows[at] = rows.get(at, 0) | 1 << self._nodes[destination]
                yield {self.test(test): rows}


def _pairs(block: Block) -> Iterator[tuple[int, int]]:
    yield from product(block.sources, block.destinations)
    if block.both_ways:
        yield from product(block.destinations, block.sources)


def _order(look: Looked) -> tuple[object, ...]:
    test = look.test
    return (look.source, look.destination, test and (test.probe, str(test.family)), str(look))


def _looks(matrix: Matrix, part: Snapshot) -> Iterator[Looked]:
    names = [node.name for node in part.matrix.nodes]
    positions = {node.name: i for i, node in enumerate(matrix.nodes)}
    mapped = _Mapped(matrix, part.matrix)
    for finding in part.findings:
        if finding.diagnosis is None or finding.sample is None or not finding.kinds:
            continue
        told = read_diagnosis(plain(finding.diagnosis, names), "diagnosis", positions)
        in_brief = Diagnosis(hits=tuple(hit for hit in told.hits if not hit.of_discovery))
        named = {hit.node for hit in in_brief.hits}
        for test in finding.blocks[0].tests[:1] if finding.blocks else ():
            ends = [mapped.node(n) for n in finding.sample]
            if mapped.stands(test, *finding.sample):
                yield Looked(ends[0], ends[1], told, mapped.test(test))
        others = ((b, t, pair) for b in finding.blocks for t in b.tests for pair in _pairs(b))
        for _, test, (source, destination) in islice(others, _CELLS):
            ends = [mapped.node(source), mapped.node(destination)]
            other = source != destination and (source, destination) != finding.sample
            if other and named & {*ends} and mapped.stands(test, source, destination):
                yield Looked(ends[0], ends[1], in_brief, mapped.test(test), brief=True)


def _holds(group: Group, look: Looked) -> bool:
    there = look.source in group.sources and look.destination in group.destinations
    back = look.destination in group.sources and look.source in group.destinations
    return look.test in group.tests and (there or (group.both_ways and back))


def _hazards(matrix: Matrix, part: Snapshot) -> Iterator[Finding]:
    names = [node.name for node in part.matrix.nodes]
    positions = {node.name: i for i, node in enumerate(matrix.nodes)}
    for finding in part.findings:
        if finding.kinds:
            continue
        sample = finding.sample
        diagnosis = finding.diagnosis
        if diagnosis is not None:
            diagnosis = read_diagnosis(plain(diagnosis, names), "diagnosis", positions)
        yield finding._replace(
            identifier="",
            nodes=tuple(sorted(positions[names[n]] for n in finding.nodes)),
            sample=None if sample is None else (
                positions[names[sample[0]]], positions[names[sample[1]]]
            ),
            diagnosis=diagnosis,
        )  # fmt: skip
