"""Which groups of cells have one cause, and which cells that makes.

Rules of this file:
1. Two groups are one cause only on evidence: the same rule of the same node, the same kernel
   setting, or a shape that one cause makes and two would make by accident alone.
2. Groups that are unknown are never one cause with groups that are bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

from preflight.core.detail import ran_out
from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern
from preflight.core.diagnosis.kernel_rules import Reason
from preflight.core.diagnosis.trial import Rule
from preflight.core.findings import nobody, torn
from preflight.core.findings.atoms import Looked, blamed
from preflight.core.findings.blame import thinned
from preflight.core.findings.contradictions import (
    alike_in_length,
    contradict,
    culprit,
    expires_unlike,
)
from preflight.core.findings.refusals import by_sender, mute, one_firewall, rejecting
from preflight.core.findings.shapes import Shapes
from preflight.core.findings.unfound import lacks
from preflight.core.groups import BY_THE_DESTINATION, Group
from preflight.core.model import Cause, Leg, Place, Verdict

_BAD = (Verdict.BLOCKED, Verdict.LOSSY)
_ALIKE = 0.1  # of two shares of lost packets
_COMPARED = 64  # of more groups nobody reads the last
_REFUSED = (Cause.DROPPED, Cause.REJECTED)

Identity = tuple[object, ...]


class Origin(NamedTuple):
    """What a group is a part of."""

    whole: int  # those with the same number were one group
    cause: int | None  # and of these, those with the same number died of one cause, not of others'


def causes(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    origins: Sequence[Origin],
    instead: Sequence[Sequence[int]],
) -> list[list[int]]:
    """The groups' positions, those of one cause together; each list and all of them in order.

    Groups that were one are parts because looks contradicted it: no shape makes them one again.
    `instead` are for each the nodes that got what was not for them.
    """
    parent = list(range(len(groups)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    diagnoses = {i: [look.diagnosis for look in own] for i, own in looks.items()}
    surely = (
        *_surely(groups, diagnoses), *_redirected(shapes, groups, instead), *_parts(origins)
    )  # fmt: skip
    for first, second in surely:
        a, b = sorted((root(first), root(second)))
        parent[b] = a
    for first, second in _by_shape(shapes, groups, looks, diagnoses):
        a, b = sorted((root(first), root(second)))
        both = [d for i, own in diagnoses.items() if root(i) in (a, b) for d in own]
        apart = origins[first].whole != origins[second].whole
        if first != second and apart and _alike_in_length(both):
            parent[b] = a
    for i, group in enumerate(groups):
        near = {root(j) for j in rejecting(shapes, groups, group)}
        if len(near) == 1 and all(map(mute, diagnoses.get(i, ()))):
            parent[root(i)] = near.pop()
    for i in range(len(groups)):
        there = {root(j) for j in torn.forwards(shapes, groups, looks, i)}
        if len(there) == 1:
            a, b = sorted((root(i), there.pop()))
            parent[b] = a
    together: dict[int, list[int]] = {}
    for i in range(len(groups)):
        together.setdefault(root(i), []).append(i)
    return list(together.values())


def _parts(origins: Sequence[Origin]) -> Iterator[tuple[int, int]]:
    first: dict[Origin, int] = {}
    for i, origin in enumerate(origins):
        if origin.cause is not None:
            yield first.setdefault(origin, i), i


def _surely(
    groups: Sequence[Group], diagnoses: Mapping[int, Sequence[Diagnosis]]
) -> Iterator[tuple[int, int]]:
    yield from _unknown(groups)
    yield from nobody.same(groups)
    known: dict[Identity, int] = {}
    for i, found in diagnoses.items():
        for diagnosis in found:
            for identity in identities(diagnosis):
                yield known.setdefault(identity, i), i
            if diagnosis.path is not None and diagnosis.path.as_destination:
                translated = ("translated", groups[i].tests, groups[i].destinations)
                yield known.setdefault(translated, i), i
            families = frozenset(test.family for test in groups[i].tests)
            for lack in lacks(diagnosis):
                yield known.setdefault((*lack[:2], families), i), i


def _by_shape(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    diagnoses: Mapping[int, Sequence[Diagnosis]],
) -> Iterator[tuple[int, int]]:
    for i, j in combinations(range(min(len(groups), _COMPARED)), 2):
        pair = groups[i], groups[j]
        if _one_cause(shapes, *pair, diagnoses.get(i, ()), diagnoses.get(j, ())):
            yield i, j
    yield from _partitions(shapes, groups, looks, diagnoses)
    yield from _masked(shapes, groups, looks, diagnoses)
    yield from torn.families(shapes, groups, looks)


def _redirected(
    shapes: Shapes, groups: Sequence[Group], instead: Sequence[Sequence[int]]
) -> Iterator[tuple[int, int]]:
    """All that is delivered to other nodes in place of the same ones.

    These speak in the name of those; that it was them is seen of packets that bear a tag, and a
    SYN bears none.
    """
    for i, j in permutations(range(min(len(groups), _COMPARED)), 2):
        kind = groups[j].kind
        spoke = kind.cause is Cause.INTERCEPTED or (
            kind.cause is Cause.REJECTED and kind.rejected_by in (None, BY_THE_DESTINATION)
        )
        if instead[i] and instead[j] in (instead[i], ()) and (spoke or instead[j]):
            there = kind.leg is Leg.FORWARD and kind.place is Place.PATH
            if there and shapes.rows(groups[i]) == shapes.rows(groups[j]):
                yield i, j


def _unknown(groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """What nobody could see, or nobody serves, for one reason: that is one thing to mend."""
    first: dict[Identity, int] = {}
    for i, group in enumerate(groups):
        if group.kind.verdict is Verdict.UNKNOWN:
            cause = group.kind.cause
            apart = None if cause is Cause.NO_AGENT else group.severity  # one agent mends all
            yield first.setdefault((cause, apart), i), i
        elif group.kind.verdict is Verdict.CLOSED:
            yield first.setdefault((*group.kind, group.tests), i), i


def identities(diagnosis: Diagnosis) -> Iterator[Identity]:
    """What names the culprit beyond doubt."""
    for hit in diagnosis.hits:
        if hit.rule.sure:
            yield ("rule", hit.node, *rule_identity(hit.rule))
            yield "alike", hit.node, culprit(diagnosis._replace(hits=(hit,)))
    if diagnosis.kernel is not None:
        yield "kernel", diagnosis.kernel_node, diagnosis.kernel.reason


def rule_identity(rule: Rule) -> Identity:
    """What tells one rule of a node from all its others."""
    return (rule.tool, rule.family, rule.table, rule.chain, rule.handle, rule.position, rule.policy)


def _one_cause(
    shapes: Shapes,
    a: Group,
    b: Group,
    of_a: Sequence[Diagnosis],
    of_b: Sequence[Diagnosis],
) -> bool:
    if a.kind.verdict not in _BAD or b.kind.verdict not in _BAD:
        return False
    if _named(of_a) and _named(of_b):
        return False  # then the names decide
    if a.kind.cause is b.kind.cause and _ran_out(a) is not _ran_out(b):
        return False
    if any(expires_unlike(x, y) for x in of_a for y in of_b):
        return False
    if _unfound(of_a) or _unfound(of_b):
        families = {test.family for test in (*a.tests, *b.tests)}
        return len(families) == 1 and _there_and_back(shapes, a, b)
    return (
        _both_families(shapes, a, b)
        or one_firewall(shapes, a, b, of_a, of_b)
        or _there_and_back(shapes, a, b)
        or _inside_one_node(a, b)
        or _one_next_hop(shapes, a, b, of_a, of_b)
        or _no_way_back(shapes, a, b, of_b)
        or _no_way_back(shapes, b, a, of_a)
        or _noise(shapes, a, b, of_a, of_b)
        or _one_narrow_link(shapes, a, b, of_a, of_b)
    )


def _ran_out(group: Group) -> bool:
    return ran_out(group.sample.outcome)


def _named(diagnoses: Sequence[Diagnosis]) -> bool:
    return any(True for diagnosis in diagnoses for _ in identities(diagnosis))


def _alike_in_length(diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether one narrow link, or one rule on lengths, may be behind all."""
    return all(alike_in_length(*pair) for pair in combinations(diagnoses, 2))


def _unfound(diagnoses: Sequence[Diagnosis]) -> bool:
    """Whether it is ARP or neighbour discovery that is missing: one family alone dies of it."""
    return any(lacks(diagnosis) for diagnosis in diagnoses)


def _both_families(shapes: Shapes, a: Group, b: Group) -> bool:
    """The same cells over IPv4 and over IPv6; a rejecter has an address of each."""
    if {test.probe for test in a.tests} != {test.probe for test in b.tests}:
        return False
    families = {test.family for test in a.tests} & {test.family for test in b.tests}
    return not families and a.kind[:4] == b.kind[:4] and shapes.rows(a) == shapes.rows(b)


def _there_and_back(shapes: Shapes, a: Group, b: Group) -> bool:
    """What is dropped on its way there, and answers that are dropped on the same way.

    An answer to a probe from B to A takes the way of a probe from A to B.
    """
    forward, reply = (a, b) if a.kind.leg is Leg.FORWARD else (b, a)
    if (forward.kind.leg, reply.kind.leg) != (Leg.FORWARD, Leg.REPLY):
        return False
    if forward.kind.place is not Place.PATH or reply.kind.place is not Place.PATH:
        return False
    if forward.kind.verdict is not reply.kind.verdict:
        return False
    two_way = {test for test in forward.tests if not shapes.one_way(test)}
    return set(reply.tests) <= two_way and shapes.back_within(reply, forward)


def _inside_one_node(a: Group, b: Group) -> bool:
    """What a node's INPUT drops of probes to it and of answers to its own; likewise its OUTPUT."""
    forward, reply = (a, b) if a.kind.leg is Leg.FORWARD else (b, a)
    if (forward.kind.leg, reply.kind.leg) != (Leg.FORWARD, Leg.REPLY):
        return False
    if not set(reply.tests) <= set(forward.tests) or forward.kind.verdict is not reply.kind.verdict:
        return False
    places = (forward.kind.place, reply.kind.place)
    if places == (Place.DESTINATION, Place.SOURCE):
        return len(forward.destinations) == 1 and forward.destinations == reply.sources
    if places == (Place.SOURCE, Place.DESTINATION):
        return len(forward.sources) == 1 and forward.sources == reply.destinations
    return False


def _one_next_hop(
    shapes: Shapes, a: Group, b: Group, of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]
) -> bool:
    """A node whose probes do not leave, and neither do its answers: its next hop is silent."""
    forward, reply = (a, b) if a.kind.leg is Leg.FORWARD else (b, a)
    if forward.kind.cause is not Cause.NO_NEIGHBOUR or reply.kind.leg is not Leg.REPLY:
        return False
    stuck = any(diagnosis.stuck_back for diagnosis in (of_a if reply is a else of_b))
    same = set(reply.tests) <= set(forward.tests) and forward.kind.verdict is reply.kind.verdict
    return stuck and same and shapes.back_within(reply, forward)


def _no_way_back(shapes: Shapes, out: Group, come: Group, of_come: Sequence[Diagnosis]) -> bool:
    """A node that has no route to some senders, and so lets in nothing from them."""
    if out.kind.cause is not Cause.NO_ROUTE or not shapes.back_within(come, out):
        return False
    reasons = {d.kernel.reason for d in of_come if d.kernel is not None}
    return reasons == {Reason.NO_ROUTE_BACK}


def _one_narrow_link(
    shapes: Shapes, a: Group, b: Group, of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]
) -> bool:
    """The same size from here to there, whether or not some small ones are lost besides."""
    sizes = [{d.size.largest for d in own if d.size is not None} for own in (of_a, of_b)]
    same = len(sizes[0]) == 1 and sizes[0] == sizes[1]
    return same and a.tests == b.tests and bool(shapes.ways(a) & shapes.ways(b))


def _noise(
    shapes: Shapes, a: Group, b: Group, of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]
) -> bool:
    """Loss that hits all packets alike hits some probes of a pair and spares others."""
    kinds = (a.kind, b.kind)
    if _named(of_a) or _named(of_b):
        return False
    for kind, found in zip(kinds, (of_a, of_b), strict=True):
        thin = kind.verdict is Verdict.LOSSY or any(map(thinned, found))
        if not thin or kind.cause is not Cause.DROPPED:
            return False
    if any(k.place not in (Place.PATH, None) for k in kinds):
        return False
    for diagnosis in (*of_a, *of_b):
        flows = diagnosis.flows
        if flows is not None and flows.pattern is not FlowPattern.RANDOM:
            return False
    few, many = sorted((a, b), key=lambda group: group.cells)
    return shapes.travels_within(few, many) or (
        shapes.between_the_same(a, b) and _alike_in_loss(of_a, of_b)
    )


def _alike_in_loss(of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]) -> bool:
    """Whether both lose packets at random, and about as many."""
    shares = [
        [1 - d.flows.passed / d.flows.sent for d in found if d.flows is not None and d.flows.sent]
        for found in (of_a, of_b)
    ]
    return all(shares) and abs(max(shares[0]) - max(shares[1])) <= _ALIKE


def _at_odds(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    positions: Sequence[int],
) -> bool:
    """Whether looks at these groups tell of unlike causes."""
    own = [look for i in positions for look in looks.get(i, ())]
    if blamed(groups[positions[0]]):
        return len({culprit(look.diagnosis) for look in own if not _doubtful(look)}) > 1
    return any(contradict(shapes, a, b) for a, b in combinations(own[:_COMPARED], 2))


def _doubtful(look: Looked) -> bool:
    return bool(look.diagnosis.hits) and culprit(look.diagnosis) is None


def _partitions(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    diagnoses: Mapping[int, Sequence[Diagnosis]],
) -> Iterator[tuple[int, int]]:
    """Blocks that together are everything between classes of nodes, or everything inside them."""
    alike: dict[Identity, list[int]] = {}
    for i, group in enumerate(groups):
        kind = group.kind
        if kind.verdict in _BAD and not _unfound(diagnoses.get(i, ())):
            cause = Cause.DROPPED if kind.cause in _REFUSED else kind.cause
            key = (kind.verdict, kind.leg, kind.place, cause, group.tests, _ran_out(group))
            alike.setdefault(key, []).append(i)
    for every in alike.values():
        inside = [i for i in every if shapes.inside(groups[i])]
        for positions in (every, inside, [i for i in every if i not in inside]):
            if len(positions) < 2 or _at_odds(shapes, groups, looks, positions):
                continue
            own = [groups[i] for i in positions[:_COMPARED]]
            if any(by_sender(shapes, a, b) for a, b in combinations(own, 2)):
                continue
            if shapes.partition([groups[i] for i in positions]):
                yield from ((positions[0], i) for i in positions[1:])


def _masked(
    shapes: Shapes,
    groups: Sequence[Group],
    looks: Mapping[int, Sequence[Looked]],
    diagnoses: Mapping[int, Sequence[Diagnosis]],
) -> Iterator[tuple[int, int]]:
    """Parts of one block on the path, or of the way there and back, or all tests of the same cells,
    where cells with another fault cut it to pieces.
    """
    alike: dict[Identity, list[int]] = {}
    for i, group in enumerate(groups[:_COMPARED]):
        kind = group.kind
        on_the_path = kind.verdict in _BAD and kind.place is Place.PATH
        if on_the_path and not _unfound(diagnoses.get(i, ())):
            alike.setdefault((*kind, _ran_out(group)), []).append(i)
    for positions in alike.values():
        for i, j in combinations(positions, 2):
            a, b = groups[i], groups[j]
            same_tests = a.tests == b.tests
            if not same_tests and (set(a.tests) & set(b.tests) or shapes.rows(a) != shapes.rows(b)):
                continue
            if _at_odds(shapes, groups, looks, (i, j)):
                continue
            whole = shapes.full_block([a, b])
            if not same_tests or whole or shapes.back_of(a, b) or shapes.back_of(b, a):
                yield i, j
