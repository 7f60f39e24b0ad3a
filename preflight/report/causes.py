"""What is not open where nobody has looked for findings: alike cells together, and what that means.

So with files that an older version saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import Severity, Verdict
from preflight.core.terms import plural, traffics
from preflight.report import words
from preflight.report.writing import Writer

_CAUSES = 24  # told at most; what is left is counted
_BLOCKS = 8  # of one cause
_ALL = "--format json has every cell"


def tell_causes(
    paper: Writer, matrix: Matrix, found: Sequence[Group] | None = None, *, headed: bool = True
) -> None:
    """A paragraph for each cause, with the blocks of cells that it explains.

    `found` are the matrix's groups, where somebody has them already.
    """
    causes: dict[tuple[Kind, tuple[FamilyProbe, ...]], list[Group]] = {}
    for group in groups(matrix) if found is None else found:
        causes.setdefault((group.kind, group.tests), []).append(group)
    if causes and headed:
        paper.sentence(("Not open, and why", "head"))
    for blocks in islice(causes.values(), _CAUSES):
        _tell(paper, blocks, matrix)
    left = list(islice(causes.values(), _CAUSES, None))
    if left:
        cells = sum(block.cells for blocks in left for block in blocks)
        paper.sentence(
            f"and {plural(len(left), 'cause')} more, {plural(cells, 'cell')}: {_ALL}", indent=2
        )
        paper.gap()


def _tell(paper: Writer, blocks: Sequence[Group], matrix: Matrix) -> None:
    first = blocks[0]
    kind = first.kind
    who = words.rejecter(kind, matrix, first.sample.outcome)
    tests = words.tests_in_words(first.tests, matrix)
    title = f"{tests}: {words.headline(kind, who)} ({first.severity})"
    paper.sentence((title, _style(first)), indent=2)
    single = [block for block in blocks if block.pairs == 1]
    several = [block for block in blocks if block.pairs > 1]
    for block in several[:_BLOCKS]:
        _where(paper, block.where, block.pairs)
    if single:
        text = ", ".join(block.where for block in single[: 2 * _BLOCKS])
        _where(paper, text, min(len(single), 2 * _BLOCKS))
    left = several[_BLOCKS:] + single[2 * _BLOCKS :]
    if left:
        pairs = sum(block.pairs for block in left)
        paper.sentence(f"and {plural(pairs, 'pair')} more: {_ALL}", indent=4)
    advice = words.remedy(kind, traffics(first.tests, matrix.probes), who)
    if advice:
        paper.sentence(advice, indent=4)
    if example := _example(first, matrix):
        paper.sentence((example, "dim"), indent=4)
    paper.gap()


def _where(paper: Writer, text: str, pairs: int) -> None:
    paper.sentence((text, "head"), f"  {plural(pairs, 'pair')}", indent=4)


def _style(group: Group) -> str:
    if group.kind.verdict is Verdict.UNKNOWN:
        return "unknown"
    return "bad" if group.severity is Severity.REQUIRED else "warn"


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
    return f"For example {source} → {destination}{which}: {'; '.join(says)}."
