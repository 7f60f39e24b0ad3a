"""What the path changes in a packet: how it left its source, and how it arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from ipaddress import ip_address

from preflight.core.diagnosis.conclusions import Rewrite, RewrittenField
from preflight.core.diagnosis.trial import Observed, Passage

_SHOWN = 3

_WORDS: Mapping[RewrittenField, Callable[[Passage], str]] = {
    RewrittenField.SOURCE: lambda seen: seen.source,
    RewrittenField.SOURCE_PORT: lambda seen: str(seen.source_port),
    RewrittenField.DESTINATION: lambda seen: seen.destination,
    RewrittenField.PORT: lambda seen: str(seen.port),
    RewrittenField.TOS: lambda seen: f"0x{seen.tos:02x}",
    RewrittenField.DONT_FRAGMENT: lambda seen: "set" if seen.dont_fragment else "not set",
}


def rewrites(observed: Observed) -> tuple[Rewrite, ...]:
    """The fields that arrived other than they left, over all shots seen at both ends.

    `arrived` says how often, where that is not always. What the source's own node changes it has
    changed before it left: see `foreign_sources`. A TTL is no rewriting but a distance.
    """
    left, arrived = observed.passages.get("left", {}), observed.passages.get("arrived", {})
    both = sorted(left.keys() & arrived.keys())
    found = []
    for field, word in _WORDS.items():
        pairs = [(word(left[i]), word(arrived[i])) for i in both]
        changed = [pair for pair in pairs if pair[0] != pair[1]]
        if changed:
            before, after = (_several(side) for side in zip(*changed, strict=True))
            if len(changed) < len(pairs):
                after += f" in {len(changed)} of {len(pairs)} packets"
            found.append(Rewrite(field, before, after))
    return tuple(found)


def readdressed(observed: Observed) -> str:
    """The destination that shots left their own node with, if it is not the one they were given."""
    meant = observed.destination_address
    if not meant:
        return ""
    left = Counter(seen.destination for seen in observed.passages.get("left", {}).values())
    others = [a for a, _ in left.most_common() if ip_address(a) != ip_address(meant)]
    return others[0] if others else ""


def foreign_sources(observed: Observed, own: Collection[str]) -> tuple[str, ...]:
    """Source addresses that shots left with and that are none of the source's `own`.

    That is the source's own doing, its routes' or its firewall's, and not the path's.
    """
    known = {ip_address(address) for address in own}
    left = Counter(seen.source for seen in observed.passages.get("left", {}).values())
    return tuple(a for a, _ in left.most_common() if ip_address(a) not in known)


def _several(words: Collection[str]) -> str:
    """All different ones, the most frequent first."""
    different = [word for word, _ in Counter(words).most_common()]
    more = len(different) - _SHOWN
    shown = ", ".join(different[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
