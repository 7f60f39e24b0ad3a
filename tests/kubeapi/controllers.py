"""What the control plane does by itself: workloads, scheduling, namespaces that end, garbage.

One thread that looks at everything again after any change, until a pass changes nothing.
"""

import copy
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from kubeapi.answers import ApiError
from kubeapi.kinds import Kind
from kubeapi.objects import now
from kubeapi.scheduling import assign, fits, place, tolerated
from kubeapi.server import Api
from kubeapi.store import Object

_DAEMON_TOLERATIONS = [
    {"key": key, "operator": "Exists", "effect": effect}
    for key, effect in (
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    )
]
_NETWORK = {
    "key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"
}  # fmt: skip


class Controllers:
    """Runs until `stop`; `settled` waits until there is nothing left to do."""

    def __init__(self, api: Api) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._api = api
        self._store = api.store
        self._over = False
        self._seen = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._store.changed:
                self._store.changed.wait_for(
                    lambda: self._over or self._store.revision != self._seen
                )
                if self._over:
                    return
                revision = self._store.revision
            for work in (
                self._namespaces, self._garbage, self._deployments, self._replica_sets,
                self._daemon_sets, self._schedule,
            ):  # fmt: skip
                try:
                    work()
                except ApiError:
                    continue  # somebody else was faster: the next pass sees it
            with self._store.changed:
                if self._store.revision == revision:
                    self._seen = revision
                    self._store.changed.notify_all()

    def stop(self) -> None:
        """End the thread."""
        with self._store.changed:
            self._over = True
            self._store.changed.notify_all()
        self._thread.join(5)

    def settled(self, seconds: float = 10) -> None:
        """Until nothing is left to do."""
        with self._store.changed:
            done = self._store.changed.wait_for(lambda: self._seen == self._store.revision, seconds)
        assert done, "the controllers never came to rest"

    def _kind(self, plural: str) -> Kind:
        return next(kind for kind in self._api.kinds if kind.plural == plural)

    def _all(self, plural: str) -> list[Object]:
        return self._store.listed(self._kind(plural), None)[0]

    def _write(self, plural: str, item: Object) -> None:
        kind, about = self._kind(plural), item["metadata"]
        self._store.update(kind, item, about["resourceVersion"])

    def _status(self, plural: str, item: Object, status: dict[str, Any]) -> None:
        if item.get("status") != status:
            self._write(plural, {**item, "status": status})

    def _delete(self, kind: Kind, item: Object, **options: Any) -> None:
        about = item["metadata"]
        self._api.objects.delete(kind, about["name"], about.get("namespace"), options)

    # Namespaces

    def _namespaces(self) -> None:
        for space in self._all("namespaces"):
            if "deletionTimestamp" not in space["metadata"]:
                continue
            name, left, waiting = space["metadata"]["name"], [], []
            for kind in self._api.kinds:
                if not kind.namespaced or kind.short:
                    continue
                for item in self._store.listed(kind, name)[0]:
                    if "deletionTimestamp" not in item["metadata"]:
                        self._delete(kind, item, propagationPolicy="Background")
                for item in self._store.listed(kind, name)[0]:
                    left.append(kind.resource)
                    waiting += item["metadata"].get("finalizers") or ()
            if not left and "kubernetes" in (space["spec"].get("finalizers") or ()):
                rest = [f for f in space["spec"]["finalizers"] if f != "kubernetes"]
                after = {**space, "spec": {"finalizers": rest}}
                kind = self._kind("namespaces")
                self._api.objects.update(kind, name, None, after, sub="finalize")
            elif left:
                conditions = [
                    _condition(
                        "NamespaceContentRemaining", bool(left), "SomeResourcesRemain", left
                    ),
                    _condition(
                        "NamespaceFinalizersRemaining",
                        bool(waiting),
                        "SomeFinalizersRemain",
                        waiting,
                    ),
                ]
                known = space["status"].get("conditions") or []
                if [c["message"] for c in known] != [c["message"] for c in conditions]:
                    self._status(
                        "namespaces", space, {"phase": "Terminating", "conditions": conditions}
                    )

    # What belongs to something that is gone

    def _garbage(self) -> None:
        alive: set[str] = set()
        owned = []
        for kind in self._api.kinds:
            if kind.short:
                continue
            for item in self._store.listed(kind, None)[0]:
                alive.add(item["metadata"]["uid"])
                if item["metadata"].get("ownerReferences"):
                    owned.append((kind, item))
        for kind, item in owned:
            about = item["metadata"]
            owners = about["ownerReferences"]
            if not any(o["uid"] in alive for o in owners) and "deletionTimestamp" not in about:
                self._delete(kind, item, propagationPolicy="Background")
        for plural in ("deployments", "replicasets", "daemonsets"):
            for item in self._all(plural):
                finalizers = item["metadata"].get("finalizers") or ()
                if "foregroundDeletion" not in finalizers:
                    continue
                children = [(k, o) for k, o in owned if _owns(item, o)]
                for kind, child in children:
                    if "deletionTimestamp" not in child["metadata"]:
                        self._delete(kind, child, propagationPolicy="Foreground")
                if not children:
                    after = copy.deepcopy(item)
                    after["metadata"]["finalizers"].remove("foregroundDeletion")
                    about = after["metadata"]
                    kind = self._kind(plural)
                    self._api.objects.update(kind, about["name"], about["namespace"], after)

    # Workloads

    def _deployments(self) -> None:
        sets = self._all("replicasets")
        for deployment in self._all("deployments"):
            if "deletionTimestamp" in deployment["metadata"]:
                continue
            spec, about = deployment["spec"], deployment["metadata"]
            digest = _digest(spec["template"])
            name = f"{about['name']}-{digest}"
            own = [s for s in sets if _owns(deployment, s)]
            current = next((s for s in own if s["metadata"]["name"] == name), None)
            template = _labelled(spec["template"], "pod-template-hash", digest)
            if current is None:
                labels = template["metadata"]["labels"]
                selector = copy.deepcopy(spec["selector"])
                selector.setdefault("matchLabels", {})["pod-template-hash"] = digest
                made = _child(deployment, name, labels)
                made["spec"] = {
                    "replicas": spec["replicas"], "selector": selector, "template": template
                }  # fmt: skip
                self._api.objects.create(self._kind("replicasets"), made, about["namespace"])
                return
            for one in own:
                wanted = spec["replicas"] if one is current else 0
                if one["spec"]["replicas"] != wanted:
                    after = {**one, "spec": {**one["spec"], "replicas": wanted}}
                    self._api.objects.update(
                        self._kind("replicasets"),
                        one["metadata"]["name"],
                        about["namespace"],
                        after,
                    )
            fresh = current.get("status") or {}
            ready = sum((s.get("status") or {}).get("readyReplicas", 0) for s in own)
            status = {
                "observedGeneration": about["generation"],
                "replicas": sum((s.get("status") or {}).get("replicas", 0) for s in own),
                "updatedReplicas": fresh.get("replicas", 0),
                "readyReplicas": ready,
                "availableReplicas": ready,
                "unavailableReplicas": max(0, spec["replicas"] - ready),
            }
            self._status("deployments", deployment, {k: v for k, v in status.items() if v})

    def _replica_sets(self) -> None:
        pods = self._by_owner()
        for one in self._all("replicasets"):
            if "deletionTimestamp" in one["metadata"]:
                continue
            spec, about = one["spec"], one["metadata"]
            own = [p for p in pods[about["uid"]] if "deletionTimestamp" not in p["metadata"]]
            failed = [p for p in own if p["status"].get("phase") in ("Failed", "Succeeded")]
            own = [p for p in own if p not in failed]
            for _ in range(spec["replicas"] - len(own)):
                made = _child(one, "", spec["template"]["metadata"].get("labels") or {})
                made["metadata"]["generateName"] = f"{about['name']}-"
                made["spec"] = spec["template"]["spec"]
                self._make_pod(made, about["namespace"])
            for pod in sorted(own, key=_ready)[: max(0, len(own) - spec["replicas"])]:
                self._delete(self._kind("pods"), pod)
            status = {
                "observedGeneration": about["generation"],
                "replicas": len(own),
                "readyReplicas": sum(map(_ready, own)),
            }
            self._status(
                "replicasets", one, {k: v for k, v in status.items() if v or k == "replicas"}
            )

    def _daemon_sets(self) -> None:
        pods, nodes = self._by_owner(), self._all("nodes")
        for one in self._all("daemonsets"):
            if "deletionTimestamp" in one["metadata"]:
                continue
            spec, about = one["spec"], one["metadata"]
            template = _labelled(
                spec["template"], "controller-revision-hash", _digest(spec["template"])
            )
            network = template["spec"].get("hostNetwork")
            own = _DAEMON_TOLERATIONS + ([_NETWORK] if network else [])
            template["spec"]["tolerations"] = [*(template["spec"].get("tolerations") or ()), *own]
            wanted = {n["metadata"]["name"] for n in nodes if _runs_on(template["spec"], n)}
            there: dict[str, list[Object]] = defaultdict(list)
            for pod in pods[about["uid"]]:
                there[_target(pod)].append(pod)
            for name in sorted(wanted - there.keys()):
                made = _child(one, "", template["metadata"]["labels"])
                made["metadata"]["generateName"] = f"{about['name']}-"
                made["spec"] = assign(template["spec"], name)
                self._make_pod(made, about["namespace"])
            names = {node["metadata"]["name"] for node in nodes}
            for name, mine in there.items():
                # Pods on nodes that are gone are left to another controller, which takes its time.
                for pod in mine if name not in wanted else mine[1:]:
                    if "deletionTimestamp" not in pod["metadata"] and name in names:
                        self._delete(self._kind("pods"), pod)
            self._roll(one, template, there)
            first = [mine[0] for name, mine in there.items() if name in wanted]
            ready = sum(map(_ready, first))
            digest = template["metadata"]["labels"]["controller-revision-hash"]
            hashes = [p["metadata"]["labels"].get("controller-revision-hash") for p in first]
            status = {
                "currentNumberScheduled": len(first),
                "desiredNumberScheduled": len(wanted),
                "numberMisscheduled": sum(len(v) for n, v in there.items() if n not in wanted),
                "numberReady": ready,
                "observedGeneration": about["generation"],
                "updatedNumberScheduled": hashes.count(digest),
                "numberAvailable": ready,
                "numberUnavailable": len(wanted) - ready,
            }
            always = {"currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled",
                      "numberReady"}  # fmt: skip
            self._status("daemonsets", one, {k: v for k, v in status.items() if v or k in always})

    def _roll(self, one: Object, template: Object, there: dict[str, list[Object]]) -> None:
        """A rolling update: one old pod at a time, and only while all others are ready."""
        if one["spec"]["updateStrategy"].get("type") != "RollingUpdate":
            return
        digest = template["metadata"]["labels"]["controller-revision-hash"]
        every = [mine[0] for mine in there.values()]
        old = [
            p for p in every
            if p["metadata"]["labels"].get("controller-revision-hash") != digest
        ]  # fmt: skip
        away = [p for p in every if not _ready(p) or "deletionTimestamp" in p["metadata"]]
        victims = [p for p in old if p in away] or (old[:1] if not away else [])
        for pod in victims[:1]:
            if "deletionTimestamp" not in pod["metadata"]:
                self._delete(self._kind("pods"), pod)

    def _make_pod(self, made: Object, namespace: str) -> None:
        made = copy.deepcopy(made)
        self._api.objects.create(self._kind("pods"), made, namespace)

    def _by_owner(self) -> dict[str, list[Object]]:
        out: dict[str, list[Object]] = defaultdict(list)
        for pod in self._all("pods"):
            for owner in pod["metadata"].get("ownerReferences") or ():
                out[owner["uid"]].append(pod)
        return out

    # The scheduler

    def _schedule(self) -> None:
        pods, nodes = self._all("pods"), self._all("nodes")
        for pod in pods:
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            node, why = place(pod, nodes, self._all("pods"))
            status = pod["status"]
            if node:
                good = _condition("PodScheduled", True, "", [])
                others = [c for c in status.get("conditions") or () if c["type"] != "PodScheduled"]
                spec = {**pod["spec"], "nodeName": node}
                status = {**status, "conditions": [*others, good]}
                self._write("pods", {**pod, "spec": spec, "status": status})
                continue
            condition = _condition("PodScheduled", False, "Unschedulable", [])
            condition["message"] = why
            known = next(
                (c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), {}
            )
            if known.get("message") != why:
                self._status("pods", pod, {**status, "conditions": [condition]})
                self._tell(pod, "FailedScheduling", why)

    def _tell(self, pod: Object, reason: str, message: str) -> None:
        about = pod["metadata"]
        event = {
            "metadata": {"generateName": f"{about['name']}."},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": about["name"],
                "namespace": about["namespace"], "uid": about["uid"],
            },
            "reason": reason, "message": message, "type": "Warning",
            "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
            "source": {"component": "default-scheduler"},
        }  # fmt: skip
        self._api.objects.create(self._kind("events"), event, about["namespace"])


def _runs_on(spec: dict[str, Any], node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    selector = spec.get("nodeSelector") or {}
    if any(labels.get(k) != v for k, v in selector.items()):
        return False
    if not fits((spec.get("affinity") or {}).get("nodeAffinity") or {}, node):
        return False
    return tolerated(spec, node, ("NoSchedule", "NoExecute"))


def _target(pod: Object) -> str:
    """The node that a daemon's pod is on, or was made for."""
    if name := pod["spec"].get("nodeName"):
        return str(name)
    try:
        affinity = pod["spec"]["affinity"]["nodeAffinity"]
        terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        return str(terms[0]["matchFields"][0]["values"][0])
    except (KeyError, IndexError):
        return ""


def _ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _owns(owner: Object, item: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(o["uid"] == uid for o in item["metadata"].get("ownerReferences") or ())


def _child(owner: Object, name: str, labels: dict[str, str]) -> Object:
    about = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": about["name"],
        "uid": about["uid"], "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
    made: dict[str, Any] = {"labels": dict(labels), "ownerReferences": [reference]}
    return {"metadata": {**made, "name": name} if name else made}


def _digest(template: Any) -> str:
    return hashlib.sha1(json.dumps(template, sort_keys=True).encode()).hexdigest()[:9]


def _labelled(template: Object, key: str, value: str) -> Object:
    out = copy.deepcopy(template)
    out.setdefault("metadata", {}).setdefault("labels", {})[key] = value
    return out


def _condition(type_: str, good: bool, reason: str, of: Iterable[str]) -> dict[str, Any]:
    out = {"type": type_, "status": str(good), "lastTransitionTime": now()}
    listed = sorted(set(of))
    if reason:
        out |= {"reason": reason, "message": ", ".join(listed)}
    return out
