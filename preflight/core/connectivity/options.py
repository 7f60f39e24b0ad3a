"""What the user wants of a connectivity check."""

from __future__ import annotations

from dataclasses import dataclass, field

from preflight.core.connectivity.given import Given
from preflight.core.connectivity.manifest import Settings
from preflight.core.connectivity.settle import Patience
from preflight.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Options:
    """What the user wants of a check."""

    settings: Settings = field(default_factory=Settings)
    given: Given | None = None  # a manifest of the user's own
    copied_secret: tuple[str, str] | None = None  # namespace and name
    registry_login: str | None = None  # a docker config.json, base64
    timeout: float = 300.0  # seconds for the pods
    clean_up: float = 180.0  # seconds for the namespace to be gone
    patience: Patience = field(default_factory=Patience)
    keep: bool = False
    despite_policies: bool = False
    snapshot: Snapshot | None = None
    snapshot_file: str = ""
    where: str = ""  # the arguments that name the cluster, for commands to be copied
