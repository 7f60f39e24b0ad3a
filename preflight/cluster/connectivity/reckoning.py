"""From what was seen of a check's pods to judgements and findings: what it all means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.cluster.api import Cluster
from preflight.cluster.connectivity.follow import Seen
from preflight.cluster.connectivity.scene import Scene
from preflight.cluster.errors import ClusterError
from preflight.cluster.resources import NODES
from preflight.core.connectivity.joined import Joiner
from preflight.core.connectivity.manifest import Settings, planned
from preflight.core.connectivity.observed import sick_nodes
from preflight.core.connectivity.options import Options
from preflight.core.connectivity.picture import Finding
from preflight.core.connectivity.pods import Judgement, Status, judge, unsteady
from preflight.core.connectivity.result import Ending
from preflight.core.connectivity.symptoms import Symptom
from preflight.core.connectivity.together import together
from preflight.core.connectivity.workloads import DENIED, MULTI_NODE, WORKLOADS, Way
from preflight.core.terms import listed

_OVER = frozenset(w.name for w in WORKLOADS if w.way is Way.POD and w.name != DENIED)
_UNFINISHED = frozenset({Symptom.STARTING, Symptom.UNSEEN, Symptom.NO_POD, Symptom.NOT_SCHEDULED})


def reckon(
    cluster: Cluster,
    options: Options,
    settings: Settings,
    before: Scene,
    seen: Seen,
    notes: list[str],
) -> tuple[tuple[Judgement, ...], tuple[Finding, ...]]:
    """What it all means."""
    judged = unsteady(seen.judged, seen.unsteady)
    if seen.ending is Ending.INTERRUPTED:
        judged = tuple(map(_unfinished, judged))
    if seen.ending is Ending.LOST:
        notes.append(
            f"the API server was gone at the end ({seen.lost}): what is told is what was seen last"
        )
    if any(not one.green for one in judged) and not seen.lost:
        judged = _with_nodes(cluster, judged, seen)
    if options.given is None and not settings.multi_node:
        few = before.workers.taking if before.workers else ()
        judged += tuple(_not_two(name, few) for name in _left_out(options.settings))
        notes.append(
            "fewer than two workers take pods: nothing between nodes was tested. That is no "
            "verdict on the network"
        )
    if options.given is not None:
        notes += options.given.notes
    if not before.events:
        notes.append("events may not be read: why a probe fails is not known")
    restarted = [one.workload for one in judged if one.green and one.restarts]
    if restarted:
        notes.append(
            f"{listed(restarted)}: ready, but restarted on the way: the probe failed for half a "
            "minute at some time (DNS or a server that was not there yet, or loss)"
        )
    findings = together(judged, before.settings)
    if options.snapshot is not None:
        addresses = before.workers.addresses if before.workers else {}
        known = {node: addresses.get(node, ()) for one in judged for node in (*one.nodes,)}
        known |= {node: addresses.get(node, ()) for node in before.settings.dns_nodes or ()}
        joiner = Joiner(options.snapshot, options.snapshot_file, known, before.settings)
        findings = tuple(joiner.joined(finding) for finding in findings)
        notes += joiner.doubts(_passed(judged))
    return judged, findings


def _with_nodes(
    cluster: Cluster, judged: tuple[Judgement, ...], seen: Seen
) -> tuple[Judgement, ...]:
    """Judged again with the nodes of what is not ready, where one of them is not ready itself."""
    try:
        sick = sick_nodes(cluster.find(NODES).items)
    except ClusterError:
        return judged
    if not any(node in sick for one in judged for node in one.nodes if not one.green):
        return judged
    again = seen.observation._replace(sick_nodes=sick)
    return unsteady(judge(again, seen.plan, seen.ripe), seen.unsteady)


def _unfinished(judged: Judgement) -> Judgement:
    if judged.symptom not in _UNFINISHED:
        return judged
    return judged._replace(meaning="the run ended before it was ready", advice="Run it again.")


def _left_out(settings: Settings) -> list[str]:
    return [w.name for w in planned(settings) if w.name in MULTI_NODE]


def _not_two(name: str, workers: Sequence[str]) -> Judgement:
    there = f"only {workers[0]} does" if workers else "none does"
    return Judgement(
        workload=name,
        kind="Deployment",
        status=Status.UNKNOWN,
        symptom=Symptom.UNSCHEDULABLE,
        ready=0,
        wanted=1,
        restarts=0,
        pods=(),
        nodes=(),
        server=None,
        evidence=(),
        meaning=f"not tested: it needs two workers that take pods, and {there}",
        advice="Run the check again when there are two workers.",
    )


def _passed(judged: Sequence[Judgement]) -> Iterator[tuple[str, str]]:
    """Pairs of nodes between which a pod was reached over the overlay."""
    for one in judged:
        if one.green and one.workload in _OVER and one.server and one.nodes[0] != one.server:
            yield one.nodes[0], one.server
