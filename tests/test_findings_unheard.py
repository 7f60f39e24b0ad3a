"""A router that one look does not hear is not called silent where another hears it."""

from __future__ import annotations

import pytest
from samples import DROPPED_ON_PATH, Fault, sample

from preflight.core.diagnosis.conclusions import Diagnosis, Path, Router
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.model import Finding
from preflight.core.groups import groups

SILENT = Path((), None, 1, on_link=False)
OTHERS = "routers send few such errors at a time"


def two(source: str, heard: Path) -> list[Finding]:
    """n1 → n6, behind which no router was heard, and `source` → n4 over TCP, where `heard` was."""
    faults = [Fault(DROPPED_ON_PATH, "n1", "n6", "geneve")]
    faults.append(Fault(DROPPED_ON_PATH, source, "n4", "health"))
    matrix = sample(6, 3, faults).matrix
    bad = groups(matrix)
    looks = {
        i: [Looked(g.sample.source, g.sample.destination,
                   Diagnosis(path=SILENT if g.destinations == (5,) else heard), g.tests[0])]
        for i, g in enumerate(bad)
    }  # fmt: skip
    return findings(matrix, bad, looks)


def test_the_first_router_that_another_flow_of_the_node_met_is_named() -> None:
    (silent,) = [f for f in two("n1", Path((Router(1, "10.9.1.1"),), 2, 1, on_link=False))
                 if f.where == "n1 → n6"]  # fmt: skip
    (told,) = [line for line in silent.evidence if "when a TTL ran out" in line]
    assert told.endswith(f"; 10.9.1.1 answered for other packets of n1: {OTHERS}")


@pytest.mark.parametrize(
    ("source", "heard"),
    [
        ("n2", Path((Router(1, "10.9.1.1"),), 2, 1, on_link=False)),  # another node's
        ("n1", Path((Router(1, "10.9.1.1"),), 2, 1, on_link=False, back=True)),
        ("n1", Path((Router(2, "10.9.1.1"),), 3, 2, on_link=False)),  # not before all it sends
        ("n1", SILENT),
    ],
)
def test_no_other_router_is(source: str, heard: Path) -> None:
    assert not any(OTHERS in line for f in two(source, heard) for line in f.evidence)
