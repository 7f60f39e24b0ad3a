"""The private tables that trace: their end, whoever ends, and kernels and nodes that have none."""

import os
import select
import signal
from pathlib import Path

import pytest
import rulebench
from rulebench import NEAR, PATIENCE_S, UDP, Bench, base, bench, udp

from preflight.agent.firewall import nftrace, xtables

pytestmark = rulebench.NEEDS_LAB
shared, cable = rulebench.shared, rulebench.cable


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
    for signum in (signal.SIGTERM, signal.SIGHUP):  # as a session's end would, just before
        os.kill(pid, signum)
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
