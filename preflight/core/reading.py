"""What the sightings of a cell say, in enumerations: the input of the verdict table.

Rules that live here:

1. No counts leave this file: a `Reading` is one point of a small space that tests can enumerate.
2. A loss is placed only between two watched vantage points, and only where what lies between them
   is one place.
3. Which verdict a reading deserves is not decided here: that is `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from preflight.core.evidence import Errno, IcmpError, Seen, Setting, Sightings, settle
from preflight.core.model import Family, Phase, Place, ProbeKind, Protocol, family_of


class Agents(StrEnum):
    """Who was there to look."""

    BOTH = "both"
    NO_SOURCE = "no-source"
    NO_DESTINATION = "no-destination"


class Delivery(StrEnum):
    """How many of the probes, or of their true answers, got to the end of their leg."""

    ALL = "all"
    SOME = "some"
    NONE = "none"  # watched, and none; or none was ever on its way
    NOT_WATCHED = "not-watched"
    NOT_SENT = "not-sent"  # too few were sent to tell; forward leg only


class Obstacle(StrEnum):
    """What is known to stand in the way without anybody having said no."""

    NONE = "none"
    NO_ROUTE = "no-route"
    NO_NEIGHBOUR = "no-neighbour"
    SIZE = "size"
    ECHO_IGNORED = "echo-ignored"


class Foreign(StrEnum):
    """What came back that is no answer of the destination to a probe that it accepted."""

    NOTHING = "nothing"
    PORT_UNREACHABLE = "port-unreachable"  # a REJECT's default; a closed UDP port says it too
    TOO_BIG = "too-big"  # "fragmentation needed": speaks of size, rejects nothing
    ICMP_ERROR = "icmp-error"  # any other error that means "discarded"
    RESET = "reset"  # an RST; also one seen leaving a destination that never accepted the SYN
    ANSWER = "answer"  # a SYN-ACK or an echo reply
    UNTOLD = "untold"  # an answer of which nobody could see whether the destination sent it


class Reading(NamedTuple):
    """What the sightings say, as enumerations only: the input of the verdict table."""

    agents: Agents
    final: bool  # False: a first look
    one_way: bool  # no answer is due
    unserved: bool  # the probe asks for a server in this phase, and there is none
    forward: Delivery
    place: Place | None  # where most of the forward leg's loss is; None: no loss or not determined
    obstacle: Obstacle  # on the leg that is told: forward unless all were accepted
    foreign: Foreign
    reply: Delivery  # NOT_WATCHED too where it does not matter
    reply_place: Place | None


# Every value that a field of a reading can have: the space over which the verdicts are total.
DOMAINS: Mapping[str, tuple[object, ...]] = {
    "agents": tuple(Agents),
    "final": (True, False),
    "one_way": (True, False),
    "unserved": (True, False),
    "forward": tuple(Delivery),
    "place": (*Place, None),
    "obstacle": tuple(Obstacle),
    "foreign": tuple(Foreign),
    "reply": (Delivery.ALL, Delivery.SOME, Delivery.NONE, Delivery.NOT_WATCHED),
    "reply_place": (*Place, None),
}

# EPERM is netfilter's: nothing stands in the way but a firewall.
_REFUSALS: Mapping[int, Obstacle] = {
    Errno.EPERM: Obstacle.NONE,
    Errno.ENETUNREACH: Obstacle.NO_ROUTE,
    Errno.EHOSTUNREACH: Obstacle.NO_ROUTE,
    Errno.EACCES: Obstacle.NO_ROUTE,
    Errno.EINVAL: Obstacle.NO_ROUTE,
    Errno.EMSGSIZE: Obstacle.SIZE,
}

# The place of each stage: what lies between a vantage point and the one before it.
_FORWARD_STAGES = (Place.SOURCE, Place.SOURCE, Place.PATH, Place.DESTINATION)
_REPLY_STAGES = (Place.DESTINATION, Place.PATH, Place.SOURCE)
_SEND, _LEAVE = range(2)


def icmp_says(error: IcmpError | None, family: Family) -> Foreign:
    """What an ICMP error says of the probe that it quotes."""
    if error is None:
        return Foreign.NOTHING
    if family is Family.IPV4:
        port_unreachable, too_big, discarding = (3, 3), (3, 4), (3, 11, 12)
    else:
        port_unreachable, too_big, discarding = (1, 4), (2, 0), (1, 3, 4)
    message = (error.type, error.code)
    if message == port_unreachable:
        return Foreign.PORT_UNREACHABLE
    if message == too_big:
        return Foreign.TOO_BIG
    return Foreign.ICMP_ERROR if error.type in discarding else Foreign.NOTHING


def read(sightings: Sightings, setting: Setting, seen: Seen | None = None) -> Reading:
    """What the sightings say. Total: contradictory sightings have a reading too.

    `seen` is what `settle` makes of them, where the caller has it already. Addresses are
    compared as text, so all must be in their canonical form.
    """
    seen = seen or settle(sightings, setting)
    forward = _forward(sightings, seen)
    foreign, forged = _foreign(sightings, setting, seen, forward)
    place, obstacle = _forward_loss(sightings, setting, seen, forward)
    reply, reply_place, unserved = Delivery.NOT_WATCHED, None, False
    if forward is Delivery.ALL:
        unserved = _unserved(setting, seen, forged)
        if not setting.probe.one_way:
            reply, reply_place = _reply(seen, forged)
            unanswered = reply is Delivery.NONE and reply_place in (Place.DESTINATION, None)
            if unanswered and _echo_ignored(setting):
                obstacle = Obstacle.ECHO_IGNORED
    return Reading(
        _agents(setting),
        setting.final,
        setting.probe.one_way,
        unserved,
        forward,
        place,
        obstacle,
        foreign,
        reply,
        reply_place,
    )


def rejecter(sightings: Sightings, setting: Setting, seen: Seen) -> str | None:
    """The address that a rejection on the forward leg can be laid to, None if to nobody.

    An RST bears the destination's address whoever sent it: it is laid to the destination only
    where the destination's tap saw one leave that answered a probe which was not accepted.
    """
    if seen.accepted is not None and seen.answered_rst & seen.tried & ~seen.accepted:
        addresses = setting.destination_addresses
        return next((a for a in addresses if family_of(a) is setting.family), None)
    says = icmp_says(sightings.error, setting.family)
    if sightings.error is not None and says in (Foreign.ICMP_ERROR, Foreign.PORT_UNREACHABLE):
        return sightings.error.sender
    return None


def _agents(setting: Setting) -> Agents:
    if not setting.source_agent:
        return Agents.NO_SOURCE
    return Agents.BOTH if setting.destination_agent else Agents.NO_DESTINATION


def _echo_ignored(setting: Setting) -> bool:
    return setting.echo_ignored and setting.probe.protocol is Protocol.ICMP


def _forward(sightings: Sightings, seen: Seen) -> Delivery:
    if not seen.tried or 2 * seen.tried.bit_count() < sightings.planned.bit_count():
        return Delivery.NOT_SENT
    if seen.accepted == seen.tried:
        return Delivery.ALL
    if seen.sent is None:
        return Delivery.NOT_SENT
    if seen.accepted is not None:
        return Delivery.SOME if seen.accepted else Delivery.NONE
    if not seen.sent or _nothing_left(seen):
        return Delivery.NONE
    return Delivery.NOT_WATCHED


def _nothing_left(seen: Seen) -> bool:
    """True where the source alone shows that no probe left it.

    An answer to any of them casts doubt on the tap. The destination's tap is not asked: where
    its raw socket was not watched, what its tap missed may have come in another way.
    """
    return seen.left == 0 and not _answers(seen)


def _answers(seen: Seen) -> int:
    """The probes to which an answer was seen anywhere, true or false."""
    return (seen.answered or 0) | (seen.returned or 0) | (seen.received or 0)


def _no_neighbour_told(sightings: Sightings, setting: Setting) -> bool:
    """True where the source's own kernel said that it could not resolve the next hop."""
    error = sightings.error
    return (
        sightings.neighbour_failed
        and error is not None
        and error.sender in setting.source_addresses
        and icmp_says(error, setting.family) is Foreign.ICMP_ERROR
    )


def _foreign(
    sightings: Sightings, setting: Setting, seen: Seen, forward: Delivery
) -> tuple[Foreign, int]:
    """What came back that is no true answer, and the probes that drew a false one."""
    says = icmp_says(sightings.error, setting.family)
    if forward is Delivery.NOT_WATCHED and _error_of_some(sightings, setting, seen):
        says = Foreign.NOTHING
    if forward in (Delivery.NOT_WATCHED, Delivery.NOT_SENT):
        return (Foreign.UNTOLD if _answers(seen) else says), 0
    received = (seen.received or 0) & seen.tried
    rst, syn_ack = seen.received_rst & received, seen.received_syn_ack & received
    other = received & ~(rst | syn_ack)  # an echo reply
    true_rst, true_syn_ack = seen.answered_rst, seen.answered_syn_ack
    if forward is not Delivery.ALL:
        # Whatever answered a probe that was not accepted, it was not the protocol stack.
        lost = seen.tried & ~(seen.accepted or 0)
        rst = (rst | true_rst) & lost
        answer = (syn_ack | other) & lost
    elif seen.answered is None:
        return (Foreign.UNTOLD if _unexpected(setting, rst, syn_ack, received) else says), 0
    else:
        rst &= ~true_rst
        true_other = seen.answered & ~(true_rst | true_syn_ack)
        answer = (syn_ack & ~true_syn_ack) | (other & ~true_other)
    if answer:
        return Foreign.ANSWER, rst | answer
    return (Foreign.RESET, rst) if rst else (says, 0)


def _error_of_some(sightings: Sightings, setting: Setting, seen: Seen) -> bool:
    """True where probes got past the sender of the ICMP error, so that it speaks of some alone.

    Past the source's own kernel did some, or this would not be asked.
    """
    error = sightings.error
    if error is None or error.sender in setting.destination_addresses:
        return False
    return error.sender in setting.source_addresses or bool(seen.arrived)


def _unexpected(setting: Setting, rst: int, syn_ack: int, received: int) -> int:
    """The answers that are not of the kind which this destination's own stack would send."""
    if setting.probe.protocol is Protocol.ICMP:
        return received if _echo_ignored(setting) else 0
    if setting.serves is None:
        return received
    due, undue = (syn_ack, rst) if setting.serves else (rst, syn_ack)
    return received & (~due | undue)


def _forward_loss(
    sightings: Sightings, setting: Setting, seen: Seen, forward: Delivery
) -> tuple[Place | None, Obstacle]:
    """Where the forward leg's loss is, and what is known to stand there."""
    if forward in (Delivery.ALL, Delivery.NOT_SENT):
        return None, Obstacle.NONE
    partly = forward is Delivery.SOME
    sent = seen.sent or 0
    if forward is Delivery.NONE and (seen.answered or 0) & sent:
        # The destination answered without having accepted: its firewall did.
        return Place.DESTINATION, Obstacle.NONE
    accepted = seen.accepted if partly else 0
    masks = (seen.sent, seen.left, seen.arrived, accepted)
    stages = _losing_stages(seen.tried, masks, partly)
    places = _FORWARD_STAGES[stages.start : stages.stop]
    place, obstacle = _only(places), Obstacle.NONE
    unresolved = sightings.neighbour_failed and stages.start == _LEAVE
    if partly:  # then the neighbour entry alone does not say which of several stages it was
        unresolved &= stages.stop == _LEAVE + 1 or _no_neighbour_told(sightings, setting)
    if stages.stop == _SEND + 1:
        obstacle = _refusal(sightings, seen.tried & ~sent)
    elif unresolved and forward is not Delivery.NOT_WATCHED:
        place, obstacle = Place.PATH, Obstacle.NO_NEIGHBOUR
    if obstacle is Obstacle.NONE and partly and _only_full_size_lost(sightings, seen):
        obstacle = Obstacle.SIZE
    return place or _sender_place(sightings.error, setting, places, obstacle), obstacle


def _losing_stages(tried: int, masks: Sequence[int | None], partly: bool) -> range:
    """The stages between the two watched vantage points that the loss is between.

    That is the first span that nothing survived, or with `partly` the one that lost most, the
    first of equals.
    """
    worst, most = range(0), 0
    before, first = tried, 0
    for stage, mask in enumerate(masks):
        if mask is None:
            continue
        span = range(first, stage + 1)
        if not partly and not mask:
            return span
        lost = (before & ~mask).bit_count()
        if lost > most:
            worst, most = span, lost
        before, first = mask, stage + 1
    return worst


def _only(places: Sequence[Place]) -> Place | None:
    """The one place that all of `places` are, or None."""
    return places[0] if places and len(set(places)) == 1 else None


def _only_full_size_lost(sightings: Sightings, seen: Seen) -> bool:
    full_size = sightings.full_size & seen.tried
    return full_size != 0 and seen.accepted == seen.tried & ~full_size


def _refusal(sightings: Sightings, refused: int) -> Obstacle:
    """What most of the refused sends met; of equals the firewall first."""
    met = {Obstacle.NONE: 0, Obstacle.NO_ROUTE: 0, Obstacle.SIZE: 0}
    for number, mask in sightings.send_errors.items():
        if number in _REFUSALS:
            met[_REFUSALS[number]] |= mask & refused
    return max(met, key=lambda obstacle: met[obstacle].bit_count())


def _sender_place(
    error: IcmpError | None, setting: Setting, places: Sequence[Place], obstacle: Obstacle
) -> Place | None:
    """Which of `places` an ICMP error about the loss comes from.

    The destination's own address tells nothing: a bridging firewall on the path rejects in its
    name (nftables' bridge reject does so).
    """
    says = icmp_says(error, setting.family)
    about_size = says is Foreign.TOO_BIG
    if error is None or says is Foreign.NOTHING or about_size != (obstacle is Obstacle.SIZE):
        return None
    if error.sender in setting.destination_addresses:
        return None
    place = Place.SOURCE if error.sender in setting.source_addresses else Place.PATH
    return place if place in places else None


def _reply(seen: Seen, forged: int) -> tuple[Delivery, Place | None]:
    """How many true answers got back, and where the others died. All probes were accepted."""
    if seen.answered == 0:
        return Delivery.NONE, Place.DESTINATION
    if seen.received is None:
        return Delivery.NOT_WATCHED, None
    received = seen.received & seen.tried & ~forged
    if received == seen.tried:
        return Delivery.ALL, None
    if forged:
        # Where a false answer took a true one's place, both met on the path.
        place: Place | None = Place.PATH if forged & (seen.answered or 0) else Place.DESTINATION
    else:
        masks = (seen.answered, seen.returned, received)
        stages = _losing_stages(seen.tried, masks, partly=received != 0)
        place = _only(_REPLY_STAGES[stages.start : stages.stop])
    return (Delivery.SOME if received else Delivery.NONE), place


def _unserved(setting: Setting, seen: Seen, forged: int) -> bool:
    """True where somebody must serve the port and nobody does."""
    if setting.phase is Phase.BEFORE:
        return False
    if setting.probe.kind is ProbeKind.GENEVE:
        return setting.serves is False
    if setting.probe.kind is ProbeKind.HEALTH:
        # What the port answers says more than a list of listeners read before.
        return not seen.received_syn_ack & ~forged
    return False
