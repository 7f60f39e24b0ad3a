"""What a first look proved is not forgotten, and what it did not prove is not believed."""

import pytest

from preflight.core.evidence import IcmpError, Setting, Sightings
from preflight.core.model import ECHO, GENEVE, HEALTH, Cause, Family, Phase, Place, Probe, Verdict
from preflight.core.together import proven, telling_error, together
from preflight.core.verdict import judge

UNREACHABLE = IcmpError("10.0.0.2", 3, 3)


def setting(probe: Probe, serves: bool | None = False) -> Setting:
    return Setting(
        probe, Family.IPV4, Phase.BEFORE, True, True, ("10.0.0.1",), ("10.0.0.2",), serves=serves
    )


def nothing_got_through(planned: int = 0b11111) -> Sightings:
    return Sightings(
        planned,
        sent=planned,
        left=planned,
        arrived=0,
        accepted=0,
        answered=0,
        returned=0,
        received=0,
    )


def test_probes_that_the_first_look_delivered_make_it_lossy() -> None:
    first = Sightings(0b1111, sent=0b1111, accepted=0b0110)
    later = Sightings(0b11, sent=0b11, left=0b11, arrived=0, accepted=0)
    assert judge(later, setting(GENEVE)).verdict is Verdict.BLOCKED
    outcome = judge(together(later, first, setting(GENEVE)), setting(GENEVE))
    assert (outcome.verdict, outcome.place) == (Verdict.LOSSY, Place.PATH)
    assert outcome.evidence[:4] == (4, 4, 2, 2)


def test_full_size_probes_keep_their_size() -> None:
    first = Sightings(0b11, full_size=0b10, sent=0b11, accepted=0b01)
    later = Sightings(0b11, full_size=0b10, sent=0b11, left=0b11, arrived=0, accepted=0)
    both = together(later, first, setting(GENEVE))
    assert both.full_size == 0b10
    assert both.accepted == 0b0100


@pytest.mark.parametrize(
    ("probe", "serves", "rst", "syn_ack", "expected"),
    [
        (HEALTH, False, 0b011, 0, 0b011),  # an RST is the true answer where nobody listens
        (HEALTH, False, 0, 0b011, 0),
        (HEALTH, True, 0, 0b011, 0b011),
        (HEALTH, True, 0b011, 0, 0),
        (HEALTH, True, 0b001, 0b011, 0b010),  # one of them drew both
        (HEALTH, None, 0b011, 0, 0),
        (ECHO, None, 0, 0, 0b011),
    ],
)
def test_an_answer_proves_only_where_it_is_the_due_one(
    probe: Probe, serves: bool | None, rst: int, syn_ack: int, expected: int
) -> None:
    first = Sightings(
        0b111,
        sent=0b111,
        accepted=0b111,
        received=0b011,
        received_rst=rst,
        received_syn_ack=syn_ack,
    )
    assert proven(first, setting(probe, serves)) == expected


def test_a_proven_answer_is_no_forged_one() -> None:
    first = Sightings(0b111, sent=0b111, accepted=0b111, received=0b001, received_rst=0b001)
    outcome = judge(together(nothing_got_through(), first, setting(HEALTH)), setting(HEALTH))
    assert (outcome.verdict, outcome.cause) == (Verdict.LOSSY, Cause.DROPPED)


def test_what_was_not_watched_proves_nothing() -> None:
    assert proven(Sightings(0b1, sent=0b1), setting(GENEVE)) == 0
    assert proven(Sightings(0b1, sent=0b1, accepted=0b1), setting(ECHO)) == 0


@pytest.mark.parametrize(("accepted", "kept"), [(0, True), (0b1, False), (None, False)])
def test_a_closed_ports_answer_to_a_delivered_probe_is_no_rejection(
    accepted: int | None, kept: bool
) -> None:
    first = Sightings(0b11, sent=0b11, accepted=accepted, error=UNREACHABLE)
    later = telling_error(nothing_got_through(), first)
    assert (later.error == UNREACHABLE) is kept
    assert (judge(later, setting(GENEVE)).cause is Cause.REJECTED) is kept
