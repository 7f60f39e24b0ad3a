"""Who has a port once more, by psutil, in the shape of our own reader."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FAMILIES = {2: 4, 10: 6}
_STREAM, _DATAGRAM = 1, 2  # SOCK_STREAM, SOCK_DGRAM


def read(udp: "list[int]", tcp: "list[int]") -> "list[dict[str, Any]]":
    """The bound UDP and the listening TCP sockets that have one of the ports, with processes."""
    import psutil

    wanted = {_STREAM: tcp, _DATAGRAM: udp}
    out = []
    for found in psutil.net_connections("inet"):  # walks all processes: once, not for each protocol
        kind = int(found.type)
        listens = kind == _DATAGRAM or found.status == psutil.CONN_LISTEN
        if found.laddr and found.laddr.port in wanted.get(kind, ()) and listens:
            out.append(
                {
                    "protocol": "tcp" if kind == _STREAM else "udp",
                    "family": _FAMILIES[int(found.family)],
                    "address": found.laddr.ip,
                    "port": found.laddr.port,
                    "pid": found.pid,
                    "process": _name(psutil, found.pid),
                }
            )
    return out


def _name(psutil: "Any", pid: "int | None") -> "str | None":
    if pid is None:
        return None
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return "?"
