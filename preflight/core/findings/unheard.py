"""Routers that one look did not hear, and another from the same node did.

Routers send few ICMP errors at a time (RFC 1812 4.3.2.8), so that a silent one may merely have
said its share elsewhere: that is no evidence of a path without routers that answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from preflight.core.findings.atoms import Looked
from preflight.core.findings.evidence import UNHEARD
from preflight.core.findings.model import Finding
from preflight.core.terms import listed

_SHOWN = 2  # of a node's routers


def heard(looks: Iterable[Looked]) -> dict[int, list[str]]:
    """The first routers that answered a rising TTL, by the node that sent it."""
    found: dict[int, list[str]] = {}
    for look in looks:
        path = look.diagnosis.path
        if path is not None and not path.back and path.routers and path.routers[0].ttl == 1:
            own = found.setdefault(look.source, [])
            if path.routers[0].address not in own:
                own.append(path.routers[0].address)
    return found


def with_heard(
    finding: Finding, names: Sequence[str], routers: Mapping[int, Collection[str]]
) -> Finding:
    """The finding; where none was heard behind it, with those that were behind others."""
    said = tuple(_said(sentence, finding, names, routers) for sentence in finding.evidence)
    return finding._replace(evidence=said)


def _said(
    sentence: str, finding: Finding, names: Sequence[str], routers: Mapping[int, Collection[str]]
) -> str:
    pair = sentence.removesuffix(UNHEARD)
    if pair == sentence or finding.sample is None:
        return sentence
    source = finding.sample[0]
    for node, name in enumerate(names):
        if pair.startswith(f"{name} → "):
            source = node
    own = [*routers.get(source, ())][:_SHOWN]
    if not own:
        return sentence
    return (
        f"{sentence}; {listed(own)} answered for other packets of {names[source]}: routers send "
        "few such errors at a time"
    )
