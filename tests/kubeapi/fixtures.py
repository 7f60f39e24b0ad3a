"""The fixture `kube`: an API server of a test's own, with nothing in it but the four namespaces.

It is the emulator, and with PREFLIGHT_TEST_CLUSTER=1 a real control plane as well: the same test
runs on both. A test that needs the emulator's hooks asks for `emulator` instead.
"""

import os
from collections.abc import Iterator

import pytest

from kubeapi.emulator import Emulator
from kubeapi.raw import Raw, Server
from kubeapi.real import Real, available

_KINDS = ["emulated", pytest.param("real", marks=pytest.mark.cluster)]
if not os.environ.get("PREFLIGHT_TEST_CLUSTER"):
    _KINDS.pop()


@pytest.fixture(params=_KINDS)
def kube(request: pytest.FixtureRequest) -> Iterator[Server]:
    """An API server; `kube.kubeconfig(user)` is how to get to it."""
    if request.param == "emulated":
        with Emulator.up() as emulator:
            yield emulator
    else:
        assert available(), "no real control plane here: run scripts/cluster first"
        with Real.up() as real:
            yield real


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """The emulator alone."""
    with Emulator.up() as running:
        yield running


@pytest.fixture
def raw(kube: Server) -> Raw:
    """A client of it that is not the product's."""
    return Raw(kube)
