"""A connectivity check's findings, read together with a reachability matrix."""

from found import HAZARD, HOST_RULE, with_findings
from samples import DROPPED_AT_DESTINATION, LOSSY, NO_AGENT, Fault, sample
from test_connectivity_rules import OVERLAY, drop, judged

from preflight.core.connectivity import workloads as w
from preflight.core.connectivity.joined import Joiner
from preflight.core.connectivity.picture import Finding, Settings
from preflight.core.connectivity.together import together
from preflight.core.model import ECHO, GENEVE, Phase, Probe, ProbeKind, Protocol, Severity
from preflight.core.snapshot import Snapshot

# The cluster's names are not the inventory's: nodes are told by their addresses.
ADDRESSES = {"near": ("10.0.0.2",), "far": ("10.0.0.3",)}
GENEVE_CLUSTER = Settings(tunnel="geneve", tunnel_port=6081)


def tunnel(
    snapshot: Snapshot,
    cluster: Settings = GENEVE_CLUSTER,
    red: tuple[str, ...] = OVERLAY,
    addresses: dict[str, tuple[str, ...]] = ADDRESSES,
) -> Finding:
    """The finding about the overlay from far (n3) to near (n2)."""
    (finding,) = together(judged(drop(*red)), cluster)
    return Joiner(snapshot, "before.json", addresses, cluster).joined(finding)


def test_the_rule_is_named() -> None:
    faults = [Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve")]
    told = tunnel(with_findings(sample(4, faults=faults), HOST_RULE))
    bad, good = told.matrix
    assert bad.startswith("UDP 6081 n3 → n2 (before Cilium, 2026-03-01T02:00:00Z): blocked inside")
    assert "F1 n2 itself drops UDP 6081: nftables rule" in bad
    assert good.endswith("n2 → n3 (before Cilium, 2026-03-01T02:00:00Z): open")
    assert told.commands == ("preflight explain before.json n3 n2",)


def test_the_way_back_is_looked_at_too() -> None:
    told = tunnel(sample(4, faults=[Fault(LOSSY, "n2", "n3", "geneve")]))
    assert any("n2 → n3" in line and "lossy on the path" in line for line in told.matrix)
    assert told.commands == ("preflight explain before.json n2 n3",)


def test_an_open_matrix_leaves_what_raw_probes_do_not_meet() -> None:
    told = tunnel(with_findings(sample(4), HAZARD._replace(nodes=(1,))))
    assert "open both ways between far and near" in told.matrix[0]
    assert "checksum offload" in told.matrix[1]
    assert told.matrix[2] == f"F1 of before.json: {HAZARD.title}"
    assert told.commands == ()
    other = tunnel(with_findings(sample(4), HAZARD._replace(nodes=(0,))))
    assert len(other.matrix) == 2


def test_probes_inside_the_overlay_tell_offload_from_policy() -> None:
    inside = (
        GENEVE,
        Probe("overlay-echo", ProbeKind.ECHO, Protocol.ICMP, None, Severity.REQUIRED),
        Probe("overlay-health", ProbeKind.TCP, Protocol.TCP, 4240, Severity.REQUIRED),
    )
    gone = Fault(DROPPED_AT_DESTINATION, "n3", "n2", "overlay-health")
    after = sample(4, probes=inside, phase=Phase.AFTER, faults=[gone])
    assert any("ICMP passes and TCP does not" in line for line in tunnel(after).matrix)
    well = sample(4, probes=inside, phase=Phase.AFTER)
    assert any("health endpoints reach each other" in line for line in tunnel(well).matrix)


def test_what_the_matrix_does_not_know_is_said() -> None:
    assert "not known" in tunnel(sample(4, faults=[Fault(NO_AGENT, "n3", "n2")])).matrix[0]
    assert "not tested" in tunnel(sample(4, faults=[Fault(None, "n3", "n2")])).matrix[0]
    assert tunnel(sample(4), addresses={"near": ("10.0.0.2",), "far": ()}).matrix == (
        "before.json does not have far",
    )
    named = {"near": (), "n3": ()}
    assert tunnel(sample(4), addresses=named).matrix == ("before.json does not have far and near",)


def test_a_matrix_of_another_tunnel_proves_nothing() -> None:
    vxlan = Settings(tunnel="vxlan", tunnel_port=8472)
    assert tunnel(sample(4), vxlan).matrix == (
        "before.json has no probe of this cluster's tunnel (UDP 8472): it proves nothing here",
    )
    other = Settings(tunnel="geneve", tunnel_port=6082)
    assert "UDP 6082" in tunnel(sample(4), other).matrix[0]
    native = Settings(tunnel="disabled")
    assert "natively" in tunnel(sample(4), native).matrix[0]


def test_a_node_port_is_compared_with_a_probe_of_it() -> None:
    port = Probe("np", ProbeKind.TCP, Protocol.TCP, w.NODE_PORT, Severity.REQUIRED)
    gone = Fault(DROPPED_AT_DESTINATION, "n3", "n2", "np")
    snapshot = sample(4, probes=(GENEVE, ECHO, port), faults=[gone])
    (line,) = tunnel(snapshot, red=(w.MULTI_NODEPORT,)).matrix
    assert line.startswith("TCP 31414 n3 → n2")
    assert tunnel(sample(4), red=(w.MULTI_NODEPORT,)).matrix == ()


def test_a_matrix_that_is_out_of_date_is_doubted() -> None:
    faults = [Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve")]
    joiner = Joiner(sample(4, faults=faults), "before.json", ADDRESSES, GENEVE_CLUSTER)
    (doubt,) = joiner.doubts([("far", "near"), ("far", "near")])
    assert "n3 → n2" in doubt
    assert "out of date" in doubt
    assert list(joiner.doubts([("near", "elsewhere")])) == []
