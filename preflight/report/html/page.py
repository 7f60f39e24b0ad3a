"""One file that needs nothing else: markup, style, script and data."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import NamedTuple

from preflight import __version__
from preflight.report.html.markup import element, text
from preflight.report.html.palette import cell_style, style

STYLES = ("page.css", "matrix.css", "cell.css", "narrow.css", "print.css")
SCRIPTS = (
    "dom.js", "data.js", "stories.js", "state.js", "selection.js", "view.js", "tally.js",
    "canvas.js", "keys.js", "overview.js", "grid.js", "cell.js", "controls.js", "trail.js",
    "paper.js", "main.js",
)  # fmt: skip


_PRINTED = 64  # entries of a folded section that are worth paper


class Section(NamedTuple):
    """A part of the page with a heading and an entry in its table of contents."""

    name: str  # its id
    title: str
    markup: str
    folded: bool = False
    number: int | None = None  # of what is in it


def write(
    title: str, top: str, sections: Sequence[Section], scripts: Iterable[str]
) -> Iterator[str]:
    """The page in pieces. `top` is the header's markup, `scripts` are data elements."""
    css = style() + cell_style() + "\n".join(map(_asset, STYLES))
    code = "(() => {\n'use strict';\n" + "\n".join(map(_asset, SCRIPTS)) + "})();\n"
    page = Template(_asset("page.html")).substitute(
        title=text(title),
        policy=_policy(css, code),
        version=text(__version__),
        style=css,
        top=top,
        contents=_contents(sections),
        sections="".join(map(_section, sections)),
        data="\0",
        script=code,
    )
    before, after = page.split("\0")
    yield before
    yield from scripts
    yield after


def matrix() -> str:
    """The part that the script fills."""
    return _asset("matrix.html")


def _policy(css: str, code: str) -> str:
    """Nothing is fetched, and nothing runs but this very style and script."""
    return (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(code)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


def _hash(content: str) -> str:
    return "sha256-" + b64encode(sha256(content.encode()).digest()).decode("ascii")


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")


def _contents(sections: Sequence[Section]) -> str:
    entries = []
    for section in sections:
        count = "" if section.number is None else f" ({section.number:,})"
        link = element("a", text(f"{section.title}{count}"), href=f"#{section.name}")
        entries.append(element("li", link))
    return element("ul", "".join(entries))


def _section(section: Section) -> str:
    head = element("h2", text(section.title), id=f"{section.name}-head")
    body = section.markup
    if section.folded:
        long = (section.number or 0) > _PRINTED
        body = element("details", element("summary", head) + body, "long" if long else "")
        head = ""
    return element("section", head + body, id=section.name, aria_labelledby=f"{section.name}-head")
