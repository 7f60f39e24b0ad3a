"""The rules of iptables-legacy in outline, by the getsockopt that iptables-legacy itself uses.

Only tables that are in the kernel already are asked for: to ask for another one would load it.
Python's getsockopt cannot be given the question, so libc's is called.
"""

import _socket as socket
import struct

from preflight.agent.facts import files
from preflight.agent.facts.nftables import count_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_BASE_CTL and the next, for IPv6 alike
_MOST = 1 << 22  # bytes of rules that are looked at; of more only the number is told
_INFO = struct.Struct("=32sI5I5III")  # struct ipt_getinfo
_BEFORE_ENTRIES = 40  # of struct ipt_get_entries, where a u64 is aligned to 8
# By family: where the kernel names its tables; the socket level; of struct ipt_entry, ip6t_entry
# for IPv6, the length of the address part and of the whole.
_FAMILIES = {
    4: ("/proc/net/ip_tables_names", socket.IPPROTO_IP, 84, 112),
    6: ("/proc/net/ip6_tables_names", 41, 136, 168),
}


def read() -> "list[dict[str, Any]]":
    """Every table of both families. Raises OSError where we may not ask, ImportError."""
    names = [(family, name) for family in _FAMILIES for name in _names(_FAMILIES[family][0])]
    return [_table(family, name) for family, name in names]


def _names(path: str) -> "list[str]":
    try:
        return files.text(path).split()
    except FileNotFoundError:  # ip_tables is not loaded
        return []


def _table(family: int, name: str) -> "dict[str, Any]":
    level = _FAMILIES[family][1]
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    asking = socket.socket(domain, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
    try:
        info = _getsockopt(asking.fileno(), level, _GET_INFO, name.encode(), _INFO.size)
        _, hooks, *offsets, entries, size = _INFO.unpack(info)
        base = bin(hooks).count("1")
        blob = b""
        if size <= _MOST:
            request = struct.pack("=32sI", name.encode(), size)
            length = _BEFORE_ENTRIES + size
            blob = _getsockopt(asking.fileno(), level, _GET_ENTRIES, request, length)
    finally:
        asking.close()
    if not blob:  # the user chains' own entries are among these
        return {"family": family, "name": name, "rules": entries - base - 1, "chains": {}}
    rules, chains = parse(blob[_BEFORE_ENTRIES:], family, base)
    return {"family": family, "name": name, "rules": rules, "chains": chains}


def _getsockopt(fd: int, level: int, option: int, request: bytes, size: int) -> bytes:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    if libc.getsockopt(fd, level, option, buffer, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "iptables getsockopt %d" % option)
    return buffer.raw[: length.value]


def parse(entries: bytes, family: int, base: int) -> "tuple[int, dict[str, int]]":
    """How many rules are in a blob of struct ipt_entry, and its user chains by their first words.

    Each of the `base` chains ends in an entry of its own, its policy. A user chain begins with one
    whose target ERROR bears its name, and ends in a return; the table ends in an ERROR too.
    """
    _, _, address, header = _FAMILIES[family]
    chains: "dict[str, int]" = {}
    plain = named = at = 0
    while at + header <= len(entries):
        target, size = struct.unpack_from("=HH", entries, at + address + 4)
        if size < header or target + 32 > size:
            break
        if entries[at + target + 2 : at + target + 31].split(b"\0")[0] != b"ERROR":
            plain += 1
        else:
            text = entries[at + target + 32 : at + size].split(b"\0")[0].decode("utf-8", "replace")
            if text != "ERROR":
                named += 1
                count_word(chains, text)
        at += size
    return plain - named - base, chains
