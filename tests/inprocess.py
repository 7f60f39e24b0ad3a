"""The command line without a process of its own: heavy imports are paid for once."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from preflight.cli import app


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`cli("check", "-i", file)`; a bug of preflight's own fails the test."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["preflight", *map(str, arguments)])
        code = app.run()
        done = Done(code, *capsys.readouterr())
        assert "this is a bug" not in done.stderr
        return done

    return run
