"""Rules for what is wrong between two nodes: in the overlay, and in the network below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from preflight.core.connectivity.picture import (
    Claim,
    Pair,
    Picture,
    Settings,
    Words,
    pair_of,
    way_of,
)
from preflight.core.connectivity.symptoms import Symptom
from preflight.core.connectivity.workloads import (
    ALLOWED,
    DENIED,
    HOST_CLUSTERIP,
    HOST_HEADLESS,
    HOST_PORT,
    INTRA_HOSTPORT,
    INTRA_NODEPORT,
    KNOWN,
    MULTI_HOSTPORT,
    MULTI_NODEPORT,
    NODE_PORT,
    POD_CLUSTERIP,
    POD_HEADLESS,
    POD_TO_A,
    Way,
)
from preflight.core.terms import listed


class _Between(NamedTuple):
    """The clients on one node that ask a server on another; by names."""

    red: tuple[str, ...]
    green: tuple[str, ...]


def _between(picture: Picture, way: Way, left: Sequence[str]) -> dict[Pair, _Between]:
    red: dict[Pair, list[str]] = {}
    green: dict[Pair, list[str]] = {}
    for name, one in picture.judged.items():
        pair = pair_of(one)
        if pair is None or way_of(name) is not way or name == DENIED:
            continue
        failed, passed = red.setdefault(pair, []), green.setdefault(pair, [])
        if one.red and name in left:
            failed.append(name)
        elif one.green:
            passed.append(name)
    return {pair: _Between(tuple(red[pair]), tuple(green[pair])) for pair in red}


def overlay(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """Pairs of nodes between which nothing came through the overlay."""
    below = _between(picture, Way.NODE, left)
    kinds: dict[str, dict[Pair, tuple[str, ...]]] = {}
    through: list[str] = []
    for pair, (red, green) in _between(picture, Way.POD, left).items():
        names = red
        # A policy's own client alone says nothing of the way where the same passes without it.
        if not red or (red == (ALLOWED,) and picture.green((POD_TO_A,))):
            continue
        if green and not _all_but_some(picture, red, green):
            continue
        kind = _kind(picture, red, below.get(pair, _Between((), ())))
        if green and kind not in _TOLD:
            continue  # it says that nothing passes
        through += green
        if kind == "between-nodes":
            names += below[pair].red
        kinds.setdefault(kind, {})[pair] = names
    evidence: list[str] = []
    if "tunnel" in kinds and picture.red(_TO_B) and "overlay" in kinds:
        unasked = kinds.pop("overlay")
        evidence.append(f"no port of the node was asked for {_where(tuple(unasked))}")
        kinds["tunnel"] |= unasked
    if through:
        evidence.append(
            f"{listed(through)} came through between the same nodes: not every flow is lost, as "
            "with a dead link of a bundle"
        )
    for kind, pairs in kinds.items():
        title, meaning, advice = _OVERLAY[kind]
        where = _where(tuple(pairs))
        yield Claim(
            tuple(dict.fromkeys(chain.from_iterable(pairs.values()))),
            title.format(where=where),
            meaning,
            advice.format(tunnel=_tunnel(picture.settings)),
            pairs=tuple(pairs),
            evidence=tuple(evidence) if kind in _TOLD else (),
            key=kind,
        )


_TOLD = ("tunnel", "overlay", "mtu")  # with what came through all the same
_TO_B = (POD_CLUSTERIP, POD_HEADLESS, HOST_CLUSTERIP, HOST_HEADLESS)


def _all_but_some(picture: Picture, red: Sequence[str], green: Sequence[str]) -> bool:
    """All that asks echo-b over the overlay is lost, and only other flows between these nodes pass.

    From pods and from the node, with a service and without: what they have in common is the way.
    """
    silent = not {picture.judged[n].symptom for n in red} & {Symptom.REFUSED, Symptom.ANSWER}
    return silent and picture.red(_TO_B) and len(red) > 1 and not set(green) & set(_TO_B)


def _kind(picture: Picture, red: Sequence[str], ports: _Between) -> str:
    """How the overlay does not pass, where none of `red` came through it."""
    symptoms = {picture.judged[n].symptom for n in red}
    if symptoms <= {Symptom.REFUSED, Symptom.ANSWER}:
        return "refused"
    if symptoms == {Symptom.STALLED}:
        return "mtu"
    plain = [n for n in _TO_B if n in picture.judged and not KNOWN[n].translated]
    if all(KNOWN[n].translated for n in red) and not (set(red) & set(_TO_B) and picture.red(plain)):
        return "overlay-or-service"
    if ports.green:
        return "tunnel"
    return "between-nodes" if MULTI_NODEPORT in ports.red else "overlay"


def _tunnel(settings: Settings) -> str:
    """What carries the overlay."""
    if settings.tunnel == "disabled":
        return "the pods' own addresses (native routing: there is no tunnel)"
    name = {"vxlan": "VXLAN", "geneve": "GENEVE"}.get(settings.tunnel or "geneve", "the tunnel")
    port = settings.tunnel_port or (8472 if settings.tunnel == "vxlan" else 6081)
    return f"UDP {port} ({name})"


_OVERLAY: Mapping[str, Words] = {
    "refused": Words(
        "connections are refused {where}",
        "something answers with a refusal, so that packets do pass: a firewall that rejects, a "
        "policy, or a service that knows no pod behind it",
        "Look at the policies, and at the service's endpoints.",
    ),
    "overlay-or-service": Words(
        "services are not reached {where}",
        "the overlay between these nodes, or the translation of services on the client's node: "
        "no client there asked for a pod's own address",
        "See that {tunnel} passes both ways, and that kube-proxy, or Cilium in its place, works.",
    ),
    "tunnel": Words(
        "the overlay does not pass {where}",
        "pods cannot reach pods there, while the same nodes reach each other's ports: the tunnel "
        "itself, not the network below it",
        "See that {tunnel} passes both ways; where it does, look for checksum offload "
        "(vmxnet3, virtio), a smaller MTU on the way, and pod ranges that overlap others.",
    ),
    "between-nodes": Words(
        "nothing passes {where}",
        "neither the overlay nor a NodePort comes through: a firewall between the nodes, or a "
        "route, rather than the tunnel alone",
        "See that {tunnel} and TCP 30000-32767 pass both ways.",
    ),
    "overlay": Words(
        "the overlay does not pass {where}",
        "pods there cannot reach each other; whether the network below lets other ports pass is "
        "not known",
        "See that {tunnel} passes both ways.",
    ),
    "mtu": Words(
        "connections stall in the overlay {where}",
        "connections are made and then nothing comes: packets of full size are lost, or the "
        "nodes are too busy to answer in time",
        "Compare the MTU of the path with that of the nodes' devices: preflight check --phase "
        "after finds the largest size that passes.",
    ),
}


def _where(pairs: Sequence[Pair]) -> str:
    """`from w2 to w1`, `from w2 and w3 to w1`."""
    by_server: dict[str, list[str]] = {}
    for client, server in pairs:
        by_server.setdefault(server, []).append(client)
    return "; ".join(f"from {listed(c)} to {server}" for server, c in by_server.items())


def within_overlay(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """Pairs of nodes between which some came through the overlay and some did not."""
    kinds: dict[str, dict[Pair, tuple[str, ...]]] = {}
    for pair, (red, green) in _between(picture, Way.POD, left).items():
        # A policy's own client says something of the way only with the one without a policy.
        names = red if POD_TO_A in red else tuple(n for n in red if n != ALLOWED)
        if not names or not green:
            continue
        kind = _part(names, green)
        kinds.setdefault(kind, {})[pair] = names
    for kind, pairs in kinds.items():
        title, meaning, advice = _WITHIN[kind]
        yield Claim(
            tuple(dict.fromkeys(chain.from_iterable(pairs.values()))),
            title.format(where=_where(tuple(pairs))),
            meaning,
            advice,
            pairs=tuple(pairs),
            key=kind,
        )


def _part(red: Sequence[str], green: Sequence[str]) -> str:
    """What those that did not come through have in common, and the others have not."""
    bad, good = [KNOWN[n] for n in red], [KNOWN[n] for n in green]
    if not {s for one in bad for s in one.servers} & {s for one in good for s in one.servers}:
        return "one-server"
    services = all(one.translated for one in bad)
    if services and not all(one.translated for one in good):
        if not any(one.translated for one in good):
            return "service"
        if all(one.host_network for one in bad) and not any(
            one.translated and one.host_network for one in good
        ):
            return "host-service"
    if all(one.host_network for one in bad) and not any(one.host_network for one in good):
        return "host-to-pod"
    if all(one.host_network for one in good) and not any(one.host_network for one in bad):
        return "pod-to-pod"
    return "mixed"


_WITHIN: Mapping[str, Words] = {
    "one-server": Words(
        "one server is not reached {where}, another there is",
        "the same overlay carries what is asked of the other server: not the tunnel, but that "
        "pod, its service, or a policy",
        "Look at the service's endpoints, and at the drops that the two Cilium agents report.",
    ),
    "host-service": Words(
        "services are not translated for the node's own processes {where}",
        "pods there come through by the same service, and the node itself by the pod's own "
        "address: kube-proxy, or Cilium in its place",
        "Look at kube-proxy, or at Cilium's socket load-balancing, on the clients' nodes.",
    ),
    "service": Words(
        "services are not translated {where}",
        "a pod's own address is reached over the same overlay, its service's is not: kube-proxy, "
        "or Cilium in its place, on the client's node",
        "Look at kube-proxy, or at Cilium's kube-proxy replacement, on the clients' nodes.",
    ),
    "host-to-pod": Words(
        "nodes do not reach pods {where}",
        "pods come through the same overlay, the node's own processes do not: their source "
        "address, a host firewall, or DNS in the node's network",
        "Look at the routes and the source address that the node uses towards the pod range.",
    ),
    "pod-to-pod": Words(
        "pods do not reach pods {where}",
        "the node's own processes come through the same overlay, so the tunnel passes: a policy, "
        "or something that drops the pods' own addresses",
        "Look at the policies, and at the drops that the two Cilium agents report.",
    ),
    "mixed": Words(
        "the overlay passes some and not others {where}",
        "some clients come through between the same two nodes and others do not: loss, or a "
        "fault that comes and goes",
        "Run the check again; preflight check --phase after measures loss between these nodes.",
    ),
}


def ports_between(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """Ports of nodes that are served, but not reached from another node."""
    numbers = {MULTI_NODEPORT: NODE_PORT, MULTI_HOSTPORT: HOST_PORT}
    kinds: dict[tuple[str, ...], list[Pair]] = {}
    for pair, (red, _) in _between(picture, Way.NODE, left).items():
        if names := tuple(n for n in red if n in numbers):
            kinds.setdefault(names, []).append(pair)
    for names, pairs in kinds.items():
        ports = listed(f"TCP {numbers[n]}" for n in names)
        yield Claim(
            names,
            f"{ports} of the node is not reached {_where(pairs)}",
            "the node serves it to its own pods; between the nodes it does not pass"
            if picture.green((INTRA_NODEPORT, INTRA_HOSTPORT))
            else "the network below the overlay drops it, or the node does not serve it",
            "Ask the network team to allow TCP 30000-32767 between all nodes"
            + (
                f", and TCP {HOST_PORT} where hostPorts are used."
                if MULTI_HOSTPORT in names
                else "."
            ),
            pairs=tuple(pairs),
        )
