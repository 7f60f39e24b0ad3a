"""Whether the kernel has a tunnel's module: loaded, built in, available to load, or absent."""

import posix
import zlib

from preflight.agent.facts import files

NAMES = ("geneve", "vxlan")
LOADED, BUILT_IN, AVAILABLE, ABSENT = "loaded", "built-in", "available", "absent"


def read() -> "dict[str, str]":
    """For each of `NAMES` that can be told."""
    release = posix.uname().release
    loaded = _bytes("/proc/modules")  # not there: this kernel has no modules, all is built in
    folder = "/lib/modules/%s/" % release
    builtin, there = _bytes(folder + "modules.builtin"), _bytes(folder + "modules.dep")
    config = None
    if there is None:
        packed = _bytes("/proc/config.gz")
        config = _unpacked(packed) if packed else _bytes("/boot/config-" + release)
    out = {}
    for name in NAMES:
        shown = files.exists("/sys/module/" + name)
        state = parse(name, loaded, shown, builtin, there, config)
        if state is not None:
            out[name] = state
    return out


def parse(
    name: str,
    loaded: "bytes | None",
    shown: bool,
    builtin: "bytes | None",
    available: "bytes | None",
    config: "bytes | None",
) -> "str | None":
    """One module's state, None where nothing tells; None for a source that could not be read.

    The sources: /proc/modules, whether /sys/module has a folder for it, modules.builtin,
    modules.dep and the kernel's configuration.
    """
    if loaded is not None and (b"\n" + loaded).find(b"\n%s " % name.encode()) >= 0:
        return LOADED
    file = b"/%s.ko" % name.encode()
    # /sys/module has what is loaded, and of what is built in whatever takes parameters.
    if shown or file in (builtin or b""):
        return BUILT_IN
    if available:  # where there is none, or an empty one, nothing is known of the others
        return AVAILABLE if file in available else ABSENT
    option = b"\nCONFIG_%s=" % name.upper().encode()
    if config and option + b"y" in config:
        return BUILT_IN
    if config and option not in config:
        return ABSENT
    return None


def _bytes(path: str) -> "bytes | None":
    try:
        return files.read(path)
    except OSError:
        return None


def _unpacked(packed: bytes) -> "bytes | None":
    try:
        return zlib.decompress(packed, 31)
    except zlib.error:
        return None
