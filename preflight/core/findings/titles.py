"""One sentence for a finding: who does what to which traffic, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.core.diagnosis.conclusions import (
    ContentPattern,
    Diagnosis,
    FlowPattern,
    Flows,
    Path,
    RewrittenField,
)
from preflight.core.diagnosis.hops import loop
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.findings import size_words
from preflight.core.findings.hop_words import silent
from preflight.core.findings.model import Cause
from preflight.core.findings.rejecters import rejecter
from preflight.core.findings.rule_words import of_rule
from preflight.core.findings.subject import Subject, answers, unconnected
from preflight.core.findings.translation import leaving, senders
from preflight.core.findings.ttl_words import runs_out
from preflight.core.hello import in_words
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Place, Verdict
from preflight.core.terms import listed, plural

_UNKNOWN: Mapping[Cause, str] = {
    Cause.NO_AGENT: "{where}: {what} {verb} unknown, for want of an agent at both ends",
    Cause.NOT_WATCHED: "{where}: {what} {verb} unknown, because captures lost packets or "
    "probes could not be sent",
    Cause.INTERRUPTED: "{where}: {what} {verb} unknown, because the run was ended",
}
_PATTERNS: Mapping[FlowPattern, str] = {
    FlowPattern.HIGH_ONLY: "only from source ports of 1024 and above",
    FlowPattern.LOW_ONLY: "only from source ports below 1024",
    FlowPattern.RANGE: "only from some ranges of source ports",
    FlowPattern.REPLIES_ONLY: "only where it looks like a reply (source port equal to the port)",
}
_SHOWN = 2  # routers behind which it ends


def title(cause: Cause, subject: Subject) -> str:
    """No full stop; the first letter as it comes."""
    where, what = subject.where, subject.what
    if cause in _UNKNOWN:
        verb = "are" if " and " in what else "is"
        if subject.agentless:
            return f"{where}: {what} {verb} unknown, for want of an agent on {subject.agentless}"
        return _UNKNOWN[cause].format(where=where, what=what, verb=verb)
    if cause is Cause.RULE or (cause is Cause.TRANSLATION and subject.hits):
        return of_rule(subject)
    if cause is Cause.KERNEL:
        return _of_kernel(subject)
    if cause is Cause.NODE_FIREWALL:
        return _inside_node(subject)
    simple = {
        Cause.ROUTE: f"{where}: the source has no route for {what}, or one that forbids it",
        Cause.NEIGHBOUR: _neighbour(subject),
        Cause.NOT_LISTENING: f"{where}: nobody serves {what} there",
        Cause.NOT_CILIUM: f"{subject.guilty}: something other than Cilium answers on {what}"
        f"{_as_one(subject)}",
        Cause.NOT_ANSWERING: f"{subject.guilty}: what serves {what} takes connections and does not "
        f"answer GET /hello{_held(subject)}",
        Cause.DATA: f"{where}: {_data(subject)}",
        Cause.INTERCEPTED: f"{where}: something{_interceptor(subject)} answers {what} in the "
        "destination's place",
        Cause.SIZE: f"{where}: {_size(subject)}",
        Cause.FLOWS: f"{where}: {_flows(subject)}",
        Cause.INSPECTION: f"{where}: {_inspection(subject)}",
        Cause.RATE_LIMIT: f"{where}: {_limited(subject)}",
        Cause.LOSS: f"{where}: {_loss(subject)}",
        Cause.TRANSLATION: f"{where}: {_translation(subject)}",
    }
    return simple.get(cause) or f"{where}: {_network(subject)}"


def _of_kernel(subject: Subject) -> str:
    for diagnosis in subject.diagnoses:
        if diagnosis.kernel is not None and diagnosis.kernel_node is not None:
            nodes = {d.kernel_node for d in subject.diagnoses if d.kernel_node is not None}
            who = f"{subject.names[diagnosis.kernel_node]}'s kernel"
            if len(nodes) > 1:
                who = f"{subject.guilty}: each node's kernel"
            reason = diagnosis.kernel.reason
            if reason is Reason.NO_ROUTE_BACK and subject.group.kind.cause is CellCause.NO_ROUTE:
                return _no_route(subject)
            return f"{who} drops {subject.what}: {diagnosis.kernel.title}"
    return f"{subject.where}: the destination's kernel is set to ignore {subject.what}"


def _no_route(subject: Subject) -> str:
    """Of what it sends itself, and of its answers besides."""
    families = {test.family for test in subject.group.tests}
    over = "IPv6 " if families == {Family.IPV6} else ""
    source, _, there = subject.group.where.partition(" → ")
    if there and source == subject.guilty:
        return f"{source} has no {over}route to {there}"
    return (
        f"{subject.where}: no {over}route on {subject.guilty} for {subject.what}, or for its "
        "answers"
    )


def _inside_node(subject: Subject) -> str:
    kind = subject.group.kind
    at = "source" if kind.place is Place.SOURCE else "destination"
    answer = answers(subject) if kind.leg is Leg.REPLY else ""
    some = "some " if kind.verdict is Verdict.LOSSY else ""
    how = "refuses" if kind.cause is CellCause.REJECTED else "throws away"
    return f"{subject.where}: the {at} itself {how} {some}{answer}{subject.what}"


def _interceptor(subject: Subject) -> str:
    kind = subject.group.kind
    if kind.place is Place.PATH:
        return " on the way"
    return f" inside {subject.guilty}" if subject.guilty and kind.leg is Leg.FORWARD else ""


def _as_one(subject: Subject) -> str:
    """What all of them answer, where that is the same."""
    told = {in_words(hello) for hello in subject.hellos}
    return f": {told.pop()}" if len(told) == 1 else ""


def _held(subject: Subject) -> str:
    holders = {hello.holder for hello in subject.hellos}
    return f": {holders.pop()}" if len(holders) == 1 and None not in holders else ""


def _data(subject: Subject) -> str:
    kind = subject.group.kind
    if kind.place is None or kind.place is Place.PATH:
        who = "something" if kind.place is None else "the network"
    else:
        who = f"the {kind.place} itself"
    if unconnected(subject.hellos):
        return f"probes to {subject.what} pass, but {who} stops the node's own connections"
    answer = "answers in" if kind.leg is Leg.REPLY else "requests in"
    return f"SYNs to {subject.what} pass, but {who} stops {answer} the connection then made"


def _neighbour(subject: Subject) -> str:
    if subject.guilty:
        families = {test.family for test in subject.group.tests}
        what = "ARP" if families == {Family.IPV4} else "IPv6 neighbour discovery"
        return f"{subject.guilty} itself does not answer {what} for its own address"
    answers = subject.group.kind.leg is Leg.REPLY
    return f"{subject.where}: {silent(subject.diagnoses, subject.owners, answers=answers)}"


def _size(subject: Subject) -> str:
    size = next((one.diagnosis.size for one in subject.sized if one.diagnosis.size), None)
    if subject.small and size is not None:
        return (
            f"full-size packets of {subject.what} are lost: {subject.guilty}'s device has an MTU "
            f"of {subject.small}, the sources' have {size.device_mtu}"
        )
    return size_words.title(subject.what, subject.sized) + _besides(subject)


def _besides(subject: Subject) -> str:
    """What gets lost whatever its size."""
    flows = _first_flows(subject.diagnoses)
    if flows is None or flows.pattern is not FlowPattern.RANDOM:
        return ""
    return f"; of the others {_share(flows)} are lost at random"


def _share(flows: Flows) -> str:
    """`about 8 %`."""
    return f"about {round(100 * (flows.sent - flows.passed) / flows.sent)} %"


def _first_flows(diagnoses: Sequence[Diagnosis]) -> Flows | None:
    return next((d.flows for d in diagnoses if d.flows is not None), None)


def _flows(subject: Subject) -> str:
    flows = _first_flows(subject.diagnoses)
    if flows is None:
        return f"some flows of {subject.what} never arrive"
    return (
        f"{len(flows.dead)} of {plural(flows.tried, 'flow')} of {subject.what} never arrive, "
        "always the same ones: one link of a bundle, or one of several paths, is dead"
    )


def _inspection(subject: Subject) -> str:
    patterns = {d.content.pattern for d in subject.diagnoses if d.content is not None}
    if ContentPattern.INNER in patterns:
        how = "drops it as a tunnel of Ethernet frames; another type in its header passes"
    else:
        how = "drops it for its bytes, the tunnel header or the frame inside; others pass"
    return f"something on the path inspects {subject.what} and {how}"


def _translation(subject: Subject) -> str:
    own = next((d.readdressed for d in subject.diagnoses if d.readdressed), "")
    several = " and " in subject.what
    its = "their" if several else "its"
    if own:
        return (
            f"{subject.what} {'leave' if several else 'leaves'} for {own} instead: the source's "
            f"own firewall rewrites {its} destination address"
        )
    if subject.instead:
        return (
            f"{subject.what} {'are' if several else 'is'} delivered to {subject.instead} instead: "
            f"something on the path rewrites {its} destination address"
        )
    shared = next((d.shared_port for d in subject.diagnoses if d.shared_port), 0)
    if shared:
        return (
            f"something on the path gives all flows of {subject.what} the source port {shared}, so "
            "that one at a time gets through"
        )
    if any(d.path and d.path.as_destination for d in subject.diagnoses):
        names = {subject.names[n] for n in subject.group.destinations}
        whose = names.pop() if len(names) == 1 else "the destination"
        return (
            f"something on the path rewrites the destination address of {subject.what} (a router "
            f"answers in {whose}'s name)"
        )
    rewrites = (rewrite for d in subject.diagnoses for rewrite in d.rewrites)
    ports = next((r for r in rewrites if r.field is RewrittenField.PORT), None)
    how = "" if ports is None else f": {ports.left} left, {ports.arrived} arrived"
    return f"something on the path rewrites the destination port of {subject.what}{how}"


def _limited(subject: Subject) -> str:
    flows = _first_flows(subject.diagnoses)
    if flows is not None and 2 * flows.passed > flows.sent:
        return (
            f"{_share(flows)} of {subject.what} is lost at even distances, by a rate limit on the "
            "path or a rule that counts packets"
        )
    return f"a rate limiter on the path lets only some {subject.what} through"


def _loss(subject: Subject) -> str:
    answer = "answers to " if subject.group.kind.leg is Leg.REPLY else ""
    lost = "are lost" if answer or " and " in subject.what else "is lost"
    flows = _first_flows(subject.diagnoses)
    if flows is not None and flows.pattern is FlowPattern.RANDOM and flows.sent:
        return f"{_share(flows)} of {answer}{subject.what} {lost} at random"
    return f"some {answer}{subject.what} {lost}"


def _network(subject: Subject) -> str:
    kind = subject.group.kind
    what = f"{answers(subject)}{subject.what}" if kind.leg is Leg.REPLY else subject.what
    who = "the network"
    if kind.place is None:
        who = "something"
    verb = "rejects" if kind.cause is CellCause.REJECTED else "drops"
    around = next((turn for d in subject.diagnoses if d.path and (turn := loop(d.path))), ())
    if around:
        goes = "go" if " and " in what else "goes"
        return f"{what} {goes} round between {listed(around)}: a routing loop"
    sources = subject.group.sources
    own = subject.names[sources[0]] if len(sources) == 1 else "the source"
    if told := runs_out(what, subject.group, subject.diagnoses, own):
        return told
    mark = next((d.marking for d in subject.diagnoses if d.marking), None)
    if mark is not None and mark.dropped is not False:
        told = f"{own} itself marks {what} with DSCP {mark.dscp}"
        return f"{told}, and {who} {verb} {'what is so marked' if mark.dropped else 'it'}"
    flows = _first_flows(subject.diagnoses)
    only = _PATTERNS.get(flows.pattern) if flows is not None else None
    text = f"{who} {verb} {what}"
    if only is not None:
        text = f"{who} passes {what} {only}"
    foreign = leaving(subject.diagnoses)
    if foreign:
        text += f" that {senders(foreign, subject.names)}"
    if subject.rejecters and kind.cause is CellCause.REJECTED:
        paths = [d.path for d in subject.diagnoses if d.path]
        routers = {router.address for path in paths for router in path.routers}
        by = (rejecter(r, kind.place, subject.owners, routers) for r in subject.rejecters)
        return f"{text}, refused {listed(dict.fromkeys(map(str, by)))}"
    if kind.cause is CellCause.REJECTED:
        text += ", with an RST in the destination's name"
    return text + hops([d.path for d in subject.diagnoses if d.path])


def hops(paths: Sequence[Path]) -> str:
    """`, after 198.18.1.1 (hop 1)`, with the routers of either direction where both are known."""
    ends = [path for path in paths if path.routers and path.silent is not None]
    ends = [path for path in ends if not path.back] or ends
    ends = [path for path in ends if _is_six(path) is _is_six(ends[0])]
    told = list(dict.fromkeys(_hop(path) for path in ends if not _same_router(ends[0], path)))
    more = [f"{plural(len(told) - _SHOWN, 'router')} more"] if len(told) > _SHOWN else []
    return f", after {listed([*told[:_SHOWN], *more])}" if told else ""


def _same_router(first: Path, path: Path) -> bool:
    """Whether that is one router, seen from its other side: its address differs there."""
    lengths = {one.distance for one in (first, path)} - {None}
    turned = first.routers[-1].ttl + path.routers[-1].ttl - 1
    return _hop(first) != _hop(path) and lengths == {turned}


def _is_six(path: Path) -> bool:
    return ":" in path.routers[-1].address


def _hop(path: Path) -> str:
    last = path.routers[-1]
    way = " on the way back" if path.back else ""
    return f"{last.address} (hop {last.ttl}{way})"
