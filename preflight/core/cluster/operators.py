"""The operators: as many as were asked for, each on a node of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.cluster.agents import State, judged
from preflight.core.cluster.model import KubeNode, Pod, Workload
from preflight.core.cluster.problem import Problem
from preflight.core.model import Severity
from preflight.core.terms import plural

# What the scheduler says where there is no second node for the second operator.
_NO_PLACE = "nodes are available"


def single(known: Sequence[KubeNode]) -> bool:
    """Whether one operator is right: EKS Anywhere sets one for a lone control plane node."""
    return len([node for node in known if not node.windows]) == 1


def well_ones(operators: Sequence[Pod], known: Sequence[KubeNode] | None) -> list[Pod]:
    """Those that run and are ready, on nodes that are heard of."""
    silent = {node.name for node in known or () if node.ready is None}
    return [p for p in operators if judged(p)[0] is State.WELL and p.node not in silent]


def operator_problems(
    deployment: Workload | None,
    operators: Sequence[Pod] | None,
    known: Sequence[KubeNode] | None,
    *,
    absent: bool,
) -> Iterator[Problem]:
    """What is wrong with them; `absent` where it is known that there is no Deployment."""
    if absent:
        yield Problem(
            "no-operator",
            Severity.REQUIRED,
            "there is no Deployment of the Cilium operator",
            advice="Without it no new node gets pod addresses and nothing stale is cleaned up.",
            lasting=True,
        )
    if deployment is None:
        return
    yield from _asked(deployment, known)
    if operators is None:
        if deployment.ready < deployment.wanted:
            yield _too_few(deployment, deployment.ready, ())
        return
    staying = [p for p in operators if not p.deleting and p.phase not in ("Failed", "Succeeded")]
    well = well_ones(staying, known)
    if len(well) < deployment.wanted:
        yield _too_few(deployment, len(well), [p for p in staying if p not in well])
    names = {node.name for node in known} if known is not None else None
    places: dict[str, list[str]] = {}
    for pod in well:
        places.setdefault(pod.node, []).append(pod.name)
    for node, sharing in places.items():
        if len(sharing) > 1:
            yield Problem(
                "operators-together",
                Severity.REQUIRED,
                f"{plural(len(sharing), 'operator')} on one node, {{nodes}}: it takes both along",
                (node,),
                (f"pods {', '.join(sharing)}",),
                command=f"kubectl -n {deployment.namespace} delete pod {sharing[-1]}",
                lasting=True,
            )
    gone = tuple(node for node in places if names is not None and node not in names)
    if gone:
        yield Problem(
            "operator-on-gone-node",
            Severity.REQUIRED,
            "an operator is on a node that is gone: {nodes}",
            gone,
        )


def _asked(deployment: Workload, known: Sequence[KubeNode] | None) -> Iterator[Problem]:
    where = f"Deployment {deployment.namespace}/{deployment.name}"
    if deployment.wanted == 0:
        yield Problem(
            "no-operator",
            Severity.REQUIRED,
            f"{where} asks for no operator at all",
            command=f"kubectl -n {deployment.namespace} scale deployment {deployment.name} "
            "--replicas=2",
            lasting=True,
        )
    if deployment.observed < deployment.generation:
        yield Problem(
            "operator-unobserved",
            Severity.REQUIRED,
            f"{where}: its newest generation has not been acted upon",
            evidence=(f"generation {deployment.generation}, observed {deployment.observed}",),
            advice="Does kube-controller-manager run?",
        )
    elif deployment.updated < deployment.wanted:
        yield Problem(
            "operator-updating",
            Severity.REQUIRED,
            f"{where}: not all operators are of its newest generation",
            evidence=(f"{deployment.updated} of {deployment.wanted} updated",),
        )
    if deployment.wanted == 1 and known is not None and not single(known):
        yield Problem(
            "one-operator",
            Severity.RECOMMENDED,
            f"{where} asks for one operator; two on different nodes survive the loss of one",
            advice="One is right only where a single node is the whole cluster.",
        )


def _too_few(deployment: Workload, well: int, poor: Sequence[Pod]) -> Problem:
    evidence = []
    lasting = False
    for pod in poor[:3]:
        state, why, lasts, _ = judged(pod)
        lasting = lasting or lasts or (state is State.UNSCHEDULED and _NO_PLACE in pod.unscheduled)
        on = f" on {pod.node}" if pod.node else ""
        evidence.append(f"pod {pod.name}{on}: {why or 'its node is not heard of'}")
    if not poor:
        evidence.append(f"{plural(max(0, deployment.wanted - well), 'pod')} not there yet")
    return Problem(
        "operators-too-few",
        Severity.REQUIRED,
        f"{well} of {plural(deployment.wanted, 'operator')} well",
        evidence=tuple(evidence),
        lasting=lasting,
    )
