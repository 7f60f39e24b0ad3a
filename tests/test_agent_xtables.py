"""iptables-legacy in text: what moved, which tool, and whether a rule can match a packet."""

from pathlib import Path

import pytest

from preflight.agent.firewall import commands, legacy, queues
from preflight.agent.firewall.legacy import LegacyCounters, Reading, movements, parse, suspects
from preflight.agent.firewall.xtmatch import Lost, can_match
from preflight.agent.firewall.xtwords import split

HERE = Path(__file__).parent

# --- which tool ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "version", "expected"),
    [
        ({"iptables-legacy-save", "iptables", "iptables-save"}, "v1.8.9 (nf_tables)", True),
        ({"iptables", "iptables-save"}, "iptables v1.8.7 (legacy)", True),
        ({"iptables", "iptables-save"}, "iptables v1.6.1", True),
        ({"iptables", "iptables-save"}, "iptables v1.8.9 (nf_tables)", False),
        (set(), "", False),
    ],
)
def test_the_tool_that_speaks_to_xtables(
    monkeypatch: pytest.MonkeyPatch, there: set[str], version: str, expected: bool
) -> None:
    monkeypatch.setattr(commands, "find", lambda name: f"/sbin/{name}" if name in there else "")
    monkeypatch.setattr(commands, "run", lambda argv, seconds: version)
    assert bool(legacy.saver(4, 1e12)) is expected


# --- what moved, with given numbers and times ----------------------------------------------------

SAVED = """\
*filter
:INPUT ACCEPT [10:600]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [9:900]
[{a}:1] -A INPUT -p udp -m udp --dport 6081 -j DROP
[{b}:1] -A INPUT -p udp -m mark --mark 0x1 -j NFQUEUE --queue-num 0
COMMIT
"""


def reading(time: float, a: int, b: int = 0) -> Reading:
    return Reading(time, parse(SAVED.format(a=a, b=b)))


def probes(packets: int) -> Lost:
    return Lost(17, "10.0.0.1", "10.0.0.2", packets, ports=[4096, 5000], port=6081)


@pytest.mark.parametrize(
    ("idle", "during", "sent", "expected"),
    [
        (0, 5, 5, [True]),  # a quiet rule
        (0, 4, 5, []),  # fewer than we lost: not, or not alone
        (0, 500, 5, [False]),  # far more than ours: somebody else's storm, perhaps ours too
        (10, 30, 20, [True]),  # a noisy one: 10 of others' and 20 of ours
        (10, 15, 5, []),  # which others' traffic may be alone
        (1000, 1010, 5, []),
        (1000, 2000, 1000, [True]),
        (1000, 3000, 1000, [False]),
    ],
)
def test_more_than_others_explain(idle: int, during: int, sent: int, expected: list[bool]) -> None:
    """The idle time is as long as the other; then twice as long; then half."""
    for factor in (1, 2, 0.5):
        before, settle = reading(0, 100), reading(factor, 100 + int(idle * factor))
        moved = movements(
            (before, settle),
            (reading(50, 100 + idle * 3), reading(51, 100 + idle * 3 + during)),
        )
        (found,) = suspects(4, moved, [probes(sent)])
        assert [rule["sure"] for rule in found] == expected, factor


def test_a_table_that_was_changed_or_set_back_tells_nothing() -> None:
    other = Reading(1, parse(SAVED.format(a=0, b=0).replace("j DROP", "j ACCEPT")))
    first, last = reading(0, 0), reading(2, 5)
    assert movements((first, reading(1, 0)), (reading(1, 0), last)).keys() == {"filter"}
    for idle, ours in (
        ((first, other), (reading(1, 0), last)),
        ((other, reading(1, 0)), (reading(1, 0), last)),
        ((first, reading(1, 0)), (other, last)),
        ((reading(0, 9), reading(1, 0)), (reading(1, 0), last)),
        ((first, reading(1, 9)), (reading(1, 9), last)),
    ):
        assert movements(idle, ours) == {}


@pytest.mark.parametrize(
    ("option", "readers", "expected"),
    [
        ("--queue-num 0", None, ("queue", "0", None, False)),  # who reads them is not known
        ("--queue-num 0", {0: 4711, 1: 5}, ("queue", "0", 4711, False)),  # who reads it decides
        ("--queue-num 0", {1: 4711}, ("queue", "0", 0, True)),  # nobody: the kernel drops it
        ("--queue-num 9", {}, ("queue", "9", 0, True)),
        ("--queue-balance 1:3", {3: 4711}, ("queue", "1-3", 4711, False)),
        ("--queue-balance 1:3 --queue-cpu-fanout", {4: 4711}, ("queue", "1-3", 0, True)),
        ("--queue-num 0 --queue-bypass", {0: 4711}, ("queue", "0", 4711, False)),
        ("--queue-num 0 --queue-bypass", {}, None),  # they pass
        ("--queue-num 0 --queue-bypass", None, ("queue", "0", None, False)),
    ],
)
def test_a_queue_ends_what_nobody_reads(
    option: str, readers: dict[int, int] | None, expected: tuple[object, ...] | None
) -> None:
    saved = SAVED.replace("--queue-num 0", option)
    first, last = (Reading(t, parse(saved.format(a=0, b=b))) for t, b in ((0, 0), (1, 5)))
    (found,) = suspects(4, movements((first, first), (first, last)), [probes(5)], readers)
    told = [tuple(r[key] for key in ("verdict", "queue", "reader", "sure")) for r in found]
    assert told == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (b"", {}),
        (b"    9   4711     0 2 65531     0     0        0  1\n", {9: 4711}),
        (b"    0      1     0 2 65531     0     0        0  1\n65535 4294962893 0 2 9 0 0 0  1\n",
         {0: 1, 65535: 4294962893}),
    ],
)  # fmt: skip
def test_who_reads_which_queue(text: bytes, known: dict[int, int]) -> None:
    assert queues.parse(text) == known


def test_whoever_read_a_queue_at_any_time_counts() -> None:
    assert queues.ever([{1: 2}, {3: 4}]) == {1: 2, 3: 4}
    assert queues.ever([{1: 2}, None]) is None


def test_the_policy_of_a_chain_that_our_packets_never_pass() -> None:
    text = SAVED.replace("OUTPUT ACCEPT [9:", "OUTPUT DROP [{a}:").replace("[{a}:1] -A", "[0:0] -A")
    first, last = (Reading(t, parse(text.format(a=a, b=0))) for t, a in ((0, 0), (1, 5)))
    moved = movements((first, first), (first, last))
    assert suspects(4, moved, [probes(5)]) == [[]]  # they came in
    outgoing = Lost(17, "10.0.0.1", "10.0.0.2", 5, incoming=False)
    ((rule,),) = suspects(4, moved, [outgoing])
    assert (rule["text"], rule["policy"]) == ("-P OUTPUT DROP", True)


def test_a_policy_that_ended_fewer_than_we_lost() -> None:
    text = SAVED.replace("INPUT ACCEPT [10:", "INPUT DROP [{a}:").replace("[{a}:1] -A", "[0:0] -A")
    for moved, expected in ((4, 0), (5, 1)):
        first, last = (Reading(t, parse(text.format(a=a, b=0))) for t, a in ((0, 0), (1, moved)))
        (found,) = suspects(4, movements((first, first), (first, last)), [probes(5)])
        assert len(found) == expected


def test_a_chain_that_is_not_reached() -> None:
    """A rule is no suspect where the way to its chain is for others' packets."""
    text = """*filter\n:INPUT ACCEPT [0:0]\n:X - [0:0]\n
[{a}:0] -A INPUT -p tcp -j X\n[{a}:0] -A X -j DROP\nCOMMIT\n"""
    first, last = (Reading(t, parse(text.format(a=a))) for t, a in ((0, 0), (1, 5)))
    assert suspects(4, movements((first, first), (first, last)), [probes(5)]) == [[]]
    text = text.replace("-p tcp", "-p udp")
    first, last = (Reading(t, parse(text.format(a=a))) for t, a in ((0, 0), (1, 5)))
    ((rule,),) = suspects(4, movements((first, first), (first, last)), [probes(5)])
    assert (rule["chain"], rule["sure"]) == ("X", True)


def test_a_recorded_save() -> None:
    tables = parse((HERE / "fixtures" / "legacy" / "node.save").read_text("utf-8"))
    assert sorted(tables) == ["filter", "nat"]
    table = tables["filter"]
    assert {name: rule.target for name, rule in table.policies.items()} == {
        "INPUT": "DROP", "FORWARD": "ACCEPT", "OUTPUT": "ACCEPT",
    }  # fmt: skip
    assert [rule.position for rule in table.chains["CORP"]] == [1, 2, 3]
    assert table.chains["CORP"][1].packets == 17
    assert table.chains["INPUT"][0].target == "CORP"
    assert table.policies["INPUT"].packets == 4
    assert parse("") == {}


# --- can it match? -------------------------------------------------------------------------------

UDP4 = Lost(17, "10.1.2.3", "10.1.9.9", 1, ports=[4096, 50000], port=6081, device="ens192")
SYN6 = Lost(6, "fd00::1", "fd00:1::2", 1, ports=[40000], port=4240, flags=2, device="eth0")
ECHO = Lost(1, "10.1.2.3", "10.1.9.9", 1, kind=8, incoming=False, device="eth0")


@pytest.mark.parametrize(
    ("rule", "lost", "expected"),
    [
        ("-j DROP", UDP4, True),
        ("-p udp", UDP4, True), ("-p tcp", UDP4, False), ("! -p tcp", UDP4, True),
        ("! -p udp", UDP4, False), ("-p 17", UDP4, True), ("-p all", UDP4, True),
        ("-p nosuch", UDP4, True),
        ("-s 10.1.2.3/32", UDP4, True), ("-s 10.1.2.0/24", UDP4, True),
        ("-s 10.1.3.0/24", UDP4, False), ("! -s 10.1.2.0/24", UDP4, False),
        ("! -d 10.1.2.0/24", UDP4, True), ("-d 10.1.9.9", UDP4, True),
        ("-s 10.0.2.0/255.0.255.0", UDP4, True), ("-s 10.0.3.0/255.0.255.0", UDP4, False),
        ("-s fd00::/16 -d fd00:1::/32", SYN6, True), ("-s fd01::/16", SYN6, False),
        ("--dport 6081", UDP4, True), ("--dport 6082", UDP4, False),
        ("! --dport 6081", UDP4, False), ("--dport 6000:6100", UDP4, True),
        ("--dport :6080", UDP4, False), ("--dport 6081:", UDP4, True),
        ("--sport 4096", UDP4, True),  # for some of them
        ("! --sport 4096", UDP4, True), ("--sport 1:1024", UDP4, False),
        ("! --sport 1024:65535", UDP4, False),
        ("-m multiport --dports 53,6000:6090", UDP4, True),
        ("-m multiport --dports 53,80", UDP4, False), ("-m multiport --ports 80", UDP4, False),
        ("-m multiport --ports 6081", UDP4, True), ("-m multiport ! --dports 6081", UDP4, False),
        ("-i ens192", UDP4, True), ("-i ens+", UDP4, True), ("-i eth0", UDP4, False),
        ("! -i eth0", UDP4, True), ("-o ens192", UDP4, False), ("-o eth0", ECHO, True),
        ("-i eth0", ECHO, False),
        ("-p icmp -m icmp --icmp-type 8", ECHO, True), ("--icmp-type 8/0", ECHO, True),
        ("--icmp-type 0", ECHO, False), ("--icmp-type any", ECHO, True),
        ("--icmp-type strange", ECHO, True),
        ("--tcp-flags FIN,SYN,RST,ACK SYN", SYN6, True), ("--tcp-flags SYN,ACK ACK", SYN6, False),
        ("! --tcp-flags FIN,SYN,RST,ACK SYN", SYN6, False),
        ("-m iprange --src-range 10.1.2.1-10.1.2.9", UDP4, True),
        ("-m iprange --src-range 10.1.2.4-10.1.2.9", UDP4, False),
        ("-m iprange ! --dst-range 10.1.9.0-10.1.9.255", UDP4, False),
        ("-m set --match-set bad src", UDP4, True), ("-m conntrack --ctstate INVALID", UDP4, True),
        ("-m limit --limit 3/sec -m comment --comment \"-p tcp -s 1.1.1.1\"", UDP4, True),
        ("-m string --string x --algo bm", UDP4, True), ("-s broken/xx", UDP4, True),
        ("-p", UDP4, True), ("", UDP4, True),
    ],
)  # fmt: skip
def test_options(rule: str, lost: Lost, expected: bool) -> None:
    assert can_match(split("-A INPUT " + rule + " -j DROP"), lost) is expected


def test_what_is_not_known_of_a_packet_excludes_nothing() -> None:
    bare = Lost(17, "10.1.2.3", "10.1.9.9", 1)
    for option in ("--sport 1", "--dport 1", "--icmp-type 1", "--tcp-flags SYN SYN", "-i eth7"):
        assert can_match(option.split(), bare)
        assert can_match(["!", *option.split()], bare)


def test_nothing_is_known_before_it_was_read() -> None:
    counters = LegacyCounters()
    assert counters.suspects([probes(1)]) == [[]]
