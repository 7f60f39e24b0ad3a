"""What is known of nodes as a person reads it: first what is in the way, then each node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from preflight.core.facts.inspection import Inspection
from preflight.core.facts.risk import Risk
from preflight.core.model import AgentState, Phase, Severity
from preflight.core.naming import Naming
from preflight.core.terms import plural
from preflight.report.factsheet import brief, rows
from preflight.report.paper import Paper
from preflight.report.text import Speech
from preflight.report.words import STATES

_NARROWEST = 40
_MOST = 12  # nodes told in full; of more each has a line
_HEADS = {Severity.REQUIRED: "Must be changed", Severity.RECOMMENDED: "Should be looked at"}
_STYLES = {Severity.REQUIRED: "bad", Severity.RECOMMENDED: "warn"}


def render(inspection: Inspection, *, width: int, color: bool, file: TextIO) -> None:
    """Write it to `file` in lines of at most `width` cells, commands excepted."""
    paper = Paper(max(width, _NARROWEST), color=color)
    paper.sentence(_headline(inspection))
    paper.gap()
    for severity in Severity:
        _risks(inspection, severity, paper)
    told = [n for n in inspection.asked if inspection.facts[n] is not None]
    if len(told) > _MOST:
        _briefly(inspection, told, paper)
    else:
        for n in told:
            _node(inspection, n, paper)
    _untold(inspection, paper)
    for words, style in _summary(inspection):
        paper.sentence((words, style))
    speech = Speech(file)
    file.write(speech.say("\n".join(paper.lines) + "\n"))


def _headline(inspection: Inspection) -> str:
    when = "before Cilium" if inspection.phase is Phase.BEFORE else "with Cilium"
    return f"What is known of {plural(len(inspection.asked), 'node')}, {when}"


def _risks(inspection: Inspection, severity: Severity, paper: Paper) -> None:
    risks = [risk for risk in inspection.risks if risk.severity is severity]
    if not risks:
        return
    paper.sentence((f"{_HEADS[severity]} ({severity})", "head"))
    for risk in risks:
        paper.sentence((risk.title, _STYLES[severity]), indent=2)
        for line in risk.evidence:
            paper.sentence((line, "dim"), indent=4)
        if risk.commands:
            paper.sentence(f"On {_names(inspection, risk)}, as root:", indent=4)
        for command in risk.commands:
            paper.command(command, indent=6)
        if risk.advice:
            paper.sentence(risk.advice, indent=4)
        paper.gap()


def _names(inspection: Inspection, risk: Risk) -> str:
    name = Naming(inspection.nodes).name(sum(1 << n for n in risk.nodes))
    return "all nodes" if name == "all" else name


def _node(inspection: Inspection, position: int, paper: Paper) -> None:
    node, facts = inspection.nodes[position], inspection.facts[position]
    if facts is None:
        return
    paper.sentence((node.name, "head"), f"  {', '.join(node.addresses)}")
    clock = inspection.clocks.get(position)
    paper.rows(rows(node, facts, clock, inspection.nodes), indent=2)
    paper.gap()


def _briefly(inspection: Inspection, told: Sequence[int], paper: Paper) -> None:
    lines = []
    for n in told:
        facts = inspection.facts[n]
        if facts is not None:
            lines.append((inspection.nodes[n].name, *brief(inspection.nodes[n], facts)))
    paper.rows(lines)
    paper.gap()
    paper.sentence("All that is known of one: preflight node NAME -i FILE, or --format json.")
    paper.gap()


def _untold(inspection: Inspection, paper: Paper) -> None:
    missing = [n for n in inspection.asked if inspection.facts[n] is None]
    if missing:
        paper.sentence(("Nodes of which nothing is known", "head"))
        agents = inspection.agents
        paper.rows(
            [
                (inspection.nodes[n].name, STATES[agents[n].state], agents[n].reason or "")
                for n in missing
            ],
            indent=2,
        )
        paper.gap()


def _summary(inspection: Inspection) -> Iterator[tuple[str, str]]:
    required = sum(risk.severity is Severity.REQUIRED for risk in inspection.risks)
    others = len(inspection.risks) - required
    missing = sum(inspection.facts[n] is None for n in inspection.asked)
    if required:
        yield f"{plural(required, 'thing')} must be changed for Cilium to work.", "bad"
    if others:
        yield f"{plural(others, 'thing')} should be looked at.", "warn"
    if missing:
        yield f"Nothing is known of {plural(missing, 'node')}.", "unknown"
    if not inspection.risks and not missing:
        yield "Nothing known of these nodes stands in Cilium's way.", "good"
    unprivileged = sum(
        inspection.agents[n].state is AgentState.NO_PRIVILEGE
        for n in inspection.asked
        if inspection.facts[n] is not None
    )
    if unprivileged:
        some = plural(unprivileged, "node")
        yield f"{some} could not be read in full: log in as root, or set `become: sudo`.", "unknown"
    if inspection.interrupted:
        yield "INTERRUPTED: what was not told by then is not known.", "bad"
