"""`preflight trace --format json`: the snapshot, and what the closer look found out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TextIO

from preflight.core.diagnosis.plain import plain
from preflight.core.looks import CellLook
from preflight.core.snapshot import Snapshot
from preflight.report.json import document, results


def dump(snapshot: Snapshot, looks: Sequence[CellLook], file: TextIO) -> None:
    """A snapshot as `check` writes it, with one member more: `looks`."""
    names = [node.name for node in snapshot.matrix.nodes]
    told = [
        {
            "source": names[look.cell.source],
            "destination": names[look.cell.destination],
            "probe": snapshot.matrix.probes[look.cell.probe].name,
            "family": look.cell.family,
            "diagnosis": None if look.diagnosis is None else plain(look.diagnosis, names),
        }
        for look in looks
    ]
    more = ("looks", json.dumps(told))
    file.writelines(document(snapshot, results(snapshot.matrix), [more]))
