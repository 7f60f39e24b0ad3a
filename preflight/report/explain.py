"""`preflight explain`: one pair's cells as stories, each with a picture of the way in text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TextIO

from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import FamilyProbe
from preflight.core.model import Phase, Place, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.story import Mark, Step, Story, stories
from preflight.core.terms import listed
from preflight.report import telling
from preflight.report.findings import tell_finding
from preflight.report.findings_json import values
from preflight.report.paper import Paper
from preflight.report.presentable import presentable
from preflight.report.text import Speech

SCHEMA = "preflight/explain/1"
_NARROWEST = 40
_SIGNS = {Mark.PASSED: "|", Mark.LOST: "X", Mark.NOTHING: " ", Mark.UNKNOWN: "?"}
_STYLES = {Mark.PASSED: "good", Mark.LOST: "bad", Mark.NOTHING: "plain", Mark.UNKNOWN: "unknown"}


def render(
    snapshot: Snapshot,
    pair: tuple[int, int],
    tests: Sequence[FamilyProbe],
    *,
    width: int,
    color: bool,
    file: TextIO,
) -> None:
    """Write the stories of `tests` from pair's first to its second node, then their findings."""
    speech = Speech(file)
    snapshot = presentable(snapshot, speech)
    paper = Paper(max(width, _NARROWEST), color=color)
    phase = "before Cilium" if snapshot.phase is Phase.BEFORE else "with Cilium"
    paper.sentence((_names(snapshot, pair), "head"), f", {phase}, {snapshot.started}")
    paper.gap()
    told = stories(snapshot, *pair, tests)
    for story in sorted(told, key=_is_open):
        _tell(paper, snapshot, pair, story, brief=_is_open(story) and len(told) > 1)
    if findings := _findings(snapshot, pair, told):
        paper.sentence(("Findings of this pair", "head"))
        paper.gap()
    for finding in findings:
        tell_finding(paper, finding, snapshot.matrix)
        paper.gap()
    file.write(speech.say("\n".join(paper.lines).rstrip() + "\n"))


def dump(
    snapshot: Snapshot, pair: tuple[int, int], tests: Sequence[FamilyProbe], file: TextIO
) -> None:
    """The same as JSON."""
    told = stories(snapshot, *pair, tests)
    source, destination = (snapshot.matrix.nodes[node].name for node in pair)
    whole = {
        "schema": SCHEMA,
        "source": source,
        "destination": destination,
        "stories": [_story(snapshot, story) for story in told],
        "findings": values(snapshot, _findings(snapshot, pair, told)),
    }
    file.write(json.dumps(whole, indent=1) + "\n")


def _findings(snapshot: Snapshot, pair: tuple[int, int], told: Sequence[Story]) -> list[Finding]:
    """Those of these cells, and what no cell shows yet but one of the two nodes has."""
    own = {finding.identifier for story in told for finding in story.findings}
    return [
        f
        for f in snapshot.findings
        if f.identifier in own
        or (f.cause in (Cause.HAZARD, Cause.CONFIGURATION) and set(f.nodes) & set(pair))
    ]


def _story(snapshot: Snapshot, story: Story) -> dict[str, object]:
    outcome = story.outcome
    return {
        "probe": snapshot.matrix.probes[story.test.probe].name,
        "family": story.test.family,
        "verdict": outcome.verdict,
        "leg": outcome.leg,
        "place": outcome.place,
        "cause": outcome.cause,
        "rejected_by": outcome.rejected_by,
        "rtt_ms": story.rtt_ms,
        "evidence": outcome.evidence._asdict(),
        "steps": [step._asdict() for step in story.steps],
        "therefore": story.therefore,
        "findings": [finding.identifier for finding in story.findings],
    }


def _names(snapshot: Snapshot, pair: tuple[int, int]) -> str:
    return " → ".join(snapshot.matrix.nodes[node].name for node in pair)


def _is_open(story: Story) -> bool:
    return story.outcome.verdict is Verdict.OPEN


def _tell(
    paper: Paper, snapshot: Snapshot, pair: tuple[int, int], story: Story, *, brief: bool
) -> None:
    """One story; a brief one has its picture on a line, one of which nothing was seen has none."""
    matrix = snapshot.matrix
    probe, family = matrix.probes[story.test.probe], story.test.family
    headline, advice = telling.verdict(story.outcome, story.test, matrix)
    style = telling.style(story.outcome, probe.severity)
    paper.sentence((f"{telling.heading(probe, family)}: ", "head"), (headline, style))
    if brief:
        paper.sentence(" → ".join(_counts(story)), indent=4)
    elif any(count is not None for count in story.outcome.evidence):
        paper.gap()
        _picture(paper, snapshot, pair, story)
        paper.gap()
    for sentence in story.therefore:
        paper.sentence(sentence, indent=2)
    if probe.one_way:
        names = (snapshot.matrix.nodes[node].name for node in pair)
        paper.sentence((telling.no_answer(*names), "dim"), indent=2)
    if story.rtt_ms is not None:
        paper.sentence(telling.took(f"{story.rtt_ms:.2f}"), indent=2)
    if story.findings:
        which = listed(finding.identifier for finding in story.findings)
        paper.sentence(f"See {which} below.", indent=2)
    elif advice:
        paper.sentence(advice, indent=2)
    paper.gap()


def _counts(story: Story) -> Iterator[str]:
    for step in story.steps:
        if step.vantage:
            yield f"{step.vantage} {'-' if step.seen is None else step.seen}"


def _picture(paper: Paper, snapshot: Snapshot, pair: tuple[int, int], story: Story) -> None:
    """A line for each step, headed by where it is."""
    family = story.test.family
    source, destination = (snapshot.matrix.nodes[node] for node in pair)
    latest = ""
    for step in story.steps:
        head = telling.heads(step.leg, step.place)
        if step.place is not Place.PATH:
            node = source if step.place is Place.SOURCE else destination
            head = f"{node.name}  {head}, {node.address_in(family)}"
        if head != latest:
            paper.sentence((head, "head"), indent=4)
        latest = head
        _step(paper, step)


def _step(paper: Paper, step: Step) -> None:
    count = "-" if step.seen is None else str(step.seen)
    sign = (_SIGNS[step.mark], _STYLES[step.mark])
    text = (step.text, "bad") if step.mark is Mark.LOST else step.text
    if step.vantage:
        paper.item(sign, f"{step.vantage:8}", f"{count:>3}", text, indent=6)
    elif step.text or step.mark is not Mark.NOTHING:
        paper.item(sign, text, indent=6)
