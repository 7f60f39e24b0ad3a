"""What the user asked of a check, beyond the inventory."""

from dataclasses import dataclass

from preflight.core.model import Family, Phase
from preflight.core.plan import DEFAULT_MAX_FLOWS, DEFAULT_RATE


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
