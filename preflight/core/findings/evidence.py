"""The sentences under a finding's title: what was seen, most telling first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.diagnosis.conclusions import (
    Content,
    ContentPattern,
    Diagnosis,
    Expired,
    FlowPattern,
    Flows,
    LeavesAs,
    Marking,
    Path,
    Until,
)
from preflight.core.diagnosis.trial import SEEKS, SOUGHT, SOURCE, RuleHit
from preflight.core.findings import limits, queues, size_words
from preflight.core.findings.atoms import Looked
from preflight.core.findings.rule_words import goes_to, rule_in_words
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import Evidence, Family
from preflight.core.terms import listed, plural

_SHOWN = 8
_NOT = {
    Until.LEFT: "did not leave",
    Until.ARRIVED: "did not arrive",
    Until.ACCEPTED: "were not accepted",
}
_BEYOND = ", which would be the destination itself"
_UNFOUND = {
    SOUGHT: "its neighbours ask for its link-layer address (ICMPv6 type 135), get no answer (136), "
    "and can send it nothing over IPv6",
    SEEKS: "it asks for its next hop's link-layer address (ICMPv6 type 135), gets no answer (136), "
    "and can send nothing over IPv6",
}
UNHEARD = "no router on the path answered when a TTL ran out, so the hop is not known"
UNHEARD_BACK = "no router on the way back answered when a TTL ran out, so the hop is not known"


def evidence(matrix: Matrix, groups: Sequence[Group], looks: Sequence[Looked]) -> list[str]:
    """Plain sentences, each once, and what several looks say alike once."""
    found: dict[str, None] = {}
    diagnoses = [look.diagnosis for look in looks]
    found.update(dict.fromkeys(_rules(matrix, diagnoses)))
    found.update(dict.fromkeys(size_words.sentences(sized(matrix, groups[0], looks))))
    hits = any(d.hits for d in diagnoses)
    known: set[object] = set()
    some_answer = any(d.path is not None and d.path.routers for d in diagnoses)
    ways = {d.path for d in diagnoses if d.path is not None and d.path.routers}
    patterns = {d.flows.pattern for d in diagnoses if d.flows is not None}
    named = {hit.node for d in diagnoses for hit in d.hits if hit.rule.rewrites == SOURCE}
    for look in looks:
        told = _news(look.diagnosis, known)
        if told.leaves_as is not None and told.leaves_as.node in named:
            told = told._replace(leaves_as=None, path=None)  # the rule says it
        path = told.path
        untold = path is not None and not path.routers and (some_answer or told.rejecters)
        pair = f"{matrix.nodes[look.source].name} → {matrix.nodes[look.destination].name}"
        if told.flows is not None and len(patterns) > 1:
            found.update(dict.fromkeys(f"{pair}: {sentence}" for sentence in _flows(told.flows)))
            told = told._replace(flows=None)
        if path is not None and len(ways) > 1 and not untold:
            hops = [
                sentence
                for sentence in _path(path)
                if sentence not in known and (pair, _bare(sentence)) not in known
            ]
            known.update(hops)
            known.update((pair, _bare(sentence)) for sentence in hops)
            found.update(dict.fromkeys(f"{pair}: {sentence}" for sentence in hops))
            untold = True
        told = told._replace(path=None) if untold else told
        came = look.diagnosis.passing
        if came is not None and came.some and look.diagnosis.flows is None and not hits:
            found[
                f"{pair}: nothing got through at first, and then {came.passed} of {came.sent}"
            ] = None
        found.update(dict.fromkeys(of_diagnosis(told, matrix)))
    found.update(dict.fromkeys(_example(matrix, group) for group in groups[:2]))
    return [sentence for sentence in found if sentence]


def _bare(sentence: str) -> str:
    """Without what one look knows beside it: of the same pair that is no news."""
    return sentence.removesuffix(_BEYOND)


def sized(matrix: Matrix, group: Group, looks: Sequence[Looked]) -> list[size_words.Sized]:
    """The looks as `size_words` takes them; `group` is the finding's first."""
    return [
        size_words.Sized(
            f"{matrix.nodes[look.source].name} → {matrix.nodes[look.destination].name}",
            (look.test or group.tests[0]).family,
            look.diagnosis,
        )
        for look in looks
    ]


def _rules(matrix: Matrix, diagnoses: Sequence[Diagnosis]) -> Iterator[str]:
    """Each rule once for each leg, with all packets that it ended."""
    total: dict[RuleHit, list[int]] = {}
    for hit in (hit for diagnosis in diagnoses for hit in diagnosis.hits):
        total.setdefault(hit._replace(shots=frozenset()), []).append(len(hit.shots))
    for hit, counts in total.items():
        yield _rule(matrix, hit, sum(counts) if all(counts) else 0)


def _news(diagnosis: Diagnosis, known: set[object]) -> Diagnosis:
    """What of it was not yet told of another cell; rules and sizes are told apart."""

    def new(*what: object) -> bool:
        seen = what in known
        known.add(what)
        return not seen

    rewritten = {hit.rule.rewrites for hit in diagnosis.hits}
    kernel, flows, content = diagnosis.kernel, diagnosis.flows, diagnosis.content
    expired = diagnosis.expired
    if any(hit.rule.rewrites and hit.rule.sure for hit in diagnosis.hits):
        flows = None  # some are known from before the rule, others from the far end: no news
    named = any(hit.of_discovery for hit in diagnosis.hits)
    return diagnosis._replace(
        hits=(),
        mute_node=None if named else diagnosis.mute_node,
        kernel=kernel if kernel and new(diagnosis.kernel_node, kernel.reason) else None,
        path=diagnosis.path if new(diagnosis.path) else None,
        flows=flows if flows and new(flows.pattern) else None,
        content=content if content and not diagnosis.hits and new(content.pattern) else None,
        expired=expired if expired and new("expired", expired.at, expired.left) else None,
        marking=diagnosis.marking if new(diagnosis.marking) else None,
        size=None,
        lengths=None,
        leaves_as=None if SOURCE in rewritten else diagnosis.leaves_as,
        readdressed=""
        if any(hit.rule.rewrites for hit in diagnosis.hits)
        else diagnosis.readdressed,
    )


def of_diagnosis(
    diagnosis: Diagnosis, matrix: Matrix, family: Family = Family.IPV4
) -> Iterator[str]:
    """What one closer look over that family found out, most telling first."""
    for hit in diagnosis.hits:
        yield _rule(matrix, hit, len(hit.shots))
    if diagnosis.kernel is not None:
        yield from diagnosis.kernel.evidence
    if diagnosis.mute_node is not None and not any(hit.of_discovery for hit in diagnosis.hits):
        node = matrix.nodes[diagnosis.mute_node].name
        yield (
            f"{node}'s own device sees neighbours ask for its address, and {node} sends none of "
            "them an answer"
        )
    if diagnosis.expired is not None:
        yield _expired(diagnosis.expired)
    if diagnosis.path is not None:
        yield from _path(diagnosis.path)
    yield from size_words.of(diagnosis, family)
    if diagnosis.flows is not None:
        yield from _flows(diagnosis.flows)
    if diagnosis.content is not None and not diagnosis.hits:
        yield from _content(diagnosis.content)
    if diagnosis.leaves_as is not None:
        yield _leaves_as(diagnosis.leaves_as, matrix)
    if diagnosis.readdressed:
        yield f"it leaves its own node already with {diagnosis.readdressed} as its destination"
    if diagnosis.marking is not None:
        yield from _marking(diagnosis.marking)
    for rewrite in diagnosis.rewrites:
        yield f"the {rewrite.field} is rewritten: {rewrite.left} left, {rewrite.arrived} arrived"


def _rule(matrix: Matrix, hit: RuleHit, count: int) -> str:
    """`count` is 0 where the packets that it ended are not known."""
    packets = plural(count, "probe") if count else "packets of ours"
    effect = ""
    if hit.of_discovery:
        packets, effect = "IPv6 neighbour discovery", f": {_UNFOUND[hit.leg]}"
    answers = "answers to " if hit.leg == "reply" else ""
    how = "" if hit.rule.sure else "may have "
    verb = "rejected" if hit.rule.rejects else "dropped"
    if limits.connections(hit.rule) is not None:
        effect += f": it {limits.limits(hit.rule)}"
    if told := queues.who(hit.rule):
        effect += f": {told}"
        verb = "handed over" if hit.rule.reader else verb
    said = hit.rule.comment and hit.rule.comment not in hit.rule.text
    comment = f', comment "{hit.rule.comment}"' if said else ""
    node = matrix.nodes[hit.node].name
    if hit.rule.rewrites:
        owners = {a: n.name for n in matrix.nodes for a in n.addresses}
        verb, packets = "sent", f"{packets} {goes_to(hit.rule, owners)}"
    return f"{rule_in_words(hit.rule)} on {node} {how}{verb} {answers}{packets}{comment}{effect}"


def _leaves_as(one: LeavesAs, matrix: Matrix) -> str:
    node = matrix.nodes[one.node].name
    told = f"it leaves {node} from {one.address}, not from {one.own}"
    if one.hit is not None:
        how = "does" if one.hit.rule.sure else "may have done"
        return f"{told}: {rule_in_words(one.hit.rule)} on {node} {how} that"
    return f"{told}: its routes pick that address" if one.picked else told


def _expired(one: Expired) -> str:
    left = f" that left with TTL {listed(map(str, one.left))}" if one.left else ""
    return f'{listed(one.at)} answered {plural(one.answered, "probe")}{left} by "time exceeded"'


def _path(path: Path) -> Iterator[str]:
    if path.on_link and not path.routers and not path.as_destination:
        yield (
            "the two nodes share a link: no router is between them, only switches, hypervisors and "
            "the nodes' own network cards"
        )
        return
    if path.routers:
        hops = ", ".join(f"{router.ttl}: {router.address}" for router in path.routers[:_SHOWN])
        what = "an answer, sent again" if path.back else "the same flow"
        yield f"{what} with rising TTL is answered by router {hops}"
    if path.as_destination:
        first = path.as_destination[0]
        yield (
            f"at hop {first} something answers a rising TTL with the destination's address, though "
            "nothing arrives there: it translates destinations"
        )
    if path.silent is not None:
        beyond = ""
        if path.distance is not None and path.silent > path.distance:
            beyond = _BEYOND
        yield f"nothing answers from hop {path.silent} on{beyond}"
        for router in path.control:
            if router.ttl == path.silent:
                yield f"router {router.ttl}, {router.address}, answers to another port all the same"
    elif not path.routers and not path.as_destination:
        yield UNHEARD_BACK if path.back else UNHEARD
    if path.distance is not None:
        lie = "lies" if path.distance == 1 else "lie"
        routers = plural(path.distance, "router")
        yield f"{routers} {lie} between the nodes, by the TTL of what arrived"


def _marking(mark: Marking) -> Iterator[str]:
    yield (
        f"it leaves its own node with DSCP {mark.dscp}, though it was sent with 0: something on "
        "that node sets it, and may on Cilium's packets, too"
    )
    if mark.dropped is not None:
        told = "none" if mark.dropped else "some"
        yield (
            f"to UDP {mark.port}, {mark.passed} of {mark.sent} packets without a mark arrive and "
            f"{told} of those with DSCP {mark.dscp}, in the same flows"
        )


def _flows(flows: Flows) -> Iterator[str]:
    told = f"{flows.passed:,} of {flows.sent:,} packets over {flows.tried} source ports passed"
    dead = ", ".join(map(str, flows.dead[:_SHOWN]))
    more = f" and {len(flows.dead) - _SHOWN} more" if len(flows.dead) > _SHOWN else ""
    if flows.pattern is FlowPattern.SOME_DEAD:
        yield f"{told}; none from source port {dead}{more}, nearly all from the others"
    elif flows.pattern is FlowPattern.RANDOM:
        yield f"{told}; the loss hits all flows alike"
    elif flows.pattern is FlowPattern.LIMITED:
        if 2 * flows.passed > flows.sent:
            yield f"{told}: lost ones come at even distances"
        else:
            yield f"{told}: the first ones, then few, as a rate limiter does"
    elif flows.pattern is FlowPattern.HIGH_ONLY:
        yield f"{told}: none from below 1024, those from 1024 up"
    elif flows.pattern is FlowPattern.LOW_ONLY:
        yield f"{told}: none from 1024 up, those from below"
    elif flows.pattern is FlowPattern.RANGE:
        passing, dead = _runs(flows, flows.passing), _runs(flows, flows.dead)
        yield f"{told}: those from {passing}; none from {dead}"
    elif flows.pattern is FlowPattern.REPLIES_ONLY:
        yield f"{told}: only those whose source port is the port itself, as a reply's would be"


def _runs(flows: Flows, some: Sequence[int]) -> str:
    """`1-1023, 10211-57008`: source ports that were tried, those side by side as one."""
    runs: list[list[int]] = []
    before = None
    for port in sorted({*flows.passing, *flows.dead}):
        if port in some:
            if before in some:
                runs[-1][1] = port
            else:
                runs.append([port, port])
        before = port
    words = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    more = [f"{len(words) - _SHOWN} ranges more"] if len(words) > _SHOWN else []
    return listed([*words[:_SHOWN], *more])


def _content(content: Content) -> Iterator[str]:
    passed, lost = listed(content.passed or ("nothing",)), listed(content.lost or ("nothing",))
    if content.pattern is ContentPattern.PORT:
        yield f"a rule for this port: in the same run {passed} passed, {lost} did not"
    elif content.pattern is ContentPattern.PROTOCOL:
        yield f"none of the ports tried passes: {lost} {_NOT[content.until]}"
    else:
        yield f"the content decides: {passed} passed, {lost} did not"


def _example(matrix: Matrix, group: Group) -> str:
    """What was seen of one cell."""
    cell = group.sample
    counts = list(_counts(cell.outcome.evidence))
    if not counts and not cell.outcome.detail:
        return ""
    source, destination = matrix.nodes[cell.source].name, matrix.nodes[cell.destination].name
    over = f" over {cell.family}" if len(matrix.families) > 1 else ""
    says = "; ".join(filter(None, (", ".join(counts), cell.outcome.detail)))
    return f"{matrix.probes[cell.probe].name}{over} {source} → {destination}: {says}"


def _counts(seen: Evidence) -> Iterator[str]:
    for vantage, count in seen._asdict().items():
        if count is not None:
            yield f"{vantage} {count}"
            if count == 0:
                return
