"""Kernels that Cilium does not run on, and those without the module of its tunnel."""

from __future__ import annotations

import re
from collections.abc import Iterator

from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather
from preflight.core.model import ProbeKind, Severity

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
# RHEL 8 has a 4.18 with much of what is newer; its builds tell the minor release.
_RHEL_8 = re.compile(r"4\.18\.0-(\d+).*\.el8")
_RHEL_8_10 = 553
_NEEDED = (5, 10)
_OLDEST = (4, 19, 57)
_SOURCE = "Cilium's system requirements: kernel 5.10, or 4.18 of RHEL 8.10 (1.18); 5.4 (1.16, 1.17)"


def age(situation: Situation) -> Iterator[Risk]:
    """The kernel is older than what Cilium asks for."""
    dead, ageing = [], []
    for n, facts in situation.known():
        version = parse_release(facts.kernel or "")
        if version is None or version[:2] >= _NEEDED or _new_enough_rhel(facts.kernel or ""):
            continue
        evidence = f"kernel {facts.kernel}"
        if version < _OLDEST and not _RHEL_8.search(facts.kernel or ""):
            title = f"The kernel of {WHO} is too old for any Cilium that is maintained."
            advice = "Upgrade the kernel to 5.10 or newer."
            dead.append(Case(n, title, evidence, advice=advice))
        else:
            title = f"The kernel of {WHO} is older than Cilium 1.18 and newer ask for."
            advice = "Upgrade the kernel to 5.10 or newer, or keep to a Cilium that takes this one."
            ageing.append(Case(n, title, evidence, advice=advice))
    yield from gather(situation, RiskKey.KERNEL_TOO_OLD, Severity.REQUIRED, _SOURCE, dead)
    yield from gather(situation, RiskKey.KERNEL_AGES, Severity.RECOMMENDED, _SOURCE, ageing)


def parse_release(release: str) -> tuple[int, int, int] | None:
    """The numbers that a kernel's release begins with, None where it does not."""
    found = _RELEASE.match(release)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def _new_enough_rhel(release: str) -> bool:
    found = _RHEL_8.search(release)
    return found is not None and int(found[1]) >= _RHEL_8_10


def module(situation: Situation) -> Iterator[Risk]:
    """The kernel has no module for the tunnel: Cilium's device cannot be made."""
    names = {ProbeKind.GENEVE: "geneve", ProbeKind.VXLAN: "vxlan"}
    kinds = {probe.kind for probe in situation.tunnels()}
    cases = (
        Case(
            n,
            f"There is no {name} module for the kernel of {WHO}: Cilium cannot make its tunnel.",
            f"kernel {facts.kernel}: {name} is not loaded, not built in and not in /lib/modules",
            advice="Install the package that brings it for this kernel (linux-modules-extra-… on "
            f"Ubuntu, kernel-modules on RHEL), or a kernel built with CONFIG_{name.upper()}.",
        )
        for n, facts in situation.known()
        for kind, name in names.items()
        if kind in kinds and (facts.modules or {}).get(name) == "absent"
    )
    source = "Cilium's system requirements: CONFIG_GENEVE, CONFIG_VXLAN"
    yield from gather(situation, RiskKey.NO_MODULE, Severity.REQUIRED, source, cases)
