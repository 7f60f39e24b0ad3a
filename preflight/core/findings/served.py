"""What answers on a port that is Cilium's: for findings about who serves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from preflight.core.findings.model import Cause
from preflight.core.groups import Group, Kind
from preflight.core.hello import in_words
from preflight.core.matrix import Matrix
from preflight.core.model import Hello, ProbeKind
from preflight.core.naming import Naming
from preflight.core.terms import listed, plural

ITS_ANSWER_TOLD = (Cause.NOT_CILIUM, Cause.NOT_ANSWERING, Cause.NO_AGENT)
WITH_HELLO = (*ITS_ANSWER_TOLD, Cause.DATA)
_SHOWN = 6

Answer = tuple[Hello, tuple[int, ...]]  # and the destinations that answer so


def answers(matrix: Matrix, groups: Sequence[Group]) -> Iterator[Answer]:
    """The unlike answers that these cells were given, in the order of their nodes."""
    kinds = {group.kind for group in groups}
    told = {
        number: outcome.hello
        for number, outcome in enumerate(matrix.table)
        if outcome is not None and outcome.hello is not None and Kind(*outcome[:5]) in kinds
    }
    found: dict[Hello, dict[int, None]] = {}
    for group in groups if told else ():
        for probe, family in group.tests:
            if matrix.probes[probe].kind is not ProbeKind.HEALTH:
                continue
            f = matrix.families.index(family)
            for source in group.sources:
                row = matrix.numbers(f, probe, source)
                for destination in group.destinations:
                    hello = told.get(row[destination])
                    if hello is not None:
                        found.setdefault(hello, {})[destination] = None
    for hello, nodes in sorted(found.items(), key=lambda item: min(item[1])):
        yield hello, tuple(nodes)


def told(matrix: Matrix, found: Sequence[Answer]) -> Iterator[str]:
    """A sentence for each of them."""
    naming = Naming(matrix.nodes)
    for hello, nodes in found[:_SHOWN]:
        who = naming.name(sum(1 << n for n in nodes))
        holder = f"; {hello.holder} has the port" if hello.holder else ""
        yield f"{who}: GET /hello: {in_words(hello)}{holder}"
    if len(found) > _SHOWN:
        rest = [matrix.nodes[n].name for _, nodes in found[_SHOWN:] for n in nodes]
        more = f" and {plural(len(rest) - _SHOWN, 'node')} more" if len(rest) > _SHOWN else ""
        yield f"likewise {listed(rest[:_SHOWN])}{more}"


def heard_from(matrix: Matrix) -> set[int]:
    """The destinations whose port has answered a `GET /hello`, whatever."""
    asked = [outcome is not None and outcome.hello is not None for outcome in matrix.table]
    return {
        destination
        for f in range(len(matrix.families))
        for p, probe in enumerate(matrix.probes)
        if probe.kind is ProbeKind.HEALTH
        for source in range(len(matrix.nodes))
        for destination, number in enumerate(matrix.numbers(f, p, source))
        if asked[number]
    }
