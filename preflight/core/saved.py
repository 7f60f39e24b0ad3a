"""From a saved snapshot's JSON values to a snapshot: every value is looked at before it is used.

Whatever the values are, the answer is a snapshot or `UnreadableError`, which says where and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preflight.core.matrix import Matrix
from preflight.core.model import (
    AgentInfo,
    AgentState,
    Cause,
    Connection,
    Evidence,
    Family,
    Leg,
    Node,
    Outcome,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Verdict,
)
from preflight.core.packing import FORM, unpack
from preflight.core.records import MOST, Record, UnreadableError, is_address, unique
from preflight.core.snapshot import Snapshot

if TYPE_CHECKING:
    from preflight.core.findings.model import Finding

SCHEMA = "preflight/snapshot/1"
_MOST_CELLS = 200_000_000  # 8,000 nodes, three probes: above, the file is wrong and memory at risk


def read_snapshot(value: object) -> Snapshot:
    """The snapshot that a file's JSON value stands for. Raises UnreadableError."""
    whole = Record(value, "")
    _check_schema(whole)
    nodes, agents = [], []
    for record in whole.records("nodes"):
        agent = _agent(record.record("agent"))
        nodes.append(_node(record, agent))
        agents.append(agent)
    probes = [_probe(record) for record in whole.records("probes")]
    unique("nodes", [node.name for node in nodes])
    unique("probes", [probe.name for probe in probes])
    families = _families(whole)
    if len(families) * len(probes) * len(nodes) ** 2 > _MOST_CELLS:
        raise UnreadableError(f"{len(nodes)} nodes are more than a file can hold")
    matrix = Matrix(nodes, probes, families)
    if whole.has("packed"):
        _unpack(matrix, whole.record("packed"))
    else:
        _fill(matrix, whole)
    timings = whole.record("timings")
    return Snapshot(
        phase=whole.one_of("phase", Phase),
        started=whole.text("started"),
        finished=whole.text("finished"),
        matrix=matrix,
        agents=agents,
        timings={key: timings.number(key) for key in whole.members("timings")},
        notes=tuple(whole.texts("notes")) if whole.has("notes") else (),
        interrupted=whole.flag("interrupted"),
        findings=_findings(whole, matrix),
    )


def _findings(whole: Record, matrix: Matrix) -> tuple[Finding, ...]:
    if not whole.has("findings") or not whole.items("findings"):
        return ()
    from preflight.core.findings.saved import read_findings

    return read_findings(whole, matrix)


def _check_schema(whole: Record) -> None:
    schema = whole.maybe_text("schema")
    if schema == SCHEMA:
        return
    name, _, _ = SCHEMA.rpartition("/")
    if schema is not None and schema.startswith(f"{name}/"):
        raise UnreadableError(
            f"its schema is {schema}, this preflight reads {SCHEMA}: use one that fits"
        )
    raise UnreadableError(f"not a preflight snapshot: it has no schema {SCHEMA}")


def _families(whole: Record) -> list[Family]:
    """Those named, or in a file that names none those of the results, as they come."""
    if not whole.has("families"):
        return list(dict.fromkeys(r.one_of("family", Family) for r in whole.records("results")))
    names = whole.texts("families")
    unique("families", names)
    try:
        return [Family(name) for name in names]
    except ValueError:
        raise whole.bad("families", f"a list of {', '.join(Family)}") from None


def _node(record: Record, agent: AgentInfo) -> Node:
    name = record.text("name")
    addresses = record.texts("addresses")
    if not addresses or not all(map(is_address, addresses)):
        raise record.bad("addresses", "a list of addresses")
    labels = record.members("labels")
    if not all(isinstance(value, str) for value in labels.values()):
        raise record.bad("labels", "an object of texts")
    return Node(
        name=name,
        addresses=tuple(addresses),
        host=addresses[0],
        connection=Connection.NONE if agent.state is AgentState.NONE else Connection.SSH,
        labels={key: str(value) for key, value in labels.items()},
        cluster=record.maybe_text("cluster"),
    )


def _agent(record: Record) -> AgentInfo:
    return AgentInfo(
        state=record.one_of("state", AgentState),
        reason=record.maybe_text("reason"),
        python=record.maybe_text("python"),
        kernel=record.maybe_text("kernel"),
    )


def _probe(record: Record) -> Probe:
    name, protocol = record.text("name"), record.one_of("protocol", Protocol)
    port = record.maybe_whole("port", 65535)
    kind = record.maybe_one_of("kind", ProbeKind)
    if kind is None:  # a file that tells no more than the contract
        known = {kind.value: kind for kind in ProbeKind}
        kind = known.get(name) or known.get(str(protocol), ProbeKind.ECHO)
    return Probe(name, kind, protocol, port, record.one_of("severity", Severity))


def _fill(matrix: Matrix, whole: Record) -> None:
    nodes = {node.name: i for i, node in enumerate(matrix.nodes)}
    probes = {probe.name: i for i, probe in enumerate(matrix.probes)}
    families = {str(family): i for i, family in enumerate(matrix.families)}
    known: dict[Outcome, Outcome] = {}
    for result in whole.records("results"):
        positions = []
        for key, names in (
            ("family", families),
            ("probe", probes),
            ("source", nodes),
            ("destination", nodes),
        ):
            position = names.get(result.text(key))
            if position is None:
                raise UnreadableError(f"{result.at(key)}: {result.text(key)!r} is not in this file")
            positions.append(position)
        index = matrix.index(*positions)
        if positions[2] == positions[3]:
            raise UnreadableError(f"{result.at('destination')}: the source itself")
        if matrix.outcome(index) is not None:
            raise UnreadableError(f"{result.at('source')}: a second result for one cell")
        outcome = _outcome(result)
        outcome = known.setdefault(outcome, outcome)
        matrix.set(index, outcome, result.maybe_number("rtt_ms"))


def _outcome(record: Record) -> Outcome:
    seen = record.record("evidence")
    rejected_by = record.maybe_text("rejected_by")
    if rejected_by is not None and not is_address(rejected_by):
        raise record.bad("rejected_by", "an address")
    return Outcome(
        verdict=record.one_of("verdict", Verdict),
        leg=record.maybe_one_of("leg", Leg),
        place=record.maybe_one_of("place", Place),
        cause=record.maybe_one_of("cause", Cause),
        rejected_by=rejected_by,
        evidence=Evidence(*(seen.maybe_whole(vantage, MOST) for vantage in Evidence._fields)),
        detail=record.maybe_text("detail"),
    )


def _unpack(matrix: Matrix, packed: Record) -> None:
    if packed.whole("form", MOST) != FORM:
        raise UnreadableError(f"{packed.at('form')}: not {FORM}, which this preflight reads")
    outcomes = [_outcome(record) for record in packed.records("outcomes")]
    try:
        unpack(matrix, outcomes, packed.text("cells"), packed.text("rtt"))
    except ValueError as error:
        raise UnreadableError(f"packed: {error}") from error
