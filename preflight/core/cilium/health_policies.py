"""Which clusterwide policies may keep other nodes out of Cilium's health endpoints.

An endpoint of Cilium's own knows no label but `reserved:health`, so an empty selector selects it,
and one that only excepts namespaces does too (cilium/cilium#12199). Other nodes come to it as
`remote-node` (cilium/cilium#15348).

Rules that live here:

1. A direction of an endpoint is closed once a policy that selects it has rules for it, deny rules
   included, unless enableDefaultDeny says no; then what no policy allows is dropped. An empty rule
   allows nothing (docs.cilium.io, "Policy Enforcement Modes"; cilium/cilium#12199).
2. Policies add up: what any of them clearly lets in none keeps out, but by a deny rule.
3. What cannot be told for certain neither lets in nor excuses: who is named here only may be it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.connectivity.policies import Applies, Values, least, matches, most, specs
from preflight.core.model import ProbeKind

_OWN = ("reserved", "any")
_HEALTH: Mapping[str, str | None] = {"health": ""}
_REMOTE: Mapping[str, str | None] = {"remote-node": ""}
_ENTITIES = {"all", "cluster", "remote-node"}
_UNSURE = {"host", "kube-apiserver"}  # some nodes are these as well, in some versions
_ECHO_TYPES = {"8", "128", "echorequest"}  # of ICMP, of ICMPv6, and the name that both have


class Suspects(NamedTuple):
    """Names of policies, by what they may keep out."""

    echo: tuple[str, ...] = ()
    health: tuple[str, ...] = ()

    def of(self, kind: ProbeKind) -> tuple[str, ...]:
        """Those of one of the overlay's probes."""
        if kind is ProbeKind.OVERLAY_ECHO:
            return self.echo
        return self.health if kind is ProbeKind.OVERLAY_HEALTH else ()


def suspects(found: Iterable[Values], port: int) -> Suspects:
    """Of all CiliumClusterwideNetworkPolicies; `port` is that of `GET /hello`."""
    own = [
        (name, spec)
        for name, spec in specs(found)
        if isinstance(selector := spec.get("endpointSelector"), dict)
        and matches(selector, _HEALTH, _OWN) is not Applies.NO
    ]
    return Suspects(*(tuple(_suspects(own, to)) for to in (None, port)))


def _suspects(own: Sequence[tuple[str, Values]], port: int | None) -> Iterator[str]:
    """`port` None is ICMP echo."""
    admitted = any(
        _hits(rule, port) is Applies.YES for _, spec in own for rule in _rules(spec, "ingress")
    )
    told: dict[str, None] = {}
    for name, spec in own:
        denied = any(_hits(rule, port) is not Applies.NO for rule in _rules(spec, "ingressDeny"))
        if denied or (_closes(spec) and not admitted):
            told[name] = None
    yield from told


def _closes(spec: Values) -> bool:
    """Whether it takes what nobody allows for denied."""
    default = spec.get("enableDefaultDeny")
    said = default.get("ingress") if isinstance(default, dict) else None
    if isinstance(said, bool):
        return said
    return bool(_rules(spec, "ingress") or _rules(spec, "ingressDeny"))


def _rules(spec: Values, key: str) -> list[Values]:
    found = spec.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _hits(rule: Values, port: int | None) -> Applies:
    """Whether a rule speaks of that traffic from another node."""
    return least((_from(rule), _of_port(rule, port)))


def _from(rule: Values) -> Applies:
    peers = {key: value for key, value in rule.items() if key.startswith("from")}
    if not peers:
        return Applies.YES if rule else Applies.NO
    return most(_peer(key, value) for key, value in peers.items())


def _peer(key: str, value: object) -> Applies:
    items = value if isinstance(value, list) else []
    if key == "fromEntities":
        if _ENTITIES.intersection(map(str, items)):
            return Applies.YES
        return Applies.PERHAPS if _UNSURE.intersection(map(str, items)) else Applies.NO
    if key == "fromEndpoints":
        selectors = [one for one in items if isinstance(one, dict)]
        if not any(matches(one, _REMOTE, _OWN) is not Applies.NO for one in selectors):
            return Applies.NO
        labels = [one.get("matchLabels") for one in selectors]
        named = any(isinstance(of, dict) and "reserved:remote-node" in of for of in labels)
        return Applies.YES if named else Applies.PERHAPS
    # Nodes have identities of their own, which ranges of addresses do not select by default.
    return Applies.NO if key.startswith("fromCIDR") else Applies.PERHAPS


def _of_port(rule: Values, port: int | None) -> Applies:
    ports, icmps = rule.get("toPorts"), rule.get("icmps")
    if not ports and not icmps:
        return Applies.YES
    if port is None:
        return most(_echo(one) for one in _inner(icmps, "fields"))
    return most(_port(one, port) for one in _inner(ports, "ports"))


def _inner(value: object, key: str) -> Iterator[Values]:
    """The elements of all elements' lists; those of a port with what else its rule asks for."""
    for outer in value if isinstance(value, list) else ():
        inner = outer.get(key) if isinstance(outer, dict) else None
        for one in inner if isinstance(inner, list) else ():
            if isinstance(one, dict):
                yield {**one, "rules": outer.get("rules")}


def _echo(field: Values) -> Applies:
    return Applies.YES if str(field.get("type")).lower() in _ECHO_TYPES else Applies.NO


def _port(one: Values, port: int) -> Applies:
    if str(one.get("protocol") or "ANY").upper() not in ("TCP", "ANY"):
        return Applies.NO
    first, last = str(one.get("port") or "0"), str(one.get("endPort") or "")
    if not first.isdecimal():
        return Applies.PERHAPS  # a name
    low = int(first)
    high = int(last) if last.isdecimal() else low
    if low and not low <= port <= max(low, high):
        return Applies.NO
    return Applies.PERHAPS if one.get("rules") else Applies.YES  # rules of HTTP, ...
