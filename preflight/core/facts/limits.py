"""Tables of the kernel that are nearly full: what comes then is dropped without a word."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather, sysctl
from preflight.core.model import Family, Severity

_NEARLY = 0.9


def conntrack(situation: Situation) -> Iterator[Risk]:
    """Connection tracking is nearly full; every tunnel flow takes an entry of it."""
    cases = (
        Case(
            n,
            f"On {WHO}, the connection tracking table is nearly full: when it is, new flows are "
            "dropped.",
            f"{table.count:,} of {table.most:,} entries, {table.ratio:.0%}",
            sysctl("net/netfilter/nf_conntrack_max", 2 * table.most),
            "Keep it in /etc/sysctl.d, and see what fills it (conntrack -L).",
        )
        for n, facts in situation.known()
        if (table := facts.conntrack) is not None and table.ratio >= _NEARLY
    )
    source = "kernel nf_conntrack-sysctl: nf_conntrack_max"
    yield from gather(situation, RiskKey.CONNTRACK_FULL, Severity.RECOMMENDED, source, cases)


def neighbours(situation: Situation) -> Iterator[Risk]:
    """The neighbour table is nearly full."""
    settings = {Family.IPV4: "net/ipv4/neigh/default", Family.IPV6: "net/ipv6/neigh/default"}
    cases = (
        Case(
            n,
            f"On {WHO}, the {'ARP' if family is Family.IPV4 else 'IPv6 neighbour'} table is "
            f"nearly full: when it is, packets to new neighbours are dropped.",
            f"{table.count:,} of {table.most:,} entries, {table.ratio:.0%}",
            sysctl(f"{settings[family]}/gc_thresh3", 2 * table.most),
            "Raise gc_thresh1 and gc_thresh2 with it, and keep all three in /etc/sysctl.d.",
        )
        for n, facts in situation.known()
        for family, table in (facts.neighbours or {}).items()
        if table.ratio >= _NEARLY
    )
    source = "kernel ip-sysctl: neigh/default/gc_thresh3"
    yield from gather(situation, RiskKey.NEIGHBOURS_FULL, Severity.RECOMMENDED, source, cases)
