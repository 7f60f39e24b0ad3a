"""Rules to ask for: exactly the pairs that are meant, as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import found
import pytest
import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.cli.app import run
from preflight.core.findings.cidrs import MANY, cidrs, exactly, subnets
from preflight.core.findings.model import Block, Cause, Request
from preflight.core.findings.requests import requests
from preflight.core.groups import FamilyProbe
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Node, Protocol, Severity
from preflight.report import rules as report
from preflight.store import save

IPV4, IPV6 = Family.IPV4, Family.IPV6
PROBES = (GENEVE, HEALTH, ECHO)
GENEVE4, GENEVE6 = FamilyProbe(0, IPV4), FamilyProbe(0, IPV6)


def held(networks: Sequence[str], address: str) -> bool:
    ip = ip_address(address)
    return any(ip in ip_network(network) for network in networks)


# --- CIDRs ----------------------------------------------------------------------------------------

FOURS = st.integers(0, 1023).map(lambda n: str(ip_address("10.0.0.0") + n))
SIXES = st.integers(0, 1023).map(lambda n: str(ip_address("fd00::") + (n % 4 << 64) + n))
ADDRESSES = st.sets(st.one_of(FOURS, SIXES), max_size=60)


@settings(deadline=None)
@given(ADDRESSES, ADDRESSES)
def test_no_cidr_holds_a_node_that_is_not_meant(meant: set[str], others: set[str]) -> None:
    others -= meant
    for networks in (exactly(meant), subnets(meant, others), cidrs(meant, others).texts):
        assert all(held(networks, address) for address in meant)
        assert not any(held(networks, address) for address in others)
        assert len(set(networks)) == len(networks)


@settings(deadline=None)
@given(ADDRESSES)
def test_exact_cidrs_hold_nothing_else_and_are_the_fewest(meant: set[str]) -> None:
    networks = [ip_network(text) for text in exactly(meant)]
    assert sum(network.num_addresses for network in networks) == len(meant)
    for network in networks:  # its other half is not whole there too
        other = (
            [n for n in network.supernet().subnets(1) if n != network] if network.prefixlen else []
        )
        assert not any(o in networks for o in other)


@settings(deadline=None)
@given(ADDRESSES, ADDRESSES)
def test_subnets_are_never_more_than_exact_ones_nor_too_wide(
    meant: set[str], others: set[str]
) -> None:
    found = subnets(meant, others)
    assert len(found) <= len(exactly(meant))
    assert cidrs(meant, others).exact == (cidrs(meant, others).texts == exactly(meant))


def test_a_subnet_full_of_nodes_is_one_cidr() -> None:
    rack = [f"10.0.1.{n}" for n in range(11, 31)]
    assert subnets(rack, []) == ("10.0.1.0/27",)
    assert cidrs(rack, []) == (("10.0.1.11/32", "10.0.1.12/30", "10.0.1.16/29", "10.0.1.24/30",
                                "10.0.1.28/31", "10.0.1.30/32"), True)  # fmt: skip
    assert subnets(rack, ["10.0.1.31"]) == ("10.0.1.8/29", "10.0.1.16/29", "10.0.1.24/30",
                                            "10.0.1.28/31", "10.0.1.30/32")  # fmt: skip
    far = [f"10.0.{n}.9" for n in range(12)]
    assert subnets(far, []) == tuple(f"{a}/32" for a in far)  # no two are on one subnet
    assert subnets([f"10.0.1.{n}" for n in (5, 90, 200)], []) == ("10.0.1.5/32", "10.0.1.90/32",
                                                                 "10.0.1.200/32")  # fmt: skip


def test_interface_identifiers_of_one_lan_need_not_be_close() -> None:
    lan = [f"2001:db8:1:1::{n:x}00:1" for n in range(1, 20)]
    others = ["2001:db8:1:2::1"]
    assert subnets(lan, others) == ("2001:db8:1:1::/99",)
    assert subnets([*lan, "2001:db8:1:1:8000::1"], others) == ("2001:db8:1:1::/64",)
    assert subnets([*lan, *others], []) == ("2001:db8:1:1::/99", "2001:db8:1:2::1/128")


@pytest.mark.parametrize("text", ["n1", "10.0.0.0/24", "", "10.0.0.1; reboot"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        exactly([text])


# --- requests -------------------------------------------------------------------------------------


def nodes(count: int = 6, **more: object) -> list[Node]:
    """n1 to n3 in 10.0.1, the others in 10.0.2; each has an IPv6 address too."""
    return [
        Node(f"n{n + 1}", (f"10.0.{n // 3 + 1}.{11 + n % 3}", f"fd00:{n // 3 + 1}::{n + 1}"),
             f"n{n + 1}", **more)  # type: ignore[arg-type]
        for n in range(count)
    ]  # fmt: skip


def block(sources: Sequence[int], destinations: Sequence[int], both_ways: bool = False) -> Block:
    return Block(tuple(sources), tuple(destinations), both_ways, "")


def test_each_direction_of_geneve_is_asked_for_by_itself() -> None:
    there, back = requests(nodes(), PROBES, [GENEVE4], [block([0, 1, 2], [3, 4, 5], True)])
    assert there.sources == back.destinations == ("10.0.1.11/32", "10.0.1.12/31")
    assert back.sources == there.destinations == ("10.0.2.11/32", "10.0.2.12/31")
    for one in (there, back):
        assert (one.protocol, one.port, one.family) == (Protocol.UDP, 6081, "ipv4")
        assert one.source_ports == "any (1-65535)"
        assert "each direction is a flow of its own" in one.reason
    only = requests(nodes(), PROBES, [GENEVE4], [block([0, 1, 2], [3])])
    assert [r.destinations for r in only] == [("10.0.2.11/32",)]
    assert "each direction is a flow of its own" in only[0].reason


def test_what_is_stateful_is_said_and_families_stay_apart() -> None:
    tests = [FamilyProbe(p, f) for p in (1, 2) for f in Family]
    found = requests(nodes(), PROBES, tests, [block([0], [3])])
    assert [(r.protocol, r.port, r.family) for r in found] == [
        (Protocol.TCP, 4240, "ipv4"), (Protocol.TCP, 4240, "ipv6"),
        (Protocol.ICMP, None, "ipv4"), (Protocol.ICMP, None, "ipv6"),
    ]  # fmt: skip
    assert found[1].sources == ("fd00:1::1/128",)
    assert found[1].source_ports == "any (1024-65535)"
    assert "stateful" in found[0].reason
    assert "type 8, code 0; answers (type 0)" in found[2].reason
    assert "type 128, code 0; answers (type 129)" in found[3].reason
    assert found[2].source_ports == ""


def test_blocks_become_as_few_requests_as_they_can() -> None:
    found = requests(nodes(), PROBES, [GENEVE4], [block([0], [3]), block([0], [4]), block([1], [3]),
                                                  block([1], [4]), block([2], [5])])  # fmt: skip
    assert [(r.sources, r.destinations) for r in found] == [
        (("10.0.1.11/32", "10.0.1.12/32"), ("10.0.2.11/32", "10.0.2.12/32")),
        (("10.0.1.13/32",), ("10.0.2.13/32",)),
    ]


def test_blocks_that_overlap_or_were_cut_to_pieces_are_asked_for_as_one() -> None:
    pieces = [block([0, 1], [3]), block([0], [3, 4]), block([1, 0], [4]), block([1], [4])]
    (found,) = requests(nodes(), PROBES, [GENEVE4], pieces)
    assert found.sources == ("10.0.1.11/32", "10.0.1.12/32")
    assert found.destinations == ("10.0.2.11/32", "10.0.2.12/32")


def test_no_node_is_asked_for_to_itself_alone() -> None:
    found = requests(nodes(), PROBES, [GENEVE4], [block([0, 1], [0, 3]), block([3], [3, 4])])
    assert not any(set(r.sources) & set(r.destinations) for r in found if len(r.sources) == 1)
    assert requests(nodes(), PROBES, [GENEVE4], [block([0], [0])]) == ()


def test_a_block_speaks_of_its_own_tests_alone() -> None:
    own = [block([0], [3])._replace(tests=(GENEVE4,)), block([1], [3])._replace(tests=(GENEVE6,))]
    found = requests(nodes(), PROBES, [GENEVE4, GENEVE6], own)
    assert [(r.family, r.sources) for r in found] == [
        ("ipv4", ("10.0.1.11/32",)), ("ipv6", ("fd00:1::2/128",)),
    ]  # fmt: skip


def test_nodes_without_an_address_of_the_family_and_other_clusters_are_left_out() -> None:
    some = nodes()
    some[3] = replace(some[3], addresses=("10.0.2.11",))
    assert requests(some, PROBES, [GENEVE6], [block([0], [3])]) == ()
    some = [replace(n, cluster="a" if i % 2 else "b") for i, n in enumerate(nodes())]
    found = requests(some, PROBES, [GENEVE4], [block(range(6), range(6))])
    assert [r.sources for r in found] == [
        ("10.0.1.11/32", "10.0.1.13/32", "10.0.2.12/32"),
        ("10.0.1.12/32", "10.0.2.11/32", "10.0.2.13/32"),
    ]
    assert all(r.sources == r.destinations for r in found)


def test_many_nodes_are_asked_for_by_subnets_and_that_is_said() -> None:
    many = [Node(f"n{i}", (f"10.0.{i % 4}.{10 + 3 * (i // 4)}",), f"n{i}") for i in range(120)]
    (found,) = requests(many, PROBES, [GENEVE4], [block(range(0, 120, 4), range(1, 120, 4))])
    assert len(found.sources) <= MANY
    assert "may hold other addresses" in found.reason


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_requests_are_for_the_pairs_that_are_meant_and_no_others(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 24))
    spread = data.draw(st.permutations(range(64)))[:count]
    some = [Node(f"n{i}", (f"10.0.{a // 16}.{a % 16}",), f"n{i}") for i, a in enumerate(spread)]
    sets = st.lists(st.integers(0, count - 1), min_size=1, unique=True)
    blocks = data.draw(
        st.lists(st.builds(block, sets, sets, st.booleans()), min_size=1, max_size=4)
    )
    pairs = {(s, d) for b in blocks for s in b.sources for d in b.destinations}
    pairs |= {(d, s) for b in blocks if b.both_ways for s in b.sources for d in b.destinations}
    asked = requests(some, PROBES, [GENEVE4], blocks)
    let_pass = set()
    for one in asked:
        sides = [
            {n for n, node in enumerate(some) if held(networks, node.address)}
            for networks in (one.sources, one.destinations)
        ]
        let_pass |= {(s, d) for s in sides[0] for d in sides[1]}
    assert {(s, d) for s, d in let_pass if s != d} == {(s, d) for s, d in pairs if s != d}


# --- as text, CSV and JSON ------------------------------------------------------------------------

REQUEST = Request(
    ("10.0.1.0/24",), ("10.0.2.11/32", "10.0.2.12/32"), Protocol.UDP, 6081, "any (1-65535)", "ipv4",
    "Cilium GENEVE overlay between Kubernetes nodes; required; each direction is a flow of its own",
)  # fmt: skip
PING = Request(
    ("fd00:1::/64",), ("fd00:2::/64",), Protocol.ICMP, None, "", "ipv6", "Cilium health checks"
)


PROBES = (GENEVE, HEALTH, ECHO)


def findings(*asked: Sequence[Request]) -> list[found.Finding]:
    made = found.finding(Cause.NETWORK, "the network drops it", kind=found.ON_PATH)
    return [
        made._replace(
            identifier=f"F{n}",
            severity=Severity.RECOMMENDED if n > 1 else Severity.REQUIRED,
            requests=tuple(own),
        )
        for n, own in enumerate(asked, 1)
    ]


def test_as_text() -> None:
    out = io.StringIO()
    report.text(findings([REQUEST, PING], [REQUEST]), PROBES, out, 80)
    assert out.getvalue().splitlines() == [
        "Rules to ask for, between the nodes. Each is for one direction, from its sources",
        "to its destinations.",
        "",
        "1. UDP 6081 over IPv4 (F1, F2, required)",
        "   from          10.0.1.0/24",
        "   to            10.0.2.11/32, 10.0.2.12/32",
        "   source ports  any (1-65535)",
        "   reason        Cilium GENEVE overlay between Kubernetes nodes; required; each",
        "                 direction is a flow of its own.",
        "",
        "2. ICMPv6 echo over IPv6 (F1, recommended)",
        "   from    fd00:1::/64",
        "   to      fd00:2::/64",
        "   reason  Cilium health checks.",
    ]


def test_nothing_to_ask_for_is_said() -> None:
    out = io.StringIO()
    report.text(findings([]), PROBES, out, 80)
    assert out.getvalue().startswith("No rule to ask for: ")


def test_as_csv() -> None:
    out = io.StringIO(newline="")
    report.comma_separated(findings([REQUEST, PING]), PROBES, out)
    assert out.getvalue().count("\r\n") == 3
    head, first, second = csv.reader(io.StringIO(out.getvalue(), newline=""))
    told = dict(zip(head, first, strict=True))
    assert told == {
        "number": "1", "findings": "F1", "severity": "required", "family": "ipv4",
        "protocol": "udp", "port": "6081", "source_ports": "any (1-65535)",
        "sources": "10.0.1.0/24", "destinations": "10.0.2.11/32 10.0.2.12/32",
        "direction": "one-way", "reason": REQUEST.reason,
    }  # fmt: skip
    assert dict(zip(head, second, strict=True))["direction"] == "stateful"


@settings(deadline=None)
@given(st.text(max_size=20), st.sampled_from("=+-@\t\r"), st.text(max_size=20))
def test_no_cell_is_a_formula(before: str, sign: str, after: str) -> None:
    out = io.StringIO(newline="")
    evil = REQUEST._replace(reason=sign + after, source_ports=before)
    report.comma_separated(findings([evil]), PROBES, out)
    rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert [len(row) for row in rows] == [len(rows[0])] * 2
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row
    )
    assert all(cell.isprintable() for row in rows for cell in row)


def test_as_json() -> None:
    out = io.StringIO()
    report.dump(findings([REQUEST, PING], [REQUEST]), PROBES, out)
    told = json.loads(out.getvalue())
    assert told["schema"] == "preflight/rules/1"
    assert told["requests"][0] == {
        "findings": ["F1", "F2"], "severity": "required", "sources": ["10.0.1.0/24"],
        "destinations": ["10.0.2.11/32", "10.0.2.12/32"], "protocol": "udp", "port": 6081,
        "source_ports": "any (1-65535)", "family": "ipv4", "reason": REQUEST.reason,
        "direction": "one-way",
    }  # fmt: skip
    assert told["requests"][1]["port"] is None
    report.dump([], PROBES, out := io.StringIO())
    assert json.loads(out.getvalue())["requests"] == []


# --- preflight rules ------------------------------------------------------------------------------


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str | Path
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["preflight", "rules", *map(str, argv)])
    monkeypatch.setenv("COLUMNS", "80")
    code = run()
    return code, *capsys.readouterr()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A snapshot with a required finding about the network."""
    fault = samples.Fault(samples.DROPPED_ON_PATH, "rack=a", "rack=b", "geneve")
    whole = samples.sample(4, 2, [fault])
    own = findings([REQUEST, PING])[0]._replace(blocks=(), sample=None, nodes=())
    save(replace(whole, findings=(own,)), tmp_path / "snapshot.json")
    return tmp_path / "snapshot.json"


def test_the_command_reads_what_check_saved(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = command(monkeypatch, capsys, saved)
    assert (code, err) == (1, "")  # as check answered
    assert "1. UDP 6081 over IPv4 (F1, required)" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = command(monkeypatch, capsys, saved, "--format", "csv")
    assert code == 1
    assert [row[3] for row in csv.reader(io.StringIO(out))] == ["family", "ipv4", "ipv6"]
    code, out, _ = command(monkeypatch, capsys, saved, "--format", "json")
    assert [r["family"] for r in json.loads(out)["requests"]] == ["ipv4", "ipv6"]


def test_a_clean_run_has_nothing_to_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(samples.sample(3), tmp_path / "clean.json")
    code, out, _ = command(monkeypatch, capsys, tmp_path / "clean.json")
    assert code == 0
    assert out.startswith("No rule to ask for: ")


def test_recommended_probes_count_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = samples.Fault(samples.DROPPED_ON_PATH, probes="health")
    save(samples.sample(3, faults=[fault]), tmp_path / "s.json")
    assert command(monkeypatch, capsys, tmp_path / "s.json")[0] == 0
    assert command(monkeypatch, capsys, tmp_path / "s.json", "--strict")[0] == 1


def test_a_bad_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    code, out, err = command(monkeypatch, capsys, tmp_path / "bad.json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "bad.json: not a preflight snapshot" in err
