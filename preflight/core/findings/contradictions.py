"""Whether two looks can tell of one cause: by the rule they name, or by what happens on the way."""

from __future__ import annotations

import re
from collections.abc import Hashable

from preflight.core.diagnosis.conclusions import (
    ContentPattern,
    Diagnosis,
    FlowPattern,
    Flows,
    Path,
)
from preflight.core.findings.atoms import Looked
from preflight.core.findings.shapes import Shapes

# `ip6tables`, `ip6`, `icmpv6`, `icmp6-port-unreachable`
_SIX = re.compile(r"(?<=\bip)6|(?<=\bicmp)v?6")
# Whose packets a rule is about, where it says so: an admin's one act may be a rule for each sender.
_WHOSE = re.compile(
    r"(?P<side>\b[sd]addr|(?<=\s)-[sd]|--(?:src|dst)-range)(?P<no> !=)? (?:\{[^}]*\}|[^\s@]\S*)"
)
# All or none: and a stateful firewall takes for a reply what some other flow made one.
_OF_ALL = (FlowPattern.ALL, FlowPattern.NONE, FlowPattern.REPLIES_ONLY)
_BY_PORT = (FlowPattern.HIGH_ONLY, FlowPattern.LOW_ONLY, FlowPattern.RANGE)
_UNLIKE_PORTS = 3  # that pass in one look and never in another, before ranges are unlike
_NOISE = (FlowPattern.RANDOM, FlowPattern.LIMITED)  # a limiter that many share looks like either


def culprit(diagnosis: Diagnosis) -> Hashable | None:
    """What is alike on nodes that are set up alike, for both address families, and for rules of a
    chain that differ in nothing but addresses; None where nothing is known.
    """
    for hit in diagnosis.hits:
        rule = hit.rule
        if rule.sure:
            tool, family = _SIX.sub("", rule.tool.removesuffix("-nft")), _SIX.sub("", rule.family)
            text = _WHOSE.sub(r"\g<side>\g<no>", _SIX.sub("", rule.text))
            return tool, family, rule.table, rule.chain, rule.policy, text
    return None if diagnosis.kernel is None else diagnosis.kernel.reason


def contradict(shapes: Shapes, a: Looked, b: Looked) -> bool:
    """Whether two looks cannot tell of one cause."""
    first, second = a.diagnosis, b.diagnosis
    if not alike_in_length(first, second):
        return True
    marked = [
        bool(x.diagnosis.marking and x.diagnosis.marking.dropped) for x in (a, b) if not x.brief
    ]
    if len(set(marked)) > 1:
        return True
    patterns = [d.content.pattern for d in (first, second) if d.content]
    alike = a.test is None or b.test is None or a.test.probe == b.test.probe
    if alike and len(set(patterns)) > 1:
        return True
    flows = [d.flows.pattern for d in (first, second) if d.flows]
    if len({"noise" if f in _NOISE else f for f in flows if f not in _OF_ALL}) > 1:
        return True
    if FlowPattern.ALL in flows and any(f in _BY_PORT for f in flows):
        return True
    if _unlike_ports(first.flows, second.flows):
        return True
    if any(map(_inspected, (first, second))) and FlowPattern.REPLIES_ONLY in flows:
        return True  # bytes are the same whatever port they come from
    if expires_unlike(first, second):
        return True
    if (_translated(first) and _ends(second)) or (_ends(first) and _translated(second)):
        return True
    ends = [_end(shapes, look) for look in (a, b)]
    return ends[0] is not None and ends[1] is not None and _apart(*ends[0], *ends[1])


def alike_in_length(a: Diagnosis, b: Diagnosis) -> bool:
    """False where the sizes that pass, or what the DF bit does, are unlike."""
    if a.size and b.size and a.size.largest != b.size.largest:
        return False
    if (a.size and b.lengths) or (a.lengths and b.size):
        return False
    if a.lengths is None or b.lengths is None:
        return True
    if bool(a.lengths.dont_fragment) != bool(b.lengths.dont_fragment):
        return False
    bits = {x.lengths.dont_fragment.passes for x in (a, b) if x.lengths and x.lengths.dont_fragment}
    pairs = [(x, y) for x in a.lengths.bands for y in b.lengths.bands]
    meet = any(x.first <= y.last and y.first <= x.last for x, y in pairs)
    return len(bits) < 2 and (meet or not pairs)


def _unlike_ports(a: Flows | None, b: Flows | None) -> bool:
    """Whether source ports pass in one that are shut in the other, more than loss besides makes."""
    if a is None or b is None or FlowPattern.RANGE not in (a.pattern, b.pattern):
        return False
    if not {a.pattern, b.pattern} <= {*_BY_PORT}:
        return False
    unlike = (len({*x.dead} & {*y.passing}) for x, y in ((a, b), (b, a)))
    return max(unlike) >= _UNLIKE_PORTS


def _inspected(diagnosis: Diagnosis) -> bool:
    found = diagnosis.content
    return found is not None and found.pattern in (ContentPattern.TUNNEL, ContentPattern.INNER)


def expires_unlike(a: Diagnosis, b: Diagnosis) -> bool:
    """Whether a TTL runs out in one alone, or in one by the source's doing and in one not."""
    if a.expired is None or b.expired is None:
        other = a if a.expired is None else b
        tells = bool(other.rejecters) or _ends(other) or _translated(other)
        return (a.expired is None) is not (b.expired is None) and tells
    return a.expired.by_source is not b.expired.by_source


def _translated(diagnosis: Diagnosis) -> bool:
    return diagnosis.path is not None and bool(diagnosis.path.as_destination)


def _ends(diagnosis: Diagnosis) -> bool:
    """Whether it ends behind a router that answers in its own name."""
    path = diagnosis.path
    return path is not None and not path.back and path.silent is not None


def _end(shapes: Shapes, look: Looked) -> tuple[tuple[int, int], Path] | None:
    """The subnets between which it was sent, and the path where it ends behind a router."""
    path = look.diagnosis.path
    if path is None or not path.routers or path.silent != path.routers[-1].ttl + 1:
        return None
    ends = shapes.neighbourhood(look.source), shapes.neighbourhood(look.destination)
    return (ends[::-1] if path.back else ends), path


def _apart(way: tuple[int, int], a: Path, other: tuple[int, int], b: Path) -> bool:
    """Whether two flows end behind different routers.

    A router has an address for each side, so that only numbers can be compared: on the same way,
    or on the way back where its length is known.
    """
    if way[0] == other[0]:
        return a.routers[-1].ttl != b.routers[-1].ttl
    if way == other[::-1] and a.distance is not None and a.distance == b.distance:
        return a.routers[-1].ttl != a.distance + 1 - b.routers[-1].ttl
    return False
