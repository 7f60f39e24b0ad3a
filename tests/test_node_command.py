"""`preflight node` as a user runs it: a process, real SSH, real nodes."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from facts import found, good, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from netns import NetnsConnector
from test_agent_kit import Quiet

from preflight.core.facts.inspection import Inspection
from preflight.core.facts.parse import parse
from preflight.core.facts.risk import Clock, Risk
from preflight.core.model import HEALTH, AgentInfo, AgentState, Inventory, Node, Phase, Severity
from preflight.crew.gather import _compare
from preflight.errors import ExitCode
from preflight.lab import Lab
from preflight.report import node as sheet
from preflight.report.text import cells
from preflight.runs.node import inspect

REFUSE_LOGINS = """table inet test { chain input { type filter hook input priority 0;
tcp dport 22 reject with tcp reset
}
}"""
COUNT = """table inet test { chain output { type filter hook output priority 0;
tcp sport 22 accept
meta l4proto { tcp, udp, icmp } counter
}
}"""


def preflight(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "preflight", *map(str, arguments)]
    env = {**os.environ, "COLUMNS": "80", **options.pop("env", {})}
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=90, check=False, env=env, **options
    )


def inventory(lab: Lab, folder: Path, **by_node: dict[str, Any]) -> Path:
    """The lab's, without a tunnel: this machine's kernel may well lack GENEVE."""
    tree = yaml.safe_load(lab.inventory_path.read_text("utf-8"))
    tree["probes"] = ["health", "echo"]
    for node in tree["nodes"]:
        node.update(by_node.get(node["name"], {}))
    path = folder / "nodes.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return path


def asked(*arguments: object) -> tuple[int, dict[str, Any]]:
    done = preflight("node", *arguments, "--format", "json", "--quiet")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.lab
def test_nodes_in_order(lab4: Lab, tmp_path: Path) -> None:
    code, told = asked("-i", inventory(lab4, tmp_path))
    assert code == 0
    assert told["schema"] == "preflight/node/1"
    assert told["phase"] == "before"
    assert told["risks"] == []
    assert [n["name"] for n in told["nodes"]] == ["n1", "n2", "n3", "n4"]
    for node in told["nodes"]:
        assert node["agent"]["state"] == "ok"
        assert abs(node["clock"]["offset_s"]) <= node["clock"]["uncertainty_s"] + 0.05
        facts = node["facts"]
        assert [link["name"] for link in facts["links"]] == ["lo", "eth0"]
        assert facts["sources"]["links"].startswith("pyroute2 ")
        assert facts["sources"]["sockets"].startswith("psutil ")
        assert facts["neighbours"] is None
        assert facts["unknown"]["neighbours"]
        peers = [p for w in facts["ways"] if w["family"] == "ipv4" for p in w["peers"]]
        assert sorted([*peers, node["name"]]) == ["n1", "n2", "n3", "n4"]


@pytest.mark.lab
def test_what_is_in_the_way_is_told_first_and_by_the_exit_code(lab4: Lab, tmp_path: Path) -> None:
    path = inventory(lab4, tmp_path)
    prefix = f"{lab4.nodes[0].addresses[0]}/32"
    code, told = asked("n3", "-i", path, "--pod-cidr", prefix, "--service-cidr", "fd99::/64")
    assert code == 1
    assert [n["name"] for n in told["nodes"]] == ["n3"]
    (risk,) = told["risks"]
    assert (risk["key"], risk["severity"]) == ("range-holds-node", "required")
    assert risk["nodes"] == ["n1"]
    done = preflight("node", "n1", "-i", path, "--pod-cidr", prefix)
    assert done.returncode == 1
    assert done.stdout.index("Must be changed") < done.stdout.index("\nn1  ")
    assert "reading facts" in done.stderr
    assert all(cells(line) <= 80 for line in done.stdout.splitlines())


@pytest.mark.lab
def test_nothing_but_ssh_is_sent(lab4: Lab, tmp_path: Path) -> None:
    path = inventory(lab4, tmp_path)
    for node in lab4.nodes:
        lab4.nft(node.name, COUNT)
    assert preflight("node", "-i", path).returncode == 0
    for node in lab4.nodes:
        rules = lab4.run(node.name, "nft", "list", "table", "inet", "test").stdout
        assert re.findall(r"packets (\d+)", rules) == ["0"]


@pytest.mark.lab
def test_a_node_that_tells_nothing(lab4: Lab, tmp_path: Path) -> None:
    lab4.nft("n2", REFUSE_LOGINS)
    path = inventory(lab4, tmp_path, n3={"python": "/nonexistent/python3"})
    code, told = _noisy("-i", path)
    assert code == 3
    states = {n["name"]: (n["agent"]["state"], n["facts"] is None) for n in told["nodes"]}
    assert states == {
        "n1": ("ok", False), "n2": ("unreachable", True), "n3": ("no-python", True),
        "n4": ("ok", False),
    }  # fmt: skip
    done = preflight("node", "n3", "-i", path)
    assert done.returncode == 4
    assert "Nothing is known of 1 node." in done.stdout
    assert "/nonexistent/python3" in " ".join(done.stdout.split())


def _noisy(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Notes about nodes that cannot be used are not progress."""
    done = preflight("node", *arguments, "--format", "json", "--quiet")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pod-cidr", "10.0.0.5/16"], "--pod-cidr 10.0.0.5/16: an address, not a range"),
        (["--service-cidr", "services"], "--service-cidr services: a range has a prefix length"),
        (["n1"], "n1: name the inventory too: -i FILE"),
        (["--local", "n1"], "--local: name the inventory too: -i FILE"),
        (["n9", "-i", "{inventory}"], "n9: the inventory has no such node"),
        (["-i", "/nonexistent.yaml"], "/nonexistent.yaml"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text("nodes: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.2}]\n")
    done = preflight("node", *(a.format(inventory=path) for a in arguments))
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_this_machine_without_an_inventory() -> None:
    done = preflight("node", "--format", "json", "--quiet")
    told = json.loads(done.stdout)
    (node,) = told["nodes"]
    assert node["facts"]["kernel"] == os.uname().release
    required = any(risk["severity"] == "required" for risk in told["risks"])
    assert done.returncode == (1 if required else 0)
    assert "\x1b[" in preflight("node", "--colour", "always").stdout


def test_colour_only_on_a_terminal() -> None:
    main, side = pty.openpty()
    argv = [sys.executable, "-m", "preflight", "node", "--quiet"]
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen(argv, stdout=side, stderr=side, env=env) as process:
        os.close(side)
        printed = b""
        while select.select([main], [], [], 60)[0]:
            try:
                piece = os.read(main, 65536)
            except OSError:
                break
            printed += piece
        process.wait(60)
    os.close(main)
    assert b"\x1b[" in printed


@pytest.mark.lab
def test_a_login_without_privileges_still_tells_something(lab4: Lab) -> None:
    nodes = tuple(Node(n.name, tuple(map(str, n.addresses)), n.name) for n in lab4.nodes)
    plain = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "/usr/bin/python3",
    ]
    connectors = {n.name: NetnsConnector(lab4.popen, plain) for n in nodes}
    connectors["n2"] = NetnsConnector(lab4.popen)
    known = Inventory("x", nodes, (HEALTH,))
    told = inspect(known, [0, 1], Phase.BEFORE, (), (), lambda n: connectors[n.name], Quiet())
    assert [agent.state for agent in told.agents[:2]] == ["no-privilege", "ok"]
    assert told.exit_code is ExitCode.OK
    first, second = told.facts[0], told.facts[1]
    assert first is not None
    assert second is not None
    assert len(first.ways or ()) == len(second.ways or ()) > 0
    assert "root" in first.unknown["nftables"]
    assert second.nftables == ()
    assert "1 node could not be read in full" in " ".join(page(told).split())


# --- the page ------------------------------------------------------------------------------------


def inspection(risks: Sequence[Risk] = (), count: int = 3, **other: Any) -> Inspection:
    nodes = [Node(f"n{n + 1}", (f"10.0.1.{11 + n}",), "h") for n in range(count)]
    plain: dict[str, Any] = {
        "nodes": nodes,
        "asked": range(count),
        "agents": [AgentInfo(AgentState.OK, None, "3.9.1", "5.15")] * count,
        "facts": [good(n + 1, peers=count) for n in range(count)],
        "clocks": {0: Clock(0.0001, 0.0004), 1: Clock(-5.2, 0.01)},
        "risks": risks,
        "phase": Phase.BEFORE,
    }
    return Inspection(**{**plain, **other})


def page(told: Inspection, width: int = 80, *, color: bool = False) -> str:
    class File(list[str]):
        encoding = "utf-8"

        def write(self, text: str) -> None:
            self.append(text)

    file = File()
    sheet.render(told, width=width, color=color, file=file)  # type: ignore[arg-type]
    return "".join(file)


def test_the_page_of_nodes_in_order() -> None:
    text = page(inspection())
    assert text.startswith("What is known of 3 nodes, before Cilium\n")
    assert text.endswith("Nothing known of these nodes stands in Cilium's way.\n")
    text = " ".join(text.split())
    assert "clock as ours, within 0.001 s" in text
    assert "5.200 s behind ours" in text
    assert "UDP 6081 free" in text
    assert "to n2, n3: ens192, from 10.0.1.11" in text


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal_but_commands(width: int) -> None:
    recorded_facts = parse(recorded("vmxnet3-vm.json"), 3)
    facts = [recorded_facts, good(2), good(3, links=None)]
    risks = found(facts, pods=["10.0.0.0/16"], clocks={0: Clock(0, 0), 1: Clock(9, 0)})
    text = page(inspection(risks, facts=facts), width)
    commands = {command for risk in risks for command in risk.commands}
    for line in text.splitlines():
        assert cells(line) <= width or line.strip() in commands, line
    assert all(f"      {command}\n" in text for command in commands)  # to be copied as they are
    assert "On n1, as root:\n" in text


def test_many_nodes_have_a_line_each() -> None:
    text = page(inspection(count=40))
    lines = [line for line in text.splitlines() if re.match(r"n\d+ ", line)]
    assert len(lines) == 40
    assert all("e1000e MTU 1,500" in line or "5.15" in line for line in lines)
    assert "preflight node NAME" in text


def test_what_a_node_says_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;x\x07\u202e\n"
    socket = {"protocol": "udp", "port": 6081, "family": 4, "address": "0.0.0.0", "pid": 1,
              "process": f"a{evil}b"}  # fmt: skip
    facts = [good(1), good(2, sockets=[socket], kernel={"release": evil, "machine": evil},
                           cni=[f"10-flannel{evil}"], nameservers=[evil]), good(3)]  # fmt: skip
    text = page(inspection(found(facts), facts=facts))
    assert set(text) & set("\x1b\x07\u202e") == set()


@settings(max_examples=30)
@given(st.text(max_size=30), st.sampled_from([40, 80, 200]))
def test_any_name_of_a_process_can_be_printed(name: str, width: int) -> None:
    socket = {"protocol": "udp", "port": 6081, "family": 4, "address": "0.0.0.0", "pid": 1,
              "process": name}  # fmt: skip
    facts = [good(1), good(2, sockets=[socket]), good(3)]
    text = page(inspection(found(facts), facts=facts), width)
    assert all(line.isprintable() for line in text.splitlines())


# --- the answer and the clock --------------------------------------------------------------------


def test_exit_codes() -> None:
    bad = found([None] * 3, pods=["10.0.1.11/32"])
    assert bad[0].severity is Severity.REQUIRED
    some = [good(1), None, good(3)]
    assert inspection().exit_code is ExitCode.OK
    assert inspection(found([good(1), good(2, conntrack={"count": 9, "max": 9})])).exit_code is (
        ExitCode.OK
    )
    assert inspection(bad).exit_code is ExitCode.BAD
    assert inspection(bad, facts=some).exit_code is ExitCode.BAD
    assert inspection(facts=some).exit_code is ExitCode.INCOMPLETE
    assert inspection(facts=some, asked=[0, 2]).exit_code is ExitCode.OK
    assert inspection(bad, facts=[None] * 3).exit_code is ExitCode.NO_NODE
    assert inspection(interrupted=True).exit_code is ExitCode.INTERRUPTED


@given(st.floats(-1e6, 1e6), st.floats(0, 5), st.floats(0, 5), st.floats(0, 5), st.floats(0, 100))
def test_a_clock_is_never_further_off_than_is_said(
    off: float, there: float, reading: float, back: float, queued: float
) -> None:
    """Whatever the way takes in each direction, and however late we look at the answer."""
    sent = 1_000_000.0
    began = sent + there + off
    ended = began + reading
    received = ended - off + back + queued
    clock = _compare(sent, began, ended, received)
    assert abs(clock.offset - off) <= clock.uncertainty + 1e-6
