"""Who is accused, and who is not, on every evidence that a node can give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.diagnosis import settings as said
from preflight.core.diagnosis.kernel import KernelReason, explain
from preflight.core.diagnosis.kernel_rules import TABLE, TITLES, Reason, Rule, Stage
from preflight.core.diagnosis.trial import End
from preflight.core.diagnosis.witnesses import Dropped, Rise, SysctlChange, Witness
from preflight.core.model import Family, Leg, Place, Protocol

LOST, CAME, DEVICE = 20, 24, "eth0.5"
ADDRESSES = {
    Family.IPV4: ("10.0.0.1", "10.0.0.2"),
    Family.IPV6: ("fd00::1", "fd00::2"),
}
STAGES = {
    Stage.SEND: (Leg.FORWARD, Place.SOURCE),
    Stage.ARRIVE: (Leg.FORWARD, Place.PATH),
    Stage.TAKE_IN: (Leg.FORWARD, Place.DESTINATION),
    Stage.ANSWER: (Leg.REPLY, Place.DESTINATION),
}
ETHERTYPES = {Family.IPV4: 0x0800, Family.IPV6: 0x86DD}


@dataclass
class Facts:
    """What a node says, put together fact by fact."""

    settings: dict[str, Any] = field(default_factory=dict)
    idle: dict[str, Any] = field(default_factory=dict)
    moved: dict[str, Any] = field(default_factory=dict)
    drops: list[Sequence[Any]] = field(default_factory=list)
    idle_drops: list[Sequence[Any]] = field(default_factory=list)

    @property
    def end(self) -> End:
        return End("", self.settings, self.idle, self.moved, self.drops, self.idle_drops)


def add(facts: Facts, witness: Witness, rule: Rule, family: Family, stage: Stage) -> None:
    """Add what makes `witness` say yes."""
    match witness:
        case Rise(names, but):
            for name in names:
                concrete = name.replace("*", DEVICE, 1).replace("*", "kind")
                facts.moved.setdefault(concrete, 0)
                facts.idle.setdefault(concrete, 0)
            first = names[0].replace("*", DEVICE, 1).replace("*", "kind")
            facts.moved[first] = LOST
            for name in but:
                facts.moved[name] = facts.idle[name] = 0
        case Dropped(reasons, functions):
            row = (reasons[0], "") if reasons else ("", functions[0])
            facts.drops.append((*row, ETHERTYPES[family], LOST))
        case said.Switch(name, on):
            facts.settings[name] = on
        case said.DeviceSwitch(name, on):
            facts.settings[name.replace("*", "eth0/5")] = on
        case said.ReversePathFilter():
            facts.settings["net.ipv4.conf.eth0/5.rp_filter"] = 1
        case said.Full(count, limit):
            facts.settings |= {count: 96, limit: 100}
        case said.Mask(name, member):
            facts.settings[name] = 1 << member if member < 32 else f"0-{member}"
        case said.Attached(question):
            facts.settings[question.replace("*", DEVICE)] = 3
        case said.Way(direction, answers):
            to, sender = ADDRESSES[family][::-1]
            if (stage is Stage.ANSWER) is not (direction is said.Direction.BACK):
                to, sender = sender, to
            question = f"ip route get {to} from {sender}"
            if direction is said.Direction.IN:
                to, sender = ADDRESSES[family][::-1]
                question = f"ip route get {to} from {sender} iif {DEVICE}"
            facts.settings[question] = answers[0]
        case _:
            raise AssertionError(witness)


def ask(facts: Facts, stage: Stage, family: Family, protocol: Protocol, **other: Any) -> Any:
    leg, place = STAGES[stage]
    source, destination = ADDRESSES[family]
    asked: dict[str, Any] = {
        "leg": leg, "place": place, "protocol": protocol, "family": family, "lost": LOST,
        "came": CAME, "device": DEVICE if stage in (Stage.TAKE_IN, Stage.ARRIVE) else "",
        "end": facts.end, "source": source, "destination": destination,
    }  # fmt: skip
    return explain(**(asked | other))


def situations() -> list[Any]:
    """Every row of the table, in each stage, over each family and protocol that it is for."""
    return [
        pytest.param(
            rule, stage, family, protocol, id=f"{number}-{rule.reason}-{stage}-{family}-{protocol}"
        )
        for number, rule in enumerate(TABLE)
        for stage in rule.stages
        for family in ([rule.family] if rule.family else Family)
        for protocol in ([rule.protocol] if rule.protocol else Protocol)
    ]


def evidence(rule: Rule, witnesses: Sequence[Witness], stage: Stage, family: Family) -> Facts:
    facts = Facts()
    for witness in witnesses:
        add(facts, witness, rule, family, stage)
    return facts


@pytest.mark.parametrize(("rule", "stage", "family", "protocol"), situations())
def test_all_that_its_row_asks_for_accuses_and_one_witness_never_does(
    rule: Rule, stage: Stage, family: Family, protocol: Protocol
) -> None:
    everybody = (*rule.needs, *rule.supports)
    found = ask(evidence(rule, everybody, stage, family), stage, family, protocol)
    assert isinstance(found, KernelReason)
    assert found.reason is rule.reason
    assert found.title == TITLES[rule.reason]
    assert len(found.evidence) == len(everybody)
    assert all(sentence and sentence.isprintable() for sentence in found.evidence)
    for size in range(len(everybody)):
        for some in combinations(everybody, size):
            enough = size >= 2 and set(map(id, rule.needs)) <= set(map(id, some))
            found = ask(evidence(rule, some, stage, family), stage, family, protocol)
            accused = found is not None and found.reason is rule.reason
            # A row may be another one's beginning: the neighbour table's are.
            others = [r for r in TABLE if r.reason is rule.reason and r is not rule]
            assert accused or not enough
            assert not accused or enough or others


@pytest.mark.parametrize(("rule", "stage", "family", "protocol"), situations())
def test_elsewhere_nobody_is_accused_of_it(
    rule: Rule, stage: Stage, family: Family, protocol: Protocol
) -> None:
    facts = evidence(rule, (*rule.needs, *rule.supports), stage, family)
    for other in Stage:
        reasons = {r.reason for r in TABLE if other in r.stages}
        if rule.reason not in reasons:
            found = ask(facts, other, family, protocol)
            assert found is None or found.reason is not rule.reason


@pytest.mark.parametrize(("rule", "stage", "family", "protocol"), situations())
def test_too_little_or_what_moved_before_accuses_nobody(
    rule: Rule, stage: Stage, family: Family, protocol: Protocol
) -> None:
    facts = evidence(rule, (*rule.needs, *rule.supports), stage, family)
    more = ask(facts, stage, family, protocol, lost=LOST + 1, came=LOST + 1)
    assert more is None  # only settings are left, and none of them is enough
    before = evidence(rule, (*rule.needs, *rule.supports), stage, family)
    before.idle = dict(before.moved)
    before.idle_drops = list(before.drops)
    assert ask(before, stage, family, protocol) is None


@pytest.mark.parametrize(("rule", "stage", "family", "protocol"), situations())
def test_what_was_not_watched_before_proves_nothing(
    rule: Rule, stage: Stage, family: Family, protocol: Protocol
) -> None:
    facts = evidence(rule, (*rule.needs, *rule.supports), stage, family)
    facts.idle = {}
    facts.drops = []
    assert ask(facts, stage, family, protocol) is None


def test_a_packet_dies_once() -> None:
    """Two reasons, each proven by itself, accuse nobody."""
    facts = Facts()
    for rule in TABLE:
        if rule.reason in (Reason.RP_FILTER, Reason.CONNTRACK_FULL):
            for witness in rule.needs:
                add(facts, witness, rule, Family.IPV4, Stage.TAKE_IN)
    facts.settings["net.ipv4.conf.eth0/5.rp_filter"] = 1
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is None


@pytest.mark.parametrize(("lost", "came"), [(0, 20), (19, 18), (-1, 20)])
def test_no_loss_no_reason(lost: int, came: int) -> None:
    rule = TABLE[0]
    facts = evidence(rule, (*rule.needs, *rule.supports), Stage.TAKE_IN, Family.IPV4)
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP, lost=lost, came=came)
    assert found is None


@pytest.mark.parametrize("stage", [Stage.SEND, Stage.ANSWER])
def test_what_leaves_does_not_leave_by_the_device_that_something_came_in_by(stage: Stage) -> None:
    rule = next(r for r in TABLE if r.reason is Reason.QUEUE and r.family is Family.IPV4)
    facts = evidence(rule, rule.needs, stage, Family.IPV4)
    add(facts, rule.supports[0], rule, Family.IPV4, stage)
    assert ask(facts, stage, Family.IPV4, Protocol.UDP, device="another")


# --- any mixture of facts -------------------------------------------------------------------------

_FACTS = [
    (rule, witness, family)
    for rule in TABLE
    for family in ([rule.family] if rule.family else list(Family))
    for witness in (*rule.needs, *rule.supports)
]


@given(
    st.sets(st.integers(0, len(_FACTS) - 1), max_size=8),
    st.sampled_from(Stage),
    st.sampled_from(Family),
    st.sampled_from(Protocol),
)
def test_nobody_is_accused_without_two_witnesses(
    chosen: set[int], stage: Stage, family: Family, protocol: Protocol
) -> None:
    facts = Facts()
    for number in chosen:
        rule, witness, of = _FACTS[number]
        add(facts, witness, rule, of, stage)
    found = ask(facts, stage, family, protocol)
    if found is None:
        return
    spoke = [_FACTS[number] for number in chosen]
    kinds = {type(witness).__name__ for _, witness, of in spoke}
    assert len(found.evidence) >= 2
    assert len(kinds) >= 2 or len(spoke) >= 2
    assert found.reason in {rule.reason for rule in TABLE if stage in rule.stages}


_JUNK = st.integers() | st.sampled_from(
    [None, True, 1.5, -1, 10**30, "", "local", "EXDEV", "0-129", "\x1b[2J", [], {}, ["x"]]
)
_KEYS = st.text(max_size=5) | st.sampled_from(
    [
        "TcpExtIPReversePathFilter", "nf_conntrack:drop", "eth0 tc clsact dropped",
        "net.ipv4.conf.eth0.rp_filter", "net.ipv4.icmp_ratemask", "net.ipv6.icmp.ratemask",
        "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count",
        "ip route get 10.0.0.2 from 10.0.0.1 iif eth0", "ip -d link show eth0", "IcmpInEchos",
        "ip xfrm policy list dir in", "XfrmInNoPols", "above eth0",
        "net.ipv4.conf.\x1b[2J.rp_filter",
    ]
)  # fmt: skip
_MAPS = st.dictionaries(_KEYS, _JUNK, max_size=8)
_ROWS = st.lists(st.lists(_JUNK, max_size=5), max_size=4)


@settings(max_examples=60)
@given(_MAPS, _MAPS, _MAPS, _ROWS, _ROWS, st.sampled_from(Stage), st.sampled_from(Family))
def test_no_node_makes_it_crash_or_print_what_it_should_not(
    told: Mapping[str, Any],
    idle: Mapping[str, Any],
    moved: Mapping[str, Any],
    drops: Sequence[Sequence[Any]],
    idle_drops: Sequence[Sequence[Any]],
    stage: Stage,
    family: Family,
) -> None:
    facts = Facts(dict(told), dict(idle), dict(moved), list(drops), list(idle_drops))
    for protocol in (Protocol.UDP, Protocol.ICMP):
        for device in ("", "eth0"):
            found = ask(facts, stage, family, protocol, device=device, source="", destination="")
            for text in found.evidence if found else ():
                assert text.isprintable()


# --- what settings say ----------------------------------------------------------------------------


def reverse_path(device: str = "eth0.5", **values: Any) -> KernelReason | None:
    facts = Facts({}, {"TcpExtIPReversePathFilter": 0}, {"TcpExtIPReversePathFilter": LOST})
    for name, value in values.items():
        facts.settings[f"net.ipv4.conf.{name.replace('__', '/')}.rp_filter"] = value
    return ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP, device=device)


def changes(found: KernelReason | None) -> list[tuple[str, str, str]]:
    assert found is not None
    assert found.reason is Reason.RP_FILTER
    return [tuple(change) for change in found.settings]


_NAME = "net.ipv4.conf.eth0/5.rp_filter"


def test_the_greater_of_the_devices_own_and_alls_rp_filter_counts() -> None:
    assert changes(reverse_path(eth0__5=1)) == [(_NAME, "1", "2")]
    assert changes(reverse_path(eth0__5=1, all=0)) == [(_NAME, "1", "2")]
    assert changes(reverse_path(eth0__5=0, all=1)) == [(_NAME, "0", "2")]
    assert changes(reverse_path(eth0__5=2, all=1)) == []
    assert changes(reverse_path(eth0__5=1, all=2)) == []
    assert reverse_path(eth0__5=0, all=0) is None
    assert reverse_path(eth0__5=0) is None


def test_only_the_device_that_they_came_in_by_counts_where_it_is_known() -> None:
    assert reverse_path(eth0__5=0, eth1=1, all=0) is None
    assert reverse_path(eth1=1, all=0) is None  # nobody asked for this one's
    assert changes(reverse_path("", eth0__5=0, eth1=1, all=0)) == [
        ("net.ipv4.conf.eth1.rp_filter", "1", "2")
    ]


def test_a_bridge_takes_in_for_its_port() -> None:
    facts = Facts({}, {"TcpExtIPReversePathFilter": 0}, {"TcpExtIPReversePathFilter": LOST})
    facts.settings |= {"net.ipv4.conf.br0.rp_filter": 1, _NAME: 0, f"above {DEVICE}": "br0 br0.7"}
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    assert changes(found) == [("net.ipv4.conf.br0.rp_filter", "1", "2")]
    facts.settings |= {"net.ipv4.conf.br0.rp_filter": 0, _NAME: 1}
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is None


def test_all_and_default_are_no_devices() -> None:
    assert reverse_path("", all=1, default=1) is None


def test_by_a_device_without_an_address_only_no_filter_at_all_mends() -> None:
    facts = Facts({}, {"TcpExtIPReversePathFilter": 0}, {"TcpExtIPReversePathFilter": LOST})
    facts.settings |= {_NAME: 1, "net.ipv4.conf.all.rp_filter": 2}
    facts.settings[f"ip -4 address show dev {DEVICE}"] = 0
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    assert changes(found) == [(_NAME, "1", "0"), ("net.ipv4.conf.all.rp_filter", "2", "0")]


def test_the_kernels_own_word_that_it_would_take_it_in_acquits_rp_filter() -> None:
    facts = Facts({_NAME: 1}, {"TcpExtIPReversePathFilter": 0}, {"TcpExtIPReversePathFilter": 99})
    question = f"ip route get 10.0.0.2 from 10.0.0.1 iif {DEVICE}"
    for answer, accused in (("local", False), ("EXDEV", True), ("EINVAL", True)):
        facts.settings[question] = answer
        found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
        assert (found is not None) is accused
    facts.settings[question] = "local"
    # Another device's way, another pair's, or one of a pair that is not known, acquits nobody.
    facts.settings[question.replace(DEVICE, "eth1")] = "local"
    del facts.settings[question]
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    facts.settings[question] = "local"
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP, source="10.0.0.9")
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP, source="", destination="")


def mask(family: Family, name: str, value: Any) -> KernelReason | None:
    rule = next(r for r in TABLE if (r.reason, r.family) == (Reason.ECHO_LIMITED, family))
    facts = evidence(rule, rule.needs, Stage.ANSWER, family)
    facts.settings[name] = value
    found: KernelReason | None = ask(facts, Stage.ANSWER, family, Protocol.ICMP)
    return found


@pytest.mark.parametrize(
    ("value", "better"), [(1, "0"), (6169, "6168"), (0x7FFFFFFF, "2147483646")]
)
def test_echo_replies_are_taken_out_of_a_mask(value: int, better: str) -> None:
    found = mask(Family.IPV4, "net.ipv4.icmp_ratemask", value)
    assert found is not None
    assert found.settings == (SysctlChange("net.ipv4.icmp_ratemask", str(value), better),)


@pytest.mark.parametrize(
    ("value", "better"),
    [
        ("0-1,3-129", "0-1,3-128"),
        ("0-255", "0-128,130-255"),
        (129, "0-1,3-127"),
        ("129,131", "131"),
    ],
)
def test_echo_replies_are_taken_out_of_a_list(value: Any, better: str) -> None:
    found = mask(Family.IPV6, "net.ipv6.icmp.ratemask", value)
    assert found is not None
    assert found.settings == (SysctlChange("net.ipv6.icmp.ratemask", str(value), better),)


@pytest.mark.parametrize("value", [6168, 0, "x", "", None, True, -1])
def test_a_mask_without_echo_replies_accuses_nobody(value: Any) -> None:
    assert mask(Family.IPV4, "net.ipv4.icmp_ratemask", value) is None


@pytest.mark.parametrize(
    "value", ["0-1,3-127", "0-", "-129", "9-1", "0-99999999999", "", 1, None, "²"]
)
def test_a_list_without_echo_replies_accuses_nobody(value: Any) -> None:
    assert mask(Family.IPV6, "net.ipv6.icmp.ratemask", value) is None


@pytest.mark.parametrize(
    ("count", "limit", "accused"),
    [(100, 100, True), (95, 100, True), (94, 100, False), (0, 0, False), (1, None, False)],
)
def test_a_table_is_full_from_95_percent(count: Any, limit: Any, accused: bool) -> None:
    facts = Facts({}, {"nf_conntrack:drop": 7}, {"nf_conntrack:drop": LOST + 7})
    facts.settings["net.netfilter.nf_conntrack_count"] = count
    facts.settings["net.netfilter.nf_conntrack_max"] = limit
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    assert (found is not None) is accused


def test_what_a_restless_counter_does_anyway_is_taken_off() -> None:
    facts = Facts({}, {"nf_conntrack:drop": 8}, {"nf_conntrack:drop": LOST + 7})
    facts.settings["net.netfilter.nf_conntrack_count"] = 100
    facts.settings["net.netfilter.nf_conntrack_max"] = 100
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is None


@pytest.mark.parametrize(("before", "accused"), [(0, True), (2, True), (3, False), (LOST, False)])
def test_what_moves_anyway_is_no_witness(before: int, accused: bool) -> None:
    name = "TcpExtIPReversePathFilter"
    facts = Facts({}, {name: before}, {name: LOST})
    facts.settings["net.ipv4.conf.eth0/5.rp_filter"] = 1
    assert (ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is not None) is accused
    facts = Facts({}, {name: 0}, {name: LOST})
    facts.drops = [("IP_RPFILTER", "", 0x0800, LOST)]
    facts.idle_drops = [("IP_RPFILTER", "", 0x0800, before)]
    assert (ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is not None) is accused


@pytest.mark.parametrize(
    "row",
    [
        ("IP_RPFILTER", "", 0x86DD, LOST),  # the other family
        ("IP_RPFILTER", "", 0x0800, LOST - 1),
        ("UDP_CSUM", "ip_rcv_finish_core", 0x0800, LOST),  # it has another reason
        ("", "tcp_v4_rcv", 0x0800, LOST),
        ("IP_RPFILTER", "", 0x0800, "20"),
        ("IP_RPFILTER", "", 0x0800),
    ],
)
def test_drops_of_another_kind_are_no_second_witness(row: Sequence[Any]) -> None:
    facts = Facts({}, {"TcpExtIPReversePathFilter": 0}, {"TcpExtIPReversePathFilter": LOST})
    facts.drops = [row]
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is None
    facts.drops = [("", "ip_rcv_finish_core", 0x0800, LOST)]  # a kernel that gives no reasons
    assert ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP) is not None


_ELSE_STILL = "probes were lost there; just before, with none under way, it did not move"
_TRACED = "IPv4 packets meanwhile, and none before: IP_RPFILTER (tracepoint skb:kfree_skb)"


def test_the_words() -> None:
    rule = TABLE[0]
    facts = evidence(rule, (*rule.needs, *rule.supports), Stage.TAKE_IN, Family.IPV4)
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    assert found.evidence == (
        f"TcpExtIPReversePathFilter rose by {LOST} while {LOST} of {CAME} {_ELSE_STILL}",
        "net.ipv4.conf.eth0/5.rp_filter = 1 (strict)",
        f"the kernel dropped {LOST} {_TRACED}",
        "`ip route get 10.0.0.2 from 10.0.0.1 iif eth0.5` says Invalid cross-device link",
        "`ip route get 10.0.0.1 from 10.0.0.2` says unicast",
    )


def test_without_any_way_back_the_filters_setting_is_not_to_blame() -> None:
    rule = TABLE[0]
    facts = evidence(rule, (*rule.needs, *rule.supports), Stage.TAKE_IN, Family.IPV4)
    facts.settings["ip route get 10.0.0.1 from 10.0.0.2"] = "EINVAL"
    found = ask(facts, Stage.TAKE_IN, Family.IPV4, Protocol.UDP)
    assert found.reason is Reason.NO_ROUTE_BACK
    assert not found.settings


def test_every_reason_has_a_row_and_a_title() -> None:
    assert {rule.reason for rule in TABLE} == set(Reason) == set(TITLES)
