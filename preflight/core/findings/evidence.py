"""The sentences under a finding's title: what was seen, most telling first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.diagnosis.conclusions import (
    Content,
    ContentPattern,
    Diagnosis,
    FlowPattern,
    Flows,
    Path,
    Size,
)
from preflight.core.findings.titles import rule_in_words
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import Evidence
from preflight.core.terms import listed, plural

_SHOWN = 8


def evidence(matrix: Matrix, groups: Sequence[Group], diagnoses: Sequence[Diagnosis]) -> list[str]:
    """Plain sentences, each once."""
    found: dict[str, None] = {}
    some_answer = any(d.path is not None and d.path.routers for d in diagnoses)
    for diagnosis in diagnoses:
        silent = diagnosis.path is not None and not diagnosis.path.routers
        untold = silent and (some_answer or diagnosis.rejecters)
        told = diagnosis._replace(path=None) if untold else diagnosis
        found.update(dict.fromkeys(of_diagnosis(told, matrix)))
    found.update(dict.fromkeys(_example(matrix, group) for group in groups[:2]))
    return [sentence for sentence in found if sentence]


def of_diagnosis(diagnosis: Diagnosis, matrix: Matrix) -> Iterator[str]:
    """What one closer look found out, most telling first."""
    for hit in diagnosis.hits:
        count = f"{plural(len(hit.shots), 'probe')} " if hit.shots else "our probes "
        answers = "answers to " if hit.leg == "reply" else ""
        how = "" if hit.rule.sure else "may have "
        verb = "rejected" if hit.rule.rejects else "dropped"
        by = rule_in_words(hit.rule)
        said = hit.rule.comment and hit.rule.comment not in hit.rule.text
        comment = f', comment "{hit.rule.comment}"' if said else ""
        node = matrix.nodes[hit.node].name
        yield f"{by} on {node} {how}{verb} {answers}{count.strip()}{comment}"
    if diagnosis.kernel is not None:
        yield from diagnosis.kernel.evidence
    if diagnosis.path is not None:
        yield from _path(diagnosis.path)
    if diagnosis.size is not None:
        yield from _size(diagnosis.size)
    if diagnosis.flows is not None:
        yield from _flows(diagnosis.flows)
    if diagnosis.content is not None and not diagnosis.hits:
        yield from _content(diagnosis.content)
    for rewrite in diagnosis.rewrites:
        yield f"the {rewrite.field} is rewritten: {rewrite.left} left, {rewrite.arrived} arrived"


def _path(path: Path) -> Iterator[str]:
    if path.on_link and not path.routers:
        yield (
            "the two nodes share a link: no router is between them, only switches, hypervisors and "
            "the nodes' own network cards"
        )
        return
    if path.routers:
        hops = ", ".join(f"{router.ttl}: {router.address}" for router in path.routers[:_SHOWN])
        yield f"the same flow with rising TTL is answered by router {hops}"
    if path.silent is not None:
        beyond = ""
        if path.distance is not None and path.silent > path.distance:
            beyond = ", which would be the destination itself"
        yield f"nothing answers from hop {path.silent} on{beyond}"
    elif not path.routers:
        yield "no router on the path answers when a TTL runs out, so the hop is not known"
    if path.distance is not None:
        lie = "lies" if path.distance == 1 else "lie"
        routers = plural(path.distance, "router")
        yield f"{routers} {lie} between the nodes, by the TTL of what arrived"


def _size(size: Size) -> Iterator[str]:
    yield (
        f"largest IP packet that arrives with DF set: {size.largest} bytes; the source's device "
        f"takes {size.device_mtu}"
    )
    if size.largest_fragmented is not None:
        yield f"largest that arrives with DF not set: {size.largest_fragmented} bytes"
    if size.reported_by:
        yield f"{size.reported_by} says that fragmentation is needed, MTU {size.reported_mtu}"
    elif size.black_hole and size.largest < size.device_mtu:
        yield 'nobody says "fragmentation needed": path MTU discovery cannot work (a black hole)'


def _flows(flows: Flows) -> Iterator[str]:
    told = f"{flows.passed:,} of {flows.sent:,} packets over {flows.tried} source ports passed"
    dead = ", ".join(map(str, flows.dead[:_SHOWN]))
    more = f" and {len(flows.dead) - _SHOWN} more" if len(flows.dead) > _SHOWN else ""
    if flows.pattern is FlowPattern.SOME_DEAD:
        yield f"{told}; none from source port {dead}{more}, nearly all from the others"
    elif flows.pattern is FlowPattern.RANDOM:
        yield f"{told}; the loss hits all flows alike"
    elif flows.pattern is FlowPattern.LIMITED:
        yield f"{told}: the first ones, then few, as a rate limiter does"
    elif flows.pattern is FlowPattern.HIGH_ONLY:
        yield f"{told}: none from below 1024, those from 1024 up"
    elif flows.pattern is FlowPattern.LOW_ONLY:
        yield f"{told}: none from 1024 up, those from below"
    elif flows.pattern is FlowPattern.REPLIES_ONLY:
        yield f"{told}: only those whose source port is the port itself, as a reply's would be"


def _content(content: Content) -> Iterator[str]:
    passed, lost = listed(content.passed or ("nothing",)), listed(content.lost or ("nothing",))
    if content.pattern is ContentPattern.PORT:
        yield f"a rule for this port: in the same run {passed} passed, {lost} did not"
    elif content.pattern is ContentPattern.PROTOCOL:
        yield f"no port passes: {lost} did not arrive"
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
