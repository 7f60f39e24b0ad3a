"""The one sentence more that an outcome's enumerations cannot say.

Details name no counts and few addresses, so that cells with one cause keep one outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.core.evidence import REFUSALS, Errno, Setting, Sightings, prevailing_errno
from preflight.core.model import Cause, Family, Leg, Outcome, Place, Protocol, Verdict
from preflight.core.reading import Agents, Delivery, Foreign, Reading

_ICMP: Mapping[Family, Mapping[tuple[int, int], str]] = {
    Family.IPV4: {
        (3, 0): "network unreachable",
        (3, 1): "host unreachable",
        (3, 2): "protocol unreachable",
        (3, 3): "port unreachable",
        (3, 9): "network administratively prohibited",
        (3, 10): "host administratively prohibited",
        (3, 13): "communication administratively prohibited",
        (11, 0): "time to live exceeded",
    },
    Family.IPV6: {
        (1, 0): "no route to destination",
        (1, 1): "administratively prohibited",
        (1, 3): "address unreachable",
        (1, 4): "port unreachable",
        (1, 5): "source address failed policy",
        (1, 6): "reject route to destination",
        (3, 0): "hop limit exceeded",
    },
}


_RAN_OUT = ("ICMP time to live exceeded (11/0)", "ICMPv6 hop limit exceeded (3/0)")
_NOBODY = ("ICMP host unreachable (3/1)", "ICMPv6 address unreachable (1/3)")

_RESETS = "the answers are RSTs: nobody serves the port"

_ERRNO: Mapping[int, str] = {
    Errno.EPERM: "EPERM, from netfilter's OUTPUT or POSTROUTING",
    Errno.ENETUNREACH: "ENETUNREACH, no route",
    Errno.EHOSTUNREACH: "EHOSTUNREACH, no route or an unreachable one",
    Errno.EACCES: "EACCES, a prohibiting route",
    Errno.EINVAL: "EINVAL, a blackhole route",
    Errno.EXDEV: "an ip rule for this protocol or port leads another way than a raw socket goes",
    Errno.EADDRNOTAVAIL: "EADDRNOTAVAIL, the node's kernel does not use the node's own address",
    Errno.EMSGSIZE: "EMSGSIZE, larger than the device's MTU",
    Errno.ENOBUFS: "ENOBUFS, no room in a queue or in the neighbour table",
    Errno.EAGAIN: "EAGAIN, the socket's buffer is full",
    Errno.ENOMEM: "ENOMEM, out of memory",
}


def detail(
    outcome: Outcome, reading: Reading, sightings: Sightings, setting: Setting
) -> str | None:
    """What else the sightings say about `outcome`, None where there is nothing to add."""
    if outcome.verdict is Verdict.UNKNOWN:
        says = _of_unknown(outcome, reading, sightings)
    elif outcome.verdict in (Verdict.BLOCKED, Verdict.LOSSY):
        says = _of_loss(outcome, reading, sightings, setting)
    else:
        return None
    return "; ".join(says) or None


def only_resets(outcome: Outcome) -> bool:
    """Whether all answers that were lost were RSTs, as far as its detail says."""
    return outcome.detail is not None and outcome.detail.startswith(_RESETS)


def finds_nobody(outcome: Outcome) -> bool:
    """Whether its detail is an ICMP error of a router that finds nobody behind the address."""
    return outcome.detail is not None and outcome.detail.startswith(_NOBODY)


def ran_out(outcome: Outcome) -> bool:
    """Whether what is called a rejection is a router's word that a TTL has run out there."""
    told = outcome.detail or ""
    return outcome.cause is Cause.REJECTED and any(words in told for words in _RAN_OUT)


def _of_unknown(outcome: Outcome, reading: Reading, sightings: Sightings) -> Iterator[str]:
    if outcome.cause is Cause.NO_AGENT and reading.agents is Agents.NO_DESTINATION:
        if reading.foreign is Foreign.UNTOLD:
            yield "an answer came back, but only an agent there could tell whose it was"
        elif reading.foreign is Foreign.PORT_UNREACHABLE:
            yield "an ICMP port unreachable came back, as from a closed port and from a firewall"
    elif outcome.cause is Cause.NOT_WATCHED:
        if reading.forward is Delivery.NOT_SENT:
            number = prevailing_errno(sightings)
            if number is None:
                yield "the source did not report what it sent"
            else:
                yield f"too few probes could be sent: {_errno(number)}"
        elif reading.foreign is Foreign.UNTOLD:
            yield "answers came back, but nobody saw whether the destination sent them"
        else:
            yield from _unwatched(outcome, reading)


def _of_loss(
    outcome: Outcome, reading: Reading, sightings: Sightings, setting: Setting
) -> Iterator[str]:
    if outcome.leg is Leg.FORWARD:
        refused = prevailing_errno(sightings, REFUSALS)
        if refused is not None:
            what = "all" if outcome.evidence.sent == 0 else "some"
            yield f"the source's kernel refused {what} of them: {_errno(refused)}"
        if outcome.cause is Cause.REJECTED:
            yield from _of_error(outcome, sightings, setting)
    if outcome.leg is Leg.REPLY and _all_resets(outcome, sightings, setting):
        yield _RESETS
    if outcome.place is None:
        yield from _unwatched(outcome, reading)
    if reading.forward is Delivery.SOME and not reading.one_way:
        answers = (outcome.evidence.answered, outcome.evidence.received)
        if 0 in answers:
            yield "and of the probes accepted, none was answered"


def _all_resets(outcome: Outcome, sightings: Sightings, setting: Setting) -> bool:
    """Of answers that did not leave their node it is known only by who has the port there."""
    if setting.probe.protocol is not Protocol.TCP or outcome.cause is not Cause.DROPPED:
        return False
    if sightings.answered:
        return not sightings.answered & ~sightings.answered_rst
    return outcome.place is Place.DESTINATION and setting.serves is False


def _of_error(outcome: Outcome, sightings: Sightings, setting: Setting) -> Iterator[str]:
    error = sightings.error
    if error is None or outcome.rejected_by != error.sender:
        return
    name = _ICMP[setting.family].get((error.type, error.code), "error")
    version = "v6" if setting.family is Family.IPV6 else ""
    yield f"ICMP{version} {name} ({error.type}/{error.code})"
    if outcome.place is None and error.sender in setting.destination_addresses:
        yield "it bears the destination's address, in which a firewall on the path may speak too"


def _unwatched(outcome: Outcome, reading: Reading) -> Iterator[str]:
    """The vantage points that would have told more."""
    evidence = outcome.evidence
    points = ["left", "arrived", "accepted"]
    if reading.forward is Delivery.ALL:
        points = ["answered", "returned", "received"]
    missing = [point for point in points if getattr(evidence, point) is None]
    if missing and reading.agents is Agents.BOTH:
        yield f"not watched: {', '.join(missing)}"


def _errno(number: int) -> str:
    return _ERRNO.get(number, f"errno {number}")
