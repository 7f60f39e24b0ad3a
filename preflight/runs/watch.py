"""The check again and again over the connections that it holds, until somebody has seen enough."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from preflight.atomic import ensure_directory
from preflight.core.matrix import Matrix
from preflight.core.model import Inventory, Node, Verdict
from preflight.core.options import CheckOptions
from preflight.core.plan import FlowBudget
from preflight.core.scope import Scope, scope
from preflight.core.snapshot import Snapshot
from preflight.core.watch import Change, History
from preflight.core.watch_groups import stands, turned
from preflight.core.watch_pace import Pace
from preflight.core.watch_round import Ending, NodesNews, Round, port_news, together
from preflight.crew.crew import Crew, crewed
from preflight.crew.muster import Progress
from preflight.crew.rejoin import Lobby
from preflight.errors import FileError
from preflight.runs.check import measure
from preflight.store import save
from preflight.transport.base import Connector

if TYPE_CHECKING:
    from preflight.closer.ground import Ground
    from preflight.core.findings.model import Finding

_TICK_S = 0.5
_GAP_S = 5.0  # a tick that takes so much longer was a sleep: of this process, or of the machine


class Teller(Progress, Protocol):
    """Whoever shows a watch. All times are seconds since the epoch."""

    def began(self, extent: Scope, options: CheckOptions, pace: Pace) -> None:
        """The nodes are about to be logged in to."""

    def nodes(self, news: Sequence[NodesNews]) -> None:
        """Agents are there, or gone."""

    def round(self, done: Round) -> None:
        """A round is complete."""

    def resting(self, left_s: float) -> None:
        """So long until the next round; told about twice a second."""

    def gap(self, since: float, until: float) -> None:
        """Nobody watched meanwhile: the process or this machine was suspended."""

    def ended(self, why: Ending, rounds: int) -> None:
        """No round comes any more."""


class Album:
    """Snapshots in a directory, named by their time in UTC: their names sort as they were taken.

    None is ever replaced. One that cannot be saved is told by `note`, once, and then that it works
    again; the watch goes on without.
    """

    def __init__(self, folder: Path | None, note: Callable[[str], None]) -> None:
        """Raises FileError where nothing can be saved to `folder`; None saves nothing."""
        self._folder = folder
        self._note = note
        self._failing = False
        if folder is not None:
            ensure_directory(folder)

    def keep(self, snapshot: Snapshot) -> str | None:
        """Save it; its file's path."""
        if self._folder is None:
            return None
        path = self._free(snapshot.started)
        try:
            save(snapshot, path)
        except FileError as error:
            if not self._failing:
                self._note(f"{error}; watching goes on")
            self._failing = True
            return None
        if self._failing:
            self._note(f"snapshots are saved to {self._folder} again")
        self._failing = False
        return str(path)

    def has_earlier(self) -> bool:
        """Whether an earlier watch left snapshots there, after which one that holds nothing must
        not come as the last; says so.
        """
        if self._folder is None or not any(self._folder.glob("*.json")):
            return False
        self._note(f"{self._folder}: left as it is: nothing was measured in this run")
        return True

    def _free(self, started: str) -> Path:
        assert self._folder is not None  # checked by the caller
        when = started.replace("-", "").replace(":", "")
        path, number = self._folder / f"{when}.json", 1
        while path.exists() or path.is_symlink():
            number += 1
            path = self._folder / f"{when}-{number}.json"
        return path


class Sleeps:
    """When this process, or the machine, was suspended."""

    def __init__(self, stop: threading.Event) -> None:
        """Notices until `stop`, from a thread of its own."""
        self._stop = stop
        self._found: list[tuple[float, float]] = []
        threading.Thread(target=self._notice, daemon=True).start()

    def taken(self) -> list[tuple[float, float]]:
        """From when to when, since last asked; seconds since the epoch."""
        found, self._found = self._found, []
        return found

    def _notice(self) -> None:
        awake = _uptime()
        while not self._stop.wait(_TICK_S):
            now = _uptime()
            if now - awake > _TICK_S + _GAP_S:
                today = time.time()
                self._found.append((today - (now - awake), today))
            awake = now


def _uptime() -> float:
    """Seconds, those included in which the machine slept where the system can tell."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time()


class Watched(NamedTuple):
    """How a watch ended: its last round, None where not even a part of one was measured."""

    ending: Ending
    last: Snapshot | None


def watch(
    inventory: Inventory,
    options: CheckOptions,
    pace: Pace,
    connector: Callable[[Node], Connector],
    teller: Teller,
    album: Album,
) -> Watched:
    """Make rounds at that pace. Raises UsageError where there is nothing to probe."""
    extent = scope(inventory, options)
    teller.began(extent, options, pace)
    with crewed(extent, options, connector, _Once(teller)) as crew:
        return _Watch(crew, pace, teller, album).run()


class _Once:
    """What each round would note anew is said once."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._noted: set[str] = set()
        self.phase = teller.phase
        self.advance = teller.advance
        self.waiting = teller.waiting

    def note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._teller.note(text)


class _Watch:
    def __init__(self, crew: Crew, pace: Pace, teller: Teller, album: Album) -> None:
        self._crew = crew
        self._pace = pace
        self._teller = teller
        self._album = album
        self._lobby = Lobby(crew)
        crew.chorus.others = self._lobby.hear
        self._history = History()
        self._budget = FlowBudget(crew.options.max_flows)
        extent = crew.extent
        first = sum(cell.flows for cell in (*extent.cells(), *extent.overlay()))
        self._flows = min(first, crew.options.max_flows)
        self._begun = self._ended = time.monotonic()
        self._at = time.time()
        self._sleeps = Sleeps(crew.stop)
        self._changes: list[Change] = []
        self._findings: Sequence[Finding] = ()
        self._explained: set[int] | None = None  # whose agents were there when findings were made
        self._hellos: Any = {}
        self._nodes_changed = False
        self._confirming = False
        self._last: Snapshot | None = None
        self._unsaved = False

    def run(self) -> Watched:
        started = time.monotonic()
        self._crew.muster()
        self._lobby.begin()
        while True:
            self._round()
            ending = self._over(time.monotonic() - started)
            if ending is None:
                self._crew.stand_down()
                self._rest(self._next())
                ending = self._over(time.monotonic() - started, resting=True)
            if ending is not None:
                break
            self._lobby.admit()
            self._crew.renew()
        if self._unsaved and self._last is not None:
            self._album.keep(self._last)
        self._teller.ended(ending, self._history.rounds)
        return Watched(ending, self._last)

    def _over(self, watched_s: float, *, resting: bool = False) -> Ending | None:
        if self._crew.stop.is_set():
            return Ending.INTERRUPTED
        if self._pace.over(self._history.rounds, watched_s):
            enough = self._pace.count is not None and self._history.rounds >= self._pace.count
            return Ending.COUNT if enough else Ending.FOR
        nobody = not self._crew.chorus.alive and self._lobby.hopeless
        return Ending.NO_NODE if nobody and not resting else None

    # --- a round

    def _round(self) -> None:
        self._begun, self._at = time.monotonic(), time.time()
        self._ports()
        complete = self._history.rounds + 1
        snapshot = measure(self._crew, self._closer, self._budget)
        self._ended = time.monotonic()
        if self._history.rounds < complete:
            if self._last is None:  # what was measured is kept, as a check would
                self._last = snapshot
                self._unsaved = not (snapshot.empty and self._album.has_earlier())
            return
        snapshot = replace(snapshot, interrupted=False)  # if it was, then in the closer look
        self._tell_nodes()
        for note in snapshot.notes:
            self._crew.progress.note(note)
        first = self._last is None
        self._last, self._unsaved = snapshot, True
        saved = None
        if first or self._changes or self._nodes_changed:
            saved = self._album.keep(snapshot)
            self._unsaved = saved is None
            self._nodes_changed = False
        matrix, history = snapshot.matrix, self._history
        self._teller.round(
            Round(
                history.rounds,
                self._at,
                self._ended - self._begun,
                snapshot,
                turned(matrix, self._changes),
                stands(matrix, history),
                history.pending,
                history.odd,
                saved,
            )
        )

    def _ports(self) -> None:
        for words in port_news(self._crew.extent, self._hellos, self._crew.hellos):
            self._teller.note(words)
        self._hellos = {**self._hellos, **self._crew.hellos}

    def _closer(self, matrix: Matrix, ground: "Ground") -> "Sequence[Finding]":
        """Findings stay as they are while nothing has changed: a closer look is not for nothing."""
        if self._crew.chorus.interrupted:
            return self._findings
        self._changes = self._history.see(matrix, self._at)
        there = set(self._crew.chorus.alive)
        if self._changes or there != self._explained:
            from preflight.closer.diagnose import diagnose

            self._explained = there
            self._findings = diagnose(matrix, ground) if _bad(matrix, ground) else ()
        return self._findings

    # --- between rounds

    def _next(self) -> float:
        """When, by the monotonic clock."""
        confirm = self._history.pending > 0 and not self._confirming
        self._confirming = confirm
        delay = self._budget.delay_s(self._flows, self._ended)
        return self._pace.next_at(self._begun, self._ended, confirm=confirm, delay_s=delay)

    def _rest(self, until: float) -> None:
        crew, left = self._crew, 0.0
        while not crew.stop.is_set():
            if crew.chorus.idle(min(left, _TICK_S)):
                continue  # what has happened together is told together
            self._lobby.tend()
            self._tell_nodes()
            self._tell_gaps()
            left = until - time.monotonic()
            if left <= 0:
                return
            self._teller.resting(left)

    def _tell_gaps(self) -> None:
        for since, until in self._sleeps.taken():
            self._teller.gap(since, until)

    def _tell_nodes(self) -> None:
        news = self._lobby.news()
        if news:
            self._nodes_changed = True
            self._teller.nodes(together(self._crew.extent.nodes, news))


def _bad(matrix: Matrix, ground: "Ground") -> bool:
    """Whether there is anything to explain, as for a check."""
    return (
        any(outcome.verdict is not Verdict.OPEN for outcome in matrix.outcomes())
        or bool(ground.sources)
        or bool(ground.suspects)
    )
