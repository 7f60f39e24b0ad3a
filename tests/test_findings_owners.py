"""Who set a rule: recorded from the programs themselves, and from what they document."""

import pytest
from rulesets import ends, read

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.owners import Manager, Owner, owner

FIREWALLD = Manager.FIREWALLD


def zone(name: str, part: str = "") -> Owner:
    return Owner(FIREWALLD, zone=name, part=part)


def policy(name: str, part: str = "") -> Owner:
    return Owner(FIREWALLD, policy=name, part=part)


MISTAKE = zone("public", "deny")._replace(icmp_block=True)
RECORDED = {
    "firewalld-1.3.nft": {
        "filter_PREROUTING": [Owner(FIREWALLD)],
        "filter_INPUT": [Owner(FIREWALLD), zone("public")],  # INVALID, and what no zone took
        "filter_IN_rej": [zone("rej")],
        "filter_IN_k8s-nodes": [zone("k8s-nodes")],
        "filter_IN_public_pre": [zone("public", "pre")],
        "filter_IN_public_deny": [MISTAKE, MISTAKE, zone("public", "deny")],
        "filter_IN_public_post": [zone("public", "post")],
        "filter_IN_public": [zone("public")],
        "filter_OUT_policy_egress_deny": [policy("egress", "deny")],
        "filter_OUT_policy_egress": [policy("egress")],
    },
    "firewalld-1.3.save": {
        "INPUT": [Owner(Manager.ADMIN), zone("public")],
        "INPUT_direct": [Owner(FIREWALLD)],
        "IN_rej": [zone("rej")],
        "IN_k8s-nodes": [zone("k8s-nodes")],
        "IN_public_pre": [zone("public", "pre")],
        "IN_public_deny": [MISTAKE, zone("public", "deny")],
        "IN_public_post": [zone("public", "post")],
        "IN_public": [zone("public")],
        "OUT_egress_deny": [policy("egress", "deny")],
        "OUT_egress": [policy("egress")],
    },
}


@pytest.mark.parametrize("name", RECORDED)
def test_firewalld_is_known_with_its_zones_and_policies(name: str) -> None:
    found: dict[str, list[Owner]] = {}
    for rule in ends(read(name)):
        if rule.hook != "forward":
            found.setdefault(rule.chain, []).append(owner(rule))
    left = found.pop("filter_OUTPUT", [])  # addresses of 6to4 that lead nowhere
    assert all(one.manager is FIREWALLD for one in left)
    assert found == RECORDED[name]


@pytest.mark.parametrize("name", ["ufw-0.36.save", "ufw6-0.36.save"])
def test_ufw_is_known_by_its_chains_and_by_the_policies_it_sets(name: str) -> None:
    rules = list(ends(read(name)))
    assert {rule.chain for rule in rules if rule.policy} == {"INPUT", "FORWARD"}
    assert {owner(rule) for rule in rules} == {Owner(Manager.UFW)}


def rule(
    table: str,
    chain: str,
    *walked: str,
    text: str = "drop",
    comment: str = "",
    policy: bool = False,
    family: str = "ip",
) -> Rule:
    path = tuple((family, table, c) for c in (*walked, chain))
    return Rule(
        "nft", family, table, chain, 0 if policy else 7, 0, policy, text, comment, False, "input",
        path, True,
    )  # fmt: skip


DOCUMENTED = (
    # Docker
    (rule("filter", "DOCKER-USER", "FORWARD"), Manager.DOCKER),
    (rule("filter", "DOCKER-ISOLATION-STAGE-2", "FORWARD"), Manager.DOCKER),
    (rule("filter", "DOCKER", "FORWARD", "DOCKER-FORWARD"), Manager.DOCKER),
    (rule("docker-bridges", "filter-FORWARD"), Manager.DOCKER),
    (rule("filter", "FORWARD", "FORWARD", "DOCKER-USER", policy=True), Manager.DOCKER),
    # libvirt
    (rule("filter", "LIBVIRT_FWI", "FORWARD"), Manager.LIBVIRT),
    (rule("libvirt_network", "guest_input"), Manager.LIBVIRT),
    # kubelet and kube-proxy
    (rule("filter", "KUBE-FIREWALL", "INPUT"), Manager.KUBERNETES),
    (rule("kube-proxy", "service-endpoints-check"), Manager.KUBERNETES),
    # Calico
    (rule("filter", "cali-fhfw-0123456789abcde", "INPUT", "cali-INPUT"), Manager.CALICO),
    (rule("filter", "INPUT", comment="cali:Cz_u1IQiXIMmKD4c"), Manager.CALICO),
    (rule("calico", "filter-cali-INPUT"), Manager.CALICO),
    # Cilium
    (rule("filter", "CILIUM_INPUT", "INPUT"), Manager.CILIUM),
    (rule("filter", "OLD_CILIUM_OUTPUT", "OUTPUT"), Manager.CILIUM),
    (rule("filter", "OUTPUT", comment="cilium: drop this"), Manager.CILIUM),
    # fail2ban
    (rule("filter", "f2b-sshd", "INPUT"), Manager.FAIL2BAN),
    (rule("f2b-table", "f2b-chain", family="inet"), Manager.FAIL2BAN),
)


@pytest.mark.parametrize(("known", "manager"), DOCUMENTED, ids=lambda value: getattr(
    value, "chain", ""))  # fmt: skip
def test_others_are_known_by_what_they_document(known: Rule, manager: Manager) -> None:
    assert owner(known) == Owner(manager)


ADMINS = (
    rule("filter", "input", family="inet"),
    rule("filter", "INPUT"),
    rule("filter", "INPUT", policy=True),
    rule("filter", "FORWARD", "FORWARD", "ufw", policy=True),
    rule("host_firewall", "input", family="inet"),
    rule("filter", "CORP-IN", "INPUT"),
    # Names alone prove nothing where firewalld's own chains were not walked.
    rule("filter", "IN_web_deny", "INPUT"),
    rule("filter", "IN_web", "INPUT"),
    rule("filter", "OUT_web", "OUTPUT"),
    # What somebody put beside a program's rules is not that program's.
    rule("filter", "INPUT", "INPUT", "ufw-before-input", text="-A INPUT -p udp -j DROP"),
    rule("filter", "INPUT", "INPUT", "INPUT_ZONES", text="-A INPUT -p udp -j DROP"),
    rule("filter", "INPUT", "INPUT", "DOCKER-USER", policy=True),
    rule("filter", "INPUT", comment="kubernetes is not here"),
    rule("my-firewalld", "input"),
)


@pytest.mark.parametrize("own", ADMINS, ids=lambda own: f"{own.table} {own.chain}")
def test_what_is_not_surely_a_programs_is_the_admins_own(own: Rule) -> None:
    assert owner(own) == Owner(Manager.ADMIN)
    assert str(owner(own)) == ""


def test_older_firewalld_rejects_behind_its_zones() -> None:
    """Before 1.0 a zone returned, and the base chain had the last word."""
    last = rule(
        "firewalld", "filter_INPUT", "filter_INPUT", "filter_INPUT_ZONES", "filter_IN_work",
        "filter_IN_work_allow", text="reject with icmpx type admin-prohibited", family="inet",
    )  # fmt: skip
    assert owner(last) == zone("work")
    assert str(owner(last)) == "firewalld, zone work"
    assert owner(last._replace(path=())) == Owner(FIREWALLD)


def test_a_zone_may_be_called_like_a_part_of_one() -> None:
    walked = ("filter_INPUT", "filter_INPUT_ZONES")
    named = rule("firewalld", "filter_IN_lan_deny", *walked, family="inet")
    assert owner(named) == zone("lan_deny")
    part = rule("firewalld", "filter_IN_lan_deny_deny", *walked, "filter_IN_lan_deny")
    assert owner(part) == zone("lan_deny", "deny")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("icmp type echo-request reject with icmpx admin-prohibited", True),
        ("icmp type echo-request reject with icmpx type admin-prohibited", True),
        ("icmpv6 type echo-request counter packets 3 bytes 252 reject", True),
        ("ip saddr 10.0.0.0/8 icmp type echo-request reject", False),  # a rich rule's
        ("icmp type timestamp-request reject", False),
        ("icmp type echo-request drop", False),  # firewalld rejects
        ("udp dport 6081 reject", False),
    ],
)
def test_the_well_known_mistake_is_known_by_its_rule(text: str, mistake: bool) -> None:
    walked = ("filter_INPUT", "filter_INPUT_ZONES", "filter_IN_public")
    blocked = rule("firewalld", "filter_IN_public_deny", *walked, text=text, family="inet")
    assert owner(blocked).icmp_block is mistake
    assert owner(blocked)._replace(icmp_block=False) == zone("public", "deny")


def test_a_reject_of_echo_elsewhere_is_no_icmp_block() -> None:
    walked = ("filter_INPUT", "filter_INPUT_ZONES", "filter_IN_public")
    text = "icmp type echo-request reject"
    for part in ("pre", "post"):
        own = rule("firewalld", f"filter_IN_public_{part}", *walked, text=text, family="inet")
        assert not owner(own).icmp_block
