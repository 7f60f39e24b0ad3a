"""Words for blocks of cells."""

import pytest
from samples import sample

from preflight.core.findings.shapes import Shapes


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
