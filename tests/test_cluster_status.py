"""The judgement of Cilium's state, from objects alone."""

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeapi import scene

from preflight.core.cluster.agents import State, tolerates
from preflight.core.cluster.model import Taint, natural
from preflight.core.cluster.status import Read, Status, Unread, judge
from preflight.core.cluster.versions import tag
from preflight.core.model import Severity
from preflight.errors import ExitCode

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def pod(name: str, node: str, owner: str, image: str, **told: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": image}]
    made: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": "kube-system",
            "labels": {"controller-revision-hash": told.pop("revision", "r2")},
            "ownerReferences": [{"uid": owner, "controller": True}],
        },
        "spec": {"nodeName": node, "containers": containers},
    }
    return {**made, "status": scene.state(made, **told)}


def workload(kind: str, count: int) -> dict[str, Any]:
    made = scene.daemon_set() if kind == "daemon" else scene.deployment(count)
    made["metadata"] |= {"namespace": "kube-system", "uid": kind, "generation": 2}
    names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady")
    names = names if kind == "daemon" else ("replicas", "updatedReplicas", "readyReplicas")
    return {**made, "status": {"observedGeneration": 2} | dict.fromkeys(names, count)}


def good(count: int = 3, operators: int = 2) -> Read:
    """A cluster that is well."""
    nodes = [scene.node(position) for position in range(count)]
    names = [node["metadata"]["name"] for node in nodes]
    return Read(
        nodes=nodes,
        daemon=workload("daemon", count),
        agents=[pod(f"cilium-{name}", name, "daemon", scene.IMAGE) for name in names],
        deployment=workload("operator", operators),
        operators=[pod(f"op-{name}", name, "set", scene.OPERATOR) for name in names[:operators]],
        cilium_nodes=[
            {
                "metadata": {"name": name},
                "spec": {"addresses": [{"type": "InternalIP", "ip": scene.address(position)}]},
            }
            for position, name in enumerate(names)
        ],
        config={"identity-allocation-mode": "crd"},
    )


def keys(status: Status) -> set[str]:
    return {problem.key for problem in status.problems}


def changed(**parts: Any) -> Status:
    read = good()
    for key, change in parts.items():
        value = copy.deepcopy(getattr(read, key))
        new = change(value)
        object.__setattr__(read, key, value if new is None else new)
    return judge(read, NOW)


def test_a_good_cluster_is_well() -> None:
    status = judge(good(), NOW)
    assert not status.problems
    assert not status.unknown
    assert status.exit_code(strict=True) is ExitCode.OK


@pytest.mark.parametrize(
    "part", ["nodes", "daemon", "agents", "deployment", "operators", "cilium_nodes", "config"]
)
def test_each_part_that_cannot_be_read_is_unknown_and_no_accusation(part: str) -> None:
    status = changed(**{part: lambda _: Unread("not allowed")})
    assert not status.problems
    assert len(status.unknown) == 1
    assert status.exit_code(strict=True) is ExitCode.INCOMPLETE


@pytest.mark.parametrize(
    ("part", "change", "key", "required"),
    [
        ("daemon", lambda d: d["metadata"].update(generation=3), "daemon-set-unobserved", True),
        ("daemon", lambda d: d["status"].update(updatedNumberScheduled=1), "daemon-set-updating",
         True),
        ("deployment", lambda d: d["spec"].update(replicas=0), "no-operator", True),
        ("deployment", lambda d: d["spec"].update(replicas=3), "operators-too-few", True),
        ("deployment", lambda d: d["metadata"].update(generation=3), "operator-unobserved", True),
        ("operators", lambda p: p.pop() and None, "operators-too-few", True),
        ("operators", lambda p: p[1]["spec"].update(nodeName="n1"), "operators-together", True),
        ("operators", lambda p: p[1]["spec"].update(nodeName="n9"), "operator-on-gone-node", True),
        ("agents", lambda p: p.pop() and None, "agent-missing", True),
        ("agents", lambda p: p.append(pod("x", "n1", "daemon", scene.IMAGE)), "two-agents", True),
        ("agents", lambda p: p.append(pod("x", "n9", "daemon", scene.IMAGE)),
         "agent-on-gone-node", False),
        ("agents", lambda p: p[0]["metadata"].update(deletionTimestamp="now"),
         "agent-terminating", True),
        ("agents", lambda p: p[0]["status"].update(phase="Failed", reason="Evicted"),
         "agent-ended", True),
        ("agents", lambda p: p[0]["metadata"]["labels"].update(
            {"controller-revision-hash": "r1"}), "agent-outdated", True),
        ("cilium_nodes", lambda c: c.pop() and None, "cilium-node-missing", True),
        ("cilium_nodes", lambda c: c.append({"metadata": {"name": "n9"}}), "cilium-node-stale",
         False),
        ("cilium_nodes", lambda c: c[0].update(spec={}), "cilium-node-address", True),
        ("cilium_nodes", lambda c: c[0].update(c[1]["spec"] and {"spec": c[1]["spec"]}),
         "cilium-node-shared-address", True),
        ("nodes", lambda n: n[0]["status"]["conditions"][0].update(status="False"),
         "node-not-ready", False),
        ("nodes", lambda n: n[0]["status"].update(addresses=[]), "node-without-address", True),
        ("config", lambda _: {"enable-policy": "never"}, "policy-never", False),
        ("config", lambda _: {"identity-allocation-mode": "kvstore"}, "identity-store", False),
    ],
)  # fmt: skip
def test_what_is_wrong(part: str, change: Any, key: str, required: bool) -> None:
    if key == "agent-outdated":
        status = changed(
            agents=change, daemon=lambda d: d["status"].update(updatedNumberScheduled=2)
        )
    else:
        status = changed(**{part: change})
    assert key in keys(status)
    severity = next(p.severity for p in status.problems if p.key == key)
    assert (severity is Severity.REQUIRED) is required
    code = status.exit_code(strict=False)
    assert (code is ExitCode.BAD) == any(p.severity is Severity.REQUIRED for p in status.problems)
    assert status.exit_code(strict=True) is ExitCode.BAD


def test_pods_tell_where_the_daemon_set_cannot_be_read() -> None:
    status = changed(
        daemon=lambda _: Unread("not allowed"),
        agents=lambda p: p.pop() and p[1].update(status=scene.state(p[1], ready=False)),
    )
    assert keys(status) == {"agent-not-ready", "agent-missing"}
    assert len(status.unknown) == 1
    nothing = changed(daemon=lambda _: Unread("not allowed"), agents=lambda _: [])
    assert not nothing.problems  # they may go by another label


def test_nothing_there_is_a_problem_and_not_an_unknown() -> None:
    for part, key in (
        ("daemon", "no-daemon-set"),
        ("deployment", "no-operator"),
        ("cilium_nodes", "no-cilium-nodes"),
        ("config", "no-config"),
    ):
        read = good()
        object.__setattr__(read, part, None)
        status = judge(read, NOW)
        assert key in keys(status)
        assert not status.unknown


def test_an_older_generation_is_told_only_where_it_is_known() -> None:
    """Two revisions with one pod each, and a count that fits both."""

    def half(pods: list[Any]) -> list[Any]:
        pods[0]["metadata"]["labels"]["controller-revision-hash"] = "r1"
        return pods[:2]

    status = changed(
        agents=half,
        daemon=lambda d: d["status"].update(updatedNumberScheduled=1, desiredNumberScheduled=2),
        nodes=lambda n: n.pop() and None,
        cilium_nodes=lambda c: c.pop() and None,
    )
    assert {agent.state for agent in status.agents} == {State.WELL}
    assert keys(status) == {"daemon-set-updating"}


def test_a_silent_node_is_no_evidence_against_its_agent() -> None:
    status = changed(
        nodes=lambda n: n[2]["status"]["conditions"][0].update(status="Unknown"),
        agents=lambda p: p[2].update(status=scene.state(p[2], ready=False)),
    )
    assert status.agents[2].state is State.NOT_HEARD
    assert keys(status) == {"node-not-heard"}  # the node is bad, and of its agent nothing is known
    assert "n3 is not heard of" in status.unknown[0]


def test_addresses_are_compared_as_addresses() -> None:
    def six(where: list[Any], text: str) -> None:
        key, name = ("addresses", "address") if "status" in where[0] else ("addresses", "ip")
        of = where[0]["status"] if "status" in where[0] else where[0]["spec"]
        of[key] = [{"type": "InternalIP", name: text}]

    status = changed(
        nodes=lambda n: six(n, "fd00:0:0::0001"), cilium_nodes=lambda c: six(c, "fd00::1")
    )
    assert not status.problems


def test_old_restarts_are_shown_and_no_problem() -> None:
    def ended(ago: timedelta) -> Any:
        def change(pods: list[Any]) -> None:
            one = pods[0]["status"]["containerStatuses"][0]
            at = (NOW - ago).isoformat()
            last = {"reason": "Error", "exitCode": 2, "finishedAt": at}
            one |= {"restartCount": 3, "lastState": {"terminated": last}}

        return change

    assert keys(changed(agents=ended(timedelta(minutes=59)))) == {"agent-restarted"}
    status = changed(agents=ended(timedelta(minutes=61)))
    assert not status.problems
    main = status.agents[0].pod
    assert main is not None
    assert main.restarts == 3


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("public.ecr.aws/isovalent/cilium:v1.15.16-eksa.1", "v1.15.16-eksa.1"),
        ("registry:5000/cilium:v1@sha256:ab", "v1"),
        ("registry:5000/cilium@sha256:ab", "sha256:ab"),
        ("registry:5000/cilium", "latest"),
        ("", "latest"),
    ],
)
def test_tags(image: str, expected: str) -> None:
    assert tag(image) == expected


@pytest.mark.parametrize(
    ("tolerations", "taint", "expected"),
    [
        ([], "k=v:NoSchedule", False),
        ([{"operator": "Exists"}], "k=v:NoSchedule", True),
        ([{"key": "k", "operator": "Exists"}], "k=v:NoExecute", True),
        ([{"key": "k", "value": "v"}], "k=v:NoExecute", True),
        ([{"key": "k", "value": "w"}], "k=v:NoExecute", False),
        ([{"key": "k", "value": "v", "effect": "NoSchedule"}], "k=v:NoExecute", False),
        ([], "node.kubernetes.io/unschedulable=:NoSchedule", True),
        ([{"key": "", "operator": "Equal"}], "k=v:NoSchedule", False),
    ],
)
def test_tolerations(tolerations: list[Any], taint: str, expected: bool) -> None:
    left, _, effect = taint.rpartition(":")
    key, _, value = left.partition("=")
    assert tolerates(tolerations, Taint(key, value, effect)) is expected


def test_names_sort_by_their_numbers() -> None:
    names = ["n10", "n2", "n1", "a-9", "a-10", "n", "10", "9x"]
    assert sorted(names, key=natural) == ["9x", "10", "a-9", "a-10", "n", "n1", "n2", "n10"]


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "name", "spec", "status", "conditions", "type", "containers",
             "containerStatuses", "state", "waiting", "addresses", "ip", "address", "labels",
             "ownerReferences", "taints", "tolerations", "nodeName", "phase", "selector",
             "template", "restartCount", "lastState", "terminated", "finishedAt", "exitCode"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_object_gives_a_status(data: st.DataObject) -> None:
    """Part by part other shapes than the API's: no object of a cluster ends the command."""
    read = good()
    objects = st.lists(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _JUNK))
    for part in ("nodes", "agents", "operators", "cilium_nodes"):
        if data.draw(st.booleans()):
            object.__setattr__(read, part, data.draw(objects))
    for part in ("daemon", "deployment"):
        if data.draw(st.booleans()):
            junk = st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _JUNK)
            object.__setattr__(read, part, data.draw(junk))
    status = judge(read, NOW)
    assert status.exit_code(strict=False) in (0, 1, 3)
