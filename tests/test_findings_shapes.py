"""Words for blocks of cells."""

import pytest
from samples import DROPPED_ON_PATH, LOSSY, NO_AGENT, Fault, sample

from preflight.core.findings.build import findings
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import groups


@pytest.mark.parametrize(
    ("sources", "destinations", "words"),
    [
        (0b1001, 0b1000, "n1 → n4"),
        (0b1000, 0b1001, "n4 → n1"),
        (0b1111, 0b1000, "all → n4"),
        (0b1000, 0b1111, "n4 → all"),
        (0b1001, 0b1010, "n1, n4 → n2, n4"),
    ],
)
def test_a_node_is_not_named_as_its_own_peer(sources: int, destinations: int, words: str) -> None:
    assert Shapes(sample(4).matrix).way(sources, destinations) == words


def test_cells_of_two_kinds_are_told_as_the_blocks_that_they_are() -> None:
    matrix = sample(6, 3, [
        Fault(NO_AGENT, "n5", "n1,n2,n3,n4,n6"),
        Fault(NO_AGENT, "n1,n3,n4", "n5"),
        Fault(DROPPED_ON_PATH, "n6", "n5"),
    ]).matrix  # fmt: skip
    assert Shapes(matrix).where(groups(matrix)) == "n5 → all; all except n2 → n5"


def test_what_goes_from_some_racks_to_another_needs_no_word_of_racks() -> None:
    """One cell of the block is bad for another reason."""
    matrix = sample(12, 4, [
        Fault(LOSSY, "rack=a", "rack=d"),
        Fault(LOSSY, "rack=b", "rack=d"),
        Fault(LOSSY, "rack=c", "rack=d"),
        Fault(DROPPED_ON_PATH, "n1", "n12"),
    ]).matrix  # fmt: skip
    lossy = [group for group in groups(matrix) if group.kind.verdict is LOSSY.verdict]
    assert len(lossy) > 1
    assert Shapes(matrix).where(lossy) == "rack=a,b,c → rack=d"


def test_two_pairs_are_not_told_by_racks() -> None:
    """n2 → n5 and n6 → n1 are all that goes between two nodes' and two others' racks, by chance."""
    matrix = sample(6, 3, [
        Fault(DROPPED_ON_PATH, "n2", "n5", "geneve"), Fault(DROPPED_ON_PATH, "n6", "n1", "geneve")
    ]).matrix  # fmt: skip
    assert Shapes(matrix).where(groups(matrix)) == "n6 → n1; n2 → n5"
    assert len(findings(matrix, groups(matrix))) == 2
