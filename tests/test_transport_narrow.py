"""The hint at a path that takes small packets alone."""

import pytest

from preflight.transport.narrow import narrow


@pytest.mark.parametrize(("host", "size"), [("192.0.2.1", 1472), ("2001:db8::1", 1452)])
def test_a_ping_of_1500_bytes_shows_it(host: str, size: int) -> None:
    assert f"`ping -M do -s {size} NODE` is not answered" in narrow(host)
