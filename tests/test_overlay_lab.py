"""Real faults in a real overlay, and the one thing that a check may say of each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from helloserver import NOT_FOUND, cilium, says, serving
from overlaylab import OverlayLab, endpoint, host, overlay
from scenarios import NO_AGENT, Spot, Told, change, check, told

from preflight import inventory
from preflight.core.findings.model import Cause as Found
from preflight.core.findings.model import Finding
from preflight.core.model import (
    Cause,
    Connection,
    Family,
    Inventory,
    Phase,
    Place,
    Severity,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab

pytestmark = pytest.mark.lab

NAMES = ("n1", "n2", "n3", "n4")
LOST = Told(Verdict.BLOCKED, cause=Cause.DROPPED)
GONE = Told(Verdict.CLOSED, None, Place.DESTINATION, Cause.NOT_ANSWERING)
PROBES = ("overlay-echo", "overlay-health")
FORWARD = "table inet x {{ chain f {{ type filter hook forward priority 0;\n{}\n}}\n}}"
INPUT = "table inet x {{ chain i {{ type filter hook input priority 0;\n{}\n}}\n}}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here answers late: what is silent is silent."""
    monkeypatch.setattr("preflight.looks.requests._WAIT_S", 0.4)


@pytest.fixture(scope="module")
def over(lab4: Lab) -> Iterator[OverlayLab]:
    """An overlay between the lab's nodes; their own health servers answer too."""
    with overlay(lab4) as running, serving(lab4, dict.fromkeys(NAMES, cilium)):
        yield running


@pytest.fixture
def served(over: OverlayLab, lab4: Lab) -> Iterator[OverlayLab]:
    """All endpoints answer, until the test changes that; afterwards their firewalls are gone."""
    with over.serving():
        yield over
    for name in NAMES:
        over.drop_firewall(name)
        over.wires[name].spoils = False


def look(over: OverlayLab, **options: object) -> Snapshot:
    """Without the underlay's closer look, which is not what is tested."""
    planned = over.planned(inventory.load(over.lab.inventory_path))
    asked = {"diagnose": False, "timeout_s": 0.15, "probes": ("geneve", *PROBES), **options}
    return check(
        over.lab,
        CheckOptions(phase=Phase.AFTER, overlay=planned.overlay, **asked),  # type: ignore[arg-type]
        over.among,
    )


def bad(snapshot: Snapshot, probes: tuple[str, ...] = PROBES) -> dict[Spot, Told]:
    """The overlay's cells that are not open."""
    return {
        spot: found
        for spot, (found, _) in told(snapshot).items()
        if spot.probe in probes and found.verdict is not Verdict.OPEN
    }


def everybody(to: str, what: Told, *probes: str, **only: object) -> dict[Spot, Told]:
    """To one node from all others, over both families or `only` these."""
    families = only.get("families", tuple(Family))
    return {
        Spot(name, to, probe, family): what
        for name in NAMES
        if name != to
        for probe in probes
        for family in families  # type: ignore[attr-defined]
    }


def the(snapshot: Snapshot) -> Finding:
    (finding,) = [finding for finding in snapshot.findings if finding.kinds]
    return finding


def test_all_is_open_and_each_endpoint_is_asked_once_from_the_pod_network(
    over: OverlayLab,
) -> None:
    with over.serving() as servers:
        snapshot = look(over)
        asked = {name: list(server.asked) for name, server in servers.items()}
    assert not snapshot.findings
    assert bad(snapshot) == {}
    assert len([spot for spot in told(snapshot) if spot.probe in PROBES]) == 2 * 2 * 12
    for number, (name, requests) in enumerate(asked.items(), 1):
        others = [a for i in range(1, 5) if i != number for a in host(i)]
        assert sorted(who for who, _ in requests) == sorted(others)
        goal = [f"Host: {endpoint(number)[0]}:4240", f"Host: [{endpoint(number)[1]}]:4240"]
        for _, data in requests:
            assert data.decode().splitlines()[1] in goal, name


def test_a_firewall_on_the_tunnel_is_one_finding(served: OverlayLab, lab4: Lab) -> None:
    a, b = (lab4.node(n).addresses[0] for n in ("n1", "n3"))
    lab4.nft("fw", FORWARD.format(f"ip saddr {a} ip daddr {b} udp dport 6081 drop"))
    snapshot = look(served)
    assert bad(snapshot) == {
        Spot(*way, probe, family): LOST
        for way in (("n1", "n3"), ("n3", "n1"))
        for probe in PROBES
        for family in Family
    }
    found = the(snapshot)
    assert found.cause is Found.NETWORK
    assert [(r.sources, r.destinations, r.port) for r in found.requests] == [
        ((f"{a}/32",), (f"{b}/32",), 6081)
    ]
    assert {snapshot.matrix.probes[t.probe].name for t in found.tests} == {"geneve", *PROBES}


def test_wrong_checksums_kill_tcp_alone(served: OverlayLab) -> None:
    served.wires["n3"].spoils = True
    snapshot = look(served)
    assert bad(snapshot) == everybody("n3", LOST, "overlay-health")
    found = the(snapshot)
    assert (found.cause, found.severity) == (Found.CHECKSUM, Severity.REQUIRED)
    assert found.where == "all → n3"
    assert any("n3 threw" in text and "wrong checksum" in text for text in found.evidence)
    assert found.requests == ()


def test_tcp_that_is_filtered_is_not_laid_to_checksums(served: OverlayLab) -> None:
    own = ", ".join(host(3)[:1])
    served.nft("n3", INPUT.format(f"meta nfproto ipv4 tcp dport 4240 ip saddr != {own} drop"))
    snapshot = look(served)
    assert bad(snapshot) == everybody("n3", LOST, "overlay-health", families=(Family.IPV4,))
    found = the(snapshot)
    assert found.cause is Found.OVERLAY
    assert found.title.endswith("wrong checksums or a policy")
    assert "no TCP segment with a wrong one was counted" in found.unknown[0]


def test_icmp_that_is_filtered_in_the_overlay(served: OverlayLab) -> None:
    served.nft("n2", INPUT.format(f"ip saddr != {host(2)[0]} icmp type echo-request drop"))
    snapshot = look(served)
    assert bad(snapshot) == everybody("n2", LOST, "overlay-echo", families=(Family.IPV4,))
    found = the(snapshot)
    assert (found.cause, found.severity) == (Found.POLICY, Severity.RECOMMENDED)


def test_an_overlay_that_is_dead_behind_an_open_port_accuses_no_firewall(
    served: OverlayLab,
) -> None:
    served.nft("n2", INPUT.format(f"meta nfproto ipv4 ip saddr != {host(2)[0]} drop"))
    snapshot = look(served, diagnose=True)
    assert bad(snapshot) == everybody("n2", LOST, *PROBES, families=(Family.IPV4,))
    found = the(snapshot)
    assert found.cause is Found.OVERLAY
    assert found.title.startswith("all → n2: the tunnel's port is open both ways")
    assert found.requests == ()
    assert found.changes == ()


def test_a_refusal_is_told_with_who_sent_it(served: OverlayLab) -> None:
    served.nft(
        "n2", INPUT.format(f"meta nfproto ipv4 ip saddr != {host(2)[0]} icmp type echo-request "
                           "reject with icmp type admin-prohibited")
    )  # fmt: skip
    spots = bad(look(served))
    assert set(spots.values()) == {
        Told(Verdict.BLOCKED, cause=Cause.REJECTED, rejected_by=endpoint(2)[0])
    }


def test_large_packets_that_the_path_loses_are_one_finding(served: OverlayLab, lab4: Lab) -> None:
    lab4.nft("fw", FORWARD.format("udp dport 6081 meta length > 1400 drop"))
    snapshot = look(served, sources=("n1",), destinations=("n3",))
    small = Told(Verdict.LOSSY, cause=Cause.SIZE)
    assert bad(snapshot) == {Spot("n1", "n3", "overlay-echo", f): small for f in Family}
    found = the(snapshot)
    assert found.cause is Found.SIZE
    assert {snapshot.matrix.probes[t.probe].name for t in found.tests} == {"geneve", PROBES[0]}


def test_large_packets_that_the_overlay_alone_loses(served: OverlayLab) -> None:
    served.nft("n3", INPUT.format(f"ip saddr != {host(3)[0]} meta length > 1400 drop"))
    snapshot = look(served)
    small = Told(Verdict.LOSSY, cause=Cause.SIZE)
    assert bad(snapshot) == everybody("n3", small, PROBES[0], families=(Family.IPV4,))
    found = the(snapshot)
    assert (found.cause, found.where) == (Found.SIZE, "all → n3")
    assert any("full size is 1450 bytes" in text for text in found.evidence)
    assert found.requests == ()


def test_an_endpoint_that_is_gone(served: OverlayLab) -> None:
    argv = ("ip", "link", "set", "eth0", "down")
    served.inside("n4", lambda: subprocess.run(argv, check=True, timeout=20))
    try:
        snapshot = look(served)
    finally:
        served.restore("n4")
    assert bad(snapshot) == everybody("n4", GONE, *PROBES)
    found = the(snapshot)
    assert (found.cause, found.nodes) == (Found.ENDPOINT, (3,))


def test_another_server_at_the_endpoint(over: OverlayLab) -> None:
    with over.serving(n1=says(NOT_FOUND)):
        snapshot = look(over)
    assert bad(snapshot) == everybody("n1", GONE._replace(cause=Cause.NOT_CILIUM), "overlay-health")
    assert the(snapshot).cause is Found.NOT_CILIUM


def test_without_an_agent_there_nothing_is_blamed(served: OverlayLab, lab4: Lab) -> None:
    served.nft("n2", INPUT.format("drop"))

    def among(known: Inventory) -> Inventory:
        return change("n2", connection=Connection.NONE)(served.among(known))

    snapshot = check(lab4, CheckOptions(phase=Phase.AFTER, timeout_s=0.15, diagnose=False), among)
    spots = bad(snapshot)
    assert set(spots.values()) == {NO_AGENT}
    assert {s.source for s in spots} == set(NAMES)
    away = {s for s in spots if s.source != "n2"}
    assert {s.destination for s in away} == {"n2"}
    assert [f.cause for f in snapshot.findings if f.severity is Severity.REQUIRED] == [
        Found.NO_AGENT
    ]
