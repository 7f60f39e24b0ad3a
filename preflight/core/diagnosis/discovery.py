"""What dies elsewhere because a node is not found, or finds nobody, by ARP or neighbour discovery.

Whoever brings packets to a node on its last link asks for it first, and where the node does not
answer they die there: before a router, that is on the path, or inside their own sender. So what one
node does, by a rule of its own or not, is to blame for a loss that taps lay to others.

Rules of this file:
1. Only what was lost whole, and before the very hop that asks.
2. A packet of the trial that came by that hop proves that it had been answered.
3. An ICMP error that says anything but that the address was not found names another cause.
4. Where it is not known that who asked is the router in question, a rule is to blame only if it
   makes no difference between those who ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from preflight.core.diagnosis.conclusions import NextHop
from preflight.core.diagnosis.trial import ASKED, SEEKS, SOUGHT, Observed, RuleHit
from preflight.core.groups import Kind
from preflight.core.model import Cause, Family, Leg, Place, Verdict

# The ICMP error "destination unreachable", and its code for an address that was not found.
_UNREACHABLE = {Family.IPV4: (3, 1), Family.IPV6: (1, 3)}
# What makes a difference between those who ask, or between one question and the next.
_CHOOSY = re.compile(
    r"\b[sd]addr\b|\blimit\b|\bmeter\b|\bquota\b|\bnumgen\b|@|(^| )-[sd] |--src-|--dst-|--mac-"
    r"|-m (limit|hashlimit|recent|quota|statistic|set|u32|string|bpf)\b"
)
_TOLD = (Cause.DROPPED, Cause.REJECTED)

# Which end of a pair, and which of its two ways to fail, a loss may be laid to.
_Ways = tuple[tuple[Place, str], ...]
_UNHEARD: Mapping[tuple[Leg, Place], _Ways] = {
    (Leg.FORWARD, Place.PATH): ((Place.DESTINATION, SOUGHT),),
    (Leg.REPLY, Place.PATH): ((Place.SOURCE, SOUGHT),),
    (Leg.REPLY, Place.DESTINATION): ((Place.DESTINATION, SEEKS), (Place.SOURCE, SOUGHT)),
}
_NOT_SENT: _Ways = ((Place.SOURCE, SEEKS), (Place.DESTINATION, SOUGHT))


def culprits(kind: Kind) -> _Ways:
    """The ends of a pair that may be to blame for the discovery that cells of `kind` lack."""
    if kind.verdict is not Verdict.BLOCKED or kind.leg is None or kind.place is None:
        return ()
    if (kind.leg, kind.place, kind.cause) == (Leg.FORWARD, Place.PATH, Cause.NO_NEIGHBOUR):
        return _NOT_SENT
    return _UNHEARD.get((kind.leg, kind.place), ()) if kind.cause in _TOLD else ()


def stuck_back(observed: Observed, kind: Kind) -> bool:
    """Whether answers do not leave because the destination's next hop does not answer it."""
    if (kind.leg, kind.place, kind.cause) != (Leg.REPLY, Place.DESTINATION, Cause.DROPPED):
        return False
    return observed.neighbour_failed_back and observed.seen.get("answered") == 0


def silent_hop(observed: Observed, kind: Kind) -> NextHop | None:
    """Whom the source, or the destination for its answers, asks for in vain."""
    trial, place = observed.trial, None
    if stuck_back(observed, kind):
        place, node, address = Place.DESTINATION, trial.destination, observed.gateway_back
    elif kind.cause is Cause.NO_NEIGHBOUR and observed.neighbour_failed:
        place, node, address = Place.SOURCE, trial.source, observed.gateway
    if place is None or not address:
        return None
    return NextHop(node, address, observed.devices.get(str(place), ""))


def unfound(observed: Observed, kind: Kind, *, on_link: bool | None) -> Iterator[RuleHit]:
    """The rules that keep a node of the pair from being found, or from finding its next hop."""
    wanted = _accused(observed, kind, on_link=on_link)
    hits = list(ended(observed))
    found = {(hit.node, hit.rule) for hit in hits if (hit.node, hit.leg) in wanted}
    yield from (hit for hit in hits if (hit.node, hit.rule) in found)


def ended(observed: Observed) -> Iterator[RuleHit]:
    """Neighbour discovery that rules ended; what may be a router's counts as one's, or not."""
    found: dict[RuleHit, None] = {}
    for hit in observed.hits:
        if hit.leg == ASKED and not _CHOOSY.search(hit.rule.text):
            found[hit._replace(leg=SOUGHT)] = None
        elif hit.leg in (SOUGHT, SEEKS):
            found[hit] = None
    yield from found


def mute(observed: Observed, kind: Kind, *, on_link: bool | None) -> int | None:
    """The node that was asked for and sent no answer, whatever keeps it from that."""
    for node, leg in _accused(observed, kind, on_link=on_link):
        if leg == SOUGHT and node in observed.mute:
            return node
    return None


def _accused(observed: Observed, kind: Kind, *, on_link: bool | None) -> list[tuple[int, str]]:
    """The nodes, and ways to fail, that this loss may be laid to."""
    ends = {Place.SOURCE: observed.trial.source, Place.DESTINATION: observed.trial.destination}
    neighbours = True  # the node that is sought, and the one at which it was lost
    if kind.place is Place.DESTINATION:
        fits = stuck_back(observed, kind)
        neighbours = (
            bool(observed.gateway_back) and observed.gateway_back == observed.source_address
        )
    elif kind.cause is Cause.NO_NEIGHBOUR:
        fits = observed.neighbour_failed and observed.seen.get("left") == 0
        neighbours = on_link is True
    else:
        fits = on_link is False and _at_a_router(observed, kind)
    return [
        (ends[place], leg) for place, leg in culprits(kind) if fits and (leg == SEEKS or neighbours)
    ]


def _at_a_router(observed: Observed, kind: Kind) -> bool:
    """Whether it left, none of it came, and no router gave another reason."""
    came, went = ("left", "arrived") if kind.leg is Leg.FORWARD else ("answered", "returned")
    if not observed.seen.get(came) or observed.seen.get(went) != 0:
        return False
    unreachable, not_found = _UNREACHABLE[observed.trial.family]
    return all(e.code == not_found for e in observed.errors if e.type == unreachable)
