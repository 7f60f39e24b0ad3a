"""Objects of Kubernetes as the YAML that `kubectl apply -f` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import yaml


class _Plain(yaml.SafeDumper):
    """Writes equal values out, and texts that YAML 1.1 takes for numbers or booleans in quotes."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """No `&id001`: a person reads this."""
        return True


def write(objects: Iterable[Mapping[str, object]], file: TextIO) -> None:
    """One document for each, in their order."""
    yaml.dump_all(
        list(objects), file, Dumper=_Plain, sort_keys=False, explicit_start=True, width=100
    )
