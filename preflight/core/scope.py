"""What a run covers: which probes, families and pairs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from preflight.core.model import Connection, Family, Inventory, Node, Probe
from preflight.core.options import CheckOptions
from preflight.core.plan import (
    CellPlan,
    Pairs,
    in_family,
    needed_by,
    select,
    udp_ports,
    volley,
)
from preflight.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scope:
    """One run's extent."""

    nodes: tuple[Node, ...]
    probes: tuple[Probe, ...]
    families: tuple[Family, ...]
    pairs: tuple[Pairs, ...]  # one for each family: those that some probe is planned for
    ports: int  # UDP source ports of each cell
    # Probe and family, as positions, whose pairs are fewer than those.
    fewer: Mapping[tuple[int, int], Pairs] = field(default_factory=dict)
    idle: tuple[Probe, ...] = ()  # asked for, but no pair needs them: not among `probes`

    def involved(self) -> list[int]:
        """The nodes that are in some pair."""
        seen: set[int] = set()
        for pairs in self.pairs:
            for source, row in enumerate(pairs):
                if row:
                    seen.add(source)
                    seen.update(row)
        return sorted(seen)

    def cells(self, *, first: bool = True) -> list[CellPlan]:
        """Every planned cell of the underlay, as one look would ask for it."""
        return self._cells(first=first, overlay=False)

    def overlay(self, *, first: bool = True) -> list[CellPlan]:
        """Every planned cell of the overlay; no look asks for these."""
        return self._cells(first=first, overlay=True)

    def _cells(self, *, first: bool, overlay: bool) -> list[CellPlan]:
        return [
            self.cell(number, family, self.fewer.get((number, f), self.pairs[f]), first=first)
            for f, family in enumerate(self.families)
            for number, probe in enumerate(self.probes)
            if probe.overlay is overlay
        ]

    def cell(self, probe: int, family: Family, pairs: Pairs, *, first: bool) -> CellPlan:
        """One probe over one family for `pairs`."""
        kind = self.probes[probe]
        shape = volley(kind, ports=self.ports, first=first)
        return CellPlan(probe, family, kind.one_way, shape, pairs)


def scope(inventory: Inventory, options: CheckOptions) -> Scope:
    """What `options` leave of the inventory. Raises UsageError where that is nothing."""
    nodes = localised(inventory.nodes, options.local)
    wanted = _probes(inventory.probes, options.probes)
    if options.meeting is not None:  # its nodes look at each other, and nothing else
        wanted = tuple(probe for probe in wanted if not probe.overlay)
    pairs = select(nodes, options.sources, options.destinations, options.labels)
    families = [options.family] if options.family else list(Family)
    by_family = [(f, in_family(nodes, pairs, f)) for f in families]
    by_family = [(f, p) for f, p in by_family if any(p)]
    if not by_family:
        needed = f"{options.family} addresses" if options.family else "addresses of one family"
        raise UsageError(f"no two nodes both have {needed}: nothing to test")
    rows = {
        (probe, family): _rows(nodes, probe, family, every)
        for family, every in by_family
        for probe in wanted
    }
    probes = tuple(p for p in wanted if any(any(rows[p, f]) for f, _ in by_family))
    if not probes:
        raise UsageError(f"no pair of nodes needs {_whose(wanted)}: nothing to test")
    used = [(f, p) for f, p in by_family if any(any(rows[probe, f]) for probe in probes)]
    planned = [_union([rows[probe, f] for probe in probes], every) for f, every in used]
    fewer = {
        (number, f): rows[probe, family]
        for number, probe in enumerate(probes)
        for f, (family, _) in enumerate(used)
        if rows[probe, family] != planned[f]
    }
    cells = [
        (probe, sum(len(row) for row in rows[probe, f]))
        for probe in probes
        for f, _ in used
        if not probe.overlay  # asked later
    ]
    return Scope(
        nodes,
        probes,
        tuple(f for f, _ in used),
        tuple(planned),
        udp_ports(cells, options.max_flows),
        fewer,
        tuple(p for p in wanted if p not in probes),
    )


def _rows(nodes: Sequence[Node], probe: Probe, family: Family, pairs: Pairs) -> Pairs:
    """The pairs that need a probe over a family."""
    if probe.families and family not in probe.families:
        return [[] for _ in pairs]
    if probe.overlay:
        there = [node.endpoint_in(family) is not None for node in nodes]
        pairs = [[d for d in row if there[d]] if there[s] else [] for s, row in enumerate(pairs)]
    return pairs if probe.between is None else needed_by(nodes, pairs, probe.between)


def _union(parts: Sequence[Pairs], every: Pairs) -> Pairs:
    """The pairs that are in any of the parts, in the order of `every`."""
    if any(part is every for part in parts):
        return every
    sets = [set().union(*(part[s] for part in parts)) for s in range(len(every))]
    return [[d for d in row if d in sets[s]] for s, row in enumerate(every)]


def _whose(probes: Sequence[Probe]) -> str:
    """`nodeport (all → role=worker)`, for a message."""
    return ", ".join(p.name if p.between is None else f"{p.name} ({p.between})" for p in probes)


def localised(nodes: Sequence[Node], local: str | None) -> tuple[Node, ...]:
    """With `--local NAME` this machine is that node, and nobody else has an agent."""
    if local is None:
        return tuple(nodes)
    if local not in {node.name for node in nodes}:
        raise UsageError(f"--local {local}: the inventory has no such node")
    return tuple(
        replace(n, connection=Connection.LOCAL if n.name == local else Connection.NONE)
        for n in nodes
    )


def _probes(known: Sequence[Probe], wanted: Sequence[str]) -> tuple[Probe, ...]:
    names = [probe.name for probe in known]
    for name in wanted:
        if name not in names:
            raise UsageError(
                f"--probe {name}: the inventory has no such probe; there are {', '.join(names)}"
            )
    return tuple(p for p in known if not wanted or p.name in wanted)
