"""The check's objects, made in its namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from preflight.cluster.api import Cluster
from preflight.cluster.apply import Refusal
from preflight.cluster.errors import ClusterError
from preflight.cluster.resources import SECRETS, SERVICES
from preflight.core.connectivity.manifest import PART_OF, Settings, objects, planned
from preflight.core.connectivity.options import Options
from preflight.core.connectivity.pods import Expected, expected
from preflight.core.connectivity.workloads import ECHO_B

Bodies = Sequence[Mapping[str, Any]]
Put = Callable[[Bodies], list[Refusal]]  # makes objects; those that were refused


class Made(NamedTuple):
    """What is there now."""

    plan: tuple[Expected, ...]  # what to wait for
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]


def make_all(cluster: Cluster, options: Options, settings: Settings, put: Put) -> Made:
    """Make everything; `settings` are those that the cluster's nodes allow."""
    notes: list[str] = []
    refused = put(list(_secrets(cluster, options)))
    if options.given is not None:
        refused += put(options.given.objects)
        plan: tuple[Expected, ...] = options.given.plan
    else:
        refused += put(_services(settings))
        if any(_port_in_use(one) for one in refused):
            settings = _other_port(cluster, settings, put, refused, notes)
        refused += put([body for body in objects(settings) if body["kind"] != "Service"])
        plan = expected(workload.name for workload in planned(settings))
    notes += (f"{one.kind} {one.name} was not taken: {one.message}" for one in refused)
    return Made(plan, tuple(refused), tuple(notes))


def _services(settings: Settings) -> list[dict[str, Any]]:
    return [body for body in objects(settings) if body["kind"] == "Service"]


def _secrets(cluster: Cluster, options: Options) -> Iterator[Mapping[str, Any]]:
    """What the registry asks for, as a Secret of the namespace."""
    name = options.settings.pull_secret
    if name is None:
        return
    kind, data = "kubernetes.io/dockerconfigjson", {".dockerconfigjson": options.registry_login}
    if options.copied_secret is not None:
        namespace, original = options.copied_secret
        told = cluster.get(SECRETS, original, namespace)
        kind, data = str(told.get("type")), told.get("data") or {}
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": PART_OF},
        "type": kind,
        "data": data,
    }


def _port_in_use(refusal: Refusal) -> bool:
    said = refusal.message
    return refusal.name == ECHO_B and "nodePort" in said and "allocated" in said


def _other_port(
    cluster: Cluster,
    settings: Settings,
    put: Put,
    refused: list[Refusal],
    notes: list[str],
) -> Settings:
    """Let the cluster choose, where another service has the NodePort."""
    services = _services(settings._replace(node_port=None))
    again = [body for body in services if body["metadata"]["name"] == ECHO_B]
    if put(again):
        return settings
    told = cluster.get(SERVICES, ECHO_B, settings.namespace)
    port = int(told["spec"]["ports"][0]["nodePort"])
    refused[:] = [one for one in refused if not _port_in_use(one)]
    holder = _holder(cluster, settings.node_port)
    notes.append(f"NodePort {settings.node_port} is taken{holder}: {port} was used instead")
    return settings._replace(node_port=port)


def _holder(cluster: Cluster, port: int | None) -> str:
    """Which service has it, as far as that may be read."""
    try:
        for service in cluster.find(SERVICES).items:
            ports = (service.get("spec") or {}).get("ports") or ()
            if any(one.get("nodePort") == port for one in ports):
                about = service["metadata"]
                return f" by Service {about['namespace']}/{about['name']}"
    except ClusterError:
        pass
    return ""
