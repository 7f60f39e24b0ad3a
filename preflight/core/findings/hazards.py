"""Findings without a bad cell: everything gets through, and Cilium may suffer all the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.cilium.remarks import Remark
from preflight.core.diagnosis.conclusions import Diagnosis, RewrittenField
from preflight.core.facts.risk import Risk, RiskKey
from preflight.core.findings.model import Cause, Change, Finding
from preflight.core.findings.rule_words import rule_in_words
from preflight.core.findings.translation import except_nodes
from preflight.core.groups import FamilyProbe
from preflight.core.matrix import Matrix
from preflight.core.model import Node, Place, Severity, family_of
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
    matrix: Matrix,
    sources: Sources,
    looks: Mapping[tuple[int, str], Diagnosis],
    told: Collection[tuple[int, str]] = (),
) -> Iterator[Finding]:
    """Nodes whose tunnel packets do not come from their address in the inventory.

    `told` are those, with the address, of which another finding tells.
    """
    naming = Naming(matrix.nodes)
    alike: dict[tuple[Place | None, str], list[int]] = {}
    for node, address in sorted(sources):
        if (node, address) not in told:
            does = _doer(looks.get((node, address)), address)
            alike.setdefault((does, address), []).append(node)
    for one in _by_translator(alike):
        first = one.nodes[0], next(a for a in one.addresses if (one.nodes[0], a) in sources)
        who = naming.name(sum(1 << n for n in one.nodes))
        seen = [(n, a) for n in one.nodes for a in one.addresses if (n, a) in sources]
        by = naming.name(sum(1 << d for d in set().union(*(sources[spot] for spot in seen))))
        own = listed(_own(matrix.nodes[n], first[1]) for n in one.nodes[:_SHOWN])
        sends = [look.leaves_as for s in seen if (look := looks.get(s)) and look.leaves_as]
        words = _words(one.does, who, _alternatives(one.addresses), own)
        tests = [
            FamilyProbe(p, family_of(first[1]))
            for p, probe in enumerate(matrix.probes)
            if probe.one_way and not probe.overlay
        ]
        mended = except_nodes(matrix.nodes, matrix.probes, tests, sends)
        rules = [
            f"{rule_in_words(sent.hit.rule)} on {matrix.nodes[sent.node].name} rewrites it"
            for sent in sends
            if sent.hit is not None
        ]
        yield hazard(
            Cause.TRANSLATION,
            Severity.RECOMMENDED,
            words.title,
            nodes=one.nodes if one.does is not None else (),
            where=f"{who} → {by}",
            evidence=[*words.evidence, *rules, f"seen so by {by}"],
            changes=mended.changes,
            advice=" ".join((*words.advice, *mended.advice)),
            diagnosis=looks.get(first),
            sample=(first[0], min(sources[first])),
        )


class _Translated(NamedTuple):
    """Nodes whose packets bear some of these addresses, all of one family."""

    does: Place | None
    addresses: tuple[str, ...]
    nodes: tuple[int, ...]


def _by_translator(alike: Mapping[tuple[Place | None, str], list[int]]) -> list[_Translated]:
    """What the path does to packets of one node is one translator's: a router masquerades by the
    address of the device that a packet leaves by.
    """
    found: list[_Translated] = []
    for (does, address), nodes in alike.items():
        one = _Translated(does, (address,), tuple(nodes))
        for other in list(found) if does is Place.PATH else ():
            same = family_of(other.addresses[0]) is family_of(address)
            if other.does is does and same and {*other.nodes} & {*nodes}:
                found.remove(other)
                both = tuple(sorted({*other.nodes, *one.nodes}))
                one = _Translated(does, (*other.addresses, *one.addresses), both)
        found.append(one)
    return found


def _alternatives(addresses: Sequence[str]) -> str:
    """`10.0.1.1, 10.0.2.1 or 2 more`"""
    more = [f"{len(addresses) - _SHOWN} more"] if len(addresses) > _SHOWN else []
    *most, last = (*addresses[:_SHOWN], *more)
    return f"{', '.join(most)} or {last}" if most else last


class _Words(NamedTuple):
    title: str
    evidence: tuple[str, ...]
    advice: tuple[str, ...]


def _doer(diagnosis: Diagnosis | None, address: str) -> Place | None:
    """Where a tunnel packet gets that address; None where nobody has looked, or seen it."""
    if diagnosis is None:
        return None
    if any(rewrite.field is RewrittenField.SOURCE for rewrite in diagnosis.rewrites):
        return Place.PATH
    sent = diagnosis.leaves_as
    return Place.SOURCE if sent is not None and sent.address == address else None


def _words(does: Place | None, who: str, address: str, own: str) -> _Words:
    if does is Place.PATH:
        told = (
            "Exempt traffic between nodes from source address translation (masquerading): "
            "firewall rules by source address, and who reads a capture, are misled by it."
        )
        title = f"{who}: tunnel packets are translated on the path, {address} instead of {own}"
        return _Words(
            title, (f"{own} left, {address} arrived: it is rewritten on the way",), (told,)
        )
    if does is Place.SOURCE:
        told = f"Until that is changed, firewalls must let {address} pass as well."
        title = f"{who} sends tunnel packets from {address}, not from {own}"
        return _Words(title, (f"they leave {who} with {address}",), (told,))
    told = (
        "Who does it is not known: source address translation (masquerading) on the path, or "
        f"{who} itself, by its routes (their `src`) or nat rules. Exempt traffic between nodes "
        f"from it; until then, firewalls behind it must let {address} pass."
    )
    return _Words(f"{who}: tunnel packets arrive from {address}, not from {own}", (), (told,))


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
