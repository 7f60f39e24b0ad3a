"""Single requests: as many attempts as are safe, all together with a time limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from preflight.cluster.errors import Fault
from preflight.cluster.patience import Bounds, LateError, Patience, Timeouts
from preflight.cluster.translate import answered, failed

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from preflight.cluster.kubeconfig import Endpoint

Object = dict[str, Any]

_PAUSES = (0.2, 1.0, 3.0)  # seconds before a read is tried again
_LONGEST = 10.0  # seconds of Retry-After that are waited for
_PIECE = 8192  # bytes of an answer, after which it is known to go on


class Answer(NamedTuple):
    """A success, read to its end."""

    status: int
    data: bytes


class Requests:
    """Sends them, on connections that are kept."""

    def __init__(self, way: Endpoint, timeouts: Timeouts, bounds: Bounds) -> None:
        self._way = way
        self._timeouts = timeouts
        self._bounds = bounds
        self._pool = way.client.rest_client.pool_manager

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | list[Object] | None,
        content: str,
        what: str,
    ) -> Answer:
        """An answer, after as many attempts as are safe and fit into the time.

        Raises ClusterError, StoppedError.
        """
        patience = Patience(self._timeouts, self._bounds)
        data = None if body is None else json.dumps(body).encode()

        def once() -> tuple[BaseHTTPResponse, bytes]:
            wait = patience.left()
            response = self._once(method, _url(self._way, path, query), data, content, wait)
            return response, _read(response, patience)

        response, told = self._tried(method, what, patience, once)
        return Answer(response.status, told)

    def open(self, path: str, query: Mapping[str, str], what: str, read: float) -> BaseHTTPResponse:
        """A stream that goes on as long as something comes every `read` seconds."""
        patience = Patience(replace(self._timeouts, read=read, whole=read), self._bounds)

        def once() -> tuple[BaseHTTPResponse, bytes]:
            response = self._once("GET", _url(self._way, path, query), None, "", read)
            return response, b"" if _fine(response) else _read(response, patience)

        return self._tried("GET", what, patience, once)[0]

    def _tried(
        self,
        method: str,
        what: str,
        patience: Patience,
        once: Callable[[], tuple[BaseHTTPResponse, bytes]],
    ) -> tuple[BaseHTTPResponse, bytes]:
        for pause in (*_PAUSES, None):
            try:
                response, data = patience.during(once)
            except Exception as error:
                last = method != "GET" or pause is None or not _passing(error)
                if last or not patience.pause(pause or 0.0):
                    raise failed(self._way, method, what, error) from error
                continue
            if _fine(response):
                return response, data
            refusal = answered(self._way, method, what, response.status, _status(data))
            again = refusal.fault is Fault.THROTTLED or (
                method == "GET" and refusal.fault is Fault.BROKEN
            )
            if not again or pause is None:
                raise refusal
            patience.heard()
            if not patience.pause(_pause(response.headers.get("Retry-After"), pause)):
                raise refusal
        raise AssertionError("unreachable")

    def _once(
        self, method: str, url: str, data: bytes | None, content: str, read: float
    ) -> BaseHTTPResponse:
        from urllib3 import Timeout

        headers = {"Accept": "application/json", "User-Agent": "preflight"}
        for setting in self._way.client.configuration.auth_settings().values():
            headers[str(setting["key"])] = str(setting["value"])
        if data is not None:
            headers["Content-Type"] = content
        answer: BaseHTTPResponse = self._pool.request(
            method,
            url,
            body=data,
            headers=headers,
            timeout=Timeout(connect=min(self._timeouts.connect, read), read=read),
            preload_content=False,
            retries=False,
            redirect=False,
        )
        return answer


def _url(way: Endpoint, path: str, query: Mapping[str, str]) -> str:
    given = {key: value for key, value in query.items() if value}
    return f"{way.server}{path}" + (f"?{urlencode(given)}" if given else "")


def _fine(response: BaseHTTPResponse) -> bool:
    return 200 <= response.status < 300


def _read(response: BaseHTTPResponse, patience: Patience) -> bytes:
    """All of an answer. One that is no success may be cut short: it says as little as none."""
    pieces = []
    try:
        patience.heard()
        for piece in response.stream(_PIECE):
            pieces.append(piece)
            patience.heard()
    except LateError:
        response.close()
        raise
    except Exception:
        response.close()
        if _fine(response):
            raise
        return b""
    response.release_conn()
    return b"".join(pieces)


def _passing(error: Exception) -> bool:
    """Whether it may be over in a moment: TLS and name errors are not, nor is time that is up."""
    from urllib3.exceptions import NameResolutionError, SSLError

    return not isinstance(error, (SSLError, NameResolutionError, LateError))


def _status(data: bytes) -> Object:
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _pause(asked: str | None, otherwise: float) -> float:
    """Seconds to wait."""
    if asked is not None and asked.isascii() and asked.isdigit():
        return min(float(asked), _LONGEST)
    return otherwise
