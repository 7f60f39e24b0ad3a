"""What is known of nodes as JSON: `preflight/node/1`. New keys may be added; these stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TextIO

from preflight import __version__
from preflight.core.facts.inspection import Inspection
from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import Clock, Risk

SCHEMA = "preflight/node/1"


def dump(inspection: Inspection, file: TextIO) -> None:
    """Write everything; a fact that is not known is null, and `unknown` says why."""
    document = {
        "schema": SCHEMA,
        "preflight": __version__,
        "phase": inspection.phase,
        "interrupted": inspection.interrupted,
        "nodes": [_node(inspection, n) for n in inspection.asked],
        "risks": [_risk(inspection, risk) for risk in inspection.risks],
    }
    json.dump(document, file, indent=1)
    file.write("\n")


def _node(inspection: Inspection, position: int) -> Mapping[str, object]:
    node, agent = inspection.nodes[position], inspection.agents[position]
    return {
        "name": node.name,
        "addresses": node.addresses,
        "labels": dict(node.labels),
        "agent": {"state": agent.state, "reason": agent.reason, "python": agent.python},
        "clock": _clock(inspection.clocks.get(position)),
        "facts": _facts(inspection, inspection.facts[position]),
    }


def _clock(clock: Clock | None) -> Mapping[str, float] | None:
    if clock is None:
        return None
    return {"offset_s": round(clock.offset, 4), "uncertainty_s": round(clock.uncertainty, 4)}


def _facts(inspection: Inspection, facts: NodeFacts | None) -> Mapping[str, object] | None:
    if facts is None:
        return None
    told = asdict(facts)
    for way in told["ways"] or ():
        way["peers"] = [inspection.nodes[peer].name for peer in way["peers"]]
    for way in told["defaults"] or ():
        del way["peers"]
    for offloads in (told["offloads"] or {}).values():
        offloads["fixed"] = sorted(offloads["fixed"])
    return told


def _risk(inspection: Inspection, risk: Risk) -> Mapping[str, object]:
    return {
        "key": risk.key,
        "severity": risk.severity,
        "nodes": [inspection.nodes[n].name for n in risk.nodes],
        "title": risk.title,
        "evidence": risk.evidence,
        "commands": risk.commands,
        "advice": risk.advice,
        "source": risk.source,
    }
