"""`preflight rules`: what to ask the firewall team for, out of a saved snapshot."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer

from preflight.cli.options import Strict
from preflight.cli.output import OutputFile, ready, written


class Form(StrEnum):
    """How the rules are written to standard output."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"


def rules(
    snapshot: Annotated[
        Path, typer.Argument(metavar="SNAPSHOT", help="What `check --output` saved.")
    ],
    form: Annotated[Form, typer.Option("--format", help="Of the rules.")] = Form.TEXT,
    output: OutputFile = None,
    strict: Strict = False,
) -> int:
    """Print the rules that the network's firewalls need, to ask their admins for."""
    from preflight.cli.running import code_of
    from preflight.report import rules as report
    from preflight.report.terminal import width
    from preflight.store import load

    ready(output, snapshot)
    known = load(snapshot)
    probes = known.matrix.probes

    def tell(file: TextIO) -> None:
        if form is Form.JSON:
            report.dump(known.findings, probes, file)
        elif form is Form.CSV:
            report.comma_separated(known.findings, probes, file)
        else:
            report.text(known.findings, probes, file, width())

    written(output, tell, utf8=form is not Form.TEXT)
    return code_of(known, strict=strict)
