"""What is known to be wrong, or to differ, before a single probe is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from preflight.core.model import Inventory, Severity

if TYPE_CHECKING:
    from preflight.core.cilium.overlay import Overlay
    from preflight.core.facts.risk import Network


class Remark(NamedTuple):
    """A finding that no cell of the matrix shows."""

    severity: Severity
    title: str  # one sentence without a full stop
    evidence: tuple[str, ...] = ()
    advice: str = ""
    nodes: tuple[str, ...] = ()  # by name, where it is about some


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a run begins with."""

    inventory: Inventory  # with the probes that follow
    remarks: tuple[Remark, ...] = ()
    notes: tuple[str, ...] = ()
    pod_ranges: tuple[Network, ...] = ()
    service_ranges: tuple[Network, ...] = ()
    overlay: Overlay | None = None  # where it is tested
