"""What every command says to a wrong argument, and where its results cannot be written."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from inprocess import Run
from samples import sample

from preflight.cli import app as command_line
from preflight.store import save


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from _commands(one, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(_commands(typer.main.get_command(command_line.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_option_that_does_not_exist(cli: Run, path: tuple[str, ...]) -> None:
    code, out, err = cli(*path, "--no-such-thing")
    assert (code, out) == (2, "")
    assert err.startswith("preflight: no such option: --no-such-thing")
    assert err.endswith(f"see preflight {' '.join(path)} --help\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], "no such command 'chek'. Did you mean 'check'? See preflight --help"),
        (["lab", "upp"], "no such command 'upp'. Did you mean 'up'? See preflight lab --help"),
        (["--no"], "no such option: --no; see preflight --help"),
        (["show"], "missing argument 'SNAPSHOT'; see preflight show --help"),
        (["show", "a", "b"], "got unexpected extra argument(s) (b); see preflight show --help"),
        (["check", "--rate", "0"], "invalid value for '--rate': 0 is not in the range"),
        (["check", "--phase"], "option '--phase' requires an argument; see preflight --help"),
        (["show", "x", "--format", "p\x1b[2Jdf"], "is not one of 'table', 'json'"),
    ],
)
def test_a_usage_error_is_one_line(cli: Run, arguments: list[str], words: str) -> None:
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("preflight: ")
    assert words in err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_no_command_at_all_is_helped(cli: Run) -> None:
    for group in ([], ["cilium"]):
        code, out, err = cli(*group)
        assert (code, out) == (2, "")
        assert err.startswith(f"Usage: {' '.join(['preflight', *group])} [OPTIONS] COMMAND")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A snapshot, and an inventory."""
    here = tmp_path_factory.mktemp("files")
    save(sample(3), here / "s.json")
    nodes = "".join(f"  - {{name: n{n}, address: 192.0.2.{n}}}\n" for n in (1, 2))
    (here / "nodes.yaml").write_text(f"nodes:\n{nodes}")
    return here / "s.json", here / "nodes.yaml"


WRITERS = [
    "--version",
    "--help",
    "show SNAPSHOT",
    "show --schema",
    "diff SNAPSHOT SNAPSHOT",
    "diff --schema",
    "explain SNAPSHOT n1 n2",
    "rules SNAPSHOT",
    "merge SNAPSHOT",
    "check -i NODES --dry-run",
    "inventory check NODES",
    "inventory import NODES",
    "cilium connectivity-check --print-manifest",
]


@pytest.mark.parametrize("line", WRITERS)
def test_results_that_cannot_be_written(files: tuple[Path, Path], line: str) -> None:
    names = {"SNAPSHOT": str(files[0]), "NODES": str(files[1])}
    command = [sys.executable, "-m", "preflight", *(names.get(w, w) for w in line.split())]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 2
    assert done.stderr == (
        "preflight: the results could not be written to standard output: No space left on device\n"
    )


@pytest.mark.parametrize("line", WRITERS)
def test_a_reader_that_has_enough_changes_no_exit_code(files: tuple[Path, Path], line: str) -> None:
    """`| head` must not turn what is blocked into 0, nor what is fine into 1."""
    names = {"SNAPSHOT": str(files[0]), "NODES": str(files[1])}
    command = [sys.executable, "-m", "preflight", *(names.get(w, w) for w in line.split())]
    whole = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert whole.stdout
    pipe = os.pipe()
    os.close(pipe[0])
    cut = subprocess.run(
        command, stdout=pipe[1], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(pipe[1])
    assert (cut.returncode, cut.stderr) == (whole.returncode, whole.stderr.decode())


def test_messages_that_cannot_be_written_change_nothing(files: tuple[Path, Path]) -> None:
    command = f"{sys.executable} -m preflight rules {files[0]}"
    for where in ("2>/dev/full", "2>&-"):
        done = subprocess.run(f"{command} {where}", shell=True, timeout=60, check=False)
        assert done.returncode == 0
    wrong = subprocess.run(f"{command} --no 2>/dev/full", shell=True, timeout=60, check=False)
    assert wrong.returncode == 2


def test_a_closed_standard_output_is_told(files: tuple[Path, Path]) -> None:
    command = f"{sys.executable} -m preflight rules {files[0]} >&-"
    done = subprocess.run(
        command, shell=True, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "preflight: standard output is closed: the results have nowhere to go\n",
    )


# --- files that are something else


def test_a_snapshot_is_no_inventory(cli: Run, files: tuple[Path, Path]) -> None:
    for command in (["inventory", "check"], ["check", "-i"], ["inventory", "import"]):
        done = cli(*command, files[0])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"preflight: {files[0]}: is a snapshot, no inventory: `preflight show` reads it; name "
            "the inventory that the check was given\n"
        )


def test_nor_is_a_comparison(cli: Run, files: tuple[Path, Path], tmp_path: Path) -> None:
    both = tmp_path / "diff.json"
    assert cli("diff", files[0], files[0], "--format", "json", "-o", both).returncode == 0
    assert "is what preflight wrote (diff)" in cli("inventory", "check", both).stderr


@pytest.mark.parametrize("line", ["show", "diff", "explain", "rules", "merge", "import", "check"])
def test_what_is_read_is_not_written_over(
    cli: Run, files: tuple[Path, Path], tmp_path: Path, line: str
) -> None:
    read = tmp_path / "read"
    of = files[line in ("import", "check")]
    read.write_bytes(of.read_bytes())
    (tmp_path / "link").symlink_to(read)
    arguments: dict[str, list[object]] = {
        "diff": ["diff", files[0], read],
        "explain": ["explain", read, "n1", "n2"],
        "import": ["inventory", "import", read],
        "check": ["check", "-i", read],
    }
    for name in ("read", "link"):
        done = cli(*arguments.get(line, [line, read]), "-o", tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith("this is what is read; choose another file for --output\n")
    assert read.read_bytes() == of.read_bytes()


@pytest.mark.parametrize(
    "line",
    ["show S", "diff S S --cells", "explain S n1 n2", "rules S", "explain S n1 n2 --format json"],
)
def test_a_file_holds_what_would_be_printed(
    cli: Run, files: tuple[Path, Path], tmp_path: Path, line: str
) -> None:
    arguments = [files[0] if word == "S" else word for word in line.split()]
    printed = cli(*arguments)
    (tmp_path / "out").write_text("old")
    saved = cli(*arguments, "-o", tmp_path / "out")
    assert (saved.returncode, saved.stdout) == (printed.returncode, "")
    assert (tmp_path / "out").read_text("utf-8") == printed.stdout
    full = cli(*arguments, "-o", "/dev/full")
    assert full.returncode == 2
    assert full.stderr.startswith("preflight: /dev/full: not saved: No space left on device")


_INTERRUPTED = """
import sys
from preflight.__main__ import main
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "preflight.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
main()
"""


def test_an_interrupt_while_it_still_loads_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
