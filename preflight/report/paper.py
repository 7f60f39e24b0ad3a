"""Lines of sentences, wrapped and indented by rich; and commands, which nobody may wrap."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from preflight.report.text import clean, paint
from preflight.report.writing import Words

_NAME = 40  # cells for a name beside its reason; longer ones are folded
_READABLE = 110  # cells in a line that the eye still follows back
_STYLES = {
    "plain": Style(bold=False),
    "good": Style(color="green"),
    "bad": Style(color="red", bold=True),
    "warn": Style(color="yellow", bold=True),
    "unknown": Style(color="cyan", bold=True),
    "head": Style(bold=True),
    "dim": Style(dim=True),
}


class Paper:
    """Takes one piece after the other; `lines` are all of them.

    No line is wider than `width` but for commands. All text is made clean.
    """

    def __init__(self, width: int, *, color: bool) -> None:
        self._out = StringIO()
        self._width = width
        self._color = color
        self._console = Console(
            file=self._out,
            width=width,
            color_system="standard" if color else None,
            force_terminal=color,
            no_color=not color,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )

    def sentence(self, *words: Words, indent: int = 0) -> None:
        """Words on as many lines as they need; those without a style are plain."""
        text = Text()
        for word in words:
            text.append_text(_text(word))
        self._print(text, indent, _READABLE)

    def item(self, *columns: Words, indent: int = 0) -> None:
        """Words side by side; the last column is wrapped and hangs under its own beginning."""
        self._print(_grid([columns]), indent, _READABLE)

    def bullet(self, words: Words, *, indent: int = 0) -> None:
        """`- words`."""
        self._print(_grid([("-", words)], gap=1), indent, _READABLE)

    def rows(self, rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
        """Columns as wide as their text, the last one wrapped."""
        self._print(_grid(rows), indent, self._width)

    def command(self, text: str, *, indent: int = 0) -> None:
        """A line to be copied: as it is, however long, so that no break of ours gets into it."""
        self._out.write(" " * indent + paint(text, "head", color=self._color) + "\n")

    def gap(self) -> None:
        """An empty line."""
        self._out.write("\n")

    @property
    def lines(self) -> list[str]:
        """All that was written."""
        return [line.rstrip() for line in self._out.getvalue().splitlines()]

    def _print(self, what: Text | Table, indent: int, widest: int) -> None:
        self._console.print(Padding(what, (0, 0, 0, indent)), width=min(widest, self._width))


def _text(words: Words) -> Text:
    text, style = (words, "plain") if isinstance(words, str) else words
    return Text(clean(text), _STYLES[style])


def _grid(rows: Sequence[Sequence[Words]], gap: int = 2) -> Table:
    table = Table.grid(padding=(0, gap, 0, 0))
    *first, _ = rows[0]
    for _ in first:
        table.add_column(overflow="fold", max_width=_NAME)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    return table
