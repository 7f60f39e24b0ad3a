"""Which rule made packets of ours into something else: the one that matched before they changed and
that can do so by its own expressions.
"""

from preflight.agent.firewall.nfnetlink import Nfnetlink, int_of
from preflight.agent.firewall.nftrules import Rule, rules, xt_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

SOURCE, DESTINATION = "source", "destination"
_NAT_TYPE, _SNAT = 1, 0  # enum nft_nat_attributes, nft_nat_types
_PAYLOAD_WRITTEN = 5  # NFTA_PAYLOAD_SREG
_MOST_CHAINS = 32
# iptables' targets. REDIRECT and redir stay on the node, and are seen again there.
_TARGETS = {
    "DNAT": (DESTINATION,), "SNAT": (SOURCE,), "MASQUERADE": (SOURCE,),
    "NETMAP": (SOURCE, DESTINATION), "REDIRECT": (DESTINATION,),
}  # fmt: skip
_LOCAL = ("REDIRECT", "redir")


def sides(rule: Rule, vanished: bool = False) -> "tuple[str, ...]":
    """What of a packet a rule may rewrite; of one that `vanished`, what surely made it do so."""
    for name, found in rule.expressions:
        what = xt_name(found) if name == "target" else name
        if vanished and (what in _LOCAL or name == "payload"):
            continue
        if name == "target" and what in _TARGETS:
            return _TARGETS[what]
        if name == "nat":
            return (SOURCE,) if int_of(found.get(_NAT_TYPE, b"")) == _SNAT else (DESTINATION,)
        if name == "masq":
            return (SOURCE,)
        if name == "redir":
            return (DESTINATION,)
        if name == "payload" and _PAYLOAD_WRITTEN in found:
            return (SOURCE, DESTINATION)
    return ()


def culprits(rewrites: "Iterable[dict[str, Any]]") -> "list[dict[str, Any]]":
    """What `RuleTrace.rewrites` told of, with its rule as `ruletext.describe` takes it.

    family, table, chain, handle, base, policy, turn: the rule; rewrites: source or destination;
    becomes, ident, protocol, transport, source, destination, path: as there. What no rule is known
    to have done is left out.
    """
    try:
        netlink = Nfnetlink()
    except OSError:
        return []
    known: dict[tuple[str, str, str], dict[int, Rule]] = {}
    out = []
    try:
        for one in rewrites:
            for family, table, chain, handle, base in one["rules"]:
                key = family, table, chain
                if key not in known:
                    known[key] = _listed(netlink, key) if len(known) < _MOST_CHAINS else {}
                rule = known[key].get(handle)
                may = sides(rule, not one["side"]) if rule is not None else ()
                side = one["side"] if one["side"] in may else ""
                if not one["side"] and DESTINATION in may:
                    side = DESTINATION
                if side:
                    place = {"family": family, "table": table, "chain": chain, "handle": handle}
                    more = {"base": base, "policy": False, "turn": 0, "rewrites": side}
                    out.append({**one, **place, **more})
                    break
    finally:
        netlink.close()
    return out


def _listed(netlink: Nfnetlink, chain: "tuple[str, str, str]") -> "dict[int, Rule]":
    try:
        return {rule.handle: rule for rule in rules(netlink, *chain)}
    except OSError:
        return {}


def words(becomes: "Iterable[tuple[str, int]]") -> str:
    """`port 6082`, `198.51.100.7`, `198.51.100.7 port 6082`, or that they are several."""
    every = set(becomes)
    addresses, ports = {address for address, _ in every}, {port for _, port in every}
    if len(every) == 1:
        address, port = every.pop()
        return " ".join(filter(None, (address, "port %d" % port if port else "")))
    if len(addresses) == 1:
        return addresses.pop() or ("other ports" if 0 not in ports else "")
    return "other addresses"
