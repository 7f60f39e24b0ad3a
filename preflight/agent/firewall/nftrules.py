"""Chains and rules as nf_tables itself lists them, with no nft."""

import struct

from preflight.agent.firewall.nfnetlink import (
    DROP,
    EXPRESSION_DATA,
    EXPRESSION_NAME,
    GETCHAIN,
    GETGEN,
    GETRULE,
    LIST_ELEMENT,
    Nfnetlink,
    int_of,
    listed,
    name_of,
    text,
)
from preflight.agent.netlink import attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# enum nft_chain_attributes, nft_hook_attributes, nft_rule_attributes
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7
_USERDATA_COMMENT = 0
_IP_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_HOOKS = {"netdev": ("ingress", "egress"), "arp": ("input", "output", "forward")}
_XT_NAME, _MATCH_INFO = 1, 3


class Rule:
    """One rule: its handle, its comment, and its expressions as (name, attributes)."""

    __slots__ = ("_found", "handle")

    def __init__(self, found: "dict[int, bytes]") -> None:
        self._found = found
        self.handle = int_of(found.get(_RULE_HANDLE, b""))

    @property
    def comment(self) -> str:
        """What its author wrote beside it."""
        for name, found in self.expressions:
            if name == "match" and xt_name(found) == "comment":
                return found.get(_MATCH_INFO, b"").partition(b"\0")[0].decode("utf-8", "replace")
        return comment(self._found.get(_RULE_USERDATA, b""))

    @property
    def expressions(self) -> "list[tuple[str, dict[int, bytes]]]":
        """In order; a rule's verdict usually is the last."""
        out = []
        for kind, element in listed(self._found.get(_RULE_EXPRESSIONS, b"")):
            if kind == LIST_ELEMENT:
                found = attributes(element)
                name = name_of(found.get(EXPRESSION_NAME, b""))
                out.append((name, attributes(found.get(EXPRESSION_DATA, b""))))
        return out

    @property
    def rejects(self) -> bool:
        """True where it answers what it drops."""
        return any(
            name == "reject" or (name == "target" and xt_name(found) == "REJECT")
            for name, found in self.expressions
        )


def xt_name(found: "dict[int, bytes]") -> str:
    """What an xtables match or target that nf_tables carries is called."""
    return name_of(found.get(_XT_NAME, b""))


def comment(userdata: bytes) -> str:
    """The comment in a rule's user data: (type, length, value) after each other, a byte each."""
    at = 0
    while at + 2 <= len(userdata):
        kind, size = userdata[at], userdata[at + 1]
        if kind == _USERDATA_COMMENT:
            value = userdata[at + 2 : at + 2 + size]
            return value.rstrip(b"\0").decode("utf-8", "replace")
        at += 2 + size
    return ""


def rules(netlink: Nfnetlink, family: str, table: str, chain: str) -> "list[Rule]":
    """The rules of a chain, in order. Raises OSError where there is no such chain."""
    wanted = (text(_RULE_TABLE, table), text(_RULE_CHAIN, chain))
    out = []
    for _, found in netlink.dump(GETRULE, family, *wanted):
        # Kernels before 4.8 dump the rules of all chains.
        whose = (found.get(_RULE_TABLE, b""), found.get(_RULE_CHAIN, b""))
        if tuple(map(name_of, whose)) == (table, chain):
            out.append(Rule(found))
    return out


def base_chain(netlink: Nfnetlink, family: str, table: str, chain: str) -> "dict[str, Any]":
    """type, hook, priority and policy of a base chain, empty where it is none or not there."""
    wanted = (text(_CHAIN_TABLE, table), text(_CHAIN_NAME, chain))
    try:
        found = netlink.ask(GETCHAIN, family, *wanted)[0][1]
    except (OSError, IndexError):
        return {}
    hook = attributes(found.get(_CHAIN_HOOK, b""))
    if _HOOK_NUMBER not in hook:
        return {}
    names = _HOOKS.get(family, _IP_HOOKS)
    number = int_of(hook[_HOOK_NUMBER])
    return {
        "type": name_of(found.get(_CHAIN_TYPE, b"")),
        "hook": names[number] if number < len(names) else str(number),
        "priority": struct.unpack("!i", hook.get(_HOOK_PRIORITY, bytes(4)))[0],
        "policy": "drop" if int_of(found.get(_CHAIN_POLICY, b"\x01")) == DROP else "accept",
    }


def generation(netlink: Nfnetlink) -> int:
    """A number that each change of any rule raises."""
    found = netlink.ask(GETGEN, "")[0][1]
    return int_of(found.get(1, b""))
