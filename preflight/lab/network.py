"""Devices, addresses and routes: the only file that speaks netlink."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from preflight.errors import LabError
from preflight.lab import namespaces
from preflight.lab.topology import Interface, LabNode, LabPlan, Network

_IFA_F_NODAD = 2  # usable at once
_LOOPBACK = 1


def sysctls(plan: LabPlan, namespace: str) -> dict[str, str]:
    """The settings of a namespace that must hold before its first device exists."""
    settings = {
        "net/ipv6/conf/all/disable_ipv6": "0" if plan.ipv6 else "1",
        "net/ipv6/conf/default/disable_ipv6": "0" if plan.ipv6 else "1",
        "net/ipv6/conf/all/accept_dad": "0",
        "net/ipv6/conf/default/accept_dad": "0",
    }
    if namespace == plan.router:
        settings |= {
            "net/ipv4/ip_forward": "1",
            "net/ipv6/conf/all/forwarding": "1",
            # 1 in each new namespace where br_netfilter is loaded: frames that never leave a
            # rack would then meet the router's FORWARD rules.
            "net/bridge/bridge-nf-call-iptables": "0",
            "net/bridge/bridge-nf-call-ip6tables": "0",
            "net/bridge/bridge-nf-call-arptables": "0",
        }
    return settings


def build(plan: LabPlan) -> None:
    """Join the namespaces of `plan`, which exist, to each other and to the root namespace.

    Raises LabError.
    """
    namespaces.inside(plan.router, partial(_build_router, plan))
    for node in plan.nodes:
        namespaces.inside(node.namespace, partial(_build_node, node))
    _build_uplink(plan)


def delete_device(name: str) -> None:
    """Remove a device of the root namespace with its peer and routes; no error if not there."""
    with _netlink(f"delete {name}") as ip:
        for index in ip.link_lookup(ifname=name):
            ip.link("del", index=index)


def device_exists(name: str) -> bool:
    """True where the root namespace has such a device."""
    return Path("/sys/class/net", name).exists()


def routes() -> Iterator[tuple[Network, str]]:
    """Every route of this machine but the default ones: its destination and a few words on it."""
    with _netlink("read the routes") as ip:
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in ip.get_routes(family=family):
                destination = route.get_attr("RTA_DST")
                if destination is not None and route["dst_len"]:
                    network = ip_network(f"{destination}/{route['dst_len']}", strict=False)
                    yield network, f"{network}{_device(route.get_attr('RTA_OIF'))}"


def _build_router(plan: LabPlan) -> None:
    with _netlink(f"build the router {plan.router}") as ip, ExitStack() as stack:
        ip.link("set", index=_LOOPBACK, state="up")
        bridges = {}
        for rack in plan.racks:
            ip.link(
                "add",
                ifname=rack.bridge,
                kind="bridge",
                address=rack.mac,  # else it changes with each port, and neighbours forget it
                mtu=plan.mtu,
                br_mcast_snooping=0,  # nobody queries: IPv6 neighbour discovery would suffer
                state="up",
            )
            bridges[rack.name] = _index(ip, rack.bridge)
            _add_addresses(ip, bridges[rack.name], rack.gateways)
        for node in plan.nodes:
            file = stack.enter_context((namespaces.NAMESPACES / node.namespace).open("rb"))
            ip.link(
                "add",
                ifname=node.name,
                kind="veth",
                master=bridges[node.rack],
                mtu=plan.mtu,
                state="up",
                peer={
                    "ifname": "eth0",
                    "net_ns_fd": file.fileno(),
                    "address": node.mac,
                    "mtu": plan.mtu,
                },
            )


def _build_node(node: LabNode) -> None:
    with _netlink(f"build {node.name}") as ip:
        ip.link("set", index=_LOOPBACK, state="up")
        eth0 = _index(ip, "eth0")
        ip.link("set", index=eth0, state="up")
        _add_addresses(ip, eth0, node.interfaces)
        for gateway in node.gateways:
            ip.route("add", family=_family(gateway), dst="default", gateway=str(gateway.ip))


def _build_uplink(plan: LabPlan) -> None:
    uplink = plan.uplink
    with (
        _netlink(f"build {uplink.device}") as ip,
        (namespaces.NAMESPACES / plan.router).open("rb") as router,
    ):
        ip.link(
            "add",
            ifname=uplink.device,
            kind="veth",
            address=uplink.controller_mac,
            mtu=plan.mtu,
            peer={
                "ifname": uplink.router_device,
                "net_ns_fd": router.fileno(),
                "address": uplink.router_mac,
                "mtu": plan.mtu,
            },
        )
        # This machine may have IPv6 off by default; that is about its own networks.
        for key, value in (("disable_ipv6", not plan.ipv6), ("accept_dad", False)):
            setting = Path("/proc/sys/net/ipv6/conf", uplink.device, key)
            if setting.exists():
                setting.write_text(str(int(value)), encoding="ascii")
        index = _index(ip, uplink.device)
        ip.link("set", index=index, state="up")
        _add_addresses(ip, index, uplink.controller)
        namespaces.inside(plan.router, partial(_build_router_uplink, plan))
        for prefix, gateway in zip(plan.prefixes, uplink.router, strict=True):
            ip.route(
                "add",
                family=_family(gateway),
                dst=str(prefix),
                gateway=str(gateway.ip),
                oif=index,
            )


def _build_router_uplink(plan: LabPlan) -> None:
    with _netlink(f"build the router {plan.router}") as ip:
        index = _index(ip, plan.uplink.router_device)
        ip.link("set", index=index, state="up")
        _add_addresses(ip, index, plan.uplink.router)


@contextmanager
def _netlink(what: str) -> Iterator[Any]:
    """A netlink socket in this thread's namespace; failures say what was being done."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as exc:
        raise LabError(f"cannot {what}: {os.strerror(exc.code)}") from exc
    except OSError as exc:
        raise LabError(f"cannot {what}: {exc.strerror or exc}") from exc


def _add_addresses(ip: Any, index: int, interfaces: tuple[Interface, ...]) -> None:
    for interface in interfaces:
        ip.addr(
            "add",
            index=index,
            address=str(interface.ip),
            prefixlen=interface.network.prefixlen,
            family=_family(interface),
            **({"flags": _IFA_F_NODAD} if interface.version == 6 else {}),
        )


def _index(ip: Any, device: str) -> int:
    index: int = ip.link_lookup(ifname=device)[0]
    return index


def _family(interface: Interface) -> int:
    return socket.AF_INET if interface.version == 4 else socket.AF_INET6


def _device(index: int | None) -> str:
    if index is None:
        return ""
    try:
        return f" dev {socket.if_indextoname(index)}"
    except OSError:
        return ""
