"""`preflight inventory …`: commands about the inventory file alone. They touch no network."""

from pathlib import Path
from typing import Annotated

import typer

from preflight import inventory
from preflight.core.model import Family, Inventory
from preflight.errors import FileError
from preflight.inventory.problems import printable

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """Check the file that names the nodes."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The inventory, a YAML file.")],
) -> None:
    """Say what is wrong with an inventory, or what it makes to test."""
    loaded = inventory.load(file)
    path = printable(loaded.path)
    pairs = inventory.pair_counts(loaded)
    if len(loaded.nodes) == 1:
        raise FileError(f"{path}: nodes: one node makes no pair; write at least two")
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
