"""What two runs say when they are put side by side.

Nodes and probes of both runs are numbered together: the AFTER run's come first, in its own order,
and then those that only the BEFORE run has. So a position of the AFTER matrix is the same node or
probe here, and each `Node…` and `ProbePairing` says which positions it has in the two files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.diff.turns import Turn
from preflight.core.findings.model import Finding
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.model import Family, Probe, Severity
from preflight.core.snapshot import Snapshot

if TYPE_CHECKING:
    from preflight.core.diff.cells import Book, CellChange


class Tally(NamedTuple):
    """The cells of one probe over one family, in numbers."""

    test: FamilyProbe  # `probe` is a position in `Diff.probes`
    severity: Severity
    turns: Mapping[Turn, int]  # those without a cell left out
    verdicts: Mapping[str, tuple[int, int]]  # verdict, or `not-tested`: cells before, cells after


class Change(NamedTuple):
    """A block of cells that turned alike: every source to every destination, as far as tested."""

    turn: Turn
    before: Kind | None  # what its cells were; None: not tested
    after: Kind | None  # what they are
    severity: Severity  # the highest of its probes'
    tests: tuple[FamilyProbe, ...]
    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    both_ways: bool
    where: str  # the same in words
    pairs: int
    cells: int


class Course(StrEnum):
    """What became of a finding."""

    NEW = "new"  # some of its cells got worse, and no finding before was this one
    WIDER = "wider"  # the same cause, and cells that got worse
    WORSE = "worse"  # its cells were bad before, and are worse now
    CHANGED = "changed"  # its cells are as bad as before, for another cause or in another way
    REVEALED = "revealed"  # nothing of it was known before: its cells were unknown or not tested
    LOST = "lost"  # its cells, or some of them, are not known any more
    SAME = "same"  # the same cause, the same cells
    NARROWER = "narrower"  # the same cause, and some of its cells are mended or eased
    MENDED = "mended"  # all of its cells are open now
    CLEARED = "cleared"  # all of its cells were unknown, and are known now
    GONE = "gone"  # not found any more: a hazard, or its nodes went


class FindingChange(NamedTuple):
    """One finding through both runs."""

    course: Course
    severity: Severity
    before: tuple[Finding, ...]  # of the BEFORE run, in its positions; none: it was not there
    after: Finding | None  # of the AFTER run, in its positions, with what mends it; None: not there
    cells: Mapping[Turn, int]  # what became of all cells that any of these findings covers
    differences: tuple[str, ...]  # plain sentences: what is not as it was


class RttMove(NamedTuple):
    """Round trips that got longer or shorter beyond noise between blocks of nodes."""

    family: Family
    slower: bool
    where: str
    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    both_ways: bool
    pairs: int  # ordered
    before_ms: float  # the median of the pairs' least
    after_ms: float


class MtuMove(NamedTuple):
    """The largest packet that gets through with DF set, where it moved; bytes of the IP packet."""

    where: str
    before: int | None  # None: full-size packets passed
    after: int | None
    source: int  # of the pair that was measured, as a sample
    destination: int


@dataclass(frozen=True, slots=True)
class Diff:
    """All that changed from one run to another. Made by `core.diff.compare.compare`."""

    before: Snapshot
    after: Snapshot
    nodes: tuple[NodePairing, ...]
    probes: tuple[ProbePairing, ...]
    families: tuple[Family, ...]  # AFTER's, then those of BEFORE alone
    tallies: tuple[Tally, ...]  # of every probe over every family that has a cell
    changes: tuple[Change, ...]  # all cells but the same, and those of nodes that went
    findings: tuple[FindingChange, ...]  # what matters most first
    rtt: tuple[RttMove, ...]
    mtu: tuple[MtuMove, ...]
    notes: tuple[str, ...]  # what the reader must know of the comparison itself
    book: Book = field(repr=False, compare=False)  # looks cells up

    @property
    def probe_names(self) -> tuple[str, ...]:
        """A name for each of `probes`; two of one name are told apart by what they send."""
        probes = [pairing.probe for pairing in self.probes]
        return tuple(_told_apart(probe, probes) for probe in probes)

    def turns(self) -> dict[Turn, int]:
        """How many cells turned how, over all tests."""
        counts: dict[Turn, int] = {}
        for tally in self.tallies:
            for turn, number in tally.turns.items():
                counts[turn] = counts.get(turn, 0) + number
        return counts

    def cell(self, test: FamilyProbe, source: int, destination: int) -> CellChange | None:
        """One cell; None where neither run tested it."""
        return self.book.cell(test, source, destination)

    def row(self, test: FamilyProbe, source: int) -> list[Turn | None]:
        """What became of the cells from `source` to each of `nodes`; None: not tested in either."""
        return self.book.row(test, source)

    def cells(self) -> Iterator[CellChange]:
        """Every cell that is not open in both, by family, probe, source, destination."""
        return self.book.changed()


def _told_apart(probe: Probe, among: Sequence[Probe]) -> str:
    same = [other for other in among if other.name == probe.name]
    if len(same) == 1:
        return probe.name
    if len({(other.protocol, other.port) for other in same}) == len(same):
        return f"{probe.name} ({probe.protocol.upper()} {probe.port or 'echo'})"
    return f"{probe.name} ({probe.kind})"
