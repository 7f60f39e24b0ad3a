"""Which findings the cells of a row belong to, for all cells of a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.core.findings.model import Finding
from preflight.core.groups import FamilyProbe

_Ends = list[tuple[str, tuple[int, ...]]]


class Belonging:
    """As `core.story.belonging`, but by row, and prepared for many of them."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._rows: dict[FamilyProbe, dict[int, _Ends]] = {}
        for finding in findings:
            for block in finding.blocks:
                for test in block.tests:
                    self._add(test, finding.identifier, block.sources, block.destinations)
                    if block.both_ways:
                        self._add(test, finding.identifier, block.destinations, block.sources)

    def row(self, test: FamilyProbe, source: int) -> Mapping[int, str]:
        """`F1`, `F1 F4`: the findings by destination, for those that are in any."""
        found: dict[int, str] = {}
        for identifier, destinations in self._rows.get(test, {}).get(source, ()):
            for destination in destinations:
                known = found.get(destination)
                if known is None:
                    found[destination] = identifier
                elif identifier not in known.split():
                    found[destination] = f"{known} {identifier}"
        return found

    def _add(
        self,
        test: FamilyProbe,
        identifier: str,
        sources: tuple[int, ...],
        destinations: tuple[int, ...],
    ) -> None:
        rows = self._rows.setdefault(test, {})
        for source in sources:
            rows.setdefault(source, []).append((identifier, destinations))
