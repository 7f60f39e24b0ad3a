"""Reads what a cluster says of its nodes and of Cilium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.cluster.api import Cluster
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.resources import CILIUM_CLUSTER_POLICIES, CILIUM_NODES, CONFIG_MAPS, NODES
from preflight.core.cilium.cluster import ClusterFacts, nodes_of
from preflight.core.cluster.model import cilium_nodes

_NAMESPACE, _CONFIG = "kube-system", "cilium-config"


def read(cluster: Cluster, *, need_nodes: bool, need_overlay: bool = False) -> ClusterFacts:
    """Nodes, and Cilium's configuration where there is one; with it, where that is wanted, what
    the agents say of their nodes.

    Raises ClusterError where nothing can be read, and with `need_nodes` where nodes cannot.
    """
    source = f"cluster {cluster.name}" if cluster.name else "the cluster"
    notes: list[str] = []
    try:
        nodes, notes_of_nodes = nodes_of(cluster.find(NODES).items)
        notes += notes_of_nodes
        known = True
    except ClusterError as error:
        if need_nodes or error.closed:
            raise
        nodes, known = (), False
        notes.append(f"the inventory is not compared with the cluster's nodes: {error}")
    config = None
    try:
        config = _texts(cluster.get(CONFIG_MAPS, _CONFIG, _NAMESPACE).get("data"))
        why = ""
    except ClusterError as error:
        if error.closed:
            raise
        why = (
            f"{source} has no ConfigMap {_NAMESPACE}/{_CONFIG}: Cilium is not installed there, or "
            f"under another name"
            if error.fault is Fault.MISSING
            else f"Cilium's configuration could not be read: {error}"
        )
    facts = ClusterFacts(source, nodes, config, tuple(notes), why, known)
    return _with_overlay(cluster, facts) if need_overlay and config is not None else facts


def _with_overlay(cluster: Cluster, facts: ClusterFacts) -> ClusterFacts:
    """A right that is missing here costs the overlay's probes alone."""
    try:
        there = cilium_nodes(cluster.find(CILIUM_NODES).items)
    except ClusterError as error:
        if error.closed:
            raise
        return replace(facts, no_cilium_nodes=str(error))
    try:
        policies = tuple(cluster.find(CILIUM_CLUSTER_POLICIES).items)
    except ClusterError as error:
        if error.closed:
            raise
        policies = ()
    return replace(facts, cilium_nodes=there, clusterwide=policies)


def _texts(data: object) -> Mapping[str, str]:
    if not isinstance(data, Mapping):
        return {}
    return {str(key): value for key, value in data.items() if isinstance(value, str)}
