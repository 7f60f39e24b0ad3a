"""What a closer look at one cell brought."""

from __future__ import annotations

from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.matrix import Cell


class CellLook(NamedTuple):
    """A cell, and what was found out about it; None where it could not be tried."""

    cell: Cell
    diagnosis: Diagnosis | None
