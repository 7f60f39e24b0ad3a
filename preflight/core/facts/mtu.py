"""How large packets may be: nodes that differ, and routes that allow less than their device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather
from preflight.core.model import Family, Severity

# Outer IP header, UDP 8, GENEVE or VXLAN 8, inner Ethernet 14: as Cilium counts them.
OVERHEAD = {Family.IPV4: 50, Family.IPV6: 70}
_SOURCE = "Cilium takes the MTU of the node's device: cilium/cilium#41478, #32601, #46100"


def device_mtu(facts: NodeFacts) -> int | None:
    """The smallest MTU of the devices by which the node reaches its peers."""
    return min((link.mtu for link in facts.towards().values() if link.mtu), default=None)


def differing(situation: Situation) -> Iterator[Risk]:
    """Nodes of one cluster have unlike MTUs."""
    for cluster in situation.clusters():
        known = {
            n: mtu
            for n in cluster
            if (facts := situation.facts[n]) is not None and (mtu := device_mtu(facts)) is not None
        }
        if len(set(known.values())) > 1:
            yield _differing(situation, known)


def _differing(situation: Situation, known: Mapping[int, int]) -> Risk:
    by_mtu: dict[int, list[int]] = {}
    for n, mtu in known.items():
        by_mtu.setdefault(mtu, []).append(n)
    counts = Counter({mtu: len(nodes) for mtu, nodes in by_mtu.items()})
    usual = max(counts, key=lambda mtu: (counts[mtu], mtu))
    odd = sorted(n for n, mtu in known.items() if mtu != usual)
    # With as many on one side as on the other, nobody is the odd one.
    tied = list(counts.values()).count(counts[usual]) > 1
    concerned = sorted(known) if tied else odd
    ordered = sorted(by_mtu, reverse=True)
    title = "MTUs differ towards the peers: " + ", ".join(
        f"{mtu:,} on {situation.names(by_mtu[mtu])}" for mtu in ordered
    )
    if len(by_mtu) == 2 and not tied:
        other = known[odd[0]]
        title = f"{situation.who(odd)}: MTU {other:,} towards the peers, {usual:,} on the others"
    return Risk(
        RiskKey.MTU_DIFFERS,
        Severity.RECOMMENDED,
        tuple(concerned),
        f"{title}.",
        tuple(_devices(situation, n) for n in concerned[:4]),
        (),
        f"Give every node the same MTU, all along the way between them; or have Cilium go by the "
        f"smallest: {advice(min(known.values()), situation)}.",
        _SOURCE,
    )


def _devices(situation: Situation, node: int) -> str:
    facts = situation.facts[node] or NodeFacts()
    devices = ", ".join(f"{d.name} {d.mtu:,}" for d in facts.towards().values())
    return f"{situation.nodes[node].name}: {devices}"


def advice(mtu: int, situation: Situation) -> str:
    """The setting for Cilium, and what is left of it for pods."""
    families = {
        way.family for _, facts in situation.known() for way in facts.ways or () if way.peers
    }
    left = " or ".join(
        f"{mtu - OVERHEAD[family]:,} over {family.replace('ipv', 'IPv')}"
        for family in sorted(families or {Family.IPV4})
    )
    return f"Helm value MTU={mtu}, of which its tunnel leaves pods {left}"


def routes(situation: Situation) -> Iterator[Risk]:
    """The way to a peer allows less than its device; Cilium goes by the device."""
    cases = []
    for n, facts in situation.known():
        for way in facts.ways or ():
            link = facts.link(way.device)
            if link is None or way.mtu is None or way.mtu >= link.mtu:
                continue
            peers = situation.names(way.peers)
            how = "an ICMP error told it so" if way.learned else "the route says so"
            cases.append(
                Case(
                    n,
                    f"From {WHO}, packets to {peers} may have {way.mtu:,} bytes; "
                    f"{link.name} has an MTU of {link.mtu:,}, and Cilium goes by that.",
                    f"to {peers} by {link.name}: MTU {way.mtu:,}, {how}",
                    advice=f"Make the way take {link.mtu:,} bytes, or have Cilium go by what it "
                    f"takes: {advice(way.mtu, situation)}.",
                )
            )
    yield from gather(situation, RiskKey.ROUTE_MTU, Severity.RECOMMENDED, _SOURCE, cases)
