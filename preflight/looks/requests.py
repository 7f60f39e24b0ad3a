"""What asking cells over connections or echoes has in common, on nodes and in the overlay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from preflight.core.hello import End, parse
from preflight.core.model import Family, Hello
from preflight.core.plan import GET_PARALLEL, CellPlan, FlowBudget, get_rate, waves

if TYPE_CHECKING:
    from preflight.core.matrix import Matrix
    from preflight.crew.crew import Crew

GRACE_S = 10.0
_WAIT_S = 3.0  # for a connection: a SYN that is lost is sent again after one second
_NUMBERS = {Family.IPV4: 4, Family.IPV6: 6}

Key = tuple[int, int, int, int]  # family, probe, source, destination; the same twice: to itself


class Got(NamedTuple):
    """What came of one `GET /hello`."""

    key: Key
    hello: Hello
    errno: int
    port: int  # the source's


class Requests:
    """Has agents ask cells, wave by wave within the budget of flows. `notes` are what failed."""

    def __init__(self, crew: Crew, matrix: Matrix, budget: FlowBudget, what: str) -> None:
        """`what` is said to have not been asked where an agent does not answer."""
        self._crew = crew
        self._chorus = crew.chorus
        self._matrix = matrix
        self._nodes = crew.extent.nodes
        self._budget = budget
        self._what = what
        self._parsed: dict[tuple[object, ...], Hello] = {}
        self.notes: list[str] = []

    def waves(
        self, cells: Sequence[CellPlan], ask: Callable[[list[CellPlan]], Mapping[int, str]]
    ) -> None:
        """`ask` each wave in its time; it returns why, for the nodes that did not answer."""
        untold: dict[int, str] = {}
        for wave in waves(cells, len(self._nodes), self._crew.options.max_flows):
            flows = sum(cell.flows for cell in wave)
            self._wait(flows)
            if self._chorus.interrupted:
                return
            untold.update(ask([cell for cell in wave if cell.packets]))
            self._budget.spend(flows, time.monotonic())
        self.notes += [
            f"{self._what} was not asked from {self._nodes[node].name}: {why}"
            for node, why in sorted(untold.items())
        ]

    def by_pairs(self, keys: Iterable[Key]) -> list[tuple[tuple[int, int], list[list[int]]]]:
        """The destinations of each source, for each family and probe."""
        pairs: dict[tuple[int, int], list[list[int]]] = {}
        for f, probe, s, d in keys:
            rows = pairs.get((f, probe))
            if rows is None:
                rows = pairs[f, probe] = [[] for _ in self._nodes]
            rows[s].append(d)
        return sorted(pairs.items())

    def frames(
        self, cells: Sequence[CellPlan], common: Mapping[str, Any]
    ) -> tuple[dict[int, Mapping[str, Any]], int]:
        """What each node is asked, and the most cells that one of them has."""
        frames: dict[int, Mapping[str, Any]] = {}
        most = 0
        for node in range(len(self._nodes)):
            mine = [
                {
                    "family": _NUMBERS[cell.family],
                    "port": self._matrix.probes[cell.probe].port,
                    "out": _turned(cell.pairs[node], node, len(self._nodes)),
                }
                for cell in cells
            ]
            asked = sum(len(cell.pairs[node]) for cell in cells)
            most = max(most, asked)
            if asked:
                frames[node] = {**common, "cells": mine}
        return frames, most

    def get(
        self,
        cells: Sequence[CellPlan],
        number: int,
        take: Callable[[list[Got]], object],
        *,
        slower: int = 1,
        endpoints: bool = False,
    ) -> dict[int, str]:
        """`GET /hello` of each, at the node's address or at its health endpoint's.

        Each node's answers are given to `take`; returns why, for the nodes without.
        """
        rate = get_rate(self._crew.options.rate) / slower
        wait = max(_WAIT_S, 3 * self._crew.options.timeout_s)
        common: dict[str, Any] = {
            "t": "get", "number": number, "rate": rate, "wait": wait, "parallel": GET_PARALLEL,
        }  # fmt: skip
        if endpoints:
            common["addresses"] = self.endpoints(cells)
        frames, most = self.frames(cells, common)
        limit_s = most / rate + (most // GET_PARALLEL + 1) * wait + GRACE_S

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            take(list(self._got(cells, node, frame)))

        return self._chorus.ask(frames, "got", number, limit_s, keep)

    def endpoints(self, cells: Sequence[CellPlan]) -> dict[str, list[str | None]]:
        """The nodes' health endpoints, for each IP version that is asked."""
        return {
            str(_NUMBERS[f]): [node.endpoint_in(f) for node in self._nodes]
            for f in {cell.family for cell in cells}
        }

    def named(self, cells: Sequence[CellPlan], node: int) -> Callable[[int, int], Key]:
        """The cell of a plan's position and a peer, as that node names the cells it was asked.

        It raises ValueError for one that it was not asked.
        """
        families = self._matrix.families
        asked = [set(cell.pairs[node]) for cell in cells]

        def key(c: int, peer: int) -> Key:
            if not 0 <= c < len(cells) or peer not in asked[c]:
                raise ValueError("a cell that does not exist")
            return families.index(cells[c].family), cells[c].probe, node, peer

        return key

    def _got(self, cells: Sequence[CellPlan], node: int, frame: Mapping[str, Any]) -> Iterator[Got]:
        named = self.named(cells, node)
        for connected, end, errno, size, head, spots in frame["answers"]:
            hello = self._parse(bool(connected), str(end), int(errno), int(size), str(head))
            for c, peer, port in spots:
                yield Got(named(int(c), int(peer)), hello, int(errno), int(port))

    def _parse(self, connected: bool, end: str, errno: int, size: int, head: str) -> Hello:
        """Most are alike, and parsed once."""
        key = (connected, end, errno, size, head)
        if key not in self._parsed:
            self._parsed[key] = parse(
                End(end), bytes.fromhex(head), size, connected=connected, errno=errno
            )
        return self._parsed[key]

    def _wait(self, flows: int) -> None:
        delay = self._budget.delay_s(flows, time.monotonic())
        if delay > 0:
            most = self._crew.options.max_flows
            text = f"waiting {delay:.0f} s: at most {most:,} new flows in 30 s"
            self._crew.progress.phase(text, 0)
            self._crew.stop.wait(delay)


def _turned(row: Sequence[int], node: int, nodes: int) -> list[int]:
    """From this node on, so that not every node begins with the same destination."""
    return sorted(row, key=lambda peer: (peer - node) % nodes)
