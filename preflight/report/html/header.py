"""The top of the page: the answer first, then what was tested, when, and how each probe fared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from preflight.core.model import AgentState, Severity
from preflight.core.snapshot import Snapshot
from preflight.core.terms import traffic
from preflight.report.html.markup import element, text
from preflight.report.html.payload import COLOURS, PHASES
from preflight.report.layers import SPOKEN, Layer
from preflight.report.picture import involved
from preflight.report.summary import answers
from preflight.report.symbols import LEGEND, OPEN

INTERRUPTED = "INTERRUPTED: what was not measured by then is unknown."
_NOTHING = "No node could be used: nothing was tested."
_WIDE = 1000  # units that a bar is wide


def answer(snapshot: Snapshot, tests: Sequence[Layer]) -> str:
    """One or two sentences that a reader in a hurry takes with him."""
    told = answers(snapshot, tests)
    if all(agent.state is not AgentState.OK for agent in snapshot.agents):
        told.insert(0, (_NOTHING, "bad"))
    if not told:
        told = [("Nothing was tested.", "unknown")]
    (first, look), *others = told
    parts = [element("h1", text(first), f"answer {look}")]
    parts += [element("p", text(words), f"also {style}") for words, style in others]
    if snapshot.interrupted:
        parts.insert(0, element("p", text(INTERRUPTED), "also bad"))
    return "".join(parts)


def facts(snapshot: Snapshot, tests: Sequence[Layer]) -> str:
    """What was tested between whom, and when."""
    matrix = snapshot.matrix
    pairs = max((sum(test.counts.values()) for test in tests), default=0)
    families = [f for f in matrix.families if any(test.family is f for test in tests)]
    tested = len(involved(tests))
    ready = sum(agent.state is AgentState.OK for agent in snapshot.agents)
    agents = "" if ready == len(snapshot.agents) else f", {ready:,} with an agent"
    return listing(
        {
            "Phase": PHASES[snapshot.phase],
            "Nodes": f"{len(matrix.nodes):,}{agents}",
            "Of these in the test": "" if tested == len(matrix.nodes) else f"{tested:,}",
            "Ordered pairs": f"{pairs:,}",
            "Over": " and ".join(SPOKEN[family] for family in families),
            "Started": moment(snapshot.started),
            "Took": took(snapshot),
        }
    )


def listing(told: Mapping[str, str]) -> str:
    """Terms and what they are; empty ones are left out."""
    rows = (
        element("div", element("dt", text(name)) + element("dd", text(words)))
        for name, words in told.items()
        if words
    )
    return element("dl", "".join(rows), "facts")


def moment(written: str) -> str:
    """`2026-03-01 02:00:00 UTC`; what is not a time stays as it is."""
    try:
        time = datetime.fromisoformat(written)
    except ValueError:
        return written
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if written.endswith("Z") else written


def took(snapshot: Snapshot) -> str:
    """The whole run in seconds, where that is known."""
    total = snapshot.timings.get("total_s")
    return "" if total is None else f"{total:,.1f} s"


def cards(tests: Sequence[Layer]) -> str:
    """One for each probe and family: a bar and the numbers behind it."""
    several = len({test.family for test in tests}) > 1
    return element("ul", "".join(_card(test, several=several) for test in tests), "cards")


def _card(test: Layer, *, several: bool) -> str:
    probe = test.probe
    over = f" over {SPOKEN[test.family]}" if several else ""
    what = f"{traffic(probe, test.family)}{over}, {probe.severity}"
    name = element("span", text(probe.name), "probe") + " " + element("span", text(what), "soft")
    style = test.style or "good"
    required = "required" if probe.severity is Severity.REQUIRED else "recommended"
    return element(
        "li",
        element("p", name)
        + bar(_colours(test.counts))
        + element("p", ", ".join(_counts(test.counts))),
        f"card {style} {required}",
    )


def _counts(counts: Mapping[str, int]) -> Iterator[str]:
    for sign in LEGEND:
        if counts.get(sign):
            told = f"{counts[sign]:,} {LEGEND[sign].partition(':')[0]}"
            yield element("span", text(told), "open" if sign == OPEN else "count")


def _colours(counts: Mapping[str, int]) -> dict[str, int]:
    """Numbers of cells by colour, from those by sign."""
    kinds: dict[str, int] = {}
    for sign in LEGEND:
        if counts.get(sign):
            kinds[COLOURS[sign]] = kinds.get(COLOURS[sign], 0) + counts[sign]
    return kinds


def bar(kinds: Mapping[str, int]) -> str:
    """A share of the width for each colour; nothing that is there is too narrow to see."""
    total = sum(kinds.values())
    widths = {kind: max(12, round(_WIDE * number / total)) for kind, number in kinds.items()}
    parts, at = [], 0
    for kind, width in sorted(widths.items(), key=lambda item: item[0] == "open"):
        parts.append(f'<rect class="f-{kind}" x="{at}" y="0" width="{width}" height="10"/>')
        at += width
    return (
        f'<svg class="bar" viewBox="0 0 {at} 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(parts)}</svg>"
    )
