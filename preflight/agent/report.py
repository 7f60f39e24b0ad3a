"""What a look saw, told in as few words as it takes: only what differs from the plan."""

from preflight.agent.look import IN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from preflight.agent.look import Cell, Look

_PROOFS = ("sent", "accepted", "received")
AT_DEVICES = ("left", "arrived", "answered", "returned")
_ANSWERS = ("answered", "returned", "received")


def report(look: "Look") -> "dict[str, object]":
    """The report frame.

    `seen[vantage]` lists [cell, peer, bit set] where the bit set is not all that was planned;
    `kinds[vantage]` [cell, peer, RSTs, SYN-ACKs] where not each was answered by an RST alone;
    `strays` counts packets with the run's tag that were not for this node, and shows some;
    `late` lists [cell, peer, in or out] where a packet came that an earlier look had waited for;
    `rtt[cell]` the least round-trip time in microseconds for each peer of `out`, 0 for none.
    """
    watched = _PROOFS + (AT_DEVICES if look.taps else ())
    seen: dict[str, list[list[int]]] = {v: [] for v in watched}
    kinds: dict[str, list[list[int]]] = {"answered": [], "received": []}
    rtt: dict[str, list[int]] = {}
    for cell in look.cells:
        for vantage in watched:
            if cell.two_way or vantage not in _ANSWERS:
                seen[vantage] += _exceptions(look, cell, vantage)
        if cell.protocol == 6:
            kinds["received"] += _kinds(look, cell, "received", cell.out)
            if look.taps:
                kinds["answered"] += _kinds(look, cell, "answered", cell.come)
        if cell.two_way:
            base = cell.number * look.run.peers
            rtt[str(cell.number)] = [round(look.rtt.get(base + p, 0) * 1e6) for p in cell.out]
    peers = look.run.peers
    return {
        "t": "report",
        "number": look.number,
        "seen": seen,
        "kinds": kinds,
        "rtt": rtt,
        "lost": sorted([vantage, cell] for vantage, cell in look.lost),
        "errors": [[s // peers, s % peers, *e] for s, e in look.errors.items()],
        "send_errors": [
            [s // peers, s % peers, code, mask] for (s, code), mask in look.send_errors.items()
        ],
        "late": sorted([cell, peer, side] for cell, peer, side in look.late),
        "strays": [look.strays, [list(sample) for sample in look.samples]],
        "heard": [[peer, round(offset, 3)] for peer, offset in look.heard.items()],
        "sources": [[s // peers, s % peers, a] for s, a in look.sources.items()],
    }


def _exceptions(look: "Look", cell: "Cell", vantage: str) -> "list[list[int]]":
    masks = look.seen[vantage]
    base = cell.number * look.run.peers
    peers = cell.come if vantage in IN else cell.out
    return [[cell.number, p, masks[base + p]] for p in peers if masks[base + p] != cell.planned]


def _kinds(look: "Look", cell: "Cell", vantage: str, peers: "list[int]") -> "list[list[int]]":
    rst, syn_ack = look.seen[vantage + "_rst"], look.seen[vantage + "_syn_ack"]
    base = cell.number * look.run.peers
    return [
        [cell.number, p, rst[base + p], syn_ack[base + p]]
        for p in peers
        if (rst[base + p], syn_ack[base + p]) != (cell.planned, 0)
    ]
