"""Verdicts against a simulated network that knows what it did."""

from dataclasses import replace
from typing import Any

import pytest
from cells import CALM
from faults import one_fault_each, scenarios
from hypothesis import given, settings
from oracle import Expectation, Scenario, expect, simulate

from preflight.core.model import Outcome, Verdict
from preflight.core.verdict import decided, judge


def assert_true(scenario: Scenario, expected: Expectation, outcome: Outcome) -> None:
    assert outcome.verdict in expected.verdicts
    if outcome.verdict is Verdict.UNKNOWN:
        assert outcome[1:5] == (None, None, expected.unknown_cause, None)
        return
    assert outcome.leg is expected.leg
    assert outcome.place in expected.places
    assert outcome.cause in expected.causes
    assert outcome.rejected_by in expected.rejecters


class TestOracle:
    """The simulated network knows what it did; the table must find out, or say that it cannot."""

    @pytest.mark.parametrize(
        "agents",
        [{}, {"destination_agent": False}, {"source_agent": False}],
        ids=["both agents", "none at the destination", "none at the source"],
    )
    def test_every_fault_whoever_looks(self, agents: dict[str, Any]) -> None:
        for fault in one_fault_each():
            scenario = replace(fault, **agents)
            outcome = judge(simulate(scenario), scenario.setting)
            assert_true(scenario, expect(scenario), outcome)

    @settings(CALM, max_examples=600)
    @given(scenarios())
    def test_faults_on_both_legs_and_probes_not_sent(self, scenario: Scenario) -> None:
        outcome = judge(simulate(scenario), scenario.setting)
        assert_true(scenario, expect(scenario), outcome)

    @settings(CALM, max_examples=300)
    @given(scenarios())
    def test_a_first_look_is_never_wrong(self, scenario: Scenario) -> None:
        taps = frozenset({"left", "arrived", "answered", "returned"})
        first = replace(scenario, unwatched=scenario.unwatched | taps)
        outcome = decided(simulate(first), replace(first.setting, final=False))
        possible = expect(first).verdicts & {Verdict.OPEN, Verdict.CLOSED}
        assert {outcome.verdict if outcome else None} == (possible or {None})
