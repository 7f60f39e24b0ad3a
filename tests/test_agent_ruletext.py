"""A rule in its admin's words: nft's, iptables', and ours where a node has neither."""

from pathlib import Path

import pytest
import rulebench
from rulebench import UDP, Bench, base, udp

from preflight.agent.firewall.nftrules import comment
from preflight.agent.firewall.ruletext import listed
from preflight.agent.firewall.xtwords import option, split

pytestmark = rulebench.NEEDS_LAB
shared, cable = rulebench.shared, rulebench.cable
HERE = Path(__file__).parent


# --- iptables over nf_tables ---------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
def test_iptables_rules_are_told_in_its_words(cable: Bench, v6: bool) -> None:
    tool = "ip6tables" if v6 else "iptables"
    for rule in (
        "-N CORP",
        "-A INPUT -p tcp --dport 22 -j ACCEPT",
        "-A INPUT -m conntrack --ctstate NEW -j CORP",
        "-A CORP -p udp --dport 53 -j ACCEPT",
        "-A CORP -p udp -m multiport --dports 6081,8472 -m comment --comment",
    ):
        last = ['it\'s "base" line', "-j", "REJECT"] if rule.endswith("--comment") else []
        cable.run(cable.far, tool, *rule.split(), *last)
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 2, v6=v6)
    assert {hit["chain"] for hit in worker.hits(2)} == {"CORP"}
    (rule,) = worker.describe()
    assert rule["tool"] == tool
    assert rule["text"].startswith("-A CORP -p udp -m multiport --dports 6081,8472 ")
    assert (rule["position"], rule["chain_rules"], rule["rejects"]) == (2, 2, True)
    assert rule["comment"] == 'it\'s "base" line'
    assert rule["base"] == {"type": "filter", "hook": "input", "priority": 0, "policy": "accept"}
    # What we say can be used: the rule is the one that iptables deletes by that position.
    cable.run(cable.far, tool, "-D", rule["chain"], str(rule["position"]))
    assert "6081" not in cable.run(cable.far, tool, "-S")


def test_an_iptables_policy(cable: Bench) -> None:
    cable.run(cable.far, "iptables", "-P", "INPUT", "DROP")
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    (rule,) = worker.describe()
    assert (rule["tool"], rule["text"]) == ("iptables", "-P INPUT DROP")
    assert (rule["policy"], rule["position"]) == (True, 0)
    assert rule["base"]["policy"] == "drop"


@pytest.mark.parametrize("change", ["-I INPUT 1", "-R INPUT 1", ""])
def test_rules_that_change_while_they_are_read(cable: Bench, change: str) -> None:
    """The words come from a place in the chain; they are not taken for those of another rule."""
    for rule in ("-A INPUT -p tcp -j DROP", "-A INPUT -p udp --dport 6081 -j DROP"):
        cable.run(cable.far, "iptables", *rule.split())
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    argv = ["/usr/sbin/iptables", *change.split(), "-p", "icmp", "-j", "ACCEPT"]
    change_first = f"('-S' in a and run({argv!r}, 9), run(a, s))[1]"
    leave_one_out = "run(a, s).replace('-A INPUT -p tcp -j DROP\\n', '')"
    worker(
        f"(lambda run: setattr(commands, 'run', lambda a, s: "
        f"{change_first if change else leave_one_out}))(commands.run)"
    )
    (rule,) = worker.describe()
    assert (rule["tool"], rule["handle"]) == ("nft", 3)
    assert rule["text"].startswith("udp dport 6081")


@pytest.mark.parametrize(("plain", "called"), [("nft", "iptables"), ("legacy", "iptables-nft")])
def test_iptables_is_called_what_it_is_on_this_node(
    cable: Bench, tmp_path: Path, plain: str, called: str
) -> None:
    """A command for the other kind would change the other kind's rules."""
    (tmp_path / "iptables").symlink_to(f"/usr/sbin/iptables-{plain}")
    (tmp_path / "iptables-nft").symlink_to("/usr/sbin/iptables-nft")
    cable.run(cable.far, "iptables-nft", "-A", "INPUT", "-p", "udp", "-j", "DROP")
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    worker(f"setattr(commands, 'PLACES', ({str(tmp_path)!r},))")
    (rule,) = worker.describe()
    assert (rule["tool"], rule["position"]) == (called, 1)


def test_an_nft_table_that_only_looks_like_one_of_iptables(cable: Bench) -> None:
    cable.nft(cable.far, base("ip filter input 5", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    (rule,) = worker.describe()
    assert (rule["tool"], rule["text"]) == ("nft", "udp dport 6081 drop")


# --- the text of a rule --------------------------------------------------------------------------

WORDS = [
    "udp dport 6081 drop",
    "udp dport != 6081 drop",
    "udp sport 1024-65535 udp dport 6081 drop",
    "ip saddr 10.77.0.0/24 udp dport 6081 drop",
    "ip saddr 10.77.0.0/29 drop",
    "ip6 saddr fd77::/64 drop",
    "ip6 daddr fd77::2 meta l4proto udp drop",
    'iifname "eth0" drop',
    'iifname "eth*" drop',
    'iif "eth0" drop',
    "ct state invalid,new,untracked drop",
    "ct state new drop",
    "udp dport @bad drop",
    "meta mark 0x00000000 drop",
    "ip protocol udp drop",
    "ip ttl 64 drop",
    "th dport 6081 drop",
    "limit rate 3/second drop",
    'udp dport 6081 log prefix "seen" reject',
    "udp dport 6081 counter drop",
    "@th,64,16 0x5052 drop",
    "udp dport { 6081, 6082 } drop",
    "ip saddr . udp dport { 10.77.0.1 . 6081 } drop",
    "udp length 18 drop",
    "fib saddr . iif oif missing drop",
]
UNTOLD = {  # what nft says and we do not
    "meta mark 0x00000000 drop": "meta mark 0 drop",
    "udp dport { 6081, 6082 } drop": "udp dport { ... } drop",
    "ip saddr . udp dport { 10.77.0.1 . 6081 } drop": None,
    "udp length 18 drop": "meta l4proto udp @th,32,16 0x0012 drop",
    "fib saddr . iif oif missing drop": None,
}


def test_without_tools_the_kernel_is_asked(cable: Bench) -> None:
    """Every rule as we put it into words, beside what its author wrote."""
    sets = "set bad {\ntype inet_service\nelements = { 6081 }\n}\n"
    cable.nft(cable.far, base("inet t input 0", *WORDS, more=sets))
    worker = cable.worker(cable.far)
    worker("setattr(commands, 'find', lambda *names: '')")
    listing = cable.run(cable.far, "nft", "-a", "list", "chain", "inet", "t", "input")
    handles = [int(line.rpartition("# handle ")[2]) for line in listing.splitlines()[3:-2]]
    assert len(handles) == len(WORDS)
    keys = {"family": "inet", "table": "t", "chain": "input", "base": "input", "policy": False}
    hits = [{**keys, "handle": handle} for handle in handles]
    told = worker(f"ruletext.describe({hits!r})")
    for rule, wanted in zip(told, WORDS, strict=True):
        expected = UNTOLD.get(wanted, wanted)
        if expected is not None:
            assert rule["text"] == expected
        assert rule["text"].endswith(wanted.split()[-1])
    assert [rule["position"] for rule in told] == [*range(1, len(WORDS) + 1)]
    gone = worker(f"ruletext.describe({[{**keys, 'handle': 9999}]!r})")
    assert gone[0]["text"] == "rule handle 9999"
    many = worker(f"ruletext.describe({[{**keys, 'handle': i} for i in range(1000)]!r})")
    assert len(many) == 32
    lost = worker(f"ruletext.describe({[{**keys, 'chain': 'gone', 'handle': 7}]!r})")
    assert (lost[0]["text"], lost[0]["chain_rules"]) == ("rule handle 7", 0)


def test_comments_without_tools(cable: Bench) -> None:
    rule = "iptables -A INPUT -p udp --dport 6081 -j REJECT -m comment --comment"
    cable.run(cable.far, *rule.split(), "corp baseline")
    cable.nft(cable.far, base("inet t input -10", 'udp dport 6081 counter comment "seen"'))
    worker = cable.worker(cable.far)
    worker("setattr(commands, 'find', lambda *names: '')")
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    (rule,) = worker.describe()
    assert (rule["comment"], rule["rejects"], rule["tool"]) == ("corp baseline", True, "nft")
    assert rule["text"].startswith("udp dport 6081 xt match")


def test_a_ruleset_of_twenty_thousand_rules_stays_where_it_is(cable: Bench) -> None:
    many = "\n".join(f"ip saddr 198.18.{i >> 8}.{i & 255} drop" for i in range(20_000))
    cable.nft(cable.far, base("inet t input 0", many, "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    (rule,) = worker.describe()
    assert (rule["text"], rule["position"]) == ("udp dport 6081 drop", 20_001)
    assert len(str(rule)) < 1000


def test_a_chains_name_is_never_a_command(cable: Bench) -> None:
    """nft takes its arguments for one text, and the kernel takes any name."""
    name = "c; add table inet injected"
    make = (
        "(lambda n: n.commit(nfnetlink.new_table('inet', 'odd', 0), "
        "nfnetlink.new_chain('inet', 'odd', 'c', 1, 1), "
        f"nfnetlink.new_chain('inet', 'odd', {name!r}, 1, 0), "
        f"nfnetlink.new_rule('inet', 'odd', {name!r}, nfnetlink.expression('immediate', "
        "nfnetlink.number(1, 0), nfnetlink.nested(2, nfnetlink.nested(2, nfnetlink.number(1, 0)"
        "))))))(nfnetlink.Nfnetlink())"
    )
    worker = cable.worker(cable.far)
    worker(make)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    assert [hit["chain"] for hit in worker.hits(1)] == [name]
    (rule,) = worker.describe()
    assert (rule["text"], rule["chain"]) == ("drop", name)
    assert "inet injected" not in cable.tables(cable.far)


def test_rules_out_of_nfts_listing() -> None:
    """Recorded from nft 1.0.6, and with handles inside as other versions write them."""
    text_of = (HERE / "fixtures" / "nftrace" / "chain.nft").read_text("utf-8")
    told = listed(text_of, {6, 8, 14, 15, 99})
    assert told == {
        6: 'udp dport @blocked drop comment "a # handle 15"',
        8: "udp dport { 22, 33, 44-55 } counter packets 0 bytes 0 drop",
        14: 'iifname "lo" jump { counter packets 0 bytes 0 udp dport 1 drop }',
        15: "ip saddr @big goto sub",
    }
    assert listed("", {6}) == {}


def test_words_of_iptables() -> None:
    line = '-A INPUT -m comment --comment "it\\\'s \\"q\\" \\\\ x" -j LOG --log-prefix "" -x  y'
    words = split(line)
    assert words[5:] == ['it\'s "q" \\ x', "-j", "LOG", "--log-prefix", "", "-x", "y"]
    assert option(words, "-g", "-j") == "LOG"
    assert option(words, "y") == ""


def test_userdata() -> None:
    assert comment(b"\x00\x03ab\x00") == "ab"
    assert comment(b"\x01\x01x\x00\x02a\x00\x05") == "a"
    assert comment(b"\x00") == ""
