"""Findings in a terminal: what is wrong and where, what proves it, and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import NamedTuple

from preflight.core.findings.claims import cells_of
from preflight.core.findings.extents import alike
from preflight.core.findings.model import Cause, Change, Finding, Request
from preflight.core.findings.shapes import Shapes, union
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Protocol, Severity
from preflight.core.naming import Naming
from preflight.core.snapshot import Snapshot
from preflight.core.terms import listed, plural, traffics
from preflight.report import words
from preflight.report.writing import Writer

_TOLD = 24  # findings in full; what is left is counted
_UNKNOWN = (Cause.NO_AGENT, Cause.NOT_WATCHED, Cause.INTERRUPTED)
_ALL = "--format json has all"
_RULES = (
    "preflight rules SNAPSHOT prints what to ask the network team for as a rule request (text, "
    "CSV or JSON); check --output saves the SNAPSHOT."
)


class Room(NamedTuple):
    """How much of one finding is told; what is left is counted."""

    evidence: int = 5  # sentences
    changes: int = 6  # unlike ones
    requests: int = 4
    networks: int = 4  # of one request


_FEW = Room()


def tell_findings(paper: Writer, snapshot: Snapshot) -> None:
    """Every finding, the last of very many as a number."""
    paper.sentence(("Findings", "head"))
    paper.gap()
    for finding in snapshot.findings[:_TOLD]:
        tell_finding(paper, finding, snapshot.matrix)
        paper.gap()
    left = snapshot.findings[_TOLD:]
    if left:
        cells = sum(finding.cells for finding in left)
        paper.sentence(
            f"and {plural(len(left), 'finding')} more, {plural(cells, 'cell')}: {_ALL}", indent=2
        )
        paper.gap()
    if any(finding.requests for finding in snapshot.findings):
        paper.sentence((_RULES, "dim"))
        paper.gap()


def tell_finding(paper: Writer, finding: Finding, matrix: Matrix, room: Room = _FEW) -> None:
    """One finding: its title, the cells, the evidence, the change, and what is not known."""
    look = style(finding)
    paper.item((finding.identifier, look), (str(finding.severity), look), (finding.title, look))
    _where(paper, finding, matrix)
    for sentence in finding.evidence[: room.evidence]:
        paper.bullet(sentence, indent=4)
    _changes(paper, [change for change in finding.changes if change.node], matrix, room.changes)
    if finding.advice:
        paper.sentence(finding.advice, indent=4)
    _changes(paper, [change for change in finding.changes if not change.node], matrix, room.changes)
    _requests(paper, finding.requests, room)
    if not (finding.changes or finding.requests or finding.advice):
        _remedy(paper, finding, matrix)
    for sentence in finding.unknown:
        paper.sentence(("Not known: ", "dim"), sentence, indent=4)


def style(finding: Finding) -> str:
    """The style of a title."""
    if finding.cause in _UNKNOWN:
        return "unknown"
    return "bad" if finding.severity is Severity.REQUIRED else "warn"


def _where(paper: Writer, finding: Finding, matrix: Matrix) -> None:
    """The pairs, in words only where the title does not say them."""
    if not finding.pairs:
        return
    count = _count(finding, matrix)
    if finding.where and not finding.title.startswith(f"{finding.where}:"):
        paper.sentence((finding.where, "head"), f"  {count}", indent=4)
    else:
        paper.sentence(count, indent=4)


def _count(finding: Finding, matrix: Matrix) -> str:
    """`3 pairs: geneve, health`; where theirs differ, `1 pair: geneve; 2 pairs: health`."""
    if not finding.tests:
        return plural(finding.pairs, "pair")
    if len({block.tests for block in finding.blocks}) < 2:
        return f"{plural(finding.pairs, 'pair')}: {words.tests_in_words(finding.tests, matrix)}"
    shapes = Shapes(matrix)
    cells = cells_of(shapes, finding)
    own = {test: cells.get(test, {}) for test in finding.tests}
    counts = []
    for tests in alike(shapes, own):
        pairs = sum(row.bit_count() for row in union(own[test] for test in tests).values())
        counts.append(f"{plural(pairs, 'pair')}: {words.tests_in_words(tests, matrix)}")
    return "; ".join(counts)


def _changes(paper: Writer, changes: Sequence[Change], matrix: Matrix, most: int) -> None:
    """Each change once, with all nodes that need it, and how to make several last once."""
    alike: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for change in changes:
        alike.setdefault((change.tool, change.commands, change.persist), []).append(change.node)
    shown = islice(alike.items(), most)
    for persist, same in groupby(shown, key=lambda entry: entry[0][2]):
        for (tool, commands, _), nodes in same:
            on = _named(nodes, matrix)
            if commands:
                paper.sentence(f"On {on}, as root:" if on else f"With {tool}:", indent=4)
            for command in commands:
                paper.command(command, indent=6)
        _persist(paper, persist)
    left = len(alike) - most
    if left > 0:
        paper.sentence(f"and {plural(left, 'change')} more on other nodes: {_ALL}", indent=4)


def _persist(paper: Writer, persist: Sequence[str]) -> None:
    """Commands as they are; a sentence is known by its full stop."""
    for is_sentence, texts in groupby(persist, key=lambda text: text.endswith(".")):
        if not is_sentence:
            paper.sentence("To make it last:", indent=4)
        for text in texts:
            if is_sentence:
                paper.sentence(text, indent=4)
            else:
                paper.command(text, indent=6)


def _named(nodes: Iterable[str], matrix: Matrix) -> str:
    positions = {node.name: i for i, node in enumerate(matrix.nodes)}
    known = sum({1 << positions[node] for node in nodes if node in positions})
    return Naming(matrix.nodes).whole(known) if known else ""


def _requests(paper: Writer, requests: Sequence[Request], room: Room) -> None:
    """Traffic that is to be allowed between the same networks is asked for together."""
    ways: dict[str, list[Request]] = {}
    for request in requests:
        ways.setdefault(_traffic(request), []).append(request)
    alike: dict[tuple[str, ...], list[str]] = {}
    for what, own in ways.items():
        rows = (
            f"{_few(r.sources, room.networks)} → {_few(r.destinations, room.networks)}" for r in own
        )
        alike.setdefault(tuple(dict.fromkeys(rows)), []).append(what)
    ends_of = [(tuple(r.sources), tuple(r.destinations)) for r in requests]
    both = any(way[::-1] in ends_of for way in ends_of)
    for ends, traffic in alike.items():
        each = ", each direction by a rule of its own" if both and len(ends) > 1 else ""
        paper.sentence(f"Ask the network team to allow {listed(traffic)}{each}:", indent=4)
        for text in ends[: room.requests]:
            paper.sentence(text, indent=6)
        if len(ends) > room.requests:
            paper.sentence(f"and {len(ends) - room.requests} more", indent=6)


def _traffic(request: Request) -> str:
    if request.protocol is Protocol.ICMP:
        return "ICMPv6 echo" if request.family == Family.IPV6 else "ICMP echo"
    ports = f" (source ports: {request.source_ports})" if request.source_ports else ""
    return f"{request.protocol.upper()} {request.port}{ports}"


def _few(networks: Sequence[str], most: int) -> str:
    more = len(networks) - most
    return ", ".join(_shown(networks[:most])) + (f" and {more} more" if more > 0 else "")


def _shown(networks: Sequence[str]) -> Iterator[str]:
    """Without the prefix length that says that it is one address."""
    for network in networks:
        address, _, length = network.partition("/")
        yield address if length == ("128" if ":" in address else "32") else network


def _remedy(paper: Writer, finding: Finding, matrix: Matrix) -> None:
    """What such a cell means and asks for, where nothing better is known."""
    if finding.kinds and finding.tests:
        kind = finding.kinds[0]
        text = words.remedy(
            kind, traffics(finding.tests, matrix.probes), words.rejecter(kind, matrix)
        )
        if text:
            paper.sentence(text, indent=4)
