"""A run as commands make it: connections, progress on stderr, results on stdout and in a file."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from preflight.cli.options import Colour, Format, ask, chooser
from preflight.core.model import Inventory
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.errors import ExitCode, FileError
from preflight.run import check
from preflight.transport.base import Credentials

if TYPE_CHECKING:
    from preflight.run import Closer


@dataclass(frozen=True, slots=True)
class Login:
    """How to get to the nodes, beyond the inventory and `~/.ssh/config`."""

    credentials: Credentials
    accept_new_host_keys: bool
    connect_timeout: float  # seconds


def checked(
    inventory: Inventory,
    options: CheckOptions,
    login: Login,
    *,
    quiet: bool,
    closer: "Closer | None" = None,
) -> Snapshot:
    """Run a check; `closer` as in `run.check`."""
    from preflight.core.scope import scope
    from preflight.report.progress import Progress
    from preflight.transport import connectors
    from preflight.transport.base import Timeouts

    progress = Progress(sys.stderr, quiet=quiet)
    nodes = scope(inventory, options)
    ways = connectors(
        [nodes.nodes[n] for n in nodes.involved()],
        login.credentials,
        Timeouts(connect=login.connect_timeout),
        accept_new_host_keys=login.accept_new_host_keys,
        ask=ask,
        notify=progress.note,
    )
    try:
        return check(inventory, options, chooser(ways), progress, closer)
    finally:
        progress.close()
        for way in ways.values():
            way.close()


def tell(snapshot: Snapshot, format_: Format, colour: Colour, output: Path | None) -> None:
    """Save the snapshot and print it."""
    save_first(snapshot, output, lambda: _print(snapshot, format_, colour))


def save_first(snapshot: Snapshot, output: Path | None, show: Callable[[], None]) -> None:
    """What is on the screen can be had again, what was measured cannot."""
    failure: Exception | None = None
    if output is not None:
        from preflight.store import save

        try:
            save(snapshot, output)
        except FileError as error:
            failure = error
    try:
        show()
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


def code_of(snapshot: Snapshot, *, strict: bool) -> int:
    """What the process is to answer."""
    from preflight.core.exitcode import exit_code

    if snapshot.interrupted:
        return int(ExitCode.INTERRUPTED)
    if not any(agent.state == "ok" for agent in snapshot.agents):
        return int(ExitCode.NO_NODE)
    return int(exit_code(snapshot.matrix, strict))
