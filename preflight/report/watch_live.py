"""A watch on a terminal: one screen that is redrawn, and at the end the whole report below it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TextIO

from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural
from preflight.core.watch_pace import Pace
from preflight.core.watch_round import Ending, NodesNews, Round
from preflight.report import watch_words as words
from preflight.report.screen import Screen
from preflight.report.table import render
from preflight.report.text import Speech, clean, paint
from preflight.report.watch_frame import Shown, frame, heading

_REMEMBERED = 500  # events
_BETWEEN_S = 0.1  # redraws closer together are not seen
_SLOW_S = 2.0
_NAMED = 3


class Live:
    """Shows a watch on `file`, a terminal; see `watching.Teller`. `close` it, whatever happens."""

    def __init__(
        self,
        file: TextIO,
        *,
        color: bool,
        output: str | None,
        today: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._color = color
        self._output = output
        self._today = today
        self._speech = Speech(file)
        self._screen = Screen(file, self._draw)
        self._shown = Shown("preflight watch", "")
        self._phase = ""
        self._counted = (0, 0)
        self._since = self._drawn = 0.0

    # --- what is told

    def began(self, extent: Scope, options: CheckOptions, pace: Pace) -> None:
        """See `watching.Teller`."""
        now = self._today()
        pairs = max(sum(map(len, rows)) for rows in extent.pairs)
        nodes = len(extent.involved())
        self._shown.heading = heading(options.phase, nodes, pairs, pace.interval_s)
        saved = f"; changes are saved to {clean(self._output)}" if self._output else ""
        self._shown.footing = f"Ctrl-C ends it; times are {words.zone(now)}{saved}"
        self._screen.enter()
        self._draw()

    def phase(self, text: str, total: int) -> None:
        """See `muster.Progress`."""
        self._phase, self._counted, self._since = text, (0, total), self._today()
        self._going_on()

    def advance(self, node: str) -> None:
        """See `muster.Progress`."""
        del node
        self._counted = (self._counted[0] + 1, self._counted[1])
        self._going_on()

    def waiting(self, nodes: Sequence[str]) -> None:
        """See `muster.Progress`."""
        if self._today() - self._since >= _SLOW_S:
            more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
            self._going_on(f", waiting for {', '.join(nodes[:_NAMED])}{more}")

    def note(self, text: str) -> None:
        """See `muster.Progress`."""
        self._event(self._today(), text, None)
        self._draw()

    def overhear(self, text: str) -> None:
        """A message from any thread."""
        self._event(self._today(), text, None)

    def nodes(self, news: Sequence[NodesNews]) -> None:
        """See `watching.Teller`."""
        for one in news:
            self._event(one.at, words.nodes(one), "unknown" if one.info.reason else None)
        self._draw()

    def round(self, done: Round) -> None:
        """See `watching.Teller`."""
        self._shown.latest = done
        for change in done.turned:
            text = f"{words.cells_of(change.extent, done.snapshot.matrix)}: {words.turn(change)}"
            self._event(change.at, text, words.style(change.extent, change.now.verdict))
        self._draw()

    def resting(self, left_s: float) -> None:
        """See `watching.Teller`."""
        took = "" if self._shown.latest is None else f"it took {self._shown.latest.took_s:.1f} s; "
        self._shown.status = f"{took}next round in {left_s:.0f} s"
        self._draw()

    def gap(self, since: float, until: float) -> None:
        """See `watching.Teller`."""
        lasted = words.span(until - since)
        text = f"nobody watched since {words.clock(since)}, for {lasted}: it was suspended"
        self._event(until, text, "unknown")

    def ended(self, why: Ending, rounds: int) -> None:
        """See `watching.Teller`."""
        self._event(self._today(), f"{words.ENDINGS[why]}; {plural(rounds, 'round')}", None)
        self._shown.status = "ending"
        self._draw()

    # --- the terminal

    def close(self) -> None:
        """Give the terminal back, with the last round's report and all that changed below it."""
        self._screen.leave()

    def last_words(self, last: Snapshot | None) -> None:
        """After `close`: the last round's report, and all that changed."""
        with suppress(OSError):  # the terminal may be gone, and with it whoever would read it
            self._last_words(last)

    def _last_words(self, last: Snapshot | None) -> None:
        width, _ = self._screen.size()
        if last is not None:
            render(last, width=width, color=self._color, file=self._file)
            self._file.write("\n")
        if self._shown.forgotten:
            self._file.write(f"{plural(self._shown.forgotten, 'earlier line')} left out\n")
        for at, text, style in self._shown.events:
            said = paint(self._speech.say(clean(text)), style, color=self._color)
            self._file.write(f"{words.clock(at)}  {said}\n")
        self._file.flush()

    def _event(self, at: float, text: str, style: str | None) -> None:
        events = self._shown.events
        events.append((at, text, style))
        if len(events) > _REMEMBERED:
            self._shown.forgotten += len(events) - _REMEMBERED
            del events[:-_REMEMBERED]

    def _going_on(self, more: str = "") -> None:
        done, total = self._counted
        number = f" {done}/{total}" if total else ""
        self._shown.status = f"{self._phase}{number}{more}"
        if self._today() - self._drawn >= _BETWEEN_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = self._today()
        width, height = self._screen.size()
        lines = frame(self._shown, width, height, self._drawn, self._speech, color=self._color)
        self._screen.show(lines)
