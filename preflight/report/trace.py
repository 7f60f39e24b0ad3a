"""`preflight trace`: the pair's story, then what the closer look found out about each probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from preflight.core.findings.evidence import of_diagnosis
from preflight.core.groups import FamilyProbe
from preflight.core.looks import CellLook
from preflight.core.snapshot import Snapshot
from preflight.core.terms import traffic
from preflight.report import explain
from preflight.report.layers import SPOKEN
from preflight.report.paper import Paper
from preflight.report.presentable import presentable
from preflight.report.text import Speech

_NARROWEST = 40


def render(
    snapshot: Snapshot, looks: Sequence[CellLook], *, width: int, color: bool, file: TextIO
) -> None:
    """Write everything about the one pair that `looks` are of."""
    speech = Speech(file)
    shown = presentable(snapshot, speech)
    paper = Paper(max(width, _NARROWEST), color=color)
    paper.sentence(("The closer look", "head"))
    paper.gap()
    for look in looks:
        _tell(paper, shown, look)
    if looks:
        pair = (looks[0].cell.source, looks[0].cell.destination)
        tests = [FamilyProbe(look.cell.probe, look.cell.family) for look in looks]
        explain.render(snapshot, pair, tests, width=width, color=color, file=file)
        file.write("\n")
    file.write(speech.say("\n".join(paper.lines).rstrip() + "\n"))


def _tell(paper: Paper, snapshot: Snapshot, look: CellLook) -> None:
    probe = snapshot.matrix.probes[look.cell.probe]
    what = f"{probe.name}: {traffic(probe, look.cell.family)} over {SPOKEN[look.cell.family]}"
    paper.sentence((what, "head"), f", {look.cell.outcome.verdict}", indent=2)
    if look.diagnosis is None:
        paper.item("-", "no closer look could be taken: nobody is there to send", indent=4)
    else:
        found = of_diagnosis(look.diagnosis, snapshot.matrix, look.cell.family)
        told = list(dict.fromkeys(found))
        for sentence in told or ["nothing beyond what its verdict says"]:
            paper.item("-", sentence, indent=4)
        for note in look.diagnosis.notes:
            paper.item(("Not known:", "dim"), note, indent=4)
    paper.gap()
