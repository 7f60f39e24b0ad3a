"""What the terminal can do and the user wants of it."""

from __future__ import annotations

import os
import shutil
from typing import TextIO


def coloured(choice: str, file: TextIO) -> bool:
    """Whether to colour what goes to `file`.

    `choice` is `always`, `never` or `auto`: on a terminal, unless NO_COLOR is set.
    """
    if choice != "auto":
        return choice == "always"
    return file.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int:
    """Cells in a line: COLUMNS, else the terminal's width, else 80."""
    return shutil.get_terminal_size().columns
