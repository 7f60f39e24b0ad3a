"""A diff as JSON, `preflight/diff/1`: what users script against. `diff --schema` describes it.

One line for each element of an array, and the text is made as it is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TextIO

from preflight import __version__
from preflight.core.diff.cells import CellChange
from preflight.core.diff.exitcode import exit_code
from preflight.core.diff.model import Change, Diff, FindingChange
from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.model import Node, Outcome, Probe
from preflight.core.snapshot import Snapshot
from preflight.report.findings_json import values

SCHEMA = "preflight/diff/1"
_LINES = 4096  # that are written together


def dump(diff: Diff, files: Sequence[str], *, cells: bool, file: TextIO) -> None:
    """Write all that changed; with `cells` each cell too that is not open in both."""
    file.writelines(_document(diff, files, cells=cells))


def _document(diff: Diff, files: Sequence[str], *, cells: bool) -> Iterator[str]:
    names = [pairing.node.name for pairing in diff.nodes]
    yield "{"
    yield from _members(
        schema=SCHEMA,
        preflight=__version__,
        before=_run(diff.before, files[0]),
        after=_run(diff.after, files[1]),
        exit_code={
            "normal": int(exit_code(diff, strict=False)),
            "strict": int(exit_code(diff, strict=True)),
        },
        families=list(diff.families),
        notes=list(diff.notes),
    )
    yield from _array("nodes", map(_node, diff.nodes))
    yield from _array("probes", map(_probe, diff.probes, diff.probe_names))
    yield from _array("counts", _counts(diff))
    yield from _array("findings", (_finding(change, diff) for change in diff.findings))
    yield from _array("changes", (_change(change, diff, names) for change in diff.changes))
    if cells:
        yield from _array("cells", (_cell(cell, diff, names) for cell in diff.cells()))
    yield from _array("mtu", _mtu(diff, names))
    yield from _array("rtt", _rtt(diff, names), last=True)
    yield "}\n"


def _run(snapshot: Snapshot, file: str) -> Mapping[str, object]:
    return {
        "file": file,
        "phase": snapshot.phase,
        "started": snapshot.started,
        "finished": snapshot.finished,
        "interrupted": snapshot.interrupted,
        "nodes": len(snapshot.matrix.nodes),
    }


def _node(pairing: NodePairing) -> Mapping[str, object]:
    changes = {
        "came": pairing.came,
        "went": pairing.went,
        "renamed": pairing.by_address,
        "moved": pairing.moved,
        "readdressed": pairing.readdressed and not (pairing.came or pairing.went),
        "relabelled": pairing.relabelled and not (pairing.came or pairing.went),
    }
    return {
        "name": pairing.node.name,
        "changes": [name for name, true in changes.items() if true],
        "before": None if pairing.former is None else _of_node(pairing.former),
        "after": None if pairing.went else _of_node(pairing.node),
    }


def _of_node(node: Node) -> Mapping[str, object]:
    return {
        "name": node.name,
        "addresses": list(node.addresses),
        "labels": dict(node.labels),
        "cluster": node.cluster,
    }


def _probe(pairing: ProbePairing, name: str) -> Mapping[str, object]:
    return {
        "name": name,
        "severity": pairing.severity,
        "before": None if pairing.former is None else _of_probe(pairing.former),
        "after": None if pairing.after is None else _of_probe(pairing.probe),
    }


def _of_probe(probe: Probe) -> Mapping[str, object]:
    return {
        "name": probe.name,
        "kind": probe.kind,
        "protocol": probe.protocol,
        "port": probe.port,
        "severity": probe.severity,
    }


def _counts(diff: Diff) -> Iterator[Mapping[str, object]]:
    for tally in diff.tallies:
        yield {
            **_test(tally.test, diff),
            "severity": tally.severity,
            "turns": dict(tally.turns),
            "verdicts": {
                name: {"before": before, "after": after}
                for name, (before, after) in tally.verdicts.items()
            },
        }


def _test(test: FamilyProbe, diff: Diff) -> Mapping[str, str]:
    return {"probe": diff.probe_names[test.probe], "family": test.family}


def _finding(change: FindingChange, diff: Diff) -> Mapping[str, Any]:
    after = None if change.after is None else values(diff.after, [change.after])[0]
    return {
        "course": change.course,
        "severity": change.severity,
        "cells": dict(change.cells),
        "differences": list(change.differences),
        "before": values(diff.before, change.before),
        "after": after,
    }


def _change(change: Change, diff: Diff, names: Sequence[str]) -> Mapping[str, object]:
    return {
        "turn": change.turn,
        "severity": change.severity,
        "where": change.where,
        "tests": [_test(test, diff) for test in change.tests],
        "before": _kind(change.before),
        "after": _kind(change.after),
        "pairs": change.pairs,
        "cells": change.cells,
        "both_ways": change.both_ways,
        "sources": [names[node] for node in change.sources],
        "destinations": [names[node] for node in change.destinations],
    }


def _kind(kind: Kind | None) -> Mapping[str, object] | None:
    return None if kind is None else kind._asdict()


def _cell(cell: CellChange, diff: Diff, names: Sequence[str]) -> Mapping[str, object]:
    return {
        "source": names[cell.source],
        "destination": names[cell.destination],
        "probe": diff.probe_names[cell.probe],
        "family": cell.family,
        "turn": cell.turn,
        "before": _outcome(cell.before, cell.rtt_before_ms),
        "after": _outcome(cell.after, cell.rtt_after_ms),
    }


def _outcome(outcome: Outcome | None, rtt_ms: float | None) -> Mapping[str, object] | None:
    if outcome is None:
        return None
    told: dict[str, object] = {
        "verdict": outcome.verdict,
        "leg": outcome.leg,
        "place": outcome.place,
        "cause": outcome.cause,
        "rejected_by": outcome.rejected_by,
        "rtt_ms": None if rtt_ms is None else round(rtt_ms, 3),
        "evidence": outcome.evidence._asdict(),
    }
    return told if outcome.detail is None else {**told, "detail": outcome.detail}


def _mtu(diff: Diff, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
    for move in diff.mtu:
        yield {
            "where": move.where,
            "before": move.before,
            "after": move.after,
            "sample": {"source": names[move.source], "destination": names[move.destination]},
        }


def _rtt(diff: Diff, names: Sequence[str]) -> Iterator[Mapping[str, object]]:
    for move in diff.rtt:
        yield {
            "family": move.family,
            "where": move.where,
            "slower": move.slower,
            "pairs": move.pairs,
            "before_ms": move.before_ms,
            "after_ms": move.after_ms,
            "both_ways": move.both_ways,
            "sources": [names[node] for node in move.sources],
            "destinations": [names[node] for node in move.destinations],
        }


def _members(**values_: object) -> Iterator[str]:
    for name, value in values_.items():
        yield f'"{name}": {json.dumps(value)},\n '


def _array(
    name: str, elements: Iterable[Mapping[str, object]], *, last: bool = False
) -> Iterator[str]:
    """An array with an element on each line."""
    yield f'"{name}": ['
    separator = "\n  "
    lines = map(json.dumps, elements)
    while some := ",\n  ".join(islice(lines, _LINES)):
        yield separator + some
        separator = ",\n  "
    yield "]" if last else "],\n "
