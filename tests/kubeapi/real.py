"""A real control plane on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

No kubelet runs: nodes and the states of pods are whatever a test writes. `scripts/cluster` makes
the binaries; `Real.up` needs them in `binaries()`, and `etcd` in PATH.
"""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

from kubeapi.certificates import authority, pair
from kubeapi.users import USERS, write_kubeconfig

_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_START = 60.0  # seconds


def binaries() -> Path:
    """Where `scripts/cluster` puts them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PREFLIGHT_KUBE_BIN") or cache / "preflight-tests" / "bin")


def available() -> bool:
    """Whether a real control plane can be started here."""
    there = all((binaries() / program).exists() for program in _PROGRAMS)
    return there and shutil.which("etcd") is not None


class Real:
    """A running control plane."""

    emulated = False

    def __init__(self, directory: Path, port: int, ca: Path) -> None:
        self.directory = directory
        self.url = f"https://127.0.0.1:{port}"
        self.ca = ca
        self.processes: list[subprocess.Popen[bytes]] = []

    def kubeconfig(self, user: str = "admin", server: str | None = None) -> Path:
        """A kubeconfig file for one of `users.USERS`; `server` where a proxy stands in between."""
        path = Path(tempfile.mkdtemp(dir=self.directory)) / "kubeconfig"
        write_kubeconfig(path, server or self.url, user, self.ca)
        return path

    def _run(self, *command: str | Path) -> None:
        name = Path(command[0]).name
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    @classmethod
    @contextmanager
    def up(cls) -> Iterator["Real"]:
        """Start it, wait until it serves and its controllers work, and end all of it."""
        base = "/dev/shm" if Path("/dev/shm").is_dir() else None
        directory = Path(tempfile.mkdtemp(prefix="preflight-kube-", dir=base))
        client, peer, port, manager, scheduler = _free_ports(5)
        ca = authority(directory)
        real = cls(directory, port, ca.certificate)
        try:
            real._start(client, peer, port, manager, scheduler)
            yield real
        finally:
            for process in reversed(real.processes):
                process.terminate()
            for process in real.processes:
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            shutil.rmtree(directory)

    def _start(self, client: int, peer: int, port: int, manager: int, scheduler: int) -> None:
        here = self.directory
        serving = pair(here, "apiserver", here / "ca.crt", here / "ca.key")
        accounts = pair(here, "accounts", here / "ca.crt", here / "ca.key")
        tokens = here / "tokens.csv"
        tokens.write_text(
            "".join(
                f'{user.token},{name},{name},"{",".join(user.groups)}"\n'
                for name, user in USERS.items()
            )
        )
        etcd = f"http://127.0.0.1:{client}"
        peers = f"http://127.0.0.1:{peer}"
        self._run(
            shutil.which("etcd") or "etcd",
            f"--data-dir={here / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
        )
        until = time.monotonic() + _START
        _wait(f"127.0.0.1:{client}", "/health", None, until)
        self._run(
            binaries() / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={here / 'ca.crt'}",
            f"--cert-dir={here / 'certs'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={accounts.key}",
            f"--service-account-signing-key-file={accounts.key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--anonymous-auth=false",
            f"--token-auth-file={tokens}",
            "--v=1",
        )
        admin = USERS["admin"].token
        context = ssl.create_default_context(cafile=str(self.ca))
        _wait(f"127.0.0.1:{port}", "/readyz", context, until, admin)
        config = self.kubeconfig()
        self._run(
            binaries() / "kube-controller-manager",
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={manager}",
            "--port=0",
            f"--root-ca-file={here / 'ca.crt'}",
            f"--service-account-private-key-file={accounts.key}",
            "--controllers=*,-bootstrapsigner,-tokencleaner,-nodeipam,-podgc",
            "--node-monitor-grace-period=87600h",  # nobody sends heartbeats
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--concurrent-namespace-syncs=10",
            f"--cert-dir={here / 'certs'}",
        )
        self._run(
            binaries() / "kube-scheduler",
            f"--kubeconfig={config}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={scheduler}",
            "--port=0",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            f"--cert-dir={here / 'certs'}",
        )
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        # The admission of pods wants the account's token, and its controller takes a moment.
        _wait(f"127.0.0.1:{port}", path, context, until, admin, b'"secrets"')


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait(
    address: str,
    path: str,
    context: ssl.SSLContext | None,
    until: float,
    token: str = "",
    holds: bytes = b"",
) -> None:
    """Until the server answers `path` with 200 and the answer holds that."""
    while True:
        kind = HTTPConnection(address, timeout=5)
        if context is not None:
            kind = HTTPSConnection(address, timeout=5, context=context)
        try:
            kind.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = kind.getresponse()
            if response.status == 200 and holds in response.read():
                return
        except (OSError, HTTPException):
            pass
        finally:
            kind.close()
        if time.monotonic() > until:
            raise TimeoutError(f"{address}{path}: not there after {_START:g} s")
        time.sleep(0.1)
