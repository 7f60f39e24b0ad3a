"""Every row of the verdict table, by a fault that an administrator would know."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from cells import DESTINATION, ROUTER, SOURCE, seen, setting, tcp

from preflight.core.evidence import IcmpError, Setting, Sightings
from preflight.core.model import ECHO, GENEVE, HEALTH, Cause, Leg, Phase, Place, Probe, Verdict
from preflight.core.reading import read
from preflight.core.verdict import TABLE, decide, judge


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
