"""Draws grids of one-character cells next to each other, or below where the width ends.

All grids share their rows and columns. Columns are headed by name where the names fit, else by
the number that the row of the same node carries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from preflight.report.text import cells, pad, paint, shorten

_GAP = "   "  # between grids
_MARGIN = "  "  # between labels and grids
_TEN = 10  # numbered columns stand in tens
_ONE_TEN = 14  # up to so many need no gap after the first ten
_LONG_HEAD = 8  # longer names would tear columns apart,
_MANY_HEADS = 12  # and so would any name in more than so many


class Grid(NamedTuple):
    """One titled grid; `lines` holds a string of signs for each row."""

    title: str
    title_style: str | None
    lines: Sequence[str]
    style: Callable[[str], str | None]  # of a sign


class Axis(NamedTuple):
    """What rows or columns stand for: their numbers, counted from 1, and names."""

    numbers: Sequence[int]
    names: Sequence[str]

    def part(self, columns: range) -> Axis:
        """Some of it."""
        return Axis([self.numbers[i] for i in columns], [self.names[i] for i in columns])


def label_room(width: int) -> int:
    """The longest name that a row can bear; `draw` shortens what is longer."""
    return max(12, width - 24)


def fits(grids: Sequence[Grid], rows: Axis, columns: Axis, width: int) -> bool:
    """True where all grids can stand side by side."""
    return any(
        _fits(grids, p, width - cells(_labels(rows, width, p)[0])) for p in _pitches(columns)
    )


def draw(grids: Sequence[Grid], rows: Axis, columns: Axis, width: int, *, color: bool) -> list[str]:
    """The grids as lines of at most `width` cells, in panels of columns where it must be."""
    everywhere = range(len(columns.names))
    # Side by side as wide apart as can be, else below each other as wide apart as can be.
    for together in (grids, grids[:1]):
        for pitch in _pitches(columns):
            labels = _labels(rows, width, pitch)
            if _fits(together, pitch, width - cells(labels[0])):
                return _bands(grids, labels, everywhere, pitch, width, color=color)
    labels = _labels(rows, width, _stacked(columns, 1))
    room = width - cells(labels[0]) - len(_MARGIN)
    per_panel = max(1, (room + 1) // (_TEN + 1)) * _TEN
    lines: list[str] = []
    for start in everywhere[::per_panel]:
        part = everywhere[start : start + per_panel]
        shown = columns.part(part)
        title = f"columns {shown.numbers[0]} to {shown.numbers[-1]}"
        lines.append(paint(title, "head", color=color))
        lines += _bands(grids, labels, part, _stacked(shown, 1), width, color=color)
    return lines


class _Pitch(NamedTuple):
    """How columns are set: the width of each, what is above them, and gaps after each ten."""

    column: int
    heads: Sequence[Sequence[str]]  # lines of one text for each column
    gap: int
    tens: bool
    named: bool = False

    def line(self, parts: Sequence[str]) -> str:
        """One text for each column, side by side; a sign stands under the middle of its head."""
        text: list[str] = []
        for i, part in enumerate(parts):
            if i:
                text.append(" " * (self.gap + (self.tens and i % _TEN == 0)))
            left = (self.column - 1) // 2 if len(part) == 1 else 0
            text.append(pad(" " * left + part, self.column))
        return "".join(text)

    def width(self) -> int:
        return cells(self.line(self.heads[0]))


def _pitches(columns: Axis) -> list[_Pitch]:
    """The ways to set the columns, the widest first."""
    longest = max(map(cells, columns.names))
    many = len(columns.names) > _MANY_HEADS
    named = _Pitch(longest, [columns.names], 1, tens=False, named=True)
    numbered = [_stacked(columns, 2), _stacked(columns, 1)]
    return [named, *numbered] if longest <= (2 if many else _LONG_HEAD) else numbered


def _stacked(columns: Axis, step: int) -> _Pitch:
    """Numbers upright, their higher digits only at each ten and at the first column."""
    digits = len(str(max(columns.numbers)))
    heads = []
    for place in range(digits):
        line = []
        for position, number in enumerate(columns.numbers):
            shown = place == digits - 1 or number % _TEN == 0 or position == 0
            line.append(f"{number:>{digits}}"[place] if shown else " ")
        heads.append(line)
    return _Pitch(1, heads, step - 1, tens=len(columns.numbers) > _ONE_TEN)


def _labels(rows: Axis, width: int, pitch: _Pitch) -> list[str]:
    names = [shorten(name, label_room(width)) for name in rows.names]
    longest = max(map(cells, names))
    if pitch.named or all(map(_says, rows.names, rows.numbers)):
        return [pad(name, longest) for name in names]
    digits = len(str(max(rows.numbers)))
    return [
        f"{n:>{digits}} {pad(name, longest)}" for n, name in zip(rows.numbers, names, strict=True)
    ]


def _says(name: str, number: int) -> bool:
    """True where a name ends with its number, so that nobody needs to be told."""
    found = re.search(r"\d+$", name)
    return found is not None and int(found[0]) == number


def _fits(grids: Sequence[Grid], pitch: _Pitch, room: int) -> bool:
    wide = [max(pitch.width(), cells(grid.title)) for grid in grids]
    return len(_MARGIN) + sum(wide) + len(_GAP) * (len(grids) - 1) <= room


def _bands(
    grids: Sequence[Grid],
    labels: Sequence[str],
    columns: range,
    pitch: _Pitch,
    width: int,
    *,
    color: bool,
) -> list[str]:
    """The grids in as many bands as the width asks for."""
    lines: list[str] = []
    band: list[Grid] = []
    for grid in grids:
        if band and not _fits([*band, grid], pitch, width - cells(labels[0])):
            lines += _band(band, labels, columns, pitch, color=color)
            band = []
        band.append(grid)
    return [*lines, *_band(band, labels, columns, pitch, color=color)]


def _band(
    grids: Sequence[Grid], labels: Sequence[str], columns: range, pitch: _Pitch, *, color: bool
) -> list[str]:
    """Titles, heads, a line for each row, and an empty one."""
    widths = [max(pitch.width(), cells(grid.title)) for grid in grids]
    blank = " " * cells(labels[0])

    def line(label: str, parts: Sequence[str]) -> str:
        return (label + _MARGIN + _GAP.join(parts)).rstrip()

    titles = [
        paint(g.title, g.title_style, color=color) + " " * (w - cells(g.title))
        for g, w in zip(grids, widths, strict=True)
    ]
    lines = [line(blank, titles)]
    for head in pitch.heads:
        text = pitch.line(head)
        parts = [paint(text, "dim", color=color) + " " * (w - cells(text)) for w in widths]
        lines.append(line(blank, parts))
    for row, label in enumerate(labels):
        parts = []
        for grid, w in zip(grids, widths, strict=True):
            signs = pitch.line(grid.lines[row][columns.start : columns.stop])
            parts.append(_painted(signs, grid, color=color) + " " * (w - len(signs)))
        lines.append(line(label, parts))
    return [*lines, ""]


def _painted(signs: str, grid: Grid, *, color: bool) -> str:
    """Runs of signs in their styles; gaps inside a run belong to it."""
    if not color:
        return signs
    runs: list[tuple[str | None, str]] = []
    for style, run in groupby(signs, key=lambda sign: None if sign == " " else grid.style(sign)):
        text = "".join(run)
        if len(runs) > 1 and runs[-1][0] is None and runs[-2][0] == style:
            _, gap = runs.pop()
            _, before = runs.pop()
            text = before + gap + text
        runs.append((style, text))
    return "".join(paint(text, style, color=color) for style, text in runs)
