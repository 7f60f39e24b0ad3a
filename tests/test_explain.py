"""`preflight explain`: one pair, told from what both ends saw."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from found import (
    BETWEEN_RACKS,
    ECHO4,
    GENEVE4,
    HAZARD,
    HEALTH4,
    HOST_RULE,
    INSIDE,
    RULE,
    finding,
    with_findings,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ANSWER_DROPPED_ON_PATH,
    DROPPED_AT_DESTINATION,
    DROPPED_AT_SOURCE,
    DROPPED_ON_PATH,
    LOSSY,
    NO_AGENT,
    NOT_LISTENING,
    UNREACHABLE,
    Fault,
    blocked,
    sample,
)
from test_report_table import HOSTILE

from preflight.core.diagnosis.conclusions import Diagnosis, Router
from preflight.core.diagnosis.conclusions import Path as Way
from preflight.core.diagnosis.trial import RuleHit
from preflight.core.model import Cause, Evidence, Family, Leg, Outcome, Place, Verdict
from preflight.core.snapshot import Snapshot
from preflight.core.story import Mark, Step, Story, belonging, stories
from preflight.report.explain import dump, render
from preflight.store import save

FAULTS = (
    Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
    Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
    Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
)
ALL = (GENEVE4, HEALTH4, ECHO4)


def two() -> Snapshot:
    return with_findings(sample(4, 2, FAULTS), HOST_RULE, BETWEEN_RACKS, HAZARD)


def told(
    snapshot: Snapshot,
    pair: tuple[int, int] = (0, 1),
    tests: Any = ALL,
    width: int = 80,
    *,
    color: bool = False,
    encoding: str = "utf-8",
) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    render(snapshot, pair, tests, width=width, color=color, file=file)
    file.flush()
    return raw.getvalue().decode(encoding)


def test_the_whole_of_a_story() -> None:
    assert told(two(), (0, 2)) == (
        """\
n1 → n3, before Cilium, 2026-03-01T02:00:00Z

health: TCP 4240 over IPv4, recommended: blocked on the path, dropped

    n1  source, 10.0.0.1
      |  sent       20  its kernel took it: past OUTPUT
      |  left       20  seen leaving its device
    path
      |  router 198.18.1.1 answers at TTL 1
      X  lost here: nothing answers from TTL 2 on
    n3  destination, 10.0.0.3
         arrived     0  not seen at its device
         accepted    0  not seen behind INPUT
      ?  answered    -  not watched
    path back
    n1  source, 10.0.0.1
      ?  returned    -  not watched
      ?  received    -  not watched

  20 left n1's device, none came to n3's: therefore it is lost on the path
  between the two.
  See F2 below.

geneve: UDP 6081 over IPv4, required: open
    sent 20 → left 20 → arrived 20 → accepted 20
  n3's raw socket, behind its INPUT, got all 20: therefore it is open.
  It has no answer: n3 → n1 is a cell of its own.

echo: ICMP echo over IPv4, recommended: open
    sent 3 → left 3 → arrived 3 → accepted 3 → answered 3 → returned 3 →
    received 3
  n3's raw socket, behind its INPUT, got all 3, and n1's got all 3 answers:
  therefore it is open.
  Its answers took 0.24 ms.

Findings of this pair

F2  recommended  rack=a ↔ rack=b: the network drops TCP 4240, after 198.18.1.1
                 (hop 1)
    8 pairs: health
    - the same flow with rising TTL is answered by router 1: 198.18.1.1
    - nothing answers from hop 2 on
    - health n1 → n3: sent 5, left 5, arrived 0
    Ask the network team to allow TCP 4240 (source ports: any (1-65535)), each
    direction by a rule of its own:
      10.0.0.1, 10.0.0.2 → 10.0.0.3, 10.0.0.4
      10.0.0.3, 10.0.0.4 → 10.0.0.1, 10.0.0.2
    Not known: which device behind 198.18.1.1 drops it: no router after it
    answers

F3  required  n3's ens192 is a vmxnet3 with tunnel offload: pods' TCP dies while
              pings pass
    On n3, as root:
      ethtool -K ens192 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off
    To make it last:
      printf '[Match]\\nDriver=vmxnet3\\n[Link]\\nTxUdpTnlSegmentation=no\\n' > """
        """/etc/systemd/network/10-vmxnet3.link
"""
    )


def test_an_open_pair_says_what_proves_it() -> None:
    text = told(sample(4), (0, 1), [ECHO4])
    assert "      |  received    3  the answer seen behind INPUT\n" in text
    assert "  n2's raw socket, behind its INPUT, got all 3, and n1's got all 3 answers:\n" in text
    assert "X" not in text
    assert "Findings" not in text


def test_a_cell_of_which_nothing_was_seen_has_no_picture() -> None:
    text = told(sample(4, 1, [Fault(NO_AGENT, "n1", "n2", "echo")]), (0, 1), [ECHO4])
    assert "unknown, no agent\n  One of the two nodes has no agent" in text


def one(outcome: Outcome, test: Any = HEALTH4, **more: Any) -> Story:
    snapshot = sample(4, 2, [Fault(outcome, "n1", "n2")], **more)
    (story,) = stories(snapshot, 0, 1, [test])
    return story


def lost(story: Story) -> list[tuple[Leg, Place, str]]:
    return [(s.leg, s.place, s.vantage) for s in story.steps if s.mark is Mark.LOST]


FORWARD, REPLY = Leg.FORWARD, Leg.REPLY


@pytest.mark.parametrize(
    ("outcome", "where", "says"),
    [
        (DROPPED_AT_SOURCE, (FORWARD, Place.SOURCE, "sent"),
         "n1's own kernel refused to send it: therefore it is lost inside n1."),
        (blocked(Place.SOURCE, evidence=Evidence(20, 0, 0, 0)), (FORWARD, Place.SOURCE, "left"),
         "n1's kernel took 20, its device sent none: therefore it is lost inside n1."),
        (DROPPED_ON_PATH, (FORWARD, Place.PATH, ""),
         ("20 left n1's device, none came to n2's: therefore it is lost on the path between the "
         "two.")),
        (DROPPED_AT_DESTINATION, (FORWARD, Place.DESTINATION, "accepted"),
         "20 came to n2's device, none got past its INPUT: therefore it is lost inside n2."),
        (blocked(Place.DESTINATION, REPLY), (REPLY, Place.DESTINATION, "answered"),
         "n2 accepted 3, its device sent none back: therefore it is lost inside n2."),
        (ANSWER_DROPPED_ON_PATH, (REPLY, Place.PATH, ""),
         ("3 left n2's device as answers, none came back to n1's: therefore it is lost on the way "
         "back.")),
        (blocked(Place.SOURCE, REPLY), (REPLY, Place.SOURCE, "received"),
         "3 came back to n1's device, none got past its INPUT: therefore it is lost inside n1."),
        (LOSSY, (FORWARD, Place.PATH, ""),
         ("40 left n1's device, 29 came to n2's: therefore some of it is lost on the path between "
         "the two.")),
    ],
)  # fmt: skip
def test_the_place_of_the_loss_and_the_two_counts_that_show_it(
    outcome: Outcome, where: tuple[Leg, Place, str], says: str
) -> None:
    story = one(outcome)
    assert lost(story) == [where]
    assert story.therefore[0] == says
    before = story.steps[: next(i for i, s in enumerate(story.steps) if s.mark is Mark.LOST)]
    assert {step.mark for step in before} <= {Mark.PASSED}


@pytest.mark.parametrize("outcome", [NO_AGENT, NOT_LISTENING, blocked(None)])
def test_where_the_counts_do_not_show_it_nothing_is_blamed(outcome: Outcome) -> None:
    story = one(outcome)
    assert lost(story) == []
    assert story.therefore
    assert "therefore" not in " ".join(story.therefore)


def test_who_rejected_and_what_else_is_known() -> None:
    rejected = blocked(Place.PATH, cause=Cause.REJECTED, rejected_by="192.0.2.1")
    says = one(rejected._replace(detail="ICMP host unreachable (3/1)")).therefore
    assert says[1:] == (
        "No probe was accepted, and an RST or an ICMP error said so.",
        "What said so bears the address 192.0.2.1.",
        "ICMP host unreachable (3/1).",
    )


def test_a_later_sighting_proves_an_earlier_point_but_not_that_an_answer_left() -> None:
    first_look = Outcome(
        Verdict.OPEN, evidence=Evidence(sent=3, accepted=3, received=3)
    )  # fmt: skip
    marks = {s.vantage: s.mark for s in one(first_look).steps if s.vantage}
    assert marks == {**dict.fromkeys(Evidence._fields, Mark.PASSED), "answered": Mark.UNKNOWN}


def test_a_one_way_probe_has_no_way_back() -> None:
    assert [s.vantage for s in one(DROPPED_ON_PATH, GENEVE4).steps] == [
        "sent", "left", "", "arrived", "accepted",
    ]  # fmt: skip


def test_routers_are_those_of_this_pair_alone() -> None:
    snapshot = two()
    sampled, other = (stories(snapshot, 0, d, [HEALTH4])[0] for d in (2, 3))
    assert [s.text for s in sampled.steps if s.place is Place.PATH][:2] == [
        "router 198.18.1.1 answers at TTL 1", "lost here: nothing answers from TTL 2 on",
    ]  # fmt: skip
    assert [s.text for s in other.steps if s.place is Place.PATH] == ["lost here", ""]
    assert [f.identifier for f in other.findings] == ["F2"]


def test_routers_are_those_of_the_test_that_was_tried() -> None:
    both = BETWEEN_RACKS._replace(tests=(HEALTH4, ECHO4))
    both = both._replace(blocks=(both.blocks[0]._replace(tests=(HEALTH4, ECHO4)),))
    faults = [Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health,echo")]
    tried, other = stories(with_findings(sample(4, 2, faults), both), 0, 2, [HEALTH4, ECHO4])
    assert any("router" in step.text for step in tried.steps)
    assert not any("router" in step.text for step in other.steps)


def test_a_rule_is_named_at_its_node_for_every_pair_it_hits() -> None:
    for source in (0, 2, 3):
        (story,) = stories(two(), source, 1, [GENEVE4])
        (step,) = [s for s in story.steps if s.mark is Mark.LOST]
        assert "(inet filter input handle 12)" in step.text


def test_a_candidate_or_another_nodes_rule_is_not_named() -> None:
    for node, sure in ((1, False), (2, True)):
        hit = RuleHit(node, "forward", frozenset(), RULE._replace(sure=sure))
        unsure = HOST_RULE._replace(diagnosis=Diagnosis(hits=(hit,)))
        (story,) = stories(with_findings(sample(4, 2, FAULTS), unsure), 0, 1, [GENEVE4])
        assert not any("handle" in step.text for step in story.steps)


def test_one_link() -> None:
    path = Diagnosis(path=Way((), None, None, True))
    one_link = BETWEEN_RACKS._replace(diagnosis=path, sample=(0, 2))
    (story,) = stories(with_findings(sample(4, 2, FAULTS), one_link), 0, 2, [HEALTH4])
    assert "lost here: one link, no router" in [s.text for s in story.steps]


def test_a_cell_belongs_to_blocks_of_its_own_test_and_direction() -> None:
    found = (HOST_RULE, BETWEEN_RACKS)
    assert belonging(found, GENEVE4, 0, 1) == (HOST_RULE,)
    assert belonging(found, GENEVE4, 1, 0) == ()
    assert belonging(found, HEALTH4, 0, 1) == ()
    assert belonging(found, HEALTH4, 2, 1) == belonging(found, HEALTH4, 1, 2) == (BETWEEN_RACKS,)


def test_without_findings_the_cell_says_what_to_do() -> None:
    text = told(sample(4, 2, FAULTS), (0, 2), [HEALTH4])
    assert "  It leaves the source and never arrives: allow TCP 4240 in what lies" in text


@settings(deadline=None, max_examples=80)
@given(
    st.builds(
        Outcome,
        st.sampled_from(Verdict),
        st.none() | st.sampled_from(Leg),
        st.none() | st.sampled_from(Place),
        st.none() | st.sampled_from(Cause),
        st.none() | st.just("192.0.2.1"),
        st.builds(Evidence, *[st.none() | st.integers(0, 40)] * 7),
        st.none() | st.text().filter(lambda detail: "None" not in detail),
    ),
    st.sampled_from(ALL),
)
def test_every_outcome_has_a_story(outcome: Outcome, test: Any) -> None:
    names = ["{a}", "n{0", "n3", "n4"]
    snapshot = sample(names, 2, [Fault(outcome, "{a}", "n{0")])
    for color in (False, True):
        text = told(with_findings(snapshot, HOST_RULE), (0, 1), [test], color=color)
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert all(c == "\n" or c.isprintable() for c in text)
        assert "None" not in text.replace("Not", "")
    file = io.StringIO()
    dump(snapshot, (0, 1), [test], file)
    (story,) = json.loads(file.getvalue())["stories"]
    assert story["verdict"] == outcome.verdict
    (made,) = stories(snapshot, 0, 1, [test])
    assert all(isinstance(step, Step) for step in made.steps)
    assert len([s for s in made.steps if s.mark is Mark.LOST]) <= 1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_but_commands_is_wider_than_asked(width: int) -> None:
    for pair in ((0, 1), (0, 2), (2, 0)):
        for line in told(two(), pair, width=width).splitlines():
            assert len(line) <= width or line.startswith("      ")
            assert line == line.rstrip()


def test_hostile_names_and_ascii() -> None:
    snapshot = sample([f"a{HOSTILE}", "b", "c", "d"], 2, FAULTS)
    text = told(snapshot, (0, 2), encoding="ascii")
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "-> c, before" in text


def test_as_json() -> None:
    file = io.StringIO()
    dump(two(), (0, 1), ALL, file)
    whole = json.loads(file.getvalue())
    assert [whole[k] for k in ("schema", "source", "destination")] == [
        "preflight/explain/1", "n1", "n2",
    ]  # fmt: skip
    first = whole["stories"][0]
    assert (first["probe"], first["verdict"], first["findings"]) == ("geneve", "blocked", ["F1"])
    assert first["steps"][0] == {
        "leg": "forward", "place": "source", "vantage": "sent", "seen": 20, "mark": "passed",
        "text": "its kernel took it: past OUTPUT",
    }  # fmt: skip
    assert first["therefore"][0].endswith("therefore it is lost inside n2.")
    assert [f["id"] for f in whole["findings"]] == ["F1"]


# --- as a user runs it


def preflight(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "preflight", "explain", *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "s.json"
    save(two(), path)
    return path


def test_names_and_addresses_are_taken_and_the_exit_code_is_checks(file: Path) -> None:
    done = preflight(file, "n1", "10.0.0.2", "--probe", "geneve")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("n1 → n2, before Cilium")
    assert "health" not in done.stdout
    whole = json.loads(preflight(file, "n2", "n1", "--format", "json").stdout)
    assert [s["verdict"] for s in whole["stories"]] == ["open"] * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("n9", "n1"), "no node 'n9': it has n1, n2, n3, n4"),
        (("n1", "nowhere"), "no node 'nowhere': it has n1, n2, n3, n4"),
        (("n1", "n2", "--probe", "genev"), "no probe 'genev': it has geneve, health, echo"),
        (("n1", "n2", "--family", "ipv6"), "n1 → n2 was not tested with that"),
        (("n1", "n1"), "n1 to itself: a pair is two nodes"),
    ],
)
def test_a_wrong_name_costs_one_line_that_says_what_there_is(
    file: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = preflight(file, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("preflight: ")
    assert done.stderr.endswith(f"{says}\n")
    assert done.stderr.count("\n") == 1


def test_close_names_come_first_and_many_are_counted(tmp_path: Path) -> None:
    save(sample([f"worker-{i}" for i in range(40)], probes=sample(2).matrix.probes[:1]),
         tmp_path / "s")  # fmt: skip
    done = preflight(tmp_path / "s", "worker-399", "worker-1")
    assert "no node 'worker-399': it has worker-39, " in done.stderr
    assert done.stderr.endswith(" and 32 more\n")


@pytest.mark.parametrize(
    ("snapshot", "code"),
    [
        (sample(4), 0),
        (sample(4, faults=[Fault(NO_AGENT, "n1", "n2")]), 3),
        (sample(2, agents={"n1": UNREACHABLE, "n2": UNREACHABLE}), 4),
        (replace(sample(4), interrupted=True), 130),
    ],
)
def test_every_exit_code(tmp_path: Path, snapshot: Snapshot, code: int) -> None:
    save(snapshot, tmp_path / "s")
    assert preflight(tmp_path / "s", "n1", "n2").returncode == code


def test_no_file() -> None:
    done = preflight("/nowhere/s", "n1", "n2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "preflight: /nowhere/s: cannot be read: No such file or directory\n"


def test_a_family_of_its_own() -> None:
    v6 = finding(tests=[GENEVE4._replace(family=Family.IPV6)], kind=INSIDE)
    routed = v6._replace(diagnosis=Diagnosis(path=Way((Router(1, "fd00::1"),), None, 1, False)))
    snapshot = with_findings(
        sample(4, 1, [Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve", Family.IPV6)],
               families=tuple(Family)),
        routed,
    )  # fmt: skip
    text = told(snapshot, (0, 1), [GENEVE4, GENEVE4._replace(family=Family.IPV6)])
    assert text.index("over IPv6, required: blocked") < text.index("over IPv4, required: open")
    assert "    n1  source, fd00::1\n" in text
    assert "router fd00::1 answers at TTL 1" in text
