"""What the API server said of the check's pods, their owners and events, as values to judge.

Objects are read with forbearance: a field that is missing or of another type is not known, and
never an error. Pods are told apart by the workload that owns them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from preflight.core.connectivity.values import Values, count, record, records, text


class Container(NamedTuple):
    """One container of a pod, initial ones included."""

    name: str
    ready: bool
    restarts: int
    waiting: str | None  # the reason: ImagePullBackOff, CrashLoopBackOff, ...
    message: str  # of the wait
    running: bool
    ended: str | None  # how it ended last: Error, OOMKilled, Completed, ...
    code: int | None  # its exit code then
    last_words: str  # what it, or its runtime, said of that end


class Pod(NamedTuple):
    """One pod."""

    name: str
    uid: str
    workload: str  # the Deployment's (or other owner's) name, else its own
    node: str | None
    phase: str  # Pending, Running, Succeeded, Failed, Unknown
    ready: bool
    reason: str  # of the pod itself: Evicted, NodeLost, NodeAffinity, ...
    message: str
    created: str  # as the API server tells it: UTC, sortable
    deleting: bool
    scheduled: bool | None
    scheduling: str  # what the scheduler says
    containers: tuple[Container, ...]

    @property
    def restarts(self) -> int:
        """Of all its containers."""
        return sum(container.restarts for container in self.containers)

    @property
    def started(self) -> bool:
        """Whether all of its containers ran at some time."""
        return self.phase == "Running" or (
            bool(self.containers)
            and all(c.running or c.restarts or c.ended is not None for c in self.containers)
        )


class Event(NamedTuple):
    """Something that a component of the cluster reported."""

    kind: str  # of the object that it is about
    name: str
    uid: str
    reason: str
    message: str
    times: int
    last: str  # when it was last seen: UTC, sortable


class Owner(NamedTuple):
    """A workload: what makes the pods."""

    kind: str  # Deployment, DaemonSet, StatefulSet, Job, Pod
    name: str
    wanted: int  # pods
    refused: str  # why its pods are not made, where they are not; else empty
    complete: bool = False  # a Job that is done


class Observation(NamedTuple):
    """All that is known at one moment."""

    owners: tuple[Owner, ...]
    pods: tuple[Pod, ...]
    events: tuple[Event, ...]
    sick_nodes: Mapping[str, str] = {}  # nodes that are not ready, with the reason
    refused: Mapping[tuple[str, str], str] = {}  # kind and name of what was not taken, and why
    known: Collection[tuple[str, str]] = ()  # kind and name of every owner seen until now

    def of(self, owner: str) -> tuple[Pod, ...]:
        """The pods of a workload that are not on their way out, the oldest first."""
        own = (pod for pod in self.pods if pod.workload == owner and not pod.deleting)
        return tuple(sorted(own, key=lambda pod: (pod.created, pod.name)))


def observation(
    owners: Iterable[tuple[str, Values]],
    pods: Iterable[Values],
    events: Iterable[Values],
    nodes: Iterable[Values] = (),
    refused: Mapping[tuple[str, str], str] = {},
) -> Observation:
    """From the API server's objects; `owners` are Deployments and the like, each with its kind."""
    return Observation(
        tuple(read_owner(kind, value) for kind, value in owners),
        tuple(map(read_pod, pods)),
        tuple(sorted(map(read_event, events), key=lambda event: event.last)),
        sick_nodes(nodes),
        dict(refused),
    )


def read_pod(value: Values) -> Pod:
    """One Pod."""
    metadata, status = record(value, "metadata"), record(value, "status")
    conditions = {text(c, "type"): c for c in records(status, "conditions")}
    placed = conditions.get("PodScheduled", {})
    node = text(record(value, "spec"), "nodeName") or None
    containers = (
        container
        for key in ("initContainerStatuses", "containerStatuses")
        for container in records(status, key)
    )
    return Pod(
        name=text(metadata, "name"),
        uid=text(metadata, "uid"),
        workload=_workload(metadata),
        node=node,
        phase=text(status, "phase"),
        ready=text(conditions.get("Ready", {}), "status") == "True",
        reason=text(status, "reason"),
        message=text(status, "message"),
        created=text(metadata, "creationTimestamp"),
        deleting="deletionTimestamp" in metadata,
        scheduled=True if node else {"True": True, "False": False}.get(text(placed, "status")),
        scheduling=text(placed, "message"),
        containers=tuple(map(_container, containers)),
    )


def _workload(metadata: Values) -> str:
    """The owner's name; a Deployment's is its ReplicaSet's without the hash of the template."""
    for owner in records(metadata, "ownerReferences"):
        if owner.get("controller") is not True:
            continue
        name = text(owner, "name")
        if text(owner, "kind") == "ReplicaSet":
            hashed = text(record(metadata, "labels"), "pod-template-hash")
            return name.removesuffix(f"-{hashed}") if hashed else name.rpartition("-")[0] or name
        return name
    return text(metadata, "name")


def _container(value: Values) -> Container:
    state, last = record(value, "state"), record(value, "lastState")
    waiting = record(state, "waiting")
    ended = record(state, "terminated") or record(last, "terminated")
    code = ended.get("exitCode")
    return Container(
        name=text(value, "name"),
        ready=value.get("ready") is True,
        restarts=count(value, "restartCount"),
        waiting=text(waiting, "reason") or None,
        message=text(waiting, "message"),
        running="running" in state,
        ended=(text(ended, "reason") or "Error") if ended else None,
        code=code if type(code) is int else None,
        last_words=text(ended, "message"),
    )


def read_event(value: Values) -> Event:
    """One Event, of the old kind or the new one that is kept as the old."""
    about, series = record(value, "involvedObject"), record(value, "series")
    times = [text(series, "lastObservedTime")]
    times += [text(value, key) for key in ("lastTimestamp", "eventTime", "firstTimestamp")]
    return Event(
        kind=text(about, "kind"),
        name=text(about, "name"),
        uid=text(about, "uid"),
        reason=text(value, "reason"),
        message=text(value, "message"),
        times=max(1, count(value, "count"), count(series, "count")),
        last=next((t for t in times if t), text(record(value, "metadata"), "creationTimestamp")),
    )


def read_owner(kind: str, value: Values) -> Owner:
    """A Deployment, DaemonSet, StatefulSet, Job, or a Pod of its own."""
    status, spec = record(value, "status"), record(value, "spec")
    conditions = {text(c, "type"): c for c in records(status, "conditions")}
    refused = conditions.get("ReplicaFailure", {})
    if kind == "DaemonSet":
        wanted = count(status, "desiredNumberScheduled")
    elif kind == "Job":
        wanted = count(spec, "completions") or 1
    elif kind == "Pod":
        wanted = 1
    else:
        wanted = count(spec, "replicas") if "replicas" in spec else 1
    return Owner(
        kind=kind,
        name=text(record(value, "metadata"), "name"),
        wanted=wanted,
        refused=text(refused, "message") if text(refused, "status") == "True" else "",
        complete=text(conditions.get("Complete", {}), "status") == "True",
    )


def sick_nodes(nodes: Iterable[Values]) -> dict[str, str]:
    """The nodes that are not ready, each with the reason."""
    return dict(_sick(nodes))


def _sick(nodes: Iterable[Values]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        conditions = {text(c, "type"): c for c in records(record(node, "status"), "conditions")}
        ready = conditions.get("Ready")
        if ready is not None and text(ready, "status") != "True":
            why = text(ready, "message") or text(ready, "reason") or "not ready"
            yield text(record(node, "metadata"), "name"), why
