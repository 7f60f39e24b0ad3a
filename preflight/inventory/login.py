"""Settings for SSH that an inventory from elsewhere does not know, given on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from preflight.core.model import Node
from preflight.errors import UsageError
from preflight.inventory import fields
from preflight.inventory.document import Kind, Scalar, Value


def login(
    nodes: Sequence[Node],
    *,
    user: str | None,
    port: int | None,
    identity_file: str | None,
    proxy_jump: str | None,
    become: bool,
) -> tuple[Node, ...]:
    """The nodes with settings for SSH where they have none of their own.

    Raises UsageError for a setting that the native form would not take.
    """
    checked = {
        "user": _option("--user", user, fields.user),
        "identity_file": _option("--identity-file", identity_file, fields.identity_file),
        "proxy_jump": _option("--proxy-jump", proxy_jump, fields.proxy_jump),
    }
    return tuple(
        replace(
            node,
            user=node.user or checked["user"],
            port=node.port or port,
            identity_file=node.identity_file or checked["identity_file"],
            proxy_jump=node.proxy_jump or checked["proxy_jump"],
            become=node.become or ("sudo" if become else None),
        )
        for node in nodes
    )


def _option(option: str, text: str | None, parse: Callable[[Value], str]) -> str | None:
    if text is None:
        return None
    try:
        return parse(Scalar(0, text, Kind.TEXT))
    except fields.Invalid as exc:
        raise UsageError(f"{option}: {exc}") from exc
