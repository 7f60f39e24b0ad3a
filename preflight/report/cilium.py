"""Cilium's state as a person reads it: what there is, what is wrong, and each node of a few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from preflight.core.cluster.agents import State
from preflight.core.cluster.model import KubeNode, Pod
from preflight.core.cluster.operators import well_ones
from preflight.core.cluster.problem import Problem
from preflight.core.cluster.status import Status
from preflight.core.cluster.versions import tag
from preflight.core.model import Node, Severity
from preflight.core.naming import Naming
from preflight.core.terms import listed, plural
from preflight.report.paper import Paper
from preflight.report.text import Speech, clean, shorten

_NARROWEST = 40
_ENDS = 40  # characters of why containers ended, in a cell
_LONGEST = 400  # characters of one line of evidence: a node's own words have no limit
_MOST = 12  # nodes with a row each; of more only what is wrong with them
_NAMES = 8  # names of nodes that the cluster no longer has
_HEADS = {Severity.REQUIRED: "Must be changed", Severity.RECOMMENDED: "Should be looked at"}
_STYLES = {Severity.REQUIRED: "bad", Severity.RECOMMENDED: "warn"}
_WORDS = {
    State.WELL: "ready",
    State.OUTDATED: "ready, old",
    State.NOT_READY: "not ready",
    State.CRASHING: "crashing",
    State.IMAGE: "no image",
    State.STARTING: "starting",
    State.UNSCHEDULED: "not scheduled",
    State.MISSING: "none",
    State.TERMINATING: "terminating",
    State.ENDED: "ended",
    State.NOT_HEARD: "not heard of",
    State.NOT_NEEDED: "not needed",
}
_STORES = {
    "crd": "CRD: Kubernetes' own API server, no etcd needed",
    "kvstore": "kvstore: an etcd of its own, which every agent must reach (TCP 2379)",
}
_POLICIES = {
    "default": "default: enforced where a policy selects a pod",
    "always": "always: everything is denied that no policy allows, also to health endpoints",
    "never": "never: no policy is enforced",
}


def render(
    status: Status, *, cluster: str, server: str, width: int, color: bool, file: TextIO
) -> None:
    """Write it to `file` in lines of at most `width` cells, commands excepted."""
    paper = Paper(max(width, _NARROWEST), color=color)
    paper.sentence((f"Cilium in cluster {cluster}", "head"), f"  {server}")
    paper.gap()
    paper.rows(list(_facts(status)), indent=2)
    paper.gap()
    if 0 < len(status.agents) <= _MOST:
        paper.rows(_table(status), indent=2)
        paper.gap()
    names = _Names(status.nodes or ())
    for severity in Severity:
        _problems([p for p in status.problems if p.severity is severity], severity, names, paper)
    if status.unknown:
        paper.sentence(("Not known", "head"))
        for words in status.unknown:
            paper.bullet((words, "unknown"), indent=2)
        paper.gap()
    for words in status.notes:
        paper.sentence((words, "dim"))
    for words, style in _summary(status):
        paper.sentence((words, style))
    file.write(Speech(file).say("\n".join(paper.lines) + "\n"))


def live(status: Status) -> str:
    """One line of progress."""
    wanted = [a for a in status.agents if a.state is not State.NOT_NEEDED]
    well = sum(a.state is State.WELL for a in wanted)
    parts = [f"{well} of {plural(len(wanted), 'agent')} well"] if wanted else ["no agents yet"]
    if status.deployment is not None:
        parts.append(f"{_operators_well(status)} of {status.deployment.wanted} operators well")
    if status.unknown:
        parts.append(status.unknown[0])
    return ", ".join(parts)


def _facts(status: Status) -> Iterator[tuple[str, str]]:
    yield "agents", _agents(status)
    yield "operators", _operators(status)
    if status.cilium_nodes is not None:
        count = plural(len(status.cilium_nodes), "object")
        of = "" if status.nodes is None else f" for {plural(len(status.nodes), 'node')}"
        yield "CiliumNode", count + of
    if status.config is None:
        yield "configuration", "not known"
        return
    store = status.identity_store or ""
    yield "identity store", _STORES.get(store, store)
    policy = status.config.get("enable-policy", "default")
    yield "policy mode", _POLICIES.get(policy, policy)
    on = status.config.get("enable-host-firewall") == "true"
    yield "host firewall", "on: Cilium filters the nodes' own traffic too" if on else "off"


def _agents(status: Status) -> str:
    daemon = status.daemon
    if daemon is None:
        return "no DaemonSet" if status.problems else "not known"
    where = f"DaemonSet {daemon.namespace}/{daemon.name}, {tag(daemon.image)}"
    if not status.agents:
        return f"{where}: {daemon.ready} of {daemon.wanted} ready by its own count"
    wanted = [a for a in status.agents if a.state is not State.NOT_NEEDED]
    well = sum(a.state is State.WELL for a in wanted)
    count = len(wanted)
    return f"{where}: {'all' if well == count else f'{well} of'} {plural(count, 'node')} well"


def _operators_well(status: Status) -> int:
    if status.operators is None:
        return status.deployment.ready if status.deployment is not None else 0
    return len(well_ones(status.operators, status.nodes))


def _operators(status: Status) -> str:
    wanted = status.deployment
    if wanted is None:
        return "no Deployment" if status.daemon is not None and not status.unknown else "not known"
    where = f"Deployment {wanted.namespace}/{wanted.name}, {tag(wanted.image)}"
    if status.operators is None:
        return f"{where}: {wanted.ready} of {wanted.wanted} ready by its own count"
    well = well_ones(status.operators, status.nodes)
    told = f"{where}: {len(well)} of {wanted.wanted} well"
    places = dict.fromkeys(pod.node for pod in well)
    return f"{told}, on {listed(places)}" if places else told


def _table(status: Status) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("node", "agent", "state", "restarts", "version")]
    for agent in status.agents:
        pod = agent.pod
        main = pod.main if pod is not None else None
        rows.append(
            (
                agent.node,
                "-" if pod is None else pod.name,
                _WORDS[agent.state],
                "-" if pod is None else _restarts(pod),
                "-" if main is None else tag(main.image),
            )
        )
    return rows


def _restarts(pod: Pod) -> str:
    ends = dict.fromkeys(c.ended for c in pod.containers if c.restarts and c.ended and not c.init)
    told = shorten(", ".join(ends), _ENDS)
    return f"{pod.restarts} ({told})" if ends and pod.restarts else str(pod.restarts)


class _Names:
    """Nodes in the fewest words; those that the cluster no longer has by name."""

    def __init__(self, nodes: Sequence[KubeNode]) -> None:
        self._places = {node.name: position for position, node in enumerate(nodes)}
        self._naming = Naming([_plain(node) for node in nodes])

    def __call__(self, names: Sequence[str]) -> str:
        if not all(name in self._places for name in names):
            shown = ", ".join(names[:_NAMES])
            left = len(names) - _NAMES
            return f"{shown} and {left} more" if left > 0 else shown
        told = self._naming.name(sum(1 << self._places[name] for name in set(names)))
        return "all nodes" if told == "all" else told


def _plain(node: KubeNode) -> Node:
    """With those labels that people name nodes by."""
    labels = {key: value for key, value in node.labels.items() if "/" not in key}
    for ours, key in (("zone", "topology.kubernetes.io/zone"),):
        if key in node.labels:
            labels[ours] = node.labels[key]
    labels["role"] = "control-plane" if node.control_plane else "worker"
    return Node(node.name, node.addresses, node.name, labels=labels)


def _problems(problems: Sequence[Problem], severity: Severity, names: _Names, paper: Paper) -> None:
    if not problems:
        return
    paper.sentence((f"{_HEADS[severity]} ({severity})", "head"))
    for problem in problems:
        title = problem.title.replace("{nodes}", names(problem.nodes))
        paper.sentence((title, _STYLES[severity]), indent=2)
        for line in problem.evidence:
            paper.bullet((shorten(line, _LONGEST), "dim"), indent=4)
        if problem.advice:
            paper.sentence(problem.advice, indent=4)
        if problem.command:
            paper.command(clean(problem.command), indent=4)
    paper.gap()


def _summary(status: Status) -> Iterator[tuple[str, str]]:
    required = sum(p.severity is Severity.REQUIRED for p in status.problems)
    if required:
        yield f"Cilium is not well: {plural(required, 'thing')} must be changed.", "bad"
    elif status.unknown:
        yield "Nothing that could be read is wrong, but not all of it could be read.", "unknown"
    elif status.problems:
        yield "Cilium is well; the above should be looked at.", "good"
    else:
        yield "Cilium is well.", "good"
