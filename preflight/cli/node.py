"""`preflight node`: what is known of the nodes themselves, and what is in Cilium's way of it."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from preflight.cli.options import (
    AcceptNewHostKeys,
    AskBecomePass,
    AskPass,
    ClusterSpecFile,
    Colour,
    ColourOption,
    ConnectTimeout,
    Context,
    Format,
    FormatOption,
    Local,
    PhaseOption,
    PodsKubeconfig,
    Quiet,
    ask,
    chooser,
    credentials,
)
from preflight.cli.pods import DEFAULT_IMAGE, AgentImage, Pods, in_pods, settings
from preflight.core.facts.ranges import parse_range
from preflight.core.facts.risk import Network
from preflight.core.model import Inventory, Phase
from preflight.errors import UsageError


def node(
    name: Annotated[
        list[str] | None, typer.Argument(help="Only these nodes of the inventory.")
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option(
            "--inventory", "-i", metavar="FILE", help="The nodes, as YAML; else this machine."
        ),
    ] = None,
    phase: PhaseOption = Phase.BEFORE,
    pod_cidr: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Range that pods will have; may be given again."),
    ] = None,
    service_cidr: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="Range that services will have; may be given again."),
    ] = None,
    cluster_spec: ClusterSpecFile = None,
    local: Local = None,
    pods: Pods = False,
    kubeconfig: PodsKubeconfig = None,
    context: Context = None,
    agent_image: AgentImage = DEFAULT_IMAGE,
    format_: FormatOption = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    accept_new_host_keys: AcceptNewHostKeys = False,
    connect_timeout: ConnectTimeout = 10.0,
) -> int:
    """Read the facts of nodes, of this machine without an inventory, and say what is in the way.

    Sends nothing but SSH.
    """
    from preflight.report.progress import Progress
    from preflight.runs.node import inspect, wanted
    from preflight.runs.preparation import read_spec
    from preflight.transport import connectors
    from preflight.transport.base import Timeouts

    spec = read_spec(cluster_spec)
    pod_ranges = [*_ranges("--pod-cidr", pod_cidr), *(spec.pod_ranges if spec else ())]
    services = [*_ranges("--service-cidr", service_cidr), *(spec.service_ranges if spec else ())]
    known = in_pods(_inventory(inventory, name or (), local), pods, local)
    asked = wanted(known, name or (), local)
    secrets = credentials(ask_pass=ask_pass, ask_become_pass=ask_become_pass)
    progress = Progress(sys.stderr, quiet=quiet)
    ways = connectors(
        [known.nodes[n] for n in asked],
        secrets,
        Timeouts(connect=connect_timeout),
        accept_new_host_keys=accept_new_host_keys,
        ask=ask,
        notify=progress.note,
        pods=settings(kubeconfig, context, agent_image),
    )
    try:
        found = inspect(known, asked, phase, pod_ranges, services, chooser(ways), progress)
    finally:
        progress.close()
        for way in ways.values():
            way.close()
    if format_ is Format.JSON:
        from preflight.report.node_json import dump

        dump(found, sys.stdout)
    else:
        from preflight.report.node import render
        from preflight.report.terminal import coloured, width

        render(found, width=width(), color=coloured(colour, sys.stdout), file=sys.stdout)
    sys.stdout.flush()
    return int(found.exit_code)


def _inventory(file: Path | None, names: "list[str] | tuple[()]", local: str | None) -> Inventory:
    if file is not None:
        from preflight.core.scope import localised
        from preflight.inventory import load

        known = load(file)
        return replace(known, nodes=localised(known.nodes, local))
    if names or local is not None:
        raise UsageError(f"{names[0] if names else '--local'}: name the inventory too: -i FILE")
    from preflight.runs.node import this_machine

    return this_machine()


def _ranges(option: str, texts: list[str] | None) -> list[Network]:
    out = []
    for text in texts or ():
        try:
            out.append(parse_range(text))
        except ValueError as error:
            raise UsageError(f"{option} {text}: {error}") from error
    return out
