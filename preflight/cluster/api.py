"""Requests to one API server: each with a timeout, each failure a ClusterError of one line.

Objects are plain dicts, as the API server sends them. A `Cluster` may be used by several threads.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

from preflight.cluster import resources
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.kubeconfig import Access, Endpoint, endpoint
from preflight.cluster.patience import Bounds, LateError, Patience, Timeouts
from preflight.cluster.requests import Requests
from preflight.cluster.resources import Resource
from preflight.cluster.translate import failed
from preflight.cluster.watch import Change, Object, Watch, is_object

if TYPE_CHECKING:
    from preflight.cluster.execution import Execution

__all__ = [
    "Access",
    "Change",
    "Cluster",
    "ClusterError",
    "Fault",
    "Listing",
    "Merge",
    "Object",
    "Timeouts",
    "Watch",
    "connect",
]

_PAGE = 500  # objects asked for at a time
_RESTARTS = 3  # of a listing whose continue token expired
_WATCH = 25  # seconds that the server holds a watch; a dead way is noticed soon after
_BEGIN = 30.0  # seconds until a process runs: server, kubelet and container runtime


class Merge(StrEnum):
    """How a patch is meant."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class Listing(NamedTuple):
    """A collection at one moment; `version` is where a watch goes on from."""

    items: list[Object]
    version: str


def connect(access: Access, timeouts: Timeouts | None = None) -> Cluster:
    """Open the cluster that the user names.

    Raises FileError or UsageError for what is wrong on this side. Sends nothing.
    """
    return Cluster(endpoint(access), timeouts or Timeouts())


class Cluster:
    """One API server, with somebody's rights.

    Every method raises ClusterError, and StoppedError where `bounded` gave a `stop`. Reads are
    tried again when the way breaks or the server is busy; writes only where the server said that
    it did nothing.
    """

    def __init__(self, way: Endpoint, timeouts: Timeouts, bounds: Bounds | None = None) -> None:
        self.name = way.name
        self.server = way.server
        self.namespace = way.namespace
        self._way = way
        self._timeouts = timeouts
        self._bounds = bounds or Bounds()
        self._requests = Requests(way, timeouts, self._bounds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections; watches end with an error."""
        self._way.client.close()

    def bounded(
        self, *, seconds: float | None = None, stop: threading.Event | None = None
    ) -> Cluster:
        """The same, for what must be over in so many seconds from now, or once `stop` is set.

        A request that begins later still gets a second. Only the original is to be closed.
        """
        until = float("inf") if seconds is None else time.monotonic() + seconds
        return Cluster(self._way, self._timeouts, Bounds(until, stop))

    def version(self) -> str:
        """The server's version, `v1.33.2`; also the least that tells whether it answers."""
        return str(self.request("GET", "/version", what="its version").get("gitVersion", ""))

    def get(self, kind: Resource, name: str, namespace: str | None = None) -> Object:
        """One object."""
        what = _what(kind, name, namespace)
        told = self.request("GET", kind.path(namespace, name), what=what)
        if not is_object(told):
            raise self._strange(what)
        return told

    def find(
        self,
        kind: Resource,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        page: int = _PAGE,
    ) -> Listing:
        """All objects of a kind, of one namespace or of all, page by page."""
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(page)}
        for _ in range(_RESTARTS):
            try:
                return self._pages(kind, namespace, query)
            except ClusterError as error:
                if error.fault is not Fault.EXPIRED:
                    raise
        # Ever slower than the token lives: in one piece.
        return self._pages(kind, namespace, {**query, "limit": ""})

    def _pages(self, kind: Resource, namespace: str | None, query: Mapping[str, str]) -> Listing:
        items: list[Object] = []
        token = ""
        while True:
            told = self.request(
                "GET",
                kind.path(namespace),
                query={**query, "continue": token},
                what=_what(kind, None, namespace),
            )
            page, about = told.get("items") or [], told.get("metadata") or {}
            if not (isinstance(page, list) and all(map(is_object, page))):
                raise self._strange(_what(kind, None, namespace))
            if not isinstance(about, dict):
                raise self._strange(_what(kind, None, namespace))
            items += page
            token = about.get("continue") or ""
            if not token:
                return Listing(items, str(about.get("resourceVersion", "")))

    def watch(
        self,
        kind: Resource,
        version: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        seconds: int = _WATCH,
    ) -> Watch:
        """Changes after `version`, bookmarks too, until the server ends it, within `seconds`.

        Going on after that is the caller's; `watching.Watcher` does it.
        """
        query = {
            "watch": "true",
            "resourceVersion": version,
            "labelSelector": labels,
            "fieldSelector": fields,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        what = _what(kind, None, namespace)
        path, read = kind.path(namespace), seconds + self._timeouts.connect
        return Watch(self._way, what, self._requests.open(path, query, what, read))

    def create(self, kind: Resource, body: Object, namespace: str | None = None) -> Object:
        """Make an object. EXISTS where its name is taken."""
        name = str((body.get("metadata") or {}).get("name", ""))
        what = _what(kind, name, namespace)
        return self.request("POST", kind.path(namespace), body=body, what=what)

    def replace(
        self, kind: Resource, body: Object, namespace: str | None = None, *, sub: str = ""
    ) -> Object:
        """Put an object in the place of its former self. CONFLICT where that changed meanwhile."""
        name = str(body["metadata"]["name"])
        path = kind.path(namespace, name, sub)
        return self.request("PUT", path, body=body, what=_what(kind, name, namespace))

    def patch(
        self,
        kind: Resource,
        name: str,
        body: Object | list[Object],
        namespace: str | None = None,
        *,
        merge: Merge = Merge.MERGE,
        sub: str = "",
    ) -> Object:
        """Change an object; `sub` is a subresource: `status`."""
        return self.request(
            "PATCH",
            kind.path(namespace, name, sub),
            body=body,
            content=merge,
            what=_what(kind, name, namespace),
        )

    def delete(
        self,
        kind: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace: int | None = None,
        propagation: str = "Background",
    ) -> Object:
        """Ask for an object's end; it may live on until its finalizers are done.

        With `uid` only that very one: CONFLICT where another has its name by now. `grace` in
        seconds; 0 takes a pod away without asking its node.
        """
        body: Object = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        what = _what(kind, name, namespace)
        return self.request("DELETE", kind.path(namespace, name), body=body, what=what)

    def allowed(
        self,
        verb: str,
        kind: Resource,
        namespace: str | None = None,
        *,
        name: str = "",
        sub: str = "",
    ) -> bool:
        """Whether these credentials may: the server's own answer, by SelfSubjectAccessReview."""
        attributes = {
            "verb": verb,
            "group": kind.group,
            "resource": kind.plural,
            "subresource": sub,
            "namespace": namespace or "",
            "name": name,
        }
        body = {
            "apiVersion": resources.ACCESS_REVIEWS.version,
            "kind": resources.ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": attributes},
        }
        told = self.create(resources.ACCESS_REVIEWS, body)
        return bool((told.get("status") or {}).get("allowed"))

    def log(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        tail: int = 50,
        previous: bool = False,
    ) -> str:
        """The last lines of a container's output, of its former run with `previous`."""
        query = {
            "container": container,
            "tailLines": str(tail),
            "limitBytes": "262144",
            "previous": "true" if previous else "",
        }
        path = resources.PODS.path(namespace, pod, "log")
        what = f"the log of pod {namespace}/{pod}"
        answer = self._requests.ask("GET", path, query, None, "", what)
        return answer.data.decode("utf-8", "replace")

    def execute(
        self, namespace: str, pod: str, command: Sequence[str], *, container: str = ""
    ) -> Execution:
        """Start a process in a container, its stdin, stdout and stderr in our hands."""
        from preflight.cluster.execution import execute

        limits = replace(self._timeouts, read=_BEGIN, whole=_BEGIN)
        try:
            return Patience(limits, self._bounds).during(
                lambda: execute(
                    self._way, namespace, pod, command, container=container, seconds=_BEGIN
                )
            )
        except LateError as error:
            what = f"a process in pod {namespace}/{pod}"
            raise failed(self._way, "start", what, error) from error

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | list[Object] | None = None,
        content: str = "application/json",
        what: str = "",
    ) -> Object:
        """One request and its answer; `what` names in an error what was asked for."""
        what = what or path
        answer = self._requests.ask(method, path, query or {}, body, content, what)
        try:
            told = json.loads(answer.data)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._strange(what, answer.status)
        return told

    def _strange(self, what: str, status: int = 200) -> ClusterError:
        return ClusterError(
            Fault.BROKEN,
            f"cluster {self.name}: the answer of {self.server} about {what} is not the API's: "
            "is that the API server's address?",
            status=status,
        )


def _what(kind: Resource, name: str | None, namespace: str | None) -> str:
    """`pods in kube-system`, `daemonset kube-system/cilium`."""
    if name is not None:
        where = f"{namespace}/" if namespace and kind.namespaced else ""
        return f"{kind.kind} {where}{name}"
    return f"{kind.plural} in {namespace}" if namespace and kind.namespaced else kind.plural
