"""Cilium's own state in a cluster, judged from the API server's objects alone.

Rules of this file:
1. What could not be read is an unknown, never a problem and never well.
2. Required is what the overlay or the control of it needs; all else is recommended.
3. A problem is lasting where waiting alone does not end it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from preflight.core.cluster.agents import Agent, State, agents, by_pods
from preflight.core.cluster.ciliumnodes import cilium_node_problems
from preflight.core.cluster.model import (
    UNREAD_WORKLOAD,
    CiliumNode,
    KubeNode,
    Object,
    Pod,
    Workload,
    cilium_nodes,
    nodes,
    pods,
    workload,
)
from preflight.core.cluster.operators import operator_problems
from preflight.core.cluster.problem import Problem
from preflight.core.cluster.versions import version_problems
from preflight.core.model import Severity
from preflight.core.terms import listed
from preflight.errors import ExitCode


class Unread(NamedTuple):
    """What could not be read, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Read:
    """What was asked of the API server, as it answered; None where there is no such object."""

    nodes: Sequence[Object] | Unread
    daemon: Object | Unread | None
    agents: Sequence[Object] | Unread
    deployment: Object | Unread | None
    operators: Sequence[Object] | Unread
    cilium_nodes: Sequence[Object] | Unread | None
    config: Mapping[str, str] | Unread | None
    others: tuple[str, ...] = ()  # more DaemonSets that could have been meant
    events: tuple[str, ...] = ()  # what the DaemonSet's controller complains of
    stale: tuple[str, ...] = ()  # parts by name that are as they were when the way to them broke


@dataclass(frozen=True, slots=True)
class Status:
    """The judgement."""

    nodes: tuple[KubeNode, ...] | None
    daemon: Workload | None
    agents: tuple[Agent, ...]
    strays: tuple[Pod, ...]  # agents on nodes that are gone
    deployment: Workload | None
    operators: tuple[Pod, ...] | None
    cilium_nodes: tuple[CiliumNode, ...] | None
    config: Mapping[str, str] | None
    problems: tuple[Problem, ...]
    unknown: tuple[str, ...]  # what could not be read, each as a sentence
    notes: tuple[str, ...] = ()

    @property
    def identity_store(self) -> str | None:
        """`crd` or `kvstore`; None where the configuration is not known."""
        return None if self.config is None else self.config.get("identity-allocation-mode", "crd")

    def exit_code(self, *, strict: bool) -> ExitCode:
        """The process's answer."""
        severities = {p.severity for p in self.problems}
        if Severity.REQUIRED in severities or (strict and severities):
            return ExitCode.BAD
        return ExitCode.INCOMPLETE if self.unknown else ExitCode.OK

    @property
    def well(self) -> bool:
        """Whether all of it is known, and nothing required is wrong."""
        return self.exit_code(strict=False) is ExitCode.OK

    @property
    def lasting(self) -> bool:
        """Whether something required is wrong that waiting does not mend."""
        return any(p.lasting and p.severity is Severity.REQUIRED for p in self.problems)


_UNREAD = {
    "nodes": "the nodes",
    "daemon": "the DaemonSet of the agents",
    "agents": "the agents' pods",
    "deployment": "the operator's Deployment",
    "operators": "the operators' pods",
    "cilium_nodes": "the CiliumNode objects",
    "config": "Cilium's configuration",
}


def judge(read: Read, now: datetime) -> Status:
    """Put together what was read. Total: any object of any shape gives a status."""

    unknown = _unread(read)
    unknown += [f"{_UNREAD[key]} are only known as of a while ago" for key in read.stale]
    known = None if isinstance(read.nodes, Unread) else nodes(read.nodes)
    daemon = workload(read.daemon) if isinstance(read.daemon, Mapping) else None
    mine = None if isinstance(read.agents, Unread) else pods(read.agents)
    found: tuple[Agent, ...] = ()
    strays: tuple[Pod, ...] = ()
    problems: list[Problem] = []
    if read.daemon is None:
        problems.append(_no_daemon(known))
    if mine is not None and (daemon is not None or isinstance(read.daemon, Unread)):
        of = daemon or UNREAD_WORKLOAD
        mine = tuple(p for p in mine if not of.uid or p.owner in ("", of.uid))
        if known is None:
            found = by_pods(mine, of)
        elif daemon is not None or mine:  # without either there may be others, named otherwise
            found, strays = agents(known, mine, of)
        problems += _agent_problems(found, read.events)
        problems += _stray_problems(strays)
    if daemon is not None:
        problems += _daemon_problems(daemon, found, counted=mine is not None)
    if known is not None:
        unheard = tuple(a.node for a in found if a.state is State.NOT_HEARD)
        if unheard:
            unknown.append(
                f"{_some(unheard)} {'is' if len(unheard) == 1 else 'are'} not heard of, and so "
                "are the agents there"
            )
        problems += _node_problems(known)
    deployment = workload(read.deployment) if isinstance(read.deployment, Mapping) else None
    operators = None if isinstance(read.operators, Unread) else pods(read.operators)
    problems += operator_problems(deployment, operators, known, absent=read.deployment is None)
    theirs = read.cilium_nodes
    cilium = None if theirs is None or isinstance(theirs, Unread) else cilium_nodes(theirs)
    if theirs is None and daemon is not None:
        problems.append(
            Problem(
                "no-cilium-nodes",
                Severity.REQUIRED,
                "the cluster has no CiliumNode objects at all: their kind is not defined",
                advice="The operator defines it when it first starts: look at its log.",
            )
        )
    if cilium is not None and known is not None and daemon is not None:
        problems += cilium_node_problems(known, cilium)
    config = None if isinstance(read.config, Unread) else read.config
    if config is not None:
        problems += _config_problems(config)
    elif read.config is None and daemon is not None:
        problems.append(
            Problem(
                "no-config",
                Severity.RECOMMENDED,
                f"there is no ConfigMap cilium-config in {daemon.namespace}",
                advice="Agents read their configuration from it when they start.",
            )
        )
    problems += version_problems(daemon, found, operators or (), now)
    problems.sort(key=lambda p: p.severity is not Severity.REQUIRED)
    return Status(
        known, daemon, found, strays, deployment, operators, cilium, config,
        tuple(problems), tuple(unknown), _notes(read),
    )  # fmt: skip


def _unread(read: Read) -> list[str]:
    """What has the same reason is one sentence."""
    groups: dict[str, list[str]] = {}
    for key, words in _UNREAD.items():
        value = getattr(read, key)
        if isinstance(value, Unread):
            groups.setdefault(value.why, []).append(words)
    return [f"{listed(words)} could not be read: {why}" for why, words in groups.items()]


def _notes(read: Read) -> tuple[str, ...]:
    if not read.others:
        return ()
    return (f"not looked at: {', '.join(read.others)} (--namespace chooses)",)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more nodes" if len(names) > 3 else shown


def _no_daemon(known: tuple[KubeNode, ...] | None) -> Problem:
    names = () if known is None else tuple(n.name for n in known if not n.windows)
    return Problem(
        "no-daemon-set",
        Severity.REQUIRED,
        "there is no DaemonSet of Cilium agents, so no node has one",
        names,
        advice="Is Cilium installed in this cluster? Where it goes by another name: --namespace.",
        lasting=True,
    )


_TITLES = {
    State.OUTDATED: "agent not yet of the newest generation on {nodes}",
    State.NOT_READY: "agent not ready on {nodes}",
    State.CRASHING: "agent crashes on {nodes}",
    State.IMAGE: "agent's image cannot be had on {nodes}",
    State.STARTING: "agent still starting on {nodes}",
    State.UNSCHEDULED: "agent not scheduled on {nodes}",
    State.MISSING: "no agent on {nodes}",
    State.TERMINATING: "agent being deleted on {nodes}",
    State.ENDED: "agent has ended on {nodes}",
}
_COMMANDS = {
    State.NOT_READY: "kubectl -n {ns} logs {pod} -c {container}",
    State.CRASHING: "kubectl -n {ns} logs {pod} -c {container} --previous",
    State.UNSCHEDULED: "kubectl -n {ns} describe pod {pod}",
    State.STARTING: "kubectl -n {ns} describe pod {pod}",
}


def _agent_problems(found: Sequence[Agent], events: Sequence[str]) -> Iterator[Problem]:
    """Agents that are alike in state and reason are one problem."""
    groups: dict[tuple[State, str], list[Agent]] = {}
    for agent in found:
        if agent.state in _TITLES:
            groups.setdefault((agent.state, agent.why), []).append(agent)
    for (state, why), group in groups.items():
        evidence = [why] if why else []
        if state is State.MISSING:
            evidence += events
        names = [a.pod.name for a in group if a.pod is not None]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            evidence.append(f"pod {shown}" if len(names) == 1 else f"pods {shown}")
        yield Problem(
            f"agent-{state}",
            Severity.REQUIRED,
            _TITLES[state],
            tuple(a.node for a in group),
            tuple(evidence),
            command=_command(state, group[0]),
            lasting=all(a.lasting for a in group),
        )
    for agent in found:
        if agent.others:
            listed = ", ".join(p.name for p in (agent.pod, *agent.others) if p is not None)
            yield Problem(
                "two-agents",
                Severity.REQUIRED,
                "more than one agent on {nodes}",
                (agent.node,),
                (f"pods {listed}",),
            )


def _command(state: State, agent: Agent) -> str:
    wanted = _COMMANDS.get(state)
    if wanted is None or agent.pod is None:
        return ""
    main = agent.container or agent.pod.main
    container = main.name if main is not None else "cilium-agent"
    return wanted.format(ns=agent.pod.namespace, pod=agent.pod.name, container=container)


def _stray_problems(strays: Sequence[Pod]) -> Iterator[Problem]:
    for leaving in (False, True):
        group = [pod for pod in strays if pod.deleting is leaving]
        if group:
            title = "agents on nodes that are gone: {nodes}"
            yield Problem(
                "agent-on-gone-node",
                Severity.RECOMMENDED,
                f"{title}, being deleted" if leaving else title,
                tuple(dict.fromkeys(pod.node for pod in group)),
                tuple(f"pod {pod.name}" for pod in group[:3]),
                "Kubernetes' own garbage collection takes them away; by hand:",
                f"kubectl -n {group[0].namespace} delete pod --force {group[0].name}",
            )


def _daemon_problems(
    daemon: Workload, found: Sequence[Agent], *, counted: bool
) -> Iterator[Problem]:
    where = f"DaemonSet {daemon.namespace}/{daemon.name}"
    if daemon.observed < daemon.generation:
        yield Problem(
            "daemon-set-unobserved",
            Severity.REQUIRED,
            f"{where}: its newest generation has not been acted upon",
            evidence=(f"generation {daemon.generation}, observed {daemon.observed}",),
            advice="Does kube-controller-manager run?",
        )
        return
    told = any(a.state in (State.OUTDATED, State.MISSING, State.UNSCHEDULED) for a in found)
    if daemon.updated < daemon.wanted and not told:
        yield Problem(
            "daemon-set-updating",
            Severity.REQUIRED,
            f"{where}: not all agents are of its newest generation",
            evidence=(f"{daemon.updated} of {daemon.wanted} updated",),
        )
    if not counted and daemon.ready < daemon.wanted:
        yield Problem(
            "daemon-set-not-ready",
            Severity.REQUIRED,
            f"{where}: {daemon.ready} of {daemon.wanted} agents are ready",
        )


def _node_problems(known: Sequence[KubeNode]) -> Iterator[Problem]:
    silent = tuple(n.name for n in known if n.ready is None)
    unready = tuple(n.name for n in known if n.ready is False)
    if silent:
        yield Problem(
            "node-not-heard",
            Severity.REQUIRED,
            "kubelet not heard of on {nodes}",
            silent,
            advice="Is the machine up, and does it reach the API server?",
        )
    if unready:
        yield Problem(
            "node-not-ready",
            Severity.RECOMMENDED,
            "Kubernetes calls {nodes} not ready",
            unready,
            command=f"kubectl describe node {unready[0]}",
        )
    homeless = tuple(n.name for n in known if not n.addresses)
    if homeless:
        yield Problem(
            "node-without-address",
            Severity.REQUIRED,
            "no InternalIP on {nodes}: Cilium has no address to tunnel to",
            homeless,
        )


def _config_problems(config: Mapping[str, str]) -> Iterator[Problem]:
    if config.get("enable-policy") == "never":
        yield Problem(
            "policy-never",
            Severity.RECOMMENDED,
            "no network policy is enforced: enable-policy is never",
            advice="On EKS Anywhere: policyEnforcementMode in the cluster spec.",
        )
    store = config.get("identity-allocation-mode", "crd")
    if store != "crd":
        yield Problem(
            "identity-store",
            Severity.RECOMMENDED,
            f"the identity store is {store}, and not the API server by CRD as on EKS Anywhere",
            advice="Every agent must reach that store as well, an etcd at TCP 2379 by default.",
        )
