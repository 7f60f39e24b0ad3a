"""A terminal's whole screen, redrawn in place, and given back however the process ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TextIO

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the alternate screen, no cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """Shows lines from `enter` to `leave`. Used from the main thread.

    Ctrl-Z leaves it while the process is stopped; `again` is called once it goes on.
    """

    def __init__(self, file: TextIO, again: Callable[[], None]) -> None:
        self._file = file
        self._again = again
        self._shown = False
        self._before: signal._HANDLER = None

    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        try:
            columns, lines = os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            return 80, 24
        return columns or 80, lines or 24

    def enter(self) -> None:
        """Take the screen."""
        self._file.flush()
        self._before = signal.signal(signal.SIGTSTP, self._suspend)
        self._take()

    def show(self, lines: Sequence[str]) -> None:
        """Draw lines that fit; nothing scrolls, and nothing flickers."""
        if self._shown:
            text = "\n".join(line + _REST_OF_LINE for line in lines)
            self._write(f"{_HOME}{text}{_REST_OF_SCREEN}")

    def leave(self) -> None:
        """Give it back. May be called again."""
        if self._before is not None:
            signal.signal(signal.SIGTSTP, self._before)
            self._before = None
        self._give_back()

    def _take(self) -> None:
        self._shown = True
        self._write(_ENTER)

    def _give_back(self) -> None:
        if self._shown:
            self._shown = False
            self._write(_LEAVE)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here it stops, and from here it goes on
        signal.signal(signal.SIGTSTP, self._suspend)
        self._take()
        self._again()

    def _write(self, text: str) -> None:
        data = text.encode(self._file.encoding, "replace")
        try:
            while data:  # not by the file, which a signal's handler may not enter again
                data = data[os.write(self._file.fileno(), data) :]
        except OSError:
            self._shown = False  # the terminal is gone: there is nothing to give back
