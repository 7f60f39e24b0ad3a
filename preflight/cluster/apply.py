"""Objects made from plain values, of any kind that the API server knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from preflight.cluster import resources
from preflight.cluster.api import Cluster
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.patience import StoppedError
from preflight.cluster.resources import Resource

_KNOWN = {(r.version, r.kind): r for r in vars(resources).values() if isinstance(r, Resource)}
_PAUSE = 1.0  # seconds between two attempts to reach the API server
_BROKEN = 3  # errors of the server itself, as of a webhook that does not answer
_AWAY = frozenset({Fault.UNREACHABLE, Fault.BROKEN, Fault.THROTTLED})


class Refusal(NamedTuple):
    """An object that the API server did not take."""

    kind: str
    name: str
    message: str


class Kinds:
    """Where the API server keeps which kind: from a table, else asked."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: dict[str, list[Mapping[str, Any]]] = {}

    def resource(self, version: str, kind: str) -> Resource | None:
        """None where the API server does not serve it."""
        known = _KNOWN.get((version, kind))
        if known is not None:
            return known
        if version not in self._asked:
            root = "/apis" if "/" in version else "/api"
            try:
                told = self._cluster.request("GET", f"{root}/{version}", what=version)
            except ClusterError as error:
                if error.fault is not Fault.MISSING:
                    raise
                told = {}
            self._asked[version] = list(told.get("resources") or ())
        for one in self._asked[version]:
            if one.get("kind") == kind and "/" not in str(one.get("name", "/")):
                return Resource(version, str(one["name"]), kind, bool(one.get("namespaced")))
        return None


def apply(
    cluster: Cluster,
    objects: Iterable[Mapping[str, Any]],
    namespace: str,
    *,
    until: float,
    stop: threading.Event,
    tell: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Refusal]:
    """Make them in a namespace of ours, one after the other; those that were refused.

    One that exists already was made by an attempt whose answer was lost. While the API server is
    away it is tried again until `until`; then raises ClusterError.
    """
    kinds = Kinds(cluster)
    refused = []
    for body in objects:
        kind, name = str(body.get("kind")), str(body["metadata"]["name"])
        broken = 0
        while not stop.is_set():
            try:
                resource = kinds.resource(str(body.get("apiVersion")), kind)
                if resource is None:
                    refused.append(Refusal(kind, name, "the API server does not serve this kind"))
                else:
                    cluster.create(resource, dict(body), namespace)
                break
            except StoppedError:
                break
            except ClusterError as error:
                if error.fault is Fault.EXISTS:
                    break
                broken += error.fault is Fault.BROKEN
                if error.fault not in _AWAY or broken > _BROKEN:
                    refused.append(Refusal(kind, name, error.message or str(error)))
                    break
                if clock() >= until:
                    raise
                tell(str(error))
                stop.wait(_PAUSE)
    return refused
