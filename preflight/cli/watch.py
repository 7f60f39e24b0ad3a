"""`preflight watch`: the check again and again, for the change window itself."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preflight.cli.beginning import asked, briefing, login
from preflight.cli.options import (
    AcceptNewHostKeys,
    AskBecomePass,
    AskPass,
    ClusterSpecFile,
    Colour,
    ColourOption,
    ConnectTimeout,
    Context,
    DestinationNames,
    FamilyChoice,
    FamilyOption,
    Format,
    InventoryOrCluster,
    Kubeconfig,
    LabelTerms,
    Local,
    MaxFlows,
    PhaseOption,
    ProbeNames,
    ProfileOption,
    Quiet,
    Rate,
    SourceNames,
    Strict,
    Timeout,
)
from preflight.cli.output import endless
from preflight.cli.pods import DEFAULT_IMAGE, AgentImage, Pods
from preflight.core.model import Phase
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE
from preflight.core.watch_pace import DEFAULT_INTERVAL_S, Pace, seconds
from preflight.errors import ExitCode

if TYPE_CHECKING:
    from preflight.report.watch import JsonLines, Lines
    from preflight.report.watch_live import Live

_LEAST_INTERVAL_S = 1.0


def _time(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _interval(text: str) -> float:
    wanted = _time(text)
    if wanted < _LEAST_INTERVAL_S:
        raise typer.BadParameter(f"{text}: at least {_LEAST_INTERVAL_S:g} s")
    return wanted


def watch_(
    inventory: InventoryOrCluster = None,
    cluster_spec: ClusterSpecFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    profile: ProfileOption = None,
    phase: PhaseOption = Phase.BEFORE,
    interval: Annotated[
        float,
        typer.Option(
            parser=_interval,
            metavar="TIME",
            help="From the beginning of a round to that of the next: 10, 30s, 5m.",
        ),
    ] = str(DEFAULT_INTERVAL_S),  # type: ignore[assignment]
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many rounds.")
    ] = None,
    for_: Annotated[
        float | None,
        typer.Option("--for", parser=_time, metavar="TIME", help="End after so long: 90s, 2h."),
    ] = None,
    probe: ProbeNames = None,
    family: FamilyOption = FamilyChoice.ALL,
    source: SourceNames = None,
    destination: DestinationNames = None,
    label: LabelTerms = None,
    local: Local = None,
    pods: Pods = False,
    agent_image: AgentImage = DEFAULT_IMAGE,
    rate: Rate = DEFAULT_RATE,
    max_flows: MaxFlows = DEFAULT_MAX_FLOWS,
    timeout: Timeout = 1.0,
    diagnose: Annotated[
        bool,
        typer.Option(help="Look closer where something has changed: which rule, hop, size, flow."),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Save a snapshot of the first round, of each change and of the last round there.",
        ),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="json: one object for each event, in a line.")
    ] = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    strict: Strict = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    accept_new_host_keys: AcceptNewHostKeys = False,
    connect_timeout: ConnectTimeout = 10.0,
) -> int:
    """Check again and again over the same connections, and tell what changes, and when.

    On a terminal it shows the live matrix; elsewhere a line for each change, with --format json an
    object for each event. Ctrl-C ends it (exit code 130); --count and --for end it with the exit
    code of the last round.
    """
    endless()
    brief = briefing(
        inventory, cluster_spec, kubeconfig, context, profile, phase,
        pods=pods, local=local, quiet=quiet,
    )  # fmt: skip
    known = brief.inventory
    options = asked(
        brief, phase, probe, family, sources=source, destinations=destination, labels=label,
        local=local, rate=rate, max_flows=max_flows, timeout_s=timeout, diagnose=diagnose,
    )  # fmt: skip
    from preflight.cli.running import code_of, ways
    from preflight.core.watch_round import Ending
    from preflight.runs.watch import Album, watch

    way = login(
        kubeconfig, context, agent_image, connect_timeout, ask_pass=ask_pass,
        ask_become_pass=ask_become_pass, accept_new_host_keys=accept_new_host_keys,
    )  # fmt: skip
    teller = _teller(format_, colour, output, quiet=quiet)
    album = Album(output, teller.note)
    pace = Pace(interval, count, for_)
    with ways(known, options, way, teller.overhear) as connector:
        try:
            seen = watch(known, options, pace, connector, teller, album)
        finally:
            teller.close()
    teller.last_words(seen.last)
    if seen.ending is Ending.INTERRUPTED:
        return int(ExitCode.INTERRUPTED)
    assert seen.last is not None  # there was a round, or it was interrupted
    return code_of(seen.last, strict=strict)


def _teller(
    format_: Format, colour: Colour, output: Path | None, *, quiet: bool
) -> "Live | Lines | JsonLines":
    from preflight.report.progress import Progress
    from preflight.report.terminal import coloured
    from preflight.report.watch import JsonLines, Lines

    color = coloured(colour, sys.stdout)
    if format_ is Format.JSON:
        return JsonLines(sys.stdout, Progress(sys.stderr, quiet=quiet))
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from preflight.report.watch_live import Live

        return Live(sys.stdout, color=color, output=None if output is None else str(output))
    return Lines(sys.stdout, Progress(sys.stderr, quiet=quiet), color=color)
