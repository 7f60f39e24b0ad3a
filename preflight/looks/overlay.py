"""After the installation, in the overlay: echo requests and `GET /hello` to every health endpoint.

Where all is well that is three packets and one connection for each pair. What was not answered is
asked once more, more patiently; then each endpoint is asked by its own node too, and the nodes tell
how many TCP segments with a wrong checksum came meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from preflight.core.evidence import IcmpError
from preflight.core.model import Came, Cause, Hello, Node, Outcome, ProbeKind, Verdict
from preflight.core.overlay import (
    Echoes,
    Own,
    of_echoes,
    of_hello,
    own_of_echoes,
    own_of_hello,
    without_agent,
)
from preflight.core.plan import (
    FLOW_WINDOW_S,
    CellPlan,
    FlowBudget,
)
from preflight.looks.requests import GRACE_S, Got, Key, Requests
from preflight.transport import bundle

if TYPE_CHECKING:
    from preflight.core.matrix import Matrix
    from preflight.crew.crew import Crew

_SLOWER = 4  # the second time
_COUNT_S = 10.0
_MOST_ERRNO, _MOST_BYTES, _MOST_US = 4095, 65535, 600_000_000


class _Answer(NamedTuple):
    """What came of one cell: echoes, or a `GET /hello`."""

    echoes: Echoes | None = None
    hello: Hello | None = None
    errno: int = 0
    rtt_ms: float | None = None

    @property
    def good(self) -> bool:
        """It needs no second look."""
        if self.echoes is not None:
            return self.echoes.complete
        return self.hello is not None and self.hello.answer is Came.CILIUM


class Crossed(NamedTuple):
    """What else a round found out."""

    checksums: Mapping[int, int]  # by node: TCP segments with a wrong one, while it was asked again
    notes: tuple[str, ...]


def cross(crew: Crew, matrix: Matrix, budget: FlowBudget) -> Crossed:
    """Ask, and decide every planned cell of the overlay in `matrix`."""
    crossing = _Crossing(crew, matrix, budget)
    crossing.run()
    return Crossed(crossing.checksums, tuple(crossing.notes))


class _Crossing:
    """All requests of one round."""

    def __init__(self, crew: Crew, matrix: Matrix, budget: FlowBudget) -> None:
        self._crew = crew
        self._chorus = crew.chorus
        self._matrix = matrix
        self._nodes: Sequence[Node] = crew.extent.nodes
        self._requests = Requests(crew, matrix, budget, "the overlay")
        self._ids = count(1 << 16)  # no other frame of the run has these
        self._judged: dict[tuple[object, ...], Outcome] = {}
        self.checksums: dict[int, int] = {}
        self.notes = self._requests.notes

    def run(self) -> None:
        """Ask of all planned cells, and again of those that were not answered well."""
        planned = list(self._keys(self._crew.extent.overlay()))
        due = [key for key in planned if key[2] in self._chorus.alive]
        if due:
            pairs = len({key[2:] for key in due})
            among = f"{pairs:,} ordered pairs" if pairs != 1 else "one pair"
            self._crew.progress.phase(f"overlay: {self._what(due)} over {among}", 0)
            self._chorus.broadcast({key[2] for key in due}, bundle.overlay())
        odd = self._ask(due, first=True)
        if odd and not self._chorus.interrupted:
            self._again(list(odd))
        self._leave(planned)

    def _again(self, keys: Sequence[Key]) -> None:
        alive = self._chorus.alive
        own = sorted({(f, p, d, d) for f, p, _, d in keys if d in alive})
        what = f"{len(keys):,} cells" if len(keys) != 1 else "one cell"
        self._crew.progress.phase(f"overlay again: {what}, and each endpoint by its own node", 0)
        ends = {node for key in keys for node in key[2:]} & alive
        self._chorus.broadcast({key[3] for key in own}, bundle.overlay())
        before = self._sums(ends)
        answers = self._ask([*keys, *own], first=False)
        after = self._sums(ends)
        self.checksums = {
            node: after[node] - seen
            for node, seen in before.items()
            if node in after and after[node] > seen
        }
        for key in keys:
            if key in answers and not self._chorus.interrupted:
                own_got = self._own(key, answers)
                outcome = self._outcome(key, answers[key], own_got)
                self._set(key, outcome, answers[key].rtt_ms)

    def _own(self, key: Key, answers: Mapping[Key, _Answer]) -> Own:
        f, p, _, d = key
        if d not in self._crew.hellos:
            return Own.NO_AGENT
        told = answers.get((f, p, d, d))
        if told is None:
            return Own.NOT_KNOWN
        if self._is_echo(p):
            return own_of_echoes(told.echoes)
        return own_of_hello(told.hello)

    def _outcome(self, key: Key, answer: _Answer, own: Own) -> Outcome:
        """Most are alike, and judged once."""
        family = self._matrix.families[key[0]]
        alike = (answer[:3], family, own)
        if alike not in self._judged:
            if answer.echoes is not None:
                self._judged[alike] = of_echoes(answer.echoes, family, own)
            else:
                assert answer.hello is not None
                self._judged[alike] = of_hello(answer.hello, answer.errno, own)
        return self._judged[alike]

    # --- asking

    def _ask(self, keys: Sequence[Key], *, first: bool) -> dict[Key, _Answer]:
        """What was answered; at `first` without what was answered well, which is then decided."""
        answers: dict[Key, _Answer] = {}

        def ask(wave: list[CellPlan]) -> dict[int, str]:
            untold: dict[int, str] = {}
            for one in (self._echo, self._get):
                own = [c for c in wave if self._is_echo(c.probe) is (one == self._echo)]
                if own:
                    untold.update(one(own, answers, first))
            return untold

        families = self._matrix.families
        cells = [
            self._crew.extent.cell(probe, families[f], rows, first=first)
            for (f, probe), rows in self._requests.by_pairs(keys)
        ]
        self._requests.waves(cells, ask)
        return answers

    def _echo(
        self, cells: Sequence[CellPlan], answers: dict[Key, _Answer], first: bool
    ) -> dict[int, str]:
        number, shape = next(self._ids), cells[0].volley
        small, full = shape.count - shape.full, shape.full
        rate, wait = self._crew.options.rate, self._crew.options.timeout_s
        common: dict[str, Any] = {
            "t": "echo", "number": number, "rate": rate if first else rate / _SLOWER,
            "wait": wait if first else 2 * wait, "small": small, "full": full,
            "token": secrets.token_hex(16), "ident": secrets.randbelow(0xFFFF) + 1,
            "addresses": self._requests.endpoints(cells),
        }  # fmt: skip
        frames, most = self._requests.frames(cells, common)

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            named = self._requests.named(cells, node)
            heard = {
                named(int(c), int(peer)): _echoed(row, small, full)
                for c, peer, *row in frame["cells"]
            }
            self._take(heard, answers, first)

        limit_s = most * shape.count / common["rate"] + common["wait"] + GRACE_S
        return self._chorus.ask(frames, "echoed", number, limit_s, keep)

    def _get(
        self, cells: Sequence[CellPlan], answers: dict[Key, _Answer], first: bool
    ) -> dict[int, str]:
        def take(told: list[Got]) -> None:
            heard = {got.key: _Answer(hello=got.hello, errno=got.errno) for got in told}
            self._take(heard, answers, first)

        slower = 1 if first else _SLOWER
        return self._requests.get(cells, next(self._ids), take, slower=slower, endpoints=True)

    def _take(self, heard: Mapping[Key, _Answer], answers: dict[Key, _Answer], first: bool) -> None:
        for key, answer in heard.items():
            if first and answer.good:
                self._set(key, self._outcome(key, answer, Own.NOT_ASKED), answer.rtt_ms)
            else:
                answers[key] = answer

    def _sums(self, nodes: Iterable[int]) -> dict[int, int]:
        """So far; nodes that cannot tell lack."""
        number = next(self._ids)
        told: dict[int, int] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            told[node] = int(frame["tcp"])

        frame = {"t": "sums", "number": number}
        self._chorus.ask(dict.fromkeys(nodes, frame), "sums", number, _COUNT_S, keep)
        return told

    # --- the matrix

    def _keys(self, cells: Iterable[CellPlan]) -> Iterable[Key]:
        for cell in cells:
            f = self._matrix.families.index(cell.family)
            for s, row in enumerate(cell.pairs):
                for d in row:
                    yield f, cell.probe, s, d

    def _is_echo(self, probe: int) -> bool:
        return self._matrix.probes[probe].kind is ProbeKind.OVERLAY_ECHO

    def _what(self, due: Sequence[Key]) -> str:
        echoes = sum(self._is_echo(key[1]) for key in due)
        gets = len(due) - echoes
        told = []
        times = -(-len(due) // self._crew.options.max_flows)
        later = f", in {times} waves, {FLOW_WINDOW_S:.0f} s apart," if times > 1 else ""
        if echoes:
            told.append(f"{echoes:,} x ICMP echo")
        if gets:
            told.append(f"{gets:,} x GET /hello")
        return ", ".join(told) + later

    def _set(self, key: Key, outcome: Outcome, rtt_ms: float | None = None) -> None:
        self._matrix.set(self._matrix.index(*key), outcome, rtt_ms)

    def _leave(self, planned: Sequence[Key]) -> None:
        """What nothing decided is unknown."""
        cut = Cause.INTERRUPTED if self._chorus.interrupted else Cause.NOT_WATCHED
        for key in planned:
            if self._matrix.outcome(self._matrix.index(*key)) is None:
                there = key[2] in self._crew.hellos
                self._set(key, Outcome(Verdict.UNKNOWN, cause=cut) if there else without_agent())


def _echoed(row: Sequence[Any], small: int, full: int) -> _Answer:
    """One cell as an agent tells it. Raises ValueError for what cannot be."""
    sent_small, sent_full, back_small, back_full, errno, error, size, rtt = row
    said = None
    if error is not None:
        sender, kind, code, _ = error
        said = IcmpError(str(ip_address(sender)), int(kind), int(code))
    told = Echoes(
        int(sent_small), int(sent_full), int(back_small), int(back_full), small + full,
        int(errno), said, int(size),
    )  # fmt: skip
    if not (0 <= told.answered_small <= told.small <= small and _MOST_ERRNO >= told.errno >= 0):
        raise ValueError("numbers that cannot be")
    if not (0 <= told.answered_full <= told.full <= full and 0 <= told.size <= _MOST_BYTES):
        raise ValueError("numbers that cannot be")
    time_us = None if rtt is None else int(rtt)
    if time_us is not None and not 0 <= time_us <= _MOST_US:
        raise ValueError("a time that cannot be")
    return _Answer(told, rtt_ms=None if time_us is None else time_us / 1000)
