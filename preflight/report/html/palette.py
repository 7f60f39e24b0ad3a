"""The colours, in one place: the style sheet, the pictures and the tests read them here.

A cell's sign alone tells what it is; colour only repeats it. What is open is the palest, what is
bad the darkest (on a dark page the brightest), so that the two differ in lightness for every eye.
The hues follow the palette of Okabe and Ito, which stay apart for people who do not see red or
green.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Ink(NamedTuple):
    """A field's colour and the colour of its sign."""

    fill: str
    sign: str


class Theme(NamedTuple):
    """All colours of one theme."""

    page: Mapping[str, str]
    cells: Mapping[str, Ink]


# Text on the page: each is read against `paper` and against `panel`.
TEXT = ("ink", "soft", "link", "good", "bad", "warn", "unknown")
# Cells: what every report has, and after `broken` what a comparison adds.
CELLS = (
    "open", "source", "path", "destination", "place", "lossy", "closed", "unknown", "none",
    "broken", "worse", "otherwise", "still", "eased", "mended", "lost", "once",
)  # fmt: skip

LIGHT = Theme(
    {
        "paper": "#ffffff", "panel": "#f5f7f9", "line": "#c9d1d9", "edge": "#77818c",
        "ink": "#16202a", "soft": "#4d5863", "link": "#0b57a4", "focus": "#0b57a4",
        "good": "#0b6b4f", "bad": "#b3261e", "warn": "#7d5200", "unknown": "#4a5a78",
        "goodfill": "#e3f3ec", "badfill": "#fbe6e2",
        "warnfill": "#fff1d6", "unknownfill": "#e8ecf4",
    },
    {
        "open": Ink("#dcefe9", "#3c6a5d"),
        "source": Ink("#553000", "#ffffff"),
        "path": Ink("#cf3d16", "#ffffff"),
        "destination": Ink("#8a1a62", "#ffffff"),
        "place": Ink("#1d1a22", "#ffffff"),
        "lossy": Ink("#e8a200", "#231800"),
        "closed": Ink("#1f5fa8", "#ffffff"),
        "unknown": Ink("#a3acb8", "#16202a"),
        "none": Ink("#ffffff", "#5c6670"),
        "broken": Ink("#b3200f", "#ffffff"),
        "worse": Ink("#d9541e", "#120600"),
        "otherwise": Ink("#8e1f66", "#ffffff"),
        "still": Ink("#cfa9a0", "#2c1512"),
        "eased": Ink("#5fa9dc", "#06202f"),
        "mended": Ink("#0a5c93", "#ffffff"),
        "lost": Ink("#8b95a3", "#10161c"),
        "once": Ink("#d3c6ec", "#362b52"),
    },
)  # fmt: skip
DARK = Theme(
    {
        "paper": "#12171d", "panel": "#1b222b", "line": "#39434f", "edge": "#8490a0",
        "ink": "#e8edf2", "soft": "#abb6c2", "link": "#7db8ff", "focus": "#9fcbff",
        "good": "#6fd3ae", "bad": "#ff9a8a", "warn": "#f5c25a", "unknown": "#b3c2e0",
        "goodfill": "#16352b", "badfill": "#431d19",
        "warnfill": "#3a2c0d", "unknownfill": "#283246",
    },
    {
        "open": Ink("#1d3a38", "#9cc9bd"),
        "source": Ink("#fff0d0", "#2a1c00"),
        "path": Ink("#ff6f4a", "#1f0700"),
        "destination": Ink("#f08fd0", "#230017"),
        "place": Ink("#c7b8ff", "#150a3a"),
        "lossy": Ink("#d9b400", "#1d1700"),
        "closed": Ink("#4f9dff", "#001429"),
        "unknown": Ink("#66707e", "#ffffff"),
        "none": Ink("#12171d", "#98a3af"),
        "broken": Ink("#ff6451", "#1f0300"),
        "worse": Ink("#ffcbb5", "#261000"),
        "otherwise": Ink("#ff9fe0", "#230017"),
        "still": Ink("#7c4a41", "#ffffff"),
        "eased": Ink("#3d86bd", "#00060c"),
        "mended": Ink("#62b7ff", "#00131f"),
        "lost": Ink("#7d8896", "#05080b"),
        "once": Ink("#3a3450", "#d8d0ea"),
    },
)  # fmt: skip


def style() -> str:
    """Both themes as custom properties: what the reader's system asks for, or what is chosen."""
    light, dark = _block(LIGHT), _block(DARK)
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;"
        f"{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
        f"@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]"
        f"{{color-scheme:light;{light}}}}}\n"
    )


def cell_style() -> str:
    """A class for each kind of cell."""
    return "".join(
        f".k-{name}{{background:var(--c-{name});color:var(--s-{name})}}\n"
        f".f-{name}{{fill:var(--c-{name})}}\n"
        for name in CELLS
    )


def _block(theme: Theme) -> str:
    return "".join(f"--{name}:{value};" for name, value in _properties(theme))


def _properties(theme: Theme) -> Iterator[tuple[str, str]]:
    yield from theme.page.items()
    for name, ink in theme.cells.items():
        yield f"c-{name}", ink.fill
        yield f"s-{name}", ink.sign
