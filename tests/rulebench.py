"""Two namespaces joined by a cable, and processes in them that do what an agent would.

For what must not share a namespace with other tests: tables that iptables-legacy made stay for as
long as their namespace.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from labs import PREFIX

from preflight.lab.namespaces import inside

T = TypeVar("T")
PATIENCE_S = 20  # for what must happen; nothing here is measured by it
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
ROOT = Path(__file__).parent.parent
NEEDS_LAB = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
UDP = [(family, 17, [("transport", 8, b"PREFLIGHT")]) for family in (4, 6)]  # marks of `udp`
NEAR, FAR = ("10.77.0.1", "fd77::1"), ("10.77.0.2", "fd77::2")
_MACS = ("02:00:00:00:77:01", "02:00:00:00:77:02")
_SYSCTLS = (
    "net.ipv6.conf.all.disable_ipv6=0",
    "net.ipv6.conf.default.disable_ipv6=0",
    "net.ipv6.conf.default.accept_dad=0",
)

# What the process in the namespace runs: one JSON object a line, an answer to each.
_WORKER = """
import json, os, select, struct, sys, time
from preflight.agent.firewall import commands, legacy, nfnetlink, nftrace, rewriting, ruletext
from preflight.agent.firewall import tracetable, xtables, xtmatch
traces = {}
def hits(trace, count, seconds=20):
    end, poll = time.time() + seconds, select.poll()
    poll.register(trace.fileno(), select.POLLIN)
    while len(trace.hits()) < count and time.time() < end:
        poll.poll(100)
        trace.read()
    trace.read()
    return trace.hits()
def culprits(trace, count, seconds=20):
    end, poll = time.time() + seconds, select.poll()
    poll.register(trace.fileno(), select.POLLIN)
    while len(trace.rewrites()) < count and time.time() < end:
        poll.poll(100)
        trace.read()
    return rewriting.culprits(trace.rewrites())
out = os.fdopen(os.dup(1), "w")
print("ready", file=out, flush=True)
for line in sys.stdin:
    scope = dict(globals(), traces=traces)
    try:
        answer = {"value": eval(line, scope)}
    except Exception as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(answer), file=out, flush=True)
"""


class WorkerError(Exception):
    """What the process in the namespace raised."""


class Worker:
    """A process in a namespace that evaluates Python there. `prefix` is put before its command."""

    def __init__(self, namespace: str, python: str = PYTHON, prefix: tuple[str, ...] = ()) -> None:
        argv = ["ip", "netns", "exec", namespace, *prefix, python, "-IBS", "-c"]
        path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        self.process = subprocess.Popen(
            [*argv, path + _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready\n"

    def _line(self) -> str:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert ready, "the process in the namespace is silent"
        return self.process.stdout.readline()

    def __call__(self, expression: str) -> Any:
        """The value of a Python expression there; it has one line. Raises WorkerError."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression.replace("\n", " ") + "\n")
        self.process.stdin.flush()
        answer = json.loads(self._line())
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]

    def open(self, marks: list[Any], name: str = "test", **options: Any) -> str:
        """Open a trace called `name`; `devices` and `owned` are RuleTrace's."""
        arguments = {"devices": ["eth0"], **options}
        return str(
            self(
                f"(traces.__setitem__({name!r}, nftrace.RuleTrace({name!r}, {marks!r}, "
                f"**{arguments!r})), traces[{name!r}].open())[1]"
            )
        )

    def hits(self, count: int, name: str = "test") -> list[dict[str, Any]]:
        """What the trace has heard, once that are `count` hits."""
        found: list[dict[str, Any]] = self(f"hits(traces[{name!r}], {count})")
        assert len(found) == count, found
        return found

    def describe(self, name: str = "test") -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = self(f"ruletext.describe(traces[{name!r}].hits())")
        return out

    def close(self) -> None:
        """End it."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe and pipe.close()
        self.process.wait(PATIENCE_S)


class Bench:
    """Namespace `near` and `far` with a device eth0 each; see NEAR and FAR for their addresses."""

    def __init__(self, name: str, bridge: bool = False) -> None:
        self.near, self.far = (f"preflight-{PREFIX}-{name}-{end}" for end in ("near", "far"))
        self._bridge = bridge
        self._workers: list[Worker] = []

    def up(self) -> None:
        for end in (self.near, self.far):
            run("ip", "netns", "add", end)
            self.run(end, "sysctl", "-qw", *_SYSCTLS)
        run(
            *f"ip link add eth0 netns {self.near} address {_MACS[0]} type veth".split(),
            *f"peer name eth0 netns {self.far} address {_MACS[1]}".split(),
        )
        for i, (end, here, there) in enumerate(((self.near, NEAR, FAR), (self.far, FAR, NEAR))):
            device = "br0" if self._bridge and end == self.far else "eth0"
            commands = [f"link set {name} up" for name in ("lo", "eth0")]
            if device == "br0":
                commands += [f"link add br0 address {_MACS[1]} type bridge mcast_snooping 0"]
                commands += [
                    "link set eth0 address 02:00:00:00:77:03 master br0",
                    "link set br0 up",
                ]
            for mine, theirs, bits in zip(here, there, (24, 64), strict=True):
                commands += [
                    f"addr add {mine}/{bits} dev {device} nodad",
                    f"neigh replace {theirs} lladdr {_MACS[1 - i]} dev {device} nud permanent",
                ]
            for command in commands:
                run("ip", "-n", end, *command.split())

    def down(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.close()
        for end in (self.near, self.far):
            subprocess.run(["ip", "netns", "del", end], check=False, capture_output=True)

    def worker(self, end: str, **options: Any) -> Worker:
        """A process at one end."""
        worker = Worker(end, **options)
        self._workers.append(worker)
        return worker

    def run(self, end: str, *argv: str, stdin: str = "") -> str:
        return run("ip", "netns", "exec", end, *argv, stdin=stdin)

    def nft(self, end: str, ruleset: str) -> None:
        self.run(end, "nft", "-f", "-", stdin=ruleset)

    def tables(self, end: str) -> list[str]:
        """The tables of nf_tables, as "family name"."""
        lines = self.run(end, "nft", "list", "tables").splitlines()
        return [line.removeprefix("table ") for line in lines]

    def clean(self) -> None:
        """No rules of anybody but those who own them; no processes."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        for end in (self.near, self.far):
            self.nft(end, "flush ruleset\n")

    def call(self, end: str, function: Callable[[], T]) -> T:
        """What `function` returns in a thread at one end."""
        return inside(end, function)


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


@contextmanager
def bench(name: str, **options: Any) -> Iterator[Bench]:
    """A bench that is up, and gone afterwards."""
    out = Bench(name, **options)
    try:
        out.up()
        yield out
    finally:
        out.down()


def udp(
    bench: Bench, count: int, port: int = 6081, v6: bool = False, source: int = 4096, ident: int = 1
) -> None:
    """Send datagrams from near to far, each with its number for payload; drops are no error.

    The first has the IPv4 identification `ident`, those after it the ones after that.
    """

    def send() -> None:
        kind = socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW
        with socket.socket(*kind, socket.IPPROTO_UDP if v6 else socket.IPPROTO_RAW) as sock:
            if v6:
                sock.setsockopt(socket.IPPROTO_IPV6, 7, 6)  # IPV6_CHECKSUM, where it stands
            for number in range(count):
                body = b"PREFLIGHT%d" % number
                packet = struct.pack("!HHHH", source, port, 8 + len(body), 0) + body
                if not v6:
                    head = (0x45, 0, 20 + len(packet), ident + number, 0, 64, 17, 0)
                    ends = map(socket.inet_aton, (NEAR[0], FAR[0]))
                    packet = struct.pack("!BBHHHBBH4s4s", *head, *ends) + packet
                with suppress(PermissionError):
                    sock.sendto(packet, (FAR[v6], 0))

    bench.call(bench.near, send)


def base(where: str, *rules: str, policy: str = "accept", more: str = "") -> str:
    """A table of one base chain; `where` is "family table hook priority" and maybe a device."""
    family, table, hook, priority, *device = where.split()
    on = f' device "{device[0]}"' if device else ""
    lines = "\n".join(rules)
    return f"""table {family} {table} {{
{more}
chain {hook} {{
type filter hook {hook}{on} priority {priority}; policy {policy};
{lines}
}}
}}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench("rules") as out:
        yield out


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces without rules."""
    yield shared
    shared.clean()
