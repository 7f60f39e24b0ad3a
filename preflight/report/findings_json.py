"""Findings as JSON: part of the contract that users script against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.plain import plain
from preflight.core.findings.model import Block, Cause, Finding
from preflight.core.groups import FamilyProbe
from preflight.core.snapshot import Snapshot

_FLOWS = (Cause.FLOWS, Cause.LOSS, Cause.RATE_LIMIT)


def lines(snapshot: Snapshot) -> Iterator[str]:
    """A line for each finding."""
    for value in values(snapshot, snapshot.findings):
        yield json.dumps(value)


def values(snapshot: Snapshot, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Some of the snapshot's findings as JSON values."""
    matrix = snapshot.matrix
    names = [node.name for node in matrix.nodes]
    probes = [probe.name for probe in matrix.probes]
    return [_finding(finding, names, probes) for finding in findings]


def _finding(finding: Finding, names: Sequence[str], probes: Sequence[str]) -> dict[str, Any]:
    measured = None if finding.diagnosis is None else plain(finding.diagnosis, names)
    return {
        "id": finding.identifier,
        "cause": finding.cause,
        "severity": finding.severity,
        "title": finding.title,
        "where": finding.where,
        "kinds": [kind._asdict() for kind in finding.kinds],
        "probes": list(dict.fromkeys(probes[test.probe] for test in finding.tests)),
        "families": list(dict.fromkeys(test.family for test in finding.tests)),
        "tests": _tests(finding.tests, probes),
        "blocks": [_block(block, names, probes) for block in finding.blocks],
        "pairs": finding.pairs,
        "cells": finding.cells,
        "nodes": [names[node] for node in finding.nodes],
        "sample": _sample(finding, names),
        "evidence": finding.evidence,
        "culprit": _culprit(finding.cause, finding.diagnosis, measured),
        "changes": [change._asdict() for change in finding.changes],
        "requests": [request._asdict() for request in finding.requests],
        "advice": finding.advice,
        "unknown": finding.unknown,
        "diagnosis": measured,
    }


def _tests(tests: Sequence[FamilyProbe], probes: Sequence[str]) -> list[Mapping[str, str]]:
    return [{"probe": probes[test.probe], "family": test.family} for test in tests]


def _block(block: Block, names: Sequence[str], probes: Sequence[str]) -> dict[str, Any]:
    return {
        "sources": [names[node] for node in block.sources],
        "destinations": [names[node] for node in block.destinations],
        "both_ways": block.both_ways,
        "where": block.where,
        "tests": _tests(block.tests, probes),
    }


def _sample(finding: Finding, names: Sequence[str]) -> dict[str, str] | None:
    if finding.sample is None:
        return None
    source, destination = finding.sample
    return {"source": names[source], "destination": names[destination]}


def _culprit(
    cause: Cause, diagnosis: Diagnosis | None, measured: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """What was found to be to blame; `kind` says what that is. None where it is not known."""
    if diagnosis is None or measured is None:
        return None
    if cause in (Cause.RULE, Cause.TRANSLATION):
        sure = (hit for hit in measured["hits"] if hit["rule"]["sure"])
        found = next((_rule(hit) for hit in sure), None)
        if found is not None or cause is Cause.RULE:
            return found
    if cause is Cause.KERNEL and diagnosis.kernel is not None:
        return {"kind": "kernel", "node": measured["kernel_node"], **measured["kernel"]}
    if cause is Cause.SIZE and diagnosis.size is not None:
        return {"kind": "size", **measured["size"]}
    if cause is Cause.SIZE and diagnosis.lengths is not None:
        return {"kind": "lengths", **measured["lengths"]}
    if cause in _FLOWS and diagnosis.flows is not None:
        return {"kind": "flows", **measured["flows"]}
    if cause is Cause.INSPECTION and diagnosis.content is not None:
        return {"kind": "content", **measured["content"]}
    if cause is Cause.TRANSLATION and diagnosis.rewrites:
        return {"kind": "rewrites", "rewrites": measured["rewrites"]}
    return _by_the_network(diagnosis, measured) if cause is Cause.NETWORK else None


def _by_the_network(diagnosis: Diagnosis, measured: Mapping[str, Any]) -> dict[str, Any] | None:
    if diagnosis.marking is not None and diagnosis.marking.dropped:
        return {"kind": "marking", **measured["marking"]}
    if diagnosis.rejecters:
        return {"kind": "rejecter", "rejected_by": measured["rejecters"]}
    if diagnosis.path is not None and diagnosis.path.routers:
        return {"kind": "hop", **measured["path"]}
    return None


def _rule(hit: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "rule", "node": hit["node"], "leg": hit["leg"], **hit["rule"]}
