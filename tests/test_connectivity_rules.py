"""What pods' states mean, one by one and together: by enumeration, and against an oracle."""

import random
from collections.abc import Iterator
from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.connectivity import workloads as w
from preflight.core.connectivity.picture import Finding, Settings, settings_of
from preflight.core.connectivity.pods import Judgement, Status
from preflight.core.connectivity.symptoms import PROBED, Symptom
from preflight.core.connectivity.together import together
from preflight.core.model import Severity

CLIENTS = [x for x in w.WORKLOADS if not x.serves]
OVERLAY = (w.POD_CLUSTERIP, w.POD_HEADLESS, w.HOST_CLUSTERIP, w.HOST_HEADLESS)
NEAR, FAR = "near", "far"  # echo-b's node, and the other


def judged(
    red: dict[str, Symptom] | None = None,
    unknown: set[str] | None = None,
    nodes: dict[str, str] | None = None,
) -> list[Judgement]:
    """All 16; those away from echo-b are on `far`, all others on `near` unless `nodes` says so."""
    out = []
    for one in w.WORKLOADS:
        symptom = (red or {}).get(one.name)
        away = one.placement is w.Placement.AWAY_FROM_ECHO_B
        node = (nodes or {}).get(one.name, FAR if away else NEAR)
        server = (nodes or {}).get(one.servers[0], NEAR) if one.servers else None
        status = Status.FAILED if symptom else Status.READY
        if one.name in (unknown or ()):
            status, symptom = Status.UNKNOWN, Symptom.IMAGE
        out.append(
            Judgement(
                workload=one.name, kind="Deployment", status=status, symptom=symptom,
                ready=int(status is Status.READY), wanted=1, restarts=0, pods=(), nodes=(node,),
                server=server, evidence=(), meaning=one.alone, advice=one.advice,
                severity=one.severity,
            )
        )  # fmt: skip
    return out


def found(
    red: dict[str, Symptom], cluster: Settings | None = None, **more: object
) -> dict[str, Finding]:
    """The findings by cause; there is never a second of one cause in these."""
    findings = together(judged(red, **more), cluster)  # type: ignore[arg-type]
    assert len({f.key for f in findings}) == len(findings)
    return {f.key: f for f in findings}


def drop(*names: str) -> dict[str, Symptom]:
    return dict.fromkeys(names, Symptom.TIMEOUT)


def names_of(finding: Finding) -> set[str]:
    return set(finding.workloads)


def test_nothing_wrong_finds_nothing() -> None:
    assert together(judged()) == ()


def test_the_overlay_alone() -> None:
    only = found(drop(*OVERLAY))
    assert set(only) == {"tunnel"}
    assert names_of(only["tunnel"]) == set(OVERLAY)
    assert only["tunnel"].pairs == ((FAR, NEAR),)
    assert "UDP 6081 (GENEVE)" in only["tunnel"].advice
    vxlan = found(drop(*OVERLAY), Settings(tunnel="vxlan", tunnel_port=8472))["tunnel"]
    assert "UDP 8472 (VXLAN)" in vxlan.advice
    native = found(drop(*OVERLAY), Settings(tunnel="disabled"))["tunnel"]
    assert "6081" not in native.advice


def test_the_overlay_and_the_ports_below_it() -> None:
    both = found(drop(*OVERLAY, w.MULTI_NODEPORT, w.MULTI_HOSTPORT))
    assert set(both) == {"between-nodes"}
    # The hostPort is red on its own node too: chaining; the NodePort shows that the path is there.
    chained = found(
        drop(*OVERLAY) | dict.fromkeys((w.MULTI_HOSTPORT, w.INTRA_HOSTPORT), Symptom.REFUSED)
    )
    assert set(chained) == {"tunnel", "host-port-chaining"}


def test_the_overlay_where_nothing_else_was_asked_of_that_pair() -> None:
    only = found(drop(*OVERLAY), unknown={w.MULTI_NODEPORT, w.MULTI_HOSTPORT})
    assert set(only) == {"overlay"}


def test_some_come_through_the_overlay() -> None:
    assert set(found(drop(w.POD_CLUSTERIP, w.HOST_CLUSTERIP))) == {"service"}
    assert set(found(drop(w.HOST_CLUSTERIP))) == {"host-service"}
    assert set(found(drop(w.HOST_CLUSTERIP, w.HOST_HEADLESS))) == {"host-to-pod"}
    assert set(found(drop(w.POD_CLUSTERIP, w.POD_HEADLESS))) == {"pod-to-pod"}
    assert set(found(drop(w.POD_HEADLESS))) == {"mixed"}


def test_another_pair_of_nodes_is_another_finding() -> None:
    nodes = {w.POD_HEADLESS: "third", w.HOST_HEADLESS: "third", w.MULTI_NODEPORT: "third"}
    only = found(drop(w.POD_HEADLESS, w.HOST_HEADLESS), nodes=nodes)
    assert set(only) == {"tunnel"}
    assert only["tunnel"].pairs == (("third", NEAR),)


def test_all_that_asks_echo_b_is_lost_and_another_flow_passes() -> None:
    """echo-a landed beside echo-b, and its clients beside theirs."""
    nodes = {w.POD_TO_A: FAR, w.ALLOWED: FAR}
    only = found(drop(*OVERLAY), nodes=nodes)
    assert set(only) == {"tunnel"}
    assert any("pod-to-a and pod-to-a-allowed-cnp came" in t for t in only["tunnel"].evidence)


def test_clients_on_different_nodes_that_lose_alike_are_one_finding() -> None:
    nodes = {w.POD_CLUSTERIP: "third", w.HOST_HEADLESS: "fourth"}
    only = found(drop(*OVERLAY), nodes=nodes)
    assert set(only) == {"tunnel"}
    assert set(only["tunnel"].pairs) == {(FAR, NEAR), ("third", NEAR), ("fourth", NEAR)}
    assert "no port of the node was asked for from third and fourth" in only["tunnel"].evidence[0]


def test_a_policys_own_client_on_another_node_blames_no_tunnel() -> None:
    only = found(drop(w.ALLOWED), nodes={w.ALLOWED: FAR, w.POD_TO_A: NEAR})
    assert set(only) == {"policy-allowed"}


def test_a_client_of_a_service_on_another_node() -> None:
    nodes = {w.POD_TO_A: "third", w.ALLOWED: "third"}
    only = found(drop(w.POD_TO_A, w.ALLOWED), nodes=nodes)
    assert set(only) == {"overlay-or-service"}
    same = found(drop(w.POD_TO_A, w.ALLOWED), nodes={w.POD_TO_A: FAR, w.ALLOWED: FAR})
    assert set(same) == {"one-server"}


def test_refusals_are_no_sign_of_a_tunnel() -> None:
    only = found(dict.fromkeys(OVERLAY, Symptom.REFUSED))
    assert set(only) == {"refused"}
    assert set(found(dict.fromkeys(OVERLAY, Symptom.STALLED))) == {"mtu"}


def test_ports_of_nodes() -> None:
    assert set(found(drop(w.MULTI_NODEPORT, w.INTRA_NODEPORT))) == {"node-port"}
    assert set(found(drop(w.MULTI_NODEPORT))) == {"ports-between-nodes"}
    assert set(found(drop(w.MULTI_NODEPORT, w.MULTI_HOSTPORT))) == {"ports-between-nodes"}
    assert set(found(drop(w.MULTI_HOSTPORT, w.INTRA_HOSTPORT))) == {"host-port-chaining"}
    assert set(found(drop(w.INTRA_HOSTPORT))) == {"alone"}
    everything = drop(w.MULTI_NODEPORT, w.INTRA_NODEPORT, w.MULTI_HOSTPORT, w.INTRA_HOSTPORT)
    assert set(found(everything)) == {"node-port"}


def test_chaining_that_is_on_is_not_said_to_be_off() -> None:
    red = drop(w.MULTI_HOSTPORT, w.INTRA_HOSTPORT)
    off = found(red, Settings(chaining="none"))["host-port-chaining"]
    on = found(red, Settings(chaining="portmap"))["host-port-chaining"]
    assert "cni-chaining-mode is none" in off.meaning
    assert "cni-chaining-mode is portmap, and still" in on.meaning
    assert "chainingMode" not in on.advice


def test_the_internet_is_only_recommended() -> None:
    only = found(drop(w.EXTERNAL, w.FQDN))
    assert set(only) == {"internet"}
    assert only["internet"].severity is Severity.RECOMMENDED
    one = found(drop(w.FQDN))
    assert one["alone"].severity is Severity.RECOMMENDED
    names = found({w.EXTERNAL: Symptom.TIMEOUT, w.FQDN: Symptom.RESOLVE})
    assert set(names) == {"internet"}


def test_policy_that_is_not_enforced() -> None:
    only = found({w.DENIED: Symptom.GOT_THROUGH}, Settings(enable_policy="never"))
    assert "enable-policy: never" in only["policy-not-enforced"].meaning
    assert "never" not in found({w.DENIED: Symptom.GOT_THROUGH})["policy-not-enforced"].meaning


def test_default_deny() -> None:
    red = drop(*(x.name for x in CLIENTS if x.name != w.DENIED))
    only = found(red, Settings(enable_policy="always"))
    assert set(only) == {"default-deny"}
    assert set(found(red)) == {"everything"}
    assert "could not be read" in found(red)["everything"].meaning
    known = found(red, Settings(enable_policy="default"))["everything"]
    assert "could not be read" not in known.meaning


def test_dns() -> None:
    inside = [x.name for x in CLIENTS if x.name not in (w.DENIED, w.EXTERNAL, w.FQDN)]
    red = dict.fromkeys(inside, Symptom.RESOLVE)
    assert set(found(red)) == {"dns"}
    assert set(found(red, Settings(dns_nodes=()))) == {"dns-down"}
    far = dict.fromkeys((n for n in inside if "multi" in n), Symptom.RESOLVE)
    behind = found(far, Settings(dns_nodes=(NEAR,)))
    assert set(behind) == {"dns-tunnel"}
    assert behind["dns-tunnel"].pairs == ((FAR, NEAR),)
    assert set(found(far, Settings(dns_nodes=(NEAR, FAR)))) == {"dns"}
    hosts = dict.fromkeys((w.HOST_HEADLESS, w.HOST_CLUSTERIP), Symptom.RESOLVE)
    assert "nodes' own network" in found(hosts)["dns"].title


def test_one_node() -> None:
    nodes = {w.POD_TO_A: FAR, w.ALLOWED: FAR, w.ECHO_A: "third"}
    red = drop(w.POD_TO_A, w.ALLOWED, *OVERLAY, w.MULTI_NODEPORT, w.MULTI_HOSTPORT)
    only = found(red, nodes=nodes)
    assert set(only) == {"node"}
    assert only["node"].nodes == (FAR,)


def test_nobody_reaches_one_server() -> None:
    red = drop(*OVERLAY, w.MULTI_NODEPORT, w.INTRA_NODEPORT, w.MULTI_HOSTPORT, w.INTRA_HOSTPORT)
    only = found(red, nodes={w.ECHO_A: FAR, w.POD_TO_A: FAR, w.ALLOWED: FAR})
    assert set(only) == {"server-node"}
    assert only["server-node"].nodes == (NEAR,)


def test_a_pod_without_a_network() -> None:
    red = drop(w.POD_TO_A) | {w.EXTERNAL: Symptom.SANDBOX}
    only = found(red)
    assert names_of(only["pod-network"]) == {w.EXTERNAL}


def test_nothing_passes_is_not_said_where_something_did() -> None:
    """echo-a is reached from the same node."""
    away = {w.POD_TO_A: FAR} | {x.name: FAR if x.placement is w.Placement.AWAY_FROM_ECHO_B else NEAR
                                for x in w.WORKLOADS if x.name != w.POD_TO_A}  # fmt: skip
    ports = (w.MULTI_NODEPORT, w.MULTI_HOSTPORT)
    findings = found(drop(*OVERLAY, *ports), nodes=away)
    assert set(findings) == {"one-server", "ports-between-nodes"}
    assert names_of(findings["one-server"]) == set(OVERLAY)
    told = found(drop(*OVERLAY), unknown=set(ports), nodes=away)["overlay"]
    assert any("pod-to-a came through" in text for text in told.evidence)


def test_unknown_workloads_are_told_one_by_one() -> None:
    one = judged()[0]._replace(
        workload="mine", status=Status.FAILED, symptom=Symptom.TIMEOUT, meaning="m"
    )
    (finding,) = together([one])
    assert (finding.key, finding.workloads, finding.meaning) == ("alone", ("mine",), "m")


RED = [Symptom.TIMEOUT, Symptom.REFUSED, Symptom.RESOLVE, Symptom.STALLED, Symptom.PROBE]


def explained_once(findings: tuple[Finding, ...], all_: list[Judgement]) -> None:
    """The rules of `together.py`."""
    told = [name for finding in findings for name in finding.workloads]
    assert sorted(told) == sorted(one.workload for one in all_ if one.red)
    by_name = {one.workload: one for one in all_}
    for finding in findings:
        assert finding.title
        assert finding.meaning
        required = any(by_name[n].severity is Severity.REQUIRED for n in finding.workloads)
        assert (finding.severity is Severity.REQUIRED) == required
        if finding.key in ("tunnel", "overlay", "mtu", "between-nodes", "overlay-or-service"):
            for pair in finding.pairs:
                for one in all_:
                    over = w.KNOWN[one.workload].way is w.Way.POD and one.workload != w.DENIED
                    came = over and one.green and one.server and (one.nodes[0], one.server) == pair
                    if came and finding.key in ("tunnel", "overlay", "mtu"):  # then it is told
                        assert one.workload in (w.POD_TO_A, w.ALLOWED)
                        assert not any(by_name[n].green for n in OVERLAY)
                        assert any("came through" in text for text in finding.evidence)
                        continue
                    assert not came, "accused although something came through"


def combinations() -> Iterator[dict[str, Symptom]]:
    """Every combination of red and green clients, all dropped alike."""
    clients = [x.name for x in CLIENTS]
    for bits in product((False, True), repeat=len(clients)):
        red = {name: Symptom.TIMEOUT for name, bad in zip(clients, bits, strict=True) if bad}
        if w.DENIED in red:
            red[w.DENIED] = Symptom.GOT_THROUGH
        yield red


def test_every_combination_is_explained_once() -> None:
    """And what the tunnel is accused of agrees with an oracle written from the pods' names."""
    seen = set()
    for red in islice(combinations(), 0, None, 3):  # a third of 8,192 is as telling: 1 s
        all_ = judged(red)
        findings = together(all_)
        explained_once(findings, all_)
        keys = {f.key for f in findings}
        seen |= keys
        across = [name in red for name in OVERLAY]
        inside = [n in red for n in (w.POD_TO_A, w.ALLOWED, w.INTRA_NODEPORT, w.INTRA_HOSTPORT)]
        if all(across) and w.MULTI_NODEPORT not in red and not all(inside):
            assert "tunnel" in keys
        if not all(across):
            assert not keys & {"tunnel", "between-nodes", "overlay"}
        assert ("internet" in keys) <= ({w.EXTERNAL, w.FQDN} <= set(red))
    assert {"tunnel", "between-nodes", "service", "pod-to-pod", "host-to-pod", "internet"} <= seen


PLACES = st.sampled_from(["a", "b", "c"])


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(PLACES, min_size=16, max_size=16))
def test_any_picture_is_explained_once(rng: random.Random, places: list[str]) -> None:
    nodes = dict(zip([x.name for x in w.WORKLOADS], places, strict=True))
    red: dict[str, Symptom] = {}
    unknown = set()
    for one in CLIENTS:
        roll = rng.random()
        if roll < 0.4:
            red[one.name] = rng.choice([*RED, Symptom.SANDBOX, Symptom.UNSTEADY])
        elif roll < 0.5:
            unknown.add(one.name)
    cluster = Settings(
        enable_policy=rng.choice([None, "always", "never", "default"]),
        dns_nodes=rng.choice([None, (), ("a",), ("b", "c")]),
    )
    all_ = judged(red, unknown, nodes)
    explained_once(together(all_, cluster), all_)


@pytest.mark.parametrize("symptom", sorted(PROBED))
def test_every_symptom_alone_has_a_finding(symptom: Symptom) -> None:
    for one in CLIENTS:
        (finding,) = together(judged({one.name: symptom}))
        assert finding.workloads == (one.name,)


def test_settings_come_from_ciliums_configuration() -> None:
    told = settings_of({
        "routing-mode": "tunnel", "tunnel-protocol": "geneve", "enable-policy": "Always",
        "cni-chaining-mode": "portmap",
    })  # fmt: skip
    assert (told.tunnel, told.tunnel_port) == ("geneve", 6081)
    assert (told.enable_policy, told.chaining) == ("always", "portmap")
    assert settings_of({"routing-mode": "native"}).tunnel == "disabled"
    assert settings_of({"tunnel-protocol": "nonsense"}).tunnel is None
