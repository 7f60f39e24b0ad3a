"""Which node a pod goes to: selectors, affinity between pods, taints, cordons, host ports."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

from kubeapi.selectors import matches
from kubeapi.store import Object

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def place(pod: Object, nodes: Sequence[Object], pods: Sequence[Object]) -> tuple[str, str]:
    """The name of a node, or why there is none in the scheduler's words."""
    busy = Counter(p["spec"].get("nodeName") for p in pods)
    why: Counter[str] = Counter()
    for node in sorted(nodes, key=lambda n: (busy[n["metadata"]["name"]], n["metadata"]["name"])):
        problem = _problem(pod, node, nodes, pods)
        if not problem:
            return node["metadata"]["name"], ""
        why[problem] += 1
    told = ", ".join(f"{count} {words}" for words, count in sorted(why.items()))
    return "", f"0/{len(nodes)} nodes are available: {told}." if nodes else "no nodes available"


def _problem(pod: Object, node: Object, nodes: Sequence[Object], pods: Sequence[Object]) -> str:
    spec = pod["spec"]
    if (node.get("spec") or {}).get("unschedulable") and not tolerated(
        spec, _cordoned(node), ("NoSchedule",)
    ):
        return "node(s) were unschedulable"
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match node selector"
    affinity = spec.get("affinity") or {}
    if not fits(affinity.get("nodeAffinity") or {}, node):
        return "node(s) didn't match node selector"
    if not tolerated(spec, node, ("NoSchedule", "NoExecute")):
        taint = next(t for t in node["spec"]["taints"] if not _tolerates(spec, t))
        shown = f"{taint['key']}: {taint.get('value', '')}"
        return f"node(s) had taint {{{shown}}}, that the pod didn't tolerate"
    there = [p for p in pods if p["spec"].get("nodeName") == node["metadata"]["name"]]
    if _ports(pod) & {port for p in there for port in _ports(p)}:
        return "node(s) didn't have free ports for the requested pod ports"
    for term in (affinity.get("podAffinity") or {}).get(_REQUIRED) or ():
        if not _near(term, pod, node, nodes, pods):
            return "node(s) didn't match pod affinity rules"
    for term in (affinity.get("podAntiAffinity") or {}).get(_REQUIRED) or ():
        if _near(term, pod, node, nodes, pods, but=pod):
            return "node(s) didn't match pod anti-affinity rules"
    return ""


def assign(spec: dict[str, Any], node: str) -> dict[str, Any]:
    """A daemon's pod for that node: the scheduler is told by affinity, as the controller does."""
    out = copy.deepcopy(spec)
    field = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = out.setdefault("affinity", {})
    affinity["nodeAffinity"] = {_REQUIRED: {"nodeSelectorTerms": [{"matchFields": [field]}]}}
    return out


def tolerated(spec: dict[str, Any], node: Object, effects: Sequence[str]) -> bool:
    """Whether a pod may run in spite of a node's taints of these effects."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return all(_tolerates(spec, t) for t in taints if t["effect"] in effects)


def _tolerates(spec: dict[str, Any], taint: dict[str, Any]) -> bool:
    for toleration in spec.get("tolerations") or ():
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        exists = toleration.get("operator") == "Exists"
        if not toleration.get("key"):
            if exists:
                return True
        elif toleration["key"] == taint["key"] and (
            exists or toleration.get("value", "") == taint.get("value", "")
        ):
            return True
    return False


def _cordoned(node: Object) -> Object:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    return {**node, "spec": {"taints": [taint]}}


def fits(affinity: dict[str, Any], node: Object) -> bool:
    """Whether a node is one that a pod's affinity to nodes asks for."""
    wanted = affinity.get(_REQUIRED)
    if not wanted:
        return True
    labels = node["metadata"].get("labels") or {}
    name = {"metadata.name": node["metadata"]["name"]}
    return any(
        matches({"matchExpressions": term.get("matchExpressions") or ()}, labels)
        and matches({"matchExpressions": term.get("matchFields") or ()}, name)
        for term in wanted["nodeSelectorTerms"]
    )


def _near(
    term: dict[str, Any],
    pod: Object,
    node: Object,
    nodes: Sequence[Object],
    pods: Sequence[Object],
    but: Object | None = None,
) -> bool:
    """Whether a pod that the term selects runs in the same domain as the node."""
    key = term["topologyKey"]
    zone = (node["metadata"].get("labels") or {}).get(key)
    if key == "kubernetes.io/hostname" and zone is None:
        zone = node["metadata"]["name"]
    domain = {
        n["metadata"]["name"]
        for n in nodes
        if (n["metadata"].get("labels") or {}).get(
            key, n["metadata"]["name"] if key == "kubernetes.io/hostname" else None
        ) == zone
    }  # fmt: skip
    spaces = term.get("namespaces") or [pod["metadata"]["namespace"]]
    return any(
        p["spec"].get("nodeName") in domain
        and p["metadata"]["namespace"] in spaces
        and (but is None or p["metadata"]["uid"] != but["metadata"]["uid"])
        and matches(term.get("labelSelector") or {}, p["metadata"].get("labels") or {})
        for p in pods
    )


def _ports(pod: Object) -> set[tuple[str, int]]:
    spec = pod["spec"]
    network = spec.get("hostNetwork")
    return {
        (port.get("protocol", "TCP"), number)
        for container in spec["containers"]
        for port in container.get("ports") or ()
        if (number := port.get("hostPort") or (port["containerPort"] if network else 0))
    }
