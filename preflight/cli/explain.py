"""`preflight explain`: one pair of a saved snapshot, told as a story."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TextIO

import typer

from preflight.cli.options import (
    Colour,
    ColourOption,
    FamilyChoice,
    FamilyOption,
    Format,
    FormatOption,
    ProbeNames,
    Strict,
)
from preflight.cli.output import OutputFile, ready, written
from preflight.cli.picking import node_of, probes_of
from preflight.core.groups import FamilyProbe
from preflight.core.matrix import Matrix
from preflight.errors import UsageError
from preflight.report.text import clean


def explain(
    snapshot: Annotated[
        Path, typer.Argument(metavar="SNAPSHOT", help="What `check --output` saved.")
    ],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A node's name or address.")],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Another's.")],
    probe: ProbeNames = None,
    family: FamilyOption = FamilyChoice.ALL,
    format_: FormatOption = Format.TABLE,
    output: OutputFile = None,
    colour: ColourOption = Colour.AUTO,
    strict: Strict = False,
) -> int:
    """Say what was seen of one pair at each point of the way, what follows, and what to change."""
    from preflight.cli.running import code_of
    from preflight.report import explain as report
    from preflight.report.terminal import coloured, width
    from preflight.store import load

    ready(output, snapshot)
    known = load(snapshot)
    matrix = known.matrix
    pair = (node_of(matrix, source, snapshot), node_of(matrix, destination, snapshot))
    if pair[0] == pair[1]:
        raise UsageError(f"{clean(source)} to itself: a pair is two nodes")
    tests = _tests(matrix, pair, probes_of(matrix, probe, snapshot), family)
    if not tests:
        raise UsageError(
            f"{snapshot}: {clean(source)} → {clean(destination)} was not tested with that"
        )

    def tell(file: TextIO) -> None:
        if format_ is Format.JSON:
            report.dump(known, pair, tests, file)
        else:
            color = coloured(colour, file)
            report.render(known, pair, tests, width=width(), color=color, file=file)

    written(output, tell, utf8=format_ is Format.JSON)
    return code_of(known, strict=strict)


def _tests(
    matrix: Matrix, pair: tuple[int, int], probes: Sequence[int], family: FamilyChoice
) -> list[FamilyProbe]:
    """Those that were planned for the pair."""
    return [
        FamilyProbe(probe, of)
        for position, of in enumerate(matrix.families)
        for probe in probes
        if family.family() in (None, of)
        and matrix.outcome(matrix.index(position, probe, *pair)) is not None
    ]
