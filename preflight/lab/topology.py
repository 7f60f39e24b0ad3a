"""What a lab consists of. Pure: names and addresses follow from a few numbers.

                     root namespace (the controller)
                              | pf-<lab>
                              | controller
                     fw: routes between the racks
                      | rack-a        | rack-b        bridges inside fw
                     n1  n2          n3  n4           eth0 of each node is a port

A lab takes one slot: a /20 out of 198.18.0.0/15 (RFC 2544, benchmarking) and a /56 of a ULA prefix,
so that no real network is shadowed. A rack is a /24 and a /64 of these, and a node ends alike in
both families: 198.18.1.11 and fd70:7265:666c:1::11 are the first node of rack a in slot 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from string import ascii_lowercase

from preflight.errors import LabError

Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

ROUTER = "fw"
SLOTS = 32
MAX_RACKS = 15  # /24s in a /20, less the one that joins the controller
MAX_NODES_PER_RACK = 200
MAX_NAME = 12  # "pf-" and the name make a device's name of at most 15
MTU_RANGE = range(68, 65536)
IPV6_MIN_MTU = 1280

_IPV4_SLOTS = IPv4Network("198.18.0.0/15")
_IPV6_SLOTS = IPv6Network("fd70:7265:666c::/48")
_CONTROLLER_NET = 0  # in the place of a rack's number
_GATEWAY, _CONTROLLER, _FIRST_NODE = 1, 2, 11  # the last part of an address
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class LabNode:
    """One node: a network namespace whose `eth0` is plugged into its rack."""

    name: str
    namespace: str
    rack: str
    role: str  # "control-plane" or "worker"
    interfaces: tuple[Interface, ...]  # address with prefix length, IPv4 first
    gateways: tuple[Interface, ...]  # its default routes, in the same order
    mac: str

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses alone: IPv4, then IPv6 where the lab has it."""
        return tuple(str(i.ip) for i in self.interfaces)


@dataclass(frozen=True, slots=True)
class Rack:
    """One bridge inside the router's namespace; its addresses are its nodes' gateways."""

    name: str
    bridge: str
    gateways: tuple[Interface, ...]
    mac: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """The veth pair between the root namespace and the router."""

    device: str  # its end in the root namespace
    router_device: str
    controller: tuple[Interface, ...]  # the root namespace's addresses on it
    router: tuple[Interface, ...]
    controller_mac: str
    router_mac: str


@dataclass(frozen=True, slots=True)
class LabPlan:
    """Everything `Lab.up` builds."""

    name: str
    slot: int
    mtu: int  # of every device, in bytes of IP packet
    ipv6: bool
    router: str  # its namespace
    prefixes: tuple[Network, ...]  # what the root namespace routes to the lab
    uplink: Uplink
    racks: tuple[Rack, ...]
    nodes: tuple[LabNode, ...]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The router's, then each node's."""
        return (self.router, *(n.namespace for n in self.nodes))


def check_name(name: str) -> str:
    """`name`, if a lab may be called so. Raises LabError."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise LabError(
            f"lab name {name!r}: at most {MAX_NAME} lower-case letters, digits and inner hyphens"
        )
    return name


def uplink_device(name: str) -> str:
    """The lab's device in the root namespace."""
    return f"pf-{name}"


def namespace_of(name: str, member: str) -> str:
    """The namespace of a node, or of the router (`member` is "fw")."""
    return f"preflight-{name}-{member}"


def namespaces_of(name: str, existing: Sequence[str]) -> list[str]:
    """Those of the `existing` namespaces that belong to the lab, whatever its size was."""
    pattern = re.compile(rf"preflight-{re.escape(name)}-(n[0-9]+|{ROUTER})")
    return [n for n in existing if pattern.fullmatch(n)]


def prefixes(slot: int, *, ipv6: bool = True) -> tuple[Network, ...]:
    """The address blocks of one slot: IPv4, then IPv6."""
    ipv4 = ip_network((int(_IPV4_SLOTS.network_address) + (slot << 12), 20))
    if not ipv6:
        return (ipv4,)
    return (ipv4, ip_network((int(_IPV6_SLOTS.network_address) + (slot << 72), 56)))


def plan(
    name: str,
    *,
    slot: int = 0,
    nodes: int = 4,
    racks: int = 2,
    ipv6: bool = True,
    mtu: int = 1500,
) -> LabPlan:
    """Name and number everything in a lab. Nodes fill the racks in order: n1, n2 in a; n3, n4 in b.

    Raises LabError where the numbers make no lab.
    """
    check_name(name)
    _check_size(nodes, racks)
    _check_mtu(mtu, ipv6)
    if slot not in range(SLOTS):
        raise LabError(f"there is no address slot {slot}: 0 to {SLOTS - 1}")
    all_racks: list[Rack] = []
    all_nodes: list[LabNode] = []
    each, left_over = divmod(nodes, racks)
    control_planes = 3 if racks >= 3 else 1
    for number in range(1, racks + 1):
        letter = ascii_lowercase[number - 1]
        gateways = _interfaces(slot, number, _GATEWAY, ipv6)
        all_racks.append(Rack(letter, f"rack-{letter}", gateways, _mac(slot, number, _GATEWAY)))
        for place in range(each + (number <= left_over)):
            node = f"n{len(all_nodes) + 1}"
            role = "control-plane" if place == 0 and number <= control_planes else "worker"
            host = _FIRST_NODE + place
            interfaces = _interfaces(slot, number, host, ipv6)
            mac = _mac(slot, number, host)
            namespace = namespace_of(name, node)
            all_nodes.append(LabNode(node, namespace, letter, role, interfaces, gateways, mac))
    uplink = Uplink(
        uplink_device(name),
        "controller",
        _interfaces(slot, _CONTROLLER_NET, _CONTROLLER, ipv6),
        _interfaces(slot, _CONTROLLER_NET, _GATEWAY, ipv6),
        _mac(slot, _CONTROLLER_NET, _CONTROLLER),
        _mac(slot, _CONTROLLER_NET, _GATEWAY),
    )
    return LabPlan(
        name,
        slot,
        mtu,
        ipv6,
        namespace_of(name, ROUTER),
        prefixes(slot, ipv6=ipv6),
        uplink,
        tuple(all_racks),
        tuple(all_nodes),
    )


def _check_size(nodes: int, racks: int) -> None:
    if racks not in range(1, MAX_RACKS + 1):
        raise LabError(f"a lab has 1 to {MAX_RACKS} racks, not {racks}")
    if nodes < racks:
        raise LabError(f"{racks} racks need at least {racks} nodes, not {nodes}")
    if nodes > racks * MAX_NODES_PER_RACK:
        raise LabError(
            f"{nodes} nodes do not fit in {racks} racks of {MAX_NODES_PER_RACK}: ask for more racks"
        )


def _check_mtu(mtu: int, ipv6: bool) -> None:
    if mtu not in MTU_RANGE:
        raise LabError(f"MTU {mtu}: a device takes {MTU_RANGE.start} to {MTU_RANGE.stop - 1}")
    if ipv6 and mtu < IPV6_MIN_MTU:
        raise LabError(f"MTU {mtu} is too small for IPv6, which needs {IPV6_MIN_MTU}: --no-ipv6")


def _interfaces(slot: int, net: int, host: int, ipv6: bool) -> tuple[Interface, ...]:
    ipv4 = ip_interface(f"{prefixes(slot)[0].network_address + (net << 8) + host}/24")
    if not ipv6:
        return (ipv4,)
    # The decimal digits stand as they are, so that .11 and ::11 are the same node.
    subnet = prefixes(slot)[1].network_address + (net << 64)
    return (ipv4, ip_interface(f"{subnet + int(str(host), 16)}/64"))


def _mac(slot: int, net: int, host: int) -> str:
    """A locally administered address: with one given, udev gives the device no other."""
    return f"02:70:66:{slot:02x}:{net:02x}:{host:02x}"
