"""What the reader of a diff must know of the comparison itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from preflight.core.diff.match import changed_addresses
from preflight.core.diff.model import Change, Tally
from preflight.core.diff.pairing import NodePairing, ProbePairing
from preflight.core.diff.turns import BETTERED, COMPARED, WORSENED, Turn
from preflight.core.model import AgentInfo, AgentState, Family, Phase, ProbeKind, Verdict
from preflight.core.naming import Naming
from preflight.core.snapshot import Snapshot
from preflight.core.terms import listed, plural

_NAMED = 8  # nodes that are told one by one
_ALIKE = frozenset({Turn.SAME, Turn.STILL, Turn.UNKNOWN})
_TUNNELS = (ProbeKind.GENEVE, ProbeKind.VXLAN)


def notes(
    before: Snapshot,
    after: Snapshot,
    nodes: Sequence[NodePairing],
    probes: Sequence[ProbePairing],
    families: Sequence[Family],
    tallies: Sequence[Tally],
    changes: Sequence[Change],
) -> Iterator[str]:
    """Plain sentences, what puts the comparison in doubt first."""
    yield from _of_runs(before, after, tallies)
    if not any(tally.turns.keys() & COMPARED for tally in tallies):
        yield "No cell is known in both runs: nothing could be compared."
    both = set(before.matrix.families) & set(after.matrix.families)
    yield from _of_nodes(nodes, both)
    yield from _of_agents(before, after, nodes)
    yield from _of_probes(probes)
    if before.phase is not after.phase:
        yield from _of_forms(probes, changes)
    for snapshot, name in ((before, "BEFORE"), (after, "AFTER")):
        lacking = [f for f in families if f not in snapshot.matrix.families]
        if lacking:
            yield f"{listed(map(str, lacking))} was not tested in {name}."


def _of_runs(before: Snapshot, after: Snapshot, tallies: Sequence[Tally]) -> Iterator[str]:
    first, second = moment(before.started), moment(after.started)
    if _same_run(before, after) and not any(t.turns.keys() - _ALIKE for t in tallies):
        yield "Both files hold the same run."
    elif first is not None and second is not None and second < first:
        yield (
            f"AFTER ({after.started}) is older than BEFORE ({before.started}): if the two were "
            "swapped, what is called worse is better."
        )
    if (before.phase, after.phase) == (Phase.AFTER, Phase.BEFORE):
        yield (
            "BEFORE was run with Cilium (phase after), AFTER without it (phase before): a port "
            "that nobody serves is closed in the one and open in the other."
        )
    for snapshot, name in ((before, "BEFORE"), (after, "AFTER")):
        if snapshot.interrupted:
            yield f"{name} was interrupted: what was not measured by then is unknown in it."


def _same_run(before: Snapshot, after: Snapshot) -> bool:
    return (before.started, before.finished, before.phase, before.matrix.nodes) == (
        after.started,
        after.finished,
        after.phase,
        after.matrix.nodes,
    )


def moment(text: str) -> datetime | None:
    """A time of a file; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _of_nodes(nodes: Sequence[NodePairing], families: Collection[Family]) -> Iterator[str]:
    named = [pairing for pairing in nodes if not pairing.came and not pairing.went]
    if len(named) > 1 and all(_all_new(pairing) for pairing in named):
        yield (
            "No node has an address that it had before: these may be runs of two clusters whose "
            "nodes have the same names."
        )
    naming = Naming([pairing.node for pairing in nodes])
    went = sum(1 << i for i, pairing in enumerate(nodes) if pairing.went)
    came = sum(1 << i for i, pairing in enumerate(nodes) if pairing.came)
    for which, verb in ((went, "went"), (came, "came")):
        if which:
            yield f"{plural(which.bit_count(), 'node')} {verb}: {naming.whole(which)}."
    yield from _few(
        [
            f"{p.former.name} is now called {p.node.name}: it has the same address, "
            f"{_shared(p)}, and is compared as one node."
            for p in nodes
            if p.by_address and p.former is not None
        ],
        "nodes have another name and the same address, and are compared as one node each",
    )
    yield from _few(
        [
            f"{p.node.name} has another address: {_addresses(p.former)} before, "
            f"{_addresses(p.node)} now. It is compared by its name."
            for p in nodes
            if p.moved and p.former is not None
        ],
        "nodes have other addresses; they are compared by their names",
    )
    yield from _few(
        [
            f"{p.node.name} had {_addresses(p.former)}, and has {_addresses(p.node)} now."
            for p in nodes
            if p.readdressed and not p.moved and _in_both(p, families)
        ],
        "nodes have an address of a family that they had not, or have none any more",
    )
    yield from _few(
        [
            f"{p.node.name} has the address that {other.former.name} had before"
            + (": renamed or replaced, so the two are not compared." if p.came else ".")
            for p, other in changed_addresses(nodes)
            if other.former is not None
        ],
        "nodes have an address now that another node had before",
    )
    yield from _few(
        [f"{p.node.name} has other labels, or another cluster." for p in nodes if p.relabelled],
        "nodes have other labels, or another cluster",
    )


def _of_agents(before: Snapshot, after: Snapshot, nodes: Sequence[NodePairing]) -> Iterator[str]:
    """Nodes that could watch in one run alone: why so much of them is unknown."""
    lost, found = [], []
    for pairing in nodes:
        if pairing.before is None or pairing.after is None:
            continue
        was, now = _agent(before, pairing.before), _agent(after, pairing.after)
        if was is None or now is None:
            continue
        had, has = was.state is AgentState.OK, now.state is AgentState.OK
        if has and not had:
            found.append(f"{pairing.node.name} has an agent now, and had none before: {_why(was)}.")
        elif had and not has:
            lost.append(f"{pairing.node.name} had an agent before, and has none now: {_why(now)}.")
    yield from _few(lost, "nodes had an agent before, and have none now")
    yield from _few(found, "nodes have an agent now, and had none before")


def _agent(snapshot: Snapshot, position: int) -> AgentInfo | None:
    return snapshot.agents[position] if position < len(snapshot.agents) else None


def _why(agent: AgentInfo) -> str:
    return f"{agent.state}, {agent.reason.rstrip('.?!')}" if agent.reason else str(agent.state)


def _in_both(pairing: NodePairing, families: Collection[Family]) -> bool:
    """Whether what it gained or lost is of a family that both runs tested."""
    former = pairing.former
    return former is not None and any(
        (former.address_in(family) is None) != (pairing.node.address_in(family) is None)
        for family in families
    )


def _all_new(pairing: NodePairing) -> bool:
    former = pairing.former
    return former is not None and not set(former.addresses) & set(pairing.node.addresses)


def _few(sentences: Sequence[str], many: str) -> Iterator[str]:
    if len(sentences) <= _NAMED:
        yield from sentences
    else:
        yield f"{len(sentences):,} {many}: --format json names them."


def _shared(pairing: NodePairing) -> str:
    former = pairing.former.addresses if pairing.former else ()
    return next((a for a in pairing.node.addresses if a in former), "")


def _addresses(node: object) -> str:
    return ", ".join(getattr(node, "addresses", ()))


def _of_probes(probes: Sequence[ProbePairing]) -> Iterator[str]:
    former = {p.probe.name: p.probe for p in probes if p.after is None}
    for pairing in probes:
        probe, was = pairing.probe, pairing.former
        if pairing.after is None:
            if probe.name not in {p.probe.name for p in probes if p.after is not None}:
                yield f"{probe} was not probed in AFTER."
        elif was is None:
            other = former.get(probe.name)
            if other is None:
                yield f"{probe} was not probed in BEFORE."
            else:
                yield (
                    f"{probe.name} is another probe now: {_sends(other)} before, {_sends(probe)} "
                    "now. Their cells are not compared."
                )
        else:
            if was.name != probe.name:
                yield f"{was.name} is now called {probe.name}: it sends the same."
            if was.severity is not probe.severity:
                yield f"{probe.name} was {was.severity}, and is {probe.severity} now."


def _of_forms(probes: Sequence[ProbePairing], changes: Sequence[Change]) -> Iterator[str]:
    """Two phases' tunnel probes look different, which may be all that changed."""
    turned = {
        test.probe
        for change in changes
        if change.turn in WORSENED | BETTERED
        and Verdict.CLOSED not in (change.before and change.before.verdict,
                                   change.after and change.after.verdict)
        for test in change.tests
    }  # fmt: skip
    if any(probes[probe].probe.kind in _TUNNELS for probe in turned):
        yield (
            "Before the installation a tunnel's probe looks like Cilium's own packets, after it "
            "like packets that the kernel throws away: a firewall that inspects tunnels may tell "
            "them apart."
        )


def _sends(probe: object) -> str:
    kind, protocol, port = (getattr(probe, name) for name in ("kind", "protocol", "port"))
    return f"{kind} {str(protocol).upper()}{f' {port}' if port else ''}"
