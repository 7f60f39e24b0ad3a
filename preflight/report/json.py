"""A snapshot as JSON: the contract that users script against, `preflight/snapshot/1`.

One line for each result, so that two files can be compared line by line. The text is made as it
is written: three quarters of a million results never exist at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TextIO

from preflight import __version__
from preflight.core.matrix import Matrix
from preflight.core.model import AgentInfo, Node, Outcome, Probe
from preflight.core.packing import FORM, number_outcomes, pack_cells, pack_times
from preflight.core.saved import SCHEMA
from preflight.core.snapshot import Snapshot

_LINES = 4096  # that are written together


def dump(snapshot: Snapshot, file: TextIO) -> None:
    """Write every planned cell as a result, and all that is known of the run."""
    file.writelines(document(snapshot, results(snapshot.matrix)))


def document(snapshot: Snapshot, lines: Iterable[str], more: Iterable[str] = ()) -> Iterator[str]:
    """The whole file in pieces: `lines` are its results, `more` goes before the timings."""
    matrix = snapshot.matrix
    yield "{"
    yield from _members(
        schema=SCHEMA,
        preflight=__version__,
        phase=snapshot.phase,
        started=snapshot.started,
        finished=snapshot.finished,
        interrupted=snapshot.interrupted,
        families=matrix.families,
    )
    nodes = map(_node, matrix.nodes, snapshot.agents)
    yield from _array("nodes", map(json.dumps, nodes))
    yield from _array("probes", map(json.dumps, map(_probe, matrix.probes)))
    yield from _array("results", lines)
    yield from more
    yield from _array("findings", _findings(snapshot))
    yield from _members(notes=list(snapshot.notes))
    yield f'"timings": {json.dumps(dict(snapshot.timings))}}}\n'


def results(matrix: Matrix, wanted: Callable[[Outcome], bool] | None = None) -> Iterator[str]:
    """A line for each planned cell, or for those whose outcome is wanted."""
    names = [json.dumps(node.name) for node in matrix.nodes]
    outcomes = {
        id(outcome): _outcome(outcome)
        for outcome in matrix.outcomes()
        if wanted is None or wanted(outcome)
    }
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            start = matrix.index(f, p, 0, 0)
            test = f'"probe": {json.dumps(probe.name)}, "family": "{family}", '
            ends = [f'"destination": {name}, {test}' for name in names]
            for source, row in enumerate(matrix.grid(f, p)):
                begin = f'{{"source": {names[source]}, '
                first = start + source * len(row)
                for destination, outcome in enumerate(row):
                    parts = outcomes.get(id(outcome))
                    if parts is None:
                        continue
                    rtt = matrix.rtt_ms(first + destination)
                    number = "null" if rtt is None else repr(round(rtt, 3))
                    yield f"{begin}{ends[destination]}{parts[0]}{number}{parts[1]}"


def packed(matrix: Matrix) -> Iterator[str]:
    """Every cell in little room, as one member for `document`."""
    outcomes = number_outcomes(matrix)
    yield f'"packed": {{"form": {FORM}, '
    yield from _array("outcomes", ("{" + "null".join(_outcome(o)) for o in outcomes))
    yield '"cells": "'
    yield from pack_cells(matrix, outcomes)
    yield '", "rtt": "'
    yield from pack_times(matrix)
    yield '"},\n '


def _findings(snapshot: Snapshot) -> Iterable[str]:
    if not snapshot.findings:
        return ()
    from preflight.report.findings_json import lines

    return lines(snapshot)


def _outcome(outcome: Outcome) -> tuple[str, str]:
    """What a result says around its round-trip time."""
    before = {
        "verdict": outcome.verdict,
        "leg": outcome.leg,
        "place": outcome.place,
        "cause": outcome.cause,
        "rejected_by": outcome.rejected_by,
    }
    after: dict[str, object] = {"evidence": outcome.evidence._asdict()}
    if outcome.detail is not None:
        after["detail"] = outcome.detail
    return f'{json.dumps(before)[1:-1]}, "rtt_ms": ', f", {json.dumps(after)[1:]}"


def _node(node: Node, agent: AgentInfo) -> Mapping[str, object]:
    """A node without its SSH settings."""
    about: dict[str, object] = {"state": agent.state}
    if agent.reason is not None:
        about["reason"] = agent.reason
    about |= {"python": agent.python, "kernel": agent.kernel}
    told: dict[str, object] = {
        "name": node.name,
        "address": node.address,
        "addresses": node.addresses,
        "labels": dict(node.labels),
    }
    if node.cluster is not None:
        told["cluster"] = node.cluster
    return {**told, "agent": about}


def _probe(probe: Probe) -> Mapping[str, object]:
    return {
        "name": probe.name,
        "protocol": probe.protocol,
        "port": probe.port,
        "severity": probe.severity,
        "kind": probe.kind,
    }


def _members(**values: object) -> Iterator[str]:
    for name, value in values.items():
        yield f'"{name}": {json.dumps(value)},\n '


def _array(name: str, lines: Iterable[str]) -> Iterator[str]:
    """An array with an element on each line."""
    yield f'"{name}": ['
    separator = "\n  "
    elements = iter(lines)
    while some := ",\n  ".join(islice(elements, _LINES)):
        yield separator + some
        separator = ",\n  "
    yield "],\n "
