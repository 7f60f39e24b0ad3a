"""What a saved snapshot says of its parts, read with the suspicion of `core.saved`."""

from __future__ import annotations

from preflight.core.matrix import Matrix
from preflight.core.merge.model import Claim, Conflict, Merged, Origin
from preflight.core.model import Cause, Family, Leg, Place, Verdict
from preflight.core.records import Record, UnreadableError


def read_merged(record: Record, matrix: Matrix) -> Merged:
    """The member `merged`. Raises UnreadableError."""
    origins = tuple(map(_origin, record.records("files")))
    return Merged(origins, tuple(_conflict(one, matrix) for one in record.records("conflicts")))


def _origin(record: Record) -> Origin:
    return Origin(
        record.text("file"),
        record.text("started"),
        record.text("finished"),
        tuple(record.texts("agents")),
    )


def _conflict(record: Record, matrix: Matrix) -> Conflict:
    nodes = {node.name for node in matrix.nodes}
    probes = {probe.name for probe in matrix.probes}
    for key, known in (("source", nodes), ("destination", nodes), ("probe", probes)):
        if record.text(key) not in known:
            raise UnreadableError(f"{record.at(key)}: {record.text(key)!r} is not in this file")
    family = record.one_of("family", Family)
    if family not in matrix.families:
        raise UnreadableError(f"{record.at('family')}: {family} is not in this file")
    return Conflict(
        record.text("source"),
        record.text("destination"),
        record.text("probe"),
        family,
        tuple(map(_claim, record.records("claims"))),
    )


def _claim(record: Record) -> Claim:
    return Claim(
        record.text("file"),
        record.one_of("verdict", Verdict),
        record.maybe_one_of("leg", Leg),
        record.maybe_one_of("place", Place),
        record.maybe_one_of("cause", Cause),
    )
