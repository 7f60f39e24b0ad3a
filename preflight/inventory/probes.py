"""The `probes:` list: names of built-in probes, and a user's own as mappings."""

from dataclasses import replace

from preflight.core.model import BUILT_IN_PROBES, Probe, ProbeKind, Protocol, Severity
from preflight.inventory import fields
from preflight.inventory.document import Mapping, Scalar, Unusable, Value
from preflight.inventory.problems import Problems, quote
from preflight.inventory.schema import Section, checked, items, section

_KEYS = ("name", "protocol", "port", "severity")
_WANTED = "names such as [geneve, health, echo], or leave the key out for these three"
_OWN = "{name: NAME, protocol: udp or tcp, port: NUMBER}"
_VXLAN = "{name: vxlan, protocol: udp, port: 8472}"
_KINDS = {Protocol.UDP: ProbeKind.UDP, Protocol.TCP: ProbeKind.TCP}


def read_probes(value: Value | None, problems: Problems) -> tuple[Probe, ...]:
    """The probes of the list, in its order; the three built-in ones where there is no list."""
    if value is None:
        return tuple(BUILT_IN_PROBES.values())
    probes: list[Probe] = []
    names: dict[str, str] = {}
    ports: dict[tuple[Protocol, int], str] = {}
    for path, item in items(value, "probes", problems, wanted=_WANTED):
        probe = _read(item, path, problems)
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


def _read(item: Value, path: str, problems: Problems) -> Probe | None:
    if isinstance(item, Mapping):
        one = section(item, path, problems, _KEYS, wanted=_OWN)
        return None if one is None else _from_mapping(one)
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
