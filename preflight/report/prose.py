"""What stands below the matrix: nodes that could not be used, causes, notes. Wrapped by rich.

A clean run has none of it, and then neither this module nor rich is imported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import AgentState, Severity, Verdict
from preflight.core.naming import Naming
from preflight.core.snapshot import Snapshot
from preflight.report import words
from preflight.report.text import clean, plural

_CAUSES = 24  # told at most; what is left is counted
_BLOCKS = 8  # of one cause
_NAME = 40  # cells for a name beside its reason; longer ones are folded
_ALL = "--format json has every cell"
_STYLES = {
    "plain": Style(bold=False),
    "bad": Style(color="red", bold=True),
    "warn": Style(color="yellow", bold=True),
    "unknown": Style(color="cyan", bold=True),
    "head": Style(bold=True),
    "dim": Style(dim=True),
}


def prose(
    snapshot: Snapshot,
    shortened: Mapping[str, str],
    involved: Collection[int],
    width: int,
    *,
    color: bool,
) -> list[str]:
    """Everything that needs sentences, in lines of at most `width`.

    `shortened` are names that the matrix shows in part, by their row's number; `involved` the
    nodes that are in some planned pair.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    for part in _parts(snapshot, shortened, involved):
        console.print(part)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _parts(
    snapshot: Snapshot, shortened: Mapping[str, str], involved: Collection[int]
) -> Iterator[RenderableType]:
    if shortened:
        yield _table(list(shortened.items()))
        yield ""
    unusable = _unusable(snapshot, involved)
    if unusable:
        yield Text("Nodes without an agent", _STYLES["head"])
        yield _indented(_table(unusable), 2)
        yield ""
    found = groups(snapshot.matrix)
    if found:
        yield Text("Not open, and why", _STYLES["head"])
        yield from _causes(found, snapshot.matrix)
    if snapshot.notes:
        yield Text("Notes", _STYLES["head"])
        yield _indented(_table([("-", note) for note in snapshot.notes]), 2)
        yield ""


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """Columns as wide as their text, the last one wrapped."""
    table = Table.grid(padding=(0, 2, 0, 0))
    *first, _ = rows[0]
    for _ in first:
        table.add_column(overflow="fold", max_width=_NAME)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _indented(what: RenderableType, by: int) -> Padding:
    return Padding(what, (0, 0, 0, by))


def _unusable(snapshot: Snapshot, involved: Collection[int]) -> list[tuple[str, str, str]]:
    """Node, state and reason; nodes that share both share a row."""
    nodes: dict[tuple[AgentState, str], int] = {}
    for position, agent in enumerate(snapshot.agents):
        if agent.state is AgentState.OK or position not in involved:
            continue
        key = (agent.state, agent.reason or "")
        nodes[key] = nodes.get(key, 0) | 1 << position
    naming = Naming(snapshot.matrix.nodes)
    return [
        (naming.whole(which), words.STATES[state], reason)
        for (state, reason), which in nodes.items()
    ]


def _causes(found: Sequence[Group], matrix: Matrix) -> Iterator[RenderableType]:
    """A paragraph for each cause, with the blocks of cells that it explains."""
    causes: dict[tuple[Kind, tuple[FamilyProbe, ...]], list[Group]] = {}
    for group in found:
        causes.setdefault((group.kind, group.tests), []).append(group)
    for blocks in islice(causes.values(), _CAUSES):
        yield from _cause(blocks, matrix)
    left = list(islice(causes.values(), _CAUSES, None))
    if left:
        cells = sum(block.cells for blocks in left for block in blocks)
        yield _indented(
            Text(f"and {plural(len(left), 'cause')} more, {plural(cells, 'cell')}: {_ALL}"), 2
        )
        yield ""


def _cause(blocks: Sequence[Group], matrix: Matrix) -> Iterator[RenderableType]:
    first = blocks[0]
    kind = first.kind
    who = words.rejecter(kind, matrix)
    tests = words.tests_in_words(first.tests, matrix)
    title = f"{tests}: {words.headline(kind, who)} ({first.severity})"
    yield _indented(Text(clean(title), _style(first)), 2)
    single = [block for block in blocks if block.pairs == 1]
    several = [block for block in blocks if block.pairs > 1]
    for block in several[:_BLOCKS]:
        yield _where(block.where, block.pairs)
    if single:
        text = ", ".join(block.where for block in single[: 2 * _BLOCKS])
        yield _where(text, min(len(single), 2 * _BLOCKS))
    left = several[_BLOCKS:] + single[2 * _BLOCKS :]
    if left:
        pairs = sum(block.pairs for block in left)
        yield _indented(Text(f"and {plural(pairs, 'pair')} more: {_ALL}"), 4)
    what = words.traffics(first.tests, matrix)
    advice = clean(words.remedy(kind, what, who))
    if advice:
        yield _indented(Text(advice), 4)
    if example := _example(first, matrix):
        yield _indented(Text(example, _STYLES["dim"]), 4)
    yield ""


def _where(text: str, pairs: int) -> Padding:
    where = Text(text, _STYLES["head"])
    return _indented(where.append(f"  {plural(pairs, 'pair')}", _STYLES["plain"]), 4)


def _style(group: Group) -> Style:
    if group.kind.verdict is Verdict.UNKNOWN:
        return _STYLES["unknown"]
    return _STYLES["bad" if group.severity is Severity.REQUIRED else "warn"]


def _example(group: Group, matrix: Matrix) -> str | None:
    """What was seen of one cell; None where nothing was."""
    cell = group.sample
    says = [seen] if (seen := words.evidence(cell.outcome.evidence)) else []
    if cell.outcome.detail:
        says.append(cell.outcome.detail)
    if not says:
        return None
    probe = matrix.probes[cell.probe].name
    over = f" over {cell.family}" if len(matrix.families) > 1 else ""
    which = f" ({probe}{over})" if len(group.tests) > 1 else ""
    source, destination = matrix.nodes[cell.source].name, matrix.nodes[cell.destination].name
    return clean(f"For example {source} → {destination}{which}: {'; '.join(says)}.")
