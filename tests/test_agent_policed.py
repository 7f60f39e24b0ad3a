"""What raw sockets count as dropped: for want of room, or for an IPsec policy."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import preflight
from preflight.agent import policed
from preflight.agent.policed import Policed

_ROOT = Path(preflight.__file__).parent.parent
# Of a network namespace of its own: what is sent to its loopback comes in like any other packet.
_BED = """
import subprocess, sys
from socket import *
from preflight.agent.bpf import Filters
from preflight.agent import policed
from preflight.agent.policed import Policed
from preflight.agent.sockets import RawSocket

family, blocked, sockets = map(int, sys.argv[1:])
def run(*words):
    subprocess.run(words, check=True, timeout=10)
run("ip", "link", "set", "lo", "up")
run("sysctl", "-qw", *[
    "net.ipv%d.conf.%s.disable_policy=0" % (v, d) for v in (4, 6) for d in ("all", "lo")
])
every, home = {4: ("0.0.0.0/0", "127.0.0.1"), 6: ("::/0", "::1")}[family]
run("ip", "xfrm", "policy", "add", "src", every, "dst", every, "proto", "udp",
    "dport", str(blocked), "dir", "in", "action", "block")
filters = Filters({6081: 8}, [], False, b"", 0)
raw = [RawSocket(family, 17, filters, 1 << 20) for _ in range(sockets)]
asked = Policed(len(raw))
sender = socket(AF_INET if family == 4 else AF_INET6, SOCK_DGRAM)
sender.setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 20)
for _ in range(400):
    sender.sendto(b"x" * 200, (home, 6081))
print(policed.refused() // 400, end=" ")
print(len(asked.lost(raw[:1])), len(asked.lost(raw[:1])))
"""


def told(family: int, blocked: int, sockets: int) -> str:
    """How often the policy was asked for each packet; the sockets that lost any, and any since."""
    words = [str(word) for word in (family, blocked, sockets)]
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", _BED, *words],
        cwd=_ROOT,
        timeout=30,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("sockets", [1, 2])
def test_what_a_policy_keeps_away_is_not_lost(family: int, sockets: int) -> None:
    assert told(family, 6081, sockets) == f"{sockets + 1} 0 0"  # each asks, and so does UDP


class Raw:
    """A raw socket that has dropped so many packets."""

    def __init__(self, drops: int, counts: bool = True) -> None:
        self.drops, self.counts = drops, counts

    def lost(self) -> int:
        drops, self.drops = self.drops, 0
        return drops


@pytest.mark.parametrize(
    ("drops", "refused", "lost"),
    [
        ((0, 0), 0, []),
        ((0, 0), 8, []),
        ((4, 0), 8, []),
        ((3, 1), 8, []),
        ((4, 0), 0, [0]),
        ((4, 1), 8, [0, 1]),  # one of them was for want of room
        ((4, 0), 7, [0]),
        ((4, 0), 9, [0]),  # others' packets too: then nobody knows
    ],
)
def test_every_single_one_must_be_explained(
    monkeypatch: pytest.MonkeyPatch, drops: tuple[int, ...], refused: int, lost: list[int]
) -> None:
    count = [100, 100 + refused]
    monkeypatch.setattr(policed, "refused", lambda: count.pop(0))
    asked, raws = Policed(), [Raw(n) for n in drops]
    found: list[Any] = asked.lost(raws)  # type: ignore[arg-type]
    assert [raws.index(raw) for raw in found] == lost


def test_where_the_kernel_does_not_count_nothing_is_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = [0, 2]
    monkeypatch.setattr(policed, "refused", lambda: count.pop(0))
    raw = Raw(1, counts=False)
    assert Policed().lost([raw]) == [raw]  # type: ignore[list-item,comparison-overlap]


def test_a_node_without_ipsec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(policed, "_STAT", str(tmp_path / "none"))
    assert policed.refused() == 0
