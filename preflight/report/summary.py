"""The last lines: what the run says about Cilium, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from preflight.core.model import AgentState, Phase, ProbeKind, Severity, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural
from preflight.report.layers import Layer
from preflight.report.symbols import LOSSY, NOT_PLANNED, OPEN, SAME_NODE, UNKNOWN
from preflight.report.text import paint, wrap

_STYLES = ("good", "unknown", "bad")
_VERBS = (
    ("fails", "is lossy", "is unknown", "is open"),
    ("fail", "are lossy", "are unknown", "are open"),
)
_OF_CILIUM = {
    Phase.BEFORE: ("does NOT get through", "loses packets", "gets through"),
    Phase.AFTER: ("does NOT work", "loses packets", "gets through"),  # it may be closed, too
}
_WORST_LAST = "-oulb"  # not planned, open, unknown, lossy, bad
_LETTER = {NOT_PLANNED: "-", SAME_NODE: "-", OPEN: "o", UNKNOWN: "u", LOSSY: "l"}


class Tally(NamedTuple):
    """How many pairs fare how, each judged by its worst family."""

    open: int
    unknown: int
    lossy: int
    bad: int  # blocked or closed

    @property
    def style(self) -> str:
        """The style for a severity's worst."""
        return "bad" if self.bad or self.lossy else "unknown" if self.unknown else "good"


def tally(tests: Sequence[Layer]) -> Tally:
    """The pairs of one probe, given over each family."""
    counts = dict.fromkeys(_WORST_LAST, 0)
    if len(tests) == 1:
        for sign, number in tests[0].counts.items():
            counts[_LETTER.get(sign, "b")] += number
        return Tally(counts["o"], counts["u"], counts["l"], counts["b"])
    signs = {sign for test in tests for line in test.lines for sign in set(line)}
    table = str.maketrans({sign: _LETTER.get(sign, "b") for sign in signs})
    for rows in zip(*(test.lines for test in tests), strict=True):
        first, *others = (row.translate(table) for row in rows)
        if any(other != first for other in others):
            pairs = zip(first, *others, strict=True)
            first = "".join(max(pair, key=_WORST_LAST.index) for pair in pairs)
        for letter in counts:
            counts[letter] += first.count(letter)
    return Tally(counts["o"], counts["u"], counts["l"], counts["b"])


def summary(snapshot: Snapshot, tests: Sequence[Layer], width: int, *, color: bool) -> list[str]:
    """The run in numbers, its findings, what Cilium recommends, and last what it requires."""
    lines = wrap(numbers(snapshot), width)
    lines += wrap(_findings(snapshot), width) if snapshot.findings else []
    if all(agent.state is not AgentState.OK for agent in snapshot.agents):
        lines.append(paint("No node could be used: nothing was tested.", "bad", color=color))
    for text, look in reversed(answers(snapshot, tests)):
        lines += [paint(line, look, color=color) for line in wrap(text, width)]
    return lines


def answers(snapshot: Snapshot, tests: Sequence[Layer]) -> list[tuple[str, str]]:
    """What Cilium requires and then what it recommends: a sentence each, and its style."""
    found = []
    for severity in Severity:
        told, worst = _told(snapshot, tests, severity)
        if told and severity is Severity.RECOMMENDED:
            told[0] = f"Recommended: {told[0]}"
            worst = "warn" if worst == "bad" else worst
        if told:
            found.append((f"{'; '.join(told)}.", worst))
    good = all(look == "good" for _, look in found[:1])
    return [*_besides(snapshot), *found] if good else [*found[:1], *_besides(snapshot), *found[1:]]


def _besides(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What must be changed though no probe shows it: no cell is bad for it."""
    own = [f for f in snapshot.findings if f.severity is Severity.REQUIRED and not f.cells]
    if not own:
        return []
    more = f" And {plural(len(own) - 1, 'finding')} more like it." if own[1:] else ""
    title = own[0].title.removesuffix(".")
    return [(f"But required, though no probe shows it: {own[0].identifier} {title}.{more}", "bad")]


def _told(snapshot: Snapshot, tests: Sequence[Layer], severity: Severity) -> tuple[list[str], str]:
    """What one severity's probes say, probes that say the same together; and the worst style."""
    alike: dict[tuple[Tally, bool], list[str]] = {}
    for probe in snapshot.matrix.probes:
        own = [test for test in tests if test.probe == probe]
        if probe.severity is severity and own:
            cilium = probe.kind is ProbeKind.GENEVE and severity is Severity.REQUIRED
            name = "Cilium's GENEVE" if cilium else probe.name
            alike.setdefault((tally(own), cilium), []).append(name)
    told = [
        _sentence(names, counts, snapshot.phase, cilium=cilium, short=len(alike) > 1)
        for (counts, cilium), names in alike.items()
    ]
    return told, max((c.style for c, _ in alike), key=_STYLES.index, default="good")


def _sentence(
    names: Sequence[str], counts: Tally, phase: Phase, *, cilium: bool, short: bool
) -> str:
    fails, is_lossy, is_unknown, is_open = _VERBS[len(names) > 1]
    if cilium:
        fails, is_lossy, is_open = _OF_CILIUM[phase]
    told = [
        (counts.bad, fails, ""),
        (counts.lossy, is_lossy, "lossy"),
        (counts.unknown, is_unknown, "unknown"),
        (counts.open, is_open, "" if counts.bad or counts.lossy else "open"),
    ]
    (first, says, _), *others = [(n, does, word) for n, does, word in told if n]
    more = [f"{n:,} {word}" for n, _, word in others if word]
    who = " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
    if short and says == is_open and not cilium:
        return f"{who} {says}"
    return f"{who} {says} for {', '.join([_of(first, sum(counts)), *more])}"


def _of(number: int, total: int) -> str:
    if number == total:
        return f"all {plural(total, 'pair')}" if total > 1 else "the only pair"
    return f"{number:,} of {plural(total, 'pair')}"


def _findings(snapshot: Snapshot) -> str:
    """`2 findings; the first: F1 n2 itself drops UDP 6081`."""
    first, number = snapshot.findings[0], len(snapshot.findings)
    which = ": " if number == 1 else "; the first: "
    return f"{plural(number, 'finding')}{which}{first.identifier} {first.title}"


def numbers(snapshot: Snapshot) -> str:
    """`12 nodes, 396 cells: 340 open, 56 blocked; 0.7 s`."""
    verdicts = dict.fromkeys(Verdict, 0)
    for outcome, number in snapshot.matrix.outcomes().items():
        verdicts[outcome.verdict] += number
    counts = ", ".join(f"{number:,} {verdict}" for verdict, number in verdicts.items() if number)
    text = plural(len(snapshot.matrix.nodes), "node")
    text += f", {plural(sum(verdicts.values()), 'cell')}"
    if counts:
        text += f": {counts}"
    total = snapshot.timings.get("total_s")
    return text if total is None else f"{text}; {total:.1f} s"
