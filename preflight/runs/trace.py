"""One pair, as deep as it goes: every cell of it is tried, good or bad."""

import math
from collections.abc import Sequence
from typing import Any

from preflight.closer.allowance import Allowance
from preflight.closer.ground import Ground
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.model import Finding
from preflight.core.findings.samples import Sample
from preflight.core.groups import FamilyProbe, Kind, groups
from preflight.core.looks import CellLook
from preflight.core.matrix import Matrix
from preflight.looks.links import ask as ask_links


class Tracing:
    """A `check.Closer` that keeps what it finds: `looks`, and packets by node in `captured`."""

    def __init__(self, *, sizes: bool, pcap: bool) -> None:
        self.looks: list[CellLook] = []
        self.captured: dict[int, list[Sequence[Any]]] = {}
        self._sizes = sizes
        self._pcap = pcap

    def __call__(self, matrix: Matrix, ground: Ground) -> list[Finding]:
        """See `check.Closer`."""
        cells = list(matrix.cells())
        wanted = {
            i: Sample(c.source, c.destination, c.probe, c.family, Kind(*c.outcome[:5]))
            for i, c in enumerate(cells)
            if c.source in ground.chorus.alive and not matrix.probes[c.probe].overlay
        }
        found: dict[int, Diagnosis] = {}
        if wanted and not ground.chorus.interrupted:
            what = "the largest packet, " if self._sizes else ""
            ground.progress.phase(f"a closer look: rules, hops, {what}flows, content", 0)
            examiner = ground.examiner(Allowance(math.inf))
            found = examiner.examine(wanted, thorough=True, sizes=self._sizes, pcap=self._pcap)
            self.captured = examiner.captured
        self.looks = [CellLook(cell, found.get(i)) for i, cell in enumerate(cells)]
        bad, proven = groups(matrix), list[Finding]()
        if bad and not ground.chorus.interrupted:
            proof = ask_links(ground.chorus, matrix, ground.astray)
            proven, bad = proof.findings, proof.rest
            ground = ground._replace(astray=proof.astray(ground.astray))
        looks: dict[int, list[Looked]] = {}
        for position, group in enumerate(bad):
            for i, cell in enumerate(cells):
                test = (cell.probe, cell.family)
                if i in found and test in group.tests and cell.outcome[:4] == group.kind[:4]:
                    look = Looked(cell.source, cell.destination, found[i], FamilyProbe(*test))
                    looks.setdefault(position, []).append(look)
        return findings(matrix, bad, looks, ground.astray, ground.mtus, ground.context, proven)
