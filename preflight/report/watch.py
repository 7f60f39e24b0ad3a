"""A watch as text: a line for each change, or an object for each event."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from preflight.core.groups import Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Verdict
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural
from preflight.core.watch import Standing
from preflight.core.watch_groups import Extent, Turned
from preflight.core.watch_pace import Pace
from preflight.core.watch_round import Ending, NodesNews, Round
from preflight.report import watch_words as words
from preflight.report.progress import Progress
from preflight.report.text import Speech, clean, paint

SCHEMA = "preflight/watch/1"


class _Starting:
    """Shows the first round's progress on stderr, and none of the later ones'."""

    def __init__(self, progress: Progress) -> None:
        self._progress: Progress | None = progress

    def phase(self, text: str, total: int) -> None:
        """See `watching.Teller`."""
        if self._progress is not None:
            self._progress.phase(text, total)

    def advance(self, node: str) -> None:
        """See `watching.Teller`."""
        if self._progress is not None:
            self._progress.advance(node)

    def waiting(self, nodes: Sequence[str]) -> None:
        """See `watching.Teller`."""
        if self._progress is not None:
            self._progress.waiting(nodes)

    def resting(self, left_s: float) -> None:
        """See `watching.Teller`."""

    def overhear(self, text: str) -> None:
        """A message from any thread."""
        if self._progress is not None:
            self._progress.note(text)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """See `muster.Progress`."""
        raise NotImplementedError

    def last_words(self, last: Snapshot | None) -> None:
        """All has been said."""

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


class Lines(_Starting):
    """A line for each change and each event, with its local time."""

    def __init__(self, file: TextIO, progress: Progress, *, color: bool) -> None:
        super().__init__(progress)
        self._file = file
        self._speech = Speech(file)
        self._color = color

    def began(self, extent: Scope, options: CheckOptions, pace: Pace) -> None:
        """See `watching.Teller`."""
        pairs = max(sum(map(len, rows)) for rows in extent.pairs)
        scope = f"{plural(len(extent.involved()), 'node')}, {plural(pairs, 'ordered pair')}"
        now = _now()
        phase = f"phase {options.phase}, every {words.every(pace.interval_s)}"
        self._say(now, f"watching {scope}, {phase}; times are {words.zone(now)}")

    def note(self, text: str) -> None:
        """See `watching.Teller`."""
        self._say(_now(), text)

    def nodes(self, news: Sequence[NodesNews]) -> None:
        """See `watching.Teller`."""
        for one in news:
            self._say(one.at, words.nodes(one))

    def round(self, done: Round) -> None:
        """See `watching.Teller`."""
        matrix = done.snapshot.matrix
        if done.number == 1:
            self.close()
            self._say(done.at, f"first round: {words.counts(matrix)}")
            for stands in done.stands:
                cells = words.cells_of(stands.extent, matrix)
                text = f"{cells}: {words.stands(stands.standing)} ({words.pairs(stands.extent)})"
                style = words.style(stands.extent, stands.standing.kind.verdict)
                self._say(done.at, text, style)
        for change in done.turned:
            cells = words.cells_of(change.extent, matrix)
            text = f"{cells}: {words.turn(change)} ({words.pairs(change.extent)})"
            self._say(change.at, text, words.style(change.extent, change.now.verdict))
        if done.turned:
            self._say(done.at, f"round {done.number}: {words.counts(matrix)}")

    def gap(self, since: float, until: float) -> None:
        """See `watching.Teller`."""
        self._say(until, _gap(since, until))

    def ended(self, why: Ending, rounds: int) -> None:
        """See `watching.Teller`."""
        self.close()
        self._say(_now(), f"{words.ENDINGS[why]}; {plural(rounds, 'round')}")

    def _say(self, at: float, text: str, style: str | None = None) -> None:
        if self._progress is not None:
            self._progress.close()
        said = paint(self._speech.say(clean(text)), style, color=self._color)
        self._file.write(f"{words.stamp(at)}  {said}\n")
        self._file.flush()


class JsonLines(_Starting):
    """One JSON object to a line: `preflight/watch/1`."""

    def __init__(self, file: TextIO, progress: Progress) -> None:
        super().__init__(progress)
        self._file = file
        self._names: Sequence[str] = ()

    def began(self, extent: Scope, options: CheckOptions, pace: Pace) -> None:
        """See `watching.Teller`."""
        self._names = [node.name for node in extent.nodes]
        self._put(
            "began",
            _now(),
            schema=SCHEMA,
            phase=options.phase,
            interval_s=pace.interval_s,
            nodes=[extent.nodes[n].name for n in extent.involved()],
            probes=[probe.name for probe in extent.probes],
            families=list(extent.families),
        )

    def note(self, text: str) -> None:
        """See `watching.Teller`."""
        self._put("note", _now(), text=text)

    def nodes(self, news: Sequence[NodesNews]) -> None:
        """See `watching.Teller`."""
        for one in news:
            self._put(
                "agents",
                one.at,
                nodes=[self._names[n] for n in one.nodes],
                state=one.info.state,
                reason=one.info.reason,
                tried_again=one.again,
                gone_since=_utc(one.gone_since),
            )

    def round(self, done: Round) -> None:
        """See `watching.Teller`."""
        self.close()
        matrix = done.snapshot.matrix
        for change in done.turned:
            self._put("change", change.at, round=done.number, **_change(change, matrix))
        verdicts = dict.fromkeys(map(str, Verdict), 0)
        for outcome, number in matrix.outcomes().items():
            verdicts[outcome.verdict] += number
        self._put(
            "round",
            done.at,
            round=done.number,
            took_s=round(done.took_s, 3),
            verdicts=verdicts,
            not_open=[_stands(s.extent, s.standing, matrix) for s in done.stands],
            unconfirmed=done.pending,
            odd=done.odd,
            agents=sum(agent.state == "ok" for agent in done.snapshot.agents),
            snapshot=done.saved,
        )

    def gap(self, since: float, until: float) -> None:
        """See `watching.Teller`."""
        self._put("gap", until, since=_utc(since))

    def ended(self, why: Ending, rounds: int) -> None:
        """See `watching.Teller`."""
        self.close()
        self._put("ended", _now(), why=why, rounds=rounds)

    def _put(self, event: str, at: float, **fields: Any) -> None:
        self._file.write(json.dumps({"event": event, "time": _utc(at), **fields}) + "\n")
        self._file.flush()


def _change(change: Turned, matrix: Matrix) -> Mapping[str, Any]:
    return {
        "what": change.sort,
        **_kind(change.now),
        "was": {**_kind(change.was), "since": _utc(change.was_since)},
        **_extent(change.extent, matrix),
    }


def _kind(kind: Kind) -> Mapping[str, Any]:
    return {"verdict": kind.verdict, "leg": kind.leg, "place": kind.place, "cause": kind.cause}


def _stands(extent: Extent, standing: Standing, matrix: Matrix) -> Mapping[str, Any]:
    return {
        **_kind(standing.kind),
        "since": _utc(standing.since),
        "unsteady": standing.unsteady,
        "where": extent.where,
        "probes": _probes(extent, matrix),
        "cells": len(extent.cells),
    }


def _extent(extent: Extent, matrix: Matrix) -> Mapping[str, Any]:
    n = len(matrix.nodes)
    cells = []
    for cell in extent.cells:
        test, place = divmod(cell, n * n)
        family, probe = divmod(test, len(matrix.probes))
        cells.append(
            {
                "source": matrix.nodes[place // n].name,
                "destination": matrix.nodes[place % n].name,
                "probe": matrix.probes[probe].name,
                "family": matrix.families[family],
            }
        )
    return {"where": extent.where, "probes": _probes(extent, matrix), "cells": cells}


def _probes(extent: Extent, matrix: Matrix) -> list[str]:
    return list(dict.fromkeys(matrix.probes[test.probe].name for test in extent.tests))


def _gap(since: float, until: float) -> str:
    asleep = words.span(until - since)
    return f"nobody watched from {words.clock(since)} on, for {asleep}: it was suspended"


def _utc(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _now() -> float:
    return datetime.now(UTC).timestamp()
