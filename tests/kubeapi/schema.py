"""Objects against Kubernetes' own published schema, and the rules that a schema cannot hold.

The schema of the kinds that Kubernetes has comes from the official client's models, which are made
from the OpenAPI document of its release; that of custom resources from their definition. As with
the real server a field that the schema does not have is dropped, or refused where the request says
`fieldValidation=Strict`; a value of the wrong type is a bad request.
"""

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from kubeapi.answers import bad, invalid
from kubeapi.kinds import Kind

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_INT_OR_STRING = {"port", "targetPort", "maxUnavailable", "maxSurge", "minAvailable"}


def checked(kind: Kind, item: Any, *, strict: bool) -> dict[str, Any]:
    """The object with only the fields that its schema has. Raises 400 and 422."""
    if not isinstance(item, dict):
        raise bad("the body is not an object")
    unknown: list[str] = []
    if kind.model is not None:
        out = _model(kind.model, item, "", unknown)
    else:
        out = _custom(kind, item, unknown)
    if unknown and strict:
        told = ", ".join(f'unknown field "{field}"' for field in unknown)
        raise bad(f"strict decoding error: {told}")
    return out


@cache
def _fields(model: str) -> tuple[dict[str, tuple[str, str]], frozenset[str]]:
    """By JSON key its attribute and type; and the keys that must be there."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", model).lower()
    for name in (snake, re.sub(r"(?<=[a-z])_(?=\d)", "", snake)):
        try:
            module = importlib.import_module(f"kubernetes.client.models.{name}")
            break
        except ModuleNotFoundError:
            continue
    else:
        raise LookupError(f"the client has no model {model} ({snake})")
    cls = getattr(module, model)
    fields = {key: (at, cls.openapi_types[at]) for at, key in cls.attribute_map.items()}
    needed = {
        field.serialization_alias or name
        for name, field in cls.model_fields.items()
        if field.is_required()
    }
    return fields, frozenset(needed)


def _model(model: str, item: Any, path: str, unknown: list[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise _mistyped(item, path, "object")
    fields, needed = _fields(model)
    out = {}
    for key, value in item.items():
        where = f"{path}.{key}" if path else key
        if key not in fields:
            unknown.append(where)
        elif value is not None:
            out[key] = _typed(fields[key][1], value, where, unknown)
    if lacking := sorted(needed - out.keys()):
        raise invalid(model, _name(item), *(f"{path}.{k}: Required value" for k in lacking))
    return out


def _typed(type_: str, value: Any, path: str, unknown: list[str]) -> Any:
    if found := re.fullmatch(r"List\[(.*)\]", type_):
        if not isinstance(value, list):
            raise _mistyped(value, path, "array")
        return [_typed(found[1], v, f"{path}[{i}]", unknown) for i, v in enumerate(value)]
    if found := re.fullmatch(r"Dict\[str, (.*)\]", type_):
        if not isinstance(value, dict):
            raise _mistyped(value, path, "object")
        return {k: _typed(found[1], v, f"{path}.{k}", unknown) for k, v in value.items()}
    match type_:
        case "str" | "datetime" | "date":
            good = isinstance(value, str)
        case "int":
            good = isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            good = isinstance(value, bool)
        case "float":
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
        case _ if not re.match(r"[A-Z][a-z]*V?\d?", type_) or type_ in ("IntOrString",):
            good = not isinstance(value, (list, dict)) or type_ == "object"
        case _:
            return _model(type_, value, path, unknown)
    if not good and path.rpartition(".")[2].rstrip("]0123456789[") in _INT_OR_STRING:
        good = isinstance(value, (int, str))
    if not good:
        raise _mistyped(value, path, type_)
    return value


def _mistyped(value: Any, path: str, wanted: str) -> Exception:
    found = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
    return bad(f"json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")


def _custom(kind: Kind, item: dict[str, Any], unknown: list[str]) -> dict[str, Any]:
    about = _model("V1ObjectMeta", item.get("metadata") or {}, "metadata", unknown)
    rest = {k: v for k, v in item.items() if k not in ("apiVersion", "kind", "metadata")}
    problems: list[str] = []
    out = _structural(kind.schema or {}, rest, "", unknown, problems)
    if problems:
        raise invalid(kind.kind, _name(item), *problems)
    return {"apiVersion": kind.api, "kind": kind.kind, "metadata": about, **out}


def _structural(
    schema: dict[str, Any], value: Any, path: str, unknown: list[str], problems: list[str]
) -> Any:
    wanted = schema.get("type")
    types = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
        "number": (int, float),
    }  # fmt: skip
    fits = wanted is None or (
        isinstance(value, types[wanted]) and (not isinstance(value, bool) or wanted == "boolean")
    )
    if not fits:
        told = f'{path}: Invalid value: "{type(value).__name__}": must be of type {wanted}'
        problems.append(f"{path or '<root>'}{told.removeprefix(path)}")
        return value
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f'{path}: Unsupported value: "{value}"')
    if isinstance(value, list) and "items" in schema:
        items = schema["items"]
        return [
            _structural(items, v, f"{path}[{i}]", unknown, problems) for i, v in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    keep = schema.get("x-kubernetes-preserve-unknown-fields")
    out = {}
    for key, inner in value.items():
        where = f"{path}.{key}" if path else key
        if key in properties:
            if inner is not None or properties[key].get("nullable"):
                out[key] = _structural(properties[key], inner, where, unknown, problems)
        elif isinstance(others, dict):
            out[key] = _structural(others, inner, where, unknown, problems)
        elif keep or others:
            out[key] = inner
        else:
            unknown.append(where)
    lacking = [key for key in schema.get("required") or () if key not in out]
    problems += [f"{f'{path}.' if path else ''}{key}: Required value" for key in lacking]
    return out


def _name(item: dict[str, Any]) -> str:
    about = item.get("metadata")
    return str(about.get("name", "")) if isinstance(about, dict) else ""


def ruled(kind: Kind, item: dict[str, Any]) -> None:
    """The rules beyond the schema. Raises 422 with every problem."""
    problems = [*_about(kind, item["metadata"]), *_of_kind(kind, item)]
    if problems:
        raise invalid(kind.kind, _name(item), *problems)


def _about(kind: Kind, about: dict[str, Any]) -> Iterator[str]:
    name = about.get("name", "")
    loose = kind.group == "rbac.authorization.k8s.io"
    pattern = _LABEL if kind.plural in ("namespaces", "services") else _NAME
    if not name:
        yield "metadata.name: Required value: name or generateName is required"
    elif not loose and (not pattern.fullmatch(name) or len(name) > 253):
        yield f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 label or subdomain'
    for key, value in (about.get("labels") or {}).items():
        if not _QUALIFIED.fullmatch(key) or len(key.rpartition("/")[2]) > 63:
            yield f'metadata.labels: Invalid value: "{key}": name part must be a qualified name'
        if not _VALUE.fullmatch(value) or len(value) > 63:
            yield f'metadata.labels: Invalid value: "{value}": a valid label must be'


def _of_kind(kind: Kind, item: dict[str, Any]) -> Iterator[str]:
    spec = item.get("spec") or {}
    match kind.plural:
        case "pods":
            yield from _pod(spec, "spec")
        case "deployments" | "daemonsets" | "replicasets":
            template = spec.get("template") or {}
            labels = (template.get("metadata") or {}).get("labels") or {}
            wanted = (spec.get("selector") or {}).get("matchLabels") or {}
            if not spec.get("selector"):
                yield "spec.selector: Required value"
            elif any(labels.get(k) != v for k, v in wanted.items()):
                yield (
                    "spec.template.metadata.labels: Invalid value: "
                    f"{labels}: `selector` does not match template `labels`"
                )
            if spec.get("replicas", 0) < 0:
                yield "spec.replicas: Invalid value: must be greater than or equal to 0"
            yield from _pod(template.get("spec") or {}, "spec.template.spec")
            if (template.get("spec") or {}).get("restartPolicy", "Always") != "Always":
                yield "spec.template.spec.restartPolicy: Unsupported value"
        case "services":
            yield from _service(spec)


def _pod(spec: dict[str, Any], path: str) -> Iterator[str]:
    if not spec.get("containers"):
        yield f"{path}.containers: Required value"
    names = set()
    every = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for i, container in enumerate(every):
        where = f"{path}.containers[{i}]"
        name = container.get("name", "")
        if name in names:
            yield f'{where}.name: Duplicate value: "{name}"'
        if not _LABEL.fullmatch(name):
            yield f'{where}.name: Invalid value: "{name}"'
        names.add(name)
        if not container.get("image"):
            yield f"{where}.image: Required value"
        for port in container.get("ports") or ():
            number = port.get("containerPort", 0)
            if not 0 < number < 65536:
                yield f"{where}.ports[0].containerPort: Invalid value: {number}"
            if spec.get("hostNetwork") and port.get("hostPort", number) != number:
                yield f"{where}.ports[0].hostPort: must match `containerPort` with hostNetwork"
        for mount in container.get("volumeMounts") or ():
            if mount.get("name") not in volumes:
                yield f'{where}.volumeMounts[0].name: Not found: "{mount.get("name")}"'
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            found = container.get(probe)
            handlers = {"exec", "httpGet", "tcpSocket", "grpc"}
            if found is not None and not handlers & found.keys():
                yield f"{where}.{probe}: Required value: must specify a handler type"


def _service(spec: dict[str, Any]) -> Iterator[str]:
    headless = spec.get("clusterIP") == "None"
    ports = spec.get("ports") or ()
    if not ports and not headless and spec.get("type") != "ExternalName":
        yield "spec.ports: Required value"
    for i, port in enumerate(ports):
        if len(ports) > 1 and not port.get("name"):
            yield f"spec.ports[{i}].name: Required value"
        if not 0 < port.get("port", 0) < 65536:
            yield f"spec.ports[{i}].port: Invalid value: {port.get('port')}"
        node = port.get("nodePort")
        if node is not None and not 30000 <= node <= 32767:
            yield (
                f"spec.ports[{i}].nodePort: Invalid value: {node}: provided port is not in the "
                "valid range. The range of valid ports is 30000-32767"
            )
