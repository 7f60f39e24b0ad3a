"""One workload of the check: is it green, red, or is nothing known, and what does that mean?

Rules of this file:
1. Red is said only where a probe failed in its own words, or the CNI plugin could not give a pod
   its network. An image, a quota, a node, a port in use: nothing is known of the network then.
2. A client whose echo server is not there has not tested anything, however it fails.
3. The pod whose traffic must be dropped is green on a dead network too: it counts only where
   the same way is green without the policy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from preflight.core.connectivity.meanings import advice, meaning
from preflight.core.connectivity.observed import Event, Observation, Owner, Pod
from preflight.core.connectivity.symptoms import (
    PROBED,
    Reading,
    Symptom,
    ended,
    probe,
    sandbox,
    waiting,
)
from preflight.core.connectivity.workloads import (
    DENIED,
    ECHO_B,
    KNOWN,
    POD_TO_A,
    Way,
    Workload,
)
from preflight.core.model import Severity


class Status(StrEnum):
    """What is known of a workload."""

    READY = "ready"
    FAILED = "failed"
    UNKNOWN = "unknown"  # nothing follows about the network


class Judgement(NamedTuple):
    """One workload, judged."""

    workload: str
    kind: str  # Deployment, ...
    status: Status
    symptom: Symptom | None  # None where it is ready
    ready: int  # pods
    wanted: int
    restarts: int
    pods: tuple[str, ...]
    nodes: tuple[str, ...]  # of its pods, each once
    server: str | None  # the node of the echo server that it asks
    evidence: tuple[str, ...]  # what the cluster said, newest last
    meaning: str
    advice: str
    severity: Severity = Severity.REQUIRED

    @property
    def red(self) -> bool:
        """Whether it failed."""
        return self.status is Status.FAILED

    @property
    def green(self) -> bool:
        """Whether it is ready, and that means something."""
        return self.status is Status.READY


class Expected(NamedTuple):
    """A workload that was to be there."""

    kind: str
    name: str
    known: bool = True  # one of the 16, and so judged as what it is

    @property
    def workload(self) -> Workload | None:
        """What is known of it."""
        return KNOWN.get(self.name) if self.known else None


def expected(names: Iterable[str]) -> tuple[Expected, ...]:
    """Workloads of our own manifest."""
    return tuple(Expected("Deployment", name) for name in names)


def judge(
    seen: Observation, plan: Sequence[Expected], ripe: Collection[str] | None = None
) -> tuple[Judgement, ...]:
    """Every workload of the plan, in its order.

    `ripe` are the names of the pods that had the time to become ready, None all: of others a
    failing probe says nothing yet.
    """
    owners = {(owner.kind, owner.name): owner for owner in seen.owners}
    alone = {e.name: _alone(seen, e, owners.get((e.kind, e.name)), ripe) for e in plan}
    nodes = {name: judged.nodes[0] for name, judged in alone.items() if judged.nodes}
    out = []
    for wanted in plan:
        judged, workload = alone[wanted.name], wanted.workload
        if workload is not None:
            judged = judged._replace(server=_server_node(workload, nodes))
            judged = _depending(judged, workload, alone)
            judged = _unarmed(judged, workload, seen.refused)
        out.append(judged)
    return tuple(out)


def unsteady(judged: Sequence[Judgement], names: Collection[str]) -> tuple[Judgement, ...]:
    """The same, those of `names` failed that are ready at this moment."""
    return tuple(
        one._replace(
            status=Status.FAILED,
            symptom=Symptom.UNSTEADY,
            evidence=(f"it was ready and not ready by turns, with {one.restarts} restarts",),
            meaning="it comes and goes: packets are lost, or something keeps changing",
            advice="preflight check --phase after measures loss between the nodes.",
        )
        if one.green and one.workload in names
        else one
        for one in judged
    )


def _server_node(workload: Workload, nodes: Mapping[str, str]) -> str | None:
    servers = workload.servers
    return next((nodes[s] for s in reversed(servers) if s in nodes), None)


def _depending(judged: Judgement, workload: Workload, all_: Mapping[str, Judgement]) -> Judgement:
    """What is left of a judgement where that of another workload is looked at."""
    absent = [s for s in workload.servers if s in all_ and not all_[s].green]
    if judged.symptom in PROBED and judged.symptom is not Symptom.GOT_THROUGH and absent:
        return judged._replace(
            status=Status.UNKNOWN,
            symptom=Symptom.SERVER,
            meaning=f"{absent[0]}, which it asks, is not ready: nothing is known of the way there",
            advice=f"See what is said of {absent[0]}.",
        )
    witness = all_.get(POD_TO_A)
    if workload.name == DENIED and judged.green and (witness is None or not witness.green):
        return judged._replace(
            status=Status.UNKNOWN,
            symptom=Symptom.NOTHING,
            meaning=f"its traffic is dropped, as it must be, but {POD_TO_A} is not ready either: "
            "that may be a network that drops everything",
            advice=f"Mend what keeps {POD_TO_A} from being ready.",
        )
    return judged


def _unarmed(
    judged: Judgement, workload: Workload, refused: Mapping[tuple[str, str], str]
) -> Judgement:
    """What is left of it where the service or the policy that it is about was not taken."""
    service = workload.url.removeprefix("https://").partition(":")[0]
    needed = [("Service", service)]
    needed += [("CiliumNetworkPolicy", workload.name)] if workload.policy else []
    for kind, name in needed:
        if (kind, name) in refused:
            return judged._replace(
                status=Status.UNKNOWN,
                symptom=Symptom.SERVER,
                evidence=(f"{kind} {name}: {refused[kind, name]}",),
                meaning=f"{kind} {name} was not made: nothing is known of what it is for",
                advice="",
            )
    return judged


def _alone(
    seen: Observation, wanted: Expected, owner: Owner | None, ripe: Collection[str] | None
) -> Judgement:
    """A workload by itself."""
    workload = wanted.workload
    pods = seen.of(wanted.name)
    ready = sum(pod.ready for pod in pods)
    judged = Judgement(
        workload=wanted.name,
        kind=wanted.kind,
        status=Status.READY,
        symptom=None,
        ready=ready,
        wanted=owner.wanted if owner else 1,
        restarts=sum(pod.restarts for pod in pods),
        pods=tuple(pod.name for pod in pods),
        nodes=tuple(dict.fromkeys(pod.node for pod in pods if pod.node)),
        server=None,
        evidence=(),
        meaning=workload.tests if workload else "all of its pods are ready",
        advice="",
        severity=workload.severity if workload else Severity.REQUIRED,
    )
    if (wanted.kind, wanted.name) in seen.refused:
        reading = Reading(Symptom.REFUSED_POD, seen.refused[wanted.kind, wanted.name])
    elif owner is None:
        was_there = (wanted.kind, wanted.name) in seen.known
        reading = Reading(Symptom.GONE if was_there else Symptom.UNSEEN, "")
    elif _done(owner, pods, ready):
        return judged
    else:
        reading = _reading(seen, owner, pods, workload, ripe)
    status = _status(reading.symptom, workload)
    return judged._replace(
        status=status,
        symptom=reading.symptom,
        evidence=(reading.words,) if reading.words else (),
        meaning=meaning(reading, workload, echo_b=bool(seen.of(ECHO_B))),
        advice=advice(reading, workload),
    )


def _done(owner: Owner, pods: Sequence[Pod], ready: int) -> bool:
    if owner.complete or (pods and all(pod.phase == "Succeeded" for pod in pods)):
        return owner.kind in ("Job", "Pod")
    return 0 < owner.wanted <= ready


def _status(symptom: Symptom, workload: Workload | None) -> Status:
    if symptom is Symptom.SANDBOX:
        return Status.FAILED
    if workload is None:
        failing = symptom in PROBED or symptom is Symptom.CRASH  # its command may be the test
        return Status.FAILED if failing else Status.UNKNOWN
    asks = workload.way is not Way.ITSELF
    return Status.FAILED if asks and symptom in PROBED else Status.UNKNOWN


def _reading(
    seen: Observation,
    owner: Owner,
    pods: Sequence[Pod],
    workload: Workload | None,
    ripe: Collection[str] | None,
) -> Reading:
    """The most telling of what its pods that are not ready show."""
    readings = [
        _of_pod(seen, pod, workload, ripe=ripe is None or pod.name in ripe)
        for pod in pods
        if not pod.ready and pod.phase != "Succeeded"
    ]
    if len(pods) < owner.wanted or not readings:
        readings.append(_of_owner(seen, owner))
    return min(readings, key=lambda reading: _TELLING.index(reading.symptom))


# What says most comes first, where a workload's pods differ.
_TELLING = (
    Symptom.GOT_THROUGH,
    *sorted(PROBED - {Symptom.GOT_THROUGH, Symptom.PROBE}),
    Symptom.SANDBOX,
    Symptom.PROBE,
    Symptom.PORT_TAKEN,
    Symptom.CRASH,
    Symptom.IMAGE,
    Symptom.START,
    Symptom.VOLUME,
    Symptom.REFUSED_POD,
    Symptom.UNSCHEDULABLE,
    Symptom.NODE,
    Symptom.NOT_SCHEDULED,
    Symptom.NO_POD,
    Symptom.STARTING,
    Symptom.GONE,
    Symptom.UNSEEN,
    Symptom.SERVER,
    Symptom.NOTHING,
)


def _of_owner(seen: Observation, owner: Owner) -> Reading:
    """Why there is no pod."""
    if owner.refused:
        return Reading(Symptom.REFUSED_POD, owner.refused)
    for event in reversed(seen.events):
        makes = event.kind in ("ReplicaSet", "DaemonSet", "StatefulSet", "Job")
        own = event.name == owner.name or event.name.rpartition("-")[0] == owner.name
        if event.reason == "FailedCreate" and makes and own:
            return Reading(Symptom.REFUSED_POD, event.message)
    return Reading(Symptom.NO_POD, "")


def _of_pod(seen: Observation, pod: Pod, workload: Workload | None, *, ripe: bool) -> Reading:
    """Why one pod is not ready."""
    events = [e for e in seen.events if e.name == pod.name and (not e.uid or e.uid == pod.uid)]
    if pod.node is not None and pod.node in seen.sick_nodes:
        return Reading(Symptom.NODE, f"node {pod.node}: {seen.sick_nodes[pod.node]}")
    if pod.phase == "Failed" and pod.reason:
        said = f"{pod.reason}: {pod.message}" if pod.message else pod.reason
        port = pod.reason == "NodePorts" or "free ports" in pod.message
        return Reading(Symptom.PORT_TAKEN if port else Symptom.NODE, said)
    if pod.phase == "Unknown":
        return Reading(Symptom.NODE, pod.reason or "the node says nothing of it")
    if not pod.scheduled:
        return _unscheduled(pod, events)
    reading = _held_up(pod, events) or _of_containers(pod, events, workload)
    if reading.symptom in PROBED and not ripe:
        return Reading(Symptom.STARTING, reading.words)
    return reading


def _unscheduled(pod: Pod, events: Sequence[Event]) -> Reading:
    said = pod.scheduling or _latest(events, "FailedScheduling")
    if pod.scheduled is False or said:
        return Reading(Symptom.UNSCHEDULABLE, said)
    return Reading(Symptom.NOT_SCHEDULED, "")


def _held_up(pod: Pod, events: Sequence[Event]) -> Reading | None:
    """What keeps its containers from being started."""
    for container in pod.containers:
        if container.waiting is not None:
            found = waiting(container.waiting, container.message)
            if found is not None:
                return found
    if pod.started:
        return None
    if said := _latest(events, "FailedCreatePodSandBox"):
        return sandbox(said)
    said = _latest(events, "FailedMount", "FailedAttachVolume")
    return Reading(Symptom.VOLUME, said) if said else None


def _of_containers(pod: Pod, events: Sequence[Event], workload: Workload | None) -> Reading:
    """Its containers were started."""
    probed = _probed(events, workload)
    for container in pod.containers:
        if container.ready or container.ended is None:
            continue
        end = ended(container.ended, container.code, container.last_words)
        # One that runs again is judged by its probes, if they said anything.
        if end is not None and not (container.running and probed):
            return end
    if probed is not None:
        return probed
    if any(container.waiting == "CrashLoopBackOff" for container in pod.containers):
        return Reading(Symptom.PROBE, "restarted again and again by its liveness probe")
    if pod.started:
        return Reading(Symptom.PROBE, "it runs and is not ready; no event says why")
    return Reading(Symptom.STARTING, "")


def _probed(events: Sequence[Event], workload: Workload | None) -> Reading | None:
    """The newest failure of a probe that says something."""
    readings = [probe(event.message) for event in events if event.reason == "Unhealthy"]
    if not readings:
        return None
    if workload is not None and workload.refused and not readings[-1].words:
        return Reading(Symptom.GOT_THROUGH, "")
    telling = [reading for reading in readings if reading.symptom is not Symptom.PROBE]
    return (telling or readings)[-1]


def _latest(events: Sequence[Event], *reasons: str) -> str:
    return next((e.message for e in reversed(events) if e.reason in reasons), "")
