"""Pods that carry agents where SSH does not get to: what is asked for, and why one is missing.

Rules of this file:
1. A pod of ours works before any CNI is there: the host's network, and every taint tolerated.
2. It may talk to nobody: no token, no rights. All that is made goes with one namespace.
3. A pod that only needs time has no reason; one that will not come by waiting has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

from preflight.core.model import Node

IMAGE = "docker.io/library/python:3.13-slim"
CONTAINER = "agent"
NAME = "preflight-agents"
RUN = "preflight/run"  # a label: who asks for it gets all of a run's objects
LABELS = {"app.kubernetes.io/managed-by": "preflight", "app.kubernetes.io/component": "agent"}
_PRIVILEGED = {
    f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")
}
# What a container waits for in vain. ErrImagePull is tried again; the back-off follows soon.
_IN_VAIN = {
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "its image's name is not valid",
    "ErrImageNeverPull": "its image is not on the node, and may not be pulled",
    "CreateContainerConfigError": "its container cannot be configured",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be started",
    "CrashLoopBackOff": "its container ends as soon as it is started",
}
_ENDED = ("Failed", "Succeeded")

Object = Mapping[str, Any]


class Found(NamedTuple):
    """A node of the inventory as the cluster knows it."""

    name: str  # the Kubernetes node's
    silent: str  # why no pod can start there, as far as its conditions tell; empty: none does


def objects(run: str, nodes: Iterable[str], image: str) -> tuple[dict[str, Any], ...]:
    """The namespace, the service account and the DaemonSet, in the order of their creation.

    `nodes` are Kubernetes nodes' names: no other gets a pod.
    """
    labels = {**LABELS, RUN: run}
    name = f"{NAME}-{run[:8]}"
    inside = {"name": NAME, "namespace": name, "labels": labels}
    return (
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {**labels, **_PRIVILEGED}},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": inside,
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": inside,
            "spec": {
                "selector": {"matchLabels": {RUN: run}},
                "updateStrategy": {"type": "OnDelete"},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": _pod(sorted(nodes), image),
                },
            },
        },
    )


def _pod(nodes: Sequence[str], image: str) -> dict[str, Any]:
    terms = [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        for node in nodes  # one value for each: the API server takes no more
    ]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostNetwork": True,
        "hostPID": True,  # or who holds a port could not be told
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": required},
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "86400"],
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {"privileged": True, "runAsUser": 0, "runAsNonRoot": False},
            }
        ],
    }


def locate(wanted: Iterable[Node], known: Iterable[Object]) -> dict[str, Found | None]:
    """The Kubernetes node behind each node of the inventory, by that one's name.

    The one of that InternalIP, or else of that name; None where the cluster has neither.
    """
    by_name: dict[str, Object] = {}
    by_address: dict[Any, Object] = {}
    for item in known:
        by_name[str(item["metadata"]["name"])] = item
        for address in item.get("status", {}).get("addresses") or ():
            if address.get("type") == "InternalIP":
                by_address[ip_address(address["address"])] = item
    out: dict[str, Found | None] = {}
    for node in wanted:
        at = (by_address.get(ip_address(address)) for address in node.addresses)
        there = next((item for item in at if item is not None), by_name.get(node.name))
        out[node.name] = None if there is None else Found(there["metadata"]["name"], _silent(there))
    return out


def _silent(node: Object) -> str:
    """A kubelet that only lacks a CNI plugin says NotReady, and starts our pod all the same."""
    for condition in node.get("status", {}).get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") == "Unknown":
            since = condition.get("lastHeartbeatTime") or ""
            return f"its kubelet has said nothing since {since}" if since else "its kubelet is gone"
    return ""


def pod_of(pods: Iterable[Object], node: str) -> Object | None:
    """The one on that Kubernetes node; of several the one that is not being deleted."""
    here = [pod for pod in pods if pod.get("spec", {}).get("nodeName") == node]
    return min(here, key=lambda pod: "deletionTimestamp" in pod["metadata"], default=None)


def runs(pod: Object) -> bool:
    """Whether a process can be started in its container."""
    return any(
        "running" in (status.get("state") or {})
        for status in pod.get("status", {}).get("containerStatuses") or ()
    )


def stuck(pod: Object) -> str:
    """Why it will not run however long one waits; empty where that is not known."""
    status = pod.get("status", {})
    if status.get("phase") in _ENDED:
        why = status.get("message") or status.get("reason") or "its container has ended"
        return f"the pod has {status['phase'].lower()}: {why}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _IN_VAIN:
            told = waiting.get("message") or waiting["reason"]
            return f"{_IN_VAIN[waiting['reason']]}: {told}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"the pod cannot be scheduled: {condition.get('message', '')}"
    return ""


def pending(pod: Object | None) -> str:
    """What one that is only late waits for, in words."""
    if pod is None:
        return "no pod was made for it"
    for container in pod.get("status", {}).get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            return (
                f"its pod waits: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
            )
    phase = pod.get("status", {}).get("phase", "Pending")
    return f"its pod is {phase}, and its kubelet tells no more"


def refused(events: Iterable[Object]) -> str:
    """Why the cluster makes no pods at all: an admission rule, a quota; empty where it does."""
    told = [
        event
        for event in events
        if event.get("reason") == "FailedCreate"
        and (event.get("involvedObject") or {}).get("kind") == "DaemonSet"
    ]
    return str(told[-1].get("message") or "") if told else ""


class Left(NamedTuple):
    """A run's namespace that is still there."""

    uid: str
    holding: str  # what keeps it, in words that follow a time; may be empty


def left(namespace: Object, run: str) -> Left | None:
    """What is left of a run; None where the namespace is not its own."""
    about = namespace["metadata"]
    if (about.get("labels") or {}).get(RUN) != run:
        return None
    told = [
        str(condition.get("message") or condition.get("type"))
        for condition in namespace.get("status", {}).get("conditions") or ()
        if condition.get("status") == "True"
    ]
    return Left(str(about["uid"]), f": {'; '.join(told)}" if told else "")


def left_over(namespaces: Iterable[Object], run: str, now: datetime) -> list[tuple[str, float]]:
    """Namespaces that other runs have made and that are still there, with their age in hours."""
    out = []
    for item in namespaces:
        about = item["metadata"]
        if (about.get("labels") or {}).get(RUN) != run and "deletionTimestamp" not in about:
            made = datetime.fromisoformat(about["creationTimestamp"])
            out.append((str(about["name"]), (now - made).total_seconds() / 3600))
    return out
