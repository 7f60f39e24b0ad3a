"""psutil and pyroute2 as parcels for the nodes: read from where they are installed, not imported.

What a node can run of it, it decides itself (`agent.facts.shipped`). Its Python may be another than
the controller's: pyroute2 is plain Python, and psutil's extension keeps to the stable ABI.
"""

from __future__ import annotations

import ast
import base64
import platform
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

Parcel = Mapping[str, object]
_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")
# psutil's modules for Linux; the extension comes apart.
_PSUTIL = ("psutil", "psutil._common", "psutil._ntuples", "psutil._pslinux", "psutil._psposix")
_EXTENSION = "psutil._psutil_linux"
_PYROUTE2_ROOTS = ("pyroute2.iproute.linux", "pyroute2.netlink.exceptions")


@cache
def parcels() -> Mapping[str, Parcel]:
    """Both libraries, by name; one that is not installed here as it should be is left out."""
    made = {"pyroute2": _pyroute2(), "psutil": _psutil()}
    return {name: parcel for name, parcel in made.items() if parcel is not None}


def _pyroute2() -> Parcel | None:
    folder = _folder("pyroute2")
    if folder is None:
        return None
    # Its own __init__ imports all of it, three times what is needed.
    sources: dict[str, tuple[bool, str]] = {"pyroute2": (True, "")}
    for name, path in _needed(folder.parent, _PYROUTE2_ROOTS):
        sources.setdefault(name, (path.name == "__init__.py", path.read_text("utf-8")))
    return _parcel("pyroute2", (3, 9), sources, [])


def _psutil() -> Parcel | None:
    folder = _folder("psutil")
    stable = None if folder is None else next(folder.glob("_psutil_linux.abi3.so"), None)
    if folder is None or stable is None:
        return None
    paths = {name: _path(folder.parent, name) for name in _PSUTIL}
    sources = {
        name: (path.name == "__init__.py", path.read_text("utf-8"))
        for name, path in paths.items()
        if path is not None
    }
    data = stable.read_bytes()
    libc = "glibc" if b"libc.so.6" in data else "musl"
    needs = max(((int(a), int(b)) for a, b in _GLIBC.findall(data)), default=(0, 0))
    extension = {
        "name": _EXTENSION,
        "machine": platform.machine(),
        "libc": libc,
        "libc_version": list(needs),
        "data": _packed(data),
    }
    return _parcel("psutil", (3, 8), sources, [extension])  # 3.8: memfd_create


def _parcel(
    name: str,
    python: tuple[int, int],
    sources: Mapping[str, tuple[bool, str]],
    extensions: Sequence[Mapping[str, object]],
) -> Parcel:
    return {
        "version": version(name),
        "python": list(python),
        "sources": _packed(repr(dict(sources)).encode()),
        "extensions": list(extensions),
    }


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode("ascii")


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def _needed(base: Path, roots: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """The modules of a package that `roots` import, packages on the way too, but not itself."""
    waiting, seen = list(roots), {roots[0].partition(".")[0]}
    while waiting:
        name = waiting.pop()
        same = name.partition(".")[0] == roots[0].partition(".")[0]
        path = _path(base, name) if same and name not in seen else None
        if path is None:
            continue
        seen.add(name)
        yield name, path
        waiting += [name.rpartition(".")[0], *_imports(path, name)]


def _imports(path: Path, name: str) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            parts = [*(above if node.level else []), *([node.module] if node.module else [])]
            yield ".".join(parts)
            yield from (".".join((*parts, alias.name)) for alias in node.names)


def _path(base: Path, name: str) -> Path | None:
    plain = base.joinpath(*name.split("."))
    for path in (plain.with_name(f"{plain.name}.py"), plain / "__init__.py"):
        if path.is_file():
            return path
    return None
