"""`preflight check`: the main job."""

import sys
from collections.abc import Callable
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from preflight.core.model import Connection, Family, Inventory, Node, Phase
from preflight.core.options import CheckOptions
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE
from preflight.core.snapshot import Snapshot
from preflight.errors import ExitCode, FileError, UsageError
from preflight.transport.base import Connector, Credentials


class Format(StrEnum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


class FamilyChoice(StrEnum):
    """Which address families are probed."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    ALL = "all"


class Colour(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def check(
    inventory: Annotated[
        Path, typer.Option("--inventory", "-i", metavar="FILE", help="The nodes, as YAML.")
    ],
    phase: Annotated[
        Phase, typer.Option(help="Before or after Cilium's installation.", case_sensitive=False)
    ] = Phase.BEFORE,
    probe: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this probe; may be given again."),
    ] = None,
    family: Annotated[
        FamilyChoice, typer.Option(help="Address families; all: each that both nodes have.")
    ] = FamilyChoice.ALL,
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
    local: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="This machine is that node; no SSH to any other."),
    ] = None,
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
    timeout: Annotated[
        float,
        typer.Option(min=0.05, max=60, help="Seconds until a probe counts as missing."),
    ] = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save the snapshot too.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="Of the results.")] = Format.TABLE,
    colour: Annotated[
        Colour, typer.Option("--colour", "--color", help="auto: on a terminal, unless NO_COLOR.")
    ] = Colour.AUTO,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Treat what is recommended as required.")
    ] = False,
    ask_pass: Annotated[
        bool, typer.Option("--ask-pass", "-k", help="Prompt for the SSH password.")
    ] = False,
    ask_become_pass: Annotated[
        bool, typer.Option("--ask-become-pass", "-K", help="Prompt for the sudo password.")
    ] = False,
    accept_new_host_keys: Annotated[
        bool,
        typer.Option("--accept-new-host-keys", help="Add unknown host keys to known_hosts."),
    ] = False,
    connect_timeout: Annotated[
        float, typer.Option(min=1, max=300, help="Seconds for a TCP connection to a node.")
    ] = 10.0,
) -> int:
    """Probe every ordered pair of nodes and print what gets through, and where the rest dies."""
    from preflight.core.exitcode import exit_code
    from preflight.inventory import load

    known = load(inventory)
    options = CheckOptions(
        phase=phase,
        probes=tuple(probe or ()),
        family=None if family is FamilyChoice.ALL else Family(family),
        sources=tuple(source or ()),
        destinations=tuple(destination or ()),
        labels=tuple(label or ()),
        local=local,
        rate=rate,
        max_flows=max_flows,
        timeout_s=timeout,
    )
    if dry_run:
        from preflight.core.scope import scope
        from preflight.report.dryrun import render as render_plan

        render_plan(scope(known, options), options, sys.stdout)
        return int(ExitCode.OK)
    if output is not None:
        from preflight.store import ensure_writable

        ensure_writable(output)
    credentials = Credentials(
        _ask("SSH password: ") if ask_pass else None,
        _ask("sudo password: ") if ask_become_pass else None,
    )
    snapshot = _probe(
        known, options, credentials, accept_new_host_keys, connect_timeout, quiet=quiet
    )
    _tell(snapshot, format_, colour, output)
    if snapshot.interrupted:
        return int(ExitCode.INTERRUPTED)
    if not any(agent.state == "ok" for agent in snapshot.agents):
        return int(ExitCode.NO_NODE)
    return int(exit_code(snapshot.matrix, strict))


def _ask(prompt: str) -> str:
    asked = prompt.rstrip(": ")
    try:
        Path("/dev/tty").open("rb").close()
        return getpass(f"{asked}: ")
    except OSError as error:
        raise UsageError(f"{asked}: there is no terminal to ask on; use ssh-agent") from error
    except EOFError as error:
        raise UsageError(f"{asked}: nothing was typed") from error


def _probe(
    inventory: Inventory,
    options: CheckOptions,
    credentials: Credentials,
    accept_new_host_keys: bool,
    connect_timeout: float,
    *,
    quiet: bool,
) -> Snapshot:
    from preflight import run
    from preflight.core.scope import scope
    from preflight.report.progress import Progress
    from preflight.transport import connectors
    from preflight.transport.base import Timeouts

    progress = Progress(sys.stderr, quiet=quiet)
    nodes = scope(inventory, options)
    involved = [nodes.nodes[n] for n in nodes.involved()]
    ways = connectors(
        involved,
        credentials,
        Timeouts(connect=connect_timeout),
        accept_new_host_keys=accept_new_host_keys,
        ask=_ask,
        notify=progress.note,
    )
    try:
        return run.check(inventory, options, _chooser(ways), progress)
    finally:
        progress.close()
        for way in ways.values():
            way.close()


def _chooser(ways: dict[Connection, Connector]) -> Callable[[Node], Connector]:
    return lambda node: ways[node.connection]


def _tell(snapshot: Snapshot, format_: Format, colour: Colour, output: Path | None) -> None:
    """Save first: what is on the screen can be had again, what was measured cannot."""
    failure: Exception | None = None
    if output is not None:
        from preflight.store import save

        try:
            save(snapshot, output)
        except FileError as error:
            failure = error
    try:
        _print(snapshot, format_, colour)
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"the results could not be written to standard output: {error.strerror}"
        raise FileError(what) from error
    if failure is not None:
        raise failure


def _print(snapshot: Snapshot, format_: Format, colour: Colour) -> None:
    if format_ is Format.JSON:
        from preflight.report.json import dump

        dump(snapshot, sys.stdout)
    else:
        from preflight.report.table import render
        from preflight.report.terminal import coloured, width

        render(snapshot, width=width(), color=coloured(colour, sys.stdout), file=sys.stdout)
    sys.stdout.flush()
