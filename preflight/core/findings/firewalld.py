"""Changes to firewalld: rich rules of a zone or a policy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings import accept
from preflight.core.findings.accept import Traffic, is_name
from preflight.core.findings.model import Change
from preflight.core.findings.owners import Owner
from preflight.core.findings.remedy import INVALID, Remedy, look, what
from preflight.core.model import Family

_FIRST = -32768  # the lowest priority: before all other rules of the zone


def mend(node: str, rule: Rule, whose: Owner, packets: Sequence[Traffic]) -> Remedy:
    """How firewalld lets `packets` pass that its `rule` ended."""
    if rule.chain.endswith("_direct"):
        return _direct(node, rule, packets)
    early = _early(rule)
    if early:
        return Remedy(
            advice=(f"{node}: firewalld drops it before any zone could allow it: {early}",)
        )
    if rule.hook not in ("input", "output", ""):
        return look(node, rule, packets)
    # Deny rules come before accepts of the same priority.
    priority = _FIRST if whose.part in ("pre", "deny") else 0
    options = [
        f"--add-rich-rule={shlex.quote(text)}"
        for p in packets
        for text in accept.rich_rules(p, priority)
    ]
    place = _place(whose)
    if place is None:
        told = (
            f"{node}: firewalld drops {what(packets)}, and its zone is not known. Find the "
            "interface's zone with `firewall-cmd --get-active-zones`, then "
            f"`firewall-cmd --zone=ZONE {options[0]}`, and the same with --permanent."
        )
        return Remedy(advice=(told,))
    if whose.icmp_block:
        told = (
            f"{node}: --add-icmp-block=echo-request does not allow ICMP echo: it blocks it, and "
            f"somebody gave it for {place[0]} {place[1]}."
        )
        return Remedy((_change(node, whose, ["--remove-icmp-block=echo-request"]),), (told,))
    return Remedy((_change(node, whose, options),))


def _place(whose: Owner) -> tuple[str, str] | None:
    for kind, name in (("policy", whose.policy), ("zone", whose.zone)):
        if is_name(name):
            return kind, name
    return None


def _early(rule: Rule) -> str:
    """What to do where the rule comes before the zones; empty where it does not."""
    if INVALID.search(rule.text):
        return (
            "it belongs to no connection that this node knows. Look for ways there and back that "
            "differ."
        )
    if " fib " in rule.text or "rpfilter" in rule.text:
        return (
            "this node would not answer to its source address by the same interface. Correct the "
            "routes, or set IPv6_rpfilter=no in /etc/firewalld/firewalld.conf and restart "
            "firewalld."
        )
    return ""


def _change(node: str, whose: Owner, options: Sequence[str]) -> Change:
    """At once and for ever, each by itself: a reload would end what others set for now only."""
    place = _place(whose)
    assert place is not None
    kind, name = place
    return Change(
        node,
        "firewalld",
        tuple(f"firewall-cmd --{kind}={name} {option}" for option in options),
        tuple(f"firewall-cmd --permanent --{kind}={name} {option}" for option in options),
    )


def _direct(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """A rule that somebody added with `--direct`: another one of that kind, before all of them."""
    chain = rule.chain.removesuffix("_direct")
    if not (is_name(rule.table) and is_name(chain)):
        return look(node, rule, packets)
    rules = [
        f"--add-rule {'ipv4' if p.family is Family.IPV4 else 'ipv6'} {rule.table} {chain} {_FIRST} "
        f"{accept.iptables_match(p)} -j ACCEPT"
        for p in packets
    ]
    now = tuple(f"firewall-cmd --direct {r}" for r in rules)
    lasting = tuple(f"firewall-cmd --permanent --direct {r}" for r in rules)
    return Remedy((Change(node, "firewalld", now, lasting),))
