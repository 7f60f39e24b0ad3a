"""What a piece of prose is made of, whatever it is written on: a terminal's lines, a page."""

from __future__ import annotations

from typing import Protocol

Words = str | tuple[str, str]  # a text, or a text and its style


class Writer(Protocol):
    """Takes one piece after the other. All text is made clean; `indent` counts columns."""

    def sentence(self, *words: Words, indent: int = 0) -> None:
        """Words on as many lines as they need; those without a style are plain."""

    def item(self, *columns: Words, indent: int = 0) -> None:
        """Words side by side; the last column is wrapped and hangs under its own beginning."""

    def bullet(self, words: Words, *, indent: int = 0) -> None:
        """One of several sentences that stand below each other."""

    def command(self, text: str, *, indent: int = 0) -> None:
        """A line to be copied: as it is, however long, so that no break of ours gets into it."""

    def gap(self) -> None:
        """The end of a paragraph."""
