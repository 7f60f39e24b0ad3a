"""Devices, addresses, ways and rules by rtnetlink, with no library; see also `by_pyroute2`."""

from preflight.agent.facts import addresses, links, routes, rules
from preflight.agent.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Reader:
    """An open netlink socket. Every method raises OSError."""

    def __init__(self) -> None:
        self._netlink = Netlink()

    def close(self) -> None:
        """Give it back."""
        self._netlink.close()

    def links(self) -> "list[dict[str, Any]]":
        """Every device of this network namespace."""
        return links.read(self._netlink)

    def addresses(self, names: "dict[int, str]") -> "list[dict[str, Any]]":
        """Every address; `names` are the devices' by index."""
        return addresses.read(self._netlink, names)

    def way(self, family: int, address: str, names: "dict[int, str]") -> "dict[str, Any]":
        """The way to one address."""
        return routes.read(self._netlink, family, address, names)

    def rules(self) -> "list[dict[str, Any]]":
        """The policy rules."""
        return rules.read(self._netlink)
