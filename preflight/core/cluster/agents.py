"""One agent for each node: how it is, and where it is not, why.

Rules of this file:
1. A state is lasting where waiting alone does not end it.
2. What a kubelet that is not heard of last said is not evidence of anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from preflight.core.cluster.model import Container, KubeNode, Object, Pod, Taint, Workload, text

# Tolerations that every pod of a DaemonSet gets; Cilium's agents use the host's network.
_ALWAYS = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure",
        "unschedulable", "network-unavailable",
    )
)  # fmt: skip
_PULLS = {
    "ErrImagePull": False,
    "ImagePullBackOff": False,
    "InvalidImageName": True,
    "ErrImageNeverPull": True,
    "RegistryUnavailable": False,
    "ImageInspectError": False,
}
_CONFIGURED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_MANY = 5  # restarts after which a container that crashes does not come up by waiting


class State(StrEnum):
    """How one node's agent is."""

    WELL = "well"
    OUTDATED = "outdated"  # well, but of an older generation
    NOT_READY = "not-ready"
    CRASHING = "crashing"
    IMAGE = "image"
    STARTING = "starting"
    UNSCHEDULED = "unscheduled"
    MISSING = "missing"
    TERMINATING = "terminating"
    ENDED = "ended"
    NOT_HEARD = "not-heard"  # its node's kubelet is silent
    NOT_NEEDED = "not-needed"  # Cilium does not run there


# What only its kubelet can know.
_TOLD = (State.WELL, State.NOT_READY, State.CRASHING, State.IMAGE, State.STARTING)


@dataclass(frozen=True, slots=True)
class Agent:
    """What is known of the agent of one node."""

    node: str
    state: State
    pod: Pod | None = None
    why: str = ""  # in a few words, without the node; empty where it is well
    lasting: bool = False  # waiting does not mend it
    container: Container | None = None  # the one that is the trouble
    others: tuple[Pod, ...] = ()  # on the same node


def agents(
    nodes: Sequence[KubeNode], pods: Sequence[Pod], daemon: Workload
) -> tuple[tuple[Agent, ...], tuple[Pod, ...]]:
    """Each node's agent in the nodes' order, and the pods on nodes that are gone."""
    newest = _newest(pods, daemon)
    there: dict[str, list[Pod]] = {}
    for pod in pods:
        there.setdefault(pod.node or pod.wanted_on, []).append(pod)
    out = []
    for node in nodes:
        mine = sorted(there.pop(node.name, ()), key=_last)
        out.append(_agent(node, mine, daemon, newest))
    there.pop("", None)
    gone = [pod for left in there.values() for pod in left if pod.node]
    return tuple(out), tuple(gone)


def by_pods(pods: Sequence[Pod], daemon: Workload) -> tuple[Agent, ...]:
    """Agents where the nodes are not known: one for each pod."""
    newest = _newest(pods, daemon)
    out = []
    for pod in pods:
        node = KubeNode(pod.node or pod.wanted_on or "?", (), {}, True, False, ())
        out.append(_agent(node, [pod], daemon, newest))
    return tuple(out)


def _newest(pods: Sequence[Pod], daemon: Workload) -> str | None:
    """The revision that the controller makes pods of now; None where that cannot be told.

    The DaemonSet does not name it. Where all of its pods are said to be new and have one revision,
    or that many of them have one, it is that.
    """
    if daemon.observed < daemon.generation:
        return None
    counts: dict[str, int] = {}
    for pod in pods:
        if pod.revision and not pod.deleting:
            counts[pod.revision] = counts.get(pod.revision, 0) + 1
    if len(counts) == 1 and daemon.updated:
        return next(iter(counts))
    fitting = [revision for revision, count in counts.items() if count == daemon.updated]
    return fitting[0] if len(fitting) == 1 else None


def _last(pod: Pod) -> tuple[bool, bool, str]:
    """The pod that counts comes first: one that is to stay, and runs."""
    return (pod.deleting, pod.phase in ("Failed", "Succeeded"), pod.name)


def _agent(node: KubeNode, mine: Sequence[Pod], daemon: Workload, newest: str | None) -> Agent:
    if not mine:
        return _missing(node, daemon)
    pod, *others = mine
    state, why, lasting, container = judged(pod)
    if node.ready is None and state in _TOLD:
        was = "it was well when last seen" if state is State.WELL else f"last seen: {why}"
        state, why, lasting = State.NOT_HEARD, f"its node is not heard of; {was}", False
    elif state is State.WELL and newest is not None and pod.revision != newest:
        state, why = State.OUTDATED, "it is of an older generation of the DaemonSet"
        lasting = daemon.on_delete
        if lasting:
            why += ", whose updateStrategy OnDelete leaves it so until it is deleted"
    left = tuple(other for other in others if not other.deleting)
    return Agent(node.name, state, pod, why, lasting, container, left)


def judged(pod: Pod) -> tuple[State, str, bool, Container | None]:
    """A pod's state, why in a few words, whether it lasts, and the container to blame."""
    if pod.deleting:
        return State.TERMINATING, "it is being deleted", False, None
    if pod.phase in ("Failed", "Succeeded"):
        return State.ENDED, f"it has ended: {pod.reason or pod.phase}", False, None
    if not pod.node:
        why = pod.unscheduled or "the scheduler has not looked at it yet"
        return State.UNSCHEDULED, why, False, None
    for container in pod.containers:
        found = _trouble(container)
        if found is not None:
            return (*found, container)
    unready = [c for c in pod.containers if not c.init and not c.ready]
    if pod.phase == "Running" and not unready and pod.ready:
        return State.WELL, "", False, None
    if pod.phase == "Running":
        names = ", ".join(c.name for c in unready)
        why = f"not ready: {names}" if names else "its readiness gates are not passed"
        return State.NOT_READY, why, False, unready[0] if unready else None
    first = next((c for c in pod.containers if not c.over and not c.ready), None)
    if first is None or not first.waiting:
        return State.STARTING, "its node has not told of its start yet", False, first
    which = f"init container {first.name}" if first.init else first.name
    return State.STARTING, f"{which}: {first.waiting}", False, first


def _trouble(container: Container) -> tuple[State, str, bool] | None:
    """What a container waits for, where that is no part of an ordinary start."""
    name = f"{'init container ' if container.init else ''}{container.name}"
    said = f": {container.message}" if container.message else ""
    if container.waiting in _PULLS:
        why = f"{name}: {container.waiting} {container.image}{said}"
        return State.IMAGE, why, _PULLS[container.waiting]
    if container.waiting in _CONFIGURED:
        return State.CRASHING, f"{name}: {container.waiting}{said}", False
    if container.waiting == "CrashLoopBackOff":
        end = f", last end: {ending(container)}" if container.ended else ""
        lasting = container.restarts >= _MANY
        return State.CRASHING, f"{name}: CrashLoopBackOff{end}", lasting
    if container.over and container.exit_code:
        return State.CRASHING, f"{name} ended: {ending(container)}", False
    return None


def ending(container: Container) -> str:
    """`OOMKilled`, `Error (exit code 1)`."""
    if container.exit_code is None or container.ended.startswith("exit code"):
        return container.ended
    return f"{container.ended} (exit code {container.exit_code})"


def _missing(node: KubeNode, daemon: Workload) -> Agent:
    if node.windows:
        return Agent(node.name, State.NOT_NEEDED, why="Windows: Cilium does not run there")
    if not daemon.uid:
        why = "why is not known, as the DaemonSet could not be read"
        return Agent(node.name, State.MISSING, why=why)
    for key, value in daemon.node_selector.items():
        if node.labels.get(key) != value:
            why = f"the DaemonSet's nodeSelector wants {key}={value}"
            return Agent(node.name, State.MISSING, why=why, lasting=True)
    for taint in node.taints:
        if taint.effect != "PreferNoSchedule" and not tolerates(daemon.tolerations, taint):
            why = f"the DaemonSet does not tolerate its taint {taint}"
            return Agent(node.name, State.MISSING, why=why, lasting=True)
    if daemon.deleting:
        why, lasting = "the DaemonSet is being deleted", True
    elif daemon.picky:
        why, lasting = "the DaemonSet's node affinity may leave it out", False
    else:
        why, lasting = "the DaemonSet's controller has made none", False
    return Agent(node.name, State.MISSING, why=why, lasting=lasting)


def tolerates(tolerations: Iterable[Object], taint: Taint) -> bool:
    """Whether a DaemonSet's pod may run in spite of a taint."""
    if taint.key in _ALWAYS:
        return True
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Mapping[str, object], taint: Taint) -> bool:
    if text(toleration, "effect") not in ("", taint.effect):
        return False
    exists = text(toleration, "operator") == "Exists"
    key = text(toleration, "key")
    if not key:
        return exists
    return key == taint.key and (exists or text(toleration, "value") == taint.value)
