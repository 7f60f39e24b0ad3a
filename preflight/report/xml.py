"""XML in ASCII, whatever it says: it reads the same in any encoding, and every parser takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from preflight.report.text import clean

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def text(words: str) -> str:
    """One line of an element's text, or an attribute's value."""
    # Printable text has none of the characters that XML forbids.
    return escape(clean(words)).encode("ascii", "xmlcharrefreplace").decode("ascii")


def lines(several: Iterable[str]) -> str:
    """An element's text of several lines."""
    return "\n".join(map(text, several))


def start(tag: str, **attributes: object) -> str:
    """`<tag name="value">`; attributes that are None are left out."""
    told = [f'{key}="{text(str(v))}"' for key, v in attributes.items() if v is not None]
    return f"<{' '.join([tag, *told])}>"


def element(tag: str, content: str = "", **attributes: object) -> str:
    """An element whose content is XML already."""
    head = start(tag, **attributes)
    return f"{head}{content}</{tag}>" if content else f"{head[:-1]}/>"


def indented(parts: Iterable[str], columns: int = 1) -> Iterator[str]:
    """Each part on a line."""
    for part in parts:
        yield f"{' ' * columns}{part}\n"
