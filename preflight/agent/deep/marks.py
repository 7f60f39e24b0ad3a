"""What tells the shots of a trial, and the answers to them, from all else that a node's rules meet.

Pure. A mark is (family, protocol, [(base, offset, bytes)]), base being the network or the transport
header; a packet bears it where all of its bytes are there.
"""

import struct

from preflight.agent.deep.shots import SOURCE
from preflight.agent.inet import packed
from preflight.agent.packets import TCP, UDP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.deep.shots import Trial

    Part = tuple[str, int, bytes]
    Mark = tuple[int, int, tuple[Part, ...]]

_FLAGS_AT, _TAG_AT_ECHO = 13, 8
_SYN, _SYN_ACK, _RST_ACK = b"\x02", b"\x12", b"\x14"
_FROM_AT, _TO_AT = {4: 12, 6: 8}, {4: 16, 6: 24}
_MANY_PORTS = 4  # every packet of the node waits for each mark


def marks(trials: "list[Trial]", tag: bytes) -> "list[Mark]":
    """Those of all trials; `tag` is the run's. Both legs: what is sent, and what answers it.

    A SYN has no room for the tag, so addresses, flags and ports stand for it.
    """
    out: dict[Mark, None] = {}
    for trial in trials:
        if trial.protocol == TCP:
            out.update(dict.fromkeys(_tcp(trial)))
        else:
            at = 8 + trial.tag_at if trial.protocol == UDP else _TAG_AT_ECHO
            out[(trial.family, trial.protocol, (("transport", at, tag),))] = None
    return list(out)


def _tcp(trial: "Trial") -> "list[Mark]":
    far = packed(trial.family, trial.far)
    to_far = ("network", _TO_AT[trial.family], far)
    from_far = ("network", _FROM_AT[trial.family], far)
    there, back = (to_far, from_far) if trial.role == SOURCE else (from_far, to_far)
    ports = sorted({shot.port for shot in trial.shots})
    ends = [(there, back)]
    if trial.role != SOURCE and len(ports) <= _MANY_PORTS:
        # The path may have given it another source address.
        own = packed(trial.family, trial.own)
        ends.append(
            (("network", _TO_AT[trial.family], own), ("network", _FROM_AT[trial.family], own))
        )
    out: list[Mark] = []
    wanted_at = [
        part
        for there, back in ends
        for part in ((there, 2, _SYN), (back, 0, _SYN_ACK), (back, 0, _RST_ACK))
    ]
    for address, port_at, flags in wanted_at:
        parts = address, ("transport", _FLAGS_AT, flags)
        if len(ports) > _MANY_PORTS:
            out.append((trial.family, TCP, parts))
            continue
        for port in ports:
            wanted = ("transport", port_at, struct.pack("!H", port))
            out.append((trial.family, TCP, (*parts, wanted)))
    return out
