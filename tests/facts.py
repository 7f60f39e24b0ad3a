"""Recorded facts, and situations made of them."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from preflight.core.facts.model import NodeFacts
from preflight.core.facts.parse import parse
from preflight.core.facts.ranges import parse_range
from preflight.core.facts.readiness import risks
from preflight.core.facts.risk import Clock, Risk, RiskKey
from preflight.core.model import BUILT_IN_PROBES, Node, Phase, Probe

FIXTURES = Path(__file__).parent / "fixtures" / "facts"
PROBES = tuple(BUILT_IN_PROBES.values())
Change = Mapping[str, Any]


def recorded(name: str) -> dict[str, Any]:
    """A fixture."""
    loaded: dict[str, Any] = json.loads((FIXTURES / name).read_text("utf-8"))
    return loaded


def frame(name: str = "vmxnet3-vm.json", **facts: Any) -> dict[str, Any]:
    """A node's frame with other values of some facts; None: not known."""
    out = recorded(name)
    for key, value in facts.items():
        if value is None:
            del out["facts"][key]
            out["unknown"][key] = "a reason"
        else:
            out["facts"][key] = value
    return deepcopy(out)


def node(number: int, *addresses: str, cluster: str | None = None) -> Node:
    """n1, n2, ... at 10.0.1.11, 10.0.1.12, ..."""
    return Node(f"n{number}", addresses or (f"10.0.1.{10 + number}",), "h", cluster=cluster)


def good(number: int, peers: int = 3, **facts: Any) -> NodeFacts:
    """Facts of node `number` in which nothing is wrong, but for what is given."""
    me = f"10.0.1.{10 + number}"
    base = frame()["facts"]
    way = dict(base["ways"][0], source=me, peers=[p for p in range(peers) if p != number - 1])
    own = [dict(a, address=me) if a["device"] == "ens192" else a for a in base["addresses"]]
    offloads = deepcopy(base["offloads"])
    offloads["ens192"]["driver"] = "e1000e"
    fine = {"ways": [way], "addresses": own, "offloads": offloads, **facts}
    return parse(frame(**fine), peers)


def found(
    facts: Sequence[NodeFacts | None],
    nodes: Sequence[Node] | None = None,
    phase: Phase = Phase.BEFORE,
    pods: Sequence[str] = (),
    services: Sequence[str] = (),
    clocks: Mapping[int, Clock] | None = None,
    probes: Sequence[Probe] = PROBES,
) -> list[Risk]:
    """What the rules make of it."""
    return risks(
        nodes or [node(n + 1) for n in range(len(facts))],
        facts,
        probes=probes,
        phase=phase,
        pod_ranges=[parse_range(text) for text in pods],
        service_ranges=[parse_range(text) for text in services],
        clocks=clocks,
    )


def keys(found: Sequence[Risk]) -> dict[RiskKey, tuple[int, ...]]:
    """The nodes that each kind of risk is about."""
    return {risk.key: risk.nodes for risk in found}
