"""Masks to enumerations: what a cell's sightings say, and what they do not."""

from dataclasses import replace
from typing import Any

import pytest
from cells import CALM, DESTINATION, ROUTER, SOURCE, setting, settings_, wild_sightings
from hypothesis import given

from preflight.core.evidence import IcmpError, Setting, Sightings
from preflight.core.model import ECHO, HEALTH, Family, Place
from preflight.core.reading import DOMAINS, Agents, Delivery, Foreign, Obstacle, icmp_says, read


class TestForwardLoss:
    @pytest.mark.parametrize(
        ("left", "arrived", "place"),
        [
            (0, 0, Place.SOURCE),
            (0b11, 0, Place.PATH),
            (0b11, 0b11, Place.DESTINATION),
            (0b11, 0b01, Place.DESTINATION),  # what came in, INPUT dropped
            (None, 0b11, Place.DESTINATION),
            (None, 0, None),
            (0b11, None, None),
            (None, None, None),
            (0, None, Place.SOURCE),
        ],
    )
    def test_placed_between_watched_vantage_points_alone(
        self, left: int | None, arrived: int | None, place: Place | None
    ) -> None:
        seen = Sightings(0b11, sent=0b11, left=left, arrived=arrived, accepted=0)
        reading = read(seen, setting())
        assert (reading.forward, reading.place) == (Delivery.NONE, place)

    @pytest.mark.parametrize(
        ("left", "arrived", "place"),
        [
            (0b0001_1111, 0b0001_0111, Place.SOURCE),
            (0b0111_1111, 0b0000_0111, Place.PATH),
            (0b0111_1111, 0b0011_1111, Place.DESTINATION),
            (0b0011_1111, 0b0000_1111, Place.SOURCE),  # of equals the first
            (None, 0b0111_1111, Place.DESTINATION),
            (None, 0b0000_0111, None),
        ],
    )
    def test_the_stage_that_lost_most_is_told(
        self, left: int | None, arrived: int, place: Place | None
    ) -> None:
        seen = Sightings(0xFF, sent=0xFF, left=left, arrived=arrived, accepted=0b11)
        reading = read(seen, setting())
        assert (reading.forward, reading.place) == (Delivery.SOME, place)

    @pytest.mark.parametrize(
        ("accepted", "obstacle"),
        [
            (0b0011, Obstacle.SIZE),
            (0b0001, Obstacle.NONE),  # a small one is missing too
            (0b0111, Obstacle.NONE),  # a full-size one passed
        ],
    )
    def test_size_is_when_exactly_the_full_size_ones_are_missing(
        self, accepted: int, obstacle: Obstacle
    ) -> None:
        seen = Sightings(
            0b1111, 0b1100, sent=0b1111, left=0b1111, arrived=accepted, accepted=accepted
        )
        assert read(seen, setting()).obstacle is obstacle

    def test_a_failed_neighbour_is_on_the_path_and_only_where_nothing_left(self) -> None:
        silent = Sightings(0b11, sent=0b11, left=0, accepted=0, neighbour_failed=True)
        reading = read(silent, setting())
        assert (reading.place, reading.obstacle) == (Place.PATH, Obstacle.NO_NEIGHBOUR)
        later = replace(silent, left=0b11, arrived=0)
        assert read(later, setting()).obstacle is Obstacle.NONE

    def test_a_failed_neighbour_explains_some_only_where_the_loss_is_seen_or_told(self) -> None:
        some = Sightings(0b11, sent=0b11, arrived=1, accepted=1, neighbour_failed=True)
        assert read(some, setting()).obstacle is Obstacle.NONE
        assert read(replace(some, left=1), setting()).obstacle is Obstacle.NO_NEIGHBOUR
        told = replace(some, error=IcmpError(SOURCE, 3, 1))
        assert read(told, setting())[5:7] == (Place.PATH, Obstacle.NO_NEIGHBOUR)

    @pytest.mark.parametrize(
        ("sender", "place"),
        [(SOURCE, Place.SOURCE), (ROUTER, Place.PATH), (DESTINATION, None)],
    )
    def test_an_errors_sender_places_what_the_taps_cannot(
        self, sender: str, place: Place | None
    ) -> None:
        seen = Sightings(0b11, sent=0b11, accepted=0, error=IcmpError(sender, 3, 13))
        assert read(seen, setting()).place is place

    def test_the_taps_are_believed_before_an_errors_sender(self) -> None:
        seen = Sightings(0b11, sent=0b11, left=0b11, arrived=0b11, accepted=0)
        seen.error = IcmpError(ROUTER, 3, 13)
        assert read(seen, setting()).place is Place.DESTINATION

    def test_too_big_tells_the_place_of_a_size_loss_alone(self) -> None:
        too_big = IcmpError(ROUTER, 3, 4)
        size = Sightings(0b11, 0b10, sent=0b11, accepted=0b01, error=too_big)
        assert read(size, setting()).place is Place.PATH
        assert read(replace(size, full_size=0), setting()).place is None

    def test_a_destination_that_answers_what_it_never_accepted_has_a_firewall(self) -> None:
        seen = Sightings(0b11, sent=0b11, accepted=0, answered=0b10, answered_rst=0b10)
        reading = read(seen, setting(HEALTH))
        assert (reading.place, reading.foreign) == (Place.DESTINATION, Foreign.RESET)


class TestNotWatched:
    def test_no_sighting_at_the_destinations_tap_stands_in_for_its_socket(self) -> None:
        seen = Sightings(0b11, sent=0b11, left=0b11, arrived=0)
        assert read(seen, setting()).forward is Delivery.NOT_WATCHED

    def test_nothing_left_is_seen_by_the_source_alone(self) -> None:
        seen = Sightings(0b11, sent=0b11, left=0)
        assert read(seen, setting(destination_agent=False)).forward is Delivery.NONE

    def test_an_answer_casts_doubt_on_a_tap_that_saw_nothing_leave(self) -> None:
        seen = Sightings(0b11, sent=0b11, left=0, received=0b01, received_rst=0b01)
        reading = read(seen, setting(HEALTH, destination_agent=False))
        assert (reading.forward, reading.foreign) == (Delivery.NOT_WATCHED, Foreign.UNTOLD)

    @pytest.mark.parametrize("vantage", ["answered", "returned", "received"])
    def test_an_answer_seen_anywhere_casts_doubt_on_an_error(self, vantage: str) -> None:
        answer: dict[str, Any] = {vantage: 0b01}
        seen = Sightings(0b11, sent=0b11, **answer, error=IcmpError(ROUTER, 3, 13))
        assert read(seen, setting(ECHO)).foreign is Foreign.UNTOLD

    @pytest.mark.parametrize(
        ("sender", "arrived", "foreign"),
        [
            (ROUTER, None, Foreign.ICMP_ERROR),
            (ROUTER, 0, Foreign.ICMP_ERROR),
            (ROUTER, 0b01, Foreign.NOTHING),  # one got past that router
            (DESTINATION, 0b11, Foreign.ICMP_ERROR),
            (SOURCE, None, Foreign.NOTHING),  # the others were sent
        ],
    )
    def test_an_error_counts_unless_it_speaks_of_some_probes_alone(
        self, sender: str, arrived: int | None, foreign: Foreign
    ) -> None:
        seen = Sightings(0b11, sent=0b11, arrived=arrived, error=IcmpError(sender, 3, 13))
        assert read(seen, setting()).foreign is foreign


class TestAnswers:
    HEALTHY = Sightings(
        0b11, 0, 0b11, 0b11, 0b11, 0b11, answered=0b11, returned=0b11, received=0b11
    )

    def test_the_answer_that_was_sent_is_true(self) -> None:
        for kind in ("rst", "syn_ack"):
            kinds: dict[str, Any] = {f"answered_{kind}": 0b11, f"received_{kind}": 0b11}
            reading = read(replace(self.HEALTHY, **kinds), setting(HEALTH))
            assert (reading.reply, reading.foreign) == (Delivery.ALL, Foreign.NOTHING)

    @pytest.mark.parametrize(
        ("sent", "came", "foreign"),
        [("syn_ack", "rst", Foreign.RESET), ("rst", "syn_ack", Foreign.ANSWER)],
    )
    def test_an_answer_of_another_kind_is_not(self, sent: str, came: str, foreign: Foreign) -> None:
        kinds: dict[str, Any] = {f"answered_{sent}": 0b11, f"received_{came}": 0b11}
        reading = read(replace(self.HEALTHY, **kinds), setting(HEALTH))
        assert reading[-3:] == (foreign, Delivery.NONE, Place.PATH)

    def test_a_true_answer_with_a_forged_one_beside_it_is_not_true(self) -> None:
        both = replace(
            self.HEALTHY, answered_syn_ack=0b11, received_syn_ack=0b11, received_rst=0b01
        )
        reading = read(both, setting(HEALTH))
        assert (reading.reply, reading.foreign) == (Delivery.SOME, Foreign.RESET)

    def test_an_echo_reply_that_nobody_sent(self) -> None:
        reading = read(replace(self.HEALTHY, answered=0), setting(ECHO))
        assert reading[-3:] == (Foreign.ANSWER, Delivery.NONE, Place.DESTINATION)

    @pytest.mark.parametrize("kind", ["rst", "syn_ack"])
    @pytest.mark.parametrize("serves", [True, False, None])
    def test_without_the_destinations_tap_the_listener_tells_which_answer_is_due(
        self, kind: str, serves: bool | None
    ) -> None:
        kinds: dict[str, Any] = {f"received_{kind}": 0b11}
        look = replace(self.HEALTHY, answered=None, **kinds)
        due = serves is not None and (kind == "syn_ack") == serves
        reading = read(look, setting(HEALTH, serves=serves))
        assert reading.foreign is (Foreign.NOTHING if due else Foreign.UNTOLD)

    def test_an_echo_reply_is_not_due_from_a_kernel_that_ignores_requests(self) -> None:
        look = replace(self.HEALTHY, answered=None)
        assert read(look, setting(ECHO)).foreign is Foreign.NOTHING
        assert read(look, setting(ECHO, echo_ignored=True)).foreign is Foreign.UNTOLD

    @pytest.mark.parametrize(
        ("answered", "returned", "received", "place"),
        [
            (0, 0, 0, Place.DESTINATION),
            (0, None, None, Place.DESTINATION),
            (0b11, 0, 0, Place.PATH),
            (0b11, 0b11, 0, Place.SOURCE),
            (0b11, 0b01, 0, Place.SOURCE),  # where the last of them died
            (None, 0b11, 0, Place.SOURCE),
            (None, 0, 0, None),
            (0b11, None, 0, None),
            (None, None, 0, None),
        ],
    )
    def test_a_lost_answer_is_placed_between_watched_vantage_points(
        self,
        answered: int | None,
        returned: int | None,
        received: int | None,
        place: Place | None,
    ) -> None:
        look = replace(self.HEALTHY, answered=answered, returned=returned, received=received)
        reading = read(look, setting(ECHO))
        assert (reading.reply, reading.reply_place) == (Delivery.NONE, place)

    def test_of_answers_lost_in_several_places_the_worst_is_told(self) -> None:
        look = Sightings(0xF, 0, 0xF, 0xF, 0xF, 0xF, answered=0xF, returned=0x7, received=0x1)
        reading = read(look, setting(ECHO))
        assert reading[-2:] == (Delivery.SOME, Place.SOURCE)

    def test_an_unwatched_socket_at_the_source_is_no_loss(self) -> None:
        look = replace(self.HEALTHY, returned=0, received=None)
        assert read(look, setting(ECHO)).reply is Delivery.NOT_WATCHED

    @pytest.mark.parametrize("answered", [0, None])
    def test_the_sysctl_explains_silence(self, answered: int | None) -> None:
        look = replace(self.HEALTHY, answered=answered, returned=0, received=0)
        reading = read(look, setting(ECHO, echo_ignored=True))
        assert reading.obstacle is Obstacle.ECHO_IGNORED

    def test_but_not_where_the_destination_answered(self) -> None:
        look = replace(self.HEALTHY, returned=0, received=0)
        assert read(look, setting(ECHO, echo_ignored=True)).obstacle is Obstacle.NONE


class TestIcmp:
    @pytest.mark.parametrize(
        ("family", "message", "says"),
        [
            (Family.IPV4, (3, 0), Foreign.ICMP_ERROR),
            (Family.IPV4, (3, 1), Foreign.ICMP_ERROR),
            (Family.IPV4, (3, 3), Foreign.PORT_UNREACHABLE),
            (Family.IPV4, (3, 4), Foreign.TOO_BIG),
            (Family.IPV4, (3, 13), Foreign.ICMP_ERROR),
            (Family.IPV4, (11, 0), Foreign.ICMP_ERROR),
            (Family.IPV4, (5, 1), Foreign.NOTHING),  # a redirect forwards the probe
            (Family.IPV4, (1, 4), Foreign.NOTHING),
            (Family.IPV6, (1, 1), Foreign.ICMP_ERROR),
            (Family.IPV6, (1, 4), Foreign.PORT_UNREACHABLE),
            (Family.IPV6, (2, 0), Foreign.TOO_BIG),
            (Family.IPV6, (3, 0), Foreign.ICMP_ERROR),
            (Family.IPV6, (11, 0), Foreign.NOTHING),
        ],
    )
    def test_numbers_are_the_familys(
        self, family: Family, message: tuple[int, int], says: Foreign
    ) -> None:
        assert icmp_says(IcmpError(ROUTER, *message), family) is says

    def test_no_error_says_nothing(self) -> None:
        assert icmp_says(None, Family.IPV4) is Foreign.NOTHING


@CALM
@given(wild_sightings, settings_)
def test_every_reading_lies_in_the_space_that_the_table_covers(
    seen: Sightings, around: Setting
) -> None:
    reading = read(seen, around)
    for name, value in zip(reading._fields, reading, strict=True):
        assert value in DOMAINS[name]
    assert reading == read(seen, around)
    assert (reading.agents is Agents.NO_SOURCE) == (not around.source_agent)
