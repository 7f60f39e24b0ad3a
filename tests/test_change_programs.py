"""The suggested commands where ufw and firewalld own the rules, as their packages are.

Each runs in a network namespace with an /etc and a /run of its own.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from mendkit import Case, Traced, apply, nothing_else, passes, ready, remedy, send
from rulebench import NEAR, PATIENCE_S, Bench, bench

from preflight.core.diagnosis.trial import Rule
from preflight.core.findings.model import Change
from preflight.core.findings.owners import Manager, owner
from preflight.core.model import ECHO, HEALTH

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
]

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
_PRIVATE = """
mount -t tmpfs none /run
for place in {places}; do
    mkdir -p /run/copy; cp -a "$place/." /run/copy/
    mount -t tmpfs none "$place"; cp -a /run/copy/. "$place/"; rm -rf /run/copy
done
trap '{end}' EXIT
{start}
echo ready
cat >/dev/null
"""
_FIREWALLD = """
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/bus
mount -t tmpfs none /var/log
sed -i 's/^FirewallBackend=.*/FirewallBackend={backend}/' /etc/firewalld/firewalld.conf
cat >/run/bus.conf <<END
{bus}END
mkfifo /run/bus.up
dbus-daemon --config-file=/run/bus.conf --nofork --print-address=3 3>/run/bus.up 2>/dev/null &
BUS=$!
read address </run/bus.up
firewalld --nofork --nopid &
DAEMON=$!
until firewall-cmd --state >/dev/null 2>&1; do kill -0 $DAEMON; done
"""


class House:
    """One end of a bench whose firewall program has its own /etc and /run."""

    def __init__(self, on: Bench, end: str, script: str) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", end, "unshare", "-m", "--propagation", "private", "sh", "-ec",
             script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._ready = self._process.stdout.readline()

    def __call__(self, command: str) -> str:
        """What a command printed there. It must succeed."""
        argv = ["nsenter", "-m", "-n", "-t", str(self._process.pid), "sh", "-ec", command]
        environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/run/bus"}
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=60, check=False, env=environment
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def close(self) -> None:
        pipes = (self._process.stdin, self._process.stdout)
        for pipe in pipes:
            with suppress(OSError):
                pipe and pipe.close()
        self._process.wait(PATIENCE_S)

    def check(self) -> None:
        """Raises where it did not come up."""
        assert self._ready == "ready\n"


@contextmanager
def house(on: Bench, end: str, places: str, start: str = "", end_with: str = "") -> Iterator[House]:
    out = House(on, end, _PRIVATE.format(places=places, start=start, end=end_with))
    try:
        out.check()
        yield out
    finally:
        out.close()


needs_ufw = pytest.mark.skipif(shutil.which("ufw") is None, reason="ufw is not installed")
needs_firewalld = pytest.mark.skipif(
    shutil.which("firewalld") is None or shutil.which("dbus-daemon") is None,
    reason="firewalld is not installed",
)
UFW = (
    Case("what it denies by default", "", wide=True),
    Case("what it denies by default, IPv6", "", v6=True, wide=True),
    Case("health", "", HEALTH),
    Case("its own rule", "ufw deny 6081/udp comment 'corp'", undo="ufw delete deny 6081/udp"),
    Case("an address that it rejects", "ufw reject from 10.77.0.0/24", wide=True,
         undo="ufw delete reject from 10.77.0.0/24"),
    Case("on the way out", "ufw deny out 6000:7000/udp", near=True, wide=True,
         undo="ufw delete deny out 6000:7000/udp"),
    Case("what it rejects by default", "ufw default reject", wide=True, undo="ufw default deny"),
    Case("its first rules", "sed -i 's/echo-request -j ACCEPT/echo-request -j DROP/' "
         "/etc/ufw/before.rules; ufw reload", ECHO),
)  # fmt: skip


@pytest.fixture(scope="module")
def ufw() -> Iterator[tuple[Bench, dict[str, House]]]:
    """A bench with ufw at both ends; the near one's lets in whatever comes."""
    with bench("mends-ufw") as on, ExitStack() as stack:
        ready(on)
        houses = {
            end: stack.enter_context(house(on, end, "/etc/ufw /etc/default"))
            for end in (on.near, on.far)
        }
        houses[on.near]("ufw default allow; ufw --force enable")
        houses[on.far]("ufw --force enable")
        yield on, houses


@needs_ufw
@pytest.mark.parametrize("case", UFW, ids=lambda case: case.name)
def test_ufw(ufw: tuple[Bench, dict[str, House]], case: Case) -> None:
    on, houses = ufw
    inside = houses[on.near if case.near else on.far]
    if case.near:
        houses[on.far](f"ufw prepend allow from {NEAR[0]}")
    inside(case.ruleset)
    done, rule = housed(on, case, inside)
    assert owner(rule).manager is Manager.UFW
    assert {change.tool for change in done} == {"ufw"}
    if case.probe is ECHO:
        inside("\n".join(lines_of_files(done)))
        inside("ufw reload")
        assert passes(on, case)
    for change in done:
        inside("\n".join(re.sub("^ufw (prepend )?allow", "ufw delete allow", c)
                         for c in change.commands if c.startswith("ufw")))  # fmt: skip
    if case.near:
        houses[on.far](f"ufw delete allow from {NEAR[0]}")
    inside(case.undo)


def housed(on: Bench, case: Case, inside: House) -> tuple[list[Change], Rule]:
    traced = Traced(on, case, ["eth0"])
    try:
        send(on, case, NEAR[case.v6], case.probe.port or 0)
        rule = traced.rule()
        done = apply(on, remedy(case, rule), inside)
        assert passes(on, case), (rule, done)
        if "mistake" not in case.name:  # to undo that lets in everybody's
            nothing_else(on, case, traced)
        return done, rule
    finally:
        traced.worker.close()


def lines_of_files(done: list[Change]) -> Iterator[str]:
    """Commands that write what has to be written into ufw's file, as its admin is told."""
    for change in done:
        for text in change.persist:
            found = re.search(r"write `(.+?)` into (\S+?),", text)
            if found:
                yield f"sed -i '0,/echo-request/{{/echo-request/i {found[1]}\n}}' {found[2]}"


FIREWALLD = (
    Case("what no zone allows", "", wide=True),
    Case("what no zone allows, IPv6", "", v6=True, wide=True),
    Case("a zone that drops", "firewall-cmd --zone=k8s-nodes --add-source=10.77.0.0/24", wide=True),
    Case("a rich rule", "firewall-cmd --zone=public --add-rich-rule="
         "'rule port port=\"6000-7000\" protocol=\"udp\" drop'", wide=True),
    Case("a rich rule before all others", "firewall-cmd --zone=public --add-rich-rule="
         "'rule priority=\"-5\" port port=\"4240\" protocol=\"tcp\" drop'", HEALTH),
    Case("the well-known mistake", "firewall-cmd --zone=public --add-icmp-block=echo-request",
         ECHO),
    Case("a direct rule",
         "firewall-cmd --direct --add-rule ipv4 filter INPUT 0 -p udp --dport 6000:7000 -j DROP\n"
         "firewall-cmd --zone=trusted --add-source=10.77.0.0/24", wide=True),
    Case("a policy for what the node sends",
         "firewall-cmd --policy=out --add-ingress-zone=HOST\n"
         "firewall-cmd --policy=out --add-egress-zone=ANY", near=True, wide=True),
)  # fmt: skip
# A zone and a policy that wait to be used, as firewall-cmd --permanent writes them.
_SETTINGS = """
echo '<zone target="DROP"/>' >/etc/firewalld/zones/k8s-nodes.xml
mkdir -p /etc/firewalld/policies
echo '<policy target="DROP"/>' >/etc/firewalld/policies/out.xml
"""
WITH_IPTABLES = ("what no zone allows", "a rich rule", "a direct rule",
                 "a policy for what the node sends")  # fmt: skip
WITH_BACKEND = [
    *(pytest.param("nftables", case, id=case.name) for case in FIREWALLD),
    *(
        pytest.param("iptables", case, id=f"{case.name}, by iptables")
        for case in FIREWALLD
        if case.name in WITH_IPTABLES
    ),
]


@pytest.fixture(scope="module")
def firewalld(request: pytest.FixtureRequest) -> Iterator[Callable[[bool], tuple[Bench, House]]]:
    """A bench, and firewalld at its near or its far end, once that is asked for."""
    start = _FIREWALLD.format(backend=request.param, bus=_BUS)
    houses: dict[str, House] = {}
    with bench("mends-fd") as on, ExitStack() as stack:
        ready(on)

        def at(near: bool) -> tuple[Bench, House]:
            end = on.near if near else on.far
            if end not in houses:
                own = house(on, end, "/etc/firewalld", _SETTINGS + start, "kill $DAEMON $BUS; wait")
                houses[end] = stack.enter_context(own)
            return on, houses[end]

        yield at


@needs_firewalld
@pytest.mark.parametrize(("firewalld", "case"), WITH_BACKEND, indirect=["firewalld"])
def test_firewalld(firewalld: Callable[[bool], tuple[Bench, House]], case: Case) -> None:
    on, inside = firewalld(case.near)
    if case.near:
        _, beyond = firewalld(False)
        beyond(f"firewall-cmd --zone=trusted --add-source={NEAR[0]}")
    inside(case.ruleset)
    done, rule = housed(on, case, inside)
    if case.name != "a direct rule":  # which the nftables backend gives to iptables
        assert owner(rule).manager is Manager.FIREWALLD
        assert {change.tool for change in done} == {"firewalld"}
    for command in (*(c for change in done for c in change.commands), *case.ruleset.splitlines()):
        if " --add-" in command and "mistake" not in case.name:
            inside(command.replace(" --add-", " --remove-"))
    if case.near:
        beyond(f"firewall-cmd --zone=trusted --remove-source={NEAR[0]}")


@needs_firewalld
@pytest.mark.parametrize("firewalld", ["nftables"], indirect=True)
def test_what_firewalld_is_told_lasts(firewalld: Callable[[bool], tuple[Bench, House]]) -> None:
    case = Case("health", "", HEALTH)
    on, inside = firewalld(False)
    done, _ = housed(on, case, inside)
    for change in done:
        for command in change.persist:
            inside(command)
    inside("firewall-cmd --reload")
    assert passes(on, case)
