"""Findings without a bad cell: everything gets through, and Cilium may suffer all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis, RewrittenField
from preflight.core.findings.model import Cause, Change, Finding
from preflight.core.matrix import Matrix
from preflight.core.model import Node, Severity, family_of
from preflight.core.naming import Naming
from preflight.core.terms import listed

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
    """All of them, hazards last, numbered anew."""
    return [f._replace(identifier=f"F{n}") for n, f in enumerate([*findings, *hazards], 1)]


def translated(
    matrix: Matrix, sources: Sources, looks: Mapping[tuple[int, str], Diagnosis]
) -> Iterator[Finding]:
    """Nodes whose tunnel packets do not come from their address in the inventory."""
    naming = Naming(matrix.nodes)
    for (node, address), destinations in sorted(sources.items()):
        name, own = matrix.nodes[node].name, _own(matrix.nodes[node], address)
        by = naming.name(sum(1 << d for d in destinations))
        diagnosis = looks.get((node, address))
        on_path = diagnosis is not None and any(
            rewrite.field is RewrittenField.SOURCE for rewrite in diagnosis.rewrites
        )
        evidence = [f"seen so by {by}"]
        if on_path:
            evidence.insert(0, f"{own} left {name}, {address} arrived: it is rewritten on the way")
            title = (
                f"{name}'s tunnel packets are translated on the path: {address} instead of {own}"
            )
            advice = (
                "Exempt traffic between nodes from source address translation (masquerading): "
                "firewall rules by source address, and who reads a capture, are misled by it."
            )
        else:
            if diagnosis is not None:
                evidence.insert(0, f"they leave {name} with {address}: its kernel picks that")
            title = f"{name} sends tunnel packets from {address}, not from {own}"
            advice = (
                f"Firewalls must let {address} pass as well, or {name}'s routes (their `src`) must "
                f"name {own}; the inventory should hold the Kubernetes InternalIP."
            )
        yield hazard(
            Cause.TRANSLATION,
            Severity.RECOMMENDED,
            title,
            nodes=(node,),
            where=f"{name} → {by}",
            evidence=evidence,
            advice=advice,
            diagnosis=diagnosis,
            sample=(node, min(destinations)),
        )


def _own(node: Node, like: str) -> str:
    """The node's address of the family of another."""
    return node.address_in(family_of(like)) or listed(node.addresses)
