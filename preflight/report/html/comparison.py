"""What the page of a comparison says: what got worse first, both runs in numbers, what moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from preflight.core.diff.model import Change, Diff, FindingChange, Tally
from preflight.core.diff.turns import Turn
from preflight.core.model import Node, Severity, Verdict
from preflight.core.packing import pack_bytes
from preflight.core.terms import plural, traffic
from preflight.report.diff import words
from preflight.report.findings import style
from preflight.report.html import header
from preflight.report.html.markup import element, text
from preflight.report.html.page import Section
from preflight.report.html.paper import Page
from preflight.report.html.sections import article, fold, table
from preflight.report.layers import SPOKEN, layers
from preflight.report.summary import answers

# What became of a cell: its sign, words and colour. Signs are unlike each other.
TURNS: Mapping[Turn, tuple[str, str, str]] = {
    Turn.SAME: ("·", "open in both", "open"),
    Turn.BROKEN: ("✕", "open before, and not now", "broken"),
    Turn.WORSE: ("↓", "worse than before", "worse"),
    Turn.EASED: ("↑", "less bad than before", "eased"),
    Turn.MENDED: ("+", "mended", "mended"),
    Turn.STILL: ("=", "as bad as before", "still"),
    Turn.OTHERWISE: ("≠", "as bad, in another way", "otherwise"),
    Turn.REVEALED: ("!", "bad, and not known before", "lossy"),
    Turn.CLEARED: ("o", "open, and not known before", "once"),
    Turn.LOST: ("?", "known before, and not now", "lost"),
    Turn.UNKNOWN: ("u", "known in neither", "unknown"),
    Turn.ONLY_BEFORE: ("<", "tested before alone", "once"),
    Turn.ONLY_AFTER: (">", "tested after alone", "once"),
    Turn.WENT: ("-", "a node of it went", "once"),
    Turn.CAME: ("*", "a node of it came", "once"),
}
_NOT_TESTED = (" ", "not tested", "none")
_COLOURS = {
    Verdict.BLOCKED: "path", Verdict.CLOSED: "closed", Verdict.LOSSY: "lossy",
    Verdict.UNKNOWN: "unknown", Verdict.OPEN: "open",
}  # fmt: skip
_OPEN = 12  # blocks of cells of one section that stand open
_GOOD = ("mended", "cleared", "gone")


def kinds() -> list[tuple[str, str, str]]:
    """The kinds of cells of a difference: 0 is not tested, then the turns in their order."""
    return [_NOT_TESTED, *(TURNS[turn] for turn in Turn)]


def pack_turns(diff: Diff, tally: Tally) -> Iterator[str]:
    """A byte for each pair of `diff.nodes`, by source: the position in `kinds`."""
    size = len(diff.nodes)
    codes = {turn: code for code, turn in enumerate(Turn, 1)}
    lines = []
    for row in diff.book.rows(tally.test):
        line = 0
        for turned, there in row.items():
            line |= int.from_bytes(_spread(there, size, codes[turned.turn]), "big")
        lines.append(line.to_bytes(size, "big"))
    return pack_bytes(b"".join(lines))


def _spread(nodes: int, size: int, code: int) -> bytes:
    """A byte for each node, the first one's first: `code` where it is in the set, else 0."""
    return f"{nodes:0{size}b}"[::-1].encode("ascii").translate(_only(code))


@cache
def _only(code: int) -> bytes:
    """A table to translate by: `1` to the code, all else to 0."""
    return bytes(code if i == 0x31 else 0 for i in range(256))


def top(diff: Diff) -> str:
    """The answer, the two runs, and a card for each probe."""
    told = [found for severity in Severity if (found := words.summary(diff, severity))]
    now = answers(diff.after, layers(diff.after.matrix))
    (first, look), *others = told or [("Nothing was tested.", "unknown")]
    others += [(f"Now: {words_}", style_) for words_, style_ in now[:1]]
    parts = [element("h1", text(first), f"answer {look}")]
    parts += [element("p", text(said), f"also {style_}") for said, style_ in others]
    for when, snapshot in (("before", diff.before), ("after", diff.after)):
        if snapshot.interrupted:
            parts.append(element("p", text(f"The run {when} was interrupted."), "also unknown"))
    facts = {
        "Before": words.run(diff.before),
        "After": words.run(diff.after),
        "Between": words.later(diff),
    }
    cards = "".join(_card(diff, tally) for tally in diff.tallies)
    return "".join(parts) + header.listing(facts) + element("ul", cards, "cards")


def _card(diff: Diff, tally: Tally) -> str:
    probe = diff.probes[tally.test.probe].probe
    over = f" over {SPOKEN[tally.test.family]}" if len(diff.families) > 1 else ""
    what = f"{traffic(probe, tally.test.family)}{over}, {tally.severity}"
    name = element("span", text(diff.probe_names[tally.test.probe]), "probe")
    bars = "".join(
        element(
            "div", element("span", text(when), "soft") + header.bar(_shares(tally, side)), "run"
        )
        for side, when in enumerate(("Before", "After"))
    )
    changed = ", ".join(f"{number:,} {TURNS[turn][1]}" for turn, number in tally.turns.items())
    return element(
        "li",
        element("p", f"{name} {element('span', text(what), 'soft')}")
        + bars
        + element("p", text(changed)),
        "card",
    )


def _shares(tally: Tally, side: int) -> dict[str, int]:
    """Cells by colour."""
    return {
        _COLOURS[verdict]: tally.verdicts[verdict][side]
        for verdict in (Verdict.BLOCKED, Verdict.CLOSED, Verdict.LOSSY, Verdict.UNKNOWN,
                        Verdict.OPEN)
        if tally.verdicts.get(verdict, (0, 0))[side]
    }  # fmt: skip


def sections(diff: Diff) -> list[Section]:
    """A section for each question that a person has, those without an answer left out."""
    found = []
    for position, section in enumerate(words.SECTIONS):
        changes = [change for change in diff.findings if change.course in section.courses]
        explained = any(change.after is not None or change.before for change in changes)
        blocks = [
            change
            for change in diff.changes
            if words.section(change) is section and not (change.turn is Turn.STILL and explained)
        ]
        markup = fold([_finding(diff, change) for change in changes])
        if blocks:
            markup += _blocks(diff, blocks)
        number = len(changes) or None
        found.append(Section(f"turn-{position}", section.title, markup, number=number))
    found.append(Section("moves", "Path MTU and round trips", _moves(diff)))
    return found


def anchors(diff: Diff) -> tuple[dict[str, str], dict[str, str]]:
    """For the findings of each run the id of the article that tells them."""
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for change in diff.findings:
        if change.after is not None:
            after[change.after.identifier] = f"after-{change.after.identifier}"
        for finding in change.before:
            own = f"before-{finding.identifier}"
            before[finding.identifier] = (
                own if change.after is None else (f"after-{change.after.identifier}")
            )
    return before, after


def _finding(diff: Diff, change: FindingChange) -> str:
    """What there is now with its change; what is no more in a line each."""
    course = words.COURSES[change.course]
    differences = "".join(
        element("p", text(f"{said[0].upper()}{said[1:]}"), "soft") for said in change.differences
    )
    if change.after is not None:
        return article(
            change.after, diff.after.matrix, mark=course, prefix="after-", side=1, more=differences
        )
    told = []
    for finding in change.before:
        page = Page()
        look = "good" if change.course.value in _GOOD else style(finding)
        page.item(
            (f"{finding.identifier} {course}", look),
            (str(finding.severity), look),
            (finding.title, look),
        )
        told.append(
            element(
                "article", page.markup() + differences, f"finding {look}",
                id=f"before-{finding.identifier}", data_finding=finding.identifier, data_side="0",
            )
        )  # fmt: skip
    return "".join(told)


def _blocks(diff: Diff, blocks: Sequence[Change]) -> str:
    rows = [(c.where, words.pairs(c, diff), words.turned(c, diff)) for c in blocks]
    heads = ("Cells", "Pairs", "Before and after")
    if len(rows) <= _OPEN + _OPEN // 2:
        return table(heads, rows)
    more = element("summary", text(f"{plural(len(rows) - _OPEN, 'block')} of cells more"))
    rest = element("details", more + table(heads, rows[_OPEN:]), "more")
    return table(heads, rows[:_OPEN]) + rest


def _moves(diff: Diff) -> str:
    told = ""
    if diff.mtu:
        rows = ((move.where, f"{_size(move.before)} → {_size(move.after)}") for move in diff.mtu)
        told += table(("Path MTU", "Before and after"), rows)
    if diff.rtt:
        several = len(diff.families) > 1
        told += table(
            ("Round trips", "Pairs", "Before and after"),
            (
                (
                    move.where + (f" ({move.family})" if several else ""),
                    f"{move.pairs:,}",
                    f"{move.before_ms:g} → {move.after_ms:g} ms",
                )
                for move in diff.rtt
            ),
        )
    return told


def _size(size: int | None) -> str:
    return "full size" if size is None else f"{size} bytes"


def nodes(diff: Diff) -> str:
    """Every node of the two runs, and which of them has it."""
    rows = (
        (
            pairing.node.name,
            ", ".join(pairing.node.addresses),
            _labels(pairing.node),
            "came" if pairing.came else "went" if pairing.went else "in both",
        )
        for pairing in diff.nodes
    )
    return table(("Node", "Addresses", "Labels", "Runs"), rows)


def _labels(node: Node) -> str:
    return ", ".join(f"{key}={value}" for key, value in node.labels.items())
