"""What went wrong on the way or at the server, in one line: the only place that words it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.patience import LateError
from preflight.errors import PreflightError
from preflight.report.text import clean

if TYPE_CHECKING:
    from preflight.cluster.kubeconfig import Endpoint

_VERBS = {"GET": "read", "POST": "create", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}
_FAULTS = {
    401: Fault.UNAUTHORIZED,
    403: Fault.FORBIDDEN,
    404: Fault.MISSING,
    409: Fault.CONFLICT,
    410: Fault.EXPIRED,
    429: Fault.THROTTLED,
}
_LONGEST = 300  # characters of a server's own words


def answered(
    way: Endpoint, method: str, what: str, status: int, told: dict[str, Any]
) -> ClusterError:
    """An answer that is not a success; `told` is its Status object, or {}."""
    reason = str(told.get("reason") or "") if told.get("kind") == "Status" else ""
    words = str(told.get("message") or "") if told.get("kind") == "Status" else ""
    words = clean(words)[:_LONGEST]
    fault = _FAULTS.get(status, Fault.BROKEN if status >= 500 else Fault.INVALID)
    if reason == "AlreadyExists":
        fault = Fault.EXISTS
    doing = f"{_VERBS.get(method, method)} {clean(what)}"
    return ClusterError(
        fault,
        f"cluster {way.name}: {_said(way, fault, doing, status, words)}",
        status=status,
        reason=reason,
        message=words,
    )


def _said(way: Endpoint, fault: Fault, doing: str, status: int, words: str) -> str:
    told = f": {words}" if words else ""
    match fault:
        case Fault.UNAUTHORIZED:
            why = way.expired or "it does not accept these credentials (401)"
            return f"{way.server}: {why}; log in again, or name another --context"
        case Fault.FORBIDDEN:
            # `pods is forbidden: ` says nothing that is not said already.
            why = words.partition(" is forbidden: ")[2] or words or "(403)"
            return f"not allowed to {doing}: {why}"
        case Fault.MISSING:
            return f"cannot {doing}: there is none (404){told}"
        case Fault.EXISTS:
            return f"cannot {doing}: it exists already"
        case Fault.CONFLICT:
            return f"cannot {doing}: it changed meanwhile (409){told}"
        case Fault.EXPIRED:
            return f"cannot {doing}: too old a version (410){told}"
        case Fault.THROTTLED:
            return f"cannot {doing}: {way.server} is overloaded (429); try again later"
        case Fault.BROKEN:
            return f"cannot {doing}: {way.server} answers {status}{told or '; try again later'}"
        case _:
            return f"cannot {doing}: refused ({status}){told}"


def failed(way: Endpoint, method: str, what: str, error: Exception) -> ClusterError:
    """A request without an answer, or with half of one."""
    from urllib3 import exceptions

    text = clean(_innermost(error))
    doing = f"{_VERBS.get(method, method)} {clean(what)}"
    if isinstance(error, exceptions.SSLError):
        why = way.expired or f"TLS fails: {text}"
        return ClusterError(
            Fault.UNTRUSTED,
            f"cluster {way.name}: {way.server}: {why}; is the kubeconfig of this cluster?",
        )
    refused = isinstance(error, exceptions.NewConnectionError)  # a timeout too, to urllib3
    if isinstance(error, exceptions.ConnectTimeoutError) and not refused:
        text = "no answer to the connection attempt"
    elif isinstance(error, (exceptions.TimeoutError, LateError)) and not refused:
        text = "no answer in time"
    elif isinstance(error, exceptions.ProtocolError) and _cut_short(error):
        text = "the connection ended in the middle of the answer"
    return ClusterError(
        Fault.UNREACHABLE,
        f"cluster {way.name}: {way.server} cannot be reached to {doing}: {text}",
    )


def _cut_short(error: BaseException | None) -> bool:
    """An answer without its end; what urllib3 makes of it is about numbers of bytes, or a
    ValueError where it wants to read the length of the next chunk."""
    from http.client import IncompleteRead

    while error is not None and not isinstance(error, IncompleteRead):
        if type(error) is ValueError:
            return True
        error = error.__cause__ or error.__context__
    return error is not None


def _innermost(error: BaseException) -> str:
    """The system's own words, without the wrapping of urllib3."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException) or isinstance(inner, PreflightError):
            break  # what was being handled meanwhile is another story
        error = inner
    if isinstance(error, OSError) and error.strerror and not hasattr(error, "verify_message"):
        return error.strerror
    return getattr(error, "verify_message", "") or str(error) or type(error).__name__
