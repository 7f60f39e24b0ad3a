"""Every readiness rule: what it accuses, and whom it lets alone."""

from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import pytest
from facts import PROBES, found, frame, good, keys, node

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.parse import parse
from preflight.core.facts.ranges import parse_range
from preflight.core.facts.readiness import RULES
from preflight.core.facts.risk import Clock, RiskKey
from preflight.core.model import Phase, Probe, ProbeKind, Protocol, Severity

K = RiskKey
VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)


def three(**of_the_second: Any) -> list[NodeFacts]:
    """n1 and n3 with nothing wrong, n2 with these facts."""
    return [good(1), good(2, **of_the_second), good(3)]


def socket(**other: Any) -> dict[str, Any]:
    plain = {"protocol": "udp", "port": 6081, "family": 4, "address": "0.0.0.0",
             "pid": 812, "process": "ovs-vswitchd"}  # fmt: skip
    return {**plain, **other}


def link(name: str, kind: str | None = None, **other: Any) -> dict[str, Any]:
    plain = {"name": name, "index": 9, "kind": kind, "mtu": 1500, "up": True, "carrier": True,
             "lower": None, "master": None, "tunnel": None, "vlan": None, "bond": None}  # fmt: skip
    return {**plain, **other}


def tunnel(name: str, kind: str = "geneve", port: int = 6081) -> dict[str, Any]:
    return link(name, kind, tunnel={"port": port, "vni": None, "external": True})


def links(*more: dict[str, Any], mtu: int = 1500) -> list[dict[str, Any]]:
    own = frame()["facts"]["links"]
    return [*own[:-1], {**own[-1], "mtu": mtu}, *more]


# --- silence -------------------------------------------------------------------------------------


def test_nothing_is_said_of_nodes_in_order() -> None:
    assert found(three(), pods=["192.168.0.0/16"], services=["10.96.0.0/12"]) == []
    assert found(three(), phase=Phase.AFTER) == []


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert found([NodeFacts(), None, NodeFacts()], phase=Phase.AFTER) == []
    assert found([None] * 3, clocks={}) == []


@pytest.mark.parametrize("name", [f.name for f in fields(NodeFacts)])
def test_an_unknown_fact_never_accuses(name: str) -> None:
    """Take one fact from nodes that have everything wrong: nothing new is said."""
    bad = everything_wrong()
    before = {(r.key, r.title) for r in found(bad, phase=Phase.AFTER, pods=["10.0.0.0/8"])}
    empty = getattr(NodeFacts(), name)
    less = [replace(facts, **{name: empty}) for facts in bad]
    after = found(less, phase=Phase.AFTER, pods=["10.0.0.0/8"])
    assert {r.key for r in after} <= {key for key, _ in before}


def everything_wrong() -> list[NodeFacts]:
    wrong = frame(
        sockets=[socket(), socket(protocol="tcp", port=4240, process="nginx")],
        links=links(tunnel("flannel.1", "vxlan", 8472), link("cilium_host", "veth")),
        kernel={"release": "4.14.0-1-amd64", "machine": "x86_64"},
        modules={"geneve": "absent"},
        conntrack={"count": 99, "max": 100},
        neighbours={"4": {"count": 1024, "max": 1024}},
        echo_ignored={"4": True},
        rp_filter={"all": 1, "default": 1, "ens192": 1},
        tcp={"segments": 10_000, "checksum_errors": 5_000},
        cni=["10-flannel.conflist"],
    )
    return [parse(wrong, 3), good(2, links=links(mtu=9000)), parse(wrong, 3)]


def test_the_worst_node_breaks_every_rule_that_it_can() -> None:
    said = keys(found(everything_wrong(), phase=Phase.AFTER, pods=["10.0.0.0/8"]))
    assert said.keys() >= {
        K.TUNNEL_PORT, K.HEALTH_PORT, K.TUNNEL_OFFLOAD, K.MTU_DIFFERS, K.ECHO_IGNORED,
        K.CONNTRACK_FULL, K.NEIGHBOURS_FULL, K.RANGE_HOLDS_NODE, K.KERNEL_TOO_OLD, K.NO_MODULE,
        K.LEFTOVERS, K.RP_FILTER,
    }  # fmt: skip


def test_what_is_required_comes_first() -> None:
    said = found(everything_wrong(), phase=Phase.AFTER, pods=["10.0.0.0/8"])
    severities = [risk.severity for risk in said]
    assert severities == sorted(severities, key=lambda s: s is not Severity.REQUIRED)
    assert {Severity.REQUIRED, Severity.RECOMMENDED} == set(severities)


def test_every_kind_of_risk_says_what_to_do_and_who_says_so() -> None:
    for risk in found(everything_wrong(), phase=Phase.AFTER, pods=["10.0.0.0/8"]):
        assert risk.change
        assert risk.source
        assert risk.title.endswith(".")
        assert risk.title.isprintable()
    assert len(RULES) == len(set(RULES))


# --- ports ---------------------------------------------------------------------------------------


def test_a_process_on_the_tunnel_port() -> None:
    (risk,) = found(three(sockets=[socket()]))
    assert (risk.key, risk.severity, risk.nodes) == (K.TUNNEL_PORT, Severity.REQUIRED, (1,))
    assert risk.title == "On n2, UDP 6081 is held by ovs-vswitchd; Cilium will want it."
    assert risk.evidence == ("n2: ovs-vswitchd, pid 812, is bound to 0.0.0.0:6081",)


def test_a_kernel_tunnel_on_the_tunnel_port() -> None:
    owned = socket(pid=None, process=None)
    (risk,) = found(three(sockets=[owned], links=links(tunnel("genev_sys_6081"))))
    assert (risk.key, risk.nodes) == (K.TUNNEL_PORT, (1,))
    assert "genev_sys_6081" in risk.title
    assert "Open vSwitch" in risk.evidence[0]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("flannel.1", True, True), ("genev_sys_6081", True, True), ("vxlan0", True, False)],
)
def test_after_the_installation_a_nameless_tunnel_may_be_ciliums(
    name: str, before: bool, after: bool
) -> None:
    owned = socket(pid=None, process=None)
    told = three(sockets=[owned], links=links(tunnel(name)))
    for phase, wanted in ((Phase.BEFORE, before), (Phase.AFTER, after)):
        assert (K.TUNNEL_PORT in keys(found(told, phase=phase))) is wanted


@pytest.mark.parametrize(
    "facts",
    [
        {"sockets": [socket(process="cilium-agent")]},
        {"sockets": [socket(pid=None, process=None)]},  # by whom is not known
        {
            "sockets": [socket(pid=None, process=None)],
            "links": links(tunnel("cilium_geneve")),
        },
        {"sockets": [socket(port=8472)]},  # no probe is for it
        {"sockets": [socket(protocol="tcp", port=4240, address="127.0.0.1")]},
        {"sockets": [socket(protocol="tcp", port=4240, process="cilium-agent")]},
        {"sockets": [socket(pid=None, process=None)], "links": None, "ways": []},
        {
            "sockets": [socket(pid=None, process=None)],
            "links": links({**tunnel("genev_sys_6081"), "up": False}),
        },
        {"sockets": None},
        {"sockets": None, "links": links(tunnel("genev_sys_6081"))},
    ],
    ids=[
        "cilium",
        "whose",
        "cilium's tunnel",
        "another port",
        "loopback",
        "health",
        "no links",
        "down",
        "unknown",
        "sockets unknown",
    ],
)
@pytest.mark.parametrize("phase", Phase)
def test_ports_that_are_in_nobodys_way(facts: dict[str, Any], phase: Phase) -> None:
    said = keys(found(three(**facts), phase=phase))
    assert not {K.TUNNEL_PORT, K.HEALTH_PORT} & said.keys()


def test_the_health_port_and_a_vxlan_tunnels() -> None:
    held = [socket(protocol="tcp", port=4240, process="nginx"), socket(port=8472)]
    said = found(three(sockets=held), probes=(*PROBES, VXLAN))
    assert keys(said) == {K.TUNNEL_PORT: (1,), K.HEALTH_PORT: (1,)}
    severities = {risk.key: risk.severity for risk in said}
    assert severities[K.HEALTH_PORT] is Severity.RECOMMENDED


# --- network cards -------------------------------------------------------------------------------


def test_vmxnet3_with_tunnel_offloads() -> None:
    said = found([parse(frame(), 3), good(2), good(3)])
    (risk,) = said
    assert (risk.key, risk.severity, risk.nodes) == (K.TUNNEL_OFFLOAD, Severity.RECOMMENDED, (0,))
    assert risk.commands == (
        "ethtool -K ens192 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off",
    )
    assert "ens192" in risk.title
    assert "cilium/cilium#21801" in risk.source


def offloads(driver: str = "vmxnet3", **features: bool) -> dict[str, Any]:
    made = deepcopy(frame()["facts"]["offloads"])
    made["ens192"]["driver"] = driver
    made["ens192"]["features"].update({k.replace("_", "-"): v for k, v in features.items()})
    return made


def test_vmxnet3_with_them_off_or_of_another_device_is_let_alone() -> None:
    off = deepcopy(frame()["facts"]["offloads"])
    for name in ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"):
        off["ens192"]["features"][name] = False
    assert found([parse(frame(offloads=off), 3), good(2), good(3)]) == []
    elsewhere = {"ens224": frame()["facts"]["offloads"]["ens192"]}
    assert found([parse(frame(offloads=elsewhere), 3), good(2), good(3)]) == []


def test_vmxnet3_below_a_vlan_and_a_bond() -> None:
    """The offloads are the card's, the way is by what lies above it."""
    stacked = links(link("bond0", "bond"), link("bond0.7", "vlan", lower="bond0", vlan=7))
    stacked[1]["master"] = "bond0"
    way = dict(frame()["facts"]["ways"][0], device="bond0.7", peers=[1, 2])
    facts = parse(frame(links=stacked, ways=[way]), 3)
    assert keys(found([facts, good(2), good(3)])) == {K.TUNNEL_OFFLOAD: (0,)}


def test_many_vmxnet3_nodes_are_one_risk() -> None:
    mine = [dict(frame()["facts"]["ways"][0], source=f"10.0.1.{11 + n}") for n in range(3)]
    said = found([parse(frame(ways=[way]), 3) for way in mine])
    assert keys(said) == {K.TUNNEL_OFFLOAD: (0, 1, 2)}
    assert said[0].title.startswith("On all nodes, ")


def test_virtio_is_suspected_only_where_another_node_gets_wrong_checksums() -> None:
    virtio = frame("virtio-vm.json", kernel={"release": "6.1.0", "machine": "x86_64"},
                   modules={"geneve": "built-in"})  # fmt: skip
    nodes = [node(1, "192.0.2.2"), node(2), node(3)]
    one = parse(virtio, 3)
    assert K.CHECKSUM_OFFLOAD not in keys(found([one, good(2), good(3)], nodes))
    counted = {"segments": 91_034, "checksum_errors": 4_711}
    said = [
        risk
        for risk in found([one, good(2, tcp=counted), good(3)], nodes)
        if risk.key is K.CHECKSUM_OFFLOAD
    ]
    (risk,) = said
    assert risk.nodes == (0,)
    assert risk.commands == ("ethtool -K eth0 tx-checksum-ip-generic off",)
    assert "n2 got 4,711" in risk.evidence[0]
    for count, told in ((9, False), (10, True)):
        few = {"segments": 91_034, "checksum_errors": count}
        said = found([one, good(2, tcp=few), good(3)], nodes)
        assert (K.CHECKSUM_OFFLOAD in keys(said)) == told
    # Its own wrong checksums were not of its own making.
    alone = parse({**virtio, "facts": {**virtio["facts"], "tcp": counted}}, 3)
    assert K.CHECKSUM_OFFLOAD not in keys(found([alone, good(2), good(3)], nodes))


# --- sizes ---------------------------------------------------------------------------------------


def test_one_node_with_another_mtu() -> None:
    (risk,) = found(three(links=links(mtu=1450)))
    assert (risk.key, risk.nodes) == (K.MTU_DIFFERS, (1,))
    assert risk.title == "n2: MTU 1,450 towards the peers, 1,500 on the others."
    assert "MTU=1450" in risk.advice
    assert "1,400 over IPv4" in risk.advice
    assert "IPv6" not in risk.advice


def test_of_several_devices_the_smallest_counts() -> None:
    base = frame()["facts"]["ways"][0]
    ways = [dict(base, source="10.0.1.12", peers=[0]),
            dict(base, source="10.0.1.12", device="ens224", peers=[2])]  # fmt: skip
    (risk,) = found(three(links=links(link("ens224", mtu=1400), mtu=9000), ways=ways))
    assert "n2: MTU 1,400 towards the peers" in risk.title
    assert risk.evidence == ("n2: ens192 9,000, ens224 1,400",)


def test_ipv6_costs_the_tunnel_more() -> None:
    way = dict(frame()["facts"]["ways"][0], family=6, source=None, gateway=None, peers=[0, 2])
    said = found([good(1), good(2, links=links(mtu=1450), ways=[way]), good(3)])
    assert "1,400 over IPv4 or 1,380 over IPv6" in said[0].advice


def test_as_many_on_one_side_as_on_the_other() -> None:
    (risk,) = found([good(1, peers=2), good(2, peers=2, links=links(mtu=9000))])
    assert risk.nodes == (0, 1)
    assert risk.title == "MTUs differ towards the peers: 9,000 on n2, 1,500 on n1."
    assert "MTU=1500" in risk.advice


def test_clusters_may_differ() -> None:
    nodes = [node(1, cluster="a"), node(2, cluster="b"), node(3, cluster="a")]
    assert found(three(links=links(mtu=9000)), nodes) == []


@pytest.mark.parametrize("learned", [True, False])
def test_a_route_that_takes_less_than_its_device(learned: bool) -> None:
    way = dict(
        frame()["facts"]["ways"][0], source="10.0.1.12", mtu=1400, learned=learned, peers=[2]
    )
    (risk,) = found(three(ways=[way]))
    assert (risk.key, risk.nodes) == (K.ROUTE_MTU, (1,))
    assert "to n3" in risk.title
    assert ("ICMP" in risk.evidence[0]) == learned
    assert found(three(ways=[{**way, "mtu": 1500}])) == []


# --- ways ----------------------------------------------------------------------------------------


def test_another_source_address_than_the_inventorys() -> None:
    way = dict(frame()["facts"]["ways"][0], source="10.9.0.5", peers=[0, 2])
    (risk,) = found(three(ways=[way]))
    assert (risk.key, risk.nodes) == (K.SOURCE_ADDRESS, (1,))
    assert risk.title == (
        "n2 sends to n1, n3 from 10.9.0.5, not from 10.0.1.12, its address in the inventory."
    )


def test_an_address_of_the_other_family_is_compared_with_its_own() -> None:
    way = dict(
        frame()["facts"]["ways"][0], family=6, source="fd00:0:0::12", gateway=None, peers=[0]
    )
    nodes = [node(1), node(2, "10.0.1.12", "fd00::12"), node(3)]
    assert found(three(ways=[way]), nodes) == []
    assert found(three(ways=[way])) == []  # the inventory has no IPv6 address


@pytest.mark.parametrize("errno", [101, 113, 13, 22])
def test_no_route_to_a_peer(errno: int) -> None:
    way = {"family": 4, "device": None, "gateway": None, "source": None, "mtu": None,
           "learned": False, "error": errno, "peers": [2]}  # fmt: skip
    (risk,) = found(three(ways=[way]))
    assert (risk.key, risk.severity, risk.nodes) == (K.NO_ROUTE, Severity.REQUIRED, (1,))
    assert risk.title == "n2 has no route to n3."
    assert "ip route get 10.0.1.13" in risk.advice


def test_an_error_that_says_nothing_of_routes_is_no_route_missing() -> None:
    way = dict(frame()["facts"]["ways"][0], device=None, source=None, error=12, peers=[2])
    assert found(three(ways=[way])) == []


def two_homed(strict: str, device: str = "eth1") -> dict[str, Any]:
    way = dict(frame()["facts"]["ways"][0], device=device, source="10.0.1.12", peers=[0, 2])
    settings = {"all": 0, "default": 0, "ens192": 0, "eth1": 0, strict: 1}
    return {"links": links(link("eth1")), "ways": [way], "rp_filter": settings}


@pytest.mark.parametrize("strict", ["ens192", "all"])
def test_strict_rp_filter_with_another_way_back(strict: str) -> None:
    (risk,) = found(three(**two_homed(strict)))
    assert (risk.key, risk.nodes) == (K.RP_FILTER, (1,))
    assert risk.commands == ("sysctl -w net.ipv4.conf.ens192.rp_filter=2",)
    assert "eth1" in risk.title


@pytest.mark.parametrize(
    "facts",
    [
        two_homed("eth1"),  # strict where nothing arrives
        two_homed("ens192", device="ens192"),  # the same way back
        {**two_homed("ens192"), "rp_filter": {"all": 2, "default": 1, "ens192": 1, "eth1": 1}},
        {**two_homed("ens192"), "rp_filter": None},
        {**two_homed("ens192"), "addresses": None},
    ],
    ids=["elsewhere", "same way", "loose counts", "unknown", "no addresses"],
)
def test_rp_filter_that_harms_nobody(facts: dict[str, Any]) -> None:
    assert found(three(**facts)) == []


def test_a_device_with_a_dot_in_its_name() -> None:
    """sysctl takes dots for slashes unless it is given slashes."""
    facts = two_homed("ens192")
    facts["addresses"] = [{"device": "eth1.7", "address": "10.0.1.12", "prefix": 24,
                           "scope": "global"}]  # fmt: skip
    facts["rp_filter"] = {"all": 0, "eth1.7": 1}
    (risk,) = found(three(**facts))
    assert risk.commands == ("sysctl -w net/ipv4/conf/eth1.7/rp_filter=2",)


@pytest.mark.parametrize("name", ["$(reboot)", "eth0;id", "-K", "a b", "x\x1b[31m"])
def test_no_command_is_made_of_a_name_that_a_shell_could_misread(name: str) -> None:
    made = frame()["facts"]
    way = dict(made["ways"][0], device=name, peers=[1])
    facts = parse(
        frame(links=links(link(name)), ways=[way], offloads={name: made["offloads"]["ens192"]}), 3
    )
    (risk,) = [r for r in found([facts, good(2), good(3)]) if r.key is K.TUNNEL_OFFLOAD]
    assert risk.commands == ()
    assert risk.advice


def test_rp_filter_of_all_set_back_under_cilium() -> None:
    facts = {"rp_filter": {"all": 1, "default": 1, "ens192": 1},
             "links": links(link("cilium_host", "veth"))}  # fmt: skip
    (risk,) = found(three(**facts), phase=Phase.AFTER)
    assert (risk.key, risk.nodes) == (K.RP_FILTER, (1,))
    assert K.RP_FILTER not in keys(found(three(**facts), phase=Phase.BEFORE))


def test_echo_ignored_matters_only_where_the_node_has_such_an_address() -> None:
    ignored = {"echo_ignored": {"4": False, "6": True}}
    assert found(three(**ignored)) == []
    nodes = [node(1), node(2, "10.0.1.12", "fd00::12"), node(3)]
    (risk,) = found(three(**ignored), nodes)
    assert (risk.key, risk.nodes) == (K.ECHO_IGNORED, (1,))
    assert risk.commands == ("sysctl -w net.ipv6.icmp.echo_ignore_all=0",)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "told"), [(89, False), (90, True), (100, True)])
def test_a_table_that_is_nearly_full(count: int, told: bool) -> None:
    said = keys(found(three(conntrack={"count": count, "max": 100})))
    assert said == ({K.CONNTRACK_FULL: (1,)} if told else {})
    said = keys(found(three(neighbours={"6": {"count": count, "max": 100}})))
    assert said == ({K.NEIGHBOURS_FULL: (1,)} if told else {})


def test_a_table_without_a_limit_is_not_full() -> None:
    assert found(three(conntrack={"count": 0, "max": 0})) == []


# --- ranges --------------------------------------------------------------------------------------


def test_a_pod_range_that_holds_nodes() -> None:
    (risk,) = found(three(), pods=["10.0.0.0/16"])
    assert (risk.key, risk.severity) == (K.RANGE_HOLDS_NODE, Severity.REQUIRED)
    assert risk.nodes == (0, 1, 2)
    assert risk.title == "The pod range 10.0.0.0/16 holds the addresses of all nodes."
    assert any("gateway 10.0.1.1" in line for line in risk.evidence)


def test_it_takes_no_facts_to_see_that_a_range_holds_a_node() -> None:
    (risk,) = found([None, None], services=["10.0.1.12/32"])
    assert (risk.key, risk.nodes) == (K.RANGE_HOLDS_NODE, (1,))


def test_a_range_that_holds_the_gateway_alone() -> None:
    (risk,) = found(three(), pods=["10.0.1.0/29"])
    assert (risk.key, risk.severity) == (K.RANGE_HOLDS_GATEWAY, Severity.REQUIRED)
    assert "10.0.1.1 of all nodes" in risk.title


def test_a_range_that_overlaps_the_subnet_alone() -> None:
    (risk,) = found(three(), services=["10.0.1.128/25"])
    assert (risk.key, risk.severity) == (K.RANGE_HOLDS_SUBNET, Severity.RECOMMENDED)


@pytest.mark.parametrize(
    ("device", "address", "prefix", "scope", "told"),
    [
        ("ens192", "10.7.0.1", 24, "global", True),
        ("docker0", "10.7.0.1", 24, "global", True),
        ("ens192", "10.7.0.1", 32, "global", False),  # an address of its own, and no subnet
        ("ens192", "10.7.0.1", 24, "link", False),
        ("cni0", "10.7.0.1", 24, "global", False),  # of a pod network that may go
    ],
)
def test_which_subnets_are_the_nodes_own(
    device: str, address: str, prefix: int, scope: str, told: bool
) -> None:
    own = frame()["facts"]["addresses"]
    more = {"device": device, "address": address, "prefix": prefix, "scope": scope}
    said = keys(found(three(addresses=[*own, more]), pods=["10.7.0.0/16"]))
    assert said == ({K.RANGE_HOLDS_SUBNET: (1,)} if told else {})


def test_a_name_server_in_the_pod_range_and_in_the_service_range() -> None:
    (risk,) = found(three(), pods=["10.0.0.0/24"])
    assert (risk.key, risk.severity) == (K.RANGE_HOLDS_NAMESERVER, Severity.RECOMMENDED)
    assert found(three(), services=["10.0.0.0/24"]) == []  # may be the cluster's own


def test_ranges_that_overlap_each_other() -> None:
    said = found(three(), pods=["192.168.0.0/16"], services=["192.168.7.0/24", "fd00::/108"])
    assert keys(said) == {K.RANGES_OVERLAP: ()}
    assert said[0].severity is Severity.REQUIRED


def test_what_cilium_itself_has_in_the_pod_range_is_no_conflict() -> None:
    own = frame()["facts"]["addresses"]
    facts = {
        "links": links(link("cilium_host", "veth")),
        "addresses": [*own, {"device": "cilium_host", "address": "192.168.3.7", "prefix": 32,
                             "scope": "global"}],
        "defaults": [dict(frame()["facts"]["defaults"][0], device="cilium_host",
                          gateway="192.168.3.7")],
    }  # fmt: skip
    assert found(three(**facts), phase=Phase.AFTER, pods=["192.168.0.0/16"]) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.5/16", "did you mean 10.0.0.0/16"),
        ("10.0.0.0", "prefix length"),
        ("10.0.0.0/33", "no IPv4 or IPv6 range"),
        ("pods/16", "no IPv4 or IPv6 range"),
        ("", "prefix length"),
        ("/", "no IPv4"),
    ],
)
def test_what_is_no_range(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_range(text)


# --- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "key"),
    [
        ("3.10.0-1160.el7.x86_64", K.KERNEL_TOO_OLD),
        ("4.14.336-257.562.amzn2.x86_64", K.KERNEL_TOO_OLD),
        ("4.19.56", K.KERNEL_TOO_OLD),
        ("4.19.57", K.KERNEL_AGES),
        ("5.4.0-169-generic", K.KERNEL_AGES),
        ("5.9.16", K.KERNEL_AGES),
        ("4.18.0-372.9.1.el8.x86_64", K.KERNEL_AGES),
        ("4.18.0-553.5.1.el8_10.x86_64", None),
        ("5.10.0", None),
        ("5.15.0-91-generic", None),
        ("6.18.44-fc-v669", None),
        ("10.1", None),
        ("a-kernel-of-my-own", None),
    ],
)
def test_the_age_of_a_kernel(release: str, key: RiskKey | None) -> None:
    said = keys(found(three(kernel={"release": release, "machine": "x86_64"})))
    assert said == ({key: (1,)} if key else {})


@pytest.mark.parametrize("state", ["loaded", "built-in", "available", "absent", None])
def test_the_tunnels_module(state: str | None) -> None:
    said = found(three(modules={} if state is None else {"geneve": state, "vxlan": "absent"}))
    assert keys(said) == ({K.NO_MODULE: (1,)} if state == "absent" else {})
    if said:
        assert said[0].severity is Severity.REQUIRED


# --- the rest ------------------------------------------------------------------------------------


def clocks(*offsets: float, uncertainty: float = 0.01) -> dict[int, Clock]:
    return {n: Clock(offset, uncertainty) for n, offset in enumerate(offsets)}


def test_a_clock_that_is_off() -> None:
    (risk,) = found(three(), clocks=clocks(0.0, 5.2, 0.01))
    assert (risk.key, risk.nodes) == (K.CLOCKS, (1,))
    assert risk.title == "The clock of n2 is 5.2 s ahead of the others'."
    assert "synchronised" in risk.evidence[0]
    behind = found(three(), clocks=clocks(0.0, -5.2, 0.01))
    assert "5.2 s behind" in behind[0].title


def test_clocks_are_compared_with_each_other_not_with_ours() -> None:
    assert found(three(), clocks=clocks(700.0, 700.3, 699.8)) == []


def test_what_may_be_the_measurement_is_not_the_clock() -> None:
    assert found(three(), clocks=clocks(0.0, 2.0, 0.0, uncertainty=0.6)) == []
    assert found(three(), clocks=clocks(0.0, 2.0, 0.0, uncertainty=0.4))
    assert found(three(), clocks={0: Clock(5.0, 0.01)}) == []


def test_of_two_clocks_nobody_knows_which_is_wrong() -> None:
    (risk,) = found([good(1, peers=2), good(2, peers=2)], clocks=clocks(0.0, 60.0))
    assert risk.nodes == (0, 1)
    assert risk.title == "The clocks of all nodes are 60.0 s apart."


@pytest.mark.parametrize(
    ("name", "whose"),
    [("flannel.1", "Flannel"), ("vxlan.calico", "Calico"), ("antrea-gw0", "Antrea"),
     ("cilium_geneve", "Cilium"), ("ovn-k8s-mp0", "OVN-Kubernetes")],
)  # fmt: skip
def test_devices_that_a_pod_network_left(name: str, whose: str) -> None:
    (risk,) = found(three(links=links(link(name))))
    assert (risk.key, risk.nodes, risk.severity) == (K.LEFTOVERS, (1,), Severity.RECOMMENDED)
    assert whose in risk.title
    assert risk.commands == ()  # it may be in use
    assert (f"ip link delete {name}" in risk.advice) == (whose != "Cilium")
    assert ("--phase after" in risk.advice) == (whose == "Cilium")


@pytest.mark.parametrize("name", ["ovs-system", "kube-ipvs0", "docker0", "cni0", "flannel"])
def test_devices_that_prove_nothing(name: str) -> None:
    assert found(three(links=links(link(name)))) == []


def test_tunl0_proves_something_only_where_it_is_up() -> None:
    assert found(three(links=links(link("tunl0", up=False)))) == []
    assert keys(found(three(links=links(link("tunl0"))))) == {K.LEFTOVERS: (1,)}


def test_configuration_that_a_pod_network_left() -> None:
    assert keys(found(three(cni=["10-calico.conflist"]))) == {K.LEFTOVERS: (1,)}
    assert found(three(cni=["10-calico.conflist.cilium_bak", "87-podman.conflist"])) == []
    assert found(three(cni=["05-cilium.conflist"]), phase=Phase.AFTER) == []


def services(*active: str, systemd: int = 252, **settings: str) -> dict[str, Any]:
    named = {key.replace("_", ".", 1): value for key, value in settings.items()}
    return {"systemd": systemd, "active": list(active), "installed": [], "settings": named}


def test_a_firewalld_that_flushes() -> None:
    flushing = services("firewalld", firewalld_FirewallBackend="iptables")
    assert keys(found(three(services=flushing))) == {K.RULES_FLUSHED: (1,)}
    for harmless in (
        services("firewalld"),
        services("firewalld", firewalld_FirewallBackend="nftables"),
        services(firewalld_FirewallBackend="iptables"),
        services(
            "firewalld", firewalld_FirewallBackend="iptables", firewalld_FlushAllOnReload="no"
        ),
    ):
        assert found(three(services=harmless)) == []


def test_an_nftables_service_that_flushes_what_is_there() -> None:
    service = services("nftables", nftables_flush="/etc/nftables.conf")
    kube = [{"family": "ip", "name": "nat", "base": [], "chains": {"KUBE": 40}}]
    assert keys(found(three(services=service, nftables=kube))) == {K.RULES_FLUSHED: (1,)}
    assert found(three(services=service, nftables=[])) == []
    assert found(three(services=services("nftables"), nftables=kube)) == []


def test_networkd_that_removes_ciliums_rules() -> None:
    rule = {"family": 4, "priority": 9, "table": 2004, "mark": 512, "source": None, "protocol": 0}
    networkd = services("systemd-networkd")
    said = found(three(services=networkd, rules=[rule]), phase=Phase.AFTER)
    assert keys(said) == {K.FOREIGN_RULES: (1,)}
    for harmless in (
        {"services": networkd, "rules": [{**rule, "protocol": 2}]},
        {"services": networkd, "rules": [{**rule, "table": 100}]},
        {"services": networkd, "rules": []},
        {"services": services("systemd-networkd", systemd=245), "rules": [rule]},
        {"services": services("NetworkManager"), "rules": [rule]},
        {
            "services": services("systemd-networkd", networkd_ManageForeignRoutingPolicyRules="no"),
            "rules": [rule],
        },
    ):
        assert found(three(**harmless), phase=Phase.AFTER) == []


def test_what_a_node_says_is_no_template() -> None:
    (risk,) = found(three(sockets=[socket(process="{who} {0} %s")]))
    assert risk.title == "On n2, UDP 6081 is held by {who} {0} %s; Cilium will want it."
