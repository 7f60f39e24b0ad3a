"""What a person is told about cells that turned, and about the two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.core.diff.model import Change, Course, Diff, FindingChange
from preflight.core.diff.notes import moment
from preflight.core.diff.turns import NOT_TESTED, Turn
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.model import Phase, Severity, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import listed, plural
from preflight.report import words

COURSES: Mapping[Course, str] = {
    Course.NEW: "new",
    Course.WIDER: "wider",
    Course.WORSE: "worse",
    Course.CHANGED: "changed",
    Course.REVEALED: "newly known",
    Course.LOST: "no longer known",
    Course.SAME: "unchanged",
    Course.NARROWER: "partly mended",
    Course.MENDED: "mended",
    Course.CLEARED: "known again",
    Course.GONE: "gone",
}


class Section(NamedTuple):
    """Findings and cells that a person asks for with one question."""

    title: str
    courses: tuple[Course, ...]
    turns: tuple[Turn, ...]


SECTIONS = (
    Section("Worse", (Course.NEW, Course.WIDER, Course.WORSE), (Turn.BROKEN, Turn.WORSE)),
    Section("Known before, and not now", (Course.LOST,), (Turn.LOST, Turn.ONLY_BEFORE)),
    Section("Not open, and not known before", (Course.REVEALED,), (Turn.REVEALED,)),
    Section(
        "Still not open",
        (Course.CHANGED, Course.NARROWER, Course.SAME),
        (Turn.OTHERWISE, Turn.EASED, Turn.STILL, Turn.UNKNOWN),
    ),
    Section("Mended", (Course.MENDED,), (Turn.MENDED,)),
    Section(
        "Known now, and not before",
        (Course.CLEARED,),
        (Turn.CLEARED, Turn.ONLY_AFTER, Turn.CAME),
    ),
    Section("No longer there", (Course.GONE,), ()),
)


def section(change: Change) -> Section:
    """Where a block of cells is told: what nobody knew before is bad, or it is not."""
    new = change.turn in (Turn.ONLY_AFTER, Turn.CAME)
    closed = change.after is not None and change.after.verdict is not Verdict.OPEN
    turn = Turn.REVEALED if new and closed else change.turn
    return next(s for s in SECTIONS if turn in s.turns)


def _newly_bad(change: Change) -> bool:
    bad = change.after is not None and change.after.verdict not in (Verdict.OPEN, Verdict.UNKNOWN)
    return bad and change.turn in (Turn.ONLY_AFTER, Turn.CAME)


def state(kind: Kind | None, diff: Diff) -> str:
    """`open`, `blocked on the path, dropped`, `not tested`."""
    if kind is None:
        return "not tested"
    if kind.verdict is Verdict.OPEN:
        return "open"
    who = words.rejecter(kind, diff.after.matrix)
    return words.headline(kind, who)


def turned(change: Change, diff: Diff) -> str:
    """`open → blocked on the path, dropped`."""
    after = state(change.after, diff)
    if change.turn is Turn.STILL:
        return f"{after}, as before"
    return f"{state(change.before, diff)} → {after}"


def pairs(change: Change, diff: Diff) -> str:
    """`3 pairs: geneve, health`."""
    return f"{plural(change.pairs, 'pair')}: {tests(change.tests, diff)}"


def tests(of: Sequence[FamilyProbe], diff: Diff) -> str:
    """`geneve, health`, with families only where the diff has more than one."""
    names = diff.probe_names
    families: dict[str, list[str]] = {}
    for test in of:
        families.setdefault(names[test.probe], []).append(str(test.family))
    if len(diff.families) == 1:
        return ", ".join(families)
    alike = {tuple(own) for own in families.values()}
    if len(alike) == 1:
        return f"{', '.join(families)} ({' + '.join(alike.pop())})"
    return ", ".join(f"{name} ({' + '.join(own)})" for name, own in families.items())


def run(snapshot: Snapshot) -> str:
    """`before Cilium, 2026-03-01T02:00:00Z, 4 nodes`."""
    phase = "before Cilium" if snapshot.phase is Phase.BEFORE else "with Cilium"
    nodes = plural(len(snapshot.matrix.nodes), "node")
    return f"{phase}, {snapshot.started}, {nodes}"


def later(diff: Diff) -> str:
    """`2 h 10 min later`; empty where the files do not say."""
    first, second = moment(diff.before.started), moment(diff.after.started)
    if first is None or second is None or first == second:
        return ""
    seconds = int(abs((second - first).total_seconds()))
    word = "later" if second > first else "EARLIER"
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"),
             (seconds % 60, "s")]  # fmt: skip
    told = [f"{number} {unit}" for number, unit in parts if number][:2]
    return f"{' '.join(told) or 'less than 1 s'} {word}"


def verdict_columns(diff: Diff) -> list[str]:
    """The verdicts that occur, `not-tested` last."""
    names = [*map(str, Verdict), NOT_TESTED]
    return [name for name in names if any(name in tally.verdicts for tally in diff.tallies)]


_GAINS = (
    ((Turn.BROKEN, Turn.WORSE), "got worse"),
    ((Turn.MENDED,), "mended"),
    ((Turn.EASED,), "eased"),
    ((Turn.STILL, Turn.OTHERWISE), "still bad"),
    ((Turn.LOST, Turn.ONLY_BEFORE), "known before and not now"),
    ((Turn.REVEALED,), "bad and not known before"),
)


def summary(diff: Diff, severity: Severity) -> tuple[str, str] | None:
    """One severity's cells in a sentence, and its style; None where it has no cell."""
    turns: dict[Turn, int] = {}
    for tally in diff.tallies:
        if tally.severity is severity:
            for turn, number in tally.turns.items():
                turns[turn] = turns.get(turn, 0) + number
    if not turns:
        return None
    newly = sum(
        change.pairs
        for change in diff.changes
        if _newly_bad(change)
        for test in change.tests
        if diff.probes[test.probe].severity is severity
    )
    if newly:
        turns[Turn.REVEALED] = turns.get(Turn.REVEALED, 0) + newly
    told: list[str] = []
    for of, word in _GAINS:
        number = sum(turns.get(turn, 0) for turn in of)
        if number:
            told.append(f"{plural(number, 'cell')} {word}" if not told else f"{number:,} {word}")
    style = "good"
    if turns.keys() & {Turn.BROKEN, Turn.WORSE}:
        style = "bad" if severity is Severity.REQUIRED else "warn"
    elif turns.keys() & {Turn.LOST, Turn.ONLY_BEFORE, Turn.REVEALED}:
        style = "unknown"
    if turns.keys() <= {Turn.SAME, Turn.CAME, Turn.WENT}:
        text = "open as before" if Turn.SAME in turns else "nothing to compare"
    else:
        text = listed(told) if told else "no cell known in both changed"
    if told and not turns.keys() & {Turn.BROKEN, Turn.WORSE}:
        text = f"nothing got worse; {text}"
    return f"{str(severity).capitalize()}: {text}.", style


def of_section(diff: Diff, section_: Section) -> tuple[list[FindingChange], list[Change]]:
    """What is told there; blocks of cells that are as before only where no finding tells them."""
    found = [change for change in diff.findings if change.course in section_.courses]
    blocks = [
        change
        for change in diff.changes
        if section(change) is section_ and not (change.turn in (Turn.STILL, Turn.UNKNOWN) and found)
    ]
    return found, blocks


def before_and_after(numbers: tuple[int, int] | None) -> str:
    """`14 → 25`; one number where they are equal, nothing where there is none."""
    if numbers is None or not any(numbers):
        return ""
    before, after = numbers
    return f"{before:,}" if before == after else f"{before:,} → {after:,}"


def size(of: int | None) -> str:
    """A path's MTU."""
    return "full size" if of is None else f"{of} bytes"
