"""Findings while they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.findings.model import Finding


class Made(NamedTuple):
    """A finding, and what the looks at its cells found out."""

    finding: Finding
    diagnoses: Sequence[Diagnosis]
