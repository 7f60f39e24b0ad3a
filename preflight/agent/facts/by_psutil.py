"""Who has a port once more, by psutil, in the shape of our own reader."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FAMILIES = {2: 4, 10: 6}


def read(udp: "list[int]", tcp: "list[int]") -> "list[dict[str, Any]]":
    """The bound UDP and the listening TCP sockets that have one of the ports, with processes."""
    import psutil

    out = []
    for protocol, wanted in (("udp", udp), ("tcp", tcp)):
        for found in psutil.net_connections(protocol):
            listens = protocol == "udp" or found.status == psutil.CONN_LISTEN
            if found.laddr and found.laddr.port in wanted and listens:
                out.append(
                    {
                        "protocol": protocol,
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
