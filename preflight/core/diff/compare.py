"""Two snapshots in, one `Diff` out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.diff import mtu, rtt
from preflight.core.diff.cells import Book, Turned
from preflight.core.diff.findings import Known, Ledger, Rows, known
from preflight.core.diff.findings import compare as compare_findings
from preflight.core.diff.match import match_families, match_nodes, match_probes
from preflight.core.diff.model import Change, Diff, Tally
from preflight.core.diff.notes import notes
from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.diff.turns import NOT_TESTED, Turn
from preflight.core.groups import FamilyProbe, Kind, Layer, blocks, layer, where
from preflight.core.matrix import Matrix
from preflight.core.model import Severity, Verdict
from preflight.core.naming import Naming, members
from preflight.core.snapshot import Snapshot

# Turns whose cells are told in blocks, what matters most first. Those of nodes that went, and the
# open ones of nodes that came, are only counted.
ORDER = (
    Turn.BROKEN, Turn.WORSE, Turn.LOST, Turn.ONLY_BEFORE, Turn.REVEALED, Turn.OTHERWISE,
    Turn.STILL, Turn.EASED, Turn.MENDED, Turn.CLEARED, Turn.ONLY_AFTER, Turn.CAME, Turn.UNKNOWN,
)  # fmt: skip


def compare(before: Snapshot, after: Snapshot) -> Diff:
    """What changed from `before` to `after`. They need have nothing in common."""
    nodes = match_nodes(before.matrix.nodes, after.matrix.nodes)
    probes = match_probes(before.matrix.probes, after.matrix.probes)
    families = match_families(before.matrix, after.matrix)
    book = Book(before.matrix, after.matrix, nodes, probes, families)
    naming = Naming([pairing.node for pairing in nodes])
    tests = [_Test(book, test) for test in book.tests]
    tests = [test for test in tests if test.counts]
    ledger = Ledger(
        {test.test: test.by_turn() for test in tests},
        ({test.test: test.bad[0] for test in tests}, {test.test: test.bad[1] for test in tests}),
    )
    were = _known(before, ledger, nodes, probes, after=False)
    are = _known(after, ledger, nodes, probes, after=True)
    turns = ledger.turns

    def turned(test: FamilyProbe, source: int, destination: int) -> Turn | None:
        cells = ((t, rows.get(source, 0)) for t, rows in turns.get(test, {}).items())
        return next((t for t, row in cells if row >> destination & 1), None)

    tallies = tuple(test.tally(probes[test.test.probe].severity) for test in tests)
    changes = tuple(_changes(tests, naming, probes))
    return Diff(
        before=before,
        after=after,
        nodes=nodes,
        probes=probes,
        families=families,
        tallies=tallies,
        changes=changes,
        findings=compare_findings(were, are, ledger),
        rtt=tuple(rtt.moved(book, naming)),
        mtu=tuple(mtu.moved(were, are, turned)),
        notes=tuple(notes(before, after, nodes, probes, families, tallies, changes)),
        book=book,
    )


class _Test:
    """One probe over one family, all its rows added up."""

    def __init__(self, book: Book, test: FamilyProbe) -> None:
        self.test = test
        self.planned: list[int] = []
        self.rows: dict[Turned, dict[int, int]] = {}  # but for those open in both
        self.counts: dict[Turned, int] = {}
        self.bad: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for source, row in enumerate(book.rows(test)):
            everything = 0
            for turned, there in row.items():
                everything |= there
                self.counts[turned] = self.counts.get(turned, 0) + there.bit_count()
                if turned.turn is not Turn.SAME:
                    self.rows.setdefault(turned, {})[source] = there
                    self._bad(turned, source, there)
            self.planned.append(everything)

    def _bad(self, turned: Turned, source: int, there: int) -> None:
        for kind, bad in zip((turned.before, turned.after), self.bad, strict=True):
            if kind is not None and kind.verdict is not Verdict.OPEN:
                bad[source] = bad.get(source, 0) | there

    def by_turn(self) -> dict[Turn, Rows]:
        """The rows, whatever the kinds."""
        found: dict[Turn, dict[int, int]] = {}
        for turned, rows in self.rows.items():
            own = found.setdefault(turned.turn, {})
            for source, row in rows.items():
                own[source] = own.get(source, 0) | row
        return dict(found)

    def told(self) -> Layer[Turned] | None:
        """The rows that are told in blocks."""
        rows = {
            turned: rows
            for turned, rows in self.rows.items()
            if turned.turn is not Turn.WENT
            and not (turned.turn is Turn.CAME and _verdict(turned.after) is Verdict.OPEN)
        }
        return layer(self.test, self.planned, rows) if rows else None

    def tally(self, severity: Severity) -> Tally:
        """The cells in numbers."""
        turns: dict[Turn, int] = {}
        before: dict[str, int] = {}
        after: dict[str, int] = {}
        for turned, number in self.counts.items():
            turns[turned.turn] = turns.get(turned.turn, 0) + number
            for kind, own in ((turned.before, before), (turned.after, after)):
                name = str(_verdict(kind) or NOT_TESTED)
                own[name] = own.get(name, 0) + number
        names = [*Verdict, NOT_TESTED]
        verdicts = {
            str(name): (before.get(name, 0), after.get(name, 0))
            for name in names
            if name in before or name in after
        }
        ordered = {turn: turns[turn] for turn in Turn if turn in turns}
        return Tally(self.test, severity, ordered, verdicts)


def _verdict(kind: Kind | None) -> Verdict | None:
    return None if kind is None else kind.verdict


def _changes(
    tests: Sequence[_Test], naming: Naming, probes: Sequence[ProbePairing]
) -> Iterator[Change]:
    layers = [told for test in tests if (told := test.told()) is not None]
    found = []
    for block in blocks(naming, layers):
        own = tuple(one.test for one in block.layers)
        severities = [probes[test.probe].severity for test in own]
        turn, before, after = block.kind
        found.append(
            Change(
                turn=turn,
                before=before,
                after=after,
                severity=min(severities, key=list(Severity).index),
                tests=own,
                sources=tuple(members(block.sources)),
                destinations=tuple(members(block.destinations)),
                both_ways=block.both_ways,
                where=where(naming, block),
                pairs=block.pairs,
                cells=block.pairs * len(own),
            )
        )
    yield from sorted(found, key=_order)


def _order(change: Change) -> tuple[int, int, int]:
    return ORDER.index(change.turn), list(Severity).index(change.severity), -change.cells


def _known(
    snapshot: Snapshot,
    ledger: Ledger,
    nodes: Sequence[NodePairing],
    probes: Sequence[ProbePairing],
    *,
    after: bool,
) -> list[Known]:
    """One run's findings under the numbers of the diff."""
    if not snapshot.findings:
        return []
    matrix = snapshot.matrix
    positions = _positions(matrix, nodes, after=after)
    own = {
        position: i
        for i, pairing in enumerate(probes)
        if (position := pairing.after if after else pairing.before) is not None
    }
    tests: Mapping[FamilyProbe, FamilyProbe] = {
        FamilyProbe(p, family): FamilyProbe(own[p], family)
        for p in range(len(matrix.probes))
        for family in matrix.families
    }
    return known(snapshot.findings, positions, tests, ledger.bad[after])


def _positions(matrix: Matrix, nodes: Sequence[NodePairing], *, after: bool) -> list[int]:
    """For each node of one run its number in the diff."""
    positions = [0] * len(matrix.nodes)
    for i, pairing in enumerate(nodes):
        own = pairing.after if after else pairing.before
        if own is not None:
            positions[own] = i
    return positions
