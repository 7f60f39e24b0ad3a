"""Rules drawn at random, of nodes and of the router: each bad cell is laid to the one that ends it.

The truth is what was put in, by the order in which a packet meets it; nothing of the product's own
judgement is used to know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from random import Random
from typing import NamedTuple

import pytest
from farlab import FarLab, far_lab
from faultbench import Fault, Row, examine, filled, fw, injected
from labs import PREFIX

from preflight.core.findings.build import explained
from preflight.core.findings.model import Cause, Finding
from preflight.core.model import Verdict
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab

_NFT = {"geneve": "udp dport 6081", "health": "tcp dport 4240", "echo": "icmp type echo-request"}
_XTABLES = {
    "geneve": "-p udp --dport 6081",
    "health": "-p tcp --dport 4240",
    "echo": "-p icmp --icmp-type 8",
}
_UNDO = "iptables -F; iptables-legacy -F; nft delete table ip filter || true"
_STAGES = ("output", "forward", "input")  # in the order in which a packet meets them


class Drawn(NamedTuple):
    """Rules with one comment, of one namespace: what of `probe` goes between these nodes dies."""

    name: str
    stage: str
    where: str
    probe: str
    sources: frozenset[str]
    destinations: frozenset[str]
    tool: str
    verb: str  # drop, reject


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(f"{PREFIX}-rnd", nodes=8, racks=3, ipv6=False) as up:
        yield up


@pytest.mark.parametrize("seed", range(6))
def test_each_cell_is_laid_to_what_ends_it(lab: Lab, seed: int) -> None:
    drawn = list(_draw(Random(seed), {node.name: node.rack for node in lab.nodes}))
    truth: dict[tuple[str, str, str], Drawn] = {}
    for one in sorted(drawn, key=lambda one: _STAGES.index(one.stage)):
        for source in one.sources:
            for destination in one.destinations - {source}:
                truth.setdefault((one.probe, source, destination), one)
    with injected(lab, list(_faults(lab, drawn))):
        snapshot = examine(lab, Row("", (), ()))
    told = "\n".join(map(str, [*drawn, *(f"{f.where}: {f.title}" for f in snapshot.findings)]))
    for cell in _cells(snapshot):
        expected = truth.pop(cell, None)
        findings = _findings(snapshot, cell)
        if expected is None:
            assert not findings, f"{cell}\n{told}"
            continue
        assert len(findings) == 1, f"{cell}\n{told}"
        assert _names(findings[0], expected), f"{cell} is {expected.name}'s\n{told}"
    assert len(snapshot.findings) <= len({one.name for one in drawn}), told


# --- two routers ---------------------------------------------------------------------------------

_ROUTERS = {"fw": ("$gw_a", "10.99.0.1"), "r2": ("$gw_b", "10.99.0.2")}
_TALKATIVE = tuple(Fault(where, "sysctl -qw net.ipv4.icmp_ratelimit=0") for where in _ROUTERS)


@pytest.fixture(scope="module")
def far() -> Iterator[FarLab]:
    with far_lab(f"{PREFIX}-r2") as up:
        yield up


@pytest.mark.parametrize("seed", range(5))
def test_each_cell_is_laid_to_its_own_router(far: FarLab, seed: int) -> None:
    """One of two routers drops, pair by pair and at random, what goes between the racks."""
    random = Random(seed)
    address = {node.name: node.addresses[0] for node in far.nodes}
    rack = {node.name: node.rack for node in far.nodes}
    truth: dict[tuple[str, str, str], str] = {}
    rules: dict[str, list[str]] = {}
    for probe in random.sample(list(_NFT), random.randint(1, 2)):
        for source, destination in permutations(address, 2):
            if rack[source] != rack[destination] and random.random() < 0.6:
                where = truth[probe, source, destination] = random.choice(list(_ROUTERS))
                ends = f"ip saddr {address[source]} ip daddr {address[destination]}"
                rules.setdefault(where, []).append(f"{ends} {_NFT[probe]} drop")
    with injected(far, [*_TALKATIVE, *(Fault(w, fw("forward", *own)) for w, own in rules.items())]):
        snapshot = examine(far, Row("", (), ()))
    told = "\n".join(f"{f.where}: {f.title}" for f in snapshot.findings)
    for cell in _cells(snapshot):
        findings, where = _findings(snapshot, cell), truth.get(cell)
        assert len(findings) == (where is not None), f"{cell}\n{told}"
        if where is not None:
            own = [f"after {filled(far, a)} " for a in _ROUTERS[where]]
            own += [f"and {filled(far, a)} " for a in _ROUTERS[where]]  # the other way
            known = "(hop " not in findings[0].title or any(a in findings[0].title for a in own)
            assert known, f"{cell} is {where}'s\n{told}"
    assert told.count("(hop ") > 0


# --- what is drawn, and what is found ------------------------------------------------------------


def _draw(random: Random, racks: dict[str, str]) -> Iterator[Drawn]:
    """Four to nine faults; no two of a node's chain are about the same packets."""
    names = list(racks)
    taken: dict[tuple[str, str, str], set[str]] = {}
    for number in range(random.randint(4, 9)):
        stage = random.choice(["input", "input", "output", "forward"])
        probe = random.choice(list(_NFT))
        if stage == "forward":
            ends = random.sample(sorted(set(racks.values())), 2)
            sides = [[name for name in names if racks[name] == rack] for rack in ends]
            sides[0] = sides[0][: random.randint(1, len(sides[0]))]
            verb = random.choice(["drop", "drop", "reject"])
            yield Drawn(f"f{number}", stage, "fw", probe, *map(frozenset, sides), "nft", verb)
            continue
        node = random.choice(names[:2])  # so that one node has several
        peers = [name for name in names if name != node]
        some = set(peers if random.random() < 0.4 else random.sample(peers, random.randint(1, 3)))
        some -= taken.setdefault((node, stage, probe), set())
        taken[node, stage, probe] |= some
        sides = [[node], sorted(some)] if stage == "output" else [sorted(some), [node]]
        tool = random.choice(["nft", "iptables", "iptables-legacy"])
        verb = "reject" if stage == "input" and random.random() < 0.3 else "drop"
        if some:
            yield Drawn(f"f{number}", stage, node, probe, *map(frozenset, sides), tool, verb)


def _faults(lab: Lab, drawn: list[Drawn]) -> Iterator[Fault]:
    address = {node.name: node.addresses[0] for node in lab.nodes}
    chains: dict[str, dict[str, list[str]]] = {}
    commands: dict[str, list[str]] = {}
    for one in drawn:
        ends = [",".join(sorted(address[n] for n in s)) for s in (one.sources, one.destinations)]
        if one.tool == "nft":
            match = f"ip saddr {{ {ends[0]} }} ip daddr {{ {ends[1]} }} {_NFT[one.probe]}"
            rules = chains.setdefault(one.where, {}).setdefault(one.stage, [])
            rules.append(f'{match} {one.verb} comment "{one.name}"')
        else:
            chain, target = one.stage.upper(), one.verb.upper()
            match = f"-s {ends[0]} -d {ends[1]} {_XTABLES[one.probe]} -m comment --comment"
            command = f"{one.tool} -A {chain} {match} {one.name} -j {target}"
            commands.setdefault(one.where, []).append(command)
    for where, hooks in chains.items():
        made = "\n".join(
            f"chain {hook} {{\ntype filter hook {hook} priority 0\n" + "\n".join(rules) + "\n}"
            for hook, rules in hooks.items()
        )
        yield Fault(where, f"table inet x {{\n{made}\n}}\n")
    for where, own in commands.items():
        yield Fault(where, "\n".join(own), _UNDO)


def _cells(snapshot: Snapshot) -> Iterator[tuple[str, str, str]]:
    nodes = snapshot.matrix.nodes
    for probe in snapshot.matrix.probes:
        for source in nodes:
            yield from ((probe.name, source.name, d.name) for d in nodes if d is not source)


def _findings(snapshot: Snapshot, cell: tuple[str, str, str]) -> list[Finding]:
    """Those that explain a cell; it has the verdict that goes with that."""
    matrix = snapshot.matrix
    names = [node.name for node in matrix.nodes]
    probe = [p.name for p in matrix.probes].index(cell[0])
    source, destination = (names.index(name) for name in cell[1:])
    found = [
        finding
        for finding in snapshot.findings
        if any(
            explained([finding._replace(blocks=(block,))], source, destination)
            for block in finding.blocks
            if probe in {test.probe for test in block.tests}
        )
    ]
    outcome = matrix.outcome(matrix.index(0, probe, source, destination))
    assert outcome is not None
    assert bool(found) is (outcome.verdict is not Verdict.OPEN), (cell, outcome)
    return found


def _names(finding: Finding, drawn: Drawn) -> bool:
    """Whether the finding says what of `drawn` it was."""
    if drawn.stage == "forward":
        return finding.cause is Cause.NETWORK
    rules = [hit.rule for hit in finding.diagnosis.hits] if finding.diagnosis else []
    return finding.cause is Cause.RULE and {rule.comment for rule in rules} == {drawn.name}
