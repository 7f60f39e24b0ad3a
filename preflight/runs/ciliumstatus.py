"""Cilium's state, read from an API server once, or followed until it is well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from preflight.cluster import resources
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.patience import StoppedError
from preflight.core.cluster.model import mapping, text, texts
from preflight.core.cluster.status import Read, Status, Unread, judge

if TYPE_CHECKING:
    import threading

    from preflight.cluster.api import Cluster
    from preflight.cluster.watching import Query, Watcher

Object = dict[str, Any]

HOME = "kube-system"
_AGENTS = "k8s-app=cilium"
_OPERATORS = ("io.cilium/app=operator", "name=cilium-operator")
_AGENT_NAME, _OPERATOR_NAME, _CONFIG = "cilium", "cilium-operator", "cilium-config"
_HOPELESS = 15.0  # seconds that something lasting is wrong before nobody waits any longer
_CALM = 2.0  # seconds that all must be well
_AGAIN = 2.0  # seconds until what is not there yet is looked for again
_TOGETHER = 0.1  # seconds in which changes are one
_EVENTS = 2  # complaints that are told


class Reader:
    """Reads one part after the other; once the cluster cannot be used, none of the rest."""

    def __init__(self, cluster: Cluster, namespace: str | None) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._broken: ClusterError | None = None

    def read(self) -> Read:
        """All of it. Raises ClusterError where not even the first request was answered."""
        nodes = self._all(resources.NODES)
        if self._broken is not None:
            raise self._broken
        daemon, others = self._daemon()
        space = self._namespace or HOME
        if isinstance(daemon, dict):
            space = text(daemon["metadata"], "namespace") or space
        deployment = self._deployment(space)
        agents = self._pods(daemon, space, _AGENTS)
        return Read(
            nodes=nodes,
            daemon=daemon,
            agents=agents,
            deployment=deployment,
            operators=self._pods(deployment, space, _OPERATORS[0]),
            cilium_nodes=self._maybe(resources.CILIUM_NODES),
            config=self._config(space),
            others=others,
            events=self._complaints(daemon, agents, nodes),
        )

    def _try(self, ask: Callable[[], Any]) -> Any:
        """The answer, or Unread."""
        if self._broken is not None:
            return Unread(_why(self._broken))
        try:
            return ask()
        except ClusterError as error:
            if error.closed:
                self._broken = error
            return Unread(_why(error))

    def _all(self, kind: resources.Resource, space: str | None = None, labels: str = "") -> Any:
        return self._try(lambda: self._cluster.find(kind, space, labels=labels).items)

    def _named(self, kind: resources.Resource, name: str, space: str) -> Any:
        """None where there is none."""

        def ask() -> Object | None:
            try:
                return self._cluster.get(kind, name, space)
            except ClusterError as error:
                if error.fault is Fault.MISSING:
                    return None
                raise

        return self._try(ask)

    def _maybe(self, kind: resources.Resource) -> Any:
        """None where the cluster knows no such kind."""

        def ask() -> Sequence[Object] | None:
            try:
                return self._cluster.find(kind).items
            except ClusterError as error:
                if error.fault is Fault.MISSING:
                    return None
                raise

        return self._try(ask)

    def _daemon(self) -> tuple[Any, tuple[str, ...]]:
        """The agents' DaemonSet, by its label or else by its name; and what else has the label."""
        kind = resources.DAEMON_SETS
        found = self._all(kind, self._namespace, _AGENTS)
        if isinstance(found, Unread) and self._namespace is None:
            found = self._all(kind, HOME, _AGENTS)
        if not isinstance(found, Unread) and found:
            first, *rest = sorted(found, key=_by_custom)
            return first, tuple(_called(other) for other in rest)
        named = self._named(kind, _AGENT_NAME, self._namespace or HOME)
        if named is None and isinstance(found, Unread):
            return found, ()  # it may be elsewhere, where these rights do not reach
        return named, ()

    def _deployment(self, space: str) -> Any:
        kind = resources.DEPLOYMENTS
        found: Any = None
        for labels in _OPERATORS:
            found = self._all(kind, space, labels)
            if isinstance(found, Unread):
                break
            if found:
                return min(found, key=_by_custom)
        named = self._named(kind, _OPERATOR_NAME, space)
        return found if named is None and isinstance(found, Unread) else named

    def _pods(self, owner: Any, space: str, otherwise: str) -> Any:
        if owner is None:
            return []
        return self._all(resources.PODS, space, selector_of(owner, otherwise))

    def _config(self, space: str) -> Any:
        found = self._named(resources.CONFIG_MAPS, _CONFIG, space)
        return texts(found, "data") if isinstance(found, dict) else found

    def _complaints(self, daemon: Any, agents: Any, nodes: Any) -> tuple[str, ...]:
        """Why pods are not even made: quotas, webhooks, admission."""
        unread = isinstance(agents, Unread) or isinstance(nodes, Unread)
        if not isinstance(daemon, dict) or unread or len(agents) >= len(nodes):
            return ()
        about = daemon["metadata"]
        fields = f"involvedObject.kind=DaemonSet,involvedObject.name={about['name']},type=Warning"
        found = self._try(
            lambda: self._cluster.find(resources.EVENTS, about["namespace"], fields=fields).items
        )
        if isinstance(found, Unread):
            return ()
        said = {f"{text(e, 'reason')}: {text(e, 'message')}": None for e in reversed(found)}
        return tuple(said)[:_EVENTS]


def selector_of(owner: Any, otherwise: str) -> str:
    """A workload's own selector, as a query has it."""
    if not isinstance(owner, dict):
        return otherwise
    wanted = texts(mapping(mapping(owner, "spec"), "selector"), "matchLabels")
    return ",".join(f"{key}={value}" for key, value in wanted.items()) or otherwise


def _by_custom(one: Object) -> tuple[bool, bool, str]:
    about = one["metadata"]
    name, space = text(about, "name"), text(about, "namespace")
    return (name not in (_AGENT_NAME, _OPERATOR_NAME), space != HOME, f"{space}/{name}")


def _called(one: Object) -> str:
    about = one["metadata"]
    return f"DaemonSet {text(about, 'namespace')}/{text(about, 'name')}"


def _why(error: ClusterError) -> str:
    """The error without the cluster's name, which the report has at its head."""
    said = str(error)
    return said.partition(": ")[2] if said.startswith("cluster ") else said


def read_status(cluster: Cluster, namespace: str | None) -> Status:
    """Cilium's state now. Raises ClusterError where the cluster cannot be used at all."""
    return judge(Reader(cluster, namespace).read(), datetime.now(UTC))


def await_status(
    cluster: Cluster,
    namespace: str | None,
    seconds: float,
    tell: Callable[[Status], None],
    away: Callable[[str], None],
    stop: threading.Event,
) -> Status:
    """Cilium's state as soon as it is well, or clear that it will not be, or time is up.

    `tell` is called with each new state, `away` with why there is none yet. Raises ClusterError
    where the cluster could not be used at any time.
    """
    until = time.monotonic() + seconds
    patience = _Patience()
    status: Status | None = None
    while True:
        try:
            left = until - time.monotonic()
            first = Reader(cluster.bounded(seconds=left, stop=stop), namespace).read()
        except StoppedError:
            if status is None:
                raise
            return status
        except ClusterError as error:
            if error.fault is not Fault.UNREACHABLE or time.monotonic() + _AGAIN >= until:
                raise
            away(str(error))
            if stop.wait(_AGAIN):
                raise KeyboardInterrupt from error
            continue
        status = judge(first, datetime.now(UTC))
        tell(status)
        if isinstance(first.daemon, dict) and isinstance(first.deployment, dict):
            return _follow(cluster, first, until, patience, tell, stop)
        if patience.over(status) or time.monotonic() >= until or stop.wait(_AGAIN):
            return status


class _Patience:
    """When waiting has an end before its time."""

    def __init__(self) -> None:
        self._hopeless = self._calm = float("inf")

    def over(self, status: Status) -> bool:
        """Whether it has been well, or without hope, for long enough."""
        now = time.monotonic()
        self._calm = min(self._calm, now) if status.well else float("inf")
        self._hopeless = min(self._hopeless, now) if status.lasting else float("inf")
        return now - self._calm >= _CALM or now - self._hopeless >= _HOPELESS


def _follow(
    cluster: Cluster,
    first: Read,
    until: float,
    patience: _Patience,
    tell: Callable[[Status], None],
    stop: threading.Event,
) -> Status:
    from preflight.cluster.watching import Watcher

    with Watcher(cluster, _queries(first)) as watcher:
        while True:
            status = judge(_seen(first, watcher), datetime.now(UTC))
            tell(status)
            left = until - time.monotonic()
            if patience.over(status) or left <= 0 or stop.is_set():
                return status
            if watcher.wait(min(0.5, left)):
                stop.wait(_TOGETHER)


def _queries(first: Read) -> Mapping[str, Query]:
    """What is followed: all that was readable."""
    from preflight.cluster.watching import Query

    wanted = {"nodes": Query(resources.NODES)}
    for key, pods, kind, labels in (
        ("daemon", "agents", resources.DAEMON_SETS, _AGENTS),
        ("deployment", "operators", resources.DEPLOYMENTS, _OPERATORS[0]),
    ):
        owner = getattr(first, key)
        about = owner["metadata"]
        space, name = text(about, "namespace"), text(about, "name")
        wanted[key] = Query(kind, space, fields=f"metadata.name={name}")
        wanted[pods] = Query(resources.PODS, space, labels=selector_of(owner, labels))
    wanted["cilium_nodes"] = Query(resources.CILIUM_NODES)
    return wanted


def _seen(first: Read, watcher: Watcher) -> Read:
    """What was read at first, with all that is known by now."""
    now: dict[str, Any] = {}
    stale = []
    for key, state in watcher.states().items():
        if state.items is None:
            absent = state.error is not None and state.error.fault is Fault.MISSING
            if absent:
                now[key] = None
            elif state.error is not None:
                now[key] = Unread(_why(state.error))
            continue  # not answered yet: as it was read
        if state.error is not None:
            stale.append(key)
        found = list(state.items)
        if key in ("daemon", "deployment"):
            now[key] = found[0] if found else None
        else:
            now[key] = found
    return replace(first, **now, stale=tuple(stale))
