"""What a container network left in /etc/cni/net.d."""

from preflight.agent.facts import files

_FOLDER = "/etc/cni/net.d"
_ENDINGS = (".conf", ".conflist", ".json", ".cilium_bak")
_MOST = 32


def read() -> "list[str]":
    """The configuration files there, by name. Raises OSError."""
    try:
        return parse(files.names(_FOLDER))
    except FileNotFoundError:
        return []


def parse(names: "list[str]") -> "list[str]":
    """Those that a container runtime would read, and those that Cilium put out of its way."""
    return [name for name in names if name.endswith(_ENDINGS)][:_MOST]
