"""The findings of both runs side by side: which are the same cause, and what became of each.

Rules of this file:

1. Findings of both runs are the same one where cause and culprit agree, as far as both know them,
   and they have a cell in common. Counters, rule handles, positions, times and numbers of probes
   are never looked at.
2. What a closer look found (a hop, a flow, a size) is compared only where both looked at one pair.
3. What became of a finding is what became of its cells. A finding without cells, a hazard, is only
   there or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Size
from preflight.core.diff.model import Course, FindingChange
from preflight.core.diff.turns import BETTERED, LOST, STILL_BAD, WORSENED, Turn
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import FamilyProbe
from preflight.core.model import Severity
from preflight.core.terms import listed, plural

Rows = Mapping[int, int]  # for each source the set of its destinations
Area = Mapping[FamilyProbe, Rows]

_UNKNOWN = frozenset({Cause.NO_AGENT, Cause.NOT_WATCHED, Cause.INTERRUPTED})
# What a cause is called where no closer look knew better, and what it may turn out to be.
_VAGUE: Mapping[Cause, frozenset[Cause]] = {
    Cause.NODE_FIREWALL: frozenset({Cause.RULE, Cause.KERNEL}),
    Cause.NETWORK: frozenset({Cause.INSPECTION, Cause.TRANSLATION}),
    Cause.LOSS: frozenset({Cause.FLOWS, Cause.RATE_LIMIT}),
}
_COUNTERS = re.compile(r"\bcounter packets \d+ bytes \d+\b|\[\d+:\d+\]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_IMPORTANCE = list(Course)


class Known(NamedTuple):
    """One finding under the numbers of the diff."""

    finding: Finding
    nodes: frozenset[int]
    sample: tuple[int, int] | None
    area: Area


class Ledger(NamedTuple):
    """The cells of both runs, for each test by source."""

    turns: Mapping[FamilyProbe, Mapping[Turn, Rows]]  # but for those open in both
    bad: tuple[Area, Area]  # not open in each run, unknown ones too


def known(
    findings: Sequence[Finding],
    positions: Sequence[int],
    tests: Mapping[FamilyProbe, FamilyProbe],
    bad: Area,
) -> list[Known]:
    """One run's findings; `positions` and `tests` give the diff's number for each of the run's."""
    return [
        Known(
            finding,
            frozenset(positions[node] for node in finding.nodes),
            None if finding.sample is None else _both(finding.sample, positions),
            _area(finding, positions, tests, bad),
        )
        for finding in findings
    ]


def _both(pair: tuple[int, int], positions: Sequence[int]) -> tuple[int, int]:
    return positions[pair[0]], positions[pair[1]]


def _area(
    finding: Finding,
    positions: Sequence[int],
    tests: Mapping[FamilyProbe, FamilyProbe],
    bad: Area,
) -> Area:
    area: dict[FamilyProbe, dict[int, int]] = {}
    for block in finding.blocks:
        sources = [positions[node] for node in block.sources]
        destinations = [positions[node] for node in block.destinations]
        for test in block.tests or finding.tests:
            own = bad.get(tests[test], {})
            rows = area.setdefault(tests[test], {})
            _join(rows, own, sources, destinations)
            if block.both_ways:
                _join(rows, own, destinations, sources)
    return {test: rows for test, rows in area.items() if rows}


def _join(rows: dict[int, int], bad: Rows, sources: Sequence[int], to: Sequence[int]) -> None:
    there = sum(1 << destination for destination in set(to))
    for source in sources:
        if row := bad.get(source, 0) & there:
            rows[source] = rows.get(source, 0) | row


def compare(
    before: Sequence[Known],
    after: Sequence[Known],
    ledger: Ledger,
) -> tuple[FindingChange, ...]:
    """What became of every finding of both runs, what matters most first."""
    taken: set[int] = set()
    found = []
    meeting = _meeting(before, after)
    back: dict[int, list[Finding]] = {}
    for now, those in zip(after, meeting, strict=True):
        met = [before[i] for i in those]
        same = [i for i in those if _same(before[i], now)]
        change = _after(now, [before[i] for i in same], met, ledger)
        if change.before:
            taken.update(same or those)
        for i in those:
            back.setdefault(i, []).append(now.finding)
        found.append(change)
    found += [
        _before(was, ledger, back.get(i, ())) for i, was in enumerate(before) if i not in taken
    ]
    return tuple(sorted(found, key=_order))


def _meeting(before: Sequence[Known], after: Sequence[Known]) -> Iterator[list[int]]:
    """For each finding of AFTER those of BEFORE with which it has a cell in common.

    Findings without cells meet where they say the same of the same nodes.
    """
    here: dict[tuple[FamilyProbe, int], list[tuple[int, int]]] = {}
    saying: dict[object, list[int]] = {}
    for i, was in enumerate(before):
        for test, rows in was.area.items():
            for source, row in rows.items():
                here.setdefault((test, source), []).append((i, row))
        if not was.area:
            saying.setdefault((_said(was.finding), was.nodes), []).append(i)
    for now in after:
        if not now.area:
            yield saying.get((_said(now.finding), now.nodes), [])
            continue
        met = {
            i
            for test, rows in now.area.items()
            for source, row in rows.items()
            for i, own in here.get((test, source), ())
            if own & row
        }
        yield sorted(met)


def _order(change: FindingChange) -> tuple[int, bool, int]:
    return (
        _IMPORTANCE.index(change.course),
        change.severity is not Severity.REQUIRED,
        -sum(change.cells.values()),
    )


def _said(finding: Finding) -> tuple[Cause, str]:
    """A title without what may move from run to run."""
    return finding.cause, _NUMBER.sub("#", finding.title)


def _same(was: Known, now: Known) -> bool:
    """Whether the causes agree, as far as both are known."""
    causes = was.finding.cause, now.finding.cause
    if causes[0] is not causes[1] and not (
        causes[1] in _VAGUE.get(causes[0], ()) or causes[0] in _VAGUE.get(causes[1], ())
    ):
        return False
    one, other = _culprit(was), _culprit(now)
    if not all(one[part] & other[part] for part in one.keys() & other.keys()):
        return False
    places = [{(kind.leg, kind.place) for kind in known.finding.kinds} for known in (was, now)]
    unknown = any(place is None for own in places for _, place in own)
    return unknown or not all(places) or bool(places[0] & places[1])


def _culprit(about: Known) -> dict[object, frozenset[object]]:
    """What is known of who did it; parts that both runs know must have something in common."""
    parts: dict[object, frozenset[object]] = {}
    finding, diagnosis = about.finding, about.finding.diagnosis
    if finding.nodes:
        parts["nodes"] = about.nodes
    if diagnosis is None:
        return parts
    rules = frozenset(
        (hit.leg, rule.tool, rule.family, rule.table, rule.chain, rule.policy,
         _COUNTERS.sub("", rule.text))
        for hit in diagnosis.hits
        if (rule := hit.rule).sure and (rule.text or rule.policy)
    )  # fmt: skip
    if rules:
        parts["rules"] = rules
    if diagnosis.kernel is not None:
        parts["kernel"] = frozenset([diagnosis.kernel.reason])
    if finding.cause is Cause.INSPECTION and diagnosis.content is not None:
        parts["content", about.sample] = frozenset([diagnosis.content.pattern])
    if finding.cause is Cause.TRANSLATION and diagnosis.rewrites:
        parts["rewrites", about.sample] = frozenset(r.field for r in diagnosis.rewrites)
    return parts


def _after(
    now: Known,
    same: Sequence[Known],
    met: Sequence[Known],
    ledger: Ledger,
) -> FindingChange:
    former = list(same or met)
    own = _turned([now.area], ledger)
    cells = _turned([known.area for known in (now, *former)], ledger)
    unknown = now.finding.cause in _UNKNOWN
    course, told = Course.SAME, former
    if unknown and own.keys() & LOST:
        course = Course.LOST
    elif same:
        course = _of_same(own, cells)
    elif Turn.WORSE in own and met and Turn.BROKEN not in own:
        course = Course.WORSE
    elif own.keys() & WORSENED:
        course, told = Course.NEW, []
    elif own.keys() & (STILL_BAD - WORSENED) and met:
        course = Course.CHANGED
    elif own and not own.keys() & (STILL_BAD | {Turn.UNKNOWN}):
        course, told = Course.REVEALED, [k for k in former if k.finding.cause in _UNKNOWN]
    elif not own:  # a hazard, or nothing that this matrix has
        course = Course.REVEALED if not met else Course.SAME
    elif Turn.OTHERWISE in own:
        course = Course.CHANGED
    if course is Course.NEW:
        cells = own
    if course is Course.SAME and any(any(_otherwise(known, now)) for known in told):
        course = Course.CHANGED
    return FindingChange(
        course,
        now.finding.severity,
        tuple(known.finding for known in told),
        now.finding,
        cells,
        tuple(_differences(now, told, met, own, course)),
    )


def _of_same(own: Mapping[Turn, int], cells: Mapping[Turn, int]) -> Course:
    if own.keys() & WORSENED:
        return Course.WIDER
    if Turn.OTHERWISE in own:
        return Course.CHANGED
    if cells.keys() & (BETTERED | {Turn.CLEARED}):
        return Course.NARROWER
    return Course.SAME


def _before(was: Known, ledger: Ledger, now: Sequence[Finding]) -> FindingChange:
    """A finding that no finding after is."""
    cells = _turned([was.area], ledger)
    turns = cells.keys() - {Turn.WENT}
    differences = []
    if not turns:
        course = Course.GONE
    elif was.finding.cause in _UNKNOWN and not turns & {Turn.UNKNOWN, Turn.LOST}:
        course = Course.CLEARED
    elif turns & LOST:
        course = Course.LOST
    elif turns <= {Turn.MENDED}:
        course = Course.MENDED
    elif turns & WORSENED or turns <= {Turn.STILL, Turn.UNKNOWN}:
        course = Course.CHANGED if now else Course.SAME
    else:
        course = Course.CHANGED
    left = sum(cells.get(turn, 0) for turn in (*STILL_BAD, Turn.REVEALED))
    if left and now:
        names = listed(f"AFTER's {finding.identifier}" for finding in now)
        differences.append(f"{plural(left, 'cell')} of it {_are(left)} bad now, as {names}")
    return FindingChange(
        course, was.finding.severity, (was.finding,), None, cells, tuple(differences)
    )


def _turned(areas: Sequence[Area], ledger: Ledger) -> dict[Turn, int]:
    """How many cells of these areas together turned how."""
    whole: dict[FamilyProbe, dict[int, int]] = {}
    for area in areas:
        for test, rows in area.items():
            joined = whole.setdefault(test, {})
            for source, row in rows.items():
                joined[source] = joined.get(source, 0) | row
    counts: dict[Turn, int] = {}
    for test, rows in whole.items():
        for turn, turned in ledger.turns.get(test, {}).items():
            number = sum((row & turned.get(s, 0)).bit_count() for s, row in rows.items())
            if number:
                counts[turn] = counts.get(turn, 0) + number
    return counts


def _differences(
    now: Known,
    told: Sequence[Known],
    met: Sequence[Known],
    own: Mapping[Turn, int],
    course: Course,
) -> Iterator[str]:
    for was in told:
        if _said(was.finding) != _said(now.finding):
            yield f"before: {was.finding.title}"
        yield from _looked(was, now)
    still = sum(own.get(turn, 0) for turn in STILL_BAD)
    if course is Course.NEW and still and met:
        which = listed(f"BEFORE's {known.finding.identifier}" for known in met)
        yield f"{plural(still, 'cell')} of it {_were(still)} bad before, as {which}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _looked(was: Known, now: Known) -> Iterator[str]:
    """What closer looks at one pair found, where both found something and it differs."""
    yield from _otherwise(was, now)
    if was.sample != now.sample:
        return
    diagnoses = [known.finding.diagnosis for known in (was, now)]
    paths = [diagnosis.path for diagnosis in diagnoses if diagnosis is not None]
    ends = [path.routers[-1] for path in paths if path and path.routers and path.silent]
    if len(ends) == 2 and ends[0].address != ends[1].address:
        first, last = (f"{router.address} (hop {router.ttl})" for router in ends)
        yield f"the last router that answers was {first}, and is {last}"


def _otherwise(was: Known, now: Known) -> Iterator[str]:
    """What makes it another fault of the same cause."""
    old, new = was.finding.diagnosis, now.finding.diagnosis
    if old is None or new is None or was.sample != now.sample:
        return
    if old.size is not None and new.size is not None and apart(old.size, new.size):
        yield (
            f"the largest packet that gets through has {new.size.largest} bytes, "
            f"{old.size.largest} before"
        )
    if (
        old.flows is not None
        and new.flows is not None
        and old.flows.pattern is not new.flows.pattern
    ):
        yield f"its flows: {old.flows.pattern} before, {new.flows.pattern} now"


def apart(one: Size, other: Size) -> bool:
    """Whether one got through what the other lost: it is not just another end of the search."""
    return 0 < one.smallest_lost <= other.largest or 0 < other.smallest_lost <= one.largest
