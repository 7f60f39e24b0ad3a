"""Whose next hops are, and what makes a node take them, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.core.findings.claims import ip
from preflight.core.model import Family, Node
from preflight.core.tables import Tables, Trail


def owner(
    nodes: Sequence[Node], tables: Mapping[int, Tables], address: str, mac: str
) -> int | None:
    """The node that has that address; else the only one of which a device has that MAC address."""
    if not address:
        return None
    listed = next((n for n, node in enumerate(nodes) if address in node.addresses), None)
    if listed is not None or not mac:
        return listed
    having = [n for n, told in tables.items() if mac in (told.macs or ())]
    return having[0] if len(having) == 1 else None


def holder(node: Node, who: str, family: Family, address: str, mac: str) -> str:
    """How that is known."""
    if address in node.addresses:
        return f"{node.name} has {address}"
    return f"`{ip(family)} neigh` on {who}: {address} lladdr {mac}, which is {node.name}'s own"


def by_rule(way: Trail, who: str) -> str:
    """What to do about a route of a table that a rule leads to."""
    table = way.words.partition(" table ")[2].split(" ")[0]
    shows = f"`{ip(way.family)} rule` on {who}"
    if not way.rule:
        return f"{shows} shows what leads to table {table}: without that the next table decides."
    return (
        f"{who} looks into table {table} because of its routing rule `{way.rule}`: if that rule "
        f"is what is wrong, remove it instead: `{way.unrule}`. The tables of the next rules then "
        "decide."
    )


def advertised(way: Trail, who: str) -> str:
    """What to do about a route that a router advertisement made."""
    at = f" on {way.device}" if way.device else ""
    device = (way.device or "DEVICE").replace(".", "/")  # as sysctl has it
    return (
        f"A router advertisement made it (proto ra), and the next one makes it again: stop whoever "
        f"sends them from {way.gateway}{at} (radvd, dnsmasq, a container or virtual machine "
        f"network), or let switches drop them (RA guard). `sysctl -w "
        f"net.ipv6.conf.{device}.accept_ra=0` on {who} ends it there, and also its right routes "
        "and addresses if they are from advertisements: see `ip -6 route show proto ra` first."
    )
