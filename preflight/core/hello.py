"""What came of a `GET /hello` to TCP 4240, and what that makes of a cell whose SYNs passed.

After the installation a SYN-ACK says only that somebody serves the port. Cilium's health server
answers `GET /hello` with 200 and an empty body; anything else is another program, or something on
the way, or a way that passes SYNs and nothing after them.

Rules that live here:

1. Nothing is asked of a cell that is not open by its SYNs, so all that is decided here is what the
   verdict table of `verdict.py` left open. The first row of `TABLE` that matches decides.
2. What sits at the destination is said only where the destination's own node was heard too: it asks
   itself, at the same address, or its device was seen to send the answer.
3. Silence is laid to the network only where taps saw between which two points it began.
4. Silence is laid to the program that serves the port only where a kernel acknowledged its own
   node's request, or where so many connections wait for the program that there is room for none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntFlag, StrEnum
from functools import cache
from typing import NamedTuple

from preflight.core.model import Came, Cause, Hello, Leg, Outcome, Place, Verdict
from preflight.core.row import AS_READ, AsRead, Row, when

PATH = "/hello"
_SHOWN = 40  # characters of what a server says of itself


class Heard(NamedTuple):
    """All that is known of a cell's requests: the input of the table."""

    agent: bool  # the destination has one
    came: Came  # to the source
    own: Came | None = None  # to the destination, which asked itself, or where that is better and
    # this request was not acknowledged, to another node; None: it did not ask
    there: bool | None = None  # the destination's device sent that answer; None: not watched
    leg: Leg | None = None  # where the request, or its answer, was lost or ended
    place: Place | None = None  # None: not known
    full: bool = False  # the queue of connections that the port's program has yet to take


DOMAINS: Mapping[str, tuple[object, ...]] = {
    "agent": (True, False),
    "came": tuple(Came),
    "own": (*Came, None),
    "there": (True, False, None),
    "leg": (*Leg, None),
    "place": (*Place, None),
    "full": (True, False),
}

_SPOKE = (Came.HTTP, Came.OTHER)
_MUTE = (Came.SILENT, Came.ENDED, Came.RESET)
_NO_ANSWER = (*_MUTE, Came.UNTAKEN, Came.REFUSED, Came.UNANSWERED)
_QUIET = (Came.SILENT, Came.UNTAKEN, Came.UNANSWERED)
_ANOTHER = (
    "The port is open, but what serves it does not answer `GET /hello` as Cilium does, with 200 "
    "and an empty body."
)
_NOT_EVEN_ITS_OWN = (
    "The port takes connections, but answers no `GET /hello`, not even its own node's."
)
_IN_ITS_PLACE = "`GET /hello` was answered by something else than what serves the port there."
_DATA = (
    "SYNs pass, but a connection does not carry `GET /hello` and its answer: the request, or the "
    "answer to it, is lost or cut off."
)


def _intercepted(place: Place | None, **conditions: object) -> Row:
    where = (Verdict.BLOCKED, Leg.FORWARD, place, Cause.INTERCEPTED)
    return Row(when(came=_SPOKE, **conditions), *where, _IN_ITS_PLACE)


def _closed(cause: Cause, meaning: str, **conditions: object) -> Row:
    where = (Verdict.CLOSED, Leg.FORWARD, Place.DESTINATION, cause)
    return Row(when(**conditions), *where, meaning)


def _data(leg: Leg, **conditions: object) -> Row:
    read = when(came=_NO_ANSWER, leg=leg, **conditions)
    return Row(read, Verdict.BLOCKED, leg, AS_READ, Cause.DATA, _DATA)


TABLE: tuple[Row, ...] = (
    Row(
        when(agent=False),
        Verdict.UNKNOWN, None, None, Cause.NO_AGENT,
        "One of the two nodes has no agent, and the other could not tell by itself.",
    ),
    Row(
        when(came=Came.CILIUM),
        Verdict.OPEN, None, None, None,
        "After the installation `GET /hello` was answered as Cilium does, too.",
    ),
    _intercepted(Place.DESTINATION, own=Came.CILIUM, there=True),
    _intercepted(Place.PATH, own=Came.CILIUM, there=False),
    _intercepted(None, own=Came.CILIUM),
    _closed(Cause.NOT_CILIUM, _ANOTHER, came=_SPOKE, own=_SPOKE),
    _closed(Cause.NOT_CILIUM, _ANOTHER, came=_SPOKE, there=True),
    _intercepted(Place.PATH, there=False),
    _closed(Cause.NOT_CILIUM, _ANOTHER, came=_NO_ANSWER, own=_SPOKE),
    _closed(
        Cause.NOT_LISTENING,
        "The path is open both ways, but the port answers with an RST, and after the installation "
        "somebody must serve it.",
        came=Came.REFUSED, own=Came.REFUSED,
    ),
    _closed(Cause.NOT_ANSWERING, _NOT_EVEN_ITS_OWN, came=(*_MUTE, Came.UNTAKEN), own=_MUTE),
    _closed(Cause.NOT_ANSWERING, _NOT_EVEN_ITS_OWN, came=_QUIET, own=_QUIET, full=True),
    _data(Leg.FORWARD, place=(Place.SOURCE, Place.PATH)),
    _data(Leg.FORWARD, place=Place.DESTINATION, full=False),
    _data(Leg.REPLY, place=(Place.PATH, Place.SOURCE)),
    _data(Leg.REPLY, place=Place.DESTINATION, own=Came.CILIUM),
    Row(
        {},
        Verdict.UNKNOWN, None, None, Cause.NOT_WATCHED,
        "`GET /hello` was not answered as Cilium does, and whether that is the network's doing or "
        "the destination's was not seen.",
    ),
)  # fmt: skip


@cache
def decide(heard: Heard) -> tuple[Verdict, Leg | None, Place | None, Cause | None]:
    """The verdict on a cell whose SYNs passed."""
    for row in TABLE:
        if all(getattr(heard, field) in allowed for field, allowed in row.when.items()):
            place = heard.place if isinstance(row.place, AsRead) else row.place
            return row.verdict, row.leg, place, row.cause
    raise AssertionError(heard)  # the last row has no conditions


_LOST = {
    (Leg.FORWARD, Place.SOURCE): "it did not leave the source's device",
    (Leg.FORWARD, Place.PATH): "it left the source's device and did not come to the destination's",
    (Leg.FORWARD, Place.DESTINATION): "it came to the destination's device, and its kernel did not "
    "get it",
    (Leg.REPLY, Place.DESTINATION): "the answer did not leave the destination's device",
    (Leg.REPLY, Place.PATH): "the answer left the destination's device and did not come to the "
    "source's",
    (Leg.REPLY, Place.SOURCE): "the answer came to the source's device, and its kernel did not get "
    "it",
}
_ENDED = {
    Place.SOURCE: "what ended it did not come in at the source's device",
    Place.PATH: "what ended it came in at the source's device and never left the destination's",
    Place.DESTINATION: "what ended it left the destination's device",
}


def settle(before: Outcome, heard: Heard, hello: Hello, own: Hello | None) -> Outcome:
    """A cell that was open, or of which one end alone is known, after `GET /hello`.

    `hello` is what the source heard, `own` what the destination did, asking itself.
    """
    verdict, leg, place, cause = decide(heard)
    if verdict is Verdict.OPEN:
        return before._replace(hello=hello)
    says = detail(hello, own, full=heard.full)
    if verdict is Verdict.UNKNOWN and before.verdict is Verdict.UNKNOWN:
        told = "; ".join(filter(None, (before.detail, says)))
        return before._replace(detail=told, hello=hello)
    if cause is Cause.DATA and leg is not None and place is not None:
        ended = hello.answer in (Came.RESET, Came.ENDED, Came.REFUSED)
        says += f"; {_ENDED[place] if ended else _LOST[leg, place]}"
    telling = (
        own if own is not None and hello.answer not in _SPOKE and own.answer in _SPOKE else hello
    )
    return Outcome(verdict, leg, place, cause, None, before.evidence, says, telling)


def detail(hello: Hello, own: Hello | None, *, full: bool = False) -> str:
    """What was heard, in one sentence."""
    text = f"GET /hello: {in_words(hello)}"
    if own is not None:
        same = own._replace(holder=None) == hello._replace(holder=None)
        heard = "the same" if same else in_words(own)
        text += f"; asked by its own node: {heard}"
    holder = hello.holder or (own and own.holder)
    if full:
        text += "; the queue of connections that the program there has yet to take is full"
    return f"{text}; {holder} has the port" if holder else text


# --- what came


class End(StrEnum):
    """How an agent's request ended."""

    DONE = "done"  # the answer was complete, or more than enough
    CLOSED = "closed"
    RESET = "reset"
    TIMEOUT = "timeout"
    UNTAKEN = "untaken"  # likewise, and the request was not acknowledged
    REFUSED = "refused"  # no connection, with an errno
    UNSENT = "unsent"


_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})(?:[ \r\n]|$)")
_NO_BYTES = {
    End.CLOSED: Came.ENDED,
    End.RESET: Came.RESET,
    End.DONE: Came.ENDED,
    End.UNTAKEN: Came.UNTAKEN,
}
_WITHOUT = {End.REFUSED: Came.REFUSED, End.UNSENT: Came.UNSENT}
_HTTP = b"HTTP/"
_TLS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake


def parse(end: End, head: bytes, size: int, *, connected: bool, errno: int = 0) -> Hello:
    """What the source heard: `head` is the beginning of `size` bytes."""
    if not connected:
        why = f"errno {errno}" if end is End.UNSENT else None
        return Hello(_WITHOUT.get(end, Came.UNANSWERED), None, why)
    if not size:
        return Hello(_NO_BYTES.get(end, Came.SILENT))
    if head[: len(_HTTP)] != _HTTP[: len(head)]:
        return Hello(Came.OTHER, None, _looks(head))
    found = _STATUS.match(head)
    status = int(found.group(1)) if found else None
    fields, complete, body = head.partition(b"\r\n\r\n")
    named = _fields(fields)
    server = named.get(b"server")
    says = _plain(server) if server else None
    empty = _empty(named, body, size - len(fields) - len(complete), ended=end is End.CLOSED)
    if status == 200 and complete and empty:
        return Hello(Came.CILIUM, status, None)
    return Hello(Came.HTTP, status, says)


def _fields(head: bytes) -> dict[bytes, bytes]:
    """The header fields by their names in lower case; of several of one name the last."""
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _empty(fields: Mapping[bytes, bytes], body: bytes, size: int, *, ended: bool) -> bool:
    """Whether the body is empty for sure."""
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        return size == len(body) and body == b"0\r\n\r\n"
    if size:
        return False
    length = fields.get(b"content-length")
    return ended if length is None else length.strip(b"0") == b"" and length != b""


def _looks(head: bytes) -> str | None:
    if head[:2] in _TLS:
        return "TLS"
    return _plain(head.split(b"\n")[0]) or None


def _plain(text: bytes) -> str:
    """At most so many printable characters of what a stranger has sent."""
    words = "".join(chr(b) if 0x20 <= b < 0x7F else "?" for b in text.strip())
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"


def in_words(hello: Hello) -> str:
    """`HTTP 404 from 'nginx'`."""
    if hello.answer is Came.HTTP:
        status = f"HTTP {hello.status}" if hello.status is not None else "HTTP, cut short"
        if hello.status == 200:
            status += ", but no empty body"
        return f"{status} from '{hello.says}'" if hello.says else status
    if hello.answer is Came.OTHER:
        return f"'{hello.says}', which is not HTTP" if hello.says else "bytes that are not HTTP"
    if hello.answer is Came.UNSENT:
        return "the source could not ask" + (f" ({hello.says})" if hello.says else "")
    return {
        Came.CILIUM: "200 and an empty body",
        Came.ENDED: "the connection was closed without a word",
        Came.RESET: "the connection was reset",
        Came.SILENT: "nothing came",
        Came.UNTAKEN: "nothing came, and the request was not acknowledged",
        Came.REFUSED: "the connection was refused",
        Came.UNANSWERED: "no connection came about",
    }[hello.answer]


# --- where it was lost


class Passed(IntFlag):
    """What a node's tap saw of one connection; the agents report it so (`agent.ear`)."""

    SYN = 1
    DATA = 2  # of the request
    SYN_ACK = 4
    ACK = 8  # the destination acknowledged data
    ANSWER = 16  # data of the answer
    END = 32  # an RST or FIN from the destination's side


class Course(NamedTuple):
    """How far a request came."""

    there: bool | None = None
    leg: Leg | None = None
    place: Place | None = None


_STAGES = (
    (Leg.FORWARD, Place.SOURCE),
    (Leg.FORWARD, Place.PATH),
    (Leg.FORWARD, Place.DESTINATION),
    (Leg.REPLY, Place.DESTINATION),
    (Leg.REPLY, Place.PATH),
    (Leg.REPLY, Place.SOURCE),
)


def follow(came: Came, source: Passed | None, destination: Passed | None) -> Course:
    """Where it was lost or ended, as the taps of both ends saw it; None is not watched.

    A destination that did not see the SYN of a connection that came about cannot tell it from
    others: something has rewritten its addresses or ports.
    """
    stood = came not in (Came.REFUSED, Came.UNANSWERED, Came.UNSENT)
    if stood and destination is not None and not destination & Passed.SYN:
        destination = None
    there = None if destination is None else bool(destination & Passed.ANSWER)
    if came in (Came.RESET, Came.ENDED, Came.REFUSED):
        return Course(there, *_ended(source, destination, stood=stood))
    if came in _QUIET:
        return Course(there, *_lost(source, destination, stood=stood))
    return Course(there)


def _ended(
    source: Passed | None, destination: Passed | None, *, stood: bool
) -> tuple[Leg | None, Place | None]:
    if source is None or destination is None:
        return None, None
    if not source & Passed.END:
        return Leg.FORWARD, Place.SOURCE
    taken = Passed.ACK | Passed.ANSWER if stood else Passed.SYN_ACK
    leg = Leg.REPLY if destination & taken else Leg.FORWARD
    return leg, Place.DESTINATION if destination & Passed.END else Place.PATH


def _lost(
    source: Passed | None, destination: Passed | None, *, stood: bool
) -> tuple[Leg | None, Place | None]:
    request, answer = (Passed.DATA, Passed.ANSWER) if stood else (Passed.SYN, Passed.SYN_ACK)
    taken = Passed.ACK | answer
    points = [
        None if tap is None else bool(tap & wanted)
        for tap, wanted in (
            (source, request), (destination, request), (destination, taken),
            (destination, answer), (source, answer),
        )
    ]  # fmt: skip
    points.append(False)  # it did not come up to who asked
    return _between(points)


def _between(points: Sequence[bool | None]) -> tuple[Leg | None, Place | None]:
    """The stage between the last point that saw it and the first that did not."""
    last = max((i for i, seen in enumerate(points) if seen), default=-1)
    missed = next(i for i in range(last + 1, len(points)) if points[i] is False)
    stages = set(_STAGES[last + 1 : missed + 1])
    return stages.pop() if len(stages) == 1 else (None, None)
