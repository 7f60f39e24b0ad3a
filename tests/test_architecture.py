"""The house's boundaries, where the linter cannot hold them."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "preflight"

# What each room may import of the others; what is not listed it may not.
ALLOWED = {
    "core": {"core", "errors"},
    "agent": {"agent", "wire"},
    "wire": set(),
    "errors": set(),
    "craft": {"core", "craft"},
    "cluster": {"core", "cluster", "errors", "report", "inventory"},
    "report": {"core", "report", "preflight", "atomic"},
    "inventory": {"core", "inventory", "errors"},
    "spec": {"core", "inventory", "errors", "spec"},
    "transport": {"core", "transport", "errors", "wire", "cluster"},
    "lab": {"lab", "errors", "core"},
    "store": {"core", "errors", "report", "preflight", "atomic"},
    "atomic": {"errors"},
    "interrupt": set(),
}
IMPURE = {
    "asyncio", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "urllib",
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of it."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            whole = module in ("preflight", "preflight.agent")
            out |= {f"{module}.{a.name}" if whole else module for a in node.names}
    return out


def files(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_rooms_import_only_what_is_below_them(room: str) -> None:
    found = {}
    for path in files(room):
        for module in imports(path):
            first, _, rest = module.partition(".")
            target = rest.split(".")[0] if rest else "preflight"
            if target == "__version__":
                target = "preflight"
            if first == "preflight" and target not in ALLOWED[room]:
                found[path.name] = module
    assert found == {}


@pytest.mark.parametrize("path", files("core"), ids=lambda path: path.name)
def test_core_is_pure(path: Path) -> None:
    modules = {module.split(".")[0] for module in imports(path)} - {"preflight"}
    assert modules & IMPURE == set()
    assert modules <= sys.stdlib_module_names


@pytest.mark.parametrize("path", [*files("agent"), *files("wire")], ids=lambda path: path.name)
def test_the_agent_needs_nothing_but_python(path: Path) -> None:
    guarded = {"typing", "collections"}  # under TYPE_CHECKING alone
    modules = {module.split(".")[0] for module in imports(path)} - {"preflight"} - guarded
    if path.name in ("by_pyroute2.py", "by_psutil.py"):  # the second source of some facts
        modules.discard(path.stem.removeprefix("by_"))
    assert modules <= sys.stdlib_module_names | {"_signal", "_socket", "_blake2"}
    slow = {"socket", "json", "hashlib", "signal", "subprocess", "re", "enum", "dataclasses"}
    assert modules & slow <= ({"hashlib"} if path.name == "packets.py" else set())
