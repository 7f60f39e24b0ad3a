"""Another pod network is here, or was."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from preflight.core.facts.model import Link, NodeFacts
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, gather
from preflight.core.model import Phase, Severity

# Devices that only that network makes. ovs-system and kube-ipvs0 prove nothing: Open vSwitch and
# kube-proxy have theirs for other ends; nor does tunl0 while it is down, which a module makes.
_DEVICES = (
    ("Cilium", ("cilium_host", "cilium_net", "cilium_vxlan", "cilium_geneve", "lxc_health")),
    ("Flannel", ("flannel.*", "flannel-v6.*", "flannel-wg", "flannel-wg-v6")),
    ("Calico", ("vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "tunl0")),
    ("Antrea", ("antrea-gw0", "antrea-tun0")),
    ("OVN-Kubernetes", ("ovn-k8s-mp0",)),
    ("Weave Net", ("weave", "vxlan-6784")),
    ("kube-router", ("kube-bridge", "kube-dummy-if")),
)
_FILES = (
    ("Cilium", "cilium"),
    ("Flannel", "flannel"),
    ("Calico", "calico"),
    ("Calico", "canal"),
    ("Antrea", "antrea"),
    ("OVN-Kubernetes", "ovn"),
    ("Weave Net", "weave"),
    ("kube-router", "kuberouter"),
)
NETWORK = "Cilium"


def other_network(situation: Situation) -> Iterator[Risk]:
    """Devices or configuration of a pod network other than the Cilium to be installed."""
    cases = (
        Case(
            n,
            _title(name),
            "; ".join(evidence),
            advice=_advice(name, facts, situation.phase),
        )
        for n, facts in situation.known()
        for name, evidence in _found(facts).items()
        if name != NETWORK or situation.phase is Phase.BEFORE
    )
    source = "Cilium's system requirements and migration guide"
    yield from gather(situation, RiskKey.LEFTOVERS, Severity.RECOMMENDED, source, cases)


def _title(name: str) -> str:
    if name == NETWORK:
        return f"Cilium is, or was, on {WHO} already."
    return f"{name}, another pod network, is or was on {WHO}."


def _found(facts: NodeFacts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, devices in devices_of(facts).items():
        found[name] = [f"devices {', '.join(device.name for device in devices)}"]
    for file in facts.cni or ():
        # What Cilium has put out of its way does no harm.
        owner = next((name for name, word in _FILES if word in file), None)
        if owner is not None and not file.endswith(".cilium_bak"):
            found.setdefault(owner, []).append(f"/etc/cni/net.d/{file}")
    return found


def devices_of(facts: NodeFacts) -> dict[str, list[Link]]:
    """The devices that a pod network has made, by its name."""
    found: dict[str, list[Link]] = {}
    for link in facts.links or ():
        for name, patterns in _DEVICES:
            fits = any(fnmatchcase(link.name, pattern) for pattern in patterns)
            if fits and (link.name != "tunl0" or link.up):
                found.setdefault(name, []).append(link)
    return found


def _advice(name: str, facts: NodeFacts, phase: Phase) -> str:
    if name == NETWORK:
        return "If it is in use, check with --phase after; else remove it as it was installed."
    when = "before Cilium is installed" if phase is Phase.BEFORE else "now that Cilium is there"
    devices = [d.name for d in devices_of(facts).get(name, ()) if d.name != "tunl0"]
    links = f" and its devices (ip link delete {devices[0]})" if devices else ""
    return f"If nothing uses it any more, remove {name} {when}, its files in /etc/cni/net.d{links}."
