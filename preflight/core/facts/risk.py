"""What a rule says: something known of some nodes that stands in Cilium's way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from preflight.core.facts.model import NodeFacts
from preflight.core.model import Node, Phase, Probe, ProbeKind, Protocol, Severity
from preflight.core.naming import Naming

Network = IPv4Network | IPv6Network
WHO = "\ufdd0"  # no character, so no node's text has it, unless it wants to be called by its name
_EXAMPLES = 4  # nodes whose evidence is told
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


class RiskKey(StrEnum):
    """Names a kind of risk, for scripts."""

    TUNNEL_PORT = "tunnel-port-in-use"
    HEALTH_PORT = "health-port-in-use"
    TUNNEL_OFFLOAD = "tunnel-offload"
    CHECKSUM_OFFLOAD = "checksum-offload"
    MTU_DIFFERS = "mtu-differs"
    ROUTE_MTU = "route-mtu"
    NO_ROUTE = "no-route"
    SOURCE_ADDRESS = "source-address"
    RP_FILTER = "rp-filter"
    ECHO_IGNORED = "echo-ignored"
    CONNTRACK_FULL = "conntrack-full"
    NEIGHBOURS_FULL = "neighbour-table-full"
    RANGE_HOLDS_NODE = "range-holds-node"
    RANGE_HOLDS_GATEWAY = "range-holds-gateway"
    RANGE_HOLDS_NAMESERVER = "range-holds-nameserver"
    RANGE_HOLDS_SUBNET = "range-overlaps-subnet"
    RANGES_OVERLAP = "ranges-overlap"
    KERNEL_TOO_OLD = "kernel-too-old"
    KERNEL_AGES = "kernel-old"
    NO_MODULE = "tunnel-module-absent"
    CLOCKS = "clocks-apart"
    LEFTOVERS = "other-pod-network"
    RULES_FLUSHED = "rules-flushed"
    FOREIGN_RULES = "policy-rules-removed"


@dataclass(frozen=True, slots=True)
class Risk:
    """Something that stands, or will stand, in Cilium's way."""

    key: RiskKey
    severity: Severity
    nodes: tuple[int, ...]
    title: str  # one plain sentence that names the nodes
    evidence: tuple[str, ...]
    commands: tuple[str, ...]  # for root's shell on those nodes, in this order; they act at once
    advice: str  # what to do in words: instead of commands, or to make them last
    source: str  # who says so

    @property
    def change(self) -> tuple[str, ...]:
        """All that is to be done, commands first."""
        return (*self.commands, *([self.advice] if self.advice else []))


class Clock(NamedTuple):
    """A node's clock against the controller's, in seconds."""

    offset: float  # positive: the node's is ahead
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the rules go by. Facts are None for a node that told none."""

    nodes: Sequence[Node]
    facts: Sequence[NodeFacts | None]
    probes: Sequence[Probe]
    phase: Phase
    pod_ranges: Sequence[Network] = ()
    service_ranges: Sequence[Network] = ()
    clocks: Mapping[int, Clock] = field(default_factory=dict)

    def known(self) -> Iterator[tuple[int, NodeFacts]]:
        """The nodes of which something is known."""
        return ((n, facts) for n, facts in enumerate(self.facts) if facts is not None)

    def tunnels(self) -> list[Probe]:
        """The probes that stand for tunnels."""
        kinds = (ProbeKind.GENEVE, ProbeKind.VXLAN)
        return [p for p in self.probes if p.kind in kinds and p.protocol is Protocol.UDP]

    def clusters(self) -> list[list[int]]:
        """The nodes that will be in one cluster, those of which nothing is known included."""
        together: dict[str | None, list[int]] = {}
        for n, node in enumerate(self.nodes):
            together.setdefault(node.cluster, []).append(n)
        return list(together.values())

    def who(self, nodes: Iterable[int]) -> str:
        """The nodes in the fewest words."""
        mask = sum(1 << n for n in nodes)
        if len(self.nodes) > 1 and mask == (1 << len(self.nodes)) - 1:
            return "all nodes"
        return Naming(self.nodes).name(mask)

    def names(self, nodes: Iterable[int]) -> str:
        """The nodes one by one, in few words where they are many."""
        return Naming(self.nodes).name(sum(1 << n for n in nodes))


class Case(NamedTuple):
    """A rule applies to one node."""

    node: int
    title: str  # with WHO where the nodes' names go
    evidence: str
    commands: tuple[str, ...] = ()
    advice: str = ""


Rule = Callable[[Situation], Iterable[Risk]]


def gather(
    situation: Situation, key: RiskKey, severity: Severity, source: str, cases: Iterable[Case]
) -> Iterator[Risk]:
    """One risk for all nodes of which the same is said and that the same change mends."""
    groups: dict[tuple[str, tuple[str, ...], str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.title, case.commands, case.advice), []).append(case)
    for (title, commands, advice), alike in groups.items():
        nodes = sorted({case.node for case in alike})
        yield Risk(
            key,
            severity,
            tuple(nodes),
            title.replace(WHO, situation.who(nodes)),
            _evidence(situation, alike),
            commands,
            advice,
            source,
        )


def command(text: str, *names: str) -> tuple[str, ...]:
    """A command in which a node's names stand, none where a shell could misread one of them."""
    return (text,) if all(_PLAIN.fullmatch(name) for name in names) else ()


def sysctl(key: str, value: object) -> tuple[str, ...]:
    """The command that sets a kernel setting; `key` has slashes, for a device may have dots."""
    dotted = key if "." in key else key.replace("/", ".")
    return command(f"sysctl -w {dotted}={value}", *key.split("/"))


def _evidence(situation: Situation, cases: Sequence[Case]) -> tuple[str, ...]:
    same: dict[str, list[int]] = {}
    for case in cases:
        same.setdefault(case.evidence, []).append(case.node)
    told = [f"{situation.who(nodes)}: {text}" for text, nodes in same.items() if text]
    left = told[_EXAMPLES:]
    return (*told[:_EXAMPLES], *([f"and {len(left)} more like these"] if left else []))
