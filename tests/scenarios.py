"""Faults of a lab as data, checks of it, and what a check must say of every cell.

A fault is written for an ordered pair in the pair's own terms (its source, the router, its
destination), so that one row serves any pair, either family and either leg.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from netns import NetnsConnector, PipeSession

from preflight import inventory
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Inventory,
    Leg,
    Node,
    Outcome,
    Place,
    Probe,
    Protocol,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.crew.muster import Progress
from preflight.lab import Lab
from preflight.lab.topology import ROUTER, LabNode
from preflight.runs import check as run

PROBES = (GENEVE, HEALTH, ECHO)
ANSWERED = (HEALTH, ECHO)

# --- what a check says -------------------------------------------------------------------------


class Told(NamedTuple):
    """An outcome without its counts."""

    verdict: Verdict
    leg: Leg | None = None
    place: Place | None = None
    cause: Cause | None = None
    rejected_by: str | None = None


class Spot(NamedTuple):
    """One cell, by names."""

    source: str
    destination: str
    probe: str
    family: Family


OPEN = Told(Verdict.OPEN)
NOT_LISTENING = Told(Verdict.CLOSED, Leg.FORWARD, Place.DESTINATION, Cause.NOT_LISTENING)
NO_AGENT = Told(Verdict.UNKNOWN, cause=Cause.NO_AGENT)

Expected = Mapping[Spot, Told]


def blocked(leg: Leg, place: Place, cause: Cause, rejected_by: str | None = None) -> Told:
    """None got through."""
    return Told(Verdict.BLOCKED, leg, place, cause, rejected_by)


def lossy(leg: Leg, place: Place, cause: Cause, rejected_by: str | None = None) -> Told:
    """Some got through."""
    return Told(Verdict.LOSSY, leg, place, cause, rejected_by)


def told(snapshot: Snapshot) -> dict[Spot, tuple[Told, Outcome]]:
    """Every cell of a snapshot."""
    matrix = snapshot.matrix
    names = [node.name for node in matrix.nodes]
    out = {}
    for cell in matrix.cells():
        spot = Spot(
            names[cell.source],
            names[cell.destination],
            matrix.probes[cell.probe].name,
            cell.family,
        )
        o = cell.outcome
        out[spot] = Told(o.verdict, o.leg, o.place, o.cause, o.rejected_by), o
    return out


def assert_matrix(
    snapshot: Snapshot, expected: Expected, why: Mapping[Spot, str] | None = None
) -> None:
    """Each cell is as `expected`, and every other one is open."""
    cells = told(snapshot)
    matrix = snapshot.matrix
    assert len(cells) == sum(
        len(matrix.probes)
        for s in matrix.nodes
        for d in matrix.nodes
        for family in matrix.families
        if s is not d and s.address_in(family) and d.address_in(family)
    )
    assert expected.keys() <= cells.keys()
    wrong = [
        f"{spot.source} -> {spot.destination} {spot.probe} {spot.family}: "
        f"{(why or {}).get(spot, '')}\n"
        f"    expected {in_words(expected.get(spot, OPEN))}\n"
        f"    found    {in_words(found)}; {outcome.detail}; {outcome.evidence}"
        for spot, (found, outcome) in cells.items()
        if found != expected.get(spot, OPEN)
    ]
    assert not wrong, "\n".join(["", *wrong, *snapshot.notes])


def in_words(told: Told) -> str:
    """For a person who reads a failure."""
    return " ".join(str(word) for word in told if word is not None)


def spots(
    lab: Lab,
    sources: str = "",
    destinations: str = "",
    probes: Iterable[Probe] = PROBES,
    families: Iterable[Family] = tuple(Family),
) -> Iterator[Spot]:
    """The cells between nodes named in words; an empty word stands for all nodes."""
    everybody = " ".join(node.name for node in lab.nodes)
    for source in (sources or everybody).split():
        for destination in (destinations or everybody).split():
            if source != destination:
                for probe in probes:
                    for family in families:
                        yield Spot(source, destination, probe.name, family)


# --- having a lab checked ----------------------------------------------------------------------


class Silent:
    """A progress that tells nobody."""

    def phase(self, text: str, total: int) -> None:
        pass

    def advance(self, node: str) -> None:
        pass

    def waiting(self, nodes: list[str]) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Session(PipeSession):
    """One that gives its pipes back once its reader has heard the end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(process)
        self.ended = threading.Event()

    def ending(self) -> tuple[int | None, str]:
        try:
            return super().ending()
        finally:
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
            self.ended.set()


class Agents(NetnsConnector):
    """Agents of a lab's nodes."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab.popen)
        self.sessions: list[Session] = []

    def connect(self, node: Node) -> Session:
        session = Session(super().connect(node).process)
        self.sessions.append(session)
        return session


def check(
    lab: Lab,
    options: CheckOptions | None = None,
    among: Callable[[Inventory], Inventory] = lambda known: known,
    progress: Progress | None = None,
    agents: Agents | None = None,
) -> Snapshot:
    """The whole pipeline over a lab, but for SSH. `among` may change the lab's inventory."""
    known = among(inventory.load(lab.inventory_path))
    agents = agents or Agents(lab)
    try:
        told = progress or Silent()
        return run.check(known, options or CheckOptions(), lambda node: agents, told)
    finally:
        for session in agents.sessions:
            assert session.ended.wait(30)


def change(*names: str, **fields: Any) -> Callable[[Inventory], Inventory]:
    """For `check`: these nodes have other `fields` in the inventory."""

    def among(known: Inventory) -> Inventory:
        nodes = [replace(n, **fields) if n.name in names else n for n in known.nodes]
        return replace(known, nodes=tuple(nodes))

    return among


# --- packets in nftables' words ----------------------------------------------------------------


def address(node: LabNode, family: Family) -> str:
    """A node's address of one family."""
    return node.addresses[0 if family is Family.IPV4 else 1]


def gateway(node: LabNode, family: Family) -> str:
    """The router's address in a node's rack: the sender of the router's ICMP errors to it."""
    return str(node.gateways[0 if family is Family.IPV4 else 1].ip)


def ip_match(source: str, destination: str) -> str:
    """Packets from one address to another."""
    ip = "ip" if ip_address(source).version == 4 else "ip6"
    return f"{ip} saddr {source} {ip} daddr {destination}"


def probe_match(probe: Probe, family: Family, leg: Leg = Leg.FORWARD) -> str:
    """A probe's own packets, or the answers to it."""
    if probe.protocol is Protocol.ICMP:
        icmp = "icmp" if family is Family.IPV4 else "icmpv6"
        return f"{icmp} type {'echo-request' if leg is Leg.FORWARD else 'echo-reply'}"
    return f"{probe.protocol} {'dport' if leg is Leg.FORWARD else 'sport'} {probe.port}"


def match(
    source: LabNode, destination: LabNode, probe: Probe, family: Family, leg: Leg = Leg.FORWARD
) -> str:
    """One cell's packets on one leg."""
    ends = address(source, family), address(destination, family)
    if leg is Leg.REPLY:
        ends = ends[1], ends[0]
    return f"{ip_match(*ends)} {probe_match(probe, family, leg)}"


# A hook's name here, the family of its table, and where its chain hangs.
HOOKS: Mapping[str, tuple[str, str]] = {
    "output": ("inet", "type filter hook output priority filter"),
    "postrouting": ("inet", "type filter hook postrouting priority filter"),
    "egress": ("netdev", 'type filter hook egress device "eth0" priority filter'),
    "forward": ("inet", "type filter hook forward priority filter"),
    "prerouting": ("inet", "type filter hook prerouting priority raw"),
    "ingress": ("netdev", 'type filter hook ingress device "eth0" priority filter'),
    "input": ("inet", "type filter hook input priority filter"),
    "bridge forward": ("bridge", "type filter hook forward priority filter"),
    "bridge input": ("bridge", "type filter hook input priority filter"),
    "bridge output": ("bridge", "type filter hook output priority filter"),
    "arp input": ("arp", "type filter hook input priority filter"),
    "dnat": ("inet", "type nat hook prerouting priority dstnat"),
    "snat": ("inet", "type nat hook postrouting priority srcnat"),
}


class Rule(NamedTuple):
    """One rule of one namespace: `where` is a node's name, or the router's."""

    where: str
    hook: str
    text: str


def load(lab: Lab, rules: Iterable[Rule]) -> None:
    """Add the rules to the firewalls of the namespaces that they name."""
    chains: dict[str, dict[str, list[str]]] = {}
    for where, hook, text in rules:
        chains.setdefault(where, {}).setdefault(hook, []).append(text)
    for where, hooks in chains.items():
        tables = []
        for hook, texts in hooks.items():
            family, hangs = HOOKS[hook]
            name = f"at_{hook.replace(' ', '_')}"
            lines = "\n".join(f"        {text}" for text in texts)
            tables.append(
                f"table {family} {name} {{\n    chain {name} {{\n"
                f"        {hangs}; policy accept;\n{lines}\n    }}\n}}\n"
            )
        lab.nft(where, "".join(tables))


@contextmanager
def sysctl(lab: Lab, where: str, key: str, value: str) -> Iterator[None]:
    """A setting below /proc/sys in one namespace, put back afterwards."""
    path = Path("/proc/sys", key)
    former = lab.call(where, lambda: path.read_text("ascii"))
    lab.call(where, lambda: path.write_text(value, "ascii"))
    try:
        yield
    finally:
        lab.call(where, lambda: path.write_text(former, "ascii"))


@contextmanager
def ip_commands(lab: Lab, *commands: tuple[str, str, str]) -> Iterator[None]:
    """(where, a command of `ip`, the command that undoes it), in order and back."""
    done: list[tuple[str, str]] = []
    try:
        for where, command, undo in commands:
            lab.run(where, "ip", *command.split())
            done.append((where, undo))
        yield
    finally:
        for where, undo in reversed(done):
            if undo:
                lab.run(where, "ip", *undo.split())


# --- faults of one cell ------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A rule that meets one leg of a cell, and what must be said of that cell.

    `at` and `rejecter` are "source", "router", "switch" or "destination".
    """

    sentence: str
    at: str
    hook: str
    leg: Leg
    statement: str
    place: Place
    cause: Cause
    rejecter: str | None = None
    probes: Sequence[Probe] = PROBES

    def rule(self, source: LabNode, destination: LabNode, probe: Probe, family: Family) -> Rule:
        """The rule for one cell."""
        where = {"source": source.name, "destination": destination.name}.get(self.at, ROUTER)
        packets = match(source, destination, probe, family, self.leg)
        return Rule(where, self.hook, f"{packets} {self.statement}")

    def told(self, source: LabNode, destination: LabNode, family: Family) -> Told:
        """What must be said of that cell."""
        sender = self.rejecter and {
            "source": address(source, family),
            "router": gateway(source, family),
            "destination": address(destination, family),
        }.get(self.rejecter)
        return Told(Verdict.BLOCKED, self.leg, self.place, self.cause, sender)


class Placed(NamedTuple):
    """A fault at one cell of each family."""

    source: LabNode
    destination: LabNode
    probe: Probe
    fault: Fault


def place_faults(nodes: Sequence[LabNode], faults: Collection[Fault]) -> list[list[Placed]]:
    """Each fault once with each of its probes, in as few rounds as do not let them meet.

    In one round a pair has one fault, so that its other probes show that nothing else is touched;
    and nobody rejects twice to the same source, since Linux sends few ICMP errors to one peer.
    """
    rounds: list[list[Placed]] = []
    for fault in faults:
        for probe in fault.probes:
            placed = None
            for placed_already in rounds:
                placed = _fit(nodes, fault, probe, placed_already)
                if placed:
                    placed_already.append(placed)
                    break
            if placed is None:
                placed = _fit(nodes, fault, probe, [])
                assert placed is not None
                rounds.append([placed])
    return rounds


def _fit(
    nodes: Sequence[LabNode], fault: Fault, probe: Probe, round_: Sequence[Placed]
) -> Placed | None:
    taken = {(p.source.name, p.destination.name) for p in round_}
    rejects = {(p.fault.rejecter, p.source.name) for p in round_ if p.fault.rejecter == "router"}
    for source in nodes:
        for destination in nodes:
            one_rack = source.rack == destination.rack
            if (
                source is destination
                or (source.name, destination.name) in taken
                or (fault.at == "router" and one_rack)
                or (fault.at == "switch" and not one_rack)
                or (fault.rejecter, source.name) in rejects
            ):
                continue
            return Placed(source, destination, probe, fault)
    return None
