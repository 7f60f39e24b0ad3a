"""What goes on, on stderr: one line that changes on a terminal, a line for each step elsewhere.

Plain carriage returns: a status line is no reason to import a terminal library before the first
packet is sent.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from preflight.core.terms import plural
from preflight.report.text import Speech, cells, clean

_SLOW_S = 2.0  # after which a node that is waited for is named
_BETWEEN_S = 0.05  # redraws closer together are not seen
_NAMED = 5  # slow nodes by name, the rest as a number


class Progress:
    """Tells of one phase after the other. To be called from one thread at a time.

    On a terminal the line is redrawn in place and gone after `close`. Elsewhere every phase
    and every node that is slow get one line. With `quiet` only notes are shown.
    """

    def __init__(
        self,
        file: TextIO,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = file
        self._quiet = quiet
        self._clock = clock
        self._live = not quiet and file.isatty()
        self._speech = Speech(file)
        self._text = ""
        self._total = self._done = 0
        self._began = self._drawn = float("-inf")
        self._waiting: Sequence[str] = ()
        self._told: set[str] = set()
        self._shown = ""

    def phase(self, text: str, total: int) -> None:
        """A new step, `connecting` or `second look: 12 cells`, with `total` nodes to wait for.

        0 is a step of which no node is counted.
        """
        self._text, self._total, self._done = clean(text), total, 0
        self._waiting, self._told = (), set()
        self._began = self._clock()
        if self._live:
            self._draw(force=True)
        elif not self._quiet:
            self._line(f"{self._text}: {plural(total, 'node')}" if total else self._text)

    def advance(self, node: str) -> None:
        """One more node is through this phase."""
        self._done += 1
        self._waiting = [name for name in self._waiting if name != node]
        if self._live:
            self._draw(force=self._done == self._total)

    def waiting(self, nodes: Sequence[str]) -> None:
        """The nodes that this phase still waits for; to be called now and then."""
        self._waiting = nodes
        if self._live:
            self._draw()
        elif not self._quiet and self._slow():
            new = [name for name in nodes if name not in self._told]
            if new:
                self._told.update(new)
                self._line(f"waiting for {_names(new)}")

    def note(self, text: str) -> None:
        """A line that stays, above the status line; the one thing that `quiet` does not silence."""
        self._clear()
        self._line(clean(text))
        if self._live and self._text:
            self._draw(force=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._clear()
        self._text = ""

    def _slow(self) -> bool:
        return self._clock() - self._began >= _SLOW_S

    def _draw(self, *, force: bool = False) -> None:
        now = self._clock()
        if not force and now - self._drawn < _BETWEEN_S:
            return
        self._drawn = now
        text = f"{self._text} {self._done}/{self._total}" if self._total else self._text
        if self._waiting and self._slow():
            text += f", waiting for {_names(self._waiting)}"
        text = _cut(self._speech.say(text), self._width() - 1)
        if text != self._shown:
            # Erasing the rest of the line afterwards does not flicker.
            self._write(f"\r{text}\x1b[K")
            self._shown = text

    def _clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = ""

    def _line(self, text: str) -> None:
        self._write(self._speech.say(f"{text}\n"))

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._file.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


def _names(nodes: Sequence[str]) -> str:
    shown = ", ".join(map(clean, nodes[:_NAMED]))
    return f"{shown} and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else shown


def _cut(text: str, width: int) -> str:
    """As much of `text` as fits, since a line that wraps cannot be redrawn."""
    while text and cells(text) > width:
        text = text[:-1]
    return text
