"""Requests to an API server that says nothing, or not enough, have an end; Ctrl-C is heard.

And answers that are none, or end in the middle, are told without Python's words.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kubeapi.raw import Raw, Server
from kubeapi.wire import Wire
from test_connectivity_check import SPACE, SPACES, there, workers  # noqa: F401

from preflight.cluster.api import Access, Cluster, Timeouts, connect
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.patience import StoppedError
from preflight.cluster.resources import NODES

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: k, cluster: {server: 'URL'}}]
users: [{name: u, user: {token: abc}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
current-context: c
"""
ENOUGH = 60.0  # seconds in which a command that is bounded has long ended


def cluster_at(tmp_path: Path, port: int, timeouts: Timeouts | None = None) -> Cluster:
    return connect(Access(kubeconfig(tmp_path, port)), timeouts)


def kubeconfig(tmp_path: Path, port: int) -> Path:
    file = tmp_path / "config"
    file.write_text(KUBECONFIG.replace("URL", f"http://127.0.0.1:{port}"))
    return file


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes], int]]:
    """Starts a server that sends its text once, and then a byte again and again."""
    over = threading.Event()
    threads = []

    def serve(text: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))

        def run() -> None:
            with listener, closing(listener.accept()[0]) as peer:
                peer.recv(65536)
                try:
                    peer.sendall(text)
                    while not over.wait(0.02):
                        peer.sendall(b" ")
                except OSError:
                    return

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    over.set()
    for thread in threads:
        thread.join()


def test_attempts_share_one_time_limit(
    silent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attempt gets what is left, not a limit of its own."""
    given = []
    quick = Timeouts(connect=0.3, read=0.4)
    monkeypatch.setattr("preflight.cluster.requests._PAUSES", (0.01, 0.01, 0.01, 0.01))
    with cluster_at(tmp_path, silent, quick) as cluster:
        pool = cluster._way.client.rest_client.pool_manager
        request = pool.request

        def noted(*arguments: object, **more: object) -> object:
            given.append(more["timeout"])
            assert more["retries"] is False
            return request(*arguments, **more)

        monkeypatch.setattr(pool, "request", noted)
        with pytest.raises(ClusterError, match="no answer in time") as caught:
            cluster.version()
    assert caught.value.fault is Fault.UNREACHABLE
    assert given[0].connect_timeout <= 0.3
    assert sum(one.read_timeout for one in given) < 0.6


def test_a_request_ends_with_what_it_is_for(silent: int, tmp_path: Path) -> None:
    """A limit of minutes, and a command that has a second."""
    endless = Timeouts(connect=500, read=500, whole=500)
    with cluster_at(tmp_path, silent, endless) as cluster, pytest.raises(ClusterError):
        cluster.bounded(seconds=0).version()


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{",  # a body without an end
        b"HTTP/1.1 200 OK\r\nX-Long: ",  # a header without one
        b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n{",
    ],
)
def test_an_answer_that_drips(
    dripping: Callable[[bytes], int], tmp_path: Path, text: bytes
) -> None:
    """No single wait for a byte is too long; all of them are."""
    quick = Timeouts(connect=1, read=1, whole=1)
    with cluster_at(tmp_path, dripping(text), quick) as cluster, pytest.raises(ClusterError):
        cluster.version()


@pytest.mark.parametrize(
    "ask",
    [Cluster.version, lambda c: c.watch(NODES, "1"), lambda c: c.execute("default", "p", ["true"])],
)
def test_a_request_is_left_when_the_user_wants_to_end(
    silent: int, tmp_path: Path, ask: Callable[[Cluster], object]
) -> None:
    stop = threading.Event()
    endless = Timeouts(connect=500, read=500, whole=500)
    with cluster_at(tmp_path, silent, endless) as cluster:
        bounded = cluster.bounded(stop=stop)
        threading.Timer(0.2, stop.set).start()
        with pytest.raises(StoppedError):
            ask(bounded)
        with pytest.raises(StoppedError):  # nothing more is sent
            ask(bounded)


@pytest.mark.parametrize(
    "arguments",
    [
        ("cilium", "status", "--wait", "--timeout", "1"),
        ("cilium", "connectivity-check", "--timeout", "1"),
        ("check", "--phase", "after"),
    ],
    ids=" ".join,
)
def test_commands_end_where_the_server_is_silent(
    silent: int, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "preflight", *arguments, "--kubeconfig",
         str(kubeconfig(tmp_path, silent))],
        capture_output=True, text=True, timeout=ENOUGH, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "no answer in time" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("presses", [0, 1, 2])
def test_a_connectivity_check_whose_server_goes_silent(
    kube: Server, raw: Raw, presses: int
) -> None:
    """`--timeout` and `--clean-up-timeout` hold, and Ctrl-C is heard at once."""
    with Wire(kube.url) as wire:
        process = subprocess.Popen(
            [sys.executable, "-m", "preflight", "cilium", "connectivity-check", "-q",
             "--kubeconfig", str(kube.kubeconfig("admin", wire.url)),
             "--timeout", "3" if presses == 0 else "600", "--settle", "3",
             "--clean-up-timeout", "2" if presses < 2 else "600"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "100"},
        )  # fmt: skip
        try:
            raw.until(f"{SPACES}/{SPACE}", bool)
            wire.hold()
            for press in range(presses):
                if press:
                    time.sleep(1)  # the first one must have been taken; nothing tells of it
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=ENOUGH)
        finally:
            process.kill()
            process.communicate()
            wire.release()
    assert process.returncode == (130 if presses else 4), (out, err)
    told = " ".join((out + err).split())
    assert "left behind" in told.lower(), out + err
    assert "preflight cilium connectivity-check --clean-up --namespace cilium-test" in told
    assert there(raw)


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """Starts a server that sends its text to everybody who asks, and hangs up."""
    over = threading.Event()
    threads = []

    def serve(text: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)

        def run() -> None:
            with listener:
                while not over.is_set():
                    try:
                        peer = listener.accept()[0]
                    except TimeoutError:
                        continue
                    with peer:
                        peer.settimeout(5)
                        peer.recv(65536)
                        peer.sendall(text)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    over.set()
    for thread in threads:
        thread.join()


PYTHON = re.compile(r"object|indices|iterable|attribute|literal|Error|int\(|None|bytes|class|0x")


@pytest.mark.parametrize(
    "body",
    [
        b'{"items": 3}',
        b'{"items": [1]}',
        b'{"items": [{}]}',
        b'{"items": [{"metadata": 3}]}',
        b'{"items": [{"metadata": {"name": 3}}]}',
        b'{"items": [], "metadata": "x"}',
        b"[]",
        b"3",
        b"{",
        b"",
    ],
)
def test_answers_of_another_shape(
    answering: Callable[[bytes], int], tmp_path: Path, body: bytes
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    with cluster_at(tmp_path, answering(head.encode() + body)) as cluster:
        for ask in (
            lambda: cluster.find(NODES),
            lambda: cluster.get(NODES, "n"),
        ):
            with pytest.raises(ClusterError, match="is not the API's") as caught:
                ask()
            assert not PYTHON.search(str(caught.value)), caught.value


@pytest.mark.parametrize(
    "line",
    [
        b"3",
        b"[]",
        b'{"type": "ADDED", "object": 3}',
        b'{"type": "ADDED", "object": {}}',
        b'{"type": "WHAT", "object": {"metadata": {"name": "n"}}}',
        b'{"type": "ERROR", "object": {"code": "x"}}',
        b"{",
    ],
)
def test_watches_of_another_shape(
    answering: Callable[[bytes], int], tmp_path: Path, line: bytes
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(line) + 1}\r\n\r\n"
    with cluster_at(tmp_path, answering(head.encode() + line + b"\n")) as cluster:
        with pytest.raises(ClusterError) as caught:
            list(cluster.watch(NODES, "1"))
        assert caught.value.fault is Fault.BROKEN
        assert not PYTHON.search(str(caught.value)), caught.value


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{",
    ],
)
def test_answers_that_end_in_the_middle(
    answering: Callable[[bytes], int],
    tmp_path: Path,
    text: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("preflight.cluster.requests._PAUSES", (0.01,))
    with cluster_at(tmp_path, answering(text)) as cluster:
        for ask in (cluster.version, lambda: list(cluster.watch(NODES, "1"))):
            with pytest.raises(ClusterError) as caught:
                ask()
            assert caught.value.fault is Fault.UNREACHABLE
            assert str(caught.value).endswith("the connection ended in the middle of the answer")
