"""How a node is told to let packets pass: changes, and what has to be said in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.accept import Traffic, bare, is_name
from preflight.core.findings.model import Change
from preflight.core.model import Family
from preflight.core.terms import listed, traffic

INVALID = re.compile(r"\bct state [^;]*\binvalid\b|--(ct)?state \S*INVALID")
_OUTGOING = ("output", "postrouting", "egress")


class Remedy(NamedTuple):
    """What to do on the nodes."""

    changes: tuple[Change, ...] = ()
    advice: tuple[str, ...] = ()  # what no command says, or no command can


def meets(rule: Rule, family: Family) -> bool:
    """Whether packets of that family come to the rule at all."""
    if rule.tool.startswith("ip6tables") or rule.family == "ip6":
        return family is Family.IPV6
    if rule.tool.startswith("iptables") or rule.family == "ip":
        return family is Family.IPV4
    return True


def outgoing(rule: Rule) -> bool:
    """Whether it judges what this node sends."""
    return rule.hook in _OUTGOING


def told_apart(rule: Rule, packets: Traffic) -> Traffic:
    """The packets without the address that is this node's own, where the rule's hook implies it."""
    if rule.family == "bridge":
        return packets  # a bridge carries what is not for this node, too
    if rule.hook == "input":
        return packets._replace(destinations=())
    if outgoing(rule):
        return packets._replace(sources=())
    return packets


def what(packets: Sequence[Traffic]) -> str:
    """`UDP 6081 from 10.0.1.11 and answers to TCP 4240 to 10.0.1.12`."""
    return listed(dict.fromkeys(map(_packets, packets)))


def _packets(packets: Traffic) -> str:
    name = f"{'answers to ' if packets.answers else ''}{traffic(packets.probe, packets.family)}"
    places = (("from", packets.sources), ("to", packets.destinations))
    return name + "".join(
        f" {word} {', '.join(map(bare, cidrs))}" for word, cidrs in places if cidrs
    )


def forget(packets: Sequence[Traffic]) -> str:
    """The commands that end translations which connection tracking goes on with."""
    found: dict[str, None] = {}
    for p in packets:
        six = p.family is Family.IPV6
        kind = f"{p.probe.protocol} --orig-port-dst {p.probe.port}"
        if p.probe.port is None:
            kind = "icmpv6" if six else "icmp"
        found[f"`conntrack -D{' -f ipv6' if six else ''} -p {kind}`"] = None
    return listed(found)


def look(node: str, rule: Rule, packets: Sequence[Traffic]) -> Remedy:
    """Where to look oneself, for a rule that no command can be trusted to change."""
    return look_at(node, rule, what(packets))


def look_at(node: str, rule: Rule, wanted: str) -> Remedy:
    """`look`, for what is `wanted` to pass in words."""
    names = is_name(rule.table) and is_name(rule.chain)
    if rule.tool == "nft":
        place = f"chain {rule.family} {rule.table} {rule.chain}" if names else "ruleset"
        listing = f"nft -a list {place}"
    elif names:
        listing = f"{rule.tool} -t {rule.table} -nvL {rule.chain} --line-numbers"
    else:
        listing = f"{rule.tool} -nvL --line-numbers"
    if rule.queue and rule.reader != 0:
        why = f"whoever reads queue {rule.queue} may have dropped it"
    elif not rule.sure:
        why = "one of several rules may have dropped it"
    elif not (rule.text or rule.policy):
        why = "the rule could not be read"
    else:
        why = "no command can be given that surely changes this rule alone"
    return Remedy(advice=(f"{node}: {why}: look at `{listing}`, and accept {wanted} before it.",))
