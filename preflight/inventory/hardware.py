"""EKS Anywhere's hardware.csv: the machines of a bare metal cluster.

Columns as aws/eks-anywhere reads them (`pkg/providers/tinkerbell/hardware/machine.go`, `csv.go`):
hostname, ip_address, netmask, gateway, nameservers, mac, disk and labels must be there, `bmc_…` and
the older id and vendor may be. What concerns the management controller (BMC) is a secret: its cells
are never looked at, and no message of this file quotes a cell.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import StringIO

from preflight.core.cilium.eksa import ClusterSpec
from preflight.core.model import Node
from preflight.inventory.draft import Draft, Given, Remarks, nodes
from preflight.inventory.problems import Problems

_USED = ("hostname", "ip_address", "labels")
_NEEDED = ("hostname", "ip_address")
_TELLING = frozenset(
    {"mac", "netmask", "gateway", "nameservers", "labels", "disk", "ip_address", "bmc_ip"}
)
_ROLES = {
    "cp": "control-plane", "control-plane": "control-plane", "controlplane": "control-plane",
    "master": "control-plane", "worker": "worker", "wk": "worker", "node": "worker",
    "etcd": "etcd",
}  # fmt: skip
_TYPE = "type"  # the label that EKS Anywhere's own examples select by
_SHOWN = 8


def looks_like(text: str) -> bool:
    """Whether the first line is the header of such a file, be it with other separators."""
    header = text.lstrip("\ufeff").lstrip().partition("\n")[0]
    columns = _columns(header)
    telling = "hostname" in columns and len(_TELLING.intersection(columns)) > 1
    return telling or _separators(header) is not None


def _separators(header: str) -> str | None:
    """What separates the columns where commas do not."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        columns = _columns(header, separator)
        if "hostname" in columns and _TELLING.intersection(columns):
            return name
    return None


def read(text: str, problems: Problems, remarks: Remarks) -> tuple[Node, ...]:
    """The machines of a hardware.csv, with roles guessed from their label `type`."""
    lines = _Lines(text.lstrip("\ufeff"))
    others = _separators(text.lstrip("\ufeff").lstrip().partition("\n")[0])
    if others is not None:
        raise problems.fatal(
            f"its columns are separated by {others}; save it as CSV with commas", 1
        )
    try:
        rows = list(_rows(lines, problems))
    except csv.Error as exc:  # its text names no cell
        raise problems.fatal(f"not valid CSV: {exc}", lines.number) from exc
    if not rows and not lines.header:
        raise problems.fatal("is empty; its first line names the columns", 1)
    problems.raise_any()
    dropped = [column for column in lines.header if _is_bmc(column)]
    if dropped:
        remarks.add(f"{', '.join(dropped)}: not read", 1)
    drafts = [_draft(cells, line, remarks) for line, cells in rows]
    if not drafts:
        raise problems.fatal("names no machine", 1)
    return nodes(drafts, problems, quotes=False)


class _Lines:
    """A file's lines for the csv module, with the number of the last one that it took."""

    def __init__(self, text: str) -> None:
        self._lines = StringIO(text, newline="")
        self.number = 0
        self.header: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            yield line


def _rows(lines: _Lines, problems: Problems) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Each row's line and those of its cells that are used."""
    places: dict[str, int] = {}
    before = 0
    for row in csv.reader(iter(lines), strict=True):
        line, before = before + 1, lines.number
        if not any(cell.strip() for cell in row):
            continue
        if not lines.header:
            lines.header = [column.strip().lower() for column in row]
            places = _places(lines.header, problems)
            continue
        if len(row) != len(lines.header):
            problems.add(
                line,
                "the row",
                f"has {len(row)} cells, the header {len(lines.header)}; a cell with a comma in it "
                f'must be in "quotes"',
            )
            continue
        yield line, {column: row[place].strip() for column, place in places.items()}


def _places(header: Sequence[str], problems: Problems) -> dict[str, int]:
    """Where the columns are that are used."""
    for column in _USED:
        if header.count(column) > 1:
            problems.add(1, column, "is given twice in the header")
    for column in _NEEDED:
        if column not in header:
            problems.add(1, column, "is missing in the header")
    return {column: header.index(column) for column in _USED if column in header}


def _columns(line: str, separator: str = ",") -> list[str]:
    return [column.strip().strip('"').lower() for column in line.split(separator)]


def _is_bmc(column: str) -> bool:
    return column.startswith("bmc") or column == "vendor"


def _draft(cells: Mapping[str, str], line: int, remarks: Remarks) -> Draft:
    name = Given(cells["hostname"], line, "hostname")
    address = Given(cells["ip_address"], line, "ip_address")
    labels: dict[str, str] = {}
    for part in cells.get("labels", "").split("|"):
        key, separator, value = part.strip().partition("=")
        if separator and key and key.isprintable() and value.isprintable():
            labels[key.strip()] = value.strip()
        elif part.strip():
            remarks.add("a label that is not key=value was left out", line)
    guessed = _ROLES.get(labels.get(_TYPE, "").lower())
    if guessed is not None:
        labels.setdefault("role", guessed)
    elif "role" not in labels:
        what = (
            "its label type is none of cp, worker and etcd" if _TYPE in labels else "no label type"
        )
        remarks.add(f"{what}: no role is known; a spare, unless the cluster spec selects it", line)
    return Draft(name, [address], labels=labels)


def matched(known: Sequence[Node], spec: ClusterSpec) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """Machines with the roles that the spec's `hardwareSelector`s give them; what is spare is told.

    Which of too many machines EKS Anywhere takes is not known before it has.
    """
    groups = [group for group in spec.groups if group.selector]
    if not groups:
        return tuple(known), ()
    roles: dict[str, str] = {}
    told = []
    for group in groups:
        chosen = [n for n in known if group.selector.items() <= n.labels.items()]
        roles |= {node.name: group.role for node in chosen}
        selector = ", ".join(f"{k}={v}" for k, v in group.selector.items())
        asked = f"{group.least}" if group.least == group.most else f"{group.least}-{group.most}"
        if len(chosen) > group.most:
            told.append(
                f"{_have(len(chosen))} {selector} and {spec.source} asks for {asked} "
                f"({group.name}): {_spares(len(chosen) - group.most)} among them, which is known "
                f"once the others have been taken"
            )
        elif len(chosen) < group.least:
            told.append(
                f"{_have(len(chosen))} {selector}, and {spec.source} asks for {asked} "
                f"({group.name})"
            )
    spare = [node.name for node in known if node.name not in roles]
    if spare:
        shown = ", ".join(spare[:_SHOWN])
        more = f" and {len(spare) - _SHOWN} more" if len(spare) > _SHOWN else ""
        told.append(f"{shown}{more}: no machine config of {spec.source} selects it, so a spare")
    return tuple(_with_role(node, roles.get(node.name)) for node in known), tuple(told)


def _have(count: int) -> str:
    return "1 machine has" if count == 1 else f"{count} machines have"


def _spares(count: int) -> str:
    return "a spare is" if count == 1 else f"{count} spares are"


def _with_role(node: Node, role: str | None) -> Node:
    if role is None:
        return node
    return replace(node, labels={**node.labels, "role": role})
