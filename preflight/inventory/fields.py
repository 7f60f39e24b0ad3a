"""What each key may hold.

Every function takes a value from the file and returns it checked, or raises Invalid with what is
wrong and what to write. None knows where in the file the value stands.
"""

import re
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import TypeVar

from preflight.core.model import Connection, Protocol, Severity
from preflight.inventory.document import Kind, Mapping, Scalar, Sequence, Unusable, Value
from preflight.inventory.problems import quote

_E = TypeVar("_E", bound=StrEnum)
_LONGEST_NAME = 253
# [user@]host[:port]; an IPv6 address in brackets; the port is group 1
_HOP = re.compile(r"(?:[^-@,][^,]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^-:@,/\[\]][^:@,/\[\]]*)(?::([0-9]*))?")
_BROADCAST = IPv4Address("255.255.255.255")


class Invalid(Exception):  # noqa: N818 - what a value is, not an error of the program
    """A value that its key cannot hold; the text says what to write instead."""


def text(value: Value) -> str:
    """Any text but none at all; what YAML takes for a number, a bool or a date must be quoted."""
    scalar = _one_value(value)
    if scalar.kind is not Kind.TEXT:
        written = quote(scalar.text)
        raise Invalid(
            f"{written[1:-1]} is {scalar.kind.value} to YAML; put it in quotes: {written}"
        )
    if not scalar.text.isprintable():
        raise Invalid(
            f"{quote(scalar.text)} holds a line break or an invisible character; remove it"
        )
    if not scalar.text:
        raise Invalid("is empty; write a value or leave the key out")
    return scalar.text


def word(value: Value) -> str:
    """Text without spaces, short enough for a table and a command line."""
    written = text(value)
    if any(c.isspace() for c in written):
        raise Invalid(f"{quote(written)} has a space in it; write it without")
    if len(written) > _LONGEST_NAME:
        raise Invalid(f"{quote(written)} is longer than {_LONGEST_NAME} characters; shorten it")
    return written


def label(value: Value) -> str:
    """A label's value: text, and the empty one too, which Kubernetes' role labels have."""
    scalar = _one_value(value, empty='""')
    return "" if scalar.kind is Kind.TEXT and not scalar.text else text(value)


def host(value: Value) -> str:
    """A host name, an alias from `~/.ssh/config` or an IP address, and nothing around it."""
    written = word(value)
    if "@" in written:
        user, _, rest = written.rpartition("@")
        raise Invalid(f'{quote(written)}: write "host: {rest}" and "user: {user}" apart')
    if "/" in written or written.startswith("-"):
        raise Invalid(f"{quote(written)} is not a host name or address")
    if written.startswith("["):
        raise Invalid(f"{quote(written)}: write the address without brackets, and port: apart")
    if ":" in written and _address(written) is None:
        raise Invalid(f"{quote(written)} is not a host name or address; a port goes into port:")
    return written


def user(value: Value) -> str:
    """A login name."""
    written = word(value)
    if written.startswith("-"):
        raise Invalid(f"{quote(written)} is not a login name")
    return written


def port(value: Value) -> int:
    """A port number, written in plain decimal."""
    scalar = _one_value(value)
    if not _is_port(scalar.text):
        raise Invalid(f"{quote(scalar.text)} is not a port; write a number from 1 to 65535")
    if scalar.kind is not Kind.INTEGER:
        raise Invalid(f"{quote(scalar.text)} is text to YAML; write it without quotes")
    return int(scalar.text)


def _is_port(written: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,4}", written) is not None and int(written) < 2**16


def file_path(value: Value) -> str:
    """A path on the controller; `~` stays as it is."""
    return text(value)


def identity_file(value: Value) -> str:
    """The path of a private key."""
    written = text(value)
    if written.endswith(".pub"):
        raise Invalid(f"{quote(written)} is the public half; write {quote(written[:-4])}")
    return written


def python(value: Value) -> str:
    """The path of an interpreter on the node."""
    scalar = _one_value(value)
    if not scalar.text.startswith("/"):
        raise Invalid(f"{quote(scalar.text)} is not an absolute path; write /usr/bin/python3")
    return text(value)


def proxy_jump(value: Value) -> str:
    """`[user@]host[:port]`, several with commas between, or `none`, as ssh's -J takes them."""
    written = word(value)
    for hop in written.split(","):
        match = _HOP.fullmatch(hop)
        if match is None:
            raise Invalid(f"{quote(hop)} is no jump host; write bastion or admin@bastion:22")
        if match[1] is not None and not _is_port(match[1]):
            raise Invalid(f"{quote(hop)}: {match[1]} is not a port; write 1 to 65535")
    return written


def become(value: Value) -> str | None:
    """`sudo`, or None where no other user is wanted."""
    scalar = _one_value(value)
    if scalar.kind is Kind.BOOLEAN and scalar.text.lower() in ("no", "false", "off"):
        return None
    if scalar.text != "sudo":
        raise Invalid(f'{quote(scalar.text)} is not known; write "sudo", or null for none')
    return scalar.text


def connection(value: Value) -> Connection:
    """How an agent gets onto the node."""
    return _member(value, Connection)


def protocol(value: Value) -> Protocol:
    """The protocol above IP."""
    return _member(value, Protocol)


def severity(value: Value) -> Severity:
    """How much a user needs what a probe tests."""
    return _member(value, Severity)


def _member(value: Value, words: type[_E]) -> _E:
    scalar = _one_value(value, empty=", ".join(words))
    try:
        return words(scalar.text)
    except ValueError:
        choices = ", ".join(words)
        raise Invalid(f"{quote(scalar.text)} is not known; write one of: {choices}") from None


def probe_name(value: Value) -> str:
    """A probe's name: small letters, digits and hyphens."""
    written = word(value)
    if not re.fullmatch("[a-z0-9-]+", written):
        raise Invalid(f"{quote(written)} is not a probe's name; use only a-z, 0-9 and -")
    return written


def address(value: Value) -> IPv4Address | IPv6Address:
    """An address that nodes can reach each other by."""
    # YAML 1.1 takes 2001:10:20:30:40:50:1:2 for a number in base 60: the written text counts.
    written = _one_value(value).text
    found = _address(written)
    if found is None:
        raise Invalid(f"{quote(written)} is not an IPv4 or IPv6 address{_address_hint(written)}")
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise Invalid(f"{quote(written)} has a zone; write an address that needs none")
        if found.ipv4_mapped is not None:
            raise Invalid(f"{quote(written)} is an IPv4 address; write {found.ipv4_mapped}")
    kind = _unusable_kind(found)
    if kind is not None:
        raise Invalid(
            f"{quote(written)} is {kind} address; write the node's own, reached by others"
        )
    return found


def _address(written: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(written)
    except ValueError:
        return None


def _unusable_kind(found: IPv4Address | IPv6Address) -> str | None:
    kinds = (
        (found.is_unspecified, "the unspecified"),
        (found.is_loopback, "a loopback"),
        (found.is_link_local, "a link-local"),
        (found.is_multicast, "a multicast"),
        (found == _BROADCAST, "the broadcast"),
    )
    return next((kind for applies, kind in kinds if applies), None)


def _address_hint(written: str) -> str:
    if "/" in written:
        return _prefix_hint(written)
    if "," in written or " " in written:
        return "; write several as a list: [10.0.1.11, fd00::11]"
    if re.fullmatch(r"[0-9.]+:[0-9]+|\[.*\].*", written):
        return "; write it without brackets or a port"
    if ":" not in written and any(c.isalpha() for c in written):
        return "; write the address here, and a name for SSH as host:"
    return ""


def _prefix_hint(written: str) -> str:
    try:
        return f"; write {ip_interface(written).ip} without the prefix length"
    except ValueError:
        return ""


def _one_value(value: Value, *, empty: str = "a value") -> Scalar:
    if isinstance(value, Unusable):
        raise Invalid(value.reason)
    if isinstance(value, Sequence | Mapping):
        what = "list" if isinstance(value, Sequence) else "mapping"
        raise Invalid(f"is a {what}; write a single value")
    if value.kind is Kind.NULL:
        raise Invalid(f"has no value; write {empty}")
    return value
