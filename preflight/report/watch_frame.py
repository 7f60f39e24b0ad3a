"""What a watch shows on a terminal: the matrix, what is not open and since when, what changed.

All of it in the lines that there are. What does not fit is counted, never left out silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from preflight.core.model import Phase
from preflight.core.terms import plural
from preflight.core.watch_round import Round
from preflight.report import watch_words as words
from preflight.report.layers import layers
from preflight.report.picture import draw_matrix, legend
from preflight.report.presentable import presentable
from preflight.report.symbols import OPEN
from preflight.report.text import Speech, cells, clean, paint, wrap

_LEAST_BELOW = 5  # lines that the matrix leaves to what is below it
_CLOCK, _HANG = 10, 2  # columns that lines after the first one leave
_WORTH = 3  # lines of a block that does not fit whole


@dataclass
class Shown:
    """All that a frame is made from."""

    heading: str  # what is watched
    footing: str
    status: str = ""  # what goes on
    latest: Round | None = None
    events: list[tuple[float, str, str | None]] = field(default_factory=list)  # time, text, style
    forgotten: int = 0  # events that are not among these any more
    drawn: tuple[tuple[object, ...], list[str]] = ((), [])  # the latest matrix, and how

    def picture(self, width: int, speech: Speech, *, color: bool) -> list[str]:
        """The latest round's matrix: drawn once, as it may be large."""
        if self.latest is None:
            return []
        how = (self.latest.number, width, color)
        if self.drawn[0] != how:
            self.drawn = (how, _picture(self.latest, width, speech, color=color))
        return self.drawn[1]


def frame(
    shown: Shown, width: int, height: int, now: float, speech: Speech, *, color: bool
) -> list[str]:
    """At most `height` lines of at most `width` cells."""
    head = [paint(_cut(speech.say(shown.heading), width), "head", color=color)]
    if shown.latest is not None:
        head.append(_cut(speech.say(_round(shown.latest)), width))
    head.append(_cut(speech.say(clean(shown.status)), width))
    foot = [paint(_cut(speech.say(shown.footing), width), "dim", color=color)]
    room = height - len(head) - len(foot)
    picture = shown.picture(width, speech, color=color)
    if shown.latest is not None and len(picture) > room - _LEAST_BELOW:
        picture = _numbers(shown.latest, width, speech, color=color)
    picture = picture[: max(room, 0)]
    room -= len(picture)
    below = _share(
        _standing(shown, width, now, speech, color=color),
        _events(shown, width, speech, color=color),
        _findings(shown.latest, width, speech, color=color),
        room,
    )
    body = [*head, *picture, *below]
    return [*body, *[""] * (height - len(body) - len(foot)), *foot][:height]


def _round(latest: Round) -> str:
    matrix = latest.snapshot.matrix
    text = f"round {latest.number} at {words.clock(latest.at)}: {words.counts(matrix)}"
    if latest.pending:
        text += f"; {plural(latest.pending, 'cell')} seen otherwise once, to be confirmed"
    elif latest.odd:
        text += f"; {latest.odd:,} odd sightings, not confirmed"
    return text


def _picture(latest: Round, width: int, speech: Speech, *, color: bool) -> list[str]:
    snapshot = presentable(latest.snapshot, speech)
    tests = layers(snapshot.matrix)
    picture = draw_matrix(snapshot.matrix, tests, width, color=color)
    lines = [speech.say(line) for line in ["", *picture.lines, *legend(picture, width)]]
    return [*lines, ""]


def _numbers(latest: Round, width: int, speech: Speech, *, color: bool) -> list[str]:
    """The matrix in a line for each test, where there is no room for more."""
    snapshot = presentable(latest.snapshot, speech)
    lines = [""]
    for test in layers(snapshot.matrix):
        total = sum(test.counts.values())
        text = f"{test.probe.name} {test.family}: {test.counts.get(OPEN, 0):,} of {total:,} open"
        lines.append(paint(_cut(speech.say(text), width), test.style, color=color))
    return [*lines, paint("(the matrix needs more lines)", "dim", color=color), ""]


def _standing(shown: Shown, width: int, now: float, speech: Speech, *, color: bool) -> list[str]:
    if shown.latest is None or not shown.latest.stands:
        return []
    matrix = shown.latest.snapshot.matrix
    lines = [paint("Not open", "head", color=color)]
    for s in shown.latest.stands:
        text = f"{words.cells_of(s.extent, matrix)}  {words.since(s.standing, now)}"
        style = words.style(s.extent, s.standing.kind.verdict)
        lines += _hanging(text, 0, width, style, speech, color=color)
    return lines


def _events(shown: Shown, width: int, speech: Speech, *, color: bool) -> list[str]:
    """The latest first."""
    if not shown.events:
        return []
    lines = [paint("Changes", "head", color=color)]
    for at, text, style in reversed(shown.events):
        told = f"{words.clock(at)}  {text}"
        lines += _hanging(told, _CLOCK, width, style, speech, color=color)
    return lines


def _findings(latest: Round | None, width: int, speech: Speech, *, color: bool) -> list[str]:
    if latest is None or not latest.snapshot.findings:
        return []
    lines = [paint("Findings", "head", color=color)]
    for finding in latest.snapshot.findings:
        text = f"{finding.identifier} {finding.severity}: {finding.title}"
        lines += _hanging(text, len(finding.identifier) + 1, width, None, speech, color=color)
    return lines


def _hanging(
    text: str, indent: int, width: int, style: str | None, speech: Speech, *, color: bool
) -> list[str]:
    """One thing that is told, on as many lines as it needs."""
    first, *rest = wrap(speech.say(clean(text)), width)
    if rest:
        hang = max(indent, _HANG)
        rest = [" " * hang + line for line in wrap(" ".join(rest), width - hang)]
    return [paint(_cut(line, width), style, color=color) for line in (first, *rest)]


def _share(standing: list[str], events: list[str], findings: list[str], room: int) -> list[str]:
    """The blocks in as many lines as there are: the first two before all, half each if need be."""
    gap = 1 if standing and events else 0
    upper = min(len(standing), max((room - gap) // 2, room - gap - len(events)))
    lines = _first(standing, upper)
    for block in (events, findings):
        rest = room - len(lines) - (1 if lines else 0)
        if rest >= min(len(block), _WORTH) > 0:
            lines += [*([""] if lines else []), *_first(block, rest)]
    return lines[: max(room, 0)]


def _first(lines: Sequence[str], most: int) -> list[str]:
    """The first of them; where some do not fit the last line says how many."""
    if len(lines) <= most:
        return list(lines)
    if most < 1:
        return []
    missing = plural(len(lines) - most + 1, "more line")
    return [*lines[: most - 1], f"and {missing}"]


def _cut(text: str, width: int) -> str:
    """As much as fits, with a sign where something is missing."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "~"


def heading(phase: Phase, nodes: int, pairs: int, interval_s: float) -> str:
    """The first line."""
    when = "before Cilium" if phase is Phase.BEFORE else "with Cilium"
    return (
        f"preflight watch: {when}, {plural(nodes, 'node')}, {plural(pairs, 'ordered pair')}, "
        f"every {words.every(interval_s)}"
    )
