"""The two doors of a kubelet that an API server knocks at: `exec` and `containerLogs`.

A real API server hands a WebSocket through to the node as it is; so a node that is this machine,
with this server's port, makes `exec` and `log` work against a real control plane.
"""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from kubeapi.certificates import authority, pair
from kubeapi.server import Hooks
from kubeapi.streams import upgrade


class Kubelet:
    """Listens on loopback, from `__enter__` to `__exit__`; `hooks` say what happens."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self._directory = TemporaryDirectory()
        here = Path(self._directory.name)
        ca = authority(here)
        serving = pair(here, "kubelet", ca.certificate, ca.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(serving.certificate, serving.key)
        self._server = _Server(self.hooks, context)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def node(self, name: str) -> dict[str, Any]:
        """A node whose kubelet this is."""
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_port}},
                "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
                "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            },
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._directory.cleanup()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """`/exec/NAMESPACE/POD/CONTAINER` or `/containerLogs/…`."""
        parts = urlsplit(self.path)
        door, namespace, pod, container = map(unquote, parts.path.strip("/").split("/")[:4])
        query = parse_qs(parts.query)
        hooks = self.server.hooks
        if door == "exec" and hooks.exec is not None:
            argv = hooks.exec(namespace, pod, container, query.get("command") or [])
            upgrade(self, argv, v5=hooks.v5)
            return
        previous = query.get("previous") == ["true"]
        data = hooks.log(namespace, pod, container, previous).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hooks: Hooks, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hooks = hooks
        self._context = context

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self._context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, *_: Any) -> None:
        """The API server hangs up as it likes."""
