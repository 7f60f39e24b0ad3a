"""Which ports an installation of Cilium needs, from spec and ConfigMap, and where they disagree."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.cilium.briefing import Briefing, brief
from preflight.core.cilium.cluster import ClusterFacts, compare, nodes_of
from preflight.core.cilium.config import (
    ConfigError,
    Encryption,
    Installation,
    Routing,
    Tunnel,
    from_config,
    from_helm,
)
from preflight.core.cilium.disagree import between
from preflight.core.cilium.eksa import ClusterSpec, counted, derive, inside_ranges
from preflight.core.cilium.probes import needed
from preflight.core.model import (
    BUILT_IN_PROBES,
    GENEVE,
    Family,
    Inventory,
    Node,
    Phase,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
)
from preflight.core.options import Profile
from preflight.errors import UsageError
from preflight.spec import load

SPECS = Path(__file__).parent / "fixtures" / "specs"
V4, V6 = Family.IPV4, Family.IPV6


def ports(probes: tuple[Probe, ...]) -> list[str]:
    """`udp 6081 required`, as a firewall's admin would list them."""
    return [f"{p.protocol} {p.port} {p.severity}" for p in probes]


def spec_of(helm: dict[str, Any] | None = None, **more: Any) -> ClusterSpec:
    return ClusterSpec("cluster.yaml", "prod", helm_values=helm, **more)


def node(name: str, address: str, **labels: str) -> Node:
    return Node(name, (address,), address, labels=labels)


NODES = (
    node("cp-1", "10.0.0.1", role="control-plane"),
    node("cp-2", "10.0.0.2", role="control-plane"),
    node("w-1", "10.0.0.11", role="worker"),
    node("w-2", "10.0.0.12", role="worker"),
)
PLAIN = Inventory("nodes.yaml", NODES, tuple(BUILT_IN_PROBES.values()))


def briefed(inventory: Inventory = PLAIN, **more: Any) -> Briefing:
    return brief(inventory, file="nodes.yaml", phase=more.pop("phase", Phase.BEFORE), **more)


# --- from helm values and from the ConfigMap ---


@pytest.mark.parametrize(
    ("values", "config", "udp"),
    [
        ({}, {}, {8472}),
        ({"tunnelProtocol": "geneve"}, {"tunnel-protocol": "geneve"}, {6081}),
        ({"tunnelProtocol": "geneve", "tunnelPort": 7000},
         {"tunnel-protocol": "geneve", "tunnel-port": "7000"}, {7000}),
        ({"tunnelPort": 0}, {"tunnel-port": "0"}, {8472}),
        ({"tunnel": "geneve"}, {"tunnel": "geneve"}, {6081}),  # Cilium before 1.15
        ({"tunnel": "disabled"}, {"tunnel": "disabled"}, set()),
        ({"routingMode": "native"}, {"routing-mode": "native", "tunnel-protocol": "vxlan"}, set()),
        ({"routingMode": "native", "tunnelProtocol": "geneve", "egressGateway": {"enabled": True}},
         {"routing-mode": "native", "tunnel-protocol": "geneve",
          "enable-ipv4-egress-gateway": "true"}, {6081}),
        ({"routingMode": "native", "tunnelProtocol": "geneve",
          "loadBalancer": {"mode": "dsr", "dsrDispatch": "geneve"}},
         {"routing-mode": "native", "tunnel-protocol": "geneve", "bpf-lb-mode": "dsr",
          "bpf-lb-dsr-dispatch": "geneve"}, {6081}),
        ({"tunnelProtocol": "geneve", "encryption": {"enabled": True, "type": "wireguard"}},
         {"tunnel-protocol": "geneve", "enable-wireguard": "true"}, {6081, 51871}),
        ({"tunnelProtocol": "geneve",
          "encryption": {"enabled": "true", "type": "wireguard", "nodeEncryption": True}},
         {"tunnel-protocol": "geneve", "enable-wireguard": "true", "encrypt-node": "true"},
         {51871}),
        ({"routingMode": "native", "encryption": {"enabled": True, "type": "wireguard"}},
         {"routing-mode": "native", "enable-wireguard": "true"}, {51871}),
        ({"encryption": {"enabled": True}}, {"enable-ipsec": "true"}, {8472}),
        ({"encryption": {"type": "wireguard"}}, {}, {8472}),
    ],
)  # fmt: skip
def test_helm_values_and_configmap_say_the_same(
    values: dict[str, Any], config: dict[str, str], udp: set[int]
) -> None:
    by_helm, by_config = from_helm(values, "x"), from_config(config, "x")
    assert by_helm == by_config
    assert {p.port for p in needed(by_helm).probes if p.protocol is Protocol.UDP} == udp


def test_health_checks() -> None:
    probes = needed(from_helm({"clusterHealthPort": 4241}, "x")).probes
    assert ports(probes) == ["udp 8472 required", "tcp 4241 recommended", "icmp None recommended"]
    # healthPort is another one: the agent's own status, on loopback.
    assert from_helm({"healthPort": 9999}, "x").health_port == 4240
    assert from_config({"agent-health-port": "9999"}, "x").health_port == 4240
    off = needed(from_config({"enable-health-checking": "false"}, "the cluster"))
    assert ports(off.probes) == ["udp 8472 required"]
    assert any("turns Cilium's own health checks off" in note for note in off.notes)


def test_ipsec_is_told_as_not_tested() -> None:
    (note,) = needed(from_config({"enable-ipsec": "true"}, "the cluster")).notes
    assert note.startswith("ESP (IP protocol 50) is not tested: the cluster turns IPsec on")


@pytest.mark.parametrize(
    ("config", "underlay", "health"),
    [
        ({}, V4, (V4,)),
        ({"enable-ipv6": "true"}, V4, (V4, V6)),
        ({"enable-ipv4": "false", "enable-ipv6": "true"}, V6, (V6,)),
        ({"enable-ipv6": "true", "underlay-protocol": "ipv6"}, V6, (V4, V6)),
        ({"enable-ipv6": "true", "underlay-protocol": "auto"}, V4, (V4, V6)),
    ],
)
def test_families(config: dict[str, str], underlay: Family, health: tuple[Family, ...]) -> None:
    tunnel, *others = needed(from_config(config, "x")).probes
    assert tunnel.families == (underlay,)
    assert {other.families for other in others} == {health}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"tunnel-protocol": "geneve"}, None),  # 0-0: all ports, which is what a probe draws from
        ({"tunnel-protocol": "geneve", "tunnel-source-port-range": "0-0"}, None),
        ({"tunnel-protocol": "geneve", "tunnel-source-port-range": "40000-41000"}, (40000, 41000)),
        ({"tunnel-source-port-range": "0-0"}, (32768, 60999)),  # VXLAN's: Linux's own range
        ({"tunnel-source-port-range": "1024-65535"}, (1024, 65535)),
    ],
)  # fmt: skip
def test_source_ports(config: dict[str, str], expected: tuple[int, int] | None) -> None:
    assert needed(from_config(config, "x")).probes[0].source_ports == expected


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"tunnelProtocol": "gre"}, "tunnelProtocol"),
        ({"routingMode": "bridge"}, "routingMode"),
        ({"tunnelPort": "SECRET"}, "tunnelPort"),
        ({"tunnelPort": 70000}, "tunnelPort"),
        ({"tunnelSourcePortRange": "5-1"}, "tunnelSourcePortRange"),
        ({"tunnelSourcePortRange": "0-5"}, "tunnelSourcePortRange"),
        ({"ipv4": True}, "ipv4"),
        ({"ipv4": {"enabled": "perhaps"}}, "ipv4.enabled"),
        ({"ipv4": {"enabled": False}}, "ipv4.enabled"),
        ({"encryption": {"enabled": True, "type": "SECRET"}}, "encryption.type"),
        ({"underlayProtocol": "ipx"}, "underlayProtocol"),
        ({"clusterHealthPort": ["SECRET"]}, "clusterHealthPort"),
    ],
)
def test_what_cilium_would_not_take_is_named_and_not_quoted(
    values: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_helm(values, "x")
    assert caught.value.key == key
    assert "SECRET" not in str(caught.value)


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70000) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["enabled", "type", "mode", "nodeEncryption", "dsrDispatch"]), inner
        )
    ),
    max_leaves=6,
)
KEYS = [
    "tunnel", "routingMode", "tunnelProtocol", "tunnelPort", "tunnelSourcePortRange", "ipv4",
    "ipv6", "underlayProtocol", "healthChecking", "clusterHealthPort", "encryption",
    "loadBalancer", "egressGateway", "eni",
]  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), NESTED))
def test_any_values_are_an_installation_or_an_error_of_theirs(values: dict[str, Any]) -> None:
    try:
        found = from_helm(values, "x")
    except ConfigError:
        return
    probes = needed(found).probes
    assert all(p.port is None or 0 < p.port < 65536 for p in probes)
    assert len({(p.protocol, p.port) for p in probes}) == len(probes) or found.port in (51871,)


# --- EKS Anywhere ---


def test_eks_anywhere_by_default_is_geneve() -> None:
    derived = derive(spec_of())
    assert ports(needed(derived.installation).probes)[0] == "udp 6081 required"
    assert not derived.remarks


@pytest.mark.parametrize("written", [None, ""])
@pytest.mark.parametrize("version", [None, (0, 22, 0), (0, 27, 0)])
def test_an_empty_tunnel_protocol_is_the_trap_in_every_version(
    written: str | None, version: tuple[int, ...] | None
) -> None:
    derived = derive(spec_of({"tunnelProtocol": written}, version=version))
    assert derived.installation.tunnel is Tunnel.VXLAN
    assert derived.instead is None
    assert "turns GENEVE on UDP 6081 into VXLAN on UDP 8472" in derived.remarks[0].title


@pytest.mark.parametrize("helm", [{}, {"hubble": {"enabled": True}}, {"tunnel": "geneve"}])
@pytest.mark.parametrize(
    ("version", "tunnel", "instead", "severity"),
    [
        (None, Tunnel.VXLAN, Tunnel.GENEVE, Severity.REQUIRED),
        ((0, 22, 1), Tunnel.VXLAN, None, Severity.REQUIRED),
        ((0, 25, 3), Tunnel.VXLAN, None, Severity.REQUIRED),
        ((0, 25, 4), Tunnel.VXLAN, Tunnel.GENEVE, Severity.REQUIRED),
        ((0, 26, 1), Tunnel.VXLAN, Tunnel.GENEVE, Severity.REQUIRED),
        ((0, 27, 0), Tunnel.GENEVE, None, Severity.RECOMMENDED),
    ],
)
def test_helm_values_without_a_tunnel_protocol_are_the_trap(
    helm: dict[str, Any],
    version: tuple[int, ...] | None,
    tunnel: Tunnel,
    instead: Tunnel | None,
    severity: Severity,
) -> None:
    derived = derive(spec_of(helm, version=version))
    assert derived.installation.tunnel is tunnel
    assert (derived.instead and derived.instead.tunnel) is instead
    (remark,) = derived.remarks
    assert remark.severity is severity
    assert "helmValues without tunnelProtocol" in remark.title
    assert "VXLAN on UDP 8472" in remark.title
    assert "tunnelProtocol: geneve" in remark.advice


def test_the_trap_in_a_check() -> None:
    told = briefed(spec=spec_of({"hubble": {}}))
    assert ports(told.inventory.probes) == [
        "udp 8472 required", "tcp 4240 recommended", "icmp None recommended",
        "udp 6081 required",
    ]  # fmt: skip
    assert [p.name for p in told.inventory.probes] == ["vxlan", "health", "echo", "geneve"]
    told = briefed(spec=spec_of({"hubble": {}}, version=(0, 22, 0)))
    assert [p.name for p in told.inventory.probes] == ["vxlan", "health", "echo"]


@pytest.mark.parametrize(
    "helm",
    [
        {"tunnelProtocol": "geneve"},
        {"tunnelProtocol": "geneve", "routingMode": "tunnel", "hubble": {}},
        {"routingMode": "native"},
        None,
    ],
)
def test_no_trap_where_there_is_none(helm: dict[str, Any] | None) -> None:
    assert not derive(spec_of(helm)).remarks


def test_the_older_routing_mode_has_no_say_beside_helm_values() -> None:
    assert derive(spec_of(routing_mode="direct")).installation.routing is Routing.NATIVE
    derived = derive(spec_of({"tunnelProtocol": "geneve"}, routing_mode="direct"))
    assert derived.installation.routing is Routing.TUNNEL
    assert any("routingMode: direct has no effect" in note for note in derived.notes)


def test_own_addresses_inside_the_ranges() -> None:
    spec = load(SPECS / "bare-metal.yaml")
    assert inside_ranges(spec) == []
    moved = ClusterSpec(
        "c.yaml", "x", pod_ranges=spec.pod_ranges, service_ranges=spec.service_ranges,
        addresses={
            "the control plane's endpoint": "192.168.1.1", "Tinkerbell's address": "10.97.1.1",
        },
    )  # fmt: skip
    titles = [remark.title for remark in inside_ranges(moved)]
    assert titles == [
        "the pod range 192.168.0.0/16 holds the control plane's endpoint 192.168.1.1",
        "the service range 10.96.0.0/12 holds Tinkerbell's address 10.97.1.1",
    ]


def test_counts_of_roles() -> None:
    spec = load(SPECS / "bare-metal.yaml")
    assert counted(spec, NODES, "nodes.yaml") == []
    (remark,) = counted(spec, NODES[:3], "nodes.yaml")
    assert remark.evidence == ("worker: 2 in bare-metal.yaml, 1 in nodes.yaml",)
    unlabelled = (*NODES[:3], node("x", "10.0.0.99"))
    assert counted(spec, unlabelled, "nodes.yaml") == []  # it may be the one that is missing
    others = (*NODES[:3], node("x", "10.0.0.99", role="master"))
    assert counted(spec, others, "nodes.yaml") == []


# --- where they disagree ---


def test_spec_and_cluster_disagree() -> None:
    facts = ClusterFacts("cluster prod", NODES, {"tunnel-protocol": "vxlan"})
    told = briefed(spec=spec_of(), cluster=facts, phase=Phase.AFTER)
    (remark,) = told.remarks
    assert remark.severity is Severity.REQUIRED
    assert "cluster.yaml and cluster prod disagree" in remark.title
    assert remark.evidence == (
        "tunnel: geneve in cluster.yaml, vxlan in cluster prod",
        "tunnel port: UDP 6081 in cluster.yaml, UDP 8472 in cluster prod",
    )
    # What runs now is what counts; what is to come is tested too.
    assert ports(told.inventory.probes) == [
        "udp 8472 required", "tcp 4240 recommended", "icmp None recommended",
        "udp 6081 recommended",
    ]  # fmt: skip


INSTALLATIONS = [
    Installation("x", routing, tunnel, port, underlay=underlay, health_port=health,
                 encryption=encryption, node_encryption=node_encryption)
    for routing, tunnel, port, underlay, health, encryption, node_encryption in product(
        Routing, Tunnel, (0, 7000), (V4, V6), (4240, 4241),
        (Encryption.NONE, Encryption.WIREGUARD), (False, True))
]  # fmt: skip


def test_whoever_needs_other_ports_disagrees() -> None:
    """The oracle is what would be tested: unlike lists of ports must never pass in silence."""
    for one in INSTALLATIONS:
        for other in INSTALLATIONS[::7]:
            same = [
                {(p.protocol, p.port, p.families) for p in needed(it).probes} for it in (one, other)
            ]
            if same[0] != same[1]:
                assert between(one, other) is not None
    assert all(between(one, one) is None for one in INSTALLATIONS)


def test_the_inventorys_own_list_is_kept_and_compared() -> None:
    strict = Probe("echo", ProbeKind.ECHO, Protocol.ICMP, None, Severity.REQUIRED)
    app = Probe("app", ProbeKind.TCP, Protocol.TCP, 9000, Severity.RECOMMENDED)
    own = Inventory("nodes.yaml", NODES, (GENEVE, strict, app), lists_probes=True)
    told = briefed(own, spec=spec_of({"tunnelProtocol": "vxlan"}))
    (remark,) = told.remarks
    assert remark.severity is Severity.REQUIRED
    assert remark.evidence == (
        "UDP 8472 (vxlan) is needed by cluster.yaml and not in nodes.yaml",
        "TCP 4240 (health) is needed by cluster.yaml and not in nodes.yaml",
        "UDP 6081 (geneve) is in nodes.yaml and not needed by cluster.yaml",
    )
    assert ports(told.inventory.probes) == [
        "udp 8472 required", "tcp 4240 recommended", "icmp None required", "udp 6081 required",
        "tcp 9000 recommended",
    ]  # fmt: skip
    assert not briefed(PLAIN, spec=spec_of({"tunnelProtocol": "vxlan"})).remarks


def test_a_second_tunnel_gets_a_name_of_its_own() -> None:
    facts = ClusterFacts("cluster", NODES, {"tunnel-protocol": "geneve", "tunnel-port": "7000"})
    told = briefed(spec=spec_of(), cluster=facts)
    assert [p.name for p in told.inventory.probes] == ["geneve", "health", "echo", "geneve-6081"]


def test_nodes_without_an_address_of_the_underlay() -> None:
    helm = {"tunnelProtocol": "geneve", "ipv6": {"enabled": True}, "underlayProtocol": "ipv6"}
    with pytest.raises(UsageError, match=r"geneve run over IPv6, and no two nodes of nodes\.yaml"):
        briefed(spec=spec_of(helm))
    dual = tuple(Node(n.name, (*n.addresses, f"fd00::{i}"), n.host) for i, n in enumerate(NODES))
    mixed = Inventory("nodes.yaml", (*dual[:3], NODES[3]), PLAIN.probes)
    (remark,) = briefed(mixed, spec=spec_of(helm)).remarks
    assert (remark.severity, remark.nodes) == (Severity.REQUIRED, ("w-2",))
    assert not briefed(Inventory("nodes.yaml", dual, PLAIN.probes), spec=spec_of(helm)).remarks


# --- the cluster's own nodes ---


def api_node(
    name: str, *addresses: str, labels: dict[str, str] | None = None, kind: str = "InternalIP"
) -> dict[str, Any]:
    listed = [{"type": kind, "address": a} for a in addresses]
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "status": {"addresses": [*listed, {"type": "Hostname", "address": name}]},
    }


def test_nodes_of_the_api() -> None:
    control = {"node-role.kubernetes.io/control-plane": "", "topology.kubernetes.io/zone": "z1"}
    nodes, notes = nodes_of(
        [
            api_node("cp", "10.0.0.1", "fd00::1", "10.9.9.9", labels=control),
            api_node("old", "10.0.0.2", labels={"node-role.kubernetes.io/master": ""}),
            api_node("w", "10.0.0.3", labels={"failure-domain.beta.kubernetes.io/zone": "z2"}),
            api_node("none", "1.2.3.4", kind="ExternalIP"),
        ]
    )
    assert [(n.name, n.addresses, dict(n.labels)) for n in nodes] == [
        ("cp", ("10.0.0.1", "fd00::1"), {"role": "control-plane", "zone": "z1"}),
        ("old", ("10.0.0.2",), {"role": "control-plane"}),
        ("w", ("10.0.0.3",), {"role": "worker", "zone": "z2"}),
    ]
    assert notes == ("none has no InternalIP in the cluster: it was left out",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["metadata", "status", "addresses", "labels", "name", "type"]), inner
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["metadata", "status"]), JSON), max_size=3))
def test_any_objects_of_the_api_are_read(objects: list[dict[str, Any]]) -> None:
    nodes, notes = nodes_of(objects)
    assert len(nodes) + len(notes) == len(objects)


def test_an_inventory_against_the_cluster() -> None:
    there = (
        node("cp-1.example.com", "10.0.0.1"),
        node("cp-2", "10.0.0.22"),
        node("w-1", "10.0.0.11"),
        node("w-9", "10.0.0.19"),
        node("ip-10-0-0-12", "10.0.0.12"),
    )
    remarks = compare(NODES, "nodes.yaml", ClusterFacts("cluster prod", there, None))
    assert [(r.severity, r.title) for r in remarks] == [
        (Severity.REQUIRED, "cp-2: the address that was tested is not the cluster's InternalIP"),
        (Severity.RECOMMENDED, "w-9 of cluster prod is not in nodes.yaml, and so not tested"),
    ]
    assert remarks[0].evidence == ("cp-2: 10.0.0.2 in nodes.yaml, 10.0.0.22 in cluster prod",)
    assert remarks[0].nodes == ("cp-2",)
    twins = (node("a.x", "10.0.0.1"), node("a.y", "10.0.0.2"))
    assert compare((node("a.y.org", "10.0.0.2"),), "f", ClusterFacts("c", twins[1:], None)) == []
    (absent, *_) = compare((node("a", "10.9.9.9"),), "f", ClusterFacts("c", twins, None))[::-1]
    assert absent.title == "a of f is not in c"
    gone = compare(NODES, "nodes.yaml", ClusterFacts("cluster prod", NODES[1:], None))
    assert [r.title for r in gone] == ["cp-1 of nodes.yaml is not in cluster prod"]


# --- the profile ---


def test_the_ports_page_by_role() -> None:
    told = briefed(profile=Profile.EKS_ANYWHERE)
    by_name = {p.name: p for p in told.inventory.probes}
    assert ports(told.inventory.probes) == [
        "udp 6081 required", "tcp 4240 recommended", "icmp None recommended",
        "tcp 6443 required", "tcp 10250 required", "tcp 2379 required", "tcp 2380 required",
        "tcp 30000 recommended", "tcp 31414 recommended", "tcp 32767 recommended",
    ]  # fmt: skip
    assert str(by_name["kube-apiserver"].between) == "all → role=control-plane"
    assert str(by_name["kubelet"].between) == "role=control-plane → all"
    assert str(by_name["etcd-client"].between) == "role=control-plane → role=control-plane"
    assert str(by_name["nodeport-30000"].between) == "all → role=worker"
    assert by_name["geneve"].between is None
    told_text = " ".join(told.notes)
    assert "a sample of 2,768 ports" in told_text
    assert "10257" in told_text
    assert "10259" in told_text
    assert "TCP 22 is not tested between nodes" in told_text


def test_machines_that_run_etcd_alone_have_no_cilium() -> None:
    nodes = (*NODES, node("etcd-1", "10.0.0.21", role="etcd"))
    inventory = Inventory("nodes.yaml", nodes, PLAIN.probes)
    told = briefed(inventory, profile=Profile.EKS_ANYWHERE)
    by_name = {p.name: str(p.between) for p in told.inventory.probes}
    assert by_name["geneve"] == by_name["health"] == "role!=etcd → role!=etcd"
    assert by_name["etcd-client"] == "role=control-plane, role=etcd → role=etcd"
    assert by_name["etcd-peer"] == "role=etcd → role=etcd"
    assert by_name["kube-apiserver"] == "role!=etcd → role=control-plane"


def test_a_profile_without_roles_is_refused() -> None:
    nodes = tuple(Node(n.name, n.addresses, n.host) for n in NODES)
    with pytest.raises(
        UsageError, match=r"--profile eks-anywhere: nodes\.yaml: no node has a label"
    ):
        briefed(Inventory("x", nodes, PLAIN.probes), profile=Profile.EKS_ANYWHERE)
    some = (*NODES, node("x", "10.0.0.50"))
    told = briefed(Inventory("x", some, PLAIN.probes), profile=Profile.EKS_ANYWHERE)
    assert any(note.startswith("x: no label role") for note in told.notes)


def test_a_port_that_is_tested_already_is_not_tested_twice() -> None:
    kubelet = Probe("my-kubelet", ProbeKind.TCP, Protocol.TCP, 10250, Severity.RECOMMENDED)
    own = Inventory("nodes.yaml", NODES, (*PLAIN.probes, kubelet), lists_probes=True)
    told = briefed(own, profile=Profile.EKS_ANYWHERE)
    assert [p.name for p in told.inventory.probes if p.port == 10250] == ["my-kubelet"]
