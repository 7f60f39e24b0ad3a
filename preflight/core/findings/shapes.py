"""Shapes of sets of cells: what is whose way back, what lies inside what, and words for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, reduce
from ipaddress import ip_address, ip_network
from operator import or_

from preflight.core.groups import FamilyProbe, Group, blocks, layer
from preflight.core.groups import where as block_in_words
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Leg, Outcome, Protocol, Verdict
from preflight.core.naming import Naming, members
from preflight.core.terms import traffic

Rows = dict[int, int]  # for each source the set of its destinations

_BETWEEN = 3  # classes; between two, "there and back" says the same in fewer words
_PREFIXES = {Family.IPV4: (24, 23, 22, 20, 16), Family.IPV6: (64, 56, 48)}
_LISTED = 4
_MASKED = 8  # of so many cells one may have another cause
HALF = 2  # one cell of two may be hidden: its like is seen elsewhere
_LOST = (Verdict.BLOCKED, Verdict.LOSSY)
_NEIGHBOURHOODS = 16  # more of them are no longer few


class Shapes:
    """The shapes of one matrix's cells."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._naming = Naming(matrix.nodes)
        self._planned: dict[FamilyProbe, list[int]] = {}
        self._opened: dict[FamilyProbe, list[int]] = {}
        self._lost: dict[FamilyProbe, list[int]] = {}
        self._rows: dict[object, Rows] = {}

    def one_way(self, test: FamilyProbe) -> bool:
        """Delivery is the whole test."""
        return self._matrix.probes[test.probe].one_way

    def protocol(self, test: FamilyProbe) -> Protocol:
        """Of its packets."""
        return self._matrix.probes[test.probe].protocol

    def traffic(self, test: FamilyProbe) -> str:
        """Its packets in words."""
        return traffic(self._matrix.probes[test.probe], test.family)

    def planned(self, test: FamilyProbe) -> list[int]:
        """For each source the set of its destinations."""
        if test not in self._planned:
            family = self._matrix.families.index(test.family)
            planned = [outcome is not None for outcome in self._matrix.table]
            self._planned[test] = self._sets(family, test.probe, planned)
        return self._planned[test]

    def rows(self, group: Group) -> Rows:
        """The pairs of one group."""
        key = (group.sources, group.destinations, group.both_ways, group.tests[0])
        if key not in self._rows:
            planned = self.planned(group.tests[0])
            destinations = sum(1 << d for d in group.destinations)
            rows = {s: planned[s] & destinations for s in group.sources}
            if group.both_ways:
                sources = sum(1 << s for s in group.sources)
                for d in group.destinations:
                    rows[d] = rows.get(d, 0) | planned[d] & sources
            self._rows[key] = {s: row for s, row in rows.items() if row}
        return self._rows[key]

    def within(self, few: Group, many: Group) -> bool:
        """All pairs of one are pairs of the other."""
        return _within(self.rows(few), self.rows(many))

    def meet(self, a: Group, b: Group) -> bool:
        """They have a pair in common."""
        rows = self.rows(b)
        return any(row & rows.get(source, 0) for source, row in self.rows(a).items())

    def back_within(self, reply: Group, forward: Group) -> bool:
        """The answers of `reply` travel where the probes of `forward` do."""
        return _within(_reversed(self.rows(reply)), self.rows(forward))

    def turned(self, a: Group, b: Group) -> bool:
        """One is the other's way back, as far as the rest of it is bad as well."""
        back, there = _reversed(self.rows(a)), self.rows(b)
        whole = union([back, there])
        meets = any(row & there.get(source, 0) for source, row in back.items())
        parts = [(rows, test) for rows in (back, there) for test in a.tests]
        return meets and all(self.nearly(rows, whole, test, HALF) for rows, test in parts)

    def travels_within(self, few: Group, many: Group) -> bool:
        """What is lost of `few` is lost on the ways on which something of `many` is."""
        return _within(self._ways(few), self._ways(many))

    def between_the_same(self, a: Group, b: Group) -> bool:
        """All of both travels between the same two subnets, or inside one."""
        ways = {
            frozenset((self.neighbourhood(source), self.neighbourhood(destination)))
            for group in (a, b)
            for source, destination in pairs(self.rows(group))
        }
        return len(ways) == 1

    def _ways(self, group: Group) -> Rows:
        rows = self.rows(group)
        return _reversed(rows) if group.kind.leg is Leg.REPLY else rows

    def _inside(self, few: Group, many: Group) -> bool:
        """Its pairs are some, but not all, of the other's."""
        return self.rows(few) != self.rows(many) and _within(self.rows(few), self.rows(many))

    # --- classes of nodes

    @cached_property
    def _classes(self) -> list[tuple[str, list[int]]]:
        """Ways to divide the nodes: a word for what divides them, and the sets."""
        nodes = self._matrix.nodes
        found = []
        for key in dict.fromkeys(key for node in nodes for key in node.labels):
            values: dict[str, int] = {}
            for position, node in enumerate(nodes):
                if key in node.labels:
                    values[node.labels[key]] = values.get(node.labels[key], 0) | 1 << position
            found.append((key, list(values.values())))
        for family in self._matrix.families:
            for length in _PREFIXES[family]:
                networks: dict[object, int] = {}
                for position, node in enumerate(nodes):
                    address = node.address_in(family)
                    if address is not None:
                        network = ip_network((int(ip_address(address)) >> _bits(family, length)
                                              << _bits(family, length), length))  # fmt: skip
                        networks[network] = networks.get(network, 0) | 1 << position
                found.append((f"/{length} subnet", list(networks.values())))
        return [(word, sets) for word, sets in found if 1 < len(sets) < len(nodes)]

    @cached_property
    def neighbourhoods(self) -> list[int]:
        """Sets of nodes that are likely to be reached by the same routers; each node is in one.

        They are subnets, or what a label tells apart where all nodes are on one subnet.
        """
        classes = [sets for word, sets in self._classes if word.endswith("subnet")]
        classes += [sets for word, sets in self._classes if not word.endswith("subnet")]
        chosen = next((sets for sets in classes if len(sets) <= _NEIGHBOURHOODS), [])
        rest = (1 << len(self._matrix.nodes)) - 1 & ~sum(chosen)
        return [*chosen, rest] if rest else chosen

    def neighbourhood(self, node: int) -> int:
        """Which of them a node is in."""
        return next(i for i, nodes in enumerate(self.neighbourhoods) if nodes >> node & 1)

    def ways(self, group: Group) -> set[tuple[int, int]]:
        """The neighbourhoods from which and to which its cells are."""
        near = {node: self.neighbourhood(node) for node in {*group.sources, *group.destinations}}
        return {(near[s], near[d]) for s, row in self.rows(group).items() for d in members(row)}

    def partition(self, groups: Sequence[Group]) -> str | None:
        """Words where the groups are all that was planned between, or inside, classes of nodes, but
        for a few cells that are bad for another reason.
        """
        rows = union(self.rows(group) for group in groups)
        test = groups[0].tests[0]
        planned = self.planned(test)
        for word, sets in self._classes:
            own = {node: nodes for nodes in sets for node in members(nodes)}
            every = sum(sets)
            between = {s: planned[s] & every & ~own[s] for s in own}
            if len(sets) >= _BETWEEN and self.nearly(rows, between, test):
                return f"between nodes of unlike {word}"
            if self.nearly(rows, {s: planned[s] & own[s] for s in own}, test):
                return f"between nodes of the same {word}"
            here, there = _sides(rows)
            part = {s: row & there for s, row in between.items() if here >> s & 1}
            cells = sum(row.bit_count() for row in rows.values())
            few = cells <= max(here.bit_count(), there.bit_count())  # pairs, and no shape
            several = len(sets) >= _BETWEEN and not few and here & here - 1 and there & there - 1
            if several and (here, there) != (every, every) and self.nearly(rows, part, test):
                ends = f"{self._naming.name(here)} → {self._naming.name(there)}"
                apart = not any(here & nodes and there & nodes for nodes in sets)
                return ends if apart else f"{ends}, between nodes of unlike {word}"
        return None

    def nearly(self, rows: Rows, whole: Rows, test: FamilyProbe, masked: int = _MASKED) -> bool:
        """Whether these are all cells of the whole, but for one of so many, bad as well."""
        if not _within(rows, whole):
            return False
        rest = {s: row & ~rows.get(s, 0) for s, row in whole.items()}
        left = sum(row.bit_count() for row in rest.values())
        if left * masked > sum(row.bit_count() for row in whole.values()):
            return False
        bad = self._bad(test) if left else []
        return not any(row & ~bad[s] for s, row in rest.items() if row)

    def full_block(self, groups: Sequence[Group]) -> bool:
        """What lies between all their sources and all their destinations is nowhere open."""
        test = groups[0].tests[0]
        rows = union(self.rows(group) for group in groups)
        destinations = 0
        for row in rows.values():
            destinations |= row
        return all(not self._open(test)[s] & destinations & ~row for s, row in rows.items())

    def found_by_others(self, group: Group) -> bool:
        """Whether other probes of the same family are open for each of its pairs."""
        (family, *more) = {test.family for test in group.tests}
        probes = range(len(self._matrix.probes))
        others = [t for t in (FamilyProbe(n, family) for n in probes) if t not in group.tests]
        opened = [self._open(test) for test in others]
        return not more and all(
            not row & ~reduce(or_, (rows[source] for rows in opened), 0)
            for source, row in self.rows(group).items()
        )

    def back_of(self, few: Group, many: Group) -> bool:
        """One is the way back of the other, as far as that is open nowhere."""
        test, there, back = few.tests[0], self.rows(few), _reversed(self.rows(many))
        return _within(there, back) and not any(
            self._open(test)[s] & row & ~there.get(s, 0) for s, row in back.items()
        )

    def _open(self, test: FamilyProbe) -> list[int]:
        """For each source the set of destinations whose cell is open."""
        if test not in self._opened:
            family = self._matrix.families.index(test.family)
            opened = [o is not None and o.verdict is Verdict.OPEN for o in self._matrix.table]
            self._opened[test] = self._sets(family, test.probe, opened)
        return self._opened[test]

    def every(self, group: Group, wanted: Callable[[Outcome], bool]) -> bool:
        """Whether the outcome of each of its cells is wanted."""
        known = [outcome is not None and wanted(outcome) for outcome in self._matrix.table]
        rows = self.rows(group)
        for test in group.tests:
            sets = self._sets(self._matrix.families.index(test.family), test.probe, known)
            if any(row & ~sets[source] for source, row in rows.items()):
                return False
        return True

    def _bad(self, test: FamilyProbe) -> list[int]:
        """For each source the set of destinations whose cell is known to lose packets."""
        if test not in self._lost:
            family = self._matrix.families.index(test.family)
            lost = [o is not None and o.verdict in _LOST for o in self._matrix.table]
            self._lost[test] = self._sets(family, test.probe, lost)
        return self._lost[test]

    def _sets(self, family: int, probe: int, wanted: Sequence[bool]) -> list[int]:
        """For each source the set of destinations whose outcome's number is wanted."""
        bits = [ord("1" if number else "0") for number in wanted]
        return [int(row[::-1], 2) for row in self._matrix.rows(family, probe, bits)]

    # --- words

    def where(self, groups: Sequence[Group]) -> str:
        """All pairs of the groups, in the fewest words."""
        own = [g for g in groups if not any(self._inside(g, other) for other in groups)]
        names = _there_and_back(list(dict.fromkeys(group.where for group in own or groups)))
        if len(names) == 1:
            return names[0]
        alike = [g for g in groups if g.kind.leg == groups[0].kind.leg]
        if len(alike) == len(groups):
            words = self._block(groups) or self.partition(groups)
            if words:
                return words
        anew = self._anew(groups)
        if len(anew) < len(names):
            names = anew
        more = len(names) - _LISTED
        return "; ".join(names[:_LISTED]) + (f"; and {more} blocks more" if more > 0 else "")

    def _block(self, groups: Sequence[Group]) -> str | None:
        """Words where the groups are all that was planned from some nodes to some, or also back."""
        rows = union(self.rows(group) for group in groups)
        planned = self.planned(groups[0].tests[0])
        here, there = _sides(rows)
        if rows == _clean({s: planned[s] & there for s in members(here)}):
            return self.way(here, there)
        far = rows[min(rows)]
        near = rows.get(next(members(far)), 0)
        back = {s: planned[s] & (far if near >> s & 1 else near) for s in members(near | far)}
        if not near & far and rows == _clean(back):
            return f"{self._naming.name(near)} ↔ {self._naming.name(far)}"
        return None

    def _anew(self, groups: Sequence[Group]) -> list[str]:
        """Words for each block of all their pairs, whichever kinds these are of."""
        test = groups[0].tests[0]
        rows = union(self.rows(group) for group in groups)
        found = blocks(self._naming, [layer(test, self.planned(test), {None: rows})])
        return _there_and_back([block_in_words(self._naming, block) for block in found])

    def way(self, sources: int, destinations: int) -> str:
        """Words for all pairs from some nodes to some."""
        if sources == destinations:
            name = self._naming.name(sources)
            return f"among {name} nodes" if name == "all" else f"within {name}"
        # One node has no cell to itself: to name it on both sides claims nothing.
        alone = [nodes if nodes.bit_count() == 1 else 0 for nodes in (destinations, sources)]
        sides = (sources & ~alone[0] or sources, destinations & ~alone[1] or destinations)
        return " → ".join(map(self._naming.name, sides, alone))

    def inside(self, group: Group) -> bool:
        """Each of its pairs is in one class of nodes, by the first way to divide them."""
        _, sets = next(iter(self._classes), ("", []))
        return bool(sets) and all(
            any(nodes >> source & 1 and not row & ~nodes for nodes in sets)
            for source, row in self.rows(group).items()
        )

    def name(self, nodes: Iterable[int]) -> str:
        """Words for a set of nodes."""
        return self._naming.name(sum(1 << n for n in set(nodes)))

    def each(self, nodes: Iterable[int]) -> str:
        """The name of each, neighbours by number as a range."""
        return self._naming.whole(sum(1 << n for n in set(nodes)))


def _there_and_back(names: Sequence[str]) -> list[str]:
    """`a → b` and `b → a` as one."""
    out: dict[str, None] = {}
    for name in names:
        source, arrow, destination = name.partition(" → ")
        back = f"{destination}{arrow}{source}"
        if arrow and back in names:
            classes = "=" in source and "=" in destination  # in order, whichever came first
            first = min(name, back) if classes else min(name, back, key=names.index)
            out.setdefault(first.replace(arrow, " ↔ "))
        else:
            out.setdefault(name)
    return list(out)


def union(parts: Iterable[Mapping[int, int]]) -> Rows:
    """All pairs of some sets of pairs."""
    rows: Rows = {}
    for part in parts:
        for source, row in part.items():
            rows[source] = rows.get(source, 0) | row
    return rows


def pairs(rows: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Each pair once."""
    for source, row in sorted(rows.items()):
        for destination in members(row):
            yield source, destination


def _sides(rows: Mapping[int, int]) -> tuple[int, int]:
    """All sources and all destinations."""
    here = there = 0
    for source, row in rows.items():
        here |= 1 << source
        there |= row
    return here, there


def _reversed(rows: Mapping[int, int]) -> Rows:
    out: Rows = {}
    for source, destination in pairs(rows):
        out[destination] = out.get(destination, 0) | 1 << source
    return out


def _within(few: Mapping[int, int], many: Mapping[int, int]) -> bool:
    return all(not row & ~many.get(source, 0) for source, row in few.items())


def _clean(rows: Mapping[int, int]) -> Rows:
    return {source: row for source, row in rows.items() if row}


def _bits(family: Family, length: int) -> int:
    return (32 if family is Family.IPV4 else 128) - length
