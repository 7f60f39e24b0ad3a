"""What was changed after preflight wrote it is refused; what was only laid out anew is read."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from found import BETWEEN_RACKS, HAZARD, HOST_RULE, with_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import DROPPED_ON_PATH, LOSSY, NO_AGENT, Fault, sample

from preflight.core import digest
from preflight.core.snapshot import Snapshot
from preflight.core.view import Filter, view
from preflight.errors import FileError
from preflight.report import json as report
from preflight.store import load, save

CHANGED = (
    'changed after preflight wrote it \\("digest" does not fit\\): take the original, or '
    'remove its "digest" to read it as edited$'
)


def small() -> Snapshot:
    faults = [
        Fault(DROPPED_ON_PATH, "n1", "n2"),
        Fault(LOSSY._replace(detail="20 % \u00e9 \u2192 \x7f"), "n2", "n3"),
        Fault(NO_AGENT, "n4"),
        Fault(None, "n3", "n1"),
    ]
    snapshot = with_findings(sample(4, 2, faults), HOST_RULE, BETWEEN_RACKS, HAZARD)
    for spot, time in enumerate((1.0, 2.0, 1e-3, 1e9, 0.0, 123456.789), 4):
        if (outcome := snapshot.matrix.outcome(spot)) is not None:
            snapshot.matrix.set(spot, outcome, time)
    return snapshot


def oracle(document: dict[str, Any]) -> str:
    """The digest as the schema words it, made of the whole document at once."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return list(map(plain, value))
        return int(value) if isinstance(value, float) and value == int(value) else value

    rest = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(plain(rest), sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.fixture(scope="module", params=["small", "packed", "packed, none listed"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digest") / "s.json"
    if request.param == "small":
        save(small(), path)
    else:
        wide = "n1" if request.param == "packed" else "*"
        save(sample(140, 2, [Fault(DROPPED_ON_PATH, wide)]), path)
    return path


def test_it_is_what_the_schema_says(file: Path) -> None:
    document = json.loads(file.read_text())
    assert list(document)[-1] == "digest"
    assert document["digest"] == oracle(document)
    load(file)


def test_what_is_printed_has_it_too(tmp_path: Path) -> None:
    for wanted in (None, Filter(sources=[0])):
        out = io.StringIO()
        report.dump_view(view(small(), wanted), out)
        document = json.loads(out.getvalue())
        assert document["digest"] == oracle(document)


def test_more_than_is_read_in_this_form_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_SEALED", 3)
    out = io.StringIO()
    report.dump(small(), out)
    assert "digest" not in json.loads(out.getvalue())


LAYOUTS = [
    [sys.executable, "-m", "json.tool"],
    [sys.executable, "-m", "json.tool", "--sort-keys", "--no-ensure-ascii"],
    ["jq", "."],
    ["jq", "-cS", "."],
    ["jq", "-a", "map_values(.)"],
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: " ".join(layout[-2:]))
def test_laid_out_anew_it_is_the_same(file: Path, tmp_path: Path, layout: list[str]) -> None:
    again = tmp_path / "again.json"
    with file.open() as text, again.open("w") as out:
        subprocess.run(layout, stdin=text, stdout=out, check=True, timeout=60)
    assert again.read_bytes() != file.read_bytes()
    assert load(again).matrix.outcomes() == load(file).matrix.outcomes()


def test_numbers_as_other_programs_write_them(tmp_path: Path) -> None:
    document = json.loads(file_of(small(), tmp_path).read_text())
    document["timings"]["total_s"] = 2
    document["timings"]["probe_s"] = 0.00001
    document["digest"] = oracle(document)
    path = tmp_path / "other.json"
    for two, little in (("2", "1e-05"), ("2.0", "0.00001"), ("2e0", "1E-5")):
        text = json.dumps(document).replace("1e-05", little)
        path.write_text(text.replace('"total_s": 2', f'"total_s": {two}'))
        assert load(path).timings == {"connect_s": 0.41, "probe_s": 1e-5, "total_s": 2}


def test_masks_beyond_what_jq_keeps(tmp_path: Path) -> None:
    exact, rounded = {"results": [], "records": [2**64 - 1]}, '{"records": [1.8446744073709552e19]}'
    other = {"results": [], **json.loads(rounded, parse_float=digest.number)}
    assert digest.digest_of(exact) == digest.digest_of(other)


def file_of(snapshot: Snapshot, folder: Path) -> Path:
    path = folder / "s.json"
    save(snapshot, path)
    return path


def lines_gone(text: str) -> str:
    kept = [line for line in text.splitlines() if not ("geneve" in line and "blocked" in line)]
    return "\n".join(kept)


EDITS: list[Callable[[str], str]] = [
    lines_gone,
    lambda text: text.replace('"verdict": "blocked"', '"verdict": "lossy"', 1),
    lambda text: text.replace('"rejected_by"', '"rezected_by"', 1),
    lambda text: text.replace('"severity": "required"', '"severity": "recommended"', 1),
    lambda text: text.replace('"rtt_ms": 1,', '"rtt_ms": 2,', 1),
    lambda text: text.replace('"notes": []', '"notes": ["all is well"]', 1),
    lambda text: text.replace('"sha256:', '"sha256:0', 1),
    lambda text: text.replace('"sha256:', '"md5:', 1),
    lambda text: text[: text.rindex('"sha256:')] + 'null}',
    lambda text: text.replace('"interrupted": false', '"interrupted": true'),
    lambda text: text.replace('"results": [', '"results": [], "old": [', 1),
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=range(len(EDITS)))
def test_what_was_changed_is_refused(tmp_path: Path, edit: Callable[[str], str]) -> None:
    path = file_of(small(), tmp_path)
    text = path.read_text()
    assert edit(text) != text
    path.write_text(edit(text))
    with pytest.raises(FileError, match=CHANGED) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 2


def test_what_is_wrong_by_itself_is_told_by_its_place(tmp_path: Path) -> None:
    path = file_of(small(), tmp_path)
    path.write_text(path.read_text().replace('"accepted"', '"accexted"', 1))
    with pytest.raises(FileError, match=r"results\[0\]\.evidence\.accepted: missing$"):
        load(path)


def test_a_packed_file_without_its_packed_cells_is_refused(tmp_path: Path) -> None:
    path = file_of(sample(140, 2, [Fault(DROPPED_ON_PATH, "n1")]), tmp_path)
    document = json.loads(path.read_text())
    del document["packed"]
    path.write_text(json.dumps(document))
    with pytest.raises(FileError, match=CHANGED):
        load(path)


def test_whoever_means_it_takes_the_digest_away(tmp_path: Path) -> None:
    path = file_of(small(), tmp_path)
    document = json.loads(path.read_text())
    document["notes"] = ["edited"]
    del document["digest"]
    path.write_text(json.dumps(document))
    assert load(path).notes == ("edited",)


SMALL = json.loads("".join(report.document(small(), report.results(small().matrix))))


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Where in it something can be changed: its containers, and the keys in them."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += leaves(inner)
    return found


@settings(deadline=None, max_examples=80)
@given(st.integers(0), st.none() | st.integers(0, 2) | st.sampled_from(["", "open", "n1"]))
def test_no_single_change_goes_unseen(place: int, value: Any) -> None:
    document = json.loads(json.dumps(SMALL), parse_float=digest.number)
    there = leaves(document)
    container, key = there[place % len(there)]
    same = container[key] == value and type(container[key]) is type(value)
    container[key] = value
    assert (digest.digest_of(document) == document["digest"]) == same


def test_every_form_of_saying_open_and_why_at_once_is_refused(tmp_path: Path) -> None:
    for key, value in (("leg", "forward"), ("place", "path"), ("cause", "dropped")):
        with pytest.raises(FileError, match=rf"results\[0\].{key}: there, though the verdict is"):
            load(edited(tmp_path, **{"verdict": "open", key: value}))


@pytest.mark.parametrize("vantage", ["arrived", "accepted"])
def test_more_came_than_was_sent(tmp_path: Path, vantage: str) -> None:
    seen = {**SMALL["results"][0]["evidence"], "sent": 2, vantage: 3}
    with pytest.raises(FileError, match=rf"results\[0\].evidence.{vantage}: 3, though 2 were sent"):
        load(edited(tmp_path, evidence=seen))
    load(edited(tmp_path, evidence={**seen, "sent": None}))


@pytest.mark.parametrize("vantage", SMALL["results"][0]["evidence"])
def test_evidence_has_all_its_vantages(tmp_path: Path, vantage: str) -> None:
    seen = dict(SMALL["results"][0]["evidence"])
    del seen[vantage]
    with pytest.raises(FileError, match=rf"results\[0\].evidence.{vantage}: missing"):
        load(edited(tmp_path, evidence=seen))


def edited(folder: Path, **changes: Any) -> Path:
    """A file without a digest whose first result says something else."""
    document = json.loads(json.dumps(SMALL))
    del document["digest"]
    document["results"][0] |= {"leg": None, "place": None, "cause": None, **changes}
    path = folder / "s.json"
    path.write_text(json.dumps(document))
    return path
