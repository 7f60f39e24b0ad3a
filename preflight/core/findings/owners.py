"""Who set a rule: the program whose rules look like that.

A rule that looks like nobody's is its admin's own, made by hand, a script or a saved ruleset.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from preflight.core.diagnosis.trial import Rule


class Manager(StrEnum):
    """A program that makes firewall rules."""

    FIREWALLD = "firewalld"
    UFW = "ufw"
    DOCKER = "Docker"
    LIBVIRT = "libvirt"
    KUBERNETES = "Kubernetes"  # kube-proxy and kubelet
    CALICO = "Calico"
    CILIUM = "Cilium"
    FAIL2BAN = "fail2ban"
    ADMIN = ""  # none of them


class Owner(NamedTuple):
    """Whose rule it is, and what of that program's own words names its place."""

    manager: Manager
    zone: str = ""  # firewalld's, or empty
    policy: str = ""  # firewalld's
    part: str = ""  # of a firewalld zone or policy: pre, log, deny, allow, post
    icmp_block: bool = False  # firewalld: what `--add-icmp-block=echo-request` makes

    def __str__(self) -> str:
        """`firewalld, zone public`; empty for an admin's own."""
        place = f", zone {self.zone}" if self.zone else ""
        return f"{self.manager}{place}{f', policy {self.policy}' if self.policy else ''}"


class _Mark(NamedTuple):
    """How a program's rules are known; patterns are of whole names."""

    manager: Manager
    table: str
    chain: str
    source: str  # where that is written, or with what it was recorded


_IPTABLES = "filter|nat|mangle|raw|security"

# The first that fits. What names a whole table comes before what names chains in shared ones.
_MARKS = (
    _Mark(Manager.FIREWALLD, r"firewalld(_.*)?", r".*", "firewalld 1.3, nftables backend"),
    _Mark(
        Manager.FIREWALLD, _IPTABLES,
        r"(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)"
        r"_(direct|ZONES|ZONES_SOURCE|IN_ZONES|OUT_ZONES|POLICIES_pre|POLICIES_post)",
        "firewalld 1.3, iptables backend",
    ),
    _Mark(Manager.UFW, _IPTABLES, r"ufw6?-.+", "ufw 0.36"),
    _Mark(
        Manager.DOCKER, _IPTABLES, r"DOCKER(-.+)?",
        "docs.docker.com/engine/network/firewall-iptables",
    ),
    _Mark(
        Manager.DOCKER, r"docker-bridges", r".*",
        "docs.docker.com/engine/network/firewall-nftables",
    ),
    _Mark(Manager.LIBVIRT, _IPTABLES, r"LIBVIRT_.+", "libvirt.org/firewall.html"),
    _Mark(Manager.LIBVIRT, r"libvirt_network", r".*", "libvirt.org/firewall.html"),
    _Mark(
        Manager.KUBERNETES, _IPTABLES, r"KUBE-.+",
        "kubernetes/pkg/proxy/iptables/proxier.go, pkg/kubelet/kubelet_network_linux.go",
    ),
    _Mark(Manager.KUBERNETES, r"kube-proxy", r".*", "kubernetes/pkg/proxy/nftables/proxier.go"),
    _Mark(Manager.CALICO, _IPTABLES, r"cali[-:].+", "projectcalico/felix/rules/rule_defs.go"),
    _Mark(Manager.CALICO, r"calico", r".*", "projectcalico/felix/rules/rule_defs.go"),
    _Mark(
        Manager.CILIUM, _IPTABLES, r"(OLD_)?CILIUM_.+", "cilium/pkg/datapath/iptables/iptables.go"
    ),
    _Mark(Manager.FAIL2BAN, _IPTABLES, r"f2b-.+", "fail2ban/config/action.d/iptables.conf"),
    _Mark(Manager.FAIL2BAN, r"f2b-table", r".*", "fail2ban/config/action.d/nftables.conf"),
)  # fmt: skip

# Rules that a program puts into a built-in chain are known by their comment alone.
_COMMENTS = (
    (Manager.CALICO, re.compile(r"cali:[\w-]{16}")),
    (Manager.CILIUM, re.compile(r"cilium(-feeder)?: ")),
)

# Policies that a program sets: of these tables' built-in chains, where its own chains are walked.
_POLICIES = {
    Manager.UFW: ("INPUT", "FORWARD", "OUTPUT"),
    Manager.DOCKER: ("FORWARD",),
}
# firewalld's chains of a zone or a policy. Without its prefix such a name proves nothing.
_ZONE = re.compile(
    r"(?:filter_|raw_|mangle_|nat_)?(?:IN|FWD|FWDI|FWDO|OUT|PRE|POST)_"
    r"(?P<policy>policy_)?(?P<name>.+?)(?:_(?P<part>pre|log|deny|allow|post))?"
)
_POLICY_CHAINS = re.compile(r".*_POLICIES_(pre|post)")
_ICMP_BLOCK = re.compile(
    r"(meta l4proto \S+ )?icmp(v6)? type (echo-request|8|128) reject( with .+)?"
    r"|-p (icmp|ipv6-icmp|icmpv6)( -m icmp6?)? --icmp(v6)?-type (8|128|echo-request)"
    r" -j REJECT( --reject-with \S+)?"
)
_COUNTER = re.compile(r"\bcounter( packets \d+ bytes \d+)? ")


def owner(rule: Rule) -> Owner:
    """Whose rule that is. What is not surely a program's is an admin's own."""
    walked = [chain for _, table, chain in rule.path if table == rule.table]
    manager = _manager(rule, walked)
    if manager is Manager.FIREWALLD:
        return _firewalld(rule, walked)
    return Owner(manager)


def _manager(rule: Rule, walked: list[str]) -> Manager:
    by_name = _named(rule.table, rule.chain)
    if by_name is not None:
        return by_name
    for manager, comment in _COMMENTS:
        if comment.match(rule.comment):
            return manager
    through = {_named(rule.table, chain) for chain in walked}
    if Manager.FIREWALLD in through and (_ZONE.fullmatch(rule.chain) or _is_last_word(rule)):
        return Manager.FIREWALLD
    zone = _ZONE.fullmatch(rule.chain)
    if not walked and re.fullmatch(_IPTABLES, rule.table) and zone and zone["part"]:
        return Manager.FIREWALLD
    if rule.policy:
        for manager, chains in _POLICIES.items():
            if manager in through and rule.chain in chains:
                return manager
    return Manager.ADMIN


def _named(table: str, chain: str) -> Manager | None:
    for mark in _MARKS:
        if re.fullmatch(mark.table, table) and re.fullmatch(mark.chain, chain):
            return mark.manager
    return None


def _is_last_word(rule: Rule) -> bool:
    """The REJECT with which firewalld ends the built-in chains of its iptables backend."""
    return re.fullmatch(r"-j REJECT --reject-with icmp6?-\S+", _body(rule)) is not None


def _firewalld(rule: Rule, walked: list[str]) -> Owner:
    found = _place(rule.chain, walked)
    if found is not None:
        is_block = found.part == "deny" and _ICMP_BLOCK.fullmatch(_body(rule)) is not None
        return found._replace(icmp_block=is_block)
    for position, chain in reversed(list(enumerate(walked))):
        found = _place(chain, walked[:position])
        if found is not None and found.zone:
            return found._replace(part="")  # the rule is in none of its parts
    return Owner(Manager.FIREWALLD)


def _place(chain: str, walked: list[str]) -> Owner | None:
    """The zone or policy that a chain belongs to; `walked` are those before it."""
    found = _ZONE.fullmatch(chain)
    if found is None:
        return None
    name, part = found["name"], found["part"] or ""
    whole = chain.removesuffix(f"_{part}") if part else chain
    others = [c for c in walked if c != chain]
    if part and others and whole not in others:  # a zone called `x_deny`
        name, part, whole = f"{name}_{part}", "", chain
    # The iptables backend names a policy's chains as a zone's; who jumps there tells.
    way = [*walked, chain]
    first = way.index(whole) if whole in way else 0
    caller = way[first - 1] if first else ""
    if found["policy"] or _POLICY_CHAINS.fullmatch(caller):
        return Owner(Manager.FIREWALLD, policy=name, part=part)
    return Owner(Manager.FIREWALLD, zone=name, part=part)


def _body(rule: Rule) -> str:
    """A rule's text without its chain and counters."""
    return _COUNTER.sub("", rule.text.removeprefix(f"-A {rule.chain} ")).strip()
