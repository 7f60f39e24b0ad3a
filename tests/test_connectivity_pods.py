"""One pod's state and what it means; the manifest; when the pods have had their say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.connectivity import workloads as w
from preflight.core.connectivity.given import ManifestError
from preflight.core.connectivity.given import given as read_given
from preflight.core.connectivity.manifest import (
    CLIENT_IMAGE,
    ECHO_IMAGE,
    Settings,
    mirrored,
    objects,
    planned,
)
from preflight.core.connectivity.observed import Observation, observation, sick_nodes
from preflight.core.connectivity.pods import Judgement, Status, expected, judge
from preflight.core.connectivity.settle import Patience, Settling, Stage
from preflight.core.connectivity.symptoms import Symptom, probe

NAMES = [one.name for one in w.WORKLOADS]


# --- symptoms ---


@pytest.mark.parametrize(
    ("said", "symptom"),
    [
        ("curl: (28) Connection timed out after 5001 milliseconds", "timeout"),
        ("curl: (28) Failed to connect to echo-b port 8080 after 5001 ms: Timeout was reached",
         "timeout"),
        ("curl: (7) Failed to connect to x port 8080 after 5003 ms: Couldn't connect to server",
         "timeout"),
        ("curl: (7) Failed to connect to x port 40000: Connection refused", "refused"),
        ("curl: (7) Failed to connect to x port 8080 after 1 ms: Couldn't connect to server",
         "refused"),
        ("curl: (7) Failed to connect to x port 8080: No route to host", "unreachable"),
        ("curl: (7) Failed to connect to x port 8080: Host is unreachable", "unreachable"),
        ("curl: (7) Failed to connect to x port 8080: Operation timed out", "timeout"),
        ("curl: (6) Could not resolve host: echo-a", "resolve"),
        ("curl: (28) Resolving timed out after 5000 milliseconds", "resolve"),
        ("curl: (28) Operation timed out after 7000 milliseconds with 0 bytes received", "stalled"),
        ("curl: (22) The requested URL returned error: 403", "answer"),
        ("curl: (52) Empty reply from server", "answer"),
        ("curl: (56) Recv failure: Connection reset by peer", "answer"),
        ("curl: (35) OpenSSL SSL_connect: Connection reset by peer", "answer"),
        ('command "curl -sS" timed out', "stalled"),
        ("rpc error: code = DeadlineExceeded desc = timeout 7s exceeded: context deadline",
         "stalled"),
        ('OCI runtime exec failed: exec: "curl": executable file not found in $PATH', "start"),
        ("something new", "probe"),
        ("", "probe"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "prefix",
    ["Readiness probe failed: ", "Liveness probe failed: ", "Readiness probe errored: ",
     "Readiness probe errored and resulted in unknown state: "],
)  # fmt: skip
def test_what_a_probe_says(prefix: str, said: str, symptom: str) -> None:
    reading = probe(prefix + said)
    assert reading.symptom == symptom
    assert "probe failed" not in reading.words


@given(st.text(max_size=80))
def test_a_probe_may_say_anything(text: str) -> None:
    assert probe(text).symptom


# --- one workload ---


def pod(name: str, *, node: str | None = "n1", ready: bool = False, **status: Any) -> dict:
    conditions = [{"type": "Ready", "status": str(ready)}]
    conditions += status.pop("conditions", [])
    labels = {"name": name, "pod-template-hash": "5d8f"}
    owner = {"kind": "ReplicaSet", "name": f"{name}-5d8f", "controller": True}
    return {
        "metadata": {
            "name": f"{name}-5d8f-x", "uid": name, "labels": labels,
            "ownerReferences": [owner], "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }  # fmt: skip


def container(**state: Any) -> list[dict]:
    return [{"name": "c", "ready": False, "restartCount": 0, "state": {"running": {}}, **state}]


def event(name: str, reason: str, message: str, last: str = "2026-01-01T00:00:00Z") -> dict:
    return {
        "involvedObject": {"kind": "Pod", "name": f"{name}-5d8f-x", "uid": name},
        "reason": reason, "message": message, "lastTimestamp": last,
    }  # fmt: skip


def deployment(name: str, refused: str = "") -> tuple[str, dict]:
    failure = {"type": "ReplicaFailure", "status": "True", "message": refused}
    status = {"conditions": [failure]} if refused else {}
    return "Deployment", {"metadata": {"name": name}, "spec": {"replicas": 1}, "status": status}


def seen(*pods: dict, events: tuple[dict, ...] = (), **more: Any) -> Observation:
    """All 16 deployments; those without a pod given have a ready one."""
    given_ = {p["metadata"]["labels"]["name"] for p in pods}
    missing = more.pop("missing", set())
    refused = more.pop("refusals", {})
    others = [
        pod(name, ready=True, containerStatuses=container())
        for name in NAMES
        if name not in given_ | missing
    ]
    return observation(
        [deployment(name, refused.get(name, "")) for name in NAMES],
        [*pods, *others], events, **more,
    )  # fmt: skip


def judged(observed: Observation, ripe: frozenset[str] | None = None) -> dict[str, Judgement]:
    return {one.workload: one for one in judge(observed, expected(NAMES), ripe)}


def state(observed: Observation, name: str) -> tuple[str, str | None]:
    one = judged(observed)[name]
    assert one.meaning
    return str(one.status), one.symptom


def test_all_ready() -> None:
    assert {one.status for one in judged(seen()).values()} == {Status.READY}


SAID = "Readiness probe failed: curl: (28) Connection timed out after 5001 milliseconds"
DENY = 'pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces'


@pytest.mark.parametrize(
    ("name", "observed", "symptom", "words"),
    [
        (w.POD_HEADLESS,
         seen(pod(w.POD_HEADLESS, containerStatuses=container()),
              events=(event(w.POD_HEADLESS, "Unhealthy", SAID),)),
         "timeout", "no answer at all"),
        (w.POD_TO_A,
         seen(pod(w.POD_TO_A, containerStatuses=container(
             state={"waiting": {"reason": "ErrImagePull", "message": "not found"}}))),
         "image", "image could not be pulled"),
        (w.ECHO_B_HOST,
         seen(pod(w.ECHO_B_HOST, containerStatuses=container(
             state={"waiting": {"reason": "CrashLoopBackOff"}},
             lastState={"terminated": {"reason": "Error", "exitCode": 1,
                                       "message": "Error: listen EADDRINUSE: address already"}}))),
         "port-taken", "TCP 31000 of its node is taken"),
        (w.ECHO_B_HOST,
         seen(pod(w.ECHO_B_HOST, containerStatuses=container(
             state={"waiting": {"reason": "CrashLoopBackOff"}},
             lastState={"terminated": {"reason": "Error", "exitCode": 1}}))),
         "crash", "most likely TCP 31000"),
        (w.POD_HEADLESS,
         seen(pod(w.POD_HEADLESS, node=None, phase="Pending", conditions=[
             {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
              "message": "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, "
                         "1 node(s) had untolerated taint {x: }."}])),
         "unschedulable", "fewer than two workers"),
        (w.ECHO_B,
         seen(pod(w.ECHO_B, node=None, phase="Pending", conditions=[
             {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
              "message": "0/2 nodes are available: 2 node(s) didn't have free ports for the "
                         "requested pod ports."}])),
         "unschedulable", "host port free"),
        (w.ECHO_A,
         seen(pod(w.ECHO_A, node=None, phase="Pending", conditions=[
             {"type": "PodScheduled", "status": "False",
              "message": "0/2 nodes are available: 2 Insufficient memory."}])),
         "unschedulable", "room"),
        (w.HOST_HEADLESS, seen(missing={w.HOST_HEADLESS}, refusals={w.HOST_HEADLESS: DENY}),
         "admission", "Pod Security"),
        (w.ECHO_B,
         seen(missing={w.ECHO_B}, refusals={w.ECHO_B: 'admission webhook "v.kyverno" denied'}),
         "admission", "admission policy"),
        (w.ECHO_A, seen(missing={w.ECHO_A}, refusals={w.ECHO_A: "exceeded quota: q"}),
         "admission", "quota"),
        (w.ECHO_A, seen(missing={w.ECHO_A}), "no-pod", "had no pod"),
        (w.ECHO_A,
         seen(pod(w.ECHO_A, phase="Failed", reason="Evicted", message="disk pressure")),
         "node", "threw it out"),
        (w.ECHO_B, seen(pod(w.ECHO_B, phase="Failed", reason="NodePorts", message="no")),
         "port-taken", "TCP 40000"),
        (w.POD_TO_A,
         seen(pod(w.POD_TO_A, node="sick", containerStatuses=container()), nodes=[
             {"metadata": {"name": "sick"}, "status": {"conditions": [
                 {"type": "Ready", "status": "Unknown", "message": "kubelet stopped posting"}]}}]),
         "node", "not ready"),
        (w.POD_TO_A,
         seen(pod(w.POD_TO_A, phase="Pending", containerStatuses=container(
             state={"waiting": {"reason": "ContainerCreating"}})),
             events=(event(w.POD_TO_A, "FailedMount", "secret not found"),)),
         "volume", "mounted"),
        (w.POD_TO_A,
         seen(pod(w.POD_TO_A, phase="Pending", containerStatuses=container(
             state={"waiting": {"reason": "CreateContainerConfigError", "message": "m"}}))),
         "start", "started"),
        (w.EXTERNAL,
         seen(pod(w.EXTERNAL, phase="Pending", containerStatuses=container(
             state={"waiting": {"reason": "ContainerCreating"}}))),
         "starting", "still being started"),
    ],
)  # fmt: skip
def test_one_workload(name: str, observed: Observation, symptom: str, words: str) -> None:
    one = judged(observed)[name]
    assert one.symptom == symptom
    assert words in one.meaning
    network = symptom == "timeout"
    assert one.status is (Status.FAILED if network else Status.UNKNOWN)


def test_the_cni_plugin_is_the_pod_networks_fault_for_servers_too() -> None:
    said = (
        "Failed to create pod sandbox: plugin type=\"cilium-cni\" failed (add): unable to "
        "connect to Cilium daemon"
    )  # fmt: skip
    waits = container(state={"waiting": {"reason": "ContainerCreating"}})
    observed = seen(
        pod(w.ECHO_B, phase="Pending", containerStatuses=waits),
        events=(event(w.ECHO_B, "FailedCreatePodSandBox", said),),
    )
    assert state(observed, w.ECHO_B) == ("failed", "pod-network")
    other = event(w.ECHO_B, "FailedCreatePodSandBox", "failed to pull image registry/pause:3.9")
    pulling = seen(pod(w.ECHO_B, phase="Pending", containerStatuses=waits), events=(other,))
    assert state(pulling, w.ECHO_B) == ("unknown", "image")


def test_a_liveness_kill_is_no_crash() -> None:
    killed = container(
        state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=5,
        lastState={"terminated": {"reason": "Error", "exitCode": 137}},
    )  # fmt: skip
    observed = seen(
        pod(w.POD_TO_A, containerStatuses=killed),
        events=(event(w.POD_TO_A, "Unhealthy", SAID),),
    )
    assert state(observed, w.POD_TO_A) == ("failed", "timeout")


def test_a_client_without_its_server_proves_nothing() -> None:
    image = container(state={"waiting": {"reason": "ImagePullBackOff"}})
    observed = seen(
        pod(w.ECHO_B, containerStatuses=image, phase="Pending"),
        pod(w.POD_HEADLESS, containerStatuses=container()),
        pod(w.POD_TO_A, containerStatuses=container()),
        events=(event(w.POD_HEADLESS, "Unhealthy", SAID), event(w.POD_TO_A, "Unhealthy", SAID)),
    )
    assert state(observed, w.POD_HEADLESS) == ("unknown", "server")
    assert state(observed, w.POD_TO_A) == ("failed", "timeout")


def test_denied_counts_only_on_a_network_that_lives() -> None:
    dead = seen(
        pod(w.POD_TO_A, containerStatuses=container()),
        events=(event(w.POD_TO_A, "Unhealthy", SAID),),
    )
    assert state(dead, w.DENIED) == ("unknown", "nothing")
    assert state(seen(), w.DENIED) == ("ready", None)
    through = seen(
        pod(w.DENIED, containerStatuses=container()),
        events=(event(w.DENIED, "Unhealthy", "Readiness probe failed: "),),
    )
    assert state(through, w.DENIED) == ("failed", "got-through")
    strange = event(w.DENIED, "Unhealthy", "Readiness probe errored: container not running")
    errored = seen(pod(w.DENIED, containerStatuses=container()), events=(strange,))
    assert state(errored, w.DENIED)[1] == "probe"
    silent = seen(pod(w.DENIED, containerStatuses=container()))  # no event: nothing is known
    assert state(silent, w.DENIED)[1] == "probe"


def test_what_was_refused_takes_its_clients_along() -> None:
    no_policy = seen(
        pod(w.DENIED, containerStatuses=container()),
        events=(event(w.DENIED, "Unhealthy", "Readiness probe failed: "),),
        refused={("CiliumNetworkPolicy", w.DENIED): "webhook"},
    )
    assert state(no_policy, w.DENIED) == ("unknown", "server")
    no_service = seen(refused={("Service", "echo-b-headless"): "no"})
    assert state(no_service, w.HOST_HEADLESS) == ("unknown", "server")
    assert state(no_service, w.HOST_CLUSTERIP) == ("ready", None)


def test_probes_of_pods_that_just_started_say_nothing_yet() -> None:
    observed = seen(
        pod(w.POD_TO_A, containerStatuses=container()),
        events=(event(w.POD_TO_A, "Unhealthy", SAID),),
    )
    young = judged(observed, frozenset())[w.POD_TO_A]
    assert (young.status, young.symptom) == (Status.UNKNOWN, Symptom.STARTING)


def test_the_newest_words_count_and_strangers_do_not() -> None:
    unresolved = event(w.POD_TO_A, "Unhealthy", "Readiness probe failed: curl: (6) Could not")
    later = event(w.POD_TO_A, "Unhealthy", SAID, "2026-01-01T00:01:00Z")
    stranger = {**later, "involvedObject": {"kind": "Pod", "name": "pod-to-a-5d8f-x", "uid": "o"}}
    down = pod(w.POD_TO_A, containerStatuses=container())
    assert state(seen(down, events=(later, unresolved)), w.POD_TO_A)[1] == "timeout"
    assert state(seen(down, events=(stranger,)), w.POD_TO_A)[1] == "probe"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "status", "spec", "conditions", "type", "name", "containerStatuses",
             "state", "waiting", "reason", "lastState", "terminated", "exitCode", "ownerReferences"]
        ),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(["metadata", "status", "spec"]), VALUES, max_size=3)


@given(st.lists(OBJECTS, max_size=3), st.lists(OBJECTS, max_size=2))
def test_any_object_is_read(pods: list[dict], events: list[dict]) -> None:
    observed = observation([deployment(n) for n in NAMES], pods, events, pods)
    assert len(judged(observed)) == 16
    sick_nodes(pods)


# --- the manifest ---


def by_name(settings: Settings, kind: str) -> dict[str, dict[str, Any]]:
    found = (o for o in objects(settings) if o["kind"] == kind)
    return {o["metadata"]["name"]: o for o in found}  # type: ignore[index]


def test_the_manifest_has_what_the_document_lists() -> None:
    made = by_name(Settings(), "Deployment")
    assert sorted(made) == sorted([
        "echo-a", "echo-b", "echo-b-host", "host-to-b-multi-node-clusterip",
        "host-to-b-multi-node-headless", "pod-to-a", "pod-to-a-allowed-cnp",
        "pod-to-a-denied-cnp", "pod-to-b-intra-node-hostport", "pod-to-b-intra-node-nodeport",
        "pod-to-b-multi-node-clusterip", "pod-to-b-multi-node-headless",
        "pod-to-b-multi-node-hostport", "pod-to-b-multi-node-nodeport", "pod-to-external-1111",
        "pod-to-external-fqdn-allow-google-cnp",
    ])  # fmt: skip
    assert sorted(by_name(Settings(), "Service")) == [
        "echo-a", "echo-b", "echo-b-headless", "echo-b-host-headless",
    ]  # fmt: skip
    assert sorted(by_name(Settings(), "CiliumNetworkPolicy")) == [
        w.ALLOWED, w.DENIED, w.FQDN,
    ]  # fmt: skip
    for name, one in made.items():
        spec = one["spec"]["template"]["spec"]
        assert one["spec"]["selector"]["matchLabels"].items() <= (
            one["spec"]["template"]["metadata"]["labels"].items()
        )
        (only,) = spec["containers"]
        assert only["livenessProbe"] == only["readinessProbe"]
        assert only["readinessProbe"]["timeoutSeconds"] > w.CONNECT_S
        multi = "multi-node" in name
        assert ("podAntiAffinity" in spec.get("affinity", {})) == multi
        assert spec.get("hostNetwork", False) == (name.startswith("host-") or name == "echo-b-host")
        assert "tolerations" not in spec


def test_every_client_asks_a_service_that_selects_its_server() -> None:
    services = by_name(Settings(), "Service")
    for one in w.WORKLOADS:
        if one.serves or one.way is w.Way.OUTSIDE:
            continue
        host, _, port = one.url.partition("/")[0].partition(":")
        selected = services[host]["spec"]["selector"]["name"]
        assert selected == one.servers[-1] if one.way is w.Way.NODE else one.servers[0]
        if one.way is w.Way.POD:
            assert int(port) == services[host]["spec"]["ports"][0]["port"]
    assert services["echo-b"]["spec"]["ports"][0]["nodePort"] == w.NODE_PORT
    assert "ports" not in services["echo-b-host-headless"]["spec"]


def test_settings_change_the_manifest() -> None:
    few = Settings(external=False, multi_node=False, pull_secret="s", linux_only=True, node_port=3)
    names = [one.name for one in planned(few)]
    assert not [n for n in names if "external" in n or "multi" in n]
    made = by_name(few, "Deployment")
    assert sorted(made) == sorted(names)
    assert w.FQDN not in by_name(few, "CiliumNetworkPolicy")
    spec = made[w.INTRA_NODEPORT]["spec"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": "s"}]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    command = spec["containers"][0]["readinessProbe"]["exec"]["command"]
    assert command[-1] == "echo-b-host-headless:3/public"


def test_images_in_a_mirror() -> None:
    assert mirrored(ECHO_IMAGE, "r.example:5000/x/").startswith(
        "r.example:5000/x/cilium/json-mock:"
    )
    assert mirrored(CLIENT_IMAGE, "r").partition("@")[2] == CLIENT_IMAGE.partition("@")[2]
    assert mirrored("curl:1", "r") == "r/curl:1"
    assert mirrored("me/curl:1", "r") == "r/me/curl:1"


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([], "no Deployment"),
        (["x"], "document 1: not an object"),
        ([{"kind": "Pod"}], "document 1: without kind and apiVersion"),
        ([{"kind": "Pod", "apiVersion": "v1"}], "Pod without metadata.name"),
        ([None, {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "s"}}], "no Deploy"),
    ],
)
def test_a_manifest_that_cannot_be_used(documents: list[object], words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_given(documents, "n")


def test_a_manifest_of_the_users_own() -> None:
    def one(kind: str, name: str, **about: Any) -> dict:
        return {"kind": kind, "apiVersion": "v1", "metadata": {"name": name, **about}}

    items = {"kind": "List", "apiVersion": "v1", "items": [one("Deployment", "echo-a")]}
    told = read_given(
        [one("Namespace", "other"), items, one("Pod", "echo-b", namespace="other"), None], "mine"
    )
    assert [(p.kind, p.name, p.known) for p in told.plan] == [
        ("Deployment", "echo-a", True), ("Pod", "echo-b", False),
    ]  # fmt: skip
    assert {o["metadata"]["namespace"] for o in told.objects} == {"mine"}  # type: ignore[index]
    assert told.notes == ("made in mine, and not in other as it says",)


# --- when they have had their say ---


class Clocked:
    """A settling and its clock."""

    def __init__(self) -> None:
        self.settling = Settling(Patience(settle=75, confirm=12))

    def at(self, now: float, observed: Observation) -> tuple[Stage, dict[str, Judgement]]:
        ripe = self.settling.ripe(now, observed)
        all_ = judge(observed, expected(NAMES), ripe)
        return self.settling.stage(now, observed, all_), {one.workload: one for one in all_}


def test_green_counts_when_it_stays() -> None:
    it = Clocked()
    assert it.at(0, seen())[0] is Stage.WAITING
    assert it.at(11, seen())[0] is Stage.WAITING
    assert it.at(12, seen())[0] is Stage.READY


def test_a_restart_in_between_begins_anew() -> None:
    it = Clocked()
    again = seen(pod(w.POD_TO_A, ready=True, containerStatuses=container(restartCount=1)))
    assert it.at(0, seen())[0] is Stage.WAITING
    assert it.at(11, again)[0] is Stage.WAITING
    assert it.at(13, again)[0] is Stage.WAITING
    assert it.at(23, again)[0] is Stage.READY


def test_red_counts_after_its_time_from_the_last_pod_placed() -> None:
    it = Clocked()
    down = pod(w.POD_TO_A, containerStatuses=container())
    red = seen(down, events=(event(w.POD_TO_A, "Unhealthy", SAID),))
    late = seen(
        down, pod(w.EXTERNAL, node=None, phase="Pending"), events=(event(w.POD_TO_A, "x", ""),)
    )
    assert it.at(0, late)[0] is Stage.WAITING
    stage, all_ = it.at(20, red)  # the external one was placed just now
    assert (stage, all_[w.POD_TO_A].symptom) == (Stage.WAITING, Symptom.STARTING)
    stage, all_ = it.at(40, red)
    assert (stage, all_[w.POD_TO_A].symptom) == (Stage.WAITING, Symptom.TIMEOUT)
    assert it.at(94, red)[0] is Stage.WAITING
    assert it.at(116, red)[0] is Stage.STUCK


def test_what_is_stuck_is_waited_for_while_others_are_placed() -> None:
    it = Clocked()
    image = pod(
        w.POD_TO_A,
        phase="Pending",
        containerStatuses=container(state={"waiting": {"reason": "ImagePullBackOff"}}),
    )
    assert it.at(0, seen(image, pod(w.EXTERNAL, node=None)))[0] is Stage.WAITING
    assert it.at(50, seen(image))[0] is Stage.WAITING
    assert it.at(124, seen(image))[0] is Stage.WAITING
    assert it.at(125, seen(image))[0] is Stage.STUCK


def test_a_pod_that_is_being_started_is_waited_for() -> None:
    it = Clocked()
    starting = seen(pod(w.POD_TO_A, phase="Pending"))
    for now in (0, 100, 1000):
        assert it.at(now, starting)[0] is Stage.WAITING


def test_by_turns_is_unsteady() -> None:
    it = Clocked()
    down = seen(
        pod(w.POD_TO_A, containerStatuses=container(restartCount=2)),
        events=(event(w.POD_TO_A, "Unhealthy", SAID),),
    )
    for now, observed in ((0, seen()), (10, down), (20, seen()), (30, down), (40, seen())):
        it.at(now, observed)
    assert it.settling.unsteady() == {w.POD_TO_A}
