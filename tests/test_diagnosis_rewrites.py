"""What the path changes: from what left its source and what arrived, shot by shot."""

from typing import Any

from cells import CALM
from hypothesis import given
from trials import BLOCKED, DESTINATION, SOURCE, observed, passage, planned, wild_observed

from preflight.core.diagnosis.conclude import conclude
from preflight.core.diagnosis.conclusions import Rewrite, RewrittenField
from preflight.core.diagnosis.rewrites import (
    leaves_as,
    rewrites,
    shared_port,
    unless_rewritten,
)
from preflight.core.diagnosis.trial import Observed, Purpose, Rule, RuleHit, Shot
from preflight.core.model import GENEVE, Phase, Place

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


def rule(rewrites: str = "source", sure: bool = True) -> Rule:
    where = ("nft", "ip", "nat", "postrouting", 3, 1, False)
    return Rule(*where, "masquerade", "", False, "postrouting", (), sure, rewrites, OUTSIDE)


class TestLeavesAs:
    def leaving(self, address: str = OUTSIDE, *hits: Rule, picked: str = "") -> Observed:
        one = seen({}, {}, left={"source": address})
        one.source_address, one.picked = SOURCE, picked
        one.hits = [RuleHit(one.trial.source, "forward", frozenset(), hit) for hit in hits]
        return one

    def test_what_the_source_itself_translates_is_none_of_the_paths_doing(self) -> None:
        one = self.leaving(OUTSIDE, rule("destination"), rule(sure=False), rule())
        assert rewrites(one) == ()
        found = leaves_as(one)
        assert found is not None
        assert (found.node, found.address, found.own) == (one.trial.source, OUTSIDE, SOURCE)
        assert found.hit is not None
        assert found.hit.rule == rule()
        assert not found.picked

    def test_what_its_routes_pick_no_rule_does(self) -> None:
        found = leaves_as(self.leaving(OUTSIDE, rule(), picked=OUTSIDE))
        assert found is not None
        assert (found.hit, found.picked) == (None, True)

    def test_a_rule_of_another_node_is_not_its_own(self) -> None:
        one = self.leaving()
        one.hits = [RuleHit(one.trial.destination, "forward", frozenset(), rule())]
        found = leaves_as(one)
        assert found is not None
        assert found.hit is None

    def test_its_own_address_however_it_is_spelled(self) -> None:
        one = self.leaving("2001:db8::b")
        one.source_address = "2001:DB8:0::B"
        assert leaves_as(one) is None
        assert leaves_as(self.leaving(SOURCE)) is None

    def test_nothing_that_left_nothing_known(self) -> None:
        assert leaves_as(observed(planned(), lambda *_: True)) is None


class TestSharedPort:
    """FLOW shots to one port, of which those of one source port arrive."""

    SHOTS = tuple(Shot(Purpose.FLOW, source_port=p, port=6081) for p in range(2000, 2012)) * 2

    def of(self, arrives: dict[int, int], shots: tuple[Shot, ...] = SHOTS) -> int:
        """`arrives` has for a source port the one that it arrives with."""
        one = observed(shots, lambda _, shot: shot.source_port in arrives)
        one.passages["arrived"] = {
            i: passage(shot)._replace(source_port=arrives[shot.source_port])
            for i, shot in enumerate(shots)
            if shot.source_port in arrives
        }
        return shared_port(one)

    def test_one_flow_of_many_arrives_and_from_another_port(self) -> None:
        assert self.of({2003: 5000}) == 5000

    def test_nothing_is_shared(self) -> None:
        assert self.of({2003: 2003}) == 0  # it is as it left
        assert self.of({2003: 5000, 2004: 5001}) == 0
        assert self.of({2003: 5000, 2004: 5000}) == 0  # not one at a time
        assert self.of({}) == 0
        assert self.of({2003: 5000}, self.SHOTS[2:6]) == 0  # too few flows to tell

    def test_nobody_watched(self) -> None:
        one = observed(self.SHOTS, lambda *_: False)
        one.seen["arrived"] = None
        assert shared_port(one) == 0


@CALM
@given(wild_observed)
def test_an_answer_for_anything(wild: Observed) -> None:
    for rewrite in rewrites(wild):
        assert rewrite.left != rewrite.arrived
        assert rewrite.left
        assert rewrite.arrived
    assert shared_port(wild) >= 0
    found = leaves_as(wild)
    assert found is None or found.address != wild.source_address


class TestUnlessRewritten:
    """At the destination: what nat PREROUTING made of a packet, and what met it after."""

    SHOTS = planned()
    DNAT = rule("destination")._replace(hook="prerouting", becomes="172.18.0.5")

    def left(
        self,
        drop: Rule,
        dropped: frozenset[int] = frozenset({0, 1}),
        sent_on: frozenset[int] = frozenset({0, 1}),
        dnat: Rule = DNAT,
        at: int = 1,
    ) -> list[Rule]:
        """The rules that remain; `at` is the node that drops."""
        one = observed(self.SHOTS, lambda i, _: i not in dropped)
        one.hits = [RuleHit(at, "forward", dropped, drop), RuleHit(1, "forward", sent_on, dnat)]
        return [hit.rule for hit in unless_rewritten(one.hits, one)]

    def drop(self, hook: str) -> Rule:
        return rule("")._replace(chain=hook.upper(), hook=hook, policy=True, becomes="")

    def test_a_forward_policy_meets_it_for_it_was_sent_on(self) -> None:
        assert self.left(self.drop("forward")) == [self.DNAT]
        assert self.left(self.drop("forward"), frozenset()) == [self.DNAT]

    def test_input_meets_another_port(self) -> None:
        assert self.left(self.drop("input")) == [self.DNAT]

    def test_other_flows_that_input_drops_were_not_sent_on(self) -> None:
        other = next(
            i for i, s in enumerate(self.SHOTS) if s.source_port != self.SHOTS[0].source_port
        )
        drop = self.drop("input")
        assert self.left(drop, frozenset({0, other}), frozenset({0})) == [drop, self.DNAT]
        assert self.left(drop, frozenset(), frozenset({0})) == [drop, self.DNAT]

    def test_what_comes_before_nat_is_to_blame_by_itself(self) -> None:
        drop = self.drop("prerouting")
        assert self.left(drop) == [drop, self.DNAT]

    def test_neither_a_doubtful_rule_nor_another_nodes_takes_the_blame(self) -> None:
        drop, doubtful = self.drop("forward"), self.DNAT._replace(sure=False)
        assert self.left(drop, dnat=doubtful) == [drop, doubtful]
        assert self.left(drop, at=0) == [drop, self.DNAT]

    def test_a_masquerade_does_not_hide_a_drop(self) -> None:
        drop = self.drop("forward")
        assert self.left(drop, dnat=rule("source")) == [drop, rule("source")]

    def test_a_conclusion_names_the_first_alone(self) -> None:
        lost = frozenset(range(len(self.SHOTS)))
        one = observed(self.SHOTS, lambda *_: False)
        one.seen["arrived"] = one.seen["left"]
        one.hits = [RuleHit(1, "forward", lost, hit) for hit in (self.drop("forward"), self.DNAT)]
        kind = BLOCKED._replace(place=Place.DESTINATION)
        found = conclude(one, GENEVE, kind, Phase.BEFORE, on_link=None)
        assert [hit.rule for hit in found.hits] == [self.DNAT]
