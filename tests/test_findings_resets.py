"""Answers that are lost and are RSTs: what is said before anybody serves Cilium's health port."""

from __future__ import annotations

import pytest
from samples import ANSWER_DROPPED_ON_PATH, DROPPED_ON_PATH, Fault, blocked, sample
from test_findings import RULE, found

from preflight.core.detail import only_resets
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.evidence import Setting, Sightings
from preflight.core.findings.atoms import Looked
from preflight.core.findings.model import Cause
from preflight.core.model import ECHO, HEALTH, Family, Leg, Outcome, Phase, Place, Probe
from preflight.core.verdict import judge

RST = "the answers are RSTs: nobody serves the port"
LOST = ANSWER_DROPPED_ON_PATH._replace(detail=RST)
KEPT = blocked(Place.DESTINATION, Leg.REPLY)._replace(detail=RST)


def judged(probe: Probe = HEALTH, *, serves: bool | None = None, **seen: int) -> Outcome:
    every = {"sent": 31, "left": 31, "arrived": 31, "accepted": 31}
    every |= {"answered": 0, "returned": 0, "received": 0, **seen}
    setting = Setting(
        probe, Family.IPV4, Phase.BEFORE, True, True, ("10.0.0.1",), ("10.0.0.2",), serves=serves
    )
    return judge(Sightings(planned=5, **every), setting)  # type: ignore[arg-type]


def test_what_is_known_of_lost_answers() -> None:
    assert only_resets(judged(answered=31, answered_rst=31, serves=False))
    assert not only_resets(judged(answered=31, answered_syn_ack=31, serves=True))
    assert not only_resets(judged(answered=31, answered_rst=15, answered_syn_ack=16))
    assert only_resets(judged(serves=False))
    assert not only_resets(judged(serves=None))
    assert not only_resets(judged(serves=True))
    assert not only_resets(judged(ECHO, answered=31))


def test_lost_resets_are_told_as_such_and_the_request_waits_for_more() -> None:
    matrix = sample(6, 3, [
        Fault(LOST, "rack=a", "rack=c", "health"), Fault(LOST, "rack=c", "rack=a", "health"),
    ]).matrix  # fmt: skip
    (one,) = found(matrix)
    assert one.title == "rack=a ↔ rack=c: the network drops RSTs that answer TCP 4240"
    assert "nobody serves TCP 4240 on rack=a,c yet" in one.advice
    assert "alone would not hurt Cilium" in one.advice
    assert "python3 -m http.server 4240" in one.advice
    assert one.requests
    assert all(r.reason.startswith("only if SYN-ACKs are lost as well") for r in one.requests)
    assert any(RST in sentence for sentence in one.evidence)


@pytest.mark.parametrize("named", [True, False])
def test_a_node_that_keeps_its_resets_to_itself(*, named: bool) -> None:
    matrix = sample(4, 2, [Fault(KEPT, "*", "n3", "health")]).matrix
    hit = RuleHit(2, "reply", frozenset({1}), RULE._replace(hook="output"))
    (one,) = found(matrix, {0: Looked(0, 2, Diagnosis(hits=(hit,)))} if named else {})
    assert "RSTs that answer TCP 4240" in one.title
    assert one.cause is (Cause.RULE if named else Cause.NODE_FIREWALL)
    assert ("Only if answers are lost then, too, is that change needed." in one.advice) is named


def test_one_answer_that_was_none_speaks_for_all() -> None:
    """Somebody serves the port on n5, and what it says is lost: that is no filter of RSTs."""
    matrix = sample(6, 3, [
        Fault(LOST, "rack=a", "rack=c", "health"),
        Fault(ANSWER_DROPPED_ON_PATH, "rack=a", "n5", "health"),
    ]).matrix  # fmt: skip
    (one,) = found(matrix)
    assert one.title == "rack=a → rack=c: the network drops answers to TCP 4240"
    assert "RST" not in one.advice
    assert not any(r.reason.startswith("only if") for r in one.requests)


def test_where_probes_are_lost_too_it_is_no_filter_of_resets() -> None:
    matrix = sample(6, 3, [
        Fault(DROPPED_ON_PATH, "rack=a", "rack=c", "health"),
        Fault(LOST, "rack=c", "rack=a", "health"),
    ]).matrix  # fmt: skip
    (one,) = found(matrix)
    assert "RSTs" not in one.title + one.advice
