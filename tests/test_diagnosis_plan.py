"""Which shots a trial fires: enough to tell, never more than announced, and nothing that harms."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import BLOCKED, LOSSY, planned

from preflight.core.diagnosis.plan import MOST_SHOTS, brief_shots
from preflight.core.diagnosis.ports import (
    TUNNEL_PORTS,
    control_ports,
    shuffled,
    sweep_ports,
    usual_ports,
)
from preflight.core.diagnosis.trial import Form, Purpose, Shot
from preflight.core.groups import Kind
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Leg,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Verdict,
)

VXLAN = Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.REQUIRED)
USERS = Probe("app", ProbeKind.UDP, Protocol.UDP, 6080, Severity.REQUIRED)
HIGHEST = Probe("high", ProbeKind.TCP, Protocol.TCP, 65535, Severity.REQUIRED)
PROBES = (GENEVE, VXLAN, USERS, HEALTH, HIGHEST, ECHO)
OPEN = Kind(Verdict.OPEN, None, None, None, None)
CAUSES = (Cause.DROPPED, Cause.NO_ROUTE, Cause.NO_NEIGHBOUR, Cause.SIZE)
KINDS = [
    Kind(verdict, leg, place, cause, None)
    for verdict, leg, place, cause in product(Verdict, (*Leg, None), (*Place, None), CAUSES)
]
KNOWN = tuple(range(704, 40000, 2003))  # 20, as looks use


def of(shots: tuple[Shot, ...], purpose: Purpose) -> list[Shot]:
    return [shot for shot in shots if shot.purpose is purpose]


def purposes(shots: tuple[Shot, ...]) -> set[Purpose]:
    return {shot.purpose for shot in shots}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_whatever_a_cell_says_the_budget_holds(probe: Probe) -> None:
    for known, phase in product(((), KNOWN), Phase):
        most = planned(probe, OPEN, known=known, phase=phase, thorough=True)
        assert len(most) <= 900
        for kind in KINDS:
            some = planned(probe, kind, known=known, phase=phase)
            assert 5 <= len(some) <= MOST_SHOTS
            assert purposes(some) <= purposes(most)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_always_the_probe_itself_as_often_as_agreed(probe: Probe) -> None:
    for kind in (BLOCKED, LOSSY, OPEN):
        plain = of(planned(probe, kind), Purpose.PLAIN)
        assert len(plain) == (10 if probe.protocol is Protocol.UDP else 5)
        assert {shot.port for shot in plain} == {probe.port or 0}
        assert {(shot.ttl, shot.size, shot.dont_fragment) for shot in plain} == {(64, 0, False)}


@pytest.mark.parametrize("probe", [GENEVE, VXLAN], ids=lambda probe: probe.name)
@pytest.mark.parametrize("thorough", [False, True])
def test_nothing_but_the_harmless_form_where_a_tunnel_may_listen(
    probe: Probe, thorough: bool
) -> None:
    for kind in (BLOCKED, LOSSY, OPEN) if thorough else KINDS:
        for phase, inert in ((Phase.BEFORE, True), (Phase.AFTER, False), (Phase.AFTER, True)):
            shots = planned(probe, kind, phase=phase, inert=inert, thorough=thorough)
            assert {shot.form for shot in shots} == {Form.HARMLESS}
            # Without other bytes another port proves nothing: it is not asked.
            assert purposes(shots) <= {Purpose.PLAIN, Purpose.HOP, Purpose.FLOW, Purpose.SIZE}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
@pytest.mark.parametrize("thorough", [False, True])
def test_no_other_tunnels_port_is_ever_knocked_at(probe: Probe, thorough: bool) -> None:
    assert set(TUNNEL_PORTS) == {4789, 6081, 8472, 51871}
    for kind in (BLOCKED, LOSSY, OPEN):
        shots = planned(probe, kind, thorough=thorough)
        others = {shot.port for shot in shots} - {probe.port or 0}
        assert not others & set(TUNNEL_PORTS)
        assert all(0 < port < 65536 for port in others)


class TestHops:
    def test_asked_where_it_may_end_on_the_path(self) -> None:
        for place, wanted in ((Place.PATH, True), (None, True), (Place.SOURCE, False)):
            shots = planned(kind=BLOCKED._replace(place=place))
            assert (Purpose.HOP in purposes(shots)) is wanted
        for kind in (
            LOSSY,
            BLOCKED._replace(leg=Leg.REPLY),
            BLOCKED._replace(cause=Cause.NO_ROUTE),
            BLOCKED._replace(cause=Cause.NO_NEIGHBOUR),
        ):
            assert Purpose.HOP not in purposes(planned(kind=kind))
            assert Purpose.HOP in purposes(planned(kind=kind, thorough=True))

    @pytest.mark.parametrize("probe", [GENEVE, HEALTH, ECHO], ids=lambda probe: probe.name)
    @pytest.mark.parametrize(("thorough", "most"), [(False, 10), (True, 16)])
    def test_every_ttl_twice_in_one_flow_and_never_twice_at_once(
        self, probe: Probe, thorough: bool, most: int
    ) -> None:
        hops = of(planned(probe, thorough=thorough), Purpose.HOP)
        main = [shot for shot in hops if shot.port == (probe.port or 0)]
        assert [shot.ttl for shot in main] == [*range(1, most + 1)] * 2
        if probe is not ECHO:  # there the identifier is the flow
            assert len({shot.source_port for shot in main}) == 1
        for ttl in range(1, most + 1):
            times = [i for i, shot in enumerate(hops) if shot.ttl == ttl]
            assert len(times) <= 3  # Linux answers six at once
            assert min(b - a for a, b in pairwise(times)) >= most

    def test_udp_asks_the_same_of_another_port(self) -> None:
        hops = of(planned(), Purpose.HOP)
        assert [s.ttl for s in hops if s.port == 6082] == [*range(1, 11)]
        assert len({shot.source_port for shot in hops}) == 1

    def test_before_all_else_where_rejections_would_spend_the_errors(self) -> None:
        assert planned()[0].purpose is Purpose.HOP
        assert planned(kind=LOSSY, thorough=True)[-1].purpose is Purpose.HOP


class TestContrast:
    def test_other_bytes_in_the_flows_of_the_probe_itself(self) -> None:
        shots = planned()
        content = of(shots, Purpose.CONTENT)
        assert Counter(s.form for s in content) == {Form.HARMLESS: 3, Form.RANDOM: 3}
        flows = {(s.source_port, s.port) for s in of(shots, Purpose.PLAIN)}
        assert {(s.source_port, s.port) for s in content} <= flows
        for form in (Form.HARMLESS, Form.RANDOM):
            assert len({s.source_port for s in content if s.form is form}) == 3

    def test_the_same_bytes_to_two_other_ports(self) -> None:
        control = of(planned(), Purpose.CONTROL)
        assert Counter(shot.port for shot in control) == {6082: 3, 33434: 3}
        assert {shot.form for shot in control} == {Form.PLAIN}
        assert len({(s.source_port, s.port) for s in control}) == 6

    def test_a_neighbour_that_is_a_tunnels_port_is_passed_over(self) -> None:
        assert {shot.port for shot in of(planned(USERS), Purpose.CONTROL)} == {6082, 33434}
        assert control_ports(33434, 2) == [33435, 33436]
        assert control_ports(33433, 2) == [33434, 33435]
        assert control_ports(65535, 1) == [1024]

    def test_users_udp_has_one_form(self) -> None:
        assert Purpose.CONTENT not in purposes(planned(USERS))

    def test_tcp_from_as_many_ports_as_there_are_syns(self) -> None:
        shots = planned(HEALTH)
        plain, control = of(shots, Purpose.PLAIN), of(shots, Purpose.CONTROL)
        assert {shot.port for shot in control} == {4241}
        assert len({shot.source_port for shot in plain}) == 5
        assert {s.source_port for s in control} == {s.source_port for s in plain}
        assert all(61000 <= shot.source_port <= 64999 for shot in shots)

    def test_another_draw_is_another_flow(self) -> None:
        from preflight.core.diagnosis.plan import shots

        def used(draw: int) -> set[int]:
            fired = shots(HEALTH, Family.IPV4, Phase.BEFORE, False, BLOCKED, (), False, draw=draw)
            return {shot.source_port for shot in fired}

        assert not used(0) & used(1)
        assert all(61000 <= port <= 64999 for port in used(10**9))

    def test_not_where_some_get_through_or_nothing_leaves(self) -> None:
        for kind in (LOSSY, BLOCKED._replace(cause=Cause.NO_ROUTE)):
            assert not purposes(planned(kind=kind)) & {Purpose.CONTENT, Purpose.CONTROL}


class TestFlows:
    @pytest.mark.parametrize(
        ("kind", "thorough", "ports", "rounds"),
        [(BLOCKED, False, 24, 3), (LOSSY, False, 36, 4), (BLOCKED, True, 64, 4)],
    )
    @pytest.mark.parametrize("known", [(), (700,), KNOWN], ids=len)
    def test_every_port_once_in_each_round(
        self, kind: Kind, thorough: bool, ports: int, rounds: int, known: tuple[int, ...]
    ) -> None:
        shots = of(planned(kind=kind, thorough=thorough, known=known), Purpose.FLOW)
        turns = [
            [shot.source_port for shot in shots[i : i + ports]] for i in range(0, len(shots), ports)
        ]
        assert len(turns) == rounds
        for turn in turns:
            assert len(set(turn)) == ports
            assert set(turn) == set(turns[0])
        assert len({tuple(turn) for turn in turns}) == rounds
        used = set(turns[0])
        assert {1, 500, 703, 1023, 1024, 1025, 6081} <= used
        assert {port % 16 for port in used} == set(range(16))
        assert all(0 < port < 65536 for port in used)
        assert not used & {53, 123, 1900, 11211, 8472}
        assert max(used) > 60000
        assert len(used & set(known)) >= min(len(known), 5)
        if ports == 64:
            assert used >= set(known)

    def test_the_looks_flows_first(self) -> None:
        shots = planned(known=KNOWN)
        assert [shot.source_port for shot in of(shots, Purpose.PLAIN)] == list(KNOWN[:10])

    def test_an_order_of_a_round_says_nothing_of_the_next(self) -> None:
        ports = sweep_ports(6081, 64, ())
        places = []
        for turn in range(40):
            order = shuffled(ports, turn)
            places.append([order.index(port) for port in ports])
        for a, b in pairwise(places):
            mean = sum(a) / 64
            along = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
            assert abs(along / sum((x - mean) ** 2 for x in a)) < 0.45
        for port in range(64):  # and nobody is always first
            at = [place[port] for place in places]
            assert 20 < sum(at) / len(at) < 43

    def test_only_udp_and_only_where_small_packets_are_lost_on_the_way(self) -> None:
        assert Purpose.FLOW not in purposes(planned(HEALTH, thorough=True))
        for kind in (
            LOSSY._replace(cause=Cause.SIZE),
            BLOCKED._replace(leg=Leg.REPLY),
            BLOCKED._replace(cause=Cause.NO_NEIGHBOUR),
        ):
            assert Purpose.FLOW not in purposes(planned(kind=kind))

    def test_all_sorts_are_spread_over_the_whole_trial(self) -> None:
        """What changes meanwhile must not look like a contrast."""
        shots = [shot for shot in planned() if shot.purpose is not Purpose.HOP]
        for purpose in purposes(tuple(shots)):
            at = [i for i, shot in enumerate(shots) if shot.purpose is purpose]
            assert 0.4 < sum(at) / len(at) / len(shots) < 0.6
            assert at[0] < len(shots) * 0.2
            assert at[-1] > len(shots) * 0.8

    @given(st.integers(1, 65535), st.sampled_from((24, 36, 64)), st.lists(st.integers(1, 65535)))
    def test_for_any_port_and_any_looks(self, port: int, count: int, known: list[int]) -> None:
        ports = sweep_ports(port, count, known)
        assert len(set(ports)) == len(ports) == count
        assert all(0 < p < 65536 for p in ports)
        assert {p % 16 for p in ports} == set(range(16))
        assert port in ports
        elsewhere = set(ports) - {port, *known}
        assert not elsewhere & {53, 123, 1900, 4789, 5353, 6081, 8472, 11211, 51871}
        usual = usual_ports(port, 10)
        assert len(set(usual)) == 10
        assert port not in usual or port == 703


def test_sessions_are_what_the_module_says() -> None:
    for known, most in ((KNOWN, 40), ((), 40)):
        for kind in (BLOCKED, LOSSY):
            shots = planned(kind=kind, known=known)
            flows = {(s.source_port, s.port) for s in shots}
            fresh = {flow for flow in flows if flow[0] not in known or flow[1] != 6081}
            assert len(fresh) <= most
    assert len({(s.source_port, s.port) for s in planned(HEALTH)}) == 12
    assert len({(s.source_port, s.port) for s in planned(thorough=True)}) <= 80


class TestFlowsThatNobodyHasSeen:
    """Rules that translate addresses are met by the first packet of a flow alone."""

    def ports(self, kind: Kind, draw: int, probe: Probe = GENEVE) -> set[int]:
        plan = planned(probe, kind=kind, known=KNOWN, draw=draw)
        return {shot.source_port for shot in plan}

    def test_a_blocked_cell_is_swept_by_others_in_each_run(self) -> None:
        first, second = (self.ports(BLOCKED, draw) for draw in (7, 8))
        assert len(second - first - {*KNOWN}) >= 8

    def test_an_open_cells_are_all_its_own(self) -> None:
        assert not self.ports(OPEN, 7) & {*KNOWN}
        assert not self.ports(OPEN, 7) & self.ports(OPEN, 8)

    def test_so_are_those_of_a_brief_look(self) -> None:
        def used(draw: int) -> set[int]:
            plan = brief_shots(GENEVE, Phase.BEFORE, False, BLOCKED, KNOWN, draw)
            return {shot.source_port for shot in plan if shot.purpose is Purpose.PLAIN}

        assert len(used(7)) == 2
        assert not used(7) & {*KNOWN, *used(8)}

    def test_not_beyond_the_ports_that_the_sender_has(self) -> None:
        bound = replace(GENEVE, source_ports=(700, 60000))
        assert self.ports(OPEN, 7, bound) <= {*KNOWN}

    def test_what_some_packets_of_are_lost_is_swept_alike_in_each_run(self) -> None:
        assert self.ports(LOSSY, 7) == self.ports(LOSSY, 8)


def test_every_echo_has_a_sequence_number_of_its_own() -> None:
    numbers = [shot.source_port for shot in planned(ECHO, thorough=True)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert {shot.port for shot in planned(ECHO)} == {0}
