"""The node's own tools, each run with a limit on its time and on what it may say.

With fork and exec, not subprocess: its import costs the agent more than most of the tools.
"""

import errno
import posix
import select
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
_ENVIRONMENT = {"LC_ALL": "C", "PATH": ":".join(PLACES)}
_LIMIT = 16 << 20  # bytes
_NOHANG, _KILL = 1, 9
_POLL_S = 0.001


class CommandError(Exception):
    """The tool took too long, said too much or failed; `args[0]` is one short phrase."""


def find(*names: str) -> str:
    """The path of the first of these tools that this node has, "" for none."""
    for name in names:
        for place in PLACES:
            path = place + "/" + name
            if posix.access(path, 1):
                return path
    return ""


def run(argv: "Sequence[str]", seconds: float, limit: int = _LIMIT) -> str:
    """What `argv`, which begins with a path, writes to standard output. Raises CommandError."""
    end = monotonic() + seconds
    reader, writer = posix.pipe()  # close-on-exec, both
    try:
        child = posix.fork()
        if child == 0:
            _become(argv, writer)
    except OSError as error:
        posix.close(reader)
        raise CommandError(error.strerror or "it could not be started") from error
    finally:
        posix.close(writer)
    status = None
    try:
        data = _read(reader, end, limit)
        status = _wait(child, end)
    finally:
        posix.close(reader)
        if status is None:
            posix.killpg(child, _KILL) if _leads(child) else posix.kill(child, _KILL)
            posix.waitpid(child, 0)
    if status:
        raise CommandError("%s failed" % argv[0])
    return data.decode("utf-8", "replace")


def _become(argv: "Sequence[str]", writer: int) -> None:
    try:
        import _signal

        posix.setsid()  # so that what it starts ends with it
        for number in (_signal.SIGINT, _signal.SIGPIPE):  # ignored by us, and that is inherited
            _signal.signal(number, _signal.SIG_DFL)
        null = posix.open("/dev/null", posix.O_RDWR)
        for source, target in ((null, 0), (writer, 1), (null, 2)):
            posix.dup2(source, target)
        posix.execve(argv[0], list(argv), _ENVIRONMENT)
    finally:
        posix._exit(127)  # noqa: SLF001 - the child of a fork ends so


def _leads(child: int) -> bool:
    """True once the child has a process group of its own: before that its group is ours."""
    try:
        return posix.getpgid(child) == child
    except OSError:
        return False


def _read(reader: int, end: float, limit: int) -> bytes:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    pieces: list[bytes] = []
    size = 0
    while True:
        left = end - monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise CommandError("it took too long")
        piece = posix.read(reader, 1 << 16)
        if not piece:
            return b"".join(pieces)
        size += len(piece)
        if size > limit:
            raise CommandError("it said too much")
        pieces.append(piece)


def _wait(child: int, end: float) -> int:
    idle = select.poll()
    while True:
        try:
            pid, status = posix.waitpid(child, _NOHANG)
        except OSError as error:  # somebody else's SIGCHLD handling took it
            if error.errno == errno.ECHILD:
                return 0
            raise
        if pid == child:
            return status
        if monotonic() >= end:
            raise CommandError("it took too long")
        idle.poll(_POLL_S * 1000)
