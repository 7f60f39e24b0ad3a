"""The xtables (iptables-legacy) side of the kernel, as /proc tells of it: nothing is loaded."""

import posix

from preflight.agent.host import read

_NAMES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
_LOGGERS = "/proc/net/netfilter/nf_log"
_SETTINGS = "/proc/sys/net/netfilter/nf_log"
_EVERYWHERE = _SETTINGS + "_all_netns"  # Linux 4.11; only the first namespace has it
_EVERYWHERE_SINCE = (4, 11)
_SYSLOG = "nf_log_"
_PROTOCOL = {4: b"2", 6: b"10"}  # NFPROTO_IPV4, NFPROTO_IPV6


def tables(family: int) -> "list[str]":
    """The tables that have been used in this network namespace, which may well be empty."""
    return read(_NAMES[family]).decode("ascii", "replace").split()


def logs_traces(family: int) -> bool:
    """Would the kernel log what happens to a traced packet in these tables?

    They know tracing by the same mark on the packet as nf_tables, and tell of it in the log: a line
    for each rule that matches. Not where nobody logs for the family, and to the system's log not
    from a network namespace but the first, unless its admin wants that from all.
    """
    if not tables(family):
        return False
    who = logger(read(_LOGGERS), family)
    return who != "NONE" and not (who.startswith(_SYSLOG) and apart())


def apart() -> bool:
    """True in a network namespace that surely is not the first one."""
    if not posix.access(_SETTINGS, posix.F_OK) or posix.access(_EVERYWHERE, posix.F_OK):
        return False
    return release(posix.uname().release) >= _EVERYWHERE_SINCE


def release(name: str) -> "tuple[int, ...]":
    """Major and minor number of a kernel; (0,) where it says none."""
    numbers = name.partition("-")[0].split(".")[:2]
    return tuple(map(int, numbers)) if all(n.isdigit() for n in numbers) else (0,)


def logger(lines: bytes, family: int) -> str:
    """Who logs for a family as nf_log tells it: a name, NONE, or "" where it does not say."""
    for line in lines.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == _PROTOCOL[family]:
            return words[1].decode("ascii", "replace")
    return ""
