"""Collections that follow the cluster: listed, then watched, and picked up again where they broke.

A thread for each collection; the readers see whole states, never single changes, so a change that
was missed between two watches cannot mislead them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from preflight.cluster.api import Change, Cluster, Object, Watch
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.patience import StoppedError
from preflight.cluster.resources import Resource

_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before each next attempt; the last one from then on
_POLL = 2.0  # seconds between two listings where watching is not allowed
_DENIED = 10.0  # seconds until a right that is missing is tried again


class Query(NamedTuple):
    """What to follow."""

    kind: Resource
    namespace: str | None = None
    labels: str = ""
    fields: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one collection.

    `items` is None until it was listed once. With an `error` the items are those known when the
    way to them broke.
    """

    items: Sequence[Object] | None
    error: ClusterError | None


class Watcher:
    """Follows several collections from `__enter__` to `__exit__`."""

    def __init__(self, cluster: Cluster, queries: Mapping[str, Query]) -> None:
        self._changed = threading.Condition()
        self._news = 0
        self._told = 0
        self._followers = {
            key: _Follower(cluster, query, self._changed, self._tell)
            for key, query in queries.items()
        }

    def __enter__(self) -> Self:
        for follower in self._followers.values():
            follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        for follower in self._followers.values():
            follower.stop()
        for follower in self._followers.values():
            follower.join()

    def wait(self, seconds: float) -> bool:
        """Wait until anything is new since the last `wait`; False where the time ran out first."""
        with self._changed:
            fresh = self._changed.wait_for(lambda: self._news != self._told, seconds)
            self._told = self._news
            return fresh

    def states(self) -> dict[str, State]:
        """Each collection now, by the key it was asked for with."""
        with self._changed:
            return {key: follower.state() for key, follower in self._followers.items()}

    def _tell(self) -> None:
        """Called with the lock held."""
        self._news += 1
        self._changed.notify_all()


class _Follower:
    def __init__(
        self, cluster: Cluster, query: Query, lock: threading.Condition, tell: Any
    ) -> None:
        self._over = threading.Event()
        self._cluster = cluster.bounded(stop=self._over)
        self._query = query
        self._lock = lock
        self._tell = tell
        self._items: dict[str, Object] | None = None
        self._error: ClusterError | None = None
        self._watch: Watch | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.stop()

    def join(self) -> None:
        # A thread that still waits in a watch holds nothing: it ends with its request.
        self._thread.join(1.0)

    def state(self) -> State:
        items = None if self._items is None else tuple(self._items.values())
        return State(items, self._error)

    def _run(self) -> None:
        version, failures = "", 0
        while not self._over.is_set():
            listed = False
            try:
                if not version:
                    version = self._list()
                    listed = True
                version = self._go_on(version)
                failures = 0
            except StoppedError:
                return
            except ClusterError as error:
                if self._over.is_set():
                    return
                version = self._version
                if error.fault is Fault.EXPIRED:
                    version = ""
                    continue
                if error.fault is Fault.FORBIDDEN and listed:
                    version = ""  # may list but not watch: listed again and again
                    self._over.wait(_POLL)
                    continue
                self._set(error=error)
                lasting = error.fault in (Fault.FORBIDDEN, Fault.MISSING, Fault.UNAUTHORIZED)
                pause = _DENIED if lasting else _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                self._over.wait(pause)
            except Exception as error:  # what no API server sends: known, and begun anew
                version = ""
                of = f"cluster {self._cluster.name}: what it says of {self._query.kind.plural}"
                what = f"{of} cannot be understood ({type(error).__name__})"
                self._set(error=ClusterError(Fault.BROKEN, what))
                self._over.wait(_POLL)

    _version = ""

    def _list(self) -> str:
        kind, namespace, labels, fields = self._query
        listing = self._cluster.find(kind, namespace, labels=labels, fields=fields)
        self._set(items={_key(item): item for item in listing.items})
        self._version = listing.version
        return listing.version

    def _go_on(self, version: str) -> str:
        kind, namespace, labels, fields = self._query
        watch = self._cluster.watch(kind, version, namespace, labels=labels, fields=fields)
        with self._lock:
            self._watch = watch
            known = self._error is None
        if self._over.is_set():
            watch.stop()
        if not known:
            self._set(error=None)
        for change in watch:
            self._take(change)
        return self._version

    def _take(self, change: Change) -> None:
        self._version = change.version
        if change.kind == "BOOKMARK":
            return
        with self._lock:
            items = self._items
            assert items is not None  # it was listed before it is watched
            if change.kind == "DELETED":
                items.pop(_key(change.object), None)
            else:
                items[_key(change.object)] = change.object
            self._tell()

    def _set(
        self, items: dict[str, Object] | None = None, error: ClusterError | None = None
    ) -> None:
        with self._lock:
            if items is not None:
                self._items = items
            self._error = error
            self._tell()


def _key(item: Object) -> str:
    about = item["metadata"]
    return f"{about.get('namespace', '')}/{about['name']}"
