"""Clusterwide policies that may keep other nodes out of Cilium's health endpoints."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubeapi import scene
from kubeapi.raw import Raw, Server
from kubelets import CILIUM
from test_import_cluster import config, grant, node
from test_overlay import NOTHING, SHUT, explain
from test_overlay_cluster import cilium_node

from preflight.cluster.api import Access
from preflight.core.cilium.health_policies import Suspects, suspects
from preflight.core.cilium.overlay import Overlay
from preflight.core.findings.overlay_words import Context
from preflight.core.model import Phase
from preflight.runs.preparation import Sources, prepare

PORT = 4240
HEALTH = {"matchLabels": {"reserved:health": ""}}
ALL: dict[str, Any] = {}
IN_PODS = {"matchLabels": {"k8s:app": "web"}}
BUT_SYSTEM = {"matchExpressions": [
    {"key": "k8s:io.kubernetes.pod.namespace", "operator": "NotIn", "values": ["kube-system"]}
]}  # fmt: skip
PODS_ALONE = {"matchExpressions": [
    {"key": "k8s:io.kubernetes.pod.namespace", "operator": "Exists"}
]}  # fmt: skip
REMOTE = {"fromEntities": ["remote-node"]}
TCP = {"toPorts": [{"ports": [{"port": "4240", "protocol": "TCP"}]}]}
PING = {"icmps": [{"fields": [{"type": 8, "family": "IPv4"}]}]}


def policy(name: str, selector: Any, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"endpointSelector": selector, **spec}}


def found(*policies: dict[str, Any]) -> tuple[str, str]:
    """Who may keep echo out, and who the GET."""
    told = suspects(policies, PORT)
    return ",".join(told.echo), ",".join(told.health)


@pytest.mark.parametrize("selector", [HEALTH, ALL, BUT_SYSTEM, {"matchLabels": {"health": ""}}])
def test_who_is_selected_is_closed(selector: Any) -> None:
    assert found(policy("p", selector, ingress=[{}])) == ("p", "p")
    assert found(policy("p", selector, ingress=[{"fromEntities": ["health"]}])) == ("p", "p")
    assert found(policy("p", selector, ingressDeny=[{"fromEntities": ["world"]}])) == ("p", "p")
    assert found(policy("p", selector, enableDefaultDeny={"ingress": True})) == ("p", "p")


@pytest.mark.parametrize("selector", [IN_PODS, PODS_ALONE, {"matchLabels": {"k8s:health": ""}}])
def test_policies_for_pods_are_not_named(selector: Any) -> None:
    assert found(policy("p", selector, ingress=[{}], ingressDeny=[REMOTE])) == ("", "")


@pytest.mark.parametrize(
    "spec",
    [
        {"egress": [{}]},  # answers take the way of what was let in
        {"egressDeny": [{"toEntities": ["all"]}]},
        {"ingress": []},
        {},
        {"ingress": [{}], "enableDefaultDeny": {"ingress": False}},
        {"ingress": [REMOTE]},
        {"ingress": [{"fromEntities": ["cluster"]}, {}]},
        {"ingress": [{"fromEndpoints": [{"matchLabels": {"reserved:remote-node": ""}}]}]},
        {"ingress": [{**TCP}, {**PING}]},
        {
            "ingressDeny": [{"fromEntities": ["world"]}, {"fromCIDR": ["0.0.0.0/0"]}],
            "enableDefaultDeny": {"ingress": False},
        },
    ],
)
def test_what_closes_nothing_is_not_named(spec: dict[str, Any]) -> None:
    assert found(policy("p", HEALTH, **spec)) == ("", "")


def test_by_what_comes_in() -> None:
    assert found(policy("p", HEALTH, ingress=[{**REMOTE, **TCP}])) == ("p", "")
    assert found(policy("p", HEALTH, ingress=[{**REMOTE, **PING}])) == ("", "p")
    for port in ({"port": "80", "protocol": "TCP"}, {"port": "4240", "protocol": "UDP"}):
        only = {"toPorts": [{"ports": [port]}]}
        assert found(policy("p", HEALTH, ingress=[{**REMOTE, **only}])) == ("p", "p")
    some = {"toPorts": [{"ports": [{"port": "4000", "endPort": 5000}]}]}
    assert found(policy("p", HEALTH, ingress=[{**REMOTE, **some}])) == ("p", "")
    deny = {"ingressDeny": [{**REMOTE, **PING}], "enableDefaultDeny": {"ingress": False}}
    assert found(policy("p", HEALTH, **deny)) == ("p", "")


def test_policies_add_up() -> None:
    closed, opened = policy("closed", ALL, ingress=[{}]), policy("opened", HEALTH, ingress=[REMOTE])
    assert found(closed, opened) == ("", "")
    denied = policy("denied", ALL, ingressDeny=[{"fromEntities": ["remote-node"], **TCP}])
    assert found(closed, opened, denied) == ("", "denied")
    half = policy("half", HEALTH, ingress=[{**REMOTE, **TCP}])
    assert found(closed, half) == ("closed,half", "")
    many = {"metadata": {"name": "many"}, "specs": [closed["spec"], opened["spec"]]}
    assert found(many) == ("", "")


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["all", "", "4240", "8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["metadata", "name", "spec", "specs", "endpointSelector", "ingress",
                         "ingressDeny", "fromEntities", "fromEndpoints", "matchLabels", "toPorts",
                         "matchExpressions", "ports", "port", "icmps", "fields", "type", "rules",
                         "enableDefaultDeny", "reserved:health"]), inner, max_size=4),
    max_leaves=25,
))  # fmt: skip
def test_whatever_a_policy_holds_is_read(spec: Any) -> None:
    policies = [policy("p", HEALTH, ingress=spec, ingressDeny=[spec] if spec else spec)]
    policies += [{"spec": spec, "specs": [spec]}]
    policies += [spec] if isinstance(spec, dict) else []
    suspects(policies, PORT)


# --- what is said of them

OVERLAY = Overlay("cluster prod", "GENEVE on UDP 6081", native=False)
BOTH = ("overlay-echo", "overlay-health")


def said(cells: dict[tuple[str, str, str], Any], of: Suspects) -> list[tuple[str, str, str]]:
    """Each finding's cause, first sentence of evidence and advice."""
    context = Context(replace(OVERLAY, suspects=of))
    return [(str(f.cause), f.evidence[0], f.advice) for f in explain(cells, context)]


def test_a_policy_that_closes_all_endpoints_is_named_as_a_maybe() -> None:
    everybody = {("*", "*", name): NOTHING for name in BOTH}
    ((_, first, advice),) = said(everybody, Suspects(("closed",), ("closed",)))
    assert first == (
        "CiliumClusterwideNetworkPolicy closed selects Cilium's health endpoints and may be what "
        "keeps ICMP echo and TCP 4240 in the overlay out"
    )
    assert advice.startswith("Look at CiliumClusterwideNetworkPolicy closed first: entity ")
    ((_, first, _),) = said(everybody, Suspects(("a", "b"), ("b", "c")))
    assert first.startswith("CiliumClusterwideNetworkPolicies a, b and c select ")


def test_one_that_keeps_echo_out_has_nothing_to_do_with_tcp() -> None:
    ((_, first, _),) = said({("*", "*", "overlay-echo"): NOTHING}, Suspects(("pings",), ()))
    assert "Policy pings selects" in first
    assert "keeps ICMP echo in the overlay out" in first
    for cells in ({("*", "*", "overlay-health"): NOTHING}, {("n1", "n2", BOTH[1]): NOTHING}):
        ((_, first, advice),) = said(cells, Suspects(("pings",), ()))
        assert "pings" not in first + advice


def test_nobody_is_named_where_others_get_through_to_that_endpoint() -> None:
    """To a policy every other node is the same."""
    pair = {("n1", "n2", name): NOTHING for name in BOTH}
    ((_, first, advice),) = said(pair, Suspects(("p",), ("p",)))
    assert "Policy" not in first
    assert "Policy p " not in advice
    one = {("*", "n2", name): NOTHING for name in BOTH}
    ((_, first, _),) = said(one, Suspects(("p",), ("p",)))
    assert "Policy p selects" in first, "its agent may be the only one that has it yet"


def test_an_underlay_that_is_shut_needs_no_policy() -> None:
    pairs = (("n1", "n2"), ("n2", "n1"))
    shut = {("n1", "n2", "geneve"): SHUT} | {(a, b, n): NOTHING for a, b in pairs for n in BOTH}
    ((cause, first, advice),) = said(shut, Suspects(("p",), ("p",)))
    assert cause == "network"
    assert "Policy p" not in first + advice


# --- from a cluster


@pytest.fixture
def cluster(kube: Server, raw: Raw) -> Server:
    """Two nodes with Cilium, one policy that closes all and one of pods alone."""
    scene.define(raw)
    for number in (1, 2):
        raw.make("/api/v1/nodes", node(f"w{number}", f"10.0.0.{number}"))
        told = cilium_node(f"w{number}", f"10.0.0.{number}", ipv4=f"10.66.{number}.2")
        raw.make(scene.CILIUM_NODES, told)
    kind = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"}
    for one in (policy("closed", ALL, ingress=[{}]), policy("web", IN_PODS, ingress=[{}])):
        raw.make(f"{CILIUM}/ciliumclusterwidenetworkpolicies", {**kind, **one})
    return kube


def overlay(of: Server, user: str = "admin") -> Overlay:
    """What a check after the installation knows of it."""
    sources = Sources(cluster=Access(of.kubeconfig(user)))
    known = prepare(sources, Phase.AFTER, lambda _: None).overlay
    assert known is not None
    return known


def test_they_are_read_with_the_rest(cluster: Server, raw: Raw) -> None:
    config(raw, routing_mode="tunnel", tunnel_protocol="geneve")
    assert overlay(cluster).suspects == Suspects(("closed",), ("closed",))


def test_where_nothing_is_enforced_nobody_is_suspected(cluster: Server, raw: Raw) -> None:
    config(raw, routing_mode="tunnel", tunnel_protocol="geneve", enable_policy="never")
    assert overlay(cluster).suspects == Suspects()


def test_without_the_right_they_are_not_known(cluster: Server, raw: Raw) -> None:
    config(raw, routing_mode="tunnel", tunnel_protocol="geneve")
    grant(raw, "viewer", "nodes", "configmaps", "ciliumnodes")
    assert overlay(cluster, "viewer").suspects == Suspects()
