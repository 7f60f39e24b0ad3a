"""Findings made to order, for snapshots of `samples`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from preflight.core.diagnosis.conclusions import (
    Content,
    ContentPattern,
    Diagnosis,
    FlowPattern,
    Flows,
    Path,
    Rewrite,
    RewrittenField,
    Router,
    Size,
)
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings.model import Block, Cause, Change, Finding, Request
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Place, Protocol, Severity, Verdict
from preflight.core.snapshot import Snapshot

RULE = Rule(
    tool="nft", family="inet", table="filter", chain="input", handle=12, position=0, policy=False,
    text='udp dport 6081 drop comment "corp baseline"', comment="corp baseline", rejects=False,
    hook="input", path=(("inet", "filter", "input"),), sure=True,
)  # fmt: skip
GENEVE4, HEALTH4, ECHO4 = (FamilyProbe(probe, Family.IPV4) for probe in range(3))
INSIDE = Kind(Verdict.BLOCKED, Leg.FORWARD, Place.DESTINATION, CellCause.DROPPED, None)
ON_PATH = INSIDE._replace(place=Place.PATH)
SOME = ON_PATH._replace(verdict=Verdict.LOSSY)


def finding(
    cause: Cause = Cause.RULE,
    title: str = "n2 itself drops UDP 6081",
    *,
    kind: Kind | None = INSIDE,
    tests: Sequence[FamilyProbe] = (GENEVE4,),
    sources: Sequence[int] = (0, 2, 3),
    destinations: Sequence[int] = (1,),
    both_ways: bool = False,
    where: str = "all → n2",
    severity: Severity = Severity.REQUIRED,
    **rest: object,
) -> Finding:
    """A finding with one block; of everything else as much as `rest` says."""
    pairs = {(s, d) for s, d in product(sources, destinations) if s != d}
    pairs |= {(d, s) for s, d in pairs} if both_ways else set()
    block = Block(tuple(sources), tuple(destinations), both_ways, where, tuple(tests))
    made = Finding(
        identifier="F1",
        cause=cause,
        severity=severity,
        title=title,
        kinds=() if kind is None else (kind,),
        tests=tuple(tests),
        blocks=(block,) if pairs else (),
        where=where,
        pairs=len(pairs),
        cells=len(pairs) * len(tests),
        nodes=(1,),
        evidence=(),
        diagnosis=None,
        sample=min(pairs) if pairs else None,
        changes=(),
        requests=(),
        advice="",
        unknown=(),
    )
    return made._replace(**rest)


HOST_RULE = finding(
    title='n2 itself drops UDP 6081: nftables rule "udp dport 6081 drop" (inet filter input handle '
    "12)",
    evidence=(
        (
            'nftables rule "udp dport 6081 drop" (inet filter input handle 12) on n2 dropped 4 '
            'probes, comment "corp baseline"'
        ),
        "geneve n1 → n2: sent 20, left 20, arrived 20, accepted 0",
    ),
    diagnosis=Diagnosis(hits=(RuleHit(1, "forward", frozenset({0, 1, 2, 3}), RULE),)),
    changes=(
        Change(
            "n2", "nft",
            (("nft insert rule inet filter input position 12 ip saddr { 10.0.0.1, 10.0.0.3, "
             "10.0.0.4 } udp dport 6081 accept comment '\"Cilium GENEVE\"'"),),
            ("Add the same rule to /etc/nftables.conf, above the one that drops.",),
        ),
    ),
)  # fmt: skip

BETWEEN_RACKS = finding(
    Cause.NETWORK,
    "rack=a ↔ rack=b: the network drops TCP 4240, after 198.18.1.1 (hop 1)",
    kind=ON_PATH,
    tests=(HEALTH4,),
    sources=(0, 1),
    destinations=(2, 3),
    both_ways=True,
    where="rack=a ↔ rack=b",
    severity=Severity.RECOMMENDED,
    nodes=(),
    evidence=(
        "the same flow with rising TTL is answered by router 1: 198.18.1.1",
        "nothing answers from hop 2 on",
        "health n1 → n3: sent 5, left 5, arrived 0",
    ),
    diagnosis=Diagnosis(path=Path((Router(1, "198.18.1.1"),), 2, None, False)),
    requests=tuple(
        Request(
            sources, destinations, Protocol.TCP, 4240, "any (1-65535)", "ipv4",
            "cilium-health probes each node's agent",
        )
        for sources, destinations in (
            (("10.0.0.1/32", "10.0.0.2/32"), ("10.0.0.3/32", "10.0.0.4/32")),
            (("10.0.0.3/32", "10.0.0.4/32"), ("10.0.0.1/32", "10.0.0.2/32")),
        )
    ),
    unknown=("which device behind 198.18.1.1 drops it: no router after it answers",),
)  # fmt: skip

TOO_SMALL = finding(
    Cause.SIZE,
    "rack=a ↔ rack=b: packets of UDP 6081 larger than 1400 bytes are lost, silently; the source's "
    "device has an MTU of 1500",
    kind=SOME._replace(cause=CellCause.SIZE),
    sources=(0, 1),
    destinations=(2, 3),
    both_ways=True,
    where="rack=a ↔ rack=b",
    nodes=(),
    diagnosis=Diagnosis(size=Size(1400, 1401, 1400, 1500, True, None, None)),
    evidence=("largest IP packet that arrives with DF set: 1400 bytes",),
    changes=(
        Change("", "cilium", ("helm upgrade cilium cilium/cilium --reuse-values --set MTU=1350",),
               ()),
    ),
    advice="Mend the path's MTU, or give Cilium MTU 1350.",
)  # fmt: skip

DEAD_FLOWS = finding(
    Cause.FLOWS,
    "rack=a → rack=b: 8 of 64 flows of UDP 6081 never arrive, always the same ones",
    kind=SOME,
    sources=(0, 1),
    destinations=(2, 3),
    where="rack=a → rack=b",
    nodes=(),
    diagnosis=Diagnosis(
        flows=Flows(FlowPattern.SOME_DEAD, 64, tuple(range(1000, 1008)), 224, 256),
        content=Content(ContentPattern.PORT, ("UDP 6082",), ()),
        rewrites=(Rewrite(RewrittenField.TOS, "0", "8"),),
        rejecters=("192.0.2.1",),
        notes=("the destination's rules could not be traced",),
    ),
)

UNTESTED = finding(
    Cause.NO_AGENT,
    "n4 ↔ all: UDP 6081 is unknown, for want of an agent at both ends",
    kind=Kind(Verdict.UNKNOWN, None, None, CellCause.NO_AGENT, None),
    sources=(3,),
    destinations=(0, 1, 2),
    both_ways=True,
    where="n4 ↔ all",
    nodes=(),
)

HAZARD = finding(
    Cause.HAZARD,
    "n3's ens192 is a vmxnet3 with tunnel offload: pods' TCP dies while pings pass",
    kind=None,
    tests=(),
    sources=(),
    destinations=(),
    where="",
    nodes=(2,),
    changes=(
        Change(
            "n3", "ethtool",
            ("ethtool -K ens192 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off",),
            (("printf '[Match]\\nDriver=vmxnet3\\n[Link]\\nTxUdpTnlSegmentation=no\\n' > "
             "/etc/systemd/network/10-vmxnet3.link"),),
        ),
    ),
)  # fmt: skip

EVERYTHING = (HOST_RULE, TOO_SMALL, DEAD_FLOWS, UNTESTED, HAZARD, BETWEEN_RACKS)


def with_findings(snapshot: Snapshot, *findings: Finding) -> Snapshot:
    """The snapshot with these findings, numbered as they come."""
    numbered = [f._replace(identifier=f"F{n}") for n, f in enumerate(findings, 1)]
    return replace(snapshot, findings=numbered)
