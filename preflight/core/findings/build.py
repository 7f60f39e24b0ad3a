"""Findings from a matrix, what closer looks found out, and the hazards that facts tell of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern, RewrittenField
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.findings import nobody, refusals, size_words
from preflight.core.findings.absent import absent
from preflight.core.findings.atoms import Looked, Part, at, blamed
from preflight.core.findings.blame import blame, rules
from preflight.core.findings.causes import Origin, causes
from preflight.core.findings.concerns import ended_by
from preflight.core.findings.delivery import undelivered
from preflight.core.findings.detours import Detours, by_hops
from preflight.core.findings.echo_limits import limited
from preflight.core.findings.evidence import evidence, sized
from preflight.core.findings.extents import extents, pairs_in_words
from preflight.core.findings.made import Made
from preflight.core.findings.mend import Mending, expires_by_source, marks_itself, mend
from preflight.core.findings.model import Block, Cause, Finding
from preflight.core.findings.overlay import ours, with_overlay
from preflight.core.findings.overlay_words import Context
from preflight.core.findings.reset_words import resets_alone, with_doubt
from preflight.core.findings.reverse import by_routes
from preflight.core.findings.served import ITS_ANSWER_TOLD, WITH_HELLO, answers, told
from preflight.core.findings.shapes import Shapes, union
from preflight.core.findings.split import by_error, split
from preflight.core.findings.subject import Subject, carried
from preflight.core.findings.titles import title
from preflight.core.findings.unfound import cut, hidden, lacks
from preflight.core.findings.unheard import heard, with_heard
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Place, Protocol, Severity, Verdict
from preflight.core.terms import traffics

# Protocol numbers and senders of packets that came to a node and were meant for another.
Astray = Mapping[int, set[tuple[int, str]]]
_NUMBERS = {
    (protocol, family): number
    for protocol, numbers in (
        (Protocol.UDP, (17, 17)), (Protocol.TCP, (6, 6)), (Protocol.ICMP, (1, 58))
    )
    for family, number in zip((Family.IPV4, Family.IPV6), numbers, strict=True)
}  # fmt: skip
_BY_FILTERS = (Cause.NETWORK, Cause.RULE, Cause.NODE_FIREWALL)
_WORST_FIRST = (Verdict.BLOCKED, Verdict.LOSSY, Verdict.CLOSED, Verdict.UNKNOWN)


def findings(
    matrix: Matrix,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]] | None = None,
    astray: Astray | None = None,
    mtus: Mapping[tuple[int, Family], int] | None = None,
    context: Context | None = None,
    proven: Sequence[Finding] = (),
    agentless: Collection[int] = (),
    detours: Detours | None = None,
) -> list[Finding]:
    """The fewest statements that explain every cell that is not open, what matters most first.

    `groups` are `core.groups.groups` of the matrix; `looks` go by a group's position; `astray`
    goes by the node to which packets came that were meant for another; `mtus` those of the nodes'
    devices, `context` what is known of the overlay; `proven` are findings about all cells that are
    in no group; `agentless` are the nodes that have no agent,
    `detours` the ways that nodes take by other nodes, or by gateways of their own.
    """
    shapes = Shapes(matrix)
    limit = limited(matrix, shapes, groups, looks or {})
    looks = {i: [look for look in own if not look.quiet] for i, own in (looks or {}).items()}
    pieces = [
        (position, part)
        for position, group in limit.left
        if not ours(matrix, group)
        for part in _parts(
            matrix,
            shapes,
            group,
            at(shapes, group, looks.get(position, ()), groups[position].tests[0]),
        )
    ]
    parts = [part for _, part in pieces]
    told = {i: part.looks for i, part in enumerate(parts) if part.looks}
    own = [part.group for part in parts]
    instead = [_instead(matrix, part, astray or {}) for part in own]
    least = _narrowest(parts, mtus or {})
    together = [
        [parts[i] for i in positions]
        for positions in causes(
            shapes, own, told, [Origin(position, part.cause) for position, part in pieces], instead
        )
    ]
    made = [
        Made(
            _finding(matrix, shapes, same, astray or {}, mtus or {}, least, agentless),
            [look.diagnosis for part in same for look in part.looks],
        )
        for same in together
    ]
    made += limit.made
    made = by_hops(matrix, shapes, undelivered(matrix, shapes, made), detours or {})
    found = by_routes(matrix, shapes, proven, made)
    routers = heard(look for own in looks.values() for look in own)
    names = [node.name for node in matrix.nodes]
    found = [with_heard(finding, names, routers) for finding in found]
    found = with_overlay(matrix, shapes, found, context or Context())
    found.sort(key=_importance)
    return [f._replace(identifier=f"F{n}") for n, f in enumerate(found, 1)]


def _parts(matrix: Matrix, shapes: Shapes, group: Group, looks: Sequence[Looked]) -> Iterator[Part]:
    """The group, cut where its cells have unlike causes."""
    brief = [look for look in looks if look.brief]
    unlike = by_error(matrix, shapes, group)
    if len(unlike) > 1:
        for one in unlike:
            yield from _parts(matrix, shapes, one, at(shapes, one, looks, group.tests[0]))
        return
    pieces = cut(matrix, shapes, group, [look for look in looks if not look.brief])
    yield from pieces.explained
    for rest in pieces.rest:
        own = [*rest.looks, *at(shapes, rest.group, brief)]
        yield from split(matrix, shapes, rest.group, own)


def _finding(
    matrix: Matrix,
    shapes: Shapes,
    parts: Sequence[Part],
    astray: Astray,
    mtus: Mapping[tuple[int, Family], int],
    least: int,
    agentless: Collection[int],
) -> Finding:
    parts = sorted(parts, key=lambda part: _rank(part.group))
    own = [part.group for part in parts]
    looked = sorted((look for part in parts for look in part.looks), key=lambda look: look.brief)
    diagnoses = [look.diagnosis for look in looked]
    group = own[0]
    cause = blame(group, diagnoses)
    on_the_path = cause in (Cause.NETWORK, Cause.INTERCEPTED)
    instead = _instead(matrix, group, astray) if on_the_path else ()
    own_doing = cause is Cause.NETWORK and any(d.readdressed for d in diagnoses)
    in_its_name = on_the_path and any(d.path and d.path.as_destination for d in diagnoses)
    if (
        instead
        or own_doing
        or in_its_name
        or (cause is Cause.NETWORK and any(map(_another_port, diagnoses)))
    ):
        cause = Cause.TRANSLATION
    hits = list(rules(diagnoses))
    tests = tuple(
        sorted({test for g in own for test in g.tests}, key=lambda t: (t.family, t.probe))
    )
    missing = absent(shapes, own, agentless) if cause is Cause.NO_AGENT else None
    parts_of = extents(shapes, own)
    where = missing.where if missing else pairs_in_words(parts_of)
    what = traffics(ended_by(hits, diagnoses, tests, matrix.probes), matrix.probes)
    names = [node.name for node in matrix.nodes]
    nodes = _nodes(own, hits, diagnoses)
    if cause is Cause.NEIGHBOUR:  # nobody knows why, but perhaps who
        nodes = sorted({lack.node for d in diagnoses for lack in lacks(d)})
    if cause is Cause.NETWORK:
        nodes += sorted({look.source for look in looked if expires_by_source(look.diagnosis)})
        nodes += sorted({look.source for look in looked if marks_itself(look.diagnosis)})
    rejecters = list(dict.fromkeys(_rejecters(matrix, own, looked)))
    guilty = shapes.name(nodes) if nodes else ""
    owners = {address: node.name for node in matrix.nodes for address in node.addresses}
    subject = Subject(_loud(own), where, what, names, guilty, hits, diagnoses, rejecters, owners)
    subject = subject._replace(
        sized=sized(matrix, group, looked),
        instead=shapes.name(instead) if instead else "",
        agentless=missing.who if missing else "",
        extents=parts_of,
        resets=cause in _BY_FILTERS and resets_alone(shapes, own),
    )
    of_data = all(g.kind.cause in (CellCause.DATA, CellCause.NOT_ANSWERING) for g in own)
    hellos = list(answers(matrix, own)) if cause in WITH_HELLO or of_data else []
    subject = subject._replace(
        hellos=[hello for hello, _ in hellos],
        carried=carried([hello for hello, _ in hellos]) if of_data else "",
    )
    small: dict[int, int] = _small_devices(own, mtus) if cause is Cause.SIZE else {}
    if small:
        nodes = sorted(small)
        subject = subject._replace(guilty=shapes.name(nodes), small=min(small.values()))
    sought = nobody.sought(shapes, own, owners) if cause is Cause.NETWORK else []
    blocks = tuple(
        dict.fromkeys(Block(g.sources, g.destinations, g.both_ways, g.where, g.tests) for g in own)
    )
    inside = tuple(
        sorted({n for part in parts for n in hidden(part.group, part.looks) or blamed(part.group)})
    )
    telling = max(looked, key=_weight, default=None)
    mending = mend(matrix, cause, group, tests, blocks, diagnoses, small, inside, least)
    if subject.resets:
        mending = with_doubt(shapes, cause, own, mending)
    said = title(cause, subject)
    if sought:
        speakers = [r for r in rejecters if r not in (BY_THE_SOURCE, BY_THE_DESTINATION)]
        said = nobody.title(where, shapes.name(sought), speakers, tests[0].family)
        mending = Mending(advice=nobody.advice(shapes.name(sought), speakers, tests[0].family))
    return Finding(
        identifier="",
        cause=cause,
        severity=min((g.severity for g in own), key=list(Severity).index),
        title=said,
        kinds=tuple(dict.fromkeys(g.kind for g in own)),
        tests=tests,
        blocks=blocks,
        where=where,
        pairs=sum(row.bit_count() for row in union(shapes.rows(g) for g in own).values()),
        cells=sum(g.cells for g in own),
        nodes=tuple(nodes),
        evidence=(
            *(told(matrix, hellos) if cause in ITS_ANSWER_TOLD else ()),
            *evidence(matrix, own, _told_at_length(looked)),
        ),
        diagnosis=None if telling is None else telling.diagnosis,
        sample=_sample(group) if telling is None else (telling.source, telling.destination),
        changes=mending.changes,
        requests=mending.requests,
        advice=mending.advice,
        unknown=(
            *_unknown(cause, diagnoses, mending),
            *_strangers(rejecters, owners, diagnoses),
            *refusals.untold(shapes, own),
        ),
    )


def _loud(own: Sequence[Group]) -> Group:
    """Of a finding's groups the one that its title tells of: who refuses is heard, and what ends
    probes as well is not told of answers alone.
    """
    loud = next((g for g in own if g.kind.cause is CellCause.REJECTED), own[0])
    if loud.kind.leg is Leg.REPLY:
        loud = next((g for g in own if g.kind[:2] == (loud.kind.verdict, Leg.FORWARD)), loud)
    return loud


def _told_at_length(looked: Sequence[Looked]) -> list[Looked]:
    """The looks, of brief ones the rules alone where others tell the rest."""
    if all(look.brief for look in looked):
        return list(looked)
    return [
        look._replace(diagnosis=Diagnosis(hits=look.diagnosis.hits)) if look.brief else look
        for look in looked
    ]


def _narrowest(parts: Sequence[Part], mtus: Mapping[tuple[int, Family], int]) -> int:
    """The largest packet that all paths take on which packets are lost for their size; 0 where
    that is not known.
    """
    sized = [part for part in parts if part.group.kind.cause is CellCause.SIZE]
    small = [mtu for part in sized for mtu in _small_devices([part.group], mtus).values()]
    known = size_words.narrowest(
        ((look.test or part.group.tests[0]).family, look.diagnosis)
        for part in parts
        for look in part.looks
    )
    return min((size for size in (known, *small) if size), default=0)


def _small_devices(
    groups: Sequence[Group], mtus: Mapping[tuple[int, Family], int]
) -> dict[int, int]:
    """The destinations that take less than all their sources send, with their MTU."""
    small: dict[int, int] = {}
    for group in groups:
        for family in {test.family for test in group.tests}:
            sends = [mtus.get((s, family), 0) for s in group.sources]
            takes = [mtus.get((d, family), 0) for d in group.destinations]
            if group.both_ways or not all(sends) or not all(takes) or max(takes) >= min(sends):
                return {}
            small.update(zip(group.destinations, takes, strict=True))
    return small


def _weight(look: Looked) -> tuple[bool, ...]:
    """How much of the finding's cause one look tells."""
    diagnosis = look.diagnosis
    return (
        any(hit.rule.sure for hit in diagnosis.hits),
        diagnosis.kernel is not None,
        diagnosis.path is not None and bool(diagnosis.path.routers),
        diagnosis.flows is not None,
        not look.brief,
    )


def _another_port(diagnosis: Diagnosis) -> bool:
    return any(rewrite.field is RewrittenField.PORT for rewrite in diagnosis.rewrites)


def _instead(matrix: Matrix, group: Group, astray: Astray) -> tuple[int, ...]:
    """The nodes that got what these sources sent to others."""
    if group.kind.leg is not Leg.FORWARD or group.kind.place is not Place.PATH:
        return ()
    sent = {
        (_NUMBERS[matrix.probes[test.probe].protocol, test.family], address)
        for test in group.tests
        for source in group.sources
        if (address := matrix.nodes[source].address_in(test.family)) is not None
    }
    return tuple(node for node, came in astray.items() if came & sent)


def _sample(group: Group) -> tuple[int, int]:
    return group.sample.source, group.sample.destination


def _rejecters(matrix: Matrix, groups: Sequence[Group], looked: Sequence[Looked]) -> Iterator[str]:
    for group in groups:
        if group.kind.rejected_by is not None:
            yield group.kind.rejected_by
    for look in looked:
        own = dict.fromkeys(matrix.nodes[look.source].addresses, BY_THE_SOURCE)
        own |= dict.fromkeys(matrix.nodes[look.destination].addresses, BY_THE_DESTINATION)
        yield from (own.get(address, address) for address in look.diagnosis.rejecters)


def _strangers(
    rejecters: Sequence[str], owners: Mapping[str, str], diagnoses: Sequence[Diagnosis]
) -> Iterator[str]:
    """Addresses that refused, where routers answer and none of them has it."""
    routers = {r.address for d in diagnoses if d.path for r in d.path.routers}
    known = {*routers, *owners, BY_THE_SOURCE, BY_THE_DESTINATION}
    if routers:
        for address in rejecters:
            if address not in known:
                yield f"who has {address}: no node, and no router that answered a rising TTL"


def _nodes(
    groups: Sequence[Group], hits: Sequence[RuleHit], diagnoses: Sequence[Diagnosis]
) -> list[int]:
    """Whose fault it is: the rule's node, the kernel's, or the one inside which it was lost."""
    found = [hit.node for hit in hits]
    found += [d.kernel_node for d in diagnoses if d.kernel_node is not None]
    if not found:
        for group in groups:
            if group.kind.place is Place.SOURCE:
                found += group.sources
            elif group.kind.place is Place.DESTINATION:
                found += group.destinations
    return sorted(set(found))


def _unknown(cause: Cause, diagnoses: Sequence[Diagnosis], mending: Mending) -> Iterator[str]:
    told = dict.fromkeys(note for diagnosis in diagnoses for note in diagnosis.notes)
    yield from told
    passes = any(d.flows is not None and d.flows.pattern is FlowPattern.ALL for d in diagnoses)
    if passes and cause is not Cause.NOT_LISTENING:  # which says that it passes
        yield "whether it comes and goes: in the closer look all of it passed"
    elif cause is Cause.NETWORK and any(d.marking and d.marking.dropped is None for d in diagnoses):
        yield "whether it is for its mark that it is dropped: no packet could be sent without it"
    elif cause is Cause.NODE_FIREWALL and diagnoses and not told:
        yield "which rule or setting: no rule that was traced ended our packets"
    yield from mending.unknown


def _rank(group: Group) -> tuple[bool, int, int]:
    return (
        group.severity is not Severity.REQUIRED,
        _WORST_FIRST.index(group.kind.verdict),
        -group.cells,
    )


def _importance(finding: Finding) -> tuple[object, ...]:
    """Of equals those first that are about the first nodes, in whichever order they were found."""
    worst = min((_WORST_FIRST.index(k.verdict) for k in finding.kinds), default=len(_WORST_FIRST))
    about = sorted((b.sources, b.destinations) for b in finding.blocks)
    tests = sorted((test.probe, test.family) for test in finding.tests)
    return finding.severity is not Severity.REQUIRED, worst, -finding.cells, about, tests


def explained(findings: Sequence[Finding], source: int, destination: int) -> list[Finding]:
    """The findings that speak of a pair."""

    def speaks(block: Block) -> bool:
        there = source in block.sources and destination in block.destinations
        back = destination in block.sources and source in block.destinations
        return there or (block.both_ways and back)

    return [finding for finding in findings if any(map(speaks, finding.blocks))]
