"""Nodes that are alike: a big matrix then needs one row for each kind of node, and loses nothing.

Two nodes are alike where exchanging them changes no cell. Nodes that are alike pairwise form a
class, and every block of cells from one class to another (or to itself, its diagonal aside) has
one sign in every grid. No coarser partition of the nodes does that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

Grid = Sequence[str]  # a row for each source, one sign for each destination


def classes(grids: Sequence[Grid]) -> list[tuple[int, ...]]:
    """Node positions by class, in the order of each class's first node.

    All grids must be square, of one size and over the same nodes; what is on the diagonal is
    not looked at.
    """
    rows = _joined(grids)
    if rows is None:
        return [(node,) for node in range(len(grids[0]))]
    columns = ["".join(column) for column in zip(*rows, strict=True)]
    alike: dict[tuple[str, str], list[int]] = {}
    for node, (row, column) in enumerate(zip(rows, columns, strict=True)):
        # The same signs in any order: cheap to compare, and alike nodes cannot differ in it.
        profile = (_profile(row, node), _profile(column, node))
        alike.setdefault(profile, []).append(node)
    found: list[tuple[int, ...]] = []
    for nodes in alike.values():
        found += _split(nodes, rows, columns)
    return sorted(found)


def _joined(grids: Sequence[Grid]) -> list[str] | None:
    """One grid whose signs stand for what a cell is in all of them.

    None where more kinds of cells occur than there are characters: then hardly a cell is like
    another, and no two nodes need be.
    """
    if len(grids) == 1:
        return list(grids[0])
    signs: dict[tuple[str, ...], str] = {}
    rows = []
    for parts in zip(*grids, strict=True):
        cells = zip(*parts, strict=True)
        if len(signs) + len(parts[0]) > sys.maxunicode:
            return None
        rows.append("".join([signs.setdefault(cell, chr(len(signs))) for cell in cells]))
    return rows


def _profile(line: str, node: int) -> str:
    return "".join(sorted(line[:node] + line[node + 1 :]))


def _split(nodes: list[int], rows: list[str], columns: list[str]) -> list[tuple[int, ...]]:
    """The classes among nodes whose rows and columns hold the same signs.

    Alike nodes that see each other as x have equal rows and columns once each has x on its own
    diagonal; and equal ones are alike, since such a row then holds x for every one of them.
    """
    found: list[tuple[int, ...]] = []
    left = nodes
    for sign in sorted(set(rows[nodes[0]])):
        if len(left) < 2:
            break
        equal: dict[tuple[str, str], list[int]] = {}
        for node in left:
            row, column = rows[node], columns[node]
            key = (
                row[:node] + sign + row[node + 1 :],
                column[:node] + sign + column[node + 1 :],
            )
            equal.setdefault(key, []).append(node)
        found += (tuple(same) for same in equal.values() if len(same) > 1)
        left = sorted(same[0] for same in equal.values() if len(same) == 1)
    return found + [(node,) for node in left]
