"""What of a saved snapshot a command's arguments mean; a name that is not in it is told so."""

from collections.abc import Sequence
from pathlib import Path

from preflight.core.matrix import Matrix
from preflight.core.model import Family
from preflight.errors import UsageError
from preflight.report.text import clean

_NAMED = 8  # of what there is, where a name is wrong


def node_of(matrix: Matrix, wanted: str, file: Path) -> int:
    """A node by its name or one of its addresses. Raises UsageError."""
    for position, node in enumerate(matrix.nodes):
        if wanted == node.name or wanted in node.addresses:
            return position
    raise _missing(file, "node", wanted, [node.name for node in matrix.nodes])


def probes_of(matrix: Matrix, wanted: Sequence[str] | None, file: Path) -> list[int]:
    """The probes of these names, or all. Raises UsageError."""
    names = [probe.name for probe in matrix.probes]
    for name in wanted or ():
        if name not in names:
            raise _missing(file, "probe", name, names)
    return [i for i, name in enumerate(names) if not wanted or name in wanted]


def family_of(matrix: Matrix, wanted: Family | None, file: Path) -> list[Family]:
    """That family, or none where any will do. Raises UsageError."""
    if wanted is not None and wanted not in matrix.families:
        raise _missing(file, "family", str(wanted), matrix.families)
    return [] if wanted is None else [wanted]


def label_of(matrix: Matrix, wanted: str, file: Path) -> tuple[str, str]:
    """`rack=a`, which some node must carry. Raises UsageError."""
    key, separator, value = wanted.partition("=")
    if not separator or not key:
        raise UsageError(f"--label {clean(wanted)}: write it as key=value, such as rack=a")
    found = [node.labels for node in matrix.nodes]
    values = dict.fromkeys(labels[key] for labels in found if key in labels)
    if value not in values:
        there_is = values or dict.fromkeys(name for labels in found for name in labels)
        what = f"label {clean(key)}" if values else "label"
        raise _missing(file, what, value if values else key, list(there_is))
    return key, value


def _missing(file: Path, what: str, wanted: str, names: Sequence[str]) -> UsageError:
    """One line that names what there is, what looks like it first."""
    from difflib import get_close_matches

    close = get_close_matches(wanted, names, _NAMED)
    named = list(dict.fromkeys([*close, *names[:_NAMED]]))[:_NAMED]
    more = f" and {len(names) - len(named)} more" if len(names) > len(named) else ""
    there_is = f"it has {clean(', '.join(named))}{more}" if named else "it has none"
    return UsageError(f"{file}: no {what} {clean(wanted)!r}: {there_is}")
