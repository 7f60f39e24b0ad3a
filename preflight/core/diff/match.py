"""Which nodes, probes and families of two runs are the same ones.

Nodes go by name. Those that are left go by address, but only where the names differ in no more than
a domain, or where the runs have no name in common at all, so that another naming is the likelier
story: a machine that took over the address of one that is gone must not be blamed for it. Probes
go by name where they send the same, else by what they send.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Node, Probe


def match_nodes(before: Sequence[Node], after: Sequence[Node]) -> tuple[NodePairing, ...]:
    """All nodes of both, AFTER's first and in its order."""
    names = {node.name: position for position, node in enumerate(before)}
    found = {a: names[node.name] for a, node in enumerate(after) if node.name in names}
    left = set(range(len(before))) - set(found.values())
    owners = _by_address(before, left)
    renamed = {}
    for a, node in enumerate(after):
        if a in found:
            continue
        former = {owners[address] for address in node.addresses if address in owners}
        if len(former) == 1 and (b := former.pop()) in left:
            if found and _host(before[b]) != _host(node):
                continue
            left.discard(b)
            renamed[a] = b
    pairings = []
    for a, node in enumerate(after):
        position = found.get(a, renamed.get(a))
        was = None if position is None else before[position]
        pairings.append(NodePairing(position, a, node, was, by_address=a in renamed))
    pairings += (NodePairing(b, None, before[b], before[b]) for b in sorted(left))
    return tuple(pairings)


def _host(node: Node) -> str:
    """A name without its domain."""
    return node.name.partition(".")[0].casefold()


def _by_address(nodes: Sequence[Node], positions: set[int]) -> dict[str, int]:
    """Whose an address is, those of two nodes left out."""
    owners: dict[str, int] = {}
    twice: set[str] = set()
    for position in sorted(positions):
        for address in nodes[position].addresses:
            if address in owners:
                twice.add(address)
            owners[address] = position
    return {address: owner for address, owner in owners.items() if address not in twice}


def match_probes(before: Sequence[Probe], after: Sequence[Probe]) -> tuple[ProbePairing, ...]:
    """All probes of both, AFTER's first and in its order."""
    found: dict[int, int] = {}
    for by_name in (True, False):
        for a, probe in enumerate(after):
            if a in found:
                continue
            same = [
                b
                for b, former in enumerate(before)
                if b not in found.values()
                and _sends(former) == _sends(probe)
                and (former.name == probe.name or not by_name)
            ]
            if len(same) == 1:
                found[a] = same[0]
    pairings = []
    for a, probe in enumerate(after):
        position = found.get(a)
        was = None if position is None else before[position]
        pairings.append(ProbePairing(position, a, probe, was))
    left = sorted(set(range(len(before))) - set(found.values()))
    return (*pairings, *(ProbePairing(b, None, before[b], before[b]) for b in left))


def _sends(probe: Probe) -> tuple[object, ...]:
    return probe.kind, probe.protocol, probe.port


def match_families(before: Matrix, after: Matrix) -> tuple[Family, ...]:
    """All families of both, AFTER's first."""
    return tuple(dict.fromkeys((*after.families, *before.families)))


def changed_addresses(nodes: Sequence[NodePairing]) -> Iterator[tuple[NodePairing, NodePairing]]:
    """A node that has an address now that another one had, and that other one."""
    had = {
        address: pairing
        for pairing in nodes
        if pairing.former is not None
        for address in pairing.former.addresses
    }
    for pairing in nodes:
        if pairing.after is None:
            continue
        others = {id(had[a]): had[a] for a in pairing.node.addresses if a in had}
        yield from ((pairing, other) for other in others.values() if other is not pairing)
