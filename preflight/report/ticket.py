"""Text on its way into a ticket: Markdown that GitHub, GitLab and Jira all show alike.

Only what all three know is used: headings, bold, lists, tables and fenced code. What nodes and
files said is never markup, names nobody, and links nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from preflight.report.text import clean
from preflight.report.writing import Words

# An entity where a backslash would be shown by some.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKS = re.compile(r"[\\`*_\[\]|~&<>]")
# @name calls somebody, #1, !1, $1, %1 and &1 link to something; not from inside of code.
_CALLS = re.compile(r"([@#!$%&])(?=\w)")
_COLONS = re.compile(r"[^\s:]*:[^\s:]*:\S*")  # an IPv6 address has what some show as a picture
_ENDS = ".,;)\"'"
_LEADS = re.compile(r"^(?:#|[-+](?=\s|$)|\d+[.)](?=\s|$)|[-=]+$)")
_TICKS = re.compile(r"`+")
_BOLD = ("head", "bad", "warn", "good", "unknown")
_ITEM = 6  # what stands as far in is one of several


def inline(text: str) -> str:
    """`text` as it is, in a paragraph, a list or a table."""
    words = clean(text).split(" ")
    return _unlike_markup(" ".join(_word(word) for word in words))


def code(text: str) -> str:
    """`text` as code, on its line."""
    text = clean(text)
    ticks = "`" * (max((len(run) for run in _TICKS.findall(text)), default=0) + 1)
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{edge}{text}{edge}{ticks}"


def fenced(lines: Sequence[str], language: str = "") -> list[str]:
    """Lines as they are, control characters replaced."""
    longest = max((len(run) for line in lines for run in _TICKS.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *("".join(map(_shown, line)) for line in lines), fence]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; its cells are Markdown already."""
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


class Ticket:
    """Takes one piece after the other; `lines` are all of them.

    `titles` says whether the first line of a finding is told in full, or by its number alone.
    """

    def __init__(self, *, titles: bool = True) -> None:
        self._titles = titles
        self._lines: list[str] = []
        self._commands: list[str] = []
        self._open = ""  # what the last lines are: bullets may go on

    def sentence(self, *words: Words, indent: int = 0) -> None:
        """A paragraph, or what is far in an item of a list."""
        text = "".join(_styled(word) for word in words)
        if indent >= _ITEM:
            self._add("bullet", f"- {text}")
        else:
            self._add("sentence", text)

    def item(self, *columns: Words, indent: int = 0) -> None:
        """Columns behind each other, the first of them bold."""
        del indent
        first, *rest = (_plain(column) for column in columns)
        more = f", {', '.join(map(inline, rest))}" if self._titles and rest else ""
        self._add("sentence", f"**{inline(first)}**{more}")

    def bullet(self, words: Words, *, indent: int = 0) -> None:
        """`- words`."""
        del indent
        self._add("bullet", f"- {_styled(words)}")

    def command(self, text: str, *, indent: int = 0) -> None:
        """A line of a block to be copied."""
        del indent
        self._commands.append(text)

    def gap(self) -> None:
        """The end of a paragraph."""
        self._close()
        self._open = ""

    def add(self, lines: Iterable[str]) -> None:
        """Lines that are Markdown already, as a block of their own."""
        self.gap()
        self._blank()
        self._lines += lines

    def heading(self, text: str) -> None:
        """Of a section."""
        self.add([f"### {inline(text)}"])

    @property
    def lines(self) -> list[str]:
        """All that was written."""
        self._close()
        return self._lines

    def _add(self, what: str, line: str) -> None:
        self._close()
        if what != "bullet" or self._open != "bullet":
            self._blank()
        self._lines.append(line)
        self._open = what

    def _close(self) -> None:
        if self._commands:
            self._blank()
            self._lines += fenced(self._commands, "sh")
            self._commands.clear()
            self._open = ""

    def _blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")


def _word(word: str) -> str:
    found = _COLONS.fullmatch(word.rstrip(_ENDS))
    if found and "`" not in word:
        bare = found[0]
        return code(bare).replace("|", "\\|") + _escaped(word[len(bare) :])
    return _escaped(word)


def _escaped(text: str) -> str:
    """Marks made harmless; a sign that calls or links is set as code, which does neither."""
    parts = _CALLS.split(text)
    return "".join(
        f"`{part}`" if position % 2 else _MARKS.sub(_escape, part)
        for position, part in enumerate(parts)
    )


def _escape(found: re.Match[str]) -> str:
    return _ENTITIES.get(found[0]) or f"\\{found[0]}"


def _unlike_markup(text: str) -> str:
    """What would make a line a list, a heading or a quotation does not."""
    found = _LEADS.match(text)
    if found is None:
        return text
    at = len(found[0]) - 1
    return f"{text[:at]}\\{text[at:]}"


def _styled(words: Words) -> str:
    if isinstance(words, str):
        lead, text, trail = _edges(words)
        return lead + inline(text) + trail if text else words
    lead, text, trail = _edges(words[0])
    return f"{lead}**{inline(text)}**{trail}" if text and words[1] in _BOLD else inline(words[0])


def _edges(text: str) -> tuple[str, str, str]:
    """Blanks before and after, which bold must not hold."""
    bare = text.strip()
    lead = " " if bare and text[0] == " " else ""
    trail = " " if bare and text[-1] == " " else ""
    return lead, bare, trail


def _plain(words: Words) -> str:
    return words if isinstance(words, str) else words[0]


def _shown(character: str) -> str:
    return character if character.isprintable() else "?"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
