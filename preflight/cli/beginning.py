"""How commands that go to nodes begin: what was written down, what was asked, how to log in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preflight.cli.options import FamilyChoice, access, credentials, told
from preflight.cli.pods import in_pods, settings
from preflight.core.cilium.remarks import Briefing
from preflight.core.model import Phase
from preflight.core.options import CheckOptions, Profile

if TYPE_CHECKING:
    from preflight.cli.running import Login


def briefing(
    inventory: Path | None,
    cluster_spec: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    profile: Profile | None,
    phase: Phase,
    *,
    pods: bool,
    local: str | None,
    quiet: bool,
) -> Briefing:
    """What a run begins with; with `quiet` what was dropped or guessed is not told."""
    from preflight.runs.preparation import Sources, prepare

    sources = Sources(inventory, cluster_spec, access(kubeconfig, context), profile)
    brief = prepare(sources, phase, (lambda _: None) if quiet else told)
    return replace(brief, inventory=in_pods(brief.inventory, pods, local))


def asked(
    brief: Briefing,
    phase: Phase,
    probes: Sequence[str] | None,
    family: FamilyChoice,
    *,
    sources: Sequence[str] | None = None,
    destinations: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    **more: Any,
) -> CheckOptions:
    """What a run is to do, by what was written down and by the command line."""
    return CheckOptions(
        phase=phase,
        probes=tuple(probes or ()),
        family=family.family(),
        sources=tuple(sources or ()),
        destinations=tuple(destinations or ()),
        labels=tuple(labels or ()),
        pod_ranges=brief.pod_ranges,
        service_ranges=brief.service_ranges,
        remarks=brief.remarks,
        notes=brief.notes,
        overlay=brief.overlay,
        **more,
    )


def login(
    kubeconfig: Path | None,
    context: str | None,
    agent_image: str,
    connect_timeout: float,
    *,
    ask_pass: bool,
    ask_become_pass: bool,
    accept_new_host_keys: bool,
) -> "Login":
    """Prompts for what was asked to be prompted for."""
    from preflight.cli.running import Login

    secrets = credentials(ask_pass=ask_pass, ask_become_pass=ask_become_pass)
    through = settings(kubeconfig, context, agent_image)
    return Login(secrets, accept_new_host_keys, connect_timeout, through)
