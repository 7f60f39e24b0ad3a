"""From a saved snapshot's JSON values to a snapshot: every value is looked at before it is used.

Whatever the values are, the answer is a snapshot or `UnreadableError`, which says where and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import ip_address
from typing import TypeVar

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
from preflight.core.snapshot import Snapshot

SCHEMA = "preflight/snapshot/1"
_MOST_CELLS = 200_000_000  # 8,000 nodes, three probes: above, the file is wrong and memory at risk
_MOST = 10**9  # for counts and times

_Member = TypeVar("_Member", bound=StrEnum)


class UnreadableError(ValueError):
    """Not a snapshot that this version reads; the text says where and why."""


class _Record:
    """A JSON object; `where` is its place in the file, for messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UnreadableError(f"{where or 'the file'}: not an object")
        self._values: dict[str, object] = value
        self._where = where

    def has(self, key: str) -> bool:
        return key in self._values

    def at(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def bad(self, key: str, expected: str) -> UnreadableError:
        missing = "missing" if key not in self._values else f"not {expected}"
        return UnreadableError(f"{self.at(key)}: {missing}")

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self.bad(key, "a text")
        return value

    def maybe_text(self, key: str) -> str | None:
        return None if self._values.get(key) is None else self.text(key)

    def whole(self, key: str, most: int) -> int:
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value <= most:
            raise self.bad(key, f"a whole number up to {most}")
        return value

    def maybe_whole(self, key: str, most: int) -> int | None:
        return None if self._values.get(key) is None else self.whole(key, most)

    def number(self, key: str) -> float:
        value = self._values.get(key)
        if type(value) not in (int, float) or not 0 <= value <= _MOST:  # type: ignore[operator]
            raise self.bad(key, "a number of 0 or more")
        return float(value)  # type: ignore[arg-type]

    def maybe_number(self, key: str) -> float | None:
        return None if self._values.get(key) is None else self.number(key)

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        return value

    def one_of(self, key: str, kinds: type[_Member]) -> _Member:
        value = self._values.get(key)
        try:
            return kinds(value)  # type: ignore[arg-type]
        except ValueError:
            raise self.bad(key, f"one of {', '.join(kinds)}") from None

    def maybe_one_of(self, key: str, kinds: type[_Member]) -> _Member | None:
        return None if self._values.get(key) is None else self.one_of(key, kinds)

    def record(self, key: str) -> _Record:
        return _Record(self._values.get(key), self.at(key))

    def members(self, key: str) -> Mapping[str, object]:
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.bad(key, "an object")
        return value

    def items(self, key: str) -> list[object]:
        value = self._values.get(key)
        if not isinstance(value, list):
            raise self.bad(key, "a list")
        return value

    def records(self, key: str) -> Iterator[_Record]:
        for position, value in enumerate(self.items(key)):
            yield _Record(value, f"{self.at(key)}[{position}]")

    def texts(self, key: str) -> list[str]:
        values = [value for value in self.items(key) if isinstance(value, str)]
        if len(values) != len(self.items(key)):
            raise self.bad(key, "a list of texts")
        return values


def read_snapshot(value: object) -> Snapshot:
    """The snapshot that a file's JSON value stands for. Raises UnreadableError."""
    whole = _Record(value, "")
    _check_schema(whole)
    nodes, agents = [], []
    for record in whole.records("nodes"):
        agent = _agent(record.record("agent"))
        nodes.append(_node(record, agent))
        agents.append(agent)
    probes = [_probe(record) for record in whole.records("probes")]
    _unique("nodes", [node.name for node in nodes])
    _unique("probes", [probe.name for probe in probes])
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
    )


def _check_schema(whole: _Record) -> None:
    schema = whole.maybe_text("schema")
    if schema == SCHEMA:
        return
    name, _, _ = SCHEMA.rpartition("/")
    if schema is not None and schema.startswith(f"{name}/"):
        raise UnreadableError(
            f"its schema is {schema}, this preflight reads {SCHEMA}: use one that fits"
        )
    raise UnreadableError(f"not a preflight snapshot: it has no schema {SCHEMA}")


def _unique(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise UnreadableError(f"{what}[{position}]: a second {name!r}")
        seen.add(name)


def _families(whole: _Record) -> list[Family]:
    """Those named, or in a file that names none those of the results, as they come."""
    if not whole.has("families"):
        return list(dict.fromkeys(r.one_of("family", Family) for r in whole.records("results")))
    names = whole.texts("families")
    _unique("families", names)
    try:
        return [Family(name) for name in names]
    except ValueError:
        raise whole.bad("families", f"a list of {', '.join(Family)}") from None


def _node(record: _Record, agent: AgentInfo) -> Node:
    name = record.text("name")
    addresses = record.texts("addresses")
    if not addresses or not all(map(_is_address, addresses)):
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


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _agent(record: _Record) -> AgentInfo:
    return AgentInfo(
        state=record.one_of("state", AgentState),
        reason=record.maybe_text("reason"),
        python=record.maybe_text("python"),
        kernel=record.maybe_text("kernel"),
    )


def _probe(record: _Record) -> Probe:
    name, protocol = record.text("name"), record.one_of("protocol", Protocol)
    port = record.maybe_whole("port", 65535)
    kind = record.maybe_one_of("kind", ProbeKind)
    if kind is None:  # a file that tells no more than the contract
        known = {kind.value: kind for kind in ProbeKind}
        kind = known.get(name) or known.get(str(protocol), ProbeKind.ECHO)
    return Probe(name, kind, protocol, port, record.one_of("severity", Severity))


def _fill(matrix: Matrix, whole: _Record) -> None:
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


def _outcome(record: _Record) -> Outcome:
    seen = record.record("evidence")
    rejected_by = record.maybe_text("rejected_by")
    if rejected_by is not None and not _is_address(rejected_by):
        raise record.bad("rejected_by", "an address")
    return Outcome(
        verdict=record.one_of("verdict", Verdict),
        leg=record.maybe_one_of("leg", Leg),
        place=record.maybe_one_of("place", Place),
        cause=record.maybe_one_of("cause", Cause),
        rejected_by=rejected_by,
        evidence=Evidence(*(seen.maybe_whole(vantage, _MOST) for vantage in Evidence._fields)),
        detail=record.maybe_text("detail"),
    )


def _unpack(matrix: Matrix, packed: _Record) -> None:
    if packed.whole("form", _MOST) != FORM:
        raise UnreadableError(f"{packed.at('form')}: not {FORM}, which this preflight reads")
    outcomes = [_outcome(record) for record in packed.records("outcomes")]
    try:
        unpack(matrix, outcomes, packed.text("cells"), packed.text("rtt"))
    except ValueError as error:
        raise UnreadableError(f"packed: {error}") from error
