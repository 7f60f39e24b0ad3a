"""A run of machines that cannot log in to one another: each probes at a time agreed on, with tokens
from a secret that all have, and what they saw is joined afterwards. Pure.

Rules that live here:

1. Reports are joined only where they are of one meeting: the same secret, time, phase, nodes and
   probes. All of these go into the meeting's key, so that packets of another one never count.
2. What did not arrive is evidence only where both are known to have been there at one time: where a
   packet of the meeting passed between them, or between both and a third. Clocks may be wrong.
3. All who meet at one time mark their packets alike, whatever their secret: so who has another one
   is heard, and told. The mark alone is never evidence: what counts is made with the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from preflight.core.collect import Collection, parse
from preflight.core.evidence import Setting, Sightings
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Phase, Protocol
from preflight.core.options import Meeting
from preflight.core.plan import CellPlan, LookPlan, Volley
from preflight.core.scope import Scope
from preflight.core.verdict import judge

EARLY_S = 10.0  # before the time everybody listens
LATE_S = 10.0  # and after everybody has sent
NEAR_S = 5.0  # how far apart the clocks of two may be
NUMBER = 1  # of the one look
NOTE = "one node's part in a meeting: `preflight merge` joins it with the others'"
_PATHS = {Family.IPV4: "4", Family.IPV6: "6"}
_DESTINATION_SIDE = ("arrived", "accepted", "answered")


class Part(NamedTuple):
    """One probe over one family, as one node had a part in it."""

    probe: str
    family: Family
    packets: int  # to each destination
    full: int  # of these full-size ones
    out: tuple[int, ...]  # to whom it sent
    come: tuple[int, ...]  # from whom it was to get


class Record(NamedTuple):
    """What one node brought back."""

    meeting: str  # the same for all of one meeting
    node: str
    nodes: tuple[str, ...]  # all of the meeting's: their positions are the report's
    parts: tuple[Part, ...]  # in the report's order
    report: Mapping[str, Any]  # the agent's own; see `preflight.wire`
    served: Mapping[str, Mapping[str, Sequence[int]]]  # of its first words
    echo_ignored: tuple[int, ...]


def identity(meeting: Meeting, scope: Scope, phase: Phase) -> tuple[str, bytes]:
    """Its public name, and the key of its tokens."""
    agreed = [
        meeting.at, str(phase),
        [[node.name, node.addresses] for node in scope.nodes],
        [[p.name, str(p.kind), str(p.protocol), p.port] for p in scope.probes],
    ]  # fmt: skip
    key = blake2b(repr(agreed).encode(), key=blake2b(meeting.secret, digest_size=64).digest())
    for cell in scope.cells(first=False):
        key.update(repr((cell.probe, str(cell.family), str(cell.volley))).encode())
        for row in cell.pairs:
            key.update(repr(list(row)).encode())
    return blake2b(key.digest(), digest_size=8, person=b"meeting").hexdigest(), key.digest()[:32]


def tag(meeting: Meeting) -> bytes:
    """What marks the packets of all who meet at that time."""
    return blake2b(repr(meeting.at).encode(), digest_size=4, person=b"meeting-tag").digest()


def plan(scope: Scope, rate: float, max_flows: int, window_s: float) -> LookPlan:
    """One look for all, slow enough that all flows together keep to the limit."""
    cells = scope.cells(first=False)
    whole = LookPlan(NUMBER, cells, rate, taps=True, wait_s=LATE_S)
    least_s = max(whole.flows - max_flows, 0) / max_flows * window_s
    busiest = max(
        (sum(len(c.pairs[s]) * c.volley.count for c in cells) for s in range(len(scope.nodes))),
        default=0,
    )
    if least_s > 0:
        rate = min(rate, busiest / least_s)
    return LookPlan(NUMBER, cells, rate, taps=True, wait_s=LATE_S)


def parts(look: LookPlan, scope: Scope, node: int) -> tuple[Part, ...]:
    """One node's parts in that look."""
    return tuple(
        Part(
            scope.probes[cell.probe].name,
            cell.family,
            cell.volley.count,
            cell.volley.full,
            tuple(cell.pairs[node]),
            tuple(s for s, row in enumerate(cell.pairs) if node in row),
        )
        for cell in look.cells
    )


def join(known: Matrix, phase: Phase, records: Sequence[Record]) -> Matrix:
    """What the reports of one meeting say together, or that of one of its parties alone.

    All of its nodes and probes are among those of `known`. What none of the parties had a part in
    is not planned. Raises ValueError, TypeError, KeyError or IndexError for a report that makes no
    sense.
    """
    first = records[0]
    by_name = {node.name: node for node in known.nodes}
    probes = {probe.name: probe for probe in known.probes}
    nodes = [by_name[name] for name in first.nodes]
    used = [probes[name] for name in dict.fromkeys(part.probe for part in first.parts)]
    families = list(dict.fromkeys(part.family for part in first.parts))
    matrix = Matrix(nodes, used, families)
    parties = {first.nodes.index(record.node): record for record in records}
    cells = [_cell(matrix, parties, number) for number in range(len(first.parts))]
    reports = {node: parse(record.report) for node, record in parties.items()}
    look = LookPlan(NUMBER, cells, 1.0, taps=True, wait_s=0.0)
    seen = Collection(look, [probe.protocol for probe in used], reports)
    met = _Met(parties)
    for c, cell in enumerate(cells):
        f = families.index(cell.family)
        for s, row in enumerate(cell.pairs):
            for d, rtt in zip(row, seen.rtts_ms(c, s), strict=True):
                sightings = seen.sightings(c, s, d)
                if s in parties and d in parties and not met(s, d):
                    sightings = _without(sightings, _DESTINATION_SIDE)
                setting = _setting(matrix, phase, parties, cell, s, d)
                matrix.set(matrix.index(f, cell.probe, s, d), judge(sightings, setting), rtt)
    return matrix


def _cell(matrix: Matrix, parties: Mapping[int, Record], number: int) -> CellPlan:
    """The pairs of one test that a party had a part in."""
    rows: list[list[int]] = [[] for _ in matrix.nodes]
    for node, record in parties.items():
        part = record.parts[number]
        rows[node] = list(part.out)
        for source in part.come:
            if source not in parties:
                rows[source].append(node)
    part = next(iter(parties.values())).parts[number]
    probe = next(i for i, one in enumerate(matrix.probes) if one.name == part.probe)
    shape = Volley(part.packets, part.full, 1, 0.0)
    return CellPlan(probe, part.family, matrix.probes[probe].one_way, shape, rows)


def _without(sightings: Sightings, vantages: Sequence[str]) -> Sightings:
    for vantage in vantages:
        if getattr(sightings, vantage) != sightings.planned:  # what was seen was seen
            setattr(sightings, vantage, None)
    return sightings


def _setting(
    matrix: Matrix, phase: Phase, parties: Mapping[int, Record], cell: CellPlan, s: int, d: int
) -> Setting:
    there = parties.get(d)
    probe = matrix.probes[cell.probe]
    serves = None
    if there is not None and probe.protocol is not Protocol.ICMP:
        served = there.served.get(_PATHS[cell.family])
        unsure = probe.protocol is Protocol.UDP and served and probe.port in served["unsure"]
        if served is not None and not unsure:
            serves = probe.port in served[probe.protocol.value]
    return Setting(
        probe=probe,
        family=cell.family,
        phase=phase,
        source_agent=s in parties,
        destination_agent=there is not None,
        source_addresses=matrix.nodes[s].addresses,
        destination_addresses=matrix.nodes[d].addresses,
        serves=serves,
        echo_ignored=there is not None and int(_PATHS[cell.family]) in there.echo_ignored,
    )


class _Met:
    """Who is known to have been there at one time, by what they heard of one another."""

    def __init__(self, parties: Mapping[int, Record]) -> None:
        self._off: dict[tuple[int, int], float] = {}  # seconds by which two clocks differ at most
        for node, record in parties.items():
            for peer, offset in record.report["heard"]:
                for pair in ((node, int(peer)), (int(peer), node)):
                    self._off[pair] = min(abs(float(offset)), self._off.get(pair, 1e9))
        self._others: dict[int, list[int]] = {}
        for a, b in self._off:
            self._others.setdefault(a, []).append(b)

    def __call__(self, a: int, b: int) -> bool:
        return any(off <= NEAR_S for off in self._ways(a, b))

    def _ways(self, a: int, b: int) -> Iterator[float]:
        if (a, b) in self._off:
            yield self._off[a, b]
            return
        for third in self._others.get(a, ()):
            if (third, b) in self._off:
                yield self._off[a, third] + self._off[third, b]
