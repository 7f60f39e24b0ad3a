"""Which groups of cells have one cause, and which cells that makes.

Rules of this file:
1. Two groups are one cause only on evidence: the same rule of the same node, the same kernel
   setting, or a shape that one cause makes and two would make by accident alone.
2. Groups that are unknown are never one cause with groups that are bad.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from preflight.core.diagnosis.conclusions import Diagnosis, FlowPattern
from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.shapes import Shapes
from preflight.core.groups import Group
from preflight.core.matrix import Matrix
from preflight.core.model import Cause, Leg, Place, Severity, Verdict

_BAD = (Verdict.BLOCKED, Verdict.LOSSY)
_COMPARED = 64  # of more groups nobody reads the last
_REFUSED = (Cause.DROPPED, Cause.REJECTED)

Identity = tuple[object, ...]


def causes(
    matrix: Matrix, groups: Sequence[Group], diagnoses: Mapping[int, Sequence[Diagnosis]]
) -> list[list[int]]:
    """The groups' positions, those of one cause together; each list and all of them in order."""
    parent = list(range(len(groups)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for first, second in _alike(matrix, groups, diagnoses):
        a, b = sorted((root(first), root(second)))
        parent[b] = a
    together: dict[int, list[int]] = {}
    for i in range(len(groups)):
        together.setdefault(root(i), []).append(i)
    return list(together.values())


def _alike(
    matrix: Matrix, groups: Sequence[Group], diagnoses: Mapping[int, Sequence[Diagnosis]]
) -> Iterator[tuple[int, int]]:
    shapes = Shapes(matrix)
    yield from _unknown(groups)
    known: dict[Identity, int] = {}
    for i, found in diagnoses.items():
        for diagnosis in found:
            for identity in identities(diagnosis):
                yield known.setdefault(identity, i), i
    for i, j in combinations(range(min(len(groups), _COMPARED)), 2):
        pair = groups[i], groups[j]
        if _one_cause(shapes, *pair, diagnoses.get(i, ()), diagnoses.get(j, ())):
            yield i, j
    yield from _partitions(shapes, groups)
    yield from _masked(shapes, groups, diagnoses)


def _unknown(groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """What nobody could see, for one reason: that is one thing to mend."""
    first: dict[tuple[Cause | None, Severity], int] = {}
    for i, group in enumerate(groups):
        if group.kind.verdict is Verdict.UNKNOWN:
            yield first.setdefault((group.kind.cause, group.severity), i), i


def identities(diagnosis: Diagnosis) -> Iterator[Identity]:
    """What names the culprit beyond doubt."""
    for hit in diagnosis.hits:
        if hit.rule.sure:
            yield ("rule", hit.node, *rule_identity(hit.rule))
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
    return (
        _both_families(shapes, a, b)
        or _refusals(shapes, a, b, of_a, of_b)
        or _there_and_back(shapes, a, b)
        or _inside_one_node(a, b)
        or _noise(shapes, a, b, of_a, of_b)
    )


def _named(diagnoses: Sequence[Diagnosis]) -> bool:
    return any(True for diagnosis in diagnoses for _ in identities(diagnosis))


def _both_families(shapes: Shapes, a: Group, b: Group) -> bool:
    """The same cells over IPv4 and over IPv6; a rejecter has an address of each."""
    if {test.probe for test in a.tests} != {test.probe for test in b.tests}:
        return False
    families = {test.family for test in a.tests} & {test.family for test in b.tests}
    return not families and a.kind[:4] == b.kind[:4] and shapes.rows(a) == shapes.rows(b)


def _refusals(
    shapes: Shapes, a: Group, b: Group, of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]
) -> bool:
    """Rejections and drops of one firewall.

    ICMP errors are rate limited, so one REJECT reads as a drop here and there; and a router speaks
    with another address to each side.
    """
    if a.tests != b.tests or (a.kind.leg, a.kind.place) != (b.kind.leg, b.kind.place):
        return False
    if a.kind.cause not in _REFUSED or b.kind.cause not in _REFUSED:
        return False
    if Cause.REJECTED not in (a.kind.cause, b.kind.cause):
        return False
    if shapes.mutual(a, b) and a.kind.cause is b.kind.cause:
        return True
    senders = _senders(a, of_a) & _senders(b, of_b)
    return bool(senders) and a.kind.cause is not b.kind.cause


def _senders(group: Group, diagnoses: Sequence[Diagnosis]) -> set[str]:
    own = {group.kind.rejected_by} if group.kind.rejected_by else set()
    return own.union(*(diagnosis.rejecters for diagnosis in diagnoses))


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


def _noise(
    shapes: Shapes, a: Group, b: Group, of_a: Sequence[Diagnosis], of_b: Sequence[Diagnosis]
) -> bool:
    """Loss that hits all packets alike hits some probes of a pair and spares others."""
    kinds = (a.kind, b.kind)
    if any(k.verdict is not Verdict.LOSSY or k.cause is not Cause.DROPPED for k in kinds):
        return False
    if any(k.place not in (Place.PATH, None) for k in kinds):
        return False
    for diagnosis in (*of_a, *of_b):
        flows = diagnosis.flows
        if flows is not None and flows.pattern is not FlowPattern.RANDOM:
            return False
    few, many = sorted((a, b), key=lambda group: group.cells)
    return shapes.travels_within(few, many)


def _partitions(shapes: Shapes, groups: Sequence[Group]) -> Iterator[tuple[int, int]]:
    """Blocks that together are everything between classes of nodes, or everything inside them."""
    alike: dict[Identity, list[int]] = {}
    for i, group in enumerate(groups):
        kind = group.kind
        if kind.verdict in _BAD:
            cause = Cause.DROPPED if kind.cause in _REFUSED else kind.cause
            key = (kind.verdict, kind.leg, kind.place, cause, group.tests)
            alike.setdefault(key, []).append(i)
    for positions in alike.values():
        if len(positions) > 1 and shapes.partition([groups[i] for i in positions]):
            yield from ((positions[0], i) for i in positions[1:])


def _masked(
    shapes: Shapes, groups: Sequence[Group], diagnoses: Mapping[int, Sequence[Diagnosis]]
) -> Iterator[tuple[int, int]]:
    """Parts of one block on the path that cells with another fault cut to pieces."""
    alike: dict[Identity, list[int]] = {}
    for i, group in enumerate(groups[:_COMPARED]):
        kind = group.kind
        if kind.verdict in _BAD and kind.place is Place.PATH:
            alike.setdefault((*kind, group.tests), []).append(i)
    for positions in alike.values():
        for i, j in combinations(positions, 2):
            sizes = {d.size for n in (i, j) for d in diagnoses.get(n, ()) if d.size is not None}
            if len(sizes) < 2 and shapes.full_block([groups[i], groups[j]]):
                yield i, j
