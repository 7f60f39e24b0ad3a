"""What a firewall's admin calls the things that are tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preflight.core.groups import FamilyProbe
from preflight.core.model import Family, Probe, Protocol


def traffic(probe: Probe, family: Family) -> str:
    """`UDP 6081`, `ICMP echo`."""
    where = " in the overlay" if probe.overlay else ""
    if probe.protocol is Protocol.ICMP:
        return f"{'ICMPv6' if family is Family.IPV6 else 'ICMP'} echo{where}"
    return f"{probe.protocol.upper()} {probe.port}{where}"


def traffics(tests: Iterable[FamilyProbe], probes: Sequence[Probe]) -> str:
    """`UDP 6081, TCP 4240 and ICMP echo`."""
    return listed(dict.fromkeys(traffic(probes[t.probe], t.family) for t in tests))


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def plural(count: int, noun: str) -> str:
    """`1 flow`, `2,000 flows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
