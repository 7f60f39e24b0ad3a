"""A finding: one cause behind many cells, or a hazard behind none yet."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.groups import FamilyProbe, Kind
from preflight.core.model import Protocol, Severity


class Cause(StrEnum):
    """What is to blame, as far as it is known: the machine-readable name of a finding."""

    RULE = "firewall-rule"  # a named rule, or chain policy, of a node
    NODE_FIREWALL = "node-firewall"  # inside a node, the rule not known
    KERNEL = "kernel"  # a node's kernel: rp_filter, a full table, ...
    NETWORK = "network"  # between the nodes
    INTERCEPTED = "intercepted"  # something answers in the destination's place
    SIZE = "size"
    FLOWS = "flows"  # some flows always, others never
    INSPECTION = "inspection"  # dropped for its content
    LOSS = "loss"
    RATE_LIMIT = "rate-limit"
    TRANSLATION = "translation"  # addresses or ports are rewritten
    ROUTE = "route"
    NEIGHBOUR = "neighbour"
    ADDRESS = "address"  # two nodes have it, or its own node does not use it
    NOT_LISTENING = "not-listening"
    NOT_CILIUM = "not-cilium"  # something else serves TCP 4240
    NOT_ANSWERING = "not-answering"  # whatever serves TCP 4240 is silent
    DATA = "data"  # SYNs pass, what a connection carries does not
    OVERLAY = "overlay"  # the overlay carries nothing, though the way for its tunnel is open
    CHECKSUM = "checksum"  # the overlay carries ICMP and no TCP
    POLICY = "policy"  # the overlay carries TCP and no ICMP
    ENDPOINT = "health-endpoint"  # one is not there
    NO_AGENT = "no-agent"
    NOT_WATCHED = "not-watched"
    INTERRUPTED = "interrupted"
    CONFIGURATION = "configuration"  # spec, cluster and inventory: known before any probe
    HAZARD = "hazard"  # no cell shows it yet: a fact of a node that will hurt Cilium


class Block(NamedTuple):
    """Every source to every destination, as far as such a cell was planned; positions of nodes."""

    sources: tuple[int, ...]
    destinations: tuple[int, ...]
    both_ways: bool
    where: str  # the same in words
    tests: tuple[FamilyProbe, ...] = ()  # of which the cells are meant


class Change(NamedTuple):
    """What to do on one node."""

    node: str
    tool: str  # nft, iptables, ip6tables, firewalld, ufw, sysctl, ip, ethtool, cilium
    commands: tuple[str, ...]  # for root's shell, in this order; they act at once
    persist: tuple[str, ...]  # how to make it last, as commands or a sentence


class Request(NamedTuple):
    """A rule to ask a firewall team for, in one direction: GENEVE flows are separate each way."""

    sources: tuple[str, ...]  # CIDRs
    destinations: tuple[str, ...]
    protocol: Protocol
    port: int | None  # destination port; None for ICMP echo
    source_ports: str  # `any (1-65535)`
    family: str  # ipv4 or ipv6
    reason: str


class Finding(NamedTuple):
    """One cause."""

    identifier: str  # F1, F2, ...: in the order of the report
    cause: Cause
    severity: Severity
    title: str  # one sentence: what, where, who
    kinds: tuple[Kind, ...]  # what its cells say; empty for a hazard
    tests: tuple[FamilyProbe, ...]
    blocks: tuple[Block, ...]
    where: str  # all blocks in words
    pairs: int
    cells: int
    nodes: tuple[int, ...]  # to blame or to be changed, where known
    evidence: tuple[str, ...]  # plain sentences
    diagnosis: Diagnosis | None  # of one sample cell
    sample: tuple[int, int] | None  # its source and destination
    changes: tuple[Change, ...]
    requests: tuple[Request, ...]
    advice: str  # what to do, in words, where no command can say it; may be empty
    unknown: tuple[str, ...]  # what could not be found out, and why
