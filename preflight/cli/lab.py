"""`preflight lab …`: a cluster of network namespaces to try things on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from preflight.lab import Lab

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Option(help="The lab's name; several labs may be up side by side.")]
Nodes = Annotated[int, typer.Option(help="How many nodes.")]
Racks = Annotated[int, typer.Option(help="How many racks; a firewall routes between them.")]


@app.callback()
def main() -> None:
    """Nodes without machines: network namespaces with a real sshd each. Needs root."""


@app.command()
def up(
    name: Name = "lab",
    nodes: Nodes = 4,
    racks: Racks = 2,
    ipv6: Annotated[bool, typer.Option(help="Give each node an IPv6 address too.")] = True,
    mtu: Annotated[int, typer.Option(help="The MTU of every device, in bytes.")] = 1500,
) -> None:
    """Build a lab and print the path of its inventory."""
    from preflight.lab import Lab, signals

    with signals.interrupt_on_all():
        lab = Lab.up(name, nodes=nodes, racks=racks, ipv6=ipv6, mtu=mtu)
    typer.echo(lab.inventory_path)
    typer.echo(_hints(lab), err=True)


@app.command()
def down(name: Name = "lab") -> None:
    """Remove a lab, whatever state it is in: processes, namespaces, devices, routes and files."""
    from preflight.lab.lab import take_down

    there = take_down(name)
    typer.echo(f"lab {name} is down" if there else f"no lab {name} was up", err=True)


@app.command()
def status() -> None:
    """List the labs that are up, their nodes, and how to get into them."""
    from preflight.lab import Lab

    labs = Lab.all()
    for lab in labs:
        typer.echo(_describe(lab))
    if not labs:
        typer.echo("no lab is up", err=True)


@app.command()
def demo(
    nodes: Nodes = 4,
    racks: Racks = 2,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up afterwards.")] = False,
) -> None:
    """Build a lab, break two things in it, let `check` find them, and take it down."""
    from preflight.lab import demo as story

    code = story.demo(
        f"demo-{os.getpid()}",
        nodes=nodes,
        racks=racks,
        keep=keep,
        say=lambda words: typer.echo(words, err=True),
    )
    raise typer.Exit(code)


def _hints(lab: Lab) -> str:
    namespace = lab.nodes[0].namespace
    rules = (
        "add table inet try; add chain inet try in { type filter hook input priority 0; }; "
        "add rule inet try in udp dport 6081 drop"
    )
    return (
        f"check it:  {_sudo()}preflight check -i {lab.inventory_path}\n"
        f"break it:  {_sudo()}ip netns exec {namespace} nft '{rules}'\n"
        f"end it:    {_sudo()}preflight lab down{_name_option(lab)}"
    )


def _describe(lab: Lab) -> str:
    plan = lab.plan
    if not lab.finished:
        return f"lab {lab.name}: not finished: {_sudo()}preflight lab down{_name_option(lab)}"
    width = len(plan.nodes[-1].name)
    ipv4_width = max(len(n.addresses[0]) for n in plan.nodes)
    nodes = "\n".join(
        f"  {n.name:{width}}  rack {n.rack}  {n.addresses[0]:{ipv4_width}}  "
        f"{' '.join(n.addresses[1:])}".rstrip()
        for n in plan.nodes
    )
    first = plan.nodes[0]
    return f"""\
lab {lab.name}: {len(plan.nodes)} nodes, {len(plan.racks)} racks, MTU {plan.mtu}
{nodes}
  inventory:     {lab.inventory_path}
  log in:        {_sudo()}ssh -F {lab.run_dir.ssh_config} {first.name}
  go inside:     {_sudo()}ip netns exec {first.namespace} bash
  the firewall:  {_sudo()}ip netns exec {plan.router} nft list ruleset"""


def _name_option(lab: Lab) -> str:
    return "" if lab.name == "lab" else f" --name {lab.name}"


def _sudo() -> str:
    """For commands to copy: whoever came here through sudo needs it again."""
    return "sudo " if "SUDO_USER" in os.environ else ""
