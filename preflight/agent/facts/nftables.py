"""The nftables rule set in outline: tables, base chains, and whose chains they seem to be.

By nfnetlink (linux/netfilter/nf_tables.h), so no `nft` is needed. iptables-nft's rules are here.
"""

import struct

from preflight.agent.facts import files
from preflight.agent.netlink import Netlink, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NEWTABLE, _GETTABLE, _NEWCHAIN, _GETCHAIN = 0, 1, 3, 4
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_USE = 1, 1, 3, 4, 5, 6
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_DROP = 0
_MOST = 64  # tables, and base chains of one


def read() -> "list[dict[str, Any]]":
    """Every table. Raises OSError, PermissionError where we may not ask."""
    if not _there():
        return []
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        tables = netlink.ask(_SUBSYSTEM | _GETTABLE, bytes(4), dump=True)
        chains = netlink.ask(_SUBSYSTEM | _GETCHAIN, bytes(4), dump=True)
    finally:
        netlink.close()
    return parse(tables, chains)


def _there() -> bool:
    """False where nftables is a module that nobody has loaded: to ask would load it."""
    try:
        loaded = files.read("/proc/modules")
    except OSError:
        return True
    return b"nf_tables " in loaded or files.exists("/sys/module/nf_tables")


def parse(
    tables: "list[tuple[int, bytes]]", chains: "list[tuple[int, bytes]]"
) -> "list[dict[str, Any]]":
    """NFT_MSG_NEWTABLE and NFT_MSG_NEWCHAIN messages as tables with their base chains.

    `chains` counts all chains by the first word of their names: KUBE, DOCKER, ufw. `rules` of a
    base chain counts what refers to it as well.
    """
    found: "dict[tuple[str, str], dict[str, Any]]" = {}
    for kind, body in tables:
        if kind == _SUBSYSTEM | _NEWTABLE:
            family = _family(body)
            name = _text(attributes(body[4:]).get(_TABLE_NAME))
            found[family, name] = {"family": family, "name": name, "base": [], "chains": {}}
    for kind, body in chains:
        has = attributes(body[4:])
        table = found.get((_family(body), _text(has.get(_CHAIN_TABLE))))
        if kind != _SUBSYSTEM | _NEWCHAIN or table is None:
            continue
        name = _text(has.get(_CHAIN_NAME))
        count_word(table["chains"], name)
        if _CHAIN_HOOK in has and len(table["base"]) < _MOST:
            table["base"].append(_base(name, table["family"], has))
    return list(found.values())[:_MOST]


def _base(name: str, family: str, has: "dict[int, bytes]") -> "dict[str, Any]":
    hook = attributes(has[_CHAIN_HOOK])
    number = _number(hook.get(_HOOK_NUMBER)) or 0
    hooks = ("ingress", "egress") if family == "netdev" else _HOOKS
    priority = struct.unpack("!i", hook[_HOOK_PRIORITY])[0] if _HOOK_PRIORITY in hook else 0
    return {
        "name": name,
        "hook": hooks[number] if number < len(hooks) else str(number),
        "priority": priority,
        "policy": "drop" if _number(has.get(_CHAIN_POLICY)) == _DROP else "accept",
        "rules": _number(has.get(_CHAIN_USE)) or 0,
    }


def count_word(chains: "dict[str, int]", name: str) -> None:
    """Add a chain to those that begin with the same word."""
    word = first_word(name)
    if word in chains or len(chains) < _MOST:
        chains[word] = chains.get(word, 0) + 1


def first_word(name: str) -> str:
    """`KUBE` of KUBE-SVC-XYZ, `cali` of cali-fw-1, `ufw` of ufw-user-input."""
    for position, letter in enumerate(name):
        if not letter.isalpha():
            return name[:position] or name[:8]
    return name


def _family(body: bytes) -> str:
    return _FAMILIES.get(body[0], str(body[0]))


def _text(data: "bytes | None") -> str:
    return (data or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(data: "bytes | None") -> "int | None":
    return int(struct.unpack("!I", data)[0]) if data is not None and len(data) == 4 else None
