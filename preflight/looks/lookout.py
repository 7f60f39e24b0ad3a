"""Has looks made by a fleet of agents: sends them their parts, waits, collects their reports."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain
from typing import Any

from preflight.core.collect import Collection, Report, parse
from preflight.core.model import Family, Protocol
from preflight.core.plan import CellPlan, LookPlan, inert_destinations
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus, Keep
from preflight.transport import bundle
from preflight.transport.fleet import Event

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
        chorus: Chorus,
        hellos: Mapping[int, Mapping[str, Any]],
        templates: Templates,
        *,
        after: bool,
    ) -> None:
        self._scope = scope
        self.chorus = chorus
        self._templates = templates
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
        chorus.broadcast(hellos, {"t": "peers", "addresses": addresses})

    @property
    def interrupted(self) -> bool:
        """The user wants it to end."""
        return self.chorus.interrupted

    @property
    def lost(self) -> Mapping[int, Event]:
        """The last event of each agent that was lost."""
        return self.chorus.lost

    def usable(self) -> set[int]:
        """The nodes whose agents are there."""
        return self.chorus.alive

    def look(self, plan: LookPlan) -> Collection:
        """Have `plan` carried out by whoever of its nodes is still there."""
        reports: dict[int, Report] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            report = parse(frame)
            _vet(report, plan, node)
            reports[node] = report

        frames = {} if self.interrupted else self._frames(plan)
        part = set(frames)
        self._order(plan, frames, part)
        self._collect(plan, part, reports, keep)
        if self.interrupted:
            self._last_words(plan, part - reports.keys(), keep)
        protocols = [probe.protocol for probe in self._scope.probes]
        return Collection(plan, protocols, reports, frames.keys())

    def _order(self, plan: LookPlan, frames: Mapping[int, dict[str, Any]], part: set[int]) -> None:
        chorus = self.chorus
        if plan.taps and (new := part - self._with_taps):
            chorus.broadcast(new, bundle.taps())
            self._with_taps |= new
        chorus.send(frames)
        if plan.taps:
            chorus.until(part, "ready", plan.number, _GRACE_S)
            chorus.broadcast(part, {"t": "go"})

    def _collect(
        self, plan: LookPlan, part: set[int], reports: Mapping[int, Report], keep: Keep
    ) -> None:
        chorus = self.chorus
        chorus.until(part, "sent", plan.number, 2 * plan.sending_s() + _GRACE_S, keep)
        rest = part - reports.keys()
        chorus.broadcast(rest, {"t": "drain", "wait": plan.wait_s})
        chorus.until(rest, "report", plan.number, plan.wait_s + _GRACE_S, keep)

    def _last_words(self, plan: LookPlan, rest: set[int], keep: Keep) -> None:
        self.chorus.broadcast(rest, {"t": "go"})
        self.chorus.broadcast(rest, {"t": "drain", "wait": 0})
        self.chorus.until(rest, "report", plan.number, _LAST_WORDS_S, keep, last=True)

    # --- the frames

    def _frames(self, plan: LookPlan) -> dict[int, dict[str, Any]]:
        cells = [self._cell(cell) for cell in plan.cells]
        come = [_reversed(cell, self.chorus.alive) for cell in plan.cells]
        frames: dict[int, dict[str, Any]] = {}
        for node in sorted(self.chorus.alive):
            mine = [
                {**fields, "out": list(cell.pairs[node]), "in": back[node]}
                for fields, cell, back in zip(cells, plan.cells, come, strict=True)
            ]
            if any(fields["out"] or fields["in"] for fields in mine):
                alone = any(d not in self.chorus.alive for c in plan.cells for d in c.pairs[node])
                frames[node] = {
                    "t": "look",
                    "number": plan.number,
                    "rate": plan.rate,
                    "taps": plan.taps,
                    "settle": alone,
                    "cells": mine,
                }
        return frames

    def alone(self, plan: LookPlan, node: int, at: float) -> dict[str, Any]:
        """The frame for a node of which the others have agents that are not ours; see `meeting`."""
        cells = [
            {**self._cell(cell), "out": list(cell.pairs[node]), "in": back}
            for cell in plan.cells
            for back in [[s for s, row in enumerate(cell.pairs) if node in row]]
        ]
        return {
            "t": "look", "number": plan.number, "rate": plan.rate, "taps": True, "settle": False,
            "at": at, "cells": cells,
        }  # fmt: skip

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
            "ports": probe.source_ports,
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
