"""One group of cells, by what closer looks say of its parts.

Rules of this file:
1. Cells that look alike may die of unlike causes: two rules of one node, two routers. A group is
   cut where looks at two of its parts contradict each other, and nowhere else.
2. Where nobody looked, what was found for the same test goes for all; but no rule is laid to
   packets of which its own words do not speak, nor to a node that was searched in vain.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import ContentPattern, Diagnosis, FlowPattern, Path
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.findings.concerns import concerns
from preflight.core.findings.shapes import Rows, Shapes, pairs
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Place, Probe, Protocol, Severity
from preflight.core.naming import members

_ECHO_ALONE = (Reason.ECHO_IGNORED, Reason.ECHO_LIMITED)
# `ip6tables`, `ip6`, `icmpv6`, `icmp6-port-unreachable`
_SIX = re.compile(r"(?<=\bip)6|(?<=\bicmp)v?6")
# Whose packets a rule is about, where it says so: an admin's one act may be a rule for each sender.
_WHOSE = re.compile(
    r"(?P<side>\b[sd]addr|(?<=\s)-[sd]|--(?:src|dst)-range)(?P<no> !=)? (?:\{[^}]*\}|[^\s@]\S*)"
)
# All or none: and a stateful firewall takes for a reply what some other flow made one.
_OF_ALL = (FlowPattern.ALL, FlowPattern.NONE, FlowPattern.REPLIES_ONLY)
_BY_PORT = (FlowPattern.HIGH_ONLY, FlowPattern.LOW_ONLY, FlowPattern.RANGE)
_NOISE = (FlowPattern.RANDOM, FlowPattern.LIMITED)  # a limiter that many share looks like either


class Looked(NamedTuple):
    """A closer look at one cell of a group; `test` None stands for the group's first."""

    source: int
    destination: int
    diagnosis: Diagnosis
    test: FamilyProbe | None = None
    brief: bool = False  # only who ends it was asked


class Atom(NamedTuple):
    """Cells of a group that one look may speak for: of one test, inside one node or between two
    subnets. Sources and destinations are sets of nodes.
    """

    test: FamilyProbe
    sources: int
    destinations: int
    rank: int  # 0: the group's first; then other tests of that, the first test of others, the rest

    def holds(self, look: Looked) -> bool:
        """Whether the look was at one of these cells."""
        there = self.sources >> look.source & self.destinations >> look.destination & 1
        return bool(there) and look.test in (None, self.test)


def blamed(group: Group) -> tuple[int, ...]:
    """The nodes inside which a group's cells die; none where they do not die inside nodes."""
    if group.kind.place not in (Place.SOURCE, Place.DESTINATION):
        return ()
    if group.both_ways:
        return tuple(sorted({*group.sources, *group.destinations}))
    return group.sources if group.kind.place is Place.SOURCE else group.destinations


def atoms(shapes: Shapes, group: Group) -> list[Atom]:
    """A group's cells, those together that one look may speak for; the most telling first."""
    found: dict[Atom, None] = {}
    for number, test in enumerate(group.tests):
        for place, (sources, destinations) in enumerate(_places(shapes, group)):
            rank = 2 * bool(place) + bool(number)
            found.setdefault(Atom(test, sources, destinations, rank))
    return sorted(found, key=lambda atom: atom.rank)


def _places(shapes: Shapes, group: Group) -> Iterator[tuple[int, int]]:
    sets = (sum(1 << n for n in group.sources), sum(1 << n for n in group.destinations))
    for sources, destinations in (sets, sets[::-1])[: 1 + group.both_ways]:
        if group.kind.place is Place.SOURCE:
            yield from ((1 << node, destinations) for node in members(sources))
        elif group.kind.place is Place.DESTINATION:
            yield from ((sources, 1 << node) for node in members(destinations))
        else:
            near = shapes.neighbourhoods
            yield from (
                (s & sources, d & destinations)
                for s in near
                for d in near
                if s & sources and d & destinations
            )


class Part(NamedTuple):
    """A part of a group, or all of it."""

    group: Group
    looks: list[Looked]  # at it
    cause: int | None = None  # parts of one group with the same number died of the same


def split(matrix: Matrix, shapes: Shapes, group: Group, looks: Sequence[Looked]) -> list[Part]:
    """The group as it is, or its parts."""
    piles = _piles(shapes, group, looks)
    causes = _causes(matrix, shapes, group, looks, piles)
    if len(set(causes.values())) < 2:
        return [Part(group, list(looks))]
    out: list[Part] = []
    for cause in dict.fromkeys(causes.values()):
        own = [atom for atom in causes if causes[atom] == cause]
        out += [
            Part(part, at(shapes, part, looks, group.tests[0]), cause)
            for part in _groups(matrix, shapes, group, own)
        ]
    return out


def at(
    shapes: Shapes, part: Group, looks: Sequence[Looked], first: FamilyProbe | None = None
) -> list[Looked]:
    """The looks at cells of a part; `first` is the test of those that name none, if not its own."""
    rows = shapes.rows(part)
    return [
        look
        for look in looks
        if rows.get(look.source, 0) >> look.destination & 1
        and (look.test or first or part.tests[0]) in part.tests
    ]


def _causes(
    matrix: Matrix,
    shapes: Shapes,
    group: Group,
    looks: Sequence[Looked],
    piles: Sequence[Sequence[Looked]],
) -> dict[Atom, int | None]:
    """All cells of the group: for each atom the pile of looks that speaks for it; None where none
    surely does.
    """
    inside = bool(blamed(group))
    words = [(look, _word(shapes, look, piles, inside=inside)) for look in looks]
    known: dict[Atom, int] = {}
    for atom in atoms(shapes, group):
        said = [(look, word) for look, word in words if atom.holds(look)]
        if _agree(said, piles):
            found = {word for _, word in said if word not in (_NOTHING, _IN_VAIN)}
            known[atom] = found.pop() if found else _IN_VAIN if said and inside else _NOTHING
        else:
            known.update(_taken_apart(shapes, group, atom, said))
    sure = {atom: word for atom, word in known.items() if word not in (_NOTHING, _IN_VAIN)}
    causes: dict[Atom, int | None] = {}
    for atom, word in known.items():
        causes[atom] = None if word == _IN_VAIN else word
        if word == _NOTHING:
            causes[atom] = _likely(atom, sure, piles, matrix.probes, inside=inside)
    return causes


# What a look says of the cause, where that is not the number of a pile.
_NOTHING, _IN_VAIN = -1, -2


def _word(shapes: Shapes, look: Looked, piles: Sequence[Sequence[Looked]], *, inside: bool) -> int:
    """The pile that it is in, or would fit in alone."""
    if inside:
        own = [n for n, pile in enumerate(piles) if look in pile]
        return own[0] if own else _NOTHING if look.diagnosis.hits else _IN_VAIN
    fits = [n for n, p in enumerate(piles) if not any(contradict(shapes, look, o) for o in p)]
    return fits[0] if len(fits) == 1 else _NOTHING


def _agree(said: Sequence[tuple[Looked, int]], piles: Sequence[Sequence[Looked]]) -> bool:
    """Whether looks at some cells may all tell of one cause.

    A brief look, or one at a node whose rules merely count, may miss what another found; a trace
    that found no rule has ruled out that one which was traced ended it.
    """
    found = {word for _, word in said if word >= 0}
    if len(found) != 1:
        return not found
    (one,) = found
    return not _traced(piles[one]) or not any(w == _IN_VAIN and k.brief for k, w in said)


def _traced(pile: Sequence[Looked]) -> bool:
    sure = [hit.rule for hit in pile[0].diagnosis.hits if hit.rule.sure]
    return bool(sure) and not sure[0].tool.endswith("-legacy")


def _taken_apart(
    shapes: Shapes, group: Group, atom: Atom, said: Sequence[tuple[Looked, int]]
) -> Iterator[tuple[Atom, int]]:
    """An atom whose looks disagree, cell by cell: those that were looked at, and those that lie
    near such ones alone which agree.
    """
    by_size = group.kind.cause is Cause.SIZE and group.kind.place is Place.PATH
    side = _telling_side(said) if by_size else None
    rows = shapes.rows(group)
    left = {s: rows.get(s, 0) & atom.destinations for s in members(atom.sources)}
    looked = {(look.source, look.destination) for look, _ in said}
    if by_size and side is None and not looked >= set(pairs(left)):
        yield atom, _IN_VAIN  # told as one, with all the sizes that were found
        return
    near: dict[object, set[int]] = {}
    for look, word in said:
        left[look.source] &= ~(1 << look.destination)
        yield Atom(atom.test, 1 << look.source, 1 << look.destination, atom.rank), word
        near.setdefault(_near(shapes, group, look.source, look.destination, side), set()).add(word)
    rest: dict[int, Rows] = {}
    for source, destination in pairs(left):
        words = near.get(_near(shapes, group, source, destination, side), set())
        word = next(iter(words)) if len(words) == 1 else _IN_VAIN
        own = rest.setdefault(word, {})
        own[source] = own.get(source, 0) | 1 << destination
    for word, own in rest.items():
        for source, row in own.items():
            yield Atom(atom.test, 1 << source, row, atom.rank), word


def _telling_side(said: Sequence[tuple[Looked, int]]) -> int | None:
    """0 where it goes by the source, 1 by the destination; None where both or none would do."""
    found = []
    for side in (0, 1):
        words: dict[int, set[int]] = {}
        for look, word in said:
            words.setdefault((look.source, look.destination)[side], set()).add(word)
        if all(len(own) == 1 for own in words.values()):
            found.append(side)
    return found[0] if len(found) == 1 else None


def _near(
    shapes: Shapes, group: Group, source: int, destination: int, side: int | None = None
) -> object:
    """What cells have in common that are likely to die of one cause, if others do of another."""
    if side is not None:
        return (source, destination)[side]
    ways = {
        Place.DESTINATION: (shapes.neighbourhood(source), destination),
        Place.SOURCE: (source, shapes.neighbourhood(destination)),
    }
    return ways.get(group.kind.place) if group.kind.place in ways else source


def _likely(
    atom: Atom,
    known: Mapping[Atom, int],
    piles: Sequence[Sequence[Looked]],
    probes: Sequence[Probe],
    *,
    inside: bool,
) -> int | None:
    """The pile that speaks for an atom at which nobody looked."""
    alike = {cause for other, cause in known.items() if other.test == atom.test}
    if not alike:
        alike = set(known.values())
        if inside:
            probe = probes[atom.test.probe]
            alike = {n for n in alike if _speaks_of(piles[n][0].diagnosis, probe)}
    return alike.pop() if len(alike) == 1 else None


def _speaks_of(diagnosis: Diagnosis, probe: Probe) -> bool:
    """Whether what was found may have to do with another probe, too."""
    for hit in diagnosis.hits:
        if hit.rule.sure:
            return concerns(hit.rule, probe, hit.leg)
    reason = diagnosis.kernel and diagnosis.kernel.reason
    return reason not in _ECHO_ALONE or probe.protocol is Protocol.ICMP


def _piles(shapes: Shapes, group: Group, looks: Sequence[Looked]) -> list[list[Looked]]:
    """The looks that tell something, those together that may tell of one cause."""
    piles: list[list[Looked]] = []
    if blamed(group):
        named: dict[Hashable, list[Looked]] = {}
        for look in looks:
            if (name := culprit(look.diagnosis)) is not None:
                named.setdefault(name, []).append(look)
        return list(named.values())
    for look in looks:
        for pile in piles:
            if not any(contradict(shapes, look, other) for other in pile):
                pile.append(look)
                break
        else:
            piles.append([look])
    return piles


def culprit(diagnosis: Diagnosis) -> Hashable | None:
    """What is alike on nodes that are set up alike, for both address families, and for rules of a
    chain that differ in nothing but addresses; None where nothing is known.
    """
    for hit in diagnosis.hits:
        rule = hit.rule
        if rule.sure:
            tool, family = _SIX.sub("", rule.tool.removesuffix("-nft")), _SIX.sub("", rule.family)
            text = _WHOSE.sub(r"\g<side>\g<no>", _SIX.sub("", rule.text))
            return tool, family, rule.table, rule.chain, rule.policy, text
    return None if diagnosis.kernel is None else diagnosis.kernel.reason


# --- what happens between nodes


def contradict(shapes: Shapes, a: Looked, b: Looked) -> bool:
    """Whether two looks cannot tell of one cause."""
    first, second = a.diagnosis, b.diagnosis
    if not alike_in_length(first, second):
        return True
    marked = [
        bool(x.diagnosis.marking and x.diagnosis.marking.dropped) for x in (a, b) if not x.brief
    ]
    if len(set(marked)) > 1:
        return True
    patterns = [d.content.pattern for d in (first, second) if d.content]
    alike = a.test is None or b.test is None or a.test.probe == b.test.probe
    if alike and len(set(patterns)) > 1:
        return True
    flows = [d.flows.pattern for d in (first, second) if d.flows]
    if len({"noise" if f in _NOISE else f for f in flows if f not in _OF_ALL}) > 1:
        return True
    if FlowPattern.ALL in flows and any(f in _BY_PORT for f in flows):
        return True
    if any(map(_inspected, (first, second))) and FlowPattern.REPLIES_ONLY in flows:
        return True  # bytes are the same whatever port they come from
    ends = [_end(shapes, look) for look in (a, b)]
    return ends[0] is not None and ends[1] is not None and _apart(*ends[0], *ends[1])


def alike_in_length(a: Diagnosis, b: Diagnosis) -> bool:
    """False where the sizes that pass, or what the DF bit does, are unlike."""
    if a.size and b.size and a.size.largest != b.size.largest:
        return False
    if (a.size and b.lengths) or (a.lengths and b.size):
        return False
    if a.lengths is None or b.lengths is None:
        return True
    if bool(a.lengths.dont_fragment) != bool(b.lengths.dont_fragment):
        return False
    bits = {x.lengths.dont_fragment.passes for x in (a, b) if x.lengths and x.lengths.dont_fragment}
    pairs = [(x, y) for x in a.lengths.bands for y in b.lengths.bands]
    meet = any(x.first <= y.last and y.first <= x.last for x, y in pairs)
    return len(bits) < 2 and (meet or not pairs)


def _inspected(diagnosis: Diagnosis) -> bool:
    found = diagnosis.content
    return found is not None and found.pattern in (ContentPattern.TUNNEL, ContentPattern.INNER)


def _end(shapes: Shapes, look: Looked) -> tuple[tuple[int, int], Path] | None:
    """The subnets between which it was sent, and the path where it ends behind a router."""
    path = look.diagnosis.path
    if path is None or not path.routers or path.silent != path.routers[-1].ttl + 1:
        return None
    ends = shapes.neighbourhood(look.source), shapes.neighbourhood(look.destination)
    return (ends[::-1] if path.back else ends), path


def _apart(way: tuple[int, int], a: Path, other: tuple[int, int], b: Path) -> bool:
    """Whether two flows end behind different routers.

    A router has an address for each side, so that only numbers can be compared: on the same way,
    or on the way back where its length is known.
    """
    if way[0] == other[0]:
        return a.routers[-1].ttl != b.routers[-1].ttl
    if way == other[::-1] and a.distance is not None and a.distance == b.distance:
        return a.routers[-1].ttl != a.distance + 1 - b.routers[-1].ttl
    return False


# --- the parts


def _groups(matrix: Matrix, shapes: Shapes, group: Group, own: Sequence[Atom]) -> Iterator[Group]:
    """The atoms as few groups."""
    shared: dict[tuple[tuple[int, int], ...], list[FamilyProbe]] = {}
    for test in group.tests:
        ways = _merged((a.sources, a.destinations) for a in own if a.test == test)
        if ways:
            shared.setdefault(tuple(sorted(ways)), []).append(test)
    for blocks, tests in shared.items():
        for sources, destinations in blocks:
            back = (destinations, sources) in blocks and sources != destinations
            if back and (destinations, sources) < (sources, destinations):
                continue  # told with its way there
            part = group._replace(
                tests=tuple(tests),
                sources=tuple(members(sources)),
                destinations=tuple(members(destinations)),
                both_ways=back,
            )
            if cells := list(pairs(shapes.rows(part))):
                yield told(matrix, shapes, group, part, cells)


def told(
    matrix: Matrix,
    shapes: Shapes,
    group: Group,
    part: Group,
    cells: Sequence[tuple[int, int]],
) -> Group:
    """A part with its own words and numbers."""
    test = part.tests[0]
    required = any(matrix.probes[t.probe].severity is Severity.REQUIRED for t in part.tests)
    index = matrix.index(matrix.families.index(test.family), test.probe, *cells[0])
    outcome = matrix.outcome(index)
    assert outcome is not None  # it was planned
    sides = (part.sources, part.destinations, part.both_ways)
    where = group.where
    if sides != (group.sources, group.destinations, group.both_ways):
        where = shapes.way(*(sum(1 << n for n in side) for side in sides[:2]))
        where = where.replace(" → ", " ↔ ") if part.both_ways else where
    return part._replace(
        severity=Severity.REQUIRED if required else Severity.RECOMMENDED,
        where=where,
        pairs=len(cells),
        cells=len(cells) * len(part.tests),
        sample=group.sample._replace(
            source=cells[0][0],
            destination=cells[0][1],
            probe=test.probe,
            family=test.family,
            outcome=outcome,
        ),
    )


def _merged(ways: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Blocks as few as they can be told, every source to every destination still."""
    found = list(dict.fromkeys(ways))
    for side in (1, 0):
        joined: dict[int, int] = {}
        for way in found:
            joined[way[1 - side]] = joined.get(way[1 - side], 0) | way[side]
        found = [(a, b) if side else (b, a) for a, b in joined.items()]
    return found
