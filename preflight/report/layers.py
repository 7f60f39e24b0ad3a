"""The matrix as signs: what every picture of it is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from preflight.core.matrix import Matrix
from preflight.core.model import Family, Probe
from preflight.report.symbols import OPEN, SAME_NODE, UNKNOWN, style, symbol

SPOKEN = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


class Layer(NamedTuple):
    """One probe over one family as signs: a string for each source."""

    probe: Probe
    family: Family
    lines: Sequence[str]
    counts: dict[str, int]  # of planned cells, by sign

    @property
    def uniform(self) -> str | None:
        """The sign of all planned cells, None where they differ."""
        return next(iter(self.counts)) if len(self.counts) == 1 else None

    @property
    def style(self) -> str | None:
        """The style of the worst cell."""
        bad = sorted(set(self.counts) - {OPEN, UNKNOWN})
        worst = bad[0] if bad else UNKNOWN if UNKNOWN in self.counts else OPEN
        return style(worst, self.probe.severity)


def layers(matrix: Matrix) -> list[Layer]:
    """All probes over all families, those without a planned cell left out."""
    signs = [ord(symbol(outcome)) for outcome in matrix.table]  # Latin-1 has all of them
    found = []
    for f, family in enumerate(matrix.families):
        for p, probe in enumerate(matrix.probes):
            counts: dict[str, int] = {}
            for outcome, number in matrix.outcomes_of(f, p).items():
                sign = symbol(outcome)
                counts[sign] = counts.get(sign, 0) + number
            if counts:
                lines = [row.decode("latin-1") for row in matrix.rows(f, p, signs)]
                lines = [line[:i] + SAME_NODE + line[i + 1 :] for i, line in enumerate(lines)]
                found.append(Layer(probe, family, lines, counts))
    return found
