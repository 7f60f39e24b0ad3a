"""What stands on the page without any script: findings, nodes, notes, and the cells as a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from preflight.core.findings.model import Finding
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import AgentState, Severity
from preflight.core.naming import Naming
from preflight.core.snapshot import Snapshot
from preflight.core.terms import plural
from preflight.report import words
from preflight.report.causes import tell_causes
from preflight.report.findings import Room, style, tell_finding
from preflight.report.html.markup import element, text
from preflight.report.html.paper import Page

_OPEN = 12  # findings that stand open, the rest is folded
_LISTED = 1000  # groups in the list of cells
_MANY = 10**9
_ALL = Room(_MANY, _MANY, _MANY, _MANY)


def findings(snapshot: Snapshot, found: Sequence[Group]) -> str:
    """All of them, as articles; of a file without findings its causes, from its groups."""
    if snapshot.findings:
        return fold([article(finding, snapshot.matrix) for finding in snapshot.findings])
    page = Page()
    tell_causes(page, snapshot.matrix, found, headed=False)
    return "".join(page.parts())


def article(
    finding: Finding,
    matrix: Matrix,
    *,
    mark: str = "",
    prefix: str = "",
    side: int = 0,
    more: str = "",
) -> str:
    """One finding, with `mark` behind its identifier and `more` markup at its end.

    `prefix` keeps its id apart from that of another run's, `side` says whose it is.
    """
    page = Page()
    told = finding._replace(identifier=f"{finding.identifier} {mark}".strip())
    tell_finding(page, told, matrix, _ALL)
    return element(
        "article",
        page.markup() + more,
        f"finding {style(finding)}",
        id=f"{prefix}{finding.identifier}",
        data_finding=finding.identifier,
        data_side=str(side),
    )


def fold(articles: Sequence[str]) -> str:
    """Very many of them: the last behind a line that says how many."""
    shown, rest = articles[:_OPEN], articles[_OPEN:]
    if not rest:
        return "".join(shown)
    more = element("summary", text(f"{plural(len(rest), 'finding')} more"))
    return "".join(shown) + element("details", more + "".join(rest), "more")


def unusable(snapshot: Snapshot) -> str:
    """Nodes without an agent; those that share state and reason share a row."""
    alike: dict[tuple[AgentState, str], int] = {}
    for position, agent in enumerate(snapshot.agents):
        if agent.state is not AgentState.OK:
            key = (agent.state, agent.reason or "")
            alike[key] = alike.get(key, 0) | 1 << position
    naming = Naming(snapshot.matrix.nodes)
    rows = (
        (naming.whole(nodes), words.STATES[state], reason)
        for (state, reason), nodes in alike.items()
    )
    return table(("Nodes", "Agent", "Reason"), rows) if alike else ""


def notes(told: Sequence[str]) -> str:
    """What the reader of the run must know."""
    return element("ul", "".join(element("li", text(note)) for note in told)) if told else ""


def cell_list(matrix: Matrix, found: Sequence[Group]) -> str:
    """Every cell that is not open, alike ones as one row."""
    if not found:
        return ""
    rest = found[_LISTED:]
    told = table(
        ("Probes", "From and to", "Pairs", "What", "Seen of one of them"),
        (_row(group, matrix) for group in found[:_LISTED]),
        numbers=(2,),
    )
    if rest:
        cells = sum(group.cells for group in rest)
        more = f"and {plural(len(rest), 'group')} more with {plural(cells, 'cell')}: the matrix "
        told += element("p", text(more + "above has them, and so has --format json."))
    return told


def _row(group: Group, matrix: Matrix) -> tuple[str, ...]:
    tests = words.tests_in_words(group.tests, matrix)
    required = "" if group.severity is Severity.REQUIRED else " (recommended)"
    return (
        f"{tests}{required}",
        group.where,
        f"{group.pairs:,}",
        words.headline(group.kind, words.rejecter(group.kind, matrix, group.sample.outcome)),
        words.evidence(group.sample.outcome.evidence),
    )


def node_list(snapshot: Snapshot) -> str:
    """Every node with what is known of it."""
    rows = (
        (
            node.name,
            ", ".join(node.addresses),
            ", ".join(f"{key}={value}" for key, value in node.labels.items()),
            words.STATES[agent.state],
            agent.kernel or "",
        )
        for node, agent in zip(snapshot.matrix.nodes, snapshot.agents, strict=True)
    )
    return table(("Node", "Addresses", "Labels", "Agent", "Kernel"), rows)


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()
) -> str:
    """Rows under heads; the first column names its row, those in `numbers` hold numbers."""
    head = "".join(element("th", text(name), scope="col") for name in heads)
    body = "".join(
        "<tr>"
        + "".join(
            element("td", text(cell), "number" if column in numbers else "")
            if column
            else element("th", text(cell), scope="row")
            for column, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return element("div", whole, "scroll", tabindex="0", role="region", aria_label=heads[0])
