"""The rules of the verdicts that its examples leave out, and what a first look may decide."""

from dataclasses import replace
from typing import Any

import pytest
from cells import DESTINATION, ROUTER, SOURCE, seen, setting, tcp
from oracle import ADDRESSES, USERS_TCP, USERS_UDP

from preflight.core.evidence import IcmpError, Sightings
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
    Verdict,
)
from preflight.core.verdict import decided, judge

PROHIBITED = IcmpError(ROUTER, 3, 13)
NO_ROOM = "ENOBUFS, no room in a queue or in the neighbour table"
PERHAPS_FORGED = "it bears the destination's address, in which a firewall on the path may speak too"


class TestRules:
    """What the examples leave out."""

    def test_a_rejection_by_the_sources_own_firewall(self) -> None:
        reset = seen(0, 0, 0, 0, send_errors={1: 7}, received=7, received_rst=7)
        assert judge(reset, setting(HEALTH))[1:5] == (
            Leg.FORWARD,
            Place.SOURCE,
            Cause.REJECTED,
            None,
        )
        error = seen(0, send_errors={1: 7}, error=IcmpError(SOURCE, 3, 3))
        assert judge(error, setting(GENEVE, destination_agent=False))[1:5] == (
            Leg.FORWARD,
            Place.SOURCE,
            Cause.REJECTED,
            SOURCE,
        )

    def test_a_drop_by_the_sources_own_firewall_says_so(self) -> None:
        outcome = judge(seen(0, 0, 0, 0, send_errors={1: 7}), setting())
        assert outcome[1:4] == (Leg.FORWARD, Place.SOURCE, Cause.DROPPED)
        assert "EPERM" in (outcome.detail or "")

    def test_a_drop_of_some_by_the_sources_own_firewall_is_lossy(self) -> None:
        outcome = judge(seen(3, 3, 3, 3, send_errors={1: 4}), setting())
        assert outcome[:4] == (Verdict.LOSSY, Leg.FORWARD, Place.SOURCE, Cause.DROPPED)

    def test_a_port_unreachable_is_the_rejection_where_nothing_was_accepted(self) -> None:
        error = IcmpError(DESTINATION, 3, 3)
        none = judge(seen(7, 7, 7, 0, error=error), setting())
        assert (none.cause, none.rejected_by) == (Cause.REJECTED, DESTINATION)
        some = judge(seen(7, 7, 7, 1, error=error), setting())
        assert (some.cause, some.rejected_by) == (Cause.DROPPED, None)
        every = judge(seen(7, 7, 7, 7, error=error), setting())
        assert every.verdict is Verdict.OPEN

    def test_too_big_rejects_nothing(self) -> None:
        outcome = judge(seen(7, 7, 0, 0, error=IcmpError(ROUTER, 3, 4)), setting())
        assert (outcome.cause, outcome.rejected_by) == (Cause.DROPPED, None)

    def test_an_rst_is_laid_to_the_destination_only_where_its_tap_saw_it_leave(self) -> None:
        forged = seen(7, 7, 0, 0, answered=0, returned=7, received=7, received_rst=7)
        outcome = judge(forged, setting(HEALTH))
        assert outcome[2:5] == (Place.PATH, Cause.REJECTED, None)

    def test_an_rst_of_nobody_is_not_laid_to_the_sender_of_an_error_that_rejects_nothing(
        self,
    ) -> None:
        too_big = IcmpError(ROUTER, 3, 4)
        forged = seen(7, 7, 0, 0, received=7, received_rst=7, error=too_big)
        assert judge(forged, setting(HEALTH)).rejected_by is None

    def test_the_rejecter_is_the_destinations_address_of_the_cells_family(self) -> None:
        v6 = ADDRESSES[Family.IPV6][1]
        around = setting(HEALTH, family=Family.IPV6, destination_addresses=(DESTINATION, v6))
        rejected = seen(7, 7, 7, 0, answered=7, answered_rst=7)
        assert judge(rejected, around).rejected_by == v6

    @pytest.mark.parametrize("probe", [HEALTH, ECHO])
    def test_any_answer_of_a_node_without_an_agent_proves_nothing(self, probe: Probe) -> None:
        kinds = {"received_syn_ack": 7} if probe is HEALTH else {}
        look = seen(7, 7, returned=7, received=7, **kinds)
        outcome = judge(look, setting(probe, destination_agent=False))
        assert outcome[:4] == (Verdict.UNKNOWN, None, None, Cause.NO_AGENT)
        assert outcome.detail == (
            "an answer came back, but only an agent there could tell whose it was"
        )

    @pytest.mark.parametrize(
        ("probe", "serves", "verdict"),
        [
            (GENEVE, True, Verdict.OPEN),
            (GENEVE, None, Verdict.OPEN),
            (GENEVE, False, Verdict.CLOSED),
            (USERS_UDP, False, Verdict.OPEN),
        ],
    )
    def test_who_must_serve_a_udp_port_after_the_installation(
        self, probe: Probe, serves: bool | None, verdict: Verdict
    ) -> None:
        around = setting(probe, phase=Phase.AFTER, serves=serves)
        assert judge(seen(7, 7, 7, 7), around).verdict is verdict
        assert judge(seen(7, 7, 7, 7), replace(around, phase=Phase.BEFORE)).verdict is Verdict.OPEN

    @pytest.mark.parametrize(
        ("probe", "answer", "serves", "verdict"),
        [
            (HEALTH, "rst", False, Verdict.CLOSED),
            (HEALTH, "rst", None, Verdict.CLOSED),
            (HEALTH, "syn_ack", True, Verdict.OPEN),
            (HEALTH, "syn_ack", None, Verdict.OPEN),
            (HEALTH, "syn_ack", False, Verdict.OPEN),  # it was heard to answer
            (USERS_TCP, "rst", False, Verdict.OPEN),
        ],
    )
    def test_who_must_serve_a_tcp_port_after_the_installation(
        self, probe: Probe, answer: str, serves: bool | None, verdict: Verdict
    ) -> None:
        around = setting(probe, phase=Phase.AFTER, serves=serves)
        assert judge(tcp(answer, answer), around).verdict is verdict

    def test_loss_on_both_legs_is_told_of_the_forward_one(self) -> None:
        look = seen(7, 7, 3, 3, answered=3, returned=0, received=0, answered_rst=3)
        outcome = judge(look, setting(HEALTH))
        assert outcome[:4] == (Verdict.LOSSY, Leg.FORWARD, Place.PATH, Cause.DROPPED)
        assert "none was answered" in (outcome.detail or "")

    def test_acceptance_is_proof_even_where_the_agents_died_afterwards(self) -> None:
        gone = setting(source_agent=False, destination_agent=False)
        assert judge(seen(None, None, None, 7), gone).verdict is Verdict.OPEN
        assert judge(seen(None, None, None, 3), gone).verdict is Verdict.UNKNOWN

    @pytest.mark.parametrize(
        ("look", "around", "detail"),
        [
            (seen(7, 7, 7, 7), {}, None),
            (seen(7, 7, 0, 0), {}, None),
            (
                seen(1, 1, 1, 1, send_errors={105: 6}),
                {},
                f"too few probes could be sent: {NO_ROOM}",
            ),
            (seen(0, send_errors={5: 7}), {}, "too few probes could be sent: errno 5"),
            (seen(None, None, 7, 0), {}, "the source did not report what it sent"),
            (
                seen(3, 3, 3, 3, send_errors={101: 4}),
                {},
                "the source's kernel refused some of them: ENETUNREACH, no route",
            ),
            (seen(7, None, 0, 0), {}, "not watched: left"),
            (seen(7, 7, 7, None), {}, "not watched: accepted"),
            (seen(7, 7), {"destination_agent": False}, None),
            (
                seen(7, 7, error=IcmpError(DESTINATION, 3, 3)),
                {"destination_agent": False},
                "an ICMP port unreachable came back, as from a closed port and from a firewall",
            ),
            (
                seen(7, 7, error=IcmpError(DESTINATION, 3, 10)),
                {"destination_agent": False},
                f"ICMP host administratively prohibited (3/10); {PERHAPS_FORGED}",
            ),
            (
                seen(7, 7, 7, 0, error=IcmpError(DESTINATION, 3, 10)),
                {},
                "ICMP host administratively prohibited (3/10)",
            ),
            (
                seen(7, 7, 0, 0, error=IcmpError("fd00::1", 1, 9)),
                {"family": Family.IPV6},
                "ICMPv6 error (1/9)",
            ),
            (seen(7, 7, 5, 5, error=IcmpError(DESTINATION, 3, 3)), {}, None),
            (seen(None, None, 7, 3), {"source_agent": False}, None),
        ],
    )
    def test_detail_of_one_way_probes(
        self, look: Sightings, around: dict[str, Any], detail: str | None
    ) -> None:
        assert judge(look, setting(**around)).detail == detail

    @pytest.mark.parametrize(
        ("look", "detail"),
        [
            (
                seen(7, 7, 7, 7, returned=7, received=7, received_rst=7),
                "answers came back, but nobody saw whether the destination sent them",
            ),
            (seen(7, 7, 7, 7, answered=7, returned=7), "not watched: received"),
            (seen(7, 7, 7, 7, answered=7, received=0), "not watched: returned"),
            (tcp("syn_ack", "rst"), None),
            (seen(7, 7, 7, 0, answered=7, answered_rst=7, error=PROHIBITED), None),
            (seen(7, 7, 3, 3, answered=3, answered_rst=3, returned=3, received=2), None),
        ],
    )
    def test_detail_of_probes_that_are_answered(self, look: Sightings, detail: str | None) -> None:
        assert judge(look, setting(HEALTH)).detail == detail

    def test_detail_does_not_ask_for_an_agent_that_is_there(self) -> None:
        look = seen(None, None, 7, 3, answered=3, answered_rst=3)
        assert judge(look, setting(HEALTH, source_agent=False)).detail is None


class TestFirstLook:
    """Only the raw sockets at both ends are watched."""

    @pytest.mark.parametrize(
        ("probe", "look", "around", "verdict"),
        [
            (GENEVE, seen(7, None, None, 7), {}, Verdict.OPEN),
            (GENEVE, seen(7, None, None, 6), {}, None),
            (GENEVE, seen(7, None, None, 0), {}, None),
            (GENEVE, seen(7, None, None, None), {}, None),
            (
                GENEVE,
                seen(7, None, None, 7),
                {"phase": Phase.AFTER, "serves": False},
                Verdict.CLOSED,
            ),
            (ECHO, seen(7, None, None, 7, received=7), {}, Verdict.OPEN),
            (ECHO, seen(7, None, None, 7, received=3), {}, None),
            (ECHO, seen(7, None, None, 7, received=7), {"echo_ignored": True}, None),
        ],
    )
    def test_only_proof_decides(
        self, probe: Probe, look: Sightings, around: dict[str, Any], verdict: Verdict | None
    ) -> None:
        outcome = decided(look, setting(probe, **around, final=False))
        assert (outcome.verdict if outcome else None) is verdict
        if outcome is not None:
            vantages = ("left", "arrived", "answered", "returned")
            assert {getattr(outcome.evidence, name) for name in vantages} == {None}

    @pytest.mark.parametrize(
        ("answer", "serves", "phase", "verdict"),
        [
            ("rst", False, Phase.BEFORE, Verdict.OPEN),
            ("rst", False, Phase.AFTER, Verdict.CLOSED),
            ("rst", True, Phase.BEFORE, None),
            ("rst", None, Phase.BEFORE, None),
            ("syn_ack", True, Phase.BEFORE, Verdict.OPEN),
            ("syn_ack", True, Phase.AFTER, Verdict.OPEN),
            ("syn_ack", False, Phase.BEFORE, None),
            ("syn_ack", None, Phase.AFTER, None),
        ],
    )
    def test_a_tcp_answer_must_be_of_the_kind_that_is_due(
        self, answer: str, serves: bool | None, phase: Phase, verdict: Verdict | None
    ) -> None:
        kinds: dict[str, Any] = {f"received_{answer}": 7}
        look = seen(7, None, None, 7, received=7, **kinds)
        outcome = decided(look, setting(HEALTH, serves=serves, phase=phase, final=False))
        assert (outcome.verdict if outcome else None) is verdict

    def test_two_kinds_of_answers_to_one_probe_decide_nothing(self) -> None:
        look = seen(7, None, None, 7, received=7, received_rst=7, received_syn_ack=4)
        assert decided(look, setting(HEALTH, serves=False, final=False)) is None
