"""What mends a finding on the nodes: commands, and words where no command can say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis, RewrittenField
from preflight.core.diagnosis.trial import Rule, RuleHit
from preflight.core.findings import discovery
from preflight.core.findings.accept import Traffic
from preflight.core.findings.cidrs import cidrs
from preflight.core.findings.concerns import concerns, may_be_from
from preflight.core.findings.firewalls import mend
from preflight.core.findings.model import Block, Change
from preflight.core.findings.remedy import Remedy, outgoing
from preflight.core.groups import FamilyProbe
from preflight.core.matrix import Matrix
from preflight.core.model import Node, Outcome, Probe, ProbeKind, Verdict
from preflight.core.naming import Naming

_INCOMING = ("input", "prerouting", "ingress")
# What a node's rule meets on its way out, or in: answers come in to where connections are known.
_LATER: Mapping[bool, tuple[str, ...]] = {True: ("forward", "reply"), False: ("forward",)}


class Facts(NamedTuple):
    """What of a finding decides on its change.

    `is_shut` says of a source and a destination whether a test of theirs was planned and is not
    open: what another fault hides may well come to the same rule once that is mended.
    """

    nodes: Sequence[Node]
    probes: Sequence[Probe]
    tests: tuple[FamilyProbe, ...]
    blocks: tuple[Block, ...]
    diagnoses: Sequence[Diagnosis]
    is_shut: Callable[[int, int, FamilyProbe], bool]
    blamed: tuple[int, ...] = ()  # the nodes inside which the finding's cells die
    lost_on: Callable[[int, int, FamilyProbe], str | None] = lambda *_: None  # leg; None: not known

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        tests: tuple[FamilyProbe, ...],
        blocks: tuple[Block, ...],
        diagnoses: Sequence[Diagnosis],
        blamed: tuple[int, ...],
    ) -> Facts:
        """What is known of a finding in `matrix`."""

        def outcome(source: int, destination: int, test: FamilyProbe) -> Outcome | None:
            family = matrix.families.index(test.family)
            return matrix.outcome(matrix.index(family, test.probe, source, destination))

        def is_shut(source: int, destination: int, test: FamilyProbe) -> bool:
            found = outcome(source, destination, test)
            return found is not None and found.verdict is not Verdict.OPEN

        def lost_on(source: int, destination: int, test: FamilyProbe) -> str | None:
            found = outcome(source, destination, test)
            return None if found is None else found.leg

        own = matrix.nodes, matrix.probes, tests, blocks, diagnoses
        return cls(*own, is_shut, blamed, lost_on)


def changes(facts: Facts) -> Remedy:
    """How the nodes whose rules were named let the finding's traffic pass, and nothing more.

    Each command acts in the chain of the rule to blame. A rule that is only one of several that
    may be to blame is told of in words, unless another one of its node is surely to blame.
    """
    found = list(_hits(facts.diagnoses))
    sure = {hit.node for hit in found if hit.rule.sure}
    done: list[Remedy] = []
    peers = _Peers(facts)
    for hit, rules in _first_of_chain(facts, found):
        if hit.rule.sure or hit.node not in sure:
            done += _remedies(facts, hit, rules, peers)
    advice = [words for part in done for words in part.advice]
    if sure:
        hits = [hit for hit in found if hit.rule.sure]
        advice += [*_translated(facts, hits), *_others(facts, hits)]
    return Remedy(
        tuple(_by_node(change for part in done for change in part.changes)),
        tuple(dict.fromkeys(advice)),
    )


def _remedies(facts: Facts, hit: RuleHit, rules: Sequence[Rule], peers: _Peers) -> Iterator[Remedy]:
    """For one leg and rule, or the first of several.

    What ends neighbour discovery along with all else ends our probes too, once they come so far.
    """
    node = facts.nodes[hit.node].name
    legs = [hit]
    if hit.of_discovery:
        yield discovery.mend(node, hit.rule)
        hidden = _LATER[outgoing(hit.rule)] if discovery.ends_all(hit.rule) else ()
        probes = (facts.probes[test.probe] for test in facts.tests)
        if discovery.ends_echoes(hit.rule) and any(p.kind is ProbeKind.ECHO for p in probes):
            hidden = _LATER[True]
        legs = [hit._replace(leg=leg) for leg in hidden]
    for one in legs:
        yield mend(node, hit.rule, _packets(facts, one, rules, peers))


def _hits(diagnoses: Sequence[Diagnosis]) -> Iterator[RuleHit]:
    """Each rule of a node once for each leg."""
    seen = set()
    for diagnosis in diagnoses:
        for hit in diagnosis.hits:
            key = (hit.node, hit.leg, hit.rule)
            if key not in seen:
                seen.add(key)
                yield hit


def _first_of_chain(facts: Facts, found: Sequence[RuleHit]) -> Iterator[tuple[RuleHit, list[Rule]]]:
    """The hits, those of rules of one chain as the first of them where their order is known: what
    is accepted before that rule meets none of the others.
    """
    alike: dict[object, list[RuleHit]] = {}
    for number, hit in enumerate(found):
        rule = hit.rule
        tests = tuple(t for t in facts.tests if concerns(rule, facts.probes[t.probe], hit.leg))
        where = rule.tool, rule.family, rule.table, rule.chain
        ordered = rule.position and not rule.policy and rule.sure and not hit.of_discovery
        key = (hit.node, hit.leg, where, tests) if ordered else number
        alike.setdefault(key, []).append(hit)
    for same in alike.values():
        yield min(same, key=lambda hit: hit.rule.position), [other.rule for other in same]


class _Peers:
    """Whom nodes must talk to; where several nodes have the same ones and need the same change,
    each counts as its own peer, so that one command does for all.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._known: dict[tuple[int, FamilyProbe, bool], set[int]] = {}
        self._nodes = {h.node for d in facts.diagnoses for h in d.hits if h.rule.sure}
        self._alike: dict[tuple[FamilyProbe, bool], bool] = {}

    def of(self, node: int, test: FamilyProbe, *, as_source: bool) -> set[int]:
        """Those of one node."""
        own = self._own(node, test, as_source)
        if (test, as_source) not in self._alike:
            sets = {frozenset(self._own(n, test, as_source) | {n}) for n in self._nodes}
            self._alike[test, as_source] = len(self._nodes) > 1 and len(sets) == 1
        return own | {node} if own and self._alike[test, as_source] else own

    def _own(self, node: int, test: FamilyProbe, as_source: bool) -> set[int]:
        key = (node, test, as_source)
        if key not in self._known:
            self._known[key] = _peers(self._facts, node, test, as_source=as_source)
        return self._known[key]


def _by_node(changes: Iterable[Change]) -> Iterator[Change]:
    """One change for each node and tool."""
    merged: dict[tuple[str, str], Change] = {}
    for change in changes:
        known = merged.setdefault((change.node, change.tool), change)
        merged[change.node, change.tool] = known._replace(
            commands=tuple(dict.fromkeys(known.commands + change.commands)),
            persist=tuple(dict.fromkeys(known.persist + change.persist)),
        )
    yield from merged.values()


def _packets(
    facts: Facts,
    hit: RuleHit,
    rules: Sequence[Rule],
    known_peers: _Peers,
) -> list[Traffic]:
    """What the hit node's firewall must let pass before `rules`, by test."""
    concerned = [t for t in facts.tests if concerns(hit.rule, facts.probes[t.probe], hit.leg)]
    if not any(hit.node in (*b.sources, *b.destinations) for b in facts.blocks):
        return list(_forwarded(facts, hit, concerned or facts.tests, rules))
    out = []
    for test in concerned or facts.tests:
        probe, reply = facts.probes[test.probe], hit.leg == "reply"
        own = facts.nodes[hit.node].address_in(test.family)
        sends = _sends(facts, hit)
        peers = known_peers.of(hit.node, test, as_source=sends is not reply)
        addresses = [facts.nodes[p].address_in(test.family) for p in sorted(peers)]
        known = {a for node in facts.nodes for a in node.addresses}
        theirs = {a for a in addresses if a is not None}
        if not theirs or own is None or (reply and probe.one_way):
            continue
        if not sends and not reply:
            theirs |= _as_they_arrive(theirs, hit.node, facts.diagnoses)
            theirs |= _as_they_leave(theirs, facts.diagnoses)
        meant = {a for a in theirs if _is_meant(rules, *((own, a) if sends else (a, own)))}
        theirs = meant or theirs  # or else something has changed them
        far, near = cidrs(theirs, known - theirs).texts, cidrs([own], ()).texts
        source, destination = (near, far) if sends else (far, near)
        out.append(Traffic(probe, test.family, reply, source, destination))
    return out


def _forwarded(
    facts: Facts, hit: RuleHit, tests: Sequence[FamilyProbe], rules: Sequence[Rule]
) -> Iterator[Traffic]:
    """The same where that node is another one on their way."""
    reply = hit.leg == "reply"
    known = {a for node in facts.nodes for a in node.addresses}
    for test in tests:
        probe = facts.probes[test.probe]
        own = [b for b in facts.blocks if not b.tests or test in b.tests]
        ways = dict.fromkeys(way for b in own for way in _ways(facts, b, test, hit.leg))
        for way in () if reply and probe.one_way else ways:
            here, there = (_of(facts, side, test) for side in (way[::-1] if reply else way))
            if any(_is_meant(rules, a, b) for a in here for b in there):
                source, destination = (cidrs(side, known - side).texts for side in (here, there))
                yield Traffic(probe, test.family, reply, source, destination)


def _ways(
    facts: Facts, block: Block, test: FamilyProbe, leg: str
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Those of a block, both ways, on which probes are lost on that leg."""
    sides = block.sources, block.destinations
    for here, there in (sides, sides[::-1])[: 1 + block.both_ways]:
        if any(facts.lost_on(s, d, test) in (leg, None) for s in here for d in there if s != d):
            yield here, there


def _of(facts: Facts, side: Iterable[int], test: FamilyProbe) -> set[str]:
    return {a for n in side if (a := facts.nodes[n].address_in(test.family)) is not None}


def _is_meant(rules: Sequence[Rule], source: str, destination: str) -> bool:
    return any(may_be_from(rule, source, destination) for rule in rules)


def _as_they_leave(addresses: set[str], diagnoses: Sequence[Diagnosis]) -> set[str]:
    """Source addresses that nodes send from now: their own will come once that is mended."""
    sent = (d.leaves_as for d in diagnoses if d.leaves_as is not None)
    return {one.address for one in sent if one.own in addresses}


def _as_they_arrive(addresses: set[str], node: int, diagnoses: Sequence[Diagnosis]) -> set[str]:
    """Source addresses that a node's firewall meets, behind address translation on the path: their
    own will come once that is ended.
    """
    return {
        arrived
        for diagnosis in diagnoses
        if any(hit.node == node for hit in diagnosis.hits)
        for rewrite in diagnosis.rewrites
        if rewrite.field is RewrittenField.SOURCE and rewrite.left in addresses
        for arrived in _addresses(rewrite.arrived)
    }


def _addresses(words: str) -> Iterator[str]:
    """`10.0.0.1`, or those of `10.0.0.1, 10.0.0.2 in 3 of 40 packets`."""
    for word in words.replace(",", " ").split():
        try:
            ip_address(word)
        except ValueError:
            continue
        yield word


def _sends(facts: Facts, hit: RuleHit) -> bool:
    """Whether the hit node is the one that sent the packet."""
    if outgoing(hit.rule):
        return True
    if hit.rule.hook in _INCOMING:
        return False
    is_source = any(
        hit.node in b.sources or (b.both_ways and hit.node in b.destinations) for b in facts.blocks
    )
    return is_source is (hit.leg != "reply")


def _peers(facts: Facts, node: int, test: FamilyProbe, *, as_source: bool) -> set[int]:
    """Whom `node` must talk to as the source, or the destination, of a pair: the other ends of the
    finding's pairs, and of pairs that are shut for another reason.
    """
    cluster, peers = facts.nodes[node].cluster, set()
    for block in facts.blocks:
        if block.tests and test not in block.tests:
            continue
        ways = [(block.sources, block.destinations)]
        if block.both_ways:
            ways.append((block.destinations, block.sources))
        for sources, destinations in ways:
            here, there = (sources, destinations) if as_source else (destinations, sources)
            if node in here:
                peers |= {p for p in there if facts.nodes[p].cluster == cluster}
    if peers:
        ends = ((node, p) if as_source else (p, node) for p in range(len(facts.nodes)))
        peers |= {s + d - node for s, d in ends if s != d and facts.is_shut(s, d, test)}
    return peers - {node}


def _translated(facts: Facts, hits: Sequence[RuleHit]) -> Iterator[str]:
    """Where packets come to such nodes with other addresses than they left with."""
    nodes = {hit.node for hit in hits if not outgoing(hit.rule) and hit.leg == "forward"}
    told = {
        rewrite: None
        for diagnosis in facts.diagnoses
        if any(hit.node in nodes for hit in diagnosis.hits)
        for rewrite in diagnosis.rewrites
        if rewrite.field is RewrittenField.SOURCE
    }
    if told:
        first = next(iter(told))
        who = Naming(facts.nodes).name(sum(1 << node for node in nodes))
        yield (
            f"Something on the path rewrites source addresses ({first.left} arrives as "
            f"{first.arrived}): have it leave traffic between nodes as it is (no masquerading). "
            f"Where {who} lets the nodes' own addresses pass, that alone mends this; until it is "
            "done, the translated one must pass, too."
        )


def _others(facts: Facts, hits: Sequence[RuleHit]) -> Iterator[str]:
    """Nodes that do the same and whose rules were not looked at."""
    known = {hit.node for hit in hits}
    alike = set(facts.blamed) - known
    if alike:
        naming = Naming(facts.nodes)
        names = naming.name(sum(1 << node for node in alike))
        looked = naming.name(sum(1 << node for node in known))
        yield (
            f"Of these nodes, only {looked} told which rule: {names} need the same change, with "
            "handles and positions of their own."
        )
