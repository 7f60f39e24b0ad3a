"""Asks agents what their nodes' own tables say of the run's addresses."""

from collections.abc import Mapping
from typing import Any

from preflight.core.findings.claims import Claims
from preflight.core.findings.proven import Proof, prove
from preflight.core.matrix import Matrix
from preflight.core.tables import Tables, questions, read
from preflight.crew.chorus import Chorus
from preflight.transport import bundle

_NUMBER = -2  # no look has it, nor have facts
_LIMIT_S = 5.0

Astray = Mapping[int, set[tuple[int, str]]]


def ask(chorus: Chorus, matrix: Matrix, astray: Astray, limit_s: float = _LIMIT_S) -> Proof:
    """What these prove. A node that is late, or makes no sense, has said nothing."""
    claims = Claims(matrix)
    tables: dict[int, Tables] = {}

    def keep(node: int, frame: Mapping[str, Any]) -> None:
        tables[node] = read(frame, matrix.nodes)

    asked = set(chorus.alive)
    chorus.broadcast(asked, bundle.links())
    frames = {
        node: {"t": "links", "number": _NUMBER, **members}
        for node, members in questions(matrix, list(claims.ways.values()), asked).items()
    }
    chorus.ask(frames, "links", _NUMBER, limit_s, keep)
    return prove(claims, tables, astray)
