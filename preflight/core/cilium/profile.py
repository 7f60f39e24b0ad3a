"""The ports beside Cilium's that EKS Anywhere needs between nodes, by their roles.

Source: aws/eks-anywhere `docs/content/en/docs/getting-started/ports/_index.md`. Its tables say who
uses each port: those that a node alone uses, or a machine outside the cluster, are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preflight.core.cilium.probes import Needed
from preflight.core.model import Between, Node, Probe, ProbeKind, Protocol, Severity, Term

ROLE = "role"
CONTROL_PLANE, WORKER, ETCD = "control-plane", "worker", "etcd"
ROLES = (CONTROL_PLANE, WORKER, ETCD)
NODE_PORTS = (30000, 31414, 32767)  # both ends, and the connectivity check's own
_SHOWN = 5
_SAMPLE = (
    f"TCP 30000-32767 (NodePort services): {', '.join(map(str, NODE_PORTS))} are tested, a sample "
    f"of 2,768 ports; a rule for others is not seen"
)
_ITS_OWN = (
    "not tested between nodes, as only the node itself uses them: TCP 10257 "
    "(kube-controller-manager) and 10259 (kube-scheduler)"
)
_SSH = (
    "TCP 22 is not tested between nodes: it is for SSH clients, and this machine's login to each "
    "node shows it"
)

_CONTROL_PLANE = (Term(ROLE, CONTROL_PLANE),)
_WORKER = (Term(ROLE, WORKER),)
_ETCD = (Term(ROLE, ETCD),)
_IN_CLUSTER = (Term(ROLE, ETCD, equal=False),)  # etcd's own machines are no Kubernetes nodes


def eks_anywhere(nodes: Sequence[Node]) -> Needed:
    """The probes that the roles of `nodes` ask for.

    Raises ValueError where no node has a role, as then none of them can be placed.
    """
    roles = {node.labels.get(ROLE) for node in nodes}
    if not roles & set(ROLES):
        raise ValueError(
            f"no node has a label {ROLE} ({', '.join(ROLES)}), and the ports depend on it"
        )
    external = ETCD in roles
    everyone = _IN_CLUSTER if external else ()
    etcd = _ETCD if external else _CONTROL_PLANE
    clients = (*_CONTROL_PLANE, *_ETCD) if external else _CONTROL_PLANE
    tables = [
        ("kube-apiserver", 6443, everyone, _CONTROL_PLANE, "Kubernetes API server"),
        ("kubelet", 10250, _CONTROL_PLANE, everyone, "kubelet API, used by the control plane"),
        ("etcd-client", 2379, clients, etcd, "etcd client API, used by kube-apiserver and etcd"),
        ("etcd-peer", 2380, etcd, etcd, "etcd peers"),
    ]
    probes = [
        _tcp(name, port, Severity.REQUIRED, source, destination, purpose)
        for name, port, source, destination, purpose in tables
    ]
    probes += [
        _tcp(
            f"nodeport-{port}", port, Severity.RECOMMENDED, everyone, _WORKER,
            "NodePort services (TCP 30000-32767)",
        )
        for port in NODE_PORTS
    ]  # fmt: skip
    return Needed(tuple(probes), tuple(_notes(nodes)))


def in_cluster(probes: Sequence[Probe], nodes: Sequence[Node]) -> tuple[Probe, ...]:
    """`probes` without the machines that run etcd alone: these have no Cilium."""
    if not any(node.labels.get(ROLE) == ETCD for node in nodes):
        return tuple(probes)
    only = Between(_IN_CLUSTER, _IN_CLUSTER)
    return tuple(p if p.between is not None else replace(p, between=only) for p in probes)


def _tcp(
    name: str,
    port: int,
    severity: Severity,
    source: tuple[Term, ...],
    destination: tuple[Term, ...],
    purpose: str,
) -> Probe:
    between = Between(source, destination)
    return Probe(name, ProbeKind.TCP, Protocol.TCP, port, severity, between, purpose=purpose)


def _notes(nodes: Sequence[Node]) -> list[str]:
    told = [_SAMPLE, _ITS_OWN, _SSH]
    without = [node.name for node in nodes if node.labels.get(ROLE) not in ROLES]
    if without:
        shown = ", ".join(without[:_SHOWN])
        more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
        told.append(
            f"{shown}{more}: no label {ROLE} that is one of {', '.join(ROLES)}, so the ports of "
            f"these roles were not tested there"
        )
    return told
