"""From the agents' reports of one look to what was seen of each cell. Pure.

A report tells only what differs from the plan, so a clean look of 250,000 cells costs what its few
exceptions cost. What a report does not tell because its agent was lost, or because a socket dropped
packets, is not watched; it is never taken for a drop.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preflight.core.evidence import IcmpError, Sightings
from preflight.core.model import Protocol
from preflight.core.plan import LookPlan

_SOURCE_SIDE = ("sent", "left", "returned", "received")
_DESTINATION_SIDE = ("arrived", "accepted", "answered")
_ANSWERS = ("answered", "returned", "received")
_ALWAYS = ("sent", "accepted", "received")  # watched in every look

Spot = tuple[int, int]  # cell of the look, peer


@dataclass(slots=True)
class Report:
    """One agent's report, indexed."""

    seen: dict[str, dict[Spot, int]]
    kinds: dict[str, dict[Spot, tuple[int, int]]]
    lost: set[tuple[str, int]]
    rtt_us: dict[int, list[int]]
    errors: dict[Spot, IcmpError]
    send_errors: dict[Spot, dict[int, int]]
    neighbours: set[Spot]
    sources: dict[Spot, str] = field(default_factory=dict)
    strays: int = 0
    samples: tuple[tuple[int, str, bytes], ...] = ()  # protocol number, sender, from its header on
    late: set[tuple[int, int, str]] = field(default_factory=set)  # cell, peer, in or out

    def exceptions(self) -> Iterator[tuple[str, int, int]]:
        """(vantage, cell, peer) of everything that is not as planned."""
        for vantage, masks in self.seen.items():
            for cell, peer in masks:
                yield vantage, cell, peer
        for vantage, kinds in self.kinds.items():
            for cell, peer in kinds:
                yield vantage, cell, peer

    def lost_in(self, cell: int) -> bool:
        """A socket that watches that cell dropped packets."""
        return any(at == cell for _, at in self.lost)


def parse(frame: Mapping[str, Any]) -> Report:
    """A report frame, checked as it is indexed. Raises ValueError, TypeError or KeyError."""
    for vantage in _ALWAYS:  # what is left out is as planned, so silence must not look like that
        frame["seen"][vantage]
    frame["kinds"]["received"]
    send_errors: dict[Spot, dict[int, int]] = {}
    for cell, peer, code, mask in frame["send_errors"]:
        send_errors.setdefault((int(cell), int(peer)), {})[int(code)] = int(mask)
    strays, samples = frame.get("strays", (0, ()))
    return Report(
        seen={
            str(vantage): {(int(c), int(p)): int(mask) for c, p, mask in rows}
            for vantage, rows in frame["seen"].items()
        },
        kinds={
            str(vantage): {(int(c), int(p)): (int(rst), int(syn)) for c, p, rst, syn in rows}
            for vantage, rows in frame["kinds"].items()
        },
        lost={(str(vantage), int(cell)) for vantage, cell in frame["lost"]},
        rtt_us={int(cell): [int(us) for us in row] for cell, row in frame["rtt"].items()},
        errors={
            (int(c), int(p)): IcmpError(str(sender), int(kind), int(code))
            for c, p, sender, kind, code in frame["errors"]
        },
        send_errors=send_errors,
        neighbours={(int(c), int(p)) for c, p in frame.get("neighbours", ())},
        sources={(int(c), int(p)): str(a) for c, p, a in frame["sources"]},
        strays=int(strays),
        samples=tuple((int(n), str(a), bytes.fromhex(data)) for n, a, data in samples),
        late={(int(c), int(p), str(side)) for c, p, side in frame.get("late", ())},
    )


class Collection:
    """All reports of one look. `part` are the nodes that were told to have a part in it: all, or
    those that were there when it began. Of what the others were to send nobody expected anything,
    so that silence about it says nothing.
    """

    def __init__(
        self,
        plan: LookPlan,
        protocols: Sequence[Protocol],
        reports: Mapping[int, Report],
        part: Container[int] | None = None,
    ) -> None:
        self._plan = plan
        self._tcp = [protocols[cell.probe] is Protocol.TCP for cell in plan.cells]
        self._reports = reports
        self._part = range(len(plan.cells[0].pairs)) if part is None else part
        self._planned = [(1 << cell.volley.count) - 1 for cell in plan.cells]
        self._full = [
            planned & ~((1 << (cell.volley.count - cell.volley.full)) - 1)
            for planned, cell in zip(self._planned, plan.cells, strict=True)
        ]

    def told(self) -> set[int]:
        """The nodes whose reports are in: they had a part in the look to its end."""
        return set(self._reports)

    def complete(self, cell: int) -> Sightings:
        """What is seen of a pair of which everything that the look watches was seen."""
        planned = self._planned[cell]
        out = Sightings(planned=planned, full_size=self._full[cell])
        out.sent = out.accepted = planned
        if not self._plan.cells[cell].one_way:
            out.received = planned
            if self._tcp[cell]:
                out.received_rst = planned
        return out

    def exceptions(self) -> dict[tuple[int, int], set[int]]:
        """For each (cell, source) the destinations of the pairs that are not `complete`."""
        out: dict[tuple[int, int], set[int]] = {}
        for node, report in self._reports.items():
            for vantage, cell, peer in report.exceptions():
                if vantage in _DESTINATION_SIDE:
                    out.setdefault((cell, peer), set()).add(node)
                else:
                    out.setdefault((cell, node), set()).add(peer)
        for cell, plan in enumerate(self._plan.cells):
            deaf = {
                node
                for node in range(len(plan.pairs))
                if node not in self._reports or self._reports[node].lost_in(cell)
            }
            for source, row in enumerate(plan.pairs if deaf else ()):
                if unheard := row if source in deaf else deaf.intersection(row):
                    out.setdefault((cell, source), set()).update(unheard)
        return out

    def sightings(self, cell: int, source: int, destination: int) -> Sightings:
        """What both ends saw of one pair."""
        one_way = self._plan.cells[cell].one_way
        out = Sightings(planned=self._planned[cell], full_size=self._full[cell])
        ends = (
            (_SOURCE_SIDE, self._reports.get(source), destination),
            (_DESTINATION_SIDE, self._expecting(destination, source), source),
        )
        for vantages, report, peer in ends:
            if report is None:
                continue
            for vantage in vantages:
                if one_way and vantage in _ANSWERS:
                    continue
                setattr(out, vantage, self._mask(report, vantage, cell, peer))
        self._kinds(out, cell, source, destination)
        report = self._reports.get(source)
        if report is not None:
            spot = (cell, destination)
            out.send_errors = report.send_errors.get(spot, {})
            out.error = report.errors.get(spot)
            out.neighbour_failed = spot in report.neighbours
        return out

    def _expecting(self, destination: int, source: int) -> Report | None:
        return self._reports.get(destination) if source in self._part else None

    def _mask(self, report: Report, vantage: str, cell: int, peer: int) -> int | None:
        if vantage not in report.seen:
            return None
        mask = report.seen[vantage].get((cell, peer), self._planned[cell])
        complete = mask == self._planned[cell]
        return mask if complete or (vantage, cell) not in report.lost else None

    def _kinds(self, out: Sightings, cell: int, source: int, destination: int) -> None:
        if not self._tcp[cell]:
            return
        default = (self._planned[cell], 0)
        if out.received is not None:
            kinds = self._reports[source].kinds["received"]
            out.received_rst, out.received_syn_ack = kinds.get((cell, destination), default)
        if out.answered is not None:
            kinds = self._reports[destination].kinds["answered"]
            out.answered_rst, out.answered_syn_ack = kinds.get((cell, source), default)

    def rtts_ms(self, cell: int, source: int) -> list[float | None]:
        """For each destination of `source` in the plan the least round-trip time, if any."""
        row = self._plan.cells[cell].pairs[source]
        report = self._reports.get(source)
        timed = report.rtt_us.get(cell) if report is not None else None
        if timed is None or len(timed) != len(row):
            return [None] * len(row)
        return [us / 1000 if us > 0 else None for us in timed]

    def strays(self) -> dict[int, tuple[int, tuple[tuple[int, str, bytes], ...]]]:
        """For each node the number of packets of this run that were not for it, and some."""
        return {
            n: (r.strays, r.samples) for n, r in self._reports.items() if r.strays and r.samples
        }

    def late(self) -> set[tuple[int, int, int]]:
        """(cell, source, destination) of which packets of an earlier look have come by now."""
        return {
            (cell, peer, node) if side == "in" else (cell, node, peer)
            for node, report in self._reports.items()
            for cell, peer, side in report.late
        }

    def sources(self) -> Iterator[tuple[int, int, int, str]]:
        """(cell, source, destination, address) of probes that arrived from an unlisted address."""
        for destination, report in self._reports.items():
            for (cell, source), address in report.sources.items():
                yield cell, source, destination, address
