"""Somebody else has a port that Cilium will want."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from preflight.core.facts.leftovers import NETWORK, devices_of
from preflight.core.facts.model import Link, NodeFacts, Socket
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather
from preflight.core.model import Phase, ProbeKind, Protocol, Severity

_CILIUM = "cilium"
_OVS_PREFIXES = ("genev_sys_", "vxlan_sys_")
_SOURCE = "Cilium's system requirements: these ports must be available on each node"


def tunnel_ports(situation: Situation) -> Iterator[Risk]:
    """A tunnel's UDP port is a stranger's: Cilium's own device cannot come up."""
    ports = [probe.port for probe in situation.tunnels() if probe.port]
    cases = (
        case
        for n, facts in situation.known()
        for port in ports
        if (case := _case(n, facts, Protocol.UDP, port, situation.phase)) is not None
    )
    yield from gather(situation, RiskKey.TUNNEL_PORT, Severity.REQUIRED, _SOURCE, cases)


def health_port(situation: Situation) -> Iterator[Risk]:
    """Cilium's health port is a stranger's: nodes will look unhealthy that are not."""
    ports = [p.port for p in situation.probes if p.kind is ProbeKind.HEALTH and p.port]
    cases = (
        case
        for n, facts in situation.known()
        for port in ports
        if (case := _case(n, facts, Protocol.TCP, port, situation.phase)) is not None
    )
    yield from gather(situation, RiskKey.HEALTH_PORT, Severity.RECOMMENDED, _SOURCE, cases)


def tunnel_of(facts: NodeFacts, port: int) -> Link | None:
    """The kernel's tunnel device that has a UDP port; one that is down has none."""
    up = (link for link in facts.links or () if link.up and link.tunnel is not None)
    return next((link for link in up if link.tunnel is not None and link.tunnel.port == port), None)


def _case(node: int, facts: NodeFacts, protocol: Protocol, port: int, phase: Phase) -> Case | None:
    held = [s for s in facts.sockets or () if (s.protocol, s.port) == (protocol, port)]
    if protocol is Protocol.TCP:  # bound to loopback alone it is in nobody's way
        held = [socket for socket in held if not ip_address(socket.address).is_loopback]
    strangers = [s for s in held if s.process is not None and not s.process.startswith(_CILIUM)]
    what = f"{protocol.upper()} {port}"
    verb = "will want" if phase is Phase.BEFORE else "wants"
    if strangers:
        return _process(node, what, verb, strangers)
    device = tunnel_of(facts, port) if protocol is Protocol.UDP and held else None
    if device is None or device.name.startswith(_CILIUM):
        return None  # free, Cilium's own, or nobody knows whose
    if phase is Phase.AFTER and not _of_another(facts, device):
        return None  # a name alone proves nothing against what is there to be Cilium's
    ovs = ", which Open vSwitch makes" if device.name.startswith(_OVS_PREFIXES) else ""
    return Case(
        node,
        f"On {WHO}, {what} belongs to the kernel tunnel {device.name}; Cilium {verb} it.",
        f"{device.name} is a {device.kind} device on UDP {port}{ovs}",
        advice=f"Remove whoever made {device.name}, or give Cilium another port (Helm value "
        f"tunnelPort) and open that one in the firewalls.",
    )


def _of_another(facts: NodeFacts, device: Link) -> bool:
    """Its name is one that only another network's devices have."""
    others = (found for name, found in devices_of(facts).items() if name != NETWORK)
    return device.name.startswith(_OVS_PREFIXES) or any(device in found for found in others)


def _process(node: int, what: str, verb: str, sockets: list[Socket]) -> Case:
    first = sockets[0]
    where = ", ".join(sorted({_place(socket) for socket in sockets}))
    udp = first.protocol is Protocol.UDP
    other = ", or give Cilium another port (Helm value tunnelPort)" if udp else ""
    return Case(
        node,
        f"On {WHO}, {what} is held by {first.process}; Cilium {verb} it.",
        f"{first.process}, pid {first.pid}, is bound to {where}",
        advice=f"Stop {first.process}, and what starts it{other}.",
    )


def _place(socket: Socket) -> str:
    host = f"[{socket.address}]" if ":" in socket.address else socket.address
    return f"{host}:{socket.port}"
