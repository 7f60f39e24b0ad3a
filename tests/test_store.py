"""Saved whole or not at all; read back equal; and no file, however mangled, does any harm."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import stat
import subprocess
import sys
import threading
import zlib
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import (
    ANSWERED,
    DELIVERED,
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)

from preflight.core import packing
from preflight.core.model import (
    GENEVE,
    Cause,
    Evidence,
    Family,
    Phase,
    Place,
    Probe,
    ProbeKind,
    Severity,
)
from preflight.core.snapshot import Snapshot
from preflight.errors import FileError
from preflight.report.json import dump
from preflight.report.table import render
from preflight.store import ensure_writable, load, save

BOTH = (Family.IPV4, Family.IPV6)
ROOT = Path(__file__).parents[1]


def dumped(snapshot: Snapshot) -> str:
    file = io.StringIO()
    dump(snapshot, file)
    return file.getvalue()


def some(nodes: int = 5) -> Snapshot:
    """One of everything."""
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    return sample(
        nodes,
        2,
        [
            Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
            Fault(DROPPED_AT_DESTINATION._replace(detail="a detail"), "*", "n3", "geneve"),
            Fault(rejected, "n1", "n2", "echo", Family.IPV6),
            Fault(None, "n2", "n4"),
            Fault(NO_AGENT, "n5"),
        ],
        families=BOTH,
        phase=Phase.AFTER,
        agents={"n5": UNREACHABLE},
        notes=["one", "two"],
        interrupted=True,
    )


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    snapshot, path = some(), tmp_path / "snapshot.json"
    save(snapshot, path)
    assert path.read_text() == dumped(snapshot)
    assert dumped(load(path)) == dumped(snapshot)


def test_users_probes_and_clusters_come_back(tmp_path: Path) -> None:
    vxlan = Probe("pods", ProbeKind.VXLAN, GENEVE.protocol, 8472, Severity.REQUIRED)
    snapshot = sample(3, probes=(vxlan,))
    snapshot.matrix.nodes = tuple(replace(n, cluster="prod") for n in snapshot.matrix.nodes)
    save(snapshot, tmp_path / "s")
    again = load(tmp_path / "s").matrix
    assert again.probes == (vxlan,)
    assert [node.cluster for node in again.nodes] == ["prod"] * 3


def test_a_file_with_no_more_than_the_contract_is_read(tmp_path: Path) -> None:
    whole = json.loads(dumped(some()))
    for key in ("preflight", "families", "interrupted", "notes", "digest"):
        del whole[key]
    for probe in whole["probes"]:
        del probe["kind"]
    path = tmp_path / "s"
    path.write_text(json.dumps(whole))
    again = load(path)
    assert again.matrix.probes == some().matrix.probes
    assert json.loads(dumped(again))["results"] == whole["results"]


def large(nodes: int = 140) -> Snapshot:
    snapshot = sample(
        nodes, 4, [Fault(DROPPED_ON_PATH, "n1", "*", "health"), Fault(None, "n2", "n3")]
    )
    matrix, choose = snapshot.matrix, random.Random(1)
    for s in range(2, nodes):
        for d in range(nodes):
            if s != d:
                matrix.set(matrix.index(0, 2, s, d), ANSWERED, choose.lognormvariate(-1, 1))
    return snapshot


def test_a_large_snapshot_is_packed(tmp_path: Path) -> None:
    snapshot, path = large(), tmp_path / "s"
    save(snapshot, path)
    assert path.stat().st_size < 200_000
    listed = json.loads(path.read_text())["results"]
    assert [r["source"] for r in listed] == ["n1"] * 139  # what is not open, as ever
    again = load(path)
    for a, b in zip(snapshot.matrix.cells(), again.matrix.cells(), strict=True):
        assert a[:5] == b[:5]
        assert (a.rtt_ms is None) == (b.rtt_ms is None)
        assert a.rtt_ms is None or b.rtt_ms is None or 0.94 < b.rtt_ms / max(a.rtt_ms, 0.01) < 1.06
    save(again, path)
    assert dumped(load(path)) == dumped(again)  # packing twice loses no more


def test_a_packed_file_keeps_the_evidence_of_every_cell(tmp_path: Path) -> None:
    snapshot = large(150)
    matrix, choose = snapshot.matrix, random.Random(2)
    for _ in range(8000):  # more than are listed by name, of more kinds than a byte has
        s, d = choose.sample(range(150), 2)
        seen = Evidence(40, 40, choose.randrange(1, 40), choose.randrange(20))
        detail = choose.choice([None, "a detail"])
        matrix.set(matrix.index(0, 0, s, d), LOSSY._replace(evidence=seen, detail=detail))
    save(snapshot, tmp_path / "s")
    assert json.loads((tmp_path / "s").read_text())["results"] == []
    again = load(tmp_path / "s").matrix
    assert [c.outcome for c in again.cells()] == [c.outcome for c in matrix.cells()]
    assert len(again.outcomes()) > 255


def test_times_that_are_all_unlike_are_told_less_exactly_and_take_no_more_room() -> None:
    matrix, choose = sample(60).matrix, random.Random(3)
    for index in range(60 * 60, 3 * 60 * 60):
        if matrix.outcome(index) is not None:
            matrix.set(index, ANSWERED, 0.01 * 1e6 ** choose.random())
    outcomes = packing.number_outcomes(matrix)
    cells = "".join(packing.pack_cells(matrix, outcomes))
    for room, within in ((10**6, 1.061), (5700, 1.19), (4700, 1.33)):
        times = "".join(packing.pack_times(matrix, room))
        assert len(times) <= room * 4 / 3 + 4
        again = sample(60, faults=[Fault(None)]).matrix
        packing.unpack(again, outcomes, cells, times)
        for a, b in zip(matrix.cells(), again.cells(), strict=True):
            assert (a.rtt_ms is None) == (b.rtt_ms is None)
            assert a.rtt_ms is None or 1 / within < b.rtt_ms / a.rtt_ms < within
        assert "".join(packing.pack_times(again, room)) == times


def test_where_too_much_is_bad_nothing_is_listed(tmp_path: Path) -> None:
    snapshot = sample(140, 4, [Fault(DROPPED_ON_PATH)])
    save(snapshot, tmp_path / "s")
    assert json.loads((tmp_path / "s").read_text())["results"] == []
    assert load(tmp_path / "s").matrix.outcomes() == {DROPPED_ON_PATH: 140 * 139 * 3}


@pytest.mark.parametrize(("kinds", "bytes_each"), [(255, 1), (256, 2), (65535, 2), (65536, 4)])
def test_packed_cells_are_as_wide_as_they_must_be(kinds: int, bytes_each: int) -> None:
    evidence = DELIVERED.evidence
    outcomes = [DELIVERED._replace(evidence=evidence._replace(sent=i)) for i in range(kinds)]
    matrix = sample(2, probes=(GENEVE,)).matrix
    matrix.set(1, outcomes[0])
    matrix.set(2, outcomes[-1], 12.5)
    assert packing.width(outcomes) == bytes_each
    cells, times = packing.pack_cells(matrix, outcomes), packing.pack_times(matrix)
    again = sample(2, probes=(GENEVE,), faults=[Fault(None)]).matrix
    packing.unpack(again, outcomes, "".join(cells), "".join(times))
    assert [again.outcome(i) for i in range(4)] == [None, outcomes[0], outcomes[-1], None]
    assert again.rtt_ms(2) == pytest.approx(12.5, rel=0.06)


def test_the_mode_is_what_the_umask_leaves(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(sample(2), tmp_path / "s")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o640


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "s", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    save(sample(2), link)
    assert link.is_symlink()
    assert load(target).matrix.nodes
    assert os.listdir(target.parent) == ["s"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    save(sample(2), pipe)
    reader.join()
    assert read == [dumped(sample(2))]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def run(code: str, *args: Path | str, **more: Any) -> subprocess.CompletedProcess[str]:
    start = "import sys; sys.path.insert(0, 'tests')\nfrom samples import sample\n"
    return subprocess.run(
        [sys.executable, "-c", start + code, *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        check=False,
        **more,
    )


def test_standard_output_is_written_to_even_where_it_is_a_file(tmp_path: Path) -> None:
    code = "from preflight.store import save; print('before', flush=True)\n"
    code += "save(sample(2), '/dev/stdout'); print('after')"
    with (tmp_path / "out").open("w") as out:
        assert run(code, stdout=out).returncode == 0
    text = (tmp_path / "out").read_text()
    assert text.startswith("before\n{")
    assert text.endswith("}\nafter\n")


def test_killed_in_the_middle_the_old_file_is_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("old")
    code = (
        "import os, preflight.store as store\n"
        "def die(fd): os.kill(os.getpid(), 9)\n"
        "os.fsync = die\n"
        "store.save(sample(3), sys.argv[1])"
    )
    assert run(code, path).returncode == -9
    assert path.read_text() == "old"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("old")
    code = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from preflight.store import save; from preflight.errors import FileError\n"
        "try: save(sample(9), sys.argv[1])\n"
        "except FileError as error: print(error, end='')"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = run(code, path, preexec_fn=limit, stdout=subprocess.PIPE)
    assert done.stdout == (
        f"{path}: not saved: File too large: make room, or choose another place with --output"
    )
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["s"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system")
def test_a_full_file_system_leaves_the_old_file(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        path = tmp_path / "s"
        save(sample(2), path)
        old = path.read_bytes()
        with pytest.raises(FileError, match="not saved: No space left on device: make room"):
            save(sample(16), path)
        assert path.read_bytes() == old
        assert os.listdir(tmp_path) == ["s"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_an_unknown_key_is_no_obstacle(tmp_path: Path) -> None:
    whole = json.loads(dumped(some()))
    del whole["digest"]
    for record in (whole, *whole["nodes"], *whole["probes"], *whole["results"], whole["timings"]):
        record["later"] = {"a": [1]} if record is not whole["timings"] else 1
    (tmp_path / "s").write_text(json.dumps(whole))
    assert (
        json.loads(dumped(load(tmp_path / "s")))["results"] == json.loads(dumped(some()))["results"]
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_what_an_editor_made_of_it_is_read_or_refused(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "s").write_text(dumped(some()), encoding=encoding)
    only_a_snapshot_or_an_error(tmp_path / "s")


def test_a_file_without_end() -> None:
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
    code = (
        "from preflight import store; from preflight.errors import FileError\n"
        "store._MOST_BYTES = 10_000_000\n"
        "try: store.load('/dev/zero')\n"
        "except FileError as error: print(error, end='')"
    )
    done = run(limited + code, stdout=subprocess.PIPE)
    assert done.stdout.startswith("/dev/zero: larger than 10 MB, which is more than preflight")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short(tmp_path: Path, packed: str, at: float) -> None:
    (tmp_path / "s").write_text(packed[: int(len(packed) * at)])
    with pytest.raises(FileError, match="not a preflight snapshot, or cut short") as caught:
        load(tmp_path / "s")
    assert "\n" not in str(caught.value)


def test_a_full_device() -> None:
    with pytest.raises(
        FileError, match=r"^/dev/full: not saved: No space left on device: make room"
    ):
        save(sample(2), "/dev/full")


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(fd: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "s").write_text("old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(sample(2), tmp_path / "s")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        ("", "missing/s", "there is no directory .*/missing: create it"),
        ("directory", "directory", "it is a directory: name a file in it"),
        ("file", "file/s", "Not a directory"),
        ("loop", "loop", "Too many levels of symbolic links"),
        ("", "x" * 300, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_saved_to(
    tmp_path: Path, make: str, name: str, message: str
) -> None:
    if make == "directory":
        (tmp_path / make).mkdir()
    elif make == "file":
        (tmp_path / make).write_text("a file")
    elif make == "loop":
        (tmp_path / make).symlink_to("loop")
    for action in (lambda path: save(sample(2), path), ensure_writable):
        with pytest.raises(FileError, match=message) as caught:
            action(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_to_make_sure_changes_nothing(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == []
    (tmp_path / "old").write_text("old")
    ensure_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "old"
    ensure_writable("/dev/null")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"/s: cannot be read: No such file or directory$"):
        load(tmp_path / "s")


def changed(path: str, value: Any, *, snapshot: Snapshot | None = None) -> str:
    """The file of `snapshot` with one value changed; `path` like `nodes.0.name`."""
    whole = json.loads(dumped(snapshot or some()))
    return json.dumps(with_change(whole, path, value))


def with_change(whole: Any, path: str, value: Any) -> Any:
    """As somebody does who means to: the digest, which would not fit, goes."""
    whole.pop("digest", None)
    *parents, last = path.split(".")
    record = whole
    for key in parents:
        record = record[int(key) if isinstance(record, list) else key]
    if value is ...:
        del record[last]
    else:
        record[int(last) if isinstance(record, list) else last] = value
    return whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a preflight snapshot, or cut short: "),
        ("{", "not a preflight snapshot, or cut short: "),
        ("\xff\xfe", "not a preflight snapshot, or cut short: "),
        ("[" * 100_000, "not a preflight snapshot, or cut short: "),
        ("[]", "the file: not an object"),
        ("{}", "not a preflight snapshot: it has no schema preflight/snapshot/1"),
        (changed("schema", "preflight/snapshot/2"),
         "its schema is preflight/snapshot/2, this preflight reads preflight/snapshot/1"),
        (changed("schema", "kubernetes"), "not a preflight snapshot"),
        (changed("schema", "preflight/snapshot/2"), "use one that fits"),
        ("\x1f\x8b\x08\0", "compressed: unpack it with gunzip first"),
        ('{"schema": "preflight/snapshot/1", "schema": "preflight/snapshot/1"}',
         "an object has the key 'schema' twice"),
        ("\0" * 99, "not a preflight snapshot, or cut short: "),
        (changed("results.2.rtt_ms", 10**5000 // 10**4301), r"results\[2\].rtt_ms: not a number"),
        (changed("phase", "during"), "phase: not one of before, after"),
        (changed("results", ...), "results: missing"),
        (changed("nodes.1.name", "n1"), r"nodes\[1\]: a second 'n1'"),
        (changed("nodes.1.addresses", ["x"]), r"nodes\[1\].addresses: not a list of addresses"),
        (changed("nodes.1.labels.rack", 1), r"nodes\[1\].labels: not an object of texts"),
        (changed("nodes.1.agent.state", "fine"), r"nodes\[1\].agent.state: not one of ok, "),
        (changed("probes.1.port", 70000), r"probes\[1\].port: not a whole number up to 65535"),
        (changed("probes.1.name", "geneve"), r"probes\[1\]: a second 'geneve'"),
        (changed("families", ["ipv5"]), "families: not a list of ipv4, ipv6"),
        (changed("results.2.source", "n9"), r"results\[2\].source: 'n9' is not in this file"),
        (changed("results.2.destination", "n1"), r"results\[2\].destination: the source itself"),
        (changed("results.2.destination", "n2"), r"results\[2\].source: a second result for"),
        (changed("results.2.verdict", None), r"results\[2\].verdict: not one of open, "),
        (changed("results.2.rtt_ms", -1), r"results\[2\].rtt_ms: not a number of 0 or more"),
        (changed("results.2.rtt_ms", True), r"results\[2\].rtt_ms: not a number of 0 or more"),
        (changed("results.2.rtt_ms", 1e300), r"results\[2\].rtt_ms: not a number of 0 or more"),
        (changed("results.2.rtt_ms", float("nan")), "NaN is not JSON"),
        (changed("results.2.evidence.sent", 1.5), r"results\[2\].evidence.sent: not a whole"),
        (changed("results.2.rejected_by", "you"), r"results\[2\].rejected_by: not an address"),
        (changed("timings.total_s", "fast"), "timings.total_s: not a number"),
        (changed("interrupted", 1), "interrupted: not true or false"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(FileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def zipped(data: bytes) -> str:
    return b64encode(zlib.compress(data)).decode()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("packed") / "s"
    save(large(), path)
    return path.read_text()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("packed.form", 2, "packed.form: not 1, which this preflight reads"),
        ("packed.cells", "AAAA", "packed: damaged"),
        ("packed.cells", "no base64", "packed: "),
        ("packed.rtt", ..., "packed.rtt: missing"),
        ("packed.outcomes.0.verdict", "good", r"packed.outcomes\[0\].verdict: not one of"),
        ("packed.outcomes", [], "packed: a cell has a number that no outcome has"),
        ("packed.rtt", zipped(bytes([129]) * 58_800), "packed: a cell has a time that is none"),
        ("packed.rtt", zipped(bytes(58_801)), "packed: does not hold 58800 bytes"),
        ("packed.cells", zipped(bytes([1]) * 58_800), "packed: a node has a cell to itself"),
        ("nodes.0", None, r"nodes\[0\]: not an object"),
        ("families", ["ipv4", "ipv6"], "packed: does not hold 117600 bytes"),
    ],
)
def test_a_wrong_packed_file_is_refused(
    tmp_path: Path, packed: str, path: str, value: Any, message: str
) -> None:
    file = tmp_path / "s"
    file.write_text(json.dumps(with_change(json.loads(packed), path, value)))
    with pytest.raises(FileError, match=message):
        load(file)


def test_a_time_of_a_cell_that_was_not_planned_is_none(tmp_path: Path, packed: str) -> None:
    whole = json.loads(packed)
    del whole["digest"]
    whole["packed"]["rtt"] = zipped(bytes([60]) * 58_800)
    (tmp_path / "s").write_text(json.dumps(whole))
    matrix = load(tmp_path / "s").matrix
    assert matrix.rtt_ms(matrix.index(0, 0, 1, 2)) is None  # n2 → n3 is left out
    assert matrix.rtt_ms(matrix.index(0, 0, 1, 3)) is not None


def test_a_packed_file_cut_short_is_refused(tmp_path: Path, packed: str) -> None:
    whole = json.loads(packed)
    del whole["digest"]
    whole["packed"]["cells"] = whole["packed"]["cells"].rstrip("=")[:-4]
    whole["packed"]["cells"] += "=" * (-len(whole["packed"]["cells"]) % 4)
    (tmp_path / "s").write_text(json.dumps(whole))
    with pytest.raises(FileError, match="packed: does not hold"):
        load(tmp_path / "s")


def test_a_file_that_claims_more_than_memory_holds(tmp_path: Path) -> None:
    whole = json.loads(changed("results", [], snapshot=sample(2)))
    node = whole["nodes"][0]
    whole["nodes"] = [{**node, "name": f"n{i}"} for i in range(9000)]
    (tmp_path / "s").write_text(json.dumps(whole))
    with pytest.raises(FileError, match="9000 nodes are more than a file can hold"):
        load(tmp_path / "s")


def only_a_snapshot_or_an_error(path: Path) -> None:
    """Whatever is read can be shown and saved again."""
    try:
        snapshot = load(path)
    except FileError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
        return
    render(snapshot, width=80, color=False, file=io.StringIO())
    path.write_text(dumped(snapshot))
    assert dumped(load(path)) == dumped(snapshot)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["n1", "n2", "geneve", "ipv4", "open", "lossy", "reply", "source", "ok"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            found += places(inner, (*path, key))
    return found


SMALL = json.loads(dumped(some(3)))
del SMALL["digest"]  # so that what is changed is looked at itself
PLACES = places(SMALL)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.none() | ANYTHING), min_size=1, max_size=3))
def test_mutated_values(tmp_path_factory: pytest.TempPathFactory, changes: list[Any]) -> None:
    whole = json.loads(json.dumps(SMALL))
    for place, value in changes:
        *parents, last = place
        record = whole
        try:
            for key in parents:
                record = record[key]
            if value is None:
                del record[last]
            else:
                record[last] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_text(json.dumps(whole))
    only_a_snapshot_or_an_error(path)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_mutated_bytes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = bytearray(dumped(some(3)).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.none() | st.integers(0, len(text)))
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(text[:end])
    only_a_snapshot_or_an_error(path)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
@example(b"9" * 5000)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(text)
    with pytest.raises(FileError):
        load(path)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_mutated_packing(
    tmp_path_factory: pytest.TempPathFactory, packed: str, data: st.DataObject
) -> None:
    whole = json.loads(packed)
    del whole["digest"]
    key = data.draw(st.sampled_from(["cells", "rtt"]))
    text = whole["packed"][key]
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("AZaz09+/=\u00e9"))
    whole["packed"][key] = text[:at] + letter + text[at + data.draw(st.integers(0, 1)) :]
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_text(json.dumps(whole))
    with suppress(FileError):
        assert load(path).matrix.outcomes()
