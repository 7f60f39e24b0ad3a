"""Which flows pass: dead ones are found, and hardly ever where loss merely looks like it.

Networks are simulated: what each does to the very shots that a check fires, thousands of times.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from random import Random

import pytest
from cells import CALM
from hypothesis import given
from trials import BLOCKED, LOSSY, Network, observed, planned, wild_observed

from preflight.core.diagnosis.conclusions import FlowPattern, Flows
from preflight.core.diagnosis.flows import flows
from preflight.core.diagnosis.ports import shuffled
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot

SWEEP = planned(kind=LOSSY)
BLOCKED_SWEEP = planned(kind=BLOCKED)
THOROUGH = planned(kind=LOSSY, thorough=True)
GAP_S = 0.001  # between two shots
ACCUSES = {
    FlowPattern.SOME_DEAD,
    FlowPattern.RANGE,
    FlowPattern.HIGH_ONLY,
    FlowPattern.LOW_ONLY,
    FlowPattern.REPLIES_ONLY,
}

Make = Callable[[Random], Network]


def random_loss(rate: float) -> Make:
    """Each packet by itself."""
    return lambda draw: lambda *_: draw.random() >= rate


def bursts(good: float, bad: float, lost: float = 1.0) -> Make:
    """Gilbert and Elliott's: packets in a row that pass, then packets in a row of which `lost` do
    not, that many on average.
    """

    def make(draw: Random) -> Network:
        in_burst = draw.random() < bad / (good + bad)

        def passes(_: int, __: Shot) -> bool:
            nonlocal in_burst
            in_burst ^= draw.random() < 1 / (bad if in_burst else good)
            return not in_burst or draw.random() >= lost

        return passes

    return make


def bucket(rate: float, burst: int, *, full: bool = True) -> Make:
    """A token bucket, packets a second; the sender's pace is not quite even."""

    def make(draw: Random) -> Network:
        tokens = float(burst) if full else draw.random()

        def passes(_: int, __: Shot) -> bool:
            nonlocal tokens
            stalled = 5 if draw.random() < 0.01 else 1
            tokens = min(burst, tokens + rate * GAP_S * draw.uniform(0.8, 1.2) * stalled)
            if tokens < 1:
                return False
            tokens -= 1
            return True

        return passes

    return make


def session_bucket(rate: float, burst: int) -> Make:
    """New flows are rationed, known ones pass."""

    def make(_: Random) -> Network:
        tokens, known = float(burst), set()

        def passes(_: int, shot: Shot) -> bool:
            nonlocal tokens
            tokens = min(burst, tokens + rate * GAP_S)
            flow = (shot.source_port, shot.port)
            if flow not in known and tokens >= 1:
                tokens -= 1
                known.add(flow)
            return flow in known

        return passes

    return make


def dead_member(members: int, loss: float = 0.0) -> Make:
    """One of so many links is dead; a hash of the ports chooses the link."""

    def make(draw: Random) -> Network:
        salt = draw.getrandbits(32)

        def passes(_: int, shot: Shot) -> bool:
            link = Random(f"{salt} {shot.source_port} {shot.port}").randrange(members)
            return link != 0 and draw.random() >= loss

        return passes

    return make


def by_port(may_pass: Callable[[int], bool], loss: float = 0.0) -> Make:
    """A rule about source ports, and loss."""
    return lambda draw: lambda _, shot: may_pass(shot.source_port) and draw.random() >= loss


def found(
    make: Make, times: int, shots: Sequence[Shot] = SWEEP, name: str = ""
) -> Counter[FlowPattern | None]:
    """How often the same network is called what."""
    called: Counter[FlowPattern | None] = Counter()
    for seed in range(times):
        told = flows(observed(shots, make(Random(f"{name} {seed}"))))
        called[told.pattern if told else None] += 1
    return called


def once(make: Make, shots: Sequence[Shot] = SWEEP) -> Flows:
    told = flows(observed(shots, make(Random(1))))
    assert told is not None
    return told


class TestFalseAccusations:
    """Of 1,000 trials in a network that treats all flows alike, fewer than one may call some dead:
    the bound that `flows` draws is 1 in 10,000 for each.
    """

    def test_random_loss(self) -> None:
        accused = every = 0
        for shots in (SWEEP, BLOCKED_SWEEP):
            for rate in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9):
                called = found(random_loss(rate), 250, shots, f"random {rate}")
                accused += sum(called[pattern] for pattern in ACCUSES)
                every += called.total()
        assert accused < every / 1000, f"{accused} of {every}"

    def test_bursts(self) -> None:
        accused = every = 0
        for good, bad, lost in (
            (50, 3, 1), (20, 5, 1), (20, 20, 1), (10, 30, 1), (5, 2, 1), (100, 30, 0.6),
            (3, 30, 1), (200, 50, 1), (20, 200, 1), (36, 36, 1),
        ):  # fmt: skip
            called = found(bursts(good, bad, lost), 250, SWEEP, f"bursts {good} {bad}")
            accused += sum(called[pattern] for pattern in ACCUSES)
            every += called.total()
        assert accused < every / 1000, f"{accused} of {every}"

    def test_rate_limiters(self) -> None:
        accused = every = 0
        for rate in (1, 10, 50, 200, 500):
            for burst, full in ((1, True), (5, True), (50, True), (20, False)):
                called = found(bucket(rate, burst, full=full), 100, SWEEP, f"{rate} {burst}")
                accused += sum(called[pattern] for pattern in ACCUSES)
                every += called.total()
        assert accused < every / 1000, f"{accused} of {every}"

    @pytest.mark.parametrize(("begin", "end"), [(0, 30), (0, 60), (30, 66), (60, 90), (100, 999)])
    @pytest.mark.parametrize("shots", [SWEEP, THOROUGH], ids=len)
    def test_an_outage_is_none_of_all_that(
        self, shots: Sequence[Shot], begin: int, end: int
    ) -> None:
        seen = observed(shots, lambda i, _: not begin <= i < end)
        told = flows(seen)
        assert told is None or (begin > 0 and told.pattern is FlowPattern.LIMITED)
        assert told is None or end > len(shots)


class TestSomeDead:
    @pytest.mark.parametrize("loss", [0.0, 0.01, 0.1])
    @pytest.mark.parametrize("members", [2, 4, 8])
    def test_one_dead_link_of_a_bundle(self, members: int, loss: float) -> None:
        named = 0
        for seed in range(60):
            alive = dead_member(members)(Random(seed))  # which of the flows go over a live link
            dead = {shot.source_port for i, shot in enumerate(SWEEP) if not alive(i, shot)}
            told = flows(observed(SWEEP, dead_member(members, loss)(Random(seed))))
            if told is not None and told.pattern is FlowPattern.SOME_DEAD:
                named += 1
                assert dead <= set(told.dead)
            elif told is not None:  # no flow of 36 went over the dead one
                assert told.pattern in (FlowPattern.RANDOM, FlowPattern.ALL)
                assert not dead
        assert named >= 48

    def test_a_hash_hardly_ever_looks_like_ranges(self) -> None:
        """Fewer than one bundle in 1,000 is taken for a rule about source ports."""
        called: Counter[FlowPattern | None] = Counter()
        for members, loss in product((2, 4, 8), (0.0, 0.02)):
            called += found(dead_member(members, loss), 350, SWEEP, f"hash {members} {loss}")
        assert called[FlowPattern.RANGE] < called.total() / 1000, called
        assert called[FlowPattern.SOME_DEAD] > called.total() * 0.95, called

    def test_heavy_loss_on_the_others_does_not_hide_it(self) -> None:
        called = found(dead_member(4, 0.3), 200)
        assert called[FlowPattern.SOME_DEAD] >= 170
        assert called[FlowPattern.RANGE] == 0  # some of many dead ones are always neighbours
        assert found(dead_member(8, 0.3), 60, THOROUGH)[FlowPattern.SOME_DEAD] >= 40

    def test_by_the_low_bits_alone(self) -> None:
        for members in (2, 4, 8, 16):
            told = once(by_port(lambda port, m=members: port % m != 1))  # type: ignore[misc]
            assert told.pattern is FlowPattern.SOME_DEAD

    def test_which_ones_and_how_many(self) -> None:
        dead = {p for p in _swept(SWEEP) if p % 4 == 3}
        told = once(by_port(lambda port: port not in dead))
        assert told.dead == tuple(sorted(dead))
        assert set(told.passing) == _swept(SWEEP) - dead
        assert told.tried == 36
        assert told.sent == len(SWEEP)
        assert told.passed == sum(s.source_port not in dead for s in SWEEP)

    def test_a_single_flow(self) -> None:
        (one,) = {s.source_port for s in SWEEP} & {340}
        told = once(by_port(lambda port: port != one))
        assert told.pattern is FlowPattern.SOME_DEAD
        assert told.dead == (340,)

    def test_but_not_by_a_sweep_too_short_to_tell(self) -> None:
        """One flow of 24 loses both its packets: that is chance, one time in 24."""
        ports = sorted(_swept(BLOCKED_SWEEP))
        two = [Shot(Purpose.FLOW, Form.PLAIN, p, 6081) for p in (*ports, *reversed(ports))]
        assert flows(observed(two, lambda _, shot: shot.source_port != ports[10])) is None

    def test_flows_that_lose_some_are_not_dead_and_not_alike(self) -> None:
        """One link of four loses half of its packets."""

        def make(draw: Random) -> Network:
            return lambda _, shot: shot.source_port % 4 != 1 or draw.random() < 0.5

        called = found(make, 60)
        assert called[FlowPattern.RANDOM] <= 10
        assert called[FlowPattern.SOME_DEAD] <= 10

    def test_what_a_plain_shot_got_through_is_not_dead(self) -> None:
        dead = {p for p in _swept(SWEEP) if p % 4 == 3}
        plain = {s.source_port for s in SWEEP if s.purpose is Purpose.PLAIN} & dead
        assert plain

        def passes(_: int, shot: Shot) -> bool:
            return shot.source_port not in dead or shot.purpose is Purpose.PLAIN

        told = flows(observed(SWEEP, passes))
        assert told is not None
        assert set(told.dead) == dead - plain

    def test_sessions_that_a_firewall_knows_are_no_link(self) -> None:
        """Only the flows of the looks pass, or just these are stuck."""
        known = {s.source_port for s in SWEEP if s.purpose is Purpose.PLAIN}
        for only_known in (True, False):
            seen = observed(SWEEP, lambda _, s, k=only_known: (s.source_port in known) is k)  # type: ignore[misc]
            assert flows(seen) is None


class TestByPort:
    @pytest.mark.parametrize("loss", [0.0, 0.01, 0.2])
    @pytest.mark.parametrize(
        ("pattern", "may_pass"),
        [
            (FlowPattern.HIGH_ONLY, lambda port: port >= 1024),
            (FlowPattern.LOW_ONLY, lambda port: port < 1024),
            (FlowPattern.REPLIES_ONLY, lambda port: port == 6081),
            (FlowPattern.RANGE, lambda port: 32768 <= port < 61000),
            (FlowPattern.RANGE, lambda port: port >= 49152),
            (FlowPattern.RANGE, lambda port: not 20000 <= port < 50000),
            (FlowPattern.RANGE, lambda port: not (1024 <= port < 10000 or port >= 58000)),
            (FlowPattern.RANGE, lambda port: 12000 <= port < 24000 or 40000 <= port < 60000),
        ],
    )
    def test_a_rule_for_source_ports(
        self, pattern: FlowPattern, may_pass: Callable[[int], bool], loss: float
    ) -> None:
        for shots in (SWEEP, THOROUGH):
            called = found(by_port(may_pass, loss), 20, shots)
            assert called[pattern] >= (19 if loss < 0.1 else 15), called

    def test_four_neighbours_are_a_range_and_three_may_be_either(self) -> None:
        """Of 36 flows: 1 in 1,636 hashes makes the first, 1 in 198 the other."""
        ports = sorted(_swept(SWEEP))
        for number, pattern in ((3, None), (4, FlowPattern.RANGE)):
            dead = ports[20 : 20 + number]
            told = flows(observed(SWEEP, lambda _, shot, d=dead: shot.source_port not in d))  # type: ignore[misc]
            assert (told and told.pattern) is pattern

    def test_one_port_off_is_another_range(self) -> None:
        assert once(by_port(lambda port: port > 1024)).pattern is FlowPattern.RANGE
        assert once(by_port(lambda port: port >= 1023)).pattern is FlowPattern.RANGE
        assert once(by_port(lambda port: port >= 1024)).pattern is FlowPattern.HIGH_ONLY

    @pytest.mark.parametrize(
        ("pattern", "may_pass"),
        [
            (FlowPattern.HIGH_ONLY, lambda port: port >= 1024),
            (FlowPattern.LOW_ONLY, lambda port: port < 1024),
            (FlowPattern.REPLIES_ONLY, lambda port: port == 6081),
        ],
    )
    def test_in_the_short_sweep_of_a_blocked_cell(
        self, pattern: FlowPattern, may_pass: Callable[[int], bool]
    ) -> None:
        assert once(by_port(may_pass), BLOCKED_SWEEP).pattern is pattern

    def test_two_low_ports_are_too_few_to_tell_a_rule_from_a_dead_link(self) -> None:
        high = sorted(p for p in _swept(SWEEP) if p >= 1024)
        shots = [
            Shot(Purpose.FLOW, Form.PLAIN, port, 6081)
            for turn in range(4)
            for port in shuffled([500, 703, *high], turn)
        ]
        told = flows(observed(shots, lambda _, shot: shot.source_port >= 1024))
        assert told is not None
        assert told.pattern is FlowPattern.SOME_DEAD

    def test_both_a_rule_and_a_dead_link_are_dead_flows(self) -> None:
        told = once(by_port(lambda port: port >= 1024 and port % 4 != 1), THOROUGH)
        assert told.pattern is FlowPattern.SOME_DEAD

    def test_one_flow_alone_that_passes_is_not_understood(self) -> None:
        only = max(_swept(SWEEP))
        assert flows(observed(SWEEP, lambda _, shot: shot.source_port == only)) is None


class TestTime:
    @pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
    def test_random_loss_is_called_so(self, rate: float) -> None:
        called = found(random_loss(rate), 60, name=f"called {rate}")
        assert called[FlowPattern.RANDOM] >= 48
        assert called[FlowPattern.LIMITED] <= 1

    @pytest.mark.parametrize("burst", [5, 20])
    @pytest.mark.parametrize("rate", [1, 5, 10, 20, 50, 100])
    def test_a_rate_limiter(self, rate: float, burst: int) -> None:
        for shots in (SWEEP, THOROUGH):
            called = found(bucket(rate, burst), 20, shots)
            assert called[FlowPattern.LIMITED] >= 19, called

    def test_a_steady_drip_without_a_burst_needs_many_packets(self) -> None:
        """Of few drops nobody can tell that they are even: then it is not known, never random."""
        assert found(bucket(200, 1), 40, THOROUGH)[FlowPattern.LIMITED] >= 30
        called = found(bucket(10, 1), 40)
        assert called.keys() <= {FlowPattern.LIMITED, None}

    @pytest.mark.parametrize(("rate", "burst"), [(1, 5), (10, 5), (100, 5), (100, 20), (300, 5)])
    def test_new_flows_that_are_rationed(self, rate: float, burst: int) -> None:
        """Always the same flows pass, and yet no link is dead."""
        for shots in (SWEEP, THOROUGH):
            assert once(session_bucket(rate, burst), shots).pattern is FlowPattern.LIMITED

    @pytest.mark.parametrize(("good", "bad"), [(20, 5), (20, 20), (10, 30)])
    def test_bursts_are_neither_random_nor_a_limiter(self, good: int, bad: int) -> None:
        called = found(bursts(good, bad), 60)
        assert called[None] >= 55
        assert called[FlowPattern.LIMITED] <= 1

    def test_a_lost_packet_or_two_are_no_pattern(self) -> None:
        assert flows(observed(SWEEP, lambda i, _: i not in (40, 90))) is None


class TestEvidence:
    def test_all_and_none(self) -> None:
        assert once(by_port(lambda _: True)).pattern is FlowPattern.ALL
        told = once(by_port(lambda _: False))
        assert told.pattern is FlowPattern.NONE
        assert len(told.dead) == told.tried
        assert told.passing == ()

    def test_without_a_sweep_nothing(self) -> None:
        plain = [shot for shot in SWEEP if shot.purpose is not Purpose.FLOW]
        assert flows(observed(plain, lambda *_: False)) is None
        one_round = [shot for i, shot in enumerate(SWEEP) if shot.purpose is Purpose.FLOW][:36]
        assert flows(observed(one_round, lambda *_: False)) is None
        few = [shot for shot in SWEEP if shot.source_port in (1, 500, 6081)]
        assert flows(observed(few, lambda *_: False)) is None

    def test_nothing_where_nobody_watched(self) -> None:
        seen = observed(SWEEP, by_port(lambda port: port >= 1024)(Random(1)))
        seen.seen["accepted"] = None
        told = flows(seen)
        assert told is not None  # by what arrived
        assert told.pattern is FlowPattern.HIGH_ONLY
        seen.seen["arrived"] = None
        assert flows(seen) is None

    def test_what_was_accepted_counts_not_what_arrived(self) -> None:
        seen = observed(SWEEP, by_port(lambda port: port >= 1024)(Random(1)))
        seen.seen["arrived"] = (1 << len(SWEEP)) - 1
        told = flows(seen)
        assert told is not None
        assert told.pattern is FlowPattern.HIGH_ONLY

    def test_flows_for_which_the_kernel_had_no_room_are_left_out(self) -> None:
        seen = observed(SWEEP, lambda *_: True)
        gone = {i: 105 for i, shot in enumerate(SWEEP) if shot.source_port in (500, 1024)}
        for name, mask in seen.seen.items():
            if mask is not None:
                seen.seen[name] = mask & ~sum(1 << i for i in gone)
        seen.send_errors = gone
        told = flows(seen)
        assert told is not None
        assert told.pattern is FlowPattern.ALL
        assert told.tried == 34
        assert told.sent == len(SWEEP) - len(gone)

    def test_flows_that_the_sources_own_firewall_refuses_are_dead(self) -> None:
        refused = {i: 1 for i, shot in enumerate(SWEEP) if shot.source_port < 1024}
        seen = observed(SWEEP, lambda i, _: i not in refused, send_errors=refused)
        every = (1 << len(SWEEP)) - 1
        seen.seen["sent"] = seen.seen["left"] = every & ~sum(1 << i for i in refused)
        told = flows(seen)
        assert told is not None
        assert told.pattern is FlowPattern.HIGH_ONLY

    def test_other_bytes_and_other_ports_do_not_count(self) -> None:
        seen = observed(BLOCKED_SWEEP, lambda _, s: s.form is not Form.PLAIN or s.port != 6081)
        told = flows(seen)
        assert told is not None
        assert told.pattern is FlowPattern.NONE
        assert told.sent == 82  # 10 plain ones and the sweep


@CALM
@given(wild_observed)
def test_an_answer_for_anything(seen: Observed) -> None:
    told = flows(seen)
    assert told is None or told.tried == len(told.dead) + len(told.passing)


def _swept(shots: Sequence[Shot]) -> set[int]:
    return {shot.source_port for shot in shots if shot.purpose is Purpose.FLOW}
