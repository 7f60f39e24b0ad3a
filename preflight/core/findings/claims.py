"""Cells that facts alone explain, each claimed once, and the findings that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from preflight.core.findings.evidence import evidence
from preflight.core.findings.extents import extents, pairs_in_words
from preflight.core.findings.model import Block, Cause, Change, Finding
from preflight.core.findings.shapes import Shapes, union
from preflight.core.groups import FamilyProbe, Group, groups
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Outcome, Severity, Verdict
from preflight.core.naming import members
from preflight.core.ways import Rows, Wanted, Ways

Cells = dict[FamilyProbe, Rows]


class Claim(NamedTuple):
    """Cells between some pairs, as far as their outcome is of that kind."""

    pairs: Mapping[int, int]  # for each source the set of its destinations
    wanted: Wanted
    of: tuple[FamilyProbe, ...] = ()  # of these tests alone; none: of all


class Told(NamedTuple):
    """A finding's own words."""

    cause: Cause
    title: str
    nodes: Sequence[int]
    evidence: Sequence[str]
    changes: Sequence[Change]
    advice: str = ""


class Claims:
    """What of one matrix is explained so far."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.ways = {family: Ways(matrix, family) for family in matrix.families}
        self.found: list[Finding] = []
        self._shapes = Shapes(matrix)
        self._taken: Cells = {}

    def take(self, family: Family, claims: Iterable[Claim]) -> Cells:
        """The cells that are claimed and were not before; they are the caller's from now on."""
        known = self.ways[family]
        out: Cells = {}
        for claim in claims:
            for test in claim.of or known.tests:
                taken = self._taken.setdefault(test, {})
                wanted = known.rows(test, lambda o, claim=claim: bad(o) and claim.wanted(o))  # type: ignore[misc]
                for source, row in wanted.items():
                    if row := row & claim.pairs.get(source, 0) & ~taken.get(source, 0):
                        taken[source] = taken.get(source, 0) | row
                        rows = out.setdefault(test, {})
                        rows[source] = rows.get(source, 0) | row
        return out

    def tell(self, cells: Iterable[Cells], told: Told) -> None:
        """Make a finding of these cells; none where there is no cell."""
        own = self.groups(cells)
        if not own:
            return
        first = own[0].sample
        found = Finding(
            identifier="",
            cause=told.cause,
            severity=own[0].severity,
            title=told.title,
            kinds=(),
            tests=(),
            blocks=(),
            where="",
            pairs=0,
            cells=0,
            nodes=tuple(sorted(set(told.nodes))),
            evidence=tuple(dict.fromkeys((*told.evidence, *evidence(self.matrix, own, ())))),
            diagnosis=None,
            sample=(first.source, first.destination),
            changes=tuple(told.changes),
            requests=(),
            advice=told.advice,
            unknown=(),
        )
        self.found.append(extent(self._shapes, own, found))

    def groups(self, cells: Iterable[Cells]) -> list[Group]:
        """The cells as groups."""
        every: Cells = {}
        for part in cells:
            for test, rows in part.items():
                every[test] = union([every.get(test, {}), rows])
        if not every:
            return []
        return groups(self.matrix, lambda test, source: every.get(test, {}).get(source, 0))

    def rest(self) -> list[Group]:
        """What nobody has claimed."""
        return groups(self.matrix, lambda test, source: ~self._taken.get(test, {}).get(source, 0))


def extent(shapes: Shapes, own: Sequence[Group], finding: Finding) -> Finding:
    """The finding about just these cells."""
    rows = union(shapes.rows(group) for group in own)
    return finding._replace(
        severity=min((g.severity for g in own), key=list(Severity).index),
        kinds=tuple(dict.fromkeys(g.kind for g in own)),
        tests=tuple(
            sorted({test for g in own for test in g.tests}, key=lambda t: (t.family, t.probe))
        ),
        blocks=tuple(Block(g.sources, g.destinations, g.both_ways, g.where, g.tests) for g in own),
        where=pairs_in_words(extents(shapes, own)),
        pairs=sum(row.bit_count() for row in rows.values()),
        cells=sum(g.cells for g in own),
    )


def cells_of(shapes: Shapes, finding: Finding) -> Cells:
    """All cells of a finding."""
    out: Cells = {}
    for block in finding.blocks:
        sides = [sum(1 << n for n in side) for side in (block.sources, block.destinations)]
        for test in block.tests or finding.tests:
            planned = shapes.planned(test)
            rows = out.setdefault(test, {})
            for here, there in (sides, sides[::-1])[: 1 + block.both_ways]:
                for source in members(here):
                    if row := planned[source] & there:
                        rows[source] = rows.get(source, 0) | row
    return out


def bad(outcome: Outcome) -> bool:
    """Whether there is anything to explain."""
    return outcome.verdict is not Verdict.OPEN


def ip(family: Family) -> str:
    """The program that the change is made with."""
    return "ip -6" if family is Family.IPV6 else "ip"


def lasting(*more: str) -> str:
    """How to make a removal last; `more` is where such things come from, too."""
    places = ("the network's settings (netplan, NetworkManager, systemd-networkd)", *more)
    return f"Remove it also where it comes from: {', '.join(places)}, or a start script."
