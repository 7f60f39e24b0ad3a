"""One group of cells, by what closer looks say of its parts.

Rules of this file:
1. Cells that look alike may die of unlike causes: two rules of one node, two routers. A group is
   cut where looks at two of its parts contradict each other, and nowhere else.
2. Where nobody looked, what was found for the same test goes for all; but no rule is laid to
   packets of which its own words do not speak, nor to a node that was searched in vain.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.cover import cover
from preflight.core.detail import finds_nobody, ran_out
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.atoms import Atom, Looked, Part, at, atoms, blamed, told
from preflight.core.findings.concerns import concerns, may_be_from, names_addresses
from preflight.core.findings.contradictions import contradict, culprit
from preflight.core.findings.shapes import Rows, Shapes, pairs, union
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Leg, Outcome, Place, Probe, Protocol
from preflight.core.naming import members

_MOST_COMPARED = 4096  # cells of a group, with what a rule says of addresses
_UNTOLD = -1  # cells on the path that no look speaks for: nothing tells them from each other
_ECHO_ALONE = (Reason.ECHO_IGNORED, Reason.ECHO_LIMITED)


def split(matrix: Matrix, shapes: Shapes, group: Group, looks: Sequence[Looked]) -> list[Part]:
    """The group as it is, or its parts."""
    piles = _piles(shapes, group, looks)
    causes = _causes(matrix, shapes, group, looks, piles)
    if len(set(causes.values())) < 2:
        return [Part(group, list(looks))]
    out: list[Part] = []
    for cause in dict.fromkeys(causes.values()):
        own = [atom for atom in causes if causes[atom] == cause]
        parts = [
            Part(part, at(shapes, part, looks, group.tests[0]), cause)
            for part in regrouped(matrix, shapes, group, own)
        ]
        told = any(not look.brief or look.diagnosis.path for p in parts for look in p.looks)
        if cause is None and group.kind.place is Place.PATH and not told:
            parts = [part._replace(cause=_UNTOLD) for part in parts]
        out += parts
    return out


def by_error(matrix: Matrix, shapes: Shapes, group: Group) -> list[Group]:
    """The group, cut where one address says unlike things of its cells: refused, a TTL that ran
    out, nobody found.
    """
    kind = group.kind
    alike = [o for o in matrix.table if o is not None and tuple(o[:4]) == tuple(kind[:4])]
    if kind.cause is not Cause.REJECTED or len({_says(outcome) for outcome in alike}) < 2:
        return [group]
    found: dict[Hashable, list[Atom]] = {}
    for test in group.tests:
        family = matrix.families.index(test.family)
        rows: dict[Hashable, Rows] = {}
        for source, destination in pairs(shapes.rows(group)):
            outcome = matrix.outcome(matrix.index(family, test.probe, source, destination))
            own = rows.setdefault(outcome and _says(outcome), {})
            own[source] = own.get(source, 0) | 1 << destination
        for word, own in rows.items():
            found.setdefault(word, []).extend(Atom(test, 1 << s, r, 0) for s, r in own.items())
    if len(found) < 2:
        return [group]
    return [part for own in found.values() for part in regrouped(matrix, shapes, group, own)]


def _says(outcome: Outcome) -> Hashable:
    return ran_out(outcome), finds_nobody(outcome)


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
        if _agree(said, piles, inside=inside):
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
    return dict(_as_spoken(matrix, shapes, group, causes, piles)) if inside else causes


def _as_spoken(
    matrix: Matrix,
    shapes: Shapes,
    group: Group,
    causes: Mapping[Atom, int | None],
    piles: Sequence[Sequence[Looked]],
) -> Iterator[tuple[Atom, int | None]]:
    """The same, but for cells at which nobody looked between addresses of which the rules that were
    found do not speak.
    """
    rows, room = shapes.rows(group), _MOST_COMPARED
    for atom, cause in causes.items():
        rules = [] if cause is None else _own_addresses(matrix, piles[cause])
        if not rules or room <= 0:
            yield atom, cause
            continue
        left = {s: rows.get(s, 0) & atom.destinations for s in members(atom.sources)}
        cells = list(pairs(left))
        room -= len(cells)
        others = [
            (s, d)
            for s, d in (cells if room >= 0 else ())
            if not any(one.holds(matrix, s, d, atom.test) for one in rules)
        ]
        looked = {(look.source, look.destination) for pile in piles for look in pile}
        others = [pair for pair in others if pair not in looked]
        if not others:
            yield atom, cause
            continue
        for source, destination in others:
            left[source] &= ~(1 << destination)
            yield Atom(atom.test, 1 << source, 1 << destination, atom.rank), None
        for source, row in left.items():
            if row:
                yield Atom(atom.test, 1 << source, row, atom.rank), cause


class _Spoken(NamedTuple):
    """A rule that names addresses, and on which leg it was met."""

    rule: Rule
    leg: str

    def holds(self, matrix: Matrix, source: int, destination: int, test: FamilyProbe) -> bool:
        here, there = (matrix.nodes[n].address_in(test.family) for n in (source, destination))
        if here is None or there is None:
            return True
        ends = (there, here) if self.leg == Leg.REPLY else (here, there)
        return may_be_from(self.rule, *ends)


def _own_addresses(matrix: Matrix, pile: Sequence[Looked]) -> list[_Spoken]:
    """The rules that surely ended what these looks sent, where all of them name addresses; none
    where one of them seems to have met others than the nodes' own.
    """
    found = []
    for look in pile:
        for hit in look.diagnosis.hits:
            if not hit.rule.sure:
                continue
            one = _Spoken(hit.rule, hit.leg)
            if hit.of_discovery or look.test is None or not names_addresses(hit.rule):
                return []
            if not one.holds(matrix, look.source, look.destination, look.test):
                return []
            found.append(one)
    return found


# What a look says of the cause, where that is not the number of a pile.
_NOTHING, _IN_VAIN = -1, -2


def _word(shapes: Shapes, look: Looked, piles: Sequence[Sequence[Looked]], *, inside: bool) -> int:
    """The pile that it is in, or would fit in alone."""
    if inside:
        own = [n for n, pile in enumerate(piles) if look in pile]
        return own[0] if own else _NOTHING if look.diagnosis.hits else _IN_VAIN
    if look.brief and look.diagnosis.path is None:
        return _IN_VAIN  # it was asked twice, and did not say the same
    fits = [n for n, p in enumerate(piles) if not any(contradict(shapes, look, o) for o in p)]
    return fits[0] if len(fits) == 1 else _NOTHING


def _agree(
    said: Sequence[tuple[Looked, int]], piles: Sequence[Sequence[Looked]], *, inside: bool
) -> bool:
    """Whether looks at some cells may all tell of one cause.

    A brief look, or one at a node whose rules merely count, may miss what another found; a trace
    that found no rule has ruled out that one which was traced ended it.
    """
    found = {word for _, word in said if word >= 0}
    if len(found) != 1:
        return not found
    (one,) = found
    in_vain = any(word == _IN_VAIN and look.brief for look, word in said)
    return not in_vain or (inside and not _traced(piles[one]))


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


# --- the parts


def regrouped(matrix: Matrix, shapes: Shapes, group: Group, own: Sequence[Atom]) -> Iterator[Group]:
    """The atoms as few groups."""
    shared: dict[tuple[tuple[int, int], ...], list[FamilyProbe]] = {}
    full = (1 << len(matrix.nodes)) - 1
    for test in group.tests:
        rows = union(dict.fromkeys(members(atom.sources), atom.destinations)
                     for atom in own if atom.test == test)  # fmt: skip
        if rows:
            ways = cover(rows, [full] * len(matrix.nodes), ())
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
