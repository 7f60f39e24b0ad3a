"""`Lab`: up, down, and working inside it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from preflight.errors import LabError
from preflight.lab import firewall, namespaces, network, processes, rundir, signals, sshd, topology
from preflight.lab.rundir import RunDir
from preflight.lab.topology import ROUTER, LabNode, LabPlan

T = TypeVar("T")
DEFAULT_NAME = "lab"


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up. Use it as a context manager, or call `down` yourself.

    `where` in its methods is a node's name, "fw" for the router between the racks, or one of the
    lab's namespaces.
    """

    plan: LabPlan
    run_dir: RunDir
    finished: bool = True  # False: its making was cut short, only `down` is of use

    @classmethod
    def up(
        cls,
        name: str = DEFAULT_NAME,
        *,
        nodes: int = 4,
        racks: int = 2,
        ipv6: bool = True,
        mtu: int = 1500,
    ) -> Self:
        """Build a lab; return when every node's sshd listens.

        Whatever goes wrong meanwhile, Ctrl-C too, nothing is left. Raises LabError.
        """
        require_root("up")
        sshd.check_tools()
        if ipv6 and not Path("/proc/sys/net/ipv6").exists():
            raise LabError("this kernel has no IPv6: preflight lab up --no-ipv6")
        with _system_errors(f"build lab {name!r}"):
            plan = rundir.claim(name, nodes=nodes, racks=racks, ipv6=ipv6, mtu=mtu)
            lab = cls(plan, rundir.of(name))
            try:
                lab._build()
            except BaseException:
                lab.down()
                raise
        return lab

    @classmethod
    def find(cls, name: str = DEFAULT_NAME) -> Self:
        """The lab called `name` that is up. Raises LabError where there is none."""
        require_root("status")
        run = rundir.of(name)
        loaded = run.load()
        if loaded is None:
            raise LabError(f"no lab {name!r} is up: preflight lab up")
        plan, finished = loaded
        return cls(plan, run, finished)

    @classmethod
    def all(cls) -> list[Self]:
        """Every lab of this machine, by name; also those whose making was cut short."""
        require_root("status")
        return [cls.find(name) for name in rundir.names() if rundir.of(name).load()]

    def down(self) -> None:
        """Remove every trace. No error where that was done already; see `take_down`."""
        take_down(self.name)

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def nodes(self) -> tuple[LabNode, ...]:
        """The nodes in order; each has `name`, `namespace`, `addresses` and `rack`."""
        return self.plan.nodes

    @property
    def router(self) -> str:
        """The namespace of the router between the racks."""
        return self.plan.router

    @property
    def inventory_path(self) -> Path:
        """The inventory written for this lab."""
        return self.run_dir.inventory

    def node(self, name: str) -> LabNode:
        """The node called `name`. Raises LabError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(
            f"lab {self.name!r} has no node {name!r}: it has n1 to {self.nodes[-1].name}"
        )

    def call(self, where: str, function: Callable[[], T]) -> T:
        """What `function` returns, called by a thread inside a namespace.

        A socket it returns stays in that namespace.
        """
        return namespaces.inside(self._namespace(where), function)

    def popen(self, where: str, *argv: str | Path, **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside a namespace. `options` are those of `subprocess.Popen`."""
        return self.call(where, lambda: subprocess.Popen(argv, **options))

    def run(
        self,
        where: str,
        *argv: str | Path,
        input: str | None = None,  # noqa: A002 - as in subprocess.run
        check: bool = True,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside a namespace and return its output as text.

        With `check`, raises LabError where it fails; in any case where it takes too long.
        """
        pipe = subprocess.PIPE
        stdin = subprocess.DEVNULL if input is None else pipe
        process = self.popen(where, *argv, stdin=stdin, stdout=pipe, stderr=pipe, text=True)
        with process:
            try:
                out, err = process.communicate(input, timeout=timeout_s)
            except subprocess.TimeoutExpired as exc:
                process.kill()
                raise LabError(f"{where}: {argv[0]} took longer than {timeout_s:g} s") from exc
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            why = (err or out).strip().splitlines()[:1] or [f"exit code {process.returncode}"]
            raise LabError(f"{where}: {argv[0]}: {why[0]}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def nft(self, where: str, ruleset: str) -> None:
        """Load an nftables ruleset on top of what is there. Raises LabError."""
        self.run(where, sshd.find_tool("nft"), "-f", "-", input=ruleset)

    def drop_firewall(self, where: str) -> None:
        """Remove all nftables rules, also iptables-nft's, and all tracked connections.

        A connection that a rule had translated still holds its ports, and the kernel drops a new
        one that would be answered by the same: netfilter's `insert_failed`.
        """
        self.nft(where, firewall.FLUSH)
        self.forget_connections(where)

    def forget_connections(self, where: str) -> None:
        """Empty the connection tracking table, of all families."""
        namespaces.inside(self._namespace(where), firewall.flush_connections)

    def _namespace(self, where: str) -> str:
        if where == ROUTER:
            return self.router
        return where if where in self.plan.namespaces else self.node(where).namespace

    def _build(self) -> None:
        plan, run = self.plan, self.run_dir
        namespaces.create(plan.namespaces, lambda name: network.sysctls(plan, name))
        network.build(plan)
        sshd.write_keys(plan, run)
        sshd.write_config(run)
        sshd.start(plan, run)
        run.write_inventory(plan)
        run.save(plan, finished=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()


@contextmanager
def _system_errors(what: str) -> Iterator[None]:
    """Say in one line what the system refused."""
    try:
        yield
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        raise LabError(f"cannot {what}: {where}{exc.strerror or exc}") from exc


def require_root(command: str) -> None:
    """Raise LabError for everybody but root; `command` is the one that root should run."""
    if os.geteuid() != 0:
        raise LabError(f"preflight lab needs root: sudo preflight lab {command}")


def take_down(name: str) -> bool:
    """Remove every trace of the lab called `name`, however far its making got.

    It is found by names alone: namespaces with all processes inside, device, routes, files. Ctrl-C
    waits until it is done. Returns False where there was nothing. Raises LabError where a process
    inside cannot be killed.
    """
    require_root("down")
    run = rundir.of(name)
    device = topology.uplink_device(name)
    with signals.postponed(), _system_errors(f"take down lab {name!r}"):
        members = topology.namespaces_of(name, namespaces.existing())
        if not (members or run.path.exists() or network.device_exists(device)):
            return False
        processes.end_processes_in([namespaces.NAMESPACES / m for m in members])
        network.delete_device(device)
        for member in members:
            namespaces.remove(member)
        rundir.release(name)
    return True
