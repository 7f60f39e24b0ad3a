"""The product's own client of an API server: pages, watches, faults, and what it says of them."""

import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeapi.answers import ApiError
from kubeapi.certificates import authority, pair
from kubeapi.emulator import Emulator
from kubeapi.kubelet import Kubelet
from kubeapi.raw import Raw, Server
from kubeapi.server import Hooks
from kubeapi.wire import Wire

from preflight.cluster import resources
from preflight.cluster.api import Access, Cluster, Merge, connect
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.execution import Channel
from preflight.cluster.watching import Query, Watcher
from preflight.errors import ExitCode, FileError, UsageError


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that people would not mind, and tests would."""
    monkeypatch.setattr("preflight.cluster.requests._PAUSES", (0.02, 0.05))
    monkeypatch.setattr("preflight.cluster.watching._PAUSES", (0.05,))


def open_(server: Server, user: str = "admin", url: str | None = None) -> Cluster:
    return connect(Access(server.kubeconfig(user, url)))


def config_map(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"key": name}}


def names(items: Any) -> list[str]:
    found = [item["metadata"]["name"] for item in items]
    return sorted(name for name in found if name != "kube-root-ca.crt")


def test_objects_are_made_found_changed_and_ended(kube: Server) -> None:
    with open_(kube) as cluster:
        assert cluster.version().startswith("v")
        for number in range(7):
            cluster.create(resources.CONFIG_MAPS, config_map(f"m{number}"), "default")
        found = cluster.find(resources.CONFIG_MAPS, "default", page=2)
        assert names(found.items) == [f"m{number}" for number in range(7)]
        one = cluster.get(resources.CONFIG_MAPS, "m3", "default")
        one["data"]["key"] = "new"
        cluster.replace(resources.CONFIG_MAPS, one, "default")
        with pytest.raises(ClusterError) as caught:
            cluster.replace(resources.CONFIG_MAPS, one, "default")
        assert caught.value.fault is Fault.CONFLICT
        with pytest.raises(ClusterError) as caught:
            cluster.create(resources.CONFIG_MAPS, config_map("m3"), "default")
        assert caught.value.fault is Fault.EXISTS
        patch = [{"op": "add", "path": "/data/more", "value": "x"}]
        told = cluster.patch(resources.CONFIG_MAPS, "m3", patch, "default", merge=Merge.JSON)
        assert told["data"] == {"key": "new", "more": "x"}
        with pytest.raises(ClusterError) as caught:
            cluster.delete(resources.CONFIG_MAPS, "m3", "default", uid="another")
        assert caught.value.fault is Fault.CONFLICT
        cluster.delete(resources.CONFIG_MAPS, "m3", "default", uid=one["metadata"]["uid"])
        with pytest.raises(ClusterError) as caught:
            cluster.get(resources.CONFIG_MAPS, "m3", "default")
        assert caught.value.fault is Fault.MISSING
        with pytest.raises(ClusterError) as caught:
            cluster.create(resources.CONFIG_MAPS, config_map("Not_A_Name"), "default")
        assert caught.value.fault is Fault.INVALID
        with pytest.raises(ClusterError) as caught:
            cluster.find(resources.CILIUM_NODES)
        assert caught.value.fault is Fault.MISSING


def test_rights(kube: Server) -> None:
    with open_(kube) as cluster:
        assert cluster.allowed("create", resources.DEPLOYMENTS, "default")
    with open_(kube, "nobody") as cluster:
        assert not cluster.allowed("create", resources.PODS, "default", sub="exec")
        with pytest.raises(ClusterError) as caught:
            cluster.find(resources.NODES)
        assert caught.value.fault is Fault.FORBIDDEN
        assert caught.value.exit_code is ExitCode.INCOMPLETE
        assert not caught.value.closed
    with open_(kube, "stranger") as cluster:
        with pytest.raises(ClusterError) as caught:
            cluster.version()
        assert caught.value.fault is Fault.UNAUTHORIZED
        assert caught.value.exit_code is ExitCode.NO_NODE


def test_a_watch_goes_on_from_a_listing(kube: Server, raw: Raw) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    with open_(kube) as cluster:
        version = cluster.find(resources.CONFIG_MAPS, "default").version
        raw.make(path, config_map("a"))
        raw.drop(f"{path}/a")
        told = list(cluster.watch(resources.CONFIG_MAPS, version, "default", seconds=1))
        assert [c.kind for c in told if c.kind != "BOOKMARK"] == ["ADDED", "DELETED"]
        assert int(told[-1].version) > int(version)


def test_a_version_that_is_too_old(emulator: Emulator) -> None:
    with open_(emulator) as cluster:
        version = cluster.find(resources.CONFIG_MAPS).version
        cluster.create(resources.CONFIG_MAPS, config_map("a"), "default")
        emulator.api.store.compact()
        with pytest.raises(ClusterError) as caught:
            list(cluster.watch(resources.CONFIG_MAPS, version))
        assert caught.value.fault is Fault.EXPIRED


def test_a_listing_whose_continuation_expires_begins_again(emulator: Emulator) -> None:
    with open_(emulator) as cluster:
        for number in range(6):
            cluster.create(resources.CONFIG_MAPS, config_map(f"m{number}"), "default")
        seen = 0

        def compact(_method: str, path: str) -> None:
            nonlocal seen
            seen += "continue" in path
            if seen == 2 and "continue" in path:
                cluster_raw.make("/api/v1/namespaces/default/configmaps", config_map("late"))
                emulator.api.store.compact()

        cluster_raw = Raw(emulator)
        emulator.hooks.refuse = compact
        found = cluster.find(resources.CONFIG_MAPS, "default", page=2)
        assert names(found.items) == ["late", *(f"m{number}" for number in range(6))]


def test_a_watcher_follows_through_every_trouble(kube: Server, raw: Raw) -> None:
    """Resets, a server that is away, and versions that it forgot meanwhile."""
    path = "/api/v1/namespaces/default/configmaps"

    def seen(watcher: Watcher, wanted: list[str]) -> None:
        for _ in range(400):
            items = watcher.states()["maps"].items
            if items is not None and names(items) == wanted:
                return
            watcher.wait(0.1)
        raise AssertionError(watcher.states()["maps"])

    query = {"maps": Query(resources.CONFIG_MAPS, "default")}
    with (
        Wire(kube.url) as wire,
        open_(kube, url=wire.url) as cluster,
        Watcher(cluster, query) as watcher,
    ):
        raw.make(path, config_map("a"))
        seen(watcher, ["a"])
        wire.cut()
        raw.make(path, config_map("b"))
        seen(watcher, ["a", "b"])
        wire.down()
        for _ in range(400):
            if watcher.states()["maps"].error is not None:
                break
            watcher.wait(0.1)
        error = watcher.states()["maps"].error
        assert error is not None
        assert error.fault is Fault.UNREACHABLE
        raw.drop(f"{path}/a")
        if kube.emulated:
            kube.api.store.compact()
        wire.back()
        seen(watcher, ["b"])
        assert watcher.states()["maps"].error is None
    assert threading.active_count() < 50


def test_a_right_that_is_missing_is_a_state(kube: Server) -> None:
    query = {"nodes": Query(resources.NODES)}
    with open_(kube, "nobody") as cluster, Watcher(cluster, query) as watcher:
        assert watcher.wait(10)
        state = watcher.states()["nodes"]
        assert state.items is None
        assert state.error is not None
        assert state.error.fault is Fault.FORBIDDEN


def test_rights_to_list_but_not_to_watch(
    kube: Server, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed again and again instead."""
    monkeypatch.setattr("preflight.cluster.watching._POLL", 0.05)
    rbac, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    raw.make(f"{rbac}/clusterroles", {"metadata": {"name": "lists"}, "rules": rules})
    binding = {
        "metadata": {"name": "lists"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "lists"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "viewer"}],
    }
    raw.make(f"{rbac}/clusterrolebindings", binding)
    viewer, path = Raw(kube, "viewer"), "/api/v1/namespaces/default/configmaps"
    raw.until(path, lambda _: viewer.ask("GET", path).status == 200)
    query = {"maps": Query(resources.CONFIG_MAPS, "default")}
    with open_(kube, "viewer") as cluster, Watcher(cluster, query) as watcher:
        for wanted in (["a"], ["a", "b"]):
            raw.make(path, config_map(wanted[-1]))
            for _ in range(400):
                state = watcher.states()["maps"]
                if state.items is not None and names(state.items) == wanted:
                    break
                watcher.wait(0.1)
            assert state.items is not None
            assert names(state.items) == wanted
            assert state.error is None


@pytest.mark.parametrize(
    ("code", "reason", "retry", "fault"),
    [
        (429, "TooManyRequests", 0, Fault.THROTTLED),
        (500, "InternalError", None, Fault.BROKEN),
        (503, "ServiceUnavailable", None, Fault.BROKEN),
        (504, "Timeout", None, Fault.BROKEN),
    ],
)
def test_refusals_that_pass(
    emulator: Emulator, code: int, reason: str, retry: int | None, fault: Fault
) -> None:
    """Reads are tried again; writes only where the server says that it did nothing."""
    left = 0

    def refuse(_method: str, _path: str) -> ApiError | None:
        nonlocal left
        left -= 1
        return ApiError(code, reason, "not now", retry=retry) if left >= 0 else None

    emulator.hooks.refuse = refuse
    with open_(emulator) as cluster:
        left = 2
        assert cluster.find(resources.NODES).items == []
        left = 9
        with pytest.raises(ClusterError) as caught:
            cluster.find(resources.NODES)
        assert caught.value.fault is fault
        left = 1
        if fault is Fault.THROTTLED:
            cluster.create(resources.CONFIG_MAPS, config_map("a"), "default")
        else:
            with pytest.raises(ClusterError):
                cluster.create(resources.CONFIG_MAPS, config_map("a"), "default")


def test_a_server_that_says_nothing(emulator: Emulator) -> None:
    with Wire(emulator.url) as wire:
        wire.hold()
        from preflight.cluster.api import Timeouts

        access = Access(emulator.kubeconfig(server=wire.url))
        quick = Timeouts(connect=0.2, read=0.2)
        with connect(access, quick) as cluster, pytest.raises(ClusterError) as caught:
            cluster.version()
        assert caught.value.fault is Fault.UNREACHABLE
        assert "no answer in time" in str(caught.value)


def test_something_else_answers() -> None:
    """A captive portal, a load balancer's page."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "13")
            self.end_headers()
            self.wfile.write(b"<html></html>")

        def log_message(self, *_: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with Emulator.up() as emulator:
            url = f"http://127.0.0.1:{server.server_port}"
            with open_(emulator, url=url) as cluster, pytest.raises(ClusterError) as caught:
                cluster.version()
        assert caught.value.fault is Fault.BROKEN
        assert "is that the API server's address?" in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_tls(tmp_path: Path) -> None:
    with Emulator.up(tls=True) as emulator:
        with open_(emulator) as cluster:
            assert cluster.version()
        file = emulator.kubeconfig()
        other = authority(tmp_path)
        document = yaml.safe_load(file.read_text())
        document["clusters"][0]["cluster"]["certificate-authority"] = str(other.certificate)
        file.write_text(yaml.safe_dump(document))
        with connect(Access(file)) as cluster, pytest.raises(ClusterError) as caught:
            cluster.version()
        assert caught.value.fault is Fault.UNTRUSTED
        assert caught.value.exit_code is ExitCode.NO_NODE
        assert "TLS fails" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        document["clusters"][0]["cluster"] |= {"insecure-skip-tls-verify": True}
        del document["clusters"][0]["cluster"]["certificate-authority"]
        file.write_text(yaml.safe_dump(document))
        with connect(Access(file)) as cluster:
            assert cluster.version()


def test_a_client_certificate_that_expired(emulator: Emulator, tmp_path: Path) -> None:
    """A 401 of a server says nothing; the file does."""
    ca = authority(tmp_path)
    mine = pair(tmp_path, "me", ca.certificate, ca.key, lasts=timedelta(days=-3))
    file = emulator.kubeconfig("stranger")
    document = yaml.safe_load(file.read_text())
    document["users"][0]["user"] = {
        "client-certificate": str(mine.certificate),
        "client-key": str(mine.key),
    }
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file.write_text(yaml.safe_dump(document))
    from preflight.cluster.kubeconfig import endpoint

    way = endpoint(Access(file))
    assert way.expired is not None
    assert way.expired.startswith("the client certificate expired on ")
    way.client.close()


def edited(file: Path, change: Any) -> Path:
    document = yaml.safe_load(file.read_text())
    change(document)
    file.write_text(yaml.safe_dump(document))
    return file


def test_contexts(emulator: Emulator) -> None:
    file = emulator.kubeconfig()
    with pytest.raises(UsageError) as caught:
        connect(Access(file, "none"))
    assert "no context none; it has test" in str(caught.value)
    with connect(Access(file, "test")) as cluster:
        assert cluster.name == "test-cluster"
    broken = edited(file, lambda d: d["contexts"][0]["context"].update(user="nobody-there"))
    with pytest.raises(FileError):
        connect(Access(broken))


def test_the_files_of_the_environment(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = emulator.kubeconfig()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{file}")
    with connect(Access()) as cluster:
        assert cluster.version()
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(FileError) as caught:
        connect(Access())
    assert "--kubeconfig FILE" in str(caught.value)
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(file.read_text())
    with connect(Access()) as cluster:
        assert cluster.version()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no-json", "its credential plugin failed"),
        ("echo log in first >&2; exit 3", "log in first"),
        ("", None),
    ],
)
def test_credential_plugins(
    emulator: Emulator, tmp_path: Path, script: str, said: str | None
) -> None:
    from kubeapi.users import USERS

    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": USERS["admin"].token},
    }
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\n{script or 'cat ' + str(tmp_path / 'answer')}\n")
    plugin.chmod(0o755)
    (tmp_path / "answer").write_text(json.dumps(answer))
    spec = {
        "apiVersion": answer["apiVersion"],
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    file = edited(emulator.kubeconfig(), lambda d: d["users"][0].update(user={"exec": spec}))
    if said is None:
        with connect(Access(file)) as cluster:
            assert cluster.find(resources.NODES).items == []
    else:
        with pytest.raises(FileError) as caught:
            connect(Access(file))
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update({"server": "not a url"}),
        lambda c: c.update({"server": "https://h", "certificate-authority": "/none/ca.crt"}),
        lambda c: c.update({"server": "https://h", "certificate-authority-data": "%%%"}),
        lambda c: c.update({"server": "https://h", "certificate-authority-data": "bm9uZQ=="}),
        lambda c: c.pop("server"),
    ],
)
def test_clusters_that_cannot_be(emulator: Emulator, change: Any) -> None:
    file = edited(emulator.kubeconfig(), lambda d: change(d["clusters"][0]["cluster"]))
    with pytest.raises(FileError) as caught:
        connect(Access(file))
    assert len(str(caught.value).splitlines()) == 1


def test_names_that_nobody_knows(emulator: Emulator) -> None:
    url = "http://no-such-host.invalid:6443"
    with open_(emulator, url=url) as cluster, pytest.raises(ClusterError) as caught:
        cluster.version()
    assert caught.value.fault is Fault.UNREACHABLE
    assert "no-such-host.invalid" in str(caught.value)


def test_the_extra_is_missing(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(UsageError) as caught:
        connect(Access(emulator.kubeconfig()))
    assert "pip install 'preflight[kubernetes]'" in str(caught.value)


@pytest.fixture
def hooks(kube: Server, raw: Raw) -> Iterator[Hooks]:
    """What happens in the container of pod default/p: behind a kubelet where the server is real."""
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "example.org/image:1"}]}
    body = {"metadata": {"name": "p"}, "spec": spec}
    if kube.emulated:
        raw.make("/api/v1/namespaces/default/pods", body)
        yield kube.hooks
        return
    with Kubelet() as kubelet:
        raw.make("/api/v1/nodes", kubelet.node("n1"))
        raw.make("/api/v1/namespaces/default/pods", body)
        yield kubelet.hooks


def test_logs(kube: Server, hooks: Hooks) -> None:
    hooks.log = lambda *words: f"{words}\nlast\n"
    with open_(kube) as cluster:
        assert cluster.log("default", "p", "c").endswith("last\n")
        assert "True" in cluster.log("default", "p", previous=True)
        with pytest.raises(ClusterError):
            cluster.log("default", "none")


@pytest.mark.parametrize("v5", [True, False])
def test_a_process_in_a_container(kube: Server, hooks: Hooks, v5: bool) -> None:
    asked: list[list[str]] = []

    def run(_namespace: str, _pod: str, _container: str, words: list[str]) -> list[str]:
        asked.append(words)
        return words

    hooks.exec = run
    hooks.v5 = v5
    script = "import sys; d = sys.stdin.buffer.readline(); sys.stderr.write('e'); "
    script += "sys.stdout.buffer.write(d * 3); sys.exit(7)"
    line = b"x" * 200_000 + b"\n"
    with open_(kube) as cluster:
        with cluster.execute("default", "p", ["/usr/bin/python3", "-c", script]) as process:
            process.write(line)
            assert process.end_input() is v5
            out = {Channel.STDOUT: b"", Channel.STDERR: b""}
            while (frame := process.read(20)) is not None:
                out[frame.channel] += frame.data
            assert process.exit_code == 7
        assert out == {Channel.STDOUT: line * 3, Channel.STDERR: b"e"}
        assert asked == [["/usr/bin/python3", "-c", script]]


def test_a_process_that_cannot_be(kube: Server, hooks: Hooks) -> None:
    hooks.exec = lambda *_: ["/none/such"]
    with open_(kube) as cluster:
        with cluster.execute("default", "p", ["x"]) as process:
            with pytest.raises(ClusterError) as caught:
                process.read(10)
            assert "No such file" in str(caught.value)
        with pytest.raises(ClusterError) as caught:
            cluster.execute("default", "none", ["x"])
        assert caught.value.fault is Fault.MISSING
    with open_(kube, "nobody") as cluster:
        with pytest.raises(ClusterError) as caught:
            cluster.execute("default", "p", ["x"])
        assert caught.value.fault is Fault.FORBIDDEN


def test_a_process_whose_connection_breaks(kube: Server, hooks: Hooks) -> None:
    """Its stdin ends, and so does it; and what comes late is a timeout, not an end."""
    hooks.exec = lambda *_: ["/bin/cat"]
    with (
        Wire(kube.url) as wire,
        open_(kube, url=wire.url) as cluster,
        cluster.execute("default", "p", ["cat"]) as process,
    ):
        process.write(b"hello")
        frame = process.read(10)
        assert frame is not None
        assert frame.data == b"hello"
        with pytest.raises(TimeoutError):
            process.read(0.05)
        wire.cut()
        with pytest.raises(ClusterError) as caught:
            process.read(10)
        assert caught.value.fault is Fault.UNREACHABLE


def test_certificates_are_good_for_this(tmp_path: Path) -> None:
    """The test's own: a context takes them."""
    ca = authority(tmp_path)
    mine = pair(tmp_path, "me", ca.certificate, ca.key)
    context = ssl.create_default_context(cafile=str(ca.certificate))
    context.load_cert_chain(mine.certificate, mine.key)
