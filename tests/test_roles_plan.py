"""Probes that only some nodes need: where they are planned, and that no other cell exists."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from found import finding
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import sample

from preflight import inventory
from preflight.agent.packets import udp_ports
from preflight.core.findings.model import Cause
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Between,
    Family,
    Inventory,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Term,
)
from preflight.core.notes import notes
from preflight.core.options import CheckOptions
from preflight.core.plan import waves
from preflight.core.scope import Scope, scope
from preflight.errors import FileError, UsageError
from preflight.inventory.native import render
from preflight.lab import Lab
from preflight.store import load as read
from preflight.store import save

SPECS = Path(__file__).parent / "fixtures" / "specs"
V4, V6 = Family.IPV4, Family.IPV6
CP, WORKER, ETCD = Term("role", "cp"), Term("role", "worker"), Term("role", "etcd")


def probe(name: str, source: tuple[Term, ...], destination: tuple[Term, ...], **more: Any) -> Probe:
    return Probe(
        name, ProbeKind.TCP, Protocol.TCP, more.pop("port", 9000), Severity.REQUIRED,
        Between(source, destination), **more,
    )  # fmt: skip


def nodes(roles: list[str | None]) -> tuple[Node, ...]:
    return tuple(
        Node(f"n{i}", (f"10.0.0.{i + 1}", f"fd00::{i + 1}"), "h", labels={"role": r} if r else {})
        for i, r in enumerate(roles)
    )


def planned(found: Scope) -> set[tuple[str, Family, int, int]]:
    cells = found.cells()
    assert len(cells) == len(found.probes) * len(found.families)
    return {
        (found.probes[c.probe].name, c.family, s, d)
        for c in cells
        for s, row in enumerate(c.pairs)
        for d in row
    }


ROLES = st.lists(st.sampled_from(["cp", "worker", "etcd", None]), min_size=2, max_size=6)
TERMS = st.lists(
    st.builds(Term, st.just("role"), st.sampled_from(["cp", "worker", "etcd"]), st.booleans()),
    max_size=2,
).map(tuple)
FAMILIES = st.sampled_from([(), (V4,), (V6,)])


@settings(deadline=None)
@given(ROLES, st.lists(st.tuples(TERMS, TERMS, FAMILIES), min_size=1, max_size=3))
def test_exactly_the_pairs_that_need_it(
    roles: list[str | None],
    wanted: list[tuple[tuple[Term, ...], tuple[Term, ...], tuple[Family, ...]]],
) -> None:
    known = nodes(roles)
    probes = [
        probe(f"p{i}", source, destination, families=families, port=9000 + i)
        for i, (source, destination, families) in enumerate(wanted)
    ]

    def holds(terms: tuple[Term, ...], role: str | None) -> bool:
        return not terms or any((role == t.value) == t.equal for t in terms)

    expected = {
        (p.name, family, s, d)
        for p, (source, destination, families) in zip(probes, wanted, strict=True)
        for family in families or Family
        for s, d in product(range(len(known)), repeat=2)
        if s != d and holds(source, roles[s]) and holds(destination, roles[d])
    }
    if not expected:
        with pytest.raises(UsageError, match="no pair of nodes needs"):
            scope(Inventory("x", known, tuple(probes)), CheckOptions())
        return
    found = scope(Inventory("x", known, tuple(probes)), CheckOptions())
    assert planned(found) == expected
    assert {p.name for p in found.probes} == {name for name, _, _, _ in expected}
    assert {p.name for p in found.idle} == {p.name for p in probes} - {n for n, _, _, _ in expected}
    assert set(found.involved()) == {n for _, _, *pair in expected for n in pair}
    per_wave = [
        (found.probes[c.probe].name, c.family, s, d)
        for wave in waves(found.cells(), len(known), 10)
        for c in wave
        for s, row in enumerate(c.pairs)
        for d in row
    ]
    assert sorted(per_wave) == sorted(expected)


def test_probes_for_all_stay_as_they_were() -> None:
    known = nodes(["cp", "cp", "worker"])
    own = probe("kubelet", (CP,), ())
    found = scope(Inventory("x", known, (GENEVE, HEALTH, ECHO, own)), CheckOptions())
    assert found.pairs == ([[1, 2], [0, 2], [0, 1]],) * 2
    assert found.fewer == {(3, 0): [[1, 2], [0, 2], []], (3, 1): [[1, 2], [0, 2], []]}
    alone = scope(Inventory("x", known, (own,)), CheckOptions(sources=("n2", "n0")))
    assert alone.pairs[0] == [[1, 2], [], []]


def test_what_nobody_needs_is_said() -> None:
    idle = probe("etcd-peer", (ETCD,), (ETCD,))
    found = scope(Inventory("x", nodes(["cp", "worker"]), (GENEVE, idle)), CheckOptions())
    (note,) = notes(found, [[]], {})
    assert note == (
        "etcd-peer was not tested: no pair of these nodes needs it (role=etcd → role=etcd)"
    )


def test_an_address_that_a_node_lacks_is_said_once() -> None:
    found = scope(Inventory("x", nodes(["cp", "worker"]), (GENEVE,)), CheckOptions())
    hellos = {0: {"absent": ["fd00::9"], "udp": ()}, 1: {"absent": ["fd00::99"], "udp": ()}}
    lacks = finding(Cause.ADDRESS, "n1 does not have its own address fd00::99")._replace(nodes=(1,))
    said = [note.split(",")[0] for note in notes(found, [[]], hellos)]
    assert said == [f"{n.name} does not have its address {a}" for n, a in zip(
        found.nodes, ("fd00::9", "fd00::99"), strict=True
    )]  # fmt: skip
    assert [n.split(",")[0] for n in notes(found, [[]], hellos, findings=[lacks])] == said[:1]
    other = lacks._replace(nodes=(0,)), lacks._replace(cause=Cause.NEIGHBOUR)
    assert len(notes(found, [[]], hellos, findings=other)) == 2


def test_few_pairs_leave_flows_to_the_others() -> None:
    """500 nodes of which 3 are control planes: their ports must not cost GENEVE its flows."""
    known = nodes(["cp"] * 3 + ["worker"] * 17)
    many = tuple(probe(f"p{i}", (CP,), (CP,), port=7000 + i) for i in range(10))
    without = scope(Inventory("x", known, (GENEVE,)), CheckOptions(max_flows=10_000))
    among = scope(Inventory("x", known, (GENEVE, *many)), CheckOptions(max_flows=10_000))
    assert without.ports - among.ports <= 1


# --- in the inventory ---

NODES = """
nodes:
- {name: cp, address: 10.0.0.1, labels: {role: control-plane}}
- {name: w, address: 10.0.0.2, labels: {role: worker}}
"""


def load(folder: Path, probes: str) -> Inventory:
    path = folder / "nodes.yaml"
    path.write_text(f"probes:\n- geneve\n- {probes}\n{NODES}", "utf-8")
    return inventory.load(path)


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("{source: role=worker, destination: role=control-plane}",
         "role=worker → role=control-plane"),
        ("{source: [role=worker, role=control-plane]}", "role=worker, role=control-plane → all"),
        ("{destination: role!=worker}", "all → role!=worker"),
        ("{destination: role!=etcd}", "all → role!=etcd"),
    ],
)  # fmt: skip
def test_between_in_an_inventory(tmp_path: Path, between: str, expected: str) -> None:
    loaded = load(tmp_path, f"{{name: x, protocol: tcp, port: 1, between: {between}}}")
    assert str(loaded.probes[1].between) == expected
    again = tmp_path / "again.yaml"
    again.write_text(render(loaded), "utf-8")
    assert inventory.load(again) == Inventory(str(again), loaded.nodes, loaded.probes)


def test_between_of_a_built_in_probe(tmp_path: Path) -> None:
    (_, echo) = load(tmp_path, "{name: echo, between: {source: role=worker}}").probes
    assert (echo.kind, str(echo.between)) == (ProbeKind.ECHO, "role=worker → all")


@pytest.mark.parametrize(
    ("between", "says"),
    [
        ("null", "probes[1].between: must be {source:"),
        ("{}", "probes[1].between: is empty; write {source:"),
        ("role=worker", "probes[1].between: must be {source:"),
        ("{sources: role=worker}", 'between.sources: unknown key; did you mean "source"?'),
        ("{source: worker}", 'between.source: "worker" is not a label and its value'),
        ("{source: =worker}", "is not a label and its value"),
        ("{source: []}", "between.source: is empty; write a label and its value"),
        ("{source: [role=worker, {a: b}]}", "between.source[1]: is a mapping"),
        ("{source: role=wroker}",
         "no node is labelled role=wroker; role is control-plane, worker"),
        ("{source: rank=a}", "no node is labelled rank=a; no node has a label rank"),
    ],
)  # fmt: skip
def test_a_wrong_between_is_told(tmp_path: Path, between: str, says: str) -> None:
    with pytest.raises(FileError) as caught:
        load(tmp_path, f"{{name: x, protocol: tcp, port: 1, between: {between}}}")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path / 'nodes.yaml'}:3: probes[1]")
    assert says in line


# --- in a snapshot ---


def test_who_needs_a_probe_is_saved_with_it(tmp_path: Path) -> None:
    own = (
        probe("etcd", (CP, ETCD), (Term("role", "x", equal=False),), purpose="etcd's clients"),
        Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED, families=(V6,),
              source_ports=(32768, 60999)),
        ECHO,
    )  # fmt: skip
    path = tmp_path / "snapshot.json"
    save(sample(3, probes=own), path)
    assert read(path).matrix.probes == own
    whole = json.loads(path.read_text("utf-8"))
    assert whole["probes"][0]["between"] == {
        "source": ["role=cp", "role=etcd"], "destination": ["role!=x"],
    }  # fmt: skip
    assert set(whole["probes"][2]) == {"name", "protocol", "port", "severity", "kind"}
    for key, wrong in (
        ("between", {"source": ["cp"], "destination": []}),
        ("between", {"source": [1], "destination": []}),
        ("between", []),
        ("families", ["ipx"]),
        ("source_ports", [5, 1]),
        ("source_ports", [1]),
        ("source_ports", ["a", 1]),
    ):
        broken = json.loads(path.read_text("utf-8"))
        broken["probes"][0][key] = wrong
        (tmp_path / "broken.json").write_text(json.dumps(broken), "utf-8")
        with pytest.raises(FileError, match=key):
            read(tmp_path / "broken.json")


# --- source ports within a range ---


@settings(deadline=None)
@given(
    st.binary(min_size=16, max_size=16),
    st.integers(1, 65535).flatmap(lambda low: st.tuples(st.just(low), st.integers(low, 65535))),
    st.integers(1, 20),
)
def test_source_ports_stay_within_their_range(
    key: bytes, within: tuple[int, int], count: int
) -> None:
    ports = udp_ports(key, 4, 0, (0, 1), count, within)
    assert len(ports) == count
    assert all(within[0] <= port <= within[1] for port in ports)
    if within[1] - within[0] >= 4 * count:
        assert len(set(ports)) == count
    assert ports == udp_ports(key, 4, 0, (0, 1), count, within)


# --- in a lab ---

# What a firewall team makes of "VXLAN from the sources that Linux uses, and no API server here".
RULES = """table inet test { chain input { type filter hook input priority 0;
tcp dport 6443 drop
udp dport 8472 udp sport != 32768-60999 drop
}
}"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(f"r{os.getpid()}"[:12], nodes=3, racks=1) as lab:
        yield lab


@pytest.fixture
def labelled(lab: Lab, tmp_path: Path) -> Path:
    """The lab's inventory: n1 is the control plane, the others are workers."""
    tree = yaml.safe_load(lab.inventory_path.read_text("utf-8"))
    for node, role in zip(tree["nodes"], ("control-plane", "worker", "worker"), strict=True):
        node["labels"] = {"role": role}
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "preflight", *map(str, arguments)],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.mark.lab
def test_ports_by_role_of_a_spec_in_a_lab(lab: Lab, labelled: Path, tmp_path: Path) -> None:
    spec = tmp_path / "cluster.yaml"
    text = (
        (SPECS / "helm-values.yaml").read_text("utf-8").replace("192.168.0.0/16", "198.18.0.0/15")
    )
    spec.write_text(text, "utf-8")
    lab.nft("n1", RULES)
    try:
        done = run(
            "check", "-i", labelled, "--cluster-spec", spec, "--profile", "eks-anywhere",
            "--family", "ipv4", "--format", "json", "--no-diagnose",
        )  # fmt: skip
    finally:
        lab.drop_firewall("n1")
    assert "Traceback" not in done.stderr
    snapshot = json.loads(done.stdout)
    assert done.returncode == 1
    by_probe: dict[str, dict[tuple[str, str], str]] = {}
    for r in snapshot["results"]:
        by_probe.setdefault(r["probe"], {})[r["source"], r["destination"]] = r["verdict"]
    to_n1 = {("n2", "n1"), ("n3", "n1")}
    from_n1 = {("n1", "n2"), ("n1", "n3")}
    assert by_probe["kube-apiserver"] == dict.fromkeys(to_n1, "blocked")
    assert by_probe["kubelet"] == dict.fromkeys(from_n1, "open")
    # VXLAN is asked for with the source ports that Linux gives it, so that the rule spares it.
    assert set(by_probe["vxlan"].values()) == {"open"}
    assert len(by_probe["vxlan"]) == 6
    assert by_probe["nodeport-30000"] == dict.fromkeys(
        from_n1 | {("n2", "n3"), ("n3", "n2")}, "open"
    )
    assert "etcd-peer" not in by_probe  # one control plane: no pair
    assert any(note.startswith("etcd-peer was not tested") for note in snapshot["notes"])
    titles = {f["title"]: f for f in snapshot["findings"]}
    trap = next(f for t, f in titles.items() if "helmValues without tunnelProtocol" in t)
    assert (trap["cause"], trap["severity"]) == ("configuration", "required")
    assert any(
        t.startswith("The pod range 198.18.0.0/15 holds the addresses of all") for t in titles
    )
    assert any("do not agree how many nodes" in t for t in titles)
    saved = tmp_path / "saved.json"
    saved.write_text(done.stdout, "utf-8")
    again = read(saved)
    assert [f.title for f in again.findings] == [f["title"] for f in snapshot["findings"]]
    assert [str(p.between) for p in again.matrix.probes][3:5] == [
        "all → role=control-plane", "role=control-plane → all",
    ]  # fmt: skip
