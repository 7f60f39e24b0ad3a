"""The findings of a saved snapshot, read with the suspicion of `core.saved`."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import NamedTuple

from preflight.core.diagnosis.plain import read_diagnosis
from preflight.core.findings.model import Block, Cause, Change, Finding, Request
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, FamilyProbe, Kind
from preflight.core.matrix import Matrix
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Place, Protocol, Severity, Verdict
from preflight.core.records import MOST, Record, UnreadableError, is_address, unique


class _Names(NamedTuple):
    """The positions of what a finding names."""

    nodes: Mapping[str, int]
    probes: Mapping[str, int]
    families: frozenset[Family]


def read_findings(whole: Record, matrix: Matrix) -> tuple[Finding, ...]:
    """The member `findings` of `whole`. Raises UnreadableError."""
    names = _Names(
        {node.name: i for i, node in enumerate(matrix.nodes)},
        {probe.name: i for i, probe in enumerate(matrix.probes)},
        frozenset(matrix.families),
    )
    found = tuple(_finding(record, names) for record in whole.records("findings"))
    unique("findings", [finding.identifier for finding in found])
    return found


def _finding(record: Record, names: _Names) -> Finding:
    sample = record.record("sample") if record.value("sample") is not None else None
    diagnosis = record.value("diagnosis")
    return Finding(
        identifier=record.text("id"),
        cause=record.one_of("cause", Cause),
        severity=record.one_of("severity", Severity),
        title=record.text("title"),
        kinds=tuple(map(_kind, record.records("kinds"))),
        tests=_tests(record, names),
        blocks=tuple(_block(block, names) for block in record.records("blocks")),
        where=record.words("where"),
        pairs=record.whole("pairs", MOST),
        cells=record.whole("cells", MOST),
        nodes=_nodes(record, "nodes", names),
        evidence=tuple(record.texts("evidence")),
        diagnosis=(
            None
            if diagnosis is None
            else read_diagnosis(diagnosis, record.at("diagnosis"), names.nodes)
        ),
        sample=None if sample is None else _sample(sample, names),
        changes=tuple(_change(change, names) for change in record.records("changes")),
        requests=tuple(map(_request, record.records("requests"))),
        advice=record.words("advice"),
        unknown=tuple(record.texts("unknown")),
    )


def _kind(record: Record) -> Kind:
    by = record.maybe_text("rejected_by")
    if by not in (None, BY_THE_SOURCE, BY_THE_DESTINATION) and not is_address(by):
        raise record.bad("rejected_by", "an address")
    return Kind(
        record.one_of("verdict", Verdict),
        record.maybe_one_of("leg", Leg),
        record.maybe_one_of("place", Place),
        record.maybe_one_of("cause", CellCause),
        by,
    )


def _tests(record: Record, names: _Names) -> tuple[FamilyProbe, ...]:
    return tuple(_test(test, names) for test in record.records("tests"))


def _test(record: Record, names: _Names) -> FamilyProbe:
    family = record.one_of("family", Family)
    if family not in names.families:
        raise UnreadableError(f"{record.at('family')}: {family} is not in this file")
    return FamilyProbe(_position(record, "probe", names.probes), family)


def _block(record: Record, names: _Names) -> Block:
    return Block(
        sources=_nodes(record, "sources", names),
        destinations=_nodes(record, "destinations", names),
        both_ways=record.flag("both_ways"),
        where=record.words("where"),
        tests=_tests(record, names),
    )


def _sample(record: Record, names: _Names) -> tuple[int, int]:
    source, destination = (_position(record, k, names.nodes) for k in ("source", "destination"))
    return source, destination


def _change(record: Record, names: _Names) -> Change:
    node = record.words("node")  # no node's: Cilium's own settings
    if node and node not in names.nodes:
        raise UnreadableError(f"{record.at('node')}: {node!r} is not in this file")
    return Change(
        node=node,
        tool=record.text("tool"),
        commands=tuple(record.texts("commands")),
        persist=tuple(record.texts("persist")),
    )


def _request(record: Record) -> Request:
    protocol = record.one_of("protocol", Protocol)
    port = record.maybe_whole("port", 65535)
    if (port is None) != (protocol is Protocol.ICMP):
        raise record.bad("port", f"what {protocol} has")
    return Request(
        sources=_networks(record, "sources"),
        destinations=_networks(record, "destinations"),
        protocol=protocol,
        port=port,
        source_ports=record.words("source_ports"),
        family=record.one_of("family", Family),
        reason=record.words("reason"),
    )


def _networks(record: Record, key: str) -> tuple[str, ...]:
    networks = record.texts(key)
    try:
        for network in networks:
            ip_network(network, strict=False)
    except ValueError:
        raise record.bad(key, "a list of networks") from None
    return tuple(networks)


def _nodes(record: Record, key: str, names: _Names) -> tuple[int, ...]:
    positions = [names.nodes.get(name) for name in record.texts(key)]
    if None in positions:
        raise record.bad(key, "a list of this file's nodes")
    return tuple(position for position in positions if position is not None)


def _position(record: Record, key: str, names: Mapping[str, int]) -> int:
    position = names.get(record.text(key))
    if position is None:
        raise UnreadableError(f"{record.at(key)}: {record.text(key)!r} is not in this file")
    return position
