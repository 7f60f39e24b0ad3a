"""An inventory as a file in the native form, with comments about what was dropped or guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from preflight.core.model import Connection, Inventory, Node, Probe
from preflight.inventory.problems import printable

_WIDTH = 96
# Texts that YAML takes for texts in a flow mapping as well, whatever its version.
_PLAIN = re.compile(r"[A-Za-z~/][A-Za-z0-9._/~-]*")
_WORDS = frozenset(
    {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "~"}
)
_SHARED = ("user", "port", "identity_file", "known_hosts", "proxy_jump", "become", "python")


def render(inventory: Inventory, comments: Sequence[str] = ()) -> str:
    """`inventory` as text that `load` reads back as the same inventory.

    What all nodes share stands under `defaults`. Probes stand there where the file had listed some.
    """
    nodes = inventory.nodes
    shared = {key: value for key in _SHARED if (value := _common(nodes, key)) is not None}
    lines = [line for text in comments for line in _comment(text)]
    if shared:
        lines += ["defaults:", *(f"  {key}: {_scalar(value)}" for key, value in shared.items())]
    if inventory.lists_probes:
        lines += ["probes:", *(f"  - {_flow_mapping(_probe(p))}" for p in inventory.probes)]
    lines.append("nodes:")
    for node in nodes:
        lines += _node(node, shared)
    return "\n".join(lines) + "\n"


def _common(nodes: Sequence[Node], key: str) -> object:
    """What all nodes have; None where they differ or have none."""
    values = {getattr(node, key) for node in nodes}
    return values.pop() if len(values) == 1 and len(nodes) > 1 else None


def _node(node: Node, shared: dict[str, object]) -> Iterator[str]:
    yield f"  - name: {_scalar(node.name)}"
    addresses = [_scalar(address) for address in node.addresses]
    yield f"    address: {addresses[0] if len(addresses) == 1 else _flow(addresses)}"
    if node.host != next(iter(node.addresses), ""):
        yield f"    host: {_scalar(node.host)}"
    if node.connection is not Connection.SSH:
        yield f"    connection: {node.connection}"
    for key in _SHARED:
        value = getattr(node, key)
        if value is not None and key not in shared:
            yield f"    {key}: {_scalar(value)}"
    if node.labels:
        yield f"    labels: {_flow_mapping(_quoted(node.labels))}"
    if node.cluster is not None:
        yield f"    cluster: {_scalar(node.cluster)}"


def _probe(probe: Probe) -> Iterator[tuple[str, str]]:
    yield "name", _scalar(probe.name)
    yield "protocol", probe.protocol
    if probe.port is not None:
        yield "port", str(probe.port)
    yield "severity", probe.severity
    if probe.between is not None:
        sides = {"source": probe.between.source, "destination": probe.between.destination}
        terms = ((side, _flow([_scalar(t) for t in some])) for side, some in sides.items() if some)
        yield "between", _flow_mapping(terms)


def _quoted(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((_scalar(key), _scalar(value)) for key, value in texts.items())


def _flow_mapping(pairs: Iterable[tuple[str, str]]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"


def _flow(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"


def _scalar(value: object) -> str:
    """A value that YAML reads back as it is."""
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if re.fullmatch(r"(?:\d{1,3}\.){3}\d{1,3}", text):
        return text  # no number: it has three dots
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    return f"\\U{ord(char):08x}"


def _comment(text: str) -> Iterator[str]:
    for line in wrap(printable(text), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"
