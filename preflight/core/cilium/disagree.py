"""Where spec, cluster and inventory do not say the same of Cilium's ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.cilium.config import Encryption, Installation
from preflight.core.cilium.probes import describe
from preflight.core.cilium.remarks import Remark
from preflight.core.model import Family, Probe, ProbeKind, Severity
from preflight.core.terms import traffic

_OWN = (ProbeKind.GENEVE, ProbeKind.VXLAN, ProbeKind.HEALTH, ProbeKind.ECHO)


def between(planned: Installation, running: Installation) -> Remark | None:
    """What a spec asks for, and what the cluster does, where that is not the same."""
    rows = list(_rows(planned, running))
    if not rows:
        return None
    required = any(severity is Severity.REQUIRED for severity, _ in rows)
    return Remark(
        Severity.REQUIRED if required else Severity.RECOMMENDED,
        f"{planned.source} and {running.source} disagree: {describe(planned)} there, "
        f"{describe(running)} here"
        if describe(planned) != describe(running)
        else f"{planned.source} and {running.source} disagree about Cilium's ports",
        tuple(text for _, text in rows),
        f"What {running.source} says is what runs now; the next upgrade may make it what "
        f"{planned.source} says. Make them agree, and open what both need until then.",
    )


def _rows(planned: Installation, running: Installation) -> Iterator[tuple[Severity, str]]:
    def row(what: str, there: object, here: object) -> str:
        return f"{what}: {there} in {planned.source}, {here} in {running.source}"

    must, should = Severity.REQUIRED, Severity.RECOMMENDED
    if planned.routing is not running.routing:
        yield must, row("routing", planned.routing, running.routing)
    if planned.tunnelled and running.tunnelled:
        if planned.tunnel is not running.tunnel:
            yield must, row("tunnel", planned.tunnel, running.tunnel)
        if planned.tunnel_port != running.tunnel_port:
            there, here = f"UDP {planned.tunnel_port}", f"UDP {running.tunnel_port}"
            yield must, row("tunnel port", there, here)
        if planned.source_ports != running.source_ports:
            there, here = (
                "-".join(map(str, one.source_ports)) if any(one.source_ports) else "any"
                for one in (planned, running)
            )
            yield must, row("source ports of the tunnel", there, here)
    wrapped = all(
        it.tunnelled or it.encryption is Encryption.WIREGUARD for it in (planned, running)
    )
    if wrapped and planned.underlay is not running.underlay:
        yield must, row("underlay", planned.underlay, running.underlay)
    if planned.encryption is not running.encryption:
        yield must, row("encryption", planned.encryption, running.encryption)
    elif (
        planned.encryption is Encryption.WIREGUARD
        and planned.node_encryption is not running.node_encryption
    ):
        on = {True: "on", False: "off"}
        words = on[planned.node_encryption], on[running.node_encryption]
        yield must, row("node encryption", *words)
    if planned.health and running.health and planned.health_port != running.health_port:
        there, here = f"TCP {planned.health_port}", f"TCP {running.health_port}"
        yield should, row("health port", there, here)


def with_inventory(
    derived: Sequence[Probe], source: str, written: Sequence[Probe], file: str
) -> Remark | None:
    """The inventory's own list of probes, against what the installation needs.

    Probes of a user's own are nobody's business but the user's, unless they name a needed port.
    """
    needs = {(probe.protocol, probe.port) for probe in derived}
    has = {(probe.protocol, probe.port) for probe in written}
    told = [
        f"{_traffic(probe)} ({probe.name}) is needed by {source} and not in {file}"
        for probe in derived
        if (probe.protocol, probe.port) not in has
    ]
    extra = [
        f"{_traffic(probe)} ({probe.name}) is in {file} and not needed by {source}"
        for probe in written
        if probe.kind in _OWN and (probe.protocol, probe.port) not in needs
    ]
    if not told and not extra:
        return None
    required = any(
        p.severity is Severity.REQUIRED and (p.protocol, p.port) not in has for p in derived
    )
    return Remark(
        Severity.REQUIRED if required else Severity.RECOMMENDED,
        f"the probes of {file} are not those that {source} needs",
        (*told, *extra),
        f"All of them were tested. Leave probes: out of {file}, and they follow from {source}.",
    )


def _traffic(probe: Probe) -> str:
    return traffic(probe, Family.IPV4)
