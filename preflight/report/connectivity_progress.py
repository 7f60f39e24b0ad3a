"""How a connectivity check goes, on stderr: the pods that are ready, and those that are not yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from preflight.core.connectivity.pods import Judgement
from preflight.report.progress import Progress

_NAMED = 3


class PodProgress:
    """Tells of steps, and of pods as their number changes."""

    def __init__(self, file: TextIO, *, quiet: bool = False) -> None:
        self._progress = Progress(file, quiet=quiet)
        self._told = ""

    def phase(self, text: str) -> None:
        """Something else is being done now."""
        self._say(text)

    def pods(self, judged: Sequence[Judgement]) -> None:
        """The workloads as they are now."""
        late = [one for one in judged if not one.green]
        text = f"{len(judged) - len(late)} of {len(judged)} workloads ready"
        if late:
            named = ", ".join(
                f"{one.workload} ({one.symptom})" if one.symptom else one.workload
                for one in late[:_NAMED]
            )
            more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
            text += f", waiting for {named}{more}"
        else:
            text += ", watching whether they stay so"
        self._say(text)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._progress.note(text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.close()

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._progress.phase(text, 0)
