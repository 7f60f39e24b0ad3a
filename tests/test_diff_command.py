"""`preflight diff` as a user runs it: arguments, files, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jsonschema
import pytest
from samples import DROPPED_ON_PATH, LOSSY, NO_AGENT, Fault, sample
from scenarios import Rule, check, load

from preflight.cli.app import run
from preflight.core.model import Node
from preflight.core.snapshot import Snapshot
from preflight.store import save

if TYPE_CHECKING:
    from preflight.lab import Lab

DROP = Fault(DROPPED_ON_PATH, "n1", "n2", "geneve")


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Diff = Callable[..., Done]


@pytest.fixture
def diff(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Diff:
    """The whole command line but for the process."""

    def run_(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["preflight", "diff", *map(str, arguments)])
        code = run()
        return Done(code, *capsys.readouterr())

    return run_


def saved(tmp_path: Path, *runs: Snapshot) -> list[Path]:
    paths = []
    for i, of in enumerate(runs):
        paths.append(tmp_path / f"{i}.json")
        started = replace(of, started=f"2026-03-01T0{i}:00:00Z")
        save(started, paths[-1])
    return paths


@pytest.mark.parametrize(
    ("before", "after", "code", "strict"),
    [
        ([], [DROP], 1, 1),
        ([DROP], [], 0, 0),
        ([DROP], [DROP], 0, 0),
        ([], [Fault(LOSSY, "n1", "n2", "echo")], 0, 1),
        ([], [Fault(NO_AGENT, "n1", "n2", "geneve")], 3, 3),
        ([], [Fault(NO_AGENT, "n1", "n2", "echo")], 0, 3),
        ([Fault(NO_AGENT, "n1", "n2", "geneve")], [DROP], 0, 0),
    ],
)
def test_exit_codes(
    diff: Diff, tmp_path: Path, before: list[Fault], after: list[Fault], code: int, strict: int
) -> None:
    files = saved(tmp_path, sample(3, 1, before), sample(3, 1, after))
    assert diff(*files, "--format", "json").returncode == code
    if strict != code:
        assert diff(*files, "--strict").returncode == strict


def test_every_format_says_it(diff: Diff, tmp_path: Path) -> None:
    files = saved(tmp_path, sample(3), sample(3, 1, [DROP]))
    for form, start in (
        ("table", "BEFORE"),
        ("json", '{"schema": "preflight/diff/1"'),
        ("markdown", "## "),
        ("junit", "<?xml"),
        ("html", "<!doctype html"),
    ):
        done = diff(*files, "--format", form)
        assert (done.returncode, done.stderr) == (1, ""), form
        assert done.stdout.lower().startswith(start.lower())
        assert "n1" in done.stdout


def test_files_that_are_none(diff: Diff, tmp_path: Path) -> None:
    good, cut = saved(tmp_path, sample(3), sample(3))
    text = cut.read_text("utf-8")
    cut.write_text(text[: len(text) // 2], "utf-8")
    for files, named in (
        ((good, cut), cut),
        ((cut, good), cut),
        ((good, tmp_path / "none.json"), tmp_path / "none.json"),
        ((good, tmp_path), tmp_path),
    ):
        done = diff(*files)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"preflight: {named}: ")
        assert done.stderr.count("\n") == 1


def test_runs_of_other_nodes_are_refused(diff: Diff, tmp_path: Path) -> None:
    other = sample(3)
    other.matrix.nodes = tuple(
        Node(f"x{i}", (f"10.9.0.{i}",), f"x{i}") for i, _ in enumerate(other.matrix.nodes)
    )
    before, after = saved(tmp_path, sample(3), other)
    done = diff(before, after)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"preflight: {before} and {after} have no node in common, neither by name nor by "
        "address: these are runs of different clusters\n"
    )


def test_cells_where_they_cannot_be_listed_are_refused(diff: Diff, tmp_path: Path) -> None:
    (one,) = saved(tmp_path, sample(3))
    for form in ("markdown", "junit", "html"):
        done = diff(one, one, "--cells", "--format", form)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "preflight: --cells goes with --format table and --format json\n"


def test_its_schema_is_printed_and_holds_what_it_prints(diff: Diff, tmp_path: Path) -> None:
    printed = diff("--schema")
    assert (printed.returncode, printed.stderr) == (0, "")
    schema = json.loads(printed.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    before, after = saved(tmp_path, sample(3), sample(3, 1, [DROP]))
    for more in ([], ["--cells"]):
        done = diff(before, after, "--format", "json", *more, "-o", tmp_path / "diff.json")
        assert (done.returncode, done.stdout) == (1, "")
        jsonschema.Draft202012Validator(schema).validate(
            json.loads((tmp_path / "diff.json").read_text("utf-8"))
        )


def test_a_file_with_itself(diff: Diff, tmp_path: Path) -> None:
    (one,) = saved(tmp_path, sample(3, 1, [DROP]))
    done = diff(one, one)
    assert done.returncode == 0
    assert "Both files hold the same run." in done.stdout


def test_a_full_disk_is_no_bug(tmp_path: Path) -> None:
    (one,) = saved(tmp_path, sample(3))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "preflight", "diff", str(one), str(one)],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("preflight: the results could not be written")


def test_one_node_has_nothing_to_compare(diff: Diff, tmp_path: Path) -> None:
    (one,) = saved(tmp_path, sample(["a"]))
    for form in ("table", "json", "markdown", "junit", "html"):
        done = diff(one, one, "--format", form)
        assert (done.returncode, done.stderr) == (3, ""), form


@pytest.mark.lab
def test_a_firewall_mended_and_another_broken(lab4: Lab, diff: Diff, tmp_path: Path) -> None:
    """Before: n2 drops GENEVE itself. After: it does not, but the router drops what n1 sends n3."""
    first, second = tmp_path / "before.json", tmp_path / "after.json"
    load(lab4, [Rule("n2", "input", 'udp dport 6081 counter drop comment "old"')])
    save(check(lab4), first)
    lab4.drop_firewall("n2")
    pair = [(a, b) for a in lab4.nodes for b in lab4.nodes if (a.name, b.name) == ("n1", "n3")]
    ((source, destination),) = pair
    rules = [
        Rule("fw", "forward", f"{ip} saddr {a} {ip} daddr {b} udp dport 6081 drop")
        for ip, a, b in zip(("ip", "ip6"), source.addresses, destination.addresses, strict=True)
    ]
    load(lab4, rules)
    save(check(lab4), second)
    told = json.loads(diff(first, second, "--format", "json", "--cells").stdout)
    turns = {
        (cell["source"], cell["destination"], cell["probe"], cell["family"]): cell["turn"]
        for cell in told["cells"]
    }
    wanted = {}
    for family in ("ipv4", "ipv6"):
        wanted["n1", "n3", "geneve", family] = "broken"
        for peer in ("n1", "n3", "n4"):
            wanted[peer, "n2", "geneve", family] = "mended"
    assert turns == wanted
    assert [(f["course"], f["severity"]) for f in told["findings"]] == [
        ("new", "required"),
        ("mended", "required"),
    ]
    new, mended = told["findings"]
    assert new["after"]["requests"]
    assert "n2 itself drops UDP 6081" in mended["before"][0]["title"]
    assert told["exit_code"]["normal"] == 1
