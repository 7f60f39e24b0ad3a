"""`preflight merge`: snapshots that were measured on separate machines as one."""

from pathlib import Path
from typing import Annotated

import typer

from preflight.cli.options import Colour, ColourOption, ReportFormatOption, Strict
from preflight.cli.output import SnapshotFile, ready
from preflight.report.formats import ReportFormat


def merge(
    snapshots: Annotated[
        list[Path],
        typer.Argument(metavar="SNAPSHOT...", help="What `check --output` saved, of one phase."),
    ],
    form: ReportFormatOption = ReportFormat.TABLE,
    output: SnapshotFile = None,
    colour: ColourOption = Colour.AUTO,
    strict: Strict = False,
) -> int:
    """Put snapshots of one fleet together: rows that were measured with `check --local`, or parts.

    What one file leaves unknown another may know. Where two contradict each other the worse stands,
    and it is told. Exits as a check of that matrix would.
    """
    from preflight.cli.running import code_of, tell
    from preflight.core.merge.merge import merge as merged
    from preflight.store import load

    ready(output, *snapshots)
    whole = merged([(str(path), load(path)) for path in snapshots])
    tell(whole, form, colour, output, strict=strict)
    return code_of(whole, strict=strict)
