"""From an agent's look to the controller's sightings; and what lies and nonsense turn into."""

import json
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
import test_agent_parsers as node
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight import wire
from preflight.agent.report import report
from preflight.core.collect import Collection, parse
from preflight.core.evidence import IcmpError, Sightings
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    AgentState,
    Connection,
    Family,
    Inventory,
    Node,
    Protocol,
)
from preflight.core.options import CheckOptions
from preflight.core.plan import CellPlan, LookPlan, Volley
from preflight.core.scope import Scope, scope
from preflight.crew.chorus import Chorus
from preflight.looks.lookout import Lookout
from preflight.transport.fleet import Event

# --- from one look to sightings ------------------------------------------------------------------

PROTOCOLS = [Protocol.UDP, Protocol.TCP, Protocol.ICMP]
SHAPE = Volley(count=4, full=0, flows=2, gap_s=0.0)
PAIRS = [[node.ME], [node.PEER], []]
ALL = 0b1111


def a_plan(*, taps: bool) -> LookPlan:
    """The plan of which `test_agent_parsers.a_look` is node 1's part."""
    plans = [
        CellPlan(n, family, n == 0, SHAPE, PAIRS)
        for family in (Family.IPV4, Family.IPV6)
        for n in range(3)
    ]
    return LookPlan(1, plans, 5000, taps, 0.2)


def told(look: Any) -> dict[str, Any]:
    """The report, as it comes out of the controller's end of the wire."""
    frame: dict[str, Any] = json.loads(wire.encode(report(look)))
    return frame


def see_all(look: Any, *vantages: str) -> None:
    """Every planned probe was seen at these vantage points; SYNs were answered by RSTs."""
    for vantage in vantages:
        for cell in look.cells:
            for peer in cell.come if vantage in ("arrived", "accepted", "answered") else cell.out:
                look.seen[vantage][cell.number * 3 + peer] = cell.planned
                if cell.protocol == 6 and vantage in ("received", "answered"):
                    look.seen[f"{vantage}_rst"][cell.number * 3 + peer] = cell.planned


FIRST, TAPS = ("sent", "accepted", "received"), ("left", "arrived", "answered", "returned")


@pytest.mark.parametrize("taps", [False, True])
def test_a_clean_look_is_told_in_no_words(taps: bool) -> None:
    """Of both nodes: nothing is an exception, and every pair is complete."""
    look = node.a_look(taps=taps)
    see_all(look, *FIRST, *(TAPS if taps else ()))
    frame = told(look)
    assert not any(frame["seen"].values())
    assert not any(frame["kinds"].values())
    seen = Collection(a_plan(taps=taps), PROTOCOLS, {0: parse(frame), 1: parse(frame)})
    assert seen.exceptions() == {}
    for cell in range(6):
        complete = seen.complete(cell)
        one = seen.sightings(cell, node.ME, node.PEER)
        for vantage in FIRST:
            assert getattr(one, vantage) == getattr(complete, vantage)
        assert one.received_rst == complete.received_rst
        if taps:
            assert one.left == one.arrived == ALL
            assert one.answered == one.returned == (None if cell % 3 == 0 else ALL)
        else:
            assert (one.left, one.arrived, one.answered, one.returned) == (None,) * 4


@pytest.mark.parametrize("taps", [False, True])
def test_silence_about_a_source_that_was_not_there_is_no_arrival(taps: bool) -> None:
    """The destination was not told to expect it, and leaves out what is as planned."""
    look = node.a_look(taps=taps)
    see_all(look, *FIRST, *(TAPS if taps else ()))
    seen = Collection(a_plan(taps=taps), PROTOCOLS, {node.PEER: parse(told(look))}, {0, 2})
    for cell in range(6):
        one = seen.sightings(cell, node.ME, node.PEER)
        assert [getattr(one, v) for v in (*FIRST, *TAPS)] == [None] * 7
        assert node.PEER in seen.exceptions()[cell, node.ME]
    there = Collection(a_plan(taps=taps), PROTOCOLS, {node.PEER: parse(told(look))})
    assert there.sightings(0, node.ME, node.PEER).accepted == ALL  # it died after it had sent


def test_an_exception_is_told_where_it_is() -> None:
    look = node.a_look()
    see_all(look, *FIRST, *TAPS)
    slot = node.number(6, HEALTH) * 3 + node.PEER
    look.seen["returned"][slot] = 0b0101
    look.seen["received"][slot] = 0b0001
    look.seen["received_rst"][slot] = 0
    look.seen["received_syn_ack"][slot] = 0b0001
    look.seen["accepted"][node.number(4, GENEVE) * 3 + node.PEER] = 0
    look.errors[slot] = ("192.0.2.254", 3, 13)
    look.send_errors[slot, 1] = 0b1000
    look.send_errors[slot, 101] = 0b0100
    look.sources[node.number(4, GENEVE) * 3 + node.PEER] = "192.0.2.7"
    look.rtt[node.number(4, ECHO) * 3 + node.PEER] = 0.0015
    quiet = node.a_look()
    see_all(quiet, *FIRST, *TAPS)
    reports = {node.ME: parse(told(look)), node.PEER: parse(told(quiet))}
    seen = Collection(a_plan(taps=True), PROTOCOLS, reports)
    assert seen.exceptions() == {
        (node.number(6, HEALTH), node.ME): {node.PEER},
        (node.number(4, GENEVE), node.PEER): {node.ME},
    }
    one = seen.sightings(node.number(6, HEALTH), node.ME, node.PEER)
    assert (one.returned, one.received) == (0b0101, 0b0001)
    assert (one.received_rst, one.received_syn_ack) == (0, 0b0001)
    assert one.send_errors == {1: 0b1000, 101: 0b0100}
    assert one.error == IcmpError("192.0.2.254", 3, 13)
    assert seen.sightings(node.number(4, GENEVE), node.PEER, node.ME).accepted == 0
    assert list(seen.sources()) == [(node.number(4, GENEVE), node.PEER, node.ME, "192.0.2.7")]
    assert seen.rtts_ms(node.number(4, ECHO), node.ME) == [1.5]
    assert seen.rtts_ms(node.number(4, ECHO), node.PEER) == [None]


@pytest.mark.parametrize("vantage", [*FIRST, *TAPS])
def test_what_a_socket_lost_is_not_watched(vantage: str) -> None:
    """Unless it saw everything: then it has proved its case, whatever else it lost."""
    look = node.a_look()
    see_all(look, *FIRST, *TAPS)
    whole, broken = node.number(4, ECHO), node.number(6, ECHO)
    look.seen[vantage][broken * 3 + node.PEER] = 0b0111
    look.lost = {(vantage, whole), (vantage, broken)}
    mine = vantage in ("sent", "left", "returned", "received")
    source, destination = (node.ME, node.PEER) if mine else (node.PEER, node.ME)
    quiet = node.a_look()
    see_all(quiet, *FIRST, *TAPS)
    reports = {node.ME: parse(told(look)), node.PEER: parse(told(quiet))}
    seen = Collection(a_plan(taps=True), PROTOCOLS, reports)
    assert getattr(seen.sightings(broken, source, destination), vantage) is None
    assert getattr(seen.sightings(whole, source, destination), vantage) == ALL
    for cell in (whole, broken):  # and nobody takes it for complete
        assert destination in seen.exceptions()[cell, source]


@pytest.mark.parametrize("silent", [node.ME, node.PEER])
def test_of_a_node_without_a_report_nothing_is_known(silent: int) -> None:
    look = node.a_look()
    see_all(look, *FIRST, *TAPS)
    other = node.PEER if silent == node.ME else node.ME
    seen = Collection(a_plan(taps=True), PROTOCOLS, {other: parse(told(look))})
    for cell in range(6):
        out = seen.sightings(cell, silent, other)
        assert (out.sent, out.left, out.returned, out.received) == (None,) * 4
        assert out.accepted == out.arrived == ALL
        come = seen.sightings(cell, other, silent)
        assert (come.arrived, come.accepted, come.answered) == (None,) * 3
        assert come.sent == ALL
    assert {destination for row in seen.exceptions().values() for destination in row} == {0, 1}


def test_the_last_probes_of_a_volley_are_its_full_size_ones() -> None:
    shape = Volley(count=20, full=2, flows=8, gap_s=0.0)
    plan = LookPlan(1, [CellPlan(0, Family.IPV4, True, shape, PAIRS)], 5000, False, 0.2)
    assert Collection(plan, PROTOCOLS, {}).complete(0) == Sightings(
        planned=(1 << 20) - 1, full_size=0b11 << 18, sent=(1 << 20) - 1, accepted=(1 << 20) - 1
    )


# --- lies and nonsense ---------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-3, 8), st.integers(), st.just(10**400))
NONSENSE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        NUMBERS,
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(["accepted", "received", "sent", "10.0.0.1", "\x1b[2J"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)
ROWS = st.lists(st.lists(st.one_of(NUMBERS, NONSENSE), max_size=5), max_size=4)
PARTS = ("seen", "kinds", "rtt", "lost", "errors", "send_errors", "sources", "neighbours", "t")
VANTAGES = st.sampled_from(["sent", "accepted", "received", "left", "answered", "nowhere"])


def a_frame() -> dict[str, Any]:
    """A true report of node 0 of `a_scope` in its first look."""
    masks = {"sent": [], "accepted": [[0, 1, 5]], "received": [[2, 1, 3]]}
    return {
        "t": "report", "number": 1, "seen": masks,
        "kinds": {"answered": [], "received": [[1, 1, 1, 2]]},
        "rtt": {"1": [100], "2": [200]}, "lost": [["accepted", 0]],
        "errors": [[1, 1, "192.0.2.254", 3, 13]], "send_errors": [[0, 1, 105, 1]],
        "sources": [[0, 1, "192.0.2.7"]],
    }  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """A true report with some of its parts exchanged for others, or left out."""
    frame = a_frame()
    for part in draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3)):
        value = draw(st.one_of(NONSENSE, ROWS, st.dictionaries(VANTAGES, ROWS, max_size=4)))
        if part in ("seen", "kinds") and draw(st.booleans()) and isinstance(frame.get(part), dict):
            frame[part] = {**frame[part], draw(VANTAGES): draw(ROWS)}
        elif draw(st.integers(0, 5)):
            frame[part] = value
        else:
            frame.pop(part, None)
    return frame


@settings(max_examples=250)
@given(reports())
def test_a_report_is_understood_or_refused(frame: dict[str, Any]) -> None:
    with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
        parse(frame)


@given(NONSENSE)
def test_anything_is_understood_or_refused(value: object) -> None:
    for frame in (value, {"seen": value}, {**a_frame(), "seen": value}):
        with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError):
            parse(frame)  # type: ignore[arg-type]


class FakeFleet:
    """Agents that answer by a script: `on` is called with each frame, and returns their events."""

    def __init__(self, on: Callable[[int, Mapping[str, Any]], list[Event]]) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.dropped: list[int] = []
        self.sent: list[tuple[int, str]] = []
        self._on = on

    def send(self, number: int, frame: Mapping[str, Any]) -> None:
        self.sent.append((number, frame["t"]))
        for event in self._on(number, frame):
            self.events.put(event)

    def broadcast(self, nodes: list[int], frame: Mapping[str, Any]) -> None:
        for number in nodes:
            self.send(number, frame)

    def drop(self, number: int) -> None:
        self.dropped.append(number)


def a_scope(nodes: int = 2) -> Scope:
    """IPv4, the three probes."""
    made = tuple(
        Node(f"n{i + 1}", (f"192.0.2.{i + 1}",), f"n{i + 1}", Connection.LOCAL)
        for i in range(nodes)
    )
    return scope(Inventory("-", made, (GENEVE, HEALTH, ECHO)), CheckOptions())


def a_lookout(fleet: FakeFleet, *, nodes: int = 2, stop: threading.Event | None = None) -> Lookout:
    extent = a_scope(nodes)
    nothing: dict[str, Any] = {"udp": [], "tcp": [], "unsure": []}
    hello = {**nothing, "echo_ignored": [], "served": {"4": nothing, "6": nothing}}
    templates = {
        (n, Family.IPV4, harmless): {"protocol": number}
        for n, number in enumerate((17, 6, 1))
        for harmless in (False, True)
    }
    hellos = dict.fromkeys(range(nodes), hello)
    names = [node.name for node in extent.nodes]
    chorus = Chorus(fleet, names, hellos, stop or threading.Event(), lambda _: None)  # type: ignore[arg-type]
    return Lookout(extent, chorus, hellos, lambda: templates, after=False)


def first_look(nodes: int = 2) -> LookPlan:
    return LookPlan(1, a_scope(nodes).cells(), 5000, taps=False, wait_s=0.2)


def a_true_report(frame: Mapping[str, Any]) -> dict[str, Any]:
    """What a node says that saw everything."""
    return {
        "t": "report", "number": frame["number"],
        "seen": {"sent": [], "accepted": [], "received": []},
        "kinds": {"answered": [], "received": []},
        "rtt": {}, "lost": [], "errors": [], "send_errors": [], "sources": [],
    }  # fmt: skip


def use(seen: Collection, plan: LookPlan) -> None:
    """All that a survey asks of a collection."""
    exceptions = seen.exceptions()
    list(seen.sources())
    for c, cell in enumerate(plan.cells):
        for source, row in enumerate(cell.pairs):
            for destination, rtt in zip(row, seen.rtts_ms(c, source), strict=True):
                assert rtt is None or 0 < rtt < 1e7
                if destination in exceptions.get((c, source), ()):
                    seen.sightings(c, source, destination)


@settings(max_examples=250, deadline=None)
@given(reports())
def test_a_lookout_survives_any_report(lie: dict[str, Any]) -> None:
    """n1 lies, or its report happens to make sense; n2's is kept in either case."""

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if frame["t"] != "look":
            return []
        frame = {**lie, "number": 1, "t": "report"} if number == 0 else a_true_report(frame)
        return [Event(number, frame)]

    fleet = FakeFleet(on)
    lookout = a_lookout(fleet)
    seen = lookout.look(first_look())
    use(seen, first_look())
    assert 1 in lookout.usable()
    assert (0 in lookout.usable()) is (0 not in lookout.lost)
    if 0 in lookout.lost:
        assert lookout.lost[0].state is AgentState.FAILED
        assert "makes no sense" in str(lookout.lost[0].reason)
        assert fleet.dropped == [0]


LIES: Mapping[str, Mapping[str, Any]] = {
    "no such cell": {"seen": {**a_frame()["seen"], "accepted": [[3, 1, 1]]}},
    "a negative cell": {"seen": {**a_frame()["seen"], "accepted": [[-1, 1, 1]]}},
    "no such peer": {"seen": {**a_frame()["seen"], "sent": [[0, 2, 1]]}},
    "a negative peer": {"seen": {**a_frame()["seen"], "sent": [[0, -1, 1]]}},
    "no word of what was sent": {"seen": {"accepted": [], "received": []}},
    "no word of what was received": {"seen": {"accepted": [], "sent": []}},
    "no kinds": {"kinds": {}},
    "no kinds of answers": {"kinds": {"received": []}},
    "kinds of no cell": {"kinds": {"answered": [[9, 0, 0, 0]], "received": []}},
    "an error of no cell": {"errors": [[9, 1, "192.0.2.1", 3, 3]]},
    "an error from no address": {"errors": [[0, 1, "\x1b[2J", 3, 3]]},
    "an error from an odd zone": {"errors": [[0, 1, "fe80::1%\x1b[2J", 3, 3]]},
    "a send error of no peer": {"send_errors": [[0, 9, 1, 1]]},
    "a source of no peer": {"sources": [[0, 9, "192.0.2.1"]]},
    "a source that is no address": {"sources": [[0, 1, "n1; rm -rf /"]]},
    "a loss in no cell": {"lost": [["accepted", 99]]},
    "a neighbour of no cell": {"neighbours": [[99, 0]]},
    "times of no cell": {"rtt": {"99": [1]}},
    "too many times": {"rtt": {"1": [1, 2]}},
    "a negative time": {"rtt": {"1": [-5]}},
    "an endless time": {"rtt": {"1": [10**400]}},
    "an infinite time": {"rtt": {"1": [float("inf")]}},
    "an ICMP type that is none": {"errors": [[0, 1, "192.0.2.1", 256, 3]]},
    "an error number that is none": {"send_errors": [[0, 1, 10**9, 1]]},
    "no time": {"rtt": {"1": [float("nan")]}},
    "an infinite mask": {"seen": {**a_frame()["seen"], "sent": [[0, 1, float("inf")]]}},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_the_liar_its_report(lie: str) -> None:
    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if frame["t"] != "look":
            return []
        true = a_true_report(frame)
        return [Event(number, {**true, **LIES[lie]} if number == 0 else true)]

    lookout = a_lookout(FakeFleet(on))
    use(lookout.look(first_look()), first_look())
    assert set(lookout.lost) == {0}
    assert lookout.lost[0].state is AgentState.FAILED


def test_true_reports_are_kept() -> None:
    """The frame that the lies are made of is none; nor is a link-local router's address."""

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if frame["t"] != "look":
            return []
        true = {**a_frame(), "errors": [[1, 1, "fe80::1%eth0.7-a_b", 3, 13]]}
        return [Event(number, true if number == 0 else a_true_report(frame))]

    lookout = a_lookout(FakeFleet(on))
    use(lookout.look(first_look()), first_look())
    assert lookout.lost == {}


# --- the order of a look -------------------------------------------------------------------------


class Obedient:
    """Agents that do as they are told, and see everything."""

    def __init__(self) -> None:
        self.number = 1

    def __call__(self, number: int, frame: Mapping[str, Any]) -> list[Event]:
        self.number = frame.get("number", self.number)
        if frame["t"] == "look" and frame["taps"]:
            return [Event(number, {"t": "ready", "number": self.number})]
        if frame["t"] in ("look", "go"):
            return [Event(number, {"t": "sent", "number": self.number})]
        if frame["t"] == "drain":
            return [Event(number, a_true_report({"number": self.number}))]
        return []


@pytest.mark.parametrize("taps", [False, True])
def test_nobody_sends_before_all_are_ready_nor_waits_before_all_have_sent(taps: bool) -> None:
    fleet = FakeFleet(Obedient())
    lookout = a_lookout(fleet, nodes=3)
    plan = LookPlan(5, a_scope(3).cells(), 5000, taps, 0.2)
    seen = lookout.look(plan)
    assert seen.exceptions() == {}
    kinds = [kind for _, kind in fleet.sent if kind != "peers"]
    order = (["load"] * 3 if taps else []) + ["look"] * 3 + (["go"] * 3 if taps else [])
    assert kinds == [*order, "drain", "drain", "drain"]
    again = LookPlan(6, a_scope(3).cells(), 5000, taps, 0.2)
    lookout.look(again)
    assert [kind for _, kind in fleet.sent].count("load") == (3 if taps else 0)  # once is enough


def test_an_old_looks_words_are_not_taken_for_this_ones() -> None:
    obedient = Obedient()

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        stale = [Event(number, a_true_report({"number": 4}))] if frame["t"] == "look" else []
        return stale + obedient(number, frame)

    fleet = FakeFleet(on)
    seen = a_lookout(fleet).look(LookPlan(5, a_scope().cells(), 5000, False, 0.2))
    assert seen.exceptions() == {}
    assert [kind for _, kind in fleet.sent].count("drain") == 2


def test_a_report_that_comes_early_saves_the_wait() -> None:
    """Everything it expected has arrived: it does not wait for the others to have sent."""
    obedient = Obedient()

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if frame["t"] == "look" and number == 0:
            return [Event(0, a_true_report(frame))]
        return obedient(number, frame)

    fleet = FakeFleet(on)
    a_lookout(fleet).look(first_look())
    assert [n for n, kind in fleet.sent if kind == "drain"] == [1]


@pytest.mark.parametrize("moment", ["look", "go", "drain"])
def test_an_agent_that_is_lost_is_waited_for_no_more(moment: str) -> None:
    obedient = Obedient()

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if number == 1 and frame["t"] == moment:
            return [Event(1, None, AgentState.LOST, "gone")]
        return obedient(number, frame) if number != 1 or frame["t"] in ("look", "go") else []

    lookout = a_lookout(FakeFleet(on), nodes=3)
    seen = lookout.look(LookPlan(1, a_scope(3).cells(), 5000, True, 0.2))
    assert set(lookout.lost) == {1}
    assert lookout.usable() == {0, 2}
    assert all(1 in {source, *rows} for (_, source), rows in seen.exceptions().items())


def test_whoever_is_lost_is_asked_no_more() -> None:
    fleet = FakeFleet(Obedient())
    lookout = a_lookout(fleet, nodes=3)
    lookout.chorus.lose(Event(1, None, AgentState.LOST, "gone"))
    fleet.sent.clear()
    lookout.look(first_look(3))
    assert {number for number, _ in fleet.sent} == {0, 2}


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_look_asks_for_last_words(before: bool) -> None:
    """Or, where the user was faster, for nothing at all: not a probe is sent."""
    stop, obedient = threading.Event(), Obedient()

    def on(number: int, frame: Mapping[str, Any]) -> list[Event]:
        if frame["t"] == "look":
            stop.set()
            return []
        return obedient(number, frame)

    fleet = FakeFleet(on)
    lookout = a_lookout(fleet, stop=stop)
    if before:
        stop.set()
    fleet.sent.clear()
    seen = lookout.look(first_look())
    if before:
        assert fleet.sent == []
        assert len(seen.exceptions()) == 6
    else:
        assert seen.exceptions() == {}  # both said what they had seen: here, everything
        assert [kind for _, kind in fleet.sent].count("go") == 2
    assert lookout.lost == {}
