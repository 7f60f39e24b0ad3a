"""A diff as a person reads it at a terminal: what got worse first, and what to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TextIO

from preflight.core.diff.cells import CellChange
from preflight.core.diff.model import Diff, FindingChange
from preflight.core.diff.turns import Turn
from preflight.core.groups import Kind
from preflight.core.model import Severity
from preflight.core.terms import plural
from preflight.report.diff import words
from preflight.report.diff.picture import draw
from preflight.report.diff.presentable import presentable_diff
from preflight.report.findings import style, tell_finding
from preflight.report.paper import Paper
from preflight.report.text import Speech, paint, wrap

_NARROWEST = 40
_TOLD = 24  # findings, and blocks of cells, of one section
_CELLS = 2000  # with --cells
_ALL = "--format json has all"


def render(
    diff: Diff, files: Sequence[str], *, cells: bool, width: int, color: bool, file: TextIO
) -> None:
    """Write the whole comparison to `file`, in lines of at most `width` but for commands.

    `files` are the names of the two; with `cells` each cell that is not open in both is listed.
    """
    speech = Speech(file)
    shown = presentable_diff(diff, speech)
    names = [speech.name(name) for name in files]
    width = max(width, _NARROWEST)
    lines = _lines(shown, names, speech, cells=cells, width=width, color=color)
    file.write(speech.say("\n".join(lines) + "\n"))


class _Sheet(Paper):
    """One whose rows are as wide as they will be shown: an arrow may become two signs."""

    def __init__(self, speech: Speech, width: int, *, color: bool) -> None:
        super().__init__(width, color=color)
        self._speech = speech

    def rows(self, rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
        """As `Paper.rows`."""
        super().rows([[self._speech.say(text) for text in row] for row in rows], indent=indent)


def _lines(
    diff: Diff, files: Sequence[str], speech: Speech, *, cells: bool, width: int, color: bool
) -> list[str]:
    head = _Sheet(speech, width, color=color)
    when = words.later(diff)
    head.rows(
        [
            ("BEFORE", f"{files[0]}: {words.run(diff.before)}"),
            ("AFTER", f"{files[1]}: {words.run(diff.after)}" + (f", {when}" if when else "")),
        ]
    )
    head.gap()
    _counts(head, diff)
    picture = draw(diff, width, color=color)
    paper = _Sheet(speech, width, color=color)
    for section in words.SECTIONS:
        _section(paper, diff, section)
    _moves(paper, diff)
    if cells:
        _cells(paper, diff)
    if diff.notes:
        paper.sentence(("Notes", "head"))
        paper.rows([("-", note) for note in diff.notes], indent=2)
        paper.gap()
    return [*head.lines, *picture, *paper.lines, *_summary(diff, width, color=color)]


def _counts(paper: Paper, diff: Diff) -> None:
    """Cells by verdict, before and after, a row for each test."""
    columns = words.verdict_columns(diff)
    if not columns:
        return
    several = len(diff.families) > 1
    rows = [("", *(name.replace("-", " ") for name in columns))]
    for tally in diff.tallies:
        name = diff.probe_names[tally.test.probe]
        name += f" {tally.test.family}" if several else ""
        name += " (required)" if tally.severity is Severity.REQUIRED else ""
        rows.append(
            (name, *(words.before_and_after(tally.verdicts.get(column)) for column in columns))
        )
    paper.rows(rows)
    paper.gap()


def _section(paper: Paper, diff: Diff, section: words.Section) -> None:
    found, blocks = words.of_section(diff, section)
    if not found and not blocks:
        return
    paper.sentence((section.title, "head"))
    paper.gap()
    for change in found[:_TOLD]:
        _finding(paper, diff, change)
    left = found[_TOLD:]
    if left:
        paper.sentence(f"and {plural(len(left), 'finding')} more: {_ALL}", indent=2)
        paper.gap()
    if blocks:
        rows = [(c.where, words.pairs(c, diff), words.turned(c, diff)) for c in blocks[:_TOLD]]
        paper.rows(rows, indent=2)
        rest = blocks[_TOLD:]
        if rest:
            cells = sum(change.cells for change in rest)
            paper.sentence(
                f"and {plural(len(rest), 'block')} more, {plural(cells, 'cell')}: {_ALL}", indent=2
            )
        paper.gap()


def _finding(paper: Paper, diff: Diff, change: FindingChange) -> None:
    """What there is now with its change; what is no more in a line."""
    course = words.COURSES[change.course]
    if change.after is not None:
        tell_finding(
            paper, change.after._replace(identifier=f"{change.after.identifier} {course}"),
            diff.after.matrix,
        )  # fmt: skip
        for sentence in change.differences:
            paper.sentence((f"{sentence[0].upper()}{sentence[1:]}", "dim"), indent=4)
    else:
        for finding in change.before:
            look = "good" if change.course.value in ("mended", "cleared", "gone") else None
            look = look or style(finding)
            paper.item(
                (f"BEFORE's {finding.identifier} {course}", look),
                (str(finding.severity), look),
                (finding.title, look),
            )
        for sentence in change.differences:
            paper.sentence(sentence, indent=4)
    paper.gap()


def _moves(paper: Paper, diff: Diff) -> None:
    if diff.mtu:
        paper.sentence(("Path MTU", "head"))
        paper.rows(
            [
                (move.where, f"{words.size(move.before)} → {words.size(move.after)}")
                for move in diff.mtu[:_TOLD]
            ],
            indent=2,
        )
        _rest(paper, len(diff.mtu))
    if diff.rtt:
        paper.sentence(("Round trips", "head"))
        several = len(diff.families) > 1
        paper.rows(
            [
                (
                    move.where + (f" ({move.family})" if several else ""),
                    plural(move.pairs, "pair"),
                    f"{move.before_ms:g} → {move.after_ms:g} ms",
                )
                for move in diff.rtt[:_TOLD]
            ],
            indent=2,
        )
        _rest(paper, len(diff.rtt))


def _rest(paper: Paper, number: int) -> None:
    if number > _TOLD:
        paper.sentence(f"and {number - _TOLD} more: {_ALL}", indent=2)
    paper.gap()


def _cells(paper: Paper, diff: Diff) -> None:
    """Each cell on a line of its own."""
    paper.sentence(("Cells", "head"))
    rows = [tuple(_cell(cell, diff)) for cell in islice(diff.cells(), _CELLS)]
    turned = diff.turns()
    left = sum(turned.values()) - turned.get(Turn.SAME, 0) - len(rows)
    if rows:
        paper.rows(rows, indent=2)
    if left:
        paper.sentence(f"and {plural(left, 'cell')} more: {_ALL}, with --cells", indent=2)
    paper.gap()


def _cell(cell: CellChange, diff: Diff) -> Iterator[str]:
    names = [diff.nodes[position].node.name for position in (cell.source, cell.destination)]
    family = f" {cell.family}" if len(diff.families) > 1 else ""
    yield " → ".join(names)
    yield f"{diff.probe_names[cell.probe]}{family}"
    yield str(cell.turn)
    before, after = (
        words.state(None if outcome is None else Kind(*outcome[:5]), diff)
        for outcome in (cell.before, cell.after)
    )
    yield before if before == after else f"{before} → {after}"


def _summary(diff: Diff, width: int, *, color: bool) -> list[str]:
    lines: list[str] = []
    for severity in (Severity.RECOMMENDED, Severity.REQUIRED):
        told = words.summary(diff, severity)
        if told is not None:
            lines += [paint(line, told[1], color=color) for line in wrap(told[0], width)]
    return lines
