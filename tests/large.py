"""Large snapshots made up: zones and racks, firewalls between them, nodes gone wrong, and noise."""

from __future__ import annotations

import random
from array import array
from math import nan

from samples import (
    ANSWERED,
    DELIVERED,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    UNREACHABLE,
)

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
    Node,
    Outcome,
    Phase,
    Verdict,
)
from preflight.core.snapshot import Snapshot

RACK = 40  # nodes
ZONES = "abc"


def large(nodes: int, *, noise: float = 0.0002, seed: int = 1, labels: bool = True) -> Snapshot:
    """`nodes` in racks of 40 and three zones, with what goes wrong at that size.

    The firewall between zones a and b drops GENEVE, one rack's switch drops all from zone c, two
    nodes' own firewalls drop, one node has no agent, and `noise` of all cells is lossy or not
    watched. Every answered cell has a time, and no two need be equal.
    """
    choose = random.Random(seed)
    made = [_node(i, nodes, labels=labels) for i in range(nodes)]
    matrix = Matrix(made, (GENEVE, HEALTH, ECHO), (Family.IPV4,))
    lossy = [LOSSY._replace(evidence=Evidence(40, 40, n, n)) for n in range(25, 39)]
    noisy = [*lossy, Outcome(Verdict.UNKNOWN, cause=Cause.NOT_WATCHED)]
    zone = [i * len(ZONES) // nodes for i in range(nodes)]
    rack = [i // RACK for i in range(nodes)]
    shut_in, shut_out, gone = nodes // 7, nodes // 3, nodes // 2
    by_zone = [bytearray(255 * (z == wanted) for z in zone) for wanted in range(len(ZONES))]
    quantiles = sorted(choose.lognormvariate(-1.5, 0.5) for _ in range(256))
    for probe, plain in enumerate((DELIVERED, ANSWERED, ANSWERED)):
        number = {o: matrix.number(o) for o in
                  (plain, DROPPED_ON_PATH, DROPPED_AT_SOURCE, DROPPED_AT_DESTINATION, NO_AGENT,
                   *noisy)}  # fmt: skip
        for source in range(nodes):
            row = bytearray([number[plain]]) * nodes
            if probe == 0 and zone[source] < 2:
                _where(row, by_zone[1 - zone[source]], number[DROPPED_ON_PATH])
            if zone[source] == 2 and rack[source] != 1:
                row[RACK : 2 * RACK] = bytes([number[DROPPED_ON_PATH]]) * len(row[RACK : 2 * RACK])
            if source == shut_out and probe < 2:
                row = bytearray([number[DROPPED_AT_SOURCE]]) * nodes
            if probe < 2 and row[shut_in] == number[plain]:
                row[shut_in] = number[DROPPED_AT_DESTINATION]
            for _ in range(_about(noise * nodes, choose)):
                at = choose.randrange(nodes)
                if row[at] == number[plain]:
                    row[at] = number[choose.choice(noisy)]
            row[gone] = number[NO_AGENT]
            if source == gone:
                row = bytearray([number[NO_AGENT]]) * nodes
            row[source] = 0
            took = None
            if probe:
                took = array("f", map(quantiles.__getitem__, choose.randbytes(nodes)))
                for at in _not(row, number[plain]):
                    took[at] = nan
            matrix.set_row(0, probe, source, row, took)
    ready = AgentInfo(AgentState.OK, None, "3.11.7", "6.1.0-18-amd64")
    return Snapshot(
        phase=Phase.BEFORE,
        started="2026-03-01T02:00:00Z",
        finished="2026-03-01T02:05:00Z",
        matrix=matrix,
        agents=[UNREACHABLE if i == gone else ready for i in range(nodes)],
        timings={"connect_s": 21.0, "probe_s": 240.0, "total_s": 300.0},
    )


def _node(i: int, nodes: int, *, labels: bool) -> Node:
    return Node(
        f"w{i + 1:04}",
        (f"10.{i // 16384}.{i % 16384 // 64}.{i % 64 + 1}",),
        host=f"w{i + 1:04}",
        labels={"rack": f"r{i // RACK + 1:03}", "zone": ZONES[i * len(ZONES) // nodes]}
        if labels
        else {},
    )


def _where(row: bytearray, mask: bytearray, number: int) -> None:
    row[:] = bytes(number if m else old for old, m in zip(row, mask, strict=True))


def _not(row: bytearray, number: int) -> list[int]:
    return [at for at, found in enumerate(row) if found != number]


def _about(expected: float, choose: random.Random) -> int:
    whole = int(expected)
    return whole + (choose.random() < expected - whole)
