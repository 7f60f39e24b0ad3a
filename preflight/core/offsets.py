"""Where a UDP probe carries the run's tag and token. Pure: craft and agent must agree on it."""

from preflight.core.model import Probe, ProbeKind

TUNNEL_HEADER = 8  # GENEVE's fixed header (RFC 8926), VXLAN's (RFC 7348)
INNER_FRAME = 14  # an Ethernet header without payload


def tag_offset(probe: Probe) -> int:
    """The offset of the tag in the UDP payload, in bytes."""
    tunnel = probe.kind in (ProbeKind.GENEVE, ProbeKind.VXLAN)
    return TUNNEL_HEADER + INNER_FRAME if tunnel else 0
