"""The cluster before a connectivity check: may it be run, and what is to be known of it.

Nothing is made here. What forbids the check raises; what cannot be read is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from preflight.cluster.api import Cluster
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.namespace import found
from preflight.cluster.permissions import Need, require
from preflight.cluster.resources import (
    CILIUM_CLUSTER_POLICIES,
    CILIUM_POLICIES,
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    PODS,
    SECRETS,
    Resource,
)
from preflight.core.connectivity.manifest import POD_SECURITY
from preflight.core.connectivity.ownership import RUN, Existing, Whose
from preflight.core.connectivity.picture import Settings, settings_of
from preflight.core.connectivity.policies import (
    Applies,
    Applying,
    Subject,
    admin,
    cilium_clusterwide,
    host_policies,
    in_namespace,
)
from preflight.core.connectivity.workers import Workers, workers
from preflight.core.terms import listed
from preflight.report.text import clean

_SIG = "policy.networking.k8s.io"
_ADMIN = (
    Resource(f"{_SIG}/v1alpha1", "adminnetworkpolicies", "AdminNetworkPolicy", False),
    Resource(
        f"{_SIG}/v1alpha1", "baselineadminnetworkpolicies", "BaselineAdminNetworkPolicy", False
    ),
    Resource(f"{_SIG}/v1alpha2", "clusternetworkpolicies", "ClusterNetworkPolicy", False),
)
_DNS = "k8s-app=kube-dns"
_NAMED = 5  # policies that are named

T = TypeVar("T")


class Plan(NamedTuple):
    """What the check is about to do, as far as rights and policies go."""

    namespace: str
    kinds: Sequence[Resource]  # that it makes
    watched: Sequence[Resource]  # that it follows
    own_policies: Sequence[str]
    pod_labels: Sequence[dict[str, str]]
    secret: tuple[str, str] | None = None  # namespace and name of one to be copied
    keep: bool = False
    despite_policies: bool = False


class Scene(NamedTuple):
    """What was found."""

    version: str
    there: Existing  # the namespace of that name
    workers: Workers | None
    settings: Settings
    cluster_name: str | None  # as Cilium has it
    events: bool  # whether they may be read
    notes: tuple[str, ...]


def survey(cluster: Cluster, plan: Plan) -> Scene:
    """Look at everything. Raises ClusterError for what forbids the check."""
    notes: list[str] = []
    version = cluster.version()
    require(cluster, needs(plan), what="the connectivity check")
    served(cluster, plan)
    there = found(cluster, plan.namespace)
    config = _optional(
        lambda: cluster.get(CONFIG_MAPS, "cilium-config", "kube-system").get("data") or {},
        "Cilium's configuration (ConfigMap kube-system/cilium-config)",
        notes,
    )
    name = None if config is None else str(config.get("cluster-name") or "default")
    applying(cluster, plan, name, notes)
    nodes = _optional(lambda: cluster.find(NODES).items, "the nodes", notes)
    settings = Settings() if config is None else settings_of({k: str(v) for k, v in config.items()})
    return Scene(
        version=version,
        there=there,
        workers=None if nodes is None else workers(nodes),
        settings=settings._replace(dns_nodes=dns_nodes(cluster, notes)),
        cluster_name=name,
        events=all(cluster.allowed(verb, EVENTS, plan.namespace) for verb in ("list", "watch")),
        notes=tuple(notes),
    )


def needs(plan: Plan) -> list[Need]:
    """Every right without which the check cannot be run, or not be cleaned up."""
    namespace = plan.namespace
    out = [Need(verb, NAMESPACES) for verb in ("create",)]
    out += [Need(verb, NAMESPACES, name=namespace) for verb in ("get", "delete")]
    if plan.keep:
        out.append(Need("patch", NAMESPACES, name=namespace))
    out += [Need("create", kind, namespace) for kind in dict.fromkeys(plan.kinds)]
    for kind in dict.fromkeys((*plan.watched, PODS)):
        out += [Need(verb, kind, namespace) for verb in ("list", "watch")]
    if not plan.despite_policies:
        out += [Need("list", kind, namespace) for kind in (NETWORK_POLICIES, CILIUM_POLICIES)]
        out.append(Need("list", CILIUM_CLUSTER_POLICIES))
    if plan.secret is not None:
        out.append(Need("get", SECRETS, plan.secret[0], plan.secret[1]))
        out.append(Need("create", SECRETS, namespace))
    return out


def served(cluster: Cluster, plan: Plan) -> None:
    """Whether Cilium's own kinds are there, where they are to be made."""
    if CILIUM_POLICIES not in plan.kinds:
        return
    try:
        cluster.find(CILIUM_POLICIES, plan.namespace)
    except ClusterError as error:
        if error.fault is Fault.FORBIDDEN:
            return  # found out when they are made
        if error.fault is not Fault.MISSING:
            raise
        raise ClusterError(
            Fault.MISSING,
            f"cluster {cluster.name} does not serve CiliumNetworkPolicies: Cilium is not "
            "installed there, or its operator has not made its kinds yet",
        ) from error


def applying(
    cluster: Cluster, plan: Plan, cluster_name: str | None, notes: list[str], *, made: bool = False
) -> None:
    """Raises ClusterError where a policy already applies to the namespace.

    `made`: the namespace is there by now, and may have got policies and labels of its own.
    """
    labels = {**POD_SECURITY, "kubernetes.io/metadata.name": plan.namespace}
    if made:
        told = cluster.get(NAMESPACES, plan.namespace)
        labels |= (told.get("metadata") or {}).get("labels") or {}
    labels.pop(RUN, None)
    subject = Subject(plan.namespace, labels, plan.pod_labels, cluster_name)
    found_: list[Applying] = []
    for kind in (NETWORK_POLICIES, CILIUM_POLICIES):
        items = _listed(cluster, kind, plan.namespace)
        found_ += in_namespace(kind.kind, items, plan.own_policies)
    wide = _listed(cluster, CILIUM_CLUSTER_POLICIES)
    found_ += cilium_clusterwide(wide, subject)
    if hosts := host_policies(wide):
        notes.append(
            f"Cilium's host policies ({_few(hosts)}) meet what pods send to ports of nodes, and "
            "what nodes send"
        )
    for kind in _ADMIN:
        found_ += admin(kind.kind, _listed(cluster, kind), subject)
    if not found_:
        return
    perhaps = all(one.applies is Applies.PERHAPS for one in found_)
    what = f"{'perhaps ' if perhaps else ''}already apply to {plan.namespace}"
    names = _few([f"{one.kind} {one.name}" for one in found_])
    if plan.despite_policies:
        notes.append(f"network policies {what} ({names}): what is red may be their doing")
        return
    raise ClusterError(
        Fault.CONFLICT,
        f"cluster {cluster.name}: network policies {what}: {names}. The check would test them and "
        "not the network: take them away, choose another --namespace, or use --despite-policies"
        + (". The namespace was removed" if made and not plan.keep else ""),
    )


def dns_nodes(cluster: Cluster, notes: list[str]) -> tuple[str, ...] | None:
    """The nodes where a ready DNS pod runs; None not known."""
    pods = _optional(
        lambda: cluster.find(PODS, "kube-system", labels=_DNS).items, "the DNS pods", notes
    )
    if pods is None:
        return None
    nodes = {
        str((pod.get("spec") or {}).get("nodeName"))
        for pod in pods
        for condition in (pod.get("status") or {}).get("conditions") or ()
        if condition.get("type") == "Ready" and condition.get("status") == "True"
    }
    return tuple(sorted(nodes))


def _listed(cluster: Cluster, kind: Resource, namespace: str | None = None) -> list[Any]:
    """Nothing where the API server does not serve the kind, or these credentials may not look.

    The rights that must be there were asked for before.
    """
    try:
        return cluster.find(kind, namespace).items
    except ClusterError as error:
        if error.fault in (Fault.MISSING, Fault.FORBIDDEN):
            return []
        raise


def _optional(read: Callable[[], T], what: str, notes: list[str]) -> T | None:
    try:
        return read()
    except ClusterError as error:
        if error.closed:
            raise
        why = "there is none" if error.fault is Fault.MISSING else "not allowed"
        if error.fault not in (Fault.MISSING, Fault.FORBIDDEN):
            why = str(error)
        notes.append(f"{what} could not be read ({why})")
        return None


def _few(names: Iterable[str]) -> str:
    names = list(dict.fromkeys(names))
    more = len(names) - _NAMED
    return f"{', '.join(names[:_NAMED])} and {more} more" if more > 0 else listed(names)


def whose(there: Existing, cluster: Cluster, name: str, remove: str) -> str | None:
    """Why a namespace that exists cannot be used; None where it can be replaced.

    `remove` is the command that takes it away.
    """
    if there.whose is Whose.OTHERS:
        return (
            f"cluster {cluster.name}: namespace {name} exists and was not made by this check: "
            "choose another, --namespace NAME"
        )
    if there.whose is Whose.OURS and not (there.kept or there.ending):
        when = f", started {clean(there.started)}" if there.started else ""
        by = f" by {clean(there.by)}" if there.by else ""
        return (
            f"cluster {cluster.name}: namespace {name} belongs to run {clean(there.run)} of this "
            f"check{when}{by}: it is still going, or was killed. If it was killed: {remove}; "
            "else choose another --namespace"
        )
    return None
