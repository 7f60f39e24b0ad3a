"""Which process holds a socket, from /proc/PID/fd. The dear part of facts: it walks processes.

So it is walked only for ports that somebody has, and no further than until all are found.
"""

import posix

from preflight.agent.facts import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Owner = tuple[int, str]  # pid, name

_LIKELY = "cilium"
_COMM = 15  # the kernel cuts a name after so many bytes


def read(
    sockets: "list[dict[str, Any]]", tunnels: "set[int | None]"
) -> "tuple[list[dict[str, Any]], int]":
    """The sockets with `pid` and `process`, and how many processes could not be looked into.

    `tunnels` are the UDP ports of kernel tunnels, whose sockets no process has.
    """
    asked = [
        socket for socket in sockets if socket["protocol"] != "udp" or socket["port"] not in tunnels
    ]
    found, blind = _walk({b"socket:[%d]" % socket["inode"] for socket in asked})
    out = []
    for socket in sockets:
        pid, name = found.get(b"socket:[%d]" % socket["inode"], (None, None))
        known = dict(socket, pid=pid, process=name)
        del known["inode"]
        out.append(known)
    return out, blind if len(found) < len(asked) else 0


def _walk(wanted: "set[bytes]") -> "tuple[dict[bytes, Owner], int]":
    found: "dict[bytes, Owner]" = {}
    blind = 0
    if not wanted:
        return found, blind
    pids = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    # A forked child has its parent's sockets: the lower pid is the one that opened them. And on a
    # node with Cilium most of these ports are Cilium's.
    for pid in sorted(pids, key=lambda pid: (not _comm(pid).startswith(_LIKELY), pid)):
        folder = b"/proc/%d/fd" % pid
        try:
            descriptors = posix.listdir(folder)
        except PermissionError:
            blind += 1
            continue
        except OSError:  # it has ended
            continue
        for descriptor in descriptors:
            try:
                socket = posix.readlink(folder + b"/" + descriptor)
            except OSError:
                continue
            if socket in wanted and socket not in found:
                found[socket] = (pid, _name(pid))
        if len(found) == len(wanted):
            break
    return found, blind


def _comm(pid: int) -> str:
    try:
        return files.text("/proc/%d/comm" % pid).rstrip("\n")
    except OSError:  # it has ended
        return "?"


def _name(pid: int) -> str:
    try:
        return parse_name(_comm(pid), files.read("/proc/%d/cmdline" % pid, 4096))
    except OSError:
        return "?"


def parse_name(comm: str, cmdline: bytes) -> str:
    """A process's name, whole where the kernel has cut it and its command line has the rest."""
    if len(comm.encode("utf-8", "replace")) >= _COMM:
        first = cmdline.split(b"\0")[0].decode("utf-8", "replace").rpartition("/")[2]
        if first.startswith(comm):
            return first
    return comm
