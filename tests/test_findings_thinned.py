"""What lost all in one look and some in the next: nothing shuts it."""

from __future__ import annotations

from samples import DROPPED_ON_PATH, LOSSY, Fault, sample

from preflight.core.diagnosis.conclusions import Diagnosis, Passing
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.model import Cause, Finding
from preflight.core.groups import groups
from preflight.core.matrix import Matrix

FAULTS = [
    Fault(LOSSY, "rack=a", "rack=c", "geneve,health"),
    Fault(DROPPED_ON_PATH, "n1", "n6", "geneve"),
]


def made(matrix: Matrix, passed: int) -> list[Finding]:
    look = Looked(0, 5, Diagnosis(passing=Passing(passed, 154)))
    bad = groups(matrix)
    at = next(i for i, group in enumerate(bad) if group.kind == (*DROPPED_ON_PATH[:5],))
    return findings(matrix, bad, {at: [look]})


def test_what_is_thinned_is_one_loss_and_nobody_is_asked_to_allow_it() -> None:
    (one,) = made(sample(6, 3, FAULTS).matrix, 7)
    assert one.cause is Cause.LOSS
    assert one.title == "rack=a → rack=c: some UDP 6081 and TCP 4240 are lost"
    assert (one.cells, one.requests) == (8, ())
    assert "a limit on packets or on new connections" in one.advice
    assert "n1 → n6: nothing got through at first, and then 7 of 154" in one.evidence


def test_what_stays_shut_is_a_block_beside_a_loss() -> None:
    for passed in (0, 154):
        block, _ = made(sample(6, 3, FAULTS).matrix, passed)
        assert (block.where, block.cause) == ("n1 → n6", Cause.NETWORK)
