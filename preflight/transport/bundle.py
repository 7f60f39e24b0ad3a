"""The agent as one stream of bytes: what a bare `python3` reads from its standard input.

`BOOT` is all that stands on the command line. It reads one line of Python from standard input and
runs it; that line checks the interpreter's age and reads the rest, modules as source text. Nothing
is written to the node's disk.
"""

import json
import zlib
from functools import cache
from importlib.resources import files

# No quote, dollar, backslash or exclamation mark: it passes through any login shell unharmed.
BOOT = "import os;exec(bytes().join(iter(lambda:os.read(0,1)or os._exit(96),bytes([10]))).decode())"
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
import os, sys, zlib
if sys.version_info < (3, 6):
    os.write(2, ("preflight: " + sys.executable + " is Python %d.%d; the agent needs 3.6"
                 % sys.version_info[:2]).encode())
    os._exit({old})
def load(modules):
    for name, source in modules:
        module = type(sys)(name)
        module.__path__ = []
        sys.modules[name] = module
        exec(compile(source, name.replace(".", "/") + ".py", "exec"), module.__dict__)
def take(size):
    out = b""
    while len(out) < size:
        out += os.read(0, size - len(out)) or os._exit({gone})
    return out
load([("preflight", ""), ("preflight.agent", "")])
sys.modules["preflight.agent"].load = load
load(eval(zlib.decompress(take({size})).decode()))
sys.modules["preflight.agent.main"].start({run!r})
"""


def modules(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(dotted name, source text) of the agent's modules, in the order of their imports."""
    return [(name, _source(name)) for name in names]


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    return files(package).joinpath(f"{module}.py").read_text("utf-8")


@cache
def _packed() -> bytes:
    return zlib.compress(repr(modules(_FIRST)).encode(), 9)


def bootstrap(run: str) -> bytes:
    """What the agent of `run` is sent first; its frames follow."""
    packed = _packed()
    loader = _LOADER.format(old=OLD_PYTHON_STATUS, gone=NO_INPUT_STATUS, size=len(packed), run=run)
    return f"exec({loader!r})\n".encode() + packed


def taps() -> dict[str, object]:
    """The frame that brings what only looks with taps need."""
    return {"t": "load", "modules": modules(_TAPS)}


def encode(frame: object) -> bytes:
    """A frame for an agent, as one line of JSON."""
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"
