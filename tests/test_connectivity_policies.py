"""Which policies apply to the pods of the check, whose a namespace is, which nodes take pods."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.core.connectivity.ownership import Whose, existing
from preflight.core.connectivity.policies import (
    Applies,
    Subject,
    admin,
    cilium_clusterwide,
    host_policies,
    in_namespace,
)
from preflight.core.connectivity.workers import workers

SUBJECT = Subject(
    "cilium-test",
    {"team": "net"},
    [{"name": "echo-a"}, {"name": "pod-to-a"}],
    "prod",
)
NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def wide(**selector: Any) -> list[Applies]:
    policy = {"metadata": {"name": "p"}, "spec": {"endpointSelector": selector}}
    return [one.applies for one in cilium_clusterwide([policy], SUBJECT)]


def exprs(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "applies"),
    [
        ({}, "yes"),
        ({"matchLabels": {NAMESPACE: "cilium-test"}}, "yes"),
        ({"matchLabels": {"io.kubernetes.pod.namespace": "cilium-test"}}, "yes"),
        ({"matchLabels": {"any:name": "echo-a"}}, "yes"),
        ({"matchLabels": {NAMESPACE: "kube-system"}}, ""),
        ({"matchLabels": {"reserved:health": ""}}, ""),
        ({"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "net"}}, "yes"),
        ({"matchLabels": {"k8s:io.cilium.k8s.policy.cluster": "prod"}}, "yes"),
        ({"matchLabels": {"k8s:io.cilium.k8s.policy.cluster": "other"}}, ""),
        ({"matchLabels": {NAMESPACE: "cilium-test", "app": "x"}}, ""),
        (exprs(NAMESPACE, "NotIn", "kube-system", "default"), "yes"),
        (exprs(NAMESPACE, "NotIn", "cilium-test"), ""),
        (exprs(NAMESPACE, "Exists"), "yes"),
        (exprs("k8s:app", "Exists"), ""),
        (exprs("k8s:app", "DoesNotExist"), "yes"),
        (exprs("name", "In", "pod-to-a", "x"), "yes"),
        (exprs("name", "Sounds", "like"), "perhaps"),
    ],
)
def test_what_a_selector_selects(selector: dict[str, Any], applies: str) -> None:
    assert wide(**selector) == ([applies] if applies else [])


def test_a_cluster_whose_name_is_not_known() -> None:
    unknown = SUBJECT._replace(cluster=None)
    policy = {"metadata": {"name": "p"}, "spec": {"endpointSelector": {
        "matchLabels": {"k8s:io.cilium.k8s.policy.cluster": "x"}}}}  # fmt: skip
    assert [one.applies for one in cilium_clusterwide([policy], unknown)] == [Applies.PERHAPS]


def test_many_specs_and_policies_for_nodes() -> None:
    inside = {"endpointSelector": {"matchLabels": {NAMESPACE: "cilium-test"}}}
    many = {"metadata": {"name": "m"}, "specs": [{"nodeSelector": {}}, inside]}
    nodes = {"metadata": {"name": "n"}, "spec": {"nodeSelector": {}}}
    assert [one.name for one in cilium_clusterwide([many, nodes], SUBJECT)] == ["m"]
    assert host_policies([many, nodes]) == ["m", "n"]


def test_policies_of_the_namespace_but_for_our_own() -> None:
    found = [{"metadata": {"name": "a"}}, {"metadata": {"name": "pod-to-a-denied-cnp"}}, {}]
    told = in_namespace("CiliumNetworkPolicy", found, ["pod-to-a-denied-cnp"])
    assert [one.name for one in told] == ["a", "?"]


def test_admins_policies() -> None:
    def applies(subject: dict[str, Any]) -> list[str]:
        policy = {"metadata": {"name": "p"}, "spec": {"subject": subject}}
        return [str(one.applies) for one in admin("AdminNetworkPolicy", [policy], SUBJECT)]

    assert applies({"namespaces": {}}) == ["yes"]
    own = {"matchLabels": {"kubernetes.io/metadata.name": "cilium-test"}}
    assert applies({"namespaces": own}) == ["yes"]
    assert applies({"namespaces": {"matchLabels": {"team": "other"}}}) == []
    echo = {"matchLabels": {"name": "echo-a"}}
    assert applies({"pods": {"namespaceSelector": own, "podSelector": echo}}) == ["yes"]
    assert applies({"pods": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}) == []
    assert applies({}) == []


ANY = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["spec", "specs", "endpointSelector", "matchLabels", "matchExpressions",
                         "key", "operator", "values", "subject", "pods", "metadata", "name"]),
        inner, max_size=3),
    max_leaves=10,
)  # fmt: skip
POLICIES = st.lists(
    st.dictionaries(st.sampled_from(["spec", "specs", "metadata"]), ANY), max_size=2
)


@given(POLICIES)
def test_any_policy_is_read(policies: list[dict[str, Any]]) -> None:
    list(cilium_clusterwide(policies, SUBJECT))
    list(admin("x", policies, SUBJECT))
    host_policies(policies)


def test_whose_a_namespace_is() -> None:
    ours = {"app.kubernetes.io/managed-by": "preflight", "preflight/run": "cafe"}
    assert existing({"metadata": {"labels": ours}}).whose is Whose.OURS
    assert existing({"metadata": {"labels": {"preflight/run": "cafe"}}}).whose is Whose.OTHERS
    helm = {"app.kubernetes.io/managed-by": "Helm", "preflight/run": "cafe"}
    assert existing({"metadata": {"labels": helm}}).whose is Whose.OTHERS
    assert existing({"metadata": {}}).whose is Whose.OTHERS


def test_what_holds_a_namespace() -> None:
    held = existing({
        "metadata": {"deletionTimestamp": "t", "finalizers": ["a/b"]},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"conditions": [
            {"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "metrics"},
            {"type": "NamespaceContentRemaining", "status": "False", "message": "none"},
        ]},
    })  # fmt: skip
    assert held.ending
    assert held.holding == ("metrics", "metadata.finalizers: a/b", "spec.finalizers: kubernetes")


def test_which_nodes_take_pods() -> None:
    def node(name: str, *taints: str, system: str = "linux", ready: str = "True", **spec: Any):  # type: ignore[no-untyped-def]
        return {
            "metadata": {"name": name, "labels": {"kubernetes.io/os": system}},
            "spec": {"taints": [{"key": "k", "effect": e} for e in taints], **spec},
            "status": {"conditions": [{"type": "Ready", "status": ready}],
                       "addresses": [{"type": "InternalIP", "address": "10.0.0.1"},
                                     {"type": "Hostname", "address": name}]},
        }  # fmt: skip

    told = workers([
        node("a"), node("b", "PreferNoSchedule"), node("c", "NoSchedule"), node("d", "NoExecute"),
        node("e", unschedulable=True), node("f", ready="Unknown"), node("g", system="windows"),
        {"metadata": {"name": "bare"}},
    ])  # fmt: skip
    assert told.taking == ("a", "b", "bare")
    assert dict(told.others) == {
        "c": "taint k", "d": "taint k", "e": "cordoned", "f": "not ready", "g": "windows",
    }  # fmt: skip
    assert told.mixed
    assert told.addresses["a"] == ("10.0.0.1",)
