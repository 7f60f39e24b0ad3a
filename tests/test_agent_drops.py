"""Drop reasons on the node: from whatever the kernel describes, and from this kernel itself."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelbed import ADDRESSES, COUNT, PATIENCE_S, ROOT, Bed, probes
from labs import PREFIX
from test_agent_pythons import usable

from preflight.agent.kernel import ebpf
from preflight.agent.kernel.drops import Drops, idle_talk, name_of
from preflight.agent.kernel.kallsyms import Symbols, names
from preflight.agent.kernel.tracefs import Layout, layout

FORMATS = Path(__file__).parent / "fixtures" / "kernel"
_BPF = {"x86_64": 321, "aarch64": 280}
_PROGRAM_BY_ID = 13


def form(kernel: str) -> Layout:
    return Layout(1, (FORMATS / f"kfree_skb-{kernel}.format").read_bytes())


# --- what the kernel describes --------------------------------------------------------------------


def test_reasons_and_places_are_read_from_the_format() -> None:
    new = form("6.18")
    assert new.fields[b"location"] == (16, 8)
    assert new.fields[b"protocol"] == (32, 2)
    assert new.fields[b"reason"] == (36, 4)
    assert (new.reasons[16], new.reasons[73]) == ("IP_RPFILTER", "TC_INGRESS")
    assert len(new.reasons) == 127


def test_numbers_differ_between_kernels() -> None:
    assert form("6.0").reasons[6] == "UDP_CSUM"
    assert form("6.18").reasons[11] == "UDP_CSUM"


def test_a_kernel_without_reasons_has_none() -> None:
    old = form("5.15")
    assert old.fields[b"protocol"] == (24, 2)
    assert old.reasons == {}
    assert idle_talk(old) == []
    assert name_of(old, 0) == ""


def test_a_kernel_that_does_not_say_what_its_numbers_mean_has_no_reasons_either() -> None:
    text = (FORMATS / "kfree_skb-6.0.format").read_bytes()
    mute = Layout(1, text.partition(b"__print_symbolic")[0] + b"drop_reasons[REC->reason]")
    assert mute.reasons == {}
    assert name_of(mute, 16) == ""


def test_an_unspecified_reason_has_no_name_and_an_unknown_one_its_number() -> None:
    assert name_of(form("6.18"), 2) == ""
    assert name_of(form("6.18"), 0x30001) == "196609"


def test_what_means_nothing_for_a_probe_is_not_counted() -> None:
    new = form("6.18")
    idle = {new.reasons[number] for number in idle_talk(new)}
    assert {"NO_SOCKET", "NETFILTER_DROP", "SOCKET_FILTER", "TCP_OLD_DATA"} <= idle
    assert not {"TCP_CSUM", "IP_RPFILTER", "NOT_SPECIFIED", "QDISC_DROP"} & idle


@given(st.binary(), st.sampled_from(["5.15", "6.0", "6.18"]), st.integers(0, 4000))
def test_no_format_is_a_crash(noise: bytes, kernel: str, at: int) -> None:
    text = (FORMATS / f"kfree_skb-{kernel}.format").read_bytes()
    for broken in (noise, text[:at] + noise + text[at:], text[:at]):
        made = Layout(1, broken)
        try:
            code = ebpf.program(made, 3, (0x0800, 0x86DD), idle_talk(made))
        except ValueError:
            continue
        assert len(code) % 8 == 0


# --- functions ------------------------------------------------------------------------------------

_SYMBOLS = [
    b"ffffffff81000000 T _stext",
    b"ffffffff81000100 t ip_rcv_finish_core.isra.0",
    b"ffffffff81000200 T ip_error",
    b"ffffffffc0000000 t nf_hook\t[nf_tables]",
]


def test_an_address_is_in_the_function_that_begins_before_it() -> None:
    symbols = Symbols({0xFFFFFFFF81000100, 0xFFFFFFFF810001FF, 0xFFFFFFFFC0000010, 5})
    symbols.feed(_SYMBOLS[2:])  # in pieces, and not in order
    symbols.feed(_SYMBOLS[:2])
    assert symbols.names() == {
        0xFFFFFFFF81000100: "ip_rcv_finish_core",
        0xFFFFFFFF810001FF: "ip_rcv_finish_core",
        0xFFFFFFFFC0000010: "nf_hook",
    }


def test_hidden_addresses_name_nothing() -> None:
    symbols = Symbols({0xFFFFFFFF81000100})
    symbols.feed([b"0000000000000000 T ip_rcv", b"0000000000000000 T ip_error"])
    assert symbols.names() == {}


@given(st.lists(st.binary()), st.sets(st.integers(0, 2**64 - 1), max_size=5))
def test_no_list_of_functions_is_a_crash(lines: list[bytes], addresses: set[int]) -> None:
    symbols = Symbols(addresses)
    symbols.feed(lines)
    assert set(symbols.names()) <= addresses


# --- this kernel ----------------------------------------------------------------------------------


@pytest.fixture
def watching() -> Iterator[Drops]:
    if os.geteuid() != 0:
        pytest.skip("drop reasons need root")
    drops = Drops()
    assert drops.open() == ""
    yield drops
    drops.close()


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(f"preflight-{PREFIX}-d") as built:
        yield built


def spoilt(drops: Drops, reason: str = "UDP_CSUM") -> int:
    rows = drops.counts()
    assert rows is not None
    return sum(row[3] for row in rows if row[0] == reason and row[2] == 0x0800)


@pytest.mark.lab
def test_real_functions_are_found(watching: Drops) -> None:
    lines = Path("/proc/kallsyms").read_bytes().splitlines()
    address = next(int(line.split()[0], 16) for line in lines if line.endswith(b" ip_rcv"))
    assert names({address + 4}) == {address + 4: "ip_rcv"}


@pytest.mark.lab
def test_drops_are_counted_on_every_cpu_and_only_once(bed: Bed, watching: Drops) -> None:
    everywhere = os.sched_getaffinity(0)
    try:
        for cpu in everywhere:
            os.sched_setaffinity(0, {cpu})
            bed.send("a", probes("udp", spoil=True))
    finally:
        os.sched_setaffinity(0, everywhere)
    with bed.watch("b", "udp") as seen:  # what comes later has come after those
        bed.send("a", probes("udp"))
        seen.wait(lambda s: s.accepted >= COUNT)
    # The whole machine is counted: somebody else's may be among them.
    assert spoilt(watching) >= COUNT * len(everywhere)
    assert spoilt(watching) < COUNT


@pytest.mark.lab
def test_what_a_kernel_does_not_name_is_told_by_its_function(bed: Bed, watching: Drops) -> None:
    bed.sysctl("b", "net.ipv6.icmp.echo_ignore_all", 1)
    watching.counts()
    with bed.watch("b", "icmp", v6=True) as seen:
        bed.send("a", probes("icmp", ADDRESSES["a"][1], ADDRESSES["b"][1]))
        seen.wait(lambda s: s.accepted >= COUNT)
    rows = watching.counts()
    assert rows is not None
    told = {row[1]: row[3] for row in rows if row[2] == 0x86DD}
    if name_of(layout("skb/kfree_skb"), 2) == "":
        assert told["icmpv6_rcv"] >= COUNT


@pytest.mark.lab
def test_the_program_passes_over_what_means_nothing(bed: Bed, watching: Drops) -> None:
    with bed.watch("b", "udp") as seen:
        bed.send("a", probes("udp"))  # nobody has this port: NO_SOCKET
        seen.wait(lambda s: s.accepted >= COUNT)
    here = layout("skb/kfree_skb")
    idle = {here.reasons[number] for number in idle_talk(here)}
    rows = watching.counts()
    assert rows is not None
    assert not {row[0] for row in rows} & idle


@pytest.mark.lab
def test_once_closed_it_counts_nothing_and_holds_nothing(watching: Drops) -> None:
    held = len(os.listdir("/proc/self/fd"))
    watching.close()
    assert len(os.listdir("/proc/self/fd")) == held - 3  # the map, the program, the event
    assert watching.counts() is None
    watching.close()


@pytest.mark.lab
def test_a_program_for_a_kernel_without_reasons_is_accepted_too(watching: Drops) -> None:
    here = layout("skb/kfree_skb")
    old = form("5.15")
    old.number = here.number
    counter = ebpf.Counter(old, (0x0800,), ())
    assert counter.totals() is not None
    counter.close()


@pytest.mark.lab
def test_more_kinds_than_there_is_room_for_are_not_watched(
    watching: Drops, monkeypatch: pytest.MonkeyPatch, bed: Bed
) -> None:
    bed.send("a", probes("udp", spoil=True))
    monkeypatch.setattr(ebpf, "_MAX_KEYS", 1)
    assert watching.counts() is None


def _told_by(code: str, **options: object) -> str:
    lines = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"
    argv = [sys.executable, "-IBS", "-c", lines]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True, **options)  # type: ignore[call-overload]
    return str(done.stdout)


_OPEN = "from preflight.agent.kernel.drops import Drops\nd = Drops()\nprint(d.open(), d.counts())\n"


@pytest.mark.lab
def test_who_may_not_watch_says_so(watching: Drops) -> None:
    told = _told_by(
        f"import os\nfrom preflight.agent.kernel import drops\nos.setuid(65534)\n{_OPEN}"
    )
    assert told.startswith("the kernel's drop reasons cannot be read: ")
    assert told.endswith(" None\n")


def test_without_ctypes_nothing_is_watched() -> None:
    told = _told_by(f"sys.modules['ctypes'] = None\n{_OPEN}")
    assert told.startswith("the kernel's drop reasons cannot be read: ")


@pytest.mark.lab
def test_tracefs_is_read_where_it_is_mounted_and_never_mounted(watching: Drops) -> None:
    assert " tracefs " in Path("/proc/self/mounts").read_text("utf-8") or not any(
        Path("/sys/kernel/tracing").iterdir()
    )
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_OPEN}"
    script = (
        "mount --make-rprivate / && mount -t tracefs none /mnt && "
        f'exec {sys.executable} -IBS -c "$0"'
    )
    argv = ["unshare", "-m", "sh", "-c", script, code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == " []\n" or done.stdout.startswith(" [(")


def _program_of(pid: int) -> int:
    """The id of the program that a process holds."""
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in info.read_text("ascii").splitlines():
            if line.startswith("prog_id:"):
                return int(line.split()[1])
    raise AssertionError("it has no program")


def _lives(program: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    asked = ctypes.create_string_buffer(program.to_bytes(4, sys.byteorder) + bytes(12), 16)
    fd = libc.syscall(_BPF[os.uname().machine], _PROGRAM_BY_ID, asked, 16)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


@pytest.mark.lab
def test_nothing_is_left_of_it_when_its_process_is_killed(bed: Bed) -> None:
    with bed.account("b", idle=False) as account:
        assert account.trouble == ""
        program = _program_of(account.process.pid)
        assert _lives(program)
        account.process.kill()
        account.process.wait()
        end = time.monotonic() + PATIENCE_S  # the kernel frees it when no CPU runs it any more
        while _lives(program):
            assert time.monotonic() < end
            os.sched_yield()


@pytest.mark.lab
@pytest.mark.parametrize("python", usable(), ids=lambda path: path.split("/")[-3])
def test_every_python_tells_the_same(bed: Bed, python: str) -> None:
    with bed.account("b", python=python) as account, bed.watch("b", "udp") as seen:
        assert account.trouble == ""
        bed.send("a", probes("udp", spoil=True))
        seen.wait(lambda s: s.accepted >= COUNT)
        end = account.end()
    assert ["UDP_CSUM", "", 0x0800, COUNT] in json.loads(json.dumps(end.drops))
    assert end.moved["UdpInCsumErrors"] == COUNT
    assert end.idle["UdpInCsumErrors"] == 0
    assert end.settings["net.ipv4.conf.v0.rp_filter"] == 0
    assert end.settings["ip route get 10.9.0.2 from 10.9.0.1 iif v0"] == "local"
    assert end.settings["ip -4 address show dev v0"] == 1
