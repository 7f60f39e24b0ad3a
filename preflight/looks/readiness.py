"""What of the nodes' own facts a check has to tell, asked only of nodes that give cause.

A clean check must cost no more than its looks do: a node's first words say which network card it
has and who owns the ports, and only what they give cause for is asked. `preflight node` asks all.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from preflight.core.findings.mtus import unlike_mtus
from preflight.core.model import Phase, ProbeKind
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus

if TYPE_CHECKING:
    from preflight.core.facts.risk import Risk

# Their offloads break tunnels (cilium#21801, cilium#26300).
_TROUBLED_DRIVERS = {"vmxnet3", "virtio_net"}
Hellos = Mapping[int, Mapping[str, Any]]


def warnings(scope: Scope, hellos: Hellos) -> list[str]:
    """What is to be said before any probe."""
    told: dict[str, None] = {}
    for family in scope.families:
        mtus = {n: hello["mtu"].get(family[-1], 0) for n, hello in hellos.items()}
        unlike = unlike_mtus(scope.nodes, mtus)
        if unlike is not None:
            told[f"the nodes' devices have unlike MTUs ({unlike.words})"] = None
    return list(told)


def causes(scope: Scope, options: CheckOptions, hellos: Hellos) -> list[int]:
    """The nodes whose first words give cause to ask for facts."""
    before = options.phase is Phase.BEFORE
    mtus = bool(warnings(scope, hellos))
    ranges = bool(options.pod_ranges or options.service_ranges)
    return [
        node
        for node, hello in sorted(hellos.items())
        if mtus
        or ranges
        or _TROUBLED_DRIVERS & set(hello["drivers"])
        or hello["udp"]  # by Cilium, or after the installation in its place
        or (before and hello["tcp"])
    ]


def ask(
    chorus: Chorus,
    scope: Scope,
    options: CheckOptions,
    asked: Sequence[int],
    heard: Collection[int] = (),
) -> "list[Risk]":
    """The risks that a check tells of these nodes, as far as their facts say.

    Who has the health port of the nodes in `heard` is known better: it was asked `GET /hello`.
    """
    from preflight.core.facts.readiness import risks
    from preflight.core.facts.request import CHEAP
    from preflight.core.findings.hazards import TOLD
    from preflight.crew.gather import gather

    there = sorted(set(asked) & chorus.alive)
    gathered = gather(chorus, scope.nodes, there, scope.probes, parts=CHEAP)
    facts = [gathered.facts.get(n) for n in range(len(scope.nodes))]
    health = {probe.port for probe in scope.probes if probe.kind is ProbeKind.HEALTH}
    for node in heard:
        known = facts[node]
        if known is not None and known.sockets is not None:
            others = [s for s in known.sockets if s.protocol == "udp" or s.port not in health]
            facts[node] = replace(known, sockets=tuple(others))
    found = risks(
        scope.nodes,
        facts,
        probes=scope.probes,
        phase=options.phase,
        pod_ranges=options.pod_ranges,
        service_ranges=options.service_ranges,
    )
    return [risk for risk in found if risk.key in TOLD]
