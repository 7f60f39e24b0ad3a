"""One node's facts in words, a few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.facts.devices import CHECKSUM, UDP_TUNNEL
from preflight.core.facts.leftovers import devices_of
from preflight.core.facts.model import Fill, Link, NodeFacts, Socket, Way
from preflight.core.facts.paths import effective_rp_filter
from preflight.core.facts.ports import tunnel_of
from preflight.core.facts.request import USUAL_PORTS
from preflight.core.facts.risk import Clock
from preflight.core.model import Family, Node, Protocol
from preflight.core.naming import Naming
from preflight.core.terms import listed, plural

_OFFLOADS = (*UDP_TUNNEL, CHECKSUM, "tx-checksum-ipv4", "tx-checksum-ipv6", "rx-checksum", "rx-gro")
_HEAD = 9  # cells of a heading, so that the nodes' sheets are alike
_RP_FILTER = {0: "off", 1: "strict", 2: "loose"}
# Whose chains the first word of a name tells, and what they are called.
_CHAINS = {
    "KUBE": "kube-proxy",
    "CILIUM": "Cilium",
    "DOCKER": "Docker",
    "cali": "Calico",
    "FLANNEL": "Flannel",
    "ufw": "ufw",
    "ANTREA": "Antrea",
    "WEAVE": "Weave Net",
}
_ERRORS = {101: "unreachable", 113: "unreachable", 13: "prohibited", 22: "blackhole"}


def rows(
    node: Node, facts: NodeFacts, clock: Clock | None, nodes: Sequence[Node]
) -> list[tuple[str, str]]:
    """What there is to say, a heading and a sentence each; what is not known comes last."""
    parts = (
        ("kernel", "; ".join(_kernel(facts, clock))),
        ("ports", ", ".join(_ports(facts))),
        *(("device", text) for text in _devices(facts)),
        *(("way", text) for text in _ways(facts, Naming(nodes))),
        ("settings", "; ".join(_settings(node, facts))),
        ("tables", "; ".join(_tables(facts))),
        ("firewall", "; ".join(_firewalls(facts))),
        ("system", "; ".join(_system(facts))),
        ("CNI", "; ".join(_networks(facts))),
        ("read by", _read_by(facts)),
        *(("not known", f"{name}: {reason}") for name, reason in facts.unknown.items()),
    )
    out, last = [], ""
    for head, text in parts:
        if text:
            out.append(("" if head == last else head.ljust(_HEAD), text))
            last = head
    return out


def brief(node: Node, facts: NodeFacts) -> tuple[str, ...]:
    """The least that tells nodes apart."""
    devices = (
        listed(
            f"{link.name} {_driver(facts, link.name)} MTU {link.mtu:,}"
            for link in facts.towards().values()
        )
        if facts.towards()
        else ""
    )
    held = dict.fromkeys(f"{s.protocol.upper()} {s.port}" for s in facts.sockets or ())
    ports = listed(held) if held else ""
    in_use = f"{ports} in use" if ports else "ports free" if facts.sockets is not None else ""
    return node.addresses[0] if node.addresses else "", facts.kernel or "", devices, in_use


def _kernel(facts: NodeFacts, clock: Clock | None) -> Iterator[str]:
    if facts.kernel:
        yield f"{facts.kernel} {facts.machine or ''}".strip()
    if facts.modules:
        yield ", ".join(f"{name.upper()} {state}" for name, state in facts.modules.items())
    kept = facts.timekeeping
    if clock is not None:
        where = "ahead of" if clock.offset >= 0 else "behind"
        margin = max(clock.uncertainty, 0.001)
        words = f"clock {abs(clock.offset):,.3f} s {where} ours, within {margin:,.3f} s"
        if abs(clock.offset) <= margin:
            words = f"clock as ours, within {margin:,.3f} s"
        sync = (
            "" if kept is None else ", synchronised" if kept.synchronised else ", not synchronised"
        )
        yield words + sync


def _ports(facts: NodeFacts) -> Iterator[str]:
    if facts.sockets is None:
        return
    asked = [(p, port) for p, ports in USUAL_PORTS.items() for port in ports]
    found: dict[tuple[Protocol, int], list[Socket]] = {}
    for socket in facts.sockets:
        found.setdefault((socket.protocol, socket.port), []).append(socket)
    for protocol, port in dict.fromkeys([*asked, *found]):
        name = f"{protocol.upper()} {port}"
        sockets = found.get((protocol, port))
        yield f"{name} {_holder(facts, sockets)}" if sockets else f"{name} free"


def _holder(facts: NodeFacts, sockets: Sequence[Socket]) -> str:
    processes = {f"{s.process} (pid {s.pid})" for s in sockets if s.process is not None}
    if processes:
        return f"held by {listed(sorted(processes))}"
    device = tunnel_of(facts, sockets[0].port) if sockets[0].protocol is Protocol.UDP else None
    if device is None or device.tunnel is None:
        return "in use, by whom is not known"
    identifier = "external" if device.tunnel.external else f"VNI {device.tunnel.vni}"
    return f"held by the kernel's {device.name} ({device.kind}, {identifier})"


def _devices(facts: NodeFacts) -> Iterator[str]:
    told: dict[str, Link] = {}
    for name in facts.towards():
        told.update((link.name, link) for link in facts.below(name))
    for name, link in told.items():
        parts = [_driver(facts, name), _speed(facts, name), f"MTU {link.mtu:,}"]
        if not link.up or not link.carrier:
            parts.append("down" if not link.up else "no carrier")
        if link.vlan is not None:
            parts.append(f"VLAN {link.vlan} on {link.lower}")
        if link.bond_mode is not None:
            parts.append(f"bond {link.bond_mode}")
        if link.master is not None:
            parts.append(f"part of {link.master}")
        if offloads := _offloads(facts, name):
            parts.append(f"on: {offloads}")
        yield f"{name}: {', '.join(part for part in parts if part)}"


def _driver(facts: NodeFacts, name: str) -> str:
    offloads, link = (facts.offloads or {}).get(name), facts.link(name)
    if offloads is not None and offloads.driver:
        return offloads.driver
    return (link.kind or "") if link is not None else ""


def _speed(facts: NodeFacts, name: str) -> str:
    media = (facts.media or {}).get(name)
    if media is None or media.speed is None:
        return ""
    half = " half duplex" if media.duplex == "half" else ""
    return f"{media.speed:,} Mbit/s{half}"


def _offloads(facts: NodeFacts, name: str) -> str:
    offloads = (facts.offloads or {}).get(name)
    if offloads is None:
        return ""
    return ", ".join(name for name in _OFFLOADS if offloads.on(name))


def _ways(facts: NodeFacts, naming: Naming) -> Iterator[str]:
    for way in facts.ways or ():
        peers = naming.name(sum(1 << peer for peer in way.peers))
        yield f"to {peers}: {_way(way)}"
    told = {(way.device, way.gateway, way.source) for way in facts.ways or ()}
    for way in facts.defaults or ():
        if (way.device, way.gateway, way.source) in told:
            continue
        yield f"{way.family.replace('ipv', 'IPv')} elsewhere: {_way(way)}"


def _way(way: Way) -> str:
    if way.error is not None:
        return f"none ({_ERRORS.get(way.error, f'errno {way.error}')})"
    via = f" via {way.gateway}" if way.gateway else ""
    source = f", from {way.source}" if way.source else ""
    mtu = "" if way.mtu is None else f", MTU {way.mtu:,}{' as told by ICMP' if way.learned else ''}"
    return f"{way.device}{via}{source}{mtu}"


def _settings(node: Node, facts: NodeFacts) -> Iterator[str]:
    devices = list(facts.towards())
    filters = {d: effective_rp_filter(facts, d) for d in devices}
    known = {
        d: _RP_FILTER.get(value, str(value)) for d, value in filters.items() if value is not None
    }
    if known:
        yield "rp_filter " + ", ".join(f"{word} on {device}" for device, word in known.items())
    if facts.echo_ignored is not None:
        mine = {f: ignored for f, ignored in facts.echo_ignored.items() if node.address_in(f)}
        silent = [f.replace("ipv", "IPv") for f, ignored in mine.items() if ignored]
        yield f"ping ignored over {listed(silent)}" if silent else "ping answered"
    if facts.rules:
        yield f"{plural(len(facts.rules), 'policy routing rule')}"


def _tables(facts: NodeFacts) -> Iterator[str]:
    if facts.conntrack is not None:
        yield f"connections {_fill(facts.conntrack)}"
    names = {Family.IPV4: "ARP", Family.IPV6: "IPv6 neighbours"}
    for family, fill in (facts.neighbours or {}).items():
        yield f"{names[family]} {_fill(fill)}"
    if facts.tcp_checksum_errors:
        yield f"{facts.tcp_checksum_errors:,} TCP segments came with a wrong checksum"


def _fill(fill: Fill) -> str:
    return f"{fill.count:,} of {fill.most:,}"


def _firewalls(facts: NodeFacts) -> Iterator[str]:
    services = facts.services
    if services is not None:
        managers = ("firewalld", "ufw", "nftables", "iptables", "netfilter-persistent")
        active = [name for name in managers if name in services.active]
        idle = [name for name in managers if name in services.installed and name not in active]
        if active or services.systemd is not None:  # without systemd nobody told
            yield f"{listed(active)} running" if active else "no service running"
        if idle:
            yield f"{listed(idle)} installed"
    if facts.nftables is not None:
        used = [t for t in facts.nftables if t.base]
        drops = [
            f"{t.family} {t.name} {c.name} ({c.hook})"
            for t in used
            for c in t.base
            if c.policy == "drop"
        ]
        yield (
            f"nftables tables {listed(f'{t.family} {t.name}' for t in used)}"
            if used
            else "no nftables rules"
        )
        if drops:
            yield f"policy drop in {listed(drops)}"
    if facts.iptables is not None and (full := [t for t in facts.iptables if t.rules]):
        tables = listed(
            f"{t.name} {'IPv6 ' if t.family is Family.IPV6 else ''}({plural(t.rules, 'rule')})"
            for t in full
        )
        yield f"iptables-legacy tables {tables}"
    if owners := _chain_owners(facts):
        yield f"chains of {listed(owners)}"


def _chain_owners(facts: NodeFacts) -> list[str]:
    words = {word for table in facts.nftables or () for word in table.chains}
    words |= {word for table in facts.iptables or () for word in table.chains}
    return [name for word, name in _CHAINS.items() if word in words]


def _system(facts: NodeFacts) -> Iterator[str]:
    services = facts.services
    if services is None:
        return
    if services.systemd is not None:
        yield f"systemd {services.systemd}"
    for name in ("systemd-networkd", "NetworkManager", "docker"):
        if name in services.active:
            yield f"{name} running"
    for key, value in services.settings.items():
        if key.startswith("networkd."):
            yield f"{key.removeprefix('networkd.')}={value}"


def _networks(facts: NodeFacts) -> Iterator[str]:
    for name, devices in devices_of(facts).items():
        yield f"{name}: {listed(device.name for device in devices)}"
    if facts.cni:
        yield f"/etc/cni/net.d: {', '.join(facts.cni)}"


def _read_by(facts: NodeFacts) -> str:
    """The libraries, where they were used: the rest is what the kernel itself says."""
    by: dict[str, list[str]] = {}
    for fact, source in facts.sources.items():
        if source.startswith(("pyroute2", "psutil")):
            by.setdefault(source, []).append(fact)
    return (
        "; ".join(
            [
                *(f"{source} ({', '.join(what)})" for source, what in by.items()),
                "/proc, /sys, netlink",
            ]
        )
        if by
        else ""
    )
