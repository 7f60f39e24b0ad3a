"""Findings and causes as HTML, from the same sentences that a terminal gets."""

from __future__ import annotations

from preflight.report.html.markup import element, text, verbatim
from preflight.report.writing import Words

_SPANS = {"head": "strong"}
_SHOWN = 24  # pieces of one finding that stand open, where there are many more
_FOLDED = 8  # fewer than these are not worth a fold


class Page:
    """Takes one piece after the other; `markup` is all of them."""

    def __init__(self) -> None:
        self._parts: list[list[str]] = []
        self._pieces: list[str] = []
        self._bullets: list[str] = []
        self._commands: list[str] = []

    def sentence(self, *words: Words, indent: int = 0) -> None:
        """A paragraph; those further in are told apart by their class."""
        self._close()
        deeper = "in" if indent > 4 else ""
        self._pieces.append(element("p", "".join(map(_words, words)), deeper))

    def item(self, *columns: Words, indent: int = 0) -> None:  # noqa: ARG002
        """A heading made of columns."""
        self._close()
        told = " ".join(
            element("span", _words(column), f"col{place}") for place, column in enumerate(columns)
        )
        self._pieces.append(element("h3", told))

    def bullet(self, words: Words, *, indent: int = 0) -> None:  # noqa: ARG002
        """One line of a list."""
        self._close_commands()
        self._bullets.append(element("li", _words(words)))

    def command(self, text: str, *, indent: int = 0) -> None:  # noqa: ARG002
        """A line of a block that can be copied whole."""
        self._close_bullets()
        self._commands.append(element("code", verbatim(text)))

    def gap(self) -> None:
        """The end of a part."""
        self._close()
        if self._pieces:
            self._parts.append(self._pieces)
            self._pieces = []

    def parts(self) -> list[str]:
        """What stands between gaps, each as an element."""
        self.gap()
        return [element("div", "".join(part), "part") for part in self._parts]

    def markup(self) -> str:
        """All of it as one; the end of very much is folded."""
        self.gap()
        pieces = [piece for part in self._parts for piece in part]
        if len(pieces) < _SHOWN + _FOLDED:
            return "".join(pieces)
        rest = pieces[_SHOWN:]
        more = element("summary", f"{len(rest)} lines more")
        return "".join(pieces[:_SHOWN]) + element("details", more + "".join(rest))

    def _close(self) -> None:
        self._close_bullets()
        self._close_commands()

    def _close_bullets(self) -> None:
        if self._bullets:
            self._pieces.append(element("ul", "".join(self._bullets)))
            self._bullets = []

    def _close_commands(self) -> None:
        if self._commands:
            lines = "\n".join(self._commands)
            self._pieces.append(element("div", element("pre", lines, tabindex="0"), "command"))
            self._commands = []


def _words(words: Words) -> str:
    if isinstance(words, str):
        return text(words)
    said, style = words
    return element(_SPANS.get(style, "span"), text(said), style)
