"""Whether a rule's own words leave room for a probe's packets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.groups import FamilyProbe
from preflight.core.model import Probe

_PROTOCOL = re.compile(r"\b(udp|tcp|icmp)(?:v6)?\b")
_PORT = re.compile(r"(?<!! --)\b(dport|sport) (\d+)(?![\d:-])")  # one alone, no range
# What a rule says, not what it matches.
_SPOKEN = re.compile(r"(?:comment|prefix) (\"[^\"]*\"|'[^']*'|\S+)|\breject(-| )with .*")


def concerns(rule: Rule, probe: Probe, leg: str) -> bool:
    """False where the rule's text says that it is about other packets."""
    text = _SPOKEN.sub("", rule.text)
    protocols = {found.group(1) for found in _PROTOCOL.finditer(text)}
    if protocols and probe.protocol not in protocols:
        return False
    ours = "sport" if leg == "reply" else "dport"
    ports = {int(number) for side, number in _PORT.findall(text) if side == ours}
    return not ports or probe.port in ports


def ended_by(
    hits: Sequence[RuleHit],
    diagnoses: Sequence[Diagnosis],
    tests: Sequence[FamilyProbe],
    probes: Sequence[Probe],
) -> Sequence[FamilyProbe]:
    """The tests whose packets the rules end: others may die for want of a neighbour alone."""
    if not any(hit.of_discovery for diagnosis in diagnoses for hit in diagnosis.hits):
        return tests
    own = [hit for hit in hits if not hit.of_discovery]
    ended = [t for t in tests if any(concerns(h.rule, probes[t.probe], h.leg) for h in own)]
    return ended or tests


# `ip saddr != 10.0.0.1`, `ip6 daddr { fd00::1, fd00::/64 }`, `! -s 10.0.0.0/8`
_WHOSE = re.compile(
    r"(?P<no>! )?(?:\b(?P<nft>[sd])addr|(?<![^ ])-(?P<xtables>[sd]))(?P<not> !=)? "
    r"(?P<which>\{[^}]*\}|\S+)"
)


def names_addresses(rule: Rule) -> bool:
    """Whether the rule's text says from or to whom; without that it is about everybody's."""
    return _WHOSE.search(_SPOKEN.sub("", rule.text)) is not None


def may_be_from(rule: Rule, source: str, destination: str) -> bool:
    """False where the rule's text says that it is about packets between other addresses."""
    address = {"s": ip_address(source), "d": ip_address(destination)}
    for found in _WHOSE.finditer(_SPOKEN.sub("", rule.text)):
        networks = list(_networks(found["which"]))
        if found["no"] or found["not"] or None in networks:
            continue
        meant = address[found["nft"] or found["xtables"]]
        if not any(meant in network for network in networks if network is not None):
            return False
    return True


def _networks(text: str) -> Iterator[IPv4Network | IPv6Network | None]:
    """Those that a rule lists; None for what is no plain one: a name, a range."""
    for part in text.strip("{} ").split(","):
        try:
            yield ip_network(part.strip(), strict=False)
        except ValueError:
            yield None
