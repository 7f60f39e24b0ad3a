"""The objects of the connectivity check: deployments, services and policies, as plain values.

They are what `kubectl apply` takes. Pods end within a second of being told to, ask for nothing
of the API, and tolerate no taint: they run where workloads run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from preflight.core.connectivity.workloads import (
    ALLOWED,
    CONNECT_S,
    DENIED,
    ECHO_A,
    ECHO_B,
    ECHO_B_HOST,
    ECHO_PORT,
    EXTERNALS,
    FAILURES,
    FQDN,
    HOST_ECHO_PORT,
    HOST_PORT,
    MULTI_NODE,
    NODE_PORT,
    PERIOD_S,
    WORKLOADS,
    Placement,
    Workload,
)

Object = dict[str, object]

# As Cilium's own command line pins them (cilium-cli, its defaults).
ECHO_IMAGE = (
    "quay.io/cilium/json-mock:v1.3.8"
    "@sha256:5aad04835eda9025fe4561ad31be77fd55309af8158ca8663a72f6abb78c2603"
)
CLIENT_IMAGE = (
    "quay.io/cilium/alpine-curl:v1.10.0"
    "@sha256:913e8c9f3d960dde03882defa0edd3a919d529c2eb167caa7f54194528bde364"
)
NAMESPACE = "cilium-test"
MANAGED_BY = {"app.kubernetes.io/managed-by": "preflight"}
PART_OF = {**MANAGED_BY, "app.kubernetes.io/part-of": "connectivity-check"}
POD_SECURITY = {
    f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")
}
_DNS_PODS = ("kube-dns", "node-local-dns")


class Settings(NamedTuple):
    """What a user may choose of it."""

    namespace: str = NAMESPACE
    image_echo: str = ECHO_IMAGE
    image_client: str = CLIENT_IMAGE
    pull_secret: str | None = None  # the name of a Secret in the same namespace
    external: bool = True
    multi_node: bool = True
    linux_only: bool = False  # the cluster has nodes of another system too
    node_port: int | None = NODE_PORT  # None: the cluster chooses


def mirrored(image: str, registry: str) -> str:
    """The image of that name in another registry: `HOST[:PORT][/PATH]` takes quay.io's place."""
    first, slash, rest = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return f"{registry.rstrip('/')}/{rest if named else image}"


def planned(settings: Settings) -> tuple[Workload, ...]:
    """The workloads that are deployed with these settings."""
    left_out: set[str] = set()
    if not settings.external:
        left_out |= EXTERNALS
    if not settings.multi_node:
        left_out |= MULTI_NODE
    return tuple(w for w in WORKLOADS if w.name not in left_out)


def namespace_object(
    name: str, labels: Mapping[str, str] = {}, annotations: Mapping[str, str] = {}
) -> Object:
    """The namespace: pods with hostNetwork and hostPort must be let in."""
    metadata: Object = {"name": name, "labels": {**PART_OF, **POD_SECURITY, **labels}}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def objects(settings: Settings) -> list[Object]:
    """Everything inside the namespace, in the order in which it is to be made.

    Services and policies come before the pods that they are for, servers before clients.
    """
    chosen = planned(settings)
    names = {workload.name for workload in chosen}
    return [
        *_services(settings),
        *(policy for policy in _policies(settings.namespace) if _name(policy) in names),
        *(_deployment(workload, settings) for workload in chosen),
    ]


def _name(thing: Object) -> object:
    metadata = thing["metadata"]
    assert isinstance(metadata, dict)
    return metadata["name"]


def _metadata(name: str, namespace: str) -> Object:
    return {"name": name, "namespace": namespace, "labels": {**PART_OF, "name": name}}


def _services(settings: Settings) -> Iterator[Object]:
    port = {"name": "http", "port": ECHO_PORT, "targetPort": ECHO_PORT, "protocol": "TCP"}
    nodes = port if settings.node_port is None else {**port, "nodePort": settings.node_port}
    specs: tuple[tuple[str, Object], ...] = (
        (ECHO_A, {"type": "ClusterIP", "selector": {"name": ECHO_A}, "ports": [port]}),
        (ECHO_B, {"type": "NodePort", "selector": {"name": ECHO_B}, "ports": [nodes]}),
        (
            "echo-b-headless",
            {"type": "ClusterIP", "clusterIP": "None", "selector": {"name": ECHO_B},
             "ports": [port]},
        ),
        (
            "echo-b-host-headless",
            {"type": "ClusterIP", "clusterIP": "None", "selector": {"name": ECHO_B_HOST}},
        ),
    )  # fmt: skip
    for name, spec in specs:
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(name, settings.namespace),
            "spec": spec,
        }


def _policies(namespace: str) -> Iterator[Object]:
    """Each selects the one pod that carries its name; what it does not allow is denied."""
    to_a: Object = {
        "toEndpoints": [{"matchLabels": {"name": ECHO_A}}],
        "toPorts": [{"ports": [{"port": str(ECHO_PORT), "protocol": "TCP"}]}],
    }
    egress: Mapping[str, list[Object]] = {
        ALLOWED: [_dns(), to_a],
        DENIED: [_dns()],
        FQDN: [_dns(proxied=True), {"toFQDNs": [{"matchPattern": "*.google.com"}]}],
    }
    for name, rules in egress.items():
        yield {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": _metadata(name, namespace),
            "spec": {"endpointSelector": {"matchLabels": {"name": name}}, "egress": rules},
        }


def _dns(*, proxied: bool = False) -> Object:
    """Questions to the cluster's DNS; proxied, Cilium learns addresses from the answers."""
    ports: Object = {"ports": [{"port": "53", "protocol": "ANY"}]}
    if proxied:
        ports["rules"] = {"dns": [{"matchPattern": "*"}]}
    return {
        "toEndpoints": [
            {
                "matchLabels": {
                    "k8s:io.kubernetes.pod.namespace": "kube-system",
                    "k8s:k8s-app": pods,
                }
            }
            for pods in _DNS_PODS
        ],
        "toPorts": [ports],
    }


def _deployment(workload: Workload, settings: Settings) -> Object:
    name = workload.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(name, settings.namespace),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"name": name}},
            "template": {
                "metadata": {"labels": {**PART_OF, "name": name}},
                "spec": _pod(workload, settings),
            },
        },
    }


def _pod(workload: Workload, settings: Settings) -> Object:
    spec: Object = {
        "containers": [_container(workload, settings)],
        "terminationGracePeriodSeconds": 1,  # nothing in it heeds SIGTERM
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    if workload.host_network:
        spec["hostNetwork"] = True
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"  # to know the cluster's services by name
    if workload.placement is not Placement.ANY:
        near = workload.placement is Placement.WITH_ECHO_B
        spec["affinity"] = {
            "podAffinity" if near else "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "labelSelector": {"matchLabels": {"name": ECHO_B}},
                        "topologyKey": "kubernetes.io/hostname",
                    }
                ]
            }
        }
    if settings.linux_only:
        spec["nodeSelector"] = {"kubernetes.io/os": "linux"}
    if settings.pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": settings.pull_secret}]
    return spec


def _container(workload: Workload, settings: Settings) -> Object:
    probe = {
        "exec": {"command": _command(workload, settings)},
        "timeoutSeconds": CONNECT_S + 2,
        "periodSeconds": PERIOD_S,
        "failureThreshold": FAILURES,
    }
    common: Object = {
        "name": f"{workload.name}-container",
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",  # to see why it ended
        "securityContext": {"allowPrivilegeEscalation": False},
        "livenessProbe": probe,
        "readinessProbe": dict(probe),
    }
    if not workload.serves:
        sleep = ["/bin/ash", "-c", "sleep 1000000000"]
        return {**common, "image": settings.image_client, "command": sleep}
    port = HOST_ECHO_PORT if workload.host_network else ECHO_PORT
    server: Object = {
        **common,
        "image": settings.image_echo,
        "env": [{"name": "PORT", "value": str(port)}],
    }
    if not workload.host_network:
        held = {"hostPort": HOST_PORT} if workload.name == ECHO_B else {}
        server["ports"] = [{"containerPort": port, **held}]
    return server


def _command(workload: Workload, settings: Settings) -> list[str]:
    url = workload.url
    if settings.node_port not in (None, NODE_PORT):
        url = url.replace(f":{NODE_PORT}/", f":{settings.node_port}/")
    quiet = ["curl", "-sS", "--fail", "--connect-timeout", str(CONNECT_S), "-o", "/dev/null", url]
    if not workload.refused:
        return quiet
    # Ready where curl fails; without -S, since its failure is what is wanted.
    return ["ash", "-c", " ".join(["!", "curl", "-s", *quiet[2:]])]
