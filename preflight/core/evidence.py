"""What both ends saw of one cell, and how many probes each vantage point counts.

Rules that live here, and nowhere else:

1. A vantage point that was not watched stays None. None is never evidence of a drop.
2. Within one leg a later sighting proves the earlier ones. `answered` is proved by nothing but
   the destination's own tap, because an answer can be forged.
3. A probe that its own kernel had no room for (ENOBUFS and the like) was never sent: it says
   nothing about the network and is left out.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from preflight.core.model import Evidence, Family, Phase, Probe


class IcmpError(NamedTuple):
    """An ICMP error message that quotes one of our probes; ICMPv6 numbers on IPv6."""

    sender: str
    type: int
    code: int


@dataclass(slots=True)
class Sightings:
    """One cell in one look, as both agents reported it.

    The masks are sets of the probes' sequence numbers, one bit each. None means that the vantage
    point was not watched: nobody looked, or its socket lost packets. A socket that saw every
    planned probe has proved its case, whatever else it lost: its mask need not be withheld.
    Bits outside `planned` are ignored.
    """

    planned: int
    full_size: int = 0  # subset of planned: sent at the device's full MTU with DF
    sent: int | None = None
    left: int | None = None
    arrived: int | None = None
    accepted: int | None = None
    answered: int | None = None  # any kind of answer, here and below
    returned: int | None = None
    received: int | None = None
    answered_rst: int = 0  # TCP: subsets of answered; what is not in it is ignored
    answered_syn_ack: int = 0
    received_rst: int = 0  # TCP: subsets of received; one probe may have drawn both
    received_syn_ack: int = 0
    send_errors: Mapping[int, int] = field(default_factory=dict)  # Linux errno -> mask
    error: IcmpError | None = None  # the most telling one that the source received
    neighbour_failed: bool = False  # the next hop's neighbour entry is INCOMPLETE or FAILED


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known around a cell."""

    probe: Probe
    family: Family
    phase: Phase
    source_agent: bool  # an agent ran there and answered to the end of the look
    destination_agent: bool
    source_addresses: tuple[str, ...]
    destination_addresses: tuple[str, ...]
    serves: bool | None = None  # somebody owns the port at the destination; None: not known
    echo_ignored: bool = False  # the destination's sysctl icmp_echo_ignore_all of this family
    final: bool = True  # False: a first look, only the raw sockets at both ends were watched


class Errno(IntEnum):
    """Linux's numbers: the errors happen on the nodes, and the controller may be another system."""

    EPERM = 1
    EAGAIN = 11
    ENOMEM = 12
    EACCES = 13
    EXDEV = 18  # the agent's: an `ip rule` for the protocol leads another way than a raw socket's
    EINVAL = 22
    EMSGSIZE = 90
    EADDRNOTAVAIL = 99
    ENETUNREACH = 101
    ENOBUFS = 105
    EHOSTUNREACH = 113


# Any other errno means that the kernel could not send just then: rule 3.
REFUSALS = frozenset(
    {
        Errno.EPERM,  # netfilter's OUTPUT or POSTROUTING
        Errno.ENETUNREACH,
        Errno.EHOSTUNREACH,
        Errno.EACCES,  # a route of type prohibit
        Errno.EINVAL,  # a route of type blackhole
        Errno.EMSGSIZE,
    }
)


class Seen(NamedTuple):
    """The masks of the seven vantage points after rules 1 to 3, and of the probes that count."""

    sent: int | None
    left: int | None
    arrived: int | None
    accepted: int | None
    answered: int | None
    returned: int | None
    received: int | None
    tried: int  # sent, or refused for good; all planned ones where `sent` is not known
    answered_rst: int
    answered_syn_ack: int
    received_rst: int
    received_syn_ack: int


def settle(sightings: Sightings, setting: Setting | None = None) -> Seen:
    """Apply the rules of this file.

    With `setting`, what does not apply there is None: answers to one-way probes, and what a
    destination whose agent is gone did not report to the end.
    """
    planned = sightings.planned
    accepted, arrived, left, seen = _proved(
        planned, sightings.accepted, sightings.arrived, sightings.left
    )
    sent, refused = _sends(sightings)
    tried = planned
    if sent is not None:
        sent |= seen
        if setting is None or setting.source_agent:
            tried = sent | refused

    answered, returned, received = (
        None if mask is None else mask & tried  # rule 3
        for mask in (sightings.answered, sightings.returned, sightings.received)
    )
    if returned is not None and received is not None:
        # A probe that never left draws no answer from the network: the RST that its own kernel
        # made for it came up the loopback device.
        returned |= received if sent is None else received & sent

    if setting is not None:
        if setting.probe.one_way:
            answered = returned = received = None
        if not setting.destination_agent and accepted != tried:
            arrived = accepted = answered = None
    return Seen(
        sent,
        left,
        arrived,
        accepted,
        answered,
        returned,
        received,
        tried,
        sightings.answered_rst & (answered or 0),
        sightings.answered_syn_ack & (answered or 0),
        sightings.received_rst & (received or 0),
        sightings.received_syn_ack & (received or 0),
    )


def counts(sightings: Sightings, setting: Setting | None = None) -> Evidence:
    """How many distinct probes each vantage point saw; `setting` as in `settle`."""
    return tally(settle(sightings, setting))


def tally(seen: Seen) -> Evidence:
    """The sizes of settled masks."""
    return Evidence(*[None if mask is None else mask.bit_count() for mask in seen[:7]])


def prevailing_errno(sightings: Sightings, among: Container[int] | None = None) -> int | None:
    """The errno (one `among` those given) with which `sendto` failed most often.

    The lowest of equals; None where it never failed so.
    """
    failures = [
        (-(mask & sightings.planned).bit_count(), number)
        for number, mask in sightings.send_errors.items()
        if mask & sightings.planned and (among is None or number in among)
    ]
    return min(failures)[1] if failures else None


def _proved(
    planned: int, *latest_first: int | None
) -> tuple[int | None, int | None, int | None, int]:
    """Rule 2 on the vantage points past `sent`, and all that any of them saw."""
    seen = 0
    proved: list[int | None] = []
    for mask in latest_first:
        if mask is not None:
            seen |= mask & planned
        proved.append(None if mask is None else seen)
    accepted, arrived, left = proved
    return accepted, arrived, left, seen


def _sends(sightings: Sightings) -> tuple[int | None, int]:
    """The probes that the kernel took, and those that it refused for good."""
    failed = refused = 0
    for number, mask in sightings.send_errors.items():
        failed |= mask
        if number in REFUSALS:
            refused |= mask
    sent = sightings.sent
    if sent is None and sightings.send_errors:
        sent = ~failed  # it took what it did not refuse
    planned = sightings.planned
    return (None if sent is None else sent & planned), refused & planned
