"""What findings say of sizes, of DF, and of who refused: who reads it must not be misled."""

from __future__ import annotations

import pytest
from samples import Fault, sample

from preflight.core.diagnosis.conclusions import (
    Band,
    Diagnosis,
    DontFragment,
    FlowPattern,
    Flows,
    Lengths,
    Marking,
    Size,
)
from preflight.core.diagnosis.plain import plain, read_diagnosis
from preflight.core.findings.advice import for_size
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.contradictions import alike_in_length
from preflight.core.findings.model import Cause, Finding
from preflight.core.findings.rejecters import rejecter
from preflight.core.findings.size_words import Sized, narrowest, sentences, title
from preflight.core.groups import BY_THE_DESTINATION, BY_THE_SOURCE, groups
from preflight.core.model import Cause as CellCause
from preflight.core.model import Evidence, Family, Leg, Outcome, Place, Verdict

SHORT = "largest that arrives: {} bytes with DF set, 1500 not set"
SIX = Family.IPV6
FOUR = Family.IPV4


def look(pair: str, largest: int, family: Family = FOUR, by: str | None = "198.18.1.1") -> Sized:
    cut = 1500 if family is FOUR else None
    size = Size(largest, largest + 1, cut, 1500, by is None, by, largest if by else None)
    return Sized(pair, family, Diagnosis(size=size))


class TestSizes:
    def test_one_family_is_not_named(self) -> None:
        told = " ".join(sentences([look("n1 → n3", 1400), look("n2 → n3", 1400)]))
        assert "IPv4" not in told
        assert "n1" not in told
        assert told.count("1400 bytes") == 1

    def test_two_families_are(self) -> None:
        told = sentences([look("n1 → n3", 1400), look("n1 → n3", 1380, SIX, "fd00::1")])
        assert told[0].startswith("largest IPv4 packet that arrives with DF set: 1400 bytes")
        assert "largest IPv6 packet that arrives: 1380 bytes" in " ".join(told)
        assert not any("DF" in sentence for sentence in told if "IPv6" in sentence)
        found = [look("n1 → n3", 1400), look("n1 → n3", 1380, SIX, "fd00::1")]
        assert title("UDP 6081", found).startswith(
            "packets of UDP 6081 larger than 1400 bytes over IPv4 and 1380 bytes over IPv6 are "
            "lost, as 198.18.1.1 and fd00::1 say"
        )

    def test_ipv6_alone_speaks_of_no_df_and_no_fragmentation(self) -> None:
        told = " ".join(sentences([look("n1 → n3", 1380, SIX, None)]))
        assert "IPv6" not in told
        assert "DF" not in told
        assert 'nobody says "packet too big"' in told

    def test_unlike_pairs_are_named(self) -> None:
        found = [look("n1 → n3", 1400), look("n2 → n4", 1300, by=None), look("n2 → n3", 1400)]
        assert sentences(found) == [
            f"n1 → n3, n2 → n3: {SHORT.format(1400)}; 198.18.1.1 says MTU 1400",
            f"n2 → n4: {SHORT.format(1300)}; nobody says so",
        ]
        assert "larger than 1300 to 1400 bytes, by the pair, are lost;" in title("X", found)

    @pytest.mark.parametrize("largest", [100, 575, 1279])
    def test_no_link_is_so_narrow(self, largest: int) -> None:
        family = FOUR if largest < 576 else SIX
        one = look("n1 → n3", largest, family)
        remedy = for_size([one.diagnosis], [family])
        assert remedy.changes == ()
        assert "by their length" in remedy.advice[0]
        assert narrowest([(family, one.diagnosis)]) == 0

    def test_cilium_gets_one_mtu_for_all_findings(self) -> None:
        remedy = for_size([look("n1 → n3", 1400).diagnosis], [FOUR], narrowest=1300)
        assert "MTU=1300 (bytes, by the narrowest path of all findings)" in str(remedy.changes)
        assert "1,250 over IPv4" in str(remedy.changes)


class TestLengths:
    @pytest.mark.parametrize("passes", [True, False])
    def test_df(self, passes: bool) -> None:
        df = DontFragment(passes, 62, 1500, 18, 18, 40)
        one = Sized("n1 → n3", FOUR, Diagnosis(lengths=Lengths((), df)))
        bad, good = ("not set", "set") if passes else ("set", "not set")
        assert title("UDP 6081", [one]) == (
            f"UDP 6081 with DF {bad} is lost, whatever its size; with DF {good} it passes"
        )
        (told,) = sentences([one])
        assert ("all of it is lost" in told) is passes

    def test_unlike_ones_are_not_one_cause(self) -> None:
        df = {p: Lengths((), DontFragment(p, 62, 1500, 9, 9, 40)) for p in (True, False)}
        bands = [Lengths((Band(62, last, 0, last + 1),), None) for last in (70, 75)]
        other = Lengths((Band(200, 300, 199, 301),), None)
        told = [Diagnosis(lengths=one) for one in (*df.values(), *bands, other)]
        alike = {
            (i, j) for i, a in enumerate(told) for j, b in enumerate(told) if alike_in_length(a, b)
        }
        assert alike == {(i, i) for i in range(5)} | {(2, 3), (3, 2)}
        sized = look("n1 → n3", 1400).diagnosis
        assert not any(alike_in_length(sized, one) for one in told)
        assert alike_in_length(sized, Diagnosis())


class TestRejecters:
    OWNERS = {"198.18.2.11": "n3"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("told", "place", "says"),
        [
            (BY_THE_DESTINATION, Place.DESTINATION, "by the destination itself"),
            (BY_THE_DESTINATION, Place.PATH, "in the destination's name"),
            (BY_THE_DESTINATION, None, "in the destination's name"),
            (BY_THE_SOURCE, Place.SOURCE, "by the source itself"),
            (BY_THE_SOURCE, Place.PATH, "in the source's name"),
            ("198.18.2.11", Place.PATH, "in the name of n3 (198.18.2.11)"),
            ("198.18.1.1", Place.PATH, "by 198.18.1.1"),
        ],
    )
    def test_only_who_may_have_refused_is_said_to(
        self, told: str, place: Place | None, says: str
    ) -> None:
        assert str(rejecter(told, place, self.OWNERS)) == says

    def test_a_node_may_be_a_router(self) -> None:
        told = rejecter("198.18.2.11", Place.PATH, self.OWNERS, ["198.18.2.11"])
        assert str(told) == "by 198.18.2.11 (n3)"


class TestUnlikeSizes:
    """Nodes of one rack may lie behind unlike links: that is guessed neither way."""

    def found(self, *looks: tuple[int, int, int]) -> list[Finding]:
        faults = [Fault(TestLossBesides.TOO_BIG, "rack=a", "rack=b", "geneve")]
        matrix = sample(4, 2, faults).matrix
        told = [
            Looked(s, d, Diagnosis(size=Size(largest, largest + 1, None, 1500, True, None, None)))
            for s, d, largest in looks
        ]
        return findings(matrix, groups(matrix), {0: told})

    def test_two_looks_leave_open_whose_it_is(self) -> None:
        (one,) = self.found((0, 2, 1400), (1, 3, 1300))
        assert one.cells == 4
        assert "larger than 1300 to 1400 bytes, by the pair, are lost" in one.title
        assert "n1 → n3: largest that arrives: 1400 bytes; nobody says so" in one.evidence
        assert "MTU=1300 (bytes)" in str(one.changes)

    @pytest.mark.parametrize(
        ("third", "where"),
        [
            ((0, 3, 1300), {"rack=a → n3", "rack=a → n4"}),
            ((0, 3, 1400), {"n1 → rack=b", "n2 → rack=b"}),
        ],
    )
    def test_a_third_tells(self, third: tuple[int, int, int], where: set[str]) -> None:
        found = self.found((0, 2, 1400), (1, 3, 1300), third)
        assert {finding.where for finding in found} == where
        assert all("MTU=1300 (bytes" in str(finding.changes) for finding in found)


class TestLossBesides:
    """Where small packets get lost too, a cell does not say that it is the size."""

    TOO_BIG = Outcome(Verdict.LOSSY, Leg.FORWARD, Place.PATH, CellCause.SIZE, None, Evidence(40))
    SOME = TOO_BIG._replace(cause=CellCause.DROPPED)

    def found(self, sizes: tuple[int, int]) -> list[Finding]:
        faults = [
            Fault(self.TOO_BIG, "n1", "n3", "geneve"),
            Fault(self.SOME, "n2", "n4", "geneve"),
        ]
        matrix = sample(4, 2, faults).matrix
        some = Flows(FlowPattern.RANDOM, 36, (), 146, 154)
        looks = {}
        for position, group in enumerate(groups(matrix)):
            (source,), (destination,) = group.sources, group.destinations
            large = sizes[source]
            size = Size(large, large + 1, None, 1500, True, None, None)
            told = Diagnosis(size=size, flows=some if source else None)
            looks[position] = [Looked(source, destination, told)]
        return findings(matrix, groups(matrix), looks)

    def test_one_link(self) -> None:
        (one,) = self.found((1410, 1410))
        assert one.cause is Cause.SIZE
        assert one.cells == 2
        assert "larger than 1410 bytes are lost, silently" in one.title
        assert one.title.endswith("of the others about 5 % are lost at random")

    def test_two_links(self) -> None:
        assert len(self.found((1410, 1390))) == 2


class TestSaved:
    LENGTHS = Lengths((Band(62, 70, 0, 71),), DontFragment(True, 62, 1500, 18, 18, 40))
    MARKING = Marking(184, True, 12, 12, 12, 6082)

    def test_it_comes_back_as_it_was(self) -> None:
        one = Diagnosis(lengths=self.LENGTHS, marking=self.MARKING)
        assert read_diagnosis(plain(one, ["n1"]), "d", {"n1": 0}) == one

    def test_what_an_earlier_release_saved_is_read(self) -> None:
        size = look("n1 → n3", 1400).diagnosis.size
        told = plain(Diagnosis(size=size), ["n1"])
        for gone in ("lengths", "marking"):
            del told[gone]
        del told["size"]["fragments_refused"]
        assert read_diagnosis(told, "d", {"n1": 0}) == Diagnosis(size=size)
