"""Nodes whose devices take packets of unlike size, told before any probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.core.model import Node
from preflight.core.naming import Naming


class UnlikeMtus(NamedTuple):
    """Of one address family. MTUs in bytes of IP packet."""

    usual: int
    smallest: int
    unlike: tuple[int, ...]  # the nodes whose device has not the usual one
    words: str


def unlike_mtus(nodes: Sequence[Node], mtus: Mapping[int, int]) -> UnlikeMtus | None:
    """What `mtus`, by node, have in common or not; None where all are alike.

    A node whose MTU is 0 did not say.
    """
    known = {node: mtu for node, mtu in mtus.items() if mtu}
    counts = Counter(known.values())
    if len(counts) < 2:
        return None
    usual = max(counts, key=lambda mtu: (counts[mtu], mtu))
    naming = Naming(nodes)
    told = []
    for mtu in sorted(counts):
        if mtu != usual:
            those = sum(1 << node for node, own in known.items() if own == mtu)
            told.append(f"{naming.name(those)}: {mtu}")
    return UnlikeMtus(
        usual,
        min(counts),
        tuple(sorted(node for node, mtu in known.items() if mtu != usual)),
        f"{'; '.join(told)}; the others: {usual}",
    )
