"""A snapshot as a person reads it: the matrix, what is not open and why, and what that means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from preflight.core.model import AgentState, Phase, Severity, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural, traffic
from preflight.core.view import View, view
from preflight.report.layers import SPOKEN, Layer, layers
from preflight.report.picture import draw_matrix, involved, legend
from preflight.report.presentable import presentable
from preflight.report.summary import summary
from preflight.report.text import Speech, flow, paint, wrap

_NARROWEST = 40  # less cannot hold a sentence; the terminal then wraps
_INTERRUPTED = "INTERRUPTED: what was not measured by then is unknown."


def render(snapshot: Snapshot, *, width: int, color: bool, file: TextIO) -> None:
    """Write the whole report to `file`, in lines of at most `width` cells.

    Without `color` nothing but printable text is written. Where the stream's encoding lacks the
    signs, ASCII stands in for them.
    """
    render_view(view(snapshot), width=width, color=color, file=file)


def render_view(shown: View, *, width: int, color: bool, file: TextIO) -> None:
    """The same of what is shown; the summary at the end is always of the whole run."""
    speech = Speech(file)
    whole = presentable(shown.whole, speech)
    part = whole if shown.shown is shown.whole else presentable(shown.shown, speech)
    shown = replace(shown, whole=whole, shown=part, words=speech.name(shown.words))
    lines = _lines(shown, max(width, _NARROWEST), color=color)
    file.write(speech.say("\n".join(lines) + "\n"))


def _lines(shown: View, width: int, *, color: bool) -> list[str]:
    snapshot = shown.shown
    matrix = snapshot.matrix
    tests = layers(matrix)
    everything = layers(shown.whole.matrix) if shown.words else tests
    interrupted = [
        paint(line, "bad", color=color)
        for line in wrap(_INTERRUPTED, width)
        if snapshot.interrupted
    ]
    nodes = involved(tests)
    lines = [*interrupted, *_headline(shown.whole, everything, len(involved(everything)), width)]
    lines += [*_said(shown, width, color=color), ""]
    picture = draw_matrix(matrix, tests, width, color=color)
    lines += picture.lines
    if keys := legend(picture, width, part=bool(shown.words)):
        lines += [*keys, ""]
    bad = any(outcome.verdict is not Verdict.OPEN for outcome in matrix.outcomes())
    unusable = any(snapshot.agents[i].state is not AgentState.OK for i in nodes)
    if bad or unusable or snapshot.findings or snapshot.notes or picture.shortened:
        # rich takes longer to import than a clean run takes to print.
        from preflight.report.prose import prose

        lines += prose(snapshot, picture.shortened, nodes, width, color=color)
    if shown.words:
        lines.append(paint("The whole run:", "head", color=color))
    return [*lines, *summary(shown.whole, everything, width, color=color), *interrupted]


def _said(shown: View, width: int, *, color: bool) -> list[str]:
    """What a filter leaves out."""
    if not shown.words:
        return []
    text = shown.told
    few, all_ = len(shown.shown.findings), len(shown.whole.findings)
    if few < all_:
        text += f" {few} of {plural(all_, 'finding')} {'touches' if few == 1 else 'touch'} them."
    return [paint(line, "warn", color=color) for line in wrap(text, width)]


def _headline(snapshot: Snapshot, tests: Sequence[Layer], nodes: int, width: int) -> list[str]:
    """What was tested between whom."""
    families = [f for f in snapshot.matrix.families if any(t.family is f for t in tests)]
    pairs = max((sum(test.counts.values()) for test in tests), default=0)
    scope = [
        "Before Cilium" if snapshot.phase is Phase.BEFORE else "With Cilium",
        plural(nodes, "node"),
        plural(pairs, "ordered pair"),
        *([" and ".join(SPOKEN[family] for family in families)] if families else []),
    ]
    probes = [
        f"{probe.name}: {traffic(probe, families[0])}"
        + (" (required)" if probe.severity is Severity.REQUIRED else "")
        for probe in dict.fromkeys(test.probe for test in tests)
    ]
    return [*flow(scope, width, ", "), *flow(probes, width, "   ")]
