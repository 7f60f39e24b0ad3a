"""From a saved snapshot's JSON values to a snapshot: every value is looked at before it is used.

Whatever the values are, the answer is a snapshot or `UnreadableError`, which says where and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preflight.core.digest import KEY, digest_of
from preflight.core.matrix import Matrix
from preflight.core.meeting import Part
from preflight.core.meeting import Record as Party
from preflight.core.model import (
    AgentInfo,
    AgentState,
    Between,
    Came,
    Cause,
    Connection,
    Evidence,
    Family,
    Hello,
    Leg,
    Node,
    Outcome,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Term,
    Verdict,
)
from preflight.core.packing import FORM, unpack
from preflight.core.records import MOST, Record, UnreadableError, is_address, unique
from preflight.core.snapshot import Snapshot

if TYPE_CHECKING:
    from preflight.core.findings.model import Finding
    from preflight.core.merge.model import Merged

SCHEMA = "preflight/snapshot/1"
_MOST_CELLS = 200_000_000  # 8,000 nodes, three probes: above, the file is wrong and memory at risk


def read_snapshot(value: object) -> Snapshot:
    """The snapshot that a file's JSON value stands for. Raises UnreadableError."""
    whole = Record(value, "")
    _check_schema(whole)
    _refuse_part(whole)
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
        _unpack(matrix, whole.record("packed"), edited=not whole.has(KEY))
    else:
        _fill(matrix, whole)
    timings = whole.record("timings")
    snapshot = Snapshot(
        phase=whole.one_of("phase", Phase),
        started=whole.text("started"),
        finished=whole.text("finished"),
        matrix=matrix,
        agents=agents,
        timings={key: timings.number(key) for key in whole.members("timings")},
        notes=tuple(whole.texts("notes")) if whole.has("notes") else (),
        interrupted=whole.flag("interrupted"),
        findings=_findings(whole, matrix),
        records=tuple(map(_record, whole.records("records"))) if whole.has("records") else (),
        merged=_merged(whole, matrix),
    )
    _check_digest(whole)  # last: whatever else is wrong tells more
    return snapshot


def _record(record: Record) -> Party:
    served = record.members("served")
    if not all(_is_served(ports) for ports in served.values()):
        raise record.bad("served", "lists of ports by family")
    nodes = tuple(record.texts("nodes"))
    if record.text("node") not in nodes:
        raise record.bad("node", "one of its nodes")
    ignored = record.items("echo_ignored")
    if not _is_numbers(ignored):
        raise record.bad("echo_ignored", "a list of numbers")
    return Party(
        record.text("meeting"),
        record.text("node"),
        nodes,
        tuple(_part(part, len(nodes)) for part in record.records("parts")),
        record.members("report"),
        served,  # type: ignore[arg-type]
        tuple(ignored),  # type: ignore[arg-type]
    )


def _part(record: Record, nodes: int) -> Part:
    sides = []
    for key in ("out", "come"):
        peers = record.items(key)
        if not _is_numbers(peers) or any(peer >= nodes for peer in peers):  # type: ignore[operator]
            raise record.bad(key, "a list of nodes' positions")
        sides.append(tuple(peers))
    return Part(
        record.text("probe"),
        record.one_of("family", Family),
        record.whole("packets", 64),
        record.whole("full", 64),
        *sides,  # type: ignore[arg-type]
    )


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= MOST for n in value)


def _is_served(value: object) -> bool:
    keys = {"udp", "tcp", "unsure"}
    return (
        isinstance(value, dict) and value.keys() >= keys and all(map(_is_numbers, value.values()))
    )


def _merged(whole: Record, matrix: Matrix) -> Merged | None:
    if whole.value("merged") is None:
        return None
    from preflight.core.merge.saved import read_merged

    return read_merged(whole.record("merged"), matrix)


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


def _refuse_part(whole: Record) -> None:
    """A file must hold all of a run."""
    if whole.has("filter"):
        words = whole.record("filter").words("words")
        raise UnreadableError(
            f"only a part of a run, which `preflight show` filtered ({words}): use the whole file"
        )


def _check_digest(whole: Record) -> None:
    """It is what preflight wrote."""
    if whole.has(KEY) and whole.value(KEY) != digest_of(whole.as_it_is):
        raise UnreadableError(
            f'changed after preflight wrote it ("{KEY}" does not fit): take the original, or '
            f'remove its "{KEY}" to read it as edited'
        )


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
    return Probe(
        name,
        kind,
        protocol,
        port,
        record.one_of("severity", Severity),
        between=_between(record.record("between")) if record.has("between") else None,
        families=_known_families(record, "families") if record.has("families") else (),
        source_ports=_ports(record) if record.has("source_ports") else None,
        purpose=record.words("purpose"),
    )


def _between(record: Record) -> Between:
    sides = []
    for side in ("source", "destination"):
        try:
            sides.append(tuple(map(Term.of, record.texts(side))))
        except ValueError:
            raise record.bad(side, "a list of labels with their values") from None
    return Between(*sides)


def _known_families(record: Record, key: str) -> tuple[Family, ...]:
    try:
        return tuple(map(Family, record.texts(key)))
    except ValueError:
        raise record.bad(key, f"a list of {', '.join(Family)}") from None


def _ports(record: Record) -> tuple[int, int]:
    found = record.items("source_ports")
    numbers = [n for n in found if isinstance(n, int) and 0 < n < 65536]
    if len(found) != 2 or numbers != found or numbers[0] > numbers[1]:
        raise record.bad("source_ports", "a lowest and a highest port")
    return numbers[0], numbers[1]


def _fill(matrix: Matrix, whole: Record) -> None:
    nodes = {node.name: i for i, node in enumerate(matrix.nodes)}
    probes = {probe.name: i for i, probe in enumerate(matrix.probes)}
    families = {str(family): i for i, family in enumerate(matrix.families)}
    known: dict[Outcome, Outcome] = {}
    edited = not whole.has(KEY)
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
        outcome = _outcome(result, edited=edited)
        outcome = known.setdefault(outcome, outcome)
        matrix.set(index, outcome, result.maybe_number("rtt_ms"))


def _outcome(record: Record, *, edited: bool) -> Outcome:
    """What a result says; where it may have been `edited`, its counts must fit each other."""
    rejected_by = record.maybe_text("rejected_by")
    if rejected_by is not None and not is_address(rejected_by):
        raise record.bad("rejected_by", "an address")
    outcome = Outcome(
        verdict=record.one_of("verdict", Verdict),
        leg=record.maybe_one_of("leg", Leg),
        place=record.maybe_one_of("place", Place),
        cause=record.maybe_one_of("cause", Cause),
        rejected_by=rejected_by,
        evidence=_evidence(record.record("evidence"), edited=edited),
        detail=record.maybe_text("detail"),
        hello=_hello(record.record("hello")) if record.value("hello") is not None else None,
    )
    if outcome.verdict is Verdict.OPEN:
        for key in ("leg", "place", "cause"):
            if record.value(key) is not None:
                raise UnreadableError(f"{record.at(key)}: there, though the verdict is open")
    return outcome


def _evidence(record: Record, *, edited: bool) -> Evidence:
    for vantage in Evidence._fields:
        if not record.has(vantage):
            raise record.bad(vantage, "a number")
    seen = Evidence(*(record.maybe_whole(vantage, MOST) for vantage in Evidence._fields))
    for vantage, came in (("arrived", seen.arrived), ("accepted", seen.accepted)):
        if edited and came is not None and seen.sent is not None and came > seen.sent:
            raise UnreadableError(f"{record.at(vantage)}: {came}, though {seen.sent} were sent")
    return seen


def _hello(record: Record) -> Hello:
    return Hello(
        answer=record.one_of("answer", Came),
        status=record.maybe_whole("status", 999),
        says=record.maybe_text("says"),
        holder=record.maybe_text("holder"),
    )


def _unpack(matrix: Matrix, packed: Record, *, edited: bool) -> None:
    if packed.whole("form", MOST) != FORM:
        raise UnreadableError(f"{packed.at('form')}: not {FORM}, which this preflight reads")
    outcomes = [_outcome(record, edited=edited) for record in packed.records("outcomes")]
    try:
        unpack(matrix, outcomes, packed.text("cells"), packed.text("rtt"))
    except ValueError as error:
        raise UnreadableError(f"packed: {error}") from error
