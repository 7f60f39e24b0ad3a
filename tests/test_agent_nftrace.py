"""The exact rule: real rules of every sort in real namespaces, and the traces of them."""

import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import rulebench
from rulebench import FAR, NEAR, PATIENCE_S, Bench, Worker, bench, udp

from preflight.agent import commands, guardian, nftrace, xtables
from preflight.agent.nfnetlink import attribute, nested, number, text
from preflight.agent.nftrules import comment
from preflight.agent.ruletext import listed
from preflight.agent.walks import Walks
from preflight.agent.xtwords import option, split

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]
UDP = [(family, 17, [("transport", 8, b"PREFLIGHT")]) for family in (4, 6)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def shared() -> Iterator[Bench]:
    with bench("rules") as out:
        yield out


@pytest.fixture
def cable(shared: Bench) -> Iterator[Bench]:
    """Two namespaces without rules."""
    yield shared
    shared.clean()


@pytest.fixture(scope="module")
def agents(shared: Bench) -> Iterator[dict[str, Worker]]:
    """A process at each end, for tests that change nothing in it."""
    out = {"near": Worker(shared.near), "far": Worker(shared.far)}
    yield out
    for worker in out.values():
        worker.close()


def base(where: str, *rules: str, policy: str = "accept", more: str = "") -> str:
    """A table of one base chain; `where` is "family table hook priority" and maybe a device."""
    family, table, hook, priority, *device = where.split()
    on = f' device "{device[0]}"' if device else ""
    lines = "\n".join(rules)
    return f"""table {family} {table} {{
{more}
chain {hook} {{
type filter hook {hook}{on} priority {priority}; policy {policy};
{lines}
}}
}}
"""


def named(hit: dict[str, Any]) -> tuple[Any, ...]:
    return hit["family"], hit["table"], hit["chain"], hit["policy"], hit["verdict"]


# --- where a packet can end ----------------------------------------------------------------------

DROP = "udp dport 6081 counter drop"
JUMPS = "chain last {\nudp dport 6081 drop\n}\nchain middle {\njump last\n}\n"
PLACES = [
    # where it is sought, the ruleset, IPv6?, (chain, base chain's hook), the text, is it a policy?
    ("far", base("inet t input 0", DROP), False, ("input", "input"), DROP, False),
    ("far", base("inet t input 0", DROP), True, ("input", "input"), DROP, False),
    ("far", base("ip t input 0", DROP), False, ("input", "input"), DROP, False),
    ("far", base("ip6 t input 0", DROP), True, ("input", "input"), DROP, False),
    ("far", base("ip raw prerouting -300", DROP), False, ("prerouting",) * 2, DROP, False),
    ("far", base("inet t prerouting -2000", DROP), True, ("prerouting",) * 2, DROP, False),
    ("far", base("inet mangle input -150", DROP), False, ("input", "input"), DROP, False),
    ("near", base("inet t output 0", DROP), False, ("output", "output"), DROP, False),
    ("near", base("ip6 raw output -300", DROP), True, ("output", "output"), DROP, False),
    ("near", base("inet t postrouting 300", DROP), False, ("postrouting",) * 2, DROP, False),
    ("far", base("netdev t ingress 0 eth0", DROP), False, ("ingress",) * 2, DROP, False),
    ("far", base("netdev t ingress -500 eth0", DROP), True, ("ingress",) * 2, DROP, False),
    ("far", base("inet t ingress 0 eth0", DROP), False, ("ingress",) * 2, DROP, False),
    ("near", base("netdev t egress 0 eth0", DROP), False, ("egress",) * 2, DROP, False),
    ("far", base("inet t input 0", "ct state established accept", policy="drop"), False,
     ("input", "input"), "policy drop", True),
    ("far", base("inet t input 0", "jump middle", more=JUMPS), False,
     ("last", "input"), "udp dport 6081 drop", False),
    ("far", base("inet t input 0", "goto middle", more=JUMPS), True,
     ("last", "input"), "udp dport 6081 drop", False),
    ("far", base("inet t input 0", "goto middle", policy="drop", more="chain middle {\n}\n"),
     False, ("input", "input"), "policy drop", True),
    ("far", base("inet t input 0", 'iifname "eth0" jump {', "counter", DROP, "}"), False,
     ("__chain", "input"), DROP, False),
    ("far", base("inet t input 0", "udp dport @bad drop",
                 more="set bad {\ntype inet_service\nelements = { 6081 }\n}\n"), False,
     ("input", "input"), "udp dport @bad drop", False),
    ("far", base("inet t input 0", "udp dport { 53, 6081 } drop"), False,
     ("input", "input"), "udp dport { 53, 6081 } drop", False),
    ("far", base("inet t input 0", "udp dport vmap { 53 : accept, 6081 : drop }"), False,
     ("input", "input"), "udp dport vmap { 53 : accept, 6081 : drop }", False),
    ("far", base("inet t input 0", "udp dport 6081 reject"), False,
     ("input", "input"), "udp dport 6081 reject", False),
    ("far", base("inet t input 0", "udp dport 6081 reject"), True,
     ("input", "input"), "udp dport 6081 reject", False),
    ("far", base("inet t input 0", "udp dport 6081 accept") + base("inet u input 10", DROP), False,
     ("input", "input"), DROP, False),
]  # fmt: skip


@pytest.mark.parametrize(("end", "ruleset", "v6", "chains", "words", "policy"), PLACES)
def test_the_very_rule_is_named(
    cable: Bench,
    agents: dict[str, Worker],
    end: str,
    ruleset: str,
    v6: bool,
    chains: tuple[str, str],
    words: str,
    policy: bool,
) -> None:
    where, worker = getattr(cable, end), agents[end]
    assert worker.open(UDP) == ""
    cable.nft(where, ruleset)
    udp(cable, 2, v6=v6)
    hits = worker.hits(2)
    for hit in hits:
        assert hit["chain"].startswith(chains[0])
        assert (hit["base"], hit["verdict"], hit["policy"]) == (chains[1], "drop", policy)
        assert (hit["source"], hit["destination"]) == (NEAR[v6], FAR[v6])
        ports = "100017c1"  # 4096 to 6081
        assert hit["transport"].startswith(ports)
        assert hit["path"][-1] == [hit["family"], hit["table"], hit["chain"]]
        assert not any("preflight" in step[1] for step in hit["path"])
        assert hit["device"] == "eth0"
        assert (hit["handle"] == 0) == policy
    assert [hit["ident"] for hit in hits] == ([0, 0] if v6 else [1, 2])
    (rule,) = worker.describe()
    assert rule["text"] == words
    assert (rule["tool"], rule["policy"], rule["rejects"]) == ("nft", policy, "reject" in words)
    assert rule["base"]["hook"] == chains[1]
    assert rule["base"]["type"] == "filter"
    assert rule["handle"] == hits[0]["handle"]
    assert not worker("traces['test'].lost")
    worker("traces['test'].close()")


def test_where_it_walked_and_what_the_base_chain_is(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    cable.nft(
        cable.far,
        base("ip early prerouting -150", "ip ttl 0 drop")
        + base("inet t input -7", "jump middle", policy="drop", more=JUMPS),
    )
    udp(cable, 1)
    (hit,) = worker.hits(1)
    assert hit["path"] == [
        ["ip", "early", "prerouting"],
        ["inet", "t", "input"],
        ["inet", "t", "middle"],
        ["inet", "t", "last"],
    ]
    (rule,) = worker.describe()
    assert rule["base"] == {"type": "filter", "hook": "input", "priority": -7, "policy": "drop"}
    assert (rule["position"], rule["chain_rules"], rule["set_by"]) == (1, 1, [])


def test_a_comment_and_a_position(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    rules = ["tcp dport 22 accept", 'udp dport 6081 drop comment "corp baseline"', "accept"]
    cable.nft(cable.far, base("inet filter input 0", *rules))
    udp(cable, 3)
    worker.hits(3)
    (rule,) = worker.describe()  # three packets, one rule
    assert rule["text"] == rules[1]
    assert (rule["comment"], rule["position"], rule["chain_rules"]) == ("corp baseline", 2, 3)


def test_tcp_with_a_reset_and_echo(cable: Bench) -> None:
    marks = [
        (4, 6, [("network", 16, socket.inet_aton(FAR[0])), ("transport", 2, b"\x10\x90")]),
        (4, 1, [("transport", 0, b"\x08\x00")]),
        (6, 58, [("network", 24, socket.inet_pton(socket.AF_INET6, FAR[1]))]),
    ]
    worker = cable.worker(cable.far)
    assert worker.open(marks) == ""
    rules = [
        "tcp dport 4240 reject with tcp reset",
        "icmp type echo-request drop",
        "icmpv6 type echo-request drop",
    ]
    cable.nft(cable.far, base("inet filter input 0", *rules))

    def connect() -> None:
        with socket.socket() as sock, suppress(ConnectionRefusedError):
            sock.connect((FAR[0], 4240))

    cable.call(cable.near, connect)

    def echo() -> None:
        v4 = (socket.AF_INET, socket.IPPROTO_ICMP, bytes((8, 0, 0xF7, 0xFF)) + bytes(4), FAR[0])
        v6 = (socket.AF_INET6, socket.IPPROTO_ICMPV6, bytes((128,)) + bytes(7), FAR[1])
        for family, protocol, packet, address in (v4, v6):
            with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
                sock.sendto(packet, (address, 0))

    cable.call(cable.near, echo)
    worker.hits(3)
    told = worker.describe()
    assert [rule["text"] for rule in told] == rules
    assert [rule["rejects"] for rule in told] == [True, False, False]


def test_a_mark_longer_than_a_register(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open([(4, 17, [("network", 12, bytes((10, 77, 0, 1)) + bytes((10, 77, 0, 2))),
                                 ("transport", 0, struct.pack("!HHHH", 4096, 6081, 18, 0)[:6]),
                                 ("transport", 8, b"PREFLIGHT0")])]) == ""  # fmt: skip
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    udp(cable, 3)  # payloads PREFLIGHT0, 1 and 2: of the first alone we asked to be told
    udp(cable, 1, ident=9)
    assert [hit["ident"] for hit in worker.hits(2)] == [1, 9]
    long = struct.pack("!BBH", 0x45, 0, 38)
    assert worker.open([(4, 17, [("network", 0, long), ("network", 8, b"\x40\x11"),
                                 ("network", 12, socket.inet_aton(NEAR[0])
                                  + socket.inet_aton(FAR[0])
                                  + struct.pack("!HH", 4096, 6081) + b"\0\x12")])],
                       name="long") == ""  # fmt: skip
    udp(cable, 1)
    worker.hits(1, name="long")


def test_through_a_bridge() -> None:
    drop = "udp dport 6081 drop"
    with bench("bridge", bridge=True) as cable:
        for family_hook, v6 in (("prerouting -300", False), ("input 0", True)):
            worker = cable.worker(cable.far)
            assert worker.open(UDP, devices=[]) == ""
            assert worker("traces['test'].families") == ["inet", "bridge"]
            cable.nft(cable.far, base(f"bridge t {family_hook}", drop))
            udp(cable, 2, v6=v6)
            hook = family_hook.split()[0]
            assert {named(h) for h in worker.hits(2)} == {("bridge", "t", hook, False, "drop")}
            (rule,) = worker.describe()
            assert (rule["text"], rule["base"]["hook"]) == (drop, hook)
            cable.clean()
        # On its way out through a bridge, and in at its port.
        worker = cable.worker(cable.far)
        marks = [(4, 17, [("transport", 8, b"ANSWER")])]
        assert worker.open(marks, devices=["eth0", "br0"]) == ""
        cable.nft(cable.far, base("bridge t output 0", drop))

        def answer() -> None:
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.sendto(b"ANSWER", (NEAR[0], 6081))

        cable.call(cable.far, answer)
        (hit,) = worker.hits(1)
        assert named(hit) == ("bridge", "t", "output", False, "drop")


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
        last = ["it's \"base\" line", "-j", "REJECT"] if rule.endswith("--comment") else []
        cable.run(cable.far, tool, *rule.split(), *last)
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 2, v6=v6)
    assert {hit["chain"] for hit in worker.hits(2)} == {"CORP"}
    (rule,) = worker.describe()
    assert rule["tool"] == tool
    assert rule["text"].startswith("-A CORP -p udp -m multiport --dports 6081,8472 ")
    assert (rule["position"], rule["chain_rules"], rule["rejects"]) == (2, 2, True)
    assert rule["comment"] == "it's \"base\" line"
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


def test_an_nft_table_that_only_looks_like_one_of_iptables(cable: Bench) -> None:
    cable.nft(cable.far, base("ip filter input 5", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    (rule,) = worker.describe()
    assert (rule["tool"], rule["text"]) == ("nft", "udp dport 6081 drop")


# --- ours and others' ----------------------------------------------------------------------------


def test_two_runs_at_once(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    one, other = cable.worker(cable.far), cable.worker(cable.far)
    assert one.open([(4, 17, [("transport", 8, b"PREFLIGHT0")])], name="one") == ""
    assert other.open(UDP, name="other") == ""
    owned = {"inet preflight_one", "inet preflight_other"}
    assert cable.worker(cable.far).open(UDP, name="one") == "a table of that name exists"
    assert owned < set(cable.tables(cable.far))
    udp(cable, 2)
    assert [hit["chain"] for hit in other.hits(2, name="other")] == ["input"] * 2
    assert [hit["transport"][-2:] for hit in one.hits(1, name="one")] == [b"0".hex()]
    assert one("traces['one'].close()") is None
    assert not any("_one" in table for table in cable.tables(cable.far))
    udp(cable, 1)
    other.hits(3, name="other")
    other.close()
    assert cable.tables(cable.far) == ["inet t"]


def test_strangers_traces_are_not_ours(cable: Bench) -> None:
    """Somebody traces everything: what bears no mark of ours is theirs."""
    cable.nft(
        cable.far,
        base("inet spy prerouting -400", "meta nftrace set 1")
        + base("inet t input 0", "udp dport { 6081, 9999 } drop"),
    )
    worker = cable.worker(cable.far)
    assert worker.open([(4, 17, [("transport", 2, struct.pack("!H", 6081))])]) == ""
    udp(cable, 5, port=9999)
    udp(cable, 1)
    udp(cable, 5, port=9999)
    udp(cable, 1)
    assert {hit["transport"][:8] for hit in worker.hits(2)} == {"100017c1"}
    for i, mark in enumerate([(4, 6, UDP[0][2]), (6, 17, UDP[0][2])]):  # neither protocol nor family
        assert worker.open([mark, (4, 17, [("transport", 0, b"\xaf\xc8")])], name=str(i)) == ""
        udp(cable, 3)
        udp(cable, 1, source=45000)
        assert worker.hits(1, name=str(i))[0]["transport"][:4] == "afc8"


def test_the_packets_pass_as_ever(cable: Bench) -> None:
    """With tracing on all arrive that did, and none of them is told to have ended."""
    worker, sender = cable.worker(cable.far), cable.worker(cable.near)
    assert (worker.open(UDP), sender.open(UDP, name="near")) == ("", "")
    cable.nft(cable.far, base("inet t input 0", "udp dport 7777 drop"))

    def receiver() -> socket.socket:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind((FAR[0], 6081))
        sock.settimeout(PATIENCE_S)
        return sock

    with cable.call(cable.far, receiver) as sock:
        udp(cable, 8)
        assert [sock.recv(100) for _ in range(8)] == [b"PREFLIGHT%d" % i for i in range(8)]
    udp(cable, 1, port=7777)
    assert [hit["transport"][4:8] for hit in worker.hits(1)] == ["1e61"]
    assert sender("hits(traces['near'], 1, 0)") == []


def test_more_than_could_be_read_is_told(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    worker("traces['test']._socket.setsockopt(1, 8, 2048)")  # SO_RCVBUF
    udp(cable, 200)
    worker("hits(traces['test'], 200, 0)")
    assert worker("traces['test'].lost")


# --- the end of it -------------------------------------------------------------------------------


def ours(cable: Bench) -> list[str]:
    return [table for table in cable.tables(cable.far) if "preflight" in table]


def test_a_killed_agents_tables_end_with_it(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP) == ""
    assert ours(cable) == ["inet preflight_test", "netdev preflight_test"]
    assert "owner" in cable.run(cable.far, "nft", "list", "table", "inet", "preflight_test")
    cable.nft(cable.far, "flush ruleset\n")  # by somebody else meanwhile: ours are not theirs
    assert ours(cable) == ["inet preflight_test", "netdev preflight_test"]
    worker.process.kill()
    worker.process.wait(PATIENCE_S)
    assert ours(cable) == []


def test_a_killed_agents_guardian_deletes_its_tables(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP, owned=False) == ""
    udp(cable, 1)
    worker.hits(1)
    assert ours(cable) == ["inet preflight_test", "netdev preflight_test"]
    assert "owner" not in cable.run(cable.far, "nft", "list", "table", "inet", "preflight_test")
    pid = worker("traces['test']._tables._guardian._process")
    # It holds the end of the pipe that tells it, and nothing that the agent's ends wait for.
    links = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert len(links) == 1
    assert "pipe:" in links.pop()
    assert os.getsid(pid) == pid
    handle = os.pidfd_open(pid)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as a session's end would, just before
        os.kill(pid, number)
    worker.process.kill()
    assert worker.process.stdout.read() == ""  # at once, whatever the guardian does
    worker.process.wait(PATIENCE_S)
    assert select.select([handle], [], [], PATIENCE_S)[0]
    os.close(handle)
    assert cable.tables(cable.far) == ["inet t"]


def test_a_guardian_is_dismissed(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP, owned=False) == ""
    pid = worker("traces['test']._tables._guardian._process")
    worker("traces['test'].close()")
    assert ours(cable) == []
    assert not Path(f"/proc/{pid}").exists()
    assert worker("traces['test'].fileno()") == -1
    worker("traces['test'].close()")  # twice does no harm


def test_a_guardian_never_deletes_anothers_table(cable: Bench) -> None:
    cable.nft(cable.far, base("netdev preflight_test ingress 0 eth0", "counter"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP, owned=False) == "a table of that name exists"
    worker.close()
    assert ours(cable) == ["netdev preflight_test"]


def test_nothing_of_it_is_inherited(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    assert worker.open(UDP, owned=False) == ""
    held = "[os.get_inheritable(int(fd)) for fd in os.listdir('/proc/self/fd') if int(fd) > 2 "
    assert worker(held + "and os.path.exists('/proc/self/fd/' + fd)]").count(True) == 0


# --- kernels and nodes that cannot ---------------------------------------------------------------


def test_without_the_capability() -> None:
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")
    with bench("caps") as cable:
        worker = cable.worker(cable.far, prefix=drop)
        assert worker.open(UDP) == "no CAP_NET_ADMIN"
        assert worker("traces['test'].hits()") == []
        worker("traces['test'].read()")
        assert cable.tables(cable.far) == []


@pytest.mark.parametrize("owned", [True, False])
def test_a_kernel_without_inet_tables(cable: Bench, owned: bool) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    worker("nfnetlink.FAMILIES.__setitem__('inet', 200)")  # such a family no kernel has
    assert worker.open(UDP, owned=owned) == ""
    assert worker("traces['test'].families") == ["ip", "ip6", "netdev"]
    udp(cable, 1)
    udp(cable, 1, v6=True)
    worker.hits(2)
    worker("traces['test'].close()")
    assert ours(cable) == []


def test_a_kernel_without_owned_tables(cable: Bench) -> None:
    cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    worker("setattr(tracetable, 'TABLE_OWNED', 1 << 30)")  # a flag that no kernel knows
    assert worker.open(UDP) == ""
    udp(cable, 1)
    worker.hits(1)
    assert worker("traces['test']._tables._guardian is not None")
    worker.close()  # with its standard input, as an agent ends


def test_a_kernel_without_nf_tables(cable: Bench) -> None:
    worker = cable.worker(cable.far)
    worker("setattr(nfnetlink, '_SUBSYSTEM', 99 << 8)")  # nobody's
    assert worker.open(UDP) == "no nf_tables tracing in the kernel"


def test_a_device_that_is_not_there_costs_the_others_nothing(cable: Bench) -> None:
    cable.nft(cable.far, base("netdev t ingress 0 eth0", "udp dport 6081 drop"))
    worker = cable.worker(cable.far)
    assert worker.open(UDP, devices=["gone0", "eth0"]) == ""
    udp(cable, 1)
    worker.hits(1)


def test_a_module_that_is_not_loaded_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {b"": True, b"kernel/net/netfilter/nf_tables.ko\n": True, b"kernel/fs/ext4.ko\n": False}
    monkeypatch.setattr(nftrace.posix, "access", lambda path, mode: False)
    for built_in, expected in files.items():
        monkeypatch.setattr(nftrace, "read", lambda path, text=built_in: text)
        assert nftrace.loaded() is expected


# --- what legacy tables would log ----------------------------------------------------------------


def test_nobody_is_made_to_log() -> None:
    """Where iptables-legacy has tables and somebody logs, a traced packet would be logged."""
    with bench("log") as cable:
        cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
        cable.run(cable.far, "iptables-legacy", "-A", "INPUT", "-p", "tcp", "-j", "ACCEPT")
        worker = cable.worker(cable.far)
        assert worker("xtables.apart()")
        worker("setattr(xtables, 'apart', lambda: False)")
        assert worker.open(UDP) == ""
        assert worker("traces['test'].untraced") == {"4": "iptables-legacy would log each packet"}
        udp(cable, 1)
        udp(cable, 1, v6=True)
        assert [hit["source"] for hit in worker.hits(1)] == [NEAR[1]]
        worker("traces['test'].close()")
        assert worker.open(UDP[:1], name="v4") == "iptables-legacy would log each packet"
        worker("traces['v4'].close()")
        cable.run(cable.far, "sysctl", "-qw", "net.netfilter.nf_log.2=NONE")
        assert worker.open(UDP, name="quiet") == ""
        assert worker("traces['quiet'].untraced") == {}
        udp(cable, 1)
        worker.hits(1, name="quiet")


def test_a_namespace_but_the_first_logs_nothing() -> None:
    port = 61000 + os.getpid() % 4000
    with bench("log") as cable:
        cable.nft(cable.far, base("inet t input 0", "udp dport 6081 drop"))
        cable.run(cable.far, "iptables-legacy", "-A", "INPUT", "-p", "udp", "-j", "ACCEPT")
        worker = cable.worker(cable.far)
        assert worker.open(UDP) == ""
        assert worker("traces['test'].untraced") == {}
        udp(cable, 1, source=port)
        worker.hits(1)
    logged = rulebench.run("dmesg").splitlines()
    assert not [line for line in logged if "TRACE" in line and f"SPT={port} " in line]


@pytest.mark.parametrize(
    ("name", "expected"), [("6.18.44-fc", (6, 18)), ("4.4.0-210-generic", (4, 4)), ("odd", (0,))]
)
def test_a_kernels_release(name: str, expected: tuple[int, ...]) -> None:
    assert xtables.release(name) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b" 2 NONE (nf_log_ipv4)", "NONE"),
        (b" 2 nf_log_ipv4 (nf_log_ipv4,nfnetlink_log)", "nf_log_ipv4"),
        (b"12 nf_log_x (nf_log_x)", ""),
        (b"", ""),
    ],
)
def test_who_logs(line: bytes, expected: str) -> None:
    assert xtables.logger(b" 0 NONE (nfnetlink_log)\n" + line + b"\n10 other (x)\n", 4) == expected


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
    cable.run(cable.far, *"iptables -A INPUT -p udp --dport 6081 -m comment".split(),
              "--comment", "corp baseline", "-j", "REJECT")  # fmt: skip
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


# --- traces, message by message ------------------------------------------------------------------


def message(table: str, chain: str, kind: int, verdict: int | None = None, **more: Any) -> bytes:
    """A trace message; `network` is given for the first of a base chain."""
    parts = [text(1, table), text(2, chain), number(4, kind), number(6, more.get("id", 7))]
    if verdict is not None and kind == 1:
        parts.append(number(16, verdict))
    elif verdict is not None:
        parts.append(nested(5, number(1, verdict)))
    parts.append(attribute(3, struct.pack("!Q", more.get("handle", 1))))
    if "network" in more:
        parts += [attribute(8, more["network"]), attribute(9, b"\x10\x00\x17\xc1")]
    return b"".join(parts)


def header(ident: int, protocol: int = 17) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, 40, ident, 0, 64, protocol, 0) + bytes(8)


OURS = ("preflight_x", "prerouting", 3, 1)
INET, ACCEPT, CONTINUE = 1, 1, -1


@pytest.mark.parametrize(
    ("verdict", "told"),
    [(0, "drop"), (2, "stolen"), (3, "queue"), (5 << 16 | 3, "queue"), (1 << 16, "drop")],
)
def test_every_end(verdict: int, told: str) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, verdict, network=header(5), handle=12))
    assert [(h["verdict"], h["handle"], h["policy"]) for h in walks.hits] == [(told, 12, False)]


def test_the_end_by_a_policy() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 1, 0, network=header(5), handle=9))
    assert [(h["verdict"], h["handle"], h["policy"]) for h in walks.hits] == [("drop", 0, True)]


@pytest.mark.parametrize("verdict", [ACCEPT, CONTINUE, -2, -3, -4, -5])
def test_what_is_no_end(verdict: int) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, verdict, network=header(5)))
    walks.take(INET, message("t", "input", 1, ACCEPT))
    walks.take(INET, message("t", "sub", 2, 0))  # the return from a chain is none, whatever it says
    assert walks.hits == []


def test_what_comes_back_from_a_queue_may_end_later() -> None:
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 3, 3, network=header(5)))
    walks.take(INET, message("u", "input", 1, 0, network=header(5)))
    assert [h["verdict"] for h in walks.hits] == ["queue", "drop"]
    assert walks.hits[1]["path"] == [["inet", "t", "input"], ["inet", "u", "input"]]


def test_the_number_of_an_earlier_packet() -> None:
    """The kernel gives a stranger's packet the number that one of ours had."""
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(5)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(5)))
    walks.take(INET, message("t", "input", 3, 0, network=header(6)))
    walks.take(INET, message("t", "input", 3, 0))
    assert walks.hits == []
    # And one of ours that of another of ours, which had gone further.
    walks.take(INET, message(*OURS, network=header(7)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(7)))
    walks.take(INET, message(*OURS, network=header(8)))
    walks.take(INET, message("raw", "prerouting", 3, 0, network=header(8)))
    assert [(h["ident"], h["path"]) for h in walks.hits] == [(8, [["inet", "raw", "prerouting"]])]
    # And where nothing tells them apart, as with IPv6: the chain of ours that it meets again does.
    walks = Walks("preflight_x")
    walks.take(INET, message(*OURS, network=header(0)))
    walks.take(INET, message("t", "input", 1, ACCEPT, network=header(0)))
    walks.take(INET, message(*OURS, network=header(0)))
    walks.take(INET, message("raw", "prerouting", 3, 0, network=header(0)))
    assert [h["path"] for h in walks.hits] == [[["inet", "raw", "prerouting"]]]


def test_a_rewritten_packet_is_told_as_it_was_first_seen() -> None:
    walks = Walks("preflight_x")
    first = header(5)[:12] + socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    second = header(5)[:12] + socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.9")
    walks.take(INET, message(*OURS, network=first))
    walks.take(INET, message("t", "input", 3, 0, network=second))
    assert [(h["source"], h["destination"]) for h in walks.hits] == [("192.0.2.1", "192.0.2.2")]


def test_memory_is_bounded() -> None:
    walks = Walks("preflight_x")
    for i in range(20_000):
        walks.take(INET, message(*OURS, network=header(i), id=i))
        walks.take(INET, message("t", "input", 3, 3, network=header(i), id=i))
    assert len(walks.hits) <= 4096
    assert len(walks._packets) <= 4096


@pytest.mark.parametrize("data", [b"", b"\x04", bytes(64), message(*OURS), message("", "", 9, 0)])
def test_odd_messages_do_no_harm(data: bytes) -> None:
    walks = Walks("preflight_x")
    walks.take(INET, data)
    walks.take(77, message("t", "c", 3, 0, network=b"\x45"))
    assert walks.hits == []


# --- the tools -----------------------------------------------------------------------------------


def test_a_tool_is_held_to_its_limits() -> None:
    shell = commands.find("sh")
    assert commands.run((shell, "-c", "echo one; echo two >&2"), 10) == "one\n"
    for script, seconds, why in (
        ("exit 3", 10, "failed"),
        ("echo; sleep 60 & sleep 60", 0.3, "too long"),
        ("exec >&-; sleep 60", 0.3, "too long"),
        ("yes", 10, "too much"),
    ):
        with pytest.raises(commands.CommandError, match=why):
            commands.run((shell, "-c", script), seconds, 1 << 20)
    with pytest.raises(commands.CommandError):
        commands.run(("/gone",), 10)
    assert commands.find("gone", "sh") == shell
    assert commands.find("gone") == ""


def test_a_tool_gets_a_plain_world() -> None:
    said = commands.run(("/usr/bin/env",), 10)
    assert sorted(said.split()) == ["LC_ALL=C", "PATH=/usr/sbin:/sbin:/usr/bin:/bin"]


def test_a_tool_that_takes_too_long_leaves_nobody_behind(tmp_path: Path) -> None:
    script = f"sleep 61 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(commands.CommandError):
        commands.run((commands.find("sh"), "-c", script), 0.5)
    pid = int((tmp_path / "pid").read_text("ascii"))
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        assert select.select([handle], [], [], PATIENCE_S)[0]
        os.close(handle)


# --- the oldest python ---------------------------------------------------------------------------


def test_under_every_python(cable: Bench) -> None:
    from test_agent_pythons import usable

    cable.nft(cable.far, base("inet t input 0", 'udp dport 6081 drop comment "old"'))
    for i, python in enumerate(usable()):
        worker: Worker = cable.worker(cable.far, python=python)
        assert worker.open(UDP, owned=bool(i % 2)) == ""
        udp(cable, 1, v6=bool(i % 2))
        worker.hits(1)
        assert [rule["comment"] for rule in worker.describe()] == ["old"]
        worker.close()
    assert guardian and rulebench
