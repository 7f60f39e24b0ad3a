"""`preflight cilium status` against an API server: each state that a cluster can be in."""

import json
import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from inprocess import Run
from kubeapi import scene
from kubeapi.answers import ApiError
from kubeapi.emulator import Emulator
from kubeapi.raw import Raw, Server
from kubeapi.wire import Wire


class Ran(NamedTuple):
    """What the command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Status = Callable[..., Ran]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that people would not mind, and tests would."""
    monkeypatch.setattr("preflight.cluster.requests._PAUSES", (0.05, 0.1))
    monkeypatch.setattr("preflight.runs.ciliumstatus._CALM", 0.2)


@pytest.fixture
def status(kube: Server, cli: Run, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Runs the command; with `table=True` as a person sees it, else as JSON."""

    def go(
        *words: str,
        user: str = "admin",
        table: bool = False,
        server: str | None = None,
        columns: int = 80,
    ) -> Ran:
        monkeypatch.setenv("COLUMNS", str(columns))
        given = ["cilium", "status", "--kubeconfig", kube.kubeconfig(user, server)]
        if not table:
            given += ["--format", "json"]
        return Ran(*cli(*given, *words))

    return go


def problems(ran: Ran) -> dict[str, list[str]]:
    """The nodes of each problem."""
    out: dict[str, list[str]] = {}
    for problem in ran.json["problems"]:
        out.setdefault(problem["key"], []).extend(problem["nodes"])
    return out


def states(ran: Ran) -> dict[str, str]:
    return {agent["node"]: agent["state"] for agent in ran.json["agents"]}


def test_all_is_well(raw: Raw, status: Status) -> None:
    scene.well(raw)
    ran = status()
    assert ran.code == 0, ran
    assert ran.err == ""
    assert ran.json["well"]
    assert ran.json["identity_store"] == "crd"
    assert set(states(ran).values()) == {"well"}
    table = status(table=True)
    assert table.code == 0
    assert "all 4 nodes" in table.out
    assert table.out.endswith("Cilium is well.\n")
    assert max(map(len, table.out.splitlines())) <= 80


def test_agents_in_every_bad_state(raw: Raw, status: Status) -> None:
    """One node each; what is alike is one problem."""
    nodes = [scene.node(position) for position in range(7)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.install(raw)
    scene.add_cilium_nodes(raw, nodes)
    pods = scene.pods(raw, scene.AGENTS, 7)
    for pod in scene.pods(raw, scene.OPERATORS, 2).values():
        scene.put(raw, pod)
    scene.put(raw, pods["n1"])
    scene.put(raw, pods["n2"], ready=False)
    crash = {"waiting": "CrashLoopBackOff", "restarts": 9, "ended": "OOMKilled", "code": 137}
    scene.put(raw, pods["n3"], **crash)
    pull = {"waiting": "ImagePullBackOff", "message": "Back-off pulling image", "phase": "Pending"}
    scene.put(raw, pods["n4"], **pull)
    scene.put(raw, pods["n5"], waiting="ContainerCreating", phase="Pending")
    scene.put(raw, pods["n6"])
    raw.drop(f"{scene.PODS}/{pods['n6']['metadata']['name']}")  # its kubelet never answers
    # n7: the kubelet has not said a word.
    ran = status()
    assert ran.code == 1
    assert states(ran) == {
        "n1": "well",
        "n2": "not-ready",
        "n3": "crashing",
        "n4": "image",
        "n5": "starting",
        "n6": "terminating",
        "n7": "starting",
    }
    whys = {agent["node"]: agent["why"] for agent in ran.json["agents"]}
    assert whys["n2"] == "not ready: cilium-agent"
    assert "CrashLoopBackOff, last end: OOMKilled (exit code 137)" in whys["n3"]
    assert f"ImagePullBackOff {scene.IMAGE}" in whys["n4"]
    table = status(table=True, columns=200)
    assert "agent crashes on n3" in table.out
    assert "--previous" in table.out
    assert "1 of 7 nodes well" in table.out


def test_nodes_without_an_agent_and_why(raw: Raw, status: Status) -> None:
    taint = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    windows = scene.node(4)
    windows["metadata"]["labels"]["kubernetes.io/os"] = "windows"
    other = scene.node(3)
    del other["metadata"]["labels"]["rack"]
    nodes = [
        scene.node(0),
        scene.node(1, unschedulable=True),
        scene.node(2, taints=[taint]),
        other,
        windows,
    ]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    daemon = scene.daemon_set(tolerations=[], nodeSelector={"kubernetes.io/os": "linux"})
    scene.install(raw, daemon)
    scene.add_cilium_nodes(raw, nodes[:4])
    for pod in scene.pods(raw, scene.AGENTS, 3).values():
        scene.put(raw, pod)
    for pod in scene.pods(raw, scene.OPERATORS, 2).values():
        scene.put(raw, pod)
    ran = status()
    assert ran.code == 1
    assert states(ran) == {
        "n1": "well",
        "n2": "well",  # a cordon keeps no agent away
        "n3": "missing",
        "n4": "well",
        "n5": "not-needed",
    }
    found = next(p for p in ran.json["problems"] if p["key"] == "agent-missing")
    assert found["nodes"] == ["n3"]
    assert found["evidence"] == [
        "the DaemonSet does not tolerate its taint dedicated=gpu:NoSchedule"
    ]
    assert found["lasting"]


def test_a_selector_that_leaves_a_node_out(raw: Raw, status: Status) -> None:
    nodes = [scene.node(0), scene.node(1)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.install(raw, scene.daemon_set(nodeSelector={"rack": "a"}))
    scene.add_cilium_nodes(raw, nodes[:1])
    scene.pods(raw, scene.AGENTS, 1)
    ran = status()
    found = problems(ran)
    assert found["agent-missing"] == ["n2"]
    assert found["cilium-node-missing"] == ["n2"]
    assert "nodeSelector wants rack=a" in ran.out


def test_an_agent_that_cannot_be_scheduled(raw: Raw, status: Status) -> None:
    """A host port that somebody else has."""
    scene.add_nodes(raw, [scene.node(0)])
    scene.define(raw)
    port = {"containerPort": 4240, "hostPort": 4240}
    container = {"name": "squatter", "image": "example.org/image:1", "ports": [port]}
    pod = {"metadata": {"name": "squatter"}, "spec": {"containers": [container]}}
    raw.make("/api/v1/namespaces/default/pods", pod)
    path = "/api/v1/namespaces/default/pods/squatter"
    raw.until(path, lambda found: found["spec"].get("nodeName") == "n1")
    agent = {"name": "cilium-agent", "image": scene.IMAGE, "ports": [port]}
    scene.install(raw, scene.daemon_set(containers=[agent]))

    def told(found: Any) -> bool:
        conditions = [c for p in found["items"] for c in p["status"].get("conditions") or ()]
        return any(c.get("reason") == "Unschedulable" for c in conditions)

    raw.until(f"{scene.PODS}?labelSelector={scene.AGENTS}", told)
    ran = status()
    assert states(ran) == {"n1": "unscheduled"}
    assert "free ports" in ran.json["agents"][0]["why"]


def test_what_is_left_of_nodes_that_are_gone(raw: Raw, status: Status) -> None:
    scene.well(raw)
    operators = scene.pods(raw, scene.OPERATORS, 2)
    gone = next(n for n in ("n1", "n2", "n3", "n4") if n not in operators)
    raw.drop(f"{scene.NODES}/{gone}")
    ran = status()
    assert ran.code == 0, ran.out
    assert problems(ran) == {"agent-on-gone-node": [gone], "cilium-node-stale": [gone]}
    assert [pod["node"] for pod in ran.json["agents_on_gone_nodes"]] == [gone]
    assert status("--strict").code == 1


def test_cilium_nodes_against_nodes(raw: Raw, status: Status) -> None:
    scene.well(raw)
    wrong = {"spec": {"addresses": [{"type": "InternalIP", "ip": "10.99.0.1"}]}}
    raw.patch(f"{scene.CILIUM_NODES}/n2", wrong)
    raw.drop(f"{scene.CILIUM_NODES}/n3")
    ran = status()
    assert ran.code == 1
    assert problems(ran) == {"cilium-node-address": ["n2"], "cilium-node-missing": ["n3"]}
    assert "10.99.0.1" in ran.out


def test_a_cilium_node_without_an_address(raw: Raw, status: Status) -> None:
    scene.well(raw)
    raw.patch(f"{scene.CILIUM_NODES}/n2", {"spec": {"addresses": []}})
    assert problems(status()) == {"cilium-node-address": ["n2"]}
    shown = " ".join(status(table=True).out.split())
    assert "the CiliumNode object of n2 has no address" in shown
    assert "know nowhere to tunnel to" in shown
    assert "second one" not in shown


def test_why_a_container_ended_may_be_endless(raw: Raw, status: Status) -> None:
    scene.well(raw)
    pods = scene.pods(raw, scene.AGENTS, 4)
    scene.put(raw, pods["n1"], restarts=2, ended="x" * 3000, ago=timedelta(minutes=3))
    table = status(table=True, columns=80).out
    assert "…" in table
    assert len(table) < 3000
    assert "x" * 200 not in "".join(table.split())


def test_one_operator_too_few(raw: Raw, status: Status) -> None:
    """The second one finds no second node."""
    scene.well(raw, 2, 2)
    raw.patch(f"{scene.DEPLOYMENTS}/cilium-operator", {"spec": {"replicas": 3}})

    def told(found: Any) -> bool:
        return any(
            c.get("reason") == "Unschedulable"
            for p in found["items"]
            for c in p["status"].get("conditions") or ()
        )

    raw.until(f"{scene.PODS}?labelSelector={scene.OPERATORS}", told)
    ran = status()
    assert ran.code == 1
    found = next(p for p in ran.json["problems"] if p["key"] == "operators-too-few")
    assert found["title"] == "2 of 3 operators well"
    assert "0/2 nodes are available" in found["evidence"][0]
    assert found["lasting"]


def test_two_operators_on_one_node(raw: Raw, status: Status) -> None:
    nodes = [scene.node(0), scene.node(1)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.install(raw, operator=scene.deployment(affinity={}, nodeSelector={"rack": "a"}))
    scene.add_cilium_nodes(raw, nodes)
    for pod in scene.pods(raw, scene.AGENTS, 2).values():
        scene.put(raw, pod)
    found = raw.until(
        f"{scene.PODS}?labelSelector={scene.OPERATORS}",
        lambda told: [p["spec"].get("nodeName") for p in told["items"]] == ["n1", "n1"],
    )
    for pod in found["items"]:
        scene.put(raw, pod)
    scene.counted(raw, 2, 2)
    ran = status()
    assert ran.code == 1
    assert problems(ran) == {"operators-together": ["n1"]}


@pytest.mark.parametrize(("nodes", "right"), [(1, True), (2, False)])
def test_one_operator(raw: Raw, status: Status, nodes: int, right: bool) -> None:
    """Right for the one node that EKS Anywhere gives one."""
    scene.well(raw, nodes, 1)
    ran = status()
    assert ran.code == 0, ran.out
    assert problems(ran) == ({} if right else {"one-operator": []})


def test_restarts_and_versions_that_differ(raw: Raw, status: Status) -> None:
    scene.well(raw)
    pods = scene.pods(raw, scene.AGENTS, 4)
    lately = timedelta(minutes=3)
    scene.put(raw, pods["n1"], restarts=2, ended="OOMKilled", code=137, ago=lately)
    scene.put(raw, pods["n2"], restarts=5, ended="Error", ago=timedelta(days=3))
    scene.put(raw, pods["n3"], image_id="example.org/moved@sha256:" + "cd" * 32)
    name = pods["n4"]["metadata"]["name"]
    container = {"name": "cilium-agent", "image": scene.IMAGE.replace("1.15", "1.14")}
    kind = "application/strategic-merge-patch+json"
    change = {"spec": {"containers": [container]}}
    assert raw.ask("PATCH", f"{scene.PODS}/{name}", change, kind).status == 200
    ran = status()
    assert ran.code == 0, ran.out
    found = problems(ran)
    assert found["agent-restarted"] == ["n1"]  # three days ago is no news
    assert found["agent-digest"] == ["n3"]
    assert found["agent-image"] == ["n4"]
    table = status(table=True, columns=120).out
    assert "5 (Error)" in table
    assert "v1.14.16-eksa.1" in table


def test_a_roll_out_that_is_under_way(raw: Raw, status: Status) -> None:
    scene.well(raw)
    raw.patch(f"{scene.DAEMONS}/cilium", {"spec": {"updateStrategy": None}})
    new = scene.IMAGE.replace("1.15", "1.16")
    container = {"name": "cilium-agent", "image": new}
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    raw.patch(f"{scene.DAEMONS}/cilium", change)
    raw.until(
        f"{scene.PODS}?labelSelector={scene.AGENTS}",
        lambda found: any("deletionTimestamp" in p["metadata"] for p in found["items"]),
    )
    ran = status()
    assert ran.code == 1
    assert any(key in problems(ran) for key in ("agent-terminating", "agent-outdated"))
    with scene.Kubelets(raw):
        ran = status("--wait", "--timeout", "60")
    assert ran.code == 0, ran
    assert {agent["pod"]["image"] for agent in ran.json["agents"]} == {new}
    # Agents are ahead of the operators, which is no more than worth a word.
    assert problems(ran) == {"operator-version": []}


def test_waiting_until_it_is_well(raw: Raw, status: Status) -> None:
    nodes = [scene.node(0), scene.node(1)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.add_cilium_nodes(raw, nodes)
    scene.install(raw)
    assert status().code == 1
    with scene.Kubelets(raw):
        ran = status("--wait", "--timeout", "60")
    assert ran.code == 0, ran
    assert "agents" in ran.err
    assert status("--wait", "--quiet").err == ""


def test_waiting_ends_where_it_is_hopeless(
    raw: Raw, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preflight.runs.ciliumstatus._HOPELESS", 0.5)
    nodes = [scene.node(0, taints=[{"key": "k", "effect": "NoExecute"}]), scene.node(1)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.install(raw, scene.daemon_set(tolerations=[]))
    scene.add_cilium_nodes(raw, nodes)
    with scene.Kubelets(raw):
        ran = status("--wait", "--timeout", "500")
    assert ran.code == 1
    assert problems(ran)["agent-missing"] == ["n1"]


def test_waiting_ends_with_its_time(raw: Raw, status: Status) -> None:
    scene.well(raw, 2)
    scene.put(raw, scene.pods(raw, scene.AGENTS, 2)["n2"], ready=False)
    ran = status("--wait", "--timeout", "1")
    assert ran.code == 1
    assert problems(ran) == {"agent-not-ready": ["n2"]}


def test_waiting_ends_with_ctrl_c(raw: Raw, status: Status) -> None:
    scene.well(raw, 2)
    scene.put(raw, scene.pods(raw, scene.AGENTS, 2)["n2"], ready=False)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    ran = status("--wait")
    timer.join()
    assert ran.code == 130
    assert states(ran) == {"n1": "well", "n2": "not-ready"}


def test_no_cilium_at_all(raw: Raw, status: Status) -> None:
    scene.add_nodes(raw, [scene.node(0), scene.node(1)])
    ran = status()
    assert ran.code == 1
    assert problems(ran) == {"no-daemon-set": ["n1", "n2"], "no-operator": []}
    table = status(table=True)
    assert "Is Cilium installed in this cluster?" in table.out


def test_another_namespace(raw: Raw, status: Status) -> None:
    raw.make("/api/v1/namespaces", {"metadata": {"name": "cilium"}})
    nodes = [scene.node(0)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.add_cilium_nodes(raw, nodes)
    apps = "/apis/apps/v1/namespaces/cilium"
    raw.make(f"{apps}/daemonsets", scene.daemon_set())
    raw.make(f"{apps}/deployments", scene.deployment(1))
    space = "/api/v1/namespaces/cilium/pods"
    there = raw.until(
        space,
        lambda found: (
            len(found["items"]) == 2 and all(p["spec"].get("nodeName") for p in found["items"])
        ),
    )
    for pod in there["items"]:
        path = f"{space}/{pod['metadata']['name']}/status"
        raw.patch(path, {"status": scene.state(pod)})
    raw.until(f"{apps}/daemonsets/cilium", lambda found: found["status"].get("numberReady") == 1)
    raw.until(
        f"{apps}/deployments/cilium-operator",
        lambda found: found["status"].get("readyReplicas") == 1,
    )
    for words in ([], ["--namespace", "cilium"]):
        ran = status(*words)
        assert ran.code == 0, ran.out
        assert ran.json["daemon_set"]["namespace"] == "cilium"
    assert status("--namespace", "kube-system").code == 1


def test_names_without_labels(raw: Raw, status: Status) -> None:
    """Found by their names."""
    nodes = [scene.node(0)]
    scene.add_nodes(raw, nodes)
    scene.define(raw)
    scene.add_cilium_nodes(raw, nodes)
    bare = [scene.daemon_set(), scene.deployment(1)]
    for one in bare:
        del one["metadata"]["labels"]
    scene.install(raw, *bare)
    for selector in (scene.AGENTS, scene.OPERATORS):
        scene.put(raw, scene.pods(raw, selector, 1)["n1"])
    scene.counted(raw, 1, 1)
    assert status().code == 0


def allow(raw: Raw, *rules: tuple[str, str]) -> None:
    """Let the viewer read (group, kind) all over the cluster."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    group = "rbac.authorization.k8s.io"
    told = [
        {"apiGroups": [api], "resources": [kind], "verbs": ["get", "list", "watch"]}
        for api, kind in rules
    ]
    raw.make(f"{rbac}/clusterroles", {"metadata": {"name": "some"}, "rules": told})
    binding = {
        "metadata": {"name": "some"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "some"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "viewer"}],
    }
    raw.make(f"{rbac}/clusterrolebindings", binding)
    _, kind = rules[0]
    path = f"/api/v1/{kind}"
    viewer = Raw(raw.server, "viewer")
    raw.until(scene.NODES, lambda _: viewer.ask("GET", path).status == 200)


def test_rights_that_are_missing_make_it_incomplete(raw: Raw, status: Status) -> None:
    scene.well(raw, 2)
    allow(raw, ("", "nodes"), ("apps", "daemonsets"), ("apps", "deployments"))
    ran = status(user="viewer")
    assert ran.code == 3, ran
    unknown = " ".join(ran.json["unknown"])
    for words in ("the agents' pods", "the operators' pods", "CiliumNode", "configuration"):
        assert words in unknown
    assert "the nodes could not" not in unknown
    assert not ran.json["problems"]
    assert ran.json["identity_store"] is None
    table = status(user="viewer", table=True)
    assert "2 of 2 ready by its own count" in " ".join(table.out.split())
    assert 'cannot list resource "pods"' in " ".join(table.out.split())
    # What is known to be wrong is wrong all the same.
    scene.put(raw, scene.pods(raw, scene.AGENTS, 2)["n2"], ready=False)
    raw.until(f"{scene.DAEMONS}/cilium", lambda found: found["status"]["numberReady"] == 1)
    ran = status(user="viewer")
    assert ran.code == 1
    assert problems(ran) == {"daemon-set-not-ready": []}


def test_pods_without_nodes(raw: Raw, status: Status) -> None:
    """Agents are judged by their pods; which nodes have none is not known."""
    scene.well(raw, 2)
    allow(raw, ("", "pods"), ("apps", "daemonsets"), ("apps", "deployments"))
    ran = status(user="viewer")
    assert ran.code == 3
    assert states(ran) == {"n1": "well", "n2": "well"}


def test_no_rights_at_all(raw: Raw, status: Status) -> None:
    scene.well(raw, 1, 1)
    ran = status(user="nobody")
    assert ran.code == 3
    told = " ".join(ran.json["unknown"])
    for words in ("the nodes", "DaemonSet", "agents' pods", "Deployment", "CiliumNode", "config"):
        assert words in told
    assert not ran.json["problems"]
    unknown = status(user="stranger")
    assert unknown.code == 4
    assert unknown.out == ""
    assert "does not accept these credentials (401)" in unknown.err
    assert len(unknown.err.splitlines()) == 1


def test_a_node_that_is_not_heard_of(raw: Raw, status: Status) -> None:
    """What its agent last said is no evidence."""
    nodes = scene.well(raw, 3)
    operators = scene.pods(raw, scene.OPERATORS, 2)
    lost = next(n["metadata"]["name"] for n in nodes if n["metadata"]["name"] not in operators)
    conditions = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    raw.patch(f"{scene.NODES}/{lost}/status", conditions)
    ran = status()
    assert states(ran)[lost] == "not-heard"
    assert problems(ran)["node-not-heard"] == [lost]
    assert "agent-not-ready" not in problems(ran)
    assert ran.code == 1
    assert lost in ran.json["unknown"][0]


def test_the_server_goes_away_midway(kube: Server, raw: Raw, status: Status) -> None:
    """What was read by then is told, the rest is not known; without an answer it is 4."""
    scene.well(raw, 2)
    with Wire(kube.url) as wire:
        wire.down_after(9000 if kube.emulated else 22000)
        ran = status(server=wire.url)
    assert ran.code == 3, ran
    assert ran.json["nodes"] is not None
    assert ran.json["unknown"]
    assert not ran.json["problems"]
    with Wire(kube.url) as wire:
        wire.down()
        ran = status(server=wire.url)
    assert ran.code == 4
    assert ran.out == ""
    assert "Connection refused" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_server_is_away_for_a_while(kube: Server, raw: Raw, status: Status) -> None:
    """A wait goes on where it was."""
    scene.well(raw, 2)
    pods = scene.pods(raw, scene.AGENTS, 2)
    scene.put(raw, pods["n2"], ready=False)
    with Wire(kube.url) as wire:

        def trouble() -> None:
            wire.down()
            scene.put(raw, pods["n2"])
            wire.back()

        timer = threading.Timer(2.0, trouble)
        timer.start()
        ran = status("--wait", "--timeout", "60", server=wire.url)
        timer.join()
    assert ran.code == 0, ran


def test_five_hundred_nodes(emulator: Emulator, cli: Run) -> None:
    with emulator.api.store.changed:  # the controllers see it all at once
        raw = _Direct(emulator)
        nodes = [scene.node(position) for position in range(500)]
        scene.define(raw)
        for one in nodes:
            raw.make(scene.NODES, one)
        scene.install(raw)
        scene.add_cilium_nodes(raw, nodes)
    emulator.settled()
    raw = _Direct(emulator)
    rack = {n["metadata"]["name"] for n in nodes if n["metadata"]["labels"]["rack"] == "b"}
    with emulator.api.store.changed:
        for pod in raw.all("pods"):
            bad = pod["spec"]["nodeName"] in rack and pod["metadata"]["name"].startswith("cilium-")
            bad = bad and "operator" not in pod["metadata"]["name"]
            raw.tell(pod, scene.state(pod, ready=not bad))
    emulator.settled()
    ran = Ran(*cli("cilium", "status", "--kubeconfig", emulator.kubeconfig()))
    assert ran.code == 1
    assert "250 of 500" in ran.out
    assert "agent not ready on rack=b" in ran.out
    assert len(ran.out.splitlines()) < 30


class _Direct:
    """Makes objects without a request for each."""

    def __init__(self, emulator: Emulator) -> None:
        self.server = emulator
        self._api = emulator.api

    def make(self, path: str, body: Any) -> Any:
        request = self._api.taken_apart(path, {})
        made = self._api.objects.create(request.kind, body, request.namespace)
        if request.kind.plural == "customresourcedefinitions":
            self._api.define(made)
        return made

    def until(self, *_: Any) -> None:
        """All is there at once."""

    def all(self, plural: str) -> list[Any]:
        return self._api.store.listed(self._api.kind("", "v1", plural), None)[0]

    def tell(self, pod: Any, state: Any) -> None:
        kind = self._api.kind("", "v1", "pods")
        about = pod["metadata"]
        body = {**pod, "status": state}
        self._api.objects.update(kind, about["name"], about["namespace"], body, sub="status")


def test_an_overloaded_server_is_asked_again(emulator: Emulator, cli: Run) -> None:
    raw = Raw(emulator)
    scene.well(raw, 1, 1)
    refused: list[str] = []

    def refuse(method: str, path: str) -> ApiError | None:
        if "/pods" in path and method == "GET" and len(refused) < 2:
            refused.append(path)
            return ApiError(429, "TooManyRequests", "too many requests", retry=0)
        return None

    emulator.hooks.refuse = refuse
    ran = Ran(*cli("cilium", "status", "--kubeconfig", emulator.kubeconfig()))
    assert ran.code == 0, ran
    assert len(refused) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[1, 2]", "not a usable kubeconfig"),
        ("a: [", "not valid YAML"),
        ("apiVersion: v1\nkind: Config\n", "not a usable kubeconfig"),
        ("\0\1binary", "control character"),
    ],
)
def test_kubeconfigs_that_are_none(
    text: str,
    said: str,
    tmp_path: Path,
    cli: Run,
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    ran = Ran(*cli("cilium", "status", "--kubeconfig", file))
    assert ran.code == 2
    assert said in ran.err
    assert str(file) in ran.err
    assert len(ran.err.splitlines()) == 1
    missing = Ran(*cli("cilium", "status", "--kubeconfig", tmp_path / "none"))
    assert missing.code == 2
    assert "No such file" in missing.err


def test_a_timeout_without_a_wait(cli: Run) -> None:
    ran = Ran(*cli("cilium", "status", "--timeout", "5"))
    assert ran.code == 2
    assert "--wait" in ran.err
