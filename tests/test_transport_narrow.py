"""The hint at a path that takes small packets alone."""

import sys

import pytest

from preflight.lab import Lab
from preflight.transport import narrow as module
from preflight.transport.narrow import mtu_to, narrow


@pytest.mark.parametrize(
    ("hosts", "mtu", "size"),
    [
        (["192.0.2.1"], 1500, 1472),
        (["2001:db8::1"], 1500, 1452),
        (["192.0.2.1"], 9000, 8972),
        (["node.example", "2001:db8::1"], 9000, 8952),
        (["node.example"], 9000, 1472),  # no name is looked up
        (["127.0.0.1"], 65536, 1472),  # a tunnel's end
        (["192.0.2.1"], 0, 1472),  # the kernel does not tell
    ],
)
def test_a_ping_of_full_size_shows_it(
    monkeypatch: pytest.MonkeyPatch, hosts: list[str], mtu: int, size: int
) -> None:
    monkeypatch.setattr(module, "mtu_to", lambda _: mtu)
    assert f"`ping -M do -s {size} NODE` is not answered" in narrow(*hosts)


@pytest.mark.lab
def test_what_is_full_size_is_the_routes(lab4: Lab) -> None:
    """And so the device's, which is a node's own in a lab."""
    ask = (
        "import sys; from preflight.transport.narrow import mtu_to;"
        "print(*map(mtu_to, sys.argv[1:]))"
    )
    n3 = lab4.node("n3")
    lab4.run("n1", "ip", "link", "set", "eth0", "mtu", "1400")
    try:
        said = lab4.run("n1", sys.executable, "-c", ask, *n3.addresses, "127.0.0.1")
    finally:
        lab4.run("n1", "ip", "link", "set", "eth0", "mtu", "1500")
    assert said.stdout.split() == ["1400", "1400", "65535"]


def test_no_route_no_size() -> None:
    assert mtu_to("not an address") == 0
