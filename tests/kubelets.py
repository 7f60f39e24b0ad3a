"""Nodes without kubelets, and what a test has their pods be: started, ready, failing, gone.

Works on any API server that serves pods: the emulator or a real one.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kubeapi.raw import Raw

SPACE = "cilium-test"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CILIUM = "/apis/cilium.io/v2"


class Fate(NamedTuple):
    """What becomes of a workload's pods."""

    ready: bool = False
    unhealthy: str = ""  # what its probe says, as curl would
    waiting: tuple[str, str] | None = None  # a reason and its message
    ended: tuple[str, int, str] | None = None  # the last end: reason, code, words
    restarts: int = 0
    events: tuple[tuple[str, str], ...] = ()  # reasons and messages
    failed: tuple[str, str] | None = None  # the pod itself: reason and message
    started: bool = True


READY = Fate(ready=True)


def timeout(host: str = "echo-b") -> Fate:
    """No answer."""
    said = f"curl: (28) Failed to connect to {host} port 8080 after 5001 ms: Timeout was reached"
    return Fate(unhealthy=said)


def refused(host: str = "echo-b", port: int = 8080) -> Fate:
    """A reset."""
    said = f"curl: (7) Failed to connect to {host} port {port} after 1 ms: Connection refused"
    return Fate(unhealthy=said)


def unresolved(host: str = "echo-b") -> Fate:
    """No such name."""
    return Fate(unhealthy=f"curl: (6) Could not resolve host: {host}")


IMAGE = Fate(waiting=("ImagePullBackOff", 'Back-off pulling image "x"'), started=False)


def cilium(raw: Raw) -> None:
    """Make Cilium's kinds of policies."""
    for plural, kind, scope in (
        ("ciliumnetworkpolicies", "CiliumNetworkPolicy", "Namespaced"),
        ("ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy", "Cluster"),
    ):
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v2", "served": True, "storage": True,
                   "schema": {"openAPIV3Schema": schema}}  # fmt: skip
        names = {"plural": plural, "singular": kind.lower(), "kind": kind}
        spec = {"group": "cilium.io", "scope": scope, "names": names, "versions": [version]}
        raw.make(CRDS, {"metadata": {"name": f"{plural}.cilium.io"}, "spec": spec})
        raw.until(f"{CILIUM}/{plural}", lambda found: found is not None)


def config(raw: Raw, **data: str) -> None:
    """ConfigMap cilium-config; underscores stand for hyphens."""
    data = {"routing-mode": "tunnel", "tunnel-protocol": "geneve"} | {
        k.replace("_", "-"): v for k, v in data.items()
    }
    path = "/api/v1/namespaces/kube-system/configmaps"
    raw.make(path, {"metadata": {"name": "cilium-config"}, "data": data})


def node(raw: Raw, name: str, address: str, *, taint: str = "", ready: bool = True) -> None:
    """A node that takes pods, unless it has a taint or is not ready."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
    raw.make("/api/v1/nodes", {"metadata": {"name": name, "labels": labels},
                               "spec": {"taints": taints} if taints else {}})  # fmt: skip
    amounts = {"pods": "110", "cpu": "8", "memory": "16Gi"}
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": [
            {"type": "Ready", "status": str(ready), "reason": "Kubelet", "message": "as told"}
        ],
    }
    path = f"/api/v1/nodes/{name}"
    raw.patch(f"{path}/status", {"status": status})
    if ready:
        raw.until(path, lambda n: not [
            t for t in n["spec"].get("taints", ()) if "not-ready" in t["key"]
        ])  # fmt: skip


def dns(raw: Raw, name: str, on: str, *, ready: bool = True) -> None:
    """A DNS pod."""
    path = "/api/v1/namespaces/kube-system/pods"
    raw.make(path, {
        "metadata": {"name": name, "labels": {"k8s-app": "kube-dns"}},
        "spec": {"nodeName": on, "containers": [{"name": "coredns", "image": "x"}]},
    })  # fmt: skip
    condition = {"type": "Ready", "status": str(ready)}
    raw.patch(f"{path}/{name}/status", {"status": {"phase": "Running", "conditions": [condition]}})


class Kubelets:
    """Gives every pod of a namespace that has a node its fate, and takes away those that end.

    `fates` may be changed while it runs; what is not in it is ready.
    """

    def __init__(self, raw: Raw, fates: dict[str, Fate] | None = None, space: str = SPACE) -> None:
        self.fates = dict(fates or {})
        self.default = READY
        self.hold = False  # pods that are told to end do not
        self._raw = raw
        self._pods = f"/api/v1/namespaces/{space}/pods"
        self._events = f"/api/v1/namespaces/{space}/events"
        self._given: dict[str, Fate] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> "Kubelets":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._over.wait(0.02):
                answer = self._raw.ask("GET", self._pods)
                for pod in answer.body.get("items", ()) if answer.status == 200 else ():
                    self._treat(pod)
        except BaseException as error:
            if not self._over.is_set():
                self.error = error

    def _treat(self, pod: dict[str, Any]) -> None:
        about = pod["metadata"]
        name = about["name"]
        if "deletionTimestamp" in about:
            if not self.hold:
                self._raw.drop(f"{self._pods}/{name}", gracePeriodSeconds=0)
            return
        if not pod["spec"].get("nodeName"):
            return
        workload = about["labels"].get("name", name)
        fate = self.fates.get(workload, self.default)
        if self._given.get(about["uid"]) is fate:
            return
        self._given[about["uid"]] = fate
        said = list(fate.events)  # before the status, so that who sees that sees these too
        if fate.unhealthy is not None and not fate.ready and fate.started and not fate.waiting:
            said.append(("Unhealthy", f"Readiness probe failed: {fate.unhealthy}"))
        for reason, message in said:
            self._tell(pod, reason, message)
        self._raw.ask(
            "PATCH", f"{self._pods}/{name}/status", {"status": _status(pod, fate)},
            "application/merge-patch+json",
        )  # fmt: skip

    def _tell(self, pod: dict[str, Any], reason: str, message: str) -> None:
        about = pod["metadata"]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._raw.ask("POST", self._events, {
            "metadata": {"generateName": f"{about['name']}."},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": about["name"],
                               "namespace": about["namespace"], "uid": about["uid"]},
            "reason": reason, "message": message, "type": "Warning",
            "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            "source": {"component": "kubelet"},
        })  # fmt: skip


def _status(pod: dict[str, Any], fate: Fate) -> dict[str, Any]:
    if fate.failed is not None:
        reason, message = fate.failed
        return {"phase": "Failed", "reason": reason, "message": message}
    state: dict[str, Any] = {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}
    if fate.waiting is not None:
        state = {"waiting": {"reason": fate.waiting[0], "message": fate.waiting[1]}}
    elif not fate.started:
        state = {"waiting": {"reason": "ContainerCreating"}}
    last: dict[str, Any] = {}
    if fate.ended is not None:
        reason, code, words = fate.ended
        last = {"terminated": {"reason": reason, "exitCode": code, "message": words}}
    container = {
        "name": pod["spec"]["containers"][0]["name"], "image": "x", "imageID": "",
        "ready": fate.ready, "restartCount": fate.restarts, "state": state, "lastState": last,
        "started": fate.started,
    }  # fmt: skip
    return {
        "phase": "Running" if fate.started else "Pending",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(fate.ready)},
        ],
        "containerStatuses": [container],
    }


Choice = Callable[[str], Fate]
