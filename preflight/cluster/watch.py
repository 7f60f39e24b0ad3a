"""One watch: the changes of a collection as the API server tells them, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.translate import answered, failed

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from preflight.cluster.kubeconfig import Endpoint

Object = dict[str, Any]


class Change(NamedTuple):
    """What a watch tells: `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: Object

    @property
    def version(self) -> str:
        """The resource version that a watch goes on from."""
        return str((self.object.get("metadata") or {}).get("resourceVersion", ""))


class Watch:
    """The changes of one collection, in their order: iterate over it.

    Iterating raises ClusterError: EXPIRED where the server no longer knows the version that was
    asked for (list again), UNREACHABLE where the way broke (go on from the last change).
    """

    def __init__(self, way: Endpoint, what: str, response: BaseHTTPResponse) -> None:
        self._way = way
        self._what = what
        self._response = response

    def stop(self) -> None:
        """End it, from any thread; the one that iterates sees the end, or UNREACHABLE."""
        with suppress(Exception):  # over already
            self._response.shutdown()

    def __iter__(self) -> Iterator[Change]:
        try:
            for line in self._lines():
                change = Change(str(line.get("type")), line.get("object") or {})
                if change.kind == "ERROR":
                    code = int(change.object.get("code") or 500)
                    raise answered(self._way, "GET", self._what, code, change.object)
                yield change
        finally:
            self._response.close()  # in the middle of an answer: not for the pool
            self._response.release_conn()

    def _lines(self) -> Iterator[Object]:
        rest = b""
        try:
            for chunk in self._response.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
        except ValueError as error:
            raise ClusterError(
                Fault.BROKEN, f"cluster {self._way.name}: not JSON while watching {self._what}"
            ) from error
        except Exception as error:
            raise failed(self._way, "watch", self._what, error) from error
