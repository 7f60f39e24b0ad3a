"""Times whole processes against whole processes, on labs of several sizes; prints medians.

floor     a paramiko fan-out of the same width that logs in everywhere and runs `true`
recipe    the same fan-out running nmap (UDP 6081, TCP 4240) and fping against all others
check     `preflight check`, whole, and its phases as the snapshot tells them
          all of these clean, and recipe and check with UDP 6081 dropped between racks as well
sending   patched probes a second that one agent's sender puts on the wire, on one core
control   500 simulated nodes: from the agents' reports to verdicts, snapshot and summary
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BLOCKED = """table inet bench { chain forward { type filter hook forward priority 0;
udp dport 6081 drop;
}
}"""


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed preflight has its bytecode
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", default="10,25,50", help="sizes of the labs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part", choices=("fanout", "control", "sending"), help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "fanout":
        fanout(Path(arguments.rest[0]), arguments.rest[1])
    elif arguments.part == "control":
        control(int(arguments.rest[0]), blocked=arguments.rest[1] == "blocked")
    elif arguments.part == "sending":
        sending()
    else:
        bench([int(n) for n in arguments.nodes.split(",")], arguments.runs)


# --- the parts that run as processes of their own


def fanout(inventory: Path, command: str) -> None:
    """Log in to every node side by side and run `command`, ALL being the other nodes' addresses."""
    import paramiko

    from preflight.inventory import load

    nodes = load(inventory).nodes
    key = paramiko.Ed25519Key.from_private_key_file(nodes[0].identity_file or "")

    def one(number: int) -> None:
        node = nodes[number]
        others = " ".join(n.address for n in nodes if n is not node)
        client = paramiko.SSHClient()
        client.load_host_keys(node.known_hosts or "")
        client.connect(
            node.host, port=node.port or 22, username=node.user, pkey=key,
            look_for_keys=False, allow_agent=False, timeout=30, banner_timeout=30, auth_timeout=30,
        )  # fmt: skip
        channel = client.get_transport().open_session()
        channel.exec_command(command.replace("ALL", others))
        while channel.recv(1 << 16):
            pass
        channel.recv_exit_status()
        client.close()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(nodes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def sending() -> None:
    """Probes a second through `agent.send` at no pace, IPv4 GENEVE, into this namespace's sink."""
    from preflight.agent.look import Look, Run
    from preflight.agent.packets import run_ident, run_tag
    from preflight.agent.route import Routes
    from preflight.agent.send import Sender
    from preflight.core.model import GENEVE, Family
    from preflight.craft.templates import template

    key = bytes(32)
    peers = 200
    addresses = {4: ["10.99.0.1", *(f"10.99.1.{n}" for n in range(1, peers))]}
    plain = template(GENEVE, Family.IPV4, harmless=False)
    cell = {
        "probe": 0, "family": 4, "protocol": 17, "port": 6081, "count": 60, "full": 0, "flows": 20,
        "gap": 0, "out": list(range(1, peers)), "in": [], "inert": [],
        "template": plain, "harmless": plain,
    }  # fmt: skip
    frame = {"number": 1, "rate": 1e9, "taps": False, "settle": False, "cells": [cell]}
    best = 0.0
    for _ in range(5):
        look = Look(Run(key, 0, addresses), frame)
        sender = Sender(run_tag(key), run_ident(key), {4: "10.99.0.1"}, Routes())
        began = time.perf_counter()
        sender.run(look, lambda _seconds: True)
        took = time.perf_counter() - began
        sent = sum(mask.bit_count() for mask in look.seen["sent"])
        best = max(best, sent / took)
    print(json.dumps({"probes_per_s": best}))


class Recording:
    """A looker that answers as agents would: everything got through, or nothing between racks."""

    interrupted = False

    def __init__(self, nodes: int, *, blocked: bool) -> None:
        self._nodes = nodes
        self._usable = set(range(nodes))
        self._blocked = blocked
        self.made_s = 0.0  # time spent on making what real agents would send

    def usable(self) -> set[int]:
        return self._usable

    def look(self, plan: Any) -> Any:
        from preflight.core.collect import Collection, parse
        from preflight.core.model import Protocol

        began = time.perf_counter()
        lines = [json.dumps(self._report(plan, node)) for node in range(self._nodes)]
        self.made_s += time.perf_counter() - began
        reports = {node: parse(json.loads(line)) for node, line in enumerate(lines)}
        return Collection(plan, (Protocol.UDP, Protocol.TCP, Protocol.ICMP), reports)

    def _report(self, plan: Any, node: int) -> dict[str, Any]:
        seen: dict[str, list[list[int]]] = {"sent": [], "accepted": [], "received": []}
        if plan.taps:
            seen.update({"left": [], "arrived": [], "answered": [], "returned": []})
        rtt = {}
        for c, cell in enumerate(plan.cells):
            if cell.one_way and self._blocked:
                half = self._nodes // 2
                far = [[c, s, 0] for s in range(self._nodes) if (s < half) != (node < half)]
                seen["accepted"] += far
                if plan.taps:
                    seen["arrived"] += far
            if not cell.one_way:
                rtt[str(c)] = [150 + (node * d) % 400 for d in cell.pairs[node]]
        return {
            "t": "report", "number": plan.number, "seen": seen, "rtt": rtt, "lost": [],
            "kinds": {"answered": [], "received": []}, "errors": [], "send_errors": [],
            "neighbours": [], "sources": [],
        }  # fmt: skip


def control(count: int, *, blocked: bool) -> None:
    """The controller's own part for `count` nodes; what the agents would do is not counted."""
    from preflight.core.model import BUILT_IN_PROBES, AgentInfo, AgentState, Inventory, Node, Phase
    from preflight.core.options import CheckOptions
    from preflight.core.scope import scope
    from preflight.core.snapshot import Snapshot
    from preflight.looks.survey import Survey
    from preflight.report.table import render
    from preflight.store import save

    nodes = tuple(
        Node(
            f"n{i}",
            (f"10.0.{i // 250}.{i % 250 + 1}",),
            f"n{i}",
            labels={"rack": "ab"[i * 2 // count]},
        )
        for i in range(count)
    )
    inventory = Inventory("simulated", nodes, tuple(BUILT_IN_PROBES.values()))
    options = CheckOptions(max_flows=1 << 40)
    served: dict[str, list[int]] = {"udp": [], "tcp": [], "unsure": []}
    hello = {"udp": [], "tcp": [], "echo_ignored": [], "served": {"4": served}}
    hellos = dict.fromkeys(range(count), hello)
    recording = Recording(count, blocked=blocked)
    began = time.perf_counter()
    survey = Survey(scope(inventory, options), options, hellos, recording, lambda _text: None)
    matrix = survey.run()
    agents = [AgentInfo(AgentState.OK, None, "3.11.2", "6.1.0")] * count
    stamp = "2026-01-01T00:00:00.000Z"
    snapshot = Snapshot(
        Phase.BEFORE, stamp, stamp, matrix, agents, {"connect_s": 0, "probe_s": 0, "total_s": 0}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "snapshot.json")
        save(snapshot, path)
        size = path.stat().st_size
        with Path(folder, "out.txt").open("w", encoding="utf-8") as out:
            render(snapshot, width=120, color=False, file=out)
    took = time.perf_counter() - began - recording.made_s
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "cells": sum(matrix.outcomes().values()),
                "s": took,
                "rss_mib": rss,
                "file_mib": size / 2**20,
            }
        )
    )


# --- the bench


def timed(argv: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    return time.perf_counter() - began


def part(*argv: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--part", *argv]


def check(inventory: Path, folder: str) -> tuple[float, dict[str, float]]:
    output = Path(folder, "snapshot.json")
    argv = [
        sys.executable,
        "-m",
        "preflight",
        "check",
        "-i",
        str(inventory),
        "--output",
        str(output),
    ]
    took = timed(argv)
    timings: dict[str, float] = json.loads(output.read_text("utf-8"))["timings"]
    output.unlink()
    return took, timings


def bench(sizes: Sequence[int], runs: int) -> None:
    from preflight.lab import Lab

    nmap = "nmap -n -Pn -sU -sS -p U:6081,T:4240 ALL >/dev/null; fping -q ALL >/dev/null"
    print(f"{'nodes':>5}  {'floor':>7}  {'recipe':>9}  {'blocked':>9}  {'check':>9}  {'blocked':>9}"
          "   connect  probe  probe, blocked   (seconds; + is over the floor)")  # fmt: skip
    for size in sizes:
        with (
            Lab.up(f"b{os.getpid()}", nodes=size, racks=2, ipv6=False) as lab,
            tempfile.TemporaryDirectory() as folder,
        ):
            ways: dict[str, Callable[[], Any]] = {
                "floor": lambda: timed(part("fanout", str(lab.inventory_path), "true")),
                "recipe": lambda: timed(part("fanout", str(lab.inventory_path), nmap)),
                "check": lambda: check(lab.inventory_path, folder),
            }
            got: dict[str, list[Any]] = {}
            for firewall in ("clean", "blocked"):
                if firewall == "blocked":
                    lab.nft("fw", BLOCKED)
                for _ in range(runs):  # interleaved, so that a noisy minute hits all alike
                    for name, way in ways.items():
                        if (name, firewall) != ("floor", "blocked"):
                            got.setdefault(f"{name} {firewall}", []).append(way())
            row(size, got)
    print()
    out = sent_into_sink()
    print(f"sending: {out['probes_per_s']:,.0f} patched probes/s on one core")
    for firewall in ("clean", "blocked"):
        out = json.loads(subprocess.check_output(part("control", "500", firewall), cwd=ROOT))
        print(f"control, {firewall}: {out['cells']:,} cells in {out['s']:.1f} s, "
              f"{out['rss_mib']:.0f} MiB, snapshot {out['file_mib']:.1f} MiB")  # fmt: skip


def sent_into_sink() -> dict[str, float]:
    """`sending` in a namespace with a device that throws everything away."""
    from preflight.lab import Lab

    sink = (
        "(ip link add sink type dummy 2>/dev/null || ip link add sink type ifb) && "
        "ip address add 10.99.0.1/16 dev sink && ip link set sink arp off up"
    )
    with Lab.up(f"b{os.getpid()}", nodes=1, racks=1) as lab:
        lab.run("n1", "sh", "-c", sink)
        out: dict[str, float] = json.loads(lab.run("n1", *part("sending")).stdout)
        return out


def row(size: int, got: dict[str, list[Any]]) -> None:
    floor = statistics.median(got["floor clean"])

    def over(values: list[float]) -> str:
        return f"+{statistics.median(values) - floor:.2f}"

    def phase(firewall: str, name: str) -> float:
        return statistics.median(timings[name] for _, timings in got[f"check {firewall}"])

    print(
        f"{size:>5}  {floor:>7.2f}"
        f"  {over(got['recipe clean']):>9}  {over(got['recipe blocked']):>9}"
        f"  {over([t for t, _ in got['check clean']]):>9}"
        f"  {over([t for t, _ in got['check blocked']]):>9}"
        f"   {phase('clean', 'connect_s'):>7.2f}  {phase('clean', 'probe_s'):>5.2f}"
        f"  {phase('blocked', 'probe_s'):>14.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
