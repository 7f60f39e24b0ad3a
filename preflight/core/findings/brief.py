"""Which further cells get a brief look: a few packets, and no other question than who ends them.

Rules of this file:
1. Cells that look alike may die of rules that are for one sender each, or behind unlike routers. So
   every one is asked, as far as there is room, and the room is shared by all parts of all groups.
2. A node that is asked for its rules loses nothing by it. A router sends few ICMP errors, and what
   it has sent for one look it lacks for others: of paths few are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from preflight.core.diagnosis.plan import by_connection
from preflight.core.findings.atoms import Atom, atoms, blamed
from preflight.core.findings.samples import Sample
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Leg, Place, Protocol, Verdict
from preflight.core.naming import members

MOST = 160  # brief looks of a run
_OF_A_SOURCE = 24
_TCP_PEERS = 16  # of a node: each costs it tracing rules of its own
_ON_PATHS = 12
_ERRORS = 6  # that one router is asked for by one source: Linux sends six, then one a second
_ERRORS_OF_A_LOOK = 3  # that is not brief: see `diagnosis.plan`
_CONSIDERED = 256  # parts of a group, and cells of each
_PARTS = 1024  # of all groups


def brief_samples(
    matrix: Matrix,
    shapes: Shapes,
    groups: Sequence[Group],
    chosen: Sequence[tuple[int, Sample]],
    usable: set[int],
) -> list[tuple[int, Sample]]:
    """Cells to look at in brief beside those of `chosen`, each with the position of its group."""
    room = _Room()
    for _, sample in chosen:
        room.take(matrix, sample)
    taken = {sample[:4] for _, sample in chosen}
    # What rejects may do so only so often, and drops the rest: the fewer ask it, the better.
    rejected = any(g.kind.cause is Cause.REJECTED and g.kind.place is Place.PATH for g in groups)
    parts = (
        _cells(matrix, shapes, position, group, atom, usable)
        for position, group in enumerate(groups)
        if _worth_it(group) and not (rejected and group.kind.place is Place.PATH)
        for atom in islice(atoms(shapes, group), _CONSIDERED)
    )
    queues = list(islice(parts, _PARTS))
    out: list[tuple[int, Sample]] = []
    while queues:
        left = []
        for queue in queues:
            fits = (e for e in queue if e[1][:4] not in taken and room.take(matrix, e[1]))
            entry = next(fits, None)
            if entry is not None:
                out.append(entry)
                left.append(queue)
            if len(out) >= MOST:
                return out
        queues = left
    return out


def _worth_it(group: Group) -> bool:
    """Whether two packets, or one connection, can tell who ends them."""
    kind = group.kind
    if by_connection(kind):
        return True
    if kind.verdict is not Verdict.BLOCKED or kind.cause not in (Cause.DROPPED, Cause.REJECTED):
        return False
    if kind.place is Place.PATH:
        return kind.leg is Leg.FORWARD and kind.cause is Cause.DROPPED
    return bool(blamed(group))


def _cells(
    matrix: Matrix, shapes: Shapes, position: int, group: Group, atom: Atom, usable: set[int]
) -> Iterator[tuple[int, Sample]]:
    """One part's cells, those first whose ends are in other subnets than the ones before."""
    if matrix.probes[atom.test.probe].overlay:
        return
    rows = shapes.rows(group)
    turns: Counter[tuple[int, int]] = Counter()
    ranked = []
    pairs = (
        (source, destination)
        for source in members(atom.sources)
        if source in usable
        for destination in members(rows.get(source, 0) & atom.destinations)
        if destination in usable or group.kind.place is Place.SOURCE
    )
    for pair in islice(pairs, _CONSIDERED):
        way = shapes.neighbourhood(pair[0]), shapes.neighbourhood(pair[1])
        ranked.append((turns[way], pair))
        turns[way] += 1
    for _, (source, destination) in sorted(ranked):
        yield position, Sample(source, destination, *atom.test, group.kind, brief=True)


class _Room:
    """What is left of each limit."""

    def __init__(self) -> None:
        self._inside: Counter[int] = Counter()  # looks, by source
        self._errors: Counter[tuple[int, Family]] = Counter()  # that a source asks one router for
        self._on_paths = 0
        self._peers: dict[int, set[int]] = {}  # that a node has over TCP

    def take(self, matrix: Matrix, sample: Sample) -> bool:
        """Whether there was room for it; for what is no brief look there always is."""
        if sample.brief and not self._fits(matrix, sample):
            return False
        if sample.kind.place is Place.PATH:
            self._on_paths += sample.brief
            self._errors[sample.source, sample.family] += 1 if sample.brief else _ERRORS_OF_A_LOOK
        else:
            self._inside[sample.source] += 1
        for node, peer in self._meeting(matrix, sample):
            self._peers.setdefault(node, set()).add(peer)
        return True

    def _fits(self, matrix: Matrix, sample: Sample) -> bool:
        if sample.kind.place is Place.PATH:
            errors = self._errors[sample.source, sample.family]
            return errors < _ERRORS and self._on_paths < _ON_PATHS
        known = ((self._peers.get(node, set()), p) for node, p in self._meeting(matrix, sample))
        full = any(peer not in peers and len(peers) >= _TCP_PEERS for peers, peer in known)
        return self._inside[sample.source] < _OF_A_SOURCE and not full

    def _meeting(self, matrix: Matrix, sample: Sample) -> Iterator[tuple[int, int]]:
        if matrix.probes[sample.probe].protocol is Protocol.TCP:
            yield sample.source, sample.destination
            yield sample.destination, sample.source
