"""Looks over a fleet of agents until every cell is decided.

The first look decides what is healthy. What it leaves is asked again with every vantage point
watched, and again, more slowly, where a capture lost packets.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from typing import Protocol as Interface

from preflight.core.collect import Collection
from preflight.core.evidence import Setting, Sightings
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Family, Outcome, Protocol, Verdict
from preflight.core.options import CheckOptions
from preflight.core.plan import FLOW_WINDOW_S, CellPlan, FlowBudget, LookPlan, waves
from preflight.core.scope import Scope
from preflight.core.together import proven, telling_error, together
from preflight.core.verdict import decided, judge
from preflight.looks.strays import Sample, Sent

_FIRST_WAIT_S = 0.2  # a short wait does no harm: the second look asks again
_LATER_LOOKS = 3  # one, and more where a capture lost packets
_SLOWER = 4  # how much each of those is
_LONGER = 4  # how much longer they wait where a packet came after it was given up

Key = tuple[int, int, int, int]  # family, probe, source, destination


class Looker(Interface):
    """Whoever can have a look made: the agents of a fleet, or a recording of them."""

    @property
    def interrupted(self) -> bool:
        """The user wants it to end."""
        ...

    def look(self, plan: LookPlan) -> Collection:
        """Send what is planned and collect what was seen; returns early where interrupted."""
        ...

    def usable(self) -> set[int]:
        """The nodes whose agents are there."""
        ...


class Survey:
    """Decides the cells of one scope. `hellos` are the first words of each usable agent.

    `budget` is what several surveys share.
    """

    def __init__(
        self,
        scope: Scope,
        options: CheckOptions,
        hellos: Mapping[int, Mapping[str, Any]],
        looker: Looker,
        progress: Callable[[str], None],
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        budget: FlowBudget | None = None,
    ) -> None:
        self.matrix = Matrix(scope.nodes, scope.probes, scope.families)
        self.sources: dict[tuple[int, str], set[int]] = {}
        self.strays: dict[int, tuple[int, tuple[Sample, ...]]] = {}
        self.sent: list[Sent] = []
        self.slow: set[tuple[int, int]] = set()  # pairs with packets slower than the timeout
        self._scope = scope
        self._options = options
        self._hellos = hellos
        self._looker = looker
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._budget = budget or FlowBudget(options.max_flows)
        self._numbers = iter(range(1, 0xFFFF))
        self._families = {family: f for f, family in enumerate(scope.families)}
        self._verdicts: dict[Any, Outcome | None] = {}
        self._lacking: dict[Family, frozenset[int]] = {}
        self._told: set[int] = set()  # whose reports of the last look are in

    def run(self) -> Matrix:
        """Every planned cell decided, or unknown where it could not be."""
        with_agents, one_sided = self._split()
        for cells in waves(with_agents, len(self._scope.nodes), self._options.max_flows):
            self._first(cells)
        if any(cell.packets for cell in one_sided):
            for cells in waves(one_sided, len(self._scope.nodes), self._options.max_flows):
                self._later(dict.fromkeys(self._keys(cells)))
        self._leave()
        return self.matrix

    def _split(self) -> tuple[list[CellPlan], list[CellPlan]]:
        """The cells with an agent at both ends, and those with one at the source alone."""
        usable = self._looker.usable()
        both: list[CellPlan] = []
        one: list[CellPlan] = []
        for cell in self._scope.cells():
            there = usable - self._nameless(cell.family)
            rows = [row if s in there else [] for s, row in enumerate(cell.pairs)]
            both.append(replace(cell, pairs=[[d for d in r if d in there] for r in rows]))
            one.append(replace(cell, pairs=[[d for d in r if d not in there] for r in rows]))
        return both, [cell for cell in one if cell.packets]

    # --- the first look

    def _first(self, cells: Sequence[CellPlan]) -> None:
        cells = [cell for cell in cells if cell.packets]
        if not cells or self._looker.interrupted:
            return
        wait = min(_FIRST_WAIT_S, self._options.timeout_s)
        plan = LookPlan(next(self._numbers), cells, self._options.rate, taps=False, wait_s=wait)
        pairs = max(sum(len(row) for row in cell.pairs) for cell in cells)
        among = f"{pairs:,} ordered pairs" if pairs != 1 else "one pair"
        self._progress(f"first look: {plan.packets:,} packets over {among}")
        seen = self._look(plan, plan.flows)
        if seen is None:
            return
        self._note_sources(plan, seen)
        undecided = self._decide_first(plan, seen)
        if undecided and not self._looker.interrupted:
            self._later(undecided, known_until=self._clock() + FLOW_WINDOW_S / 2)

    def _decide_first(self, plan: LookPlan, seen: Collection) -> dict[Key, Sightings | None]:
        exceptions = seen.exceptions()
        undecided: dict[Key, Sightings | None] = {}
        for c, cell in enumerate(plan.cells):
            f = self._families[cell.family]
            complete = seen.complete(c)
            healthy: dict[int, Outcome | None] = {}  # by destination
            for s, row in enumerate(cell.pairs):
                odd = exceptions.get((c, s), ())
                start = self.matrix.index(f, cell.probe, s, 0)
                for d, rtt in zip(row, seen.rtts_ms(c, s), strict=True):
                    if d in odd:
                        sightings = seen.sightings(c, s, d)
                        outcome = self._verdict(decided, sightings, (f, cell.probe, s, d))
                    else:
                        sightings = complete
                        if d not in healthy:
                            healthy[d] = self._verdict(decided, complete, (f, cell.probe, s, d))
                        outcome = healthy[d]
                    if outcome is None:
                        undecided[f, cell.probe, s, d] = sightings
                    else:
                        self.matrix.set(start + d, outcome, rtt)
        return undecided

    # --- later looks

    def _later(self, undecided: Mapping[Key, Sightings | None], known_until: float = 0.0) -> None:
        """Ask again. Until `known_until` firewalls still know the first look's UDP flows."""
        rate, wait = self._options.rate, self._options.timeout_s
        for attempt in range(_LATER_LOOKS):
            left: dict[Key, Sightings | None] = {}
            slow = len(self.slow)
            cells = self._cells_of(undecided)
            for part in waves(cells, len(self._scope.nodes), self._options.max_flows):
                if self._looker.interrupted:
                    return
                wave = [cell for cell in part if cell.packets]
                number = next(self._numbers)
                plan = LookPlan(number, wave, rate, taps=True, wait_s=wait)
                reused = self._clock() < known_until
                flows = sum(c.flows for c in wave if not (reused and c.one_way))
                count = sum(len(row) for cell in wave for row in cell.pairs)
                again = "second look" if not attempt else "another look, more slowly"
                what = f"{count:,} cells" if count != 1 else "one cell"
                self._progress(f"{again}: {what}, every vantage point watched")
                seen = self._look(plan, flows)
                if seen is None:
                    return
                left.update(self._decide_later(plan, seen, undecided))
            if not left or attempt == _LATER_LOOKS - 1:
                return
            undecided = left
            rate /= _SLOWER
            if len(self.slow) > slow:
                wait *= _LONGER

    def _decide_later(
        self, plan: LookPlan, seen: Collection, before: Mapping[Key, Sightings | None]
    ) -> dict[Key, Sightings | None]:
        left: dict[Key, Sightings | None] = {}
        late = seen.late()
        for c, cell in enumerate(plan.cells):
            f = self._families[cell.family]
            for s, row in enumerate(cell.pairs):
                for d, rtt in zip(row, seen.rtts_ms(c, s), strict=True):
                    key = (f, cell.probe, s, d)
                    outcome = self._judge_later(seen.sightings(c, s, d), before[key], key)
                    if self._looker.interrupted and outcome.verdict is not Verdict.OPEN:
                        continue  # cut short, a look proves nothing by what it did not see
                    self.matrix.set(self.matrix.index(*key), outcome, rtt)
                    slow = (c, s, d) in late and outcome.verdict is not Verdict.OPEN
                    if slow:
                        self.slow.add((s, d))
                    if slow or outcome.cause is Cause.NOT_WATCHED or self._half_seen(outcome, key):
                        left[key] = before[key]
        return left

    def _half_seen(self, outcome: Outcome, key: Key) -> bool:
        """It is bad, and a vantage point was not watched that would tell where."""
        bad = outcome.verdict in (Verdict.BLOCKED, Verdict.LOSSY)
        return bad and outcome.place is None and set(key[2:]) <= self._usable(key[0])

    def _judge_later(self, later: Sightings, first: Sightings | None, key: Key) -> Outcome:
        if first is not None:
            later = telling_error(later, first)
        outcome = self._verdict(judge, later, key)
        assert outcome is not None
        if first is not None and outcome.verdict is Verdict.BLOCKED:
            setting = self._setting(key, self._place(key), final=True)
            if proven(first, setting):
                again = self._verdict(judge, together(later, first, setting), key)
                assert again is not None
                return again
        return outcome

    def _cells_of(self, keys: Mapping[Key, Any]) -> list[CellPlan]:
        nodes = len(self._scope.nodes)
        pairs: dict[tuple[int, int], list[list[int]]] = {}
        for f, probe, s, d in keys:
            rows = pairs.get((f, probe))
            if rows is None:
                rows = pairs[f, probe] = [[] for _ in range(nodes)]
            rows[s].append(d)
        return [
            self._scope.cell(probe, self._scope.families[f], rows, first=False)
            for (f, probe), rows in sorted(pairs.items())
        ]

    def _keys(self, cells: Sequence[CellPlan]) -> Iterator[Key]:
        for cell in cells:
            for s, row in enumerate(cell.pairs):
                for d in row:
                    yield self._families[cell.family], cell.probe, s, d

    # --- judging

    def _verdict(
        self,
        rule: Callable[[Sightings, Setting], Outcome | None],
        sightings: Sightings,
        key: Key,
    ) -> Outcome | None:
        f, probe, s, d = key
        plain = sightings.error is None and not sightings.send_errors
        place = self._place(key)
        who = () if plain and place[1] else (s, d)
        memo = (rule, f, probe, place, who, _fingerprint(sightings))
        if memo not in self._verdicts:
            self._verdicts[memo] = rule(sightings, self._setting(key, place, rule is judge))
            if not plain:
                return self._verdicts.pop(memo)  # too many addresses to remember
        return self._verdicts[memo]

    def _place(self, key: Key) -> tuple[bool, bool, bool | None, bool]:
        f, probe, s, d = key
        # Who was lost after its report had been there for the whole look, which is what counts.
        there = (self._looker.usable() | self._told) - self._nameless(self._scope.families[f])
        return s in there, d in there, self._serves(f, probe, d), self._ignores(f, d)

    def _setting(
        self, key: Key, place: tuple[bool, bool, bool | None, bool], final: bool
    ) -> Setting:
        f, probe, s, d = key
        nodes = self._scope.nodes
        return Setting(
            probe=self._scope.probes[probe],
            family=self._scope.families[f],
            phase=self._options.phase,
            source_agent=place[0],
            destination_agent=place[1],
            source_addresses=nodes[s].addresses,
            destination_addresses=nodes[d].addresses,
            serves=place[2],
            echo_ignored=place[3],
            final=final,
        )

    def _usable(self, family: int) -> set[int]:
        return self._looker.usable() - self._nameless(self._scope.families[family])

    def _nameless(self, family: Family) -> frozenset[int]:
        """The nodes whose agents do not find their address of that family on the machine."""
        if family not in self._lacking:
            nodes = self._scope.nodes
            self._lacking[family] = frozenset(
                n
                for n, h in self._hellos.items()
                if nodes[n].address_in(family) in h.get("absent", ())
            )
        return self._lacking[family]

    def _serves(self, family: int, probe: int, node: int) -> bool | None:
        kind = self._scope.probes[probe]
        hello = self._hellos.get(node)
        if hello is None or kind.protocol is Protocol.ICMP:
            return None
        served = hello["served"].get(str(self._number(family)))
        if served is None:
            return None
        if kind.protocol is Protocol.UDP and kind.port in served["unsure"]:
            return None
        return kind.port in served[kind.protocol.value]

    def _ignores(self, family: int, node: int) -> bool:
        hello = self._hellos.get(node)
        return hello is not None and self._number(family) in hello["echo_ignored"]

    def _number(self, family: int) -> int:
        return 4 if self._scope.families[family] is Family.IPV4 else 6

    # --- the rest

    def _leave(self) -> None:
        """What no look decided is unknown."""
        usable = [self._usable(f) for f in range(len(self._scope.families))]
        agentless = Outcome(Verdict.UNKNOWN, cause=Cause.NO_AGENT)
        rest = Cause.INTERRUPTED if self._looker.interrupted else Cause.NOT_WATCHED
        undecided = Outcome(Verdict.UNKNOWN, cause=rest)
        for key in self._keys(self._scope.cells()):
            index = self.matrix.index(*key)
            if self.matrix.outcome(index) is None:
                there = set(key[2:]) <= usable[key[0]]
                self.matrix.set(index, undecided if there else agentless)

    def _look(self, plan: LookPlan, flows: int) -> Collection | None:
        """Have a look made that opens so many new flows, once firewalls have room for them.

        None where the user would not wait for that.
        """
        delay = self._budget.delay_s(flows, self._clock())
        if delay > 0:
            most = self._options.max_flows
            self._progress(f"waiting {delay:.0f} s: at most {most:,} new flows in 30 s")
            self._sleep(delay)
        if self._looker.interrupted:
            return None
        seen = self._looker.look(plan)
        self._told = seen.told()
        self.sent.append(Sent.of(plan))
        self._budget.spend(flows, self._clock())  # by now the last of them is open
        self.strays.update(seen.strays())
        return seen

    def _note_sources(self, plan: LookPlan, seen: Collection) -> None:
        for c, source, destination, address in seen.sources():
            if self._scope.probes[plan.cells[c].probe].one_way:
                self.sources.setdefault((source, address), set()).add(destination)


def _fingerprint(s: Sightings) -> tuple[object, ...]:
    return (
        s.planned, s.full_size, s.sent, s.left, s.arrived, s.accepted, s.answered, s.returned,
        s.received, s.answered_rst, s.answered_syn_ack, s.received_rst, s.received_syn_ack,
        s.error, s.neighbour_failed, *s.send_errors.items(),
    )  # fmt: skip
