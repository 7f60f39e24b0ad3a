"""HTML as text: escaped, free of control characters, and ASCII whatever it says.

A page is written to whatever stream there is; with character references for all that is not ASCII
it reads the same in any encoding.
"""

from __future__ import annotations

import json
from html import escape

from preflight.report.text import clean


def text(words: str) -> str:
    """`words` as an element's text or an attribute's value."""
    return ascii_only(escape(clean(words)))


def verbatim(words: str) -> str:
    """The same for what must not lose a space: a command."""
    return ascii_only(escape("".join(c if c.isprintable() else "?" for c in words)))


def ascii_only(markup: str) -> str:
    """Character references for what is not ASCII."""
    return markup.encode("ascii", "xmlcharrefreplace").decode("ascii")


def element(tag: str, content: str, classes: str = "", **attributes: str) -> str:
    """An element around markup; `attributes` are escaped, a trailing `_` of a name is dropped."""
    given = {"class": classes} if classes else {}
    given |= {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    told = "".join(f' {name}="{text(value)}"' for name, value in given.items())
    return f"<{tag}{told}>{content}</{tag}>"


def data(value: object) -> str:
    """JSON that can stand in a `script` element: nothing in it looks like markup."""
    told = json.dumps(value, separators=(",", ":"))
    return told.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
