"""`preflight show`: every form of a saved snapshot, whole or in part."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple, replace
from pathlib import Path
from typing import NamedTuple

import pytest
from found import BETWEEN_RACKS, HAZARD, HOST_RULE, with_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    UNREACHABLE,
    Fault,
    sample,
)

from preflight.cli.app import run
from preflight.core.matrix import Cell
from preflight.core.model import Family, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.view import Filter, view
from preflight.lab import Lab
from preflight.report.formats import Look, ReportFormat, write
from preflight.store import load, save

FAULTS = [
    Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
    Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
    Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
]
FORMATS = [str(form) for form in ReportFormat]


def two() -> Snapshot:
    return with_findings(sample(4, 2, FAULTS), HOST_RULE, BETWEEN_RACKS, HAZARD)


class Done(NamedTuple):
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


def preflight(*arguments: object, encoding: str = "utf-8") -> Done:
    """The whole command, in this process."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2)]
    environment = pytest.MonkeyPatch()
    environment.setattr(sys, "argv", ["preflight", *map(str, arguments)])
    environment.setenv("COLUMNS", "80")
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            code = run()
        finally:
            environment.undo()
    out, err = (stream.detach().getvalue() for stream in streams if not stream.flush())
    assert b"Traceback" not in err
    assert b"bug" not in err
    return Done(code, out.decode(streams_encoding(arguments, encoding)), err.decode(encoding))


def streams_encoding(arguments: tuple[object, ...], encoding: str) -> str:
    """Only the table is in the terminal's encoding."""
    is_fixed = "--format" in arguments and "table" not in arguments
    return "utf-8" if is_fixed else encoding


def written(snapshot: Snapshot, form: str, wanted: Filter | None = None) -> str:
    file = io.StringIO()
    write(view(snapshot, wanted), ReportFormat(form), Look(), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("show") / "s.json"
    save(two(), path)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_the_same_on_the_screen_and_in_a_file(
    file: Path, tmp_path: Path, form: str
) -> None:
    shown = preflight("show", file, "--format", form)
    assert (shown.returncode, shown.stderr) == (1, "")
    saved = preflight("show", file, "--format", form, "-o", tmp_path / "out")
    assert (saved.returncode, saved.stdout, saved.stderr) == (1, "", "")
    assert (tmp_path / "out").read_bytes().decode() == shown.stdout
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written_whatever_the_terminals_encoding_is(file: Path, form: str) -> None:
    done = preflight("show", file, "--format", form, encoding="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    plain = preflight("show", file, "--format", form)
    assert (done.stdout == plain.stdout) == (form != "table")


def test_without_a_format_it_is_the_table(file: Path) -> None:
    done = preflight("show", file)
    assert done.stdout.startswith("Before Cilium, 4 nodes, 12 ordered pairs, IPv4\n")
    assert done.stdout.endswith("Cilium's GENEVE does NOT get through for 3 of 12 pairs.\n")


@pytest.mark.parametrize(
    ("snapshot", "plain", "strict"),
    [
        (sample(4), 0, 0),
        (sample(4, faults=[Fault(LOSSY, "n1", "n2", "health")]), 0, 1),
        (sample(4, faults=[Fault(NO_AGENT, "n1", "n2", "geneve")]), 3, 3),
        (sample(4, faults=[Fault(LOSSY, "n1", "n2")]), 1, 1),
        (sample(2, agents={"n1": UNREACHABLE, "n2": UNREACHABLE}), 4, 4),
        (replace(sample(4), interrupted=True), 130, 130),
    ],
)
def test_it_exits_as_the_check_did_whatever_a_filter_leaves_out(
    tmp_path: Path, snapshot: Snapshot, plain: int, strict: int
) -> None:
    path = tmp_path / "s"
    save(snapshot, path)
    assert preflight("show", path).returncode == plain
    some = ("--source", snapshot.matrix.nodes[-1].name, "--verdict", "open", "--format", "csv")
    assert preflight("show", path, *some).returncode == plain
    assert preflight("show", path, "--strict", "--format", "junit").returncode == strict


# --- filters


def cells(snapshot: Snapshot, wanted: Filter) -> list[Cell]:
    return list(view(snapshot, wanted).shown.matrix.cells())


some_of = st.lists(st.integers(0, 5), max_size=3, unique=True)
filters = st.builds(
    Filter,
    sources=some_of,
    destinations=some_of,
    probes=st.lists(st.integers(0, 2), max_size=2, unique=True),
    families=st.lists(st.sampled_from(Family), max_size=2, unique=True),
    verdicts=st.lists(st.sampled_from(Verdict), max_size=3, unique=True),
    labels=st.lists(
        st.sampled_from([("rack", "a"), ("rack", "c"), ("odd", "1"), ("odd", "0")]), max_size=2
    ),
)


@settings(deadline=None)
@given(filters, st.integers(0, 20), st.sampled_from([4, 300]))
def test_a_filter_keeps_what_it_says_and_nothing_else(
    wanted: Filter, seed: int, kinds: int
) -> None:
    snapshot, choose = sample(6, 3, families=tuple(Family)), random.Random(seed)
    matrix = snapshot.matrix
    matrix.nodes = tuple(
        replace(n, labels={**n.labels, "odd": str(i % 2)}) for i, n in enumerate(matrix.nodes)
    )
    for number in range(kinds):  # more kinds of cells than a byte tells apart
        matrix.number(LOSSY._replace(detail=str(number)))
    for index in range(6 * 36):
        outcome = choose.choice([None, LOSSY, NO_AGENT, DROPPED_ON_PATH, LOSSY])
        if matrix.outcome(index) is not None and choose.random() < 0.4:
            matrix.set(index, outcome and outcome._replace(detail=str(choose.randrange(kinds))), 2)

    def marked(node: int) -> bool:
        return all(matrix.nodes[node].labels[key] == value for key, value in wanted.labels)

    expected = [
        cell
        for cell in matrix.cells()
        if (not wanted.sources or cell.source in wanted.sources)
        and (not wanted.destinations or cell.destination in wanted.destinations)
        and (not wanted.probes or cell.probe in wanted.probes)
        and (not wanted.families or cell.family in wanted.families)
        and (not wanted.verdicts or cell.outcome.verdict in wanted.verdicts)
        and (marked(cell.source) or marked(cell.destination))
    ]
    shown = view(snapshot, wanted)
    assert list(shown.shown.matrix.cells()) == expected
    assert shown.whole is snapshot
    assert shown.cells == (len(expected), len(list(matrix.cells())))
    assert (shown.told == "") == (not any(astuple(wanted)))


def found(wanted: Filter) -> list[str]:
    return [finding.identifier for finding in view(two(), wanted).shown.findings]


def test_findings_are_those_that_touch_a_cell_that_is_shown() -> None:
    assert found(Filter()) == ["F1", "F2", "F3"]
    assert found(Filter(destinations=[1], probes=[0])) == ["F1", "F3"]  # a hazard of n2 itself
    assert found(Filter(sources=[1], destinations=[0])) == []
    assert found(Filter(sources=[3], destinations=[0], probes=[1])) == ["F2"]
    assert found(Filter(verdicts=[Verdict.OPEN])) == []
    assert found(Filter(verdicts=[Verdict.BLOCKED])) == ["F1", "F2"]
    hazard = view(two()).whole.findings[2]
    assert "F3" in found(Filter(sources=hazard.nodes))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--source", "n1"), 9),
        (("--source", "10.0.0.1", "--source", "n2"), 18),
        (("--source", "n1", "--destination", "n2"), 3),
        (("--source", "n1", "--destination", "n1"), 0),
        (("--probe", "geneve", "--probe", "echo"), 24),
        (("--verdict", "blocked"), 11),
        (("--verdict", "blocked", "--verdict", "open"), 36),
        (("--label", "rack=a"), 30),
        (("--label", "rack=a", "--label", "rack=b"), 0),
        (("--family", "ipv4"), 36),
    ],
)
def test_filters_from_the_command_line(file: Path, arguments: Sequence[str], expected: int) -> None:
    done = preflight("show", file, "--format", "json", *arguments)
    whole = json.loads(done.stdout)
    assert len(whole["results"]) == expected
    assert (whole["filter"]["cells"], whole["filter"]["of"]) == (expected, 36)
    assert done.stderr == f"{whole['notes'][0]}\n"
    assert done.stderr.startswith(f"Showing {expected} of 36 cells: ")
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["show", "explain", "rules", "merge", "diff", "diff after"])
def test_a_part_is_not_read_as_a_run(file: Path, tmp_path: Path, command: str) -> None:
    part = tmp_path / "part"
    done = preflight("show", file, "--format", "json", "--verdict", "open", "-o", part)
    assert done.returncode == preflight("show", file).returncode == 1
    name, *_ = command.split()
    files = {"merge": [file, part], "diff": [part, file], "diff after": [file, part]}
    files["explain"] = [part, "n1", "n2"]
    done = preflight(name, *files.get(command, [part]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip().endswith(
        f"{part}: only a part of a run, which `preflight show` filtered (verdict open): "
        "use the whole file"
    )
    assert done.stderr.count("\n") == 1
    note, *_ = json.loads(part.read_text())["notes"]
    assert note == "Showing 25 of 36 cells: verdict open."


@pytest.mark.parametrize("form", ["table", "markdown", "html"])
def test_people_are_told_what_a_filter_leaves_out(form: str) -> None:
    text = written(two(), form, Filter(sources=[2]))
    assert "Showing 9 of 36 cells: source n3." in text


def test_the_summary_is_of_the_whole_run_and_blank_is_not_called_untested() -> None:
    text = written(two(), "table", Filter(verdicts=[Verdict.BLOCKED]))
    assert "Showing 11 of 36 cells: verdict blocked. 2 of 3 findings touch them.\n" in text
    assert "blank: not tested or not shown" in text
    assert "\nThe whole run:\n4 nodes, 36 cells: 25 open, 11 blocked; 0.7 s\n" in text
    assert text.endswith("Cilium's GENEVE does NOT get through for 3 of 12 pairs.\n")
    assert "F3" not in text.split("The whole run:")[0]


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_left_to_show(form: str) -> None:
    assert written(two(), form, Filter(verdicts=[Verdict.CLOSED]))
    assert written(sample(1), form)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--source", "n9"), "no node 'n9': it has n1, n2, n3, n4"),
        (("--destination", "10.9.9.9"), "no node '10.9.9.9': it has n1, n2, n3, n4"),
        (("--probe", "genev"), "no probe 'genev': it has geneve, health, echo"),
        (("--label", "rack"), "--label rack: write it as key=value, such as rack=a"),
        (("--label", "rack=z"), "no label rack 'z': it has a, b"),
        (("--label", "room=a"), "no label 'room': it has rack"),
        (("--family", "ipv6"), "no family 'ipv6': it has ipv4"),
    ],
)
def test_a_wrong_name_costs_one_line_that_says_what_there_is(
    file: Path, arguments: Sequence[str], says: str
) -> None:
    done = preflight("show", file, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{says}\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--verdict", "bad"), ("--format", "pdf")])
def test_a_wrong_word_is_answered_with_those_there_are(
    file: Path, arguments: Sequence[str]
) -> None:
    done = preflight("show", file, *arguments)
    assert done.returncode == 2
    assert "blocked" in done.stderr or "markdown" in done.stderr


# --- files


def test_the_snapshot_is_never_replaced_by_its_report(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    old = file.read_bytes()
    for target in (file, tmp_path / "link"):
        done = preflight("show", file, "--format", "html", "-o", target)
        assert (done.returncode, done.stdout) == (2, "")
        assert "this is what is read; choose another file for --output" in done.stderr
    assert file.read_bytes() == old


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "preflight/snapshot/2"}', "\x1f\x8b"])
def test_a_file_that_is_no_snapshot(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text, "latin-1")
    done = preflight("show", tmp_path / "s", "-o", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"preflight: {tmp_path}/s: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_directory_and_nothing_at_all(tmp_path: Path) -> None:
    assert preflight("show", tmp_path).stderr == (
        f"preflight: {tmp_path}: cannot be read: Is a directory\n"
    )
    assert preflight("show", tmp_path / "x").returncode == 2


def test_a_full_device(file: Path) -> None:
    for form in FORMATS:
        done = preflight("show", file, "--format", form, "-o", "/dev/full")
        assert done.returncode == 2
        assert done.stderr.startswith("preflight: /dev/full: not saved: No space left on device")


def test_whoever_reads_no_further_costs_no_words(file: Path) -> None:
    shell = f"{sys.executable} -m preflight show {file} --format json | head -c 1"
    done = subprocess.run(shell, shell=True, capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"{", b"")


# --- what a check prints, and what nobody may find in it


@pytest.mark.lab
def test_show_prints_what_check_printed(lab4: Lab, tmp_path: Path) -> None:
    lab4.nft("fw", "table inet t { chain forward { type filter hook forward priority 0;\n"
                  "tcp dport 4240 drop;\n}\n}")  # fmt: skip
    path = tmp_path / "s"
    once = preflight("check", "-i", lab4.inventory_path, "-o", path, "-q")
    again = preflight("show", path)
    assert again == once
    assert (once.returncode, once.stderr) == (0, "")
    assert "the network drops TCP 4240" in once.stdout


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_saved_is_shown_as_what_was_measured(tmp_path: Path, form: str) -> None:
    snapshot = two()
    snapshot.matrix.tidy()  # as check does
    save(snapshot, tmp_path / "s")
    assert written(load(tmp_path / "s"), form) == written(snapshot, form)


KEY = b"the run's key: 32 bytes, no less"


@pytest.mark.lab
def test_no_secret_is_in_a_snapshot_or_in_any_report(
    lab4: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from preflight.cli.running import Login, checked
    from preflight.core.options import CheckOptions
    from preflight.crew import crew
    from preflight.inventory import load as read
    from preflight.transport.base import Credentials

    monkeypatch.setattr(crew.secrets, "token_bytes", lambda size: KEY[:size])
    monkeypatch.setenv("PREFLIGHT_TEST_TOKEN", "of-the-environment")
    inventory = read(lab4.inventory_path)
    odd = tuple(replace(n, user=None) if i == 3 else n for i, n in enumerate(inventory.nodes))
    login = Login(Credentials("ssh-password", "sudo-password"), False, 10.0)
    snapshot = checked(replace(inventory, nodes=odd), CheckOptions(), login, quiet=True)
    identity = inventory.nodes[0].identity_file or ""
    private = Path(identity).read_text().split("\n")[1]
    secrets = [
        "ssh-password", "sudo-password", "of-the-environment", identity, private,
        inventory.nodes[0].known_hosts or "/known_hosts", KEY.decode(), KEY.hex(),
        b64encode(KEY).decode(), "token_bytes",
    ]  # fmt: skip
    assert len(private) > 30
    matrix = snapshot.matrix
    assert Verdict.OPEN in {outcome.verdict for outcome in matrix.outcomes()}
    save(snapshot, tmp_path / "small")
    monkeypatch.setattr("preflight.store._LISTED", 0)
    save(snapshot, tmp_path / "packed")
    packed = json.loads((tmp_path / "packed").read_text())["packed"]
    texts = {form: written(snapshot, form).encode() for form in FORMATS}
    texts |= {name: (tmp_path / name).read_bytes() for name in ("small", "packed")}
    texts |= {name: zlib.decompress(b64decode(packed[name])) for name in ("cells", "rtt")}
    for name, text in texts.items():
        for secret in secrets:
            assert secret.encode() not in text, (name, secret)
