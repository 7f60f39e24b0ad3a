"""From what was seen of one trial to all that it proves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from preflight.core.diagnosis.conclusions import (
    Content,
    ContentPattern,
    Diagnosis,
    Lengths,
    Marking,
    Passing,
    Path,
    Size,
)
from preflight.core.diagnosis.content import content
from preflight.core.diagnosis.discovery import ended, mute, silent_hop, stuck_back, unfound
from preflight.core.diagnosis.expiry import expired
from preflight.core.diagnosis.flows import flows
from preflight.core.diagnosis.hops import path, path_back
from preflight.core.diagnosis.kernel import KernelReason, explain
from preflight.core.diagnosis.rewrites import (
    leaves_as,
    readdressed,
    rewrites,
    shared_port,
    unless_rewritten,
)
from preflight.core.diagnosis.trial import SOURCE, Observed, Purpose, RuleHit
from preflight.core.groups import Kind
from preflight.core.model import Cause, Family, Leg, Phase, Place, Probe, Protocol, Verdict

# "Discarded": what rejects a packet, and says nothing of its size or its time to live.
_REJECTS = {
    Family.IPV4: {(3, code) for code in (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13)},
    Family.IPV6: {(1, code) for code in range(7)},
}
_PORT_UNREACHABLE = {Family.IPV4: (3, 3), Family.IPV6: (1, 4)}
_AS_PROBED = (Purpose.PLAIN, Purpose.FLOW)


def conclude(
    observed: Observed,
    probe: Probe,
    kind: Kind,
    phase: Phase,
    *,
    on_link: bool | None,
    size: Size | None = None,
    lengths: Lengths | None = None,
    marking: Marking | None = None,
    rounds: Sequence[Observed] = (),
) -> Diagnosis:
    """What the trial of a cell of `kind` proves. Total: what it does not prove is None.

    `rounds` are those of the search that found `size`, `lengths` or `marking`.
    """
    found = [
        hit for one in (observed, *rounds) for hit in unless_rewritten(list(_hits(one, kind)), one)
    ]
    hits = tuple({(hit.node, hit.leg, hit.rule): hit for hit in reversed(found)}.values())[::-1]
    sure = any(hit.rule.sure for hit in hits)
    hits += tuple(_discovery(observed, kind, hits, on_link=on_link))
    kernel, kernel_node = (None, None) if hits else _kernel(observed, probe, kind)
    kernel_node = None if kernel is None else kernel_node
    elsewhere = readdressed(observed)
    # The way that it takes is another pair's then.
    another = bool(elsewhere) or any(hit.rule.rewrites == SOURCE for hit in hits)
    return Diagnosis(
        hits=hits,
        kernel=kernel,
        kernel_node=kernel_node,
        path=None if another else _way(observed, kind, on_link),
        flows=flows(observed) if probe.one_way else None,
        content=_content(observed, probe, kind, phase, lengths, marking),
        size=size,
        lengths=lengths,
        marking=marking,
        rewrites=rewrites(observed),
        rejecters=tuple(dict.fromkeys(_rejecters(observed))),
        stuck_back=stuck_back(observed, kind),
        mute_node=None if sure else mute(observed, kind, on_link=on_link),
        notes=tuple(_notes(observed, kind, hits)),
        readdressed=elsewhere,
        leaves_as=leaves_as(observed),
        expired=expired(observed) if _on_the_way(observed, kind) else None,
        next_hop=silent_hop(observed, kind),
        shared_port=shared_port(observed) if probe.one_way else 0,
        passing=passing(observed, probe, kind),
    )


def passing(observed: Observed, probe: Probe, kind: Kind) -> Passing | None:
    """How many packets of a blocked cell pass after all; an echo whose TTL did not run out is one.

    What goes with rising TTL over UDP and TCP is for other ports, too.
    """
    if kind.verdict is not Verdict.BLOCKED:
        return None
    if kind.leg is None or kind.place is None:
        return None
    past = observed.seen.get(_LOST_BETWEEN[kind.leg, kind.place][1])
    if past is None:
        return None
    own = observed.mask(Purpose.PLAIN) | observed.mask(Purpose.FLOW)
    like = observed.mask(Purpose.HOP) if probe.protocol is Protocol.ICMP else 0
    passed = past & (own | like)
    return Passing(passed.bit_count(), (own | passed).bit_count())


def in_brief(
    observed: Observed, probe: Probe, kind: Kind, *, on_link: bool | None
) -> Diagnosis | None:
    """What a brief look proves: the rule that ends it, that none does, or the router behind which
    it ends; None where it proves nothing. What takes many packets to prove, so few never tell.
    """
    if kind.leg is None or kind.place is None:
        return None
    if observed.seen.get(_LOST_BETWEEN[kind.leg, kind.place][1]) != 0:
        return None  # not lost there this time, or not watched
    whole = conclude(observed, probe, kind, Phase.AFTER, on_link=on_link)
    if kind.place is Place.PATH:
        told = whole.path is not None and (
            whole.path.silent is not None or bool(whole.path.as_destination)
        )
        return Diagnosis(path=whole.path) if told else None
    hits = tuple(hit for hit in whole.hits if not hit.of_discovery)
    return None if whole.notes and not hits else Diagnosis(hits=hits)


def _content(
    observed: Observed,
    probe: Probe,
    kind: Kind,
    phase: Phase,
    lengths: Lengths | None,
    marking: Marking | None,
) -> Content | None:
    """Where a size or the DF bit decides, other ports were asked with what passes at none; where
    the node marks this port's packets alone, others differ in more than their port.
    """
    found = content(observed, phase, probe.protocol, kind.place)
    if found is None:
        return None
    by_length = lengths is not None and found.pattern is ContentPattern.PROTOCOL
    by_mark = marking is not None and marking.dropped is not False
    return None if by_length or (by_mark and found.pattern is ContentPattern.PORT) else found


def _way(observed: Observed, kind: Kind, on_link: bool | None) -> Path | None:
    """Of the leg that is bad."""
    if kind.leg is Leg.REPLY:
        return path_back(observed) if kind.place is Place.PATH else None
    return path(observed, on_link) if _on_the_way(observed, kind) else None


def by_request(observed: Observed, kind: Kind) -> Diagnosis:
    """What a real connection met, in whose place no shots were sent."""
    node = observed.trial.source if kind.place is Place.SOURCE else observed.trial.destination
    # What does not answer may have been asked in vain, or answer in vain.
    legs = (kind.leg,) if kind.cause is Cause.DATA else tuple(Leg)
    hits = tuple(
        hit
        for hit in observed.hits
        if not hit.rule.rewrites and hit.node == node and hit.leg in legs
    )
    notes = _notes(observed, kind, hits) if kind.cause is Cause.DATA else ()
    return Diagnosis(hits=hits, notes=tuple(notes))


def _on_the_way(observed: Observed, kind: Kind) -> bool:
    """It was asked for hops: it is lost between the nodes, or nothing is lost at all."""
    inside = kind.place in (Place.SOURCE, Place.DESTINATION)
    return not inside and bool(observed.mask(Purpose.HOP))


def _hits(observed: Observed, kind: Kind) -> Iterator[RuleHit]:
    """Rules that ended shots like the probe itself, on the leg that is bad."""
    probed = sum(observed.mask(purpose) for purpose in (*_AS_PROBED, Purpose.SIZE))
    seen = observed.seen.get("accepted" if kind.leg is Leg.FORWARD else "received")
    lost = probed & ~(seen or 0)
    # Of a flow the first packet meets rules that translate, whatever it is to find out.
    flows = lost | (_to_the_port(observed) & ~(seen or 0))
    node = {
        Place.SOURCE: observed.trial.source,
        Place.DESTINATION: observed.trial.destination,
    }.get(kind.place) if kind.place else None  # fmt: skip
    for hit in observed.hits:
        if hit.rule.rewrites and not _astray(hit, observed, kind):
            continue
        leg = Leg.FORWARD if hit.rule.rewrites else kind.leg
        if hit.leg != leg or (node is not None and hit.node != node):
            continue
        if kind.place is Place.PATH and _off_the_path(observed, kind, hit):
            continue  # another loss, which the cell does not speak of
        mask = flows if hit.rule.rewrites else lost
        if not hit.shots or any(mask >> shot & 1 for shot in hit.shots):
            yield hit


def _off_the_path(observed: Observed, kind: Kind, hit: RuleHit) -> bool:
    """Whether nothing of what it ended was on the path: it had come through, or never left."""
    forward = kind.leg is Leg.FORWARD
    left = observed.seen.get("left" if forward else "answered")
    there = observed.seen.get("arrived" if forward else "returned") or 0
    sender = observed.trial.source if forward else observed.trial.destination
    if left is not None and hit.node == sender and not hit.rule.rewrites:
        return True  # no rule ends what has left the node
    lost = ~there if left is None else left & ~there
    return bool(hit.shots) and not any(lost >> shot & 1 for shot in hit.shots)


def _to_the_port(observed: Observed) -> int:
    """The shots with rising TTL that go where the probe itself goes."""
    shots = observed.trial.shots
    ports = {shot.port for shot in shots if shot.purpose is Purpose.PLAIN}
    hops = observed.mask(Purpose.HOP)
    return sum(1 << i for i, shot in enumerate(shots) if shot.port in ports) & hops


def _astray(hit: RuleHit, observed: Observed, kind: Kind) -> bool:
    """Whether what a rule translates can be what is lost: probes go where their destination is, and
    answers to where they seem to come from.
    """
    if hit.rule.rewrites != SOURCE:
        return kind.leg is Leg.FORWARD
    answers = kind.leg is Leg.REPLY and kind.place is Place.PATH
    return answers and hit.node == observed.trial.source and leaves_as(observed) is not None


def _discovery(
    observed: Observed, kind: Kind, hits: Sequence[RuleHit], *, on_link: bool | None
) -> Iterator[RuleHit]:
    """Neighbour discovery that the same rules ended, or where there are none, that explains it."""
    if not any(hit.rule.sure for hit in hits):
        yield from unfound(observed, kind, on_link=on_link)
    known = {(hit.node, hit.rule) for hit in hits}
    yield from (hit for hit in ended(observed) if (hit.node, hit.rule) in known)


_LOST_BETWEEN = {
    (Leg.FORWARD, Place.SOURCE): ("sent", "left"),
    (Leg.FORWARD, Place.PATH): ("left", "arrived"),
    (Leg.FORWARD, Place.DESTINATION): ("arrived", "accepted"),
    (Leg.REPLY, Place.DESTINATION): ("accepted", "answered"),
    (Leg.REPLY, Place.PATH): ("answered", "returned"),
    (Leg.REPLY, Place.SOURCE): ("returned", "received"),
}


def _kernel(observed: Observed, probe: Probe, kind: Kind) -> tuple[KernelReason | None, int | None]:
    """What the kernel says of the node inside which it was lost, or that was to receive it."""
    if kind.place is None or kind.leg is None:
        return None, None
    trial = observed.trial
    side = kind.place
    if kind.place is Place.PATH:  # the receiver's driver and XDP belong to it
        side = Place.DESTINATION if kind.leg is Leg.FORWARD else Place.SOURCE
    end = observed.ends.get(str(side))
    before, after = _LOST_BETWEEN[kind.leg, kind.place]
    came, went = observed.seen.get(before), observed.seen.get(after)
    if end is None or came is None or went is None:
        return None, None
    probed = observed.mask(Purpose.PLAIN) | observed.mask(Purpose.FLOW)
    refused = sum(1 << shot for shot in observed.send_errors)
    came = (came | refused if before == "sent" else came) & probed
    lost = came & ~went
    if not lost:
        return None, None
    reason = explain(
        leg=kind.leg,
        place=kind.place,
        protocol=probe.protocol,
        family=trial.family,
        lost=lost.bit_count(),
        came=came.bit_count(),
        device=_device(observed, kind.leg),
        end=end,
        source=observed.source_address,
        destination=observed.destination_address,
    )
    return reason, trial.source if side is Place.SOURCE else trial.destination


def _device(observed: Observed, leg: Leg) -> str:
    """The device through which lost packets came in; empty where no tap saw one."""
    vantage = "arrived" if leg is Leg.FORWARD else "returned"
    return next((p.device for p in observed.passages.get(vantage, {}).values()), "")


def _rejecters(observed: Observed) -> Iterator[str]:
    family = observed.trial.family
    arrived = observed.seen.get("arrived")
    for error in observed.errors:
        shot = observed.trial.shots[error.shot]
        code = (error.type, error.code)
        if shot.purpose not in _AS_PROBED or code not in _REJECTS[family]:
            continue
        there = arrived is None or arrived >> error.shot & 1
        if there and code == _PORT_UNREACHABLE[family]:
            continue  # what a closed port says of a packet that got there
        yield str(ip_address(error.sender))


def _notes(observed: Observed, kind: Kind, hits: tuple[RuleHit, ...]) -> Iterator[str]:
    if kind.place in (Place.SOURCE, Place.DESTINATION) and not hits:
        end = observed.ends.get(str(kind.place))
        if end is None:
            yield f"the {kind.place} did not report in time: its rules could not be traced"
        elif end.trace:
            yield f"rules could not be traced at the {kind.place}: {end.trace}"
