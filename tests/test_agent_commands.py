"""The node's own tools: held to their limits, and nobody left behind."""

import os
import select
from contextlib import suppress
from pathlib import Path

import pytest

from preflight.agent.firewall import commands

PATIENCE_S = 20  # for what must happen; nothing here is measured by it


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
