"""Who the nodes are: the inventory file, read and checked. Nothing here touches the network."""

from preflight.inventory.advice import pair_counts, warnings
from preflight.inventory.forms import Form, KubeconfigError, load

__all__ = ["Form", "KubeconfigError", "load", "pair_counts", "warnings"]
