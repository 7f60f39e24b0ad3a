"""The verdict table: total, without dead rows, and true to what a simulated network did."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from oracle import (
    ADDRESSES,
    BACK,
    FORWARD,
    USERS_TCP,
    USERS_UDP,
    Expectation,
    Scenario,
    expect,
    scenarios,
    simulate,
)
from test_evidence import setting, settings_, wild_sightings

from preflight.core.evidence import IcmpError, Setting, Sightings
from preflight.core.model import (
    ECHO,
    GENEVE,
    HEALTH,
    Cause,
    Family,
    Leg,
    Outcome,
    Phase,
    Place,
    Probe,
    Protocol,
    Verdict,
)
from preflight.core.reading import DOMAINS, Agents, Delivery, Foreign, Reading, read
from preflight.core.verdict import AS_READ, TABLE, decide, decided, judge, meaning, readme_table

SOURCE, DESTINATION, ROUTER = ADDRESSES[Family.IPV4]
BAD = (Verdict.BLOCKED, Verdict.LOSSY)


def every_reading() -> Iterator[Reading]:
    for values in product(*(DOMAINS[name] for name in Reading._fields)):
        yield Reading._make(values)


class TestEveryReading:
    """All 268,800 of them."""

    def test_exactly_one_row_decides_and_every_row_is_needed(self) -> None:
        rows_with = {
            name: {
                value: sum(
                    1 << number
                    for number, row in enumerate(TABLE)
                    if value in row.when.get(name, domain)
                )
                for value in domain
            }
            for name, domain in DOMAINS.items()
        }
        needed: set[int] = set()
        for reading in every_reading():
            matching = (1 << len(TABLE)) - 1
            for name, value in zip(reading._fields, reading, strict=True):
                matching &= rows_with[name][value]
            first = (matching & -matching).bit_length() - 1
            assert decide.__wrapped__(reading) is TABLE[first]
            others = matching & (matching - 1)
            if not others:
                needed.add(first)  # without it nothing would be decided
            elif TABLE[(others & -others).bit_length() - 1][1:5] != TABLE[first][1:5]:
                needed.add(first)
        assert needed == set(range(len(TABLE)))

    def test_no_verdict_says_more_than_the_evidence(self) -> None:
        false_answers = (Foreign.RESET, Foreign.ANSWER, Foreign.UNTOLD)
        for reading in every_reading():
            row = decide.__wrapped__(reading)
            delivered = reading.forward is Delivery.ALL
            answered = reading.reply is Delivery.ALL and reading.foreign not in false_answers
            proved = delivered and (reading.one_way or answered)
            if row.verdict in (Verdict.OPEN, Verdict.CLOSED):
                assert proved
                assert (row.verdict is Verdict.CLOSED) == reading.unserved
            else:
                assert not proved
            if row.verdict in BAD:
                assert reading.final
                assert reading.agents is not Agents.NO_SOURCE
                assert reading.forward is not Delivery.NOT_SENT
            if row.verdict is Verdict.BLOCKED:
                error = reading.foreign is Foreign.ICMP_ERROR or (
                    reading.foreign is Foreign.PORT_UNREACHABLE and not reading.one_way
                )
                unanswered = delivered and not reading.one_way and reading.reply is Delivery.NONE
                assert (
                    reading.forward is Delivery.NONE
                    or (reading.forward is Delivery.NOT_WATCHED and error)
                    or (unanswered and reading.foreign is not Foreign.UNTOLD)
                )
            if row.verdict is Verdict.LOSSY:
                some = reading.reply in (Delivery.SOME, Delivery.ALL)
                assert reading.forward is Delivery.SOME or (delivered and some)

    def test_watched_evidence_is_never_shrugged_off(self) -> None:
        for reading in every_reading():
            if reading.final and reading.agents is not Agents.NO_SOURCE:
                verdict = decide.__wrapped__(reading).verdict
                if reading.forward is Delivery.NONE:
                    assert verdict is Verdict.BLOCKED
                if reading.forward is Delivery.SOME:
                    assert verdict is Verdict.LOSSY


class TestRows:
    def test_conditions_name_values_that_occur(self) -> None:
        for row in TABLE:
            for name, allowed in row.when.items():
                assert allowed
                assert set(allowed) < set(DOMAINS[name])

    def test_only_the_last_row_has_no_conditions(self) -> None:
        assert [not row.when for row in TABLE] == [False] * (len(TABLE) - 1) + [True]

    def test_leg_place_and_cause_as_the_contract_has_them(self) -> None:
        for row in TABLE:
            if row.verdict is Verdict.OPEN:
                assert (row.leg, row.place, row.cause) == (None, None, None)
            elif row.verdict is Verdict.UNKNOWN:
                assert (row.leg, row.place) == (None, None)
                assert row.cause is not None
            else:
                assert None not in (row.leg, row.place, row.cause)
            assert row.meaning.endswith(".")


@dataclass(frozen=True)
class Example:
    """One cell as it was seen, and what must be said of it."""

    name: str
    row: int  # the row of TABLE that must decide it
    probe: Probe
    seen: Sightings
    verdict: Verdict
    leg: Leg | None = None
    place: Place | None = None
    cause: Cause | None = None
    rejected_by: str | None = None
    around: tuple[tuple[str, Any], ...] = ()

    @property
    def setting(self) -> Setting:
        return setting(self.probe, **dict(self.around))


def seen(*forward: int | None, **rest: Any) -> Sightings:
    """Three probes; `forward` is sent, left, arrived, accepted."""
    names = ("sent", "left", "arrived", "accepted")
    masks: dict[str, Any] = dict(zip(names, forward, strict=False))
    return Sightings(7, **masks, **rest)


def tcp(answered: str, received: str, mask: int = 7, **rest: Any) -> Sightings:
    """Three SYNs accepted; `mask` of the answers received, kinds as given."""
    kinds: dict[str, Any] = {f"answered_{answered}": 7, f"received_{received}": mask}
    rest = {"answered": 7, "returned": mask, "received": mask} | kinds | rest
    return seen(7, 7, 7, 7, **rest)


AFTER = (("phase", Phase.AFTER), ("serves", False))
NO_AGENT_THERE = (("destination_agent", False),)
PROHIBITED = IcmpError(ROUTER, 3, 13)
FORWARD_LEG, REPLY_LEG = Leg.FORWARD, Leg.REPLY
EXAMPLES = (
    Example(
        "GENEVE arrives after the installation, but no kernel owns 6081",
        0,
        GENEVE,
        seen(7, 7, 7, 7),
        Verdict.CLOSED,
        FORWARD_LEG,
        Place.DESTINATION,
        Cause.NOT_LISTENING,
        around=AFTER,
    ),
    Example("GENEVE arrives", 1, GENEVE, seen(7, None, None, 7), Verdict.OPEN),
    Example(
        "4240 answers with an RST after the installation",
        2,
        HEALTH,
        tcp("rst", "rst"),
        Verdict.CLOSED,
        FORWARD_LEG,
        Place.DESTINATION,
        Cause.NOT_LISTENING,
        around=AFTER,
    ),
    Example("4240 answers with an RST before", 3, HEALTH, tcp("rst", "rst"), Verdict.OPEN),
    Example(
        "the source's agent was lost",
        4,
        HEALTH,
        seen(None, None, 7, 7, answered=7),
        Verdict.UNKNOWN,
        cause=Cause.NO_AGENT,
        around=(("source_agent", False),),
    ),
    Example(
        "a first look saw nothing accepted",
        5,
        GENEVE,
        seen(7, None, None, 0),
        Verdict.UNKNOWN,
        cause=Cause.INTERRUPTED,
        around=(("final", False),),
    ),
    Example(
        "no route to a node without an agent",
        6,
        GENEVE,
        seen(0, send_errors={101: 7}),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.SOURCE,
        Cause.NO_ROUTE,
        around=NO_AGENT_THERE,
    ),
    Example(
        "every probe is larger than the device's MTU",
        7,
        GENEVE,
        seen(0, 0, 0, 0, send_errors={90: 7}),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.SOURCE,
        Cause.SIZE,
    ),
    Example(
        "the node is down: nobody answers ARP",
        8,
        GENEVE,
        seen(7, 0, neighbour_failed=True, error=IcmpError(SOURCE, 3, 1)),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.PATH,
        Cause.NO_NEIGHBOUR,
        around=NO_AGENT_THERE,
    ),
    Example(
        "a proxy on the path answers for 4240",
        9,
        HEALTH,
        seen(7, 7, 0, 0, answered=0, returned=7, received=7, received_syn_ack=7),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.PATH,
        Cause.INTERCEPTED,
    ),
    Example(
        "the destination's INPUT rejects with an RST",
        10,
        HEALTH,
        seen(
            7,
            7,
            7,
            0,
            answered=7,
            answered_rst=7,
            returned=7,
            received=7,
            received_rst=7,
        ),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.DESTINATION,
        Cause.REJECTED,
        DESTINATION,
    ),
    Example(
        "the destination's INPUT drops what its NIC receives",
        11,
        GENEVE,
        seen(7, 7, 7, 0),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.DESTINATION,
        Cause.DROPPED,
    ),
    Example(
        "a router rejects, and the destination has no agent",
        12,
        GENEVE,
        seen(7, 7, error=PROHIBITED),
        Verdict.BLOCKED,
        FORWARD_LEG,
        Place.PATH,
        Cause.REJECTED,
        ROUTER,
        around=NO_AGENT_THERE,
    ),
    Example(
        "a SYN draws a port unreachable from a node without an agent",
        13,
        HEALTH,
        seen(7, 7, returned=0, received=0, error=IcmpError(DESTINATION, 3, 3)),
        Verdict.BLOCKED,
        FORWARD_LEG,
        None,
        Cause.REJECTED,
        DESTINATION,
        around=NO_AGENT_THERE,
    ),
    Example(
        "GENEVE draws a port unreachable from a node without an agent",
        14,
        GENEVE,
        seen(7, 7, error=IcmpError(DESTINATION, 3, 3)),
        Verdict.UNKNOWN,
        cause=Cause.NO_AGENT,
        around=NO_AGENT_THERE,
    ),
    Example(
        "one of two routes is missing",
        15,
        GENEVE,
        seen(1, 1, 1, 1, send_errors={113: 6}),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.SOURCE,
        Cause.NO_ROUTE,
    ),
    Example(
        "the path swallows full-size packets",
        16,
        GENEVE,
        replace(seen(7, 7, 3, 3), full_size=4),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.PATH,
        Cause.SIZE,
    ),
    Example(
        "the next hop answers ARP now and then",
        17,
        GENEVE,
        seen(7, 1, 1, 1, neighbour_failed=True),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.PATH,
        Cause.NO_NEIGHBOUR,
    ),
    Example(
        "a proxy answers some of the pings",
        18,
        ECHO,
        seen(7, 7, 1, 1, answered=1, returned=7, received=7),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.PATH,
        Cause.INTERCEPTED,
    ),
    Example(
        "a policer rejects what exceeds its rate",
        19,
        GENEVE,
        seen(7, 7, 1, 1, error=PROHIBITED),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.PATH,
        Cause.REJECTED,
        ROUTER,
    ),
    Example(
        "random loss on the path",
        20,
        GENEVE,
        seen(7, 7, 5, 5),
        Verdict.LOSSY,
        FORWARD_LEG,
        Place.PATH,
        Cause.DROPPED,
    ),
    Example(
        "a SYN-ACK of which nobody knows whether the destination sent it",
        21,
        HEALTH,
        seen(7, 7, 7, 7, returned=7, received=7, received_syn_ack=7),
        Verdict.UNKNOWN,
        cause=Cause.NOT_WATCHED,
    ),
    Example(
        "a middlebox turns the destination's RST into a SYN-ACK",
        22,
        HEALTH,
        tcp("rst", "syn_ack"),
        Verdict.BLOCKED,
        REPLY_LEG,
        Place.PATH,
        Cause.INTERCEPTED,
    ),
    Example(
        "an intrusion prevention system resets what the destination accepts",
        23,
        HEALTH,
        tcp("syn_ack", "rst"),
        Verdict.BLOCKED,
        REPLY_LEG,
        Place.PATH,
        Cause.REJECTED,
    ),
    Example(
        "the destination's sysctl ignores pings",
        24,
        ECHO,
        seen(7, 7, 7, 7, answered=0, returned=0, received=0),
        Verdict.BLOCKED,
        REPLY_LEG,
        Place.DESTINATION,
        Cause.ECHO_IGNORED,
        around=(("echo_ignored", True),),
    ),
    Example(
        "the source's INPUT drops the answers",
        25,
        ECHO,
        seen(7, 7, 7, 7, answered=7, returned=7, received=0),
        Verdict.BLOCKED,
        REPLY_LEG,
        Place.SOURCE,
        Cause.DROPPED,
    ),
    Example(
        "some of the answers are not the destination's",
        26,
        HEALTH,
        tcp("rst", "rst", received_syn_ack=1),
        Verdict.LOSSY,
        REPLY_LEG,
        Place.PATH,
        Cause.INTERCEPTED,
    ),
    Example(
        "some of the connections are reset on the way",
        27,
        HEALTH,
        tcp("syn_ack", "syn_ack", received_rst=1),
        Verdict.LOSSY,
        REPLY_LEG,
        Place.PATH,
        Cause.REJECTED,
    ),
    Example(
        "the path loses some of the answers",
        28,
        HEALTH,
        tcp("rst", "rst", mask=3),
        Verdict.LOSSY,
        REPLY_LEG,
        Place.PATH,
        Cause.DROPPED,
    ),
    Example(
        "the destination's raw socket lost packets",
        29,
        GENEVE,
        seen(7, 7, 0, None),
        Verdict.UNKNOWN,
        cause=Cause.NOT_WATCHED,
    ),
)


class TestExamples:
    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
    def test_named(self, example: Example) -> None:
        outcome = judge(example.seen, example.setting)
        assert decide(read(example.seen, example.setting)) is TABLE[example.row]
        assert outcome[:5] == (
            example.verdict,
            example.leg,
            example.place,
            example.cause,
            example.rejected_by,
        )

    def test_every_row_has_one(self) -> None:
        assert [example.row for example in EXAMPLES] == list(range(len(TABLE)))


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

    def test_probes_that_could_not_be_sent_are_named(self) -> None:
        outcome = judge(seen(1, 1, 1, 1, send_errors={105: 6}), setting())
        assert (outcome.verdict, outcome.cause) == (Verdict.UNKNOWN, Cause.NOT_WATCHED)
        assert "ENOBUFS" in (outcome.detail or "")

    def test_the_vantage_points_that_would_have_placed_a_loss_are_named(self) -> None:
        outcome = judge(seen(7, None, 0, 0), setting())
        assert (outcome.place, outcome.detail) == (None, "not watched: left")


class TestFirstLook:
    """Only the raw sockets at both ends are watched."""

    @pytest.mark.parametrize(
        ("probe", "look", "around", "verdict"),
        [
            (GENEVE, seen(7, None, None, 7), {}, Verdict.OPEN),
            (GENEVE, seen(7, None, None, 6), {}, None),
            (GENEVE, seen(7, None, None, 0), {}, None),
            (GENEVE, seen(7, None, None, None), {}, None),
            (GENEVE, seen(7, None, None, 7), dict(AFTER), Verdict.CLOSED),
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


def assert_true(scenario: Scenario, expected: Expectation, outcome: Outcome) -> None:
    assert outcome.verdict in expected.verdicts
    if outcome.verdict is Verdict.UNKNOWN:
        assert outcome[1:5] == (None, None, expected.unknown_cause, None)
        return
    assert outcome.leg is expected.leg
    assert outcome.place in expected.places
    assert outcome.cause in expected.causes
    assert outcome.rejected_by in expected.rejecters


def one_fault_each() -> Iterator[Scenario]:
    """Every fault, of all probes or of one, with every set of up to three blind vantage points."""
    vantages = ("left", "arrived", "accepted", "answered", "returned", "received")
    blind = [
        frozenset(name for bit, name in enumerate(vantages) if chosen >> bit & 1)
        for chosen in range(64)
        if chosen.bit_count() <= 3
    ]
    faults: list[dict[str, Any]] = [{}]
    faults += [
        {"forward": fault, "forward_hits": hits, "icmp_code": code}
        for fault in FORWARD
        for hits in (0b111, 0b001)
        for code in (("port", "prohibited") if fault.endswith("icmp") else ("port",))
        if fault != "path-too-big"
    ]
    faults.append({"forward": "path-too-big", "forward_hits": 0b100, "full_size": 0b100})
    faults += [{"back": fault, "back_hits": hits} for fault in BACK for hits in (0b111, 0b001)]
    for probe, fault, unwatched, listening, known in product(
        (GENEVE, HEALTH, ECHO), faults, blind, (True, False), (True, False)
    ):
        kind = probe.protocol
        name = fault.get("forward", "")
        if (
            ("back" in fault and kind is Protocol.UDP)
            or (name.endswith("-rst") and kind is not Protocol.TCP)
            or (name == "path-intercept" and kind is Protocol.UDP)
            or (name == "path-too-big" and kind is not Protocol.UDP)
            or (fault.get("back") == "back-inject" and kind is not Protocol.TCP)
            or (fault.get("back") == "sysctl" and (kind is not Protocol.ICMP or listening))
            or (fault.get("back") == "sysctl" and fault["back_hits"] != 0b111)
            or (kind is Protocol.ICMP and (listening or known))
        ):
            continue
        yield Scenario(
            probe=probe,
            phase=Phase.AFTER,
            listening=listening,
            serves_known=known,
            tokens=3,
            unwatched=unwatched,
            **fault,
        )


class TestOracle:
    """The simulated network knows what it did; the table must find out, or say that it cannot."""

    @pytest.mark.parametrize(
        "agents",
        [{}, {"destination_agent": False}, {"source_agent": False}],
        ids=["both agents", "none at the destination", "none at the source"],
    )
    def test_every_fault_whoever_looks(self, agents: dict[str, Any]) -> None:
        for fault in one_fault_each():
            scenario = replace(fault, **agents)
            outcome = judge(simulate(scenario), scenario.setting)
            assert_true(scenario, expect(scenario), outcome)

    @settings(max_examples=600, deadline=None)
    @given(scenarios())
    def test_faults_on_both_legs_and_probes_not_sent(self, scenario: Scenario) -> None:
        outcome = judge(simulate(scenario), scenario.setting)
        assert_true(scenario, expect(scenario), outcome)

    @settings(max_examples=300, deadline=None)
    @given(scenarios())
    def test_a_first_look_is_never_wrong(self, scenario: Scenario) -> None:
        taps = frozenset({"left", "arrived", "answered", "returned"})
        first = replace(scenario, unwatched=scenario.unwatched | taps)
        outcome = decided(simulate(first), replace(first.setting, final=False))
        possible = expect(first).verdicts & {Verdict.OPEN, Verdict.CLOSED}
        assert {outcome.verdict if outcome else None} == (possible or {None})


class TestAnySightings:
    """Contradictory ones too: agents are other people's machines."""

    @settings(max_examples=400, deadline=None)
    @given(wild_sightings, settings_)
    def test_sane_and_repeatable(self, look: Sightings, around: Setting) -> None:
        outcome = judge(look, around)
        assert outcome == judge(look, around)
        evidence = outcome.evidence
        if outcome.verdict in (Verdict.OPEN, Verdict.CLOSED):
            assert evidence.accepted
            assert evidence.sent is None or evidence.accepted == evidence.sent
            if not around.probe.one_way:
                assert evidence.received == evidence.accepted
        if outcome.verdict in BAD:
            assert around.source_agent
            assert around.final
            assert evidence.sent is not None
            watched = [n for n in evidence[1:] if n is not None]
            assert watched or look.send_errors or look.error
        if outcome.verdict is Verdict.BLOCKED:
            assert outcome.leg is not None
            assert (
                0 in evidence
                or look.error
                or outcome.cause
                in (
                    Cause.REJECTED,
                    Cause.INTERCEPTED,
                )
            )
        if outcome.detail is not None:
            assert "\n" not in outcome.detail
            assert outcome.verdict not in (Verdict.OPEN, Verdict.CLOSED)

    @settings(max_examples=200, deadline=None)
    @given(wild_sightings, settings_)
    def test_a_first_look_decides_what_is_proved_and_nothing_else(
        self, look: Sightings, around: Setting
    ) -> None:
        first = decided(look, replace(around, final=False))
        final = judge(look, replace(around, final=True))
        proved = final.verdict in (Verdict.OPEN, Verdict.CLOSED)
        assert first == (final if proved else None)


class TestWords:
    def test_the_readme_has_every_row_in_the_tables_own_words(self) -> None:
        lines = readme_table().splitlines()
        assert len({line.count("|") for line in lines}) == 1
        for row in TABLE:
            assert any(
                row.meaning in line and f"`{row.verdict}`" in line and (row.cause or "") in line
                for line in lines
            )

    def test_the_readme_tells_each_ending_once(self) -> None:
        endings = {(row.verdict, row.leg, row.cause) for row in TABLE}
        assert len(readme_table().splitlines()) == 2 + len(endings)

    def test_rows_that_end_alike_have_one_place(self) -> None:
        places: dict[tuple[object, ...], set[object]] = {}
        for row in TABLE:
            places.setdefault((row.verdict, row.leg, row.cause), set()).add(row.place)
        fixed = [p for p in places.values() if len(p) > 1]
        assert not fixed

    def test_every_outcome_has_a_meaning(self) -> None:
        for row in TABLE:
            place = None if row.place is AS_READ else row.place
            outcome = Outcome(row.verdict, row.leg, place, row.cause)  # type: ignore[arg-type]
            assert row.meaning in meaning(outcome)
        assert meaning(Outcome(Verdict.OPEN, Leg.REPLY)) == ""
