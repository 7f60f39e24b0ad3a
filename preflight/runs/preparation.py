"""What a run begins with, read from wherever the user has it: inventory, spec and cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from preflight.core.cilium.remarks import Briefing
from preflight.core.model import BUILT_IN_PROBES, Inventory, Phase
from preflight.errors import FileError, UsageError
from preflight.inventory import Form, load
from preflight.inventory.problems import printable

if TYPE_CHECKING:
    from preflight.cluster.api import Access
    from preflight.core.cilium.cluster import ClusterFacts
    from preflight.core.cilium.eksa import ClusterSpec
    from preflight.core.options import Profile


@dataclass(frozen=True, slots=True)
class Sources:
    """Where things are written down."""

    inventory: Path | None = None
    cluster_spec: Path | None = None
    cluster: Access | None = None
    profile: Profile | None = None


def prepare(sources: Sources, phase: Phase, tell: Callable[[str], None]) -> Briefing:
    """All of it, put together. `tell` is given what was dropped or guessed, a line each.

    Raises UsageError, FileError, or ClusterError where the cluster cannot be asked.
    """
    spec = read_spec(sources.cluster_spec)
    facts = None
    if sources.cluster is not None:
        facts = read_cluster(
            sources.cluster,
            need_nodes=sources.inventory is None,
            need_overlay=phase is Phase.AFTER,
        )
    if sources.inventory is not None:
        known = load(sources.inventory)
        file = printable(sources.inventory.name)
    elif facts is not None:
        known = of_cluster(facts)
        file = facts.source
    else:
        raise UsageError("whose nodes? Name an inventory with -i, or a cluster with --kubeconfig")
    known = with_roles(known, spec)
    for text in known.remarks:
        tell(text)
    if spec is None and facts is None and sources.profile is None:
        return Briefing(known)
    from preflight.core.cilium.briefing import brief
    from preflight.core.cilium.config import ConfigError

    try:
        return brief(
            known,
            file=file,
            phase=phase,
            spec=spec,
            cluster=facts,
            profile=sources.profile,
            from_cluster=sources.inventory is None,
        )
    except ConfigError as error:  # a spec's own were told when it was read
        raise FileError(
            f"{facts.source if facts else ''}: ConfigMap kube-system/cilium-config: {error.key}: "
            f"{error}"
        ) from error


def read_spec(path: Path | None) -> ClusterSpec | None:
    """The cluster spec, None where there is none to read."""
    if path is None:
        return None
    from preflight.spec import load as load_spec

    return load_spec(path)


def read_cluster(access: Access, *, need_nodes: bool, need_overlay: bool = False) -> ClusterFacts:
    """What the cluster says of itself."""
    from preflight.cluster.api import connect
    from preflight.cluster.facts import read

    with connect(access) as cluster:
        return read(cluster, need_nodes=need_nodes, need_overlay=need_overlay)


def of_cluster(facts: ClusterFacts) -> Inventory:
    """The cluster's nodes as an inventory."""
    probes = tuple(BUILT_IN_PROBES.values())
    remarks = tuple(f"{facts.source}: {note}" for note in facts.notes)
    return Inventory(facts.source, facts.nodes, probes, remarks=remarks, form="cluster")


def with_roles(known: Inventory, spec: ClusterSpec | None) -> Inventory:
    """A hardware.csv's machines in the roles that the spec gives them."""
    if spec is None or known.form != Form.HARDWARE:
        return known
    from preflight.inventory.hardware import matched

    nodes, told = matched(known.nodes, spec)
    remarks = tuple(f"{printable(known.path)}: {text}" for text in told)
    return replace(known, nodes=nodes, remarks=(*known.remarks, *remarks))
