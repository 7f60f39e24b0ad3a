"""Which node, and which probe, of one run is which of the other."""

from __future__ import annotations

from dataclasses import dataclass

from preflight.core.model import Family, Node, Probe, Severity


@dataclass(frozen=True, slots=True)
class NodePairing:
    """One node of the two runs. At least one position is there."""

    before: int | None  # its position in the BEFORE matrix; None: it came
    after: int | None  # in the AFTER matrix; None: it went
    node: Node  # as AFTER has it, or BEFORE where it went
    former: Node | None  # as BEFORE has it
    by_address: bool = False  # matched by its address, since its name is another

    @property
    def came(self) -> bool:
        """Only the AFTER run has it."""
        return self.before is None

    @property
    def went(self) -> bool:
        """Only the BEFORE run has it."""
        return self.after is None

    @property
    def relabelled(self) -> bool:
        """It has other labels now, or is in another cluster."""
        return self.former is not None and (
            dict(self.former.labels) != dict(self.node.labels)
            or self.former.cluster != self.node.cluster
        )

    @property
    def moved(self) -> bool:
        """It has another address of some family: perhaps another machine under the old name."""
        return self.former is not None and any(
            None not in (was := self.former.address_in(family), now := self.node.address_in(family))
            and was != now
            for family in Family
        )

    @property
    def readdressed(self) -> bool:
        """It has an address of a family of which it had none, or none where it had one."""
        return self.former is not None and any(
            (self.former.address_in(family) is None) != (self.node.address_in(family) is None)
            for family in Family
        )


@dataclass(frozen=True, slots=True)
class ProbePairing:
    """One probe of the two runs, at least one position is there.

    A probe of the same name whose protocol, port or kind differs is another probe: the two stand
    apart here, each in one run alone.
    """

    before: int | None
    after: int | None
    probe: Probe  # as AFTER has it, or BEFORE where only that has it
    former: Probe | None  # as BEFORE has it

    @property
    def severity(self) -> Severity:
        """The higher one of the two runs'."""
        of = [p.severity for p in (self.probe, self.former) if p is not None]
        return Severity.REQUIRED if Severity.REQUIRED in of else Severity.RECOMMENDED
