"""Networks that once made the tool lie."""

import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from netns import NetnsConnector
from scenarios import Silent

from preflight.core.model import Family, Outcome, Phase
from preflight.core.options import CheckOptions
from preflight.inventory import load
from preflight.lab import Lab
from preflight.runs import check as run

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_firewalls")]


Outcomes = Callable[..., list[Outcome]]


@pytest.fixture
def notes() -> list[str]:
    """What the latest run of `outcomes` noted."""
    return []


@pytest.fixture
def outcomes(lab4: Lab, notes: list[str]) -> Callable[..., list[Outcome]]:
    def probe(source: str, destination: str, *probes: str, **options: object) -> list[Outcome]:
        asked = CheckOptions(
            sources=(source,),
            destinations=tuple(destination.split(",")),
            probes=probes,
            **{"family": Family.IPV4, **options},
        )
        connector = NetnsConnector(lab4.popen)
        found = run.check(load(lab4.inventory_path), asked, lambda _node: connector, Silent())
        notes[:] = found.notes
        return [cell.outcome for cell in found.matrix.cells()]

    return probe


def told(outcome: Outcome) -> tuple[str | None, ...]:
    return outcome.verdict, outcome.leg, outcome.place, outcome.cause


def address(lab: Lab, node: str, family: Family = Family.IPV4) -> str:
    ipv6 = family is Family.IPV6
    return next(a for a in lab.node(node).addresses if (":" in a) is ipv6)


def test_a_limiter_that_lets_the_first_probes_through_is_lossy(
    lab4: Lab, outcomes: Outcomes
) -> None:
    lab4.nft(
        "fw",
        """table inet t { chain f { type filter hook forward priority 0;
        udp dport 6081 limit rate over 1/minute burst 10 packets drop
        }
        }""",
    )
    (found,) = outcomes("n2", "n3", "geneve")
    assert told(found) == ("lossy", "forward", "path", "dropped")


def test_a_listener_at_another_address_serves_nobody(lab4: Lab, outcomes: Outcomes) -> None:
    script = (
        "import socket\n"
        "s = socket.create_server(('127.0.0.1', 4240))\n"
        "u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "u.bind(('127.0.0.1', 6081))\n"
        "print('ready', flush=True)\n"
        "import sys; sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with lab4.popen("n3", sys.executable, "-c", script, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        geneve, health = outcomes("n1", "n3", "geneve", "health", phase=Phase.AFTER)
        process.stdin.close()
    assert told(geneve) == ("closed", "forward", "destination", "not-listening")
    assert told(health) == ("closed", "forward", "destination", "not-listening")


@pytest.mark.parametrize(
    ("protocol", "probe"),
    [("udp dport 6081", "geneve"), ("udp", "geneve"), ("tcp", "health"), ("icmp", "echo")],
)
@pytest.mark.parametrize("ipv6", [False, True])
def test_a_routing_rule_that_leads_elsewhere_is_not_taken_for_the_way_that_was_tried(
    lab4: Lab, outcomes: Outcomes, protocol: str, probe: str, ipv6: bool
) -> None:
    """A raw socket's packets take the main table's way, and arrive."""
    node = lab4.node("n1")
    family = Family.IPV6 if ipv6 else Family.IPV4
    own = ip_address(address(lab4, "n1", family))
    via, version = str(own + 100), f"-{own.version}"
    if ipv6 and protocol == "icmp":
        protocol = "ipv6-icmp"
    hop = ("ip", version, "neigh", "replace", via, "lladdr", "02:00:00:00:77:77", "dev", "eth0")
    lab4.run(node.name, *hop)
    lab4.run(node.name, *f"ip {version} route add default via {via} table 77".split())
    lab4.run(node.name, *f"ip {version} rule add ipproto {protocol} table 77 pref 99".split())
    try:
        found = outcomes("n1", "n3", "geneve", "health", "echo", family=family)
    finally:
        lab4.run(node.name, *f"ip {version} rule del pref 99".split())
        lab4.run(node.name, *f"ip {version} route del default table 77".split())
        lab4.run(node.name, *f"ip {version} neigh del {via} dev eth0".split())
    for name, outcome in zip(("geneve", "health", "echo"), found, strict=True):
        if name == probe:
            assert told(outcome) == ("unknown", None, None, "not-watched")
            assert "an ip rule for this protocol or port leads another way" in outcome.detail
        else:
            assert told(outcome)[0] == "open"


@pytest.mark.parametrize("action", ["prohibit", "unreachable", "blackhole"])
def test_a_routing_rule_for_the_port_alone(lab4: Lab, outcomes: Outcomes, action: str) -> None:
    rule = f"ipproto udp dport 6081 {action} pref 100".split()
    lab4.run("n1", "ip", "rule", "add", *rule)
    try:
        geneve, echo = outcomes("n1", "n2", "geneve", "echo")
    finally:
        lab4.run("n1", "ip", "rule", "del", "pref", "100")
    assert told(geneve) == ("blocked", "forward", "source", "no-route")
    assert told(echo)[0] == "open"


def test_a_frame_for_another_mac_address_has_not_arrived(lab4: Lab, outcomes: Outcomes) -> None:
    there = address(lab4, "n2")
    wrong = ("lladdr", "02:00:00:00:de:ad", "dev", "eth0", "nud", "permanent")
    lab4.run("n1", "ip", "neigh", "replace", there, *wrong)
    try:
        (found,) = outcomes("n1", "n2", "geneve")
    finally:
        lab4.run("n1", "ip", "neigh", "del", there, "dev", "eth0")
    assert told(found) == ("blocked", "forward", "path", "dropped")


def test_a_destination_whose_address_the_source_has_as_well(lab4: Lab, outcomes: Outcomes) -> None:
    there = f"{address(lab4, 'n1')}/32"
    lab4.run("n2", "ip", "address", "add", there, "dev", "eth0")
    try:
        found = outcomes("n2", "n1")
    finally:
        lab4.run("n2", "ip", "address", "del", there, "dev", "eth0")
    assert {told(outcome)[:3] for outcome in found} == {("blocked", "forward", "source")}


def test_probes_that_end_up_on_another_node_are_told_of(
    lab4: Lab, outcomes: Outcomes, notes: list[str]
) -> None:
    here, there = address(lab4, "n3"), address(lab4, "n4")
    lab4.nft(
        "fw",
        f"""table ip t {{ chain p {{ type nat hook prerouting priority dstnat;
        udp dport 6081 ip daddr {here} dnat to {there}
        }}
        }}""",
    )
    wrong, right = outcomes("n1", "n3,n4", "geneve")
    assert told(wrong)[:3] == ("blocked", "forward", "path")
    assert told(right)[0] == "open"
    (note,) = notes
    assert note.startswith("n4 got 20 packets of this run that were meant for another node")
    assert "> 6081, UDP / GENEVE" in note
