"""Nodes without SSH: agents in short-lived pods of a DaemonSet, fed through the API server.

What is made is one namespace with all in it, and `close` takes it away; a run that is killed leaves
it behind, and the next one says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from preflight.core.cluster import agentpods
from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport.base import Session, Timeouts
from preflight.transport.command import readable_tail, shell_command
from preflight.transport.podsession import PodSession

if TYPE_CHECKING:
    from preflight.cluster.api import Cluster
    from preflight.cluster.watching import Watcher

_PODS_S = 150.0  # from the DaemonSet to a running pod: an image may have to be pulled
_GONE_S = 60.0  # until the namespace is gone
_TICK_S = 0.5
_TRIES, _TRY_S = 5, 1.0  # to delete it


@dataclass(frozen=True, slots=True)
class PodSettings:
    """Which cluster, and what runs there."""

    kubeconfig: Path | None = None  # None: as `cluster.api.Access` finds one
    context: str | None = None
    image: str = agentpods.IMAGE


@dataclass(slots=True)
class _Ground:
    """What was made in the cluster."""

    cluster: Cluster
    namespace: str
    nodes: dict[str, agentpods.Found | None] = field(default_factory=dict)


class KubernetesConnector:
    """Starts python in pods. See `base.Connector`."""

    def __init__(
        self,
        nodes: Iterable[Node],
        settings: PodSettings,
        timeouts: Timeouts,
        *,
        boot: str,
        notify: Callable[[str], None],
    ) -> None:
        """`boot` is the Python to run, fit for `shell_command`."""
        self._nodes = tuple(nodes)
        self._settings = settings
        self._timeouts = timeouts
        self._boot = boot
        self._notify = notify
        self._run = token_hex(8)
        self._setting_up = threading.Lock()
        self._cluster: Cluster | None = None
        self._ground: _Ground | None = None
        self._watcher: Watcher | None = None
        self._failure: NodeError | None = None
        self._end = 0.0
        self._stop = threading.Event()

    def prepare(self) -> None:
        """Read the kubeconfig. Raises FileError or UsageError; sends nothing."""
        from preflight.cluster.api import Access, connect

        self._cluster = connect(Access(self._settings.kubeconfig, self._settings.context))

    def connect(self, node: Node) -> Session:
        """Start python on `node`; the first that asks has all pods made."""
        from preflight.cluster.errors import ClusterError
        from preflight.cluster.patience import StoppedError

        ground = self._stand()
        pod = self._pod(ground, node)
        command = shell_command(node.python, None, self._boot, None)
        try:
            execution = ground.cluster.execute(
                ground.namespace, pod, ["/bin/sh", "-c", command], container=agentpods.CONTAINER
            )
        except ClusterError as error:
            raise NodeError(AgentState.FAILED, str(error)) from error
        except StoppedError as error:
            raise NodeError(AgentState.FAILED, "the run was ended") from error
        return PodSession(execution, f"pod {ground.namespace}/{pod}", self._timeouts)

    def _stand(self) -> _Ground:
        from preflight.cluster.errors import ClusterError
        from preflight.cluster.patience import StoppedError

        with self._setting_up:
            if self._failure is None and self._ground is None:
                try:
                    self._set_up()
                except ClusterError as error:
                    state = AgentState.UNREACHABLE if error.closed else AgentState.FAILED
                    self._failure = NodeError(state, str(error))
                except StoppedError:
                    self._failure = NodeError(AgentState.FAILED, "the run was ended")
                except NodeError as error:
                    self._failure = error
            if self._failure is not None:
                raise NodeError(self._failure.state, str(self._failure)) from self._failure
            assert self._ground is not None
            return self._ground

    def _set_up(self) -> None:
        from preflight.cluster import resources
        from preflight.cluster.watching import Query, Watcher

        assert self._cluster is not None  # prepare() comes first
        cluster = self._cluster.bounded(stop=self._stop)
        if self._stop.is_set():
            raise NodeError(AgentState.FAILED, "the run was ended")
        self._may(cluster)
        found = agentpods.locate(self._nodes, cluster.find(resources.NODES).items)
        names = sorted({there.name for there in found.values() if there is not None})
        if not names:
            self._ground = _Ground(cluster, "", found)
            return
        self._tell_leftovers(cluster)
        namespace, *inside = agentpods.objects(self._run, names, self._settings.image)
        name = str(namespace["metadata"]["name"])
        ground = _Ground(cluster, name, found)
        self._ground = ground  # from here on there is something to take away
        cluster.create(resources.NAMESPACES, namespace)
        for kind, body in zip(
            (resources.SERVICE_ACCOUNTS, resources.DAEMON_SETS), inside, strict=True
        ):
            cluster.create(kind, body, name)
        queries = {"pods": Query(resources.PODS, name), "events": Query(resources.EVENTS, name)}
        self._watcher = Watcher(cluster, queries).__enter__()
        self._end = time.monotonic() + _PODS_S

    def _may(self, cluster: Cluster) -> None:
        """All that is missing is told at once, before anything is made that nobody may remove."""
        from preflight.cluster import resources

        needed: Sequence[tuple[str, Any, str]] = (
            ("list", resources.NODES, ""),
            ("create", resources.NAMESPACES, ""),
            ("delete", resources.NAMESPACES, ""),
            ("create", resources.SERVICE_ACCOUNTS, ""),
            ("create", resources.DAEMON_SETS, ""),
            ("watch", resources.PODS, ""),
            ("create", resources.PODS, "exec"),
        )
        missing = [
            f"{verb} {kind}{'/' if sub else ''}{sub}"
            for verb, kind, sub in needed
            if not cluster.allowed(verb, kind, sub=sub)
        ]
        if missing:
            raise NodeError(
                AgentState.AUTH,
                f"cluster {cluster.name}: this account may not {', '.join(missing)}: agents in "
                "pods need that; use an account that may, or SSH",
            )

    def _tell_leftovers(self, cluster: Cluster) -> None:
        from preflight.cluster import resources

        labels = ",".join(f"{key}={value}" for key, value in agentpods.LABELS.items())
        known = cluster.find(resources.NAMESPACES, labels=labels).items
        for name, hours in agentpods.left_over(known, self._run, datetime.now(UTC)):
            self._notify(
                f"namespace {_line(name)} is still there from another run, {hours:.1f} h ago: "
                "unless that one goes on, delete it"
            )

    def _pod(self, ground: _Ground, node: Node) -> str:
        """The name of the pod there, once it runs."""
        found = ground.nodes[node.name]
        cluster = ground.cluster.name
        if found is None:
            raise NodeError(
                AgentState.UNREACHABLE,
                f"cluster {cluster} has no node {node.name}, and none with InternalIP "
                f"{' or '.join(node.addresses)}",
            )
        if found.silent:
            raise NodeError(AgentState.UNREACHABLE, f"no pod can start there: {found.silent}")
        watcher = self._watcher
        assert watcher is not None
        while not self._stop.is_set():
            states = watcher.states()
            pods = states["pods"].items or ()
            pod = agentpods.pod_of(pods, found.name)
            if pod is not None and agentpods.runs(pod):
                return str(pod["metadata"]["name"])
            why = agentpods.stuck(pod) if pod is not None else ""
            if pod is None and (refused := agentpods.refused(states["events"].items or ())):
                why = f"cluster {cluster} makes no pods: {refused}"
            late = time.monotonic() > self._end
            if late and not why:
                why = f"{agentpods.pending(pod)} ({_PODS_S:.0f} s)"
                if states["pods"].error is not None:
                    why = str(states["pods"].error)
            if why:
                raise NodeError(AgentState.FAILED, _line(why))
            time.sleep(_TICK_S / 2)
        raise NodeError(AgentState.FAILED, "the run was ended")

    def close(self) -> None:
        """Take the namespace away, and see that it goes. Says what could not be removed."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.__exit__()
        with self._setting_up:
            ground, self._ground = self._ground, None
        if ground is not None and ground.namespace:
            self._remove(ground)
        if self._cluster is not None:
            self._cluster.close()

    def _remove(self, ground: _Ground) -> None:
        """Until there is none: only then are its pods gone."""
        from preflight.cluster import resources
        from preflight.cluster.errors import ClusterError, Fault

        end, asked, failed = time.monotonic() + _GONE_S, False, 0
        why = "it cannot be reached"
        cluster = ground.cluster.bounded(seconds=_GONE_S)
        while time.monotonic() < end and failed < _TRIES:
            try:
                known = cluster.get(resources.NAMESPACES, ground.namespace)
                there = agentpods.left(known, self._run)
                if there is None:
                    return  # never made, or somebody else's by that name
                if not asked:
                    cluster.delete(resources.NAMESPACES, ground.namespace, uid=there.uid)
                    asked = True
                why = f"it is still being deleted after {_GONE_S:.0f} s{there.holding}"
            except ClusterError as error:
                if error.fault is Fault.MISSING:
                    return
                if error.fault is not Fault.CONFLICT:  # a conflict: it is being deleted already
                    failed += 1
                    why = str(error)
            time.sleep(_TRY_S if failed else _TICK_S)
        self._notify(f"namespace {ground.namespace} was left behind: {_line(why)}; delete it")


def _line(text: str) -> str:
    """What the cluster says, fit for one line of a terminal."""
    return readable_tail(text.encode())
