"""The question that an agent is asked about its node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from preflight.core.model import Family, Node, Probe, Protocol

_FAMILIES = {Family.IPV4: "4", Family.IPV6: "6"}
USUAL_PORTS = {Protocol.UDP: (6081, 8472), Protocol.TCP: (4240,)}


class Part(StrEnum):
    """What can be asked for apart, as it costs the node unlike much."""

    NETWORK = "network"  # devices, addresses, ways, offloads, kernel settings
    PORTS = "ports"  # who has the ports; walks processes, but only where somebody has one
    SERVICES = "services"  # firewall managers, systemd, leftovers of a container network, NTP
    FIREWALL = "firewall"  # nftables and iptables in outline


CHEAP = (Part.NETWORK, Part.PORTS)
ALL = tuple(Part)


def request(
    nodes: Sequence[Node],
    me: int,
    probes: Sequence[Probe],
    parts: Sequence[Part] = ALL,
    number: int = 0,
) -> Mapping[str, object]:
    """The `facts` frame for node number `me`, asking about its way to every peer of its cluster.

    `number` comes back in the answer.
    """
    peers = {
        key: [
            node.address_in(family) if n != me and node.cluster == nodes[me].cluster else None
            for n, node in enumerate(nodes)
        ]
        for family, key in _FAMILIES.items()
    }
    return {
        "t": "facts",
        "number": number,
        "parts": [str(part) for part in parts],
        "peers": peers,
        "udp": _ports(probes, Protocol.UDP),
        "tcp": _ports(probes, Protocol.TCP),
    }


def _ports(probes: Sequence[Probe], protocol: Protocol) -> list[int]:
    probed = {p.port for p in probes if p.protocol is protocol and p.port is not None}
    return sorted(probed.union(USUAL_PORTS[protocol]))
