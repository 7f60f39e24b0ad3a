"""Pod and service ranges against each other and against what the nodes need: plain arithmetic.

Where a pod range holds a node's address, nodes lose each other when Cilium comes up, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import Network, Risk, RiskKey, Situation
from preflight.core.model import Severity

_SOURCE = "aws/eks-anywhere#6032, #6532; cilium/cilium#20053, #20208"
_CILIUM = "cilium_"
_OTHERS = ("docker0",)  # bridges whose range is not a pod network's, and is the node's own


def parse_range(text: str) -> Network:
    """A CIDR. Raises ValueError, whose text says what is wrong with it."""
    if "/" not in text:
        raise ValueError("a range has a prefix length, as 10.0.0.0/16 has")
    try:
        return ip_network(text)
    except ValueError:
        try:
            loose = ip_network(text, strict=False)
        except ValueError as error:
            raise ValueError("no IPv4 or IPv6 range") from error
        raise ValueError(f"an address, not a range: did you mean {loose}?") from None


def overlaps(situation: Situation) -> Iterator[Risk]:
    """A pod range and a service range share addresses."""
    for pods in situation.pod_ranges:
        for services in situation.service_ranges:
            if pods.version == services.version and pods.overlaps(services):
                yield Risk(
                    RiskKey.RANGES_OVERLAP,
                    Severity.REQUIRED,
                    (),
                    f"The pod range {pods} and the service range {services} overlap.",
                    (),
                    (),
                    "Choose ranges that share no address.",
                    _SOURCE,
                )


def holds(situation: Situation) -> Iterator[Risk]:
    """A range holds what the nodes need: one risk for a range, named after the worst of it."""
    for name, network in _ranges(situation):
        found = [*_nodes(situation, network), *_others(situation, name, network)]
        if found:
            worst = min(found, key=lambda held: _ORDER.index(held.key))
            yield Risk(
                worst.key,
                _SEVERITIES[worst.key],
                tuple(sorted({n for held in found for n in held.nodes})),
                f"The {name} range {network} {worst.text}.",
                tuple(f"it {held.text}" for held in found if held is not worst),
                (),
                _choose(name),
                _SOURCE,
            )


class _Held(NamedTuple):
    """Something that a range holds, of these nodes."""

    key: RiskKey
    nodes: tuple[int, ...]
    text: str


_SEVERITIES = {
    RiskKey.RANGE_HOLDS_NODE: Severity.REQUIRED,
    RiskKey.RANGE_HOLDS_GATEWAY: Severity.REQUIRED,
    RiskKey.RANGE_HOLDS_NAMESERVER: Severity.RECOMMENDED,
    RiskKey.RANGE_HOLDS_SUBNET: Severity.RECOMMENDED,
}
_ORDER = list(_SEVERITIES)


def _nodes(situation: Situation, network: Network) -> Iterator[_Held]:
    held = {
        n: inside
        for n, node in enumerate(situation.nodes)
        if (inside := [a for a in node.addresses if _inside(network, a)])
    }
    if held:
        one = len(held) == 1
        what = f"the address {held[min(held)][0]}" if one else "the addresses"
        text = f"holds {what} of {situation.who(held)}"
        yield _Held(RiskKey.RANGE_HOLDS_NODE, tuple(held), text)


def _others(situation: Situation, name: str, network: Network) -> Iterator[_Held]:
    known = dict(situation.known())
    gateways = {n: _gateways(facts) for n, facts in known.items()}
    for address, nodes in _whose(gateways, network).items():
        text = f"holds the gateway {address} of {situation.who(nodes)}"
        yield _Held(RiskKey.RANGE_HOLDS_GATEWAY, nodes, text)
    if name == "pod":  # nodes may well ask the cluster's own name service
        servers = {n: facts.nameservers or () for n, facts in known.items()}
        for address, nodes in _whose(servers, network).items():
            text = f"holds the name server {address} of {situation.who(nodes)}"
            yield _Held(RiskKey.RANGE_HOLDS_NAMESERVER, nodes, text)
    subnets: dict[Network, list[int]] = {}
    for n, facts in known.items():
        for subnet in _own_subnets(facts):
            if subnet.version == network.version and subnet.overlaps(network):
                subnets.setdefault(subnet, []).append(n)
    for subnet, among in subnets.items():
        text = f"overlaps the subnet {subnet} of {situation.who(among)}"
        yield _Held(RiskKey.RANGE_HOLDS_SUBNET, tuple(among), text)


def _whose(by_node: Mapping[int, Iterable[str]], network: Network) -> Mapping[str, tuple[int, ...]]:
    """The addresses that the network holds, each with the nodes that have it."""
    found: dict[str, tuple[int, ...]] = {}
    for n, addresses in by_node.items():
        for address in dict.fromkeys(addresses):
            if _inside(network, address):
                found[address] = (*found.get(address, ()), n)
    return found


def _own_subnets(facts: NodeFacts) -> Iterator[Network]:
    """The subnets that the node itself is in; not those of a pod network."""
    devices = {*facts.towards(), *(way.device for way in facts.defaults or ()), *_OTHERS}
    seen = set()
    for address in facts.addresses or ():
        subnet = ip_network(f"{address.address}/{address.prefix}", strict=False)
        single = subnet.prefixlen == subnet.max_prefixlen
        usable = address.device in devices and not address.device.startswith(_CILIUM)
        if usable and not single and address.scope == "global" and subnet not in seen:
            seen.add(subnet)
            yield subnet


def _gateways(facts: NodeFacts) -> list[str]:
    ways = (*(facts.ways or ()), *(facts.defaults or ()))
    return [
        way.gateway
        for way in ways
        if way.gateway is not None and not (way.device or "").startswith(_CILIUM)
    ]


def _ranges(situation: Situation) -> Iterator[tuple[str, Network]]:
    yield from (("pod", network) for network in situation.pod_ranges)
    yield from (("service", network) for network in situation.service_ranges)


def _inside(network: Network, address: str) -> bool:
    parsed = ip_address(address.partition("%")[0])
    return parsed.version == network.version and parsed in network


def _choose(name: str) -> str:
    key = (
        "clusterNetwork.pods.cidrBlocks" if name == "pod" else "clusterNetwork.services.cidrBlocks"
    )
    return (
        f"Choose a {name} range that is nowhere else in your network (EKS Anywhere: {key}) before "
        f"the cluster is made: it cannot be changed afterwards."
    )
