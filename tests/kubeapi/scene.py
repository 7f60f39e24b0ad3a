"""A cluster with Cilium in it, as EKS Anywhere installs it, in whatever state a test wants."""

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from kubeapi.raw import Raw

Object = dict[str, Any]

IMAGE = "public.ecr.aws/isovalent/cilium:v1.15.16-eksa.1"
OPERATOR = "public.ecr.aws/isovalent/operator-generic:v1.15.16-eksa.1"
PODS = "/api/v1/namespaces/kube-system/pods"
DAEMONS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
DEPLOYMENTS = "/apis/apps/v1/namespaces/kube-system/deployments"
CILIUM_NODES = "/apis/cilium.io/v2/ciliumnodes"
NODES = "/api/v1/nodes"
AGENTS, OPERATORS = "k8s-app=cilium", "io.cilium/app=operator"
_ALL = [{"operator": "Exists"}]
_DIGEST = "sha256:" + "ab" * 32

# (kind, plural, whether it is namespaced, schema of its spec)
_ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_NODE_SPEC = {
    "type": "object",
    "properties": {
        "addresses": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"type": "string"}, "ip": {"type": "string"}},
            },
        },
        "health": {
            "type": "object",
            "properties": {"ipv4": {"type": "string"}, "ipv6": {"type": "string"}},
        },
        "ipam": _ANY,
        "encryption": _ANY,
    },
}
_CUSTOM = (
    ("CiliumNode", "ciliumnodes", False, _NODE_SPEC),
    ("CiliumIdentity", "ciliumidentities", False, None),
    ("CiliumNetworkPolicy", "ciliumnetworkpolicies", True, _ANY),
    ("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", False, _ANY),
)


def address(position: int) -> str:
    """Of the node at that position, from 0 on."""
    return f"10.{20 + position // 60000}.{position // 250 % 240}.{position % 250 + 1}"


def node(position: int, name: str = "", *, ready: str = "True", **spec: Any) -> Object:
    """A node; `ready` is its condition's status. Every other node is in rack a, the rest in b."""
    name = name or f"n{position + 1}"
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "rack": "ab"[position % 2],
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": address(position)}],
            "conditions": [{"type": "Ready", "status": ready}],
            "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        },
    }


def add_nodes(raw: Raw, nodes: Iterable[Object]) -> None:
    """Make them, and wait until no taint is left that only a young node has."""
    nodes = list(nodes)
    for one in nodes:
        raw.make(NODES, one)
    if raw.server.emulated:
        return
    calm = {n["metadata"]["name"] for n in nodes if _is_ready(n)}

    def settled(found: Object) -> bool:
        return not any(
            taint["key"] == "node.kubernetes.io/not-ready"
            for one in found["items"]
            if one["metadata"]["name"] in calm
            for taint in one["spec"].get("taints") or ()
        )

    raw.until(NODES, settled, 120)


def _is_ready(one: Object) -> bool:
    return one["status"]["conditions"][0]["status"] == "True"


def define(raw: Raw) -> None:
    """Cilium's custom resources."""
    for kind, plural, namespaced, spec in _CUSTOM:
        schema = {**_ANY, "properties": {"spec": spec}} if spec else _ANY
        definition = {
            "metadata": {"name": f"{plural}.cilium.io"},
            "spec": {
                "group": "cilium.io",
                "scope": "Namespaced" if namespaced else "Cluster",
                "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
                "versions": [
                    {
                        "name": "v2",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": schema},
                    }
                ],
            },
        }
        raw.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    for _, plural, _, _ in _CUSTOM:
        raw.until(f"/apis/cilium.io/v2/{plural}", lambda found: found is not None)


def daemon_set(**spec: Any) -> Object:
    """The agents'; `spec` is the pods'."""
    labels = {"k8s-app": "cilium"}
    containers = [{"name": "cilium-agent", "image": IMAGE}]
    pod = {"hostNetwork": True, "tolerations": _ALL, "containers": containers, **spec}
    return {
        "metadata": {"name": "cilium", "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}},
        },
    }


def deployment(replicas: int = 2, **spec: Any) -> Object:
    """The operators'; each on a node of its own."""
    labels = {"io.cilium/app": "operator", "name": "cilium-operator"}
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    apart = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    pod = {
        "hostNetwork": True,
        "tolerations": _ALL,
        "affinity": {"podAntiAffinity": apart},
        "containers": [{"name": "cilium-operator", "image": OPERATOR}],
        **spec,
    }
    return {
        "metadata": {"name": "cilium-operator", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def install(raw: Raw, daemon: Object | None = None, operator: Object | None = None) -> None:
    """Cilium as EKS Anywhere installs it, with no pod running yet."""
    config = {"routing-mode": "tunnel", "tunnel-protocol": "geneve", "enable-policy": "default"}
    config["identity-allocation-mode"] = "crd"
    body = {"metadata": {"name": "cilium-config"}, "data": config}
    raw.make("/api/v1/namespaces/kube-system/configmaps", body)
    raw.make(DAEMONS, daemon or daemon_set())
    raw.make(DEPLOYMENTS, operator or deployment())


def add_cilium_nodes(raw: Raw, nodes: Sequence[Object]) -> None:
    """What agents write of their own nodes."""
    for one in nodes:
        mine = one["status"]["addresses"][0]["address"]
        spec = {"addresses": [{"type": "InternalIP", "ip": mine}], "health": {"ipv4": "192.0.2.1"}}
        body = {"metadata": {"name": one["metadata"]["name"]}, "spec": spec}
        raw.make(CILIUM_NODES, {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", **body})


def state(
    pod: Object,
    *,
    ready: bool = True,
    waiting: str = "",
    message: str = "",
    restarts: int = 0,
    ended: str = "",
    code: int = 1,
    ago: timedelta = timedelta(days=2),
    phase: str = "Running",
    image_id: str = "",
) -> Object:
    """A pod's status as a kubelet writes it: all of its containers alike."""
    time = (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    containers = []
    for asked in pod["spec"]["containers"]:
        image_id = image_id or f"{asked['image'].rpartition(':')[0]}@{_DIGEST}"
        now: Object = {"running": {"startedAt": time}}
        if waiting:
            now = {"waiting": {"reason": waiting, "message": message}}
        last: Object = {}
        if ended:
            last = {"terminated": {"reason": ended, "exitCode": code, "finishedAt": time}}
        containers.append(
            {
                "name": asked["name"],
                "image": asked["image"],
                "imageID": image_id if not waiting else "",
                "ready": ready and not waiting,
                "started": not waiting,
                "restartCount": restarts,
                "state": now,
                "lastState": last,
            }
        )
    good = ready and not waiting and phase == "Running"
    conditions = [{"type": kind, "status": str(good)} for kind in ("Ready", "ContainersReady")]
    conditions += [{"type": "Initialized", "status": "True"}]
    conditions += [{"type": "PodScheduled", "status": "True"}]
    return {"phase": phase, "conditions": conditions, "containerStatuses": containers}


def pods(raw: Raw, selector: str, count: int, *, placed: bool = True) -> dict[str, Object]:
    """That many pods by the node that each is on, as soon as they are there."""

    def there(found: Object) -> bool:
        items = found["items"]
        return len(items) == count and (not placed or all(_placed(p) for p in items))

    found = raw.until(f"{PODS}?labelSelector={selector}", there, 120)
    return {one["spec"].get("nodeName", one["metadata"]["name"]): one for one in found["items"]}


def _placed(pod: Object) -> bool:
    return bool(pod["spec"].get("nodeName"))


def put(raw: Raw, pod: Object, **told: Any) -> None:
    """Write a pod's state."""
    path = f"{PODS}/{pod['metadata']['name']}/status"
    raw.patch(path, {"status": state(pod, **told)})


def well(raw: Raw, count: int = 4, operators: int = 2) -> list[Object]:
    """A cluster whose Cilium is well in every respect; its nodes."""
    nodes = [node(position) for position in range(count)]
    add_nodes(raw, nodes)
    define(raw)
    install(raw, operator=deployment(operators))
    add_cilium_nodes(raw, nodes)
    for selector, wanted in ((AGENTS, count), (OPERATORS, operators)):
        for pod in pods(raw, selector, wanted).values():
            put(raw, pod)
    counted(raw, count, operators)
    return nodes


def counted(raw: Raw, agents: int, operators: int) -> None:
    """Until the controllers have counted what is ready."""
    raw.until(
        f"{DAEMONS}/cilium",
        lambda found: (
            found["status"].get("numberReady") == agents
            and found["status"].get("updatedNumberScheduled") == agents
        ),
        120,
    )
    raw.until(
        f"{DEPLOYMENTS}/cilium-operator",
        lambda found: found["status"].get("readyReplicas", 0) == operators,
        120,
    )


class Kubelets:
    """Does for pods what nodes do, by a rule: a pod's state, or None to leave it as it is.

    Pods that are to go are gone at once. A thread, from `__enter__` to `__exit__`.
    """

    def __init__(
        self, raw: Raw, rule: Callable[[Object], Object | None] = state, path: str = "/api/v1/pods"
    ) -> None:
        self._raw = raw
        self._rule = rule
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._known: dict[str, Object] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            for pod in self._raw.get(self._path)["items"]:
                self._look(pod)

    def _look(self, pod: Object) -> None:
        about = pod["metadata"]
        path = f"/api/v1/namespaces/{about['namespace']}/pods/{about['name']}"
        if "deletionTimestamp" in about:
            self._raw.drop(path, gracePeriodSeconds=0)
            return
        if not pod["spec"].get("nodeName"):
            return
        wanted = self._rule(pod)
        if wanted is not None and self._known.get(about["uid"]) != wanted:
            kind = "application/merge-patch+json"
            told = self._raw.ask("PATCH", f"{path}/status", {"status": wanted}, kind)
            if told.status == 200:
                self._known[about["uid"]] = wanted
