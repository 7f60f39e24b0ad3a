"""The largest packet that arrives: found, not guessed, and never by loss of another kind."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from cells import CALM
from hypothesis import given, settings
from hypothesis import strategies as st
from trials import ROUTERS, observed, passage, planned, wild_observed

from preflight.core.diagnosis.conclusions import Size
from preflight.core.diagnosis.sizes import SizeSearch
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot, ShotError
from preflight.core.facts.mtu import OVERHEAD
from preflight.core.model import Family, Phase

FLOOR = 100
USUAL = (1280, 1400, 1414, 1420, 1450, 1460, 1476, 1480, 1492, 1500, 8900, 8951, 9000)


class Network:
    """A path of one MTU."""

    def __init__(
        self,
        mtu: int,
        *,
        fragments: bool = True,  # what may be fragmented is, and gets there
        tells: int | None = None,  # the MTU that a router reports
        learned: int | None = None,  # the source's kernel refuses what is larger, DF or not
        loss: Callable[[], bool] = lambda: False,
        holes: range = range(0),
    ) -> None:
        self.mtu, self.fragments, self.tells, self.learned = mtu, fragments, tells, learned
        self.loss, self.holes = loss, holes
        self.rounds = self.packets = 0

    def carry(self, shots: tuple[Shot, ...], family: Family) -> Observed:
        self.rounds += 1
        self.packets += len(shots)
        refused, errors, mask = {}, [], 0
        for i, shot in enumerate(shots):
            if self.learned is not None and shot.size > self.learned and shot.dont_fragment:
                refused[i] = 90
            elif shot.size > self.mtu and shot.dont_fragment:
                if self.tells is not None:
                    kind = (3, 4) if family is Family.IPV4 else (2, 0)
                    errors.append(ShotError(i, ROUTERS[1], *kind, self.tells))
            elif shot.size > self.mtu and not self.fragments:
                pass
            elif shot.size not in self.holes and not self.loss():
                mask |= 1 << i
        out = observed(
            shots,
            lambda i, _: bool(mask >> i & 1),
            family=family,
            send_errors=refused,
            errors=errors,
        )
        taken = out.seen["sent"]
        assert taken is not None
        for i in refused:
            taken &= ~(1 << i)
        out.seen["sent"] = out.seen["left"] = taken
        return out


def searching(device: int = 1500, family: Family = Family.IPV4, floor: int = FLOOR) -> SizeSearch:
    return SizeSearch(device, floor, family, port=6081, source_ports=(40000, 40001, 40002))


def found(
    network: Network, device: int = 1500, family: Family = Family.IPV4, floor: int = FLOOR
) -> Size | None:
    search = searching(device, family, floor)
    seen: Observed | None = None
    while shots := search.next_shots(seen):
        assert len(shots) <= 48
        assert all(shot.size <= device for shot in shots)
        seen = network.carry(shots, family)
        assert network.rounds <= 10
    assert search.next_shots(None) == ()
    return search.result()


class TestSearch:
    def test_all_of_the_devices_mtu_takes_one_round(self) -> None:
        network = Network(1500)
        assert found(network) == Size(1500, 0, None, 1500, False, None, None)
        assert network.rounds == 1

    @pytest.mark.parametrize("mtu", USUAL[:-1])
    def test_usual_sizes_take_two_rounds_and_one_for_fragments(self, mtu: int) -> None:
        network = Network(mtu)
        assert found(network, 9000) == Size(mtu, mtu + 1, 9000, 9000, True, None, None)
        assert network.rounds == (3 if mtu > 1280 else 4)  # few smaller ones to measure loss by

    @CALM
    @given(st.integers(FLOOR, 9000), st.sampled_from((1500, 4000, 9000)))
    def test_any_size_exactly(self, mtu: int, device: int) -> None:
        network = Network(mtu, fragments=False)
        size = found(network, device)
        assert size is not None
        assert size.largest == min(mtu, device)
        assert size.smallest_lost == (mtu + 1 if mtu < device else 0)
        assert size.black_hole is (mtu < device)
        assert network.rounds <= 5

    def test_sizes_of_ipv6_are_never_fragmented(self) -> None:
        network = Network(1400)
        assert found(network, family=Family.IPV6, floor=1280) == Size(
            1400, 1401, None, 1500, True, None, None
        )

    @pytest.mark.parametrize("family", Family)
    def test_a_router_that_says_so_makes_it_no_black_hole(self, family: Family) -> None:
        network = Network(4321, tells=4321)
        size = found(network, 9000, family)
        assert size is not None
        assert size[:2] == (4321, 4322)
        assert not size.black_hole
        assert (size.reported_by, size.reported_mtu) == (ROUTERS[1], 4321)
        assert network.rounds == (3 if family is Family.IPV4 else 2)  # its word is the next guess

    def test_an_old_router_names_no_mtu(self) -> None:
        size = found(Network(1400, tells=0))
        assert size is not None
        assert (size.black_hole, size.reported_by, size.reported_mtu) == (False, ROUTERS[1], None)

    def test_of_several_the_one_that_names_the_least(self) -> None:
        search = searching()
        seen = Network(1400, tells=1400).carry(search.next_shots(None), Family.IPV4)
        seen.errors = [
            error._replace(sender=router, mtu=mtu)
            for error in seen.errors
            for router, mtu in ((ROUTERS[0], 0), (ROUTERS[1], 1450), (ROUTERS[2], 1400))
        ]
        search.next_shots(seen)
        size = search.result()
        assert size is not None
        assert (size.reported_by, size.reported_mtu) == (ROUTERS[2], 1400)

    def test_a_router_that_lies_about_the_mtu_is_not_believed(self) -> None:
        size = found(Network(1400, tells=576))
        assert size is not None
        assert (size.largest, size.smallest_lost, size.reported_mtu) == (1400, 1401, 576)

    def test_what_the_kernel_has_learned_is_no_black_hole(self) -> None:
        size = found(Network(1400, learned=1400))
        assert size is not None
        assert (size.largest, size.smallest_lost, size.black_hole) == (1400, 1401, False)
        assert size.reported_by is None

    def test_fragments_that_get_there_and_fragments_that_do_not(self) -> None:
        there, lost = found(Network(1400)), found(Network(1400, fragments=False))
        assert there is not None
        assert lost is not None
        assert (there.largest_fragmented, lost.largest_fragmented) == (1500, 1400)

    def test_a_device_that_takes_less_than_the_floor_is_not_asked(self) -> None:
        assert searching(80).next_shots(None) == ()


class TestLoss:
    @pytest.mark.parametrize("rate", [0.02, 0.1, 0.2, 0.3])
    @pytest.mark.parametrize("mtu", [1400, 1437, 1500])
    def test_never_a_wrong_size(self, rate: float, mtu: int) -> None:
        named = 0
        for seed in range(100):
            draw = Random(f"{rate}{mtu}{seed}")
            size = found(Network(mtu, loss=lambda: draw.random() < rate))  # noqa: B023
            if size is not None:
                assert size.largest <= mtu
                assert size.smallest_lost == 0 or size.smallest_lost > mtu
                assert size.smallest_lost or size.largest == 1500
                named += size.largest == mtu
        assert named >= 95

    @pytest.mark.parametrize("rate", [0.5, 0.6, 0.7, 0.9])
    def test_heavy_loss_is_rather_not_known(self, rate: float) -> None:
        wrong = 0
        for seed in range(100):
            draw = Random(f"{rate}{seed}")
            size = found(Network(1400, loss=lambda: draw.random() < rate))  # noqa: B023
            wrong += size is not None and not size.largest <= 1400 < size.smallest_lost
        assert wrong == 0

    def test_a_dead_flow_costs_a_copy_of_each_size_and_no_more(self) -> None:
        class OneDead(Network):
            def carry(self, shots: tuple[Shot, ...], family: Family) -> Observed:
                out = super().carry(shots, family)
                for i, shot in enumerate(shots):
                    if shot.source_port == 40001:
                        for name in ("arrived", "accepted"):
                            out.seen[name] = (out.seen[name] or 0) & ~(1 << i)
                return out

        size = found(OneDead(1400))
        assert size is not None
        assert size[:2] == (1400, 1401)

    def test_sizes_that_are_lost_among_others_that_arrive_tell_nothing(self) -> None:
        network = Network(1500, holes=range(1400, 1415))
        assert found(network) is None
        assert network.rounds <= 4

    def test_where_nothing_arrives_there_is_no_largest(self) -> None:
        network = Network(60, fragments=False)
        assert found(network) is None
        assert network.rounds == 3  # the smallest is asked nine times


class TestEvidence:
    def one_round(self, change: Callable[[Observed], Any], mtu: int = 1500) -> SizeSearch:
        search = searching()
        seen = Network(mtu).carry(search.next_shots(None), Family.IPV4)
        change(seen)
        search.next_shots(seen)
        return search

    def test_nothing_is_known_before_a_round(self) -> None:
        assert searching().result() is None

    def test_nor_where_nobody_watched(self) -> None:
        def blind(seen: Observed) -> None:
            seen.seen["arrived"] = seen.seen["accepted"] = None

        search = self.one_round(blind)
        assert search.result() is None
        asked = 0
        while shots := search.next_shots(Observed(observed((), lambda *_: True).trial)):
            asked += 1
            assert shots
        assert asked < 10

    def test_a_round_that_was_lost_is_asked_again(self) -> None:
        search = searching()
        assert [s.size for s in search.next_shots(None)] == [
            s.size for s in search.next_shots(None)
        ]

    def test_nor_where_the_source_did_not_report(self) -> None:
        def silent(seen: Observed) -> None:
            seen.ends = {}
            seen.seen["sent"] = seen.seen["left"] = None

        assert self.one_round(silent).result() is None

    def test_at_the_device_where_the_destinations_firewall_takes_all(self) -> None:
        def firewall(seen: Observed) -> None:
            seen.seen["accepted"] = 0

        size = self.one_round(firewall).result()
        assert size is not None
        assert size.largest == 1500

    @pytest.mark.parametrize("told_before", [False, True])
    def test_by_what_was_accepted_where_the_destinations_firewall_takes_large_ones(
        self, told_before: bool
    ) -> None:
        """Then a round of large ones alone is lost behind the device, and no path takes more."""

        class Firewall(Network):
            def carry(self, shots: tuple[Shot, ...], family: Family) -> Observed:
                out = super().carry(shots, family)
                for i, shot in enumerate(shots):
                    if shot.size > 1300:
                        out.seen["accepted"] = (out.seen["accepted"] or 0) & ~(1 << i)
                return out

        assert found(Firewall(1500)) == Size(1300, 1301, 1300, 1500, True, None, None)
        if told_before:
            before = observed(planned(), lambda *_: True)
            search = SizeSearch.like(before, 1500, 1400)
            seen: Observed | None = None
            while shots := search.next_shots(seen):
                seen = Firewall(1500).carry(shots, Family.IPV4)
            assert search.result() is None

    def test_a_fragment_at_the_device_is_no_packet(self) -> None:
        """A router that fragments in spite of DF."""

        def cut(seen: Observed) -> None:
            seen.seen["accepted"] = None
            seen.passages["arrived"] = {
                i: passage(shot, size=min(shot.size, 1400))
                for i, shot in enumerate(seen.trial.shots)
            }

        search = self.one_round(cut)
        assert search.next_shots(None)  # not done with: larger ones did not arrive whole
        size = search.result()
        assert size is not None
        assert size.largest == 1400

    def test_without_df_only_what_was_accepted_counts(self) -> None:
        class Tap(Network):
            def carry(self, shots: tuple[Shot, ...], family: Family) -> Observed:
                out = super().carry(shots, family)
                out.seen["accepted"] = None
                return out

        size = found(Tap(1400))
        assert size is not None
        assert size.largest == 1400
        assert size.largest_fragmented is None

    def test_what_the_kernel_had_no_room_for_was_not_lost(self) -> None:
        def busy(seen: Observed) -> None:
            some = {i: 105 for i, s in enumerate(seen.trial.shots) if s.size == 1500}
            seen.send_errors = some
            for name in ("sent", "left", "arrived", "accepted"):
                seen.seen[name] = (seen.seen[name] or 0) & ~sum(1 << i for i in some)

        search = self.one_round(busy)
        assert search.result() is None
        assert {shot.size for shot in search.next_shots(None)} == {1500}

    def test_errors_about_other_shots_are_not_about_size(self) -> None:
        def other(seen: Observed) -> None:
            seen.errors = [
                ShotError(0, ROUTERS[0], kind, code, 0) for kind, code in ((3, 3), (11, 0))
            ]

        size = self.one_round(other, mtu=1280).result()
        assert size is not None
        assert size.black_hole


class TestShots:
    def test_copies_go_in_different_flows_and_apart(self) -> None:
        shots = searching(9000).next_shots(None)
        assert len(shots) == 48
        assert {shot.purpose for shot in shots} == {Purpose.SIZE}
        assert {(shot.port, shot.dont_fragment) for shot in shots} == {(6081, True)}
        sizes = [shot.size for shot in shots]
        assert sizes[:16] == sizes[16:32] == sizes[32:]
        assert {FLOOR, *USUAL} <= set(sizes)
        for size in set(sizes):
            assert len({shot.source_port for shot in shots if shot.size == size}) == 3

    def test_as_the_trial_before_it(self) -> None:
        shots = planned(phase=Phase.AFTER)
        alive = {
            s.source_port for s in shots if s.purpose is Purpose.FLOW and s.source_port % 5 == 0
        }
        seen = observed(shots, lambda _, shot: shot.source_port in alive)
        fired = SizeSearch.like(seen, 1500, FLOOR).next_shots(None)
        assert {shot.form for shot in fired} == {Form.HARMLESS}
        assert {shot.port for shot in fired} == {6081}
        assert {shot.source_port for shot in fired} <= alive
        assert SizeSearch.like(observed((), lambda *_: True), 1500, FLOOR).next_shots(None)


@settings(CALM, max_examples=40)
@given(st.lists(wild_observed, max_size=3), st.sampled_from(Family), st.integers(0, 9000))
def test_an_answer_for_anything(rounds: list[Observed], family: Family, mtu: int) -> None:
    search = SizeSearch(mtu, FLOOR, family, port=6081, source_ports=())
    assert search.result() is None
    for seen in rounds:
        search.next_shots(seen)
        size = search.result()
        assert size is None or size.largest > 0
    assert isinstance(SizeSearch.like(rounds[0], mtu, 0), SizeSearch) if rounds else True


class TestCilium:
    """`MTU` in Cilium's values is the network's beneath the tunnel: it subtracts by itself."""

    @pytest.mark.parametrize("family", Family)
    def test_it_is_what_the_headers_take(self, family: Family) -> None:
        from scapy.contrib.geneve import GENEVE
        from scapy.layers.inet import IP, UDP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.l2 import Ether

        outer = IP() if family is Family.IPV4 else IPv6()
        frame = bytes(outer / UDP() / GENEVE() / Ether())
        assert len(frame) == OVERHEAD[family]
