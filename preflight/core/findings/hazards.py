"""Findings without a bad cell: everything gets through, and Cilium may suffer all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.cilium.remarks import Remark
from preflight.core.diagnosis.conclusions import Diagnosis, RewrittenField
from preflight.core.facts.risk import Risk, RiskKey
from preflight.core.findings.model import Cause, Change, Finding
from preflight.core.matrix import Matrix
from preflight.core.model import Node, Severity, family_of
from preflight.core.naming import Naming
from preflight.core.terms import listed

_SHOWN = 3

Sources = Mapping[tuple[int, str], set[int]]  # source, address that was seen -> destinations


def hazard(
    cause: Cause,
    severity: Severity,
    title: str,
    *,
    nodes: Sequence[int] = (),
    where: str = "",
    evidence: Sequence[str] = (),
    changes: Sequence[Change] = (),
    advice: str = "",
    diagnosis: Diagnosis | None = None,
    sample: tuple[int, int] | None = None,
) -> Finding:
    """A finding that explains no cell."""
    return Finding(
        identifier="",
        cause=cause,
        severity=severity,
        title=title,
        kinds=(),
        tests=(),
        blocks=(),
        where=where,
        pairs=0,
        cells=0,
        nodes=tuple(nodes),
        evidence=tuple(evidence),
        diagnosis=diagnosis,
        sample=sample,
        changes=tuple(changes),
        requests=(),
        advice=advice,
        unknown=(),
    )


def numbered(findings: Sequence[Finding], hazards: Sequence[Finding]) -> list[Finding]:
    """All of them, what is required first and hazards after other findings, numbered anew."""
    order = list(Severity)
    every = sorted([*findings, *hazards], key=lambda finding: order.index(finding.severity))
    return [f._replace(identifier=f"F{n}") for n, f in enumerate(every, 1)]


def translated(
    matrix: Matrix, sources: Sources, looks: Mapping[tuple[int, str], Diagnosis]
) -> Iterator[Finding]:
    """Nodes whose tunnel packets do not come from their address in the inventory."""
    naming = Naming(matrix.nodes)
    alike: dict[tuple[bool | None, str], list[int]] = {}
    for node, address in sorted(sources):
        diagnosis = looks.get((node, address))
        rewritten = diagnosis is not None and any(
            rewrite.field is RewrittenField.SOURCE for rewrite in diagnosis.rewrites
        )
        told = None if diagnosis is None else rewritten
        key = (told, address)
        alike.setdefault(key, []).append(node)
    for (on_path, address), nodes in alike.items():
        first = nodes[0]
        who = naming.name(sum(1 << n for n in nodes))
        seen_by = set().union(*(sources[n, address] for n in nodes))
        by = naming.name(sum(1 << d for d in seen_by))
        own = listed(_own(matrix.nodes[n], address) for n in nodes[:_SHOWN])
        if on_path:
            title = f"{who}: tunnel packets are translated on the path, {address} instead of {own}"
            evidence = [f"{own} left, {address} arrived: it is rewritten on the way"]
            advice = (
                "Exempt traffic between nodes from source address translation (masquerading): "
                "firewall rules by source address, and who reads a capture, are misled by it."
            )
        else:
            title = f"{who} sends tunnel packets from {address}, not from {own}"
            evidence = []
            if on_path is False:
                evidence.append(f"they leave {who} with {address}: its kernel picks that address")
            advice = (
                f"Firewalls must let {address} pass as well, or {who}'s routes (their `src`) must "
                f"name {own}; the inventory should hold the Kubernetes InternalIP."
            )
        yield hazard(
            Cause.TRANSLATION,
            Severity.RECOMMENDED,
            title,
            nodes=nodes,
            where=f"{who} → {by}",
            evidence=[*evidence, f"seen so by {by}"],
            advice=advice,
            diagnosis=looks.get((first, address)),
            sample=(first, min(sources[first, address])),
        )


TOLD = frozenset(
    {
        RiskKey.TUNNEL_PORT,
        RiskKey.HEALTH_PORT,
        RiskKey.TUNNEL_OFFLOAD,
        RiskKey.CHECKSUM_OFFLOAD,
        RiskKey.MTU_DIFFERS,
        RiskKey.ROUTE_MTU,
        RiskKey.CONNTRACK_FULL,
        RiskKey.NEIGHBOURS_FULL,
        RiskKey.KERNEL_TOO_OLD,
        RiskKey.RANGE_HOLDS_NODE,
        RiskKey.RANGE_HOLDS_GATEWAY,
        RiskKey.RANGE_HOLDS_NAMESERVER,
        RiskKey.RANGE_HOLDS_SUBNET,
        RiskKey.RANGES_OVERLAP,
    }
)
"""What a check tells: no cell shows it, or not yet. The rest is `preflight node`'s."""

_BY_SIZE = (RiskKey.MTU_DIFFERS, RiskKey.ROUTE_MTU)


def from_risks(
    matrix: Matrix, risks: Sequence[Risk], findings: Sequence[Finding]
) -> Iterator[Finding]:
    """What the nodes' facts say, unless a finding tells it already."""
    size = any(finding.cause is Cause.SIZE for finding in findings)
    for risk in risks:
        if size and risk.key in _BY_SIZE:
            continue
        yield hazard(
            Cause.HAZARD,
            risk.severity,
            risk.title.removesuffix("."),
            nodes=risk.nodes,
            evidence=[*risk.evidence, f"see {risk.source}"] if risk.source else risk.evidence,
            changes=[
                Change(matrix.nodes[n].name, "shell", risk.commands, ())
                for n in risk.nodes
                if risk.commands
            ],
            advice=risk.advice,
        )


def from_remarks(matrix: Matrix, remarks: Sequence[Remark]) -> Iterator[Finding]:
    """What spec, cluster and inventory say before any probe."""
    positions = {node.name: number for number, node in enumerate(matrix.nodes)}
    for remark in remarks:
        yield hazard(
            Cause.CONFIGURATION,
            remark.severity,
            remark.title,
            nodes=sorted(positions[name] for name in remark.nodes if name in positions),
            evidence=remark.evidence,
            advice=remark.advice,
        )


def _own(node: Node, like: str) -> str:
    """The node's address of the family of another."""
    return node.address_in(family_of(like)) or listed(node.addresses)
