"""Plan, real agents, real firewalls, conclusion: faults on the path are called what they are."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import test_agent_kit as kit
from deepkit import FAMILIES, Deep
from scenarios import Rule, address, gateway, load, probe_match, sysctl
from test_agent_kit import Agent
from test_paths import mtu
from trials import BLOCKED, LOSSY, planned

from preflight.core.diagnosis.conclusions import (
    ContentPattern,
    FlowPattern,
    Path,
    Rewrite,
    RewrittenField,
    Router,
    Size,
)
from preflight.core.diagnosis.content import content
from preflight.core.diagnosis.flows import flows
from preflight.core.diagnosis.hops import loop, path
from preflight.core.diagnosis.rewrites import leaves_as, rewrites
from preflight.core.diagnosis.sizes import SizeSearch
from preflight.core.diagnosis.trial import Observed
from preflight.core.groups import Kind
from preflight.core.model import ECHO, GENEVE, HEALTH, Family, Phase, Probe
from preflight.lab import Lab
from preflight.lab.topology import ROUTER

agent = kit.agent
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def deep(lab4: Lab, agent: Callable[..., Agent]) -> Iterator[Deep]:
    """Deep looks from n1 in rack a to n3 in rack b; the router tires of no ICMP error."""
    with ExitStack() as stack:
        for key in ("net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"):
            stack.enter_context(sysctl(lab4, ROUTER, key, "0"))
        yield Deep(lab4, agent)


def look(
    deep: Deep, kind: Kind = BLOCKED, probe: Probe = GENEVE, family: Family = Family.IPV4
) -> Observed:
    """What becomes of the shots that a check fires at such a cell."""
    shots = planned(probe, kind, family=family)
    return deep.look(deep.trial(0, "n1", "n3", probe, shots, family))[0]


def on_the_path(deep: Deep, text: str, hook: str = "forward") -> None:
    """The router has this rule, and no other."""
    deep.lab.drop_firewall(ROUTER)
    load(deep.lab, [Rule(ROUTER, hook, text)])


class TestHops:
    @EVERY_FAMILY
    @pytest.mark.parametrize("probe", [GENEVE, HEALTH, ECHO], ids=lambda probe: probe.name)
    def test_a_router_that_drops_what_it_forwards(
        self, deep: Deep, probe: Probe, family: Family
    ) -> None:
        on_the_path(deep, f"{probe_match(probe, family)} drop")
        router = Router(1, gateway(deep.lab.node("n1"), family))
        found = path(look(deep, probe=probe, family=family), on_link=False)
        assert found is not None
        assert (found.routers, found.silent) == ((router,), 2)
        if probe is GENEVE:  # the control port's packets arrive and tell how far it is
            assert found.distance == 1

    def test_one_that_drops_before_it_looks_at_the_ttl(self, deep: Deep) -> None:
        on_the_path(deep, "udp dport 6081 drop", "prerouting")
        router = Router(1, gateway(deep.lab.node("n1"), Family.IPV4))
        assert path(look(deep), on_link=False) == Path((), None, 1, False, (router,))

    def test_an_open_path(self, deep: Deep) -> None:
        found = path(look(deep), on_link=False)
        assert found is not None
        assert [router.ttl for router in found.routers] == [1]
        assert (found.silent, found.distance, loop(found)) == (None, 1, ())


FLOWS = [
    ("udp sport & 3 == 1 drop", FlowPattern.SOME_DEAD),
    ("udp sport < 1024 drop", FlowPattern.HIGH_ONLY),
    ("udp sport >= 1024 drop", FlowPattern.LOW_ONLY),
    ("udp sport != 6081 drop", FlowPattern.REPLIES_ONLY),
    ("udp sport < 32768 drop", FlowPattern.RANGE),
    ("limit rate over 20/second burst 5 packets drop", FlowPattern.LIMITED),
]


def test_flows(deep: Deep) -> None:
    for rule, pattern in FLOWS:
        on_the_path(deep, f"udp dport 6081 {rule}")
        found = flows(look(deep, LOSSY))
        assert found is not None, rule
        assert found.pattern is pattern, rule


CONTENT = [
    ("udp dport 6081 drop", ContentPattern.PORT),
    ("meta l4proto udp drop", ContentPattern.PROTOCOL),
    ("udp dport 6081 @th,80,16 0x6558 drop", ContentPattern.INNER),  # GENEVE's protocol type
    ("meta l4proto udp @th,64,8 0 drop", ContentPattern.TUNNEL),  # its version and length
]


@EVERY_FAMILY
def test_content(deep: Deep, family: Family) -> None:
    for rule, pattern in CONTENT:
        on_the_path(deep, rule)
        found = content(look(deep, family=family), Phase.BEFORE)
        assert found is not None, rule
        assert found.pattern is pattern, rule


def search(deep: Deep, family: Family = Family.IPV4) -> Size | None:
    """As a closer look makes it."""
    before = look(deep, LOSSY, family=family)
    sizes = SizeSearch.like(before, before.mtu, 1280 if family is Family.IPV6 else 100)
    seen: Observed | None = None
    while shots := sizes.next_shots(seen):
        seen = deep.look(deep.trial(0, "n1", "n3", GENEVE, shots, family))[0]
    return sizes.result()


class TestSizes:
    @EVERY_FAMILY
    def test_a_black_hole(self, deep: Deep, family: Family) -> None:
        on_the_path(deep, "udp dport 6081 meta length > 1437 drop")
        cut = 1437 if family is Family.IPV4 else None
        assert search(deep, family) == Size(1437, 1438, cut, 1500, True, None, None)

    @EVERY_FAMILY
    def test_a_router_that_says_how_much(self, deep: Deep, family: Family) -> None:
        router = gateway(deep.lab.node("n1"), family)
        with mtu(deep.lab, "rack-b", 1400):
            found = search(deep, family)
        assert found is not None
        assert (found.largest, found.smallest_lost, found.black_hole) == (1400, 1401, False)
        assert (found.reported_by, found.reported_mtu) == (router, 1400)
        if family is Family.IPV4:
            assert found.largest_fragmented == 1500

    def test_nothing_in_the_way(self, deep: Deep) -> None:
        assert search(deep) == Size(1500, 0, None, 1500, False, None, None)


def test_rewrites(deep: Deep) -> None:
    source, outside = address(deep.lab.node("n1"), Family.IPV4), "203.0.113.7"
    on_the_path(deep, f"udp dport 6081 snat ip to {outside}", "snat")
    load(deep.lab, [Rule(ROUTER, "forward", "udp dport 6081 ip dscp set ef accept")])
    seen = look(deep, LOSSY)
    assert rewrites(seen)[:1] == (Rewrite(RewrittenField.SOURCE, source, outside),)
    assert Rewrite(RewrittenField.TOS, "0x00", "0xb8") in rewrites(seen)
    assert leaves_as(seen) is None
    deep.lab.drop_firewall(ROUTER)
    load(deep.lab, [Rule("n1", "snat", f"udp dport 6081 snat ip to {outside}")])
    seen = look(deep, LOSSY)
    assert rewrites(seen) == ()
    seen.source_address = source  # as the controller knows it
    sent = leaves_as(seen)
    assert sent is not None
    assert sent[1:] == (outside, source, None, False)  # nobody traced its rules
