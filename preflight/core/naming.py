"""Sets of nodes in the fewest words: `rack=a`, `all except n3`, `n1…n6, n8`.

A set is an int whose bit i stands for the node at position i: 500 nodes fit in 64 bytes, and
comparing two sets is one operation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from preflight.core.model import Node

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")  # the last number of a host name counts its nodes
_NAME, _RANGE = 2, 5  # what it costs to read one; a range makes one think of its ends
_EXCEPTIONS = 3  # more than these are no longer few words
_LABELS = 64  # labels with more values (a host name, a serial number) name no group,
_NODES = 16  # but where each of them has so many nodes


def members(nodes: int) -> Iterator[int]:
    """The positions in a set, ascending."""
    while nodes:
        low = nodes & -nodes
        yield low.bit_length() - 1
        nodes ^= low


class Naming:
    """Names sets of one matrix's nodes by name, label or exception, whichever is shortest."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.all = (1 << len(nodes)) - 1
        words = _words_of(nodes)
        self._names, self._labels = words.names, words.labels
        self._counted, self._following = words.counted, words.following

    def blocks(self) -> list[int]:
        """The sets that one label value names, those of a single node left out."""
        return [
            nodes
            for values in self._labels.values()
            for nodes in values.values()
            if nodes.bit_count() > 1
        ]

    def name(self, must: int, may: int = 0, *, tested: int | None = None, most: int = 8) -> str:
        """Words for a set that holds all of `must` and perhaps some of `may`.

        `may` are nodes about which nothing was asked, so that to include them claims nothing.
        `tested` are the nodes that could be in such a set at all: `all` means all of those.
        At most `most` names or ranges are listed; the text says how many more there are.
        """
        tested = self.all if tested is None else tested
        if must.bit_count() == 1:
            return self._names[must.bit_length() - 1]
        if tested & ~(must | may) == 0:
            return "all" if self.all & ~(must | may) == 0 else "all tested"
        exact = self._label(must, may)
        if exact is not None:
            return exact
        outside = tested & ~(must | may)
        candidates = [(self._cost(must), self._listed(must, most))]
        if (label := self._label(outside, may)) is not None:
            candidates.append((_NAME + _NAME, f"all except {label}"))
        if outside.bit_count() <= _EXCEPTIONS:
            candidates.append((_NAME + self._cost(outside), f"all except {self.whole(outside)}"))
        candidates += self._nearly(must, may)
        return min(candidates, key=itemgetter(0))[1]

    def whole(self, nodes: int) -> str:
        """Every name in the set, neighbours by number as a range."""
        return self._listed(nodes, len(self._names))

    def _label(self, must: int, may: int) -> str | None:
        """One label, with one value or several, that names the set exactly."""
        for key, values in self._labels.items():
            inside = [v for v, nodes in values.items() if nodes & must]
            covered = 0
            for value in inside:
                covered |= values[value]
            # A label that every node has with its own value is just another name.
            if len(inside) * 2 <= must.bit_count() and not (
                must & ~covered or covered & ~(must | may)
            ):
                return f"{key}={','.join(inside)}"
        return None

    def _nearly(self, must: int, may: int) -> Iterator[tuple[int, str]]:
        """All but a few nodes of one label."""
        for key, values in self._labels.items():
            for value, nodes in values.items():
                missing = nodes & ~(must | may)
                if must & ~nodes == 0 and 0 < missing.bit_count() <= _EXCEPTIONS:
                    yield _NAME + self._cost(missing), f"{key}={value} except {self.whole(missing)}"

    def _cost(self, nodes: int) -> int:
        """What it costs to read the list of a set."""
        return sum(_NAME if size == 1 else _RANGE for _, size in self._runs(nodes))

    def _listed(self, nodes: int, most: int) -> str:
        runs = list(self._runs(nodes))
        text = ", ".join(words for words, _ in runs[:most])
        left = sum(size for _, size in runs[most:])
        return f"{text} and {left} more" if left else text

    def _runs(self, nodes: int) -> Iterator[tuple[str, int]]:
        """The set's names in order, three or more that count up as one range; with their number."""
        run: list[str] = []
        following = None
        for position in members(nodes):
            if run and (following is None or self._counted[position] != following):
                yield from _words(run)
                run = []
            run.append(self._names[position])
            following = self._following[position]
        yield from _words(run)


class _Words(NamedTuple):
    """What there is to name some nodes by."""

    names: list[str]
    counted: list[_Counted | None]
    following: list[_Counted | None]
    labels: dict[str, dict[str, int]]  # of each label's values the sets


# Of the nodes asked for last: a matrix's are named for each of thousands of findings.
_LATEST: list[tuple[tuple[Node, ...], _Words]] = []


def _words_of(nodes: Sequence[Node]) -> _Words:
    if _LATEST and _LATEST[0][0] is nodes:
        return _LATEST[0][1]
    names = [node.name for node in nodes]
    counted = [_counted(name) for name in names]
    following = [number and number.next() for number in counted]
    labels: dict[str, dict[str, int]] = {}
    for position, node in enumerate(nodes):
        for key, value in node.labels.items():
            values = labels.setdefault(key, {})
            values[value] = values.get(value, 0) | 1 << position
    most = max(_LABELS, len(nodes) // _NODES)
    words = _Words(names, counted, following, {k: v for k, v in labels.items() if len(v) <= most})
    if isinstance(nodes, tuple):  # a list may change
        _LATEST[:] = [(nodes, words)]
    return words


def _words(run: list[str]) -> Iterator[tuple[str, int]]:
    if len(run) > 2:
        yield f"{run[0]}…{run[-1]}", len(run)
    else:
        yield from ((name, 1) for name in run)


class _Counted(NamedTuple):
    """A name as text around a number."""

    before: str
    digits: str
    after: str

    def next(self) -> _Counted:
        """n10 after n9, w10.x.org after w09.x.org."""
        return self._replace(digits=str(int(self.digits) + 1).zfill(len(self.digits)))


def _counted(name: str) -> _Counted | None:
    host, dot, domain = name.partition(".")
    found = _NUMBERED.fullmatch(host)
    return None if found is None else _Counted(found[1], found[2], found[3] + dot + domain)
