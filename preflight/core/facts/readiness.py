"""What of the facts stands in Cilium's way: the rules, in the order in which they are told.

A rule speaks of what is known alone. Where a fact is unknown, it is silent: a wrong accusation is
worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.core.facts import (
    clocks as clock_rules,
)
from preflight.core.facts import (
    devices,
    kernel,
    leftovers,
    limits,
    managers,
    mtu,
    paths,
    ports,
    ranges,
)
from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import Clock, Network, Risk, Rule, Situation
from preflight.core.model import Node, Phase, Probe, Severity

RULES: tuple[Rule, ...] = (
    ranges.overlaps,
    ranges.holds,
    ports.tunnel_ports,
    kernel.module,
    kernel.age,
    paths.no_route,
    devices.vmxnet3,
    devices.virtio,
    mtu.differing,
    mtu.routes,
    paths.source_address,
    paths.rp_filter,
    ports.health_port,
    paths.echo_ignored,
    limits.conntrack,
    limits.neighbours,
    leftovers.other_network,
    managers.flushed,
    managers.foreign_rules,
    clock_rules.apart,
)


def risks(
    nodes: Sequence[Node],
    facts: Sequence[NodeFacts | None],
    *,
    probes: Sequence[Probe],
    phase: Phase,
    pod_ranges: Sequence[Network] = (),
    service_ranges: Sequence[Network] = (),
    clocks: Mapping[int, Clock] | None = None,
) -> list[Risk]:
    """Everything that the rules find, what is required first.

    `facts` has an entry for each node, None where it told none; `clocks` has those that were
    compared with the controller's, by the node's number.
    """
    situation = Situation(
        nodes, facts, probes, phase, pod_ranges, service_ranges, dict(clocks or {})
    )
    found = [risk for rule in RULES for risk in rule(situation)]
    return sorted(found, key=lambda risk: risk.severity is not Severity.REQUIRED)
