"""The picture that the rules read, and what they have to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from preflight.core.cilium.config import ConfigError, Routing, from_config
from preflight.core.connectivity.pods import Judgement
from preflight.core.connectivity.workloads import KNOWN, Way
from preflight.core.model import Severity

Pair = tuple[str, str]  # the client's node, the server's node


class Settings(NamedTuple):
    """What the cluster says of itself; None and empty are not known."""

    enable_policy: str | None = None  # default, always, never
    chaining: str | None = None  # cni-chaining-mode
    tunnel: str | None = None  # geneve, vxlan; `disabled` with native routing
    tunnel_port: int | None = None
    encryption: str | None = None  # wireguard, ipsec, ...
    dns_nodes: tuple[str, ...] | None = None  # where a ready DNS pod runs


def settings_of(config: Mapping[str, str]) -> Settings:
    """From ConfigMap `cilium-config`."""
    settings = Settings(
        enable_policy=config.get("enable-policy", "default").strip().lower() or "default",
        chaining=config.get("cni-chaining-mode"),
    )
    try:
        it = from_config(config, "the cluster")
    except ConfigError:
        return settings  # the rest is not known
    return settings._replace(
        tunnel=str(it.tunnel) if it.routing is Routing.TUNNEL else "disabled",
        tunnel_port=it.tunnel_port,
        encryption=str(it.encryption),
    )


class Finding(NamedTuple):
    """One cause."""

    key: str  # the rule's: the machine-readable name
    severity: Severity
    title: str
    meaning: str
    workloads: tuple[str, ...]
    pairs: tuple[Pair, ...]  # the nodes between which it is, where it is between nodes
    nodes: tuple[str, ...]  # else the nodes where it is, where it is on some
    evidence: tuple[str, ...]
    advice: str
    matrix: tuple[str, ...] = ()  # what the reachability matrix says to it
    commands: tuple[str, ...] = ()  # of the matrix's own findings


class Picture(NamedTuple):
    """All judgements, by name."""

    judged: Mapping[str, Judgement]
    settings: Settings

    def red(self, names: Sequence[str]) -> bool:
        """All of these that were tested failed, and at least one was."""
        tested = [self.judged[n] for n in names if n in self.judged]
        return any(j.red for j in tested) and not any(j.green for j in tested)

    def green(self, names: Sequence[str]) -> bool:
        """At least one of these is ready, and none failed."""
        tested = [self.judged[n] for n in names if n in self.judged]
        return any(j.green for j in tested) and not any(j.red for j in tested)


class Claim(NamedTuple):
    """What a rule has to say."""

    workloads: tuple[str, ...]
    title: str
    meaning: str
    advice: str
    pairs: tuple[Pair, ...] = ()
    nodes: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    key: str = ""  # where the rule has several


class Words(NamedTuple):
    """A kind of claim; `{where}` is filled in."""

    title: str
    meaning: str
    advice: str


Rule = Callable[[Picture, Sequence[str]], Iterator[Claim]]  # of those that are left


def pair_of(judged: Judgement) -> Pair | None:
    """The two different nodes between which a client asked, where it asked between nodes."""
    if judged.server is None or not judged.nodes or judged.nodes[0] == judged.server:
        return None
    return judged.nodes[0], judged.server


def way_of(name: str) -> Way | None:
    """What a workload's packets go by; None for one that is not of the 16."""
    workload = KNOWN.get(name)
    return workload.way if workload else None
