"""Which source and control ports a trial uses, and in which order a sweep goes through them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# VXLAN, GENEVE, Linux's own VXLAN, Cilium's WireGuard.
TUNNEL_PORTS = (4789, 6081, 8472, 51871)

_LOW = (1, 1023, 500, 703, 340, 870)
_FIRST_HIGH = (1024, 1025)
_FIRST_SPREAD, _LAST = 1026, 65535
# What comes from these is dropped here and there as the echo of an attack, as is what comes from
# DNS's or NTP's port: such a flow is dead, and the network is none the worse for it.
_REFLECTORS = (1900, 3283, 3702, 5353, 5683, 11211, 27015)
_TRACEROUTE = 33434
_RESIDUES = 16  # simple link bundles choose a member by a port's low bits
_MISSING = 12  # residues at most that the fixed ports leave out
_MASK = (1 << 64) - 1


def usual_ports(port: int, count: int, draw: int = 0) -> list[int]:
    """Ordinary source ports for probes to `port`: a privileged one, the rest from all over."""
    return [_LOW[3], *_spread(count - 1, {*_LOW, *_FIRST_HIGH, port}, draw)]


def sweep_ports(port: int, count: int, known: Sequence[int], draw: int = 0) -> list[int]:
    """`count` source ports to tell flows apart by, 24 or more.

    Those at both sides of 1024, `port` itself (a stateful firewall takes that for a reply), as many
    of `known` as there is room for, because a dead flow has no other name than its ports, and
    others from all over the range, of which another `draw` gives others. Every residue modulo 16 is
    among them.
    """
    low = _LOW if count > 24 else _LOW[:4]
    chosen = list(dict.fromkeys((*low, *_FIRST_HIGH, port)))
    room = count - len(chosen) - _MISSING
    chosen += [p for p in dict.fromkeys(known) if p not in chosen][:room]
    return [*chosen, *_spread(count - len(chosen), set(chosen), draw)]


def control_ports(port: int, count: int) -> list[int]:
    """Other destination ports to compare with: the neighbour, then traceroute's. No tunnel's."""
    found: list[int] = []
    following = port + 1
    while len(found) < count:
        if following > _LAST:
            following = 1024
        if following in TUNNEL_PORTS or following == port or following in found:
            following += 1
            continue
        found.append(following)
        following = _TRACEROUTE
    return found


def shuffled(ports: Sequence[int], turn: int) -> list[int]:
    """`ports` in an order that looks random: the same for one `turn`, unrelated for another.

    What depends on time then hits each flow with equal chance in each turn, which is what
    `chance.lost_every_round` stands on.
    """
    return sorted(ports, key=lambda port: (_mixed(turn << 16 | port), port))


def _spread(count: int, taken: Collection[int], draw: int) -> list[int]:
    """Evenly from the unprivileged range; residues that `taken` lacks come first."""
    there = {port % _RESIDUES for port in taken}
    order = sorted(range(_RESIDUES), key=lambda residue: (residue in there, residue))
    avoided = {*taken, *TUNNEL_PORTS, *_REFLECTORS}
    out: list[int] = []
    room = (_LAST - _FIRST_SPREAD) // (2 * count + 1) if count else 1
    turn = draw * _RESIDUES % room
    for i in range(count):
        place = _FIRST_SPREAD + (2 * i + 1) * (_LAST - _FIRST_SPREAD) // (2 * count) - turn
        port = place - place % _RESIDUES + order[i % _RESIDUES]
        while port in avoided or port in out:
            port += _RESIDUES
        out.append(port)
    return out


def _mixed(number: int) -> int:
    """A permutation of 64-bit numbers without visible order (Steele's splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ number >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ number >> 27) * 0x94D049BB133111EB) & _MASK
    return number ^ number >> 31
