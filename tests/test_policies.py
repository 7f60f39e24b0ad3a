"""Random firewall policies on every node and the router, against an oracle that reads the rules.

The oracle walks each packet through the chains it meets, as netfilter would, and knows nothing of
vantage points: what it says of all 72 cells must be what a check says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum

import pytest
from scenarios import (
    OPEN,
    PROBES,
    Rule,
    Spot,
    Told,
    address,
    assert_matrix,
    blocked,
    check,
    gateway,
    load,
    probe_match,
    sysctl,
)

from preflight.core.model import ECHO, GENEVE, HEALTH, Cause, Family, Leg, Place, Probe
from preflight.lab import Lab
from preflight.lab.topology import ROUTER, LabNode

pytestmark = pytest.mark.lab


class Kind(Enum):
    """What a rule can tell packets apart by."""

    TUNNEL = (GENEVE, Leg.FORWARD)
    SYN = (HEALTH, Leg.FORWARD)
    RST = (HEALTH, Leg.REPLY)  # every answer to a SYN here: nobody listens
    REQUEST = (ECHO, Leg.FORWARD)
    REPLY = (ECHO, Leg.REPLY)


ACTIONS = {
    "accept": "accept",
    "drop": "drop",
    "reject": "reject",
    "prohibit": "reject with icmpx admin-prohibited",
    "reset": "reject with tcp reset",
}
NODE_HOOKS = ("output", "postrouting", "egress", "ingress", "prerouting", "input")
ROUTER_HOOKS = ("prerouting", "forward")
REJECTING_HOOKS = ("output", "forward", "input")


@dataclass(frozen=True)
class Filter:
    """One rule of a policy. Empty sets of nodes stand for all."""

    where: str
    hook: str
    families: frozenset[Family]
    sources: frozenset[str]
    destinations: frozenset[str]
    kinds: frozenset[Kind]
    action: str

    def meets(self, family: Family, kind: Kind, source: str, destination: str) -> bool:
        """True where the rule is about such a packet."""
        return (
            family in self.families
            and kind in self.kinds
            and (not self.sources or source in self.sources)
            and (not self.destinations or destination in self.destinations)
        )

    def rules(self, lab: Lab) -> Iterator[Rule]:
        """The rule in nftables' words: one for each family and kind."""
        for family in sorted(self.families):
            for kind in sorted(self.kinds, key=lambda k: k.name):
                words = [f"meta nfproto {family}"] if self.hook not in ("egress", "ingress") else []
                ip = "ip" if family is Family.IPV4 else "ip6"
                for field, names in (("saddr", self.sources), ("daddr", self.destinations)):
                    if names:
                        known = ", ".join(address(lab.node(n), family) for n in sorted(names))
                        words.append(f"{ip} {field} {{ {known} }}")
                if not (self.sources or self.destinations or words):
                    words.append(f"meta protocol {ip}")
                words += [probe_match(*kind.value[:1], family, kind.value[1]), ACTIONS[self.action]]
                yield Rule(self.where, self.hook, " ".join(words))


def policies(seed: int, nodes: Sequence[LabNode]) -> list[Filter]:
    """A random policy: some chains of the lab with one to four rules each."""
    draw = random.Random(seed)
    names = [node.name for node in nodes]
    chains = [(name, hook) for name in names for hook in NODE_HOOKS]
    chains += [(ROUTER, hook) for hook in ROUTER_HOOKS for _ in range(2)]
    out = []
    for where, hook in draw.sample(chains, draw.randint(3, 9)):
        for _ in range(draw.randint(1, 4)):
            kinds = frozenset(draw.sample(list(Kind), draw.choice((1, 1, 2, 5))))
            actions = ["accept", "drop", "drop"]
            if hook in REJECTING_HOOKS:
                actions += ["reject", "prohibit"]
                if kinds <= {Kind.SYN, Kind.RST}:
                    actions += ["reset", "reset"]
            families = draw.choice(([Family.IPV4], [Family.IPV6], list(Family)))
            sources, destinations = (
                frozenset(draw.sample(names, draw.choice((0, 1, 1, 2)))) for _ in range(2)
            )
            action = draw.choice(actions)
            out.append(
                Filter(where, hook, frozenset(families), sources, destinations, kinds, action)
            )
    return out


class Oracle:
    """What becomes of each probe under a policy."""

    def __init__(self, policy: Sequence[Filter], nodes: Sequence[LabNode]) -> None:
        self._policy = policy
        self._racks = {node.name: node.rack for node in nodes}

    def told(self, source: LabNode, destination: LabNode, probe: Probe, family: Family) -> Told:
        """What must be said of one cell."""
        s, d = source.name, destination.name
        there = Kind((probe, Leg.FORWARD))
        stop = self._stop(self._way(s, d), family, there, s, d)
        if stop is not None:
            where, action = stop
            place = {s: Place.SOURCE, d: Place.DESTINATION}.get(where, Place.PATH)
            sender = {
                Place.SOURCE: address(source, family),
                Place.PATH: gateway(source, family),
                Place.DESTINATION: address(destination, family),
            }[place]
            if action == "reset":
                return self._reset(place, family, s, d, sender)
            if action == "drop":
                return blocked(Leg.FORWARD, place, Cause.DROPPED)
            return blocked(Leg.FORWARD, place, Cause.REJECTED, sender)
        if probe.one_way:
            return OPEN
        stop = self._stop(self._way(d, s), family, Kind((probe, Leg.REPLY)), d, s)
        if stop is None:
            return OPEN
        place = {s: Place.SOURCE, d: Place.DESTINATION}.get(stop[0], Place.PATH)
        return blocked(Leg.REPLY, place, Cause.DROPPED)  # the source hears of no rejection

    def _reset(self, place: Place, family: Family, s: str, d: str, sender: str) -> Told:
        """A SYN met a `reject with tcp reset`: does the RST get anywhere?"""
        into_source = [(s, "prerouting"), (s, "input")]
        if place is Place.SOURCE:
            way = [(s, "output"), (s, "postrouting"), *into_source]  # by the loopback device
        elif place is Place.PATH:
            way = [(s, "ingress"), *into_source]
        else:
            way = self._way(d, s)[:3]  # as far as the tap, which shows who sent it
        if self._stop(way, family, Kind.RST, d, s) is not None:
            return blocked(Leg.FORWARD, place, Cause.DROPPED)
        return blocked(
            Leg.FORWARD, place, Cause.REJECTED, sender if place is Place.DESTINATION else None
        )

    def _way(self, here: str, there: str) -> list[tuple[str, str]]:
        """The chains from one node to another, in order."""
        out = [(here, hook) for hook in NODE_HOOKS[:3]]
        if self._racks[here] != self._racks[there]:
            out += [(ROUTER, hook) for hook in ROUTER_HOOKS]
        return out + [(there, hook) for hook in NODE_HOOKS[3:]]

    def _stop(
        self, way: Sequence[tuple[str, str]], family: Family, kind: Kind, source: str, target: str
    ) -> tuple[str, str] | None:
        """Where a packet ends and how, None where it gets there."""
        for where, hook in way:
            action = self._decides(where, hook, family, kind, source, target)
            if action != "accept":
                return where, action
        return None

    def _decides(
        self, where: str, hook: str, family: Family, kind: Kind, source: str, target: str
    ) -> str:
        """The first rule of a chain that meets a packet."""
        for rule in self._policy:
            here = (rule.where, rule.hook) == (where, hook)
            if here and rule.meets(family, kind, source, target):
                return rule.action
        return "accept"


@pytest.fixture(scope="module")
def unlimited_errors(lab4: Lab) -> Iterator[None]:
    """Everybody sends every ICMP error: which ones a budget lets through is no part of a policy."""
    settings = {
        "net/ipv4/icmp_ratelimit": "0",
        "net/ipv6/icmp/ratelimit": "0",
        "net/ipv4/icmp_msgs_per_sec": "100000",
        "net/ipv4/icmp_msgs_burst": "100000",
    }
    with ExitStack() as stack:
        for where in (ROUTER, *(node.name for node in lab4.nodes)):
            for key, value in settings.items():
                stack.enter_context(sysctl(lab4, where, key, value))
        yield


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.usefixtures("unlimited_errors")
def test_a_random_policy_is_told_as_its_rules_say(lab4: Lab, seed: int) -> None:
    policy = policies(seed, lab4.nodes)
    load(lab4, [rule for part in policy for rule in part.rules(lab4)])
    oracle = Oracle(policy, lab4.nodes)
    expected = {
        Spot(s.name, d.name, probe.name, family): oracle.told(s, d, probe, family)
        for s in lab4.nodes
        for d in lab4.nodes
        if s is not d
        for probe in PROBES
        for family in Family
    }
    assert_matrix(check(lab4), expected)


def test_random_policies_are_worth_testing(lab4: Lab) -> None:
    """Together they end packets at every place, on both legs, by every cause, and not all."""
    found = set()
    for seed in range(12):
        oracle = Oracle(policies(seed, lab4.nodes), lab4.nodes)
        found |= {
            oracle.told(s, d, probe, Family.IPV6)[:4]
            for s in lab4.nodes
            for d in lab4.nodes
            if s is not d
            for probe in PROBES
        }
    wanted = {blocked(leg, place, Cause.DROPPED)[:4] for leg in Leg for place in Place}
    wanted |= {blocked(Leg.FORWARD, place, Cause.REJECTED)[:4] for place in Place}
    assert found == wanted | {OPEN[:4]}


def test_a_clean_lab_is_open_every_time(lab4: Lab) -> None:
    for _ in range(30):
        snapshot = check(lab4)
        assert_matrix(snapshot, {})
        assert not snapshot.notes
