"""What is sent to a node that is to tell facts: complete, in order, small, and of Python 3.6."""

import ast
import subprocess
import sys
from importlib.resources import files

import pytest
import test_agent_kit as kit
from test_agent_pythons import usable
from test_bundle import SLOW, imports

from preflight.transport import bundle

NAMES = (*bundle._FACTS, *bundle._MORE_FACTS)
PACKAGE = "preflight.agent.facts"


def test_all_of_it_is_sent() -> None:
    found = {p.name[:-3] for p in files(PACKAGE).iterdir() if p.name.endswith(".py")}
    assert set(NAMES) == {f"{PACKAGE}.{name}" for name in found - {"__init__"}}


@pytest.mark.parametrize("names", [bundle._FACTS, NAMES], ids=["cheap", "all"])
def test_every_module_comes_after_those_that_it_imports(names: tuple[str, ...]) -> None:
    known = {*bundle._FIRST, PACKAGE}
    for name, source in bundle.modules(names):
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
                node.module, known_parts = "preflight", {f"{PACKAGE}.{a.name}" for a in node.names}
                if node in tree.body:  # the rest is imported when it is needed
                    assert known_parts <= known, name
        ours = {m for m in imports(ast.unparse(tree), lazy=False) if m.startswith("preflight.")}
        assert ours <= known, f"{name} needs {ours - known}"
        known.add(name)


def test_the_cheap_load_is_the_smaller_one() -> None:
    small, large = (len(bundle.encode(bundle.facts(cheap=cheap))) for cheap in (True, False))
    assert small < 65_000
    assert small < 0.75 * large
    assert bundle.encode(bundle.facts()).count(b"\n") == 1


@pytest.mark.parametrize("compiled", [True, False])
def test_it_imports_nothing_slow_nor_a_library(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load as an agent does it, with our bytecode and with its own."""
    if not compiled:
        monkeypatch.setattr(bundle, "MAGIC_NUMBER", b"\0\0\0\0")
    monkeypatch.setattr(bundle, "_parcel", bundle._parcel.__wrapped__)
    end = bundle._LOADER.rindex("sys.modules[")
    tell = f"load({bundle.facts()['modules']!r})\n".replace("{", "{{").replace("}", "}}")
    tell += "os.write(1, repr(list(sys.modules)).encode())\n"
    monkeypatch.setattr(bundle, "_LOADER", bundle._LOADER[:end] + tell)
    done = subprocess.run(
        [kit.SYSTEM_PYTHON, "-IBS", "-u", "-c", bundle.BOOT],
        input=bundle.bootstrap(kit.RUN), capture_output=True, check=True,
    )  # fmt: skip
    there = ast.literal_eval(done.stdout.decode())
    assert set(NAMES) <= set(there)
    assert not {*SLOW, "pyroute2", "psutil"} & set(there)


@pytest.mark.parametrize("python", [sys.executable, *usable()])
def test_its_source_is_of_python_3_6(python: str) -> None:
    sent = [("facts", bundle._parcel(NAMES)), *bundle.modules(NAMES)]
    code = f"for name, source in {sent!r}: compile(source, name, 'exec', 0, True)"
    done = subprocess.run([python, "-IBSW", "error", "-"], input=code.encode(), check=False,
                          capture_output=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
