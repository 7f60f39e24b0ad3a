"""What probes to a node's health endpoint came to, as far as one end can tell.

Nobody watches inside the overlay: the devices of both nodes see a tunnel's packets there. So the
evidence is one-sided, what was sent and which answers came, and a cell that is blocked here has
neither leg nor place.

Rules that live here:

1. The first row of `TABLE` that matches decides; the last always does.
2. Silence is laid to the overlay only where the endpoint is known to live: its own node asks it
   too, at the same address. Without an agent there nobody can tell.
3. Which fault it is is not decided here: `findings.overlay` reads it with the underlay's cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from preflight.core.evidence import REFUSALS, Errno, IcmpError
from preflight.core.hello import in_words
from preflight.core.model import Came, Cause, Evidence, Family, Hello, Leg, Outcome, Place, Verdict
from preflight.core.reading import Foreign, icmp_says
from preflight.core.row import Row, when

_NO_ROUTE = (Errno.ENETUNREACH, Errno.EHOSTUNREACH, Errno.EACCES, Errno.EINVAL)


class Got(StrEnum):
    """What came back."""

    ALL = "all"
    SMALL = "small"  # an answer to every probe but the full-size ones
    SOME = "some"
    NONE = "none"
    ANOTHER = "another"  # an answer, and not Cilium's
    UNSENT = "unsent"  # the source could not ask


class Said(StrEnum):
    """What came instead."""

    NOTHING = "nothing"
    REJECTED = "rejected"  # an RST, an ICMP error, the source's own firewall
    NO_ROUTE = "no-route"  # the source's own kernel


class Own(StrEnum):
    """What the endpoint's own node got of it, at the same address."""

    ANSWERS = "answers"
    SILENT = "silent"  # nothing, or a refusal
    ANOTHER = "another"
    NOT_ASKED = "not-asked"  # all was well
    NO_AGENT = "no-agent"
    NOT_KNOWN = "not-known"  # it was to ask, and could not


class Heard(NamedTuple):
    """All that is known of a cell: the input of the table."""

    source: bool  # its agent was there
    got: Got
    said: Said = Said.NOTHING
    own: Own = Own.NOT_ASKED


DOMAINS: Mapping[str, tuple[object, ...]] = {
    "source": (True, False),
    "got": tuple(Got),
    "said": tuple(Said),
    "own": tuple(Own),
}

_LITTLE = (Got.NONE, Got.UNSENT)


def _blocked(cause: Cause, meaning: str, **conditions: object) -> Row:
    return Row(when(**conditions), Verdict.BLOCKED, None, None, cause, meaning)


def _closed(cause: Cause, meaning: str, **conditions: object) -> Row:
    return Row(when(**conditions), Verdict.CLOSED, None, Place.DESTINATION, cause, meaning)


def _lossy(cause: Cause, meaning: str, **conditions: object) -> Row:
    return Row(when(**conditions), Verdict.LOSSY, None, None, cause, meaning)


def _unknown(cause: Cause, meaning: str, **conditions: object) -> Row:
    return Row(when(**conditions), Verdict.UNKNOWN, None, None, cause, meaning)


_NO_AGENT = "One of the two nodes has no agent, and the other could not tell by itself."

TABLE: tuple[Row, ...] = (
    _unknown(Cause.NO_AGENT, _NO_AGENT, source=False),
    Row(
        when(got=Got.ALL),
        Verdict.OPEN, None, None, None,
        "In the overlay every probe was answered by the destination's health endpoint, "
        "`GET /hello` as Cilium does.",
    ),
    Row(
        when(got=_LITTLE, said=Said.NO_ROUTE),
        Verdict.BLOCKED, Leg.FORWARD, Place.SOURCE, Cause.NO_ROUTE,
        "The source has no route to the destination, or one that forbids it.",
    ),
    _closed(
        Cause.NOT_CILIUM,
        "In the overlay: what answers at the health endpoint's address, to its own node too, is "
        "not Cilium's.",
        got=Got.ANOTHER, own=Own.ANOTHER,
    ),
    _blocked(
        Cause.INTERCEPTED,
        "In the overlay: the health endpoint answers its own node as Cilium does, and something "
        "else answers the source in its place.",
        got=Got.ANOTHER, own=Own.ANSWERS,
    ),
    _lossy(
        Cause.SIZE,
        "In the overlay: small echo requests are answered, those of the route's full MTU are not.",
        got=Got.SMALL,
    ),
    _lossy(
        Cause.REJECTED,
        "In the overlay: some probes were answered, and an RST or an ICMP error came to others.",
        got=Got.SOME, said=Said.REJECTED,
    ),
    _lossy(
        Cause.DROPPED,
        "In the overlay: some probes were answered, others were not.",
        got=Got.SOME,
    ),
    _closed(
        Cause.NOT_ANSWERING,
        "In the overlay: the health endpoint does not answer its own node either, so nothing is "
        "known of the way to it.",
        got=(Got.NONE, Got.ANOTHER), own=(Own.SILENT, Own.ANOTHER),
    ),
    _blocked(
        Cause.REJECTED,
        "In the overlay: no probe was answered, and an RST or an ICMP error said so.",
        got=_LITTLE, said=Said.REJECTED,
    ),
    _blocked(
        Cause.DROPPED,
        "In the overlay: no probe was answered, nobody said so, and the health endpoint answers "
        "its own node.",
        got=Got.NONE, own=Own.ANSWERS,
    ),
    _unknown(Cause.NO_AGENT, _NO_AGENT, got=(Got.NONE, Got.ANOTHER), own=Own.NO_AGENT),
    _unknown(
        Cause.NOT_WATCHED,
        "In the overlay: the source could not ask, or whether the health endpoint lives was not "
        "seen.",
    ),
)  # fmt: skip


@cache
def decide(heard: Heard) -> Row:
    """The row of `TABLE` that matches."""
    for row in TABLE:
        if all(getattr(heard, field) in allowed for field, allowed in row.when.items()):
            return row
    raise AssertionError(heard)  # the last row has no conditions


# --- echo requests


class Echoes(NamedTuple):
    """What became of one cell's echo requests, as the source's agent tells it."""

    small: int  # sent
    full: int  # sent, of the route's full MTU
    answered_small: int = 0
    answered_full: int = 0
    wanted: int = 0  # how many were to be sent
    errno: int = 0  # of a send that was refused
    error: IcmpError | None = None
    size: int = 0  # bytes of a full-size packet

    @property
    def complete(self) -> bool:
        """Everything was sent and answered."""
        return self.sent == self.wanted == self.answered

    @property
    def sent(self) -> int:
        """Small and full-size ones."""
        return self.small + self.full

    @property
    def answered(self) -> int:
        """Small and full-size ones."""
        return self.answered_small + self.answered_full


def of_echoes(it: Echoes, family: Family, own: Own) -> Outcome:
    """A cell's outcome; `own` is what the endpoint's own node got."""
    says = icmp_says(it.error, family)
    said = Said.NOTHING
    if says in (Foreign.ICMP_ERROR, Foreign.PORT_UNREACHABLE) or it.errno == Errno.EPERM:
        said = Said.REJECTED
    if not it.sent and it.errno in _NO_ROUTE:
        said = Said.NO_ROUTE
    outcome = _outcome(Heard(True, _got(it), said, own), Evidence(it.sent, received=it.answered))
    if outcome.verdict is Verdict.OPEN:
        return outcome
    told = []
    if outcome.cause is Cause.SIZE:
        told.append(f"full size is {it.size} bytes, by the source's route")
    if it.errno:
        what = "all" if not it.sent else "some"
        told.append(f"the source's kernel refused {what} of them: errno {it.errno}")
    if outcome.cause is Cause.REJECTED and it.error is not None:
        name = "ICMPv6" if family is Family.IPV6 else "ICMP"
        told.append(f"{name} error {it.error.type}/{it.error.code}")
        outcome = outcome._replace(rejected_by=it.error.sender)
    return outcome._replace(detail=_told(told, outcome, own))


def _got(it: Echoes) -> Got:
    if it.complete:
        return Got.ALL
    if not it.sent or 2 * it.sent < it.wanted:
        return Got.UNSENT if it.errno not in (Errno.EPERM,) else Got.NONE
    if not it.answered:
        return Got.NONE
    if it.small and it.answered_small == it.small and not it.answered_full:
        return Got.SMALL
    return Got.SOME


def own_of_echoes(it: Echoes | None) -> Own:
    """What an endpoint's own node got, as a word."""
    if it is None or not it.sent:
        return Own.NOT_KNOWN
    return Own.ANSWERS if it.answered else Own.SILENT


# --- GET /hello

_MUTE = (
    Came.ENDED, Came.RESET, Came.SILENT, Came.UNTAKEN, Came.UNANSWERED, Came.REFUSED,
)  # fmt: skip


def of_hello(hello: Hello, errno: int, own: Own) -> Outcome:
    """A cell's outcome from what came of its `GET /hello`; `errno` where nothing connected."""
    said, got = Said.NOTHING, Got.NONE
    if hello.answer is Came.CILIUM:
        got = Got.ALL
    elif hello.answer in (Came.HTTP, Came.OTHER):
        got = Got.ANOTHER
    elif hello.answer is Came.UNSENT:
        got = Got.UNSENT
        said = Said.NO_ROUTE if errno in _NO_ROUTE else Said.NOTHING
        if errno == Errno.EPERM:
            said = Said.REJECTED
    elif hello.answer is Came.REFUSED:
        said = Said.REJECTED
    sent = 0 if got is Got.UNSENT else 1
    seen = Evidence(sent, received=int(got in (Got.ALL, Got.ANOTHER)))
    outcome = _outcome(Heard(True, got, said, own), seen)._replace(hello=hello)
    if outcome.verdict is Verdict.OPEN:
        return outcome
    told = [f"GET /hello: {in_words(hello)}"]
    if errno and errno not in REFUSALS:
        told.append(f"errno {errno}")
    return outcome._replace(detail=_told(told, outcome, own))


def own_of_hello(hello: Hello | None) -> Own:
    """What an endpoint's own node got, as a word."""
    if hello is None or hello.answer is Came.UNSENT:
        return Own.NOT_KNOWN
    if hello.answer is Came.CILIUM:
        return Own.ANSWERS
    return Own.SILENT if hello.answer in _MUTE else Own.ANOTHER


# --- both

_OWN_TOLD: Mapping[Own, str] = {
    Own.ANSWERS: "it answers its own node",
    Own.SILENT: "it does not answer its own node either",
    Own.ANOTHER: "its own node gets the like",
    Own.NO_AGENT: "without an agent there nobody knows whether it lives",
}


def without_agent() -> Outcome:
    """Of a cell whose source has no agent."""
    return _outcome(Heard(source=False, got=Got.UNSENT), Evidence())


def _outcome(heard: Heard, seen: Evidence) -> Outcome:
    row = decide(heard)
    place = row.place if isinstance(row.place, Place) else None
    return Outcome(row.verdict, row.leg, place, row.cause, None, seen)


def _told(told: list[str], outcome: Outcome, own: Own) -> str | None:
    if outcome.verdict is not Verdict.LOSSY and own in _OWN_TOLD:
        told = [*told, _OWN_TOLD[own]]
    return "; ".join(told) or None
