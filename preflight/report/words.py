"""What a person is told about cells that are not open: what, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.detail import ran_out
from preflight.core.findings.rejecters import Rejecter
from preflight.core.findings.rejecters import rejecter as known
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import (
    AgentState,
    Cause,
    Evidence,
    Leg,
    Outcome,
    Place,
    Verdict,
)

STATES: Mapping[AgentState, str] = {
    AgentState.OK: "ok",
    AgentState.NONE: "no agent wanted",
    AgentState.UNREACHABLE: "unreachable",
    AgentState.HOST_KEY: "host key",
    AgentState.AUTH: "login refused",
    AgentState.BECOME: "no sudo",
    AgentState.NO_PYTHON: "no python3",
    AgentState.NO_PRIVILEGE: "no privilege",
    AgentState.WRONG_ADDRESS: "wrong address",
    AgentState.LOST: "lost",
    AgentState.FAILED: "failed",
}

_PLACES = {
    Place.SOURCE: "inside the source",
    Place.PATH: "on the path",
    Place.DESTINATION: "inside the destination",
    None: "place not known",
}
_CAUSES = {
    Cause.NO_ROUTE: "no route",
    Cause.NO_NEIGHBOUR: "no neighbour",
    Cause.NOT_LISTENING: "nobody serves the port",
    Cause.NOT_CILIUM: "something other than Cilium serves the port",
    Cause.NOT_ANSWERING: "what serves the port does not answer",
    Cause.DATA: "SYNs pass, connections carry nothing",
    Cause.ECHO_IGNORED: "echo ignored by its kernel",
    Cause.SIZE: "full-size packets only",
    Cause.NO_AGENT: "no agent",
    Cause.NOT_WATCHED: "not watched",
}

_Remedies = Mapping[tuple[Leg | None, Place | Cause | None], str]

# The cause is looked up first, then the place. {what} is `UDP 6081`, {who} the rejecter.
_BLOCKED: _Remedies = {
    (Leg.FORWARD, Cause.NO_ROUTE): "The source has no route there, or one that forbids it: "
    "correct its routes.",
    (Leg.FORWARD, Cause.NO_NEIGHBOUR): "The source's next hop does not answer ARP or neighbour "
    "discovery, so nothing leaves: look at addresses, VLANs and links.",
    (Leg.FORWARD, Cause.SIZE): "Every packet was too big for the way: make the MTU the same all "
    "along it.",
    (Leg.FORWARD, Cause.INTERCEPTED): "Something on the way answers in the destination's place: "
    "take {what} between nodes out of that proxy or firewall.",
    (Leg.FORWARD, Place.SOURCE): "It never leaves the source: allow {what} out of that node, in "
    "its own firewall (OUTPUT).",
    (Leg.FORWARD, Place.PATH): "It leaves the source and never arrives: allow {what} in what lies "
    "between, the network's firewalls or security groups.",
    (Leg.FORWARD, Place.DESTINATION): "It arrives at the destination, which throws it away itself: "
    "allow {what} into that node, in its own firewall (INPUT).",
    (Leg.FORWARD, None): "Where it stops could not be watched: allow {what} at both nodes and in "
    "what lies between.",
    (Leg.FORWARD, Cause.DATA): "SYNs pass and what a connection carries does not: look for what "
    "inspects connections to {what}, and for rules that a SYN does not meet.",
    (Leg.REPLY, Cause.DATA): "The request arrives and its answer does not come back: look for what "
    "inspects connections to {what}, and for rules that a SYN-ACK does not meet.",
    (Leg.REPLY, Cause.ECHO_IGNORED): "The destination's kernel is told not to answer: set sysctl "
    "net.ipv4.icmp_echo_ignore_all to 0 there.",
    (Leg.REPLY, Cause.INTERCEPTED): "It arrives, but what comes back is not what the destination "
    "sent: something on the way answers {what} in its place.",
    (Leg.REPLY, Cause.REJECTED): "It arrives, but something on the way sends an RST in the "
    "destination's name: allow {what} there, in both directions.",
    (Leg.REPLY, Place.DESTINATION): "The destination gets it, but its answer never leaves: allow "
    "answers to {what} out of that node (OUTPUT).",
    (Leg.REPLY, Place.PATH): "The destination answers, but the answer is lost on its way back: "
    "allow answers to {what} in what lies between, and look for another way back.",
    (Leg.REPLY, Place.SOURCE): "The answer comes back to the source, which throws it away itself: "
    "allow answers to {what} into that node (INPUT).",
    (Leg.REPLY, None): "It arrives, but no answer comes back, and where that stops could not be "
    "watched.",
}
_IN_OVERLAY: _Remedies = {
    (None, Cause.REJECTED): "Something in the overlay refuses {what}: a policy, or the endpoint.",
    (None, Cause.DROPPED): "Its health endpoint lives, and {what} is lost on the way to it, or its "
    "answer on the way back.",
    (None, Cause.INTERCEPTED): "Something else answers {what}: two owners of one address?",
}
_REJECTED_BY = "{who} refuses it: allow {what} there."
_RAN_OUT = (
    "Nobody refuses {what}: its TTL runs out. Look for a routing loop, and for what sets the TTL."
)
_LOSSY: _Remedies = {
    (Leg.FORWARD, Cause.SIZE): "Small packets pass, full-size ones do not: a device on the way has "
    "a smaller MTU, or drops fragments.",
    (Leg.FORWARD, Cause.NO_NEIGHBOUR): "The next hop answers ARP or neighbour discovery only now "
    "and then: a full neighbour table, or an unsteady link.",
    (Leg.FORWARD, Cause.REJECTED): "Some arrive, others are refused: a rate limit, or firewalls "
    "side by side with different rules.",
    (Leg.FORWARD, Place.SOURCE): "Some never leave the source: look in its own firewall (OUTPUT, "
    "POSTROUTING) for a limit, and for a translation that runs out of ports.",
    (Leg.FORWARD, Place.DESTINATION): "Some arrive and are thrown away by the destination itself: "
    "look in its own firewall (INPUT) for a limit.",
    (Leg.REPLY, Place.DESTINATION): "All arrive, but only some of the answers leave the "
    "destination: look in its own firewall (OUTPUT) for a limit.",
    (Leg.REPLY, Place.SOURCE): "All is answered, and the source itself throws some of the answers "
    "away: look in its own firewall (INPUT) for a limit.",
    (Leg.FORWARD, None): "Some arrive, others disappear: random loss, a rate limit, or one of "
    "several paths is dead.",
    (None, Cause.SIZE): "Small packets pass in the overlay, full-size ones do not: its MTU is "
    "greater than the path's.",
    (None, None): "Some are answered in the overlay, others are not.",
    (Leg.REPLY, None): "All arrive, but only some of the answers come back: random loss, a rate "
    "limit, or one of several paths back is dead.",
}
_UNKNOWN: Mapping[Cause | None, str] = {
    Cause.NO_AGENT: "Without an agent at both ends this cannot be seen.",
    Cause.NOT_WATCHED: "A capture lost packets, or the probes could not be sent, so nothing is "
    "proved. Lost packets: run again, with a lower --rate if it stays. An ip rule that leads "
    "another way: see `ip rule` on the source.",
    Cause.INTERRUPTED: "The run ended before this was decided: run again.",
}
_CLOSED: Mapping[Cause | None, str] = {
    Cause.NOT_LISTENING: "The way is open, but nobody serves {what}: is Cilium's agent running "
    "there?",
    Cause.NOT_CILIUM: "The way is open, but another program than Cilium's agent has {what} there: "
    "stop it.",
    Cause.NOT_ANSWERING: "The way is open, but what serves {what} there answers nothing: is "
    "Cilium's agent well?",
}


def headline(kind: Kind, rejecter: Rejecter | None) -> str:
    """`blocked on the path, dropped`."""
    place = _PLACES[kind.place]
    how = _CAUSES.get(kind.cause, str(kind.cause)) if kind.cause else None
    if kind.cause is Cause.REJECTED and rejecter:
        how = f"its TTL ran out at {rejecter.who}" if rejecter.expired else f"rejected {rejecter}"
    if kind.verdict is Verdict.UNKNOWN:
        return f"unknown, {how}" if how else "unknown"
    if kind.verdict is Verdict.CLOSED:
        return f"closed, {how}" if how else "closed"
    subject = "answer " if kind.leg is Leg.REPLY else ""
    where = f", {place}" if kind.place is None else f" {place}"
    return f"{subject}{kind.verdict}{where}{f', {how}' if how else ''}"


def remedy(kind: Kind, what: str, rejecter: Rejecter | None) -> str:
    """One or two sentences: what that means and what to do."""
    text: str | None = None
    by = rejecter.who if rejecter is not None and rejecter.itself else ""
    if kind.verdict is Verdict.UNKNOWN:
        text = _UNKNOWN.get(kind.cause, "")
    elif kind.verdict is Verdict.CLOSED:
        text = _CLOSED.get(kind.cause, _CLOSED[Cause.NOT_LISTENING])
    elif kind.verdict is Verdict.LOSSY:
        keys = ((kind.leg, kind.cause), (kind.leg, kind.place), (kind.leg, None))
        text = next((_LOSSY[key] for key in keys if key in _LOSSY), "")
    elif by and kind.cause is Cause.REJECTED and kind.leg is Leg.FORWARD:
        text = _RAN_OUT if rejecter is not None and rejecter.expired else _REJECTED_BY
    else:
        text = {**_BLOCKED, **_IN_OVERLAY}.get((kind.leg, kind.cause)) or _BLOCKED.get(
            (kind.leg, kind.place), ""
        )
    return text.format(what=what, who=by[:1].upper() + by[1:])


def rejecter(kind: Kind, matrix: Matrix, example: Outcome | None = None) -> Rejecter | None:
    """Who rejected, as far as the cell's own evidence goes; `example` is one of its outcomes."""
    if kind.rejected_by is None:
        return None
    owners = {address: node.name for node in matrix.nodes for address in node.addresses}
    found = known(kind.rejected_by, kind.place, owners)
    return found._replace(expired=example is not None and ran_out(example))


def tests_in_words(tests: Sequence[FamilyProbe], matrix: Matrix) -> str:
    """`geneve, health`, with families only where the matrix has more than one."""
    families = {
        p: [t.family for t in tests if t.probe == p] for p in sorted({t.probe for t in tests})
    }
    names = {p: matrix.probes[p].name for p in families}
    if len(matrix.families) == 1:
        return ", ".join(names.values())
    if len({tuple(f) for f in families.values()}) == 1:
        return f"{', '.join(names.values())} ({' + '.join(next(iter(families.values())))})"
    return ", ".join(f"{names[p]} ({' + '.join(f)})" for p, f in families.items())


def evidence(seen: Evidence) -> str:
    """`sent 20, left 20, arrived 0`: up to the first that saw nothing. Empty: none was watched."""
    return ", ".join(_counts(seen))


def _counts(seen: Evidence) -> Iterator[str]:
    for vantage, count in seen._asdict().items():
        if count is None:
            continue
        yield f"{vantage} {count}"
        if count == 0:
            break
