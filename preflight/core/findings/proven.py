"""What the nodes' own tables prove, before any closer look, and the cells that are left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from preflight.core.findings.addresses import Astray, addresses
from preflight.core.findings.claims import Claims
from preflight.core.findings.detours import Detours, detours
from preflight.core.findings.hazards import Sources
from preflight.core.findings.masks import masks
from preflight.core.findings.model import Finding
from preflight.core.findings.neighbours import neighbours
from preflight.core.findings.routes import routes
from preflight.core.findings.several import several
from preflight.core.findings.trails import trails
from preflight.core.groups import Group
from preflight.core.model import Family, family_of
from preflight.core.tables import Tables


class Proof(NamedTuple):
    """Every cell that is not open is in one of either."""

    findings: list[Finding]
    rest: list[Group]
    misled: frozenset[tuple[int, str]]  # nodes, with an address of another that they may send from
    nameless: frozenset[tuple[int, Family]]  # nodes that do not use their address of that family
    detours: Detours

    def astray(self, known: Astray) -> dict[int, set[tuple[int, str]]]:
        """Packets that came to others than they were meant for, less those that these explain."""
        holders = {node for node, _ in self.misled}
        return {node: came for node, came in known.items() if node not in holders}

    def sources(self, known: Sources) -> dict[tuple[int, str], set[int]]:
        """Those senders of tunnel packets whose address these findings do not explain."""
        return {
            (node, address): seen_by
            for (node, address), seen_by in known.items()
            if (node, address) not in self.misled
            and (node, family_of(address)) not in self.nameless
        }


def prove(claims: Claims, tables: Mapping[int, Tables], astray: Astray) -> Proof:
    """What the tables, by node, explain; the most certain comes first."""
    addresses(claims, tables, astray)
    routes(claims, tables)
    trails(claims, tables)
    several(claims, tables)
    masks(claims, tables)
    neighbours(claims, tables)
    return Proof(
        claims.found,
        claims.rest(),
        frozenset((*_held(tables), *_kept(claims, tables))),
        frozenset((n, family_of(o.address)) for n, told in tables.items() for o in told.unused),
        detours(claims.matrix, claims.ways, tables),
    )


def _held(tables: Mapping[int, Tables]) -> Iterator[tuple[int, str]]:
    """Nodes with addresses of others that they have, too."""
    for node, told in tables.items():
        yield from ((node, one.address) for one in told.held)


def _kept(claims: Claims, tables: Mapping[int, Tables]) -> Iterator[tuple[int, str]]:
    """Nodes with addresses of others for which they have a `local` route."""
    for node, told in tables.items():
        for way in told.trails:
            address = claims.matrix.nodes[way.peer].address_in(way.family)
            if way.kind == "local" and address is not None:
                yield node, address
