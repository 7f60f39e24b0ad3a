"""A row of a table that decides: conditions, and the verdict where they all hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from preflight.core.model import Cause, Leg, Place, Verdict


class AsRead:
    """A row's place: the one that the reading has for the row's leg."""


AS_READ: Final = AsRead()


class Row(NamedTuple):
    """Where every field in `when` has one of the values given, the rest is the answer."""

    when: Mapping[str, tuple[object, ...]]
    verdict: Verdict
    leg: Leg | None
    place: Place | AsRead | None
    cause: Cause | None
    meaning: str


def when(**conditions: object) -> Mapping[str, tuple[object, ...]]:
    """Conditions of a row: for each field the value, or the values in a tuple, that it may have."""
    return {
        name: value if isinstance(value, tuple) else (value,) for name, value in conditions.items()
    }
