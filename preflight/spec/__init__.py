"""What a cluster is to be: its spec file, read and checked. Nothing here touches the network."""

from preflight.spec.eksa import load

__all__ = ["load"]
