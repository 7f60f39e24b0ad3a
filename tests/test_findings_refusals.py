"""What was refused, and what died without a word: one firewall's, or two's."""

from __future__ import annotations

from samples import DROPPED_ON_PATH, Fault, sample

from preflight.core.findings.build import findings
from preflight.core.findings.model import Finding
from preflight.core.groups import groups
from preflight.core.model import Cause, Family

REFUSED = DROPPED_ON_PATH._replace(
    cause=Cause.REJECTED,
    rejected_by="10.9.1.1",
    detail="ICMP communication administratively prohibited (3/13)",
)


def made(*faults: Fault) -> list[Finding]:
    matrix = sample(6, 3, list(faults), families=(Family.IPV4, Family.IPV6)).matrix
    return findings(matrix, groups(matrix))


def test_what_is_refused_over_one_family_says_nothing_of_another_probe_over_the_other() -> None:
    found = made(
        Fault(REFUSED, "n6", "n3", "health", Family.IPV4),
        Fault(DROPPED_ON_PATH, "n6", "n3", "geneve", Family.IPV6),
    )
    assert sorted(f.title for f in found) == [
        "n6 → n3: the network drops UDP 6081",
        "n6 → n3: the network rejects TCP 4240, refused by 10.9.1.1",
    ]


def test_within_one_family_errors_may_have_run_out() -> None:
    (one,) = made(
        Fault(REFUSED, "n6", "n3", "health", Family.IPV4),
        Fault(DROPPED_ON_PATH, "n6", "n3", "geneve", Family.IPV4),
    )
    assert one.title == "n6 → n3: the network rejects UDP 6081 and TCP 4240, refused by 10.9.1.1"
