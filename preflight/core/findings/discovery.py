"""The change that lets IPv6 neighbour discovery past a node's rule, in the words of its owner.

It is accepted from and to everybody: a node that answers some of its neighbours alone is lost as
soon as another router takes over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings import accept
from preflight.core.findings.accept import Spot
from preflight.core.findings.firewalls import ELSEWHERE, lasting
from preflight.core.findings.model import Change
from preflight.core.findings.owners import Manager, owner
from preflight.core.findings.remedy import Remedy, look_at, outgoing

_WHAT = "IPv6 neighbour discovery (ICMPv6 types 135 and 136)"
_BY_ITSELF: Mapping[Manager, str] = {
    Manager.FIREWALLD: "firewalld lets {what} in by itself, with its policy allow-host-ipv6, "
    "unless somebody changed that or blocked these types: see `firewall-cmd "
    "--info-policy=allow-host-ipv6`, `firewall-cmd --list-all-zones` (icmp-blocks) and "
    "`firewall-cmd --direct --get-all-rules`.",
    Manager.UFW: "ufw lets {what} pass by itself, with lines for neighbor-solicitation and "
    "neighbor-advertisement in /etc/ufw/before6.rules: bring them back, in ufw6-before-input and "
    "ufw6-before-output, and `ufw reload`.",
    **ELSEWHERE,
}
_ROUTES = (
    "Nodes that take their routes from router advertisements need those accepted, too "
    "(nd-router-advert, ICMPv6 type 134)."
)
# `drop`, `counter packets 1 bytes 2 log prefix "x" reject`, `-A INPUT -j DROP`
_NFT = r"(counter( packets \d+ bytes \d+)? )?(log( prefix \"[^\"]*\")? )?(drop|reject( with .*)?)"
_XTABLES = r"-j (DROP|REJECT)( --reject-with \S+)?"
_ALL = re.compile(rf"{_NFT}|-A \S+ {_XTABLES}")
# `meta l4proto ipv6-icmp drop`, `-A INPUT -p ipv6-icmp -j DROP`, perhaps for some addresses
_ALL_ICMP = re.compile(
    rf"(ip6 [sd]addr \S+ )*(meta l4proto|ip6 nexthdr) (ipv6-icmp|icmpv6) {_NFT}"
    rf"|-A \S+ (-[sd] \S+ )*-p (ipv6-icmp|icmpv6) {_XTABLES}"
)
_COMMENT = re.compile(r" comment (\"[^\"]*\"|\S+)$| -m comment --comment (\"[^\"]*\"|\S+)")


def ends_all(rule: Rule) -> bool:
    """Whether the rule ends whatever comes to it, so that probes will not fare better."""
    return rule.policy or _ALL.fullmatch(_COMMENT.sub("", rule.text)) is not None


def ends_echoes(rule: Rule) -> bool:
    """Whether it ends echo requests and their answers too, as it does all of ICMPv6."""
    return _ALL_ICMP.fullmatch(_COMMENT.sub("", rule.text)) is not None


def mend(node: str, rule: Rule) -> Remedy:
    """How `node` lets it past `rule`."""
    manager = owner(rule).manager
    if manager in _BY_ITSELF and rule.sure:
        return Remedy(advice=(f"{node}: {_BY_ITSELF[manager].format(what=_WHAT)}",))
    before = rule.handle if rule.tool == "nft" else rule.position
    spot = Spot(rule.tool, rule.family, rule.table, rule.chain, before)
    commands: tuple[str, ...] = ()
    if manager is Manager.ADMIN and rule.sure and (before or rule.policy):
        commands = accept.discovery(spot) if rule.text or rule.policy else ()
    if not commands:
        return look_at(node, rule, _WHAT)
    change = Change(node, rule.tool.partition("-")[0], commands, (lasting(rule.tool),))
    notes = (_ROUTES,) if ends_all(rule) and not outgoing(rule) else ()
    return Remedy((change,), notes)
