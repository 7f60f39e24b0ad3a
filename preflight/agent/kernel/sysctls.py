"""The settings by which the kernel itself throws packets away, under their sysctl names."""

from preflight.agent.host import read as read_file
from preflight.agent.kernel.counters import columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GLOBAL = {
    "net.core": ("netdev_max_backlog",),
    "net.ipv4": (
        "ip_forward", "icmp_echo_ignore_all", "icmp_echo_ignore_broadcasts", "icmp_ratelimit",
        "icmp_ratemask", "icmp_msgs_per_sec", "icmp_msgs_burst", "ipfrag_high_thresh",
    ),
    "net.ipv4.neigh.default": ("gc_thresh3",),
    "net.ipv6": ("ip6frag_high_thresh",),
    "net.ipv6.icmp": ("echo_ignore_all", "ratelimit", "ratemask"),
    "net.ipv6.neigh.default": ("gc_thresh3",),
    "net.netfilter": ("nf_conntrack_count", "nf_conntrack_max"),
}  # fmt: skip
_DEVICE = {
    "ipv4": ("rp_filter", "accept_local", "arp_ignore", "arp_filter", "forwarding"),
    "ipv6": ("disable_ipv6", "forwarding"),
}
_NEIGHBOURS = ("arp_cache", "ndisc_cache")
_MAX_TEXT = 200


def path_of(name: str) -> str:
    """The file of a sysctl; a dot in a device's name is spelled as a slash, as sysctl(8) does."""
    return "/proc/sys/" + "".join({".": "/", "/": "."}.get(c, c) for c in name)


def value_of(text: bytes) -> "int | str | None":
    """What a sysctl's file says: a number where it is one. None where it says nothing."""
    words = text.decode("ascii", "replace").split()
    try:
        return int(words[0]) if len(words) == 1 else " ".join(words)[:_MAX_TEXT] or None
    except ValueError:
        return words[0][:_MAX_TEXT]


def read(devices: "Sequence[str]" = ()) -> "dict[str, int | str]":
    """Each setting that this kernel has, by its sysctl name; of `all` and of `devices`.

    `arp_cache:entries` and `ndisc_cache:entries` are how many neighbours the machine's tables
    hold, which `gc_thresh3` limits.
    """
    names = ["%s.%s" % (branch, leaf) for branch, leaves in _GLOBAL.items() for leaf in leaves]
    for device in ("all",) + tuple(devices):
        spelled = device.replace(".", "/")
        for family, settings in _DEVICE.items():
            names += ["net.%s.conf.%s.%s" % (family, spelled, setting) for setting in settings]
    out = {}
    for name in names:
        value = value_of(read_file(path_of(name)))
        if value is not None:
            out[name] = value
    for table in _NEIGHBOURS:
        # Each CPU's row says how many there are in all.
        rows = read_file("/proc/net/stat/" + table).splitlines()[:2]
        told = columns(b"\n".join(rows))
        if "entries" in told:
            out[table + ":entries"] = told["entries"]
    return out
