"""Devices, addresses, ways and rules once more, by pyroute2, in the shapes of our own readers."""

import struct

from preflight.agent.facts import links as own_links
from preflight.agent.facts import rules as own_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FAMILIES = {2: 4, 10: 6}
_DOMAINS = {4: 2, 6: 10}
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}


class Reader:
    """An open netlink socket of pyroute2's. Raises whatever pyroute2 does."""

    def __init__(self) -> None:
        from pyroute2.iproute.linux import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        self._ip = IPRoute()
        self._refused = NetlinkError

    def close(self) -> None:
        """Give it back."""
        self._ip.close()

    def links(self) -> "list[dict[str, Any]]":
        """As `links.read`."""
        found = [_device(message) for message in self._ip.get_links()]
        names = {device["index"]: device["name"] for device in found}
        for device in found:
            for key in ("lower", "master"):
                device[key] = names.get(device[key])
        return found

    def addresses(self, names: "dict[int, str]") -> "list[dict[str, Any]]":
        """As `addresses.read`."""
        return [
            {
                "device": names.get(message["index"], "?"),
                "address": message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"),
                "prefix": message["prefixlen"],
                "scope": _SCOPES.get(message["scope"], str(message["scope"])),
            }
            for message in self._ip.get_addr()
            if message["family"] in _FAMILIES
        ]

    def way(self, family: int, address: str, names: "dict[int, str]") -> "dict[str, Any]":
        """As `routes.ask`."""
        from preflight.agent.facts.routes import way

        try:
            (message,) = self._ip.route("get", dst=address, family=_DOMAINS[family])
        except self._refused as error:
            return way(family, error=error.code)
        metrics = message.get_attr("RTA_METRICS")
        mtu = metrics.get_attr("RTAX_MTU") if metrics else None
        cache = message.get_attr("RTA_CACHEINFO") or {}
        via = message.get_attr("RTA_VIA") or {}
        return way(
            family,
            device=names.get(message.get_attr("RTA_OIF")),
            gateway=message.get_attr("RTA_GATEWAY") or via.get("addr"),
            source=message.get_attr("RTA_PREFSRC"),
            mtu=mtu,
            learned=mtu is not None and _signed(cache.get("rta_expires", 0)) > 0,
        )

    def rules(self) -> "list[dict[str, Any]]":
        """As `rules.read`."""
        found = [
            {
                "family": _FAMILIES[message["family"]],
                "priority": message.get_attr("FRA_PRIORITY") or 0,
                "table": message.get_attr("FRA_TABLE") or message["table"],
                "mark": message.get_attr("FRA_FWMARK"),
                "source": message.get_attr("FRA_SRC"),
                "protocol": message.get_attr("FRA_PROTOCOL"),
            }
            for domain in sorted(_FAMILIES)
            for message in self._ip.get_rules(family=domain)
        ]
        return own_rules.foreign(found)


def _device(message: "Any") -> "dict[str, Any]":
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    data = info.get_attr("IFLA_INFO_DATA") if info else None
    has = {name for name, _ in message["attrs"]}
    ours = "IFLA_LINK" in has and "IFLA_LINK_NETNSID" not in has and kind != "veth"
    get = _getter(data)
    return {
        "name": message.get_attr("IFLA_IFNAME"),
        "index": message["index"],
        "kind": kind,
        "mtu": message.get_attr("IFLA_MTU") or 0,
        "up": bool(message["flags"] & own_links.IFF_UP),
        "carrier": bool(message["flags"] & own_links.IFF_LOWER_UP),
        "lower": message.get_attr("IFLA_LINK") if ours else None,
        "master": message.get_attr("IFLA_MASTER"),
        "tunnel": _tunnel(kind, get, data),
        "vlan": get("IFLA_VLAN_ID") if kind == "vlan" else None,
        "bond": None if kind != "bond" else own_links.bond(get("IFLA_BOND_MODE")),
    }


def _getter(data: "Any") -> "Callable[[str], Any]":
    return data.get_attr if hasattr(data, "get_attr") else _nothing


def _nothing(name: str) -> None:
    """Of a kind that pyroute2 does not know the data are one string."""
    del name


def _tunnel(
    kind: "str | None", get: "Callable[[str], Any]", data: "Any"
) -> "dict[str, Any] | None":
    if kind == "geneve":
        return own_links.tunnel(
            get("IFLA_GENEVE_ID"),
            get("IFLA_GENEVE_PORT"),
            any(name == "IFLA_GENEVE_COLLECT_METADATA" for name, _ in data["attrs"]),
        )
    if kind == "vxlan":
        port = get("IFLA_VXLAN_PORT")
        return own_links.tunnel(
            get("IFLA_VXLAN_ID"), port, bool(get("IFLA_VXLAN_COLLECT_METADATA"))
        )
    return own_links.tunnel(None, None, False) if kind == "bareudp" else None


def _signed(number: int) -> int:
    return int(struct.unpack("=i", struct.pack("=I", number & 0xFFFFFFFF))[0])
