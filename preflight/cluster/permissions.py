"""What somebody's credentials have to allow, asked for before anything is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from preflight.cluster.api import Cluster
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.resources import Resource


class Need(NamedTuple):
    """One right."""

    verb: str
    kind: Resource
    namespace: str | None = None
    name: str = ""

    def __str__(self) -> str:
        group = f".{self.kind.group}" if self.kind.group else ""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.kind.plural}{group}{where}"


def missing(cluster: Cluster, needs: Iterable[Need]) -> list[Need]:
    """Those that the API server would refuse. Raises ClusterError where it does not say."""
    return [
        need
        for need in needs
        if not cluster.allowed(need.verb, need.kind, need.namespace, name=need.name)
    ]


def require(cluster: Cluster, needs: Iterable[Need], *, what: str) -> None:
    """Raises ClusterError that names every right that is missing at once."""
    lacking = missing(cluster, needs)
    if lacking:
        listed = "; ".join(map(str, lacking))
        raise ClusterError(
            Fault.FORBIDDEN,
            f"cluster {cluster.name}: these credentials may not do all that {what} needs: "
            f"{listed}. Nothing was made. Ask for these rights, or name another --context",
        )
