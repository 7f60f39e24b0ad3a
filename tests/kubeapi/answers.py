"""What an API server says where it does not do as it is asked: Status objects."""

from typing import Any


class ApiError(Exception):
    """A refusal: its HTTP status and its Status object."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        retry: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry = retry
        self.status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        if details:
            self.status["details"] = details


def missing(resource: str, name: str) -> ApiError:
    """404 for an object."""
    plural, _, group = resource.partition(".")
    details = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', details)


def unserved() -> ApiError:
    """404 for a path that nobody serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def exists(resource: str, name: str) -> ApiError:
    """409 for a name that is taken."""
    return ApiError(409, "AlreadyExists", f'{resource} "{name}" already exists', {"name": name})


def conflict(resource: str, name: str, why: str = "") -> ApiError:
    """409 for an object that changed meanwhile."""
    why = why or (
        "the object has been modified; please apply your changes to the latest version and "
        "try again"
    )
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource} "{name}": {why}',
        {"name": name},
    )


def expired(asked: int, oldest: int) -> ApiError:
    """410 for a version that is no longer kept."""
    return ApiError(410, "Expired", f"too old resource version: {asked} ({oldest})")


def invalid(kind: str, name: str, *problems: str) -> ApiError:
    """422, with each field's problem."""
    told = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    causes = [{"field": p.split(":")[0], "message": p} for p in problems]
    return ApiError(
        422,
        "Invalid",
        f'{kind} "{name}" is invalid: {told}',
        {"name": name, "kind": kind, "causes": causes},
    )


def bad(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def forbidden(resource: str, name: str, why: str) -> ApiError:
    """403."""
    who = f'{resource} "{name}"' if name else resource
    return ApiError(403, "Forbidden", f"{who} is forbidden: {why}", {"name": name})
