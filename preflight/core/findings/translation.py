"""What nodes themselves make of their addresses: words for it, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from preflight.core.diagnosis.conclusions import Diagnosis, LeavesAs
from preflight.core.findings.accept import Traffic
from preflight.core.findings.cidrs import cidrs
from preflight.core.findings.concerns import concerns
from preflight.core.findings.firewalls import mend
from preflight.core.findings.remedy import Remedy
from preflight.core.groups import FamilyProbe
from preflight.core.model import Node, Probe, family_of
from preflight.core.terms import listed

_SHOWN = 3

Borne = Mapping[tuple[int, FamilyProbe], str]  # of a node's packets of a test: their source address


def leaving(diagnoses: Sequence[Diagnosis]) -> list[LeavesAs]:
    """Each node once for each address that its packets bear and that is not its own."""
    found: dict[tuple[int, str], LeavesAs] = {}
    for diagnosis in diagnoses:
        if diagnosis.leaves_as is not None:
            key = diagnosis.leaves_as.node, diagnosis.leaves_as.address
            known = found.setdefault(key, diagnosis.leaves_as)
            if known.hit is None and diagnosis.leaves_as.hit is not None:
                found[key] = diagnosis.leaves_as
    return list(found.values())


def concerned(one: LeavesAs, probe: Probe, test: FamilyProbe) -> bool:
    """Whether a test's packets bear that address, too: what is answered is sent from our own,
    unless a rule rewrites it.
    """
    if family_of(one.address) is not test.family:
        return False
    return probe.one_way if one.hit is None else concerns(one.hit.rule, probe, "forward")


def borne(
    diagnoses: Sequence[Diagnosis], probes: Sequence[Probe], tests: Sequence[FamilyProbe]
) -> Borne:
    """What is known to be borne by packets of a finding."""
    return {
        (one.node, test): one.address
        for one in leaving(diagnoses)
        for test in tests
        if concerned(one, probes[test.probe], test)
    }


def senders(every: Sequence[LeavesAs], names: Sequence[str]) -> str:
    """`n1 sends from 198.51.100.99, n2 from 203.0.113.9`, where they are few enough."""
    own = [f"{names[one.node]} from {one.address}" for one in every]
    own[0] = f"{names[every[0].node]} sends from {every[0].address}"
    more = [f"{len(own) - _SHOWN} more so"] if len(own) > _SHOWN else []
    return listed([*own[:_SHOWN], *more])


def on_the_path(
    nodes: Sequence[Node],
    probes: Sequence[Probe],
    tests: Sequence[FamilyProbe],
    diagnoses: Sequence[Diagnosis],
) -> Remedy:
    """What to do at the nodes about packets that the path drops and that bear other addresses."""
    every = leaving(diagnoses)
    if not every:
        return Remedy()
    names = [node.name for node in nodes]
    told = (
        f"These packets bear another address than the inventory's ({senders(every, names)}): a "
        "firewall that lets only nodes pass drops them for that. Make them bear their own first."
    )
    done = except_nodes(nodes, probes, tests, every)
    return done._replace(advice=(told, *done.advice))


def except_nodes(
    nodes: Sequence[Node],
    probes: Sequence[Probe],
    tests: Sequence[FamilyProbe],
    every: Sequence[LeavesAs],
) -> Remedy:
    """How packets between nodes get to bear the inventory's addresses."""
    done = [_except(nodes, probes, tests, one) for one in every]
    return Remedy(
        tuple(dict.fromkeys(change for part in done for change in part.changes)),
        tuple(dict.fromkeys(words for part in done for words in part.advice)),
    )


def _except(
    nodes: Sequence[Node], probes: Sequence[Probe], tests: Sequence[FamilyProbe], one: LeavesAs
) -> Remedy:
    own = nodes[one.node]
    if one.picked:
        told = (
            f"{own.name}: its routes pick {one.address} (`ip route get ADDRESS` shows it): have "
            f"them name {one.own} (`src`), or correct the inventory if that is not the "
            "Kubernetes InternalIP."
        )
        return Remedy(advice=(told,))
    if one.hit is None:
        told = (
            f"{own.name}: what makes it {one.address} is not known: look at its routes (`src`) and "
            "at its nat rules for what leaves it (nft list ruleset, iptables-save -t nat: "
            "POSTROUTING), and except traffic to nodes."
        )
        return Remedy(advice=(told,))
    return mend(own.name, one.hit.rule, list(_traffic(nodes, probes, tests, one)))


def _traffic(
    nodes: Sequence[Node], probes: Sequence[Probe], tests: Sequence[FamilyProbe], one: LeavesAs
) -> Iterator[Traffic]:
    own = nodes[one.node]
    for test in tests:
        if concerned(one, probes[test.probe], test):
            known = {a for node in nodes for a in node.addresses}
            peers = {
                address
                for node in nodes
                if node is not own
                and node.cluster == own.cluster
                and (address := node.address_in(test.family)) is not None
            }
            source, destination = cidrs([one.own], ()), cidrs(peers, known - peers)
            yield Traffic(
                probes[test.probe], test.family, False, source.texts, destination.texts
            )  # fmt: skip
