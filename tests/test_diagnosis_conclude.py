"""What of a trial a cell may be told by."""

from trials import BLOCKED, LOSSY, observed, planned

from preflight.core.diagnosis.conclude import conclude
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.model import GENEVE, HEALTH, Leg, Phase, Place

RULE = Rule("nft", "inet", "x", "input", 2, 1, False, "udp dport 6081 drop", "", False, "input",
            (), True)  # fmt: skip


def test_what_a_node_dropped_after_the_path_is_not_what_the_path_lost() -> None:
    """A router's limiter lets every third through, and of these a rule of the node takes some."""
    shots = planned(GENEVE, LOSSY)
    seen = observed(shots, lambda i, shot: i % 6 == 0)
    through = sum(1 << i for i in range(len(shots)) if i % 3 == 0)
    seen.seen["arrived"] = through
    late = frozenset(i for i in range(len(shots)) if i % 6 == 3)
    seen.hits = [RuleHit(1, "forward", late, RULE)]
    told = conclude(seen, GENEVE, LOSSY, Phase.BEFORE, on_link=False)
    assert told.hits == ()
    inside = LOSSY._replace(place=Place.DESTINATION)
    assert conclude(seen, GENEVE, inside, Phase.BEFORE, on_link=False).hits == tuple(seen.hits)
    seen.hits = [RuleHit(1, "forward", late | {1}, RULE)]  # one of them never came: in a bridge
    assert conclude(seen, GENEVE, LOSSY, Phase.BEFORE, on_link=False).hits


def test_what_a_node_dropped_before_the_path_is_not_what_the_path_lost() -> None:
    """A rule of the source takes some source ports, and a router all that is left."""
    shots = planned(GENEVE, BLOCKED)
    seen = observed(shots, lambda i, shot: False)
    seen.seen["left"] = sum(1 << i for i in range(len(shots)) if i % 3)
    early = frozenset(i for i in range(len(shots)) if i % 3 == 0)
    seen.hits = [RuleHit(0, "forward", early, RULE)]
    assert conclude(seen, GENEVE, BLOCKED, Phase.BEFORE, on_link=False).hits == ()
    inside = BLOCKED._replace(place=Place.SOURCE)
    assert conclude(seen, GENEVE, inside, Phase.BEFORE, on_link=False).hits == tuple(seen.hits)
    seen.seen["left"] = None  # nobody saw what left
    assert conclude(seen, GENEVE, BLOCKED, Phase.BEFORE, on_link=False).hits == tuple(seen.hits)


def test_no_rule_ends_what_was_seen_to_leave() -> None:
    """Of answers that the path drops one was dropped by the node, too: it sent two."""
    lost = BLOCKED._replace(leg=Leg.REPLY)
    shots = planned(HEALTH, lost)
    seen = observed(shots, lambda i, shot: True)
    every = seen.seen["arrived"]
    seen.seen.update(answered=every, returned=0, received=0)
    seen.hits = [RuleHit(1, "reply", frozenset({0}), RULE)]
    assert conclude(seen, HEALTH, lost, Phase.BEFORE, on_link=False).hits == ()
    inside = lost._replace(place=Place.DESTINATION)
    assert conclude(seen, HEALTH, inside, Phase.BEFORE, on_link=False).hits == tuple(seen.hits)
    seen.hits = [RuleHit(0, "reply", frozenset({0}), RULE)]  # where they go: in its bridge
    assert conclude(seen, HEALTH, lost, Phase.BEFORE, on_link=False).hits == tuple(seen.hits)
