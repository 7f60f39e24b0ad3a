"""Evidence: each thing once, and with its pair where pairs differ."""

from __future__ import annotations

from samples import DROPPED_AT_DESTINATION, DROPPED_ON_PATH, LOSSY, Fault, sample

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern, Flows, Path, Router
from preflight.core.findings.atoms import Looked
from preflight.core.findings.evidence import evidence
from preflight.core.groups import FamilyProbe, groups
from preflight.core.model import Family

GENEVE, HEALTH, ECHO = (FamilyProbe(probe, Family.IPV4) for probe in range(3))
ROUTER = (Router(1, "198.18.1.1"),)
KNOWN, NOT_KNOWN = Path(ROUTER, 2, 1, False), Path(ROUTER, 2, None, False)


def test_where_it_falls_silent_is_told_once_of_a_pair() -> None:
    matrix = sample(6, 3, [Fault(DROPPED_ON_PATH, "rack=a", "rack=c", "geneve,echo")]).matrix
    looks = [
        Looked(0, 4, Diagnosis(path=KNOWN), GENEVE),
        Looked(0, 4, Diagnosis(path=NOT_KNOWN), ECHO),
        Looked(1, 4, Diagnosis(path=NOT_KNOWN._replace(routers=(Router(1, "10.9.9.1"),))), ECHO),
    ]
    told = [s for s in evidence(matrix, groups(matrix), looks) if "from hop 2 on" in s]
    assert told == [
        "n1 → n5: nothing answers from hop 2 on, which would be the destination itself",
        "n2 → n5: nothing answers from hop 2 on",
    ]


def test_shares_of_unlike_pairs_are_told_with_them() -> None:
    matrix = sample(6, 3, [Fault(LOSSY, "*", "n5", "geneve")]).matrix
    even = Flows(FlowPattern.LIMITED, 36, (), 115, 154)
    looks = [
        Looked(0, 4, Diagnosis(flows=even), GENEVE),
        Looked(
            2, 4, Diagnosis(flows=even._replace(pattern=FlowPattern.RANDOM, passed=113)), GENEVE
        ),
    ]
    told = [s for s in evidence(matrix, groups(matrix), looks) if "of 154" in s]
    assert told == [
        "n1 → n5: 115 of 154 packets over 36 source ports passed: lost ones come at even distances",
        "n3 → n5: 113 of 154 packets over 36 source ports passed; the loss hits all flows alike",
    ]
    alone = evidence(matrix, groups(matrix), looks[:1])
    assert alone[0].startswith("115 of 154 packets")


def test_one_example_stands_for_cells_of_one_kind() -> None:
    matrix = sample(4, 2, [Fault(DROPPED_AT_DESTINATION, "*", "n3", "geneve")]).matrix
    told = evidence(matrix, groups(matrix), [])
    assert told == ["geneve n1 → n3: sent 20, left 20, arrived 20, accepted 0"]
