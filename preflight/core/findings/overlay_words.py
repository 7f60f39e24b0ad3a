"""What is said of the overlay's faults: title, evidence, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from preflight.core.cilium.config import Encryption
from preflight.core.cilium.overlay import Overlay
from preflight.core.findings.extents import extents, pairs_in_words
from preflight.core.findings.model import Cause
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import FamilyProbe, Group, sets_of
from preflight.core.hello import in_words
from preflight.core.matrix import Matrix
from preflight.core.model import Evidence, Place, Verdict
from preflight.core.terms import listed, plural, traffics

_SHOWN = 6
_OFFLOADS = {
    "vmxnet3": "ethtool -K DEVICE tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off",
    "virtio_net": "ethtool -K DEVICE tx-checksum-ip-generic off",
}


class Fault(StrEnum):
    """What the cells of a pair show together."""

    UNDERLAY = "underlay"  # the tunnel's port is shut, or lossy
    NOTHING = "nothing"  # it is open, and the overlay carries nothing
    NATIVE = "native"  # likewise, where there is no tunnel
    DATA = "data"  # echo passes, TCP does not
    CHECKSUM = "checksum"  # likewise, and segments with a wrong checksum were counted meanwhile
    SIZE = "size"
    ECHO = "echo"  # TCP passes, echo does not
    REFUSED = "refused"  # an RST or an ICMP error came
    LOSS = "loss"
    ENDPOINT = "endpoint"  # it does not answer its own node either
    ANOTHER = "another"  # something else answers
    ROUTE = "route"
    UNCLEAR = "unclear"  # the tunnel's port is not known to be open


_OF_TCP = (Fault.DATA, Fault.CHECKSUM)
_BY_POLICY = (
    Fault.NOTHING, Fault.NATIVE, Fault.REFUSED, Fault.ECHO, Fault.DATA, Fault.UNCLEAR,
)  # fmt: skip
CAUSES: Mapping[Fault, Cause] = {
    Fault.NOTHING: Cause.OVERLAY,
    Fault.NATIVE: Cause.OVERLAY,
    Fault.DATA: Cause.OVERLAY,
    Fault.CHECKSUM: Cause.CHECKSUM,
    Fault.SIZE: Cause.SIZE,
    Fault.ECHO: Cause.POLICY,
    Fault.REFUSED: Cause.OVERLAY,
    Fault.LOSS: Cause.LOSS,
    Fault.ENDPOINT: Cause.ENDPOINT,
    Fault.ANOTHER: Cause.NOT_CILIUM,
    Fault.ROUTE: Cause.ROUTE,
    Fault.UNCLEAR: Cause.OVERLAY,
}


@dataclass(frozen=True, slots=True)
class Context:
    """What is known beside the cells."""

    overlay: Overlay | None = None
    checksums: Mapping[int, int] = field(default_factory=dict)  # TCP segments, by node
    drivers: Mapping[int, Sequence[str]] = field(default_factory=dict)  # of network devices

    @property
    def native(self) -> bool:
        """Pods' packets travel in no tunnel."""
        return self.overlay is not None and self.overlay.native


class Subject(NamedTuple):
    """What is spoken of."""

    matrix: Matrix
    shapes: Shapes
    groups: Sequence[Group]
    context: Context

    @property
    def where(self) -> str:
        """All its pairs in words."""
        return pairs_in_words(extents(self.shapes, self.groups))

    @property
    def what(self) -> str:
        """`ICMP echo in the overlay`; what several probes have in common once."""
        tests = list(dict.fromkeys(t for g in self.groups for t in g.tests))
        told = traffics(tests, self.matrix.probes)
        return told.replace(" in the overlay", "", told.count(" in the overlay") - 1)

    @property
    def ends(self) -> list[int]:
        """All nodes that it speaks of."""
        return sorted({n for g in self.groups for n in (*g.sources, *g.destinations)})

    @property
    def suspects(self) -> list[str]:
        """Policies that may keep these probes out of these endpoints.

        None of a probe that got through to one of them: all health endpoints are alike to a policy.
        """
        if self.context.overlay is None:
            return []
        names: dict[str, None] = {}
        for test in dict.fromkeys(t for g in self.groups for t in g.tests):
            of = self.context.overlay.suspects.of(self.matrix.probes[test.probe].kind)
            if of and not self._passes(test):
                names |= dict.fromkeys(of)
        return list(names)

    def _passes(self, test: FamilyProbe) -> bool:
        f = self.matrix.families.index(test.family)
        own = [g for g in self.groups if test in g.tests]
        ends = sum(1 << d for d in {d for g in own for d in (*g.destinations, *_back(g))})
        for source in range(len(self.matrix.nodes)):
            for number, there in sets_of(self.matrix.numbers(f, test.probe, source)).items():
                outcome = self.matrix.table[number]
                if outcome is not None and outcome.verdict is Verdict.OPEN and there & ends:
                    return True
        return False

    @property
    def always(self) -> bool:
        """Policies are enforced everywhere."""
        return self.context.overlay is not None and self.context.overlay.policy == "always"


def title(fault: Fault, it: Subject) -> str:
    """No full stop."""
    where, what = it.where, it.what
    if fault is Fault.ENDPOINT:
        who = it.shapes.name(nodes(fault, it.groups))
        return f"{who}: Cilium's health endpoint does not answer {what}, not even to its own node"
    if fault is Fault.ANOTHER:
        who = it.shapes.name(nodes(fault, it.groups))
        return f"{who}: something other than Cilium answers at the health endpoint's address"
    lost = "is lost" if len({t for g in it.groups for t in g.tests}) == 1 else "are lost"
    texts = {
        Fault.NOTHING: f"{where}: the tunnel's port is open both ways, and {what} {lost}",
        Fault.NATIVE: f"{where}: the nodes reach each other, and {what} {lost}: the network "
        "between them carries no pod addresses, or the nodes do not",
        Fault.DATA: f"{where}: ICMP echo passes in the overlay and TCP does not: wrong checksums "
        "or a policy",
        Fault.CHECKSUM: f"{where}: ICMP echo passes in the overlay and TCP does not, and TCP "
        "segments with a wrong checksum arrive: a network card's or hypervisor's offload",
        Fault.SIZE: f"{where}: in the overlay small packets pass, those of the full MTU are lost",
        Fault.ECHO: f"{where}: TCP passes in the overlay and ICMP echo does not: a policy, most "
        "likely",
        Fault.REFUSED: f"{where}: {what} {'is' if lost == 'is lost' else 'are'} refused: "
        "something there says no",
        Fault.LOSS: f"{where}: some of {what} {lost}",
        Fault.ROUTE: f"{where}: the source has no route to health endpoints, or it forbids them",
        Fault.UNCLEAR: f"{where}: {what} {lost}; whether the tunnel's port is open is not known",
    }
    return texts[fault]


def nodes(fault: Fault, groups: Sequence[Group]) -> list[int]:
    """Whom it is about, where that is known."""
    if fault in (Fault.ENDPOINT, Fault.ANOTHER):
        return sorted({d for g in groups for d in (*g.destinations, *_back(g))})
    if fault is Fault.ROUTE:
        return sorted({s for g in groups for s in g.sources})
    return []


def _back(group: Group) -> tuple[int, ...]:
    return group.sources if group.both_ways else ()


def carried(matrix: Matrix, groups: Sequence[Group]) -> str:
    """What an underlay's finding says of the overlay's cells that it explains."""
    tests = list(dict.fromkeys(t for g in groups for t in g.tests))
    names = listed(dict.fromkeys(matrix.probes[t.probe].name for t in tests))
    cells = plural(sum(g.cells for g in groups), "cell")
    return (
        f"pods' packets travel in it: {names} fail for it too, in {cells}, both ways as an answer "
        "takes the way back"
    )


def evidence(fault: Fault, it: Subject) -> Iterator[str]:
    """Plain sentences, the most telling first."""
    overlay, context = it.context.overlay, it.context
    if fault in _OF_TCP:
        yield from _of_checksums(it)
    if fault in _BY_POLICY and (policies := it.suspects):
        yield (
            f"{_named(policies)} {'selects' if len(policies) == 1 else 'select'} Cilium's health "
            f"endpoints and may be what keeps {it.what} out"
        )
    if fault in (Fault.NOTHING, Fault.REFUSED, Fault.ECHO, Fault.DATA) and overlay is not None:
        if overlay.policy != "default":
            yield f"{overlay.source} has enable-policy: {overlay.policy}"
        if overlay.host_firewall:
            yield f"{overlay.source} has Cilium's host firewall on (enable-host-firewall)"
        if overlay.encryption is not Encryption.NONE:
            yield f"{overlay.source} encrypts with {overlay.encryption}"
    if fault in (Fault.NOTHING, Fault.UNCLEAR) and not context.native and overlay is not None:
        yield f"{overlay.source}: {overlay.installed}"
    for group in it.groups[:2]:
        yield _example(it.matrix, group)
    hello = next((g.sample.outcome.hello for g in it.groups if g.sample.outcome.hello), None)
    if fault is Fault.ANOTHER and hello is not None:
        yield f"GET /hello: {in_words(hello)}"


def _of_checksums(it: Subject) -> Iterator[str]:
    for node, number in list(_counted(it))[:_SHOWN]:
        name = it.matrix.nodes[node].name
        yield (
            f"{name} threw {plural(number, 'TCP segment')} away for a wrong checksum while it was "
            "asked (TcpInCsumErrors, all network namespaces)"
        )
    for driver in _OFFLOADS:
        having = [n for n in it.ends if driver in it.context.drivers.get(n, ())]
        if having:
            yield f"{it.shapes.name(having)}: network devices of driver {driver}"


def _counted(it: Subject) -> Iterator[tuple[int, int]]:
    yield from ((n, c) for n in it.ends if (c := it.context.checksums.get(n, 0)))


def _example(matrix: Matrix, group: Group) -> str:
    cell = group.sample
    counts = ", ".join(_counts(cell.outcome.evidence))
    source, destination = matrix.nodes[cell.source].name, matrix.nodes[cell.destination].name
    over = f" over {cell.family}" if len(matrix.families) > 1 else ""
    says = "; ".join(filter(None, (counts, cell.outcome.detail)))
    return f"{matrix.probes[cell.probe].name}{over} {source} → {destination}: {says}"


def _counts(seen: Evidence) -> Iterator[str]:
    for vantage, count in seen._asdict().items():
        if count is not None:
            yield f"{vantage} {count}"


def _named(policies: Sequence[str]) -> str:
    more = len(policies) - _SHOWN
    shown = [*policies[:_SHOWN], *([f"{more} more"] if more > 0 else [])]
    noun = "CiliumClusterwideNetworkPolic" + ("y" if len(policies) == 1 else "ies")
    return f"{noun} {listed(shown)}"


def advice(fault: Fault, it: Subject) -> str:
    """What to do."""
    said = _advice(fault, it)
    if fault not in _BY_POLICY or not (policies := it.suspects):
        return said
    return (
        f"Look at {_named(policies)} first: entity remote-node has to be let in to endpoints "
        "reserved:health (a policy of its own can do that), and no deny rule may speak of it. "
        + said
    )


def _advice(fault: Fault, it: Subject) -> str:
    if fault is Fault.NOTHING:
        return " ".join(_for_nothing(it))
    if fault in _OF_TCP:
        return _for_checksums(it)
    if fault is Fault.ECHO:
        return _for_policy("ICMP echo (type 8, over IPv6 type 128)")
    if fault is Fault.REFUSED:
        return f"{_for_policy('them')} An RST in the endpoint's name may also be its own."
    return _ADVICE[fault]


_ADVICE: Mapping[Fault, str] = {
    Fault.NATIVE: "Without a tunnel every router between the nodes needs routes to each node's pod "
    "range (BGP, auto-direct-node-routes, a cloud's route table), and every firewall between them "
    "must let pods' addresses pass. `ip route get ENDPOINT` on the source shows the first step.",
    Fault.SIZE: "The overlay's MTU is greater than what the path leaves it: compare `ip route get "
    "ENDPOINT` and `ip link` on both nodes with the path's MTU, and set Cilium's MTU (helm value "
    "MTU, the path's own) where Cilium took it from the wrong device; pods keep theirs until they "
    "are restarted.",
    Fault.LOSS: "See whether geneve or vxlan lose packets between these nodes too; if not, look at "
    "`cilium-dbg monitor --type drop` and the CPU load of both nodes.",
    Fault.ENDPOINT: "The network is not to blame: see the agent there (kubectl -n kube-system get "
    "pods -o wide; kubectl -n kube-system exec POD -- cilium-dbg status --verbose) and its log for "
    "cilium-health. Restarting the agent makes the endpoint anew.",
    Fault.ANOTHER: "Find out whose that address is: two CiliumNode objects, or a machine outside "
    "the cluster in the pods' range.",
    Fault.ROUTE: "`ip route get ENDPOINT` and `ip rule` there show what the kernel says: Cilium "
    "makes the routes to other nodes' pods by cilium_host, and something has removed or overridden "
    "them (systemd-networkd's ManageForeignRoutes and ManageForeignRoutingPolicyRules do).",
    Fault.UNCLEAR: "Test the tunnel's port between these nodes, in both directions, with an agent "
    "at both ends; as long as it is not known to be open, it comes first.",
}


def _for_nothing(it: Subject) -> Iterator[str]:
    """Not the firewall's: what else it can be, the likeliest first."""
    overlay = it.context.overlay
    if it.always:
        yield (
            "With enable-policy: always the health endpoints need a CiliumClusterwideNetworkPolicy "
            "that lets them in (endpointSelector reserved:health, from remote-node)."
        )
    if overlay is not None and overlay.encryption is Encryption.IPSEC:
        yield "IPsec is on: ESP (IP protocol 50) must pass between the nodes, and is not tested."
    ranges = "" if overlay is None or not overlay.pod_ranges else f" ({listed(overlay.pod_ranges)})"
    yield (
        f"The tunnel's port itself is open: see whether the pods' range{ranges} overlaps with "
        "the nodes' network or another one, `ip route get ENDPOINT` on the source, `cilium-dbg bpf "
        "tunnel list` for the other node's address, a CiliumClusterwideNetworkPolicy that selects "
        "reserved:health, and `cilium-dbg monitor --type drop` on both."
    )


def _for_policy(what: str) -> str:
    return (
        f"See which policy leaves {what} to the health endpoints out: kubectl get "
        "ciliumclusterwidenetworkpolicies, and `cilium-dbg monitor --type policy-verdict` on the "
        "destination."
    )


def _for_checksums(it: Subject) -> str:
    known = [
        f"{command} (for {driver})"
        for driver, command in _OFFLOADS.items()
        if any(driver in it.context.drivers.get(n, ()) for n in it.ends)
    ]
    commands = known or [f"{command} (for {driver})" for driver, command in _OFFLOADS.items()]
    return (
        f"On the nodes of these pairs, and see whether it ends: {'; '.join(commands)}. "
        "VMware mends it with ESXi 7.0U3 (KB 324199; cilium/cilium#21801). If it stays, look for a "
        "policy that lets ICMP pass and TCP not."
    )


def unknown(fault: Fault, it: Subject) -> Iterator[str]:
    """What could not be found out."""
    if fault is Fault.DATA:
        yield "whether it is the checksums: no TCP segment with a wrong one was counted meanwhile"
    if fault is Fault.NOTHING:
        yield (
            "whether something on the path drops real tunnel packets for their content: with "
            "Cilium there, the tunnel's probe goes in a form that the kernel throws away"
        )
    inside = (Place.SOURCE, Place.DESTINATION)
    hidden = fault in (Fault.NOTHING, Fault.NATIVE, *_OF_TCP, Fault.SIZE)
    if hidden and not any(g.kind.place in inside for g in it.groups):
        yield "where in the overlay it is lost: nobody can watch inside the tunnel"
