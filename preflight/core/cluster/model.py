"""Of a cluster's objects what a judgement about Cilium needs, read with suspicion.

A field that is missing or of another type is as if it had not been set: whatever an API server or
its admission sends, reading it never fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = Mapping[str, Any]

_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Taint:
    """A node's taint, or what a pod tolerates of one (empty: any)."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}{f'={self.value}' if self.value else ''}:{self.effect}"


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node."""

    name: str
    addresses: tuple[str, ...]  # its InternalIPs
    labels: Mapping[str, str]
    ready: bool | None  # None: its kubelet is not heard of
    cordoned: bool
    taints: tuple[Taint, ...]

    @property
    def control_plane(self) -> bool:
        """Whether it runs the control plane."""
        roles = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
        return any(role in self.labels for role in roles)

    @property
    def windows(self) -> bool:
        """Whether Cilium does not run on it at all."""
        return self.labels.get("kubernetes.io/os") == "windows"


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod as its kubelet last told of it."""

    name: str
    image: str  # as the pod's spec asks for it
    image_id: str  # of what runs
    ready: bool
    restarts: int
    waiting: str  # the reason that it waits for, else empty
    message: str  # its words
    ended: str  # the reason of its last end, else empty
    exit_code: int | None  # of its last end
    ended_at: datetime | None
    init: bool
    over: bool  # it has ended and is not to run again


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod."""

    name: str
    namespace: str
    node: str  # empty: nowhere yet
    wanted_on: str  # where a DaemonSet's pod is to go, if that is known
    phase: str
    reason: str  # of its phase: Evicted, NodeLost
    ready: bool
    deleting: bool
    revision: str  # of its template, as its DaemonSet's controller calls it
    owner: str  # uid
    unscheduled: str  # the scheduler's words on why it has no node
    containers: tuple[Container, ...]
    created: datetime | None
    labels: Mapping[str, str]

    @property
    def restarts(self) -> int:
        """Of all its containers."""
        return sum(c.restarts for c in self.containers if not c.init)

    @property
    def main(self) -> Container | None:
        """The container that the pod is for: its first one."""
        return next((c for c in self.containers if not c.init), None)


@dataclass(frozen=True, slots=True)
class Workload:
    """A DaemonSet or a Deployment."""

    name: str
    namespace: str
    uid: str
    generation: int
    observed: int
    wanted: int  # pods that it asks for
    updated: int  # pods of the newest generation
    ready: int
    image: str  # of its first container
    selector: Mapping[str, str]
    node_selector: Mapping[str, str]
    tolerations: tuple[Object, ...]
    picky: bool  # has a node affinity, which is not evaluated here
    on_delete: bool  # a new generation comes only where somebody deletes the old pods
    deleting: bool


# In the place of one that could not be read: nothing is known of what it asks for.
UNREAD_WORKLOAD = Workload("", "", "", 0, 0, 0, 0, 0, "", {}, {}, (), False, False, False)


@dataclass(frozen=True, slots=True)
class CiliumNode:
    """What Cilium's agents know of a node."""

    name: str
    internal: tuple[str, ...]
    health: tuple[str, ...]


def nodes(objects: Sequence[Object]) -> tuple[KubeNode, ...]:
    """Of v1/Node objects, in the order of their names."""
    return tuple(sorted((_node(o) for o in objects), key=lambda n: natural(n.name)))


def _node(one: Object) -> KubeNode:
    spec, status = mapping(one, "spec"), mapping(one, "status")
    conditions = {text(c, "type"): text(c, "status") for c in items(status, "conditions")}
    told = conditions.get("Ready", "Unknown")
    return KubeNode(
        name=text(mapping(one, "metadata"), "name"),
        addresses=tuple(
            text(a, "address")
            for a in items(status, "addresses")
            if text(a, "type") == "InternalIP" and text(a, "address")
        ),
        labels=texts(mapping(one, "metadata"), "labels"),
        ready=None if told == "Unknown" else told == "True",
        cordoned=spec.get("unschedulable") is True,
        taints=tuple(
            Taint(text(t, "key"), text(t, "value"), text(t, "effect"))
            for t in items(spec, "taints")
        ),
    )


def pods(objects: Sequence[Object]) -> tuple[Pod, ...]:
    """Of v1/Pod objects."""
    return tuple(sorted(map(_pod, objects), key=lambda p: natural(p.name)))


def _pod(one: Object) -> Pod:
    about, spec, status = (mapping(one, key) for key in ("metadata", "spec", "status"))
    conditions = {text(c, "type"): c for c in items(status, "conditions")}
    scheduled = conditions.get("PodScheduled", {})
    owners = [text(o, "uid") for o in items(about, "ownerReferences") if o.get("controller")]
    labels = texts(about, "labels")
    return Pod(
        name=text(about, "name"),
        namespace=text(about, "namespace"),
        node=text(spec, "nodeName"),
        wanted_on=_wanted_on(spec),
        phase=text(status, "phase"),
        reason=text(status, "reason"),
        ready=text(conditions.get("Ready", {}), "status") == "True",
        deleting=bool(about.get("deletionTimestamp")),
        revision=labels.get("controller-revision-hash", ""),
        owner=owners[0] if owners else "",
        unscheduled=text(scheduled, "message") if text(scheduled, "status") == "False" else "",
        containers=tuple(_containers(spec, status)),
        created=moment(about.get("creationTimestamp")),
        labels=labels,
    )


def _containers(spec: Object, status: Object) -> Iterator[Container]:
    for key, told, init in (
        ("initContainers", "initContainerStatuses", True),
        ("containers", "containerStatuses", False),
    ):
        known = {text(s, "name"): s for s in items(status, told)}
        for asked in items(spec, key):
            name = text(asked, "name")
            found = known.get(name, {})
            state, last = mapping(found, "state"), mapping(found, "lastState")
            waiting, ended = mapping(state, "waiting"), mapping(state, "terminated")
            end = ended or mapping(last, "terminated")
            code = end.get("exitCode")
            yield Container(
                name=name,
                image=text(asked, "image"),
                image_id=text(found, "imageID"),
                ready=found.get("ready") is True,
                restarts=number(found, "restartCount"),
                waiting=text(waiting, "reason"),
                message=text(waiting, "message") or text(ended, "message"),
                ended=text(end, "reason") or (f"exit code {code}" if end else ""),
                exit_code=code if isinstance(code, int) else None,
                ended_at=moment(end.get("finishedAt")),
                init=init,
                over=bool(ended),
            )


def _wanted_on(spec: Object) -> str:
    """A DaemonSet's controller names the node by an affinity; the scheduler does the rest."""
    affinity = mapping(mapping(spec, "affinity"), "nodeAffinity")
    required = mapping(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    for term in items(required, "nodeSelectorTerms"):
        for field in items(term, "matchFields"):
            values = field.get("values")
            if text(field, "key") == "metadata.name" and isinstance(values, list) and values:
                return str(values[0])
    return ""


def workload(one: Object) -> Workload:
    """Of an apps/v1 DaemonSet or Deployment."""
    about, spec, status = (mapping(one, key) for key in ("metadata", "spec", "status"))
    template = mapping(mapping(spec, "template"), "spec")
    containers = items(template, "containers")
    daemons = "desiredNumberScheduled" in status or "updateStrategy" in spec
    return Workload(
        name=text(about, "name"),
        namespace=text(about, "namespace"),
        uid=text(about, "uid"),
        generation=number(about, "generation"),
        observed=number(status, "observedGeneration"),
        wanted=number(status, "desiredNumberScheduled") if daemons else number(spec, "replicas", 1),
        updated=number(status, "updatedNumberScheduled" if daemons else "updatedReplicas"),
        ready=number(status, "numberReady" if daemons else "readyReplicas"),
        image=text(containers[0], "image") if containers else "",
        selector=texts(mapping(spec, "selector"), "matchLabels"),
        node_selector=texts(template, "nodeSelector"),
        tolerations=tuple(items(template, "tolerations")),
        picky=bool(mapping(mapping(template, "affinity"), "nodeAffinity")),
        on_delete=text(mapping(spec, "updateStrategy"), "type") == "OnDelete",
        deleting=bool(about.get("deletionTimestamp")),
    )


def cilium_nodes(objects: Sequence[Object]) -> tuple[CiliumNode, ...]:
    """Of cilium.io/v2 CiliumNode objects."""
    out = []
    for one in objects:
        spec = mapping(one, "spec")
        health = mapping(spec, "health")
        out.append(
            CiliumNode(
                name=text(mapping(one, "metadata"), "name"),
                internal=tuple(
                    text(a, "ip")
                    for a in items(spec, "addresses")
                    if text(a, "type") == "InternalIP" and text(a, "ip")
                ),
                health=tuple(v for k in ("ipv4", "ipv6") if (v := text(health, k))),
            )
        )
    return tuple(sorted(out, key=lambda n: natural(n.name)))


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts n2 before n10."""
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in _DIGITS.split(name)
        if part
    ]


def mapping(of: Object, key: str) -> Object:
    """An object's member that is an object, or an empty one."""
    value = of.get(key)
    return value if isinstance(value, dict) else {}


def items(of: Object, key: str) -> list[Object]:
    """The objects in a list."""
    value = of.get(key)
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def text(of: Object, key: str) -> str:
    """A text, or an empty one."""
    value = of.get(key)
    return value if isinstance(value, str) else ""


def texts(of: Object, key: str) -> Mapping[str, str]:
    """A mapping of texts."""
    return {k: v for k, v in mapping(of, key).items() if isinstance(v, str)}


def number(of: Object, key: str, otherwise: int = 0) -> int:
    """A whole number."""
    value = of.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def moment(value: object) -> datetime | None:
    """A time as the API writes it."""
    if not isinstance(value, str):
        return None
    try:
        told = datetime.fromisoformat(value)
    except ValueError:
        return None
    return told if told.tzinfo is not None else None
