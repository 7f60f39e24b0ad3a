"""Snapshots in files: saved whole or not at all, read with suspicion.

A file is the contract's JSON. Above 50,000 cells its `results` hold only what is not open (and
nothing where even that is more than 5,000), and `packed` holds every cell: a table of outcomes, a
number into it for each cell, and round-trip times to 6 %. 5,000 nodes' 75 million cells then take
some tens of megabytes, and `jq` still finds what is wrong. A file whose digest does not
fit is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NoReturn

from preflight.atomic import ensure_writable, replacing
from preflight.core.digest import number
from preflight.core.model import Outcome, Verdict
from preflight.core.records import UnreadableError
from preflight.core.saved import read_snapshot
from preflight.core.snapshot import Snapshot
from preflight.errors import FileError
from preflight.report.json import document, packed, results
from preflight.report.text import clean

__all__ = ["ensure_writable", "load", "save"]

_LISTED = 50_000  # results in a file that holds no packed cells, at most
_NAMED = 5_000  # in one that does
_MOST_BYTES = 400_000_000  # what is larger was not saved by us, and would take all memory
_GZIP = b"\x1f\x8b"


def save(snapshot: Snapshot, path: str | Path) -> None:
    """Write `snapshot` to `path`; a file that is there already is replaced at the very end.

    After a crash, an interruption or an error the old file is as it was. A symbolic link stays
    and the file it names is replaced; a pipe or a device is written to. Raises FileError.
    """
    matrix = snapshot.matrix
    counts = matrix.outcomes()
    if sum(counts.values()) <= _LISTED:
        pieces = document(snapshot, results(matrix))
    else:
        few = sum(number for outcome, number in counts.items() if _bad(outcome)) <= _NAMED
        listed = results(matrix, _bad) if few else ()
        pieces = document(snapshot, listed, packed(matrix))
    with replacing(path) as file:
        file.writelines(piece.encode() for piece in pieces)


def load(path: str | Path) -> Snapshot:
    """The snapshot that `save` or `check --format json` wrote. Raises FileError.

    How to log in to its nodes is not in a file and so not in what is read.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(text) > _MOST_BYTES:
        raise FileError(
            f"{path}: larger than {_MOST_BYTES // 10**6} MB, which is more than preflight reads: "
            "use a file that check --output saved"
        )
    if text.startswith(_GZIP):
        raise FileError(f"{path}: compressed: unpack it with gunzip first")
    try:
        return read_snapshot(
            json.loads(text, parse_float=number, parse_constant=_refuse, object_pairs_hook=_object)
        )
    except UnreadableError as error:
        raise FileError(f"{path}: {clean(str(error))}") from error
    except (ValueError, RecursionError) as error:
        told = f"not a preflight snapshot, or cut short: {clean(str(error))}"
        raise FileError(f"{path}: {told}") from error
    except MemoryError as error:
        raise FileError(f"{path}: more than this machine's memory holds") from error


def _bad(outcome: Outcome) -> bool:
    return outcome.verdict is not Verdict.OPEN


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object; with a key that comes twice nobody knows which is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {clean(twice)!r} twice")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
