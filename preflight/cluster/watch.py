"""One watch: the changes of a collection as the API server tells them, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.translate import answered, failed

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from preflight.cluster.kubeconfig import Endpoint

Object = dict[str, Any]


def is_object(told: Any) -> TypeGuard[Object]:
    """Whether it is what the API calls an object: it has metadata with a name."""
    about = told.get("metadata") if isinstance(told, dict) else None
    return isinstance(about, dict) and isinstance(about.get("name"), str)


class Change(NamedTuple):
    """What a watch tells: `kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: Object

    @property
    def version(self) -> str:
        """The resource version that a watch goes on from."""
        about = self.object.get("metadata")
        return str(about.get("resourceVersion", "")) if isinstance(about, dict) else ""


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
                change = self._change(line)
                if change.kind == "ERROR":
                    code = change.object.get("code")
                    status = code if isinstance(code, int) else 500
                    raise answered(self._way, "GET", self._what, status, change.object)
                yield change
        finally:
            self._response.close()  # in the middle of an answer: not for the pool
            self._response.release_conn()

    def _change(self, line: Any) -> Change:
        """Raises ClusterError for what is none."""
        kind = line.get("type") if isinstance(line, dict) else None
        told = line.get("object") if isinstance(line, dict) else None
        if kind in ("ERROR", "BOOKMARK") and isinstance(told, dict):
            return Change(kind, told)
        if kind in ("ADDED", "MODIFIED", "DELETED") and is_object(told):
            return Change(kind, told)
        raise ClusterError(
            Fault.BROKEN,
            f"cluster {self._way.name}: what {self._way.server} says while watching {self._what} "
            "is not the API's",
        )

    def _lines(self) -> Iterator[Any]:
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
