"""Cilium's state as JSON: `preflight/cilium-status/1`. New keys may be added; these stay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TextIO

from preflight import __version__
from preflight.core.cluster.agents import Agent, judged
from preflight.core.cluster.model import Pod, Workload
from preflight.core.cluster.problem import Problem
from preflight.core.cluster.status import Status

SCHEMA = "preflight/cilium-status/1"


def dump(status: Status, *, cluster: str, server: str, file: TextIO) -> None:
    """Write everything; what could not be read is null, and `unknown` says why."""
    nodes = status.nodes
    document = {
        "schema": SCHEMA,
        "preflight": __version__,
        "cluster": {"name": cluster, "server": server},
        "well": status.well,
        "daemon_set": _workload(status.daemon),
        "agents": [_agent(agent) for agent in status.agents],
        "agents_on_gone_nodes": [_pod(pod) for pod in status.strays],
        "deployment": _workload(status.deployment),
        "operators": None if status.operators is None else [_pod(p) for p in status.operators],
        "nodes": None
        if nodes is None
        else [
            {
                "name": node.name,
                "addresses": node.addresses,
                "ready": node.ready,
                "cordoned": node.cordoned,
                "taints": [str(taint) for taint in node.taints],
            }
            for node in nodes
        ],
        "cilium_nodes": None
        if status.cilium_nodes is None
        else [
            {"name": one.name, "addresses": one.internal, "health": one.health}
            for one in status.cilium_nodes
        ],
        "identity_store": status.identity_store,
        "policy_mode": _configured(status, "enable-policy", "default"),
        "host_firewall": None
        if status.config is None
        else status.config.get("enable-host-firewall") == "true",
        "problems": [_problem(problem) for problem in status.problems],
        "unknown": status.unknown,
        "notes": status.notes,
    }
    json.dump(document, file, indent=1)
    file.write("\n")


def _configured(status: Status, key: str, otherwise: str) -> str | None:
    return None if status.config is None else status.config.get(key, otherwise)


def _workload(one: Workload | None) -> Mapping[str, object] | None:
    if one is None:
        return None
    return {
        "name": one.name,
        "namespace": one.namespace,
        "image": one.image,
        "generation": one.generation,
        "observed_generation": one.observed,
        "wanted": one.wanted,
        "updated": one.updated,
        "ready": one.ready,
    }


def _agent(agent: Agent) -> Mapping[str, object]:
    return {
        "node": agent.node,
        "state": agent.state,
        "why": agent.why or None,
        "lasting": agent.lasting,
        "pod": None if agent.pod is None else _pod(agent.pod),
    }


def _pod(pod: Pod) -> Mapping[str, object]:
    main = pod.main
    return {
        "name": pod.name,
        "node": pod.node or None,
        "state": judged(pod)[0],
        "phase": pod.phase,
        "restarts": pod.restarts,
        "image": None if main is None else main.image,
        "image_id": None if main is None else main.image_id or None,
        "last_ends": [
            {
                "container": container.name,
                "reason": container.ended,
                "exit_code": container.exit_code,
                "at": None if container.ended_at is None else container.ended_at.isoformat(),
            }
            for container in pod.containers
            if container.restarts and container.ended
        ],
    }


def _problem(problem: Problem) -> Mapping[str, object]:
    return {
        "key": problem.key,
        "severity": problem.severity,
        "title": problem.title.replace("{nodes}", ", ".join(problem.nodes)),
        "nodes": problem.nodes,
        "evidence": problem.evidence,
        "advice": problem.advice or None,
        "command": problem.command or None,
        "lasting": problem.lasting,
    }
