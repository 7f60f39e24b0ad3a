"""Who the nodes are: the inventory file, read and checked. Nothing here touches the network."""

from preflight.inventory.advice import pair_counts, warnings
from preflight.inventory.build import load

__all__ = ["load", "pair_counts", "warnings"]
