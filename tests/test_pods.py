"""Agents in pods, where SSH does not get to: the cluster's objects, and real agents behind exec."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from faultbench import fw
from inprocess import Run
from kubeapi.answers import ApiError
from kubeapi.emulator import Emulator
from kubeapi.raw import Raw, Server
from scenarios import Silent

from preflight import inventory
from preflight.core.cluster import agentpods
from preflight.core.model import AgentState, Connection, Family, Inventory, Node, Phase, Verdict
from preflight.core.options import CheckOptions
from preflight.errors import NodeError
from preflight.lab import Lab
from preflight.runs import check as run
from preflight.transport import bundle, connectors
from preflight.transport.base import Credentials, Timeouts
from preflight.transport.kubernetes import KubernetesConnector, PodSettings

SPACES = "/api/v1/namespaces"
RUNNING = {"phase": "Running", "containerStatuses": [
    {"name": "agent", "state": {"running": {}}, "ready": True, "restartCount": 0,
     "image": "i", "imageID": ""}]}  # fmt: skip


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", "containerStatuses": [
        {"name": "agent", "state": state, "ready": False, "restartCount": 0,
         "image": "i", "imageID": ""}]}  # fmt: skip


def add_node(raw: Raw, name: str, *addresses: str, **more: Any) -> None:
    """As it is before a CNI plugin is there: not ready, and tainted so that nothing goes there."""
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    raw.make("/api/v1/nodes", {"metadata": {"name": name}, "spec": {"taints": [taint]}})
    at = [{"type": "InternalIP", "address": address} for address in addresses]
    ready = {"type": "Ready", "status": "False", "reason": "KubeletNotReady",
             "message": "cni plugin not initialized"}  # fmt: skip
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    status = {"addresses": at, "conditions": [{**ready, **more}], "allocatable": room}
    raw.patch(f"/api/v1/nodes/{name}/status", {"status": status})


@contextmanager
def kubelet(raw: Raw, status: Callable[[str], dict[str, Any] | None]) -> Iterator[None]:
    """Gives every pod of ours the status that `status` has for its node, if any."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.02):
            for pod in raw.get("/api/v1/pods")["items"]:
                node, where = pod["spec"].get("nodeName"), pod["metadata"]
                wanted = status(node) if node else None
                now = pod.get("status") or {}
                if wanted and any(now.get(key) != value for key, value in wanted.items()):
                    path = f"{SPACES}/{where['namespace']}/pods/{where['name']}/status"
                    raw.ask("PATCH", path, {"status": wanted}, "application/merge-patch+json")
                if "deletionTimestamp" in where:
                    path = f"{SPACES}/{where['namespace']}/pods/{where['name']}"
                    raw.drop(path, gracePeriodSeconds=0)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


def leftovers(raw: Raw) -> list[str]:
    names = (item["metadata"]["name"] for item in raw.get(SPACES)["items"])
    return [name for name in names if name.startswith(agentpods.NAME)]


def node(name: str, *addresses: str) -> Node:
    return Node(name, addresses, addresses[0], Connection.KUBERNETES)


def connector(
    server: Server, *nodes: Node, user: str = "admin", said: list[str] | None = None
) -> KubernetesConnector:
    settings = PodSettings(kubeconfig=server.kubeconfig(user))
    heard = [] if said is None else said
    made = KubernetesConnector(nodes, settings, Timeouts(), boot=bundle.BOOT, notify=heard.append)
    made.prepare()
    return made


# --- a whole check -------------------------------------------------------------------------------


def in_the_lab(emulator: Emulator, lab: Lab) -> None:
    """A pod's container is the namespace of the lab's node of that name."""
    raw = Raw(emulator)

    def start(namespace: str, pod: str, _container: str, command: list[str]) -> list[str]:
        where = raw.get(f"{SPACES}/{namespace}/pods/{pod}")["spec"]["nodeName"]
        return ["ip", "netns", "exec", f"preflight-{lab.name}-{where}", *command]

    emulator.hooks.exec = start


@pytest.mark.lab
@pytest.mark.parametrize("v5", [True, False])
def test_a_check_before_any_cni_is_there(emulator: Emulator, lab4: Lab, v5: bool) -> None:
    raw = Raw(emulator)
    emulator.hooks.v5 = v5
    known = inventory.load(lab4.run_dir.inventory)
    nodes = tuple(replace(n, connection=Connection.KUBERNETES, become=None) for n in known.nodes)
    for one in nodes:
        add_node(raw, one.name, *one.addresses)
    in_the_lab(emulator, lab4)
    lab4.nft("n3", fw("input", "udp dport 6081 drop"))
    ways = connectors(
        nodes, Credentials(), Timeouts(), accept_new_host_keys=False, ask=lambda _: "",
        notify=lambda _: None, pods=PodSettings(kubeconfig=emulator.kubeconfig()),
    )  # fmt: skip
    options = CheckOptions(phase=Phase.BEFORE, family=Family.IPV4, timeout_s=0.3)
    try:
        with kubelet(raw, lambda _: RUNNING):
            found = run.check(
                Inventory(known.path, nodes, known.probes), options,
                lambda n: ways[n.connection], Silent(),
            )  # fmt: skip
            for way in ways.values():
                way.close()
    finally:
        for way in ways.values():
            way.close()
    assert [agent.state for agent in found.agents] == ["ok"] * 4, found.agents
    cells = (c for c in found.matrix.cells() if c.outcome.verdict is not Verdict.OPEN)
    bad = {(cell.source, cell.destination) for cell in cells}
    assert bad == {(0, 2), (1, 2), (3, 2)}
    (finding,) = found.findings
    assert "udp dport 6081 drop" in finding.title
    assert leftovers(raw) == []
    for name in ("n1", "n2", "n3", "n4"):
        assert "preflight" not in subprocess.run(
            ["ip", "netns", "pids", f"preflight-{lab4.name}-{name}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip


@pytest.mark.lab
def test_nodes_and_ways_from_the_cluster_alone(emulator: Emulator, lab4: Lab, cli: Run) -> None:
    raw = Raw(emulator)
    for one in inventory.load(lab4.run_dir.inventory).nodes:
        add_node(raw, one.name, *one.addresses)
    in_the_lab(emulator, lab4)
    file = str(emulator.kubeconfig())
    with kubelet(raw, lambda _: RUNNING):
        done = cli("check", "--kubeconfig", file, "--pods", "--family", "ipv4", "--quiet")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "n4" in done.stdout
    assert leftovers(raw) == []
    both = cli("check", "--kubeconfig", file, "--pods", "--local", "n1")
    assert both.returncode == 2
    assert "--pods and --local n1" in both.stderr


# --- what is made --------------------------------------------------------------------------------


def test_a_node_is_found_by_its_address_or_else_by_its_name(kube: Server, raw: Raw) -> None:
    add_node(raw, "ip-10-0-1-11", "10.0.1.11", "fd00::11")
    add_node(raw, "n2")
    add_node(raw, "gone", "10.0.1.14", status="Unknown", lastHeartbeatTime="2026-01-02T03:04:05Z")
    wanted = [node("n1", "fd00::11"), node("n2", "10.0.1.12"), node("n3", "10.0.1.13"),
              node("n4", "10.0.1.14")]  # fmt: skip
    found = agentpods.locate(wanted, raw.get("/api/v1/nodes")["items"])
    assert found["n1"] == ("ip-10-0-1-11", "")
    assert found["n2"] == ("n2", "")
    assert found["n3"] is None
    assert found["n4"] == ("gone", "its kubelet has said nothing since 2026-01-02T03:04:05Z")


def test_only_the_inventorys_nodes_get_a_pod_whatever_their_taints(kube: Server, raw: Raw) -> None:
    for name in ("n1", "n2", "n3"):
        add_node(raw, name, f"10.0.1.1{name[1]}")
    way = connector(kube, node("n1", "10.0.1.11"), node("n3", "10.0.1.13"))
    try:
        way._stand()
        (space,) = leftovers(raw)
        pods = f"{SPACES}/{space}/pods"

        def places(found: Any) -> set[str | None]:
            return {pod["spec"].get("nodeName") for pod in found["items"]}

        raw.until(pods, lambda found: places(found) == {"n1", "n3"})
        spec = raw.get(pods)["items"][0]["spec"]
        assert spec["hostNetwork"]
        assert spec["automountServiceAccountToken"] is False
        assert not [v for v in spec.get("volumes") or () if "projected" in v or "secret" in v]
    finally:
        with kubelet(raw, lambda _: None):
            way.close()
    assert leftovers(raw) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (waiting("ImagePullBackOff", "Back-off"), "its image cannot be pulled: Back-off"),
        (waiting("CreateContainerError", "no device"), "its container cannot be made: no dev"),
        (waiting("CrashLoopBackOff", "back-off 10s"), "its container ends as soon as"),
        ({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"},
         "the pod has failed: the node was low on memory"),
    ],
)  # fmt: skip
def test_why_a_pod_does_not_come(
    kube: Server, raw: Raw, status: dict[str, Any], words: str
) -> None:
    add_node(raw, "n1", "10.0.1.11")
    way = connector(kube, node("n1", "10.0.1.11"))
    with kubelet(raw, lambda _: status):
        try:
            with pytest.raises(NodeError, match=words) as refused:
                way.connect(node("n1", "10.0.1.11"))
            assert refused.value.state == AgentState.FAILED
            assert "\n" not in str(refused.value)
        finally:
            way.close()
    assert leftovers(raw) == []


def test_a_pod_that_only_needs_time_is_waited_for_and_then_told_of(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Raw(emulator)
    monkeypatch.setattr("preflight.transport.kubernetes._PODS_S", 0.5)
    add_node(raw, "n1", "10.0.1.11")
    way = connector(emulator, node("n1", "10.0.1.11"))
    with kubelet(raw, lambda _: waiting("ContainerCreating")):
        try:
            with pytest.raises(NodeError, match=r"its pod waits: ContainerCreating \(0 s\)"):
                way.connect(node("n1", "10.0.1.11"))
        finally:
            way.close()


def test_nodes_that_the_cluster_lacks_cost_themselves_alone(kube: Server, raw: Raw) -> None:
    add_node(raw, "n1", "10.0.1.11", status="Unknown")
    way = connector(kube, node("n1", "10.0.1.11"), node("n2", "10.0.1.12"))
    try:
        with pytest.raises(NodeError, match=r"no node n2, and none with InternalIP 10\.0\.1\.12"):
            way.connect(node("n2", "10.0.1.12"))
        with pytest.raises(NodeError, match="no pod can start there: its kubelet is gone"):
            way.connect(node("n1", "10.0.1.11"))
    finally:
        with kubelet(raw, lambda _: None):
            way.close()
    assert leftovers(raw) == []


def test_rights_that_are_missing_are_told_at_once_and_nothing_is_made(
    kube: Server, raw: Raw
) -> None:
    add_node(raw, "n1", "10.0.1.11")
    way = connector(kube, node("n1", "10.0.1.11"), user="nobody")
    try:
        with pytest.raises(NodeError) as refused:
            way.connect(node("n1", "10.0.1.11"))
    finally:
        way.close()
    assert refused.value.state == AgentState.AUTH
    for words in ("list nodes", "create namespaces", "delete namespaces", "create pods/exec"):
        assert words in str(refused.value)
    assert leftovers(raw) == []


def test_a_cluster_that_is_not_there() -> None:
    with Emulator.up() as emulator:
        way = connector(emulator, node("n1", "10.0.1.11"))
    with pytest.raises(NodeError) as refused:
        way.connect(node("n1", "10.0.1.11"))
    assert refused.value.state == AgentState.UNREACHABLE
    way.close()


def test_pods_that_are_not_admitted(emulator: Emulator) -> None:
    raw = Raw(emulator)
    add_node(raw, "n1", "10.0.1.11")
    words = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces'
    told = {"reason": "FailedCreate", "message": words, "involvedObject": {"kind": "DaemonSet"}}
    assert agentpods.refused([told]) == words
    assert agentpods.refused([{**told, "involvedObject": {"kind": "ReplicaSet"}}]) == ""


def test_a_namespace_that_cannot_be_removed_is_told(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = Raw(emulator)
    monkeypatch.setattr("preflight.transport.kubernetes._GONE_S", 1.0)
    add_node(raw, "n1", "10.0.1.11")
    said: list[str] = []
    way = connector(emulator, node("n1", "10.0.1.11"), said=said)
    way._stand()
    (space,) = leftovers(raw)
    body = {"metadata": {"name": "stuck", "finalizers": ["example.org/never"]}}
    raw.make(f"{SPACES}/{space}/configmaps", body)
    with kubelet(raw, lambda _: None):
        way.close()
    assert len(said) == 1
    assert said[0].startswith(f"namespace {space} was left behind: it is still being deleted")
    assert "example.org/never" in said[0]
    again: list[str] = []
    later = connector(emulator, node("n1", "10.0.1.11"), said=again)
    later._stand()
    assert again == []  # it is being deleted
    raw.patch(f"{SPACES}/{space}/configmaps/stuck", {"metadata": {"finalizers": None}})
    with kubelet(raw, lambda _: None):
        later.close()


def test_a_run_that_was_killed_is_told_of_by_the_next(kube: Server, raw: Raw) -> None:
    add_node(raw, "n1", "10.0.1.11")
    killed = connector(kube, node("n1", "10.0.1.11"))
    killed._stand()
    said: list[str] = []
    way = connector(kube, node("n1", "10.0.1.11"), said=said)
    way._stand()
    (words,) = said
    assert words.startswith(f"namespace {killed._ground.namespace} is still there")  # type: ignore[union-attr]
    with kubelet(raw, lambda _: None):
        way.close()
        assert leftovers(raw) == [killed._ground.namespace]  # type: ignore[union-attr]
        killed.close()
    assert leftovers(raw) == []


def test_the_age_of_what_was_left() -> None:
    made = {"metadata": {"name": "x", "labels": {agentpods.RUN: "other"},
                         "creationTimestamp": "2026-01-02T03:00:00Z"}}  # fmt: skip
    now = datetime(2026, 1, 2, 4, 30, tzinfo=UTC)
    assert agentpods.left_over([made], "mine", now) == [("x", 1.5)]
    assert agentpods.left_over([made], "other", now) == []


def test_an_api_server_that_goes_away_midway(emulator: Emulator) -> None:
    raw = Raw(emulator)
    add_node(raw, "n1", "10.0.1.11")
    way = connector(emulator, node("n1", "10.0.1.11"))
    posts: list[str] = []

    def refuse(method: str, path: str) -> ApiError | None:
        if method == "POST" and path.endswith("/daemonsets"):
            posts.append(path)
            return ApiError(500, "InternalError", "etcdserver: request timed out")
        return None

    emulator.hooks.refuse = refuse
    with pytest.raises(NodeError, match="etcdserver: request timed out"):
        way.connect(node("n1", "10.0.1.11"))
    assert posts
    emulator.hooks.refuse = lambda *_: None
    way.close()
    assert leftovers(raw) == []


def test_the_image_can_be_another(tmp_path: Path) -> None:
    made = agentpods.objects("ab" * 8, ["n1"], "registry.example/python:3")
    (container,) = made[2]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/python:3"
