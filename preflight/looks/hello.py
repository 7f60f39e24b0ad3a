"""After the installation: a real `GET /hello` to every TCP 4240 that has answered a SYN.

Where all get Cilium's answer that is one connection for each cell. What did not is asked once more
with the devices of both ends watched, and each destination asks itself, at the same address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from preflight.core.facts.request import Part
from preflight.core.hello import Heard, Passed, decide, follow, settle
from preflight.core.model import (
    Came,
    Cause,
    Hello,
    Node,
    Outcome,
    ProbeKind,
    Protocol,
    Verdict,
)
from preflight.core.plan import GET_VOLLEY, CellPlan, FlowBudget
from preflight.crew.gather import gather
from preflight.looks.requests import Got, Key, Requests
from preflight.transport import bundle

if TYPE_CHECKING:
    from preflight.core.matrix import Matrix
    from preflight.crew.crew import Crew

_LISTEN_S = 5.0
_ACCUSED = (Cause.NOT_CILIUM, Cause.NOT_ANSWERING)


class _Answer(NamedTuple):
    hello: Hello
    port: int  # the source's


_Flows = Mapping[tuple[str, int, int], Passed]


def greet(crew: Crew, matrix: Matrix, budget: FlowBudget) -> list[str]:
    """Ask, and put into `matrix` what that makes of its cells; returns what else is to be said."""
    greeting = _Greeting(crew, matrix, budget)
    due = list(greeting.due())
    if due:
        greeting.run(due)
    return greeting.notes


class _Greeting:
    """All requests of one round."""

    def __init__(self, crew: Crew, matrix: Matrix, budget: FlowBudget) -> None:
        self._crew = crew
        self._chorus = crew.chorus
        self._matrix = matrix
        self._nodes: Sequence[Node] = crew.extent.nodes
        self._numbers = count(1)
        self._requests = Requests(crew, matrix, budget, "GET /hello")
        self._full: set[tuple[int, int]] = set()  # nodes and ports without room for connections
        self.notes = self._requests.notes

    def due(self) -> Iterator[Key]:
        """The cells whose port answered a SYN, as far as that is known."""
        matrix = self._matrix
        for f in range(len(matrix.families)):
            for p, probe in enumerate(matrix.probes):
                if probe.kind is not ProbeKind.HEALTH:
                    continue
                wanted = [outcome is not None and _answered(outcome) for outcome in matrix.table]
                for s in sorted(self._chorus.alive):
                    for d, number in enumerate(matrix.numbers(f, p, s)):
                        if wanted[number]:
                            yield f, p, s, d

    def run(self, due: Sequence[Key]) -> None:
        """Ask all of these, and of those that were not answered well ask again."""
        ports = ", ".join(
            f"TCP {p.port}" for p in self._matrix.probes if p.kind is ProbeKind.HEALTH
        )
        number = f"{len(due):,} connections" if len(due) != 1 else "one connection"
        self._crew.progress.phase(f"GET /hello: {number} to {ports}", 0)
        self._chorus.broadcast({key[2] for key in due}, bundle.hello())
        first = self._ask(due)
        odd = [key for key in due if key in first and first[key].hello.answer is not Came.CILIUM]
        for key, answer in first.items():
            if answer.hello.answer is Came.CILIUM:
                self._decide(key, answer.hello, None, Heard(self._there(key), Came.CILIUM))
        if odd and not self._chorus.interrupted:
            self._again(odd, first)
        elif odd:
            for key in odd:
                self._set(key, Outcome(Verdict.UNKNOWN, cause=Cause.INTERRUPTED))

    # --- asking

    def _ask(self, keys: Sequence[Key]) -> dict[Key, _Answer]:
        answers: dict[Key, _Answer] = {}

        def take(told: list[Got]) -> None:
            answers.update({got.key: _Answer(got.hello, got.port) for got in told})

        requests = self._requests
        cells = [
            CellPlan(probe, self._matrix.families[f], False, GET_VOLLEY, rows)
            for (f, probe), rows in requests.by_pairs(keys)
        ]
        requests.waves(cells, lambda wave: requests.get(wave, next(self._numbers), take))
        return answers

    # --- asking again

    def _again(self, odd: Sequence[Key], first: Mapping[Key, _Answer]) -> None:
        alive = set(self._chorus.alive)
        own = {(f, p, d, d) for f, p, _, d in odd if d in alive}
        what = f"{len(odd):,} cells" if len(odd) != 1 else "one cell"
        self._crew.progress.phase(f"GET /hello again: {what}, watched at both ends", 0)
        ends = {node for key in odd for node in key[2:]} & alive
        self._chorus.broadcast({key[3] for key in own}, bundle.hello())
        self._chorus.broadcast(ends, bundle.ear())
        ports = sorted({self._matrix.probes[key[1]].port or 0 for key in odd})
        self._listen(ends, ports)
        answers = self._ask([*odd, *sorted(own)])
        flows = self._listen(ends, [])
        if self._chorus.interrupted:
            answers = {}
        well = {_served(key) for key, got in first.items() if got.hello.answer is Came.CILIUM}
        heard: dict[Key, Heard] = {}
        for key in odd:
            if key in answers:
                heard[key] = self._heard(key, answers, flows, well=_served(key) in well)
        holders = self._holders({k[3] for k, h in heard.items() if decide(h)[3] in _ACCUSED})
        for key in odd:
            if key not in answers:
                cause = Cause.INTERRUPTED if self._chorus.interrupted else Cause.NOT_WATCHED
                self._set(key, Outcome(Verdict.UNKNOWN, cause=cause, hello=first[key].hello))
                continue
            f, p, _, d = key
            port = self._matrix.probes[p].port
            holder = holders.get((d, port or 0))
            hello = answers[key].hello._replace(holder=holder)
            itself = answers.get((f, p, d, d))
            told = itself.hello._replace(holder=holder) if itself else None
            self._decide(key, hello, told, heard[key])

    def _heard(
        self, key: Key, answers: Mapping[Key, _Answer], flows: Mapping[int, _Flows], *, well: bool
    ) -> Heard:
        """`well`: another node was answered as by Cilium."""
        f, p, s, d = key
        hello, port = answers[key]
        itself = answers.get((f, p, d, d))
        server = self._matrix.probes[p].port or 0
        family = self._matrix.families[f]
        there, back = (self._nodes[n].address_in(family) or "" for n in (d, s))
        known = {a for node in self._nodes for a in node.addresses}
        course = follow(
            hello.answer,
            _passed(flows.get(s), (there, port, server), known),
            _passed(flows.get(d), (back, port, server), known),
        )
        own = itself.hello.answer if itself else None
        if well and hello.answer is Came.UNTAKEN:
            own = Came.CILIUM  # the program is well, whatever its node's rules make of its answers
        full = (d, server) in self._full
        return Heard(self._there(key), hello.answer, own, *course, full=full)

    def _listen(self, nodes: set[int], ports: Sequence[int]) -> dict[int, _Flows]:
        """Have nodes begin to listen, or with no ports tell what they heard."""
        number = next(self._numbers)
        heard: dict[int, _Flows] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            flows = {
                (str(far), int(client), int(server)): Passed(int(what) & 63)
                for far, client, server, what in frame["flows"]
            }
            self._full |= {(node, int(port)) for port in frame["full"]}
            if not int(frame["lost"]):
                heard[node] = flows

        frame = {"t": "ear", "number": number, "ports": list(ports)}
        frames = dict.fromkeys(nodes & self._chorus.alive, frame)
        self._chorus.ask(frames, "ear", number, _LISTEN_S, keep)
        return heard

    def _holders(self, nodes: set[int]) -> dict[tuple[int, int], str]:
        """The process that has each TCP port, by node and port, as far as the nodes can tell."""
        there = sorted(nodes & self._chorus.alive)
        if not there or self._chorus.interrupted:
            return {}
        probes = self._matrix.probes
        told = gather(self._chorus, self._nodes, there, probes, parts=(Part.PORTS,))
        return {
            (node, socket.port): socket.process
            for node, facts in told.facts.items()
            for socket in facts.sockets or ()
            if socket.protocol is Protocol.TCP and socket.process
        }

    # --- the matrix

    def _there(self, key: Key) -> bool:
        return key[3] in self._crew.hellos

    def _decide(self, key: Key, hello: Hello, own: Hello | None, heard: Heard) -> None:
        before = self._matrix.outcome(self._matrix.index(*key))
        assert before is not None  # it was asked because of it
        self._set(key, settle(before, heard, hello, own))

    def _set(self, key: Key, outcome: Outcome) -> None:
        index = self._matrix.index(*key)
        before = self._matrix.outcome(index)
        if outcome.verdict is Verdict.UNKNOWN and before is not None:
            outcome = outcome._replace(evidence=before.evidence)
        self._matrix.set(index, outcome, self._matrix.rtt_ms(index))


def _served(key: Key) -> tuple[int, int, int]:
    """Family, probe and destination."""
    f, p, _, d = key
    return f, p, d


def _answered(outcome: Outcome) -> bool:
    alone = outcome.verdict is Verdict.UNKNOWN and outcome.cause is Cause.NO_AGENT
    return outcome.verdict is Verdict.OPEN or (alone and bool(outcome.evidence.received))


def _passed(flows: _Flows | None, flow: tuple[str, int, int], known: set[str]) -> Passed | None:
    """What a node's devices saw of a connection; None where they could not tell it."""
    if flows is None or flow in flows:
        return None if flows is None else flows[flow]
    ports = flow[1:]
    translated = any(other[1:] == ports and other[0] not in known for other in flows)
    return None if translated else Passed(0)
