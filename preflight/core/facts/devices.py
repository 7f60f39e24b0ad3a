"""Network cards whose offloads are known to spoil tunnelled packets.

A raw probe is complete when it is sent, so probing cannot show this: only the facts can.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.risk import WHO, Case, Risk, RiskKey, Situation, command, gather
from preflight.core.model import Severity

UDP_TUNNEL = ("tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation")
CHECKSUM = "tx-checksum-ip-generic"
# Fewer may be a stray packet on a bad cable; a broken offload spoils every segment of a flow.
_MANY_ERRORS = 10


def vmxnet3(situation: Situation) -> Iterator[Risk]:
    """vmxnet3 offloads tunnels: on some ESXi releases TCP between pods then dies, ping lives."""
    cases = (
        Case(
            n,
            f"On {WHO}, vmxnet3 ({device}) has UDP tunnel offloads on, which some ESXi releases "
            f"get wrong.",
            f"{device}: {', '.join(f'{name} on' for name in on)}",
            command(f"ethtool -K {device} {' '.join(f'{name} off' for name in on)}", device),
            "Make it last by a udev rule or the network manager: ethtool's setting is gone after a "
            "reboot. On an ESXi release that has the fix it may stay on. The sign of the fault: "
            "pods on different nodes can ping each other, and TCP between them times out.",
        )
        for n, facts in situation.known()
        for device in _of_driver(facts, "vmxnet3")
        if (on := [name for name in UDP_TUNNEL if _changeable(facts, device, name)])
    )
    source = "cilium/cilium#21801, aws/eks-anywhere-build-tooling#2840, Broadcom KB 324199, 432932"
    yield from gather(situation, RiskKey.TUNNEL_OFFLOAD, Severity.RECOMMENDED, source, cases)


def virtio(situation: Situation) -> Iterator[Risk]:
    """virtio leaves checksums to its host, and some node gets wrong ones.

    Nearly every KVM guest offloads checksums, and nearly everywhere that is right: it is said
    where a node has counted wrong TCP checksums, and then of the others that may have sent them.
    """
    for cluster in situation.clusters():
        wrong = {
            n: facts
            for n, facts in situation.known()
            if n in cluster and (facts.tcp_checksum_errors or 0) >= _MANY_ERRORS
        }
        counted = "; ".join(
            f"{situation.nodes[n].name} got {facts.tcp_checksum_errors:,} TCP segments with a "
            f"wrong checksum"
            for n, facts in wrong.items()
        )
        cases = [
            Case(
                n,
                f"On {WHO}, virtio ({device}) leaves checksums to the hypervisor, and nodes here "
                f"get wrong ones.",
                f"{device}: {CHECKSUM} on; {counted}",
                command(f"ethtool -K {device} {CHECKSUM} off", device),
                "Then see whether `nstat -az TcpInCsumErrors` still grows where it did. If not, "
                "make it last: ethtool's setting is gone after a reboot.",
            )
            for n, facts in situation.known()
            if n in cluster and wrong.keys() - {n}
            for device in _of_driver(facts, "virtio_net")
            if _changeable(facts, device, CHECKSUM)
        ]
        source = "cilium/cilium#26300, mitchross/talos-argocd-proxmox#1953"
        yield from gather(situation, RiskKey.CHECKSUM_OFFLOAD, Severity.RECOMMENDED, source, cases)


def _of_driver(facts: NodeFacts, driver: str) -> list[str]:
    """The devices of that driver by which peers are reached, or that lie below such a one."""
    used = {link.name for device in facts.towards() for link in facts.below(device)}
    offloads = facts.offloads or {}
    return [name for name in sorted(used) if name in offloads and offloads[name].driver == driver]


def _changeable(facts: NodeFacts, device: str, name: str) -> bool:
    offloads = (facts.offloads or {})[device]
    return offloads.on(name) and name not in offloads.fixed
