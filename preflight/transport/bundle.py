"""The agent as one stream of bytes: what a bare `python3` reads from its standard input.

`BOOT` is all that stands on the command line. It reads one line of Python from standard input and
runs it; that line checks the interpreter's age and reads the rest: the agent's modules as source
text, and compiled by this interpreter, which saves a node with the same bytecode the half of its
start. Nothing is written to the node's disk.
"""

import json
import marshal
import zlib
from functools import cache
from importlib.resources import files
from importlib.util import MAGIC_NUMBER

# No quote, dollar, backslash or exclamation mark: it passes through any login shell unharmed.
BOOT = (
    "import posix as os;"
    "exec(bytes().join(iter(lambda:os.read(0,1)or os._exit(96),bytes([10]))).decode())"
)
NO_INPUT_STATUS = 96  # standard input ended before the agent was there
OLD_PYTHON_STATUS = 98

_FIRST = (
    "preflight.wire",
    "preflight.agent.packets",
    "preflight.agent.bpf",
    "preflight.agent.netlink",
    "preflight.agent.host",
    "preflight.agent.sockets",
    "preflight.agent.route",
    "preflight.agent.look",
    "preflight.agent.send",
    "preflight.agent.watch",
    "preflight.agent.report",
    "preflight.agent.main",
)
_TAPS = ("preflight.agent.taps",)

# Runs on any Python, the oldest included: no syntax newer than 2.
_LOADER = """\
import posix as os, sys, zlib
if sys.version_info < (3, 6):
    os.write(2, ("preflight: " + sys.executable + " is Python %d.%d; the agent needs 3.6"
                 % sys.version_info[:2]).encode())
    os._exit({old})
def load(modules):
    for name, code in modules:
        module = type(sys)(name)
        module.__path__ = []
        sys.modules[name] = module
        if isinstance(code, str):
            code = compile(code, name.replace(".", "/") + ".py", "exec")
        exec(code, module.__dict__)
def take(size):
    out = b""
    while len(out) < size:
        out += os.read(0, size - len(out)) or os._exit({gone})
    return out
load([("preflight", ""), ("preflight.agent", "")])
sys.modules["preflight.agent"].load = load
import _frozen_importlib_external as machinery, marshal
compiled, source = take({compiled}), take({source})
if machinery.MAGIC_NUMBER == {magic!r}:
    load(marshal.loads(zlib.decompress(compiled)))
else:
    load(eval(zlib.decompress(source).decode()))
sys.modules["preflight.agent.main"].start({run!r})
"""


def modules(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(dotted name, source text) of the agent's modules, in the order of their imports."""
    return [(name, _source(name)) for name in names]


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    return files(package).joinpath(f"{module}.py").read_text("utf-8")


@cache
def _source_text() -> bytes:
    return zlib.compress(repr(modules(_FIRST)).encode())


@cache
def _compiled() -> bytes:
    code = [
        (name, compile(text, name.replace(".", "/") + ".py", "exec", dont_inherit=True, optimize=2))
        for name, text in modules(_FIRST)
    ]
    return zlib.compress(marshal.dumps(code))


def bootstrap(run: str) -> bytes:
    """What the agent of `run` is sent first; its frames follow."""
    loader = _LOADER.format(
        old=OLD_PYTHON_STATUS,
        gone=NO_INPUT_STATUS,
        magic=MAGIC_NUMBER,
        compiled=len(_compiled()),
        source=len(_source_text()),
        run=run,
    )
    return f"exec({loader!r})\n".encode() + _compiled() + _source_text()


def taps() -> dict[str, object]:
    """The frame that brings what only looks with taps need."""
    return {"t": "load", "modules": modules(_TAPS)}


def encode(frame: object) -> bytes:
    """A frame for an agent, as one line of JSON."""
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"
