"""The options for agents in pods, which several commands share."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from preflight.core.cluster.agentpods import IMAGE
from preflight.core.model import Connection, Inventory
from preflight.errors import UsageError

if TYPE_CHECKING:
    from preflight.transport.kubernetes import PodSettings

Pods = Annotated[
    bool,
    typer.Option("--pods", help="No SSH: agents in short-lived pods, over the API server."),
]
AgentImage = Annotated[
    str,
    typer.Option("--agent-image", metavar="IMAGE", help="For pods: with sh, sleep and python3."),
]
DEFAULT_IMAGE = IMAGE


def in_pods(inventory: Inventory, wanted: bool, local: str | None) -> Inventory:
    """With `--pods` every node that would be reached by SSH is reached through the cluster."""
    if not wanted:
        return inventory
    if local is not None:
        raise UsageError(f"--pods and --local {local}: an agent is in a pod or on this machine")
    nodes = tuple(
        replace(node, connection=Connection.KUBERNETES)
        if node.connection is Connection.SSH
        else node
        for node in inventory.nodes
    )
    return replace(inventory, nodes=nodes)


def settings(kubeconfig: Path | None, context: str | None, image: str) -> "PodSettings":
    """Which cluster the pods are in, and what runs in them."""
    from preflight.transport.kubernetes import PodSettings

    return PodSettings(kubeconfig, context, image)
