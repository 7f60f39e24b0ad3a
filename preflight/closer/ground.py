"""What a closer look stands on."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from preflight.closer.allowance import Allowance
from preflight.closer.examiner import Examiner, Ports
from preflight.core.facts.risk import Risk
from preflight.core.findings.build import Astray
from preflight.core.findings.hazards import Sources
from preflight.core.findings.overlay_words import Context
from preflight.core.findings.served import heard_from
from preflight.core.matrix import Matrix
from preflight.core.model import Family, Phase
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus
from preflight.crew.muster import Progress
from preflight.looks.readiness import ask


class Ground(NamedTuple):
    """The run as it is once all looks are made."""

    scope: Scope
    options: CheckOptions
    chorus: Chorus
    inert: Sequence[Sequence[int]]  # for each probe who is sent its harmless form alone
    run: str
    progress: Progress
    sources: Sources  # of tunnel packets that came from an unlisted address
    astray: Astray
    mtus: Mapping[tuple[int, Family], int]  # of the nodes' devices
    suspects: Sequence[int]  # nodes whose first words give cause to ask for facts
    ports: Ports  # the looks' UDP source ports
    context: Context | None = None  # what is known of the overlay

    def risks(self, matrix: Matrix) -> list[Risk]:
        """What the facts of the suspects say, beyond what its cells do."""
        if not (self.suspects or self.options.known_before) or self.chorus.interrupted:
            return []
        heard = heard_from(matrix) if self.options.phase is Phase.AFTER else ()
        return ask(self.chorus, self.scope, self.options, self.suspects, heard)

    def examiner(self, allowance: Allowance) -> Examiner:
        """Who makes closer looks here, in the time that is allowed."""
        from preflight.craft.templates import form_of

        return Examiner(
            self.scope,
            self.chorus,
            form_of,
            run=self.run,
            phase=self.options.phase,
            inert=self.inert,
            ports=self.ports,
            allowance=allowance,
            mtus=self.mtus,
        )
