"""From a matrix to findings: what to look at closer, and again, over the same agents."""

from collections.abc import Iterator, Mapping, Sequence

from preflight.closer.allowance import Allowance
from preflight.closer.examiner import Examiner
from preflight.closer.ground import Ground
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.findings.again import confirmed, doubtful, lossy, more_paths
from preflight.core.findings.atoms import Looked
from preflight.core.findings.brief import brief_samples
from preflight.core.findings.build import findings
from preflight.core.findings.detours import Detours
from preflight.core.findings.echo_limits import quiet
from preflight.core.findings.hazards import (
    from_remarks,
    from_risks,
    numbered,
    translated,
)
from preflight.core.findings.model import Finding
from preflight.core.findings.samples import Sample, samples
from preflight.core.findings.shapes import Shapes
from preflight.core.findings.translation import leaving
from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import (
    Leg,
    Place,
    Verdict,
    family_of,
)
from preflight.looks.links import ask as ask_links

_ALIENS = 4


def diagnose(matrix: Matrix, ground: Ground) -> list[Finding]:
    """Findings about all that is not open, after closer looks at some cells of each group."""
    bad, proven = groups(matrix), list[Finding]()
    agentless = set(range(len(matrix.nodes))) - ground.chorus.alive  # while cells were judged
    allowance = Allowance()
    looks: dict[int, list[Looked]] = {}
    seen_from: dict[tuple[int, str], Diagnosis] = {}
    detours: Detours = {}
    if ground.options.diagnose and not ground.chorus.interrupted:
        if bad:
            proven, bad, ground, detours = _by_tables(matrix, bad, ground, allowance.left_s / 2)
        closer = _Closer(matrix, bad, ground, allowance)
        try:
            looks, seen_from = closer.first()
            looks = closer.quiet(closer.second(looks))
        except Exception as error:  # a bug here costs the explanation, never the matrix
            text = f"a bug of preflight's own ({type(error).__name__}: {error})"
            ground.progress.note(f"the closer look failed, findings are without it: {text}")
    known = ground.astray, ground.mtus, ground.context
    found_out = findings(matrix, bad, looks, *known, proven, agentless, detours)
    hazards = [
        *from_remarks(matrix, ground.options.remarks),
        *from_risks(matrix, ground.risks(matrix), found_out),
        *translated(matrix, ground.sources, seen_from, set(_told(bad, looks))),
    ]
    return numbered(found_out, hazards)


def _by_tables(
    matrix: Matrix, bad: list[Group], ground: Ground, limit_s: float
) -> tuple[list[Finding], list[Group], Ground, Detours]:
    """What the nodes' own tables prove, the groups that are left, what there is to ask then, and
    unusual ways.
    """
    try:
        proof = ask_links(ground.chorus, matrix, ground.astray, limit_s)
    except Exception as error:  # a bug here costs the explanation, never the matrix
        text = f"a bug of preflight's own ({type(error).__name__}: {error})"
        ground.progress.note(f"the nodes' own tables were not read: {text}")
        return [], bad, ground, {}
    left = ground._replace(
        sources=proof.sources(ground.sources), astray=proof.astray(ground.astray)
    )
    return proof.findings, proof.rest, left, proof.detours


class _Closer:
    """The closer looks of one run: the first at all groups, the second at what they leave open."""

    def __init__(
        self, matrix: Matrix, bad: Sequence[Group], ground: Ground, allowance: Allowance
    ) -> None:
        self._matrix = matrix
        self._shapes = Shapes(matrix)
        self._groups = bad
        self._ground = ground
        self._allowance = allowance
        self._examiner: Examiner | None = None

    def first(self) -> tuple[dict[int, list[Looked]], dict[tuple[int, str], Diagnosis]]:
        """Looks by the position of their group, and those at packets from unlisted addresses."""
        usable = self._ground.chorus.alive
        chosen = samples(self._matrix, self._groups, usable)
        brief = brief_samples(self._matrix, self._shapes, self._groups, chosen, usable)
        aliens = list(_aliens(self._matrix, self._ground))
        count = len(chosen) + len(aliens)
        if not count:
            return {}, {}
        what = f"{count} cells" if count > 1 else "one cell"
        if brief:
            what += f", and in brief at {len(brief)} more"
        self._ground.progress.phase(f"a closer look at {what}: which rule, hop, flow or size", 0)
        asked = [*chosen, *brief, *((-1, sample) for _, sample in aliens)]
        looks: dict[int, list[Looked]] = {}
        seen_from: dict[tuple[int, str], Diagnosis] = {}
        known = iter(aliens)
        for (position, _), look in zip(asked, self._made([s for _, s in asked]), strict=True):
            alien = next(known)[0] if position < 0 else None
            if look is not None and alien is not None:
                seen_from[alien] = look.diagnosis
            elif look is not None:
                looks.setdefault(position, []).append(look)
        return looks, seen_from

    def second(self, looks: dict[int, list[Looked]]) -> dict[int, list[Looked]]:
        """The looks, those made void that another one does not bear out, and some more."""
        doubted = [(i, look) for i, own in looks.items() for look in doubtful(self._shapes, own)]
        usable = self._ground.chorus.alive
        more = [
            *more_paths(self._shapes, self._groups, looks, usable),
            *lossy(self._shapes, self._groups, looks, usable),
        ]
        if not (doubted or more) or self._ground.chorus.interrupted:
            return looks
        made = self._made([self._in_brief(i, look) for i, look in doubted] + [s for _, s in more])
        out = {i: list(own) for i, own in looks.items()}
        for (i, look), found in zip(doubted, made, strict=False):
            if not confirmed(look, found):
                out[i][out[i].index(look)] = look._replace(diagnosis=Diagnosis())
        for (i, _), found in zip(more, made[len(doubted) :], strict=True):
            if found is not None:
                out[i].append(found)
        return out

    def quiet(self, looks: dict[int, list[Looked]]) -> dict[int, list[Looked]]:
        """The looks, and some at ICMP echo with next to nothing sent besides."""
        usable = self._ground.chorus.alive
        asked = quiet(self._matrix, self._shapes, self._groups, looks, usable)
        if not asked or self._ground.chorus.interrupted:
            return looks
        out = {i: list(own) for i, own in looks.items()}
        for (i, _), found in zip(asked, self._made([s for _, s in asked]), strict=True):
            if found is not None:
                out.setdefault(i, []).append(found)
        return out

    def _in_brief(self, position: int, look: Looked) -> Sample:
        test = look.test or self._groups[position].tests[0]
        kind = self._groups[position].kind
        return Sample(look.source, look.destination, *test, kind, brief=True)

    def _made(self, asked: Sequence[Sample]) -> list[Looked | None]:
        if self._examiner is None:
            self._examiner = self._ground.examiner(self._allowance)
        found = self._examiner.examine(dict(enumerate(asked)))
        return [
            None
            if (diagnosis := found.get(i)) is None
            else Looked(
                sample.source,
                sample.destination,
                diagnosis,
                FamilyProbe(sample.probe, sample.family),
                sample.brief,
                sample.quiet,
            )
            for i, sample in enumerate(asked)
        ]


def _told(bad: Sequence[Group], looks: Mapping[int, Sequence[Looked]]) -> Iterator[tuple[int, str]]:
    """Sources, with an address that is not theirs, of which findings about the path tell."""
    for position, own in looks.items():
        kind = bad[position].kind
        if (kind.leg, kind.place) == (Leg.FORWARD, Place.PATH):
            for one in leaving([look.diagnosis for look in own]):
                yield one.node, one.address


def _aliens(matrix: Matrix, ground: Ground) -> Iterator[tuple[tuple[int, str], Sample]]:
    """A cell for each source whose tunnel packets bear an unlisted address."""
    for (node, address), destinations in sorted(ground.sources.items())[:_ALIENS]:
        family = family_of(address)
        one_way = [p for p, probe in enumerate(matrix.probes) if probe.one_way]
        known = sorted(destinations & ground.chorus.alive)
        if node in ground.chorus.alive and known and one_way:
            kind = Kind(Verdict.OPEN, None, None, None, None)
            yield (node, address), Sample(node, known[0], one_way[0], family, kind)
