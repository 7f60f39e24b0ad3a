"""The command line as a whole: the commands, and what becomes of their errors."""

import os
import sys
import traceback
from collections.abc import Callable

import typer

from preflight import __version__
from preflight.cli import (
    check,
    cilium,
    diff,
    explain,
    inventory,
    lab,
    merge,
    node,
    rules,
    show,
    trace,
    watch,
)
from preflight.cli.output import ReaderGoneError
from preflight.errors import ExitCode, PreflightError
from preflight.report.text import clean

app = typer.Typer(
    name="preflight",
    help="Proves that a firewall lets Cilium's GENEVE overlay through, for every ordered pair of "
    "nodes: UDP 6081, TCP 4240 and ICMP echo, before Cilium is installed and after.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # its boxes cut long option names at 80 columns
)
app.command("check")(check.check)
app.command("watch")(watch.watch_)
app.command("trace")(trace.trace)
app.command("node")(node.node)
app.command("diff")(diff.diff)
app.command("merge")(merge.merge)
app.command("show")(show.show)
app.command("explain")(explain.explain)
app.command("rules")(rules.rules)
app.add_typer(inventory.app, name="inventory")
app.add_typer(cilium.app, name="cilium")
app.add_typer(lab.app, name="lab")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"preflight {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """The options before a command."""
    del version


def run(prepare: Callable[[], None] = lambda: None) -> int:
    """Run the command that the arguments name; returns the exit code.

    `prepare` is called first; what it raises is told as a command's errors are.
    """
    try:
        prepare()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except PreflightError as error:
        typer.echo(f"preflight: {error}", err=True)
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort, ReaderGoneError):
        return int(ExitCode.INTERRUPTED)
    except SystemExit as error:  # typer's own, for a broken pipe that is not our output's
        cause = error.__context__
        return _failed(cause if isinstance(cause, Exception) else RuntimeError(f"exit {error}"))
    except Exception as error:
        return _failed(error)
    return code if isinstance(code, int) else int(ExitCode.OK)


def _misused(message: str, context: typer.Context | None) -> str:
    """One line; whoever names no command at all gets the help instead."""
    if context is not None and message == context.get_help():
        return message
    said = clean(" ".join(message.split()).rstrip("."))
    said = said[:1].lower() + said[1:]
    see = " See" if said.endswith("?") else "; see"
    return f"preflight: {said}{see} {context.command_path if context else 'preflight'} --help"


def _failed(error: Exception) -> int:
    # typer carries its own copy of click since 0.26: usage errors are known by what they can do.
    message, code = getattr(error, "format_message", None), getattr(error, "exit_code", None)
    if callable(message) and isinstance(code, int):
        typer.echo(_misused(message(), getattr(error, "ctx", None)), err=True)
        return code
    if os.environ.get("PREFLIGHT_DEBUG"):
        traceback.print_exc()
    typer.echo(
        f"preflight: this is a bug in preflight: {type(error).__name__}: {error} "
        "(PREFLIGHT_DEBUG=1 shows where; please report it)",
        err=True,
    )
    return int(ExitCode.BUG)
