"""What the path changes: from what left its source and what arrived, shot by shot."""

from typing import Any

from cells import CALM
from hypothesis import given
from trials import DESTINATION, SOURCE, observed, passage, planned, wild_observed

from preflight.core.diagnosis.conclusions import Rewrite, RewrittenField
from preflight.core.diagnosis.rewrites import foreign_sources, rewrites
from preflight.core.diagnosis.trial import Observed

OUTSIDE = "203.0.113.7"


def seen(*arrived: dict[str, Any], left: dict[str, Any] | None = None) -> Observed:
    """As many shots as changes are given; each arrived with those."""
    shots = planned()[-len(arrived) :]
    out = observed(shots, lambda *_: True)
    begin = [passage(shot, **(left or {})) for shot in shots]
    out.passages["left"] = dict(enumerate(begin))
    out.passages["arrived"] = {
        i: begin[i]._replace(ttl=61, **changes) for i, changes in enumerate(arrived)
    }
    return out


class TestRewrites:
    def test_a_shorter_ttl_is_none(self) -> None:
        assert rewrites(seen({}, {})) == ()

    def test_every_field(self) -> None:
        changed = {
            "source": OUTSIDE,
            "source_port": 1025,
            "destination": "198.18.3.3",
            "port": 6085,
            "tos": 0xB8,
            "dont_fragment": True,
        }
        one = seen(changed, left={"source_port": 40000, "port": 6081})
        assert rewrites(one) == (
            Rewrite(RewrittenField.SOURCE, SOURCE, OUTSIDE),
            Rewrite(RewrittenField.SOURCE_PORT, "40000", "1025"),
            Rewrite(RewrittenField.DESTINATION, DESTINATION, "198.18.3.3"),
            Rewrite(RewrittenField.PORT, "6081", "6085"),
            Rewrite(RewrittenField.TOS, "0x00", "0xb8"),
            Rewrite(RewrittenField.DONT_FRAGMENT, "not set", "set"),
        )

    def test_one_address_in_every_packet(self) -> None:
        assert rewrites(seen(*[{"source": OUTSIDE}] * 4)) == (
            Rewrite(RewrittenField.SOURCE, SOURCE, OUTSIDE),
        )

    def test_how_often_where_not_always(self) -> None:
        (found,) = rewrites(seen({"tos": 8}, {}, {"tos": 8}))
        assert found == Rewrite(RewrittenField.TOS, "0x00", "0x08 in 2 of 3 packets")

    def test_a_pool_is_told_by_its_most_frequent(self) -> None:
        pool = [{"source": f"203.0.113.{i}"} for i in (1, 2, 3, 4, 5, 5)]
        (found,) = rewrites(seen(*pool))
        assert found.left == SOURCE
        assert found.arrived == "203.0.113.5, 203.0.113.1, 203.0.113.2 and 2 more"
        (found,) = rewrites(seen(*pool[:4]))
        assert found.arrived == "203.0.113.1, 203.0.113.2, 203.0.113.3 and 1 more"
        (found,) = rewrites(seen(*pool[:3]))
        assert found.arrived == "203.0.113.1, 203.0.113.2, 203.0.113.3"

    def test_what_was_seen_at_one_end_alone_is_not_compared(self) -> None:
        one_ended = seen({"source": OUTSIDE}, {})
        del one_ended.passages["left"][0]
        assert rewrites(one_ended) == ()
        del one_ended.passages["arrived"]
        assert rewrites(one_ended) == ()


class TestForeignSources:
    def test_what_the_source_itself_translates_is_none_of_the_paths_doing(self) -> None:
        masqueraded = seen({}, {}, left={"source": OUTSIDE})
        assert rewrites(masqueraded) == ()
        assert foreign_sources(masqueraded, (SOURCE,)) == (OUTSIDE,)

    def test_the_nodes_own_addresses_are_not_foreign(self) -> None:
        assert foreign_sources(seen({}), ("2001:db8::b", SOURCE)) == ()
        other_spelling = seen({}, left={"source": "2001:db8::b"})
        assert foreign_sources(other_spelling, ("2001:DB8:0::B",)) == ()

    def test_nothing_that_left_nothing_foreign(self) -> None:
        assert foreign_sources(observed(planned(), lambda *_: True), (SOURCE,)) == ()


@CALM
@given(wild_observed)
def test_an_answer_for_anything(wild: Observed) -> None:
    for rewrite in rewrites(wild):
        assert rewrite.left != rewrite.arrived
        assert rewrite.left
        assert rewrite.arrived
    assert SOURCE not in foreign_sources(wild, (SOURCE,))
