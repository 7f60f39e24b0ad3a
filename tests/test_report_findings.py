"""Findings in a terminal: complete, clean, and with commands that survive copy and paste."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
from found import (
    BETWEEN_RACKS,
    DEAD_FLOWS,
    EVERYTHING,
    HAZARD,
    HOST_RULE,
    INSIDE,
    TOO_SMALL,
    UNTESTED,
    finding,
    with_findings,
)
from samples import DROPPED_AT_DESTINATION, DROPPED_ON_PATH, Fault, sample
from test_report_table import HOSTILE, shown

from preflight.core.findings.model import Cause, Change, Request
from preflight.core.groups import BY_THE_DESTINATION, FamilyProbe, Kind
from preflight.core.model import Cause as CellCause
from preflight.core.model import Family, Leg, Place, Protocol, Severity, Verdict
from preflight.core.snapshot import Snapshot
from preflight.report.words import remedy

FAULTS = (
    Fault(DROPPED_AT_DESTINATION, "*", "n2", "geneve"),
    Fault(DROPPED_ON_PATH, "rack=a", "rack=b", "health"),
    Fault(DROPPED_ON_PATH, "rack=b", "rack=a", "health"),
)


def two(**more: object) -> Snapshot:
    return with_findings(sample(4, 2, FAULTS, **more), HOST_RULE, BETWEEN_RACKS)  # type: ignore[arg-type]


def told(text: str) -> str:
    """What stands below `Findings`."""
    return text.partition("Findings\n")[2]


def test_the_whole_of_two_findings() -> None:
    assert told(shown(two())) == (
        """
F1  required  n2 itself drops UDP 6081: nftables rule "udp dport 6081 drop"
              (inet filter input handle 12)
    all → n2  3 pairs: geneve
    - nftables rule "udp dport 6081 drop" (inet filter input handle 12) on n2
      dropped 4 probes, comment "corp baseline"
    - geneve n1 → n2: sent 20, left 20, arrived 20, accepted 0
    On n2, as root:
      nft insert rule inet filter input position 12 ip saddr { 10.0.0.1, """
        """10.0.0.3, 10.0.0.4 } udp dport 6081 accept comment '"Cilium GENEVE"'
    Add the same rule to /etc/nftables.conf, above the one that drops.

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

preflight rules SNAPSHOT prints what to ask the network team for as a rule
request (text, CSV or JSON); check --output saves the SNAPSHOT.

4 nodes, 36 cells: 25 open, 11 blocked; 0.7 s
2 findings; the first: F1 n2 itself drops UDP 6081: nftables rule "udp dport
6081 drop" (inet filter input handle 12)
Recommended: health fails for 8 of 12 pairs; echo is open.
Cilium's GENEVE does NOT get through for 3 of 12 pairs.
"""
    )
    assert "Not open, and why" not in shown(two())


COMMANDS = {c for f in EVERYTHING for change in f.changes for c in (*change.commands,)}


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
@pytest.mark.parametrize("color", [False, True])
def test_commands_stand_alone_and_whole_and_nothing_else_is_wide(width: int, color: bool) -> None:
    text = shown(with_findings(sample(4, 2, FAULTS), *EVERYTHING), width, color=color)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    alone = {line.strip() for line in lines}
    assert alone >= COMMANDS
    persistent = HAZARD.changes[0].persist[0]
    assert persistent in alone
    for line in lines:
        assert len(line.rstrip()) <= width or line.strip() in COMMANDS | {persistent}


def test_what_is_pasted_into_a_shell_does_what_was_meant() -> None:
    commands = (
        "printf '%s\\n' 'a  b' \"c   d\" " + " ".join(f"word-{i:03}" for i in range(60)),
        "cat <<< 'it'\\''s   one line'",
        "printf 'A=%s\\n' \"$((6 * 7))\"",
    )
    one = finding(changes=(Change("n2", "sh", commands, ()),))
    text = told(shown(with_findings(sample(4, 1), one)))
    block = text.partition("On n2, as root:\n")[2].partition("\n\n")[0]
    pasted, meant = (
        subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True)
        for text in (f"{block}\n", "\n".join((*commands, "")))
    )
    assert pasted.stdout == meant.stdout != ""
    assert pasted.stderr == ""


def test_a_command_that_cannot_be_shown_as_it_is_is_not_shown() -> None:
    odd = "nft add rule inet f i comment 'caf\u00e9 \u2192 \x1b[31m' drop"
    one = finding(changes=(Change("n2", "nft", (odd, "true"), ()),))
    text = told(shown(with_findings(sample(4, 1), one)))
    assert "nft add" not in text
    assert "\n      # this command has signs that cannot be shown here: --format json" in text
    assert "\n      true\n" in text
    accent = finding(changes=(Change("n2", "nft", ("echo caf\u00e9",), ()),))
    assert "echo caf\u00e9\n" in shown(with_findings(sample(4, 1), accent))
    assert "echo caf" not in shown(with_findings(sample(4, 1), accent), encoding="ascii")
    # Latin-1 has this sign, but not all of ours, so that output goes without any.
    dot = finding(changes=(Change("n2", "nft", ("true \u00b7",), ()),))
    assert "true" not in shown(with_findings(sample(4), dot), encoding="latin-1")


def test_nothing_from_a_node_reaches_the_terminal() -> None:
    bad = finding(
        title=f"title {HOSTILE}",
        where=f"where {HOSTILE}",
        evidence=(HOSTILE, HOSTILE),
        advice=HOSTILE,
        unknown=(HOSTILE,),
        changes=(Change("n2", HOSTILE, (HOSTILE,), (f"{HOSTILE}.", HOSTILE)),),
        requests=(Request(("10.0.0.1/32",), ("10.0.0.2/32",), Protocol.UDP, 6081, HOSTILE,
                          Family.IPV4, HOSTILE),),
    )  # fmt: skip
    for color in (False, True):
        text = shown(with_findings(sample(4, 1), bad), 200, color=color)
        if color:
            text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert all(c == "\n" or c.isprintable() for c in text)
        assert "[red]" in text  # rich takes none of it for markup


def test_ascii_where_the_stream_has_no_more() -> None:
    text = shown(with_findings(sample(4, 2, FAULTS), *EVERYTHING), encoding="ascii")
    assert text.isascii()
    assert "rack=a <-> rack=b: the network drops" in text
    assert "10.0.0.1, 10.0.0.2 -> 10.0.0.3, 10.0.0.4" in text
    assert "\\u2" not in text


def test_colour_only_repeats_what_the_text_says() -> None:
    snapshot = with_findings(sample(4, 2, FAULTS), *EVERYTHING)
    plain, colour = shown(snapshot), shown(snapshot, color=True)
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", colour)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()
    for number, style in ((1, "1;31"), (4, "1;36"), (6, "1;33")):
        assert f"\x1b[{style}mF{number}\x1b[0m" in colour


def test_the_rest_of_very_many_is_counted() -> None:
    many = [finding(title=f"number {i}") for i in range(30)]
    text = shown(with_findings(sample(4), *many))
    assert "number 23\n" in text
    assert "number 24\n" not in text
    assert "  and 6 findings more, 18 cells: --format json has all\n" in text
    assert "\n30 findings; the first: F1 number 0\n" in text


def test_one_finding_is_told_as_one() -> None:
    lines = shown(with_findings(sample(4), finding())).splitlines()
    assert "1 finding: F1 n2 itself drops UDP 6081" in lines
    assert "finding" not in shown(sample(4)).lower()


def test_a_hazard_is_told_of_a_run_that_is_open() -> None:
    text = shown(with_findings(sample(4), HAZARD))
    assert "F1  required  n3's ens192" in text
    assert "0 pairs" not in text
    *_, through, last = re.split(r"(?=^But required)", text, flags=re.MULTILINE)
    assert through.endswith("Cilium's GENEVE gets through for all 12 pairs.\n")
    assert last.startswith("But required, though no probe shows it: F1 n3's ens192 is a vmxnet3")


def test_five_sentences_of_evidence_are_enough() -> None:
    text = shown(with_findings(sample(4), finding(evidence=[f"seen {i}" for i in range(9)])))
    assert re.findall(r"^    - seen (\d)$", text, re.MULTILINE) == list("01234")


def test_nodes_that_need_the_same_are_told_once() -> None:
    same = ("nft delete rule inet filter input handle 12",)
    changes = tuple(Change(f"n{i}", "nft", same, ("Save it.",)) for i in (1, 2, 3, 5))
    others = tuple(Change(f"n{i}", "nft", (f"nft delete {i}",), ()) for i in range(6, 13))
    text = shown(with_findings(sample(12), finding(changes=changes + others)))
    assert text.count(same[0]) == text.count("Save it.") == 1
    assert f"    On n1…n3, n5, as root:\n      {same[0]}\n    Save it.\n    On n6, as" in text
    assert "nft delete 10\n" in text
    assert "nft delete 11\n" not in text
    assert "and 2 changes more on other nodes: --format json has all" in text


def test_a_change_of_no_node() -> None:
    text = shown(with_findings(sample(4, 2), TOO_SMALL))
    assert "    With cilium:\n      helm upgrade" in text


def request(protocol: Protocol, there: bool, family: Family = Family.IPV4) -> Request:
    ends = (("10.0.1.0/24",), ("10.0.2.0/24",))
    port = {Protocol.UDP: 6081, Protocol.TCP: 4240, Protocol.ICMP: None}[protocol]
    return Request(*(ends if there else ends[::-1]), protocol, port, "", family, "a reason")


def test_what_is_asked_for_between_the_same_networks_is_asked_for_together() -> None:
    asked = [request(protocol, there) for protocol in Protocol for there in (True, False)]
    asked.append(request(Protocol.ICMP, True, Family.IPV6))
    text = shown(with_findings(sample(4), finding(requests=asked)), 200)
    assert (
        "    Ask the network team to allow UDP 6081, TCP 4240 and ICMP echo, each direction by a "
        "rule of its own:\n      10.0.1.0/24 → 10.0.2.0/24\n      10.0.2.0/24 → 10.0.1.0/24\n"
        "    Ask the network team to allow ICMPv6 echo:\n      10.0.1.0/24 → 10.0.2.0/24\n"
    ) in text
    many = request(Protocol.UDP, True)._replace(sources=[f"10.9.{i}.0/24" for i in range(9)])
    text = shown(with_findings(sample(4), finding(requests=(many,))), 200)
    assert "10.9.0.0/24, 10.9.1.0/24, 10.9.2.0/24, 10.9.3.0/24 and 5 more → 10.0.2.0/24\n" in text


@pytest.mark.parametrize("nothing", [DEAD_FLOWS, UNTESTED])
def test_where_nothing_better_is_known_the_cells_say_what_to_do(nothing: object) -> None:
    text = shown(with_findings(sample(4, 2), nothing))  # type: ignore[arg-type]
    assert ("one of several\n    paths is dead." in text) != ("Without an agent at both" in text)


def test_an_own_rejection_is_named() -> None:
    own = INSIDE._replace(cause=CellCause.REJECTED, rejected_by=BY_THE_DESTINATION)
    text = shown(with_findings(sample(4), finding(Cause.NODE_FIREWALL, kind=own)))
    assert "    The destination itself refuses it: allow UDP 6081 there.\n" in text


def test_families_and_probes_are_told_where_there_are_several() -> None:
    tests = [FamilyProbe(p, f) for p in (0, 1) for f in Family]
    snapshot = sample(4, 1, families=tuple(Family))
    text = shown(with_findings(snapshot, finding(tests=tests)))
    assert "    all → n2  3 pairs: geneve, health (ipv4 + ipv6)\n" in text


def test_a_recommended_first_finding_is_yellow() -> None:
    one = finding(severity=Severity.RECOMMENDED)
    assert "\x1b[1;33mF1\x1b[0m" in shown(with_findings(sample(4), one), color=True)


def test_a_file_without_findings_is_told_as_ever() -> None:
    text = shown(replace(two(), findings=()))
    assert "Not open, and why\n  geneve: blocked inside the destination, dropped" in text
    assert "Findings" not in text


@pytest.mark.parametrize(
    ("leg", "place", "said"),
    [
        (Leg.FORWARD, Place.SOURCE, "Some never leave the source"),
        (Leg.FORWARD, Place.PATH, "one of several paths is dead"),
        (Leg.FORWARD, Place.DESTINATION, "thrown away by the destination itself"),
        (Leg.REPLY, Place.SOURCE, "the source itself throws some of the answers away"),
        (Leg.REPLY, Place.PATH, "one of several paths back is dead"),
        (Leg.REPLY, Place.DESTINATION, "only some of the answers leave"),
    ],
)
def test_what_is_lost_inside_a_node_is_not_looked_for_on_paths(
    leg: Leg, place: Place, said: str
) -> None:
    kind = Kind(Verdict.LOSSY, leg, place, CellCause.DROPPED, None)
    text = remedy(kind, "UDP 6081", None)
    assert said in text
    assert ("path" in text) is (place is Place.PATH)
