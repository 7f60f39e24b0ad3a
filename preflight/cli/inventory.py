"""`preflight inventory …`: commands about the inventory alone. No node is asked anything."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from preflight import inventory
from preflight.cli.options import ClusterSpecFile, Context, access, told
from preflight.cli.output import OutputFile, ready, written
from preflight.core.model import Family, Inventory
from preflight.errors import FileError, UsageError
from preflight.inventory import Form, KubeconfigError
from preflight.inventory.problems import printable

app = typer.Typer(no_args_is_help=True)


class Kind(StrEnum):
    """What an inventory is imported from."""

    AUTO = "auto"
    ANSIBLE = "ansible"
    HARDWARE = "hardware"
    KUBECONFIG = "kubeconfig"
    NATIVE = "native"


@app.callback()
def main() -> None:
    """Check the file that names the nodes, or make one from what you have."""


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The inventory, in any form that -i takes.")
    ],
) -> None:
    """Say what is wrong with an inventory, or what it makes to test."""
    loaded = inventory.load(file)
    path = printable(loaded.path)
    pairs = inventory.pair_counts(loaded)
    if len(loaded.nodes) == 1:
        raise FileError(f"{path}: nodes: one node makes no pair; write at least two")
    for remark in loaded.remarks:
        typer.echo(remark, err=True)
    for warning in inventory.warnings(loaded):
        typer.echo(f"{path}: warning: {warning}", err=True)
    if not pairs:
        raise FileError(
            f"{path}: nodes: no two nodes share a cluster and an address family: nothing to probe"
        )
    typer.echo(f"{path}: {_summary(loaded, pairs)}")


def _summary(loaded: Inventory, pairs: dict[Family, int]) -> str:
    probes = ", ".join(probe.name for probe in loaded.probes)
    over = ", ".join(f"{count} over {family}" for family, count in pairs.items())
    return f"{len(loaded.nodes)} nodes; probes {probes}; ordered pairs: {over}"


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="hardware.csv of EKS Anywhere, an inventory of Ansible's (INI, YAML, or what "
            "ansible-inventory --list wrote), or the kubeconfig of a cluster.",
        ),
    ],
    kind: Annotated[
        Kind, typer.Option("--from", help="What FILE is; auto: told by what is in it.")
    ] = Kind.AUTO,
    output: OutputFile = None,
    cluster_spec: ClusterSpecFile = None,
    context: Context = None,
    user: Annotated[
        str | None, typer.Option(metavar="NAME", help="For SSH, where FILE names none.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of SSH, likewise.")] = None,
    identity_file: Annotated[
        str | None, typer.Option(metavar="KEY", help="The private key, likewise.")
    ] = None,
    proxy_jump: Annotated[
        str | None, typer.Option(metavar="HOST", help="The jump host, likewise, as ssh's -J.")
    ] = None,
    become: Annotated[bool, typer.Option("--become", help="Use sudo on every node.")] = False,
) -> None:
    """Make an inventory of the native form, with comments where something was dropped or guessed.

    Passwords are never read into it.
    """
    from preflight.inventory.login import login
    from preflight.inventory.native import render
    from preflight.runs.preparation import read_spec, with_roles

    ready(output, file, cluster_spec)
    spec = read_spec(cluster_spec)
    loaded = with_roles(_source(file, kind, context), spec)
    remarks = list(loaded.remarks)
    if user is None and spec is not None and len(spec.users) == 1:
        user = spec.users[0]
        remarks.append(f"{spec.source}: its machines have the user {printable(user)}, for SSH")
    nodes = login(
        loaded.nodes,
        user=user,
        port=port,
        identity_file=identity_file,
        proxy_jump=proxy_jump,
        become=become,
    )
    loaded = replace(loaded, nodes=nodes)
    text = render(loaded, [f"Made from {printable(loaded.path)}.", *remarks])
    written(output, lambda out: out.write(text), utf8=True)
    if output is None:
        return
    for remark in remarks:
        told(remark)
    typer.echo(f"{printable(str(output))}: {len(nodes)} nodes", err=True)


def _source(file: Path, kind: Kind, context: str | None) -> Inventory:
    if kind is Kind.KUBECONFIG:
        return _cluster(file, context)
    try:
        loaded = inventory.load(file, None if kind is Kind.AUTO else Form(kind.value))
    except KubeconfigError:
        return _cluster(file, context)
    if context is not None:
        raise UsageError(f"--context {context}: {printable(str(file))} is no kubeconfig")
    return loaded


def _cluster(file: Path, context: str | None) -> Inventory:
    from preflight.runs.preparation import of_cluster, read_cluster

    cluster = access(file, context)
    assert cluster is not None
    known = of_cluster(read_cluster(cluster, need_nodes=True))
    if not known.nodes:
        raise FileError(f"{known.path}: it has no node")
    return known
