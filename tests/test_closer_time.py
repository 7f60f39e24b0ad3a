"""Closer looks keep to the time that they are allowed, and tell what they know by then."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from faultbench import Fault, fw, injected
from labs import TIMEOUT_S
from scenarios import Agents, Session, check

from preflight.closer import rounds
from preflight.closer.allowance import Allowance
from preflight.core.diagnosis.trial import Purpose, Shot, Trial
from preflight.core.findings.model import Finding
from preflight.core.model import Family, Node
from preflight.core.options import CheckOptions
from preflight.lab import Lab

DROP = fw("input", "udp dport 6081 drop")
LARGE = fw("input", "udp dport 6081 meta length 1200-2000 drop")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_runs_out() -> None:
    clock = Clock()
    allowance = Allowance(5.0, clock)
    clock.now += 3.5
    assert allowance.left_s == pytest.approx(1.5)
    clock.now += 3.5
    assert allowance.left_s < 0


def test_the_more_one_node_sends_the_longer_a_round_lasts() -> None:
    shot = Shot(Purpose.PLAIN)

    def trial(number: int, source: int, shots: int) -> Trial:
        return Trial(number, source, 9, 0, Family.IPV4, (shot,) * shots)

    alone = rounds.lasts_s([trial(0, 1, 500)], trace=False)
    assert rounds.lasts_s([trial(0, 1, 500), trial(1, 2, 500)], trace=False) == alone
    assert rounds.lasts_s([trial(0, 1, 500), trial(1, 1, 500)], trace=False) == alone + 0.5
    assert rounds.lasts_s([trial(0, 1, 500)], trace=True) > alone


class Known(Agents):
    """Agents whose sessions are known by node."""

    def connect(self, node: Node) -> Session:
        session = super().connect(node)
        self.by_name = {**getattr(self, "by_name", {}), node.name: session}
        return session


@contextmanager
def rounds_made(monkeypatch: pytest.MonkeyPatch, around: Any = None) -> Iterator[list[int]]:
    """How many trials each round has; `around` is called before and after it."""
    made: list[int] = []
    run = rounds.Rounds.run

    def counted(self: rounds.Rounds, trials: Any, **options: Any) -> Any:
        made.append(len(trials))
        if around is not None:
            around(signal.SIGSTOP)
        try:
            return run(self, trials, **options)
        finally:
            if around is not None:
                around(signal.SIGCONT)

    with monkeypatch.context() as patch:
        patch.setattr(rounds.Rounds, "run", counted)
        yield made


def looked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, limit_s: float
) -> tuple[list[int], list[Finding]]:
    monkeypatch.setattr("preflight.closer.allowance.LIMIT_S", limit_s)
    with rounds_made(monkeypatch) as made, injected(lab, [Fault("n3", LARGE)]):
        snapshot = check(lab, CheckOptions(family=Family.IPV4, timeout_s=0.3))
    return made, list(snapshot.findings)


@pytest.mark.lab
def test_no_round_begins_that_there_is_no_time_for(
    lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one does, and what it has found is told."""
    made, found = looked(lab4, monkeypatch, TIMEOUT_S)
    assert len(made) > 2
    sizes = [f.diagnosis.size for f in found if f.diagnosis.size is not None]
    assert [size.largest for size in sizes] == [1199]
    made, found = looked(lab4, monkeypatch, 0.1)
    assert len(made) == 1
    assert [f.nodes for f in found] == [(2,)]


@pytest.mark.lab
def test_a_node_that_is_slow_costs_the_others_nothing(
    lab4: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it given up: nothing but what it would have told is missing."""
    agents = Known(lab4)
    monkeypatch.setattr("preflight.closer.allowance.LIMIT_S", 2.0)

    def still(sign: signal.Signals) -> None:
        agents.by_name["n4"].process.send_signal(sign)

    with (
        rounds_made(monkeypatch, still),
        injected(lab4, [Fault("n2", DROP), Fault("n4", DROP)]),
    ):
        options = CheckOptions(family=Family.IPV4, timeout_s=0.3)
        snapshot = check(lab4, options, agents=agents)
    told = {f.nodes: f for f in snapshot.findings}
    assert {n.name for n in snapshot.matrix.nodes} == {"n1", "n2", "n3", "n4"}
    assert set(told) == {(1,), (3,)}
    assert told[1,].changes
    assert not told[3,].changes
    assert not [note for note in snapshot.notes if "n4" in note]
