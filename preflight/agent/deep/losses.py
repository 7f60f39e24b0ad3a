"""Which shots, or answers to them, went in at one end of this node's own firewall and did not come
out at the other. Pure.
"""

import errno

from preflight.agent.deep.shots import DESTINATION
from preflight.agent.deep.sightings import FORWARD, REPLY
from preflight.agent.firewall.xtmatch import Lost
from preflight.agent.inet import packed
from preflight.agent.packets import ICMP, ICMPV6, TCP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from preflight.agent.deep.shots import Trial
    from preflight.agent.deep.sightings import Record

_KINDS = {(ICMP, FORWARD): 8, (ICMP, REPLY): 0, (ICMPV6, FORWARD): 128, (ICMPV6, REPLY): 129}
_SYN = 0x02
# Where it goes in and where it should come out, by leg, for each role.
_WAYS = {
    (DESTINATION, FORWARD): ("arrived", "accepted"),
    (DESTINATION, REPLY): ("accepted", "answered"),
    ("source", REPLY): ("returned", "received"),
}


class Loss:
    """Shots of one leg, all to one port; or with the shot None other packets without which nothing
    of some trials gets through. `trials` are positions.
    """

    def __init__(
        self, trials: "list[int]", leg: str, shots: "Sequence[int | None]", lost: Lost
    ) -> None:
        self.trials = trials
        self.leg = leg
        self.shots = shots
        self.lost = lost


def losses(
    trials: "list[Trial]", records: "list[Record]", watched: "list[set[str]]"
) -> "list[Loss]":
    """Of all trials; `watched` are the vantage points of each that lost nothing themselves."""
    out: list[Loss] = []
    for position, (trial, record) in enumerate(zip(trials, records)):
        for leg in (FORWARD, REPLY):
            way = _WAYS.get((trial.role, leg))
            if way is None:
                mask = 0
                for shot, code in record.send_errors.items():
                    # What OUTPUT and POSTROUTING drop; all else is the kernel's own word.
                    mask |= (code == errno.EPERM) << shot
            elif watched[position] >= set(way):
                mask = record.masks.get(way[0], 0) & ~record.masks.get(way[1], 0)
            else:
                continue
            by_port: dict[int, list[int]] = {}
            for shot, wanted in enumerate(trial.shots):
                if mask >> shot & 1:
                    by_port.setdefault(wanted.port, []).append(shot)
            out += [
                Loss([position], leg, shots, _lost(trial, record, leg, shots))
                for shots in by_port.values()
            ]
    return out


def translations(
    trials: "list[Trial]",
    records: "list[Record]",
    watched: "list[set[str]]",
    picked: "list[str]",
) -> "list[Loss]":
    """Shots that this node's own rules made something else of, as taps show them, or that may have
    been led away inside it. `picked` are the source addresses that routes give each trial's.
    """
    out: list[Loss] = []
    for position, (trial, record) in enumerate(zip(trials, records)):
        found: dict[tuple[str, int], list[int]] = {}
        for shot, wanted in enumerate(trial.shots):
            for side in _became(trial, record, shot, watched[position], picked[position]):
                found.setdefault((side, wanted.port), []).append(shot)
        for (side, _), shots in found.items():
            lost = _lost(trial, record, FORWARD, shots)
            lost.rewrites = side
            if side == "source" and picked[position] and not trial.two_way:
                lost.source = picked[position]
            out.append(Loss([position], FORWARD, shots, lost))
    return out


def _became(
    trial: "Trial", record: "Record", shot: int, watched: "set[str]", picked: str
) -> "list[str]":
    def seen(vantage: str) -> bool:
        return bool(record.masks.get(vantage, 0) >> shot & 1)

    if trial.role == DESTINATION:
        lost = watched >= {"arrived", "accepted"} and seen("arrived") and not seen("accepted")
        return ["destination"] if lost else []
    row = record.passages.get("left", {}).get(shot)
    if row is None:
        return ["destination"] if "left" in watched and seen("sent") and not seen("left") else []
    port = trial.shots[shot].port
    out = []
    if _differ(row[3], trial.far) or (row[4] != port and trial.protocol not in (ICMP, ICMPV6)):
        out.append("destination")
    if _differ(row[1], picked if picked and not trial.two_way else trial.own):
        out.append("source")
    return out


def _differ(one: object, other: str) -> bool:
    family = 6 if ":" in other else 4
    return packed(family, str(one)) != packed(family, other)


def _lost(trial: "Trial", record: "Record", leg: str, shots: "list[int]") -> Lost:
    incoming = (leg == FORWARD) is (trial.role == DESTINATION)
    rows = record.passages.get("arrived" if leg == FORWARD else "returned", {})
    seen = [rows[shot] for shot in shots if shot in rows] if incoming else []
    far = {str(row[1]) for row in seen}
    devices = {str(row[0]) for row in seen}
    peer = far.pop() if len(far) == 1 else trial.far  # as translated on the way
    ports = sorted({trial.shots[shot].source_port for shot in shots})
    port = trial.shots[shots[0]].port
    from_ports, to_port = (ports, port) if leg == FORWARD else ([port], _only(ports))
    echo = trial.protocol in (ICMP, ICMPV6)
    return Lost(
        trial.protocol,
        peer if incoming else trial.own,
        trial.own if incoming else peer,
        len(shots),
        incoming,
        None if echo else from_ports,
        None if echo else to_port,
        _KINDS.get((trial.protocol, leg)),
        _SYN if trial.protocol == TCP and leg == FORWARD else None,
        devices.pop() if len(devices) == 1 else "",
    )


def _only(ports: "list[int]") -> "int | None":
    return ports[0] if len(ports) == 1 else None
