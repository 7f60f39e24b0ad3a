"""What is to blame for a set of cells, by what is known of them. The most certain comes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import ContentPattern, Diagnosis, FlowPattern
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.findings.model import Cause
from preflight.core.findings.unfound import lacks
from preflight.core.groups import Group
from preflight.core.model import Cause as CellCause
from preflight.core.model import Leg, Place, Verdict

_BY_CELL: Mapping[CellCause | None, Cause] = {
    CellCause.NO_ROUTE: Cause.ROUTE,
    CellCause.NO_NEIGHBOUR: Cause.NEIGHBOUR,
    CellCause.ECHO_IGNORED: Cause.KERNEL,
    CellCause.INTERCEPTED: Cause.INTERCEPTED,
    CellCause.NO_AGENT: Cause.NO_AGENT,
    CellCause.NOT_WATCHED: Cause.NOT_WATCHED,
    CellCause.INTERRUPTED: Cause.INTERRUPTED,
    CellCause.NOT_LISTENING: Cause.NOT_LISTENING,
    CellCause.NOT_CILIUM: Cause.NOT_CILIUM,
    CellCause.NOT_ANSWERING: Cause.NOT_ANSWERING,
    CellCause.DATA: Cause.DATA,
}


_BY_SOURCE_PORT = {
    FlowPattern.HIGH_ONLY,
    FlowPattern.LOW_ONLY,
    FlowPattern.REPLIES_ONLY,
    FlowPattern.RANGE,
}


def rules(diagnoses: Sequence[Diagnosis]) -> Iterator[RuleHit]:
    """The rules that are surely to blame, each once; those that ended probes come first."""
    seen = set()
    hits = [hit for diagnosis in diagnoses for hit in diagnosis.hits]
    for hit in sorted(hits, key=lambda hit: (hit.of_discovery, hit.leg == Leg.REPLY)):
        if hit.rule.sure and (hit.node, hit.rule) not in seen:
            seen.add((hit.node, hit.rule))
            yield hit


def blame(group: Group, diagnoses: Sequence[Diagnosis]) -> Cause:
    """The cause of `group` and its like, of which `diagnoses` are some samples'."""
    kind = group.kind
    if kind.verdict is Verdict.UNKNOWN:
        return _BY_CELL.get(kind.cause, Cause.NOT_WATCHED)
    for hit in rules(diagnoses):
        return Cause.TRANSLATION if hit.rule.rewrites else Cause.RULE
    if kind.verdict is Verdict.CLOSED:
        return _BY_CELL.get(kind.cause, Cause.NOT_LISTENING)
    if any(d.kernel is not None for d in diagnoses):
        return Cause.KERNEL
    if any(lacks(d) for d in diagnoses):
        return Cause.NEIGHBOUR
    if kind.cause in _BY_CELL:
        return _BY_CELL[kind.cause]
    if kind.cause is CellCause.SIZE:
        return Cause.SIZE
    if kind.place in (Place.SOURCE, Place.DESTINATION):
        answers = (kind.leg, kind.place) == (Leg.REPLY, Place.DESTINATION)
        stuck = answers and any(d.stuck_back for d in diagnoses)
        return Cause.NEIGHBOUR if stuck else Cause.NODE_FIREWALL
    return _on_the_path(kind.verdict, diagnoses)


def thinned(diagnosis: Diagnosis) -> bool:
    """Whether some of what a cell lost wholly came through a moment later, and some did not."""
    return diagnosis.passing is not None and diagnosis.passing.some


def _on_the_path(verdict: Verdict, diagnoses: Sequence[Diagnosis]) -> Cause:
    if any(d.lengths is not None for d in diagnoses):
        return Cause.SIZE
    if any(d.shared_port for d in diagnoses):
        return Cause.TRANSLATION
    patterns = {d.flows.pattern for d in diagnoses if d.flows is not None}
    if FlowPattern.SOME_DEAD in patterns:
        return Cause.FLOWS
    contents = {d.content.pattern for d in diagnoses if d.content is not None}
    if contents & {ContentPattern.TUNNEL, ContentPattern.INNER}:
        return Cause.INSPECTION
    if patterns & _BY_SOURCE_PORT:
        return Cause.NETWORK
    if any(d.size is not None and d.size.smallest_lost for d in diagnoses):
        return Cause.SIZE  # and loss besides
    if verdict is Verdict.LOSSY or any(map(thinned, diagnoses)):
        return Cause.RATE_LIMIT if FlowPattern.LIMITED in patterns else Cause.LOSS
    return Cause.NETWORK
