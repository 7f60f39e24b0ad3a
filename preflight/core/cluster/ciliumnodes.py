"""CiliumNode objects against the nodes: what each agent believes of all the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from preflight.core.cluster.model import CiliumNode, KubeNode
from preflight.core.cluster.problem import Problem
from preflight.core.model import Severity


def cilium_node_problems(
    known: Sequence[KubeNode], cilium: Sequence[CiliumNode]
) -> Iterator[Problem]:
    """Missing ones, stale ones, and addresses that differ or are shared."""
    theirs = {c.name: c for c in cilium}
    names = {n.name for n in known}
    missing = tuple(n.name for n in known if n.name not in theirs and not n.windows)
    if missing:
        yield Problem(
            "cilium-node-missing",
            Severity.REQUIRED,
            "no CiliumNode object for {nodes}: the other agents do not know these nodes",
            missing,
            advice="The node's own agent makes it when it starts: look at its log.",
        )
    stale = tuple(c.name for c in cilium if c.name not in names)
    if stale:
        yield Problem(
            "cilium-node-stale",
            Severity.RECOMMENDED,
            "CiliumNode objects of nodes that are gone: {nodes}",
            stale,
            advice="The operator removes them in time; by hand:",
            command=f"kubectl delete ciliumnode {stale[0]}",
        )
    for node in known:
        other = theirs.get(node.name)
        if other is None or not node.addresses:
            continue
        if not other.internal:
            yield Problem(
                "cilium-node-address",
                Severity.REQUIRED,
                "the CiliumNode object of {nodes} has no address",
                (node.name,),
                (f"InternalIP of the node: {', '.join(node.addresses)}",),
                "The other nodes know nowhere to tunnel to: restart the agent of this node.",
            )
            continue
        mine, told = set(map(_plain, node.addresses)), set(map(_plain, other.internal))
        if not told <= mine:
            yield Problem(
                "cilium-node-address",
                Severity.REQUIRED,
                "the CiliumNode object of {nodes} has another address than the node",
                (node.name,),
                (
                    f"InternalIP of the node: {', '.join(node.addresses)}",
                    f"of the CiliumNode: {', '.join(other.internal)}",
                ),
                "The other nodes tunnel to the second one: restart the agent of this node.",
            )
    owners: dict[str, list[str]] = {}
    for one in cilium:
        for address in dict.fromkeys(map(_plain, one.internal)):
            owners.setdefault(address, []).append(one.name)
    for address, sharing in owners.items():
        if len(sharing) > 1:
            yield Problem(
                "cilium-node-shared-address",
                Severity.REQUIRED if set(sharing) <= names else Severity.RECOMMENDED,
                f"several CiliumNode objects have the address {address}: {{nodes}}",
                tuple(sharing),
            )


def _plain(address: str) -> str:
    """An address in its one shortest form; as it is where it is none."""
    try:
        return str(ip_address(address))
    except ValueError:
        return address
