"""What the user asked of a check, beyond the inventory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from preflight.core.model import Family, Phase
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE

if TYPE_CHECKING:
    from preflight.core.cilium.overlay import Overlay
    from preflight.core.cilium.remarks import Remark
    from preflight.core.facts.risk import Network


class Profile(StrEnum):
    """Named sets of ports besides Cilium's: `core.cilium.profile` has them."""

    EKS_ANYWHERE = "eks-anywhere"


class Meeting(NamedTuple):
    """What machines that cannot log in to one another have agreed on: see `core.meeting`."""

    at: float  # seconds since the epoch
    secret: bytes


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Defaults are the command's."""

    phase: Phase = Phase.BEFORE
    probes: tuple[str, ...] = ()  # names; empty: all of the inventory
    family: Family | None = None  # None: every family that both nodes of a pair have
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    local: str | None = None  # this machine is that node, and there are no other agents
    rate: float = DEFAULT_RATE
    max_flows: int = DEFAULT_MAX_FLOWS
    timeout_s: float = 1.0  # how long a probe may take before it is missing
    diagnose: bool = True  # look closer at one cell of each finding
    pod_ranges: tuple[Network, ...] = ()  # that pods and services will have
    service_ranges: tuple[Network, ...] = ()
    remarks: tuple[Remark, ...] = ()  # findings known before any probe
    notes: tuple[str, ...] = ()
    overlay: Overlay | None = None  # what the cluster says of it, where it is tested
    meeting: Meeting | None = None  # with `local`: the others probe at the same time

    @property
    def known_before(self) -> bool:
        """Whether there is something to tell, or to compute, that needs no probe."""
        return bool(self.remarks or self.pod_ranges or self.service_ranges)
