"""Which lengths pass, and what DF has to do with it: found exactly, and hardly ever by loss alone.

Networks are simulated: what each does to the very shots that a check fires, and to those that it
fires next.
"""

from collections.abc import Callable
from random import Random

import pytest
from cells import CALM
from hypothesis import given
from hypothesis import strategies as st
from test_diagnosis_flows import bucket, bursts, dead_member, random_loss, session_bucket
from trials import BLOCKED, LOSSY, Network, observed, planned, wild_observed

from preflight.core.diagnosis.conclusions import Band, DontFragment, Lengths, Size
from preflight.core.diagnosis.lengths import LengthSearch
from preflight.core.diagnosis.sizes import SizeSearch
from preflight.core.diagnosis.trial import Observed, Purpose, Shot
from preflight.core.groups import Kind
from preflight.core.model import Family

LEAST, MTU = 62, 1500
PORTS = (700, 20000, 40000, 50000)

Drops = Callable[[int, Shot], bool]  # size and shot; whether a rule drops it


def ruled(drops: Drops, loss: float = 0.0, seed: int = 1) -> Network:
    draw = Random(seed)

    def passes(_: int, shot: Shot) -> bool:
        return not drops(max(shot.size, LEAST), shot) and draw.random() >= loss

    return passes


def found(
    network: Network, kind: Kind = LOSSY, family: Family = Family.IPV4, mtu: int = MTU
) -> Lengths | None:
    from preflight.core.diagnosis.plan import shots
    from preflight.core.model import GENEVE, Phase

    plan = shots(GENEVE, family, Phase.BEFORE, False, kind, PORTS, False, mtu=mtu)
    first = observed(plan, network, family=family)
    search = LengthSearch(first, mtu, LEAST)
    seen: Observed | None = None
    rounds = 0
    while more := search.next_shots(seen):
        rounds += 1
        assert search.pays
        assert rounds <= 5
        assert len(more) <= 100
        assert all(LEAST <= shot.size <= mtu for shot in more)
        assert {shot.purpose for shot in more} == {Purpose.SIZE}
        assert {(s.source_port, s.port) for s in more} <= {(s.source_port, s.port) for s in plan}
        seen = observed(more, network, family=family)
    return search.result()


class TestBands:
    @pytest.mark.parametrize("family", Family)
    @pytest.mark.parametrize("kind", [LOSSY, BLOCKED], ids=["lossy", "blocked"])
    @pytest.mark.parametrize(("last", "above"), [(62, 63), (70, 71), (399, 400), (1499, 1500)])
    def test_the_small_ones_alone(self, family: Family, kind: Kind, last: int, above: int) -> None:
        network = ruled(lambda size, _: size <= last)
        assert found(network, kind, family) == Lengths((Band(62, last, 0, above),), None)

    @CALM
    @given(st.integers(LEAST, 1499))
    def test_up_to_any_size(self, last: int) -> None:
        told = found(ruled(lambda size, _: size <= last))
        assert told == Lengths((Band(62, last, 0, last + 1),), None)

    @pytest.mark.parametrize("loss", [0.05, 0.2])
    def test_with_loss_besides(self, loss: float) -> None:
        clear = 0
        for seed in range(60):
            told = found(ruled(lambda size, _: size <= 300, loss, seed))
            if told is not None:
                (band,) = told.bands
                assert band.first == 62
                assert band.last <= 300 < band.above
                clear += 1
        assert clear >= 57

    def test_two_bands(self) -> None:
        told = found(ruled(lambda size, _: size <= 80 or size > 1400), BLOCKED)
        assert told is not None
        assert [(b.first, b.last, b.above) for b in told.bands] == [(62, 80, 81), (1401, 1500, 0)]

    def test_a_band_of_one_of_both_families_is_not_laid_to_df(self) -> None:
        told = found(ruled(lambda size, _: size <= 200))
        assert told is not None
        assert told.dont_fragment is None


class TestDf:
    @pytest.mark.parametrize("kind", [LOSSY, BLOCKED], ids=["lossy", "blocked"])
    def test_only_with_df_set(self, kind: Kind) -> None:
        told = found(ruled(lambda _, shot: not shot.dont_fragment), kind)
        assert told is not None
        assert told.bands == ()
        df = told.dont_fragment
        assert df is not None
        assert (df.passes, df.smallest, df.largest, df.passed) == (True, 62, 1500, df.sent)

    def test_only_with_df_set_and_a_narrow_link(self) -> None:
        told = found(ruled(lambda size, shot: not shot.dont_fragment or size > 1400), BLOCKED)
        assert told is not None
        assert told.dont_fragment is not None
        assert (told.dont_fragment.passes, told.dont_fragment.largest) == (True, 512)

    def test_only_with_df_not_set(self) -> None:
        """There small ones pass: it is the search for sizes that finds it."""
        search, rounds = sized(lambda _, shot: shot.dont_fragment)
        assert search.result() is None
        assert search.lengths() == Lengths((), DontFragment(False, 100, 1500, 9, 9, 9 + 6))
        assert rounds == 2

    def test_a_narrow_link_is_none_of_this(self) -> None:
        search, _ = sized(lambda size, shot: shot.dont_fragment and size > 1400)
        assert search.lengths() is None
        assert search.result() == Size(1400, 1401, 1500, 1500, True, None, None)

    def test_larger_than_any_link_leaves_is_found_too(self) -> None:
        for family in Family:
            search, _ = sized(lambda size, _: size > 77, family)
            told = search.result()
            assert told is not None
            assert (told.largest, told.smallest_lost) == (77, 78)

    def test_nothing_at_all_passes(self) -> None:
        for family in Family:
            search, _ = sized(lambda size, _: size > LEAST - 1, family)
            assert (search.result(), search.lengths()) == (None, None)


def sized(drops: Drops, family: Family = Family.IPV4) -> tuple[SizeSearch, int]:
    floor = 100 if family is Family.IPV4 else 1280
    search = SizeSearch(MTU, floor, family, port=6081, source_ports=PORTS[:3], least=LEAST)
    seen: Observed | None = None
    rounds = 0
    while more := search.next_shots(seen):
        rounds += 1
        seen = observed(more, ruled(drops), family=family)
    return search, rounds


LOSSES = {
    "random 10 %": random_loss(0.1),
    "random 60 %": random_loss(0.6),
    "random 95 %": random_loss(0.95),
    "random 99 %": random_loss(0.99),
    "bursts": bursts(20, 20),
    "long bursts": bursts(60, 120),
    "a limiter": bucket(50, 5),
    "a strict limiter": bucket(10, 1, full=False),
    "rationed sessions": session_bucket(20, 3),
    "a dead path of two": dead_member(2),
    "all but one of eight dead": lambda draw: _alive(draw, 8),
    "an outage": lambda draw: _outage(draw),  # noqa: PLW0108 - defined below,
}


def _alive(draw: Random, members: int) -> Network:
    salt = draw.getrandbits(32)
    return lambda _, shot: Random(f"{salt} {shot.source_port} {shot.port}").randrange(members) == 0


def _outage(draw: Random) -> Network:
    until, sent = draw.randrange(400), 0

    def passes(_: int, __: Shot) -> bool:
        nonlocal sent
        sent += 1
        return sent > until

    return passes


@pytest.mark.parametrize("name", LOSSES)
def test_loss_that_knows_no_length_is_hardly_ever_laid_to_one(name: str) -> None:
    """Of 400 trials none: 1,200 of each were as clean."""
    wrong = sum(
        found(LOSSES[name](Random(f"{name} {seed}")), kind) is not None
        for seed in range(200)
        for kind in (LOSSY, BLOCKED)
    )
    assert wrong == 0


def test_what_passes_only_as_a_reply_is_no_length() -> None:
    assert found(lambda _, shot: shot.source_port == shot.port) is None


@CALM
@given(wild_observed, st.sampled_from((0, 100, 1500)), st.sampled_from((0, 62, 9000)))
def test_whatever_comes_it_ends(seen: Observed, mtu: int, least: int) -> None:
    search = LengthSearch(seen, mtu, least)
    rounds = 0
    while search.next_shots(seen):
        rounds += 1
        assert rounds <= 5
    search.result()


def test_the_trial_asks_in_flows_that_are_there() -> None:
    shots = planned(known=PORTS)
    sizes = [s for s in shots if s.purpose is Purpose.SIZE]
    flows = {(s.source_port, s.port) for s in shots if s.purpose is Purpose.PLAIN}
    assert {(s.source_port, s.port) for s in sizes} <= flows
    assert {s.dont_fragment for s in sizes} == {True, False}
