"""From what an installation does to what must pass between its nodes.

Sources: cilium/cilium `Documentation/operations/system_requirements.rst` for the ports;
cilium/cilium#27170 and #36208 for what WireGuard makes of the tunnel's; `net/ipv4/udp_tunnel` of
Linux for source ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from preflight.core.cilium.config import (
    WIREGUARD_PORT,
    Encryption,
    Installation,
    Tunnel,
)
from preflight.core.model import ECHO, GENEVE, HEALTH, Probe, ProbeKind, Protocol, Severity

# GENEVE draws from all ports; VXLAN, without a range of its own, from net.ipv4.ip_local_port_range
# (udp_flow_src_port in include/net/udp.h), of which this is the default.
_VXLAN_SOURCES = (32768, 60999)
_KERNEL_DEFAULT = (0, 0)
WIREGUARD = Probe(
    "wireguard",
    ProbeKind.UDP,
    Protocol.UDP,
    WIREGUARD_PORT,
    Severity.REQUIRED,
    purpose="Cilium WireGuard between Kubernetes nodes; required",
)


class Needed(NamedTuple):
    """What an installation needs of the network, and what of that no probe tells."""

    probes: tuple[Probe, ...]
    notes: tuple[str, ...]  # plain sentences


def needed(installation: Installation) -> Needed:
    """The probes of one installation, the most important first."""
    probes: list[Probe] = []
    notes: list[str] = []
    it, source = installation, installation.source
    hidden = it.encryption is Encryption.WIREGUARD and it.node_encryption
    if it.tunnelled and hidden:
        notes.append(
            f"UDP {it.tunnel_port} ({it.tunnel.upper()}) is not tested: with WireGuard between "
            f"nodes ({source}) no tunnel packet is seen on the network"
        )
    elif it.tunnelled:
        probes.append(tunnel_probe(installation))
    else:
        notes.append(
            f"no tunnel port is tested: {source} routes natively, so the network between the nodes "
            f"must carry pod addresses themselves, which no probe here tells"
        )
    if it.tunnel_users and not hidden:
        notes.append(
            f"{source} routes natively, but {' and '.join(it.tunnel_users)} uses the "
            f"{it.tunnel.upper()} tunnel"
        )
    if it.encryption is Encryption.WIREGUARD:
        probes.append(replace(WIREGUARD, families=(it.underlay,)))
        if it.tunnelled and not hidden:
            notes.append(
                f"UDP {it.tunnel_port} and UDP {WIREGUARD_PORT} are both tested: without node "
                f"encryption ({source}) packets between nodes and remote pods may leave WireGuard "
                f"out, and a node's own firewall sees the tunnel inside it"
            )
    notes += _untested(installation)
    if it.health:
        probes.append(replace(HEALTH, port=it.health_port, families=it.families))
        probes.append(replace(ECHO, families=it.families))
    else:
        notes.append(
            f"TCP {it.health_port} and ICMP echo are not tested: {source} turns Cilium's own "
            f"health checks off"
        )
    return Needed(tuple(probes), tuple(notes))


def tunnel_probe(installation: Installation) -> Probe:
    """The probe for the tunnel that an installation would use."""
    it = installation
    geneve = it.tunnel is Tunnel.GENEVE
    ports = None if it.source_ports == _KERNEL_DEFAULT else it.source_ports
    if ports is None and not geneve:
        ports = _VXLAN_SOURCES
    return Probe(
        str(it.tunnel),
        ProbeKind.GENEVE if geneve else ProbeKind.VXLAN,
        Protocol.UDP,
        it.tunnel_port,
        GENEVE.severity,
        families=(it.underlay,),
        source_ports=ports,
    )


def _untested(installation: Installation) -> list[str]:
    source = installation.source
    told = {
        Encryption.IPSEC: f"ESP (IP protocol 50) is not tested: {source} turns IPsec on, which may "
        f"need it between all nodes, in both directions; ask the firewall's admins for it",
        Encryption.ZTUNNEL: f"what ztunnel needs is not tested: {source} turns it on",
    }
    return [text for kind, text in told.items() if kind is installation.encryption]


def describe(installation: Installation) -> str:
    """`GENEVE on UDP 6081`, for a sentence."""
    it = installation
    words = []
    if it.tunnelled:
        words.append(f"{it.tunnel.upper()} on UDP {it.tunnel_port}")
    else:
        words.append("native routing")
    if it.encryption is not Encryption.NONE:
        names = {
            Encryption.WIREGUARD: f"WireGuard on UDP {WIREGUARD_PORT}",
            Encryption.IPSEC: "IPsec",
            Encryption.ZTUNNEL: "ztunnel",
        }
        words.append(names[it.encryption])
    over = ""
    if len(it.families) > 1 or it.underlay is not it.families[0]:
        over = f" over {it.underlay.replace('ipv', 'IPv')}"
    return " with ".join(words) + over


def renamed(probe: Probe, taken: Sequence[Probe]) -> Probe:
    """`probe`, under a name that none of `taken` has."""
    names = {other.name for other in taken}
    return (
        probe
        if probe.name not in names
        else replace(probe, name=f"{probe.name}-{probe.port or probe.protocol}")
    )
