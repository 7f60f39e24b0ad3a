"""`exec` over a WebSocket: v4 and v5.channel.k8s.io, with a real process behind it."""

import base64
import hashlib
import json
import socket
import struct
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from kubeapi.answers import ApiError, bad

if TYPE_CHECKING:
    from kubeapi.server import Api, Handler

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


def serve_exec(
    handler: "Handler", api: "Api", namespace: str, pod: str, query: dict[str, list[str]]
) -> None:
    """Run what the test's hook says in the container's place."""
    kind = api.kind("", "v1", "pods")
    found = api.store.get(kind, namespace, pod)
    names = [c["name"] for c in found["spec"]["containers"]]
    container = (query.get("container") or names[:1])[-1]
    if container not in names:
        raise bad(f"container {container} is not valid for pod {pod}")
    if not found["spec"].get("nodeName"):
        raise bad(f"pod {pod} does not have a host assigned")
    if handler.headers.get("Upgrade", "").lower() != "websocket":
        raise bad("Upgrade request required")
    if api.hooks.exec is None:
        raise ApiError(500, "InternalError", "no container runtime in this test")
    argv = api.hooks.exec(namespace, pod, container, query.get("command") or [])
    upgrade(handler, argv, v5=api.hooks.v5)


def upgrade(handler: BaseHTTPRequestHandler, argv: list[str], *, v5: bool) -> None:
    """Turn the connection into a WebSocket, and run that process at its end."""
    offered = [p.strip() for p in handler.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    served = ["v5.channel.k8s.io"] * v5 + ["v4.channel.k8s.io"]
    chosen = next((p for p in served if p in offered), None)
    if chosen is None:
        raise bad(f"none of the protocols is served: {offered}")
    key = handler.headers["Sec-WebSocket-Key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accept)
    handler.send_header("Sec-WebSocket-Protocol", chosen)
    handler.end_headers()
    handler.wfile.flush()
    handler.close_connection = True
    _Stream(handler, v5=chosen.startswith("v5")).run(argv)


class _Stream:
    def __init__(self, handler: BaseHTTPRequestHandler, *, v5: bool) -> None:
        self._in = handler.rfile
        self._out = handler.wfile
        self._socket: socket.socket = handler.connection
        self._lock = threading.Lock()
        self._v5 = v5

    def run(self, argv: list[str]) -> None:
        for channel in (0, 1, 2, 3):  # the server opens each channel with an empty frame
            self._send(bytes((channel,)))
        way = subprocess.PIPE
        try:
            process = subprocess.Popen(argv, stdin=way, stdout=way, stderr=way, bufsize=0)
        except OSError as error:
            self._status({"status": "Failure", "reason": "InternalError", "message": str(error)})
            return
        readers = [
            threading.Thread(target=self._copy, args=(channel, stream))
            for channel, stream in ((1, process.stdout), (2, process.stderr))
        ]
        feeder = threading.Thread(target=self._feed, args=(process,), daemon=True)
        for thread in (*readers, feeder):
            thread.start()
        for thread in readers:
            thread.join()
        code = process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        self._status(_ended(code))
        self._frame(_CLOSE, struct.pack("!H", 1000))
        self._out.flush()

    def _copy(self, channel: int, stream: object) -> None:
        with stream:  # type: ignore[attr-defined]
            while data := stream.read(32768):  # type: ignore[attr-defined]
                self._send(bytes((channel,)) + data)

    def _feed(self, process: "subprocess.Popen[bytes]") -> None:
        stdin = process.stdin
        assert stdin is not None
        try:
            while (message := self._receive()) is not None:
                if message[:1] == b"\0":
                    stdin.write(message[1:])
                elif self._v5 and message == b"\xff\0":
                    stdin.close()
        except (OSError, ValueError):
            pass
        stdin.close()  # the connection is gone: the runtime ends the process's stdin

    def _receive(self) -> bytes | None:
        whole = b""
        while True:
            head = self._in.read(2)
            if len(head) < 2:
                return None
            opcode, length = head[0] & 15, head[1] & 127
            if length == 126:
                (length,) = struct.unpack("!H", self._in.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._in.read(8))
            mask = self._in.read(4)
            data = self._in.read(length)
            repeated = (mask * (length // 4 + 1))[:length]
            clear = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
            data = clear.to_bytes(length, "big")
            if opcode == _CLOSE:
                return None
            if opcode == _PING:
                self._frame(_PONG, data)
            elif opcode != _PONG:
                whole += data
                if head[0] & 128:
                    return whole

    def _status(self, status: dict[str, object]) -> None:
        self._send(b"\3" + json.dumps({"metadata": {}, **status}).encode())

    def _send(self, data: bytes) -> None:
        self._frame(_BINARY, data)

    def _frame(self, opcode: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = struct.pack("!BB", 128 | opcode, size)
        elif size < 65536:
            head = struct.pack("!BBH", 128 | opcode, 126, size)
        else:
            head = struct.pack("!BBQ", 128 | opcode, 127, size)
        with self._lock:
            try:
                self._out.write(head + data)
                self._out.flush()
            except (OSError, ValueError):
                pass  # the client went away


def _ended(code: int) -> dict[str, object]:
    if code == 0:
        return {"status": "Success"}
    return {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
