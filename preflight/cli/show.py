"""`preflight show`: a saved snapshot, or a part of it, in any form."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from preflight.cli.options import (
    Colour,
    ColourOption,
    FamilyChoice,
    FamilyOption,
    ProbeNames,
    ReportFormatOption,
    Strict,
)
from preflight.cli.output import OutputFile, ready, schema_option
from preflight.core.model import Verdict
from preflight.report.formats import ReportFormat
from preflight.report.schema import snapshot_schema


def show(
    snapshot: Annotated[
        Path, typer.Argument(metavar="SNAPSHOT", help="What `check --output` saved.")
    ],
    form: ReportFormatOption = ReportFormat.TABLE,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Only cells from this node; may be given again."),
    ] = None,
    destination: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Only cells to this node; may be given again."),
    ] = None,
    probe: ProbeNames = None,
    verdict: Annotated[
        list[Verdict] | None,
        typer.Option(help="Only cells of this verdict; may be given again."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only pairs with a node that carries this label; given again: all of them.",
        ),
    ] = None,
    family: FamilyOption = FamilyChoice.ALL,
    full: Annotated[
        bool, typer.Option("--full", help="Leave nothing out for shortness (markdown).")
    ] = False,
    output: OutputFile = None,
    colour: ColourOption = Colour.AUTO,
    strict: Strict = False,
    schema: Annotated[bool, schema_option(snapshot_schema)] = False,
) -> int:
    """Print a saved snapshot: the matrix, what is not open and why, and what to change.

    Exits as the check did whose snapshot it is, whatever a filter leaves out: 0, 1, 3 or 4, and
    130 where that was interrupted.
    """
    del schema
    from preflight.cli.picking import family_of, label_of, node_of, probes_of
    from preflight.cli.running import code_of
    from preflight.cli.running import show as write
    from preflight.core.view import Filter, view
    from preflight.store import load

    ready(output, snapshot)
    known = load(snapshot)
    matrix = known.matrix
    wanted = Filter(
        sources=[node_of(matrix, name, snapshot) for name in source or ()],
        destinations=[node_of(matrix, name, snapshot) for name in destination or ()],
        probes=probes_of(matrix, probe, snapshot) if probe else (),
        families=family_of(matrix, family.family(), snapshot),
        verdicts=list(verdict or ()),
        labels=[label_of(matrix, text, snapshot) for text in label or ()],
    )
    shown = view(known, wanted)
    if shown.words and not form.for_people:
        sys.stderr.write(f"{shown.told}\n")
    write(shown, form, colour, strict=strict, full=full, output=output)
    return code_of(known, strict=strict)
