"""Services that take away what Cilium and kube-proxy put into the kernel, where that is sure."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.core.facts.model import NodeFacts, Services
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather
from preflight.core.model import Severity

_NO = ("no", "false", "0", "off")
_OURS = ("KUBE", "CILIUM")  # first words of the chains of kube-proxy and Cilium
_KUBE_PROXY = "kube-proxy"  # its own table, where it speaks nftables
_FIRST_WITH_RULES = 249  # the networkd that manages foreign rules by default
_KERNEL = 2  # RTPROT_KERNEL, which networkd leaves alone
_CILIUM_TABLES = (2004, 2005)


def flushed(situation: Situation) -> Iterator[Risk]:
    """A reload of the firewall takes everybody's rules away."""
    cases = (
        case
        for n, facts in situation.known()
        if facts.services is not None
        for case in (_firewalld(n, facts.services), _nftables(n, facts, facts.services))
        if case is not None
    )
    source = "firewalld.conf(5): FirewallBackend, FlushAllOnReload; firewalld/firewalld#863; nft(8)"
    yield from gather(situation, RiskKey.RULES_FLUSHED, Severity.RECOMMENDED, source, cases)


def _firewalld(node: int, services: Services) -> Case | None:
    backend = services.settings.get("firewalld.FirewallBackend", "nftables")
    keeps = services.settings.get("firewalld.FlushAllOnReload", "yes").lower() in _NO
    if "firewalld" not in services.active or backend != "iptables" or keeps:
        return None
    return Case(
        node,
        f"On {WHO}, a reload of firewalld removes the iptables rules of Cilium and kube-proxy.",
        "firewalld is running with FirewallBackend=iptables and FlushAllOnReload=yes",
        advice="Set FirewallBackend=nftables in /etc/firewalld/firewalld.conf and restart "
        "firewalld, or do without it on nodes.",
    )


def _nftables(node: int, facts: NodeFacts, services: Services) -> Case | None:
    path = services.settings.get("nftables.flush")
    tables = [
        table
        for table in facts.nftables or ()
        if table.name == _KUBE_PROXY or any(word in table.chains for word in _OURS)
    ]
    if "nftables" not in services.active or path is None or not tables:
        return None
    names = ", ".join(f"{table.family} {table.name}" for table in tables)
    return Case(
        node,
        f"On {WHO}, a reload of the nftables service removes the rules of kube-proxy and Cilium.",
        f"{path} has `flush ruleset`; their chains are in the nftables tables {names}",
        advice=f"In {path}, replace `flush ruleset` by `flush table` for each table of its own.",
    )


def foreign_rules(situation: Situation) -> Iterator[Risk]:
    """systemd-networkd will remove the `ip rule`s that an older Cilium made, when it restarts."""
    cases = []
    for n, facts in situation.known():
        services = facts.services
        if services is None or "systemd-networkd" not in services.active:
            continue
        keeps = services.settings.get("networkd.ManageForeignRoutingPolicyRules", "yes")
        made = [rule for rule in facts.rules or () if rule.table in _CILIUM_TABLES]
        removable = [rule for rule in made if rule.protocol != _KERNEL]
        if (services.systemd or 0) >= _FIRST_WITH_RULES and keeps.lower() not in _NO and removable:
            tables = ", ".join(sorted({str(rule.table) for rule in removable}))
            cases.append(
                Case(
                    n,
                    f"On {WHO}, a restart of systemd-networkd removes Cilium's routing rules.",
                    f"systemd {services.systemd}; rules to the tables {tables} are not marked as "
                    f"the kernel's, and ManageForeignRoutingPolicyRules is not set to no",
                    advice="Set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no in "
                    "[Network] of /etc/systemd/networkd.conf.d/cilium.conf, or upgrade Cilium: "
                    "since 1.14 its rules are marked as the kernel's.",
                )
            )
    source = "cilium/cilium#18706, #24288; networkd.conf(5): ManageForeignRoutingPolicyRules"
    yield from gather(situation, RiskKey.FOREIGN_RULES, Severity.RECOMMENDED, source, cases)
