"""The emulator as a whole: server, controllers and a kubeconfig, up within milliseconds."""

import shutil
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeapi.certificates import authority, pair
from kubeapi.controllers import Controllers
from kubeapi.server import Api, Hooks, Server
from kubeapi.users import write_kubeconfig

_SPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class Emulator:
    """A running emulator."""

    emulated = True

    def __init__(self, directory: Path, *, tls: bool) -> None:
        self.directory = directory
        self.api = Api()
        self.ca: Path | None = None
        context = None
        if tls:
            ca = authority(directory)
            serving = pair(directory, "server", ca.certificate, ca.key)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(serving.certificate, serving.key)
            self.ca = ca.certificate
        self._server = Server(self.api, context)
        self._controllers = Controllers(self.api)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        kind = self.api.kind("", "v1", "namespaces")
        for name in _SPACES:
            self.api.objects.create(kind, {"metadata": {"name": name}}, None)

    @property
    def hooks(self) -> Hooks:
        """What a test decides."""
        return self.api.hooks

    def kubeconfig(self, user: str = "admin", server: str | None = None) -> Path:
        """A kubeconfig file for one of `users.USERS`; `server` where a proxy stands in between."""
        path = Path(tempfile.mkdtemp(dir=self.directory)) / "kubeconfig"
        write_kubeconfig(path, server or self.url, user, self.ca)
        return path

    def settled(self) -> None:
        """Until the controllers have nothing left to do."""
        self._controllers.settled()

    @classmethod
    @contextmanager
    def up(cls, *, tls: bool = False) -> Iterator["Emulator"]:
        """Start it, and end all of it."""
        directory = Path(tempfile.mkdtemp(prefix="preflight-kube-"))
        emulator = cls(directory, tls=tls)
        server = emulator._server
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        emulator._controllers.start()
        try:
            yield emulator
        finally:
            emulator.api.over.set()
            emulator._controllers.stop()
            server.shutdown()
            server.server_close()
            thread.join(5)
            shutil.rmtree(directory)
