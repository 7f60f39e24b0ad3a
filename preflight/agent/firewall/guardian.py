"""A process that deletes our tables when the agent is gone, however it went.

Only where the kernel has no tables that end with their maker. It holds nothing of the agent's but
the end of a pipe, so that nobody waits for it.
"""

import _signal
import posix

from preflight.agent.firewall.nfnetlink import FAMILIES, Nfnetlink, delete_table

_MOST_FILES = 1 << 16
_IGNORED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM, _signal.SIGPIPE)


class Guardian:
    """Watches over the tables called `table` from now on."""

    def __init__(self, table: str) -> None:
        reader, self._writer = posix.pipe()  # close-on-exec, both
        self._process = posix.fork()
        if self._process == 0:
            _guard(table, reader)
        posix.close(reader)

    def dismiss(self) -> None:
        """The tables are no more needed; returns when it has ended."""
        posix.close(self._writer)
        try:
            posix.waitpid(self._process, 0)
        except OSError:
            pass  # somebody else's SIGCHLD handling took it


def _guard(table: str, reader: int) -> None:
    """In the child: wait for the agent's end, delete, end."""
    try:
        posix.setsid()
        posix.chdir("/")  # nor a directory of anybody's
        # What ends a whole session comes to us as well: the pipe tells when there is work.
        for number in _IGNORED:
            _signal.signal(number, _signal.SIG_IGN)
        _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
        posix.dup2(reader, 0)
        posix.closerange(1, _most_files())
        posix.read(0, 1)
        netlink = Nfnetlink()
        for family in FAMILIES:
            try:
                netlink.commit(delete_table(family, table))
            except OSError:
                pass  # there was none in that family, or the agent deleted it
    finally:
        posix._exit(0)  # noqa: SLF001 - the child of a fork ends so


def _most_files() -> int:
    try:
        return max(map(int, posix.listdir("/proc/self/fd"))) + 1
    except (OSError, ValueError):
        return _MOST_FILES
