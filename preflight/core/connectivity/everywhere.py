"""Rules for what is wrong everywhere, or everywhere on one node: nothing between nodes is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from preflight.core.connectivity.picture import Claim, Picture, pair_of
from preflight.core.connectivity.pods import Judgement
from preflight.core.connectivity.symptoms import Symptom
from preflight.core.connectivity.workloads import DENIED, EXTERNALS, KNOWN, POD_TO_A
from preflight.core.terms import listed


def not_enforced(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    one = picture.judged.get(DENIED)
    if DENIED not in left or one is None or one.symptom is not Symptom.GOT_THROUGH:
        return
    never = picture.settings.enable_policy == "never"
    yield Claim(
        (DENIED,),
        "network policy is NOT enforced",
        "a request that no policy allows got through"
        + (": Cilium's configuration says enable-policy: never" if never else ""),
        "Set policyEnforcementMode to default in the cluster's specification."
        if never
        else KNOWN[DENIED].advice,
        nodes=one.nodes,
    )


def pod_network(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    by_node: dict[tuple[str, ...], list[str]] = {}
    for name in left:
        one = picture.judged[name]
        if one.symptom is Symptom.SANDBOX:
            by_node.setdefault(one.nodes, []).append(name)
    if by_node:
        names = tuple(chain.from_iterable(by_node.values()))
        nodes = tuple(dict.fromkeys(chain.from_iterable(by_node)))
        where = f" on {listed(nodes)}" if nodes else ""
        yield Claim(
            names,
            f"pods get no network{where}",
            "the CNI plugin fails while a pod is being set up",
            "Look at the Cilium agent there: preflight cilium status. What the plugin says is "
            "above.",
            nodes=nodes,
        )


def default_deny(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    if picture.settings.enable_policy != "always" or POD_TO_A not in left:
        return
    yield Claim(
        tuple(name for name in left if name in KNOWN),
        "everything is denied by default: policyEnforcementMode is always",
        "Cilium's configuration says enable-policy: always, so that what no policy allows is "
        "dropped, and nothing lets the echo servers be asked",
        "This check proves nothing with that mode. Allow its traffic by policies of your own and "
        "use --despite-policies, or judge the overlay by preflight check --phase after.",
    )


def dns(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    names = tuple(n for n in left if picture.judged[n].symptom is Symptom.RESOLVE)
    inside = tuple(n for n in names if n not in EXTERNALS)
    if not inside:
        return  # a name of the outside alone is the outside's
    nodes = tuple(dict.fromkeys(chain.from_iterable(picture.judged[n].nodes for n in names)))
    servers = picture.settings.dns_nodes
    if servers is not None and not servers:
        yield Claim(
            names,
            "names do not resolve: no DNS pod of the cluster is ready",
            "no pod labelled k8s-app=kube-dns in kube-system is ready",
            "Mend CoreDNS first, then run the check again.",
            key="dns-down",
        )
    elif servers and nodes and not set(servers) & set(nodes):
        yield Claim(
            names,
            f"names do not resolve on {listed(nodes)}, where no DNS pod runs",
            "every name is asked for over the overlay there, so that a fault of the tunnel looks "
            "like one of DNS",
            "Look at the tunnel between these nodes first: preflight check --phase after.",
            pairs=tuple((node, server) for node in nodes for server in servers),
            evidence=(f"DNS pods run on {listed(servers)}",),
            key="dns-tunnel",
        )
    else:
        where = (f"DNS pods run on {listed(servers)}",) if servers else ()
        host = all(KNOWN[n].host_network for n in inside if n in KNOWN)
        yield Claim(
            names,
            "names do not resolve" + (" in the nodes' own network" if host else ""),
            "the cluster's DNS does not answer these pods: CoreDNS, its service, or the overlay "
            "to the nodes where it runs",
            "See that CoreDNS is ready, then whether the pods that fail are those on other nodes.",
            nodes=nodes,
            evidence=where,
        )


def everything(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """Also what stays on one node fails: then it is not what is between nodes."""
    asks = list(_askers(picture))
    red = tuple(one.workload for one in asks if one.red and one.workload in left)
    local = any(picture.judged[n].server in picture.judged[n].nodes for n in red)
    if len(red) < 4 or not local or any(one.green for one in asks):
        return
    outside = tuple(n for n in left if n in EXTERNALS)
    unknown = picture.settings.enable_policy is None
    yield Claim(
        red + outside,
        "no pod reaches anything, not even on its own node",
        "not a fault between nodes: Cilium's agents, or a policy that denies everything"
        + (" (policyEnforcementMode: always looks like this; it could not be read)" * unknown),
        "Look at the agents first: preflight cilium status.",
    )


def one_node(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """A node whose clients all fail, whomever they ask."""
    clients: dict[str, list[Judgement]] = {}
    for one in _askers(picture):
        if one.nodes:
            clients.setdefault(one.nodes[0], []).append(one)
    well = {node for node, own in clients.items() if any(one.green for one in own)}
    for node, own in clients.items():
        red = [one for one in own if one.red and one.workload in left]
        asked = {one.server for one in red}
        if node in well or not well or len(red) < 2 or (len(asked) < 2 and node not in asked):
            continue
        outside = [n for n in left if n in EXTERNALS and picture.judged[n].nodes[:1] == (node,)]
        pairs = dict.fromkeys(pair for one in red if (pair := pair_of(one)) is not None)
        itself = node in asked
        yield Claim(
            (*(one.workload for one in red), *outside),
            f"the pods on {node} reach nothing",
            "every client there fails, also those that ask on the node itself, and clients on "
            "other nodes do not: that node's Cilium agent"
            if itself
            else "every client there fails, whomever it asks, and clients on other nodes do not: "
            "that node's Cilium agent, or whatever is between it and the others",
            f"Look at the Cilium agent of {node}: preflight cilium status.",
            pairs=() if itself else tuple(pairs),
            nodes=(node,),
        )


def one_server(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    """A node whose server nobody reaches, not even from the node itself."""
    askers: dict[str, list[Judgement]] = {}
    for one in _askers(picture):
        if one.server is not None:
            askers.setdefault(one.server, []).append(one)
    for node, own in askers.items():
        red = [one for one in own if one.red and one.workload in left]
        near = [one for one in red if node in one.nodes]
        if any(one.green for one in own) or not near or len(near) == len(red):
            continue
        yield Claim(
            tuple(one.workload for one in red),
            f"nobody reaches the pods on {node}",
            "clients on that very node fail like those on others, and what they ask answers "
            "itself: that node's Cilium agent, or a policy",
            f"Look at the Cilium agent of {node}: preflight cilium status.",
            nodes=(node,),
        )


def _askers(picture: Picture) -> Iterator[Judgement]:
    """The clients that ask inside the cluster and are to get through."""
    for name, one in picture.judged.items():
        known = KNOWN.get(name)
        if known and not known.serves and name not in EXTERNALS and name != DENIED:
            yield one
