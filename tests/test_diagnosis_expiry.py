"""A TTL that runs out: who set it is said only where the packet's own tap shows it."""

import pytest
from cells import CALM
from hypothesis import given
from samples import Fault, sample
from test_findings import found, looked, rejected
from trials import DESTINATION, ROUTERS, mask_of, observed, passage, planned, wild_observed

from preflight.core.diagnosis.conclusions import Diagnosis, Expired
from preflight.core.diagnosis.expiry import expired
from preflight.core.diagnosis.trial import Observed, Purpose, ShotError
from preflight.core.findings.atoms import Looked
from preflight.core.findings.build import findings
from preflight.core.findings.contradictions import expires_unlike
from preflight.core.findings.model import Cause
from preflight.core.groups import groups
from preflight.core.model import Family


def way(
    left: int | None, said: tuple[int, int] = (11, 0), family: Family = Family.IPV4, **changes: str
) -> Observed:
    """The first router says `said` of every ordinary shot; they left with TTL `left`, None for the
    one that they were sent with.
    """
    shots = planned(family=family)
    plain = [i for i in range(len(shots)) if mask_of(shots, Purpose.PLAIN) >> i & 1][:3]
    errors = [ShotError(i, changes.get("sender", ROUTERS[0]), *said, 0) for i in plain]
    seen = observed(shots, lambda *_: False, family=family, errors=errors)
    seen.passages = {"left": {i: passage(s, ttl=left or s.ttl) for i, s in enumerate(shots)}}
    seen.destination_address = DESTINATION
    return seen


def test_the_source_set_it() -> None:
    assert expired(way(1)) == Expired((ROUTERS[0],), (1,), True, 3)


@pytest.mark.parametrize(("family", "said"), [(Family.IPV4, (11, 0)), (Family.IPV6, (3, 0))])
def test_the_path_did(family: Family, said: tuple[int, int]) -> None:
    found = expired(way(None, said, family))
    assert found is not None
    assert not found.by_source


def test_nobody_saw_it_leave() -> None:
    seen = way(1)
    seen.passages = {}
    assert expired(seen) == Expired((ROUTERS[0],), (), False, 3)


@pytest.mark.parametrize("said", [(3, 13), (3, 0), (11, 1)])
def test_other_errors_are_no_such_thing(said: tuple[int, int]) -> None:
    assert expired(way(1, said)) is None


def test_nor_what_the_destination_says_or_what_got_there() -> None:
    assert expired(way(1, sender=DESTINATION)) is None
    seen = way(1)
    seen.seen["arrived"] = (1 << len(seen.trial.shots)) - 1
    assert expired(seen) is None


def test_nor_a_rising_ttl() -> None:
    seen = way(1)
    hops = mask_of(seen.trial.shots, Purpose.HOP)
    seen.errors = [error._replace(shot=(hops & -hops).bit_length() - 1) for error in seen.errors]
    assert expired(seen) is None


@CALM
@given(wild_observed)
def test_an_answer_for_anything(seen: Observed) -> None:
    told = expired(seen)
    assert told is None or (told.at and told.answered)


OWN = Expired(("198.18.1.1",), (1,), True, 3)
ON_THE_WAY = Expired(("198.18.1.1",), (64,), False, 3)


@pytest.mark.parametrize(
    ("seen", "says", "nodes"),
    [(OWN, "it leaves n1 with TTL 1", (0,)), (ON_THE_WAY, "something on the way sets its TTL", ())],
)
def test_nobody_refuses_it_and_no_rule_is_asked_for(
    seen: Expired, says: str, nodes: tuple[int, ...]
) -> None:
    matrix = sample(4, 2, [Fault(rejected("198.18.1.1"), "n1", "n3", "geneve")]).matrix
    (finding,) = found(matrix, {0: looked(expired=seen)})
    assert finding.cause is Cause.NETWORK
    assert "the TTL of UDP 6081 runs out at 198.18.1.1" in finding.title
    assert says in finding.title
    assert (finding.requests, finding.nodes) == ((), nodes)


def test_two_ways_to_run_out_are_two_findings() -> None:
    matrix = sample(4, 2, [
        Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "geneve"),
        Fault(rejected("198.18.2.1"), "rack=b", "rack=a", "geneve"),
    ]).matrix  # fmt: skip
    looks = {0: looked(expired=OWN), 1: Looked(2, 0, Diagnosis(expired=ON_THE_WAY))}
    assert len(found(matrix, looks)) == 2
    assert not expires_unlike(Diagnosis(expired=OWN), Diagnosis())
    assert expires_unlike(Diagnosis(expired=OWN), Diagnosis(rejecters=("198.18.2.1",)))


def test_the_same_of_several_pairs_is_said_once() -> None:
    matrix = sample(4, 2, [Fault(rejected("198.18.1.1"), "rack=a", "rack=b", "geneve")]).matrix
    looks = [
        looked(expired=OWN),
        Looked(1, 3, Diagnosis(expired=OWN._replace(answered=1))),
    ]
    (finding,) = findings(matrix, groups(matrix), {0: looks})
    assert sum("time exceeded" in sentence for sentence in finding.evidence) == 1
    assert "it leaves the source with TTL 1" in finding.title
    assert finding.nodes == (0, 1)
