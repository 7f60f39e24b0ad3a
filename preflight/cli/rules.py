"""`preflight rules`: what to ask the firewall team for, out of a saved snapshot."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from preflight.cli.options import Strict


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
    strict: Strict = False,
) -> int:
    """Print the rules that the network's firewalls need, to ask their admins for."""
    from preflight.cli.running import code_of
    from preflight.report import rules as report
    from preflight.report.terminal import width
    from preflight.store import load

    known = load(snapshot)
    if form is Form.JSON:
        report.dump(known.findings, sys.stdout)
    elif form is Form.CSV:
        report.comma_separated(known.findings, sys.stdout)
    else:
        report.text(known.findings, sys.stdout, width())
    sys.stdout.flush()
    return code_of(known, strict=strict)
