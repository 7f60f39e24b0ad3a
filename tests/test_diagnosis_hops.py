"""The hop: named only where routers' answers and the destination's own tap leave no doubt."""

from collections.abc import Callable, Collection
from typing import Any

import pytest
from cells import CALM
from hypothesis import given
from trials import (
    BLOCKED,
    DESTINATION,
    ROUTERS,
    SOURCE,
    mask_of,
    observed,
    passage,
    planned,
    wild_observed,
)

from preflight.core.diagnosis.conclusions import Path, Router
from preflight.core.diagnosis.hops import loop, path
from preflight.core.diagnosis.trial import Observed, Purpose, Shot, ShotError
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Probe

Drops = Callable[[Shot], bool]


def way(
    routers: int,
    drops: int | None,
    *,
    silent: Collection[int] = (),
    at_ingress: bool = False,
    probe: Probe = GENEVE,
    rejects: bool = False,
    family: Family = Family.IPV4,
    thorough: bool = False,
    **changes: Any,
) -> Observed:
    """A path over `routers` routers, the one at hop `drops` of which drops what goes to the
    probe's port when it forwards it, or `at_ingress`, before it looks at the TTL.

    Those at hops `silent` never answer.
    """
    shots = planned(probe, BLOCKED, family=family, thorough=thorough)
    answers: list[ShotError] = []
    accepted = 0
    exceeded = (11, 0) if family is Family.IPV4 else (3, 0)
    refused = (3, 13) if family is Family.IPV4 else (1, 1)
    arrived = {}
    for i, shot in enumerate(shots):
        for hop in range(1, routers + 2):
            if hop == routers + 1:
                accepted |= 1 << i
                arrived[i] = passage(shot, ttl=shot.ttl - routers)
                break
            bad = hop == drops and shot.port == (probe.port or 0)
            if bad and at_ingress:
                break
            if shot.ttl == hop:
                if hop not in silent:
                    answers.append(ShotError(i, ROUTERS[hop - 1], *exceeded, 0))
                break
            if bad:
                if rejects:
                    answers.append(ShotError(i, ROUTERS[hop - 1], *refused, 0))
                break
    left = {i: passage(shot) for i, shot in enumerate(shots)}
    out = observed(shots, lambda i, _: bool(accepted >> i & 1), family=family, errors=answers)
    out.passages = {"left": left, "arrived": arrived}
    for name, value in changes.items():
        setattr(out, name, value)
    return out


def answered(*hops: int) -> tuple[Router, ...]:
    return tuple(Router(hop, ROUTERS[hop - 1]) for hop in hops)


def renamed(
    seen: Observed, hops: Collection[int], *, control: bool = False, port: int = 4240
) -> Observed:
    """Its routers at `hops` answer with the destination's address, as connection tracking has them
    do that translates destinations; to the other port's flow, too, if `control`.
    """
    shots = seen.trial.shots
    seen.errors = [
        error._replace(sender=DESTINATION)
        if shots[error.shot].ttl in hops and (control or shots[error.shot].port == port)
        else error
        for error in seen.errors
    ]
    seen.destination_address = DESTINATION
    return seen


class TestInTheDestinationsName:
    def test_is_no_router_but_a_sign_of_translation(self) -> None:
        found = path(renamed(way(2, 1, probe=HEALTH), {1}), on_link=False)
        control = found and found.control
        assert found == Path((), None, 2, False, control or (), as_destination=(1,))

    def test_routers_before_it_are_routers(self) -> None:
        found = path(renamed(way(3, 2, probe=HEALTH), {2}), on_link=False)
        assert found is not None
        assert (found.routers, found.silent, found.as_destination) == (answered(1), None, (2,))

    @pytest.mark.parametrize("probe", [GENEVE, ECHO], ids=lambda probe: probe.name)
    def test_of_any_probe(self, probe: Probe) -> None:
        found = path(renamed(way(2, 1, probe=probe), {1}, port=probe.port or 0), on_link=False)
        assert found is not None
        assert (found.routers, found.as_destination) == ((), (1,))

    def test_an_address_that_leads_to_the_node_whatever_the_port_proves_nothing(self) -> None:
        found = path(renamed(way(3, 2), {2, 3}, control=True), on_link=False)
        assert found == Path(answered(1), None, 3, False, answered(1))
        seen = renamed(way(3, 2, probe=HEALTH), {2})
        there = seen.passages["arrived"]
        seen.passages["arrived"] = {
            i: one._replace(destination="10.0.0.3") for i, one in there.items()
        }
        found = path(seen, on_link=False)
        assert found is not None
        assert (found.routers, found.as_destination) == (answered(1), ())

    def test_nor_where_the_flow_arrives(self) -> None:
        found = path(renamed(way(2, None, probe=HEALTH), {1, 2}), on_link=False)
        assert found is not None
        assert found.as_destination == ()

    def test_nor_where_nobody_watched(self) -> None:
        seen = renamed(way(2, 1, probe=HEALTH), {1})
        seen.seen["arrived"] = None
        found = path(seen, on_link=False)
        assert found is not None
        assert found.as_destination == ()

    def test_the_destination_itself_may_say_so_of_what_it_got(self) -> None:
        """It forwards to a pod."""
        seen = renamed(way(1, 1, probe=HEALTH), {1})
        seen.seen["arrived"] = (1 << len(seen.trial.shots)) - 1
        found = path(seen, on_link=False)
        assert found is not None
        assert found.as_destination == ()


class TestBlocked:
    @pytest.mark.parametrize("probe", [GENEVE, HEALTH, ECHO], ids=lambda probe: probe.name)
    @pytest.mark.parametrize("family", Family)
    @pytest.mark.parametrize("drops", [1, 2, 3])
    def test_a_router_that_drops_what_it_forwards_still_answers(
        self, probe: Probe, family: Family, drops: int
    ) -> None:
        found = path(way(3, drops, probe=probe, family=family), on_link=False)
        assert found is not None
        assert found.routers == answered(*range(1, drops + 1))
        assert found.silent == drops + 1

    @pytest.mark.parametrize("probe", [GENEVE, HEALTH], ids=lambda probe: probe.name)
    def test_one_that_drops_before_it_looks_at_the_ttl_falls_silent_itself(
        self, probe: Probe
    ) -> None:
        found = path(way(3, 2, at_ingress=True, probe=probe), on_link=False)
        assert found == Path(answered(1), 2, 3, False, answered(1, 2, 3))

    def test_nobody_but_the_comparison_knows_the_first_router(self) -> None:
        found = path(way(3, 1, at_ingress=True), on_link=False)
        assert found == Path((), None, 3, False, answered(1, 2, 3))

    @pytest.mark.parametrize("probe", [GENEVE, HEALTH], ids=lambda probe: probe.name)
    def test_the_comparison_tells_a_router_that_is_just_silent(self, probe: Probe) -> None:
        found = path(way(3, 3, silent=(2,), at_ingress=True, probe=probe), on_link=False)
        assert found == Path(answered(1), 2, 3, False, answered(1, 3))

    def test_a_gap_below_a_later_answer_is_no_place(self) -> None:
        found = path(way(4, 4, silent=(2,)), on_link=False)
        assert found is not None
        assert found.routers == answered(1, 3, 4)
        assert found.silent == 5
        assert found.distance == 4  # so the destination itself would be next

    @pytest.mark.parametrize("at_ingress", [False, True])
    def test_where_no_router_answers_no_hop_is_named(self, at_ingress: bool) -> None:
        found = path(way(2, 1, silent=(1, 2), at_ingress=at_ingress), on_link=False)
        assert found == Path((), None, 2, False)

    def test_nor_where_nothing_at_all_came_back_or_arrived(self) -> None:
        shots = planned()
        assert path(observed(shots, lambda *_: False), on_link=False) == Path((), None, None, False)

    def test_one_answer_of_two_is_an_answer(self) -> None:
        """The other was rate limited."""
        seen = way(3, 2)
        first = {}
        for error in seen.errors:
            first.setdefault((seen.trial.shots[error.shot].ttl, error.sender), error)
        seen.errors = list(first.values())
        assert len(seen.errors) == 3  # hop 3 answers to the other port alone
        assert path(seen, on_link=False) == Path(answered(1, 2), 3, 3, False, answered(3))

    def test_routers_that_share_the_load_are_both_told(self) -> None:
        seen = way(3, 3)
        twice = [e for e in seen.errors if seen.trial.shots[e.shot].ttl == 2]
        seen.errors.append(twice[-1]._replace(sender=ROUTERS[3]))
        found = path(seen, on_link=False)
        assert found is not None
        assert found.routers == tuple(sorted([*answered(1, 2, 3), Router(2, ROUTERS[3])]))

    def test_all_answer_up_to_the_last_ttl(self) -> None:
        """The path is longer than it was asked: nothing is behind the answers."""
        seen = way(3, None)
        for name in ("arrived", "accepted"):
            seen.seen[name] = 0
        seen.passages = {}
        seen.errors = [
            ShotError(i, f"198.18.3.{shot.ttl}", 11, 0, 0)
            for i, shot in enumerate(seen.trial.shots)
            if shot.purpose is Purpose.HOP
        ]
        found = path(seen, on_link=False)
        assert found is not None
        assert found.silent is None
        assert len(found.routers) == 10


class TestNoPlace:
    @pytest.mark.parametrize("family", Family)
    def test_what_was_rejected_aloud_did_not_fall_silent(self, family: Family) -> None:
        """Rejections are rate limited too: the first TTL without one is no place."""
        seen = way(3, 2, rejects=True, family=family)
        aloud = [e for e in seen.errors if seen.trial.shots[e.shot].purpose is Purpose.PLAIN]
        hops = [e for e in seen.errors if e.type in (11, 3) and e.code == 0]
        seen.errors = [*hops, aloud[0]]
        found = path(seen, on_link=False)
        assert found is not None
        assert found.routers == answered(1, 2)
        assert found.silent is None

    @pytest.mark.parametrize(("kind", "code"), [(3, 3), (3, 1), (3, 13)])
    def test_nor_where_the_destination_says_unreachable(self, kind: int, code: int) -> None:
        seen = way(3, 3)
        last = max(i for i, s in enumerate(seen.trial.shots) if s.purpose is Purpose.PLAIN)
        seen.errors.append(ShotError(last, DESTINATION, kind, code, 0))
        found = path(seen, on_link=False)
        assert found is not None
        assert found.silent is None

    @pytest.mark.parametrize(("kind", "code"), [(3, 4), (11, 1), (12, 0)])
    def test_an_error_of_another_sort_is_no_refusal_and_no_router(
        self, kind: int, code: int
    ) -> None:
        seen = way(3, 2)
        plain = next(i for i, s in enumerate(seen.trial.shots) if s.purpose is Purpose.PLAIN)
        seen.errors.append(ShotError(plain, ROUTERS[3], kind, code, 0))
        assert path(seen, on_link=False) == path(way(3, 2), on_link=False)

    def test_nothing_is_silent_where_the_flow_arrives(self) -> None:
        found = path(way(3, None), on_link=False)
        assert found == Path(answered(1, 2, 3), None, 3, False, answered(1, 2, 3))

    def test_nor_where_it_sometimes_arrives(self) -> None:
        seen = way(3, None)
        some = [i for i, s in enumerate(seen.trial.shots) if s.purpose is Purpose.HOP and s.ttl > 3]
        for name in ("arrived", "accepted"):
            seen.seen[name] = 1 << some[0]
        seen.errors = seen.errors[:1]
        found = path(seen, on_link=False)
        assert found is not None
        assert found.silent is None

    def test_nor_where_the_destination_did_not_watch(self) -> None:
        seen = way(3, 2)
        seen.seen["arrived"] = None
        found = path(seen, on_link=False)
        assert found is not None
        assert found.silent is None
        assert found.routers == answered(1, 2)

    def test_nor_where_the_source_said_nothing(self) -> None:
        seen = way(3, 2, ends={})
        seen.errors = [e for e in seen.errors if e.type != 11]
        for name in ("sent", "left"):
            seen.seen[name] = None
        assert path(seen, on_link=False) == Path((), None, 3, False)

    def test_what_never_left_was_never_asked(self) -> None:
        shots = planned()
        seen = observed(shots, lambda *_: False)
        seen.seen["left"] = 0
        assert path(seen, on_link=None) is None
        assert path(seen, on_link=False) is None
        seen.send_errors = dict.fromkeys(range(len(shots)), 105)  # no buffer space
        seen.seen |= {"sent": 0, "left": None}
        assert path(seen, on_link=None) is None

    def test_nor_was_what_left_in_part(self) -> None:
        seen = way(3, 2)
        gone = [i for i, s in enumerate(seen.trial.shots) if s.ttl > 2]
        seen.seen["left"] = (seen.seen["left"] or 0) & ~sum(1 << i for i in gone)
        found = path(seen, on_link=False)
        assert found is not None
        assert (found.routers, found.silent) == (answered(1, 2), None)

    def test_only_a_rising_ttl_asks(self) -> None:
        """A full one that runs out went round in a loop; which router said so is no hop."""
        seen = way(3, 2)
        shots = seen.trial.shots
        hops = [i for i, shot in enumerate(shots) if shot.purpose is Purpose.HOP]
        first_plain = hops[-1] + 1
        seen.errors = [ShotError(i, ROUTERS[3], 11, 0, 0) for i in (hops[-1], first_plain)]
        found = path(seen, on_link=False)
        assert found is not None
        assert found.routers == (Router(10, ROUTERS[3]),)

    def test_a_ttl_that_the_source_itself_set_anew_asks_nobody(self) -> None:
        seen = way(3, 2)
        seen.passages["left"] = {
            i: passage(shot, ttl=64) for i, shot in enumerate(seen.trial.shots)
        }
        seen.errors = []
        seen.passages["arrived"] = {}
        assert path(seen, on_link=None) is None


class TestDistance:
    @pytest.mark.parametrize("routers", [0, 1, 2, 4])
    def test_by_what_arrived(self, routers: int) -> None:
        found = path(way(routers, None), on_link=None)
        assert found is not None
        assert found.distance == routers
        assert found.on_link is (routers == 0)

    def test_by_another_port_where_the_probes_own_is_dead(self) -> None:
        found = path(way(3, 1), on_link=False)
        assert found is not None
        assert found.distance == 3

    def test_by_the_lowest_ttl_that_arrived_where_no_tap_kept_one(self) -> None:
        for routers in (0, 1, 3):
            found = path(way(routers, None, passages={}), on_link=False)
            assert found is not None
            assert found.distance == routers
        seen = way(3, None, passages={})
        keep = mask_of(seen.trial.shots, Purpose.HOP)
        gap = [i for i, s in enumerate(seen.trial.shots) if s.purpose is Purpose.HOP and s.ttl == 3]
        for i in gap:
            keep &= ~(1 << i)
        seen.seen["sent"] = seen.seen["left"] = keep
        seen.errors = []
        unknown = path(seen, on_link=False)
        assert unknown is not None
        assert unknown.distance is None  # TTL 3 was never sent: it may be 2 as well

    @pytest.mark.parametrize("drops", [None, 1])
    def test_paths_of_unlike_length_have_none(self, drops: int | None) -> None:
        seen = way(3, drops)
        arrived = seen.passages["arrived"]
        first = min(arrived)
        arrived[first] = arrived[first]._replace(ttl=seen.trial.shots[first].ttl - 2)
        found = path(seen, on_link=False)
        assert found is not None
        assert found.distance is None

    def test_the_traced_flow_knows_its_own_best(self) -> None:
        seen = way(3, None)
        for i, end in seen.passages["arrived"].items():
            if seen.trial.shots[i].purpose is not Purpose.HOP:
                seen.passages["arrived"][i] = end._replace(ttl=62)
        found = path(seen, on_link=False)
        assert found is not None
        assert found.distance == 3

    @pytest.mark.parametrize("ttl", [255, 128, 64])
    def test_a_ttl_that_was_set_anew_on_the_way_tells_none(self, ttl: int) -> None:
        seen = way(3, 1)
        seen.passages["arrived"] = {
            i: p._replace(ttl=ttl) for i, p in seen.passages["arrived"].items()
        }
        found = path(seen, on_link=False)
        assert found is not None
        assert found.distance is None
        assert found.routers == answered(1)

    def test_the_ttl_with_which_it_really_left(self) -> None:
        seen = way(3, 1)
        for i, shot in enumerate(seen.trial.shots):
            if shot.purpose is not Purpose.HOP:
                seen.passages["left"][i] = passage(shot, ttl=128)
                if i in seen.passages["arrived"]:
                    seen.passages["arrived"][i] = passage(shot, ttl=125)
        found = path(seen, on_link=False)
        assert found is not None
        assert found.distance == 3

    def test_on_the_link_no_router_is_asked(self) -> None:
        nothing = observed(planned(ECHO), lambda *_: False)
        assert path(nothing, on_link=True) == Path((), None, None, True)
        assert path(observed((), lambda *_: False), on_link=True) == Path((), None, None, True)
        assert path(observed((), lambda *_: False), on_link=None) is None


class TestLoop:
    def test_two_routers_in_turn(self) -> None:
        there_and_back = [Router(t, ROUTERS[1 + t % 2]) for t in range(2, 11)]
        found = Path((Router(1, ROUTERS[0]), *there_and_back), None, None, False)
        assert loop(found) == (ROUTERS[1], ROUTERS[2])

    def test_three(self) -> None:
        routers = tuple(Router(t, ROUTERS[t % 3]) for t in range(1, 11))
        found = Path(routers, None, None, False)
        assert loop(found) == (ROUTERS[1], ROUTERS[2], ROUTERS[0])

    def test_routers_that_tire_of_answering_are_not_the_place(self) -> None:
        seen = way(4, 4)
        addresses = [ROUTERS[0], ROUTERS[1], ROUTERS[0]]
        seen.errors = [
            ShotError(i, addresses[shot.ttl - 1], 11, 0, 0)
            for i, shot in enumerate(seen.trial.shots)
            if shot.purpose is Purpose.HOP and shot.ttl <= 3
        ]
        found = path(seen, on_link=False)
        assert found is not None
        assert loop(found) == (ROUTERS[0], ROUTERS[1])
        assert found.silent is None

    def test_one_address_for_all_that_is_behind_a_translation_is_none(self) -> None:
        routers = (Router(1, ROUTERS[1]), *(Router(t, ROUTERS[0]) for t in range(2, 9)))
        assert loop(Path(routers, None, None, False)) == ()
        assert loop(Path(answered(1, 2, 3), 4, None, False)) == ()

    def test_nor_are_two_that_share_the_load(self) -> None:
        shared = [Router(t, a) for t in (2, 3) for a in ROUTERS[:2]]
        assert loop(Path(tuple(shared), None, None, False)) == ()


@CALM
@given(wild_observed)
def test_an_answer_for_anything(seen: Observed) -> None:
    for on_link in (True, False, None):
        found = path(seen, on_link)
        if found is None:
            continue
        assert list(found.routers) == sorted(set(found.routers))
        asked = {s.ttl for s in seen.trial.shots if s.purpose is Purpose.HOP}
        assert {router.ttl for router in (*found.routers, *found.control)} <= asked
        if found.silent is not None:
            assert found.routers
            assert found.silent > found.routers[-1].ttl
            assert found.silent in asked
            assert seen.seen["arrived"] is not None
        assert found.distance is None or found.distance >= 0
        assert isinstance(loop(found), tuple)


def test_the_source_is_in_every_passage() -> None:
    assert {p.source for p in way(2, 1).passages["left"].values()} == {SOURCE}
