"""Has looks made by a fleet of agents: sends them their parts, waits, collects their reports."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import Any

from preflight.core.collect import Collection, Report, parse
from preflight.core.model import AgentState, Family, Protocol
from preflight.core.plan import CellPlan, LookPlan, inert_destinations
from preflight.core.scope import Scope
from preflight.transport import bundle
from preflight.transport.fleet import Event, Fleet

_GRACE_S = 15.0  # for a held-up node, beyond what its part should take
_LAST_WORDS_S = 2.0
_LONGEST_US = 1 << 31
_BYTE, _LAST_ERRNO = 0xFF, 4095  # MAX_ERRNO of linux/err.h
_PROOFS, _KINDS = {"sent", "accepted", "received"}, {"answered", "received"}
_FAMILIES = {Family.IPV4: 4, Family.IPV6: 6}

Templates = Callable[[], Mapping[tuple[int, Family, bool], Mapping[str, object]]]


class Lookout:
    """A `survey.Looker` over real agents. `hellos` are the first words of the usable ones."""

    def __init__(
        self,
        scope: Scope,
        fleet: Fleet,
        hellos: Mapping[int, Mapping[str, Any]],
        templates: Templates,
        *,
        after: bool,
        stop: threading.Event,
        watch: Callable[[Sequence[str]], None],
    ) -> None:
        self.lost: dict[int, Event] = {}
        self._scope = scope
        self._fleet = fleet
        self._alive = set(hellos)
        self._templates = templates
        self._stop = stop
        self._watch = watch
        self._with_taps: set[int] = set()
        owned = {node: hello["udp"] for node, hello in hellos.items()}
        agents = [node in hellos for node in range(len(scope.nodes))]
        self.inert = [
            inert_destinations(probe, after=after, owned=owned, agents=agents)
            for probe in scope.probes
        ]
        addresses = {
            str(_FAMILIES[f]): [node.address_in(f) or "" for node in scope.nodes]
            for f in scope.families
        }
        fleet.broadcast(sorted(hellos), {"t": "peers", "addresses": addresses})

    @property
    def interrupted(self) -> bool:
        """The user wants it to end."""
        return self._stop.is_set()

    def usable(self) -> set[int]:
        """The nodes whose agents are there."""
        return self._alive

    def look(self, plan: LookPlan) -> Collection:
        """Have `plan` carried out by whoever of its nodes is still there."""
        reports: dict[int, Report] = {}
        frames = {} if self.interrupted else self._frames(plan)
        part = set(frames)
        self._order(plan, frames, part)
        self._collect(plan, part, reports)
        if self.interrupted:
            self._last_words(plan, part, reports)
        protocols = [probe.protocol for probe in self._scope.probes]
        return Collection(plan, protocols, reports)

    def _order(self, plan: LookPlan, frames: Mapping[int, dict[str, Any]], part: set[int]) -> None:
        if plan.taps and (new := part - self._with_taps):
            self._fleet.broadcast(sorted(new), bundle.taps())
            self._with_taps |= new
        for node, frame in frames.items():
            self._fleet.send(node, frame)
        if plan.taps:
            self._until(part, "ready", plan, _GRACE_S)
            self._fleet.broadcast(sorted(part & self._alive), {"t": "go"})

    def _collect(self, plan: LookPlan, part: set[int], reports: dict[int, Report]) -> None:
        sending = 2 * plan.sending_s() + _GRACE_S
        self._until(part, "sent", plan, sending, reports)
        rest = sorted((part & self._alive) - reports.keys())
        self._fleet.broadcast(rest, {"t": "drain", "wait": plan.wait_s})
        self._until(part, "report", plan, plan.wait_s + _GRACE_S, reports)

    def _last_words(self, plan: LookPlan, part: set[int], reports: dict[int, Report]) -> None:
        rest = (part & self._alive) - reports.keys()
        self._fleet.broadcast(sorted(rest), {"t": "go"})
        self._fleet.broadcast(sorted(rest), {"t": "drain", "wait": 0})
        self._until(part, "report", plan, _LAST_WORDS_S, reports, last=True)

    def _until(
        self,
        part: set[int],
        kind: str,
        plan: LookPlan,
        limit_s: float,
        reports: dict[int, Report] | None = None,
        *,
        last: bool = False,
    ) -> None:
        """Until all of `part` have said `kind` or are lost; a report stands for all before it.

        An interruption ends it, unless these are the `last` words that it asks for.
        """
        waiting = part & self._alive
        if reports is not None:
            waiting -= reports.keys()
        end = time.monotonic() + limit_s
        while waiting and (last or not self.interrupted):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                event = self._fleet.events.get(timeout=min(left, 0.5))
            except queue.Empty:
                self._watch([self._scope.nodes[n].name for n in sorted(waiting)])
                continue
            if event.frame is None:
                self.lose(event)
            elif event.frame.get("number") == plan.number and event.node in self._alive:
                if event.frame["t"] == "report" and reports is not None:
                    self._keep(event, plan, reports)
                    waiting.discard(event.node)
                elif event.frame["t"] == kind:
                    waiting.discard(event.node)
            waiting &= self._alive
        for node in () if self.interrupted else waiting:
            reason = f"the agent was not done {limit_s:.0f} s after it should have been"
            self.lose(Event(node, None, AgentState.LOST, reason))

    def _keep(self, event: Event, plan: LookPlan, reports: dict[int, Report]) -> None:
        assert event.frame is not None
        try:
            report = parse(event.frame)
            _vet(report, plan, event.node)
            reports[event.node] = report
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = f"the agent's report makes no sense ({type(error).__name__})"
            self.lose(Event(event.node, None, AgentState.FAILED, reason))

    def lose(self, event: Event) -> None:
        """That node's agent is gone."""
        if event.node in self._alive:
            self._alive.discard(event.node)
            self.lost[event.node] = event
            self._fleet.drop(event.node)

    # --- the frames

    def _frames(self, plan: LookPlan) -> dict[int, dict[str, Any]]:
        cells = [self._cell(cell) for cell in plan.cells]
        come = [_reversed(cell, self._alive) for cell in plan.cells]
        frames: dict[int, dict[str, Any]] = {}
        for node in sorted(self._alive):
            mine = [
                {**fields, "out": list(cell.pairs[node]), "in": back[node]}
                for fields, cell, back in zip(cells, plan.cells, come, strict=True)
            ]
            if any(fields["out"] or fields["in"] for fields in mine):
                alone = any(d not in self._alive for c in plan.cells for d in c.pairs[node])
                frames[node] = {
                    "t": "look",
                    "number": plan.number,
                    "rate": plan.rate,
                    "taps": plan.taps,
                    "settle": alone,
                    "cells": mine,
                }
        return frames

    def _cell(self, cell: CellPlan) -> dict[str, Any]:
        probe = self._scope.probes[cell.probe]
        plain = self._templates()[cell.probe, cell.family, False]
        return {
            "probe": cell.probe,
            "family": _FAMILIES[cell.family],
            "protocol": plain["protocol"],
            "port": 0 if probe.protocol is Protocol.ICMP else probe.port,
            "count": cell.volley.count,
            "full": cell.volley.full,
            "flows": cell.volley.flows,
            "gap": cell.volley.gap_s,
            "template": plain,
            "harmless": self._templates()[cell.probe, cell.family, True],
            "inert": self.inert[cell.probe],
        }


def _reversed(cell: CellPlan, alive: set[int]) -> list[list[int]]:
    """For each node the sources whose probes it has to expect."""
    out: list[list[int]] = [[] for _ in cell.pairs]
    for source, row in enumerate(cell.pairs):
        if source in alive:
            for destination in row:
                out[destination].append(source)
    return out


def _vet(report: Report, plan: LookPlan, node: int) -> None:
    """Raises ValueError where a report speaks of what was not planned, or in no address."""
    cells, peers = len(plan.cells), len(plan.cells[0].pairs)
    spots: list[Iterable[tuple[int, int]]] = [*report.seen.values(), *report.kinds.values()]
    spots += [report.errors, report.send_errors, report.neighbours, report.sources]
    for cell, peer in chain.from_iterable(spots):
        if not (0 <= cell < cells and 0 <= peer < peers):
            raise ValueError("a cell that does not exist")
    for cell, row in report.rtt_us.items():
        fits = 0 <= cell < cells and len(row) == len(plan.cells[cell].pairs[node])
        if not fits or not all(0 <= us < _LONGEST_US for us in row):
            raise ValueError("a time that cannot be")
    if not all(0 <= cell < cells for _, cell in report.lost):
        raise ValueError("a cell that does not exist")
    codes = [n for e in report.errors.values() for n in (e.type, e.code)]
    if not all(0 <= n <= _BYTE for n in codes) or not all(
        0 <= errno <= _LAST_ERRNO for errors in report.send_errors.values() for errno in errors
    ):
        raise ValueError("an error that does not exist")
    if not (report.seen.keys() >= _PROOFS and report.kinds.keys() >= _KINDS):
        raise ValueError("a vantage point is missing")
    for address in {*report.sources.values(), *(error.sender for error in report.errors.values())}:
        _vet_address(address)


@lru_cache(maxsize=4096)  # a run's nodes all hear from one another
def _vet_address(address: str) -> None:
    _, _, zone = address.partition("%")
    ip_address(address)
    if not (zone or "0").replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ValueError("an address that cannot be")
