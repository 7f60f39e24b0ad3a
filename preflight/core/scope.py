"""What a run covers: which probes, families and pairs. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from preflight.core.model import Connection, Family, Inventory, Node, Probe
from preflight.core.options import CheckOptions
from preflight.core.plan import CellPlan, Pairs, in_family, select, udp_ports, volley
from preflight.errors import UsageError


@dataclass(frozen=True, slots=True)
class Scope:
    """One run's extent."""

    nodes: tuple[Node, ...]
    probes: tuple[Probe, ...]
    families: tuple[Family, ...]
    pairs: tuple[Pairs, ...]  # one for each family
    ports: int  # UDP source ports of each cell

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
        """Every planned cell, as one look would ask for it."""
        return [
            self.cell(probe, family, self.pairs[f], first=first)
            for f, family in enumerate(self.families)
            for probe in range(len(self.probes))
        ]

    def cell(self, probe: int, family: Family, pairs: Pairs, *, first: bool) -> CellPlan:
        """One probe over one family for `pairs`."""
        kind = self.probes[probe]
        shape = volley(kind, ports=self.ports, first=first)
        return CellPlan(probe, family, kind.one_way, shape, pairs)


def scope(inventory: Inventory, options: CheckOptions) -> Scope:
    """What `options` leave of the inventory. Raises UsageError where that is nothing."""
    nodes = localised(inventory.nodes, options.local)
    probes = _probes(inventory.probes, options.probes)
    pairs = select(nodes, options.sources, options.destinations, options.labels)
    families = [options.family] if options.family else list(Family)
    by_family = [(f, in_family(nodes, pairs, f)) for f in families]
    by_family = [(f, p) for f, p in by_family if any(p)]
    if not by_family:
        wanted = f"{options.family} addresses" if options.family else "addresses of one family"
        raise UsageError(f"no two nodes both have {wanted}: nothing to test")
    count = sum(len(row) for _, p in by_family for row in p)
    return Scope(
        nodes,
        probes,
        tuple(f for f, _ in by_family),
        tuple(p for _, p in by_family),
        udp_ports(count, probes, options.max_flows),
    )


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
