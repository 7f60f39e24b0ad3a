"""A lab's files: /run/preflight-lab/<name>/, readable by root alone.

That directory is the claim to the name. What is built is found again by its name and not through
these files, so that `lab down` needs none of them.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from preflight.errors import LabError
from preflight.lab import machine, namespaces, network, topology
from preflight.lab.topology import LabPlan, Network

BASE = Path("/run/preflight-lab")
_MACHINE = "machine.json"  # no lab's name has a dot


@dataclass(frozen=True, slots=True)
class RunDir:
    """Where each of a lab's files is."""

    path: Path

    @property
    def inventory(self) -> Path:
        return self.path / "inventory.yaml"

    @property
    def known_hosts(self) -> Path:
        return self.path / "known_hosts"

    @property
    def client_key(self) -> Path:
        return self.path / "id_ed25519"

    @property
    def host_key(self) -> Path:
        return self.path / "host_ed25519"

    @property
    def authorized_keys(self) -> Path:
        return self.path / "authorized_keys"

    @property
    def ssh_config(self) -> Path:
        return self.path / "ssh_config"

    @property
    def sshd_config(self) -> Path:
        return self.path / "sshd_config"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    def of_node(self, name: str, suffix: str) -> Path:
        """A node's own sshd file: `suffix` is "pid" or "log"."""
        return self.path / f"sshd-{name}.{suffix}"

    def save(self, plan: LabPlan, *, finished: bool) -> None:
        """Write down what `plan` was made of."""
        text = json.dumps(
            {
                "slot": plan.slot,
                "nodes": len(plan.nodes),
                "racks": len(plan.racks),
                "ipv6": plan.ipv6,
                "mtu": plan.mtu,
                "finished": finished,
            }
        )
        partial = self.state.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.state)

    def load(self) -> tuple[LabPlan, bool] | None:
        """The plan that was saved and whether all of it was built; None if nothing was saved."""
        try:
            state: dict[str, Any] = json.loads(self.state.read_text("utf-8"))
        except FileNotFoundError:
            return None
        finished = bool(state.pop("finished"))
        return topology.plan(self.path.name, **state), finished

    def write_inventory(self, plan: LabPlan) -> None:
        """Write the inventory of all nodes, and an ssh configuration for people."""
        nodes = [
            {
                "name": node.name,
                "address": list(node.addresses) if plan.ipv6 else node.addresses[0],
                "labels": {"rack": node.rack, "role": node.role},
            }
            for node in plan.nodes
        ]
        defaults = {
            "user": "root",
            "identity_file": str(self.client_key),
            "known_hosts": str(self.known_hosts),
        }
        text = yaml.safe_dump(
            {"defaults": defaults, "nodes": nodes}, sort_keys=False, default_flow_style=None
        )
        self.inventory.write_text(
            f"# Lab {plan.name!r}: gone with `preflight lab down`.\n{text}", encoding="utf-8"
        )
        hosts = [f"Host {n.name}\n  HostName {n.addresses[0]}\n" for n in plan.nodes]
        common = (
            f"Host *\n  User root\n  IdentityFile {self.client_key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  StrictHostKeyChecking yes\n"
        )
        self.ssh_config.write_text("".join((*hosts, common)), encoding="utf-8")


def of(name: str) -> RunDir:
    """The files of the lab called `name`, which need not exist."""
    return RunDir(BASE / topology.check_name(name))


def names() -> list[str]:
    """The labs that have a directory: up, half built, or killed while they were built."""
    try:
        return sorted(p.name for p in BASE.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []


def claim(name: str, *, nodes: int, racks: int, ipv6: bool, mtu: int) -> LabPlan:
    """Make the directory of a new lab and give it a free slot.

    Raises LabError where the name is taken or no slot is free.
    """
    topology.plan(name, nodes=nodes, racks=racks, ipv6=ipv6, mtu=mtu)  # refuses nonsense first
    run = of(name)
    with _locked():
        try:
            _refuse_taken(name)
            slot = _free_slot(ipv6=ipv6)
            plan = topology.plan(name, slot=slot, nodes=nodes, racks=racks, ipv6=ipv6, mtu=mtu)
            machine.prepare(BASE / _MACHINE)
            run.path.mkdir(mode=0o700)
            run.save(plan, finished=False)
        except BaseException:
            _restore_machine_after_last()
            raise
    return plan


def release(name: str) -> None:
    """Remove the directory of a lab, and with the last one whatever all labs shared."""
    with _locked():
        shutil.rmtree(of(name).path, ignore_errors=True)
        _restore_machine_after_last()


def _restore_machine_after_last() -> None:
    if not names():
        machine.restore(BASE / _MACHINE)
        shutil.rmtree(BASE)


def _refuse_taken(name: str) -> None:
    if (
        of(name).path.exists()
        or topology.namespaces_of(name, namespaces.existing())
        or network.device_exists(topology.uplink_device(name))
    ):
        option = "" if name == "lab" else f" --name {name}"
        raise LabError(f"lab {name!r} is up already: preflight lab down{option}")


def _free_slot(*, ipv6: bool) -> int:
    taken = {loaded[0].slot for name in names() if (loaded := of(name).load())}
    routed = list(network.routes())
    in_the_way = None
    for slot in range(topology.SLOTS):
        if slot not in taken:
            route = _overlap(topology.prefixes(slot, ipv6=ipv6), routed)
            if route is None:
                return slot
            in_the_way = route
    if in_the_way is None:
        raise LabError(f"{topology.SLOTS} labs are up: take one down")
    raise LabError(f"the lab's addresses are in use here: route {in_the_way} is in the way")


def _overlap(prefixes: Sequence[Network], routed: Sequence[tuple[Network, str]]) -> str | None:
    for prefix in prefixes:
        for network_, words in routed:
            if prefix.version == network_.version and prefix.overlaps(network_):
                return words
    return None


@contextmanager
def _locked() -> Iterator[None]:
    """One at a time. The directory is its own lock, so no lock file outlives the last lab."""
    while True:
        BASE.mkdir(mode=0o700, exist_ok=True)
        try:
            handle = os.open(BASE, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                still_it = os.path.samestat(os.fstat(handle), BASE.stat())
            except FileNotFoundError:
                still_it = False
            if still_it:  # else the last lab went down while we waited
                yield
                return
        finally:
            os.close(handle)
