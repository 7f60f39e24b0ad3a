"""What is known of one node. Unknown is None, and `NodeFacts.unknown` has the reason.

Nothing here is a judgement; `readiness` makes those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from preflight.core.model import Family, Protocol, family_of


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What makes a network device a tunnel over UDP."""

    port: int | None
    vni: int | None
    external: bool  # each packet says itself where it goes, as with Cilium's devices


@dataclass(frozen=True, slots=True)
class Link:
    """A network device."""

    name: str
    kind: str | None  # rtnetlink's word; None: a plain one, as hardware is
    mtu: int
    up: bool
    carrier: bool
    lower: str | None = None  # what a VLAN or the like sends through
    master: str | None = None  # the bond or bridge that it belongs to
    tunnel: Tunnel | None = None
    vlan: int | None = None
    bond_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the node."""

    device: str
    address: str
    prefix: int
    scope: str

    @property
    def family(self) -> Family:
        return family_of(self.address)


@dataclass(frozen=True, slots=True)
class Way:
    """How the kernel sends to some peers, or to nobody in particular (the default way)."""

    family: Family
    peers: tuple[int, ...] = ()
    device: str | None = None
    gateway: str | None = None  # None: the peer is on the link
    source: str | None = None  # the address that the kernel picks for itself
    mtu: int | None = None  # the route's own, where it has one
    learned: bool = False  # that MTU is what an ICMP error told
    error: int | None = None  # the errno that a socket would get


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """An `ip rule` besides the kernel's own three."""

    family: Family
    priority: int
    table: int
    mark: int | None = None
    source: str | None = None
    protocol: int | None = None  # who made it, as rtnetlink numbers makers; 2: the kernel


@dataclass(frozen=True, slots=True)
class Offloads:
    """A device's driver and which of its offloads are on, by ethtool's names."""

    driver: str | None
    features: Mapping[str, bool]
    fixed: frozenset[str] = frozenset()  # those that cannot be changed

    def on(self, name: str) -> bool:
        """False also where the device has no such offload."""
        return self.features.get(name, False)


@dataclass(frozen=True, slots=True)
class Media:
    """What a device runs at."""

    speed: int | None  # Mbit/s
    duplex: str | None  # full or half
    bus_driver: str | None


@dataclass(frozen=True, slots=True)
class Socket:
    """Somebody has a port that was asked for."""

    protocol: Protocol
    port: int
    family: Family
    address: str
    pid: int | None  # None: no process that could be seen; a kernel tunnel has none
    process: str | None


@dataclass(frozen=True, slots=True)
class Fill:
    """A table of the kernel's and how many entries it may have."""

    count: int
    most: int

    @property
    def ratio(self) -> float:
        return self.count / self.most if self.most else 0.0


@dataclass(frozen=True, slots=True)
class BaseChain:
    """An nftables chain that packets come to by themselves."""

    name: str
    hook: str
    priority: int
    policy: str  # accept or drop
    rules: int


@dataclass(frozen=True, slots=True)
class NftTable:
    """An nftables table in outline; `chains` counts chains by the first word of their names."""

    family: str
    name: str
    base: tuple[BaseChain, ...]
    chains: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LegacyTable:
    """A table of iptables-legacy in outline."""

    family: Family
    name: str
    rules: int
    chains: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Services:
    """What systemd runs of all that manages firewalls and routes."""

    systemd: int | None  # its version; None: it does not run this node, or has no version
    active: tuple[str, ...]
    installed: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Timekeeping:
    """What the kernel knows of its clock."""

    synchronised: bool
    max_error_us: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. Every field may be None: not asked for, or `unknown` says why not."""

    links: tuple[Link, ...] | None = None
    links_untold: int = 0  # devices of pods and guests that were left out
    addresses: tuple[Address, ...] | None = None
    ways: tuple[Way, ...] | None = None
    defaults: tuple[Way, ...] | None = None
    rules: tuple[PolicyRule, ...] | None = None
    offloads: Mapping[str, Offloads] | None = None
    media: Mapping[str, Media] | None = None
    rp_filter: Mapping[str, int] | None = None
    kernel: str | None = None  # its release
    machine: str | None = None
    modules: Mapping[str, str] | None = None  # loaded, built-in, available or absent
    echo_ignored: Mapping[Family, bool] | None = None
    conntrack: Fill | None = None
    neighbours: Mapping[Family, Fill] | None = None
    tcp_segments: int | None = None
    tcp_checksum_errors: int | None = None
    nameservers: tuple[str, ...] | None = None
    sockets: tuple[Socket, ...] | None = None
    services: Services | None = None
    cni: tuple[str, ...] | None = None
    timekeeping: Timekeeping | None = None
    nftables: tuple[NftTable, ...] | None = None
    iptables: tuple[LegacyTable, ...] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)

    def link(self, name: str | None) -> Link | None:
        """The device called so, where it is known."""
        return next((link for link in self.links or () if link.name == name), None)

    def towards(self) -> dict[str, Link]:
        """The devices by which peers are reached, by name; without peers, the default way's."""
        named = (self.link(way.device) for way in self.ways or self.defaults or ())
        # A way by lo leads to this very machine, under another name.
        return {link.name: link for link in named if link is not None and link.name != "lo"}

    def below(self, name: str) -> Iterator[Link]:
        """A device and all that it sends through, down to the hardware."""
        waiting, seen = [name], set()
        while waiting:
            link = self.link(waiting.pop(0))
            if link is None or link.name in seen:
                continue
            seen.add(link.name)
            yield link
            waiting += [link.lower] if link.lower else []
            waiting += [other.name for other in self.links or () if other.master == link.name]
