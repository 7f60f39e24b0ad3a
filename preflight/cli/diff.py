"""`preflight diff`: two saved snapshots compared."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from preflight.cli.options import Colour, ColourOption, Strict
from preflight.cli.output import OutputFile, ready, schema_option, written
from preflight.errors import UsageError
from preflight.report.schema import diff_schema

if TYPE_CHECKING:
    from preflight.core.diff.model import Diff


class Form(StrEnum):
    """How a comparison is written to standard output."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    JUNIT = "junit"


def diff(
    before: Annotated[
        Path, typer.Argument(metavar="BEFORE", help="What `check --output` saved first.")
    ],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="What it saved later.")],
    form: Annotated[Form, typer.Option("--format", help="Of the comparison.")] = Form.TABLE,
    cells: Annotated[
        bool,
        typer.Option("--cells", help="List each cell too that is not open in both (table, json)."),
    ] = False,
    output: OutputFile = None,
    colour: ColourOption = Colour.AUTO,
    strict: Strict = False,
    schema: Annotated[bool, schema_option(diff_schema)] = False,
) -> int:
    """Say what got worse between two runs, what was mended, and what is still to be changed."""
    del schema
    from preflight.core.diff.compare import compare
    from preflight.core.diff.exitcode import exit_code
    from preflight.store import load

    if cells and form not in (Form.TABLE, Form.JSON):
        raise UsageError("--cells goes with --format table and --format json")
    ready(output, before, after)
    first, second = load(before), load(after)
    found = compare(first, second)
    if not any(not pairing.came and not pairing.went for pairing in found.nodes):
        raise UsageError(
            f"{before} and {after} have no node in common, neither by name nor by address: "
            "these are runs of different clusters"
        )
    files = (str(before), str(after))

    def tell(file: TextIO) -> None:
        _tell(found, files, form, colour, file, cells=cells, strict=strict)

    written(output, tell, utf8=form is not Form.TABLE)
    return int(exit_code(found, strict=strict))


def _tell(
    found: "Diff",
    files: tuple[str, str],
    form: Form,
    colour: Colour,
    file: TextIO,
    *,
    cells: bool,
    strict: bool,
) -> None:
    if form is Form.JSON:
        from preflight.report.diff.json import dump

        dump(found, files, cells=cells, file=file)
    elif form is Form.MARKDOWN:
        from preflight.report.diff.markdown import write

        write(found, files, file)
    elif form is Form.JUNIT:
        from preflight.report.diff.junit import write as write_cases

        write_cases(found, strict=strict, file=file)
    elif form is Form.HTML:
        from preflight.report.html import render_diff

        render_diff(found, file)
    else:
        from preflight.report.diff.table import render
        from preflight.report.terminal import coloured, width

        color = coloured(colour, file)
        render(found, files, cells=cells, width=width(), color=color, file=file)
