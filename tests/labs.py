"""Working in a lab, and seeing what one leaves behind."""

import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from preflight.lab import Lab

TIMEOUT_S = 10.0
FAMILIES = [pytest.param(0, id="ipv4"), pytest.param(1, id="ipv6")]  # positions in node.addresses
# Of this process, so that runs side by side (also pytest-xdist's workers) do not meet; and of one
# width, so that none is the beginning of another.
PREFIX = f"t{os.getpid():07}"
LAB_DIRECTORY = Path("/run/preflight-lab")
NAMESPACES = Path("/run/netns")


def remains(prefix: str) -> list[str]:
    """Whatever there is on this machine of labs whose name begins with `prefix`."""
    devices = [name for _, name in socket.if_nameindex()]
    namespaces = [p.name for p in NAMESPACES.glob(f"preflight-{prefix}*")]
    files = [str(p) for p in LAB_DIRECTORY.glob(f"{prefix}*")]
    lines = [
        *Path("/proc/net/route").read_text("ascii").splitlines(),
        *Path("/proc/net/ipv6_route").read_text("ascii").splitlines(),
        *Path("/proc/self/mountinfo").read_text("utf-8").splitlines(),
    ]
    commands = [" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    return [
        *(d for d in devices if d.startswith(f"pf-{prefix}")),
        *namespaces,
        *files,
        *(line for line in lines if f"pf-{prefix}" in line or f"preflight-{prefix}" in line),
        *(c for c in commands if f"{LAB_DIRECTORY}/{prefix}" in c),
    ]


def neighbour_limits() -> dict[str, str]:
    """This machine's neighbour table limits, which a lab raises while it is up."""
    settings = Path("/proc/sys/net").glob("ipv[46]/neigh/default/gc_thresh?")
    return {str(p): p.read_text("ascii") for p in settings}


def listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


def connect(source: str, destination: str, port: int) -> None:
    """One TCP connection, made and closed. Raises OSError."""
    socket.create_connection((destination, port), TIMEOUT_S, (source, 0)).close()


def ssh(lab: "Lab", node: str, command: str) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", str(lab.run_dir.ssh_config), "-o", "BatchMode=yes", node, command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
