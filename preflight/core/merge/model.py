"""What a merged snapshot remembers of its parts."""

from __future__ import annotations

from typing import NamedTuple

from preflight.core.model import Cause, Family, Leg, Place, Verdict


class Origin(NamedTuple):
    """One run that went in."""

    file: str  # as it was named
    started: str
    finished: str
    agents: tuple[str, ...]  # the nodes that had one, in their order there


class Claim(NamedTuple):
    """What one file says of a cell."""

    file: str
    verdict: Verdict
    leg: Leg | None
    place: Place | None
    cause: Cause | None


class Conflict(NamedTuple):
    """A cell of which files say unlike things, neither of them that it is unknown."""

    source: str  # nodes and probe by name
    destination: str
    probe: str
    family: Family
    claims: tuple[Claim, ...]


class Merged(NamedTuple):
    """Where a merged snapshot is from."""

    origins: tuple[Origin, ...]  # by their beginning
    conflicts: tuple[Conflict, ...] = ()
