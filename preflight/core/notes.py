"""What the reader of a run must know besides its verdicts. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from preflight.core.model import Protocol
from preflight.core.scope import Scope

if TYPE_CHECKING:
    from preflight.core.findings.model import Finding

_SHOWN = 6


def notes(
    scope: Scope,
    inert: Sequence[Sequence[int]],
    hellos: Mapping[int, Mapping[str, Any]],
    slow: Collection[tuple[int, int]] = (),
    strays: Mapping[int, tuple[int, str]] | None = None,
    damaged: Mapping[int, int] | None = None,
    findings: "Sequence[Finding]" = (),
) -> list[str]:
    """Plain sentences, the most important first.

    `inert` lists for each probe who was sent its harmless form; `slow` the pairs of which packets
    came after they had been given up; `strays` for each node that got packets which were not for
    it their number and one of them in words; `damaged` that of packets whose content was changed.
    What one of `findings` says is not said again.
    """
    out = []
    for node, (count, example) in sorted((strays or {}).items()):
        out.append(
            f"{scope.nodes[node].name} got {_ours(count)} meant for another node, such as "
            f"{example}: something translates destinations, on the path or at a node, or this "
            "node has the other's address, too"
        )
    for node, count in sorted((damaged or {}).items()):
        out.append(
            f"{scope.nodes[node].name} got {_ours(count)} damaged on the way, where no checksum "
            "told: look at the error counters of links, network cards and virtual switches"
        )
    for node, hello in sorted(hellos.items()):
        for address in map(str, hello.get("absent", ())):
            if any(_tells_of(finding, node, address) for finding in findings):
                continue
            over = "IPv6" if ":" in address else "IPv4"
            off = ", and `sysctl -a -r disable_ipv6`" if over == "IPv6" else ""
            out.append(
                f"{scope.nodes[node].name} does not have its address {address}, and could not "
                f"be tested over {over}: see `ip address` there{off}, or correct the inventory"
            )
    if slow:
        pairs = ", ".join(
            f"{scope.nodes[s].name} → {scope.nodes[d].name}" for s, d in sorted(slow)[:_SHOWN]
        )
        more = f" and {len(slow) - _SHOWN} more pairs" if len(slow) > _SHOWN else ""
        out.append(
            f"{pairs}{more}: packets came after they had been given up; where such a pair is "
            f"blocked or lossy, it may only be slow: try a longer --timeout"
        )
    for probe in scope.idle:
        whose = "" if probe.between is None else f" ({probe.between})"
        why = f"no pair of these nodes needs it{whose}"
        if probe.families and not set(probe.families) & set(scope.families):
            over = " and ".join(family.replace("ipv", "IPv") for family in probe.families)
            why = f"it is needed over {over}, over which nothing was tested"
        out.append(f"{probe.name} was not tested: {why}")
    for number, probe in enumerate(scope.probes):
        owners = [
            n for n in inert[number] if n in hellos and probe.port in hellos[n].get("udp", ())
        ]
        if owners and probe.protocol is Protocol.UDP:
            out.append(
                f"UDP {probe.port} is in use on {names(scope, owners)}: "
                f"{probe.name} went there in its inert form, which the kernel throws away"
            )
    return out


def _ours(count: int) -> str:
    return (
        f"{count} packets of this run that were" if count != 1 else "a packet of this run that was"
    )


def _tells_of(finding: "Finding", node: int, address: str) -> bool:
    """Whether it says that the node lacks that address."""
    from preflight.core.findings.model import Cause

    own = finding.cause is Cause.ADDRESS and node in finding.nodes
    return own and address in finding.title.split()


def names(scope: Scope, nodes: Sequence[int]) -> str:
    """Some nodes' names in one phrase."""
    shown = ", ".join(scope.nodes[n].name for n in nodes[:_SHOWN])
    more = len(nodes) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
