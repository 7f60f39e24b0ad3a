"""`preflight check` as a user runs it: a process, real SSH, real firewalls."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from preflight.lab import Lab

pytestmark = pytest.mark.lab

DROP_GENEVE = """table inet test { chain input { type filter hook input priority 0;
udp dport 6081 drop
}
}"""
REFUSE_LOGINS = """table inet test { chain input { type filter hook input priority 0;
tcp dport 22 reject with tcp reset
}
}"""
COUNT_PROBES = """table inet test { chain forward { type filter hook forward priority -200;
udp dport 6081 counter
tcp dport 4240 counter
icmp type echo-request counter
icmpv6 type echo-request counter
}
}"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(f"c{os.getpid()}"[:12], nodes=4, racks=2) as lab:
        yield lab


@pytest.fixture(autouse=True)
def no_rules(lab: Lab) -> Iterator[None]:
    yield
    for where in ("fw", *(node.name for node in lab.nodes)):
        lab.drop_firewall(where)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "preflight", *map(str, arguments)]


def preflight(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=90, check=False, **options
    )


def check(
    lab: Lab, *arguments: object, inventory: Path | None = None
) -> tuple[int, dict[str, Any]]:
    path = inventory or lab.inventory_path
    done = preflight("check", "-i", path, "--format", "json", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def edited(lab: Lab, folder: Path, **by_node: dict[str, Any]) -> Path:
    """The lab's inventory with keys of some nodes changed."""
    tree = yaml.safe_load(lab.inventory_path.read_text("utf-8"))
    for node in tree["nodes"]:
        node.update(by_node.get(node["name"], {}))
    path = folder / "nodes.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return path


def verdicts(snapshot: dict[str, Any]) -> dict[tuple[str, str, str, str], str]:
    return {
        (r["source"], r["destination"], r["probe"], r["family"]): r["verdict"]
        for r in snapshot["results"]
    }


def test_a_clean_lab_is_open_in_every_cell(lab: Lab) -> None:
    code, snapshot = check(lab)
    found = verdicts(snapshot)
    assert code == 0
    assert len(found) == 4 * 3 * 3 * 2
    assert set(found.values()) == {"open"}
    assert snapshot["schema"] == "preflight/snapshot/1"
    assert snapshot["phase"] == "before"
    assert {n["agent"]["state"] for n in snapshot["nodes"]} == {"ok"}
    for result in snapshot["results"]:
        assert result["leg"] is result["place"] is result["cause"] is result["rejected_by"] is None
        assert (result["rtt_ms"] is None) == (result["probe"] == "geneve")
        assert list(result["evidence"]) == [
            "sent", "left", "arrived", "accepted", "answered", "returned", "received",
        ]  # fmt: skip
    assert set(snapshot["timings"]) >= {"connect_s", "probe_s", "total_s"}


def test_a_host_firewall_is_found_and_costs_exit_code_1(lab: Lab) -> None:
    lab.nft("n2", DROP_GENEVE)
    code, snapshot = check(lab)
    assert code == 1
    for result in snapshot["results"]:
        hit = (result["destination"], result["probe"]) == ("n2", "geneve")
        place = ("blocked", "forward", "destination", "dropped") if hit else ("open",) + (None,) * 3
        assert tuple(result[k] for k in ("verdict", "leg", "place", "cause")) == place


def test_table_on_a_pipe_has_no_escapes_and_results_are_apart_from_progress(lab: Lab) -> None:
    lab.nft("n2", DROP_GENEVE)
    done = preflight("check", "-i", lab.inventory_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "connecting" in done.stderr
    assert "connecting:" not in done.stdout
    assert "→ n2" in done.stdout
    coloured = preflight("check", "-i", lab.inventory_path, "--colour", "always", "--quiet")
    assert "\x1b[" in coloured.stdout
    assert coloured.stderr == ""


def test_filters_limit_the_pairs(lab: Lab) -> None:
    _, snapshot = check(lab, "--source", "n1", "--destination", "n3", "--probe", "geneve")
    assert set(verdicts(snapshot)) == {("n1", "n3", "geneve", f) for f in ("ipv4", "ipv6")}
    _, snapshot = check(lab, "--label", "rack=a", "--family", "ipv4", "--probe", "echo")
    pairs = {(s, d) for s, d, _, _ in verdicts(snapshot)}
    assert pairs == {(s, d) for s in NAMES for d in NAMES if s != d} - {("n3", "n4"), ("n4", "n3")}


NAMES = ("n1", "n2", "n3", "n4")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--source", "n9"], "--source n9: no such node"),
        (["--probe", "vxlan"], "--probe vxlan: the inventory has no such probe"),
        (["--label", "rack"], "--label rack: write it as key=value"),
        (["--label", "rack=z"], "--label rack=z: no node has it; rack is a, b"),
        (["--local", "n9"], "--local n9: the inventory has no such node"),
        (["--source", "n1", "--destination", "n1"], "no pair of nodes is left"),
        (["--output", "/nonexistent/x.json"], "/nonexistent"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    lab: Lab, arguments: list[str], says: str
) -> None:
    done = preflight("check", "-i", lab.inventory_path, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_usage_errors_of_the_command_line_itself() -> None:
    for arguments in (
        ["check"],
        ["check", "-i", "x", "--rate", "0"],
        ["nonsense"],
        ["check", "-x"],
    ):
        done = preflight(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
    assert preflight("check", "-i", "/nonexistent.yaml").returncode == 2
    assert preflight("--version").stdout.startswith("preflight ")


def test_dry_run_prints_every_flow_and_sends_nothing(lab: Lab) -> None:
    lab.nft("fw", COUNT_PROBES)
    done = preflight("check", "-i", lab.inventory_path, "--dry-run")
    assert done.returncode == 0
    flows = [line for line in done.stdout.splitlines() if " -> " in line]
    assert len(flows) == 4 * 3 * 3 * 2
    assert "5,000 packets/s" in done.stdout
    rules = lab.run("fw", "nft", "list", "table", "inet", "test").stdout
    assert re.findall(r"packets (\d+)", rules) == ["0"] * 4


def test_what_a_dry_run_announces_is_what_a_run_sends(lab: Lab) -> None:
    announced = preflight("check", "-i", lab.inventory_path, "--dry-run").stdout
    lab.nft("fw", COUNT_PROBES)
    check(lab)
    rules = lab.run("fw", "nft", "list", "table", "inet", "test").stdout
    counted = [int(n) for n in re.findall(r"packets (\d+)", rules)]
    between = [  # only what crosses racks meets the router
        (line, int(line.split()[-2]))
        for line in announced.splitlines()
        if " -> " in line and (line.split()[0] in "n1 n2") != (line.split()[3] in "n1 n2")
    ]
    expected = [
        sum(n for line, n in between if "udp/6081" in line),
        sum(n for line, n in between if "tcp/4240" in line),
        sum(n for line, n in between if "icmp echo" in line and ":" not in line),
        sum(n for line, n in between if "icmp echo" in line and ":" in line),
    ]
    assert counted == expected


def test_a_node_that_cannot_be_used_is_a_row_and_the_others_go_on(lab: Lab, tmp_path: Path) -> None:
    lab.nft("n2", REFUSE_LOGINS)
    inventory = edited(lab, tmp_path, n3={"python": "/nonexistent/python3"})
    code, snapshot = check(lab, "--family", "ipv4", inventory=inventory)
    assert code == 3
    states = {n["name"]: n["agent"] for n in snapshot["nodes"]}
    assert states["n1"]["state"] == states["n4"]["state"] == "ok"
    assert states["n2"]["state"] == "unreachable"
    assert states["n3"]["state"] == "no-python"
    assert "/nonexistent/python3" in states["n3"]["reason"]
    for (source, destination, _, _), verdict in verdicts(snapshot).items():
        both = {source, destination} == {"n1", "n4"}
        assert verdict == ("open" if both else "unknown"), (source, destination)


def test_no_node_at_all_is_exit_code_4(lab: Lab, tmp_path: Path) -> None:
    broken = {name: {"python": "/nonexistent/python3"} for name in NAMES}
    code, snapshot = check(lab, inventory=edited(lab, tmp_path, **broken))
    assert code == 4
    assert set(verdicts(snapshot).values()) == {"unknown"}


def test_a_run_that_measured_nothing_replaces_no_snapshot(lab: Lab, tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text("good")
    broken = {name: {"python": "/nonexistent/python3"} for name in NAMES}
    inventory = edited(lab, tmp_path, **broken)
    done = preflight("check", "-i", inventory, "-q", "--output", good)
    assert done.returncode == 4
    assert good.read_text() == "good"
    assert f"preflight: {good}: left as it is: nothing was measured in this run\n" in done.stderr
    new = tmp_path / "new.json"
    done = preflight("check", "-i", inventory, "-q", "--output", new)
    assert done.returncode == 4
    assert json.loads(new.read_text())["results"]
    assert "left as it is" not in done.stderr


def test_interrupted_before_it_measured_it_replaces_no_snapshot(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text("good")
    with subprocess.Popen(
        command("check", "-i", lab.inventory_path, "--output", path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the connections are being made
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, first
    assert path.read_text() == "good"
    assert f"{path}: left as it is: nothing was measured in this run\n" in err
    assert "interrupted" in out.lower()


def test_a_row_measured_alone_replaces_a_snapshot(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    path.write_text("old")
    wanted = command("check", "-i", lab.inventory_path, "--local", "n1", "-q", "--output", path)
    assert lab.run("n1", *wanted, check=False).returncode == 3
    assert json.loads(path.read_text())["results"]


def test_an_address_that_is_not_on_its_node(lab: Lab, tmp_path: Path) -> None:
    host = lab.node("n3").addresses[0]
    inventory = edited(lab, tmp_path, n3={"address": "198.19.255.77", "host": host})
    code, snapshot = check(lab, "--family", "ipv4", inventory=inventory)
    assert code == 3
    agent = snapshot["nodes"][2]["agent"]
    assert agent["state"] == "wrong-address"
    assert "198.19.255.77" in agent["reason"]


def test_local_probes_one_row_and_knows_nothing_of_the_rest(lab: Lab) -> None:
    done = lab.run(
        "n1",
        *command("check", "-i", lab.inventory_path, "--local", "n1", "--format", "json"),
        check=False,
    )
    snapshot = json.loads(done.stdout)
    assert done.returncode == 3
    assert {n["name"]: n["agent"]["state"] for n in snapshot["nodes"]} == {
        "n1": "ok", "n2": "none", "n3": "none", "n4": "none",
    }  # fmt: skip
    assert set(verdicts(snapshot).values()) == {"unknown"}
    mine = [r for r in snapshot["results"] if r["source"] == "n1"]
    assert all(r["evidence"]["sent"] == r["evidence"]["left"] > 0 for r in mine)
    assert {r["cause"] for r in snapshot["results"]} == {"no-agent"}


def test_strict_makes_the_recommended_required(lab: Lab) -> None:
    lab.nft("n2", DROP_GENEVE.replace("udp dport 6081", "tcp dport 4240"))
    assert preflight("check", "-i", lab.inventory_path, "-q").returncode == 0
    assert preflight("check", "-i", lab.inventory_path, "-q", "--strict").returncode == 1


def test_the_saved_snapshot_is_what_json_prints(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    done = preflight("check", "-i", lab.inventory_path, "--format", "json", "--output", path)
    assert done.returncode == 0
    assert json.loads(path.read_text("utf-8")) == json.loads(done.stdout)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["before.json"]


def test_interrupted_it_keeps_what_it_measured(lab: Lab, tmp_path: Path) -> None:
    lab.nft("n2", DROP_GENEVE)  # so that there is a second look, whose timeout is long
    path = tmp_path / "cut.json"
    with subprocess.Popen(
        command("check", "-i", lab.inventory_path, "--output", path, "--timeout", "50"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "second look" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in out.lower()
    found = verdicts(json.loads(path.read_text("utf-8")))
    for (_, destination, probe, _), verdict in found.items():
        assert verdict == ("unknown" if (destination, probe) == ("n2", "geneve") else "open")
    for node in lab.nodes:
        assert agents_in(lab, node.name) == []


def agents_in(lab: Lab, node: str) -> list[str]:
    """The command lines of agents that run in a node's namespace."""
    space = lab.call(node, lambda: os.readlink("/proc/thread-self/ns/net"))
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            if "-IBS" in line and os.readlink(process / "ns/net") == space:
                found.append(line)
        except OSError:
            continue
    return found


def test_two_runs_side_by_side_do_not_disturb_each_other(lab: Lab) -> None:
    runs = [
        subprocess.Popen(
            command("check", "-i", lab.inventory_path, "--format", "json", "-q"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for run in runs:
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        assert set(verdicts(json.loads(out)).values()) == {"open"}


def test_passwords_are_asked_for_on_the_terminal_and_stay_there(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    arguments = ["check", "-i", lab.inventory_path, "-q", "-K", "--output", path]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, command(*arguments))
    shown = b""
    while piece := read_terminal(terminal):
        shown += piece
        if shown.endswith(b"sudo password: "):
            os.write(terminal, b"Secr3t-pw\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"72 open" in shown
    assert b"Secr3t" not in shown + path.read_bytes()


def read_terminal(terminal: int) -> bytes:
    ready, _, _ = select.select([terminal], [], [], 30)
    try:
        return os.read(terminal, 4096) if ready else b""
    except OSError:  # the other end is closed
        return b""


def test_without_a_terminal_nothing_can_be_asked(lab: Lab) -> None:
    done = preflight("check", "-i", lab.inventory_path, "--ask-pass", start_new_session=True)
    assert done.returncode == 2
    assert "no terminal to ask on" in done.stderr
    assert len(done.stderr.splitlines()) == 1
