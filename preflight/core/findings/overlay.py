"""The overlay's bad cells, read together with the underlay's: the fewest statements about them.

Rules of this file:
1. What the tunnel's port explains is the underlay's finding, not another one: an answer takes the
   way back, so a tunnel that is shut in either direction is enough.
2. No firewall is accused where the tunnel's port is open both ways; where that is not known,
   nothing is.
3. A cell whose endpoint does not answer its own node says nothing about the network.
4. Cells of one fault are one finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple, cast

from preflight.core.cilium.probes import WIREGUARD
from preflight.core.cover import transposed
from preflight.core.findings import overlay_words as words
from preflight.core.findings.model import Block, Finding
from preflight.core.findings.overlay_words import Context, Fault
from preflight.core.findings.shapes import Rows, Shapes, union
from preflight.core.groups import FamilyProbe, Group, Kind, blocks, group_of, layer, sets_of
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Outcome, ProbeKind, Severity, Verdict
from preflight.core.naming import Naming
from preflight.core.row import when

_TUNNELS = (ProbeKind.GENEVE, ProbeKind.VXLAN)
_WIREGUARD = (WIREGUARD.protocol, WIREGUARD.port)
_BAD = (Verdict.BLOCKED, Verdict.LOSSY, Verdict.CLOSED)


class Carrier(StrEnum):
    """What is known of the tunnel between two nodes, there and back."""

    OPEN = "open"
    NATIVE = "native"  # there is none
    BAD = "bad"
    NOT_KNOWN = "not-known"


class Seen(StrEnum):
    """An overlay's cell, in a word."""

    OPEN = "open"
    SMALL = "small"  # the full-size ones were lost
    SOME = "some"
    NOTHING = "nothing"
    REFUSED = "refused"
    NO_ROUTE = "no-route"
    ANOTHER = "another"
    GONE = "gone"  # its own node got no answer either
    NOT_KNOWN = "not-known"  # or not tested


class Signature(NamedTuple):
    """What one bad cell is decoded from."""

    carrier: Carrier
    own: Seen  # the cell itself
    other: Seen  # of the same pair: `overlay-health` for `overlay-echo`, and the other way round
    is_echo: bool


DOMAINS: Mapping[str, tuple[object, ...]] = {
    "carrier": tuple(Carrier),
    "own": tuple(seen for seen in Seen if seen not in (Seen.OPEN, Seen.NOT_KNOWN)),
    "other": tuple(Seen),
    "is_echo": (True, False),
}

# The first row that matches decides.
TABLE: tuple[tuple[Mapping[str, tuple[object, ...]], Fault], ...] = (
    (when(own=Seen.GONE), Fault.ENDPOINT),
    (when(own=Seen.ANOTHER), Fault.ANOTHER),
    (when(own=Seen.NO_ROUTE), Fault.ROUTE),
    (when(carrier=Carrier.BAD), Fault.UNDERLAY),
    (when(own=Seen.SMALL), Fault.SIZE),
    (when(own=Seen.SOME), Fault.LOSS),
    (when(is_echo=True, other=Seen.OPEN), Fault.ECHO),
    (when(is_echo=False, other=Seen.OPEN, own=Seen.REFUSED), Fault.REFUSED),
    (when(is_echo=False, other=Seen.OPEN), Fault.DATA),
    (when(other=Seen.SMALL), Fault.SIZE),
    (when(other=Seen.SOME), Fault.LOSS),
    # Nothing of this pair has come through, so nothing proves that the tunnel does.
    (when(carrier=Carrier.NOT_KNOWN), Fault.UNCLEAR),
    (when(own=Seen.REFUSED), Fault.REFUSED),
    (when(carrier=Carrier.NATIVE), Fault.NATIVE),
    ({}, Fault.NOTHING),
)  # fmt: skip


@cache
def decode(signature: Signature) -> Fault:
    """The fault that a bad cell shows."""
    for conditions, fault in TABLE:
        if all(getattr(signature, field) in allowed for field, allowed in conditions.items()):
            return fault
    raise AssertionError(signature)  # the last row has no conditions


def ours(matrix: Matrix, group: Group) -> bool:
    """Whether a group is explained here: bad cells of the overlay alone."""
    return group.kind.verdict in _BAD and all(matrix.probes[t.probe].overlay for t in group.tests)


def with_overlay(
    matrix: Matrix, shapes: Shapes, found: Sequence[Finding], context: Context
) -> list[Finding]:
    """The underlay's findings, with what they explain of the overlay, and the overlay's own."""
    if not any(probe.overlay for probe in matrix.probes):
        return list(found)
    naming = Naming(matrix.nodes)
    reader = _Reader(matrix, found, context)
    parts = blocks(naming, (layer(t, p, rows) for t, p, rows in reader.layers(shapes)))
    own: dict[tuple[Fault, int], list[Group]] = {}
    for block in sorted(parts, key=lambda b: -b.pairs):
        fault, position, kind = block.kind
        plain = cast(Any, block)._replace(kind=kind)
        own.setdefault((fault, position), []).append(group_of(matrix, naming, plain))
    out = list(found)
    for (fault, position), groups in own.items():
        if fault is Fault.UNDERLAY and position >= 0:
            out[position] = _joined(matrix, out[position], groups)
        else:
            out.append(_finding(matrix, shapes, fault, groups, context))
    return out


_Key = tuple[Fault, int, Kind]  # and the position of the underlay's finding, -1 for none


class _Reader:
    """Decodes the cells of one matrix."""

    def __init__(self, matrix: Matrix, found: Sequence[Finding], context: Context) -> None:
        self._matrix = matrix
        self._carriers = list(_carriers(matrix))
        self._native = context.native
        self._counted = sum(1 << node for node, count in context.checksums.items() if count)
        # For each node those to which the tunnel is open, bad, neither; and then there or back.
        known: list[Rows] = [{}, {}, {}]
        for probe, family in self._carriers:
            for s, row in self._rows(matrix.families.index(family), probe):
                for outcome, there in row.items():
                    rows = known[_state(outcome)]
                    rows[s] = rows.get(s, 0) | there
        self._open = known[0], transposed(known[0])
        self._bad = known[1], transposed(known[1])
        self._unsure = known[2], transposed(known[2])
        self._explained = [self._cells_of(finding) for finding in found]

    def _rows(self, f: int, p: int) -> Iterator[tuple[int, dict[Outcome, int]]]:
        """For each source the sets of its destinations by outcome."""
        table = self._matrix.table
        for s in range(len(self._matrix.nodes)):
            told = sets_of(self._matrix.numbers(f, p, s))
            yield s, {o: there for number, there in told.items() if (o := table[number])}

    def _cells_of(self, finding: Finding) -> Rows:
        """The pairs whose carrier is that finding's, there or back."""
        rows: Rows = {}
        carriers = set(self._carriers)
        for block in finding.blocks:
            if not carriers & set(block.tests):
                continue
            sides = [(block.sources, block.destinations)]
            if block.both_ways:
                sides.append((block.destinations, block.sources))
            for sources, destinations in sides:
                there = sum(1 << d for d in destinations)
                rows = union([rows, dict.fromkeys(sources, there)])
        rows = {s: row & self._bad[0].get(s, 0) for s, row in rows.items()}
        return union([rows, transposed(rows)])

    def layers(self, shapes: Shapes) -> Iterator[tuple[FamilyProbe, list[int], dict[_Key, Rows]]]:
        """Each test of the overlay, what was planned of it, and its bad cells by fault."""
        matrix = self._matrix
        tests = {probe.kind: p for p, probe in enumerate(matrix.probes) if probe.overlay}
        for f, family in enumerate(matrix.families):
            for kind, p in tests.items():
                other = next((q for k, q in tests.items() if k is not kind), None)
                is_echo = kind is ProbeKind.OVERLAY_ECHO
                rows: dict[_Key, Rows] = {}
                for s, row in self._rows(f, p):
                    if not any(outcome.verdict in _BAD for outcome in row):
                        continue
                    for key, there in self._of_source(f, s, row, other, is_echo=is_echo):
                        cells = rows.setdefault(key, {})
                        cells[s] = cells.get(s, 0) | there
                test = FamilyProbe(p, family)
                yield test, shapes.planned(test), rows

    def _of_source(
        self, f: int, s: int, row: Mapping[Outcome, int], other: int | None, *, is_echo: bool
    ) -> Iterator[tuple[_Key, int]]:
        """One source's bad cells by what they show."""
        twins = list(self._twins(f, s, other))
        for outcome, cells in row.items():
            if outcome.verdict not in _BAD:
                continue
            own, kind = seen(outcome), Kind(*outcome[:5])
            for carrier, there in self._states(s, cells):
                for twin, mask in twins:
                    if both := there & mask:
                        fault = decode(Signature(carrier, own, twin, is_echo))
                        for told, position, part in self._parts(s, fault, both):
                            yield (told, position, kind), part

    def _twins(self, f: int, s: int, other: int | None) -> Iterator[tuple[Seen, int]]:
        """What the other probe saw of this source's pairs."""
        rest = (1 << len(self._matrix.nodes)) - 1
        if other is not None:
            for number, there in sets_of(self._matrix.numbers(f, other, s)).items():
                outcome = self._matrix.table[number]
                if outcome is not None:
                    rest &= ~there
                    yield seen(outcome), there
        yield Seen.NOT_KNOWN, rest

    def _states(self, s: int, cells: int) -> Iterator[tuple[Carrier, int]]:
        """What is known of the tunnels of a source's cells."""
        bad, unsure = (
            there.get(s, 0) | back.get(s, 0) for there, back in (self._bad, self._unsure)
        )
        there, back = self._open
        both = there.get(s, 0) & back.get(s, 0) & ~bad & ~unsure
        if not self._carriers and self._native:
            yield Carrier.NATIVE, cells
            return
        yield Carrier.BAD, cells & bad
        yield Carrier.OPEN, cells & both
        yield Carrier.NOT_KNOWN, cells & ~bad & ~both

    def _parts(self, s: int, fault: Fault, cells: int) -> Iterator[tuple[Fault, int, int]]:
        """Cells of one fault, by the underlay's finding or by what else is known."""
        if fault is Fault.UNDERLAY:
            for position, rows in enumerate(self._explained):
                if own := cells & rows.get(s, 0):
                    cells &= ~own
                    yield fault, position, own
            fault = Fault.UNCLEAR
        if fault is Fault.DATA:
            own = cells if self._counted >> s & 1 else cells & self._counted
            if own:
                cells &= ~own
                yield Fault.CHECKSUM, -1, own
        if cells:
            yield fault, -1, cells


def _state(outcome: Outcome) -> int:
    if outcome.verdict is Verdict.OPEN:
        return 0
    return 1 if outcome.verdict in _BAD else 2


def _carriers(matrix: Matrix) -> Iterator[FamilyProbe]:
    """The tests of what pods' packets travel in: the required ones, where there are such."""
    probes = [
        (p, probe)
        for p, probe in enumerate(matrix.probes)
        if probe.kind in _TUNNELS or (probe.protocol, probe.port) == _WIREGUARD
    ]
    required = [(p, probe) for p, probe in probes if probe.severity is Severity.REQUIRED]
    for p, _ in required or probes:
        for f, family in enumerate(matrix.families):
            if any(outcome for outcome in matrix.outcomes_of(f, p)):
                yield FamilyProbe(p, family)


_BY_CAUSE: Mapping[Cause | None, Seen] = {
    Cause.REJECTED: Seen.REFUSED,
    Cause.NO_ROUTE: Seen.NO_ROUTE,
    Cause.INTERCEPTED: Seen.ANOTHER,
    Cause.NOT_CILIUM: Seen.ANOTHER,
}


def seen(outcome: Outcome) -> Seen:
    """An overlay's cell in a word."""
    if outcome.verdict is Verdict.OPEN:
        return Seen.OPEN
    if outcome.verdict is Verdict.UNKNOWN:
        return Seen.NOT_KNOWN
    if outcome.verdict is Verdict.LOSSY:
        return Seen.SMALL if outcome.cause is Cause.SIZE else Seen.SOME
    if outcome.cause in _BY_CAUSE:
        return _BY_CAUSE[outcome.cause]
    return Seen.GONE if outcome.verdict is Verdict.CLOSED else Seen.NOTHING


# --- findings


def _parts(
    groups: Sequence[Group],
) -> tuple[tuple[FamilyProbe, ...], tuple[Block, ...], tuple[Kind, ...]]:
    tests = {test for g in groups for test in g.tests}
    found = (Block(g.sources, g.destinations, g.both_ways, g.where, g.tests) for g in groups)
    return (
        tuple(sorted(tests, key=lambda t: (t.family, t.probe))),
        tuple(dict.fromkeys(found)),
        tuple(dict.fromkeys(g.kind for g in groups)),
    )


def _joined(matrix: Matrix, finding: Finding, groups: Sequence[Group]) -> Finding:
    """An underlay's finding, with the overlay's cells that it explains."""
    tests, own, kinds = _parts(groups)
    cells = sum(g.cells for g in groups)
    return finding._replace(
        tests=(*finding.tests, *tests),
        blocks=(*finding.blocks, *own),
        kinds=tuple(dict.fromkeys((*finding.kinds, *kinds))),
        cells=finding.cells + cells,
        evidence=(*finding.evidence[:1], words.carried(matrix, groups), *finding.evidence[1:]),
    )


def _finding(
    matrix: Matrix, shapes: Shapes, fault: Fault, groups: Sequence[Group], context: Context
) -> Finding:
    tests, own, kinds = _parts(groups)
    required = any(g.severity is Severity.REQUIRED for g in groups)
    sample = groups[0].sample
    subject = words.Subject(matrix, shapes, groups, context)
    return Finding(
        identifier="",
        cause=words.CAUSES[fault],
        severity=Severity.REQUIRED if required else Severity.RECOMMENDED,
        title=words.title(fault, subject),
        kinds=kinds,
        tests=tests,
        blocks=own,
        where=subject.where,
        pairs=sum(row.bit_count() for row in union(map(shapes.rows, groups)).values()),
        cells=sum(g.cells for g in groups),
        nodes=tuple(words.nodes(fault, groups)),
        evidence=tuple(words.evidence(fault, subject)),
        diagnosis=None,
        sample=(sample.source, sample.destination),
        changes=(),
        requests=(),
        advice=words.advice(fault, subject),
        unknown=tuple(words.unknown(fault, subject)),
    )
