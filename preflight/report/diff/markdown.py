"""A diff for a ticket: short, and what got worse first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TextIO

from preflight.core.diff.model import Course, Diff, FindingChange
from preflight.core.model import Severity
from preflight.core.terms import plural
from preflight.report.diff import words
from preflight.report.diff.presentable import presentable_diff
from preflight.report.findings import tell_finding
from preflight.report.text import Speech, clean
from preflight.report.writing import Words

_TOLD = 8  # findings, and blocks of cells, of one section
_IN_FULL = frozenset(
    {Course.NEW, Course.WIDER, Course.WORSE, Course.CHANGED, Course.REVEALED, Course.SAME,
     Course.NARROWER}
)  # fmt: skip
_ALL = "`preflight diff --format json` has all"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def write(diff: Diff, files: Sequence[str], file: TextIO) -> None:
    """Write the comparison as GitHub-flavoured Markdown."""
    speech = Speech(file)
    shown = presentable_diff(diff, speech)
    text = "\n".join(_lines(shown, [speech.name(name) for name in files]))
    text = re.sub(r"\n{3,}", "\n\n", text)
    file.write(speech.say(text.strip("\n") + "\n"))


def _lines(diff: Diff, files: Sequence[str]) -> Iterator[str]:
    yield "## Preflight: before and after"
    yield ""
    for severity in Severity:
        told = words.summary(diff, severity)
        if told is not None:
            text = _plain(told[0])
            yield f"- **{text}**" if told[1] == "bad" else f"- {text}"
    yield ""
    when = words.later(diff)
    after = words.run(diff.after) + (f", {when}" if when else "")
    yield f"Before: `{_code(files[0])}`, {_plain(words.run(diff.before))}  "
    yield f"After: `{_code(files[1])}`, {_plain(after)}"
    yield ""
    yield from _counts(diff)
    for section in words.SECTIONS:
        yield from _section(diff, section)
    yield from _moves(diff)
    if diff.notes:
        yield "### Notes"
        yield ""
        yield from (f"- {_plain(note)}" for note in diff.notes)


def _counts(diff: Diff) -> Iterator[str]:
    columns = words.verdict_columns(diff)
    if not columns:
        return
    several = len(diff.families) > 1
    yield "| cells | " + " | ".join(name.replace("-", " ") for name in columns) + " |"
    yield "|---" + "|---:" * len(columns) + "|"
    for tally in diff.tallies:
        name = diff.probe_names[tally.test.probe] + (f" {tally.test.family}" if several else "")
        name += " (required)" if tally.severity is Severity.REQUIRED else ""
        cells = (words.before_and_after(tally.verdicts.get(column)) for column in columns)
        yield f"| {_plain(name)} | " + " | ".join(cells) + " |"
    yield ""


def _section(diff: Diff, section: words.Section) -> Iterator[str]:
    found, blocks = words.of_section(diff, section)
    if not found and not blocks:
        return
    yield f"### {section.title}"
    yield ""
    for change in found[:_TOLD]:
        yield from _finding(diff, change)
    if len(found) > _TOLD:
        yield f"… and {plural(len(found) - _TOLD, 'finding')} more: {_ALL}."
        yield ""
    if blocks:
        yield "| where | cells | before → after |"
        yield "|---|---|---|"
        for block in blocks[:_TOLD]:
            row = (block.where, words.pairs(block, diff), words.turned(block, diff))
            yield "| " + " | ".join(map(_plain, row)) + " |"
        yield ""
        rest = blocks[_TOLD:]
        if rest:
            cells = sum(block.cells for block in rest)
            yield f"… and {plural(len(rest), 'block')} more, {plural(cells, 'cell')}: {_ALL}."
            yield ""


def _finding(diff: Diff, change: FindingChange) -> Iterator[str]:
    course = words.COURSES[change.course]
    if change.after is not None and change.course in _IN_FULL:
        page = _Page()
        after = change.after
        tell_finding(page, after._replace(identifier=f"{after.identifier} {course}"),
                     diff.after.matrix)  # fmt: skip
        yield from page.lines
    elif change.after is not None:
        yield f"**{change.after.identifier} {course}**: {_plain(change.after.title)}"
        yield ""
    else:
        for finding in change.before:
            yield f"**BEFORE's {finding.identifier} {course}**: {_plain(finding.title)}"
            yield ""
    for sentence in change.differences:
        yield f"- {_plain(sentence)}"
    yield ""


def _moves(diff: Diff) -> Iterator[str]:
    rows = [
        (move.where, f"path MTU {words.size(move.before)} → {words.size(move.after)}")
        for move in diff.mtu
    ]
    rows += [
        (move.where, f"round trip {move.before_ms:g} → {move.after_ms:g} ms ({move.family})")
        for move in diff.rtt
    ]
    if not rows:
        return
    yield "### Moved"
    yield ""
    yield from (f"- {_plain(where)}: {_plain(what)}" for where, what in rows[:_TOLD])
    if len(rows) > _TOLD:
        yield f"- … and {len(rows) - _TOLD} more: {_ALL}."
    yield ""


class _Page:
    """Takes a finding piece by piece; `lines` are its Markdown."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._in = ""  # what the last line belongs to: a list, a block of commands

    def sentence(self, *words_: Words, indent: int = 0) -> None:
        text = "".join(map(_words, words_))
        self._turn("list" if indent > 4 else "text")
        self._lines.append(f"- {text}" if indent > 4 else text)
        if indent <= 4:
            self._lines.append("")

    def item(self, *columns: Words, indent: int = 0) -> None:  # noqa: ARG002
        self._turn("text")
        first, *rest = (_words(column) for column in columns)
        self._lines += [f"**{first}** {': '.join(rest)}", ""]

    def bullet(self, words_: Words, *, indent: int = 0) -> None:  # noqa: ARG002
        self._turn("list")
        self._lines.append(f"- {_words(words_)}")

    def command(self, text: str, *, indent: int = 0) -> None:  # noqa: ARG002
        self._turn("code")
        self._lines.append(f"    {clean(text)}")

    def gap(self) -> None:
        self._turn("")

    @property
    def lines(self) -> list[str]:
        """All that was written."""
        return [*self._lines, ""]

    def _turn(self, kind: str) -> None:
        if kind != self._in and self._lines and self._lines[-1]:
            self._lines.append("")
        self._in = kind


def _words(words_: Words) -> str:
    text = words_ if isinstance(words_, str) else words_[0]
    return _plain(text)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def _code(text: str) -> str:
    return clean(text).replace("`", "'")
