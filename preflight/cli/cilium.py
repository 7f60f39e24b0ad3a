"""`preflight cilium …`: what a cluster's API server says of Cilium."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from preflight.cli import connectivity
from preflight.cli.options import (
    ClusterKubeconfig,
    Colour,
    ColourOption,
    Context,
    Format,
    FormatOption,
    Quiet,
    Strict,
)
from preflight.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from preflight.cluster.api import Cluster
    from preflight.core.cluster.status import Status

app = typer.Typer(no_args_is_help=True)
app.command("connectivity-check")(connectivity.connectivity_check)

_BETWEEN = 5.0  # seconds between two lines of progress where they cannot be overwritten


@app.callback()
def main() -> None:
    """Look at Cilium itself, by the cluster's API server. Needs no kubectl."""


@app.command()
def status(
    kubeconfig: ClusterKubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Cilium's own; found by default."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until it is well, or clear that it will not be.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1, max=86400, help="With --wait: seconds.  [default: 300]"),
    ] = None,
    format_: FormatOption = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    strict: Strict = False,
    quiet: Quiet = False,
) -> int:
    """Say whether Cilium's agents and operators are well.

    An agent on every node, of the newest generation; operators on different nodes; CiliumNode
    objects as the nodes are. Only reads.
    """
    from preflight.cluster.api import Access, connect
    from preflight.runs.ciliumstatus import read_status

    if timeout is not None and not wait:
        raise UsageError("--timeout: how long to wait, and only with --wait")
    with connect(Access(kubeconfig, context)) as cluster:
        interrupted = False
        if wait:
            found, interrupted = _awaited(cluster, namespace, timeout or 300.0, quiet=quiet)
        else:
            found = read_status(cluster, namespace)
        if format_ is Format.JSON:
            from preflight.report.cilium_json import dump

            dump(found, cluster=cluster.name, server=cluster.server, file=sys.stdout)
        else:
            from preflight.report.cilium import render
            from preflight.report.terminal import coloured, width

            render(
                found,
                cluster=cluster.name,
                server=cluster.server,
                width=width(),
                color=coloured(colour, sys.stdout),
                file=sys.stdout,
            )
    sys.stdout.flush()
    return int(ExitCode.INTERRUPTED if interrupted else found.exit_code(strict=strict))


def _awaited(
    cluster: "Cluster", namespace: str | None, seconds: float, *, quiet: bool
) -> "tuple[Status, bool]":
    """The state at the end of the wait, and whether it was the user who ended it."""
    from preflight.interrupt import interruptible
    from preflight.report.cilium import live
    from preflight.report.progress import Progress
    from preflight.runs.ciliumstatus import await_status

    progress = Progress(sys.stderr, quiet=quiet)
    told, at = "", float("-inf")

    def tell(now: "Status") -> None:
        show(live(now))

    def show(words: str) -> None:
        nonlocal told, at
        if words != told and (sys.stderr.isatty() or time.monotonic() - at >= _BETWEEN):
            told, at = words, time.monotonic()
            progress.phase(words, 0)

    try:
        with interruptible(lambda: None) as stop:
            found = await_status(cluster, namespace, seconds, tell, show, stop)
            return found, stop.is_set()
    finally:
        progress.close()
