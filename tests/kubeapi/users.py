"""The users that tests have, with the tokens that they show; rights come from RBAC objects."""

from pathlib import Path
from typing import NamedTuple

import yaml


class User(NamedTuple):
    """Who a token stands for."""

    token: str
    groups: tuple[str, ...] = ()


USERS = {
    "admin": User("token-of-admin", ("system:masters",)),
    "nobody": User("token-of-nobody"),
    "viewer": User("token-of-viewer"),
}


def write_kubeconfig(path: Path, server: str, user: str, ca: Path | None) -> None:
    """A kubeconfig with one context."""
    cluster = {"server": server} | ({"certificate-authority": str(ca)} if ca else {})
    token = USERS[user].token if user in USERS else "a-token-that-no-server-knows"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test-cluster", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test-cluster", "user": user}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(document))
