"""A `facts` frame as NodeFacts. A node may say anything: what makes no sense is a ValueError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, TypeVar

from preflight.core.facts import model
from preflight.core.model import Family, Protocol

T = TypeVar("T")
_LONGEST = 4096  # characters of any text
_MOST = 4096  # elements of any list
_FAMILIES = {4: Family.IPV4, 6: Family.IPV6, "4": Family.IPV4, "6": Family.IPV6}
_U32 = (1 << 32) - 1
_STATES = {"loaded", "built-in", "available", "absent"}


def parse(frame: Mapping[str, Any], peers: int) -> model.NodeFacts:
    """What a node says of itself. `peers` is how many it was asked about. Raises ValueError."""
    try:
        return _facts(frame, peers)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"facts that make no sense: {type(error).__name__}: {error}") from error


def _facts(frame: Mapping[str, Any], peers: int) -> model.NodeFacts:
    told = _mapping(frame["facts"])

    def fact(name: str, read: Callable[[Any], T]) -> T | None:
        return None if told.get(name) is None else read(told[name])

    kernel = fact("kernel", _mapping) or {}
    tcp = fact("tcp", _mapping) or {}
    return model.NodeFacts(
        links=fact("links", lambda rows: _each(rows, _link)),
        links_untold=_number(told.get("links_untold", 0)),
        addresses=fact("addresses", lambda rows: _each(rows, _address)),
        ways=fact("ways", lambda rows: _each(rows, lambda row: _way(row, peers))),
        defaults=fact("defaults", lambda rows: _each(rows, lambda row: _way(row, peers))),
        rules=fact("rules", lambda rows: _each(rows, _rule)),
        offloads=fact("offloads", lambda rows: _by_name(rows, _offloads)),
        media=fact("media", lambda rows: _by_name(rows, _media)),
        rp_filter=fact("rp_filter", lambda rows: _by_name(rows, _number)),
        kernel=_maybe(kernel.get("release"), _text),
        machine=_maybe(kernel.get("machine"), _text),
        modules=fact("modules", lambda rows: _by_name(rows, _state)),
        echo_ignored=fact("echo_ignored", lambda rows: _by_family(rows, _flag)),
        conntrack=fact("conntrack", _fill),
        neighbours=fact("neighbours", lambda rows: _by_family(rows, _fill)),
        tcp_segments=_maybe(tcp.get("segments"), _count),
        tcp_checksum_errors=_maybe(tcp.get("checksum_errors"), _count),
        nameservers=fact("nameservers", lambda rows: _each(rows, _text)),
        sockets=fact("sockets", lambda rows: _each(rows, _socket)),
        services=fact("services", _services),
        cni=fact("cni", lambda rows: _each(rows, _text)),
        timekeeping=fact("timekeeping", _timekeeping),
        nftables=fact("nftables", lambda rows: _each(rows, _nft_table)),
        iptables=fact("iptables", lambda rows: _each(rows, _legacy_table)),
        sources=_by_name(frame["sources"], _text),
        unknown=_by_name(frame["unknown"], _text),
    )


def clock(frame: Mapping[str, Any]) -> tuple[float, float]:
    """The node's time when it began and when it answered, in seconds since 1970.

    Raises ValueError.
    """
    try:
        begun, ended = (float(moment) for moment in frame["clock"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError("a clock that makes no sense") from error
    if not 0 <= begun <= ended < 1 << 40:
        raise ValueError("a clock that makes no sense")
    return begun, ended


# --- one fact ------------------------------------------------------------------------------------


def _link(row: Mapping[str, Any]) -> model.Link:
    tunnel, bond = row["tunnel"], row["bond"]
    return model.Link(
        name=_text(row["name"]),
        kind=_maybe(row["kind"], _text),
        mtu=_number(row["mtu"]),
        up=_flag(row["up"]),
        carrier=_flag(row["carrier"]),
        lower=_maybe(row["lower"], _text),
        master=_maybe(row["master"], _text),
        tunnel=None if tunnel is None else _tunnel(tunnel),
        vlan=_maybe(row["vlan"], _number),
        bond_mode=None if bond is None else _maybe(bond["mode"], _text),
    )


def _tunnel(row: Mapping[str, Any]) -> model.Tunnel:
    return model.Tunnel(
        _maybe(row["port"], _number), _maybe(row["vni"], _number), _flag(row["external"])
    )


def _address(row: Mapping[str, Any]) -> model.Address:
    return model.Address(
        _text(row["device"]),
        _ip(row["address"]),
        _number(row["prefix"], 128),
        _text(row["scope"]),
    )


def _way(row: Mapping[str, Any], peers: int) -> model.Way:
    positions = _each(row.get("peers", ()), _number)
    if any(position >= peers for position in positions):
        raise ValueError("a peer that does not exist")
    return model.Way(
        family=_family(row["family"]),
        peers=positions,
        device=_maybe(row["device"], _text),
        gateway=_maybe(row["gateway"], _ip),
        source=_maybe(row["source"], _ip),
        mtu=_maybe(row["mtu"], _number),
        learned=_flag(row["learned"]),
        error=_maybe(row["error"], lambda value: _number(value, _MOST)),
    )


def _rule(row: Mapping[str, Any]) -> model.PolicyRule:
    return model.PolicyRule(
        _family(row["family"]),
        _number(row["priority"]),
        _number(row["table"]),
        _maybe(row["mark"], _number),
        _maybe(row["source"], _ip),
        _maybe(row["protocol"], _number),
    )


def _offloads(row: Mapping[str, Any]) -> model.Offloads:
    return model.Offloads(
        _maybe(row["driver"], _text),
        _by_name(row["features"], _flag),
        frozenset(_each(row["fixed"], _text)),
    )


def _media(row: Mapping[str, Any]) -> model.Media:
    return model.Media(
        _maybe(row["speed"], _number),
        _maybe(row["duplex"], _text),
        _maybe(row["bus_driver"], _text),
    )


def _socket(row: Mapping[str, Any]) -> model.Socket:
    return model.Socket(
        Protocol(row["protocol"]),
        _number(row["port"], 0xFFFF),
        _family(row["family"]),
        _ip(row["address"]),
        _maybe(row["pid"], _number),
        _maybe(row["process"], _text),
    )


def _fill(row: Mapping[str, Any]) -> model.Fill:
    return model.Fill(_number(row["count"]), _number(row["max"]))


def _services(row: Mapping[str, Any]) -> model.Services:
    return model.Services(
        _maybe(row["systemd"], _number),
        _each(row["active"], _text),
        _each(row["installed"], _text),
        _by_name(row["settings"], _text),
    )


def _timekeeping(row: Mapping[str, Any]) -> model.Timekeeping:
    return model.Timekeeping(_flag(row["synchronised"]), _count(row["max_error_us"]))


def _nft_table(row: Mapping[str, Any]) -> model.NftTable:
    return model.NftTable(
        _text(row["family"]),
        _text(row["name"]),
        _each(row["base"], _base_chain),
        _by_name(row["chains"], _number),
    )


def _base_chain(row: Mapping[str, Any]) -> model.BaseChain:
    priority = row["priority"]
    if not isinstance(priority, int) or abs(priority) > _U32:
        raise ValueError("a priority that is no number")
    return model.BaseChain(
        _text(row["name"]),
        _text(row["hook"]),
        priority,
        _text(row["policy"]),
        _number(row["rules"]),
    )


def _legacy_table(row: Mapping[str, Any]) -> model.LegacyTable:
    return model.LegacyTable(
        _family(row["family"]),
        _text(row["name"]),
        _number(row["rules"]),
        _by_name(row["chains"], _number),
    )


# --- values --------------------------------------------------------------------------------------


def _maybe(value: Any, read: Callable[[Any], T]) -> T | None:
    return None if value is None else read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError("a text that is none")
    return value


def _number(value: Any, most: int = _U32) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError("a number that cannot be")
    return value


def _count(value: Any) -> int:
    return _number(value, (1 << 64) - 1)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _ip(value: Any) -> str:
    return str(ip_address(_text(value)))


def _family(value: Any) -> Family:
    return _FAMILIES[value]


def _state(value: Any) -> str:
    if value not in _STATES:
        raise ValueError("a module's state that does not exist")
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or len(value) > _MOST:
        raise ValueError("not a mapping")
    return value


def _each(rows: Any, read: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(rows, list | tuple) or len(rows) > _MOST:
        raise ValueError("not a list")
    return tuple(read(row) for row in rows)


def _by_name(rows: Any, read: Callable[[Any], T]) -> dict[str, T]:
    return {_text(name): read(row) for name, row in _mapping(rows).items()}


def _by_family(rows: Any, read: Callable[[Any], T]) -> dict[Family, T]:
    return {_family(name): read(row) for name, row in _mapping(rows).items()}
