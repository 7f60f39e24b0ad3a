"""A connectivity check as a person reads it: what is wrong, what is not known, then all pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from preflight.core.connectivity.meanings import how
from preflight.core.connectivity.picture import Finding
from preflight.core.connectivity.pods import Judgement, Status
from preflight.core.connectivity.result import Ending, Exercised, Result
from preflight.core.connectivity.workloads import KNOWN
from preflight.core.model import Severity
from preflight.core.terms import listed, plural
from preflight.report.paper import Paper
from preflight.report.text import Speech, cells, clean
from preflight.report.writing import Words

_NARROWEST = 40
_OURS = "Deployment"
_ROWS = 40  # workloads in the table; of more only those that are not ready
_PAIRS = 20
_EVIDENCE = 4  # of one finding
_READABLE = 110  # cells in a line, as the rest of the report has it
_WORDS = 300  # characters of one message of the cluster
_STATES = {Status.READY: "ready", Status.FAILED: "FAILED", Status.UNKNOWN: "unknown"}
_STYLES = {Status.READY: "good", Status.FAILED: "bad", Status.UNKNOWN: "unknown"}


def render(result: Result, *, strict: bool, width: int, color: bool, file: TextIO) -> None:
    """Write it to `file` in lines of at most `width` cells, commands excepted."""
    paper = Paper(max(width, _NARROWEST), color=color)
    paper.sentence((_headline(result), "head"))
    paper.gap()
    if result.findings:
        paper.sentence(("Findings", "head"))
        paper.gap()
    for number, finding in enumerate(result.findings, 1):
        _finding(paper, f"P{number}", finding, {one.workload: one for one in result.judged})
    _unknown(paper, result.judged)
    _table(paper, result.judged, width)
    _pairs(paper, result.pairs)
    _notes(paper, result)
    for words, style in _summary(result, strict=strict):
        paper.sentence((words, style))
    speech = Speech(file)
    file.write(speech.say("\n".join(paper.lines) + "\n"))


def _headline(result: Result) -> str:
    workers = "" if result.workers is None else f", {plural(len(result.workers), 'worker')}"
    count = plural(len(result.judged), "workload")
    return (
        f"Connectivity check of cluster {result.cluster} ({result.version}), namespace "
        f"{result.namespace}: {count}{workers}"
    )


def _finding(
    paper: Paper, identifier: str, finding: Finding, judged: Mapping[str, Judgement]
) -> None:
    look = "bad" if finding.severity is Severity.REQUIRED else "warn"
    paper.item((identifier, look), (str(finding.severity), look), (finding.title, look))
    for name in finding.workloads:
        known = KNOWN.get(name)
        tests = f" ({known.tests})" if known and judged[name].kind == _OURS else ""
        paper.bullet(f"{name}{tests}: {how(judged[name].symptom)}", indent=4)
    paper.sentence(finding.meaning[:1].upper() + finding.meaning[1:] + ".", indent=4)
    for line in finding.evidence[:_EVIDENCE]:
        paper.bullet(_short(line), indent=4)
    if len(finding.evidence) > _EVIDENCE:
        paper.bullet(f"and {len(finding.evidence) - _EVIDENCE} more: --format json", indent=4)
    if finding.matrix:
        paper.sentence("The reachability matrix says:", indent=4)
    for line in finding.matrix:
        paper.bullet(line, indent=4)
    if finding.advice:
        paper.sentence(finding.advice, indent=4)
    for command in finding.commands:
        paper.command(command, indent=6)
    paper.gap()


def _unknown(paper: Paper, judged: Sequence[Judgement]) -> None:
    """What is not known, those for one reason together."""
    groups: dict[tuple[str, str], list[Judgement]] = {}
    for one in judged:
        if one.status is Status.UNKNOWN:
            groups.setdefault((one.meaning, one.advice), []).append(one)
    if not groups:
        return
    paper.sentence(("Not known", "head"))
    paper.gap()
    for (meaning, advice), own in groups.items():
        paper.sentence((listed(one.workload for one in own), "unknown"), indent=2)
        paper.sentence(meaning[:1].upper() + meaning[1:] + ".", indent=4)
        words = dict.fromkeys(text for one in own for text in one.evidence)
        for text in list(words)[:_EVIDENCE]:
            paper.bullet(_short(text), indent=4)
        if advice:
            paper.sentence(advice, indent=4)
        paper.gap()


def _table(paper: Paper, judged: Sequence[Judgement], width: int) -> None:
    told = judged
    if len(judged) > _ROWS:
        told = [one for one in judged if one.status is not Status.READY]
    paper.sentence(("Workloads", "head"))
    for one in told:
        _row(paper, one, width)
    if len(told) < len(judged):
        paper.sentence(f"and {len(judged) - len(told)} more, all ready", indent=2)
    paper.gap()


_NAME = 37  # cells of the longest name of the 16


def _row(paper: Paper, one: Judgement, width: int) -> None:
    """Its state, its name, and where: on a line of its own where there is no room beside."""
    rest = [_where(one)]
    if one.wanted != 1 or one.ready > 1:
        rest.append(f"{one.ready}/{one.wanted} pods")
    if one.restarts:
        rest.append(plural(one.restarts, "restart"))
    about = ", ".join(filter(None, rest))
    mild = one.red and one.severity is Severity.RECOMMENDED
    status: Words = (f"{_STATES[one.status]:9}", "warn" if mild else _STYLES[one.status])
    line = f"{clean(one.workload):{_NAME}}  {clean(about)}".rstrip()
    if 2 + 9 + cells(line) <= min(width, _READABLE):
        paper.sentence(status, line, indent=2)
        return
    paper.sentence(status, one.workload, indent=2)
    paper.sentence(about, indent=11)


def _where(one: Judgement) -> str:
    if not one.nodes:
        return ""
    nodes = one.nodes[0] if len(one.nodes) == 1 else plural(len(one.nodes), "node")
    if one.server is None:
        return f"on {nodes}"
    return f"on {nodes}" if one.server == one.nodes[0] else f"{nodes} → {one.server}"


def _pairs(paper: Paper, pairs: Sequence[Exercised]) -> None:
    if not pairs:
        return
    paper.sentence(("Nodes between which something was asked", "head"))
    for pair in pairs[:_PAIRS]:
        ends = pair.source if pair.source == pair.destination else _ends(pair)
        paper.sentence(f"{ends}: {_counts(pair)}", indent=2)
    if len(pairs) > _PAIRS:
        paper.sentence(f"and {plural(len(pairs) - _PAIRS, 'pair')} more", indent=2)
    paper.gap()


def _ends(pair: Exercised) -> str:
    return f"{pair.source} → {pair.destination}"


def _counts(pair: Exercised) -> str:
    within = pair.source == pair.destination
    names = ("pods on it" if within else "the overlay", "ports of the node")
    counts = (pair.overlay, pair.ports)
    return ", ".join(
        f"{name} {good} of {good + bad} ready"
        for name, (good, bad) in zip(names, counts, strict=True)
        if good + bad
    )


def _notes(paper: Paper, result: Result) -> None:
    if result.notes:
        paper.sentence(("Notes", "head"))
        for note in result.notes:
            paper.bullet(_short(note), indent=2)
        paper.gap()
    left = result.left_behind
    if left is not None:
        paper.sentence((f"Left behind: namespace {left.namespace}", "bad"))
        paper.sentence(left.why[:1].upper() + left.why[1:] + ".", indent=2)
        for line in left.holding:
            paper.bullet(line, indent=2)
        held = "It goes when what holds it has gone. To wait for it again:"
        paper.sentence(held if left.holding else "Remove it:", indent=2)
        paper.command(result.how_to_remove, indent=4)
        paper.gap()


_ENDINGS = {
    Ending.TIMEOUT: "The time was up before all pods had had their say: --timeout.",
    Ending.INTERRUPTED: "INTERRUPTED: what was not ready by then is not known.",
    Ending.LOST: "The API server was gone at the end.",
}


def _summary(result: Result, *, strict: bool) -> Iterator[tuple[str, str]]:
    counting = [j for j in result.judged if strict or j.severity is Severity.REQUIRED]
    others = [j for j in result.judged if not strict and j.severity is Severity.RECOMMENDED]
    red, green = sum(j.red for j in counting), sum(j.green for j in counting)
    unknown = len(counting) - red - green
    if red:
        yield f"{_of(red, counting)} failed: the connectivity check does not pass.", "bad"
    if unknown:
        yield f"{_of(unknown, counting)} could not be judged.", "unknown"
    if counting and green == len(counting):
        yield f"All {len(counting)} required workloads are ready: the check passes.", "good"
    missing = sum(not j.green for j in others)
    if missing:
        yield f"{_of(missing, others)} that are only recommended are not ready.", "warn"
    if result.ending in _ENDINGS:
        yield _ENDINGS[result.ending], "bad"


def _of(count: int, all_: Sequence[Judgement]) -> str:
    return f"{count} of {plural(len(all_), 'workload')}"


def _short(text: str) -> str:
    return text if len(text) <= _WORDS else text[:_WORDS] + " …"
