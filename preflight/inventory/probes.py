"""The `probes:` list: names of built-in probes, and a user's own as mappings."""

from collections.abc import Sequence
from dataclasses import replace

from preflight.core.model import (
    BUILT_IN_PROBES,
    Between,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
    Term,
)
from preflight.inventory import document, fields
from preflight.inventory.document import Mapping, Scalar, Unusable, Value
from preflight.inventory.problems import Problems, quote
from preflight.inventory.schema import Section, checked, items, section

_KEYS = ("name", "protocol", "port", "severity", "between")
_SIDES = ("source", "destination")
_A_BETWEEN = "{source: role=control-plane, destination: role=worker}, or one of the two"
_A_TERM = "a label and its value, such as role=worker or role!=etcd, or a list of these"
_MOST_VALUES = 8  # of a label, in a message
_WANTED = "names such as [geneve, health, echo], or leave the key out for these three"
_OWN = "{name: NAME, protocol: udp or tcp, port: NUMBER}"
_VXLAN = "{name: vxlan, protocol: udp, port: 8472}"
_KINDS = {Protocol.UDP: ProbeKind.UDP, Protocol.TCP: ProbeKind.TCP}


def read_probes(
    value: Value | None, problems: Problems, nodes: Sequence[Node]
) -> tuple[Probe, ...]:
    """The probes of the list, in its order; the three built-in ones where there is no list.

    `nodes` are those whose labels `between` may name.
    """
    if value is None:
        return tuple(BUILT_IN_PROBES.values())
    probes: list[Probe] = []
    names: dict[str, str] = {}
    ports: dict[tuple[Protocol, int], str] = {}
    for path, item in items(value, "probes", problems, wanted=_WANTED):
        probe = _read(item, path, problems, nodes)
        if probe is None:
            continue
        here = f"{path} (line {item.line})"
        if probe.name in names:
            problems.add(item.line, path, f"{quote(probe.name)} is {names[probe.name]} too")
        elif probe.port is not None and (probe.protocol, probe.port) in ports:
            other = ports[probe.protocol, probe.port]
            message = f"{probe.protocol} port {probe.port} is probed by {other} too; keep one"
            problems.add(item.line, path, message)
        names.setdefault(probe.name, here)
        if probe.port is not None:
            ports.setdefault((probe.protocol, probe.port), here)
        probes.append(probe)
    return tuple(probes)


def _read(item: Value, path: str, problems: Problems, nodes: Sequence[Node]) -> Probe | None:
    if isinstance(item, Mapping):
        one = section(item, path, problems, _KEYS, wanted=_OWN)
        if one is None:
            return None
        between = _between(one, nodes)
        probe = _from_mapping(one)
        return None if probe is None else replace(probe, between=between)
    if isinstance(item, Scalar | Unusable):
        return checked(item, path, problems, _by_name, None)
    problems.add(item.line, path, f"must be a name or a mapping such as {_OWN}")
    return None


def _by_name(item: Value) -> Probe | None:
    name = fields.text(item)
    probe = BUILT_IN_PROBES.get(name)
    if probe is None:
        known = ", ".join(BUILT_IN_PROBES)
        own = _VXLAN if name == "vxlan" else _OWN
        raise fields.Invalid(
            f"{quote(name)} is not built in ({known} are); write a probe of your own as {own}"
        )
    return probe


def _from_mapping(one: Section) -> Probe | None:
    name = one.required("name", fields.probe_name, _OWN)
    base = BUILT_IN_PROBES.get(name or "")
    if base is not None:
        return _built_in(one, base)
    severity = one.given("severity", fields.severity, Severity.REQUIRED)
    protocol = one.required("protocol", fields.protocol, "udp or tcp")
    port = one.required("port", fields.port, "the destination port")
    if protocol is Protocol.ICMP:
        one.invalid("protocol", 'only the probe "echo" is icmp; write udp or tcp')
    elif name == "vxlan" and protocol is Protocol.TCP:
        one.invalid("protocol", "VXLAN is udp; write udp, or give the probe a name of its own")
    elif name is not None and protocol is not None and port is not None:
        kind = ProbeKind.VXLAN if name == "vxlan" else _KINDS[protocol]
        return Probe(name, kind, protocol, port, severity)
    return None


def _built_in(one: Section, base: Probe) -> Probe:
    protocol = one.given("protocol", fields.protocol, base.protocol)
    if protocol is not base.protocol:
        one.invalid("protocol", f"{base.name} is {base.protocol}; leave the key out")
    port = base.port
    if base.port is not None:
        port = one.given("port", fields.port, base.port)
    elif one.value("port") is not None:
        one.invalid("port", f"{base.name} has no port; leave the key out")
    return replace(base, port=port, severity=one.given("severity", fields.severity, base.severity))


def _between(one: Section, nodes: Sequence[Node]) -> Between | None:
    value = one.value("between")
    if value is None:
        return None
    sides = section(value, one.at("between"), one.problems, _SIDES, wanted=_A_BETWEEN)
    if sides is None:
        return None
    if isinstance(value, Mapping) and not value.entries:
        one.invalid("between", f"is empty; write {_A_BETWEEN}")
    source, destination = (_terms(sides, side, nodes) for side in _SIDES)
    return Between(source, destination)


def _terms(sides: Section, side: str, nodes: Sequence[Node]) -> tuple[Term, ...]:
    value = sides.value(side)
    if value is None:
        return ()
    written = [(sides.at(side), value)]
    if isinstance(value, document.Sequence):
        written = items(value, sides.at(side), sides.problems, wanted=_A_TERM)
    terms = []
    for path, item in written:
        term = checked(item, path, sides.problems, _term, None)
        if term is None:
            continue
        terms.append(term)
        values = {node.labels[term.key] for node in nodes if term.key in node.labels}
        if term.equal and term.value not in values and nodes:
            shown = ", ".join(sorted(values)[:_MOST_VALUES])
            there = f"{term.key} is {shown}" if values else f"no node has a label {term.key}"
            message = f"{quote(str(term))}: no node is labelled {term.key}={term.value}; {there}"
            sides.problems.add(item.line, path, message)
    return tuple(terms)


def _term(item: Value) -> Term:
    written = fields.word(item)
    try:
        return Term.of(written)
    except ValueError:
        raise fields.Invalid(f"{quote(written)} is not {_A_TERM}") from None
