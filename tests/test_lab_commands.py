"""`preflight lab …`, the demo, and what a lab needs from its machine."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from labs import remains
from typer.testing import CliRunner

from preflight import inventory
from preflight.cli.lab import app
from preflight.errors import ExitCode, LabError
from preflight.lab import demo, lab, machine, network, rundir, sshd

if TYPE_CHECKING:
    from preflight.lab import Lab

LabName = Callable[[], str]
cli = CliRunner()


def test_anybody_but_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for argv, command in (
        (["up"], "up"),
        (["down"], "down"),
        (["status"], "status"),
        (["demo"], "demo"),
    ):
        error = cli.invoke(app, argv).exception
        assert isinstance(error, LabError)
        assert str(error) == f"preflight lab needs root: sudo preflight lab {command}"
        assert error.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("tool", "package"),
    [("sshd", "openssh-server"), ("nft", "nftables"), ("ssh-keygen", "openssh-client")],
)
def test_a_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tool: str, package: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(sshd, "_SBIN", "/nonexistent")
    with pytest.raises(LabError, match=f"^{tool} is missing: apt install {package}$"):
        sshd.find_tool(tool)


@pytest.mark.lab
def test_a_route_in_the_way_is_named(lab_name: LabName, monkeypatch: pytest.MonkeyPatch) -> None:
    vpn = ip_network("198.18.0.0/15")
    monkeypatch.setattr(network, "routes", lambda: iter([(vpn, f"{vpn} dev tun0")]))
    with pytest.raises(LabError, match=r"route 198\.18\.0\.0/15 dev tun0 is in the way"):
        lab.Lab.up(lab_name())
    assert rundir.BASE.exists() == bool(rundir.names())


@pytest.mark.lab
def test_the_lab_s_own_routes_are_seen_as_taken(lab4: "Lab") -> None:
    routes = {str(prefix): words for prefix, words in network.routes()}
    for prefix in lab4.plan.prefixes:
        assert routes[str(prefix)] == f"{prefix} dev pf-{lab4.name}"


def test_neighbour_limits_are_raised_once_and_put_back(tmp_path: Path) -> None:
    root = os.geteuid() == 0
    if not root:
        pytest.skip("makes /run/netns")
    proc_sys, record = tmp_path / "sys", tmp_path / "machine.json"
    low, high = "net/ipv4/neigh/default/gc_thresh3", "net/ipv4/neigh/default/gc_thresh1"
    for key, value in ((low, "1024"), (high, "999999")):
        (proc_sys / key).parent.mkdir(parents=True, exist_ok=True)
        (proc_sys / key).write_text(f"{value}\n", encoding="ascii")
    machine.prepare(record, proc_sys)
    assert (proc_sys / low).read_text() == str(machine.SYSCTLS[low])
    assert (proc_sys / high).read_text() == "999999\n"
    assert json.loads(record.read_text())["sysctls"] == {low: 1024}
    machine.prepare(record, proc_sys)  # the second lab: the former value is not forgotten
    machine.restore(record, proc_sys)
    assert (proc_sys / low).read_text() == "1024"
    assert not record.exists()
    machine.prepare(record, proc_sys)
    (proc_sys / low).write_text("4096", encoding="ascii")
    machine.restore(record, proc_sys)
    assert (proc_sys / low).read_text() == "4096"


@pytest.mark.lab
def test_the_commands_and_what_they_tell_to_try(lab_name: LabName) -> None:
    name = lab_name()
    made = cli.invoke(app, ["up", "--name", name, "--nodes", "3", "--no-ipv6"])
    assert made.exit_code == 0
    path = Path(made.stdout.strip())
    assert path == rundir.of(name).inventory
    assert len(inventory.load(path).nodes) == 3
    hints = dict(line.split(":  ") for line in made.stderr.splitlines())
    assert hints["check it"].endswith(f"preflight check -i {path}")
    assert hints["end it"].endswith(f"preflight lab down --name {name}")
    subprocess.run(shlex.split(hints["break it"]), check=True, timeout=60)
    assert "udp dport 6081 drop" in lab.Lab.find(name).run("n1", "nft", "list", "ruleset").stdout

    status = cli.invoke(app, ["status"]).stdout
    mine = status[status.index(f"lab {name}:") :]
    assert mine.startswith(f"lab {name}: 3 nodes, 2 racks, MTU 1500\n  n1  rack a  198.")
    login = next(line for line in mine.splitlines() if "log in" in line).split(":", 1)[1]
    subprocess.run([*shlex.split(login), "true"], check=True, timeout=60)

    ended = cli.invoke(app, ["down", "--name", name])
    assert (ended.exit_code, ended.stderr) == (0, f"lab {name} is down\n")
    again = cli.invoke(app, ["down", "--name", name])
    assert (again.exit_code, again.stderr) == (0, f"no lab {name} was up\n")


@pytest.mark.lab
@pytest.mark.parametrize(
    ("found", "code"), [(ExitCode.BAD, ExitCode.OK), (ExitCode.OK, ExitCode.BUG)]
)
def test_the_demo_breaks_what_it_says_and_judges_check(
    lab_name: LabName,
    monkeypatch: pytest.MonkeyPatch,
    found: ExitCode,
    code: ExitCode,
) -> None:
    name, words = lab_name(), list[str]()

    def check(path: Path) -> int:
        up = lab.Lab.find(name)
        assert path == up.inventory_path
        assert "udp dport 6081" in up.run("n2", "nft", "list", "ruleset").stdout
        assert up.run("fw", "nft", "list", "ruleset").stdout.count("tcp dport 4240") == 2
        return found

    monkeypatch.setattr(demo, "_check", check)
    assert demo.demo(name, nodes=4, racks=2, keep=False, say=words.append) == code
    assert remains(name) == []
    assert "rack a (n1 n2), rack b (n3 n4)" in words[0]
    assert "host firewall of n2 drops UDP 6081" in words[1]
    assert "between racks a and b drops TCP 4240" in words[1]


@pytest.mark.lab
def test_the_demo_keeps_its_lab_on_request(
    lab_name: LabName, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, words = lab_name(), list[str]()
    monkeypatch.setattr(demo, "_check", lambda path: 1)
    demo.demo(name, nodes=2, racks=2, keep=True, say=words.append)
    assert f"preflight lab down --name {name}" in words[2]
    assert lab.take_down(name)


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_ends_check_and_takes_its_lab_down(
    tmp_path: Path, number: signal.Signals
) -> None:
    """`check` is stood in for by a program that tells when it runs, and of the Ctrl-C it gets."""
    check = tmp_path / "python"
    check.write_text(
        f"#!{sys.executable}\n"
        "import signal\n"
        "print('running', flush=True)\n"
        "try:\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n",
        encoding="utf-8",
    )
    check.chmod(0o755)
    stand_in = f"import sys; sys.executable = {str(check)!r}"
    script = f"{stand_in}; from preflight.cli.lab import app; app()"
    argv = [sys.executable, "-c", script, "demo", "--nodes", "2"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "running\n"
        assert remains(f"demo-{run.pid}") != []
        run.send_signal(number)
        out, _ = run.communicate(timeout=60)
    assert (out, run.returncode) == ("interrupted\n", ExitCode.INTERRUPTED)
    assert remains(f"demo-{run.pid}") == []


def test_a_demo_needs_two_racks() -> None:
    with pytest.raises(LabError, match="--racks 2 or more"):
        demo.demo("x", nodes=4, racks=1, keep=False, say=lambda words: None)
