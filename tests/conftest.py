"""The lab for tests that need real nodes: network namespaces with a real sshd each."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from inprocess import cli  # noqa: F401
from kubeapi.fixtures import emulator, kube, raw  # noqa: F401
from labs import LAB_DIRECTORY, PREFIX, neighbour_limits, remains

if TYPE_CHECKING:
    from preflight.lab import Lab


@pytest.fixture(scope="session", autouse=True)
def nothing_remains() -> Iterator[None]:
    """At the very end: no test left a namespace, device, route, file, mount or process behind."""
    limits, alone = neighbour_limits(), not LAB_DIRECTORY.exists()
    yield
    assert remains(PREFIX) == []
    if alone and not LAB_DIRECTORY.exists():  # else somebody else's lab still needs them
        assert neighbour_limits() == limits


@pytest.fixture(scope="session")
def lab4() -> Iterator["Lab"]:
    """Four dual-stack nodes in two racks: n1, n2 in a; n3, n4 in b. One for the whole session.

    Firewalls are removed after each test; whatever else a test changes, it changes back.
    """
    from preflight.lab import Lab

    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    with Lab.up(PREFIX, nodes=4, racks=2) as lab:
        yield lab


@pytest.fixture(autouse=True)
def clean_firewalls(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that used `lab4`, no node nor the router has an nftables rule left."""
    yield
    if "lab4" in request.fixturenames:
        lab: Lab = request.getfixturevalue("lab4")
        for where in ("fw", *(node.name for node in lab.nodes)):
            lab.drop_firewall(where)


@pytest.fixture
def lab_name() -> Iterator[Callable[[], str]]:
    """Names for labs of a test's own, which are taken down after it if they still are up."""
    from preflight.lab.lab import take_down

    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    names: list[str] = []

    def another() -> str:
        names.append(f"{PREFIX}-{len(names)}")
        return names[-1]

    yield another
    for name in names:
        take_down(name)
