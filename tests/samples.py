"""Snapshots made to order.

`sample(12, racks=2, faults=[Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health")])`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentInfo,
    AgentState,
    Cause,
    Evidence,
    Family,
    Leg,
    Node,
    Outcome,
    Phase,
    Place,
    Probe,
    Verdict,
)
from preflight.core.snapshot import Snapshot

DELIVERED = Outcome(Verdict.OPEN, evidence=Evidence(sent=20, left=20, arrived=20, accepted=20))
ANSWERED = Outcome(Verdict.OPEN, evidence=Evidence(3, 3, 3, 3, 3, 3, 3))


def blocked(
    place: Place | None,
    leg: Leg = Leg.FORWARD,
    cause: Cause = Cause.DROPPED,
    rejected_by: str | None = None,
    evidence: Evidence | None = None,
) -> Outcome:
    """A blocked cell, with evidence that would prove it."""
    seen = {
        (Leg.FORWARD, Place.SOURCE): Evidence(0, 0, 0, 0),
        (Leg.FORWARD, Place.PATH): Evidence(20, 20, 0, 0),
        (Leg.FORWARD, Place.DESTINATION): Evidence(20, 20, 20, 0),
        (Leg.REPLY, Place.DESTINATION): Evidence(3, 3, 3, 3, 0, 0, 0),
        (Leg.REPLY, Place.PATH): Evidence(3, 3, 3, 3, 3, 0, 0),
        (Leg.REPLY, Place.SOURCE): Evidence(3, 3, 3, 3, 3, 3, 0),
    }
    proof = evidence or (seen[leg, place] if place else Evidence(sent=3, received=0))
    return Outcome(Verdict.BLOCKED, leg, place, cause, rejected_by, proof)


DROPPED_AT_SOURCE = blocked(Place.SOURCE)
DROPPED_ON_PATH = blocked(Place.PATH)
DROPPED_AT_DESTINATION = blocked(Place.DESTINATION)
ANSWER_DROPPED_ON_PATH = blocked(Place.PATH, Leg.REPLY)
NOT_LISTENING = Outcome(
    Verdict.CLOSED, Leg.FORWARD, Place.DESTINATION, Cause.NOT_LISTENING, None, ANSWERED.evidence
)
LOSSY = Outcome(
    Verdict.LOSSY, Leg.FORWARD, Place.PATH, Cause.DROPPED, None, Evidence(40, 40, 29, 29)
)
NO_AGENT = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT)
UNREACHABLE = AgentInfo(
    AgentState.UNREACHABLE,
    "connect to 10.0.0.7 port 22: timed out after 5 s: is it up, is SSH open?",
)


@dataclass(frozen=True)
class Fault:
    """Sets cells. Nodes are chosen by `*`, a name, names with commas, or `label=value`."""

    outcome: Outcome | None  # None takes them out of the plan
    sources: str = "*"
    destinations: str = "*"
    probes: str = "*"
    family: Family | None = None


def sample(
    nodes: int | Sequence[str] = 4,
    racks: int = 1,
    faults: Sequence[Fault] = (),
    *,
    families: Sequence[Family] = (Family.IPV4,),
    probes: Sequence[Probe] = (GENEVE, HEALTH, ECHO),
    phase: Phase = Phase.BEFORE,
    agents: Mapping[str, AgentInfo] | None = None,
    notes: Sequence[str] = (),
    interrupted: bool = False,
) -> Snapshot:
    """A snapshot where everything is open but for `faults`, applied in their order.

    Nodes are called n1, n2, … and stand in racks a, b, … of equal size (label `rack`). Nodes
    named in `agents` are as it says; all others have an agent.
    """
    names = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else list(nodes)
    made = [
        Node(
            name,
            tuple(
                f"10.0.{i // 250}.{i % 250 + 1}" if family is Family.IPV4 else f"fd00::{i + 1:x}"
                for family in families
            ),
            host=name,
            labels={"rack": chr(ord("a") + i * racks // len(names))},
        )
        for i, name in enumerate(names)
    ]
    matrix = Matrix(made, probes, families)
    everywhere = range(len(made))
    for f in range(len(families)):
        for p, probe in enumerate(probes):
            for s in everywhere:
                for d in everywhere:
                    if s != d:
                        rtt = None if probe.one_way else 0.1 + (s * 31 + d * 17) % 100 / 250
                        outcome = DELIVERED if probe.one_way else ANSWERED
                        matrix.set(matrix.index(f, p, s, d), outcome, rtt)
    for fault in faults:
        _apply(matrix, fault)
    ready = AgentInfo(AgentState.OK, None, "3.11.7", "6.1.0-18-amd64")
    return Snapshot(
        phase=phase,
        started="2026-03-01T02:00:00Z",
        finished="2026-03-01T02:00:02Z",
        matrix=matrix,
        agents=[(agents or {}).get(name, ready) for name in names],
        timings={"connect_s": 0.41, "probe_s": 0.12, "total_s": 0.71},
        notes=tuple(notes),
        interrupted=interrupted,
    )


def _apply(matrix: Matrix, fault: Fault) -> None:
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            if fault.family not in (None, family):
                continue
            if fault.probes != "*" and probe.name not in fault.probes.split(","):
                continue
            for s in _chosen(matrix.nodes, fault.sources):
                for d in _chosen(matrix.nodes, fault.destinations):
                    if s != d:
                        matrix.set(matrix.index(f, p, s, d), fault.outcome)


def _chosen(nodes: Sequence[Node], which: str) -> list[int]:
    label, _, value = which.partition("=")
    return [
        i
        for i, node in enumerate(nodes)
        if which == "*"
        or node.name in which.split(",")
        or (value and node.labels.get(label) == value)
    ]
