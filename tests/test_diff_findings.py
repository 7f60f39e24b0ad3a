"""Findings through two runs: which are the same cause, and what became of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    Fault,
    blocked,
    sample,
)

from preflight.core.diagnosis.conclusions import Diagnosis, Path, Router, Size
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.diff.compare import compare
from preflight.core.diff.model import Course, Diff, FindingChange
from preflight.core.diff.turns import Turn
from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.model import Cause as CellCause
from preflight.core.model import Leg, Outcome, Place, Severity, Verdict
from preflight.core.snapshot import Snapshot

CUT = Outcome(Verdict.UNKNOWN, cause=CellCause.INTERRUPTED)


def run(*faults: Fault, nodes: int = 6) -> Snapshot:
    """A run with the findings that a check would make of it without a closer look."""
    made = sample(nodes, 2, faults)
    return replace(made, findings=tuple(findings(made.matrix, groups(made.matrix))))


def later(of: Snapshot) -> Snapshot:
    return replace(of, started="2026-03-01T03:00:00Z", finished="2026-03-01T03:00:09Z")


def told(before: Snapshot, after: Snapshot) -> list[FindingChange]:
    diff = compare(before, later(after))
    each = [f for change in diff.findings for f in change.before]
    # Every finding of both runs is somewhere, and AFTER's exactly once.
    assert {f.title for f in each} == {f.title for f in before.findings} or any(
        change.course is Course.NEW for change in diff.findings
    )
    now = [change.after for change in diff.findings if change.after is not None]
    assert sorted(f.identifier for f in now) == sorted(f.identifier for f in after.findings)
    return list(diff.findings)


RACKS = Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")
NODE = Fault(DROPPED_AT_DESTINATION, "*", "n2", "health")


@pytest.mark.parametrize(
    ("before", "after", "course", "cells"),
    [
        ([RACKS], [RACKS], Course.SAME, {Turn.STILL: 9}),
        ([], [RACKS], Course.NEW, {Turn.BROKEN: 9}),
        ([RACKS], [], Course.MENDED, {Turn.MENDED: 9}),
        (
            [RACKS],
            [Fault(DROPPED_ON_PATH, "rack=a", "n4", "geneve")],
            Course.NARROWER,
            {Turn.STILL: 3, Turn.MENDED: 6},
        ),
        (
            [Fault(DROPPED_ON_PATH, "rack=a", "n4", "geneve")],
            [RACKS],
            Course.WIDER,
            {Turn.STILL: 3, Turn.BROKEN: 6},
        ),
        (
            [RACKS],
            [Fault(DROPPED_AT_DESTINATION, "rack=a", "rack=b", "geneve")],
            Course.CHANGED,
            {Turn.OTHERWISE: 9},
        ),
        (
            [RACKS],
            [Fault(blocked(Place.PATH, cause=CellCause.REJECTED, rejected_by="10.9.0.1"),
                   "rack=a", "rack=b", "geneve")],
            Course.CHANGED,
            {Turn.OTHERWISE: 9},
        ),
        (
            [Fault(LOSSY, "n1", "n2", "geneve")],
            [Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")],
            Course.WORSE,
            {Turn.WORSE: 1},
        ),
        ([Fault(CUT, "rack=a", "rack=b", "geneve")], [RACKS], Course.REVEALED, {Turn.REVEALED: 9}),
        ([Fault(CUT, "rack=a", "*")], [], Course.CLEARED, {Turn.CLEARED: 45}),
        ([RACKS], [Fault(CUT, "rack=a", "rack=b", "geneve")], Course.LOST, {Turn.LOST: 9}),
        ([], [Fault(NO_AGENT, "*", "n6", "geneve")], Course.LOST, {Turn.LOST: 5}),
        ([RACKS], [Fault(None, "rack=a", "rack=b", "geneve")], Course.LOST, {Turn.ONLY_BEFORE: 9}),
        (
            [Fault(None, "rack=a", "rack=b", "geneve")], [RACKS], Course.REVEALED,
            {Turn.ONLY_AFTER: 9},
        ),
        ([Fault(NO_AGENT, "*", "n6")], [Fault(NO_AGENT, "*", "n6")], Course.SAME,
         {Turn.UNKNOWN: 15}),
    ],
)  # fmt: skip
def test_one_finding_takes_its_course(
    before: list[Fault], after: list[Fault], course: Course, cells: dict[Turn, int]
) -> None:
    (change,) = told(run(*before), run(*after))
    assert change.course is course
    assert change.cells == cells


def test_what_is_still_bad_keeps_its_remedy() -> None:
    before, after = run(RACKS), run(RACKS)
    (change,) = told(before, after)
    assert change.after == after.findings[0]
    assert change.after.requests
    assert change.before == before.findings


def test_a_new_fault_over_an_old_one_says_so() -> None:
    everywhere = Fault(DROPPED_AT_DESTINATION, "*", "n4", "geneve")
    new, mended = told(run(RACKS), run(everywhere))
    assert (new.course, new.before) == (Course.NEW, ())
    assert new.cells == {Turn.BROKEN: 2, Turn.OTHERWISE: 3}
    assert new.differences == ("3 cells of it were bad before, as BEFORE's F1",)
    assert mended.course is Course.CHANGED
    assert mended.cells == {Turn.MENDED: 6, Turn.OTHERWISE: 3}
    assert mended.differences == ("3 cells of it are bad now, as AFTER's F1",)


def test_the_same_fault_elsewhere_is_another_one() -> None:
    other = Fault(DROPPED_AT_DESTINATION, "*", "n5", "health")
    new, mended = told(run(NODE), run(other))
    assert (new.course, mended.course) == (Course.NEW, Course.MENDED)


def test_what_is_worse_comes_first_and_what_is_required_before_what_is_not() -> None:
    before = run(RACKS)
    after = run(NODE, Fault(DROPPED_ON_PATH, "n1", "n3", "geneve"))
    courses = [(c.course, c.severity) for c in told(before, after)]
    assert courses == [
        (Course.NEW, Severity.REQUIRED),
        (Course.NEW, Severity.RECOMMENDED),
        (Course.MENDED, Severity.REQUIRED),
    ]


def test_a_node_that_went_takes_its_findings_along() -> None:
    before = run(Fault(DROPPED_AT_DESTINATION, "*", "n6", "geneve"))
    after = run(nodes=5)
    (change,) = compare(before, later(after)).findings
    assert (change.course, change.cells) == (Course.GONE, {Turn.WENT: 5})


def test_files_without_findings_are_compared_by_their_cells() -> None:
    bare = replace(run(RACKS), findings=())
    (change,) = compare(bare, later(run(RACKS))).findings
    assert (change.course, change.before) == (Course.SAME, ())
    (change,) = compare(run(RACKS), later(bare)).findings
    assert (change.course, change.after) == (Course.SAME, None)
    assert compare(bare, later(bare)).findings == ()


# --- what closer looks found ------------------------------------------------------------------

RULE = Rule(
    tool="nft", family="inet", table="filter", chain="input", handle=12, position=0, policy=False,
    text="udp dport 6081 counter packets 176 bytes 13000 drop", comment="", rejects=False,
    hook="input", path=(), sure=True,
)  # fmt: skip


def looked(of: Snapshot, cause: Cause | None = None, **diagnosis: Any) -> Snapshot:
    """Its only finding with a closer look."""
    (finding,) = of.findings
    made: Finding = finding._replace(diagnosis=Diagnosis(**diagnosis), cause=cause or finding.cause)
    return replace(of, findings=(made,))


def ruled(rule: Rule, *faults: Fault) -> Snapshot:
    of = run(*(faults or (NODE,)))
    hit = RuleHit(1, Leg.FORWARD, frozenset({1, 2}), rule)
    made = looked(of, Cause.RULE, hits=(hit,))
    title = f'n2 itself drops TCP 4240: nftables rule "{rule.text}" (handle {rule.handle})'
    return replace(made, findings=(made.findings[0]._replace(title=title),))


def test_counters_and_handles_make_no_difference() -> None:
    other = RULE._replace(
        handle=99, text="udp dport 6081 counter packets 9 bytes 700 drop", position=3
    )
    (change,) = told(ruled(RULE), ruled(other))
    assert (change.course, change.differences) == (Course.SAME, ())


def test_another_rule_for_the_same_cells_is_a_change() -> None:
    other = RULE._replace(text="meta l4proto udp drop")
    (change,) = told(ruled(RULE), ruled(other))
    assert change.course is Course.CHANGED
    assert change.differences[0].startswith("before: n2 itself drops")


def test_a_rule_that_was_not_known_before_may_be_the_same() -> None:
    (change,) = told(run(NODE), ruled(RULE))
    assert change.course is Course.SAME
    assert change.differences == ("before: all → n2: the destination itself throws away TCP 4240",)


def sized(largest: int, lost: int) -> Snapshot:
    lossy = Fault(LOSSY._replace(cause=CellCause.SIZE), "rack=a", "rack=b", "geneve")
    return looked(run(lossy), Cause.SIZE, size=Size(largest, lost, None, 1500, True, None, None))


def test_a_path_mtu_that_moved() -> None:
    diff = compare(sized(1400, 1401), later(sized(1372, 1373)))
    (move,) = diff.mtu
    assert (move.where, move.before, move.after) == ("rack=a → rack=b", 1400, 1372)
    (change,) = diff.findings
    assert change.course is Course.CHANGED
    assert change.differences == (
        "the largest packet that gets through has 1372 bytes, 1400 before",
    )


def test_sizes_of_two_pairs_make_no_other_fault() -> None:
    other = sized(1300, 1301)
    other = replace(other, findings=(other.findings[0]._replace(sample=(2, 5)),))
    diff = compare(sized(1400, 1401), later(other))
    assert (diff.findings[0].course, diff.findings[0].differences) == (Course.SAME, ())
    # Both pairs are in both findings, so that the block's MTU is told all the same.
    assert [(move.before, move.after) for move in diff.mtu] == [(1400, 1300)]


@pytest.mark.parametrize("sizes", [((1400, 1420), (1410, 1430)), ((1400, 0), (1300, 0)),
                                   ((1400, 1401), (1400, 1401))])  # fmt: skip
def test_a_search_that_ended_elsewhere_is_no_move(sizes: tuple[tuple[int, int], ...]) -> None:
    diff = compare(sized(*sizes[0]), later(sized(*sizes[1])))
    assert diff.mtu == ()
    assert diff.findings[0].course is Course.SAME


def test_a_path_mtu_that_came_or_went() -> None:
    (move,) = compare(run(), later(sized(1400, 1401))).mtu
    assert (move.before, move.after) == (None, 1400)
    (move,) = compare(sized(1400, 1401), later(run())).mtu
    assert (move.before, move.after) == (1400, None)
    # Nobody looked there before, or looks there now.
    cut = run(Fault(CUT, "rack=a", "*"))
    assert compare(cut, later(sized(1400, 1401))).mtu == ()
    assert compare(sized(1400, 1401), later(cut)).mtu == ()


def pathed(router: str, sample_: tuple[int, int]) -> Snapshot:
    made = looked(run(RACKS), path=Path((Router(1, router),), 2, 1, False))
    return replace(made, findings=(made.findings[0]._replace(sample=sample_),))


def test_hops_are_compared_for_one_pair_alone() -> None:
    (change,) = told(pathed("10.0.9.1", (0, 3)), pathed("10.0.9.2", (0, 3)))
    assert change.course is Course.SAME
    assert change.differences == (
        "the last router that answers was 10.0.9.1 (hop 1), and is 10.0.9.2 (hop 1)",
    )
    (change,) = told(pathed("10.0.9.1", (0, 3)), pathed("10.0.9.2", (1, 4)))
    assert change.differences == ()


def hazard(title: str) -> Finding:
    return run(NODE).findings[0]._replace(
        cause=Cause.HAZARD, title=title, kinds=(), tests=(), blocks=(), pairs=0, cells=0,
        nodes=(1,), sample=None,
    )  # fmt: skip


def test_hazards_go_by_what_they_say() -> None:
    def with_(*titles: str) -> Snapshot:
        return replace(run(), findings=tuple(map(hazard, titles)))

    def courses(diff: Diff) -> list[Course]:
        return [change.course for change in diff.findings]

    full = "n2's connection table is {} % full"
    assert courses(compare(with_(full.format(95)), later(with_(full.format(91))))) == [Course.SAME]
    assert courses(compare(with_("n2 has no route"), later(with_("n2 ignores pings")))) == [
        Course.REVEALED,
        Course.GONE,
    ]
