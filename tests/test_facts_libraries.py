"""The parcels: complete, and made without importing what is in them."""

import ast
import base64
import subprocess
import sys
import zlib
from typing import Any

import pytest

from preflight.agent.facts.shipped import NotHereError, refuse
from preflight.transport import libraries


def sources(parcel: Any) -> dict[str, tuple[bool, str]]:
    text = zlib.decompress(base64.b64decode(parcel["sources"])).decode()
    found: dict[str, tuple[bool, str]] = ast.literal_eval(text)
    return found


def test_packing_imports_neither() -> None:
    """pyroute2 takes longer to import than a whole run may take."""
    code = (
        "import sys; from preflight.transport import libraries; libraries.parcels(); "
        "print({'pyroute2', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"


def test_both_are_packed() -> None:
    packed = libraries.parcels()
    assert set(packed) == {"pyroute2", "psutil"}
    routes = sources(packed["pyroute2"])
    assert routes["pyroute2"] == (True, "")  # its own imports everything
    assert {"pyroute2.iproute.linux", "pyroute2.netlink.rtnl.ifinfmsg"} <= set(routes)
    assert all(name.partition(".")[0] == "pyroute2" for name in routes)
    assert not any(name.startswith("pyroute2.ndb") for name in routes)
    assert set(sources(packed["psutil"])) >= {"psutil", "psutil._pslinux", "psutil._common"}
    (extension,) = packed["psutil"]["extensions"]  # type: ignore[misc,attr-defined]
    assert extension["name"] == "psutil._psutil_linux"
    assert zlib.decompress(base64.b64decode(extension["data"])).startswith(b"\x7fELF")
    assert len(str(packed)) < 600_000  # a slow line carries it to each node


@pytest.mark.parametrize(
    ("machine", "libc", "refused"),
    [
        ("x86_64", ("glibc", (2, 17)), False),
        ("x86_64", ("glibc", (2, 36)), False),
        ("x86_64", ("glibc", (2, 5)), True),
        ("x86_64", ("musl", (0, 0)), True),
        ("aarch64", ("glibc", (2, 36)), True),
    ],
)
def test_where_an_extension_can_run(
    machine: str, libc: tuple[str, tuple[int, ...]], refused: bool
) -> None:
    extension = {"machine": "x86_64", "libc": "glibc", "libc_version": [2, 17]}
    if refused:
        with pytest.raises(NotHereError):
            refuse(extension, machine, libc)
    else:
        refuse(extension, machine, libc)
