"""What the path changes in a packet: how it left its source, and how it arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_address

from preflight.core.diagnosis.arrivals import shots_in, tried
from preflight.core.diagnosis.conclusions import LeavesAs, Rewrite, RewrittenField
from preflight.core.diagnosis.trial import DESTINATION, SOURCE, Observed, Passage, Purpose, RuleHit

_SHOWN = 3
_MANY_FLOWS = 8

_AFTER_DNAT = ("input", "forward", "postrouting")

_WORDS: Mapping[RewrittenField, Callable[[Passage], str]] = {
    RewrittenField.SOURCE: lambda seen: seen.source,
    RewrittenField.SOURCE_PORT: lambda seen: str(seen.source_port),
    RewrittenField.DESTINATION: lambda seen: seen.destination,
    RewrittenField.PORT: lambda seen: str(seen.port),
    RewrittenField.TOS: lambda seen: f"0x{seen.tos:02x}",
    RewrittenField.DONT_FRAGMENT: lambda seen: "set" if seen.dont_fragment else "not set",
}


def rewrites(observed: Observed) -> tuple[Rewrite, ...]:
    """The fields that arrived other than they left, over all shots seen at both ends.

    `arrived` says how often, where that is not always. What the source's own node changes it has
    changed before it left: see `leaves_as`. A TTL is no rewriting but a distance.
    """
    left, arrived = observed.passages.get("left", {}), observed.passages.get("arrived", {})
    both = sorted(left.keys() & arrived.keys())
    found = []
    for field, word in _WORDS.items():
        pairs = [(word(left[i]), word(arrived[i])) for i in both]
        changed = [pair for pair in pairs if pair[0] != pair[1]]
        if changed:
            before, after = (_several(side) for side in zip(*changed, strict=True))
            if len(changed) < len(pairs):
                after += f" in {len(changed)} of {len(pairs)} packets"
            found.append(Rewrite(field, before, after))
    return tuple(found)


def shared_port(observed: Observed) -> int:
    """The source port that the path gives all flows alike, so that one at a time gets through; 0
    where that is not proven: one flow arrives, from another port than it left, and no other does.
    """
    shots = observed.trial.shots
    arrived = observed.passages.get("arrived", {})
    probed = [
        i
        for i in shots_in(tried(observed))
        if shots[i].purpose in (Purpose.PLAIN, Purpose.FLOW) and shots[i].source_port
    ]
    flows = {shots[i].source_port for i in probed}
    came = [i for i in probed if i in arrived]
    from_ports = {(shots[i].source_port, arrived[i].source_port) for i in came}
    if observed.seen.get("arrived") is None or len(from_ports) != 1 or len(flows) < _MANY_FLOWS:
        return 0
    ((left, port),) = from_ports
    return port if port != left else 0


def readdressed(observed: Observed) -> str:
    """The destination that shots left their own node with, if it is not the one they were given."""
    meant = observed.destination_address
    if not meant:
        return ""
    left = Counter(seen.destination for seen in observed.passages.get("left", {}).values())
    others = [a for a, _ in left.most_common() if ip_address(a) != ip_address(meant)]
    return others[0] if others else ""


def leaves_as(observed: Observed) -> LeavesAs | None:
    """The source address that most shots left with, if it is not the one of the inventory.

    That is the source's own doing, its routes' or its firewall's, and not the path's.
    """
    own = observed.source_address
    left = Counter(seen.source for seen in observed.passages.get("left", {}).values())
    if not own or not left:
        return None
    ((address, _),) = left.most_common(1)
    if ip_address(address) == ip_address(own):
        return None
    node = observed.trial.source
    hits = [h for h in observed.hits if h.node == node and h.rule.rewrites == SOURCE]
    sure = [hit for hit in hits if hit.rule.sure] or hits
    picked = bool(observed.picked) and ip_address(observed.picked) == ip_address(address)
    return LeavesAs(node, address, own, sure[0] if sure and not picked else None, picked)


def unless_rewritten(hits: Sequence[RuleHit], observed: Observed) -> list[RuleHit]:
    """Without those that ended what a rule of the same node had given another destination before.

    Such a packet no longer bears the destination that was probed, so no exception for that one lets
    it pass; and without the first rule it never meets the second.
    """
    node, shots = observed.trial.destination, observed.trial.shots
    sent_on = [
        hit
        for hit in hits
        if hit.node == node and hit.rule.sure and hit.rule.rewrites == DESTINATION
    ]
    # The first packet of a flow alone meets such a rule; all others go the same way.
    flows = {shots[i].source_port for hit in sent_on for i in hit.shots}

    def late(hit: RuleHit) -> bool:
        if hit.node != node or hit.rule.rewrites or hit.rule.hook not in _AFTER_DNAT:
            return False
        if hit.rule.hook == "forward" and sent_on:
            return True  # what is for the node itself is not forwarded
        return bool(hit.shots) and all(shots[i].source_port in flows for i in hit.shots)

    return [hit for hit in hits if not late(hit)]


def _several(words: Collection[str]) -> str:
    """All different ones, the most frequent first."""
    different = [word for word, _ in Counter(words).most_common()]
    more = len(different) - _SHOWN
    shown = ", ".join(different[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
