"""What several workloads that failed mean together: the fewest causes that explain them all.

Rules of this file:
1. Every red workload is explained by exactly one finding, and no finding names a green one.
2. What passes between two nodes is judged by the two nodes: a client that landed elsewhere says
   nothing of them. The overlay between two nodes is accused only where nothing came through it,
   or all four kinds of requests for echo-b were lost; what came through then is told.
3. `RULES` are asked in their order; each takes what it explains of what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.connectivity import between, everywhere
from preflight.core.connectivity.picture import Claim, Finding, Picture, Rule, Settings, pair_of
from preflight.core.connectivity.pods import Judgement
from preflight.core.connectivity.workloads import (
    ALLOWED,
    EXTERNALS,
    HOST_PORT,
    INTRA_HOSTPORT,
    INTRA_NODEPORT,
    KNOWN,
    MULTI_HOSTPORT,
    MULTI_NODEPORT,
    POD_TO_A,
)
from preflight.core.model import Severity
from preflight.core.terms import listed


def together(judged: Sequence[Judgement], settings: Settings | None = None) -> tuple[Finding, ...]:
    """The findings, what matters most first."""
    picture = Picture({one.workload: one for one in judged}, settings or Settings())
    left = [one.workload for one in judged if one.red]
    found = []
    for key, rule in RULES:
        claims = [claim for claim in rule(picture, tuple(left)) if claim.workloads]
        for claim in claims:
            found.append(_finding(picture, claim.key or key, claim))
            left = [name for name in left if name not in claim.workloads]
    assert not left  # the last rule takes all
    return tuple(sorted(found, key=_importance))


def _importance(finding: Finding) -> tuple[bool, int]:
    return finding.severity is not Severity.REQUIRED, -len(finding.workloads)


def _finding(picture: Picture, key: str, claim: Claim) -> Finding:
    own = [picture.judged[name] for name in claim.workloads]
    required = any(one.severity is Severity.REQUIRED for one in own)
    said: dict[str, list[str]] = {}
    for one in own:
        for text in one.evidence[-1:]:
            said.setdefault(text, []).append(one.workload)
    every = len(said) == 1 and list(said.values()) == [list(claim.workloads)]
    words = (t if every else f"{t} ({listed(names)})" for t, names in said.items() if t)
    return Finding(
        key=key,
        severity=Severity.REQUIRED if required else Severity.RECOMMENDED,
        title=claim.title,
        meaning=claim.meaning,
        workloads=claim.workloads,
        pairs=claim.pairs,
        nodes=claim.nodes,
        evidence=(*claim.evidence, *words),
        advice=claim.advice,
    )


def _chaining(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    names = (INTRA_HOSTPORT, MULTI_HOSTPORT)
    if INTRA_HOSTPORT not in left or not picture.red(names) or picture.red((INTRA_NODEPORT,)):
        return
    mode = picture.settings.chaining
    if mode == "portmap":
        meaning = (
            "Cilium's cni-chaining-mode is portmap, and still nothing serves hostPort "
            f"{HOST_PORT}: the portmap plugin is missing on the node, or its rules were flushed"
        )
        advice = "See that /opt/cni/bin/portmap is there, and what flushes the node's NAT rules."
    else:
        said = f": its cni-chaining-mode is {mode}" if mode else ""
        meaning = f"nothing that serves hostPort {HOST_PORT} is chained to Cilium{said}"
        advice = (
            "Set cni.chainingMode to portmap in Cilium's values (helmValues given without it take "
            "EKS Anywhere's own away), or let Cilium replace kube-proxy."
        )
    names_left = tuple(n for n in names if n in left)
    yield Claim(names_left, "hostPorts are not served", meaning, advice)


def _node_ports(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    names = (INTRA_NODEPORT, MULTI_NODEPORT)
    if INTRA_NODEPORT in left and picture.red(names):
        hosts = (INTRA_HOSTPORT, MULTI_HOSTPORT)
        too = hosts if picture.red(hosts) else ()
        what = "NodePorts and hostPorts" if too else "NodePorts"
        yield Claim(
            tuple(n for n in (*names, *too) if n in left),
            f"{what} are not served",
            "what turns a port of a node into a pod does not work there: kube-proxy, or Cilium in "
            "its place",
            "Look at kube-proxy, or at Cilium's kube-proxy replacement, on echo-b's node.",
            nodes=picture.judged[INTRA_NODEPORT].nodes,
        )


def _internet(_: Picture, left: Sequence[str]) -> Iterator[Claim]:
    names = tuple(n for n in left if n in EXTERNALS)
    if len(names) == len(EXTERNALS):
        yield Claim(
            names,
            "pods do not reach the Internet",
            "expected where the cluster is not meant to (an air gap, a proxy); not a fault of the "
            "pod network",
            "--no-external leaves these two out.",
        )


def _policy(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    if ALLOWED in left and picture.green((POD_TO_A,)):
        known = KNOWN[ALLOWED]
        yield Claim(
            (ALLOWED,),
            "traffic that a network policy allows is dropped",
            f"the same request passes without the policy ({POD_TO_A}): {known.alone}",
            known.advice,
            nodes=picture.judged[ALLOWED].nodes,
        )


def _rest(picture: Picture, left: Sequence[str]) -> Iterator[Claim]:
    for name in left:
        one = picture.judged[name]
        pair = pair_of(one)
        yield Claim(
            (name,),
            f"{name} failed",
            one.meaning,
            one.advice,
            pairs=(pair,) if pair else (),
            nodes=() if pair else one.nodes,
        )


RULES: tuple[tuple[str, Rule], ...] = (
    ("policy-not-enforced", everywhere.not_enforced),
    ("pod-network", everywhere.pod_network),
    ("default-deny", everywhere.default_deny),
    ("dns", everywhere.dns),
    ("everything", everywhere.everything),
    ("server-node", everywhere.one_server),
    ("node", everywhere.one_node),
    ("overlay", between.overlay),
    ("overlay-part", between.within_overlay),
    ("policy-allowed", _policy),
    ("host-port-chaining", _chaining),
    ("node-port", _node_ports),
    ("ports-between-nodes", between.ports_between),
    ("internet", _internet),
    ("alone", _rest),
)
