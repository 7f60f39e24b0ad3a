"""What follows from a cell's counts, in sentences: this many here, that many there, therefore."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.core.hello import in_words
from preflight.core.model import Cause, Leg, Outcome, Place, Verdict
from preflight.core.verdict import meaning

# Where cells of one leg and place were lost: the vantage point before and the one behind, what to
# say of their two numbers, and the place. {a} is the source, {b} the destination.
_BETWEEN = {
    (Leg.FORWARD, Place.SOURCE): (
        ("sent", "left"),
        "{a}'s kernel took {before}, its device sent {behind}",
        "inside {a}",
    ),
    (Leg.FORWARD, Place.PATH): (
        ("left", "arrived"),
        "{before} left {a}'s device, {behind} came to {b}'s",
        "on the path between the two",
    ),
    (Leg.FORWARD, Place.DESTINATION): (
        ("arrived", "accepted"),
        "{before} came to {b}'s device, {behind} got past its INPUT",
        "inside {b}",
    ),
    (Leg.REPLY, Place.DESTINATION): (
        ("accepted", "answered"),
        "{b} accepted {before}, its device sent {behind} back",
        "inside {b}",
    ),
    (Leg.REPLY, Place.PATH): (
        ("answered", "returned"),
        "{before} left {b}'s device as answers, {behind} came back to {a}'s",
        "on the way back",
    ),
    (Leg.REPLY, Place.SOURCE): (
        ("returned", "received"),
        "{before} came back to {a}'s device, {behind} got past its INPUT",
        "inside {a}",
    ),
}


def therefore(
    outcome: Outcome, source: str, destination: str, *, one_way: bool, overlay: bool = False
) -> Iterator[str]:
    """Sentences, from the counts to the verdict; the nodes go by name."""
    seen = outcome.evidence
    if overlay:
        yield from _in_overlay(outcome, destination)
        return
    if outcome.verdict is Verdict.OPEN and seen.accepted and (one_way or seen.received):
        proof = f"{destination}'s raw socket, behind its INPUT, got all {seen.accepted}"
        if not one_way:
            proof += f", and {source}'s got all {seen.received} answers"
        yield f"{proof}: therefore it is open."
        if outcome.hello is not None:
            yield f"GET /hello was answered by Cilium, with {in_words(outcome.hello)}."
        return
    compared = _compared(outcome, source, destination)
    if compared:
        yield compared
    if not compared or outcome.cause is not Cause.DROPPED:
        yield from filter(None, [meaning(outcome)])
    if outcome.rejected_by is not None:
        yield f"What said so bears the address {outcome.rejected_by}."
    if outcome.detail:
        yield f"{outcome.detail[0].upper()}{outcome.detail[1:]}."


def _compared(outcome: Outcome, source: str, destination: str) -> str | None:
    """The two vantage points around the loss; None where they do not show it."""
    if outcome.leg is None or outcome.place is None:
        return None
    points, text, place = _BETWEEN[outcome.leg, outcome.place]
    before, behind = (getattr(outcome.evidence, point) for point in points)
    some = "some of it" if outcome.verdict is Verdict.LOSSY else "it"
    where = place.format(a=source, b=destination)
    if points[0] == "sent" and before == 0:
        return f"{source}'s own kernel refused to send it: therefore it is lost {where}."
    if before is None or behind is None or behind >= before:
        return None
    said = text.format(a=source, b=destination, before=before, behind=behind or "none")
    return f"{said}: therefore {some} is lost {where}."


def _in_overlay(outcome: Outcome, destination: str) -> Iterator[str]:
    """One end alone tells of it."""
    if outcome.verdict is Verdict.OPEN:
        what = "every echo request" if outcome.hello is None else "GET /hello"
        yield f"{destination}'s health endpoint answered {what}: therefore the overlay is open."
        return
    yield from filter(None, [meaning(outcome, overlay=True)])
    if outcome.rejected_by is not None:
        yield f"What said so bears the address {outcome.rejected_by}."
    if outcome.detail:
        yield f"{outcome.detail[0].upper()}{outcome.detail[1:]}."
