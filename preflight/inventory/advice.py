"""What an inventory makes to test, and what in it is allowed but hardly meant."""

from collections import defaultdict

from preflight.core.model import Connection, Family, Inventory, Node, family_of

_MOST_NAMES = 5


def pair_counts(inventory: Inventory) -> dict[Family, int]:
    """The number of ordered pairs that can be probed over each family; none where it is 0."""
    counts = dict.fromkeys(Family, 0)
    for members in _clusters(inventory).values():
        for family in Family:
            nodes = sum(node.address_in(family) is not None for node in members)
            counts[family] += nodes * (nodes - 1)
    return {family: count for family, count in counts.items() if count}


def warnings(inventory: Inventory) -> list[str]:
    """What is allowed but hardly meant, one sentence each."""
    found = []
    clusters = _clusters(inventory)
    for cluster, members in clusters.items():
        if len(clusters) > 1:
            found += _lonely(cluster, members)
        found += _without_common_family(members)
    if all(node.connection is Connection.NONE for node in inventory.nodes):
        found.append(
            "no node has an agent (connection: none), so nothing can be sent; "
            "say which one this machine is with --local NAME"
        )
    return found


def _clusters(inventory: Inventory) -> dict[str | None, list[Node]]:
    clusters: defaultdict[str | None, list[Node]] = defaultdict(list)
    for node in inventory.nodes:
        clusters[node.cluster].append(node)
    return clusters


def _lonely(cluster: str | None, members: list[Node]) -> list[str]:
    if cluster is None:
        have = "has" if len(members) == 1 else "have"
        return [f"{_names(members)} {have} no cluster: no pair is made with the nodes of one"]
    if len(members) == 1:
        return [f'cluster "{cluster}" has one node, {members[0].name}, and so makes no pair']
    return []


def _without_common_family(members: list[Node]) -> list[str]:
    only: dict[Family, list[Node]] = {family: [] for family in Family}
    for node in members:
        if len(node.addresses) == 1:
            only[family_of(node.address)].append(node)
    ipv4, ipv6 = only[Family.IPV4], only[Family.IPV6]
    if not ipv4 or not ipv6:
        return []
    pairs = 2 * len(ipv4) * len(ipv6)
    one_sided = f"{_names(ipv4)} (IPv4 only) and {_names(ipv6)} (IPv6 only)"
    return [f"{one_sided} share no address family: {pairs} ordered pairs are not probed"]


def _names(nodes: list[Node]) -> str:
    names = ", ".join(node.name for node in nodes[:_MOST_NAMES])
    more = len(nodes) - _MOST_NAMES
    return f"{names} and {more} more" if more > 0 else names
