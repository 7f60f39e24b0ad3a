"""One cell told along the seven vantage points: seen here, not seen there, therefore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Path as Way
from preflight.core.diagnosis.discovery import culprits
from preflight.core.findings.model import Block, Finding
from preflight.core.findings.rule_words import goes_to, rule_in_words
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import (
    Cause,
    Evidence,
    Family,
    Leg,
    Outcome,
    Place,
    ProbeKind,
    Verdict,
)
from preflight.core.snapshot import Snapshot
from preflight.core.terms import traffic
from preflight.core.therefore import therefore

_BAD = (Verdict.BLOCKED, Verdict.LOSSY)


class Mark(StrEnum):
    """What became of the probes at one point."""

    PASSED = "passed"
    LOST = "lost"  # here, all or some of them
    NOTHING = "nothing"  # there was nothing to see: lost before
    UNKNOWN = "unknown"  # nobody watched


class Step(NamedTuple):
    """One point of the way."""

    leg: Leg
    place: Place
    vantage: str  # empty for what is said of the path
    seen: int | None  # distinct probes, or answers; None: not watched
    mark: Mark
    text: str


class Story(NamedTuple):
    """One cell."""

    test: FamilyProbe
    outcome: Outcome
    rtt_ms: float | None
    steps: tuple[Step, ...]  # in the order of travel
    therefore: tuple[str, ...]  # sentences
    findings: tuple[Finding, ...]  # those that the cell belongs to


class Accusation(NamedTuple):
    """A rule, or the kernel's reason, that a finding has proved of one node."""

    node: int
    leg: str | None  # None: whichever
    words: str
    of_discovery: bool  # it drops neighbour discovery, and so what would be sent afterwards


class _Point(NamedTuple):
    vantage: str
    leg: Leg
    place: Place
    seen: str
    missed: str


_POINTS = (
    _Point("sent", Leg.FORWARD, Place.SOURCE, "its kernel took it: past OUTPUT",
           "its kernel refused it: OUTPUT, or no route"),
    _Point("left", Leg.FORWARD, Place.SOURCE, "seen leaving its device", "not seen at its device"),
    _Point("arrived", Leg.FORWARD, Place.DESTINATION, "seen coming in at its device",
           "not seen at its device"),
    _Point("accepted", Leg.FORWARD, Place.DESTINATION, "seen behind INPUT",
           "not seen behind INPUT"),
    _Point("answered", Leg.REPLY, Place.DESTINATION, "its answer seen leaving its device",
           "no answer seen leaving its device"),
    _Point("returned", Leg.REPLY, Place.SOURCE, "the answer seen coming in at its device",
           "no answer seen at its device"),
    _Point("received", Leg.REPLY, Place.SOURCE, "the answer seen behind INPUT",
           "no answer seen behind INPUT"),
)  # fmt: skip
_AHEAD_OF_PATH = ("arrived", "returned")  # the path is told before these


def stories(
    snapshot: Snapshot, source: int, destination: int, tests: Sequence[FamilyProbe]
) -> list[Story]:
    """A story for each of these tests that was planned for the pair."""
    matrix = snapshot.matrix
    names = [matrix.nodes[node].name for node in (source, destination)]
    found = []
    for test in tests:
        index = matrix.index(matrix.families.index(test.family), test.probe, source, destination)
        outcome = matrix.outcome(index)
        if outcome is None:
            continue
        own = belonging(snapshot.findings, test, source, destination)
        probe = matrix.probes[test.probe]
        way = _Steps((source, destination), test, outcome, own, one_way=probe.one_way)
        told = _in_overlay(outcome) if probe.overlay else way.tell()
        says = therefore(outcome, *names, one_way=probe.one_way, overlay=probe.overlay)
        more = _tunnels(matrix, source, destination) if probe.overlay else ()
        rtt = matrix.rtt_ms(index)
        found.append(Story(test, outcome, rtt, tuple(told), (*says, *more), own))
    return found


def belonging(
    findings: Sequence[Finding], test: FamilyProbe, source: int, destination: int
) -> tuple[Finding, ...]:
    """The findings that one cell is part of."""

    def holds(block: Block) -> bool:
        there = source in block.sources and destination in block.destinations
        back = destination in block.sources and source in block.destinations
        return there or (block.both_ways and back)

    return tuple(
        finding
        for finding in findings
        if any(test in block.tests and holds(block) for block in finding.blocks)
    )


def steps(
    outcome: Outcome, test: FamilyProbe, *, one_way: bool, overlay: bool = False
) -> tuple[Step, ...]:
    """The way of such a cell's probes, as far as the outcome alone tells it."""
    if overlay:
        return tuple(_in_overlay(outcome))
    return tuple(_Steps((0, 1), test, outcome, (), one_way=one_way).tell())


def accusations(finding: Finding) -> Iterator[Accusation]:
    """In the order in which they are told at the point where the node lost the probes."""
    diagnosis = finding.diagnosis
    if diagnosis is None:
        return
    for hit in diagnosis.hits:
        if hit.rule.sure:
            words = rule_in_words(hit.rule)
            if hit.rule.rewrites:
                words = f"sent {goes_to(hit.rule, {})} by {words}"
            yield Accusation(hit.node, hit.leg, words, hit.of_discovery)
    if diagnosis.kernel is not None and diagnosis.kernel_node is not None:
        yield Accusation(diagnosis.kernel_node, None, diagnosis.kernel.title, False)


def may_be_unfound(outcome: Outcome, family: Family) -> bool:
    """Whether such a loss may be due to a neighbour that was not discovered."""
    return family is Family.IPV6 and bool(culprits(Kind(*outcome[:5])))


def unfound(accusation: Accusation, place: Place) -> str:
    """What an accusation `of_discovery` means to the pair whose source or destination it is."""
    return f"the {place} itself drops neighbour discovery: {accusation.words}"


class _Steps:
    """The way of one cell's probes and their answers."""

    def __init__(
        self,
        pair: tuple[int, int],
        test: FamilyProbe,
        outcome: Outcome,
        findings: Sequence[Finding],
        *,
        one_way: bool,
    ) -> None:
        self._pair = pair
        self._test = test
        self._outcome = outcome
        self._findings = findings
        self._points = [p for p in _POINTS if p.leg is Leg.FORWARD or not one_way]
        self._seen = outcome.evidence._asdict()
        self._lost = _lost_at(outcome)

    def tell(self) -> Iterator[Step]:
        for point in self._points:
            if point.vantage in _AHEAD_OF_PATH:
                yield from self._path(point)
            yield self._step(point)

    def _step(self, point: _Point) -> Step:
        count = self._seen[point.vantage]
        if count is not None:
            mark = Mark.PASSED if count else Mark.NOTHING
            text = point.seen if count else point.missed
        elif self._proved(point):
            mark, text = Mark.PASSED, "not watched, but what came later proves it"
        else:
            mark, text = Mark.UNKNOWN, "not watched"
        if self._lost == point.vantage:
            mark = Mark.LOST
            text = "; ".join([text, *(list(self._culprits(point)) or self._unfound())])
        return Step(point.leg, point.place, point.vantage, count, mark, text)

    def _proved(self, point: _Point) -> bool:
        """By a later sighting in the same leg; that an answer left is proved by nothing else."""
        if point.vantage == "answered":
            return False
        later = self._points[self._points.index(point) + 1 :]
        return any(p.leg is point.leg and self._seen[p.vantage] for p in later)

    def _path(self, behind: _Point) -> Iterator[Step]:
        """What lies between the devices, in front of the vantage point behind it."""
        leg = behind.leg
        way = self._way(leg)
        for router in way.routers if way else ():
            text = f"router {router.address} answers at TTL {router.ttl}"
            yield Step(leg, Place.PATH, "", None, Mark.PASSED, text)
        if self._lost == f"path-{leg}":
            text = "; ".join([_loss(self._outcome, way), *self._led_away(), *self._unfound()])
            yield Step(leg, Place.PATH, "", None, Mark.LOST, text)
        elif way is None or not way.routers:
            text = "one link, no router" if way is not None and way.on_link else ""
            yield Step(leg, Place.PATH, "", None, self._passed(behind), text)

    def _passed(self, behind: _Point) -> Mark:
        if self._seen[behind.vantage] or self._proved(behind):
            return Mark.PASSED
        before = self._points[: self._points.index(behind)]
        latest = [c for p in before if (c := self._seen[p.vantage]) is not None]
        return Mark.NOTHING if latest and not latest[-1] else Mark.UNKNOWN

    def _way(self, leg: Leg | None) -> Way | None:
        """The routers that this very cell's packets met; others may go another way."""
        for finding in self._findings:
            tried = finding.blocks[0].tests[:1]  # of its most important group the first
            if finding.diagnosis is None or finding.sample != self._pair or tried != (self._test,):
                continue
            way = finding.diagnosis.path
            is_ipv6 = self._test.family is Family.IPV6
            if way is not None and way.back is not (leg is Leg.REPLY):
                continue
            if way is not None and all((":" in r.address) is is_ipv6 for r in way.routers):
                return way
        return None

    def _culprits(self, point: _Point) -> Iterator[str]:
        """The rules, or the kernel's reason, that the cell's findings name for this node."""
        node = self._pair[point.place is Place.DESTINATION]
        for finding in self._findings:
            for accusation in accusations(finding):
                if accusation.node == node and accusation.leg in (None, point.leg):
                    yield accusation.words

    def _led_away(self) -> Iterator[str]:
        """What the source itself made of it before it left."""
        for finding in self._findings:
            for hit in finding.diagnosis.hits if finding.diagnosis is not None else ():
                if hit.node == self._pair[0] and hit.rule.sure and hit.rule.rewrites:
                    yield f"the source sent it {goes_to(hit.rule, {})}: {rule_in_words(hit.rule)}"

    def _unfound(self) -> Iterator[str]:
        """What keeps one of the two from being found by its neighbours, or from finding them."""
        if not may_be_unfound(self._outcome, self._test.family):
            return
        told = (a for finding in self._findings for a in accusations(finding) if a.of_discovery)
        for accusation in dict.fromkeys(a._replace(leg=None) for a in told):
            if accusation.node in self._pair:
                is_destination = accusation.node == self._pair[1]
                yield unfound(accusation, Place.DESTINATION if is_destination else Place.SOURCE)


def _lost_at(outcome: Outcome) -> str | None:
    """The vantage point, or `path-forward`, `path-reply`, at which it was lost."""
    if outcome.verdict not in _BAD or outcome.leg is None or outcome.place is None:
        return None
    if outcome.hello is not None:  # the probes that are told here were not lost
        return None
    if outcome.place is Place.PATH:
        return f"path-{outcome.leg}"
    if outcome.leg is Leg.REPLY:
        return "received" if outcome.place is Place.SOURCE else "answered"
    if outcome.place is Place.DESTINATION:
        return "accepted"
    return "left" if _taken(outcome.evidence) else "sent"


def _taken(seen: Evidence) -> bool:
    """The source's kernel took more than its device sent."""
    return seen.sent is not None and seen.left is not None and seen.left < seen.sent


def _loss(outcome: Outcome, way: Way | None) -> str:
    """What is known of a loss on the path."""
    here = "some are lost here" if outcome.verdict is Verdict.LOSSY else "lost here"
    if outcome.cause is Cause.NO_NEIGHBOUR:
        return f"{here}: the next hop does not answer ARP or neighbour discovery"
    if way is not None and way.silent is not None:
        return f"{here}: nothing answers from TTL {way.silent} on"
    if way is not None and way.on_link:
        return f"{here}: one link, no router"
    return here


def _in_overlay(outcome: Outcome) -> Iterator[Step]:
    """One end tells of it: what left, and what came back."""
    sent, received = outcome.evidence.sent, outcome.evidence.received
    taken = "its kernel took it, by its own route to the other node's pods"
    refused = "its kernel did not take it"
    mark = Mark.PASSED if sent else Mark.UNKNOWN if sent is None else Mark.LOST
    text = "not known" if sent is None else taken if sent else refused
    yield Step(Leg.FORWARD, Place.SOURCE, "sent", sent, mark, text)
    through = Mark.PASSED if received else Mark.UNKNOWN if sent else Mark.NOTHING
    inside = "in the overlay, where nobody can watch"
    yield Step(Leg.FORWARD, Place.PATH, "", None, through, inside)
    if received is not None:
        whole = outcome.verdict is Verdict.OPEN
        mark = Mark.PASSED if whole else Mark.LOST if received else Mark.NOTHING
        text = "answers came" if received else "no answer came"
        yield Step(Leg.REPLY, Place.SOURCE, "received", received, mark, text)


def _tunnels(matrix: Matrix, source: int, destination: int) -> Iterator[str]:
    """What the underlay says of the tunnel that it travels in."""
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            if probe.kind not in (ProbeKind.GENEVE, ProbeKind.VXLAN):
                continue
            ways = ((source, destination), (destination, source))
            known = [matrix.outcome(matrix.index(f, p, *way)) for way in ways]
            there, back = ("not tested" if o is None else o.verdict for o in known)
            if any(known):
                what = f"{traffic(probe, family)} over {family.replace('ipv', 'IPv')}"
                yield f"Its tunnel, {what}, is {there} there and {back} back."
