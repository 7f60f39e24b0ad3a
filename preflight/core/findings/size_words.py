"""What findings say of sizes that pass, and of the DF bit. Sizes are those of IP packets.

Cilium's tunnels leave with DF not set over IPv4: it gives the kernel no BPF_F_DONT_FRAGMENT, and
`cilium_geneve` is made with `df unset` (Linux: `TUNNEL_DONT_FRAGMENT` in drivers/net/geneve.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Band, Diagnosis, DontFragment, Lengths, Size
from preflight.core.model import Family
from preflight.core.terms import listed

_IP = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
# No link of IPv4 (RFC 791: what every host takes) or of IPv6 (RFC 8200) is narrower.
LEAST_MTU = {Family.IPV4: 576, Family.IPV6: 1280}
_NEEDED = {
    Family.IPV4: "fragmentation is needed",
    Family.IPV6: "packets are too big",
}
_UNSAID = {Family.IPV4: "fragmentation needed", Family.IPV6: "packet too big"}


class Sized(NamedTuple):
    """What one look at one cell found of sizes."""

    pair: str  # `n1 → n3`
    family: Family
    diagnosis: Diagnosis


def title(what: str, found: Sequence[Sized]) -> str:
    """Of cells that lose packets for their size; `what` is the traffic."""
    for one in found:
        if one.diagnosis.lengths is not None:
            return _of_lengths(what, one.diagnosis.lengths)
    sizes = [(one.family, one.diagnosis.size) for one in found if one.diagnosis.size is not None]
    if not sizes:
        return f"full-size packets of {what} are lost, small ones pass"
    told = ""
    tellers = list(dict.fromkeys(size.reported_by for _, size in sizes))
    if all(size.black_hole for _, size in sizes):
        told = ", silently"
    elif None not in tellers:
        told = f", as {listed(str(teller) for teller in tellers)} say{'s' * (len(tellers) == 1)}"
    devices = sorted({size.device_mtu for _, size in sizes})
    device = f"the source's device has an MTU of {' or '.join(map(str, devices))}"
    return f"packets of {what} larger than {_at_most(sizes)} are lost{told}; {device}"


def _at_most(sizes: Sequence[tuple[Family, Size]]) -> str:
    """`1400 bytes`, `1300 to 1400 bytes, by the pair,`; of each family where they differ."""
    spans = {
        family: sorted({size.largest for other, size in sizes if other is family})
        for family in dict.fromkeys(family for family, _ in sizes)
    }
    if len({tuple(span) for span in spans.values()}) == 1:
        spans = dict(list(spans.items())[:1])
    words = [
        _span(span) + (f" over {_IP[family]}" if len(spans) > 1 else "")
        for family, span in spans.items()
    ]
    return listed(words)


def _span(sizes: Sequence[int]) -> str:
    if len(sizes) == 1:
        return f"{sizes[0]} bytes"
    return f"{sizes[0]} to {sizes[-1]} bytes, by the pair,"


def _of_lengths(what: str, lengths: Lengths) -> str:
    df = lengths.dont_fragment
    if df is not None:
        lost, passes = ("not set", "set") if df.passes else ("set", "not set")
        return f"{what} with DF {lost} is lost, whatever its size; with DF {passes} it passes"
    return f"packets of {what} of {listed(map(_band, lengths.bands))} bytes are lost, others pass"


def _band(band: Band) -> str:
    return str(band.first) if band.first == band.last else f"{band.first} to {band.last}"


def sentences(found: Sequence[Sized]) -> list[str]:
    """Each once: in full where all looks of a family say the same, else a line for each of them;
    the family where there are several.
    """
    several = len({one.family for one in found}) > 1
    out: list[str] = []
    for family in dict.fromkeys(one.family for one in found):
        own = [
            one
            for one in found
            if one.family is family and (one.diagnosis.size or one.diagnosis.lengths)
        ]
        full = [tuple(of(one.diagnosis, family, several=several)) for one in own]
        if len(set(full)) < 2:
            out += full[0] if full else ()
            continue
        pairs: dict[str, list[str]] = {}
        for one in own:
            pairs.setdefault(_short(one.diagnosis, family), []).append(one.pair)
        over = f" over {_IP[family]}" if several else ""
        out += [f"{', '.join(who)}{over}: {told}" for told, who in pairs.items()]
    return list(dict.fromkeys(out))


def _short(diagnosis: Diagnosis, family: Family) -> str:
    """What `of` says, in one line."""
    size = diagnosis.size
    if size is None:
        return "; ".join(of(diagnosis, family))
    cut = size.largest_fragmented
    df = "" if cut is None else f" with DF set, {cut} not set"
    told = "nobody says so" if size.black_hole else ""
    if size.reported_by:
        told = f"{size.reported_by} says MTU {size.reported_mtu}"
    refused = (
        "a first fragment arrives, the whole is not accepted" if size.fragments_refused else ""
    )
    largest = f"largest that arrives: {size.largest} bytes{df}"
    return "; ".join(filter(None, (largest, told, refused)))


def of(diagnosis: Diagnosis, family: Family, *, several: bool = False) -> Iterator[str]:
    """What one look says of sizes; `several`: the family is to be named."""
    if diagnosis.size is not None:
        yield from _size(diagnosis.size, family, several=several)
    if diagnosis.lengths is not None:
        for band in diagnosis.lengths.bands:
            yield _lost(band)
        if diagnosis.lengths.dont_fragment is not None:
            yield _bit(diagnosis.lengths.dont_fragment)


def _size(size: Size, family: Family, *, several: bool) -> Iterator[str]:
    ip = _IP[family] if several else "IP"
    df = " with DF set" if family is Family.IPV4 else ""
    yield (
        f"largest {ip} packet that arrives{df}: {size.largest} bytes; the source's device takes "
        f"{size.device_mtu}"
    )
    if size.largest_fragmented is not None:
        yield (
            f"largest that arrives with DF not set, as Cilium's tunnel sends: "
            f"{size.largest_fragmented} bytes"
        )
    if size.fragments_refused:
        yield (
            "of larger ones the first fragment comes to the destination's device, and the packet "
            "is not accepted: fragments are dropped inside the destination, or others on the way"
        )
    if size.reported_by:
        yield f"{size.reported_by} says that {_NEEDED[family]}, MTU {size.reported_mtu}"
    elif size.black_hole and size.largest < size.device_mtu:
        yield (f'nobody says "{_UNSAID[family]}": path MTU discovery cannot work (a black hole)')


def _lost(band: Band) -> str:
    sizes = (
        f"of {band.first} to {band.last} bytes"
        if band.first < band.last
        else (f"of {band.first} bytes")
    )
    passing = [str(size) for size in (band.below, band.above) if size]
    pass_ = f"; those of {listed(passing)} do" if passing else ""
    smallest = "" if band.below else ", and smaller ones were not sent"
    return f"no packet {sizes} arrives{pass_}{smallest}"


def _bit(df: DontFragment) -> str:
    sizes = f"{df.smallest} to {df.largest}" if df.smallest < df.largest else str(df.smallest)
    good, bad = ("set", "not set") if df.passes else ("not set", "set")
    cilium = "all of it is lost" if df.passes else "it gets through"
    return (
        f"of packets of {sizes} bytes in the same flows, {df.passed} of {df.sent} with DF {good} "
        f"arrive and none of {df.lost} with DF {bad}; Cilium's tunnel sends with DF not set: "
        f"{cilium}"
    )


def narrowest(found: Iterable[tuple[Family, Diagnosis]]) -> int:
    """The smallest of the largest sizes that arrive and that a link may take; 0 for none."""
    sizes = [d.size.largest for f, d in found if d.size and d.size.largest >= LEAST_MTU[f]]
    return min(sizes, default=0)
