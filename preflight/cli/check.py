"""`preflight check`: the main job."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from preflight.cli.options import (
    AcceptNewHostKeys,
    AskBecomePass,
    AskPass,
    Colour,
    ColourOption,
    ConnectTimeout,
    FamilyChoice,
    FamilyOption,
    Format,
    FormatOption,
    InventoryFile,
    Local,
    PhaseOption,
    ProbeNames,
    Quiet,
    Strict,
    Timeout,
    credentials,
)
from preflight.core.model import Phase
from preflight.core.options import CheckOptions
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE
from preflight.errors import ExitCode


def check(
    inventory: InventoryFile,
    phase: PhaseOption = Phase.BEFORE,
    probe: ProbeNames = None,
    family: FamilyOption = FamilyChoice.ALL,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Only pairs from this node; may be given again."),
    ] = None,
    destination: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Only pairs to this node; may be given again."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only pairs with a node that carries this label; given again: all of them.",
        ),
    ] = None,
    local: Local = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print every flow that would be sent, and send nothing."),
    ] = False,
    rate: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Probes a second from each node.")
    ] = DEFAULT_RATE,
    max_flows: Annotated[
        int,
        typer.Option(min=100, help="New flows of all nodes together in any 30 s."),
    ] = DEFAULT_MAX_FLOWS,
    timeout: Timeout = 1.0,
    diagnose: Annotated[
        bool,
        typer.Option(help="Look closer at one cell of each finding: which rule, hop, size, flow."),
    ] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save the snapshot too.")
    ] = None,
    format_: FormatOption = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    strict: Strict = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    accept_new_host_keys: AcceptNewHostKeys = False,
    connect_timeout: ConnectTimeout = 10.0,
) -> int:
    """Probe every ordered pair of nodes and print what gets through, and where the rest dies."""
    from preflight.inventory import load

    known = load(inventory)
    options = CheckOptions(
        phase=phase,
        probes=tuple(probe or ()),
        family=family.family(),
        sources=tuple(source or ()),
        destinations=tuple(destination or ()),
        labels=tuple(label or ()),
        local=local,
        rate=rate,
        max_flows=max_flows,
        timeout_s=timeout,
        diagnose=diagnose,
    )
    if dry_run:
        from preflight.core.scope import scope
        from preflight.report.dryrun import render as render_plan

        render_plan(scope(known, options), options, sys.stdout)
        return int(ExitCode.OK)
    if output is not None:
        from preflight.store import ensure_writable

        ensure_writable(output)
    from preflight.cli.running import Login, checked, code_of, tell

    secrets = credentials(ask_pass=ask_pass, ask_become_pass=ask_become_pass)
    login = Login(secrets, accept_new_host_keys, connect_timeout)
    snapshot = checked(known, options, login, quiet=quiet)
    tell(snapshot, format_, colour, output)
    return code_of(snapshot, strict=strict)
