"""Which rule ended a packet of ours, in the kernel's own words (nf_tables tracing, Linux 4.6)."""

import _socket as socket
import errno
import posix

from preflight.agent.firewall import xtables
from preflight.agent.firewall.nfnetlink import (
    GROUP_TRACE,
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_NETFILTER,
    SOL_NETLINK,
    traces,
)
from preflight.agent.firewall.tracetable import PrivateTables
from preflight.agent.firewall.walks import Walks
from preflight.agent.host import read
from preflight.agent.sockets import enlarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from preflight.agent.firewall.tracetable import Mark

_BUFFER = 8 << 20  # bytes; a traced packet costs some 5 KiB of it
_MAX_READ = 4096  # messages at once
_SNAP = 1 << 14
_WORDS = {
    errno.EPERM: "no CAP_NET_ADMIN",
    errno.EACCES: "no CAP_NET_ADMIN",
    errno.EEXIST: "a table of that name exists",
}
_NO_TRACING = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EINVAL)


class RuleTrace:
    """Tracing of the packets that bear one of `marks`, in private tables named after `name`.

    `name` is unique to the run. `devices` are those where packets are watched from their arrival.
    `owned` False makes it work as on a kernel that has no tables which end with their maker.
    """

    def __init__(
        self, name: str, marks: "Sequence[Mark]", devices: "Iterable[str]", owned: bool = True
    ) -> None:
        self.lost = False
        # family -> why its packets are not traced though tracing is on
        self.untraced: dict[int, str] = {}
        self._table = "preflight_" + name
        self._marks = marks
        self._devices = devices
        self._owned = owned
        self._walks = Walks(self._table)
        self._socket: socket.socket | None = None
        self._tables: PrivateTables | None = None

    def open(self) -> str:
        """Switch tracing on: "", or in one short phrase why that cannot be."""
        for family in {mark[0] for mark in self._marks}:
            if xtables.logs_traces(family):
                self.untraced[family] = "iptables-legacy would log each packet"
        marks = [mark for mark in self._marks if mark[0] not in self.untraced]
        if not marks:
            return next(iter(self.untraced.values()), "nothing to trace")
        if not loaded():
            return "nf_tables is not loaded"  # so no rule of its can be to blame
        try:
            self._socket = _listener()
            self._tables = PrivateTables(self._table, marks, self._devices)
            self._tables.make(self._owned)
        except OSError as error:
            self.close()
            if error.errno in _NO_TRACING:
                return "no nf_tables tracing in the kernel"
            return _WORDS.get(error.errno or 0) or error.strerror or str(error)
        return ""

    @property
    def families(self) -> "tuple[str, ...]":
        """The table families in which our packets are marked."""
        return self._tables.families if self._tables is not None else ()

    def fileno(self) -> int:
        """For poll; -1 where tracing is off."""
        return self._socket.fileno() if self._socket is not None else -1

    def read(self) -> None:
        """Everything that is waiting, up to a bound."""
        if self._socket is None:
            return
        for _ in range(_MAX_READ):
            try:
                data = self._socket.recv(_SNAP)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True
                continue
            for family, message in traces(data):
                self._walks.take(family, message)

    def hits(self) -> "list[dict[str, Any]]":
        """What became of each packet of ours that was seen to end; the headers are as first seen.

        ident, protocol, transport (hexadecimal), source, destination: the packet; family, table,
        chain, handle (0 for the chain's policy), policy, verdict (drop, stolen, queue): its end;
        queue, bypass: the number of that queue, and whether it goes on where nobody reads it;
        turn: what led to the policy past the rest of the chain, a goto's or return's handle, or 0;
        base: the chain at the hook that led there; path: [family, table, chain] it walked; device.
        """
        return self._walks.hits

    def rewrites(self) -> "list[dict[str, Any]]":
        """Each packet of ours that became something else, or, unless messages were lost, that was
        not seen again; the headers are as first seen. See `walks.rewriting`.
        """
        found = self._walks.rewrites
        return [one for one in found if one["side"]] if self.lost else found

    def close(self) -> None:
        """Delete the tables. Nothing is heard afterwards; what was stays."""
        if self._tables is not None:
            self._tables.close()
            self._tables = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _listener() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    out = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    try:
        enlarge(out, _BUFFER)
        out.bind((0, 0))
        out.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_TRACE)
    except OSError:
        out.close()
        raise
    return out


def loaded() -> bool:
    """False where nf_tables is a module and not loaded: asking the kernel for it would load it."""
    if posix.access("/sys/module/nf_tables", posix.F_OK):
        return True
    built_in = read("/lib/modules/%s/modules.builtin" % posix.uname().release)
    return not built_in or b"/nf_tables.ko" in built_in
