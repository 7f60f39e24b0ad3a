"""What a Cilium installation does on the nodes' network, from its helm values or its ConfigMap.

The two say the same in other words: `install/kubernetes/cilium/templates/cilium-configmap.yaml`
of cilium/cilium turns the one into the other, and a value that is left out is the same default in
both. Every default here is that template's or, where the template writes nothing, the agent's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from preflight.core.model import Family

GENEVE_PORT, VXLAN_PORT = 6081, 8472
WIREGUARD_PORT = 51871
HEALTH_PORT = 4240

Values = Mapping[str, object]
_E = TypeVar("_E", bound=StrEnum)


class Routing(StrEnum):
    """How pods' packets get from node to node."""

    TUNNEL = "tunnel"
    NATIVE = "native"


class Tunnel(StrEnum):
    """How they are wrapped."""

    GENEVE = "geneve"
    VXLAN = "vxlan"


class Encryption(StrEnum):
    """What hides them."""

    NONE = "none"
    WIREGUARD = "wireguard"
    IPSEC = "ipsec"
    ZTUNNEL = "ztunnel"


class ConfigError(ValueError):
    """A value that Cilium would not take. `key` is its path; the text says what is wrong."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class Installation:
    """What matters to the network between the nodes."""

    source: str  # whose word this is, for messages: `cluster.yaml`, `the cluster`
    routing: Routing = Routing.TUNNEL
    tunnel: Tunnel = Tunnel.VXLAN
    port: int = 0  # of the tunnel; 0 is the protocol's own
    source_ports: tuple[int, int] = (0, 0)  # (0, 0) is the kernel's default
    underlay: Family = Family.IPV4
    families: tuple[Family, ...] = (Family.IPV4,)
    health: bool = True  # the agents check each other
    health_port: int = HEALTH_PORT
    encryption: Encryption = Encryption.NONE
    node_encryption: bool = False
    tunnel_users: tuple[str, ...] = ()  # what sends through the tunnel although routing is native

    @property
    def tunnelled(self) -> bool:
        """Whether nodes send each other tunnel packets at all."""
        return self.routing is Routing.TUNNEL or bool(self.tunnel_users)

    @property
    def tunnel_port(self) -> int:
        """The UDP port that tunnel packets go to."""
        return self.port or (GENEVE_PORT if self.tunnel is Tunnel.GENEVE else VXLAN_PORT)


def from_helm(values: Values, source: str) -> Installation:
    """What the chart makes of `values`. Raises ConfigError."""
    read = _Reader(values)
    ipv4, ipv6 = read.flag("ipv4.enabled", True), read.flag("ipv6.enabled", False)
    routing, tunnel = _tunnel(
        read.text("tunnel"), read.text("routingMode"), read.text("tunnelProtocol"),
        ("tunnel", "routingMode", "tunnelProtocol"),
    )  # fmt: skip
    if not read.text("routingMode") and read.flag("eni.enabled", False):
        routing = Routing.NATIVE
    encryption = Encryption.NONE
    if read.flag("encryption.enabled", False):
        encryption = _member(Encryption, read.text("encryption.type") or "ipsec", "encryption.type")
    dsr = read.text("loadBalancer.mode") in ("dsr", "hybrid")
    users = [
        ("direct server return", dsr and read.text("loadBalancer.dsrDispatch") == "geneve"),
        ("the egress gateway", read.flag("egressGateway.enabled", False)),
    ]
    return Installation(
        source=source,
        routing=routing,
        tunnel=tunnel,
        port=read.port("tunnelPort", 0),
        source_ports=read.ports("tunnelSourcePortRange"),
        underlay=_underlay(read.text("underlayProtocol"), "underlayProtocol", ipv4=ipv4),
        families=_families("ipv4.enabled", ipv4=ipv4, ipv6=ipv6),
        health=read.flag("healthChecking", True),
        health_port=read.port("clusterHealthPort", HEALTH_PORT),
        encryption=encryption,
        node_encryption=read.flag("encryption.nodeEncryption", False),
        tunnel_users=_users(routing, users),
    )


def from_config(data: Mapping[str, str], source: str) -> Installation:
    """What the agents do with ConfigMap `cilium-config`. Raises ConfigError."""
    read = _Reader(data)
    ipv4, ipv6 = read.flag("enable-ipv4", True), read.flag("enable-ipv6", False)
    routing, tunnel = _tunnel(
        read.text("tunnel"), read.text("routing-mode"), read.text("tunnel-protocol"),
        ("tunnel", "routing-mode", "tunnel-protocol"),
    )  # fmt: skip
    kinds = {
        Encryption.WIREGUARD: "enable-wireguard",
        Encryption.IPSEC: "enable-ipsec",
        Encryption.ZTUNNEL: "enable-ztunnel",
    }
    on = (kind for kind, key in kinds.items() if read.flag(key, False))
    dsr = read.text("bpf-lb-mode") in ("dsr", "hybrid")
    egress = ("enable-egress-gateway", "enable-ipv4-egress-gateway")
    users = [
        ("direct server return", dsr and read.text("bpf-lb-dsr-dispatch") == "geneve"),
        ("the egress gateway", any(read.flag(key, False) for key in egress)),
    ]
    return Installation(
        source=source,
        routing=routing,
        tunnel=tunnel,
        port=read.port("tunnel-port", 0),
        source_ports=read.ports("tunnel-source-port-range"),
        underlay=_underlay(read.text("underlay-protocol"), "underlay-protocol", ipv4=ipv4),
        families=_families("enable-ipv4", ipv4=ipv4, ipv6=ipv6),
        health=read.flag("enable-health-checking", True),
        health_port=read.port("cluster-health-port", HEALTH_PORT),
        encryption=next(on, Encryption.NONE),
        node_encryption=read.flag("encrypt-node", False),
        tunnel_users=_users(routing, users),
    )


def _tunnel(
    old: str, mode: str, protocol: str, keys: tuple[str, str, str]
) -> tuple[Routing, Tunnel]:
    """Routing and protocol. Cilium before 1.15 had one key for both (cilium/cilium#29053)."""
    if old and not mode and not protocol:
        if old == "disabled":
            return Routing.NATIVE, Tunnel.VXLAN
        return Routing.TUNNEL, _member(Tunnel, old, keys[0])
    routing = _member(Routing, mode or Routing.TUNNEL, keys[1])
    return routing, _member(Tunnel, protocol or Tunnel.VXLAN, keys[2])


def _underlay(written: str, key: str, *, ipv4: bool) -> Family:
    """Before Cilium 1.18 there is no such key, and IPv4 is used wherever it is enabled."""
    if written in ("", "auto"):
        return Family.IPV4 if ipv4 else Family.IPV6
    return _member(Family, written, key)


def _families(key: str, *, ipv4: bool, ipv6: bool) -> tuple[Family, ...]:
    on = tuple(f for f, given in ((Family.IPV4, ipv4), (Family.IPV6, ipv6)) if given)
    if not on:
        raise ConfigError(key, "IPv4 and IPv6 are both off: Cilium would not start")
    return on


def _users(routing: Routing, users: list[tuple[str, bool]]) -> tuple[str, ...]:
    return tuple(who for who, on in users if on) if routing is Routing.NATIVE else ()


def _member(words: type[_E], written: str, key: str) -> _E:
    try:
        return words(written.lower())
    except ValueError:
        choices = ", ".join(words)
        raise ConfigError(key, f"is not one of {choices}") from None


class _Reader:
    """Values by path, as YAML or a ConfigMap may write them: `true`, `"true"`, 8472, `"8472"`."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def _value(self, path: str) -> object:
        """None where the path leads nowhere. A key of a ConfigMap has no dots."""
        found: object = self._values
        walked: list[str] = []
        for key in path.split("."):
            if found is None:
                return None
            if not isinstance(found, Mapping):
                raise ConfigError(".".join(walked), "is not a mapping")
            found = found.get(key)
            walked.append(key)
        return found

    def text(self, path: str) -> str:
        """Empty where it is not given."""
        value = self._value(path)
        if value is None:
            return ""
        if isinstance(value, str | int | float):
            return str(value).strip()
        raise ConfigError(path, "is not a text")

    def flag(self, path: str, default: bool) -> bool:
        value = self._value(path)
        if isinstance(value, bool):
            return value
        written = self.text(path).lower()
        if not written:
            return default
        if written not in ("true", "false", "1", "0", "t", "f"):
            raise ConfigError(path, "is neither true nor false")
        return written[0] in "t1"

    def port(self, path: str, default: int) -> int:
        written = self.text(path)
        if not written:
            return default
        if not re.fullmatch(r"[0-9]{1,5}", written) or int(written) > 65535:
            raise ConfigError(path, "is not a port")
        return int(written) or default

    def ports(self, path: str) -> tuple[int, int]:
        """`low-high`."""
        written = self.text(path)
        if not written:
            return 0, 0
        parts = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", written)
        if parts is None:
            raise ConfigError(path, "is not a range of ports such as 0-0 or 32768-60999")
        low, high = int(parts[1]), int(parts[2])
        if high > 65535 or low > high or (low == 0) != (high == 0):
            raise ConfigError(path, "is not a range of ports such as 0-0 or 32768-60999")
        return low, high
