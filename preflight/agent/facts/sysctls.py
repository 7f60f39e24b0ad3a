"""Kernel settings and fill levels that decide over packets, from /proc/sys and /proc/net."""

import posix

from preflight.agent.facts import files

_CONF = "/proc/sys/net/ipv4/conf/"


def rp_filter(devices: "list[str]") -> "dict[str, int]":
    """The setting of `all`, of `default` and of each device. Raises OSError."""
    out = {}
    for name in ["all", "default"] + sorted(devices):
        try:
            out[name] = files.number(_CONF + name + "/rp_filter")
        except FileNotFoundError:
            if name == "all":
                raise
    return out


def echo_ignored() -> "dict[str, bool]":
    """By family, 4 or 6, whether echo requests are ignored. Raises OSError."""
    out = {"4": files.number("/proc/sys/net/ipv4/icmp_echo_ignore_all") != 0}
    try:
        out["6"] = files.number("/proc/sys/net/ipv6/icmp/echo_ignore_all") != 0
    except FileNotFoundError:  # no IPv6, or a kernel before 4.20, which always answers
        pass
    return out


def conntrack() -> "dict[str, int]":
    """How many entries the connection tracking table has, and may have. Raises OSError."""
    folder = "/proc/sys/net/netfilter/nf_conntrack_"
    return {"count": files.number(folder + "count"), "max": files.number(folder + "max")}


def neighbours() -> "dict[str, dict[str, int]]":
    """By family the entries of the neighbour table, which all namespaces share, and its limit.

    The limit is shown to the machine's first network namespace alone. Raises OSError.
    """
    out = {}
    for family, table, name in (("4", "arp_cache", "ipv4"), ("6", "ndisc_cache", "ipv6")):
        try:
            limit = files.number("/proc/sys/net/%s/neigh/default/gc_thresh3" % name)
            entries = parse_entries(files.text("/proc/net/stat/" + table))
        except FileNotFoundError:
            if family == "4":
                raise
            continue
        out[family] = {"count": entries, "max": limit}
    return out


def parse_entries(table: str) -> int:
    """The first number, in hex, of the line below the heads. Raises ValueError."""
    lines = table.splitlines()
    if len(lines) < 2 or not lines[1].split():
        raise ValueError("no line of numbers")
    return int(lines[1].split()[0], 16)


def tcp_counters() -> "dict[str, int]":
    """How many TCP segments came, and how many of them with a wrong checksum. Raises OSError."""
    return parse_snmp(files.text("/proc/net/snmp"))


def parse_snmp(table: str) -> "dict[str, int]":
    """InSegs and InCsumErrors of /proc/net/snmp, which pairs a line of heads with one of values."""
    rows = [line.split() for line in table.splitlines() if line.startswith("Tcp:")]
    if len(rows) != 2:
        raise ValueError("no two Tcp lines")
    values = dict(zip(*rows))
    return {"segments": int(values["InSegs"]), "checksum_errors": int(values["InCsumErrors"])}


def kernel() -> "dict[str, str]":
    """Release and machine, as uname says."""
    name = posix.uname()
    return {"release": name.release, "machine": name.machine}


def nameservers() -> "list[str]":
    """Whom this node asks for names; behind systemd-resolved those whom that asks."""
    found = parse_resolver(files.text("/etc/resolv.conf"))
    if all(address.startswith("127.") for address in found):
        try:
            found = parse_resolver(files.text("/run/systemd/resolve/resolv.conf")) or found
        except OSError:
            pass
    return found


def parse_resolver(text: str) -> "list[str]":
    """The nameservers of a resolv.conf, in order."""
    rows = [line.split() for line in text.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]
