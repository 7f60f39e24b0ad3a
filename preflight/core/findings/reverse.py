"""Rules that let in only what their node would answer by the same device, where it is a route of
the node's own that forbids such answers or leads them elsewhere.

The rule does its duty: what it drops belongs to the finding about the route, and once that is
mended it drops nothing of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.core.diagnosis.trial import RuleHit
from preflight.core.findings.blame import rules
from preflight.core.findings.claims import Cells, cells_of, extent
from preflight.core.findings.made import Made
from preflight.core.findings.model import Cause, Finding
from preflight.core.findings.shapes import Rows, Shapes, union
from preflight.core.groups import groups
from preflight.core.matrix import Matrix
from preflight.core.model import Family
from preflight.core.terms import listed

# `fib saddr . mark . iif oif missing drop`, older nft's `oif 0`; `-m rpfilter --invert -j DROP`
_REVERSE = re.compile(r"\bfib saddr\b.* oif(name)? (missing|0|\"\")|-m rpfilter\b.*--invert\b")
_ROUTES = (Cause.ROUTE, Cause.ADDRESS)


def by_routes(
    matrix: Matrix,
    shapes: Shapes,
    proven: Sequence[Finding],
    found: Sequence[Made],
) -> list[Finding]:
    """All findings, those about such rules as parts of those that `proven` tells of routes."""
    routes = {i: _ways(shapes, f) for i, f in enumerate(proven) if f.cause in _ROUTES}
    out = list(proven)
    rest: list[Finding] = []
    for finding, diagnoses in found:
        hits = list(rules(diagnoses))
        owners = _owners(shapes, finding, hits, proven, routes)
        for i, cells in owners.items():
            out[i] = _with(matrix, shapes, out[i], finding, cells, len(hits))
        if not owners:
            rest.append(finding)
    return [*out, *rest]


def is_reverse(hit: RuleHit) -> bool:
    """Whether the rule asks for the way back to the sender."""
    return _REVERSE.search(hit.rule.text) is not None


def _owners(
    shapes: Shapes,
    finding: Finding,
    hits: Sequence[RuleHit],
    proven: Sequence[Finding],
    routes: dict[int, dict[Family, Rows]],
) -> dict[int, Cells]:
    """The findings about routes that a finding's cells are due to; none unless all of them are."""
    if finding.cause is not Cause.RULE or not hits or not all(map(is_reverse, hits)):
        return {}
    nodes = {hit.node for hit in hits}
    out: dict[int, Cells] = {}
    for test, rows in cells_of(shapes, finding).items():
        for source, row in rows.items():
            left = row
            for i, ways in routes.items():
                back = ways.get(test.family, {})
                mine = sum(
                    1 << d
                    for d in nodes & set(proven[i].nodes)
                    if left >> d & 1 and back.get(d, 0) >> source & 1
                )
                if mine:
                    own = out.setdefault(i, {}).setdefault(test, {})
                    own[source] = own.get(source, 0) | mine
                    left &= ~mine
            if left:
                return {}
    return out


def _with(
    matrix: Matrix, shapes: Shapes, route: Finding, rule: Finding, cells: Cells, named: int
) -> Finding:
    """`named` is how many sentences of the other's evidence name them."""
    own = cells_of(shapes, route)
    every = {test: union([own.get(test, {}), cells.get(test, {})]) for test in {*own, *cells}}
    parts = groups(matrix, lambda test, source: every.get(test, {}).get(source, 0))
    who = listed(matrix.nodes[n].name for n in route.nodes)
    duty = (
        f"such a rule lets in only what {who} would answer by the same device: it does its "
        "duty, and needs no change"
    )
    told = (*rule.evidence[:named], duty, *rule.evidence[named:])
    return extent(shapes, parts, route)._replace(
        evidence=tuple(dict.fromkeys((*route.evidence, *told)))
    )


def _ways(shapes: Shapes, finding: Finding) -> dict[Family, Rows]:
    """Its pairs, by family."""
    out: dict[Family, Rows] = {}
    for test, rows in cells_of(shapes, finding).items():
        out[test.family] = union([out.get(test.family, {}), rows])
    return out
