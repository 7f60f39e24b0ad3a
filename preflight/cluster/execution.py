"""A process in a container, over the API server: its stdin, stdout and stderr in one WebSocket.

Frames carry a channel number in their first byte (v4.channel.k8s.io, and v5, which adds a way to
say that stdin is at its end). Without v5 stdin ends only with the whole connection, upon which the
container runtime closes it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlencode

from preflight.cluster import resources
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.kubeconfig import Endpoint, tls
from preflight.cluster.translate import answered, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websocket import WebSocket

_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_LARGEST = 32 * 1024  # bytes of stdin in one frame
_STDIN, _CLOSE = 0, 255


class Channel(IntEnum):
    """Where a frame comes from."""

    STDOUT = 1
    STDERR = 2
    STATUS = 3  # the last one: how the process ended


_OUTPUTS = frozenset(map(int, Channel))


class Frame(NamedTuple):
    """Some bytes of one of the process's outputs, or its end."""

    channel: Channel
    data: bytes


class Execution:
    """A process in a container. One thread may read while another one writes.

    Raises ClusterError; UNREACHABLE where the connection is lost.
    """

    def __init__(self, way: Endpoint, socket: WebSocket, what: str) -> None:
        self._way = way
        self._socket = socket
        self._what = what
        self.exit_code: int | None = None  # known once `read` gave None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Write to its stdin."""
        view = memoryview(data)
        for start in range(0, len(view), _LARGEST):
            self._put(bytes((_STDIN,)) + view[start : start + _LARGEST])

    def end_input(self) -> bool:
        """Say that stdin is at its end; False where this server has no word for that."""
        if self._socket.subprotocol != _V5:
            return False
        self._put(bytes((_CLOSE, _STDIN)))
        return True

    def read(self, seconds: float | None = None) -> Frame | None:
        """The next frame that is not empty; None at the end of the process.

        Raises TimeoutError where nothing came within `seconds`.
        """
        from websocket import ABNF, WebSocketTimeoutException

        self._socket.settimeout(seconds)
        while True:
            try:
                opcode, data = self._socket.recv_data()
            except WebSocketTimeoutException as error:
                raise TimeoutError from error
            except Exception as error:
                if self.exit_code is not None:
                    return None
                raise failed(self._way, "exec", self._what, error) from error
            if opcode == ABNF.OPCODE_CLOSE:
                if self.exit_code is not None:
                    return None
                raise self._lost("the connection was closed before the process ended")
            if len(data) < 2 or data[0] not in _OUTPUTS:
                continue  # the server opens each channel with an empty frame
            if data[0] == Channel.STATUS:
                self.exit_code = _exit_code(data[1:])
                if self.exit_code is None:
                    raise self._lost(_message(data[1:]))
                return None
            return Frame(Channel(data[0]), bytes(data[1:]))

    def close(self) -> None:
        """End the connection, and with it the process's stdin."""
        with suppress(Exception):  # gone already
            self._socket.settimeout(2.0)
            self._socket.send_close()
        with suppress(Exception):
            self._socket.shutdown()

    def _put(self, data: bytes) -> None:
        try:
            self._socket.send_binary(data)
        except Exception as error:
            raise failed(self._way, "exec", self._what, error) from error

    def _lost(self, why: str) -> ClusterError:
        return ClusterError(
            Fault.UNREACHABLE, f"cluster {self._way.name}: {self._what}: {why}", message=why
        )


def execute(
    way: Endpoint,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str = "",
    seconds: float,
) -> Execution:
    """Start a process; `seconds` is for each step until the server agrees."""
    from websocket import WebSocket, WebSocketBadStatusException

    what = f"a process in pod {namespace}/{pod}"
    query = [("command", word) for word in command]
    query += [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    if container:
        query.append(("container", container))
    server = way.server.replace("http", "ws", 1)
    url = f"{server}{resources.PODS.path(namespace, pod, 'exec')}?{urlencode(query)}"
    configuration = way.client.configuration
    headers = [f"{s['key']}: {s['value']}" for s in configuration.auth_settings().values()]
    options: dict[str, Any] = {"context": tls(configuration)} if url.startswith("wss") else {}
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    socket = WebSocket(sslopt=options, enable_multithread=True, skip_utf8_validation=True)
    try:
        socket.connect(
            url,
            header=headers,
            subprotocols=[_V5, _V4],
            timeout=seconds,
            suppress_origin=True,
            **_proxy(configuration),
        )
    except WebSocketBadStatusException as error:
        told = _object(error.resp_body or b"")
        raise answered(way, "start", what, error.status_code, told) from error
    except Exception as error:
        raise failed(way, "start", what, error) from error
    return Execution(way, socket, what)


def _proxy(configuration: Any) -> dict[str, Any]:
    """websocket-client takes one from the environment unless it is told."""
    from urllib.parse import urlsplit

    if not configuration.proxy:
        return {"http_no_proxy": ["*"]}
    parts = urlsplit(configuration.proxy)
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port,
        "proxy_type": parts.scheme,
    }


def _exit_code(data: bytes) -> int | None:
    """None where the process did not run at all."""
    status = _object(data)
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    for cause in causes:
        if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).isdigit():
            return int(cause["message"])
    return None


def _message(data: bytes) -> str:
    from preflight.report.text import clean

    words = _object(data).get("message") or data.decode("utf-8", "replace")
    return clean(str(words)) or "the process did not run"


def _object(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
