"""`GET /hello` to real servers, through real firewalls that pass SYNs and nothing after them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faultbench import mend
from helloserver import (
    NOT_FOUND,
    OK,
    Answer,
    cilium,
    ends,
    huge,
    resets,
    says,
    serving,
    silent,
    trickle,
)
from netns import NetnsConnector
from scenarios import (
    NO_AGENT,
    OPEN,
    Silent,
    Spot,
    Told,
    assert_matrix,
    blocked,
    check,
    spots,
    told,
)
from test_agent_pythons import usable
from test_firewalls import tunnels

from preflight import inventory
from preflight.core.findings.model import Cause as FindingCause
from preflight.core.model import HEALTH, Came, Cause, Family, Hello, Leg, Phase, Place, Verdict
from preflight.core.options import CheckOptions
from preflight.core.snapshot import Snapshot
from preflight.lab import Lab
from preflight.runs import check as run

pytestmark = pytest.mark.lab

AFTER = CheckOptions(phase=Phase.AFTER, timeout_s=0.2)
ONLY_HEALTH = CheckOptions(phase=Phase.AFTER, probes=("health",), timeout_s=0.2)
NOT_CILIUM = Told(Verdict.CLOSED, Leg.FORWARD, Place.DESTINATION, Cause.NOT_CILIUM)
NOT_ANSWERING = NOT_CILIUM._replace(cause=Cause.NOT_ANSWERING)
TLS_ALERT = b"\x15\x03\x01\0\2\2\x32"
NAMES = ("n1", "n2", "n3", "n4")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here answers late: what is silent is silent."""
    monkeypatch.setattr("preflight.looks.requests._WAIT_S", 1.5)


def hellos(snapshot: Snapshot) -> dict[Spot, Hello | None]:
    return {
        spot: outcome.hello
        for spot, (_, outcome) in told(snapshot).items()
        if spot.probe == "health"
    }


def everywhere(**others: Answer) -> dict[str, Answer]:
    return {**dict.fromkeys(NAMES, cilium), **others}


def test_cilium_everywhere_is_open_and_each_server_is_asked_once_by_each_node(lab4: Lab) -> None:
    with tunnels(lab4, 6081, *NAMES), serving(lab4, everywhere()) as servers:
        snapshot = check(lab4, AFTER)
        asked = {name: list(server.asked) for name, server in servers.items()}
    assert_matrix(snapshot, {})
    assert set(hellos(snapshot).values()) == {Hello(Came.CILIUM, 200)}
    for name, requests in asked.items():
        others = [a for n in lab4.nodes if n.name != name for a in n.addresses]
        assert sorted(who for who, _ in requests) == sorted(others)
        assert all(data.startswith(b"GET /hello HTTP/1.1\r\nHost: ") for _, data in requests)


def test_before_the_installation_nobody_is_asked(lab4: Lab) -> None:
    with serving(lab4, everywhere()) as servers:
        snapshot = check(lab4)
        assert all(server.asked == [] for server in servers.values())
    assert set(hellos(snapshot).values()) == {None}


def test_a_port_that_resets_or_does_not_answer_is_not_asked(lab4: Lab) -> None:
    lab4.nft(
        "n3",
        "table inet t { chain i { type filter hook input priority 0;\ntcp dport 4240 drop\n}\n}",
    )
    with serving(lab4, everywhere()) as servers:
        snapshot = check(lab4, ONLY_HEALTH)
        assert servers["n3"].asked == []
    assert {h for s, h in hellos(snapshot).items() if s.destination == "n3"} == {None}


REST: list[tuple[dict[str, Answer], dict[str, Told], list[str]]] = [
    (
        {"n2": says(NOT_FOUND), "n3": says(TLS_ALERT), "n4": says(b"SSH-2.0-x\r\n")},
        dict.fromkeys(("n2", "n3", "n4"), NOT_CILIUM),
        ["n2: GET /hello: HTTP 404 from 'nginx/1.22.1'", "'TLS'", "'SSH-2.0-x'"],
    ),
    (
        {"n2": trickle, "n3": huge, "n4": says(b"HTTP/1.1 200 OK\r\n\r\nhello")},
        dict.fromkeys(("n2", "n3", "n4"), NOT_CILIUM),
        ["n2: GET /hello: HTTP, cut short", "rack=b: GET /hello: HTTP 200, but no empty body"],
    ),
    (
        {"n2": silent, "n3": resets, "n4": ends},
        dict.fromkeys(("n2", "n3", "n4"), NOT_ANSWERING),
        ["n2: GET /hello: nothing came", "was reset", "closed without a word"],
    ),
    (
        {"n2": says(b"HTTP/1.1 301 M\r\nContent-Length: 0\r\n\r\n"), "n3": says(OK[:-2])},
        dict.fromkeys(("n2", "n3"), NOT_CILIUM),
        ["HTTP 301", "HTTP 200, but no empty body"],
    ),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REST)))
def test_another_program_is_told_from_cilium_and_named(lab4: Lab, number: int) -> None:
    answers, expected, sentences = REST[number]
    with tunnels(lab4, 6081, *NAMES), serving(lab4, everywhere(**answers)):
        snapshot = check(lab4, AFTER)
    cells = {
        spot: one
        for name, one in expected.items()
        for spot in spots(lab4, "", name, (HEALTH,))
    }  # fmt: skip
    assert_matrix(snapshot, cells)
    cause = next(iter(expected.values())).cause
    (finding,) = [f for f in snapshot.findings if f.cause == cause]
    assert {snapshot.matrix.nodes[n].name for n in finding.nodes} == set(expected)
    evidence = "\n".join(finding.evidence)
    assert [s for s in sentences if s not in evidence] == []
    holder = Path(f"/proc/{os.getpid()}/comm").read_text("utf-8").strip()
    assert f"{holder} has the port" in evidence
    risks = [f.title for f in snapshot.findings if f.cause is FindingCause.HAZARD]
    assert [title for title in risks if "TCP 4240" in title] == [], "told once"


NOT_SYN = "tcp flags & syn == 0 meta length > 80"  # with data, over either family
OWN_PORTS = "tcp sport 30000-60999"  # not those of raw probes
DATA: list[tuple[str, str, str, str, str, Leg, Place]] = [
    ("fw", "forward", f"{NOT_SYN} drop", "n1", "n3", Leg.FORWARD, Place.PATH),
    ("fw", "forward", f"{NOT_SYN} reject with tcp reset", "n1", "n4", Leg.FORWARD, Place.PATH),
    ("fw", "forward", f"{OWN_PORTS} drop", "n2", "n3", Leg.FORWARD, Place.PATH),
    ("fw", "forward", f"{OWN_PORTS} reject with tcp reset", "n2", "n4", Leg.FORWARD, Place.PATH),
    ("n2", "input", f"{NOT_SYN} drop", "n1", "n2", Leg.FORWARD, Place.DESTINATION),
    ("n2", "input", f"{NOT_SYN} reject with tcp reset", "n3", "n2", Leg.FORWARD, Place.DESTINATION),
    ("n4", "output", f"{NOT_SYN} drop", "n4", "n1", Leg.FORWARD, Place.SOURCE),
    ("n4", "output", f"{OWN_PORTS} drop", "n4", "n2", Leg.FORWARD, Place.SOURCE),
    ("fw", "forward", f"{NOT_SYN} drop", "n1<", "n3", Leg.REPLY, Place.PATH),
    ("n4", "output", f"{NOT_SYN} drop", "n4<", "n3", Leg.REPLY, Place.DESTINATION),
    ("n3", "input", f"{NOT_SYN} drop", "n4<", "n3", Leg.REPLY, Place.SOURCE),
]  # fmt: skip


def rule(lab: Lab, number: int) -> tuple[str, dict[Spot, Told]]:
    """One row's rules for both families, and its two cells; `n4<` answers to the other."""
    _, hook, action, first, second, leg, place = DATA[number]
    reply = first.endswith("<")
    source, destination = lab.node(first.rstrip("<")), lab.node(second)
    port = "sport" if reply else "dport"
    lines = [
        f"{'ip6' if ':' in a else 'ip'} saddr {a} "
        f"{'ip6' if ':' in a else 'ip'} daddr {b} tcp {port} 4240 {action}"
        for a, b in zip(source.addresses, destination.addresses, strict=True)
    ]
    text = "\n".join(lines)
    table = (
        f"table inet t{number} {{\nchain c {{\ntype filter hook {hook} priority 0;\n{text}\n}}\n}}"
    )
    pair = (second, source.name) if reply else (source.name, second)
    cells = {Spot(*pair, "health", family): blocked(leg, place, Cause.DATA) for family in Family}
    return table, cells


@pytest.mark.parametrize("group", [range(10), (10,)], ids=["ten", "the last"])
def test_what_passes_syns_and_drops_data_is_no_program_and_has_a_place(
    lab4: Lab, group: Any
) -> None:
    expected: dict[Spot, Told] = {}
    for number in group:
        table, cells = rule(lab4, number)
        lab4.nft(DATA[number][0], table)
        assert not expected.keys() & cells.keys()
        expected |= cells
    with serving(lab4, everywhere()):
        snapshot = check(lab4, ONLY_HEALTH)
    try:
        assert_matrix(snapshot, expected)
        inside = [number for number in group if DATA[number][0] != "fw"]
        causes = {FindingCause.RULE} if inside else set()
        causes |= {FindingCause.DATA} if len(inside) < len(group) else set()
        assert {f.cause for f in snapshot.findings} == causes
        for number in inside:
            rules = [f for f in snapshot.findings if f"(inet t{number} c handle" in f.title]
            assert {lab4.nodes[n].name for f in rules for n in f.nodes} == {DATA[number][0]}
        mend(lab4, snapshot)
        left = {spot: cell for spot, cell in expected.items() if cell.place is Place.PATH}
        with serving(lab4, everywhere()):
            assert_matrix(check(lab4, ONLY_HEALTH), left)
    finally:
        for number in group:
            lab4.run(DATA[number][0], "nft", "delete", "table", "inet", f"t{number}")


def test_a_firewall_that_eats_its_own_nodes_data_too_is_no_program(lab4: Lab) -> None:
    """Nothing acknowledges what a node's own firewall throws away; a program's kernel does."""
    lab4.nft(
        "n3",
        "table inet t { chain i { type filter hook input priority 0; policy drop;\n"
        "meta l4proto { icmp, ipv6-icmp } accept\ntcp dport 4240 tcp flags syn accept\n"
        "tcp sport 4240 accept\ntcp dport 22 accept\n}\n}",
    )
    with serving(lab4, everywhere(n4=silent)):
        snapshot = check(lab4, ONLY_HEALTH)
    inside = blocked(Leg.FORWARD, Place.DESTINATION, Cause.DATA)
    expected = dict.fromkeys(spots(lab4, "", "n3", (HEALTH,)), inside)
    assert_matrix(
        snapshot, expected | dict.fromkeys(spots(lab4, "", "n4", (HEALTH,)), NOT_ANSWERING)
    )
    found = {f.cause: f for f in snapshot.findings}
    assert found[FindingCause.RULE].title == (
        "n3 itself drops requests in connections to TCP 4240: nftables policy of chain inet t i"
    )
    (cell,) = {
        outcome.detail
        for spot, (_, outcome) in told(snapshot).items()
        if spot.destination == "n3" and spot.source == "n1" and spot.family is Family.IPV4
    }
    assert "the request was not acknowledged; asked by its own node: the same" in (cell or "")


def test_a_program_whose_answers_its_own_nodes_firewall_eats_is_not_to_blame(lab4: Lab) -> None:
    """Not even its own node hears it, but rules end what it says; and n3 does."""
    n1, _, n3, n4 = (node.addresses for node in lab4.nodes)
    eaten = "tcp sport 4240 meta length > 80 drop"
    spared = f"ip daddr {n3[0]} accept\nip6 daddr {n3[1]} accept"
    chain = "table inet t {{\nchain c {{\ntype filter hook {} priority 0;\n{}\n}}\n}}"
    lab4.nft("n4", chain.format("output", f"{spared}\n{eaten}"))
    lost = f"tcp dport 4240 {NOT_SYN} drop"
    lab4.nft("fw", chain.format("forward", f"ip saddr {n1[0]} ip daddr {n4[0]} {lost}"))
    with serving(lab4, everywhere()):
        snapshot = check(lab4, ONLY_HEALTH)
        from_path = Spot("n1", "n4", "health", Family.IPV4)
        cells = dict.fromkeys(
            [*spots(lab4, "n1", "n4", (HEALTH,)), *spots(lab4, "n2", "n4", (HEALTH,))],
            NOT_ANSWERING,
        )
        on_the_way = {from_path: blocked(Leg.FORWARD, Place.PATH, Cause.DATA)}
        assert_matrix(snapshot, cells | on_the_way)
        found = {f.cause: f for f in snapshot.findings}
        assert found.keys() == {FindingCause.DATA, FindingCause.RULE}
        told_of = found[FindingCause.RULE].title
        assert told_of.startswith("n4 itself drops answers to requests in connections to TCP 4240")
        assert "length > 80 drop" in told_of
        mend(lab4, snapshot)
        assert_matrix(check(lab4, ONLY_HEALTH), on_the_way)


HANGS = """
import socket, sys
one = socket.socket(socket.AF_INET6)
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.bind(("", 4240))
one.listen(1)
print(flush=True)
sys.stdin.read()
"""


def test_a_program_that_takes_no_connection_any_more_is_no_firewall(lab4: Lab) -> None:
    """Its kernel then acknowledges nothing either: there is no room for more connections."""
    pipe = subprocess.PIPE
    others = {name: cilium for name in NAMES if name != "n2"}
    with (
        serving(lab4, others),
        lab4.popen("n2", sys.executable, "-c", HANGS, stdin=pipe, stdout=pipe) as hanging,
    ):
        hanging.stdout.readline()
        snapshot = check(lab4, ONLY_HEALTH)
        hanging.communicate(timeout=10)
    assert_matrix(snapshot, dict.fromkeys(spots(lab4, "", "n2", (HEALTH,)), NOT_ANSWERING))
    details = {o.detail for _, o in told(snapshot).values() if o.verdict is Verdict.CLOSED}
    assert all("yet to take is full" in (detail or "") for detail in details)


def test_what_answers_in_ciliums_place_is_told_from_what_serves_the_port(lab4: Lab) -> None:
    """A proxy on the way takes what the nodes themselves send, and a redirect inside n2 does."""
    redirect = (
        "table inet t { chain p { type nat hook prerouting priority -100;\n"
        f"tcp dport 4240 {OWN_PORTS} redirect to :4249\n}}\n}}"
    )
    with ExitStack() as stack:
        stack.enter_context(serving(lab4, everywhere()))
        stack.enter_context(serving(lab4, {"n2": says(NOT_FOUND), "fw": says(NOT_FOUND)}, 4249))
        for where in ("n2", "fw"):
            lab4.nft(where, redirect)
        snapshot = check(lab4, ONLY_HEALTH)
    found = {spot: one for spot, (one, _) in told(snapshot).items()}
    for (source, destination, _, _), one in found.items():
        racks = {lab4.node(name).rack for name in (source, destination)}
        if (source, destination) == ("n1", "n2"):
            assert one == blocked(Leg.FORWARD, Place.DESTINATION, Cause.INTERCEPTED)
        elif len(racks) == 2:
            assert one[:2] == (Verdict.BLOCKED, Leg.FORWARD)
            assert one.cause is Cause.INTERCEPTED
            assert one.place is not Place.DESTINATION
        else:
            assert one == OPEN


def test_from_one_side_alone_what_came_is_told_and_nothing_judged(lab4: Lab) -> None:
    with serving(lab4, everywhere(n3=says(NOT_FOUND))):
        snapshot = check(lab4, CheckOptions(phase=Phase.AFTER, local="n1", probes=("health",)))
    for spot, (one, outcome) in told(snapshot).items():
        assert one == NO_AGENT
        if spot.source == "n1":
            status = 404 if spot.destination == "n3" else 200
            assert outcome.hello is not None
            assert outcome.hello.status == status
            assert "GET /hello" in (outcome.detail or "")
    (finding,) = [f for f in snapshot.findings if f.cause is FindingCause.NO_AGENT]
    assert any("n3: GET /hello: HTTP 404" in sentence for sentence in finding.evidence)


@pytest.mark.parametrize("python", [usable()[0], usable()[-1]])
def test_under_the_oldest_and_the_newest_python(lab4: Lab, python: str) -> None:
    """Requests, listening, and a place."""
    table, cells = rule(lab4, 4)
    lab4.nft("n2", table)
    connector = NetnsConnector(lab4.popen, [python])
    with serving(lab4, everywhere(n4=says(NOT_FOUND))):
        known = inventory.load(lab4.inventory_path)
        snapshot = run.check(known, ONLY_HEALTH, lambda _: connector, Silent())
    cells |= dict.fromkeys(spots(lab4, "", "n4", (HEALTH,)), NOT_CILIUM)
    assert_matrix(snapshot, cells)


def test_the_command_tells_it_in_the_table_the_json_and_the_story(
    lab4: Lab, tmp_path: Path
) -> None:
    """Over real SSH, as a user runs it."""
    saved = tmp_path / "after.json"
    command = [sys.executable, "-m", "preflight"]
    check_it = [*command, "check", "-i", lab4.inventory_path, "--phase", "after", "--probe",
                "health", "--family", "ipv4", "--output", saved]  # fmt: skip
    with serving(lab4, everywhere(n3=says(NOT_FOUND))):
        done = subprocess.run(check_it, capture_output=True, text=True, timeout=60, check=False)
        strict = subprocess.run([*check_it, "--strict"], capture_output=True, check=False)
    assert (done.returncode, strict.returncode) == (0, 1)
    assert "GET /hello: 12 connections to TCP 4240" in done.stderr
    text = " ".join(done.stdout.split())
    assert "n3: something other than Cilium answers on TCP 4240: HTTP 404 from 'nginx" in text
    results = json.loads(saved.read_text("utf-8"))["results"]
    assert {(r["verdict"], r["cause"], r["hello"]["status"]) for r in results} == {
        ("open", None, 200), ("closed", "not-cilium", 404),
    }  # fmt: skip
    story = subprocess.run(
        [*command, "explain", saved, "n1", "n3"], capture_output=True, text=True, check=False
    )
    assert story.returncode == 0
    text = " ".join(story.stdout.split())
    assert "closed, something other than Cilium serves the port" in text
    assert "asked by its own node: the same" in text


HOLDER = """
import socket, sys
one = socket.socket(type=socket.SOCK_DGRAM)
one.bind(("", 6081))
print(flush=True)
sys.stdin.read()
"""


def test_a_program_in_the_tunnels_place_is_told_of_and_the_tunnel_is_not(lab4: Lab) -> None:
    """Its socket takes in what the tunnel would throw away, so that no cell tells."""
    pipe = subprocess.PIPE
    with (
        serving(lab4, everywhere()),
        tunnels(lab4, 6081, "n1", "n2", "n4"),
        lab4.popen("n3", sys.executable, "-c", HOLDER, stdin=pipe, stdout=pipe) as holder,
    ):
        holder.stdout.readline()
        snapshot = check(lab4, AFTER)
        holder.communicate(timeout=10)
    (finding,) = [f for f in snapshot.findings if not f.cells]
    assert "UDP 6081 is held by python" in finding.title
    assert [snapshot.matrix.nodes[n].name for n in finding.nodes] == ["n3"]
