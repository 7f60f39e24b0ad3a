"""The published schema and what is written hold each other to their word."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from found import BETWEEN_RACKS, HAZARD, HOST_RULE, with_findings
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)

from preflight.core.matrix import Matrix
from preflight.core.merge.model import Merged, Origin
from preflight.core.model import (
    AgentState,
    Came,
    Cause,
    Evidence,
    Family,
    Hello,
    Leg,
    Outcome,
    Phase,
    Place,
    ProbeKind,
    Protocol,
    Severity,
    Verdict,
)
from preflight.core.snapshot import Snapshot
from preflight.core.view import Filter, view
from preflight.errors import FileError
from preflight.report.json import dump_view
from preflight.report.schema import snapshot_schema
from preflight.store import load, save

SCHEMA = json.loads(snapshot_schema())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def dumped(snapshot: Snapshot, wanted: Filter | None = None) -> Any:
    file = io.StringIO()
    dump_view(view(snapshot, wanted), file)
    return json.loads(file.getvalue())


def full() -> Snapshot:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    faults = [
        Fault(rejected._replace(detail="a detail"), "n1", "n2", "echo"),
        Fault(LOSSY, "n2", "n3"),
        Fault(NOT_LISTENING, "n3", "n1", "health"),
        Fault(NO_AGENT, "n4"),
    ]
    snapshot = sample(
        4,
        2,
        faults,
        families=(Family.IPV4, Family.IPV6),
        phase=Phase.AFTER,
        agents={"n4": UNREACHABLE},
        notes=["a note"],
        interrupted=True,
    )
    return with_findings(snapshot, HOST_RULE, BETWEEN_RACKS, HAZARD)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    done = subprocess.run(
        [sys.executable, "-m", "preflight", "show", "--schema"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == SCHEMA


def test_what_is_written_is_as_it_says(tmp_path: Path) -> None:
    VALIDATOR.validate(dumped(full()))
    VALIDATOR.validate(dumped(full(), Filter(sources=[0], verdicts=[Verdict.LOSSY])))
    VALIDATOR.validate(dumped(sample(1)))
    merged = Merged((Origin("a.json", "…", "…", ("n1",)),), ())
    VALIDATOR.validate(dumped(replace(full(), merged=merged)))
    save(sample(140, 2, [Fault(DROPPED_ON_PATH, "n1")]), tmp_path / "packed")
    packed = json.loads((tmp_path / "packed").read_text())
    assert "packed" in packed
    VALIDATOR.validate(packed)


outcomes = st.builds(
    Outcome,
    verdict=st.sampled_from([v for v in Verdict if v is not Verdict.OPEN]),
    leg=st.none() | st.sampled_from(Leg),
    place=st.none() | st.sampled_from(Place),
    cause=st.none() | st.sampled_from(Cause),
    rejected_by=st.none() | st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    evidence=st.builds(Evidence, *[st.none() | st.integers(0, 99)] * 7),
    detail=st.none() | st.text(min_size=1),
    hello=st.none() | st.builds(Hello, st.sampled_from(Came), st.none() | st.just(200)),
)


@settings(deadline=None, max_examples=15)
@given(st.lists(outcomes, min_size=1, max_size=12), st.sampled_from(Phase), st.booleans())
def test_whatever_the_cells_say(cells: list[Outcome], phase: Phase, interrupted: bool) -> None:
    snapshot = sample(3, phase=phase, interrupted=interrupted)
    for place, outcome in enumerate(cells, 10):
        if snapshot.matrix.outcome(place) is not None:
            snapshot.matrix.set(place, outcome)
    VALIDATOR.validate(dumped(snapshot))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("verdict", Verdict),
        ("leg", Leg),
        ("place", Place),
        ("cause", Cause),
        ("severity", Severity),
        ("protocol", Protocol),
        ("family", Family),
    ],
)
def test_every_word_is_in_it_and_no_other(name: str, kinds: type[StrEnum]) -> None:
    assert set(SCHEMA["$defs"][name]["enum"]) - {None} == {str(kind) for kind in kinds}


def test_states_kinds_and_phases_too() -> None:
    properties = SCHEMA["$defs"]["node"]["properties"]["agent"]["properties"]
    assert properties["state"]["enum"] == [str(state) for state in AgentState]
    kinds = SCHEMA["$defs"]["probe"]["properties"]["kind"]["enum"]
    assert set(kinds) == {str(kind) for kind in ProbeKind}
    hello = SCHEMA["$defs"]["outcome"]["properties"]["hello"]["properties"]
    assert hello["answer"]["enum"] == [str(came) for came in Came]
    assert SCHEMA["properties"]["phase"]["enum"] == [str(phase) for phase in Phase]


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(whole: Any) -> None:
        *parents, last = path
        for key in parents:
            whole = whole[key]
        if value is ...:
            del whole[last]
        else:
            whole[last] = value

    return change


WRONG = [
    put("schema", value="preflight/snapshot/2"),
    put("phase", value="during"),
    put("results", value=...),
    put("findings", value=None),
    put("families", value=["ipv5"]),
    put("nodes", 0, "name", value=""),
    put("nodes", 0, "addresses", value=[]),
    put("nodes", 0, "labels", "rack", value=1),
    put("nodes", 0, "agent", "state", value="fine"),
    put("probes", 0, "port", value=70000),
    put("probes", 0, "severity", value="nice"),
    put("results", 0, "source", value=...),
    put("results", 0, "verdict", value="good"),
    put("results", 0, "rtt_ms", value=-1),
    put("results", 0, "rtt_ms", value="1"),
    put("results", 0, "evidence", "sent", value=-1),
    put("results", 0, "evidence", value=None),
    put("findings", 0, "id", value=...),
    put("findings", 0, "severity", value="bad"),
    put("findings", 0, "blocks", 0, "sources", value="n1"),
    put("findings", 0, "changes", 0, "commands", value="rm"),
    put("timings", "total_s", value="fast"),
    put("interrupted", value=1),
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_refused_by_it_and_by_us(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    whole = dumped(full())
    del whole["digest"]
    change(whole)
    assert not VALIDATOR.is_valid(whole)
    (tmp_path / "s").write_text(json.dumps(whole))
    with pytest.raises(FileError):
        load(tmp_path / "s")


def test_an_open_cell_has_no_place_and_no_cause() -> None:
    whole = dumped(sample(2))
    whole["results"][0]["cause"] = "dropped"
    assert not VALIDATOR.is_valid(whole)


def test_a_packed_file_can_be_read_by_the_schemas_words_alone(tmp_path: Path) -> None:
    """As somebody would who has nothing but the schema."""
    import math
    import zlib
    from base64 import b64decode

    faults = [Fault(DROPPED_ON_PATH, "n1", "n7", "health"), Fault(None, "n9", "n3")]
    snapshot = sample(140, 2, faults)
    save(snapshot, tmp_path / "s")
    whole = json.loads((tmp_path / "s").read_text())
    cells = zlib.decompress(b64decode(whole["packed"]["cells"]))
    times = zlib.decompress(b64decode(whole["packed"]["rtt"]))
    matrix: Matrix = snapshot.matrix
    at = 0
    for f, _ in enumerate(whole["families"]):
        for p, _ in enumerate(whole["probes"]):
            for s, _ in enumerate(whole["nodes"]):
                for d, _ in enumerate(whole["nodes"]):
                    outcome = matrix.outcome(matrix.index(f, p, s, d))
                    number = cells[at]
                    if outcome is None:
                        assert number == times[at] == 0
                    else:
                        told = whole["packed"]["outcomes"][number - 1]
                        assert told["verdict"] == outcome.verdict
                        assert told["evidence"] == outcome.evidence._asdict()
                        rtt = matrix.rtt_ms(matrix.index(f, p, s, d))
                        assert (rtt is None) == (times[at] == 0)
                        again = 0.01 * math.exp(math.log(1e6) / 127 * (times[at] - 1))
                        assert rtt is None or 0.93 < again / rtt < 1.07
                    at += 1
