"""The verdict table: total, without dead rows, and sane whatever it is given."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from cells import CALM, settings_, wild_sightings
from hypothesis import given, settings

from preflight.core.evidence import Setting, Sightings
from preflight.core.hello import TABLE as HELLO_TABLE
from preflight.core.model import Cause, Leg, Outcome, Verdict
from preflight.core.overlay import TABLE as OVERLAY_TABLE
from preflight.core.reading import DOMAINS, Agents, Delivery, Foreign, Reading
from preflight.core.verdict import AS_READ, TABLE, decide, decided, judge, meaning, readme_table

BAD = (Verdict.BLOCKED, Verdict.LOSSY)


def every_reading() -> Iterator[Reading]:
    for values in product(*(DOMAINS[name] for name in Reading._fields)):
        yield Reading._make(values)


class TestEveryReading:
    """All 268,800 of them."""

    def test_exactly_one_row_decides_and_every_row_is_needed(self) -> None:
        rows_with = {
            name: {
                value: sum(
                    1 << number
                    for number, row in enumerate(TABLE)
                    if value in row.when.get(name, domain)
                )
                for value in domain
            }
            for name, domain in DOMAINS.items()
        }
        needed: set[int] = set()
        for reading in every_reading():
            matching = (1 << len(TABLE)) - 1
            for name, value in zip(reading._fields, reading, strict=True):
                matching &= rows_with[name][value]
            first = (matching & -matching).bit_length() - 1
            assert decide.__wrapped__(reading) is TABLE[first]
            others = matching & (matching - 1)
            if not others:
                needed.add(first)  # without it nothing would be decided
            elif TABLE[(others & -others).bit_length() - 1][1:5] != TABLE[first][1:5]:
                needed.add(first)
        assert needed == set(range(len(TABLE)))

    def test_no_verdict_says_more_than_the_evidence(self) -> None:
        false_answers = (Foreign.RESET, Foreign.ANSWER, Foreign.UNTOLD)
        for reading in every_reading():
            row = decide.__wrapped__(reading)
            delivered = reading.forward is Delivery.ALL
            answered = reading.reply is Delivery.ALL and reading.foreign not in false_answers
            proved = delivered and (reading.one_way or answered)
            if row.verdict in (Verdict.OPEN, Verdict.CLOSED):
                assert proved
                assert (row.verdict is Verdict.CLOSED) == reading.unserved
            else:
                assert not proved
            if row.verdict in BAD:
                assert reading.final
                assert reading.agents is not Agents.NO_SOURCE
                assert reading.forward is not Delivery.NOT_SENT
            if row.verdict is Verdict.BLOCKED:
                error = reading.foreign is Foreign.ICMP_ERROR or (
                    reading.foreign is Foreign.PORT_UNREACHABLE and not reading.one_way
                )
                unanswered = delivered and not reading.one_way and reading.reply is Delivery.NONE
                assert (
                    reading.forward is Delivery.NONE
                    or (reading.forward is Delivery.NOT_WATCHED and error)
                    or (unanswered and reading.foreign is not Foreign.UNTOLD)
                )
            if row.verdict is Verdict.LOSSY:
                some = reading.reply in (Delivery.SOME, Delivery.ALL)
                assert reading.forward is Delivery.SOME or (delivered and some)

    def test_watched_evidence_is_never_shrugged_off(self) -> None:
        for reading in every_reading():
            if reading.final and reading.agents is not Agents.NO_SOURCE:
                verdict = decide.__wrapped__(reading).verdict
                if reading.forward is Delivery.NONE:
                    assert verdict is Verdict.BLOCKED
                if reading.forward is Delivery.SOME:
                    assert verdict is Verdict.LOSSY


class TestRows:
    def test_conditions_name_values_that_occur(self) -> None:
        for row in TABLE:
            for name, allowed in row.when.items():
                assert allowed
                assert set(allowed) < set(DOMAINS[name])

    def test_only_the_last_row_has_no_conditions(self) -> None:
        assert [not row.when for row in TABLE] == [False] * (len(TABLE) - 1) + [True]

    def test_leg_place_and_cause_as_the_contract_has_them(self) -> None:
        for row in TABLE:
            if row.verdict is Verdict.OPEN:
                assert (row.leg, row.place, row.cause) == (None, None, None)
            elif row.verdict is Verdict.UNKNOWN:
                assert (row.leg, row.place) == (None, None)
                assert row.cause is not None
            else:
                assert None not in (row.leg, row.place, row.cause)
            assert row.meaning.endswith(".")


class TestAnySightings:
    """Contradictory ones too: agents are other people's machines."""

    @settings(CALM, max_examples=400)
    @given(wild_sightings, settings_)
    def test_sane_and_repeatable(self, look: Sightings, around: Setting) -> None:
        outcome = judge(look, around)
        assert outcome == judge(look, around)
        evidence = outcome.evidence
        if outcome.verdict in (Verdict.OPEN, Verdict.CLOSED):
            assert evidence.accepted
            assert evidence.sent is None or evidence.accepted == evidence.sent
            if not around.probe.one_way:
                assert evidence.received == evidence.accepted
        if outcome.verdict in BAD:
            assert around.source_agent
            assert around.final
            assert evidence.sent is not None or evidence.accepted
            watched = [n for n in evidence[1:] if n is not None]
            assert watched or look.send_errors or look.error
        if outcome.verdict is Verdict.BLOCKED:
            assert outcome.leg is not None
            assert (
                0 in evidence
                or look.error
                or outcome.cause
                in (
                    Cause.REJECTED,
                    Cause.INTERCEPTED,
                )
            )
        if outcome.detail is not None:
            assert "\n" not in outcome.detail
            assert outcome.verdict not in (Verdict.OPEN, Verdict.CLOSED)

    @settings(CALM, max_examples=200)
    @given(wild_sightings, settings_)
    def test_a_first_look_decides_what_is_proved_and_nothing_else(
        self, look: Sightings, around: Setting
    ) -> None:
        first = decided(look, replace(around, final=False))
        final = judge(look, replace(around, final=True))
        proved = final.verdict in (Verdict.OPEN, Verdict.CLOSED)
        assert first == (final if proved else None)


class TestWords:
    def test_the_readme_has_every_row_in_the_tables_own_words(self) -> None:
        lines = readme_table().splitlines()
        assert len({line.count("|") for line in lines}) == 1
        for row in TABLE:
            assert any(
                row.meaning in line and f"`{row.verdict}`" in line and (row.cause or "") in line
                for line in lines
            )

    def test_the_readme_tells_each_ending_once(self) -> None:
        endings = {(r.verdict, r.leg, r.cause) for r in (*TABLE, *HELLO_TABLE, *OVERLAY_TABLE)}
        assert len(readme_table().splitlines()) == 2 + len(endings)

    def test_rows_that_end_alike_have_one_place(self) -> None:
        places: dict[tuple[object, ...], set[object]] = {}
        for row in TABLE:
            places.setdefault((row.verdict, row.leg, row.cause), set()).add(row.place)
        fixed = [p for p in places.values() if len(p) > 1]
        assert not fixed

    def test_every_outcome_has_a_meaning(self) -> None:
        for row in TABLE:
            place = None if row.place is AS_READ else row.place
            outcome = Outcome(row.verdict, row.leg, place, row.cause)  # type: ignore[arg-type]
            assert row.meaning in meaning(outcome)
        assert meaning(Outcome(Verdict.OPEN, Leg.REPLY)) == ""
