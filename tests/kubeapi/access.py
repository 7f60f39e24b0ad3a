"""Who may do what: RBAC objects, as the real authorizer reads them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kubeapi.kinds import BUILTIN
from kubeapi.store import Store
from kubeapi.users import USERS

_KINDS = {kind.kind: kind for kind in BUILTIN}


class Subject(NamedTuple):
    """Who asks."""

    name: str
    groups: tuple[str, ...]


class Ask(NamedTuple):
    """What for. `path` is set where it is no resource."""

    verb: str
    group: str = ""
    resource: str = ""
    sub: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


def who(authorization: str) -> Subject | None:
    """Of a bearer token; None for one that nobody has."""
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer":
        return None
    for name, user in USERS.items():
        if user.token == token.strip():
            return Subject(name, (*user.groups, "system:authenticated"))
    return None


def may(store: Store, subject: Subject, ask: Ask) -> bool:
    """Whether a rule allows it."""
    if "system:masters" in subject.groups:
        return True
    if ask.resource.startswith("selfsubject") and ask.verb == "create":
        return True  # system:basic-user
    if ask.path in ("/version", "/healthz", "/livez", "/readyz", "/api", "/apis"):
        return ask.verb == "get"  # system:public-info-viewer, system:discovery
    return any(_fits(rule, ask) for rule in _rules(store, subject, ask.namespace))


def _rules(store: Store, subject: Subject, namespace: str) -> Iterator[dict[str, Any]]:
    wide, _ = store.listed(_KINDS["ClusterRoleBinding"], None)
    near = store.listed(_KINDS["RoleBinding"], namespace)[0] if namespace else []
    for binding in [*wide, *near]:
        if not any(_is(s, subject) for s in binding.get("subjects") or ()):
            continue
        reference = binding["roleRef"]
        kind = _KINDS[reference["kind"]]
        roles, _ = store.listed(kind, namespace if kind.namespaced else None)
        for role in roles:
            if role["metadata"]["name"] == reference["name"]:
                yield from role.get("rules") or ()


def _is(wanted: dict[str, Any], subject: Subject) -> bool:
    if wanted["kind"] == "User":
        return wanted["name"] == subject.name
    return wanted["kind"] == "Group" and wanted["name"] in subject.groups


def _fits(rule: dict[str, Any], ask: Ask) -> bool:
    def has(key: str, *values: str) -> bool:
        listed = rule.get(key) or ()
        return "*" in listed or any(value in listed for value in values)

    if not has("verbs", ask.verb):
        return False
    if ask.path:
        return has("nonResourceURLs", ask.path)
    resource = f"{ask.resource}/{ask.sub}" if ask.sub else ask.resource
    names = rule.get("resourceNames")
    return (
        has("apiGroups", ask.group)
        and has("resources", resource, *([f"*/{ask.sub}"] if ask.sub else []))
        and (not names or ask.name in names)
    )


def refusal(subject: Subject, ask: Ask) -> str:
    """The server's words."""
    if ask.path:
        return f'User "{subject.name}" cannot {ask.verb} path "{ask.path}"'
    resource = f"{ask.resource}/{ask.sub}" if ask.sub else ask.resource
    where = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
    return (
        f'User "{subject.name}" cannot {ask.verb} resource "{resource}" in API group '
        f'"{ask.group}" {where}'
    )
