"""`preflight check`: the main job."""

import sys
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
    DestinationNames,
    FamilyChoice,
    FamilyOption,
    InventoryOrCluster,
    Kubeconfig,
    LabelTerms,
    Local,
    MaxFlows,
    Meet,
    MeetKey,
    PhaseOption,
    ProbeNames,
    ProfileOption,
    Quiet,
    Rate,
    ReportFormatOption,
    SourceNames,
    Strict,
    Timeout,
    meeting,
)
from preflight.cli.output import SnapshotFile, ready
from preflight.cli.pods import DEFAULT_IMAGE, AgentImage, Pods
from preflight.core.model import Phase
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE
from preflight.errors import ExitCode
from preflight.report.formats import ReportFormat


def check(
    inventory: InventoryOrCluster = None,
    cluster_spec: ClusterSpecFile = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    profile: ProfileOption = None,
    phase: PhaseOption = Phase.BEFORE,
    probe: ProbeNames = None,
    family: FamilyOption = FamilyChoice.ALL,
    source: SourceNames = None,
    destination: DestinationNames = None,
    label: LabelTerms = None,
    local: Local = None,
    pods: Pods = False,
    agent_image: AgentImage = DEFAULT_IMAGE,
    meet: Meet = None,
    meet_key: MeetKey = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print every flow that would be sent, and send nothing."),
    ] = False,
    rate: Rate = DEFAULT_RATE,
    max_flows: MaxFlows = DEFAULT_MAX_FLOWS,
    timeout: Timeout = 1.0,
    diagnose: Annotated[
        bool,
        typer.Option(help="Look closer at one cell of each finding: which rule, hop, size, flow."),
    ] = True,
    output: SnapshotFile = None,
    form: ReportFormatOption = ReportFormat.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    strict: Strict = False,
    ask_pass: AskPass = False,
    ask_become_pass: AskBecomePass = False,
    accept_new_host_keys: AcceptNewHostKeys = False,
    connect_timeout: ConnectTimeout = 10.0,
) -> int:
    """Probe every ordered pair of nodes and print what gets through, and where the rest dies."""
    brief = briefing(
        inventory, cluster_spec, kubeconfig, context, profile, phase,
        pods=pods, local=local, quiet=quiet,
    )  # fmt: skip
    known = brief.inventory
    options = asked(
        brief, phase, probe, family, sources=source, destinations=destination, labels=label,
        local=local, rate=rate, max_flows=max_flows, timeout_s=timeout, diagnose=diagnose,
        meeting=meeting(meet, meet_key, local, output),
    )  # fmt: skip
    if dry_run:
        from preflight.core.scope import scope
        from preflight.report.dryrun import render as render_plan

        render_plan(scope(known, options), options, sys.stdout)
        return int(ExitCode.OK)
    ready(output, inventory, cluster_spec, kubeconfig, meet_key)
    from preflight.cli.running import checked, code_of, tell

    way = login(
        kubeconfig, context, agent_image, connect_timeout, ask_pass=ask_pass,
        ask_become_pass=ask_become_pass, accept_new_host_keys=accept_new_host_keys,
    )  # fmt: skip
    snapshot = checked(known, options, way, quiet=quiet)
    tell(snapshot, form, colour, output, strict=strict)
    return code_of(snapshot, strict=strict)
