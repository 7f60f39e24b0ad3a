"""What a symptom means for a workload by itself, in words; and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.core.connectivity.symptoms import (
    PROBED,
    Reading,
    Refusal,
    Scheduling,
    Symptom,
    refusal,
    scheduling,
)
from preflight.core.connectivity.workloads import (
    ECHO_A,
    ECHO_B,
    ECHO_B_HOST,
    HOST_ECHO_PORT,
    HOST_PORT,
    MULTI_NODE,
    Workload,
)

_HOW: Mapping[Symptom, str] = {
    Symptom.TIMEOUT: "no answer at all",
    Symptom.REFUSED: "the connection is refused",
    Symptom.UNREACHABLE: "said to be unreachable",
    Symptom.STALLED: "connected, and then no answer within the probe's time: large packets or "
    "checksums (MTU, offload), or a node that is too busy",
    Symptom.ANSWER: "something answers, but not what was asked for",
    Symptom.PROBE: "the probe fails and does not say how",
}
_SHORT: Mapping[Symptom, str] = {
    **_HOW,
    Symptom.STALLED: "connected, and then no answer",
    Symptom.PROBE: "its probe fails",
    Symptom.RESOLVE: "the name did not resolve",
    Symptom.GOT_THROUGH: "it was answered",
    Symptom.UNSTEADY: "ready and not ready by turns",
    Symptom.SANDBOX: "it got no network",
}


def how(symptom: Symptom | None) -> str:
    """A failure in a few words."""
    return _SHORT.get(symptom, str(symptom)) if symptom else ""


_PLAIN: Mapping[Symptom, tuple[str, str]] = {
    Symptom.SANDBOX: (
        "the CNI plugin could not give the pod a network",
        "Look at the Cilium agent of that node: preflight cilium status.",
    ),
    Symptom.IMAGE: (
        "its image could not be pulled: nothing is known of the network",
        "Mirror the image (--registry, --image-echo, --image-client); --pull-secret for a login.",
    ),
    Symptom.CRASH: (
        "its container ends again and again: nothing is known of the network",
        "Look at the container's log.",
    ),
    Symptom.START: (
        "its container could not be made or started: nothing is known of the network",
        "Look at the container runtime of that node, and at the image.",
    ),
    Symptom.VOLUME: ("a volume could not be mounted: nothing is known of the network", ""),
    Symptom.NOT_SCHEDULED: (
        "no scheduler looked at it",
        "See that kube-scheduler runs.",
    ),
    Symptom.NO_POD: (
        "it had no pod",
        "See that kube-controller-manager runs, and that nobody deletes the pods.",
    ),
    Symptom.NODE: (
        "its node is not ready or threw it out: nothing is known of the network",
        "Look at that node's kubelet.",
    ),
    Symptom.STARTING: ("it was still being started", "Give it longer: --timeout."),
    Symptom.GONE: (
        "it was deleted meanwhile, by somebody else",
        "Run the check again, in a namespace of its own: --namespace.",
    ),
    Symptom.UNSEEN: (
        "the API server told nothing of it before the run ended",
        "Run the check again, with a longer --timeout.",
    ),
}
_UNSCHEDULABLE: Mapping[Scheduling, tuple[str, str]] = {
    Scheduling.NODES: (
        "no node takes it: nothing is known of the network",
        "See which nodes are ready and without a taint.",
    ),
    Scheduling.AFFINITY: (
        "no node is where it must run: nothing is known of the network",
        "See that echo-b runs, and that there are two workers without a taint.",
    ),
    Scheduling.PORTS: (
        "no node has its host port free: nothing is known of the network",
        f"Find the pod that holds hostPort {HOST_PORT}.",
    ),
    Scheduling.ROOM: (
        "no node has room for it: nothing is known of the network",
        "Make room for a pod on two workers.",
    ),
    Scheduling.OTHER: ("no node takes it: nothing is known of the network", ""),
}
_TWO_WORKERS = (
    "no second node takes it: it must not run where echo-b runs, so fewer than two workers take "
    "pods now. Nothing is known of the network between nodes"
)
_REFUSED: Mapping[Refusal, tuple[str, str]] = {
    Refusal.POD_SECURITY: (
        "Pod Security does not let it in: it needs hostNetwork or a hostPort",
        "See what took the label pod-security.kubernetes.io/enforce=privileged off the namespace.",
    ),
    Refusal.QUOTA: (
        "a quota of the namespace does not let it in",
        "Lift the quota for this namespace, or choose another: --namespace.",
    ),
    Refusal.WEBHOOK: (
        "an admission policy of the cluster does not let it in",
        "Exempt this namespace from that policy for the time of the check.",
    ),
    Refusal.ACCOUNT: (
        "the namespace's service account is not there",
        "See that kube-controller-manager runs.",
    ),
    Refusal.OTHER: ("the API server does not let it in", ""),
}


def meaning(reading: Reading, workload: Workload | None, *, echo_b: bool) -> str:
    """What it means by itself; `echo_b`: that workload has a pod, which others keep away from."""
    symptom = reading.symptom
    if symptom is Symptom.UNSCHEDULABLE:
        why = scheduling(reading.words)
        few = workload is not None and workload.name in MULTI_NODE and echo_b
        if few and why in (Scheduling.AFFINITY, Scheduling.NODES):
            return _TWO_WORKERS
        return _UNSCHEDULABLE[why][0]
    if symptom is Symptom.REFUSED_POD:
        return _REFUSED[refusal(reading.words)][0]
    if symptom is Symptom.PORT_TAKEN:
        return _port_taken(workload)
    if symptom is Symptom.RESOLVE:
        return "its name did not resolve: DNS, as that pod sees it"
    if symptom is Symptom.GOT_THROUGH or (symptom in PROBED and workload is None):
        return workload.alone if workload else f"its probe fails: {_HOW.get(symptom, symptom)}"
    if symptom in PROBED and workload is not None:
        return f"{_HOW[symptom]}: {workload.alone}"
    if symptom is Symptom.CRASH and workload is not None and workload.name == ECHO_B_HOST:
        return (
            f"its server ends again and again: most likely TCP {HOST_ECHO_PORT} of its node is "
            "taken. Nothing is known of the network"
        )
    return _PLAIN[symptom][0]


def advice(reading: Reading, workload: Workload | None) -> str:
    """What to do about it; may be empty."""
    symptom = reading.symptom
    if symptom is Symptom.UNSCHEDULABLE:
        return _UNSCHEDULABLE[scheduling(reading.words)][1]
    if symptom is Symptom.REFUSED_POD:
        return _REFUSED[refusal(reading.words)][1]
    if symptom is Symptom.PORT_TAKEN or (
        symptom is Symptom.CRASH and workload is not None and workload.name == ECHO_B_HOST
    ):
        return "Find who holds that port on the node, and run the check again without it."
    if symptom is Symptom.RESOLVE:
        return "See where CoreDNS runs, and whether the same names resolve on other nodes."
    if symptom in PROBED:
        return workload.advice if workload else ""
    return _PLAIN[symptom][1]


def _port_taken(workload: Workload | None) -> str:
    ports = {ECHO_B: HOST_PORT, ECHO_B_HOST: HOST_ECHO_PORT, ECHO_A: None}
    port = ports.get(workload.name) if workload else None
    which = f"TCP {port}" if port else "its port"
    return f"{which} of its node is taken by another process: nothing is known of the network"
