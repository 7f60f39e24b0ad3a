"""Objects with every version they had, as etcd keeps them: one revision counts all changes.

What is handed out is never changed afterwards: whoever changes an object does so on a copy.
"""

from bisect import bisect_right
from collections.abc import Iterator
from threading import Condition
from typing import Any, NamedTuple

from kubeapi.answers import conflict, exists, expired, missing
from kubeapi.kinds import Kind

Object = dict[str, Any]


class Key(NamedTuple):
    """Where an object is kept."""

    resource: str
    namespace: str
    name: str


class Event(NamedTuple):
    """One change: an object as it was and as it is, None where it was not there."""

    revision: int
    key: Key
    before: Object | None
    now: Object | None


class Store:
    """All objects of a cluster. `changed` guards it and tells of every change."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.revision = 1
        self.compacted = 0
        self._versions: dict[str, dict[Key, list[tuple[int, Object | None]]]] = {}
        self._events: list[Event] = []

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """An object now."""
        with self.changed:
            versions = self._of(kind).get(Key(kind.resource, namespace, name))
            if versions is None or versions[-1][1] is None:
                raise missing(kind.resource, name)
            return versions[-1][1]

    def listed(
        self, kind: Kind, namespace: str | None, at: int | None = None
    ) -> tuple[list[Object], int]:
        """Objects in the order of their keys, and the revision that they are of."""
        with self.changed:
            at = self.revision if at is None else at
            if at < self.compacted:
                raise expired(at, self.compacted)
            out = []
            for key, versions in sorted(self._of(kind).items()):
                if namespace is not None and key.namespace != namespace:
                    continue
                position = bisect_right(versions, at, key=lambda v: v[0])
                if position and (there := versions[position - 1][1]) is not None:
                    out.append(there)
            return out, at

    def create(self, kind: Kind, item: Object) -> Object:
        """Keep a new object."""
        with self.changed:
            key = _key(kind, item)
            versions = self._of(kind).get(key)
            if versions is not None and versions[-1][1] is not None:
                raise exists(kind.resource, key.name)
            return self._put(kind, key, None, item)

    def update(self, kind: Kind, item: Object, expected: str) -> Object:
        """Put an object in the place of its version `expected`."""
        with self.changed:
            key = _key(kind, item)
            before = self.get(kind, key.namespace, key.name)
            if before["metadata"]["resourceVersion"] != expected:
                raise conflict(kind.resource, key.name)
            same = {**before, "metadata": {**before["metadata"], "resourceVersion": ""}}
            if {**item, "metadata": {**item["metadata"], "resourceVersion": ""}} == same:
                return before  # a change of nothing is none
            return self._put(kind, key, before, item)

    def remove(self, kind: Kind, item: Object) -> Object:
        """End an object, whatever version it has by now."""
        with self.changed:
            key = _key(kind, item)
            before = self.get(kind, key.namespace, key.name)
            self._put(kind, key, before, None)
            return before

    def compact(self) -> None:
        """Forget all that is not of now: a watch from before gets 410."""
        with self.changed:
            self.compacted = self.revision
            self._events.clear()
            for kind in self._versions.values():
                for key, versions in list(kind.items()):
                    if versions[-1][1] is None:
                        del kind[key]
                    else:
                        del versions[:-1]

    def since(self, revision: int) -> Iterator[Event]:
        """Changes after a revision; with `changed` held."""
        if revision < self.compacted:
            raise expired(revision, self.compacted)
        start = bisect_right(self._events, revision, key=lambda e: e.revision)
        return iter(self._events[start:])

    def _of(self, kind: Kind) -> dict[Key, list[tuple[int, Object | None]]]:
        return self._versions.setdefault(kind.resource, {})

    def _put(self, kind: Kind, key: Key, before: Object | None, item: Object | None) -> Object:
        self.revision += 1
        version = str(self.revision)
        if item is not None:
            item = {**item, "metadata": {**item["metadata"], "resourceVersion": version}}
        self._of(kind).setdefault(key, []).append((self.revision, item))
        self._events.append(Event(self.revision, key, before, item))
        self.changed.notify_all()
        return item if item is not None else {}


def _key(kind: Kind, item: Object) -> Key:
    about = item["metadata"]
    return Key(kind.resource, about.get("namespace", ""), about["name"])
