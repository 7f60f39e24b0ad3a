"""Port, tunnel, inner frame or protocol: one table, and no contrast that loss may have made."""

from collections.abc import Callable
from itertools import product
from random import Random

import pytest
from cells import CALM
from hypothesis import given
from hypothesis import strategies as st
from samples import sample
from trials import BLOCKED, LOSSY, mask_of, observed, planned, wild_observed

from preflight.core.diagnosis.conclusions import ContentPattern, Diagnosis, Until
from preflight.core.diagnosis.content import Fate, content, pattern
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot
from preflight.core.findings.evidence import of_diagnosis
from preflight.core.model import ECHO, HEALTH, Phase, Place, Probe, ProbeKind, Protocol, Severity

THROUGH, LOST, NOT_SENT = Fate
INNER, TUNNEL = ContentPattern.INNER, ContentPattern.TUNNEL
PORT, PROTOCOL = ContentPattern.PORT, ContentPattern.PROTOCOL
USERS = Probe("app", ProbeKind.UDP, Protocol.UDP, 9000, Severity.REQUIRED)

# harmless, random, control -> what it proves where the probe itself is lost. What is not here
# proves nothing.
PROVES = {
    **{(THROUGH, *rest): INNER for rest in product(Fate, repeat=2)},
    **{(LOST, THROUGH, control): TUNNEL for control in Fate},
    (LOST, LOST, THROUGH): PORT,
    (LOST, LOST, LOST): PROTOCOL,
    (NOT_SENT, NOT_SENT, THROUGH): PORT,
    (NOT_SENT, NOT_SENT, LOST): PROTOCOL,
}


def test_the_whole_table() -> None:
    for plain, *rest in product(Fate, repeat=4):
        expected = PROVES.get(tuple(rest)) if plain is LOST else None
        assert pattern(plain, *rest) is expected, (plain, rest)


def through(passes: Callable[[Shot], bool], **how: object) -> Observed:
    return observed(planned(**how), lambda _, shot: passes(shot))  # type: ignore[arg-type]


class TestFaults:
    def test_a_rule_for_the_port(self) -> None:
        found = content(through(lambda shot: shot.port != 6081), Phase.BEFORE)
        assert found is not None
        assert found.pattern is PORT
        assert found.passed == ("UDP 6082", "UDP 33434")
        assert found.lost == ("UDP 6081", "its harmless form", "random bytes")

    def test_a_port_rule_and_an_allow_list(self) -> None:
        found = content(through(lambda shot: shot.port == 33434), Phase.BEFORE)
        assert found is not None
        assert found.pattern is PORT
        assert found.passed == ("UDP 33434",)
        assert "UDP 6082" in found.lost

    def test_what_looks_for_tunnels(self) -> None:
        found = content(through(lambda shot: shot.form is Form.RANDOM), Phase.BEFORE)
        assert found is not None
        assert found.pattern is TUNNEL
        assert found.passed == ("random bytes",)
        assert found.lost == ("UDP 6081", "its harmless form", "UDP 6082", "UDP 33434")

    def test_what_looks_for_tunnels_at_their_own_port(self) -> None:
        """The control port passes, and yet it is no port rule."""
        found = content(
            through(lambda shot: shot.form is Form.RANDOM or shot.port != 6081), Phase.BEFORE
        )
        assert found is not None
        assert found.pattern is TUNNEL

    def test_what_looks_into_them(self) -> None:
        found = content(through(lambda shot: shot.form is not Form.PLAIN), Phase.BEFORE)
        assert found is not None
        assert found.pattern is INNER

    def test_no_port_at_all(self) -> None:
        found = content(through(lambda _: False), Phase.BEFORE)
        assert found is not None
        assert found.pattern is PROTOCOL
        assert found.passed == ()

    def test_users_udp_has_no_bytes_to_vary(self) -> None:
        for phase in Phase:
            found = content(through(lambda s: s.port != 9000, probe=USERS, phase=phase), phase)
            assert found is not None
            assert found.pattern is PORT
            assert found.lost == ("UDP 9000",)

    def test_tcp_by_its_control_port(self) -> None:
        found = content(through(lambda s: s.port != 4240, probe=HEALTH), Phase.AFTER, Protocol.TCP)
        assert found is not None
        assert (found.pattern, found.passed, found.lost) == (PORT, ("TCP 4241",), ("TCP 4240",))
        none = content(through(lambda _: False, probe=HEALTH), Phase.AFTER, Protocol.TCP)
        assert none is not None
        assert none.pattern is PROTOCOL

    def test_an_echo_has_no_port_to_compare_with(self) -> None:
        for passing in (True, False):
            seen = through(lambda _, p=passing: p, probe=ECHO)  # type: ignore[misc]
            assert content(seen, Phase.BEFORE, Protocol.ICMP) is None

    @pytest.mark.parametrize("how", [{"inert": True}, {"phase": Phase.AFTER}])
    def test_the_harmless_form_alone_proves_nothing(self, how: dict[str, object]) -> None:
        seen = through(lambda shot: shot.port != 6081, **how)
        control = Shot(Purpose.CONTROL, Form.HARMLESS, 2000, 6082)
        more = (*seen.trial.shots, *[control._replace(source_port=p) for p in range(9)])
        assert content(observed(more, lambda _, s: s.port != 6081), Phase.AFTER) is None

    def test_after_the_installation_nothing_is_said_of_tunnels(self) -> None:
        for form in (Form.RANDOM, Form.HARMLESS):
            seen = through(lambda shot, form=form: shot.form is form)
            assert content(seen, Phase.BEFORE) is not None
            assert content(seen, Phase.AFTER) is None


class TestDoubt:
    def test_what_passes_is_not_explained(self) -> None:
        assert content(through(lambda _: True), Phase.BEFORE) is None
        one_flow = through(lambda shot: shot.source_port == 6081 or shot.port != 6081)
        assert content(one_flow, Phase.BEFORE) is None
        assert content(through(lambda _: False, kind=LOSSY), Phase.BEFORE) is None

    def test_one_packet_of_each_is_no_contrast(self) -> None:
        shots = [
            Shot(Purpose.PLAIN, Form.PLAIN, 2000, 6081),
            Shot(Purpose.CONTENT, Form.HARMLESS, 2000, 6081),
            Shot(Purpose.CONTENT, Form.RANDOM, 2000, 6081),
        ]
        seen = observed(shots, lambda _, shot: shot.form is Form.RANDOM)
        assert content(seen, Phase.BEFORE) is None

    def test_packets_of_one_flow_count_once(self) -> None:
        """One dead path of two: all packets of one flow are lost for that."""
        plain = [Shot(Purpose.PLAIN, Form.PLAIN, 2000, 9000)] * 20
        control = [Shot(Purpose.CONTROL, Form.PLAIN, 2000, 9001)] * 20
        seen = observed([*plain, *control], lambda _, shot: shot.port != 9000)
        assert content(seen, Phase.BEFORE) is None

    def test_too_few_to_say_that_nothing_passes(self) -> None:
        for count, says in ((4, False), (5, True)):
            shots = [
                Shot(purpose, Form.PLAIN, 2000 + i, port)
                for purpose, port in ((Purpose.CONTROL, 9001), (Purpose.PLAIN, 9000))
                for i in range(count)
            ]
            found = content(observed(shots, lambda *_: False), Phase.BEFORE)
            assert (found is not None) is says
            assert found is None or found.lost == ("UDP 9000", "UDP 9001")

    def test_where_nobody_watched_nothing_is_lost(self) -> None:
        seen = through(lambda shot: shot.port != 6081)
        seen.seen["accepted"] = None
        found = content(seen, Phase.BEFORE)
        assert found is not None  # by what arrived
        seen.seen["arrived"] = None
        assert content(seen, Phase.BEFORE) is None

    def test_what_was_never_sent_is_not_lost(self) -> None:
        seen = through(lambda shot: shot.port != 6081)
        random = mask_of(seen.trial.shots, Purpose.CONTENT)
        for i, shot in enumerate(seen.trial.shots):
            if shot.form is Form.RANDOM:
                seen.send_errors[i] = 105
            else:
                random &= ~(1 << i)
        every = (1 << len(seen.trial.shots)) - 1
        seen.seen["sent"] = seen.seen["left"] = every & ~random
        assert content(seen, Phase.BEFORE) is None

    def test_what_its_own_firewall_refused_is(self) -> None:
        shots = planned(kind=BLOCKED)
        own = {i: 1 for i, shot in enumerate(shots) if shot.port == 6081}
        seen = observed(shots, lambda _, shot: shot.port != 6081, send_errors=own)
        every = (1 << len(shots)) - 1
        seen.seen["sent"] = seen.seen["left"] = every & ~sum(1 << i for i in own)
        found = content(seen, Phase.BEFORE)
        assert found is not None
        assert found.pattern is PORT


class TestLoss:
    @pytest.mark.parametrize("probe", ["geneve", "app"])
    def test_loss_alone_hardly_ever_looks_like_a_rule(self, probe: str) -> None:
        """Any rate: fewer than 1 in 1,000 trials say that a port or its bytes are to blame."""
        shots = planned() if probe == "geneve" else planned(USERS)
        wrong = 0
        draw = Random(f"loss {probe}")
        for rate in (0.5, 0.8, 0.9, 0.93, 0.95, 0.97, 0.99):
            for _ in range(300):
                found = content(observed(shots, lambda *_: draw.random() >= rate), Phase.BEFORE)  # noqa: B023
                wrong += found is not None and found.pattern is not PROTOCOL
        assert wrong < 0.001 * 7 * 300

    def test_nor_do_bursts_of_it(self) -> None:
        shots = planned()
        draw = Random("bursts")
        wrong = 0
        for good, bad in ((2, 30), (5, 60), (10, 100), (30, 300)):
            for _ in range(300):
                lost = True

                def passes(_: int, __: Shot, good: int = good, bad: int = bad) -> bool:
                    nonlocal lost
                    lost ^= draw.random() < 1 / (bad if lost else good)
                    return not lost

                found = content(observed(shots, passes), Phase.BEFORE)
                wrong += found is not None and found.pattern is not PROTOCOL
        assert wrong < 0.001 * 4 * 300

    def test_a_rule_is_still_seen_through_loss(self) -> None:
        draw = Random("rule")
        named = 0
        for _ in range(200):
            seen = through(lambda shot: shot.port != 6081 and draw.random() > 0.2)
            found = content(seen, Phase.BEFORE)
            assert found is None or found.pattern in (PORT, PROTOCOL)
            named += found is not None and found.pattern is PORT
        assert named > 190


@CALM
@given(wild_observed, st.sampled_from(Phase), st.sampled_from(Protocol))
def test_an_answer_for_anything(seen: Observed, phase: Phase, protocol: Protocol) -> None:
    found = content(seen, phase, protocol)
    assert found is None or found.lost


class TestPlace:
    """What counts is whether a shot got past where the probe is lost."""

    def test_behind_the_path_the_destination_may_drop_the_rest(self) -> None:
        seen = through(lambda shot: shot.port != 6081)
        seen.seen["accepted"] = 0
        found = content(seen, Phase.BEFORE, place=Place.PATH)
        assert found is not None
        assert (found.pattern, found.passed) == (PORT, ("UDP 6082", "UDP 33434"))
        assert found.until is Until.ARRIVED

    def test_a_destination_that_drops_all(self) -> None:
        seen = through(lambda _: True)
        seen.seen["accepted"] = 0
        found = content(seen, Phase.BEFORE, place=Place.DESTINATION)
        assert found is not None
        assert (found.pattern, found.until) == (PROTOCOL, Until.ACCEPTED)

    def test_a_source_that_drops_one_port_before_a_path_that_drops_all(self) -> None:
        seen = through(lambda _: False)
        seen.seen["left"] = sum(1 << i for i, s in enumerate(seen.trial.shots) if s.port != 6081)
        found = content(seen, Phase.BEFORE, place=Place.SOURCE)
        assert found is not None
        assert (found.pattern, found.until) == (PORT, Until.LEFT)

    def test_what_nobody_watched_is_not_said_of_it(self) -> None:
        seen = through(lambda _: False)
        seen.seen["arrived"] = None
        found = content(seen, Phase.BEFORE, place=Place.PATH)
        assert found is not None
        assert found.until is Until.ACCEPTED
        told = list(of_diagnosis(Diagnosis(content=found), sample(4, 1, []).matrix))
        assert told[0].endswith("and UDP 33434 were not accepted")
