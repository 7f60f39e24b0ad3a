"""Cilium's own kind of tunnel device, and links that lose, delay, double and damage packets.

Only a kernel with GENEVE and netem has these: `scripts/test-kernel` runs one.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from faultbench import Fault, fw, injected
from scenarios import check

from preflight.core.diagnosis.conclusions import FlowPattern
from preflight.core.findings.model import Cause
from preflight.core.model import Family, Phase, Place, Verdict
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab
from preflight.lab.topology import ROUTER

pytestmark = pytest.mark.lab
DEVICE = "cilium_geneve"
RACK_B = "rack-b"  # the router's device towards n3 and n4


def loadable(module: str) -> bool:
    return subprocess.run(["modprobe", module], capture_output=True, check=False).returncode == 0


@pytest.fixture(autouse=True, scope="module")
def kernel() -> None:
    for module in ("geneve", "sch_netem", "nf_tables", "veth"):
        if not loadable(module):
            assert not os.environ.get("PREFLIGHT_TEST_KERNEL"), module
            pytest.skip(f"this kernel has no {module}: scripts/test-kernel runs one that has")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without KVM is some ten times slower."""
    monkeypatch.setattr("preflight.closer.allowance.LIMIT_S", 60.0)


def look(lab: Lab, phase: Phase = Phase.BEFORE, family: Family | None = Family.IPV4) -> Snapshot:
    return check(lab, CheckOptions(family=family, phase=phase))


def verdicts(snapshot: Snapshot, probe: str) -> dict[tuple[str, str], Verdict]:
    names = [node.name for node in snapshot.matrix.nodes]
    return {
        (names[cell.source], names[cell.destination]): cell.outcome.verdict
        for cell in snapshot.matrix.cells()
        if snapshot.matrix.probes[cell.probe].name == probe
    }


@contextmanager
def tunnels(lab: Lab, **more: str) -> Iterator[None]:
    """A GENEVE device on every node, as Cilium makes it; or one with `more` words of `ip link`."""
    where = {name: words.split() for name, words in more.items()}
    where = where or {node.name: ["external"] for node in lab.nodes}
    try:
        for node, words in where.items():
            lab.run(node, "ip", "link", "add", DEVICE, "type", "geneve", *words, "dstport", "6081")
            lab.run(node, "ip", "link", "set", DEVICE, "up")
        yield
    finally:
        for node in where:
            lab.run(node, "ip", "link", "del", DEVICE, check=False)


@contextmanager
def netem(lab: Lab, *words: str) -> Iterator[None]:
    """What the router sends to rack b goes through it."""
    lab.run(ROUTER, "tc", "qdisc", "add", "dev", RACK_B, "root", "netem", *words)
    try:
        yield
    finally:
        lab.run(ROUTER, "tc", "qdisc", "del", "dev", RACK_B, "root")


def datagrams() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def counter(lab: Lab, node: str, name: str) -> int:
    """`rx packets` and the like of its tunnel device."""
    told = json.loads(lab.run(node, "ip", "-s", "-j", "link", "show", DEVICE).stdout)
    way, what = name.split()
    return int(told[0]["stats64"][way][what])


@pytest.mark.parametrize("phase", Phase)
def test_a_real_tunnel_device_owns_the_port(lab4: Lab, phase: Phase) -> None:
    """The kernel throws the inert form away before its device counts it; raw sockets see it."""
    with tunnels(lab4):
        snapshot = look(lab4, phase, None)
        for node in lab4.nodes:
            assert counter(lab4, node.name, "rx packets") == 0
            assert counter(lab4, node.name, "rx errors") == 0
    assert set(verdicts(snapshot, "geneve").values()) == {Verdict.OPEN}
    assert any("inert form" in note for note in snapshot.notes)


def test_a_tunnel_in_use_loses_nothing_and_gets_nothing_of_ours(lab4: Lab) -> None:
    """A packet a hundredth of a second there and back while a check goes on."""
    a, b = lab4.nodes[0].addresses[0], lab4.nodes[2].addresses[0]
    with tunnels(lab4, n1=f"id 7 remote {b}", n3=f"id 7 remote {a}"):
        for number in (1, 3):
            lab4.run(f"n{number}", "ip", "addr", "add", f"10.99.0.{number}/24", "dev", DEVICE)
        ends = {
            number: lab4.call(
                f"n{number}", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            )
            for number in (1, 3)
        }
        for number, end in ends.items():
            end.bind((f"10.99.0.{number}", 7000))
            end.settimeout(5)
        ends[1].sendto(b"first", ("10.99.0.3", 7000))
        assert ends[3].recv(99) == b"first"
        before = counter(lab4, "n3", "rx packets")
        for i in range(200):
            ends[1].sendto(b"%d" % i, ("10.99.0.3", 7000))
        snapshot = look(lab4, Phase.AFTER)
        assert [int(ends[3].recv(99)) for _ in range(200)] == list(range(200))
        # ARP may ask once more; 36 cells of 20 packets each would be told from that.
        assert counter(lab4, "n3", "rx packets") - before < 210
        assert counter(lab4, "n3", "rx errors") == 0
        for end in ends.values():
            end.close()
    cells = verdicts(snapshot, "geneve")
    assert cells["n1", "n3"] is cells["n3", "n1"] is Verdict.OPEN
    assert cells["n1", "n2"] is Verdict.CLOSED


def test_a_rule_before_a_real_tunnel_is_named(lab4: Lab) -> None:
    fault = Fault("n3", fw("input", 'udp dport 6081 drop comment "corp baseline"'))
    with tunnels(lab4), injected(lab4, [fault]):
        snapshot = look(lab4, Phase.AFTER)
    [found] = [f for f in snapshot.findings if f.cause is Cause.RULE]
    assert found.nodes == (2,)
    assert "corp baseline" in "".join((found.title, *found.evidence))
    blocked = [o for o in snapshot.matrix.outcomes() if o.verdict is Verdict.BLOCKED]
    assert {outcome.place for outcome in blocked} == {Place.DESTINATION}


@pytest.mark.parametrize(
    "words", ["duplicate 50%", "delay 100ms 80ms 25%", "delay 20ms reorder 50% 50%"]
)
def test_what_loses_nothing_is_open(lab4: Lab, words: str) -> None:
    with netem(lab4, *words.split()):
        snapshot = look(lab4)
    assert {o.verdict for o in snapshot.matrix.outcomes()} == {Verdict.OPEN}
    assert list(snapshot.findings) == []
    assert snapshot.notes == []


def test_random_loss_is_called_that(lab4: Lab) -> None:
    """Of 40 packets all survive a loss of a fifth once in 7,500 times."""
    with netem(lab4, "loss", "20%"):
        snapshot = look(lab4)
    cells = verdicts(snapshot, "geneve")
    crossing = {pair for pair in cells if pair[0] in ("n1", "n2") and pair[1] in ("n3", "n4")}
    assert {pair for pair, verdict in cells.items() if verdict is Verdict.LOSSY} == crossing
    assert set(cells.values()) == {Verdict.OPEN, Verdict.LOSSY}
    for finding in snapshot.findings:
        flows = finding.diagnosis.flows
        assert flows is None or flows.pattern is FlowPattern.RANDOM


def test_damaged_packets_are_nobodys(lab4: Lab) -> None:
    """Where no checksum tells of it, a packet still names no other pair: nothing is translated."""
    with netem(lab4, "corrupt", "30%"):
        snapshot = look(lab4)
    assert not [note for note in snapshot.notes if "translates" in note]
    assert not [f for f in snapshot.findings if f.cause in (Cause.TRANSLATION, Cause.RULE)]
    cells = verdicts(snapshot, "geneve")
    assert Verdict.BLOCKED not in cells.values()
