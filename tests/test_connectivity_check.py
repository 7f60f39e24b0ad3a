"""The connectivity check against an API server: made, followed, judged, taken away."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from found import HOST_RULE, with_findings
from kubeapi.emulator import Emulator
from kubeapi.raw import Raw, Server
from kubeapi.users import USERS
from kubeapi.wire import Wire
from kubelets import (
    CILIUM,
    IMAGE,
    SPACE,
    Fate,
    Kubelets,
    cilium,
    config,
    dns,
    node,
    refused,
    timeout,
    unresolved,
)
from samples import DROPPED_AT_DESTINATION, Fault, sample

from preflight.cluster.api import Access, Timeouts, connect
from preflight.cluster.errors import ClusterError
from preflight.core.connectivity.given import given
from preflight.core.connectivity.manifest import Settings
from preflight.core.connectivity.options import Options
from preflight.core.connectivity.pods import Judgement, Status
from preflight.core.connectivity.result import Ending, Result
from preflight.core.connectivity.settle import Patience
from preflight.core.connectivity.symptoms import Symptom
from preflight.core.connectivity.workloads import DENIED, EXTERNAL, FQDN, MULTI_NODE, WORKLOADS
from preflight.errors import ExitCode, UsageError
from preflight.report.connectivity import render
from preflight.report.connectivity_json import dump
from preflight.runs.connectivity import check, clean_up

NAMES = [workload.name for workload in WORKLOADS]
OVERLAY = [w.name for w in WORKLOADS if "multi-node-c" in w.name or "multi-node-he" in w.name]
QUICK = Options(timeout=300, clean_up=300, patience=Patience(settle=0.3, confirm=0.2))
SPACES = "/api/v1/namespaces"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked again soon."""
    monkeypatch.setattr("preflight.cluster.requests._PAUSES", (0.05, 0.1))


# What passes; a scheduler looks again at a pod that must be near another only after seconds.
YOUNG = {Symptom.UNSEEN, Symptom.NO_POD, Symptom.NOT_SCHEDULED, Symptom.UNSCHEDULABLE}
MOST_S = 300.0  # of any one check; only a test that fails takes so long


class Told:
    """A teller that remembers, and calls what waits for a step, or for a workload's symptom."""

    def __init__(self, young: Collection[Symptom] = frozenset(YOUNG)) -> None:
        self.lines: list[str] = []
        self.when: dict[str, Callable[[], object]] = {}
        self._begun = self._at = time.monotonic()
        self._passed = 0.0
        self._young = True
        self._kinds = young

    def clock(self) -> float:
        """Seconds, without those in which a pod was on its way: a busy machine is no fault."""
        now = time.monotonic()
        assert now - self._begun < MOST_S, f"never settled: {self.lines[-1:]}"
        self._passed += 0 if self._young else now - self._at
        self._at = now
        return self._passed

    def phase(self, text: str) -> None:
        self._say(text)

    def pods(self, judged: Sequence[Judgement]) -> None:
        self.clock()
        self._young = any(one.symptom in self._kinds for one in judged)
        told = f"{sum(one.green for one in judged)} green"
        late = [f"{one.workload} {one.symptom}" for one in judged if not one.green]
        self._say(", ".join((told, *late)))

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        self.lines.append(text)
        for start in [s for s in self.when if text.startswith(s)]:
            self.when.pop(start)()


class Clock:
    """Stands still, so that no limit is met before the test has seen what it waits for."""

    def __init__(self) -> None:
        self._now = 0.0
        self._begun = time.monotonic()

    def __call__(self) -> float:
        assert time.monotonic() - self._begun < MOST_S, "what was waited for never came"
        return self._now

    def run_out(self) -> None:
        """All the time that there was is over."""
        self._now += QUICK.timeout


@pytest.fixture
def workers(raw: Raw) -> Raw:
    """Two workers and a control plane, with Cilium's kinds and its configuration."""
    cilium(raw)
    config(raw, cni_chaining_mode="portmap")
    node(raw, "cp-1", "10.0.0.1", taint="node-role.kubernetes.io/control-plane")
    node(raw, "w1", "10.0.0.2")
    node(raw, "w2", "10.0.0.3")
    dns(raw, "coredns-1", "w1")
    return raw


def run(
    kube: Server,
    options: Options = QUICK,
    *,
    told: Told | None = None,
    stop: threading.Event | None = None,
    user: str = "admin",
    server: str | None = None,
    clock: Callable[[], float] | None = None,
) -> Result:
    """One check in this process."""
    told = told or Told()
    access = Access(kube.kubeconfig(user, server))
    with connect(access, Timeouts(connect=10, read=30)) as cluster:
        return check(cluster, options, told, stop or threading.Event(), clock or told.clock)


def of(result: Result, name: str) -> Judgement:
    return next(one for one in result.judged if one.workload == name)


def there(raw: Raw, space: str = SPACE) -> bool:
    return raw.ask("GET", f"{SPACES}/{space}").status == 200


def text(result: Result, width: int = 100) -> str:
    out = io.StringIO()
    render(result, strict=False, width=width, color=False, file=out)
    return out.getvalue()


# --- what pods say ---


def test_all_is_well(kube: Server, workers: Raw) -> None:
    with Kubelets(workers):
        result = run(kube)
    assert [(one.workload, one.status) for one in result.judged] == [
        (name, Status.READY) for name in NAMES
    ]
    assert (result.ending, result.exit_code(strict=True)) == (Ending.READY, 0)
    server = of(result, "echo-b").nodes[0]
    other = {"w1": "w2", "w2": "w1"}[server]
    (pair,) = (p for p in result.pairs if (p.source, p.destination) == (other, server))
    assert pair.overlay[0] >= 4
    assert (pair.overlay[1], pair.ports) == (0, (2, 0))
    assert not there(workers)
    assert "the check passes" in text(result)


def test_a_tunnel_fault_with_the_matrix_that_names_it(kube: Server, workers: Raw) -> None:
    fault = Fault(DROPPED_AT_DESTINATION, "*", "*", "geneve")
    snapshot = with_findings(sample(4, faults=[fault]), HOST_RULE)
    options = replace(QUICK, snapshot=snapshot, snapshot_file="before.json")
    with Kubelets(workers, dict.fromkeys(OVERLAY, timeout())):
        result = run(kube, options)
    (finding,) = result.findings
    assert finding.key == "tunnel"
    assert set(finding.workloads) == set(OVERLAY)
    assert any("blocked inside the destination" in line for line in finding.matrix)
    assert result.exit_code() == 1
    told = text(result, 80)
    assert "preflight explain before.json" in told
    assert max(map(len, told.splitlines())) <= 80
    assert not there(workers)


def test_several_faults_at_once(kube: Server, workers: Raw) -> None:
    fates = {
        EXTERNAL: timeout("1.1.1.1"),
        FQDN: unresolved("www.google.com"),
        DENIED: Fate(unhealthy=""),
        "pod-to-b-intra-node-hostport": refused("echo-b-host-headless", 40000),
        "pod-to-b-multi-node-hostport": refused("echo-b-host-headless", 40000),
    }
    with Kubelets(workers, fates):
        result = run(kube)
    causes = {finding.key: finding.severity for finding in result.findings}
    assert causes == {
        "host-port-chaining": "required",
        "policy-not-enforced": "required",
        "internet": "recommended",
    }


def test_no_internet_is_no_failure(kube: Server, workers: Raw) -> None:
    with Kubelets(workers, {EXTERNAL: timeout("1.1.1.1"), FQDN: unresolved("www.google.com")}):
        result = run(kube)
    assert result.ending is Ending.STUCK
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 1)
    assert "expected where the cluster is not meant to" in text(result).lower()


def test_without_the_internet(kube: Server, workers: Raw) -> None:
    with Kubelets(workers):
        result = run(kube, replace(QUICK, settings=Settings(external=False)))
    assert {one.workload for one in result.judged} == set(NAMES) - {EXTERNAL, FQDN}
    assert result.exit_code(strict=True) == 0


def test_images_that_cannot_be_pulled_are_no_verdict(kube: Server, workers: Raw) -> None:
    with Kubelets(workers) as nodes:
        nodes.default = IMAGE
        result = run(kube)
    assert {one.status for one in result.judged} == {Status.UNKNOWN}
    assert result.findings == ()
    assert result.exit_code() == 3


def test_pods_that_never_start_are_waited_for_until_the_deadline(
    kube: Server, workers: Raw
) -> None:
    told, clock = Told(), Clock()
    told.when[f"15 green, {EXTERNAL} {Symptom.STARTING}"] = clock.run_out
    with Kubelets(workers, {EXTERNAL: Fate(started=False)}):
        result = run(kube, told=told, clock=clock)
    assert result.ending is Ending.TIMEOUT
    assert of(result, EXTERNAL).symptom is Symptom.STARTING
    assert (result.exit_code(), result.exit_code(strict=True)) == (0, 3)


def test_what_was_not_listed_before_the_deadline_is_not_told_as_deleted(
    kube: Server, workers: Raw
) -> None:
    told, clock = Told(), Clock()
    with Wire(kube.url) as wire, Kubelets(workers):

        def over() -> None:
            wire.down()
            clock.run_out()

        told.when["waiting for the pods"] = over
        told.when["removing namespace"] = wire.back
        result = run(kube, told=told, clock=clock, server=wire.url)
    assert {one.symptom for one in result.judged} == {Symptom.UNSEEN}
    assert "by somebody else" not in text(result)
    # Which of the two is noticed first is a matter of moments: the deadline, or the silence.
    assert result.exit_code() in (ExitCode.INCOMPLETE, ExitCode.NO_NODE)
    assert result.left_behind is None
    assert not there(workers)


def test_one_worker(kube: Server, raw: Raw) -> None:
    cilium(raw)
    config(raw)
    node(raw, "w1", "10.0.0.2")
    node(raw, "cp-1", "10.0.0.1", taint="node-role.kubernetes.io/control-plane")
    with Kubelets(raw):
        result = run(kube)
    assert {one.workload for one in result.judged} == set(NAMES)
    for one in result.judged:
        assert one.green != (one.workload in MULTI_NODE), one
    assert result.exit_code() == 3
    assert "two workers" in text(result)


def test_a_service_whose_port_is_taken(kube: Server, workers: Raw) -> None:
    ports = [{"port": 80, "nodePort": 31414}]
    spec = {"type": "NodePort", "ports": ports, "selector": {"a": "b"}}
    workers.make(f"{SPACES}/default/services", {"metadata": {"name": "x"}, "spec": spec})
    with Kubelets(workers):
        result = run(kube)
    assert result.exit_code() == 0
    assert any("31414 is taken by Service default/x" in note for note in result.notes)


def test_a_host_port_that_is_taken(kube: Server, workers: Raw) -> None:
    for name in ("w1", "w2"):
        ports = [{"containerPort": 1, "hostPort": 40000}]
        spec = {"nodeName": name, "containers": [{"name": "c", "image": "x", "ports": ports}]}
        workers.make(f"{SPACES}/default/pods", {"metadata": {"name": name}, "spec": spec})
    with Kubelets(workers):
        result = run(kube, told=Told(YOUNG - {Symptom.UNSCHEDULABLE}))
    assert of(result, "echo-b").symptom is Symptom.UNSCHEDULABLE
    assert "host port free" in of(result, "echo-b").meaning
    assert not result.findings
    assert result.exit_code() == 3


# --- what forbids it ---


def refusal(kube: Server, options: Options = QUICK, **more: Any) -> str:
    with pytest.raises((ClusterError, UsageError)) as caught:
        run(kube, options, **more)
    return str(caught.value)


def test_nodes_that_take_no_pods(kube: Server, raw: Raw) -> None:
    cilium(raw)
    node(raw, "cp-1", "10.0.0.1", taint="node-role.kubernetes.io/control-plane")
    said = refusal(kube)
    assert "no node takes pods" in said
    assert "cp-1 (taint node-role.kubernetes.io/control-plane)" in said
    assert not there(raw)


def test_no_cilium(kube: Server, raw: Raw) -> None:
    node(raw, "w1", "10.0.0.2")
    assert "Cilium is not installed" in refusal(kube)
    assert not there(raw)


def test_a_namespace_of_somebody_else(kube: Server, workers: Raw) -> None:
    workers.make(SPACES, {"metadata": {"name": SPACE}})
    assert "was not made by this check" in refusal(kube)
    assert there(workers)
    with connect(Access(kube.kubeconfig())) as cluster, pytest.raises(UsageError):
        clean_up(cluster, SPACE, 5, Told())
    assert there(workers)


def test_a_namespace_of_another_run(kube: Server, workers: Raw) -> None:
    labels = {"app.kubernetes.io/managed-by": "preflight", "preflight/run": "cafe"}
    workers.make(SPACES, {"metadata": {"name": SPACE, "labels": labels}})
    said = refusal(kube)
    assert "run cafe" in said
    assert "--clean-up --namespace cilium-test" in said
    assert there(workers)
    with connect(Access(kube.kubeconfig())) as cluster:
        assert clean_up(cluster, SPACE, QUICK.clean_up, Told()) is None
        assert not there(workers)
        assert (
            clean_up(cluster, SPACE, QUICK.clean_up, Told()) is None
        )  # nothing there: nothing to do


def test_a_kept_namespace_is_replaced(kube: Server, workers: Raw) -> None:
    with Kubelets(workers):
        first = run(kube, replace(QUICK, keep=True))
        assert first.kept
        assert there(workers)
        before = workers.get(f"{SPACES}/{SPACE}")["metadata"]["uid"]
        second = run(kube, replace(QUICK, keep=True))
        assert second.exit_code() == 0
        assert workers.get(f"{SPACES}/{SPACE}")["metadata"]["uid"] != before
        with connect(Access(kube.kubeconfig())) as cluster:
            assert clean_up(cluster, SPACE, QUICK.clean_up, Told()) is None
    assert not there(workers)


def test_a_namespace_of_an_earlier_run_that_does_not_end(kube: Server, workers: Raw) -> None:
    labels = {"app.kubernetes.io/managed-by": "preflight", "preflight/run": "cafe"}
    workers.make(SPACES, {"metadata": {"name": SPACE, "labels": labels}})
    held = {"name": "held", "finalizers": ["example.org/hold"]}
    path = f"{SPACES}/{SPACE}/configmaps"
    workers.make(path, {"metadata": held})
    workers.drop(f"{SPACES}/{SPACE}")
    assert "of an earlier run is not gone" in refusal(kube, replace(QUICK, clean_up=0.2))
    told, stop = Told(), threading.Event()
    told.when[f"removing namespace {SPACE}: "] = stop.set
    with pytest.raises(KeyboardInterrupt):  # nothing was made: nothing is to be told
        run(kube, told=told, stop=stop)
    workers.patch(f"{path}/held", {"metadata": {"finalizers": None}})
    workers.until(f"{SPACES}/{SPACE}", lambda found: found is None)


def test_a_policy_for_the_whole_cluster(kube: Server, workers: Raw) -> None:
    def make(name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"}
        path = f"{CILIUM}/ciliumclusterwidenetworkpolicies"
        workers.make(path, {**body, "metadata": {"name": name}, "spec": spec})

    label = "k8s:io.kubernetes.pod.namespace"
    other = {"endpointSelector": {"matchLabels": {label: "kube-system"}}}
    make("elsewhere", other)
    make("hosts", {"nodeSelector": {}})
    with Kubelets(workers):
        result = run(kube)
        assert result.exit_code() == 0
        assert any("host policies (hosts)" in note for note in result.notes)
        everywhere = {"endpointSelector": {}, "egress": []}
        make("baseline", everywhere)
        said = refusal(kube)
        assert "CiliumClusterwideNetworkPolicy baseline" in said
        assert "elsewhere" not in said
        assert not there(workers)
        result = run(kube, replace(QUICK, despite_policies=True))
        assert any("may be their doing" in note for note in result.notes)


@pytest.mark.parametrize("step", ["making namespace", "waiting for the pods"])
def test_a_policy_that_the_cluster_puts_into_every_namespace(
    kube: Server, workers: Raw, step: str
) -> None:
    """At once, or when the pods are there already."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies"
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}

    def put() -> None:
        workers.until(f"{SPACES}/{SPACE}", lambda found: found is not None)
        workers.make(path, {"metadata": {"name": "default-deny"}, "spec": spec})

    operator = threading.Thread(target=put)
    told = Told()
    told.when[step] = operator.start
    with Kubelets(workers, {"pod-to-a": timeout("echo-a")}):
        said = refusal(kube, told=told)
    operator.join()
    assert "NetworkPolicy default-deny" in said
    assert not there(workers)


def test_rights_that_are_missing_are_told_at_once(kube: Server, workers: Raw) -> None:
    said = refusal(kube, user="nobody")
    for right in (
        "create namespaces",
        "delete namespaces",
        "create deployments.apps in cilium-test",
        "watch pods in cilium-test",
        "create ciliumnetworkpolicies.cilium.io in cilium-test",
        "list ciliumclusterwidenetworkpolicies.cilium.io",
    ):
        assert right in said
    assert not there(workers)


def test_the_rights_that_it_asks_for_are_enough(kube: Server, workers: Raw) -> None:
    """And without events, nodes and Cilium's configuration it does what it can."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "delete"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["deployments"],
         "verbs": ["create", "list", "watch"]},
        {"apiGroups": ["cilium.io"], "resources": ["*"], "verbs": ["create", "list"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list"]},
    ]  # fmt: skip
    workers.make(f"{rbac}/clusterroles", {"metadata": {"name": "checker"}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "checker"}
    subject = {"apiGroup": group, "kind": "User", "name": "viewer"}
    assert "viewer" in USERS
    workers.make(
        f"{rbac}/clusterrolebindings",
        {"metadata": {"name": "checker"}, "roleRef": role, "subjects": [subject]},
    )
    with Kubelets(workers, {"pod-to-a": timeout("echo-a")}):
        result = run(kube, user="viewer")
    assert result.workers is None
    assert of(result, "pod-to-a").symptom is Symptom.PROBE
    assert any("events may not be read" in note for note in result.notes)
    assert sum("could not be read" in note for note in result.notes) == 2
    assert not there(workers)


# --- what happens on the way ---


def test_an_api_server_that_goes_away_and_comes_back(kube: Server, workers: Raw) -> None:
    told = Told()
    with Wire(kube.url) as wire, Kubelets(workers, {EXTERNAL: Fate(started=False)}) as nodes:

        def gone() -> None:
            wire.down()
            told.when["cluster test-cluster"] = back

        def back() -> None:
            wire.back()
            nodes.fates.clear()

        told.when["15 green"] = gone
        result = run(kube, told=told, server=wire.url)
    assert result.exit_code() == 0
    assert any("cannot be reached" in line for line in told.lines)
    assert any("answers again" in line for line in told.lines)
    assert not there(workers)


def test_an_api_server_that_stays_away(kube: Server, workers: Raw) -> None:
    told, clock = Told(), Clock()
    with Wire(kube.url) as wire, Kubelets(workers, {EXTERNAL: Fate(started=False)}):
        told.when["15 green"] = wire.down
        told.when["cluster test-cluster"] = clock.run_out
        options = replace(QUICK, clean_up=1)
        result = run(kube, options, told=told, server=wire.url, clock=clock)
    assert (result.ending, result.exit_code()) == (Ending.LOST, 4)
    left = result.left_behind
    assert left is not None
    assert "cannot be reached" in left.why
    assert "preflight cilium connectivity-check --clean-up" in text(result)
    assert there(workers)
    with connect(Access(kube.kubeconfig())) as cluster, Kubelets(workers):
        assert clean_up(cluster, SPACE, QUICK.clean_up, Told()) is None


def test_an_api_server_that_goes_away_while_the_namespace_is_made(
    kube: Server, workers: Raw
) -> None:
    told = Told()
    with Wire(kube.url) as wire:
        told.when["making namespace"] = wire.down
        said = refusal(kube, replace(QUICK, clean_up=1), told=told, server=wire.url)
    assert "cannot be reached to create Namespace cilium-test" in said
    assert "may be left behind" in said
    assert "--clean-up" in said


def test_a_namespace_that_does_not_end(kube: Server, workers: Raw) -> None:
    path = f"{SPACES}/{SPACE}/configmaps"
    told = Told()
    about = {"name": "held", "finalizers": ["example.org/hold"]}
    told.when["waiting for the pods"] = lambda: workers.make(path, {"metadata": about})
    with Kubelets(workers):
        result = run(kube, replace(QUICK, clean_up=3), told=told)
        assert result.left_behind is not None
        assert any("inaliz" in line for line in result.left_behind.holding)
        assert {one.status for one in result.judged} == {Status.READY}
        assert result.exit_code() == 3
        assert "Left behind: namespace cilium-test" in text(result)
        workers.patch(f"{path}/held", {"metadata": {"finalizers": None}})
        workers.until(f"{SPACES}/{SPACE}", lambda found: found is None)


def test_a_namespace_that_somebody_deletes_meanwhile(kube: Server, workers: Raw) -> None:
    told = Told()
    told.when["15 green"] = lambda: workers.drop(f"{SPACES}/{SPACE}")
    with Kubelets(workers, {EXTERNAL: Fate(started=False)}):
        result = run(kube, told=told)
    assert {one.symptom for one in result.judged} == {Symptom.GONE}
    assert result.exit_code() == 3
    assert result.left_behind is None
    assert "deleted meanwhile, by somebody else" in text(result)


def test_interrupted_in_this_process(kube: Server, workers: Raw) -> None:
    told, stop = Told(), threading.Event()
    told.when["15 green"] = stop.set
    with Kubelets(workers, {EXTERNAL: Fate(started=False)}):
        result = run(kube, told=told, stop=stop)
    assert (result.ending, result.exit_code()) == (Ending.INTERRUPTED, 130)
    assert "the run ended before" in of(result, EXTERNAL).meaning
    assert not there(workers)


def command(kube: Server, *arguments: str) -> list[str]:
    before = [sys.executable, "-m", "preflight", "cilium", "connectivity-check"]
    return [*before, "--kubeconfig", str(kube.kubeconfig()), *arguments]


@contextmanager
def started(kube: Server, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command, ended whatever happens."""
    process = subprocess.Popen(
        command(kube, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_takes_everything_away(kube: Server, workers: Raw) -> None:
    with (
        Kubelets(workers, {EXTERNAL: Fate(started=False)}),
        started(kube, "--format", "json") as process,
    ):
        workers.until(f"{SPACES}/{SPACE}/pods", lambda pods: pods and len(pods["items"]) >= 16)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    told = json.loads(out)
    assert (told["schema"], told["ending"]) == ("preflight/connectivity/1", "interrupted")
    assert told["passed"] is False
    assert not there(workers)


def test_a_second_ctrl_c_leaves_it_and_says_how_to_remove_it(kube: Server, workers: Raw) -> None:
    with Kubelets(workers) as nodes, started(kube) as process:
        nodes.hold = True  # so that the namespace does not end
        workers.until(f"{SPACES}/{SPACE}/pods", lambda pods: pods and len(pods["items"]) >= 16)
        process.send_signal(signal.SIGINT)
        workers.until(
            f"{SPACES}/{SPACE}", lambda found: found and "deletionTimestamp" in found["metadata"]
        )
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "left behind" in said
        again = "preflight cilium connectivity-check --clean-up --namespace cilium-test"
        assert f"{again} --kubeconfig {process.args[6]}" in said  # type: ignore[index]
        nodes.hold = False
        done = subprocess.run(
            command(kube, "--clean-up", "-q"), capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert not there(workers)


# --- manifests ---


def test_the_printed_manifest_is_taken_by_an_api_server(kube: Server, workers: Raw) -> None:
    done = subprocess.run(
        command(kube, "--print-manifest", "--registry", "mirror.example:5000"),
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    documents = list(yaml.safe_load_all(done.stdout))
    assert [d["kind"] for d in documents].count("Deployment") == 16
    assert "quay.io" not in done.stdout
    plurals = {"Service": "/api/v1", "Deployment": "/apis/apps/v1", "CiliumNetworkPolicy": CILIUM}
    workers.make(SPACES, documents[0])
    for document in documents[1:]:
        kind = document["kind"]
        plural = "ciliumnetworkpolicies" if "Policy" in kind else f"{kind.lower()}s"
        workers.make(f"{plurals[kind]}/namespaces/{SPACE}/{plural}", document)


MINE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: mine, namespace: elsewhere}
spec:
  replicas: 2
  selector: {matchLabels: {name: mine}}
  template:
    metadata: {labels: {name: mine}}
    spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: single, labels: {name: single}}
spec: {containers: [{name: c, image: x}]}
"""


def test_a_manifest_of_the_users_own(kube: Server, workers: Raw) -> None:
    options = replace(QUICK, given=given(yaml.safe_load_all(MINE), SPACE))
    with Kubelets(workers) as nodes:
        assert run(kube, options).exit_code() == 0
        nodes.fates["mine"] = timeout("somewhere")
        result = run(kube, options)
    assert [(one.kind, one.workload, one.status) for one in result.judged] == [
        ("Deployment", "mine", Status.FAILED),
        ("Pod", "single", Status.READY),
    ]
    assert [finding.key for finding in result.findings] == ["alone"]
    assert any("not in elsewhere" in note for note in result.notes)
    assert result.exit_code() == 1


def test_what_belongs_to_no_namespace_is_refused(kube: Server, workers: Raw) -> None:
    role = "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n"
    options = replace(QUICK, given=given(yaml.safe_load_all(MINE + role), SPACE))
    assert "ClusterRole r belongs to no namespace" in refusal(kube, options)
    assert not there(workers)


def test_a_login_for_the_registry(kube: Server, workers: Raw) -> None:
    data = {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}
    secret = {"metadata": {"name": "pull"}, "type": "kubernetes.io/dockerconfigjson", "data": data}
    workers.make(f"{SPACES}/default/secrets", secret)
    options = replace(
        QUICK, keep=True, copied_secret=("default", "pull"),
        settings=Settings(pull_secret="preflight-pull"),
    )  # fmt: skip
    with Kubelets(workers):
        assert run(kube, options).exit_code() == 0
        copy = workers.get(f"{SPACES}/{SPACE}/secrets/preflight-pull")
        pods = workers.get(f"{SPACES}/{SPACE}/pods")["items"]
        assert copy["data"] == data
        assert {p["spec"]["imagePullSecrets"][0]["name"] for p in pods} == {"preflight-pull"}
        with connect(Access(kube.kubeconfig())) as cluster:
            clean_up(cluster, SPACE, QUICK.clean_up, Told())


def test_the_json_of_a_check(emulator: Emulator) -> None:
    raw = Raw(emulator)
    cilium(raw)
    node(raw, "w1", "10.0.0.2")
    node(raw, "w2", "10.0.0.3")
    with Kubelets(raw, dict.fromkeys(OVERLAY, timeout())):
        result = run(emulator)
    out = io.StringIO()
    dump(result, out)
    told = json.loads(out.getvalue())
    assert told["schema"] == "preflight/connectivity/1"
    assert told["findings"][0]["cause"] == "tunnel"
    assert told["findings"][0]["pairs"]
    assert told["left_behind"] is None
    first = told["workloads"][0]
    assert first["target"] == "localhost:8080"
    assert {w["status"] for w in told["workloads"]} == {"ready", "failed"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--namespace", "Bad_Name"], "not a name that Kubernetes takes"),
        (["--namespace", "kube-system"], "one of the cluster's own"),
        (["--pull-secret", "x"], "not NAMESPACE/NAME"),
        (["--manifest", "/nonexistent"], "/nonexistent: cannot be read"),
        (["--snapshot", "/nonexistent"], "/nonexistent: cannot be read"),
        (["--registry-login", os.devnull], "not a docker config.json"),
    ],
)
def test_wrong_arguments(arguments: list[str], words: str, tmp_path: Path) -> None:
    from preflight.cli.app import app
    from preflight.errors import PreflightError

    with pytest.raises(PreflightError, match=words) as caught:
        app(["cilium", "connectivity-check", *arguments], standalone_mode=False)
    assert caught.value.exit_code == 2
