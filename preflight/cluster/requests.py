"""Single requests: as many attempts as are safe, each with a timeout."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from preflight.cluster.errors import Fault
from preflight.cluster.translate import answered, failed

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

    from preflight.cluster.kubeconfig import Endpoint

Object = dict[str, Any]

_PAUSES = (0.2, 1.0, 3.0)  # seconds before a read is tried again
_LONGEST = 10.0  # seconds of Retry-After that are waited for


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds."""

    connect: float = 10.0
    read: float = 30.0


class Requests:
    """Sends them, on connections that are kept."""

    def __init__(self, way: Endpoint, timeouts: Timeouts) -> None:
        self._way = way
        self._timeouts = timeouts
        self._pool = way.client.rest_client.pool_manager

    def whole(self, response: BaseHTTPResponse, what: str) -> bytes:
        try:
            return response.data
        except Exception as error:
            raise failed(self._way, "read", what, error) from error

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | list[Object] | None,
        content: str,
        what: str,
        read: float,
    ) -> BaseHTTPResponse:
        """An answer whose body is still to be read, after as many attempts as are safe."""
        given = {key: value for key, value in query.items() if value}
        url = f"{self._way.server}{path}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        for pause in (*_PAUSES, None):
            try:
                response = self._once(method, url, data, content, read)
            except Exception as error:
                if method != "GET" or pause is None or not _passing(error):
                    raise failed(self._way, method, what, error) from error
                time.sleep(pause)
                continue
            if 200 <= response.status < 300:
                return response
            told = _status(response)
            refusal = answered(self._way, method, what, response.status, told)
            again = refusal.fault is Fault.THROTTLED or (
                method == "GET" and refusal.fault is Fault.BROKEN
            )
            if not again or pause is None:
                raise refusal
            time.sleep(_pause(response.headers.get("Retry-After"), pause))
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
            timeout=Timeout(connect=self._timeouts.connect, read=read),
            preload_content=False,
            retries=False,
            redirect=False,
        )
        return answer


def _passing(error: Exception) -> bool:
    """Whether it may be over in a moment: TLS and name errors are not."""
    from urllib3.exceptions import NameResolutionError, SSLError

    return not isinstance(error, (SSLError, NameResolutionError))


def _status(response: BaseHTTPResponse) -> Object:
    try:
        told = json.loads(response.data)
    except Exception:  # an answer cut short says as little as none
        return {}
    return told if isinstance(told, dict) else {}


def _pause(asked: str | None, otherwise: float) -> float:
    """Seconds to wait."""
    if asked is not None and asked.isascii() and asked.isdigit():
        return min(float(asked), _LONGEST)
    return otherwise
