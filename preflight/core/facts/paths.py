"""Where a node's packets go, from which address, and whether it takes the peers' packets."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from preflight.core.evidence import Errno
from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather, sysctl
from preflight.core.model import Family, Phase, Severity

_NO_ROUTE = {
    Errno.ENETUNREACH: "network unreachable",
    Errno.EHOSTUNREACH: "a route that says unreachable",
    Errno.EACCES: "a route that prohibits it",
    Errno.EINVAL: "a blackhole route",
}
_STRICT = 1


def no_route(situation: Situation) -> Iterator[Risk]:
    """The kernel has no way to a peer."""
    cases = (
        Case(
            n,
            f"{WHO} has no route to {situation.names(way.peers)}.",
            f"the kernel says: {_NO_ROUTE[Errno(way.error)]}",
            advice="Correct its routes; `ip route get "
            f"{_address(situation, way.peers[0], way.family)}` shows what the kernel has.",
        )
        for n, facts in situation.known()
        for way in facts.ways or ()
        if way.error in _NO_ROUTE and way.peers
    )
    source = "design: the kernel's own answer to a route request"
    yield from gather(situation, RiskKey.NO_ROUTE, Severity.REQUIRED, source, cases)


def source_address(situation: Situation) -> Iterator[Risk]:
    """The kernel sends to peers from an address that the inventory does not have."""
    cases = []
    for n, facts in situation.known():
        known = {ip_address(address) for address in situation.nodes[n].addresses}
        for way in facts.ways or ():
            own = situation.nodes[n].address_in(way.family)
            if way.source is None or own is None or ip_address(way.source) in known:
                continue
            cases.append(
                Case(
                    n,
                    f"{WHO} sends to {situation.names(way.peers)} from {way.source}, not from "
                    f"{own}, its address in the inventory.",
                    f"by {way.device}, source {way.source}",
                    advice=f"Allow {way.source} wherever firewalls allow {own}, or have the route "
                    f"prefer {own} (ip route … src {own}).",
                )
            )
    source = "cilium/cilium#33011: tunnel packets leave with the address that the kernel picks"
    yield from gather(situation, RiskKey.SOURCE_ADDRESS, Severity.RECOMMENDED, source, cases)


def rp_filter(situation: Situation) -> Iterator[Risk]:
    """Strict reverse path filtering will drop what comes in by another device than it goes out."""
    cases = []
    for n, facts in situation.known():
        own = situation.nodes[n].address_in(Family.IPV4)
        arrives = {a.device for a in facts.addresses or () if a.address == own} - {"lo"}
        strict = {device for device in arrives if effective_rp_filter(facts, device) == _STRICT}
        for way in facts.ways or ():
            if way.family is not Family.IPV4 or way.device is None or not strict:
                continue
            if way.device in arrives:
                continue
            device = min(strict)
            cases.append(
                Case(
                    n,
                    f"{WHO} reaches {situation.names(way.peers)} by {way.device}, while {own} is "
                    f"on {device}, where strict rp_filter drops what they send to it.",
                    f"rp_filter of {device} is 1 (strict); the way to "
                    f"{situation.names(way.peers)} is by {way.device}",
                    sysctl(f"net/ipv4/conf/{device}/rp_filter", 2),
                    f"Keep it in /etc/sysctl.d. Or route to these peers by {device}.",
                )
            )
    source = "kernel ip-sysctl: rp_filter; cilium/cilium#10645, #20072"
    yield from gather(situation, RiskKey.RP_FILTER, Severity.RECOMMENDED, source, cases)
    yield from _rp_filter_of_all(situation)


def _rp_filter_of_all(situation: Situation) -> Iterator[Risk]:
    cases = (
        Case(
            n,
            f"On {WHO}, net.ipv4.conf.all.rp_filter is 1: Cilium sets it to 0, and something has "
            "set it back.",
            "the larger of this and the device's counts, so that pods' devices are strict too",
            sysctl("net/ipv4/conf/all/rp_filter", 0),
            "Find what sets it in /etc/sysctl.d and /etc/sysctl.conf.",
        )
        for n, facts in situation.known()
        if situation.phase is Phase.AFTER
        and (facts.rp_filter or {}).get("all") == _STRICT
        and any(link.name.startswith("cilium_") for link in facts.links or ())
    )
    source = "cilium/cilium#10645, #13717, #20072"
    yield from gather(situation, RiskKey.RP_FILTER, Severity.RECOMMENDED, source, cases)


def effective_rp_filter(facts: NodeFacts, device: str) -> int | None:
    """What holds for a device: the larger of its own setting and that of `all`."""
    settings = facts.rp_filter or {}
    if "all" not in settings or device not in settings:
        return None
    return max(settings["all"], settings[device])


def echo_ignored(situation: Situation) -> Iterator[Risk]:
    """The kernel is told not to answer pings."""
    settings = {
        Family.IPV4: "net.ipv4.icmp_echo_ignore_all",
        Family.IPV6: "net.ipv6.icmp.echo_ignore_all",
    }
    cases = (
        Case(
            n,
            f"{WHO} answers no {'ping' if family is Family.IPV4 else 'IPv6 ping'}: {setting} "
            f"is set.",
            f"{setting} = 1",
            sysctl(setting.replace(".", "/"), 0),
            "Take the setting out of /etc/sysctl.d and /etc/sysctl.conf.",
        )
        for n, facts in situation.known()
        for family, setting in settings.items()
        if (facts.echo_ignored or {}).get(family) and situation.nodes[n].address_in(family)
    )
    source = "Cilium's system requirements: nodes should be able to ping each other"
    yield from gather(situation, RiskKey.ECHO_IGNORED, Severity.RECOMMENDED, source, cases)


def _address(situation: Situation, node: int, family: Family) -> str:
    return situation.nodes[node].address_in(family) or situation.nodes[node].address
