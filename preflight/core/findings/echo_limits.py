"""ICMP echo that is limited to a rate: many a site's policy, on routers and on nodes.

Rules of this file:
1. That a cell lost everything proves no limit. That packets of a cell which lost everything pass
   when few are sent is one: what blocks it does so no longer where there is less of it.
2. Between the nodes it is a limit on ICMP only where all else of the same pairs passes.
3. Cells that no packet ever passed share in a limit that is proven for others as long as its share
   of passing packets makes that likely; more of them than that are a block of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from preflight.core.diagnosis.chance import RARE
from preflight.core.diagnosis.conclusions import Diagnosis, Router
from preflight.core.findings import limits
from preflight.core.findings.atoms import Looked, at, atoms, blamed
from preflight.core.findings.evidence import evidence
from preflight.core.findings.extents import extents, pairs_in_words
from preflight.core.findings.made import Made
from preflight.core.findings.mend import Mending, mend
from preflight.core.findings.model import Block, Cause, Finding
from preflight.core.findings.overlay import ours
from preflight.core.findings.rule_words import rule_in_words
from preflight.core.findings.samples import Sample
from preflight.core.findings.shapes import Shapes, pairs, union
from preflight.core.findings.split import regrouped
from preflight.core.groups import FamilyProbe, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Outcome, Place, Protocol, Severity, Verdict
from preflight.core.naming import members
from preflight.core.terms import listed

_BAD = (Verdict.BLOCKED, Verdict.LOSSY)
# Cells that are asked quietly: one of each family inside a node, and one between nodes, as routers
# count all that comes, answers as well.
_NODES, _PATHS = 3, 1
_CONSIDERED = 64  # pairs of a group

Looks = Mapping[int, Sequence[Looked]]


class Limited(NamedTuple):
    """What a limit on ICMP echo explains."""

    made: list[Made]
    left: list[tuple[int, Group]]  # what it does not explain, with what group that is of


# --- which cells are asked


def quiet(
    matrix: Matrix, shapes: Shapes, groups: Sequence[Group], looks: Looks, usable: set[int]
) -> list[tuple[int, Sample]]:
    """Cells to ask once more with two packets each, when nobody else asks; with their groups."""
    out: list[tuple[int, Sample]] = []
    sources: set[int] = set()
    asked: Counter[object] = Counter()
    ranked = sorted(enumerate(groups), key=lambda entry: -entry[1].cells)
    some = any(g.kind.verdict is Verdict.LOSSY and _of_path(shapes, g) for g in groups)
    for position, group in ranked:
        if ours(matrix, group) or not _may_be(shapes, group, looks.get(position, ())):
            continue
        if group.kind.verdict is not Verdict.BLOCKED or any(_passes(looks.get(position, ()))):
            continue
        on_path = group.kind.place is Place.PATH
        if on_path and not (some or _partly(matrix, shapes, group)):
            continue
        for source, destination in islice(pairs(shapes.rows(group)), _CONSIDERED):
            place: object = "path" if on_path else (destination, group.tests[0].family)
            room = asked[place] < (_PATHS if on_path else 1)
            nodes = len(asked) - ("path" in asked) < _NODES or place in asked
            if not room or not (on_path or nodes) or source in sources or source not in usable:
                continue
            if destination not in usable or not (
                on_path or _others_pass(matrix, group.tests[0], destination)
            ):
                continue
            sources.add(source)
            asked[place] += 1
            test = group.tests[0]
            sample = Sample(source, destination, *test, group.kind, brief=True, quiet=True)
            out.append((position, sample))
            if on_path:
                break
    return out


def _may_be(shapes: Shapes, group: Group, looks: Sequence[Looked]) -> bool:
    """Whether its cells are ICMP's alone, and lost where a limit may be, for no known reason."""
    kind = group.kind
    if any(shapes.protocol(test) is not Protocol.ICMP for test in group.tests):
        return False
    if kind.verdict not in _BAD or kind.cause not in (CellCause.DROPPED, CellCause.REJECTED):
        return False
    if any(look.diagnosis.kernel is not None for look in looks):
        return False
    if any(limits.limits(hit.rule) for look in looks for hit in look.diagnosis.hits):
        return False  # the rule tells it
    if kind.place is Place.PATH:
        sure = any(hit.rule.sure for look in looks for hit in look.diagnosis.hits)
        return not sure and kind.cause is CellCause.DROPPED
    return (kind.place, kind.leg) == (Place.DESTINATION, Leg.FORWARD)


def _of_path(shapes: Shapes, group: Group) -> bool:
    return group.kind.place is Place.PATH and _may_be(shapes, group, ())


def _partly(matrix: Matrix, shapes: Shapes, group: Group) -> bool:
    """Whether between the same neighbourhoods echo passes somewhere."""
    (test, *_), ways = group.tests, shapes.ways(group)
    near = shapes.neighbourhoods
    return any(
        _passed(matrix, test, s, d) for here, there in ways
        for s in members(near[here]) for d in members(near[there])
    )  # fmt: skip


def _others_pass(matrix: Matrix, test: FamilyProbe, destination: int) -> bool:
    return any(_passed(matrix, test, s, destination) for s in range(len(matrix.nodes)))


def _passed(matrix: Matrix, test: FamilyProbe, source: int, destination: int) -> bool:
    outcome = _outcome(matrix, test, source, destination)
    return outcome is not None and outcome.verdict in (Verdict.OPEN, Verdict.LOSSY)


def _outcome(matrix: Matrix, test: FamilyProbe, source: int, destination: int) -> Outcome | None:
    if source == destination:
        return None
    family = matrix.families.index(test.family)
    return matrix.outcome(matrix.index(family, test.probe, source, destination))


def _passes(looks: Sequence[Looked]) -> Iterator[bool]:
    """Of each look, whether anything like the probe got past where the probe is lost."""
    for look in looks:
        if look.diagnosis.passing is not None:
            yield look.diagnosis.passing.passed > 0


# --- what they prove


def limited(matrix: Matrix, shapes: Shapes, groups: Sequence[Group], looks: Looks) -> Limited:
    """A finding for each limit, and the groups that none explains."""
    may = {
        i: g
        for i, g in enumerate(groups)
        if not ours(matrix, g) and _may_be(shapes, g, looks.get(i, ()))
    }
    explained: set[int] = set()
    made: list[Made] = []
    left: list[tuple[int, Group]] = []
    for family in matrix.families:
        on_path = {
            i: g for i, g in may.items()
            if g.tests[0].family is family and g.kind.place is Place.PATH
            and _else_open(matrix, shapes, g)
        }  # fmt: skip
        own = _on_the_path(matrix, shapes, on_path, looks)
        if own:
            explained.update(own)
            made.append(_of_path_finding(matrix, shapes, [groups[i] for i in own], own, looks))
    shared: dict[int, list[tuple[int, Group]]] = {}
    inside = {i: g for i, g in may.items() if g.kind.place is Place.DESTINATION}
    for i, group in inside.items():
        alike = [n for n, g in inside.items() if set(g.tests) & set(group.tests)]
        proven = _proven([look for n in alike for look in looks.get(n, ())])
        limit, rest = _by_node(matrix, shapes, group, proven)
        if limit:
            explained.add(i)
            left += [(i, part) for part in rest]
        for part in limit:
            (node,) = blamed(part)
            shared.setdefault(node, []).append((i, part))
    for node, parts in shared.items():
        made.append(_of_node(matrix, shapes, node, parts, looks))
    left += [(i, group) for i, group in enumerate(groups) if i not in explained]
    return Limited(made, sorted(left, key=lambda entry: entry[0]))


def _else_open(matrix: Matrix, shapes: Shapes, group: Group) -> bool:
    """Whether all that is no ICMP passes at each of its pairs, without a loss."""
    family = group.tests[0].family
    others = [
        FamilyProbe(p, family)
        for p, probe in enumerate(matrix.probes)
        if probe.protocol is not Protocol.ICMP and not probe.overlay
    ]
    return bool(others) and all(
        (outcome := _outcome(matrix, test, s, d)) is not None and outcome.verdict is Verdict.OPEN
        for test in others
        for s, d in pairs(shapes.rows(group))
    )


def _on_the_path(
    matrix: Matrix, shapes: Shapes, may: Mapping[int, Group], looks: Looks
) -> list[int]:
    """The groups that one limit explains; none where it is not proven."""
    proven = [i for i, g in may.items()
              if g.kind.verdict is Verdict.BLOCKED and any(_passes(looks.get(i, ())))]  # fmt: skip
    if not proven:
        return []
    sent, passed = _counts(matrix, shapes, list(may.values()))
    for i in may:
        for look in looks.get(i, ()):
            if look.quiet and look.diagnosis.passing is not None:
                sent += look.diagnosis.passing.sent
                passed += look.diagnosis.passing.passed
    share = passed / sent if sent else 0.0

    def likely(i: int, group: Group) -> bool:
        if i in proven or group.kind.verdict is Verdict.LOSSY:
            return True
        own, _ = _counts(matrix, shapes, [group])
        return (1 - share) ** own >= RARE

    return [i for i, group in may.items() if likely(i, group)]


def _counts(matrix: Matrix, shapes: Shapes, groups: Sequence[Group]) -> tuple[int, int]:
    """Passing that left, and those that were answered, of all cells."""
    left = received = 0
    for group in groups:
        for test in group.tests:
            for s, d in pairs(shapes.rows(group)):
                outcome = _outcome(matrix, test, s, d)
                if outcome is not None and outcome.evidence.left is not None:
                    left += outcome.evidence.left
                    received += min(outcome.evidence.received or 0, outcome.evidence.left)
    return left, received


def _proven(looks: Sequence[Looked]) -> set[int]:
    """The nodes inside which a look saw echo pass after all."""
    return {look.destination for look in looks if any(_passes([look]))}


def _by_node(
    matrix: Matrix, shapes: Shapes, group: Group, nodes: set[int]
) -> tuple[list[Group], list[Group]]:
    """What of a group is inside these nodes, each by itself, and all the rest."""
    every = atoms(shapes, group)
    own = [node for node in blamed(group) if node in nodes]
    inside = [[atom for atom in every if atom.destinations == 1 << node] for node in own]
    rest = [atom for atom in every if atom.destinations not in {1 << node for node in own}]
    return (
        [part for some in inside for part in regrouped(matrix, shapes, group, some)],
        list(regrouped(matrix, shapes, group, rest)) if rest else [],
    )


# --- in words


def _looked(every: Sequence[Looked]) -> tuple[list[Looked], list[Looked]]:
    """Those of the first looks, and those that show that it passes."""
    passing = [look for look in every if any(_passes([look]))]
    passing.sort(key=lambda look: not look.quiet)
    return [look for look in every if not look.quiet], passing


def _seen(matrix: Matrix, looks: Sequence[Looked]) -> Iterator[str]:
    for look in looks[:2]:
        echoes = look.diagnosis.passing
        if echoes is not None:
            pair = f"{matrix.nodes[look.source].name} → {matrix.nodes[look.destination].name}"
            when = "when few others were sent" if look.quiet else "in the closer look"
            yield (
                f"echo {pair}: nothing got through while all nodes sent, and {echoes.passed} of "
                f"{echoes.sent} a moment later, {when}"
            )


def _finding(shapes: Shapes, groups: Sequence[Group], title: str, where: str) -> Finding:
    tests = tuple(
        sorted({t for g in groups for t in g.tests}, key=lambda t: (t.family, t.probe))
    )  # fmt: skip
    sample = groups[0].sample
    return Finding(
        identifier="",
        cause=Cause.RATE_LIMIT,
        severity=min((g.severity for g in groups), key=list(Severity).index),
        title=title,
        kinds=tuple(dict.fromkeys(g.kind for g in groups)),
        tests=tests,
        blocks=tuple(
            dict.fromkeys(
                Block(g.sources, g.destinations, g.both_ways, g.where, g.tests) for g in groups
            )
        ),
        where=where,
        pairs=sum(row.bit_count() for row in union(map(shapes.rows, groups)).values()),
        cells=sum(g.cells for g in groups),
        nodes=(),
        evidence=(),
        diagnosis=None,
        sample=(sample.source, sample.destination),
        changes=(),
        requests=(),
        advice="",
        unknown=(),
    )


def _of_path_finding(
    matrix: Matrix, shapes: Shapes, groups: Sequence[Group], own: Sequence[int], looks: Looks
) -> Made:
    groups = sorted(groups, key=lambda g: (g.kind.verdict is not Verdict.BLOCKED, -g.cells))
    first, passing = _looked([look for i in own for look in looks.get(i, ())])
    where = pairs_in_words(extents(shapes, groups))
    sent, came = _counts(matrix, shapes, groups)
    what = listed(dict.fromkeys(shapes.traffic(t) for g in groups for t in g.tests))
    router = _last(shapes, groups, first)
    after = f", at {router.address} (hop {router.ttl}) or after it" if router else ""
    title = (
        f"{where}: something on the path limits {what}{after}: of {sent:,} packets {came:,} were "
        "answered"
    )
    types = "128 and 129" if groups[0].tests[0].family is Family.IPV6 else "8 and 0"
    advice = (
        f"Ask who runs the network for a limit on ICMP (a policer, storm control, control-plane or "
        f"DoS protection) and to raise it, or to exempt echo (types {types}) between the nodes: "
        "Cilium's health checks ping every node from every other. It is allowed already: what it "
        "lacks is room, not a rule."
    )
    unknown = () if after else ("which device limits it: no one router was the last on every way",)
    found = _finding(shapes, groups, title, where)._replace(
        evidence=(
            *_seen(matrix, passing),
            "all other probes of these pairs pass, and none is lost",
            *evidence(matrix, groups, ()),
        ),
        advice=advice,
        unknown=unknown,
        diagnosis=passing[0].diagnosis if passing else None,
        sample=(passing[0].source, passing[0].destination),
    )
    return Made(found, [Diagnosis()])


def _last(shapes: Shapes, groups: Sequence[Group], looks: Sequence[Looked]) -> Router | None:
    """The router that answers last on the ways from all its sources; None where that is not one."""
    paths = [(look.source, look.diagnosis.path) for look in looks]
    told = [(s, path.routers[-1]) for s, path in paths if path and path.routers and not path.back]
    routers = {router for _, router in told}
    known = {shapes.neighbourhood(source) for source, _ in told}
    every = {shapes.neighbourhood(s) for g in groups for s, _ in pairs(shapes.rows(g))}
    return routers.pop() if len(routers) == 1 and known == every else None


def _of_node(
    matrix: Matrix, shapes: Shapes, node: int, own: Sequence[tuple[int, Group]], looks: Looks
) -> Made:
    groups = [group for _, group in own]
    first, passing = _looked(
        [look for i, group in own for look in at(shapes, group, looks.get(i, ()))]
    )
    diagnoses = [look.diagnosis for look in first]
    hits = [hit for d in diagnoses for hit in d.hits if hit.rule.sure and hit.node == node]
    where = pairs_in_words(extents(shapes, groups))
    every_test = {t for group in groups for t in group.tests}
    tests = tuple(sorted(every_test, key=lambda t: (t.family, t.probe)))
    what = listed(dict.fromkeys(map(shapes.traffic, tests)))
    name = shapes.name([node])
    rest = ""
    if hits:
        ends = "rejected" if hits[0].rule.rejects else "dropped"
        rest = f": what is too much is {ends} by {rule_in_words(hits[0].rule)}"
    every = tuple(range(len(matrix.nodes)))
    all_to = (Block(every, (node,), False, where, tests),)
    change = Mending()
    if hits:
        change = mend(matrix, Cause.RULE, groups[0], tests, all_to, diagnoses, {}, (node,))
    named = "or raise that limit" if hits else f"raise what accepts {what} at a rate"
    advice = (
        f"{name}: {named} (nft list ruleset, iptables-save: limit, hashlimit): Cilium's health "
        "checks ping every node from every other."
    )
    found = _finding(shapes, groups, f"{name} itself limits {what}{rest}", where)._replace(
        nodes=(node,),
        evidence=(*_seen(matrix, passing), *evidence(matrix, groups, first)),
        changes=change.changes,
        advice=" ".join(filter(None, (change.advice, advice))),
        diagnosis=diagnoses[0] if diagnoses else None,
        sample=(passing[0].source, passing[0].destination),
    )
    return Made(found, diagnoses)
