"""What can go wrong before or besides a measurement, and the exit codes users script against."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The process's answer; `check`, `show` and `explain` share its meaning."""

    OK = 0  # nothing required is blocked, closed or lossy
    BAD = 1  # something required is
    USAGE = 2  # a wrong argument or a bad file
    INCOMPLETE = 3  # nothing required is known to be bad, but something required is unknown
    NO_NODE = 4  # no node could be reached
    BUG = 70  # our own fault
    INTERRUPTED = 130  # stopped by the user, what was measured was kept


class PreflightError(Exception):
    """Something the user can act on: one line, what happened, to which node, what to do.

    `str(error)` is that line, or several lines where several things are wrong at once.
    """

    exit_code = ExitCode.USAGE


class UsageError(PreflightError):
    """A wrong argument, or arguments that do not fit together."""


class FileError(PreflightError):
    """A file that cannot be read or written, or does not hold what it should."""


class LabError(PreflightError):
    """The lab cannot be built, found or taken down."""


class NodeError(PreflightError):
    """A node that cannot be used. It costs that node's row and column, never the run.

    `state` is one of `core.model.AgentState`'s values, `str(error)` the reason in one line.
    """

    exit_code = ExitCode.NO_NODE

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state
