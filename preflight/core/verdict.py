"""From a reading to a verdict: one ordered table, and the code that walks it.

Rules that live here:

1. Every rule that turns evidence into a verdict is a row of `TABLE`. The first row that matches
   decides; the last row always matches.
2. `open` needs proof: every probe accepted, and where an answer is due every answer received and
   none that the destination did not send.
3. `blocked` and `lossy` need evidence: a watched vantage point that saw too little, a refused
   send, or an error message. What was not watched ends in `unknown`.
4. This file does not know what a socket, a mask or a count is.
5. What a `GET /hello` makes of a cell that is open here is `hello.py`'s, and a table too; so are
   the overlay's cells `overlay.py`'s.

The README's explanation of the cells is printed from the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from preflight.core.detail import detail
from preflight.core.evidence import Setting, Sightings, settle, tally
from preflight.core.hello import TABLE as HELLO_TABLE
from preflight.core.model import Cause, Leg, Outcome, Place, Verdict
from preflight.core.overlay import TABLE as OVERLAY_TABLE
from preflight.core.reading import Agents, Delivery, Foreign, Obstacle, Reading, read, rejecter
from preflight.core.row import AS_READ, AsRead, Row, when

_ALL, _SOME, _NONE = Delivery.ALL, Delivery.SOME, Delivery.NONE
_NOT_WATCHED = Delivery.NOT_WATCHED
_REJECTED = (Foreign.RESET, Foreign.ICMP_ERROR, Foreign.PORT_UNREACHABLE)
_HARMLESS = (Foreign.NOTHING, Foreign.PORT_UNREACHABLE, Foreign.TOO_BIG, Foreign.ICMP_ERROR)


def _open(meaning: str, **conditions: object) -> Row:
    return Row(when(forward=_ALL, **conditions), Verdict.OPEN, None, None, None, meaning)


def _closed(meaning: str, **conditions: object) -> Row:
    where = (Leg.FORWARD, Place.DESTINATION, Cause.NOT_LISTENING)
    return Row(when(forward=_ALL, unserved=True, **conditions), Verdict.CLOSED, *where, meaning)


def _unknown(cause: Cause, meaning: str, **conditions: object) -> Row:
    return Row(when(**conditions), Verdict.UNKNOWN, None, None, cause, meaning)


def _blocked(
    leg: Leg, place: Place | AsRead, cause: Cause, meaning: str, **conditions: object
) -> Row:
    return Row(when(**conditions), Verdict.BLOCKED, leg, place, cause, meaning)


def _lossy(
    leg: Leg, place: Place | AsRead, cause: Cause, meaning: str, **conditions: object
) -> Row:
    return Row(when(**conditions), Verdict.LOSSY, leg, place, cause, meaning)


TABLE: tuple[Row, ...] = (
    # Proof stands, whatever else was not watched.
    _closed(
        "Every probe was accepted, but nobody owns the port, and after the installation somebody "
        "must.",
        one_way=True,
    ),
    _open("Every probe was accepted by the destination: it got past its firewall.", one_way=True),
    _closed(
        "The path is open both ways, but the port answers with an RST, and after the installation "
        "somebody must serve it.",
        one_way=False,
        reply=_ALL,
        foreign=_HARMLESS,
    ),
    _open(
        "Every probe was accepted and its answer received, and the answer is the one that the "
        "destination sends: a SYN-ACK, an echo reply, or before the installation an RST.",
        one_way=False,
        reply=_ALL,
        foreign=_HARMLESS,
    ),
    # Nobody could look, or nobody has looked closely yet.
    _unknown(
        Cause.NO_AGENT,
        "One of the two nodes has no agent, and the other could not tell by itself.",
        agents=Agents.NO_SOURCE,
    ),
    _unknown(
        Cause.INTERRUPTED,
        "The run ended before this cell was probed with all vantage points watched.",
        final=False,
    ),
    # Forward, and none got through.
    _blocked(
        Leg.FORWARD,
        Place.SOURCE,
        Cause.NO_ROUTE,
        "The source has no route to the destination, or one that forbids it.",
        forward=_NONE,
        obstacle=Obstacle.NO_ROUTE,
    ),
    _blocked(
        Leg.FORWARD,
        Place.SOURCE,
        Cause.SIZE,
        "Every probe was too big for the device it was to leave by.",
        forward=_NONE,
        obstacle=Obstacle.SIZE,
    ),
    _blocked(
        Leg.FORWARD,
        Place.PATH,
        Cause.NO_NEIGHBOUR,
        "The source's next hop does not answer ARP or neighbour discovery, so nothing leaves.",
        forward=_NONE,
        obstacle=Obstacle.NO_NEIGHBOUR,
    ),
    _blocked(
        Leg.FORWARD,
        AS_READ,
        Cause.INTERCEPTED,
        "A SYN-ACK or an echo reply came back to a probe that the destination never accepted: "
        "something answers in its place.",
        forward=_NONE,
        foreign=Foreign.ANSWER,
    ),
    _blocked(
        Leg.FORWARD,
        AS_READ,
        Cause.REJECTED,
        "No probe was accepted, and an RST or an ICMP error said so.",
        forward=_NONE,
        foreign=_REJECTED,
    ),
    _blocked(
        Leg.FORWARD,
        AS_READ,
        Cause.DROPPED,
        "No probe was accepted, and nobody said so.",
        forward=_NONE,
    ),
    # Whether any was accepted is not known: errors count, their absence does not.
    _blocked(
        Leg.FORWARD,
        AS_READ,
        Cause.REJECTED,
        "No probe was accepted, and an RST or an ICMP error said so.",
        forward=_NOT_WATCHED,
        foreign=Foreign.ICMP_ERROR,
    ),
    _blocked(
        Leg.FORWARD,
        AS_READ,
        Cause.REJECTED,
        "No probe was accepted, and an RST or an ICMP error said so.",
        forward=_NOT_WATCHED,
        foreign=Foreign.PORT_UNREACHABLE,  # for one-way probes: from a closed port, so expected
        one_way=False,
    ),
    _unknown(
        Cause.NO_AGENT,
        "One of the two nodes has no agent, and the other could not tell by itself.",
        forward=_NOT_WATCHED,
        agents=Agents.NO_DESTINATION,
    ),
    # Forward, and some got through. It is told before anything that the answers met.
    _lossy(
        Leg.FORWARD,
        Place.SOURCE,
        Cause.NO_ROUTE,
        "Most of the missing probes met no route in the source.",
        forward=_SOME,
        obstacle=Obstacle.NO_ROUTE,
    ),
    _lossy(
        Leg.FORWARD,
        AS_READ,
        Cause.SIZE,
        "Small probes pass, full-size ones do not: a device on the way has a smaller MTU.",
        forward=_SOME,
        obstacle=Obstacle.SIZE,
    ),
    _lossy(
        Leg.FORWARD,
        Place.PATH,
        Cause.NO_NEIGHBOUR,
        "The source's next hop answers ARP or neighbour discovery only now and then.",
        forward=_SOME,
        obstacle=Obstacle.NO_NEIGHBOUR,
    ),
    _lossy(
        Leg.FORWARD,
        AS_READ,
        Cause.INTERCEPTED,
        "Some probes were accepted; to others something answered in the destination's place.",
        forward=_SOME,
        foreign=Foreign.ANSWER,
    ),
    _lossy(
        Leg.FORWARD,
        AS_READ,
        Cause.REJECTED,
        "Some probes were accepted; of others an RST or an ICMP error said that they were not.",
        forward=_SOME,
        foreign=(Foreign.RESET, Foreign.ICMP_ERROR),
    ),
    _lossy(
        Leg.FORWARD,
        AS_READ,
        Cause.DROPPED,
        "Some probes were accepted, others disappeared: random loss, a rate limit, or one of "
        "several paths is dead.",
        forward=_SOME,
    ),
    # All were accepted, so it is the answers.
    _unknown(
        Cause.NOT_WATCHED,
        "A vantage point that had to be watched was not: its capture lost packets, or the probes "
        "could not be sent.",
        forward=_ALL,
        foreign=Foreign.UNTOLD,
    ),
    _blocked(
        Leg.REPLY,
        AS_READ,
        Cause.INTERCEPTED,
        "Every probe was accepted, but the answers that came are not those that the destination "
        "sent.",
        forward=_ALL,
        reply=_NONE,
        foreign=Foreign.ANSWER,
    ),
    _blocked(
        Leg.REPLY,
        AS_READ,
        Cause.REJECTED,
        "Every probe was accepted, but an RST came that the destination never sent.",
        forward=_ALL,
        reply=_NONE,
        foreign=Foreign.RESET,
    ),
    _blocked(
        Leg.REPLY,
        Place.DESTINATION,
        Cause.ECHO_IGNORED,
        "Every echo request was accepted, but the destination's kernel is set to ignore them "
        "(sysctl icmp_echo_ignore_all).",
        forward=_ALL,
        reply=_NONE,
        obstacle=Obstacle.ECHO_IGNORED,
    ),
    _blocked(
        Leg.REPLY,
        AS_READ,
        Cause.DROPPED,
        "Every probe was accepted, but no answer came back.",
        forward=_ALL,
        reply=_NONE,
    ),
    _lossy(
        Leg.REPLY,
        AS_READ,
        Cause.INTERCEPTED,
        "Every probe was accepted, but some of the answers that came are not those that the "
        "destination sent.",
        forward=_ALL,
        reply=(_ALL, _SOME),
        foreign=Foreign.ANSWER,
    ),
    _lossy(
        Leg.REPLY,
        AS_READ,
        Cause.REJECTED,
        "Every probe was accepted, but to some an RST came that the destination never sent.",
        forward=_ALL,
        reply=(_ALL, _SOME),
        foreign=Foreign.RESET,
    ),
    _lossy(
        Leg.REPLY,
        AS_READ,
        Cause.DROPPED,
        "Every probe was accepted, but only some of the answers came back.",
        forward=_ALL,
        reply=_SOME,
    ),
    _unknown(
        Cause.NOT_WATCHED,
        "A vantage point that had to be watched was not: its capture lost packets, or the probes "
        "could not be sent.",
    ),
)


_Conditions = tuple[tuple[int, tuple[object, ...]], ...]
_WALK: tuple[tuple[Row, _Conditions], ...] = tuple(
    (row, tuple((Reading._fields.index(name), allowed) for name, allowed in row.when.items()))
    for row in TABLE
)


@cache
def decide(reading: Reading) -> Row:
    """The row of `TABLE` that a reading falls in."""
    for row, conditions in _WALK:
        for field, allowed in conditions:
            if reading[field] not in allowed:
                break
        else:
            return row
    raise AssertionError(reading)  # the last row has no conditions


def judge(sightings: Sightings, setting: Setting) -> Outcome:
    """The verdict on one cell. Pure and total: a caller may keep it for equal input."""
    seen = settle(sightings, setting)
    reading = read(sightings, setting, seen)
    row = decide(reading)
    place = row.place
    if isinstance(place, AsRead):
        place = reading.place if row.leg is Leg.FORWARD else reading.reply_place
    rejected_by = None
    if row.cause is Cause.REJECTED and row.leg is Leg.FORWARD:
        rejected_by = rejecter(sightings, setting, seen)
    outcome = Outcome(row.verdict, row.leg, place, row.cause, rejected_by, tally(seen))
    says = detail(outcome, reading, sightings, setting)
    return outcome if says is None else outcome._replace(detail=says)


def decided(sightings: Sightings, setting: Setting) -> Outcome | None:
    """The outcome where a first look already proves it, None where a closer look is due."""
    outcome = judge(sightings, setting)
    return outcome if outcome.verdict in (Verdict.OPEN, Verdict.CLOSED) else None


def meaning(outcome: Outcome, *, overlay: bool = False) -> str:
    """What an outcome means, in the words of the table that decided it."""
    asked = outcome.hello is not None and outcome.verdict is not Verdict.OPEN
    rows = OVERLAY_TABLE if overlay else HELLO_TABLE if asked else TABLE
    return " ".join(_meanings(rows).get((outcome.verdict, outcome.leg, outcome.cause), ()))


def readme_table() -> str:
    """What each cell means, as a Markdown table made from `TABLE`."""
    lines = ["| verdict | leg | place | cause | what it means |", "|---|---|---|---|---|"]
    rows = (*TABLE, *HELLO_TABLE, *OVERLAY_TABLE)
    places = {(row.verdict, row.leg, row.cause): row.place for row in reversed(rows)}
    rank = list(Verdict)
    for key, sentences in sorted(_meanings(rows).items(), key=lambda item: rank.index(item[0][0])):
        verdict, leg, cause = key
        place = places[key]
        where = "where it was lost" if isinstance(place, AsRead) else place
        cells = (f"`{verdict}`", leg or "", where or "", cause or "", " ".join(sentences))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _meanings(
    rows: tuple[Row, ...],
) -> Mapping[tuple[Verdict, Leg | None, Cause | None], list[str]]:
    """The sentences of the rows that end alike, each once, in the table's order."""
    found: dict[tuple[Verdict, Leg | None, Cause | None], list[str]] = {}
    for row in rows:
        sentences = found.setdefault((row.verdict, row.leg, row.cause), [])
        if row.meaning not in sentences:
            sentences.append(row.meaning)
    return found
