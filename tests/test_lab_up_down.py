"""A lab comes up whole or not at all, and leaves no trace, whoever kills it when."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from labs import TIMEOUT_S, listen, neighbour_limits, remains, ssh

from preflight import inventory
from preflight.errors import ExitCode, LabError
from preflight.lab import lab, namespaces, network, topology

if TYPE_CHECKING:
    from preflight.lab import Lab

LabName = Callable[[], str]


@pytest.mark.lab
def test_up_and_down_leave_no_trace(lab_name: LabName) -> None:
    name = lab_name()
    devices = {d for _, d in socket.if_nameindex()}
    with lab.Lab.up(name, nodes=3, racks=3) as up:
        assert len([r for r in remains(name) if r.startswith(f"preflight-{name}-")]) == 4
        assert oct(up.run_dir.path.stat().st_mode & 0o777) == "0o700"
    assert remains(name) == []
    assert {d for _, d in socket.if_nameindex()} - devices == set()
    up.down()  # once more is no error


@pytest.mark.lab
def test_the_last_lab_leaves_nothing_in_run(lab4: "Lab", lab_name: LabName) -> None:
    """In a mount namespace with a /run of its own, where a lab is the first and the last."""
    script = f"""
import os
from preflight.lab import Lab
def mounts():
    # By number: where another lab goes down meanwhile, its namespaces' lines change, or go.
    return {{line.split()[0] for line in open("/proc/self/mountinfo")}}
before = mounts()
with Lab.up({lab_name()!r}, nodes=2, racks=1):
    assert os.path.exists("/run/preflight-lab/machine.json")
print(os.listdir("/run"), mounts() <= before)
"""
    shell = 'mount -t tmpfs none /run && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", shell, "sh", sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("['sshd'] True\n", "")


@pytest.mark.lab
def test_two_labs_live_side_by_side(lab4: "Lab", lab_name: LabName) -> None:
    with lab.Lab.up(lab_name(), nodes=2, racks=2) as other:
        assert other.plan.slot != lab4.plan.slot
        for up in (lab4, other):
            assert ssh(up, "n2", "true").returncode == 0
        found = [up.name for up in lab.Lab.all()]
        assert {lab4.name, other.name} <= set(found)
    assert ssh(lab4, "n2", "true").returncode == 0


@pytest.mark.lab
def test_up_twice_is_an_error_and_does_no_harm(lab4: "Lab") -> None:
    with pytest.raises(LabError, match=f"lab '{lab4.name}' is up already: preflight lab down"):
        lab.Lab.up(lab4.name)
    assert lab.Lab.find(lab4.name).plan == lab4.plan
    assert ssh(lab4, "n1", "true").returncode == 0


@pytest.mark.lab
@pytest.mark.parametrize(("mtu", "ipv6"), [(9000, True), (1280, True), (576, False)])
def test_every_device_has_the_mtu_asked_for(lab_name: LabName, mtu: int, ipv6: bool) -> None:
    with lab.Lab.up(lab_name(), nodes=2, racks=2, mtu=mtu, ipv6=ipv6) as up:
        n1, n2 = (node.addresses[0] for node in up.nodes)

        def send_whole(size: int) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: never fragment
                sock.sendto(bytes(size - 28), (n2, 7000))

        with up.call("n2", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver:
            receiver.bind((n2, 7000))
            receiver.settimeout(TIMEOUT_S)
            up.call("n1", lambda: send_whole(mtu))
            assert len(receiver.recv(65536)) == mtu - 28
        with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
            up.call("n1", lambda: send_whole(mtu + 1))
        assert Path("/sys/class/net", up.plan.uplink.device, "mtu").read_text() == f"{mtu}\n"
        families = up.run("n1", "cat", "/proc/net/if_inet6", check=False).stdout
        assert bool(families.strip()) is ipv6
        assert ssh(up, "n1", "true").returncode == 0
        assert n1 in inventory.load(up.inventory_path).nodes[0].addresses


@pytest.mark.lab
def test_down_ends_what_runs_inside_even_if_it_will_not(lab_name: LabName) -> None:
    up = lab.Lab.up(lab_name(), nodes=2, racks=1)
    deaf = "import signal as s; s.signal(15, s.SIG_IGN); print('deaf', flush=True); s.pause()"
    with (
        up.popen("n1", sys.executable, "-c", deaf, stdout=subprocess.PIPE) as stubborn,
        up.popen("n2", "sleep", "1000") as polite,
        up.popen("fw", "sleep", "1000", start_new_session=True) as detached,
    ):
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"deaf\n"
        try:
            up.down()
            assert [p.poll() for p in (stubborn, polite, detached)] == [-9, -15, -15]
        finally:
            for process in (stubborn, polite, detached):
                process.kill()
    assert remains(up.name) == []


@pytest.mark.lab
def test_ctrl_c_does_not_stop_down_halfway(
    lab_name: LabName, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = lab.Lab.up(lab_name(), nodes=2)
    remove = namespaces.remove

    def impatient(name: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(name)

    monkeypatch.setattr(namespaces, "remove", impatient)
    with pytest.raises(KeyboardInterrupt):
        up.down()
    assert remains(up.name) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


STAGES = ["namespaces.create", "network.build", "network._build_uplink", "sshd.write_keys"]
STAGES += ["sshd.start", "sshd._wait_until_listening", "rundir.RunDir.write_inventory"]


def break_up(name: str, stage: str, what: str) -> subprocess.CompletedProcess[str]:
    """`Lab.up` in a process of its own in which `what` happens when it comes to `stage`."""
    script = f"""
import os, signal
from preflight.lab import Lab, namespaces, network, rundir, sshd
def breaks(*args, **kwargs):
    {what}
{stage} = breaks
Lab.up({name!r}, nodes=6, racks=2)
"""
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.lab
@pytest.mark.parametrize("stage", STAGES)
def test_down_cleans_up_after_an_up_that_was_killed(lab_name: LabName, stage: str) -> None:
    name = lab_name()
    killed = break_up(name, stage, "os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.returncode == -signal.SIGKILL
    assert remains(name) != []
    with pytest.raises(LabError, match="is up already"):
        lab.Lab.up(name)
    assert lab.take_down(name)
    assert remains(name) == []
    assert not lab.take_down(name)


@pytest.mark.lab
def test_down_needs_none_of_the_lab_s_files(lab_name: LabName) -> None:
    up = lab.Lab.up(lab_name(), nodes=2, racks=1)
    for file in up.run_dir.path.iterdir():
        file.unlink()
    up.run_dir.path.rmdir()
    with pytest.raises(LabError, match="is up already"):
        lab.Lab.up(up.name)
    assert lab.take_down(up.name)
    assert remains(up.name) == []


@pytest.mark.lab
@pytest.mark.parametrize("stage", STAGES)
def test_an_up_that_fails_takes_down_what_it_made(lab_name: LabName, stage: str) -> None:
    name = lab_name()
    failed = break_up(name, stage, "raise OSError(28, 'No space left on device')")
    assert f"LabError: cannot build lab '{name}': No space left on device" in failed.stderr
    assert remains(name) == []


@pytest.mark.lab
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_up_takes_down_what_it_made(lab_name: LabName, number: str) -> None:
    name = lab_name()
    what = f"os.kill(os.getpid(), signal.{number}); signal.pause()"
    script = f"""
import os, signal
from preflight.cli.lab import app
from preflight.lab import sshd
def breaks(*args, **kwargs):
    {what}
sshd.start = breaks
app(["up", "--name", {name!r}])
"""
    argv = [sys.executable, "-c", script]
    stopped = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert stopped.returncode == ExitCode.INTERRUPTED
    assert remains(name) == []


@pytest.mark.lab
def test_a_node_whose_sshd_cannot_listen_is_named(
    lab_name: LabName, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = lab_name()
    build = network.build

    def build_and_take_the_port(plan: topology.LabPlan) -> None:
        build(plan)
        taken.append(namespaces.inside(plan.nodes[2].namespace, lambda: listen("::", 22)))

    taken: list[socket.socket] = []
    monkeypatch.setattr(network, "build", build_and_take_the_port)
    with pytest.raises(LabError, match=r"^n3: sshd cannot listen: .*22"):
        lab.Lab.up(name, nodes=4)
    taken[0].close()
    assert remains(name) == []


@pytest.mark.lab
def test_limits_stay_raised_while_any_lab_is_up(lab4: "Lab", lab_name: LabName) -> None:
    before = neighbour_limits()
    lab.Lab.up(lab_name(), nodes=2).down()
    assert neighbour_limits() == before
