"""The whole story by itself: build a lab, break two things in it, let `check` find them."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from preflight.core.model import GENEVE, HEALTH
from preflight.errors import ExitCode, LabError
from preflight.lab import firewall, signals
from preflight.lab.lab import Lab, require_root

_STOP_S = 15.0  # for `check` to report what it has after Ctrl-C


def demo(name: str, *, nodes: int, racks: int, keep: bool, say: Callable[[str], None]) -> ExitCode:
    """Run the demonstration; `say` gets the words around it. The lab is taken down whatever comes.

    With `keep` it stays up, unless interrupted. Returns OK where `check` found that something
    required is broken, as it must. Raises LabError.
    """
    require_root("demo")
    if racks < 2:
        raise LabError("the demo breaks the firewall between two racks: --racks 2 or more")
    with signals.interrupt_on_all():
        lab = Lab.up(name, nodes=nodes, racks=racks)
        try:
            say(_introduction(lab))
            say(_break(lab))
            code = _check(lab.inventory_path)
        except BaseException:
            lab.down()
            raise
        if not keep:
            lab.down()
    if keep:
        say(f"The lab stays up. Take it down with: preflight lab down --name {name}")
    if code == ExitCode.BAD:
        say("That is what was broken. Exit code of check: 1, something required is blocked.")
        return ExitCode.OK
    say(f"preflight check ended with exit code {code}, where 1 was right: something is wrong here")
    return ExitCode.BUG


def _introduction(lab: Lab) -> str:
    racks = [
        f"rack {rack.name} ({' '.join(n.name for n in lab.nodes if n.rack == rack.name)})"
        for rack in lab.plan.racks
    ]
    return f"A lab of {len(lab.nodes)} nodes: {', '.join(racks)}; a firewall routes between racks."


def _break(lab: Lab) -> str:
    """Load the two firewalls; returns what they do and what `check` should therefore show."""
    victim = lab.nodes[1].name
    a, b = lab.plan.racks[:2]
    lab.nft(
        victim, firewall.host_input_drop(GENEVE.protocol, GENEVE.port or 0, "demo: host firewall")
    )
    lab.nft(
        "fw",
        firewall.forward_drop(
            HEALTH.protocol, HEALTH.port or 0, (a, b), "demo: firewall between racks"
        ),
    )
    return f"""\
Broken on purpose:
  1. The host firewall of {victim} drops UDP {GENEVE.port}: every packet of its pods goes there.
     So geneve should be blocked from every node to {victim}, inside the destination.
  2. The firewall between racks {a.name} and {b.name} drops TCP {HEALTH.port}, cilium-health's port.
     So health should be blocked between these two racks, both ways, on the path.
Everything else should be open.
"""


def _check(inventory: Path) -> int:
    """The exit code of `preflight check`, whose output goes straight through.

    It runs in a session of its own, so that Ctrl-C reaches it once, through us.
    """
    argv = [sys.executable, "-m", "preflight", "check", "-i", str(inventory)]
    process = subprocess.Popen(argv, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait(_STOP_S)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
