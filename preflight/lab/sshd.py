"""A real sshd in every node, with keys and configuration of the lab's own."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from preflight.errors import LabError
from preflight.lab import namespaces
from preflight.lab.rundir import RunDir
from preflight.lab.topology import LabNode, LabPlan

_START_S = 30.0
_POLL_S = 0.005
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_PACKAGES = {"sshd": "openssh-server", "ssh-keygen": "openssh-client", "nft": "nftables"}

# Where the system's sshd drops its privileges. We leave it behind: an sshd that the machine itself
# started since would refuse every login without it.
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def find_tool(name: str) -> str:
    """The path of an external program. Raises LabError with Debian's package for it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")  # su leaves sbin out
    if found is None:
        raise LabError(f"{name} is missing: apt install {_PACKAGES[name]}")
    return found


def check_tools() -> None:
    """Raise LabError where a program is missing that a lab needs."""
    for name in _PACKAGES:
        find_tool(name)


def write_keys(plan: LabPlan, run: RunDir) -> None:
    """Make the client's key and the nodes' host key, and let each side know the other's."""
    keygen = find_tool("ssh-keygen")
    for path in (run.client_key, run.host_key):
        options = ["-q", "-t", "ed25519", "-N", "", "-C", f"preflight-{plan.name}"]
        argv = [keygen, *options, "-f", str(path)]
        _run(argv, f"make {path}")
    run.authorized_keys.write_bytes(run.client_key.with_suffix(".pub").read_bytes())
    host_key = " ".join(run.host_key.with_suffix(".pub").read_text("ascii").split()[:2])
    lines = [f"{address} {host_key}\n" for node in plan.nodes for address in node.addresses]
    run.known_hosts.write_text("".join(lines), encoding="ascii")


def write_config(run: RunDir) -> None:
    """Write the configuration that all nodes' sshd share, and have sshd check it."""
    sshd = find_tool("sshd")
    _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    run.sshd_config.write_text(
        f"""\
Port 22
HostKey {run.host_key}
AuthorizedKeysFile {run.authorized_keys}
# Keys alone for root; other users may give the password they have on this machine.
PermitRootLogin prohibit-password
KbdInteractiveAuthentication no
StrictModes no
# An agent full of other keys must not use up the attempts.
MaxAuthTries 50
# The controller logs in to a bastion many times at once.
MaxStartups 100:30:200
MaxSessions 100
UsePAM {_use_pam()}
UseDNS no
PrintMotd no
PrintLastLog no
LogLevel ERROR
Subsystem sftp internal-sftp
# bash reads ~/.bashrc when sshd starts it as the first shell. A lab should measure the tool, and
# not what this machine's root has in there: from SHLVL 2 on, bash leaves it alone.
SetEnv SHLVL=2
""",
        encoding="utf-8",
    )
    # From 9.8 on sshd shuts out an address after a few refused keys, which tests do on purpose.
    penalties = ["-o", "PerSourcePenalties=no"]
    argv = [sshd, "-t", "-f", str(run.sshd_config)]
    if subprocess.run([*argv, *penalties], capture_output=True, check=False).returncode == 0:
        with run.sshd_config.open("a", encoding="utf-8") as file:
            file.write("PerSourcePenalties no\n")
    else:
        _run(argv, "use our sshd configuration")


def start(plan: LabPlan, run: RunDir) -> None:
    """Start sshd in every node and return when all of them listen. Raises LabError."""
    sshd = find_tool("sshd")
    starting = [_start_one(sshd, node, run) for node in plan.nodes]
    codes = [process.wait() for process in starting]  # each goes on in the background
    for node, code in zip(plan.nodes, codes, strict=True):
        if code:
            raise LabError(f"{node.name}: sshd does not start: {_last_words(node, run)}")
    _wait_until_listening(plan.nodes, run)


def _start_one(sshd: str, node: LabNode, run: RunDir) -> subprocess.Popen[bytes]:
    argv = [sshd, "-f", str(run.sshd_config), "-E", str(run.of_node(node.name, "log"))]
    argv += ["-o", f"PidFile={run.of_node(node.name, 'pid')}"]
    for address in node.addresses:
        argv += ["-o", f"ListenAddress={address}"]
    return namespaces.inside(
        node.namespace,
        lambda: subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us
        ),
    )


def _wait_until_listening(nodes: Sequence[LabNode], run: RunDir) -> None:
    """sshd writes its pid once its sockets listen, and complains of any that does not."""
    deadline = monotonic() + _START_S
    waiting = list(nodes)
    while waiting:
        ready = [n for n in waiting if run.of_node(n.name, "pid").exists()]
        for node in ready or waiting:
            words = _last_words(node, run)
            if "ind to port" in words or "fatal" in words:
                raise LabError(f"{node.name}: sshd cannot listen: {words}")
        if monotonic() > deadline:
            raise LabError(
                f"{waiting[0].name}: sshd did not start within {_START_S:g} s: "
                f"{_last_words(waiting[0], run) or 'it says nothing'}"
            )
        waiting = [n for n in waiting if n not in ready]
        if waiting:
            sleep(_POLL_S)


def _last_words(node: LabNode, run: RunDir) -> str:
    try:
        lines = run.of_node(node.name, "log").read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1].strip() if lines else ""


def _use_pam() -> str:
    """PAM costs time and runs this machine's session hooks, but without it sshd lets no locked
    account in, not even with a key: so it is on where root's password is locked."""
    try:
        entries = Path("/etc/shadow").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return "no"
    return "yes" if any(entry.startswith("root:!") for entry in entries) else "no"


def _run(argv: Sequence[str], what: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise LabError(f"cannot {what}: {last[0]}")
