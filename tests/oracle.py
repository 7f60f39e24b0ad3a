"""A network with a known fault: what both ends would see of it, and what may be said of it.

The expectations are written from the fault, never from the code under test. A scenario has at
most one fault on each leg; each fault hits some or all of the probes, and any vantage point may
be unwatched. `expect` says which verdicts are true and which must be reached:

- with enough watched, the one true verdict, with its leg, place, cause and rejecter;
- with too little watched, `unknown`, and never a wrong `open`, `blocked` or `lossy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from preflight.core.evidence import IcmpError, Setting, Sightings
from preflight.core.model import (
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

USERS_TCP = Probe("web", ProbeKind.TCP, Protocol.TCP, 443, Severity.RECOMMENDED)
USERS_UDP = Probe("dns", ProbeKind.UDP, Protocol.UDP, 53, Severity.RECOMMENDED)

ADDRESSES: Mapping[Family, tuple[str, str, str]] = {  # source, destination, a router between them
    Family.IPV4: ("10.0.1.11", "10.0.2.12", "10.0.9.1"),
    Family.IPV6: ("fd00:1::11", "fd00:2::12", "fd00:9::1"),
}
_ICMP: Mapping[tuple[Family, str], tuple[int, int]] = {
    (Family.IPV4, "port"): (3, 3),
    (Family.IPV4, "prohibited"): (3, 13),
    (Family.IPV4, "too-big"): (3, 4),
    (Family.IPV4, "host"): (3, 1),
    (Family.IPV6, "port"): (1, 4),
    (Family.IPV6, "prohibited"): (1, 1),
    (Family.IPV6, "too-big"): (2, 0),
    (Family.IPV6, "host"): (1, 3),
}

SOURCE_SIDE = ("left", "returned", "received")
DESTINATION_SIDE = ("arrived", "accepted", "answered")

# Where each fault kills, counted in vantage points that the probe has passed by then.
FORWARD = {
    "output-drop": 0,
    "output-reject-icmp": 0,
    "output-reject-rst": 0,
    "no-route": 0,
    "device-mtu": 0,
    "egress-drop": 1,
    "no-neighbour": 1,
    "path-drop": 2,
    "path-reject-icmp": 2,
    "path-reject-rst": 2,
    "path-intercept": 2,
    "path-too-big": 2,
    "input-drop": 3,
    "input-reject-icmp": 3,
    "input-reject-rst": 3,
}
BACK = ("silent", "silent-forged", "sysctl", "back-drop", "back-inject", "input-drop")
_PLACES = (Place.SOURCE, Place.SOURCE, Place.PATH, Place.DESTINATION)


@dataclass(frozen=True)
class Scenario:
    """A cell, what is wrong with it, and who is looking."""

    probe: Probe = GENEVE
    family: Family = Family.IPV4
    phase: Phase = Phase.BEFORE
    listening: bool = False
    serves_known: bool = True
    tokens: int = 4
    full_size: int = 0
    unsent: int = 0  # ENOBUFS; never more than half
    forward: str | None = None
    forward_hits: int = 0
    icmp_code: str = "prohibited"  # of a reject
    icmp_seen: bool = True  # errors are rate-limited
    errno: int = 101  # of no-route
    back: str | None = None
    back_hits: int = 0
    also_genuine: bool = False  # the true answer arrives besides the injected one
    unwatched: frozenset[str] = frozenset()
    source_agent: bool = True
    destination_agent: bool = True

    @property
    def tried(self) -> int:
        return ((1 << self.tokens) - 1) & ~self.unsent

    @property
    def dead_forward(self) -> int:
        return self.forward_hits & self.tried if self.forward else 0

    @property
    def dead_back(self) -> int:
        accepted = self.tried & ~self.dead_forward
        return self.back_hits & accepted if self.back else 0

    @property
    def one_way(self) -> bool:
        return self.probe.protocol is Protocol.UDP

    def watched(self, vantage: str) -> bool:
        agent = self.source_agent if vantage in SOURCE_SIDE else self.destination_agent
        return agent and vantage not in self.unwatched

    @property
    def setting(self) -> Setting:
        source, destination, _ = ADDRESSES[self.family]
        return Setting(
            probe=self.probe,
            family=self.family,
            phase=self.phase,
            source_agent=self.source_agent,
            destination_agent=self.destination_agent,
            source_addresses=(source,),
            destination_addresses=(destination,),
            serves=self.listening if self.serves_known else None,
            echo_ignored=self.back == "sysctl",
        )


def simulate(scenario: Scenario) -> Sightings:
    """What the agents report."""
    s = scenario
    source, destination, router = ADDRESSES[s.family]
    tried, dead = s.tried, s.dead_forward
    alive = tried & ~dead
    passed = FORWARD[s.forward] if s.forward else 4
    sent, left, arrived = (tried if passed > stage else alive for stage in range(3))
    errors: dict[int, int] = {}
    error: IcmpError | None = None
    rst = syn_ack = echo = answered_rst = answered_syn_ack = answered = 0  # rst...: received

    def icmp(sender: str, kind: str) -> IcmpError | None:
        return IcmpError(sender, *_ICMP[s.family, kind]) if s.icmp_seen else None

    if s.unsent:
        errors[105] = s.unsent
    if dead and s.forward in ("output-drop", "output-reject-icmp", "output-reject-rst"):
        errors[1] = dead
    if dead and s.forward == "no-route":
        errors[s.errno] = dead
    if dead and s.forward == "device-mtu":
        errors[90] = dead
    if dead:
        match s.forward:
            case "output-reject-icmp":
                error = icmp(source, s.icmp_code)
            case "path-reject-icmp":
                error = icmp(router, s.icmp_code)
            case "input-reject-icmp":
                error = icmp(destination, s.icmp_code)
            case "path-too-big":
                error = icmp(router, "too-big")
            case "no-neighbour":
                error = icmp(source, "host")
            case "output-reject-rst" | "path-reject-rst":
                rst |= dead
            case "input-reject-rst":
                rst |= dead
                answered_rst |= dead
                answered |= dead
            case "path-intercept" if s.probe.protocol is Protocol.TCP:
                syn_ack |= dead
            case "path-intercept":
                echo |= dead
    if error is None and alive and s.one_way and not s.listening:
        error = icmp(destination, "port")  # the destination's kernel, of a closed port

    # The way back.
    hit = s.dead_back
    silent = hit if s.back in ("silent", "silent-forged", "sysctl") else 0
    true = alive & ~silent if not s.one_way else 0
    answered |= true
    gone = hit if s.back == "back-drop" or (s.back == "back-inject" and not s.also_genuine) else 0
    back_at_tap = true & ~gone
    back_at_socket = back_at_tap & ~(hit if s.back == "input-drop" else 0)
    returned = back_at_tap | ((rst | syn_ack | echo) if passed else 0)
    if s.probe.protocol is Protocol.TCP:
        if s.listening:
            answered_syn_ack |= true
            syn_ack |= back_at_socket
        else:
            answered_rst |= true
            rst |= back_at_socket
        wrong_is_rst = s.listening
        if s.back in ("silent-forged", "back-inject"):
            returned |= hit
            if wrong_is_rst:
                rst |= hit
            else:
                syn_ack |= hit
    elif s.probe.protocol is Protocol.ICMP:
        echo |= back_at_socket
        if s.back == "silent-forged":
            returned |= hit
            echo |= hit
    received = rst | syn_ack | echo
    masks = {
        "left": left,
        "arrived": arrived,
        "accepted": alive,
        "answered": answered,
        "returned": returned,
        "received": received,
    }
    seen = {name: mask if s.watched(name) else None for name, mask in masks.items()}
    if s.one_way:
        seen |= {"answered": None, "returned": None, "received": None}
    at_source, at_socket = s.source_agent, s.watched("received")
    at_end = s.watched("answered")
    return Sightings(
        planned=(1 << s.tokens) - 1,
        full_size=s.full_size,
        sent=sent if at_source else None,
        **seen,
        answered_rst=answered_rst if at_end else 0,
        answered_syn_ack=answered_syn_ack if at_end else 0,
        received_rst=rst if at_socket else 0,
        received_syn_ack=syn_ack if at_socket else 0,
        send_errors=errors if at_source else {},
        error=error if at_source else None,
        neighbour_failed=at_source and bool(dead) and s.forward == "no-neighbour",
    )


@dataclass(frozen=True)
class Expectation:
    """What may be said. Empty sets of places, causes and rejecters stand for null."""

    verdicts: frozenset[Verdict]
    leg: Leg | None = None
    places: frozenset[Place | None] = frozenset({None})
    causes: frozenset[Cause | None] = frozenset({None})
    rejecters: frozenset[str | None] = frozenset({None})
    unknown_cause: Cause = Cause.NOT_WATCHED


def expect(scenario: Scenario) -> Expectation:
    """What may be said of a scenario, from its fault and from who was looking."""
    s = scenario
    unknown = Expectation(
        frozenset({Verdict.UNKNOWN}),
        unknown_cause=Cause.NO_AGENT
        if not (s.source_agent and s.destination_agent)
        else Cause.NOT_WATCHED,
    )
    if not s.source_agent:
        # It died after sending; what the destination accepted is proved all the same.
        proved = s.one_way and not s.unsent and not s.dead_forward and s.watched("accepted")
        return _delivered(s) if proved else unknown
    if s.dead_forward:
        return _forward_fault(s, unknown)
    if not s.watched("accepted"):
        return unknown
    if s.one_way:
        return _delivered(s)
    return _back_fault(s, unknown) if s.dead_back else _both_ways(s, unknown)


def _delivered(s: Scenario) -> Expectation:
    must_be_served = s.phase is Phase.AFTER and s.probe in (GENEVE, HEALTH)
    # That a UDP port is closed nobody but its kernel can tell; a TCP port says so by its RST.
    if must_be_served and not s.listening and (s.serves_known or not s.one_way):
        return Expectation(
            frozenset({Verdict.CLOSED}),
            Leg.FORWARD,
            frozenset({Place.DESTINATION}),
            frozenset({Cause.NOT_LISTENING}),
        )
    return Expectation(frozenset({Verdict.OPEN}))


def _both_ways(s: Scenario, unknown: Expectation) -> Expectation:
    return _delivered(s) if s.watched("received") and _kind_known(s) else unknown


def _kind_known(s: Scenario) -> bool:
    """True where an answer can be told from a false one of another kind."""
    return s.watched("answered") or s.serves_known or s.probe.protocol is Protocol.ICMP


def _forward_fault(s: Scenario, unknown: Expectation) -> Expectation:
    source, destination, router = ADDRESSES[s.family]
    fault = s.forward or ""
    passed, dead = FORWARD[fault], s.dead_forward
    every = dead == s.tried
    saw = {name: s.watched(name) for name in (*SOURCE_SIDE, *DESTINATION_SIDE)}
    rst_seen = (
        fault in ("output-reject-rst", "path-reject-rst", "input-reject-rst") and saw["received"]
    )
    rst_traced = fault == "input-reject-rst" and saw["answered"]
    icmp_seen = s.icmp_seen and fault.endswith("-icmp")
    sender = {"output": source, "path": router, "input": destination}.get(fault.split("-")[0])

    if not saw["accepted"]:
        rejected = icmp_seen and (s.icmp_code == "prohibited" or not s.one_way)
        if every:
            nothing_left = passed == 1 and saw["left"]
            if not (passed == 0 or nothing_left or rejected):
                return unknown
        elif not rejected or passed == 0:
            return unknown  # what the source's own kernel refused says nothing of the others
        else:
            # An error says that a probe was discarded, and nobody could see that others passed.
            told = {Verdict.UNKNOWN, Verdict.BLOCKED}
            return Expectation(
                frozenset(told),
                Leg.FORWARD,
                frozenset({_PLACES[passed], None}),
                frozenset({Cause.REJECTED}),
                frozenset({sender}),
                unknown.unknown_cause,
            )

    place = Place.PATH if fault == "no-neighbour" else _PLACES[passed]
    placed = (
        True,
        saw["left"],
        saw["left"] and saw["arrived"],
        saw["arrived"] or (rst_traced and every),
    )[passed] and (saw["accepted"] or passed < 2)
    rejecter = None
    if fault == "no-route":
        cause = Cause.NO_ROUTE
    elif fault == "device-mtu":
        cause = Cause.SIZE
    elif fault == "no-neighbour" and (every or saw["left"] or s.icmp_seen):
        cause = Cause.NO_NEIGHBOUR
    elif not every and dead == s.full_size & s.tried:
        cause = Cause.SIZE  # whatever did it: that is what the word means
    elif fault == "path-intercept" and saw["received"]:
        cause = Cause.INTERCEPTED
    elif rst_seen or rst_traced:
        cause, rejecter = Cause.REJECTED, destination if rst_traced else None
    elif icmp_seen and (every or s.icmp_code == "prohibited"):
        cause, rejecter = Cause.REJECTED, sender
    else:
        cause = Cause.DROPPED
    return Expectation(
        frozenset({Verdict.BLOCKED if every else Verdict.LOSSY}),
        Leg.FORWARD,
        frozenset({place} if placed else {place, None}),
        frozenset({cause}),
        frozenset({rejecter}),
    )


def _back_fault(s: Scenario, unknown: Expectation) -> Expectation:
    every = s.dead_back == s.tried
    answered, returned, received = (s.watched(v) for v in ("answered", "returned", "received"))
    forged = s.back in ("silent-forged", "back-inject")
    silent = s.back in ("silent", "silent-forged", "sysctl")
    nobody_answered = silent and every and answered
    if not received and not nobody_answered:
        return unknown
    if received and not nobody_answered:
        some_came = forged or not every
        if some_came and not _kind_known(s):
            return unknown
        if forged and not answered:
            if s.probe.protocol is Protocol.TCP:
                return unknown  # it is of the wrong kind, and nobody saw a right one
            # Of the right kind, and nobody saw that the destination was silent: no way to tell.
            return _delivered(s)
    place = Place.DESTINATION if silent else Place.SOURCE if s.back == "input-drop" else Place.PATH
    placed = answered if silent else returned if s.back == "input-drop" else answered and returned
    cause = Cause.DROPPED
    if forged and received:
        wrong_is_rst = s.probe.protocol is Protocol.TCP and s.listening
        cause = Cause.REJECTED if wrong_is_rst else Cause.INTERCEPTED
        placed = True
    elif s.back == "sysctl":
        cause, placed = Cause.ECHO_IGNORED, True
    return Expectation(
        frozenset({Verdict.BLOCKED if every else Verdict.LOSSY}),
        Leg.REPLY,
        frozenset({place} if placed else {place, None}),
        frozenset({cause}),
    )
