"""The 16 workloads of the connectivity check: what each one asks, and what it means if it fails.

Rules of this file:
1. A workload is one Deployment of one pod. Its liveness and readiness are the test itself, so
   `ready` means that the last probes passed and a restart that it failed for half a minute.
2. Names, ports and paths are those of Cilium's own connectivity check (its 14 standard
   deployments and two for hostPort), as EKS Anywhere's documentation listed them.
3. `alone` speaks of this workload red and all others green: what is red together is read
   together, in `together.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from preflight.core.model import Severity

ECHO_A, ECHO_B, ECHO_B_HOST = "echo-a", "echo-b", "echo-b-host"
POD_TO_A, ALLOWED, DENIED = "pod-to-a", "pod-to-a-allowed-cnp", "pod-to-a-denied-cnp"
EXTERNAL, FQDN = "pod-to-external-1111", "pod-to-external-fqdn-allow-google-cnp"
POD_CLUSTERIP, POD_HEADLESS = "pod-to-b-multi-node-clusterip", "pod-to-b-multi-node-headless"
HOST_CLUSTERIP, HOST_HEADLESS = "host-to-b-multi-node-clusterip", "host-to-b-multi-node-headless"
MULTI_NODEPORT, INTRA_NODEPORT = "pod-to-b-multi-node-nodeport", "pod-to-b-intra-node-nodeport"
MULTI_HOSTPORT, INTRA_HOSTPORT = "pod-to-b-multi-node-hostport", "pod-to-b-intra-node-hostport"

ECHO_PORT = 8080  # the echo servers', in their pods
HOST_PORT = 40000  # echo-b's on its node
HOST_ECHO_PORT = 31000  # echo-b-host's on its node
NODE_PORT = 31414  # echo-b's on every node

CONNECT_S = 5  # seconds that a client gives a connection
PERIOD_S = 10  # between two probes of one container
FAILURES = 3  # in a row, and the container is restarted


class Placement(StrEnum):
    """Where a pod has to run."""

    ANY = "any"
    WITH_ECHO_B = "with-echo-b"
    AWAY_FROM_ECHO_B = "away-from-echo-b"


class Way(StrEnum):
    """What a client's packets go by."""

    ITSELF = "itself"  # the server asks itself
    POD = "pod"  # to a pod's address: by the overlay, where the two are on different nodes
    NODE = "node"  # to a node's own address: by the network below the overlay
    OUTSIDE = "outside"  # out of the cluster


class Workload(NamedTuple):
    """One of the check's deployments."""

    name: str
    url: str  # what its probe asks for
    way: Way
    placement: Placement
    servers: tuple[str, ...]  # workloads without which its probe proves nothing
    tests: str  # what its readiness shows
    alone: str  # what it means where it fails and nothing else does
    advice: str = ""  # what to do then
    host_network: bool = False
    translated: bool = False  # asks for a service's cluster address
    refused: bool = False  # ready where the request does NOT get through
    policy: bool = False  # a CiliumNetworkPolicy of its name applies to it
    severity: Severity = Severity.REQUIRED

    @property
    def serves(self) -> bool:
        """True for the three that the others ask."""
        return self.way is Way.ITSELF


_A = f"{ECHO_A}:{ECHO_PORT}"
_NAME = "echo-b-host-headless"  # resolves to the address of echo-b's node
_FAR = Placement.AWAY_FROM_ECHO_B

WORKLOADS: tuple[Workload, ...] = (
    Workload(
        ECHO_A,
        f"localhost:{ECHO_PORT}",
        Way.ITSELF,
        Placement.ANY,
        (),
        "an echo server runs and answers itself",
        "its own server does not answer inside its own pod: an image or container runtime fault "
        "on that node, not the network",
        "Look at the container's log and at the node's container runtime.",
    ),
    Workload(
        ECHO_B,
        f"localhost:{ECHO_PORT}",
        Way.ITSELF,
        Placement.ANY,
        (),
        f"an echo server runs and holds hostPort {HOST_PORT}",
        "its own server does not answer inside its own pod: an image or container runtime fault "
        "on that node, not the network",
        "Look at the container's log and at the node's container runtime.",
    ),
    Workload(
        ECHO_B_HOST,
        f"localhost:{HOST_ECHO_PORT}",
        Way.ITSELF,
        Placement.WITH_ECHO_B,
        (),
        f"an echo server runs in the network of echo-b's node, on TCP {HOST_ECHO_PORT}",
        f"nothing answers on TCP {HOST_ECHO_PORT} of its own node: the port is taken, or the "
        "node's firewall drops what it sends to itself",
        f"Find who listens on TCP {HOST_ECHO_PORT} of that node.",
        host_network=True,
    ),
    Workload(
        POD_TO_A,
        f"{_A}/public",
        Way.POD,
        Placement.ANY,
        (ECHO_A,),
        "a pod reaches another by its service",
        "DNS, service load-balancing or the pod network between these two pods",
        "Look at the Cilium agent of the client's node and of echo-a's.",
        translated=True,
    ),
    Workload(
        ALLOWED,
        f"{_A}/public",
        Way.POD,
        Placement.ANY,
        (ECHO_A,),
        "traffic that a network policy allows passes",
        "traffic that a policy allows is dropped: the policy engine is wrong, or the cluster's "
        "DNS pods are not labelled k8s-app=kube-dns, which the policy allows by name",
        "See that the DNS pods in kube-system carry the label k8s-app=kube-dns; then look at the "
        "drops that the Cilium agent of the client's node reports.",
        translated=True,
        policy=True,
    ),
    Workload(
        DENIED,
        f"{_A}/private",
        Way.POD,
        Placement.ANY,
        (ECHO_A,),
        "traffic that no network policy allows is dropped",
        "network policy is NOT enforced: the request got through although no policy allows it",
        "See that policyEnforcementMode is not `never`, and that the Cilium agent of the client's "
        "node manages this pod (it was started after Cilium).",
        translated=True,
        refused=True,
        policy=True,
    ),
    Workload(
        EXTERNAL,
        "https://1.1.1.1",
        Way.OUTSIDE,
        Placement.ANY,
        (),
        "a pod reaches the Internet by address",
        "TCP 443 to 1.1.1.1 does not pass: no way out, no NAT, or a firewall",
        "Nothing to do where the cluster is not meant to reach the Internet: --no-external.",
        severity=Severity.RECOMMENDED,
    ),
    Workload(
        FQDN,
        "www.google.com",
        Way.OUTSIDE,
        Placement.ANY,
        (),
        "a policy by DNS name lets a pod reach that name",
        "www.google.com does not answer: the name does not resolve, Cilium's DNS proxy or its "
        "policy by name fails, or a proxy or firewall is in the way",
        "Nothing to do where the cluster is not meant to reach the Internet: --no-external.",
        policy=True,
        severity=Severity.RECOMMENDED,
    ),
    Workload(
        POD_CLUSTERIP,
        f"{ECHO_B}:{ECHO_PORT}/public",
        Way.POD,
        _FAR,
        (ECHO_B,),
        "a pod reaches a pod on another node by its service's cluster address",
        "service load-balancing (kube-proxy, or Cilium in its place): the same pod is reached "
        "without a service",
        "Look at kube-proxy, or at Cilium's kube-proxy replacement, on the client's node.",
        translated=True,
    ),
    Workload(
        POD_HEADLESS,
        f"echo-b-headless:{ECHO_PORT}/public",
        Way.POD,
        _FAR,
        (ECHO_B,),
        "a pod reaches a pod on another node by its own address: the overlay, and nothing else",
        "the overlay between these two nodes, or the DNS name of a headless service",
        "Look at the tunnel between the two nodes: preflight check --phase after.",
    ),
    Workload(
        HOST_CLUSTERIP,
        f"{ECHO_B}:{ECHO_PORT}/public",
        Way.POD,
        _FAR,
        (ECHO_B,),
        "a node reaches a pod on another node by its service's cluster address",
        "service load-balancing for the node's own processes (kube-proxy, or Cilium in its "
        "place), or DNS in the node's network",
        "Look at kube-proxy, or at Cilium's kube-proxy replacement, on the client's node.",
        host_network=True,
        translated=True,
    ),
    Workload(
        HOST_HEADLESS,
        f"echo-b-headless:{ECHO_PORT}/public",
        Way.POD,
        _FAR,
        (ECHO_B,),
        "a node reaches a pod on another node by its own address",
        "the overlay from that node itself, or DNS in the node's network",
        "Look at the tunnel between the two nodes: preflight check --phase after.",
        host_network=True,
    ),
    Workload(
        MULTI_NODEPORT,
        f"{_NAME}:{NODE_PORT}/public",
        Way.NODE,
        _FAR,
        (ECHO_B, ECHO_B_HOST),
        "a pod reaches a NodePort of another node",
        f"TCP {NODE_PORT} is not let through between these nodes, or that node does not serve it",
        "Ask the network team to allow TCP 30000-32767 between all nodes.",
    ),
    Workload(
        INTRA_NODEPORT,
        f"{_NAME}:{NODE_PORT}/public",
        Way.NODE,
        Placement.WITH_ECHO_B,
        (ECHO_B, ECHO_B_HOST),
        "a pod reaches a NodePort of its own node",
        "kube-proxy, or Cilium in its place, does not serve a NodePort to the node's own pods",
        "Look at kube-proxy, or at Cilium's kube-proxy replacement, on that node.",
    ),
    Workload(
        MULTI_HOSTPORT,
        f"{_NAME}:{HOST_PORT}/public",
        Way.NODE,
        _FAR,
        (ECHO_B, ECHO_B_HOST),
        "a pod reaches a hostPort of another node",
        f"TCP {HOST_PORT} is not let through between these nodes",
        f"Allow TCP {HOST_PORT} between the nodes where hostPorts are to be used across them.",
    ),
    Workload(
        INTRA_HOSTPORT,
        f"{_NAME}:{HOST_PORT}/public",
        Way.NODE,
        Placement.WITH_ECHO_B,
        (ECHO_B, ECHO_B_HOST),
        "a pod reaches a hostPort of its own node",
        "the node serves a hostPort to others and not to its own pods: no way back to itself",
        "Look at the portmap plugin's rules (masquerade of hairpin traffic) on that node.",
    ),
)

KNOWN: Mapping[str, Workload] = {workload.name: workload for workload in WORKLOADS}
EXTERNALS = frozenset({EXTERNAL, FQDN})
MULTI_NODE = frozenset(w.name for w in WORKLOADS if w.placement is Placement.AWAY_FROM_ECHO_B)
