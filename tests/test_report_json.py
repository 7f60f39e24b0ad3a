"""The contract that users script against: these keys, in this order, one result on a line."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from samples import (
    DROPPED_AT_DESTINATION,
    DROPPED_ON_PATH,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)

from preflight import __version__
from preflight.core.model import Cause, Family, Place
from preflight.core.snapshot import Snapshot
from preflight.report.json import dump


def dumped(snapshot: Snapshot) -> str:
    file = io.StringIO()
    dump(snapshot, file)
    return file.getvalue()


def parsed(snapshot: Snapshot) -> Any:
    return json.loads(dumped(snapshot))


def test_the_keys_of_the_contract() -> None:
    whole = parsed(sample(3, 1, [Fault(DROPPED_ON_PATH, "n1", "n3", "geneve")]))
    contract = [
        "schema",
        "phase",
        "started",
        "finished",
        "nodes",
        "probes",
        "results",
        "findings",
        "timings",
    ]
    assert [key for key in whole if key in contract] == contract
    assert whole["schema"] == "preflight/snapshot/1"
    assert whole["preflight"] == __version__
    assert (whole["phase"], whole["interrupted"], whole["findings"]) == ("before", False, [])
    assert whole["nodes"][0] == {
        "name": "n1",
        "address": "10.0.0.1",
        "addresses": ["10.0.0.1"],
        "labels": {"rack": "a"},
        "agent": {"state": "ok", "python": "3.11.7", "kernel": "6.1.0-18-amd64"},
    }
    probe = whole["probes"][0]
    assert list(probe)[:4] == ["name", "protocol", "port", "severity"]
    assert (probe["port"], whole["probes"][2]["port"]) == (6081, None)
    assert whole["timings"] == {"connect_s": 0.41, "probe_s": 0.12, "total_s": 0.71}


def test_a_result() -> None:
    whole = parsed(sample(3, 1, [Fault(DROPPED_ON_PATH, "n1", "n3", "geneve")]))
    result = whole["results"][1]
    assert list(result) == [
        "source",
        "destination",
        "probe",
        "family",
        "verdict",
        "leg",
        "place",
        "cause",
        "rejected_by",
        "rtt_ms",
        "evidence",
    ]
    assert result == {
        "source": "n1",
        "destination": "n3",
        "probe": "geneve",
        "family": "ipv4",
        "verdict": "blocked",
        "leg": "forward",
        "place": "path",
        "cause": "dropped",
        "rejected_by": None,
        "rtt_ms": None,
        "evidence": {
            "sent": 20,
            "left": 20,
            "arrived": 0,
            "accepted": 0,
            "answered": None,
            "returned": None,
            "received": None,
        },
    }
    assert [whole["results"][0][key] for key in ("verdict", "leg", "place", "cause")] == [
        "open",
        None,
        None,
        None,
    ]


def test_every_planned_cell_is_a_result_and_no_other() -> None:
    snapshot = sample(
        5,
        2,
        [Fault(None, "rack=b"), Fault(None, "n1", "n2", "echo", Family.IPV6)],
        families=(Family.IPV4, Family.IPV6),
    )
    found = [
        (r["family"], r["probe"], r["source"], r["destination"], r["verdict"], r["rtt_ms"])
        for r in parsed(snapshot)["results"]
    ]
    matrix = snapshot.matrix
    assert found == [
        (
            c.family,
            matrix.probes[c.probe].name,
            matrix.nodes[c.source].name,
            matrix.nodes[c.destination].name,
            c.outcome.verdict,
            None if c.rtt_ms is None else round(c.rtt_ms, 3),
        )
        for c in matrix.cells()
    ]
    assert len(found) == 2 * 3 * 3 * 4 - 1


def test_who_rejected() -> None:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    results = parsed(sample(2, 1, [Fault(rejected, "n1", "n2", "echo")]))["results"]
    assert [r["rejected_by"] for r in results] == [None] * 4 + ["192.0.2.1", None]


def test_a_detail_is_there_where_there_is_one() -> None:
    said = DROPPED_AT_DESTINATION._replace(detail='it says "no"')
    results = parsed(sample(2, 1, [Fault(said, "n1", "n2", "echo")]))["results"]
    assert [r.get("detail") for r in results if "detail" in r] == ['it says "no"']


def test_one_line_for_each_result_and_node() -> None:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    text = dumped(sample(9, 3, [Fault(rejected, "n1")], agents={"n2": UNREACHABLE}))
    lines = [line for line in text.splitlines() if line.lstrip().startswith('{"source"')]
    assert len(lines) == 9 * 8 * 3
    for line in lines:
        json.loads(line.rstrip("],"))
    assert text.endswith("}\n")
    assert text.count("\n") == 9 * 8 * 3 + 9 + 3 + 14  # and a line for every other member


def test_what_is_said_is_escaped() -> None:
    snapshot = sample(['a"\\\n', "ü\ud800"], notes=['"quoted"\x00'])
    whole = parsed(replace(snapshot, interrupted=True))
    assert [node["name"] for node in whole["nodes"]] == ['a"\\\n', "ü\ud800"]
    assert whole["results"][0]["source"] == 'a"\\\n'
    assert whole["notes"] == ['"quoted"\x00']
    assert whole["interrupted"] is True
    assert dumped(snapshot).isascii()


def test_no_cell_and_no_node() -> None:
    whole = parsed(sample(1))
    assert (whole["results"], len(whole["nodes"])) == ([], 1)


def test_an_agent_that_failed_has_its_reason() -> None:
    agent = parsed(sample(2, agents={"n2": UNREACHABLE}))["nodes"][1]["agent"]
    assert list(agent) == ["state", "reason", "python", "kernel"]
    assert agent["reason"].startswith("connect to ")


def test_nothing_of_the_login_is_told() -> None:
    snapshot = sample(2)
    secret = [
        replace(n, user="root-user", identity_file="/secret/key", proxy_jump="bastion", host="h")
        for n in snapshot.matrix.nodes
    ]
    snapshot.matrix.nodes = tuple(secret)
    text = dumped(snapshot)
    assert not any(word in text for word in ("root-user", "/secret/key", "bastion", '"h"'))
