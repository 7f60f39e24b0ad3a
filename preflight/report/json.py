"""A snapshot as JSON: the contract that users script against, `preflight/snapshot/1`.

One line for each result, so that two files can be compared line by line. The text is made as it
is written: three quarters of a million results never exist at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TextIO

from preflight import __version__
from preflight.core.matrix import Matrix
from preflight.core.meeting import Record
from preflight.core.merge.model import Merged
from preflight.core.model import AgentInfo, Node, Outcome, Probe
from preflight.core.packing import FORM, number_outcomes, pack_cells, pack_times
from preflight.core.saved import SCHEMA
from preflight.core.snapshot import Snapshot
from preflight.core.view import View
from preflight.report.milliseconds import Milliseconds

_BETWEEN = ",\n  "  # elements of an array


def dump(snapshot: Snapshot, file: TextIO, more: Iterable[str] = ()) -> None:
    """Write every planned cell as a result, and all that is known of the run."""
    file.writelines(document(snapshot, results(snapshot.matrix), more))


def dump_view(view: View, file: TextIO) -> None:
    """Write what is shown of a run: a whole snapshot, or one that says how much it leaves out."""
    cells, of = view.cells if view.words else (0, 0)
    dump(
        view.noted,
        file,
        _members(filter={"words": view.words, "cells": cells, "of": of}) if view.words else (),
    )


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
    if snapshot.records:
        yield from _array("records", (_record(r) for r in snapshot.records))
    if snapshot.merged is not None:
        yield from _members(merged=_merged(snapshot.merged))
    yield f'"timings": {json.dumps(dict(snapshot.timings))}}}\n'


def _record(record: Record) -> str:
    parts = [part._asdict() for part in record.parts]
    return json.dumps({**record._asdict(), "parts": parts})


def _merged(merged: Merged) -> Mapping[str, object]:
    return {
        "files": [origin._asdict() for origin in merged.origins],
        "conflicts": [
            {**conflict._asdict(), "claims": [claim._asdict() for claim in conflict.claims]}
            for conflict in merged.conflicts
        ],
    }


def results(matrix: Matrix, wanted: Callable[[Outcome], bool] | None = None) -> Iterator[str]:
    """A line for each planned cell, or for those whose outcome is wanted; a row's together."""
    names = [json.dumps(node.name) for node in matrix.nodes]
    parts = [
        _outcome(outcome) if outcome is not None and (wanted is None or wanted(outcome)) else None
        for outcome in matrix.table
    ]
    untimed = ["" if part is None else "null".join(part) for part in parts]
    number = Milliseconds("null")
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            test = f'"probe": {json.dumps(probe.name)}, "family": "{family}", '
            ends = [f'"destination": {name}, {test}' for name in names]
            for source, name in enumerate(names):
                begin = f'{{"source": {name}, '
                row, times = matrix.numbers(f, p, source), matrix.times(f, p, source)
                if times is None:
                    lines = [
                        f"{begin}{end}{text}"
                        for end, cell in zip(ends, row, strict=True)
                        if (text := untimed[cell])
                    ]
                else:
                    lines = [
                        f"{begin}{end}{part[0]}{number[time]}{part[1]}"
                        for end, cell, time in zip(ends, row, times, strict=True)
                        if (part := parts[cell])
                    ]
                if lines:
                    yield _BETWEEN.join(lines)


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
    if outcome.hello is not None:
        after["hello"] = outcome.hello._asdict()
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
    told: dict[str, object] = {
        "name": probe.name,
        "protocol": probe.protocol,
        "port": probe.port,
        "severity": probe.severity,
        "kind": probe.kind,
    }
    if probe.between is not None:
        sides = {"source": probe.between.source, "destination": probe.between.destination}
        told["between"] = {side: list(map(str, terms)) for side, terms in sides.items()}
    if probe.families:
        told["families"] = probe.families
    if probe.source_ports is not None:
        told["source_ports"] = probe.source_ports
    if probe.purpose:
        told["purpose"] = probe.purpose
    return told


def _members(**values: object) -> Iterator[str]:
    for name, value in values.items():
        yield f'"{name}": {json.dumps(value)},\n '


def _array(name: str, lines: Iterable[str]) -> Iterator[str]:
    """An array with an element on each line."""
    yield f'"{name}": ['
    separator = _BETWEEN[1:]
    for line in lines:
        yield separator
        yield line
        separator = _BETWEEN
    yield "],\n "
