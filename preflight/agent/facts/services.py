"""What systemd runs here of all that manages firewalls and routes, and how that is set.

Without D-Bus or systemctl: systemd keeps a link for each active unit in /run/systemd/units, and its
version is in the name of its library.
"""

import posix

from preflight.agent.facts import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_UNITS = "/run/systemd/units"
_ACTIVE = "invocation:"
# Unit, and a file that is there where it is installed.
_WATCHED = (
    ("firewalld", "/usr/sbin/firewalld"),
    ("ufw", "/usr/sbin/ufw"),
    ("nftables", "/usr/sbin/nft"),
    ("iptables", "/etc/sysconfig/iptables"),
    ("netfilter-persistent", "/usr/sbin/netfilter-persistent"),
    ("docker", "/usr/bin/dockerd"),
    ("systemd-networkd", "/lib/systemd/systemd-networkd"),
    ("NetworkManager", "/usr/sbin/NetworkManager"),
)
_LIBRARIES = ("/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd")
_MULTIARCH = "/usr/lib"
# Of files with the same name the first folder's counts; what is read later overrides.
_NETWORKD = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")


def read() -> "dict[str, Any]":
    """systemd's version, the units that are active, and those that could be. Raises OSError."""
    if not files.exists("/run/systemd/system"):
        return {"systemd": None, "active": [], "installed": _installed(), "settings": _settings()}
    return {
        "systemd": parse_version(_library_names()),
        "active": parse_units(files.names(_UNITS)),
        "installed": _installed(),
        "settings": _settings(),
    }


def parse_units(names: "Iterable[str]") -> "list[str]":
    """Which of the watched units are active, by the links in /run/systemd/units."""
    active = {name[len(_ACTIVE) :] for name in names if name.startswith(_ACTIVE)}
    return [unit for unit, _ in _WATCHED if unit + ".service" in active]


def parse_version(names: "Iterable[str]") -> "int | None":
    """N of libsystemd-shared-N.so, which may be N.11-0ubuntu3 too."""
    for name in names:
        if name.startswith("libsystemd-shared-"):
            digits = name[len("libsystemd-shared-") :]
            end = next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))
            if end:
                return int(digits[:end])
    return None


def _library_names() -> "list[str]":
    multiarch = [name for name in _names(_MULTIARCH) if "-linux-gnu" in name]
    folders = ["%s/%s/systemd" % (_MULTIARCH, name) for name in multiarch]
    return [name for folder in list(_LIBRARIES) + folders for name in _names(folder)]


def _installed() -> "list[str]":
    return [unit for unit, path in _WATCHED if files.exists(path)]


def _settings() -> "dict[str, str]":
    """The few settings that say what a reload or a restart does to others' rules."""
    out = {}
    firewalld = files.settings(_text("/etc/firewalld/firewalld.conf"))
    for key in ("FirewallBackend", "FlushAllOnReload"):
        if key in firewalld:
            out["firewalld." + key] = firewalld[key]
    ufw = files.settings(_text("/etc/ufw/ufw.conf"))
    if "ENABLED" in ufw:
        out["ufw.ENABLED"] = ufw["ENABLED"]
    for key, value in _networkd().items():
        if key.startswith("ManageForeign"):
            out["networkd." + key] = value
    for path in ("/etc/nftables.conf", "/etc/sysconfig/nftables.conf"):
        if flushes(_text(path)):
            out["nftables.flush"] = path
    return out


def flushes(script: str) -> bool:
    """Whether an nftables script begins with nothing left of others' rules."""
    lines = (line.partition("#")[0].split() for line in script.splitlines())
    return any(words[:2] == ["flush", "ruleset"] for words in lines)


def _networkd() -> "dict[str, str]":
    pieces = {}
    for folder in reversed(_NETWORKD):
        for name in _names(folder + "/networkd.conf.d"):
            if name.endswith(".conf"):
                pieces[name] = "%s/networkd.conf.d/%s" % (folder, name)
    main = next((f for f in _NETWORKD if files.exists(f + "/networkd.conf")), None)
    paths = [main + "/networkd.conf"] if main else []
    out: "dict[str, str]" = {}
    for path in paths + [pieces[name] for name in sorted(pieces)]:
        out.update(files.settings(_text(path)))
    return out


def _names(folder: str) -> "list[str]":
    try:
        return sorted(posix.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        return files.text(path)
    except OSError:
        return ""
