"""A snapshot as JSON: the contract that users script against, `preflight/snapshot/1`.

One line for each result, so that two files can be compared line by line. The text is made as it
is written: three quarters of a million results never exist at once. The last member is a digest of
all the others, where there are not more results than `preflight` reads in this form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TextIO

from preflight import __version__
from preflight.core.digest import KEY, Seal, canonical, canonical_text
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
_SEALED = 2_000_000  # results with a digest: more are above 400 MB, which `store.load` refuses
_HOLES = ("destination", "rtt_ms", "source")  # what differs among results that are alike

Member = tuple[str, str]  # its name, its JSON


class Row(NamedTuple):
    """Some results: as they are written, and as they are hashed."""

    shown: str
    hashed: str


def dump(snapshot: Snapshot, file: TextIO, more: Iterable[Member] = ()) -> None:
    """Write every planned cell as a result, and all that is known of the run."""
    matrix = snapshot.matrix
    sealed = sum(matrix.outcomes().values()) <= _SEALED
    file.writelines(document(snapshot, results(matrix, sealed=sealed), more, sealed=sealed))


def dump_view(view: View, file: TextIO) -> None:
    """Write what is shown of a run: a whole snapshot, or one that says how much it leaves out."""
    cells, of = view.cells if view.words else (0, 0)
    dump(
        view.noted,
        file,
        _members(filter={"words": view.words, "cells": cells, "of": of}) if view.words else (),
    )


def document(
    snapshot: Snapshot, rows: Iterable[Row], more: Iterable[Member] = (), *, sealed: bool = True
) -> Iterator[str]:
    """The whole file in pieces: `rows` are its results, `more` goes before the findings."""
    head, tail = list(_head(snapshot)), [*more, *_tail(snapshot)]
    seal = Seal({name: canonical_text(text) for name, text in (*head, *tail)}) if sealed else None
    yield "{"
    yield from map(_line, head)
    yield '"results": ['
    separator = _BETWEEN[1:]
    for row in rows:
        if seal is not None:
            seal.add(row.hashed)
        yield separator
        yield row.shown
        separator = _BETWEEN
    yield "],\n "
    yield from map(_line, tail[:-1])
    name, text = tail[-1]
    end = "" if seal is None else f',\n "{KEY}": "{seal.done()}"'
    yield f'"{name}": {text}{end}}}\n'


def _line(member: Member) -> str:
    name, text = member
    return f'"{name}": {text},\n '


def _head(snapshot: Snapshot) -> Iterator[Member]:
    matrix = snapshot.matrix
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
    yield "nodes", _array(map(json.dumps, nodes))
    yield "probes", _array(map(json.dumps, map(_probe, matrix.probes)))


def _tail(snapshot: Snapshot) -> Iterator[Member]:
    yield "findings", _array(_findings(snapshot))
    yield from _members(notes=list(snapshot.notes))
    if snapshot.records:
        yield "records", _array(_record(r) for r in snapshot.records)
    if snapshot.merged is not None:
        yield from _members(merged=_merged(snapshot.merged))
    yield from _members(timings=dict(snapshot.timings))


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


def results(
    matrix: Matrix, wanted: Callable[[Outcome], bool] | None = None, *, sealed: bool = True
) -> Iterator[Row]:
    """A line for each planned cell, or for those whose outcome is wanted; a row's together.

    Those that no digest is made of have no text for it: it doubles the work.
    """
    names = [json.dumps(node.name) for node in matrix.nodes]
    table = [
        outcome if outcome is not None and (wanted is None or wanted(outcome)) else None
        for outcome in matrix.table
    ]
    parts = [None if outcome is None else _outcome(outcome) for outcome in table]
    number = Milliseconds("null", bare=True)
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            test = f'"probe": {json.dumps(probe.name)}, "family": "{family}", '
            ends = [f'"destination": {name}, {test}' for name in names]
            hashed = [None if o is None else _hashed(o, family, probe.name) for o in table]
            for source, name in enumerate(names):
                begin = f'{{"source": {name}, '
                row, times = matrix.numbers(f, p, source), matrix.times(f, p, source)
                told = ["null"] * len(names) if times is None else [number[t] for t in times]
                lines = [
                    f"{begin}{end}{part[0]}{time}{part[1]}"
                    for end, cell, time in zip(ends, row, told, strict=True)
                    if (part := parts[cell])
                ]
                if lines:
                    again = (
                        f"{form[0]}{end}{form[1]}{time}{form[2]}{name}{form[3]}"
                        for end, cell, time in zip(names, row, told, strict=True)
                        if (form := hashed[cell])
                    )
                    yield Row(_BETWEEN.join(lines), ",".join(again) if sealed else "")


def packed(matrix: Matrix) -> Iterator[Member]:
    """Every cell in little room, as one member for `document`."""
    outcomes = number_outcomes(matrix)
    table = _array("{" + "null".join(_outcome(o)) for o in outcomes)
    cells, times = "".join(pack_cells(matrix, outcomes)), "".join(pack_times(matrix))
    whole = f'"form": {FORM}, "outcomes": {table},\n "cells": "{cells}", "rtt": "{times}"'
    yield "packed", f"{{{whole}}}"


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


def _hashed(outcome: Outcome, family: str, probe: str) -> tuple[str, str, str, str]:
    """A result as it is hashed, around its destination, its round-trip time and its source."""
    values = json.loads("{" + "null".join(_outcome(outcome))) | {"family": family, "probe": probe}
    texts = {key: canonical(value) for key, value in values.items()}
    around, between = [""], "{"
    for key in sorted({*texts, *_HOLES}):
        around[-1] += f'{between}"{key}":'
        between = ","
        if key in _HOLES:
            around.append("")
        else:
            around[-1] += texts[key]
    before, after_destination, after_time, after_source = around
    return before, after_destination, after_time, after_source + "}"


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


def _members(**values: object) -> Iterator[Member]:
    for name, value in values.items():
        yield name, json.dumps(value)


def _array(lines: Iterable[str]) -> str:
    """An array with an element on each line."""
    elements = _BETWEEN.join(lines)
    return f"[{_BETWEEN[1:]}{elements}]" if elements else "[]"
