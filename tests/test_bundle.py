"""The agent as it is sent: small, complete, in order, and through any shell."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import test_agent_kit as kit

from preflight import agent
from preflight.core.model import AgentState
from preflight.transport import bundle
from preflight.transport.command import OLD_PYTHON, explain_exit, shell_command

NAMES = tuple(
    dict.fromkeys(
        (
            *bundle._FIRST,
            *bundle._TAPS,
            *bundle._OVERLAY,
            *bundle._EAR,
            *bundle._LINKS,
            *bundle._DEEP,
        )
    )
)
# What an agent's start must not pay for; design.md has the prices.
SLOW = (
    "socket", "json", "hashlib", "signal", "typing", "re", "enum", "collections", "selectors",
    "subprocess", "threading", "logging", "ctypes", "random", "ipaddress", "importlib.util",
)  # fmt: skip


def imports(source: str, *, lazy: bool = True) -> set[str]:
    """The modules that a module needs, `lazy` ones among them; not those for type checkers."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
            node.body.clear()  # if TYPE_CHECKING
        elif isinstance(node, ast.FunctionDef) and not lazy:
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = str(node.module)
            submodules = {f"{module}.{alias.name}" for alias in node.names}
            found |= (submodules & set(NAMES)) or {module}
    return found


def test_every_module_comes_after_those_that_it_imports() -> None:
    known: set[str] = set()
    for name, source in bundle.modules(NAMES):
        now = {module for module in imports(source, lazy=False) if module.startswith("preflight")}
        assert not now - known, f"{name} needs {now - known}"
        known.add(name)


def test_all_of_the_agent_is_sent() -> None:
    """But its facts, which are sent by themselves; a package counts as a module."""
    top = Path(agent.__file__).parent
    parts = [path.relative_to(top).with_suffix("").parts for path in top.rglob("*.py")]
    modules = {part[:-1] if part[-1] == "__init__" else part for part in parts}
    wanted = {part for part in modules if part and part[0] != "facts"}
    # A deep look's package is what loads the rest of it.
    wanted = {".".join(("preflight", "agent", *part)) for part in wanted - {("deep",)}}
    assert set(NAMES) == wanted | {"preflight.wire"}


def test_no_module_of_the_controller_comes_along() -> None:
    for name, source in bundle.modules(NAMES):
        for module in imports(source):
            assert module.partition(".")[0] in sys.stdlib_module_names | {"preflight"}, name
            assert not module.startswith("preflight.core"), name


@pytest.mark.parametrize("compiled", [True, False])
def test_its_start_imports_nothing_slow(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what comes later. It would run; instead it tells what has been imported."""
    if not compiled:
        monkeypatch.setattr(bundle, "MAGIC_NUMBER", b"\0\0\0\0")
    end = bundle._LOADER.rindex("sys.modules[")
    later = bundle.modules((*bundle._LINKS, *bundle._DEEP, *bundle._OVERLAY, "preflight.agent.ear"))
    tell = f"load({later!r})\n".replace("{", "{{").replace("}", "}}")
    tell += "os.write(1, repr(list(sys.modules)).encode())\n"
    monkeypatch.setattr(bundle, "_LOADER", bundle._LOADER[:end] + tell)
    done = subprocess.run(
        [kit.SYSTEM_PYTHON, "-IBS", "-u", "-c", bundle.BOOT],
        input=bundle.bootstrap(kit.RUN), capture_output=True, check=True,
    )  # fmt: skip
    there = ast.literal_eval(done.stdout.decode())
    assert set(NAMES) <= set(there)
    assert not set(SLOW) & set(there)


def test_a_run_differs_from_another_by_its_name_alone() -> None:
    one, other = bundle.bootstrap("1" * 16), bundle.bootstrap("2" * 16)
    assert one != other
    assert one.replace(b"1" * 16, b"2" * 16) == other


def test_nothing_of_the_run_is_on_the_command_line() -> None:
    """Where every user of the node could read it."""
    assert kit.RUN not in bundle.BOOT
    shell_command(None, "sudo", bundle.BOOT, None)  # raises ValueError for what a shell would eat
    assert not set("'\"$\\!`\n") & set(bundle.BOOT)


def test_the_first_line_runs_on_any_python() -> None:
    """It is read byte by byte, so that nothing of what follows is lost; old syntax only."""
    line, _, rest = bundle.bootstrap(kit.RUN).partition(b"\n")
    (call,) = ast.parse(line).body
    assert isinstance(call, ast.Expr)
    loader = ast.literal_eval(call.value.args[0])  # type: ignore[attr-defined]
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(ast.parse(loader)))
    compile(loader, "loader", "exec", dont_inherit=True)
    assert rest == bundle._compiled() + bundle._source_text()


def test_the_frame_that_brings_the_taps_is_one_line() -> None:
    frame = bundle.taps()
    assert frame["t"] == "load"
    assert bundle.encode(frame).count(b"\n") == 1


def test_exit_statuses_are_those_that_are_explained() -> None:
    assert bundle.OLD_PYTHON_STATUS == OLD_PYTHON
    state, reason = explain_exit(bundle.NO_INPUT_STATUS, "")
    assert state is AgentState.LOST
    assert "stdin ended" in reason
