"""The agent as one stream of bytes: what a bare `python3` reads from its standard input.

`BOOT` is all that stands on the command line. It reads one line of Python from standard input and
runs it; that line checks the interpreter's age and reads the rest: the agent's modules as source
text, and compiled by this interpreter, which saves a node with the same bytecode the half of its
start. Nothing is written to the node's disk.
"""

import binascii
import json
import marshal
import zlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.util import MAGIC_NUMBER
from types import CodeType

# No quote, dollar, backslash or exclamation mark: it passes through any login shell unharmed.
BOOT = (
    "import posix as os;"
    "exec(bytes().join(iter(lambda:os.read(0,1)or os._exit(96),bytes([10]))).decode())"
)
NO_INPUT_STATUS = 96  # standard input ended before the agent was there
OLD_PYTHON_STATUS = 98

_FIRST = (
    "preflight.wire",
    "preflight.agent.inet",
    "preflight.agent.packets",
    "preflight.agent.bpf",
    "preflight.agent.netlink",
    "preflight.agent.host",
    "preflight.agent.sockets",
    "preflight.agent.policed",
    "preflight.agent.route",
    "preflight.agent.look",
    "preflight.agent.send",
    "preflight.agent.watch",
    "preflight.agent.report",
    "preflight.agent.main",
)
_TAPS = ("preflight.agent.taps",)
_HELLO = ("preflight.agent.hello",)
_EAR = ("preflight.agent.taps", "preflight.agent.ear")
_OVERLAY = ("preflight.agent.hello", "preflight.agent.overlay")
_LINKS = (
    "preflight.agent.kernel",
    "preflight.agent.kernel.fib",
    "preflight.agent.forbids",
    "preflight.agent.nexthops",
    "preflight.agent.trails",
    "preflight.agent.links",
)
_DEEP = (
    "preflight.agent.taps",
    "preflight.agent.firewall",
    "preflight.agent.kernel",
    "preflight.agent.firewall.nfnetlink",
    "preflight.agent.firewall.commands",
    "preflight.agent.firewall.xtables",
    "preflight.agent.firewall.xtwords",
    "preflight.agent.firewall.xtmatch",
    "preflight.agent.firewall.queues",
    "preflight.agent.firewall.guardian",
    "preflight.agent.firewall.tracetable",
    "preflight.agent.firewall.walks",
    "preflight.agent.firewall.nftrace",
    "preflight.agent.firewall.nftrules",
    "preflight.agent.firewall.nftwords",
    "preflight.agent.firewall.ruletext",
    "preflight.agent.firewall.rewriting",
    "preflight.agent.firewall.legacy",
    "preflight.agent.kernel.kallsyms",
    "preflight.agent.kernel.tracefs",
    "preflight.agent.kernel.ebpf",
    "preflight.agent.kernel.drops",
    "preflight.agent.kernel.counters",
    "preflight.agent.kernel.sysctls",
    "preflight.agent.kernel.fib",
    "preflight.agent.kernel.hooks",
    "preflight.agent.deep.shots",
    "preflight.agent.deep.answers",
    "preflight.agent.deep.shotfilter",
    "preflight.agent.deep.sightings",
    "preflight.agent.deep.shooter",
    "preflight.agent.deep.losses",
    "preflight.agent.deep.neighbours",
    "preflight.agent.deep.marks",
    "preflight.agent.hello",
    "preflight.agent.deep.asked",
    "preflight.agent.deep.inside",
    "preflight.agent.deep.look",
)

_FACTS = (
    "preflight.agent.facts.files",
    "preflight.agent.facts.links",
    "preflight.agent.facts.addresses",
    "preflight.agent.facts.routes",
    "preflight.agent.facts.rules",
    "preflight.agent.facts.routing",
    "preflight.agent.facts.ethtool",
    "preflight.agent.facts.media",
    "preflight.agent.facts.sockets",
    "preflight.agent.facts.owners",
    "preflight.agent.facts.sysctls",
    "preflight.agent.facts.modules",
    "preflight.agent.facts.answer",
)
_MORE_FACTS = (
    "preflight.agent.facts.services",
    "preflight.agent.facts.cni",
    "preflight.agent.facts.clock",
    "preflight.agent.facts.nftables",
    "preflight.agent.facts.iptables",
    "preflight.agent.facts.shipped",
    "preflight.agent.facts.by_pyroute2",
    "preflight.agent.facts.by_psutil",
)

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
_UNPACK = """\
import _frozen_importlib_external as machinery, binascii, marshal, sys, zlib
load = sys.modules["preflight.agent"].load
if machinery.MAGIC_NUMBER == {magic!r}:
    load(marshal.loads(zlib.decompress(binascii.a2b_base64({compiled!r}))))
else:
    load(eval(zlib.decompress(binascii.a2b_base64({source!r})).decode()))
"""


def modules(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """(dotted name, source text) of the agent's modules, in the order of their imports."""
    return [(name, _source(name)) for name in names]


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    file = files(package).joinpath(f"{module}.py")
    if not file.is_file():
        file = files(name).joinpath("__init__.py")
    return file.read_text("utf-8")


@cache
def _source_text() -> bytes:
    return zlib.compress(repr(modules(_FIRST)).encode())


@cache
def _compiled() -> bytes:
    return zlib.compress(marshal.dumps(_code(_FIRST)))


def _code(names: tuple[str, ...]) -> list[tuple[str, CodeType]]:
    return [
        (name, compile(text, name.replace(".", "/") + ".py", "exec", dont_inherit=True, optimize=2))
        for name, text in modules(names)
    ]


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


def hello() -> dict[str, object]:
    """The frame that brings what `get` frames need."""
    return {"t": "load", "modules": modules(_HELLO)}


def ear() -> dict[str, object]:
    """The frame that brings what `ear` frames need, the taps included."""
    return {"t": "load", "modules": modules(_EAR)}


def overlay() -> dict[str, object]:
    """The frame that brings what `echo` and `sums` frames need, and `get` frames."""
    return {"t": "load", "modules": modules(_OVERLAY)}


def links() -> dict[str, object]:
    """The frame that brings what `links` frames need."""
    return {"t": "load", "modules": [("preflight.agent.tables", _parcel(_LINKS))]}


def deep() -> dict[str, object]:
    """The frame that brings what deep looks need, the taps included."""
    return {"t": "load", "modules": [("preflight.agent.deep", _parcel(_DEEP))]}


def facts(
    *, cheap: bool = False, libraries: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The frame that brings what a `facts` frame needs.

    `cheap` is for its parts in `CHEAP` alone. With `libraries`, of `transport.libraries`, it may
    ask for these to be used.
    """
    brought = [("preflight.agent.facts", _parcel(_FACTS if cheap else _FACTS + _MORE_FACTS))]
    if libraries is not None:
        brought.append(("preflight.agent.facts.parcels", f"PARCELS = {dict(libraries)!r}"))
    return {"t": "load", "modules": brought}


@cache
def _parcel(names: tuple[str, ...]) -> str:
    """A module's text that loads other modules: compiled where it can, which takes a tenth."""
    compiled = zlib.compress(marshal.dumps(_code(names)))
    source = zlib.compress(repr(modules(names)).encode())
    return _UNPACK.format(magic=MAGIC_NUMBER, compiled=_text(compiled), source=_text(source))


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def encode(frame: object) -> bytes:
    """A frame for an agent, as one line of JSON."""
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"
