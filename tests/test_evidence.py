"""Masks to counts: the three rules of `core/evidence.py`."""

from dataclasses import replace

import pytest
from cells import CALM, VANTAGES, setting, wild_sightings
from hypothesis import given

from preflight.core.evidence import Errno, Sightings, counts, prevailing_errno, settle
from preflight.core.model import GENEVE, Evidence, Place
from preflight.core.reading import Delivery, Obstacle, read


class TestCounts:
    def test_what_was_not_watched_stays_null(self) -> None:
        assert counts(Sightings(0b111)) == Evidence()
        assert counts(Sightings(0b111, sent=0b111, accepted=0)) == Evidence(sent=3, accepted=0)

    def test_a_later_sighting_proves_the_earlier_ones_of_its_leg(self) -> None:
        seen = Sightings(0b1111, sent=0, left=0b0001, arrived=0, accepted=0b0110)
        assert counts(seen) == Evidence(sent=3, left=3, arrived=2, accepted=2)

    def test_an_answer_proves_nothing_about_the_forward_leg(self) -> None:
        seen = Sightings(0b11, sent=0b11, left=0, arrived=0, accepted=0, answered=0b11)
        assert counts(seen)[:4] == (2, 0, 0, 0)

    def test_a_received_answer_does_not_prove_that_the_destination_sent_it(self) -> None:
        seen = Sightings(0b11, sent=0b11, answered=0, returned=0, received=0b11)
        assert counts(seen) == Evidence(sent=2, answered=0, returned=2, received=2)

    def test_the_rst_of_the_sources_own_firewall_never_came_in_from_the_network(self) -> None:
        seen = Sightings(
            0b11, sent=0, returned=0, received=0b11, received_rst=0b11, send_errors={1: 0b11}
        )
        assert counts(seen) == Evidence(sent=0, returned=0, received=2)

    def test_an_answer_to_what_was_never_sent_does_not_count(self) -> None:
        seen = Sightings(0b11, sent=0, accepted=0b01, answered=0b11, returned=0b10, received=0b10)
        assert counts(seen) == Evidence(1, None, None, 1, 1, 0, 0)

    def test_bits_outside_the_plan_do_not_count(self) -> None:
        seen = Sightings(0b0011, sent=0b1111, accepted=0b0111, answered=0b1100, received=0b1000)
        assert counts(seen) == Evidence(sent=2, accepted=2, answered=0, received=0)

    def test_what_the_kernel_did_not_refuse_it_took(self) -> None:
        assert counts(Sightings(0b111, send_errors={1: 0b100})).sent == 2

    def test_one_way_probes_have_no_answers(self) -> None:
        seen = Sightings(0b1, sent=1, answered=1, returned=1, received=1)
        assert counts(seen, setting(GENEVE)) == Evidence(sent=1)

    def test_a_lost_agents_part_of_the_story_is_no_count(self) -> None:
        gone = setting(destination_agent=False)
        some = Sightings(0b11, sent=0b11, left=0b11, arrived=0b11, accepted=0b01)
        assert counts(some, gone) == Evidence(sent=2, left=2)
        assert counts(replace(some, accepted=0b11), gone) == Evidence(2, 2, 2, 2)

    @CALM
    @given(wild_sightings)
    def test_null_exactly_where_nobody_watched_and_never_growing_on_the_way(
        self, seen: Sightings
    ) -> None:
        found = counts(seen)
        for vantage in VANTAGES[1:]:
            assert (getattr(found, vantage) is None) == (getattr(seen, vantage) is None)
        watched = [n for n in found[:4] if n is not None]
        assert watched == sorted(watched, reverse=True)
        assert all(n <= seen.planned.bit_count() for n in found if n is not None)


class TestSends:
    def test_a_probe_that_could_not_be_sent_was_never_tried(self) -> None:
        seen = Sightings(0b1111, sent=0b0011, send_errors={Errno.ENOBUFS: 0b0100, 1: 0b1000})
        assert settle(seen).tried == 0b1011

    def test_a_probe_that_was_seen_was_sent(self) -> None:
        seen = Sightings(0b11, sent=0b01, arrived=0b10, send_errors={Errno.ENOBUFS: 0b10})
        assert settle(seen).tried == 0b11

    @pytest.mark.parametrize(
        ("unsent", "forward"),
        [
            (0b0000, Delivery.ALL),
            (0b0011, Delivery.ALL),
            (0b0111, Delivery.NOT_SENT),
            (0b1111, Delivery.NOT_SENT),
        ],
    )
    def test_half_of_the_plan_is_enough_to_judge(self, unsent: int, forward: Delivery) -> None:
        got = 0b1111 & ~unsent
        seen = Sightings(0b1111, sent=got, accepted=got, send_errors={Errno.ENOBUFS: unsent})
        assert read(seen, setting()).forward is forward

    @pytest.mark.parametrize("number", [Errno.EAGAIN, Errno.ENOMEM, Errno.ENOBUFS, 5, 100])
    def test_an_errno_that_says_nothing_of_the_network_is_no_evidence(self, number: int) -> None:
        seen = Sightings(0b11, sent=0, left=0, accepted=0, send_errors={number: 0b11})
        assert read(seen, setting()).forward is Delivery.NOT_SENT

    def test_an_unreported_send_is_no_evidence_either(self) -> None:
        assert read(Sightings(0b11, accepted=0), setting()).forward is Delivery.NOT_SENT
        assert read(Sightings(0b11, accepted=0b11), setting()).forward is Delivery.ALL

    def test_nothing_planned_proves_nothing(self) -> None:
        assert read(Sightings(0, sent=0, accepted=0), setting()).forward is Delivery.NOT_SENT

    def test_prevailing_errno(self) -> None:
        seen = Sightings(0b111, send_errors={Errno.EMSGSIZE: 0b001, Errno.EPERM: 0b110, 5: 0b1000})
        assert prevailing_errno(seen) == Errno.EPERM
        assert prevailing_errno(seen, {Errno.EMSGSIZE}) == Errno.EMSGSIZE
        assert prevailing_errno(seen, {5}) is None
        assert prevailing_errno(Sightings(0b111)) is None

    @pytest.mark.parametrize(
        ("number", "obstacle"),
        [
            (Errno.EPERM, Obstacle.NONE),
            (Errno.ENETUNREACH, Obstacle.NO_ROUTE),
            (Errno.EHOSTUNREACH, Obstacle.NO_ROUTE),
            (Errno.EACCES, Obstacle.NO_ROUTE),
            (Errno.EINVAL, Obstacle.NO_ROUTE),
            (Errno.EMSGSIZE, Obstacle.SIZE),
        ],
    )
    def test_what_a_refusal_says(self, number: Errno, obstacle: Obstacle) -> None:
        for destination_agent in (True, False):
            seen = Sightings(0b11, sent=0, send_errors={number: 0b11})
            reading = read(seen, setting(destination_agent=destination_agent))
            assert reading.forward is Delivery.NONE
            assert (reading.place, reading.obstacle) == (Place.SOURCE, obstacle)

    def test_of_several_refusals_that_of_most_planned_probes_is_told(self) -> None:
        errors: dict[int, int] = {Errno.EPERM: 0b111001, Errno.ENETUNREACH: 0b000110}
        seen = Sightings(0b111, sent=0, send_errors=errors)
        assert read(seen, setting()).obstacle is Obstacle.NO_ROUTE
