"""Text on its way to a terminal: in colour or not, UTF-8 or ASCII, free of control characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TextIO
from unicodedata import combining, east_asian_width

_SGR = {
    "good": "32",
    "bad": "1;31",
    "warn": "1;33",
    "unknown": "1;36",
    "dim": "2",
    "head": "1",
}
# The signs that stand in columns are replaced one by one.
_ASCII = str.maketrans({"·": ".", "…": "~", "→": "->", "↔": "<->"})
# What terminals take for commands: colours and cursor moves, titles and links.
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


def paint(text: str, style: str | None, *, color: bool) -> str:
    """`text` in one of the styles, or as it is where there is none or `color` is off."""
    if not color or style is None or not text:
        return text
    return f"\x1b[{_SGR[style]}m{text}\x1b[0m"


def clean(text: str) -> str:
    """`text` on one line, all that could steer a terminal replaced.

    Reasons and names come from nodes and files: control characters, escape sequences, line
    breaks, surrogates and direction overrides never get through.
    """
    if text.isprintable():
        return text
    text = " ".join(_ESCAPE.sub("", text).split())
    return "".join(c if c.isprintable() else "?" for c in text)


def cells(text: str) -> int:
    """How many terminal cells printable text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, width: int) -> str:
    """`text` with spaces up to `width` cells."""
    return text + " " * (width - cells(text))


def shorten(text: str, width: int) -> str:
    """`text`, its middle replaced by `…` where it takes more than `width` cells."""
    if cells(text) <= width:
        return text
    head, tail = text[: width // 2], text[len(text) - width + width // 2 :]
    while head and tail and cells(head) + cells(tail) + 1 > width:
        head, tail = head[:-1], tail[1:]
    return f"{head}…{tail}"


def flow(items: Sequence[str], width: int, gap: str) -> list[str]:
    """The items in lines of at most `width` cells, `gap` between those on one line."""
    lines: list[str] = []
    for item in items:
        if lines and cells(lines[-1]) + len(gap) + cells(item) <= width:
            lines[-1] += gap + item
        else:
            lines.append(item)
    return lines


def wrap(text: str, width: int) -> list[str]:
    """A sentence in lines of at most `width` cells, but for words that are longer."""
    return flow(text.split(" "), width, " ")


class Speech:
    """What a stream's encoding can say."""

    def __init__(self, file: TextIO) -> None:
        self._encoding = getattr(file, "encoding", None) or "utf-8"
        self.signs = self._can("".join(map(chr, _ASCII)))

    def _can(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except (UnicodeError, LookupError):
            return False
        return True

    def name(self, text: str) -> str:
        """`text` made clean, escapes for what the encoding lacks: as wide as it will be shown."""
        text = clean(text)
        return text if self._can(text) else text.encode("ascii", "backslashreplace").decode("ascii")

    def exactly(self, text: str) -> bool:
        """Whether `text` is one line that comes out as it is."""
        return text.isprintable() and self._can(text) and (self.signs or text == self.say(text))

    def say(self, text: str) -> str:
        """`text` as the stream can take it, its signs in ASCII where they must be."""
        if not self.signs:
            text = text.translate(_ASCII)
        if self._can(text):
            return text
        return text.encode("ascii", "backslashreplace").decode("ascii")
