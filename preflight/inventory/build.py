"""From the native form's tree to the inventory: inheritance, and what must differ between nodes."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from preflight.core.model import Connection, Inventory, Node, Probe
from preflight.inventory import document, fields
from preflight.inventory.document import Value
from preflight.inventory.probes import read_probes
from preflight.inventory.problems import Problems, quote
from preflight.inventory.schema import Section, checked, is_null, items, section

_FILE_KEYS = ("defaults", "probes", "nodes")
_OWN_KEYS = ("name", "address", "host", "labels", "cluster")
_SHARED_KEYS = (
    "connection",
    "user",
    "port",
    "identity_file",
    "known_hosts",
    "proxy_jump",
    "become",
    "python",
)
_NOT_SHARED = "belongs to a node, not to all; write it under nodes"
_A_NODE = "{name: cp-1, address: 10.0.1.11}"
_AN_ADDRESS = "the address that Kubernetes uses (its InternalIP)"


@dataclass(frozen=True, slots=True)
class _Shared:
    """What a node may leave to the defaults."""

    connection: Connection = Connection.SSH
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    known_hosts: str | None = None
    proxy_jump: str | None = None
    become: str | None = None
    python: str | None = None


def native(root: Value, file: str, problems: Problems) -> Inventory:
    """The inventory in the native form.

    Raises FileError; its text has one line for each problem: file, line, key, what to write.
    """
    nodes: list[Node] = []
    probes: tuple[Probe, ...] = ()
    listed = False
    top = section(root, "", problems, _FILE_KEYS, wanted='a mapping that begins with "nodes:"')
    if top is not None:
        shared = _read_defaults(top.value("defaults"), problems)
        nodes = _read_nodes(top, shared)
        listed = top.value("probes") is not None
        probes = read_probes(top.value("probes"), problems, nodes)
    problems.raise_any()
    return Inventory(file, tuple(nodes), probes, listed)


def _read_defaults(value: Value | None, problems: Problems) -> _Shared:
    if value is None or is_null(value):
        return _Shared()
    defaults = section(
        value,
        "defaults",
        problems,
        _SHARED_KEYS,
        wanted="a mapping such as {user: ubuntu, become: sudo}",
        misplaced=dict.fromkeys(_OWN_KEYS, _NOT_SHARED),
    )
    return _Shared() if defaults is None else _read_shared(defaults, _Shared())


def _read_shared(one: Section, base: _Shared) -> _Shared:
    return _Shared(
        connection=one.given("connection", fields.connection, base.connection),
        user=one.optional("user", fields.user, base.user),
        port=one.optional("port", fields.port, base.port),
        identity_file=one.optional("identity_file", fields.identity_file, base.identity_file),
        known_hosts=one.optional("known_hosts", fields.file_path, base.known_hosts),
        proxy_jump=one.optional("proxy_jump", fields.proxy_jump, base.proxy_jump),
        become=one.optional("become", fields.become, base.become),
        python=one.optional("python", fields.python, base.python),
    )


def _read_nodes(top: Section, defaults: _Shared) -> list[Node]:
    value = top.value("nodes")
    if value is None:
        top.missing("nodes", f"the nodes, each as {_A_NODE}")
        return []
    nodes = []
    unique = _Unique()
    for path, item in items(value, "nodes", top.problems, wanted=f"each node as {_A_NODE}"):
        one = section(
            item,
            path,
            top.problems,
            (*_OWN_KEYS, *_SHARED_KEYS),
            wanted=f"a mapping such as {_A_NODE}",
        )
        if one is not None:
            nodes.append(_read_node(one, defaults, unique))
    return nodes


class _Unique:
    """What no two nodes may share, and which node has it: its path and line."""

    def __init__(self) -> None:
        self._owners: dict[object, str] = {}

    def owner(self, thing: object, claimant: Section) -> str | None:
        """Who had `thing` before; None where `claimant` is the first and so has it now."""
        here = f"{claimant.path} (line {claimant.line})"
        owner = self._owners.setdefault(thing, here)
        return None if owner == here else owner


def _read_node(one: Section, defaults: _Shared, unique: _Unique) -> Node:
    name = one.required("name", fields.word, "a name for tables and the command line")
    owner = unique.owner(("name", name), one) if name else None
    if owner:
        one.invalid("name", f"{quote(name or '')} is the name of {owner} too; write another")
    addresses = _read_addresses(one, unique)
    shared = _read_shared(one, defaults)
    local = shared.connection is Connection.LOCAL
    owner = unique.owner(Connection.LOCAL, one) if local else None
    if owner:
        one.invalid("connection", f"only one node can be this machine, and {owner} is; write ssh")
    host = one.optional("host", fields.host, None)
    return Node(
        name=name or "",
        addresses=addresses,
        host=host or next(iter(addresses), ""),
        connection=shared.connection,
        user=shared.user,
        port=shared.port,
        identity_file=shared.identity_file,
        known_hosts=shared.known_hosts,
        proxy_jump=shared.proxy_jump,
        become=shared.become,
        python=shared.python,
        labels=_read_labels(one),
        cluster=one.optional("cluster", fields.word, None),
    )


def _read_addresses(one: Section, unique: _Unique) -> tuple[str, ...]:
    value = one.value("address")
    if value is None:
        one.missing("address", _AN_ADDRESS)
        return ()
    written = [(one.at("address"), value)]
    if isinstance(value, document.Sequence):
        written = items(value, one.at("address"), one.problems, wanted=_AN_ADDRESS)
    found: dict[int, IPv4Address | IPv6Address] = {}
    for path, item in written:
        address = checked(item, path, one.problems, fields.address, None)
        if address is None:
            continue
        other = found.setdefault(address.version, address)
        owner = unique.owner(address, one)
        if other is not address:
            message = f"a second IPv{address.version} address ({other} is the first); keep one"
            one.problems.add(item.line, path, f"{address} is {message}, {_AN_ADDRESS}")
        elif owner:
            one.problems.add(
                item.line, path, f"{address} is the address of {owner} too; write another"
            )
    return tuple(str(address) for address in found.values())


def _read_labels(one: Section) -> dict[str, str]:
    value = one.value("labels")
    if value is None or is_null(value):
        return {}
    labels = section(value, one.at("labels"), one.problems, wanted="a mapping such as {rack: a}")
    if labels is None:
        return {}
    found = {}
    for key, line in labels.lines.items():
        if not key or "=" in key or not key.isprintable() or any(c.isspace() for c in key):
            message = f"{quote(key)} is no label; write one without spaces and ="
            one.problems.add(line, labels.at(key), message)
        found[key] = labels.given(key, fields.label, "")
    return found
