"""Findings about two nodes, read together with a reachability matrix of the same nodes.

The matrix knows the network below the pods. Where it says what is wrong there, a finding has a
name; where all is open there, the fault is one that raw probes do not meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from shlex import quote
from typing import NamedTuple

from preflight.core.connectivity.picture import Finding, Pair, Settings
from preflight.core.connectivity.workloads import (
    HOST_PORT,
    MULTI_HOSTPORT,
    MULTI_NODEPORT,
    NODE_PORT,
)
from preflight.core.findings.build import explained
from preflight.core.findings.model import Cause as FindingCause
from preflight.core.model import Outcome, Place, ProbeKind, Protocol, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.terms import listed, traffic

# What the tunnel carries, or might.
_OVERLAY = frozenset(
    {"tunnel", "between-nodes", "overlay", "overlay-or-service", "mtu", "mixed", "dns-tunnel",
     "node", "alone"}
)  # fmt: skip
_PORTS = frozenset({"ports-between-nodes", "between-nodes"})
_PAIRS = 6  # of one finding that are told one by one
_BAD = frozenset({Verdict.BLOCKED, Verdict.LOSSY, Verdict.CLOSED})
_PLACES = {
    Place.SOURCE: "inside the source",
    Place.PATH: "on the path",
    Place.DESTINATION: "inside the destination",
    None: "place not known",
}
_OVERLAY_PROBES = ("overlay-echo", "overlay-health")


class Cells(NamedTuple):
    """What the matrix has of one probe in one direction."""

    source: int
    destination: int
    outcomes: tuple[Outcome, ...]  # one for each family that was planned

    @property
    def bad(self) -> Outcome | None:
        """The first that does not let everything through."""
        return next((o for o in self.outcomes if o.verdict in _BAD), None)

    @property
    def open(self) -> bool:
        """Whether all of them are."""
        return bool(self.outcomes) and all(o.verdict is Verdict.OPEN for o in self.outcomes)


class Joiner:
    """Reads one snapshot; `file` is how the user named it."""

    def __init__(
        self,
        snapshot: Snapshot,
        file: str,
        addresses: Mapping[str, Sequence[str]],
        settings: Settings,
    ) -> None:
        """`addresses`: each cluster node's, by its name there."""
        self._snapshot = snapshot
        self._matrix = snapshot.matrix
        self._file = file
        self._settings = settings
        owners = {a: i for i, node in enumerate(self._matrix.nodes) for a in node.addresses}
        names = {node.name: i for i, node in enumerate(self._matrix.nodes)}
        self._nodes: dict[str, int] = {}
        for name, own in addresses.items():
            found = next((owners[a] for a in own if a in owners), None)
            position = names.get(name) if found is None else found
            if position is not None:
                self._nodes[name] = position
        self.when = f"{snapshot.phase} Cilium, {snapshot.started}"

    def joined(self, finding: Finding) -> Finding:
        """The finding with what the matrix has to say to it."""
        if not finding.pairs:
            return finding
        lines: list[str] = []
        if finding.key in _OVERLAY:
            lines += self._of_tunnel(finding)
        if finding.key in _PORTS:
            lines += self._of_ports(finding)
        return finding._replace(
            matrix=tuple(dict.fromkeys(lines)), commands=tuple(self._commands(finding))
        )

    def doubts(self, passed: Iterable[Pair]) -> Iterator[str]:
        """Where the matrix says that nothing gets through, and pods just did.

        `passed` are the pairs of nodes between which the overlay was seen to work.
        """
        probe = self._probe()
        if probe is None:
            return
        for pair in dict.fromkeys(passed):
            for cells in self._both_ways(pair, probe):
                bad = cells.bad
                if bad is not None and bad.verdict is Verdict.BLOCKED:
                    yield (
                        f"{self._file} ({self.when}) says that {self._what(probe)} is blocked "
                        f"{self._arrow(cells)}, but pods just got through there: it is out of date"
                    )

    def _of_tunnel(self, finding: Finding) -> Iterator[str]:
        if self._settings.tunnel == "disabled":
            yield f"{self._file}: this cluster routes pods natively, without a tunnel to compare"
            return
        probe = self._probe()
        if probe is None:
            yield (
                f"{self._file} has no probe of this cluster's tunnel "
                f"(UDP {self._port()}): it proves nothing here"
            )
            return
        clear: list[Pair] = []
        for pair in finding.pairs[:_PAIRS]:
            missing = [name for name in pair if name not in self._nodes]
            if missing:
                yield f"{self._file} does not have {listed(missing)}"
                continue
            both = list(self._both_ways(pair, probe))
            if all(cells.open for cells in both):
                clear.append(pair)
                continue
            for cells in both:
                yield self._sentence(probe, cells)
        if clear:
            yield from self._all_open(probe, clear)
        if len(finding.pairs) > _PAIRS:
            yield f"and {len(finding.pairs) - _PAIRS} pairs more"

    def _all_open(self, probe: int, pairs: Sequence[Pair]) -> Iterator[str]:
        where = listed(f"{a} and {b}" for a, b in pairs)
        yield (
            f"{self._what(probe)} is open both ways between {where} ({self.when}), full-size "
            "packets too: not the port and not the MTU"
        )
        if self._settings.encryption == "wireguard":
            yield "this cluster encrypts with WireGuard: UDP 51871 must pass both ways too"
        echo, health = (self._named(name) for name in _OVERLAY_PROBES)
        inside = [self._open_both_ways(pairs, position) for position in (echo, health)]
        if inside == [True, False]:
            yield (
                "in the overlay itself ICMP passes and TCP does not: checksum offload of the "
                "network cards (vmxnet3, virtio), or a policy"
            )
        elif inside == [True, True]:
            yield "Cilium's own health endpoints reach each other there: a policy, or a pod's node"
        elif inside == [False, False]:
            yield "in the overlay itself neither ICMP nor TCP passes: routes, pod ranges, a policy"
        else:
            yield (
                "what is left are faults that raw probes do not meet: checksum offload of the "
                "network cards (vmxnet3, virtio), or a network policy"
            )
        involved = {self._nodes[name] for pair in pairs for name in pair}
        for finding in self._snapshot.findings:
            if finding.cause is FindingCause.HAZARD and involved & set(finding.nodes):
                yield f"{finding.identifier} of {self._file}: {finding.title}"

    def _open_both_ways(self, pairs: Sequence[Pair], probe: int | None) -> bool | None:
        if probe is None:
            return None
        cells = [c for pair in pairs for c in self._both_ways(pair, probe)]
        if any(c.bad for c in cells):
            return False
        return True if all(c.open for c in cells) else None

    def _of_ports(self, finding: Finding) -> Iterator[str]:
        ports = {MULTI_NODEPORT: NODE_PORT, MULTI_HOSTPORT: HOST_PORT}
        wanted = {ports[name] for name in finding.workloads if name in ports}
        for position, probe in enumerate(self._matrix.probes):
            if probe.protocol is Protocol.TCP and probe.port in wanted:
                for pair in finding.pairs[:_PAIRS]:
                    if all(name in self._nodes for name in pair):
                        there, _ = self._both_ways(pair, position)
                        yield self._sentence(position, there)

    def _sentence(self, probe: int, cells: Cells) -> str:
        what = f"{self._what(probe)} {self._arrow(cells)} ({self.when})"
        bad = cells.bad
        if bad is not None:
            told = explained(self._snapshot.findings, cells.source, cells.destination)
            named = [f for f in told if any(test.probe == probe for test in f.tests) or not f.tests]
            how = f"{bad.verdict} {_PLACES[bad.place]}" + (f", {bad.cause}" if bad.cause else "")
            why = "; ".join(f"{f.identifier} {f.title}" for f in named)
            return f"{what}: {how}" + (f": {why}" if why else "")
        if cells.open:
            return f"{what}: open"
        return f"{what}: not known" if cells.outcomes else f"{what}: not tested"

    def _commands(self, finding: Finding) -> Iterator[str]:
        """How to see the whole of it."""
        probe = self._probe()
        if probe is None or finding.key not in _OVERLAY:
            return
        told = 0
        for pair in finding.pairs:
            if any(name not in self._nodes for name in pair):
                continue
            for cells in self._both_ways(pair, probe):
                if cells.bad is not None and told < 2:
                    told += 1
                    source, destination = (
                        self._matrix.nodes[n].name for n in (cells.source, cells.destination)
                    )
                    words = ("preflight", "explain", self._file, source, destination)
                    yield " ".join(map(quote, words))

    def _both_ways(self, pair: Pair, probe: int) -> Iterator[Cells]:
        """A connection needs the tunnel in both directions. Nothing for nodes it does not have."""
        if any(name not in self._nodes for name in pair):
            return
        a, b = (self._nodes[name] for name in pair)
        for source, destination in ((a, b), (b, a)):
            outcomes = (
                self._matrix.outcome(self._matrix.index(family, probe, source, destination))
                for family in range(len(self._matrix.families))
            )
            yield Cells(source, destination, tuple(o for o in outcomes if o is not None))

    def _arrow(self, cells: Cells) -> str:
        nodes = self._matrix.nodes
        return f"{nodes[cells.source].name} → {nodes[cells.destination].name}"

    def _what(self, probe: int) -> str:
        return traffic(self._matrix.probes[probe], self._matrix.families[0])

    def _port(self) -> int:
        return self._settings.tunnel_port or (8472 if self._settings.tunnel == "vxlan" else 6081)

    def _probe(self) -> int | None:
        """The position of the probe that is this cluster's tunnel."""
        kind = ProbeKind.VXLAN if self._settings.tunnel == "vxlan" else ProbeKind.GENEVE
        for position, probe in enumerate(self._matrix.probes):
            ours = probe.protocol is Protocol.UDP and probe.port == self._port()
            if ours and probe.kind in (kind, ProbeKind.UDP):
                return position
        return None

    def _named(self, name: str) -> int | None:
        names = [probe.name for probe in self._matrix.probes]
        return names.index(name) if name in names else None
