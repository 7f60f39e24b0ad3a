"""Files that a user gives a connectivity check: a manifest, a registry's login."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from preflight.core.connectivity.given import Given, ManifestError, given
from preflight.errors import FileError

_LARGEST = 4 << 20  # bytes of a manifest; an API server takes 1.5 MiB for one object


def read_manifest(path: Path, namespace: str) -> Given:
    """The objects of a YAML file, for `namespace`. Raises FileError."""
    import yaml

    text = _read(path)
    if len(text) > _LARGEST:
        raise FileError(f"{path}: larger than {_LARGEST >> 20} MiB: not a manifest of a check")
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        return given(documents, namespace)
    except ManifestError as error:
        raise FileError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())
        raise FileError(f"{path}: not YAML: {first}") from error


def read_login(path: Path) -> str:
    """A docker `config.json` as a Secret holds it. Raises FileError; tells nothing of it."""
    text = _read(path)
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("auths"), dict):
        raise FileError(
            f"{path}: not a docker config.json with `auths` (a credential helper's has "
            "none: log in without one)"
        )
    return base64.b64encode(text).decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
