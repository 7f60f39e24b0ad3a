"""Looks until every cell is decided, by a scripted looker: no network, and no time passes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.collect import Collection, Report
from preflight.core.evidence import IcmpError
from preflight.core.matrix import Matrix
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Connection,
    Inventory,
    Node,
    Verdict,
)
from preflight.core.options import CheckOptions
from preflight.core.plan import FLOW_WINDOW_S, LookPlan
from preflight.core.scope import Scope, scope
from preflight.looks.survey import Survey

PROBES = (GENEVE, HEALTH, ECHO)
IN = ("arrived", "accepted", "answered")
Spot = tuple[str, int, int]  # probe, source, destination


class Time:
    """A clock that goes on when somebody sleeps, and by `cost` with every look."""

    def __init__(self, cost: float = 0.1) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.cost = cost

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class World:
    """What the agents of some nodes would report.

    `dead` are spots whose probes die on the path; `deaf` says in which looks the taps and sockets
    of which nodes lose everything they can.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        dead: Sequence[Spot] = (),
        deaf: Callable[[int, int], bool] = lambda look, node: False,
        without: Sequence[int] = (),
        **options: Any,
    ) -> None:
        made = tuple(
            Node(
                f"n{i}",
                (f"192.0.2.{i + 1}",),
                f"n{i}",
                Connection.NONE if i in without else Connection.LOCAL,
            )
            for i in range(nodes)
        )
        self.options = CheckOptions(**options)
        self.scope: Scope = scope(Inventory("-", made, PROBES), self.options)
        self.plans: list[LookPlan] = []
        self.said: list[str] = []
        self.time = Time()
        self.opened: list[tuple[float, float, int]] = []  # from, until, how many new flows
        self._alive = set(range(nodes)) - set(without)
        self._dead = set(dead)
        self._deaf = deaf
        self._stopped = False
        self._flows: set[tuple[Any, ...]] = set()
        self.on_look: Callable[[LookPlan], None] = lambda plan: None
        self.on_report: Callable[[LookPlan, int, Report], None] = lambda plan, node, report: None

    # --- survey.Looker

    @property
    def interrupted(self) -> bool:
        return self._stopped

    def usable(self) -> set[int]:
        return self._alive

    def look(self, plan: LookPlan) -> Collection:
        protocols = [probe.protocol for probe in PROBES]
        if self._stopped:
            return Collection(plan, protocols, {})
        self.plans.append(plan)
        self.on_look(plan)
        began = self.time.now
        self.time.now += self.time.cost
        self.opened.append((began, self.time.now, self._new_flows(plan)))
        reports = {node: self._report(plan, node) for node in sorted(self._alive)}
        return Collection(plan, protocols, reports)

    # --- what befalls it

    def interrupt(self) -> None:
        self._stopped = True

    def lose(self, node: int) -> None:
        self._alive.discard(node)

    # --- how it sees

    def _new_flows(self, plan: LookPlan) -> int:
        """A flow is new where no firewall has heard of it for 30 s; UDP ports stay a cell's own."""
        total = 0
        for cell in plan.cells:
            for s, row in enumerate(cell.pairs):
                for d in row:
                    key = (cell.probe, cell.family, s, d)
                    if not (cell.one_way and key in self._flows):
                        total += cell.volley.flows
                    self._flows.add(key)
        return total

    def _report(self, plan: LookPlan, node: int) -> Report:
        watched: tuple[str, ...] = ("sent", "accepted", "received")
        if plan.taps:
            watched += ("left", "arrived", "answered", "returned")
        out = Report(
            {v: {} for v in watched}, {"answered": {}, "received": {}}, set(), {}, {}, {}, set()
        )
        for c, cell in enumerate(plan.cells):
            name = PROBES[cell.probe].name
            for s, row in enumerate(cell.pairs):
                for d in row:
                    if node not in (s, d):
                        continue
                    lost = (name, s, d) in self._dead or not {s, d} <= self._alive
                    missing = ("arrived", "accepted", "answered", "returned", "received")
                    for vantage in watched if lost else ():
                        mine = (node == d) if vantage in IN else (node == s)
                        if mine and vantage in missing:
                            out.seen[vantage][c, s if vantage in IN else d] = 0
                            if vantage in out.kinds and name == "health":
                                out.kinds[vantage][c, s if vantage in IN else d] = (0, 0)
            if not cell.one_way:
                out.rtt_us[c] = [500] * len(cell.pairs[node])
            if self._deaf(plan.number, node):
                out.lost |= {(vantage, c) for vantage in watched if vantage != "sent"}
        if self._deaf(plan.number, node):  # and it did not see everything
            for c, cell in enumerate(plan.cells):
                for vantage in watched:
                    for peer in range(len(cell.pairs)):
                        if vantage != "sent":
                            out.seen[vantage].setdefault((c, peer), 1)
        self.on_report(plan, node, out)
        return out

    # --- running it

    def survey(self) -> Survey:
        nothing: dict[str, Any] = {"udp": [], "tcp": [], "unsure": []}
        hello = {**nothing, "echo_ignored": [], "served": {"4": nothing, "6": nothing}}
        hellos: Mapping[int, Mapping[str, Any]] = dict.fromkeys(sorted(self._alive), hello)
        return Survey(
            self.scope, self.options, hellos, self, self.said.append, self.time.sleep, self.time
        )

    def run(self) -> Matrix:
        return self.survey().run()


def verdicts(matrix: Matrix) -> dict[tuple[Verdict, Cause | None], int]:
    out: dict[tuple[Verdict, Cause | None], int] = {}
    for outcome, count in matrix.outcomes().items():
        key = (outcome.verdict, outcome.cause)
        out[key] = out.get(key, 0) + count
    return out


def spots(plan: LookPlan) -> set[Spot]:
    return {
        (PROBES[cell.probe].name, s, d)
        for cell in plan.cells for s, row in enumerate(cell.pairs) for d in row
    }  # fmt: skip


def everything(nodes: int) -> set[Spot]:
    return {
        (probe.name, s, d) for probe in PROBES for s in range(nodes) for d in range(nodes) if s != d
    }


OPEN = (Verdict.OPEN, None)
BLOCKED = (Verdict.BLOCKED, Cause.DROPPED)
INTERRUPTED = (Verdict.UNKNOWN, Cause.INTERRUPTED)
NOT_WATCHED = (Verdict.UNKNOWN, Cause.NOT_WATCHED)
NO_AGENT = (Verdict.UNKNOWN, Cause.NO_AGENT)

# --- how many looks ------------------------------------------------------------------------------


def test_one_look_decides_what_is_healthy() -> None:
    world = World()
    matrix = world.run()
    assert verdicts(matrix) == {OPEN: 36}
    (plan,) = world.plans
    assert spots(plan) == everything(4)
    assert (plan.taps, plan.rate) == (False, 5000)
    assert plan.wait_s <= 0.2
    rtts = {cell.rtt_ms for cell in matrix.cells() if not matrix.probes[cell.probe].one_way}
    assert rtts == {0.5}
    assert {cell.rtt_ms for cell in matrix.cells() if matrix.probes[cell.probe].one_way} == {None}


def test_a_short_timeout_shortens_the_first_look_too() -> None:
    world = World(timeout_s=0.05)
    world.run()
    assert world.plans[0].wait_s == 0.05


def test_a_second_look_asks_about_the_undecided_alone() -> None:
    dead = [("geneve", 0, 1), ("health", 2, 3)]
    world = World(dead=dead, timeout_s=0.7)
    matrix = world.run()
    assert verdicts(matrix) == {OPEN: 34, BLOCKED: 2}
    first, second = world.plans
    assert spots(second) == set(dead)
    assert (second.taps, second.rate, second.wait_s) == (True, first.rate, 0.7)
    assert second.number != first.number
    assert [c.volley.count for c in second.cells] > [c.volley.count for c in first.cells[:2]]
    assert any(text.startswith("second look: 2 cells") for text in world.said)


def test_an_error_that_the_first_look_heard_is_not_forgotten() -> None:
    """Its sender may have no more of them to spend."""
    world = World(dead=[("health", 0, 1)])

    def once(plan: LookPlan, node: int, report: Report) -> None:
        if plan.number == 1 and node == 0:
            report.errors[1, 1] = IcmpError("192.0.2.254", 3, 13)

    world.on_report = once
    matrix = world.run()
    (bad,) = [cell.outcome for cell in matrix.cells() if cell.outcome.verdict != "open"]
    assert (bad.verdict, bad.cause, bad.rejected_by) == ("blocked", "rejected", "192.0.2.254")


def test_what_a_capture_lost_is_asked_again_more_slowly() -> None:
    """n1 is deaf in the first look and in the second; in the third it hears."""
    world = World(deaf=lambda look, node: node == 1 and look < 3)
    assert verdicts(world.run()) == {OPEN: 36}
    first, second, third = world.plans
    # What the others saw of n1's GENEVE is proof enough.
    asked = {spot for spot in everything(4) if 1 in spot[1:] and spot[:2] != ("geneve", 1)}
    assert spots(second) == spots(third) == asked
    assert (first.rate, second.rate, third.rate) == (5000, 5000, 1250)
    assert any("more slowly" in text for text in world.said)


def test_whoever_stays_deaf_is_unknown_and_nobody_else_is() -> None:
    world = World(deaf=lambda look, node: node == 1)
    assert verdicts(world.run()) == {OPEN: 21, NOT_WATCHED: 15}
    assert [plan.rate for plan in world.plans] == [5000, 5000, 1250, 312.5]


def test_a_fault_is_told_though_others_were_not_watched() -> None:
    world = World(dead=[("geneve", 2, 3)], deaf=lambda look, node: node == 1 and look < 3)
    assert verdicts(world.run()) == {OPEN: 35, BLOCKED: 1}
    assert spots(world.plans[2]).isdisjoint({("geneve", 2, 3)})  # decided, so not asked again


# --- interruptions -------------------------------------------------------------------------------


def test_interrupted_before_anything_was_sent() -> None:
    world = World()
    world.interrupt()
    assert verdicts(world.run()) == {INTERRUPTED: 36}
    assert world.plans == []


def test_interrupted_in_the_first_look() -> None:
    """What it proved stays; the rest is unknown, and no second look is begun."""
    world = World(dead=[("geneve", 0, 1)])
    world.on_look = lambda plan: world.interrupt()
    assert verdicts(world.run()) == {OPEN: 35, INTERRUPTED: 1}
    assert len(world.plans) == 1


def test_interrupted_in_the_second_look() -> None:
    """It was cut short, so what it did not see proves nothing."""
    world = World(dead=[("geneve", 0, 1), ("echo", 1, 0)])
    world.on_look = lambda plan: world.interrupt() if plan.number == 2 else None
    assert verdicts(world.run()) == {OPEN: 34, INTERRUPTED: 2}


def test_interrupted_in_the_second_look_what_it_saw_is_kept() -> None:
    world = World(deaf=lambda look, node: node == 1 and look == 1)
    world.on_look = lambda plan: world.interrupt() if plan.number == 2 else None
    assert verdicts(world.run()) == {OPEN: 36}


def test_interrupted_in_a_slower_look() -> None:
    world = World(dead=[("geneve", 2, 3)], deaf=lambda look, node: node == 1)
    world.on_look = lambda plan: world.interrupt() if plan.number == 3 else None
    found = verdicts(world.run())
    assert found[BLOCKED] == 1
    assert set(found) == {OPEN, BLOCKED, NOT_WATCHED}


def test_interrupted_while_waiting_for_the_flow_budget() -> None:
    world = World(6, max_flows=200)

    def sleep(seconds: float) -> None:
        world.interrupt()

    world.time.sleep = sleep  # type: ignore[method-assign]
    found = verdicts(world.run())
    assert set(found) <= {OPEN, INTERRUPTED}
    assert found[INTERRUPTED] > 0


# --- agents --------------------------------------------------------------------------------------


def test_a_node_without_an_agent_is_probed_one_sidedly_and_sends_nothing() -> None:
    world = World(without=[3])
    matrix = world.run()
    first, *later = world.plans
    assert spots(first) == {spot for spot in everything(4) if 3 not in spot[1:]}
    asked = set().union(*(spots(plan) for plan in later))
    assert asked == {spot for spot in everything(4) if spot[2] == 3}
    assert all(plan.taps for plan in later)
    found = verdicts(matrix)
    assert found == {OPEN: 18, NO_AGENT: 18}


def test_without_any_agent_nothing_is_asked() -> None:
    world = World(without=[0, 1, 2, 3])
    assert verdicts(world.run()) == {NO_AGENT: 36}
    assert world.plans == []


@pytest.mark.parametrize("look", [1, 2])
def test_a_node_that_is_lost_accuses_nobody(look: int) -> None:
    world = World(dead=[("geneve", 0, 1), ("geneve", 2, 3)])
    world.on_look = lambda plan: world.lose(3) if plan.number == look else None
    matrix = world.run()
    for cell in matrix.cells():
        name = matrix.probes[cell.probe].name
        if 3 not in (cell.source, cell.destination):
            bad = (name, cell.source, cell.destination) == ("geneve", 0, 1)
            assert cell.outcome.verdict == ("blocked" if bad else "open")
        else:
            assert cell.outcome.verdict in ("open", "unknown")
    if look == 2:  # the first look's proofs stay
        assert verdicts(matrix) == {OPEN: 34, BLOCKED: 1, NO_AGENT: 1}


@pytest.mark.parametrize("gone", [2, 3])
def test_what_a_node_has_told_before_it_was_lost_counts(gone: int) -> None:
    """Both ends' counts of one whole look are in: nobody needs its agent any more."""
    world = World(dead=[("geneve", 2, 3), ("geneve", 0, 1)])

    def lose(plan: LookPlan, node: int, _: Report) -> None:
        if plan.number == 2 and node == gone:
            world.lose(node)

    world.on_report = lose
    assert verdicts(world.run()) == {OPEN: 34, BLOCKED: 2}


def test_a_report_that_lacks_what_a_capture_lost_is_not_made_up_for() -> None:
    world = World(dead=[("geneve", 2, 3)], deaf=lambda look, node: (look, node) == (2, 3))

    def lose(plan: LookPlan, node: int, _: Report) -> None:
        if plan.number == 2 and node == 3:
            world.lose(node)

    world.on_report = lose
    assert verdicts(world.run()) == {OPEN: 35, NO_AGENT: 1}


def test_all_nodes_that_are_lost_end_the_run() -> None:
    world = World()

    def lose_all(plan: LookPlan) -> None:
        for node in range(4):
            world.lose(node)

    world.on_look = lose_all
    assert verdicts(world.run()) == {NO_AGENT: 36}
    assert len(world.plans) <= 2


def test_addresses_that_are_not_in_the_inventory_are_noted_for_tunnels_alone() -> None:
    world = World()

    def from_elsewhere(plan: LookPlan, node: int, report: Report) -> None:
        if node == 1:
            report.sources = {(0, 0): "192.0.2.99", (1, 0): "192.0.2.98"}

    world.on_report = from_elsewhere
    survey = world.survey()
    assert verdicts(survey.run()) == {OPEN: 36}  # by itself never a bad verdict
    assert survey.sources == {(0, "192.0.2.99"): {1}}


# --- the flow budget -----------------------------------------------------------------------------


def most_in_any_window(opened: Sequence[tuple[float, float, int]]) -> int:
    """Of flows of which nobody knows when in their look they were opened."""
    return max(
        sum(flows for began, ended, flows in opened if ended > at and began < at + FLOW_WINDOW_S)
        for at in {began - FLOW_WINDOW_S + 0.001 for began, _, _ in opened}
        | {ended - 0.001 for _, ended, _ in opened}
    )


@settings(max_examples=40, deadline=None)
@given(
    nodes=st.integers(2, 7),
    most=st.integers(100, 700),
    dead=st.sets(st.tuples(st.sampled_from(["geneve", "health", "echo"]), st.integers(0, 6),
                           st.integers(0, 6)), max_size=12),
)  # fmt: skip
def test_no_window_sees_more_flows_than_it_may(nodes: int, most: int, dead: set[Spot]) -> None:
    """Over all waves and looks; it waits rather than exceed it, and still decides every cell."""
    world = World(nodes, dead=sorted(dead), max_flows=most)
    matrix = world.run()
    assert most_in_any_window(world.opened) <= most
    assert set(verdicts(matrix)) <= {OPEN, BLOCKED}
    bad = {
        (matrix.probes[c.probe].name, c.source, c.destination)
        for c in matrix.cells() if c.outcome.verdict == "blocked"
    }  # fmt: skip
    assert bad == dead & everything(nodes)
    total = sum(flows for _, _, flows in world.opened)
    assert bool(world.time.slept) is (total > most)


def test_a_wait_is_told() -> None:
    world = World(6, max_flows=200)
    world.run()
    assert any(text.startswith("waiting 30 s: at most 200 new flows") for text in world.said)


def test_the_second_looks_udp_flows_are_known_already() -> None:
    """Same ports, within the 30 s that firewalls remember: they cost nothing."""
    dead = [("geneve", s, d) for s in range(4) for d in range(4) if s != d]
    world = World(4, dead=dead, max_flows=300)
    assert world.scope.ports * 12 + 12 * 4 <= 300  # the first look fits, a second would not
    world.run()
    assert len(world.plans) == 2
    assert world.time.slept == []


def test_waves_are_decided_one_by_one() -> None:
    """The undecided of one are asked again before the next begins."""
    world = World(6, dead=[("geneve", 0, 1)], max_flows=200)
    assert verdicts(world.run()) == {OPEN: 89, BLOCKED: 1}
    firsts = [plan for plan in world.plans if not plan.taps]
    assert len(firsts) > 1
    covered: list[Spot] = [spot for plan in firsts for spot in spots(plan)]
    assert sorted(covered) == sorted(everything(6))
    (second,) = [plan for plan in world.plans if plan.taps]
    assert spots(second) == {("geneve", 0, 1)}
    numbers = [plan.number for plan in world.plans]
    assert numbers == sorted(set(numbers))


def test_a_look_that_takes_long_keeps_to_the_budget_too() -> None:
    """What it opens at its end is as young as what the next one opens at its beginning."""
    world = World(6, max_flows=200, rate=10)
    world.time.cost = 25.0
    world.run()
    assert len(world.plans) > 1
    assert most_in_any_window(world.opened) <= 200
