"""`preflight trace`: the deep look at one pair, live."""

import sys
from pathlib import Path
from typing import Annotated

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
    FamilyChoice,
    FamilyOption,
    Format,
    FormatOption,
    InventoryOrCluster,
    Kubeconfig,
    Local,
    PhaseOption,
    ProbeNames,
    ProfileOption,
    Quiet,
    Strict,
    Timeout,
)
from preflight.cli.output import SnapshotFile, ready
from preflight.cli.pods import DEFAULT_IMAGE, AgentImage, Pods
from preflight.core.model import Phase
from preflight.errors import UsageError

_NAMED = 8


def trace(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A node of the inventory.")],
    destination: Annotated[str, typer.Argument(metavar="DESTINATION", help="Another one.")],
    inventory: InventoryOrCluster = None,
    cluster_spec: ClusterSpecFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    profile: ProfileOption = None,
    phase: PhaseOption = Phase.BEFORE,
    probe: ProbeNames = None,
    family: FamilyOption = FamilyChoice.ALL,
    local: Local = None,
    pods: Pods = False,
    agent_image: AgentImage = DEFAULT_IMAGE,
    size: Annotated[
        bool, typer.Option(help="Search the largest packet that arrives, of each UDP probe.")
    ] = True,
    pcap: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the packets seen at both ends, for Wireshark."),
    ] = None,
    timeout: Timeout = 1.0,
    output: SnapshotFile = None,
    format_: FormatOption = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    strict: Strict = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    accept_new_host_keys: AcceptNewHostKeys = False,
    connect_timeout: ConnectTimeout = 10.0,
) -> int:
    """Look at one pair as deep as it goes: rules, hops, sizes, flows, content, rewritten fields."""
    from preflight.cli.running import checked, code_of, save_first
    from preflight.runs.trace import Tracing

    brief = briefing(
        inventory, cluster_spec, kubeconfig, context, profile, phase,
        pods=pods, local=local, quiet=quiet,
    )  # fmt: skip
    known = brief.inventory
    if source == destination:
        raise UsageError(f"{source} to itself: a trace needs two nodes")
    names = [node.name for node in known.nodes]
    for wanted in (source, destination):
        if wanted not in names:
            raise UsageError(f"{wanted}: no such node; there are {', '.join(names[:_NAMED])}")
    ready(output, inventory, cluster_spec, kubeconfig)
    if pcap is not None:
        from preflight.report.pcap import ensure_directory

        ensure_directory(pcap)
    options = asked(
        brief, phase, probe, family, sources=(source,), destinations=(destination,),
        local=local, timeout_s=timeout,
    )  # fmt: skip
    way = login(
        kubeconfig, context, agent_image, connect_timeout, ask_pass=ask_pass,
        ask_become_pass=ask_become_pass, accept_new_host_keys=accept_new_host_keys,
    )  # fmt: skip
    tracing = Tracing(sizes=size, pcap=pcap is not None)
    snapshot = checked(known, options, way, quiet=quiet, closer=tracing)

    def show() -> None:
        if format_ is Format.JSON:
            from preflight.report.trace_json import dump

            dump(snapshot, tracing.looks, sys.stdout)
        else:
            from preflight.report.terminal import coloured, width
            from preflight.report.trace import render

            color = coloured(colour, sys.stdout)
            render(snapshot, tracing.looks, width=width(), color=color, file=sys.stdout)
        sys.stdout.flush()

    if pcap is not None:
        from preflight.report.pcap import save_captures

        for path in save_captures(pcap, snapshot.matrix.nodes, tracing.captured):
            sys.stderr.write(f"saved {path}\n")
    save_first(snapshot, output, show)
    return code_of(snapshot, strict=strict)
