"""The matrix as a picture: what is drawn, what a line can say, and when alike nodes share a row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from preflight.core.classes import classes
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Probe
from preflight.core.naming import Naming
from preflight.core.terms import plural
from preflight.report.lattice import Axis, Grid, draw, fits, label_room
from preflight.report.layers import SPOKEN, Layer
from preflight.report.symbols import LEGEND, NOT_PLANNED, SAME_NODE, UNKNOWN, style
from preflight.report.text import cells, flow, paint, wrap

_FEW = 16  # up to so many nodes everything is drawn, node by node
_MANY = 40  # above so many, a picture half as large is worth having nodes share rows
_TOO_MUCH = 30_000  # cells in a picture that nobody would look through: blocks of them are drawn
_LONG = 20  # names longer than this are shown without a domain that all of them share

_EMPTY = NOT_PLANNED + SAME_NODE
_PLANNED = bytes(chr(sign) not in _EMPTY for sign in range(256))


class Picture:
    """Lines to print, and what they need to be understood."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.signs: set[str] = set()  # that occur in the drawn grids
        self.alike = False  # nodes that are alike share a row
        self.more: list[str] = []  # what else the legend is to say
        self.shortened: dict[str, str] = {}  # a row's number and its whole name


def draw_matrix(matrix: Matrix, tests: Sequence[Layer], width: int, *, color: bool) -> Picture:
    """Every probe over every family, at most `width` wide; families that are equal once."""
    picture = Picture()
    looks: dict[tuple[tuple[Probe, tuple[str, ...]], ...], list[Family]] = {}
    for family in matrix.families:
        look = tuple((t.probe, tuple(t.lines)) for t in tests if t.family is family)
        if look:
            looks.setdefault(look, []).append(family)
    several = sum(map(len, looks.values())) > 1
    for families in looks.values():
        if several:
            title = " and ".join(SPOKEN[family] for family in families)
            picture.lines.append(paint(title, "head", color=color))
        own = [test for test in tests if test.family is families[0]]
        _draw_family(picture, matrix, own, width, color=color)
    return picture


def legend(picture: Picture, width: int, *, part: bool = False) -> list[str]:
    """What the signs mean, in lines of at most `width`; `part` of the cells is shown."""
    if not picture.signs:
        return []
    blank = "blank: not tested or not shown" if part else LEGEND[NOT_PLANNED]
    words = [
        blank if sign == NOT_PLANNED else f"{sign} {means}"
        for sign, means in LEGEND.items()
        if sign in picture.signs
    ]
    words += dict.fromkeys(picture.more)
    alike = "; nodes that fare the same in every cell share both" if picture.alike else ""
    return [*flow(words, width, "   "), *wrap(f"Rows send, columns receive{alike}.", width)]


def involved(tests: Sequence[Layer]) -> set[int]:
    """The nodes that are in some planned pair."""
    return {node for axis in _axes(tests) for node in axis} if tests else set()


def _draw_family(
    picture: Picture, matrix: Matrix, tests: Sequence[Layer], width: int, *, color: bool
) -> None:
    sources, destinations = _axes(tests)
    few = max(len(sources), len(destinations)) <= _FEW
    if few and any(test.uniform != UNKNOWN for test in tests):
        told: list[Layer] = []
    else:
        told = [test for test in tests if test.uniform]
    drawn = [test for test in tests if test not in told]
    if drawn:
        _draw_grids(picture, matrix, drawn, (sources, destinations), width, color=color)
    for (sign, number), same in groupby(told, key=lambda t: (t.uniform, sum(t.counts.values()))):
        alike = list(same)
        words = LEGEND[sign or UNKNOWN].partition(":")[0]
        names = ", ".join(test.probe.name for test in alike)
        line = f"{names}: {words}, {'all ' if number > 1 else ''}{plural(number, 'pair')}"
        picture.lines += [paint(part, alike[0].style, color=color) for part in wrap(line, width)]
    if told:
        picture.lines.append("")


def _axes(tests: Sequence[Layer]) -> tuple[list[int], list[int]]:
    """The nodes that are a source, and those that are a destination, in anything planned."""
    sources = [
        i
        for i, lines in enumerate(zip(*(test.lines for test in tests), strict=True))
        if any(line.strip(_EMPTY) for line in lines)
    ]
    reached = 0
    for test in tests:
        for line in test.lines:
            reached |= int.from_bytes(line.encode("latin-1").translate(_PLANNED), "big")
    columns = reached.to_bytes(len(tests[0].lines), "big")
    return sources, [i for i, planned in enumerate(columns) if planned]


def _draw_grids(
    picture: Picture,
    matrix: Matrix,
    tests: Sequence[Layer],
    axes: tuple[list[int], list[int]],
    width: int,
    *,
    color: bool,
) -> None:
    names = [node.name for node in matrix.nodes]
    domain = shared_domain(names)
    if domain:
        names = [name.removesuffix(domain) for name in names]
    rows, columns = (Axis([i + 1 for i in axis], [names[i] for i in axis]) for axis in axes)
    grids = [_grid(test, *axes) for test in tests]
    if max(map(len, axes)) > _FEW:
        kinds = classes([test.lines for test in tests])
        crowded = len(names) > _MANY or not fits(grids, rows, columns, width)
        few = len(kinds) ** 2 * len(grids) <= _TOO_MUCH
        if few and len(kinds) * (2 if crowded else 4) <= len(names):
            rows, columns, grids = _shared(picture, matrix, tests, kinds, axes)
    if len(rows.names) * len(columns.names) * len(grids) > _TOO_MUCH:
        rows, columns, grids = _in_blocks(picture, matrix, tests, width)
        domain = ""
    for line in (line for grid in grids for line in grid.lines):
        picture.signs.update(line)
    room = label_room(width)
    for number, name in zip(rows.numbers, rows.names, strict=True):
        if cells(name) > room:
            picture.shortened.setdefault(str(number), name)
    picture.lines += draw(grids, rows, columns, width, color=color)
    if domain and not picture.alike:
        picture.lines[-1:] = [f"All names end in {domain}", ""]


def _in_blocks(
    picture: Picture, matrix: Matrix, tests: Sequence[Layer], width: int
) -> tuple[Axis, Axis, list[Grid]]:
    """One row and one column for all nodes of a group."""
    from preflight.report import blocks

    by = blocks.grouping(matrix.nodes, tests)
    picture.lines += wrap(blocks.words(by), width)
    drawn = [blocks.draw_blocks(test, by) for test in tests]
    names = [
        f"{name} ({size:,})" if size > 1 else name
        for name, size in zip(by.names, blocks.sizes(by), strict=True)
    ]
    everywhere = range(len(names))
    rows = [i for i in everywhere if any(lines[i].strip(_EMPTY) for lines in drawn)]
    columns = [
        i for i in everywhere if any(line[i] not in _EMPTY for lines in drawn for line in lines)
    ]
    grids = []
    for test, lines in zip(tests, drawn, strict=True):
        picture.more += blocks.legend(set("".join(lines)))
        own = ["".join([lines[a][b] for b in columns]) for a in rows]
        look = partial(blocks.block_style, severity=test.probe.severity)
        grids.append(Grid(test.probe.name, test.style, own, look))
    row_axis, column_axis = (
        Axis([i + 1 for i in axis], [names[i] for i in axis]) for axis in (rows, columns)
    )
    return row_axis, column_axis, grids


def shared_domain(names: Sequence[str]) -> str:
    """What all names end in from their first dot on, where they are too long for a picture."""
    domains = {name[name.find(".") :] if "." in name else "" for name in names}
    return domains.pop() if len(domains) == 1 and max(map(cells, names)) > _LONG else ""


def _grid(test: Layer, sources: Sequence[int], destinations: Sequence[int]) -> Grid:
    whole = len(destinations) == len(test.lines)
    lines = [
        test.lines[s] if whole else "".join([test.lines[s][d] for d in destinations])
        for s in sources
    ]
    return _titled(test, lines)


def _titled(test: Layer, lines: Sequence[str]) -> Grid:
    severity = test.probe.severity
    return Grid(test.probe.name, test.style, lines, lambda sign: style(sign, severity))


def _shared(
    picture: Picture,
    matrix: Matrix,
    tests: Sequence[Layer],
    kinds: Sequence[tuple[int, ...]],
    axes: tuple[list[int], list[int]],
) -> tuple[Axis, Axis, list[Grid]]:
    """One row and one column for all nodes of a kind."""
    picture.alike = True
    naming = Naming(matrix.nodes)
    sources, destinations = (set(axis) for axis in axes)
    rows = [i for i, kind in enumerate(kinds) if kind[0] in sources]
    columns = [i for i, kind in enumerate(kinds) if kind[0] in destinations]
    names = []
    for number, kind in enumerate(kinds, 1):
        nodes = sum(1 << node for node in kind)
        words = naming.name(nodes, most=4)
        if words != naming.name(nodes, most=len(matrix.nodes)):
            picture.shortened[str(number)] = naming.whole(nodes)
        names.append(f"{words} ({len(kind)})" if len(kind) > 1 else words)
    grids = []
    for test in tests:
        lines = []
        for a in rows:
            line = test.lines[kinds[a][0]]
            own = test.lines[kinds[a][0]][kinds[a][-1]]
            lines.append("".join([own if a == b else line[kinds[b][0]] for b in columns]))
        grids.append(_titled(test, lines))
    row_axis, column_axis = (
        Axis([i + 1 for i in axis], [names[i] for i in axis]) for axis in (rows, columns)
    )
    return row_axis, column_axis, grids
