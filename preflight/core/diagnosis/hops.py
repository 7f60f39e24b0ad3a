"""How far a flow comes: the routers that answer a rising TTL, and where they fall silent.

A router that does not answer proves little, since many never do. What is told as the place is only
where nothing answers any more behind the last one that did, and nothing arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from itertools import combinations

from preflight.core.diagnosis.arrivals import arrived, shots_in, source_reported, tried
from preflight.core.diagnosis.conclusions import Path, Router
from preflight.core.diagnosis.expiry import TTL_EXCEEDED
from preflight.core.diagnosis.trial import Observed, Purpose, ShotError
from preflight.core.groups import Kind
from preflight.core.model import Cause, Family, Leg, Place, Verdict

_UNREACHABLE = {Family.IPV4: 3, Family.IPV6: 1}
_TOO_BIG = (Family.IPV4, 3, 4)


def path(observed: Observed, on_link: bool | None) -> Path | None:
    """What HOP shots found. None where none was fired and what arrived tells no distance.

    `on_link`: whether the source sends it straight to the destination, as its routes say; None
    where they are not known. `silent` is None where no router answered, where anything of the flow
    arrived, was rejected aloud or goes round in a loop, and where the destination did not watch.
    """
    main, control = _hops(observed)
    distance = _distance(observed, main)
    straight = distance == 0 if on_link is None else on_link
    in_its_name, of_control = _in_its_name(observed, main), _in_its_name(observed, control)
    routers = tuple(r for r in _routers(observed, main) if r not in in_its_name)
    if distance is not None and routers and distance < routers[-1].ttl:
        distance = None  # the TTL is not what it was when it left: something on the way set it
    if not main and distance is None and not straight:
        return None
    silent = None if in_its_name else _silent(observed, main, routers)
    return Path(
        routers=routers,
        silent=silent,
        distance=distance,
        on_link=straight,
        control=tuple(r for r in _routers(observed, control) if r not in of_control),
        as_destination=_translated(observed, main, control),
    )


def path_back(observed: Observed) -> Path | None:
    """The same of an answer, whose hops count from the destination; None where none was sent."""
    if not observed.back:
        return None
    family = observed.trial.family
    told = {e for e in observed.back_errors if (e.type, e.code) == TTL_EXCEEDED[family]}
    routers = tuple(sorted(Router(e.ttl, e.sender) for e in told))
    straight = bool(observed.gateway_back) and observed.gateway_back == observed.source_address
    clear = bool(routers) and len(told) == len(set(observed.back_errors)) and not _around(routers)
    silent = routers[-1].ttl + 1 if clear and _ends_back(observed, routers[-1]) else None
    if silent is not None and silent > observed.back:
        silent = None
    return Path(routers, silent, None, straight, back=True)


def ends_at(observed: Observed, kind: Kind) -> str:
    """The last router that answers of those that lead to where a packet of `kind` is lost, or the
    first hop where none does; empty where it is not lost on the path.
    """
    lost = kind.verdict is Verdict.BLOCKED and kind.cause is Cause.DROPPED
    if not lost or kind.place is not Place.PATH:
        return ""
    answers = kind.leg is Leg.REPLY
    way = path_back(observed) if answers else path(observed, on_link=False)
    if way is not None and way.routers:
        return way.routers[-1].address if way.silent is not None else ""
    return observed.gateway_back if answers else observed.gateway


def _ends_back(observed: Observed, last: Router) -> bool:
    """Whether answers are lost behind that router.

    A firewall forgets a connection with the first RST: those that come after may be dropped for
    that, by a router that lets the first one pass. So they count only where there is no other.
    """
    if not observed.seen.get("answered") or observed.seen.get("returned") != 0:
        return False
    return not observed.resets.get("answered") or last.ttl == _distance(observed, 0)


def loop(path: Path) -> tuple[str, ...]:
    """Routers between which the flow goes round, in the order in which it meets them; or nothing.

    One that answers again after another did: the flow came by twice. One that answers several times
    running is none, as an address translation may make all that is behind it look like one.
    """
    return _around(path.routers)


def _around(routers: Sequence[Router]) -> tuple[str, ...]:
    for first, again in combinations(routers, 2):
        between = [r.address for r in routers if first.ttl < r.ttl < again.ttl]
        if again.address == first.address and set(between) - {first.address}:
            return tuple(dict.fromkeys((first.address, *between)))
    return ()


def _hops(observed: Observed) -> tuple[int, int]:
    """HOP shots of the flow that is bad, and of the one to compare with: they go to another port.

    Those that never left, or left with a TTL that this node itself had set anew, tell nothing.
    """
    shots = observed.trial.shots
    own = _port(observed)
    left = observed.seen.get("left")
    passages = observed.passages.get("left", {})
    main = control = 0
    for i in shots_in(observed.mask(Purpose.HOP) & tried(observed)):
        gone = left is None or left >> i & 1
        if gone and (i not in passages or passages[i].ttl == shots[i].ttl):
            if shots[i].port == own:
                main |= 1 << i
            else:
                control |= 1 << i
    return main, control


def _port(observed: Observed) -> int:
    """The probe's own: where PLAIN shots go."""
    shots = observed.trial.shots
    for purpose in (Purpose.PLAIN, Purpose.HOP):
        for shot in shots:
            if shot.purpose is purpose:
                return shot.port
    return 0


def _routers(observed: Observed, hops: int) -> list[Router]:
    exceeded = TTL_EXCEEDED[observed.trial.family]
    found = {
        Router(observed.trial.shots[error.shot].ttl, error.sender)
        for error in observed.errors
        if hops >> error.shot & 1 and (error.type, error.code) == exceeded
    }
    return sorted(found)


def _in_its_name(observed: Observed, hops: int) -> set[Router]:
    """Those that bear the destination's address, of shots that did not get there."""
    meant, there = observed.destination_address, arrived(observed)
    if not meant:
        return set()
    rest = replace(observed, errors=[e for e in observed.errors if not (there or 0) >> e.shot & 1])
    own = ip_address(meant)
    return {r for r in _routers(rest, hops) if ip_address(r.address) == own}


def _translated(observed: Observed, main: int, control: int) -> tuple[int, ...]:
    """The TTLs that prove that this flow's destination is another's behind those routers.

    Not where anything of it arrives, nor where another port's flow is answered so and arrives all
    the same: an address that is always translated leads to the node.
    """
    there = arrived(observed)
    if there is None:
        return ()
    own = _port(observed)
    shots = observed.trial.shots
    ports = {shots[i].port for i in shots_in(there)}
    came_as = {ip_address(p.destination) for p in observed.passages.get("arrived", {}).values()}
    always = bool(ports and _in_its_name(observed, control))
    if own in ports or always or came_as - {ip_address(observed.destination_address or 0)}:
        return ()
    return tuple(sorted({r.ttl for r in _in_its_name(observed, main)}))


def _silent(observed: Observed, hops: int, routers: Sequence[Router]) -> int | None:
    there = arrived(observed)
    if not routers or there is None or there & hops or not source_reported(observed):
        return None
    if _around(routers):
        return None  # it ends nowhere, and routers tire of saying so
    if any(_rejected(observed, error) for error in observed.errors):
        return None
    last = routers[-1].ttl
    answered = {error.shot for error in observed.errors}
    shots = observed.trial.shots
    behind = [i for i in shots_in(hops) if shots[i].ttl > last]
    heard = {shots[i].ttl for i in behind if i in answered}
    return min({shots[i].ttl for i in behind} - heard, default=None)


def _rejected(observed: Observed, error: ShotError) -> bool:
    """Whether a shot to the probe's own port was refused; by the destination it is, if it got so
    far.
    """
    family = observed.trial.family
    return (
        error.type == _UNREACHABLE[family]
        and (family, error.type, error.code) != _TOO_BIG
        and observed.trial.shots[error.shot].port == _port(observed)
    )


def _distance(observed: Observed, hops: int) -> int | None:
    """Routers between the nodes, by what arrived: of the traced flow, else what all others say."""
    there = arrived(observed) or 0
    of_flow = {d for i in shots_in(there & hops) if (d := _passed_by(observed, i)) is not None}
    of_all = {d for i in shots_in(there) if (d := _passed_by(observed, i)) is not None}
    for found in (of_flow, of_all):
        if len(found) == 1:
            return found.pop()
        if found:
            return None  # paths of unlike length
    ttls = {observed.trial.shots[i].ttl for i in shots_in(hops)}
    lowest = min((observed.trial.shots[i].ttl for i in shots_in(there & hops)), default=None)
    if lowest is not None and (lowest == 1 or lowest - 1 in ttls):
        return lowest - 1
    return None


def _passed_by(observed: Observed, shot: int) -> int | None:
    """How many routers one shot passed; None where its TTL cannot tell."""
    end = observed.passages.get("arrived", {}).get(shot)
    if end is None:
        return None
    begin = observed.passages.get("left", {}).get(shot)
    ttl = observed.trial.shots[shot].ttl if begin is None else begin.ttl
    return ttl - end.ttl if end.ttl <= ttl else None
