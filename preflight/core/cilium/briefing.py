"""All that is known of a cluster before the first probe, as one: what to test, and what to say.

The cluster's own word on Cilium goes before the spec's, and the spec's before the defaults. What
only one of them asks for is tested too, and that they differ is said: nothing that somebody wrote
down is left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from preflight.core.cilium.cluster import ClusterFacts, compare
from preflight.core.cilium.config import Installation, from_config
from preflight.core.cilium.disagree import between, with_inventory
from preflight.core.cilium.eksa import (
    ClusterSpec,
    Derived,
    counted,
    derive,
    inside_ranges,
)
from preflight.core.cilium.overlay import plan as plan_overlay
from preflight.core.cilium.probes import describe, needed, renamed, tunnel_probe
from preflight.core.cilium.profile import eks_anywhere, in_cluster
from preflight.core.cilium.remarks import Briefing, Remark
from preflight.core.model import Inventory, Node, Phase, Probe, Severity
from preflight.core.options import Profile
from preflight.errors import UsageError

_SHOWN = 8


def brief(
    inventory: Inventory,
    *,
    file: str,
    phase: Phase,
    spec: ClusterSpec | None = None,
    cluster: ClusterFacts | None = None,
    profile: Profile | None = None,
    from_cluster: bool = False,
) -> Briefing:
    """Put together what is known; `file` is what to call the inventory.

    With `from_cluster` the inventory is the cluster's own list of nodes. Raises ConfigError for a
    configuration that Cilium would not take, and UsageError where what is needed cannot be tested.
    """
    derived = None if spec is None else derive(spec)
    planned = None if derived is None else derived.installation
    running = None
    if cluster is not None and cluster.config is not None:
        running = from_config(cluster.config, cluster.source)
    told = _Told()
    probes = _derived(derived, running, told)
    if planned is not None and running is not None:
        told.remark(between(planned, running))
    it = running or planned
    if it is not None:
        told.remark(_without_underlay(probes, inventory.nodes, it.source, file))
        probes = _with_own(probes, inventory, it.source, file, told)
    else:
        probes = list(inventory.probes)
    if spec is not None or cluster is not None or profile is not None:
        probes = list(in_cluster(probes, inventory.nodes))
    if profile is Profile.EKS_ANYWHERE:
        try:
            more = eks_anywhere(inventory.nodes)
        except ValueError as error:
            raise UsageError(f"--profile {profile}: {file}: {error}") from error
        probes += _new(more.probes, probes)
        told.notes += more.notes
    _about_nodes(inventory, file, spec, None if from_cluster else cluster, told)
    _about_phase(phase, cluster, told)
    overlay, nodes = None, inventory.nodes
    if phase is Phase.AFTER and running is not None and cluster is not None:
        asked = cluster.cilium_nodes, cluster.no_cilium_nodes
        more_of = plan_overlay(running, cluster.config or {}, nodes, *asked, cluster.clusterwide)
        overlay, nodes = more_of.overlay, more_of.nodes
        probes += [renamed(probe, probes) for probe in in_cluster(more_of.probes, nodes)]
        told.notes += more_of.notes
    return Briefing(
        replace(inventory, nodes=nodes, probes=tuple(probes)),
        tuple(told.remarks),
        tuple(told.notes),
        () if spec is None else spec.pod_ranges,
        () if spec is None else spec.service_ranges,
        overlay,
    )


class _Told:
    """What is to be said, in its order."""

    def __init__(self) -> None:
        self.remarks: list[Remark] = []
        self.notes: list[str] = []

    def remark(self, remark: Remark | None) -> None:
        if remark is not None:
            self.remarks.append(remark)


def _derived(derived: Derived | None, running: Installation | None, told: _Told) -> list[Probe]:
    """The probes that cluster and spec ask for."""
    it = running or (None if derived is None else derived.installation)
    if it is None:
        return []
    told.notes.append(f"the probes follow from {it.source}: {describe(it)}")
    own = needed(it)
    told.notes += own.notes
    probes = list(own.probes)
    if derived is None:
        return probes
    told.notes += derived.notes
    told.remarks += derived.remarks
    if running is None:
        others = [] if derived.instead is None else [tunnel_probe(derived.instead)]
    else:
        others = list(needed(derived.installation).probes)
    more = _new(others, probes)
    if running is None:  # either port may be the one that is needed: a pass must hold for both
        return [*probes, *more]
    return [*probes, *(replace(probe, severity=Severity.RECOMMENDED) for probe in more)]


def _without_underlay(
    probes: Sequence[Probe], nodes: Sequence[Node], source: str, file: str
) -> Remark | None:
    """Nodes without an address of the family that tunnels run over."""
    for probe in probes:
        if probe.severity is not Severity.REQUIRED or not probe.families:
            continue
        family = probe.families[0]
        over = f"{source} has Cilium's {probe.name} run over {family.replace('ipv', 'IPv')}"
        lack = [node for node in nodes if node.address_in(family) is None]
        if len(nodes) - len(lack) < 2:
            raise UsageError(f"{over}, and no two nodes of {file} have such an address")
        if lack:
            shown = ", ".join(node.name for node in lack[:_SHOWN])
            more = f" and {len(lack) - _SHOWN} more" if len(lack) > _SHOWN else ""
            return Remark(
                Severity.REQUIRED,
                f"{over}, and {shown}{more} {'have' if lack[1:] else 'has'} no such address in "
                f"{file}",
                (),
                f"Add the address to {file}: without it nothing required is tested there.",
                tuple(node.name for node in lack),
            )
    return None


def _with_own(
    probes: Sequence[Probe], inventory: Inventory, source: str, file: str, told: _Told
) -> list[Probe]:
    """Besides, what the inventory itself lists; of what both ask for, the stricter."""
    if not inventory.lists_probes:
        return list(probes)
    told.remark(with_inventory(probes, source, inventory.probes, file))
    written = {(probe.protocol, probe.port): probe for probe in inventory.probes}
    out = []
    for probe in probes:
        own = written.get((probe.protocol, probe.port))
        if own is not None:
            strict = Severity.REQUIRED in (own.severity, probe.severity)
            severity = Severity.REQUIRED if strict else Severity.RECOMMENDED
            probe = replace(probe, severity=severity, between=own.between)  # noqa: PLW2901
        out.append(probe)
    return [*out, *_new(inventory.probes, out)]


def _new(probes: Iterable[Probe], known: Sequence[Probe]) -> list[Probe]:
    """Those of which no port is tested yet, under names that are free."""
    ports = {(probe.protocol, probe.port) for probe in known}
    found: list[Probe] = []
    for probe in probes:
        if (probe.protocol, probe.port) not in ports:
            found.append(renamed(probe, [*known, *found]))
    return found


def _about_nodes(
    inventory: Inventory,
    file: str,
    spec: ClusterSpec | None,
    cluster: ClusterFacts | None,
    told: _Told,
) -> None:
    if cluster is not None:
        told.notes += cluster.notes
        if cluster.nodes_known:
            told.remarks += compare(inventory.nodes, file, cluster)
    if spec is not None:
        told.remarks += inside_ranges(spec)
        told.remarks += counted(spec, inventory.nodes, file)


def _about_phase(phase: Phase, cluster: ClusterFacts | None, told: _Told) -> None:
    if cluster is None:
        return
    if cluster.config is None:
        told.notes.append(cluster.no_config)
    elif phase is Phase.BEFORE:
        told.notes.append(
            f"{cluster.source} has Cilium already: --phase after also tests that it answers"
        )
