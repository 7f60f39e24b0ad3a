"""Whose a namespace is: one of ours carries the label of its run."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from preflight.core.connectivity.manifest import MANAGED_BY
from preflight.core.connectivity.values import record, records, text, texts

RUN = "preflight/run"  # a label: who asks for it gets all of a run's objects
STARTED = "preflight/started"  # annotations
BY = "preflight/started-by"
KEPT = "preflight/kept"


class Whose(StrEnum):
    """A namespace's owner."""

    NOBODY = "nobody"  # there is none of that name
    OURS = "ours"  # a run of this check made it
    OTHERS = "others"


class Existing(NamedTuple):
    """A namespace as it was found."""

    whose: Whose
    uid: str = ""
    run: str = ""
    started: str = ""
    by: str = ""
    kept: bool = False  # its run has ended, and was told to leave it
    ending: bool = False
    holding: tuple[str, ...] = ()  # what keeps it from being gone, in words


def existing(namespace: Mapping[str, object]) -> Existing:
    """Read a Namespace."""
    metadata = record(namespace, "metadata")
    labels, notes = record(metadata, "labels"), record(metadata, "annotations")
    ours = RUN in labels and all(labels.get(k) == v for k, v in MANAGED_BY.items())
    return Existing(
        whose=Whose.OURS if ours else Whose.OTHERS,
        uid=text(metadata, "uid"),
        run=text(labels, RUN),
        started=text(notes, STARTED),
        by=text(notes, BY),
        kept=KEPT in notes,
        ending="deletionTimestamp" in metadata,
        holding=tuple(_holding(namespace)),
    )


_PROGRESS = {"False", "Unknown"}  # of a condition that says that nothing is in the way


def _holding(namespace: Mapping[str, object]) -> list[str]:
    """The conditions and finalizers of a namespace that is being deleted."""
    status, spec = record(namespace, "status"), record(namespace, "spec")
    out = [
        text(one, "message") or text(one, "type")
        for one in records(status, "conditions")
        if one.get("status") not in _PROGRESS
    ]
    metadata = record(namespace, "metadata")
    for where, owner in (("metadata", metadata), ("spec", spec)):
        if names := texts(owner, "finalizers"):
            out.append(f"{where}.finalizers: {', '.join(names)}")
    return out
