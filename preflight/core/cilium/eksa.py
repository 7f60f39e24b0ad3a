"""An EKS Anywhere cluster spec: which Cilium it makes, and what it says of its nodes.

What EKS Anywhere hands to Cilium's chart is in aws/eks-anywhere
`pkg/networking/cilium/templater.go`: values of its own, among them `tunnelProtocol: geneve`. Up to
version 0.25.3 a `helmValues` in the spec takes the place of all of them, so that one without
`tunnelProtocol` gets the chart's default, VXLAN. aws/eks-anywhere#10959 (September 2026, 0.27 and
later patch releases of 0.25 and 0.26) merges the two instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from preflight.core.cilium.config import Installation, Routing, from_helm
from preflight.core.cilium.remarks import Remark
from preflight.core.model import Node, Severity

if TYPE_CHECKING:
    from preflight.core.facts.risk import Network

_EKSA: Mapping[str, object] = {"routingMode": "tunnel", "tunnelProtocol": "geneve"}
_LAST_THAT_REPLACES = (0, 25, 3)
_FIRST_THAT_MERGES = (0, 27, 0)
_REPLACES = (
    "EKS Anywhere up to 0.25.3 lets helmValues take the place of its own values, "
    "tunnelProtocol: geneve among them; Cilium's own default is VXLAN"
)
_MERGES = (
    "aws/eks-anywhere#10959 (0.27, and later patch releases of 0.25 and 0.26) merges them, and "
    "keeps GENEVE"
)
HELM_VALUES = "spec.clusterNetwork.cniConfig.cilium.helmValues"


class _Helm(Enum):
    """What becomes of EKS Anywhere's own values where the spec has some."""

    REPLACED = "replaced"
    MERGED = "merged"
    UNKNOWN = "unknown"


class Group(NamedTuple):
    """Machines of one kind."""

    name: str
    role: str  # control-plane, worker or etcd
    least: int
    most: int  # more than `least` where a group grows by itself
    selector: Mapping[str, str]  # labels of hardware.csv; empty where the spec names none


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """One cluster."""

    source: str  # the file
    name: str
    version: tuple[int, ...] | None = None  # of EKS Anywhere
    pod_ranges: tuple[Network, ...] = ()
    service_ranges: tuple[Network, ...] = ()
    helm_values: Mapping[str, object] | None = None
    routing_mode: str = ""  # the older key, which has no say where there are helm values
    own_cilium: bool = False  # skipUpgrade: EKS Anywhere leaves Cilium alone
    groups: tuple[Group, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)  # of the cluster itself: what -> IP
    users: tuple[str, ...] = ()  # that the machines will have for SSH


class Derived(NamedTuple):
    """What a spec makes of Cilium."""

    installation: Installation
    instead: Installation | None  # what another version of EKS Anywhere would make
    remarks: tuple[Remark, ...]
    notes: tuple[str, ...]


def derive(spec: ClusterSpec) -> Derived:
    """The installation that `spec` asks for. Raises ConfigError."""
    notes = []
    if spec.own_cilium:
        notes.append(
            f"{spec.source} sets skipUpgrade: if you replace Cilium with one of your own, its "
            f"ports are told by --kubeconfig alone"
        )
    if spec.helm_values is None:
        values = {**_EKSA}
        if spec.routing_mode == "direct":
            values = {"routingMode": "native"}
        return Derived(from_helm(values, spec.source), None, (), tuple(notes))
    how = _how(spec.version)
    if "tunnelProtocol" in (spec.helm_values or ()):  # empty: it takes EKS Anywhere's away
        how = _Helm.REPLACED
    own = {key: value for key, value in spec.helm_values.items() if key != "tunnel"}
    merged = from_helm(_merged(_EKSA, own), spec.source)
    replaced = from_helm(own, spec.source)
    if spec.routing_mode == "direct" and replaced.routing is Routing.TUNNEL:
        notes.append(
            f"{spec.source}: routingMode: direct has no effect beside helmValues: routing is by "
            f"tunnel"
        )
    if not replaced.tunnelled or own.get("tunnelProtocol"):
        return Derived(merged, None, (), tuple(notes))
    remark = _trap(spec, how, replaced)
    if how is _Helm.MERGED:
        return Derived(merged, None, (remark,), tuple(notes))
    instead = merged if how is _Helm.UNKNOWN else None
    return Derived(replaced, instead, (remark,), tuple(notes))


def _how(version: tuple[int, ...] | None) -> _Helm:
    if version is None:
        return _Helm.UNKNOWN
    if version <= _LAST_THAT_REPLACES:
        return _Helm.REPLACED
    return _Helm.MERGED if version >= _FIRST_THAT_MERGES else _Helm.UNKNOWN


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    out = dict(below)
    for key, value in above.items():
        under = out.get(key)
        nested = isinstance(value, Mapping) and isinstance(under, Mapping)
        out[key] = _merged(under, value) if nested else value  # type: ignore[arg-type]
    return out


def _trap(spec: ClusterSpec, how: _Helm, replaced: Installation) -> Remark:
    """`helmValues` without `tunnelProtocol`."""
    usual = from_helm(_EKSA, spec.source)
    eksa = f"{usual.tunnel.upper()} on UDP {usual.tunnel_port}"
    chart = f"{replaced.tunnel.upper()} on UDP {replaced.tunnel_port}"
    why = f"{spec.source} has helmValues without tunnelProtocol"
    evidence = [_REPLACES, _MERGES]
    if spec.version is not None:
        evidence.append(f"{spec.source} is for EKS Anywhere {'.'.join(map(str, spec.version))}")
    if spec.helm_values and "tunnel" in spec.helm_values:
        evidence.append("the key tunnel has had no effect since Cilium 1.15")
    advice = (
        f"Write tunnelProtocol: geneve and routingMode: tunnel under {HELM_VALUES}, whatever the "
        f"version"
    )
    if how is _Helm.MERGED:
        title = f"{why}: this EKS Anywhere keeps {eksa}, an older one would turn it into {chart}"
        return Remark(Severity.RECOMMENDED, title, tuple(evidence), f"{advice}.")
    unless = "" if how is _Helm.REPLACED else ", unless this EKS Anywhere merges them"
    title = f"{why}: that turns {eksa} into {chart}{unless}"
    advice += f"; or have UDP {replaced.tunnel_port} opened as well, between all nodes."
    return Remark(Severity.REQUIRED, title, tuple(evidence), advice)


def inside_ranges(spec: ClusterSpec) -> list[Remark]:
    """The cluster's own addresses that lie in its pods' or services' ranges."""
    found = []
    for kind, ranges in (("pod", spec.pod_ranges), ("service", spec.service_ranges)):
        for what, written in spec.addresses.items():
            try:
                address = ip_address(written)
            except ValueError:
                continue
            held = [r for r in ranges if r.version == address.version and address in r]
            if held:
                key = f"clusterNetwork.{kind}s.cidrBlocks"
                found.append(
                    Remark(
                        Severity.REQUIRED,
                        f"the {kind} range {held[0]} holds {what} {address}",
                        (f"{spec.source}: {key}", "see aws/eks-anywhere#6032, #6532"),
                        f"Choose a {kind} range that is nowhere else in your network before the "
                        f"cluster is made: it cannot be changed afterwards.",
                    )
                )
    return found


def counted(spec: ClusterSpec, nodes: Sequence[Node], where: str) -> list[Remark]:
    """Roles of which the inventory has fewer or more nodes than the spec asks for.

    Silent where some node has no role that is known: nobody knows then what is missing.
    """
    roles = ("control-plane", "worker", "etcd")
    if not spec.groups or any(node.labels.get("role") not in roles for node in nodes):
        return []
    told = []
    for role in roles:
        groups = [group for group in spec.groups if group.role == role]
        least, most = sum(g.least for g in groups), sum(g.most for g in groups)
        have = sum(node.labels["role"] == role for node in nodes)
        if not least <= have <= most:
            asked = f"{least}" if least == most else f"{least} to {most}"
            told.append(f"{role}: {asked} in {spec.source}, {have} in {where}")
    if not told:
        return []
    return [
        Remark(
            Severity.RECOMMENDED,
            f"{where} and {spec.source} do not agree how many nodes there are",
            tuple(told),
            "What is missing is not tested; what is too many may be a spare.",
        )
    ]


def version_of(written: str) -> tuple[int, ...] | None:
    """`v0.25.3` and the like; None for what is no release, as of a build in between."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", written.strip())
    return None if found is None else tuple(map(int, found.groups()))
