"""A run as commands make it: connections, progress on stderr, results on stdout and in a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from preflight.atomic import holds
from preflight.cli.options import Colour, ask, chooser, told
from preflight.cli.output import written
from preflight.core.model import Inventory, Node
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.errors import ExitCode, FileError
from preflight.report.formats import ReportFormat
from preflight.runs.check import check
from preflight.transport.base import Connector, Credentials

if TYPE_CHECKING:
    from preflight.core.view import View
    from preflight.runs.check import Closer
    from preflight.transport.kubernetes import PodSettings


@dataclass(frozen=True, slots=True)
class Login:
    """How to get to the nodes, beyond the inventory and `~/.ssh/config`."""

    credentials: Credentials
    accept_new_host_keys: bool
    connect_timeout: float  # seconds
    pods: "PodSettings | None" = None  # where nodes are reached through a cluster


def checked(
    inventory: Inventory,
    options: CheckOptions,
    login: Login,
    *,
    quiet: bool,
    closer: "Closer | None" = None,
) -> Snapshot:
    """Run a check; `closer` as in `run.check`."""
    from preflight.report.progress import Progress

    progress = Progress(sys.stderr, quiet=quiet)
    with ways(inventory, options, login, progress.note) as connector:
        try:
            return check(inventory, options, connector, progress, closer)
        finally:
            progress.close()


@contextmanager
def ways(
    inventory: Inventory, options: CheckOptions, login: Login, notify: Callable[[str], None]
) -> Iterator[Callable[[Node], Connector]]:
    """The connector of each node that is in scope; `notify` gets messages from any thread."""
    from preflight.core.scope import scope
    from preflight.transport import connectors
    from preflight.transport.base import Timeouts

    nodes = scope(inventory, options)
    known = connectors(
        [nodes.nodes[n] for n in nodes.involved()],
        login.credentials,
        Timeouts(connect=login.connect_timeout),
        accept_new_host_keys=login.accept_new_host_keys,
        ask=ask,
        notify=notify,
        pods=login.pods,
    )
    try:
        yield chooser(known)
    finally:
        for way in known.values():
            way.close()


def tell(
    snapshot: Snapshot, form: ReportFormat, colour: Colour, output: Path | None, *, strict: bool
) -> None:
    """Save the snapshot and print it."""
    from preflight.core.view import view

    snapshot.matrix.tidy()
    save_first(snapshot, output, lambda: show(view(snapshot), form, colour, strict=strict))


def save_first(snapshot: Snapshot, output: Path | None, shown: Callable[[], None]) -> None:
    """What is on the screen can be had again, what was measured cannot: neither now nor before."""
    failure: Exception | None = None
    if output is not None and snapshot.empty and holds(output):
        told(f"{output}: left as it is: nothing was measured in this run")
    elif output is not None:
        from preflight.store import save

        try:
            save(snapshot, output)
        except FileError as error:
            failure = error
    shown()
    sys.stdout.flush()
    if failure is not None:
        raise failure


def show(
    shown: "View",
    form: ReportFormat,
    colour: Colour,
    *,
    strict: bool,
    full: bool = False,
    output: Path | None = None,
) -> None:
    """Write what is shown of a snapshot to standard output, or whole or not at all to a file."""
    from preflight.report.formats import Look, write
    from preflight.report.terminal import coloured, width

    def to(file: TextIO) -> None:
        write(shown, form, Look(width(), coloured(colour, file), strict, full), file)

    written(output, to, utf8=form is not ReportFormat.TABLE)


def code_of(snapshot: Snapshot, *, strict: bool) -> int:
    """What the process is to answer."""
    from preflight.core.exitcode import exit_code

    if snapshot.interrupted:
        return int(ExitCode.INTERRUPTED)
    if not any(agent.state == "ok" for agent in snapshot.agents):
        return int(ExitCode.NO_NODE)
    return int(exit_code(snapshot.matrix, strict))
