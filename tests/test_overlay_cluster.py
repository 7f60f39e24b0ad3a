"""The overlay by way of the cluster's own objects, and of every form that shows it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from inprocess import Done, Run
from kubeapi import scene
from kubeapi.raw import Raw, Server
from samples import ANSWERED, DELIVERED
from test_import_cluster import config, grant, node
from test_overlay import NODES, NOTHING, OVERLAY_ECHO, OVERLAY_HEALTH, PROBES, known, planned

from preflight.core.findings.build import findings
from preflight.core.groups import groups
from preflight.core.matrix import Matrix
from preflight.core.model import (
    AgentInfo,
    AgentState,
    Came,
    Evidence,
    Family,
    Hello,
    Inventory,
    Outcome,
    Phase,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.scope import scope
from preflight.core.snapshot import Snapshot
from preflight.report.dryrun import render
from preflight.store import load, save


def cilium_node(name: str, address: str, **health: str) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name},
        "spec": {"addresses": [{"type": "InternalIP", "ip": address}], "health": health},
    }


@pytest.fixture
def cluster(kube: Server, raw: Raw, cli: Run) -> Run:
    """Two nodes with Cilium."""
    scene.define(raw)
    for number in (1, 2):
        raw.make("/api/v1/nodes", node(f"w{number}", f"10.0.0.{number}"))

    def with_kubeconfig(*arguments: object, user: str = "admin") -> Done:
        return cli(*(kube.kubeconfig(user) if a == "KUBECONFIG" else a for a in arguments))

    return with_kubeconfig


PLAN = ("check", "--kubeconfig", "KUBECONFIG", "--phase", "after", "--dry-run")


def test_the_plan_names_the_endpoints(cluster: Run, raw: Raw) -> None:
    config(raw, routing_mode="tunnel", tunnel_protocol="geneve")
    for number in (1, 2):
        told = cilium_node(f"w{number}", f"10.0.0.{number}", ipv4=f"10.66.{number}.2")
        raw.make(scene.CILIUM_NODES, told)
    done = cluster(*PLAN)
    assert done.returncode == 0
    assert "6 echo requests and 2 GET /hello to health endpoints, 4 flows inside" in done.stdout
    assert "w1 10.0.0.1 -> w2 10.66.2.2  icmp echo" in done.stdout
    assert "w2 10.0.0.2 -> w1 10.66.1.2  tcp/4240" in done.stdout
    before = cluster(*PLAN[:3], "--dry-run")
    assert "overlay" not in before.stdout


def test_without_the_right_the_underlay_goes_on(cluster: Run, raw: Raw) -> None:
    config(raw, routing_mode="tunnel", tunnel_protocol="geneve")
    grant(raw, "viewer", "nodes", "configmaps")
    done = cluster(*PLAN, user="viewer")
    assert done.returncode == 0
    assert "geneve" in done.stdout
    assert "overlay-echo" not in done.stdout
    (note,) = [line for line in done.stdout.splitlines() if "the overlay is not tested" in line]
    assert "ciliumnodes" in note


def test_turned_off_is_told(cluster: Run, raw: Raw) -> None:
    config(raw, tunnel_protocol="geneve", enable_endpoint_health_checking="false")
    done = cluster(*PLAN)
    assert "the overlay is not tested:" in done.stdout
    assert "enable-endpoint-health-checking: false" in done.stdout


# --- what shows it


def snapshot() -> Snapshot:
    """Four nodes; nothing reaches n2's endpoint."""
    made = Matrix(NODES, PROBES, (Family.IPV4,))
    echo = Outcome(Verdict.OPEN, evidence=Evidence(3, received=3))
    hello = Outcome(Verdict.OPEN, evidence=Evidence(1, received=1), hello=Hello(Came.CILIUM, 200))
    fine = {OVERLAY_ECHO.name: echo, OVERLAY_HEALTH.name: hello, "geneve": DELIVERED}
    for p, probe in enumerate(PROBES):
        for s in range(4):
            for d in range(4):
                dead = probe.overlay and d == 1
                if s != d:
                    outcome = NOTHING if dead else fine.get(probe.name, ANSWERED)
                    made.set(made.index(0, p, s, d), outcome, None if dead else 1.5)
    agents = [AgentInfo(AgentState.OK) for _ in NODES]
    found = findings(made, groups(made))
    moment = "2026-11-22T15:00:00.000Z"
    return Snapshot(Phase.AFTER, moment, moment, made, agents, {}, findings=found)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "after.json"
    save(snapshot(), path)
    return path


def test_a_saved_snapshot_is_the_same_again(saved: Path) -> None:
    was, now = snapshot(), load(saved)
    assert now.matrix.probes == was.matrix.probes
    assert list(now.matrix.cells()) == list(was.matrix.cells())
    assert now.findings == tuple(was.findings)


def test_explain_tells_the_way_of_the_overlay(saved: Path, cli: Run) -> None:
    done = cli("explain", saved, "n1", "n2")
    assert done.returncode == 1
    part = done.stdout.split("overlay-echo: ICMP echo in the overlay over IPv4")[1]
    assert "in the overlay, where nobody can watch" in part
    assert "Its tunnel, UDP 6081 over IPv4, is open there and open back." in part
    assert "See F1 below." in part


def test_every_form_shows_it(saved: Path, cli: Run) -> None:
    table = cli("show", saved).stdout
    assert "overlay-health" in table
    assert "the tunnel's port is open both ways" in table
    rows = list(csv.DictReader(StringIO(cli("show", saved, "--format", "csv").stdout)))
    assert {r["probe"] for r in rows} >= {"overlay-echo", "overlay-health"}
    told = json.loads(cli("show", saved, "--format", "json").stdout)
    assert {p["kind"] for p in told["probes"]} >= {"overlay-echo", "overlay-health"}
    assert [f["cause"] for f in told["findings"]] == ["overlay"]
    for form in ("junit", "markdown", "html"):
        assert "overlay-health" in cli("show", saved, "--format", form).stdout, form
    assert "overlay" in cli("diff", saved, saved).stdout + "overlay"


def test_no_rule_is_asked_for(saved: Path, cli: Run) -> None:
    assert "6081" not in cli("rules", saved).stdout


def test_the_plan_of_many_nodes_says_how_many_waves() -> None:
    nodes = tuple(
        replace(NODES[0], name=f"w{i}", addresses=(f"10.1.{i // 250}.{i % 250 + 1}",))
        for i in range(120)
    )
    objects = tuple(
        replace(o, name=f"w{i}", internal=(), health=(f"10.66.{i // 250}.{i % 250 + 1}",))
        for i, o in enumerate(known("n1") * 120)
    )
    told = planned(objects, nodes)
    extent = scope(Inventory("x", told.nodes, told.probes), CheckOptions(phase=Phase.AFTER))
    file = StringIO()
    render(extent, CheckOptions(phase=Phase.AFTER, max_flows=5000), file)
    text = file.getvalue()
    assert "42,840 echo requests and 14,280 GET /hello to health endpoints, 28,560 flows" in text
    assert "in 6 waves, 30 s apart" in text
