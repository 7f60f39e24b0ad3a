"""A connectivity check as JSON: `preflight/connectivity/1`. New keys may be added; these stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TextIO

from preflight import __version__
from preflight.core.connectivity.picture import Finding
from preflight.core.connectivity.pods import Judgement
from preflight.core.connectivity.result import Result
from preflight.core.connectivity.workloads import KNOWN

SCHEMA = "preflight/connectivity/1"


def dump(result: Result, file: TextIO, *, strict: bool = False) -> None:
    """Write everything; what is not known is null."""
    document = {
        "schema": SCHEMA,
        "preflight": __version__,
        "cluster": {
            "name": result.cluster,
            "server": result.server,
            "version": result.version,
            **result.settings._asdict(),
        },
        "namespace": result.namespace,
        "run": result.run,
        "started": result.started,
        "finished": result.finished,
        "ending": result.ending,
        "passed": result.exit_code(strict=strict) == 0,
        "workers": result.workers,
        "images": result.images,
        "workloads": [_workload(one) for one in result.judged],
        "findings": [_finding(f"P{n}", one) for n, one in enumerate(result.findings, 1)],
        "pairs": [
            {
                "source": pair.source,
                "destination": pair.destination,
                "overlay": {"ready": pair.overlay[0], "failed": pair.overlay[1]},
                "ports": {"ready": pair.ports[0], "failed": pair.ports[1]},
            }
            for pair in result.pairs
        ],
        "notes": result.notes,
        "kept": result.kept,
        "left_behind": None if result.left_behind is None else asdict(result.left_behind),
        "remove_with": result.how_to_remove if result.kept or result.left_behind else None,
    }
    json.dump(document, file, indent=1)
    file.write("\n")


def _workload(one: Judgement) -> Mapping[str, object]:
    known = KNOWN.get(one.workload)
    return {
        "name": one.workload,
        "kind": one.kind,
        "severity": one.severity,
        "status": one.status,
        "symptom": one.symptom,
        "ready": one.ready,
        "wanted": one.wanted,
        "restarts": one.restarts,
        "pods": one.pods,
        "nodes": one.nodes,
        "server_node": one.server,
        "tests": known.tests if known else None,
        "target": known.url if known else None,
        "evidence": one.evidence,
        "meaning": one.meaning,
        "advice": one.advice,
    }


def _finding(identifier: str, finding: Finding) -> Mapping[str, object]:
    return {
        "id": identifier,
        "cause": finding.key,
        "severity": finding.severity,
        "title": finding.title,
        "meaning": finding.meaning,
        "workloads": finding.workloads,
        "pairs": [{"source": a, "destination": b} for a, b in finding.pairs],
        "nodes": finding.nodes,
        "evidence": finding.evidence,
        "matrix": finding.matrix,
        "advice": finding.advice,
        "commands": finding.commands,
    }
