"""Asking for facts costs no node its agent, whatever it answers."""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from facts import PROBES, frame, node

from preflight.core.facts.request import CHEAP
from preflight.core.model import AgentState
from preflight.crew.chorus import Chorus
from preflight.crew.gather import Gathered, gather
from preflight.transport.fleet import Event

NODES = [node(1), node(2), node(3)]
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]


class Fleet:
    """Agents that answer at once, each as it is told to; None is one that is lost."""

    def __init__(self, answers: Mapping[int, Answer]) -> None:
        self._answers = answers
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.sent: list[tuple[int, Mapping[str, Any]]] = []
        self.dropped: list[int] = []

    def send(self, number: int, asked: Mapping[str, Any]) -> None:
        self.sent.append((number, asked))
        told = self._answers[number](asked)
        lost = Event(number, None, AgentState.LOST, "the connection was lost")
        self.events.put(lost if told is None else Event(number, told))

    def broadcast(self, numbers: list[int], loaded: Mapping[str, Any]) -> None:
        self.sent += [(number, loaded) for number in numbers]

    def drop(self, number: int) -> None:
        self.dropped.append(number)


def well(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    now = time.time()
    return {**frame(), "number": asked["number"], "clock": [now, now]}


def nonsense(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**well(asked), "facts": 7}


def without_a_clock(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**well(asked), "clock": "noon"}


def asked(fleet: Fleet, **how: Any) -> tuple[Gathered, Chorus]:
    stop = how.pop("stop", threading.Event())
    names = [n.name for n in NODES]
    chorus = Chorus(fleet, names, (0, 1, 2), stop, lambda late: None)  # type: ignore[arg-type]
    return gather(chorus, NODES, [0, 1, 2], PROBES, **how), chorus


def test_everybody_answers() -> None:
    fleet = Fleet(dict.fromkeys(range(3), well))
    told, chorus = asked(fleet, parts=CHEAP, clock_rounds=2)
    assert set(told.facts) == set(told.clocks) == chorus.alive == {0, 1, 2}
    assert told.failed == {}
    kinds = [sent["t"] for _, sent in fleet.sent]
    assert kinds == ["load"] * 3 + ["facts"] * 9
    assert [sent["parts"] for _, sent in fleet.sent[3:]] == [["network", "ports"]] * 3 + [[]] * 6
    assert not any(sent["libraries"] for _, sent in fleet.sent[3:])


def test_libraries_are_asked_for_once_and_sent_to_all_at_once() -> None:
    fleet = Fleet(dict.fromkeys(range(3), well))
    asked(fleet, libraries={"psutil": {"version": "1"}}, clock_rounds=1)
    loads = {id(sent) for _, sent in fleet.sent if sent["t"] == "load"}
    assert len(loads) == 1
    wanted = [sent["libraries"] for _, sent in fleet.sent if sent["t"] == "facts"]
    assert wanted == [True] * 3 + [False] * 3


@pytest.mark.parametrize("answer", [nonsense, without_a_clock])
def test_an_answer_that_makes_no_sense(answer: Answer) -> None:
    told, chorus = asked(Fleet({0: well, 1: answer, 2: well}))
    assert set(told.facts) == {0, 2}
    assert set(told.failed) == {1}
    assert "makes no sense" in told.failed[1]
    assert chorus.alive == {0, 1, 2}  # it may probe all the same


def test_an_agent_that_is_lost_meanwhile() -> None:
    fleet = Fleet({0: well, 1: lambda asked: None, 2: well})
    told, chorus = asked(fleet, clock_rounds=1)
    assert set(told.facts) == {0, 2}
    assert told.failed == {1: "the connection was lost"}
    assert chorus.alive == {0, 2}
    assert (set(chorus.lost), fleet.dropped) == ({1}, [1])


def test_an_agent_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preflight.crew.gather._LIMIT_S", 0.0)
    monkeypatch.setattr("preflight.crew.gather._LIMIT_EACH_S", 0.05)
    old = {"t": "facts", "number": -7}  # to another question
    told, chorus = asked(Fleet({0: well, 1: lambda asked: old, 2: well}))
    assert set(told.facts) == {0, 2}
    assert "no answer within" in told.failed[1]
    assert chorus.alive == {0, 1, 2}


def test_an_interruption_ends_the_wait() -> None:
    stop = threading.Event()
    stop.set()
    told, chorus = asked(Fleet(dict.fromkeys(range(3), well)), stop=stop)
    assert told.facts == {}
    assert set(told.failed.values()) == {"interrupted"}
    assert chorus.alive == {0, 1, 2}
