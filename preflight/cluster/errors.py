"""What an API server, or the way to it, can answer instead of what was asked for."""

from enum import StrEnum

from preflight.errors import ExitCode, PreflightError


class Fault(StrEnum):
    """Why a request failed."""

    UNREACHABLE = "unreachable"  # refused, reset, timed out, no such host
    UNTRUSTED = "untrusted"  # TLS: its certificate, or ours
    UNAUTHORIZED = "unauthorized"  # 401
    FORBIDDEN = "forbidden"  # 403
    MISSING = "missing"  # 404: the object, or the kind itself
    CONFLICT = "conflict"  # 409: changed meanwhile, or still being deleted
    EXISTS = "exists"  # 409 AlreadyExists
    EXPIRED = "expired"  # 410: a resource version too old to go on from
    INVALID = "invalid"  # 400, 405, 415, 422: what we sent
    THROTTLED = "throttled"  # 429
    BROKEN = "broken"  # 5xx, or an answer that is not the API's


# Nothing of the cluster can be read at all.
_CLOSED = frozenset({Fault.UNREACHABLE, Fault.UNTRUSTED, Fault.UNAUTHORIZED})


class ClusterError(PreflightError):
    """A request that failed: one line with what was asked, of which cluster, and what to do.

    `status` is the HTTP status or None without one, `reason` the API's own word
    (`AlreadyExists`), `message` the API's sentence, cleaned.
    """

    def __init__(
        self,
        fault: Fault,
        text: str,
        *,
        status: int | None = None,
        reason: str = "",
        message: str = "",
    ) -> None:
        super().__init__(text)
        self.fault = fault
        self.status = status
        self.reason = reason
        self.message = message
        self.exit_code = ExitCode.NO_NODE if fault in _CLOSED else ExitCode.INCOMPLETE

    @property
    def closed(self) -> bool:
        """Whether the cluster as a whole cannot be used, and not just this one request."""
        return self.fault in _CLOSED
