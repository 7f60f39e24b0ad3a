"""The closer look: trials of one sample cell for each group of bad ones, over the same agents."""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from preflight.chorus import Chorus
from preflight.core.diagnosis.conclude import conclude, in_brief
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.discovery import culprits
from preflight.core.diagnosis.plan import brief_shots, hops_back, shots
from preflight.core.diagnosis.searches import Search, answers, search_for
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot, Trial, observe
from preflight.core.facts.risk import Risk
from preflight.core.findings.again import confirmed, doubtful, lossy
from preflight.core.findings.brief import brief_samples
from preflight.core.findings.build import Astray, findings
from preflight.core.findings.hazards import (
    Sources,
    from_remarks,
    from_risks,
    numbered,
    translated,
)
from preflight.core.findings.model import Finding
from preflight.core.findings.overlay_words import Context
from preflight.core.findings.samples import Sample, samples
from preflight.core.findings.served import heard_from
from preflight.core.findings.shapes import Shapes
from preflight.core.findings.split import Looked
from preflight.core.findings.translation import leaving
from preflight.core.groups import FamilyProbe, Group, Kind, groups
from preflight.core.matrix import Matrix
from preflight.core.model import (
    Cause,
    Family,
    Leg,
    Phase,
    Place,
    Probe,
    Protocol,
    Verdict,
    family_of,
)
from preflight.core.offsets import tag_offset
from preflight.core.options import CheckOptions
from preflight.core.scope import Scope
from preflight.links import ask as ask_links
from preflight.muster import Progress
from preflight.readiness import ask
from preflight.transport import bundle

_FIRST_NUMBER = 0x8000  # of the looks' numbers, which the survey counts from 1
_RATE = 1000.0  # shots a second from each node
_SETTLE_S = 0.3  # what counters do without us
_WAIT_S = 0.7
_WAIT_AGAIN_S = 1.0  # neighbours are asked for once a second
_GRACE_S = 5.0
_BUDGET_S = 4.0  # no round begins after that
_ALIENS = 4
_VERSIONS = {Family.IPV4: 4, Family.IPV6: 6}
_NUMBERS = {Protocol.UDP: 17, Protocol.TCP: 6, Protocol.ICMP: 1}
_ICMPV6 = 58

Ports = Callable[[int, Family, tuple[int, int]], Sequence[int]]  # of a probe's pair
Craft = Callable[[Probe, Family, Form], Mapping[str, object]]


class Ground(NamedTuple):
    """What a closer look stands on: the run as it is once all looks are made."""

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

    def examiner(self) -> "Examiner":
        """Who makes closer looks here."""
        from preflight.craft.templates import form_of

        return Examiner(
            self.scope,
            self.chorus,
            form_of,
            run=self.run,
            phase=self.options.phase,
            inert=self.inert,
            ports=self.ports,
            mtus=self.mtus,
        )


def diagnose(matrix: Matrix, ground: Ground) -> list[Finding]:
    """Findings about all that is not open, after closer looks at some cells of each group."""
    bad, proven = groups(matrix), list[Finding]()
    looks: dict[int, list[Looked]] = {}
    seen_from: dict[tuple[int, str], Diagnosis] = {}
    if ground.options.diagnose and not ground.chorus.interrupted:
        if bad:
            proven, bad, ground = _by_tables(matrix, bad, ground)
        closer = _Closer(matrix, bad, ground)
        try:
            looks, seen_from = closer.first()
            looks = closer.second(looks)
        except Exception as error:  # a bug here costs the explanation, never the matrix
            text = f"a bug of preflight's own ({type(error).__name__}: {error})"
            ground.progress.note(f"the closer look failed, findings are without it: {text}")
    found_out = findings(matrix, bad, looks, ground.astray, ground.mtus, ground.context, proven)
    hazards = [
        *from_remarks(matrix, ground.options.remarks),
        *from_risks(matrix, ground.risks(matrix), found_out),
        *translated(matrix, ground.sources, seen_from, set(_told(bad, looks))),
    ]
    return numbered(found_out, hazards)


def _by_tables(
    matrix: Matrix, bad: list[Group], ground: Ground
) -> tuple[list[Finding], list[Group], Ground]:
    """What the nodes' own tables prove, the groups that are left, and what there is to ask then."""
    try:
        proof = ask_links(ground.chorus, matrix, ground.astray)
    except Exception as error:  # a bug here costs the explanation, never the matrix
        text = f"a bug of preflight's own ({type(error).__name__}: {error})"
        ground.progress.note(f"the nodes' own tables were not read: {text}")
        return [], bad, ground
    left = ground._replace(
        sources=proof.sources(ground.sources), astray=proof.astray(ground.astray)
    )
    return proof.findings, proof.rest, left


class _Closer:
    """The closer looks of one run: the first at all groups, the second at what they leave open."""

    def __init__(self, matrix: Matrix, bad: Sequence[Group], ground: Ground) -> None:
        self._matrix = matrix
        self._shapes = Shapes(matrix)
        self._groups = bad
        self._ground = ground
        self._examiner: Examiner | None = None
        self._begun = time.monotonic()

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
        """The looks, less those that another one does not bear out, and with some more."""
        doubted = [(i, look) for i, own in looks.items() for look in doubtful(self._shapes, own)]
        usable = self._ground.chorus.alive
        more = lossy(self._shapes, self._groups, looks, usable)
        if not (doubted or more) or self._ground.chorus.interrupted:
            return looks
        late = time.monotonic() - self._begun > _BUDGET_S
        asked = [self._as_before(i, look) for i, look in doubted] + [sample for _, sample in more]
        made = [None] * len(asked) if late else self._made(asked)
        out = {i: list(own) for i, own in looks.items()}
        for (i, look), again in zip(doubted, made, strict=False):
            if not confirmed(look, again):
                out[i].remove(look)
        for (i, _), found in zip(more, made[len(doubted) :], strict=True):
            if found is not None:
                out[i].append(found)
        return out

    def _as_before(self, position: int, look: Looked) -> Sample:
        test = look.test or self._groups[position].tests[0]
        kind = self._groups[position].kind
        return Sample(look.source, look.destination, *test, kind, brief=look.brief)

    def _made(self, asked: Sequence[Sample]) -> list[Looked | None]:
        if self._examiner is None:
            self._examiner = self._ground.examiner()
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


class Examiner:
    """Has trials run by a fleet, and concludes from them."""

    def __init__(
        self,
        scope: Scope,
        chorus: Chorus,
        craft: Craft,
        *,
        run: str,
        phase: Phase,
        inert: Sequence[Sequence[int]],
        ports: Ports,
        mtus: Mapping[tuple[int, Family], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scope = scope
        self._chorus = chorus
        self._craft = craft
        self._run = run
        self._draw = zlib.crc32(run.encode())
        self._phase = phase
        self._inert = inert
        self._ports = ports
        self._mtus = mtus or {}
        self._clock = clock
        self._numbers = iter(range(_FIRST_NUMBER, 0xFFFF))
        self._loaded: set[int] = set()
        self.captured: dict[int, list[Sequence[Any]]] = {}  # by node, where `pcap` was asked

    def examine(
        self,
        wanted: Mapping[int, Sample],
        *,
        thorough: bool = False,
        sizes: bool = False,
        pcap: bool = False,
    ) -> dict[int, Diagnosis]:
        """What is found out about each sample, by its key; those that could not be tried lack.

        `thorough` sends more of everything, `sizes` searches the largest size of every sample.
        """
        begun = self._clock()
        trials = {
            number: (key, self._trial(number, sample, thorough=thorough))
            for number, (key, sample) in enumerate(wanted.items())
        }
        seen = self._round([trial for _, trial in trials.values()], trace=True, pcap=pcap)
        searches: dict[int, Search] = {}
        for number, observed in seen.items():
            sample = wanted[trials[number][0]]
            if self._scope.probes[sample.probe].one_way and not sample.brief:
                least = self._least(observed.trial)
                search = search_for(observed, sample.kind, least, sizes=sizes)
                if search is not None:
                    searches[number] = search
        # A rule that spares small packets is only seen where large ones meet it.
        inside = any(wanted[trials[n][0]].kind.place is not Place.PATH for n in searches)
        patient = thorough or sizes
        rounds = self._search(searches, seen, begun, trace=inside, patient=patient, pcap=pcap)
        out = {}
        for number, observed in seen.items():
            key, trial = trials[number]
            probe, kind = self._scope.probes[trial.probe], wanted[key].kind
            on_link = _on_link(observed, self._address(trial.destination, trial.family))
            if wanted[key].brief:
                told = in_brief(observed, probe, kind, on_link=on_link)
                if told is not None:
                    out[key] = told
                continue
            asked = rounds.get(number, ())
            always = sizes or kind.cause is Cause.SIZE
            found = answers(searches.get(number), rounds=len(asked), always=always)
            whole = conclude(
                observed,
                probe,
                kind,
                self._phase,
                on_link=on_link,
                size=found.size,
                lengths=found.lengths,
                marking=found.marking,
                rounds=asked,
            )
            out[key] = whole._replace(notes=(*whole.notes, *found.notes))
        return out

    def _least(self, trial: Trial) -> int:
        """Bytes of an IP packet that has no size of its own."""
        first = next((shot for shot in trial.shots if shot.purpose is Purpose.PLAIN), None)
        form = Form.PLAIN if first is None else first.form
        craft = self._craft(self._scope.probes[trial.probe], trial.family, form)
        return len(str(craft["packet"])) // 2

    def _search(
        self,
        searches: Mapping[int, Search],
        seen: Mapping[int, Observed],
        begun: float,
        *,
        trace: bool,
        patient: bool,
        pcap: bool,
    ) -> dict[int, list[Observed]]:
        """Have the searches ask, round by round; what each saw, the first round traced or not."""
        rounds: dict[int, list[Observed]] = {number: [] for number in searches}
        latest: dict[int, Observed] = {}
        while True:
            trials = []
            for number, search in searches.items():
                more = search.next_shots(latest.get(number))
                if more:
                    trials.append(_with(seen[number].trial, more))
            late = not patient and self._clock() - begun >= _BUDGET_S
            if not trials or late or self._chorus.interrupted:
                break  # each search knows by now what became of its last round
            latest = self._round(trials, trace=trace, pcap=pcap)
            trace = False
            for number, observed in latest.items():
                rounds[number].append(observed)
        return rounds

    # --- one round

    def _trial(self, number: int, sample: Sample, *, thorough: bool) -> Trial:
        probe = self._scope.probes[sample.probe]
        inert = sample.destination in self._inert[sample.probe]
        pair = sample.source, sample.destination
        known = self._ports(sample.probe, sample.family, pair) if probe.one_way else ()
        if sample.brief:
            few = brief_shots(probe, self._phase, inert, sample.kind, known, self._draw)
            return Trial(number, *pair, sample.probe, sample.family, few)
        mtu = self._mtus.get((sample.source, sample.family), 0)
        plan = shots(
            probe, sample.family, self._phase, inert, sample.kind, known, thorough,
            mtu=mtu, draw=self._draw,
        )  # fmt: skip
        plain = [i for i, shot in enumerate(plan) if shot.purpose is Purpose.PLAIN]
        return Trial(
            number, sample.source, sample.destination, sample.probe, sample.family, plan,
            plain[0] if plain and culprits(sample.kind) else None,
            hops_back(sample.kind, thorough=thorough),
        )  # fmt: skip

    def _round(self, trials: Sequence[Trial], *, trace: bool, pcap: bool) -> dict[int, Observed]:
        number = next(self._numbers)
        part = {n for t in trials for n in (t.source, t.destination)} & self._chorus.alive
        reports: dict[int, Mapping[str, Any]] = {}

        def keep(node: int, frame: Mapping[str, Any]) -> None:
            observe([t for t in trials if node in (t.source, t.destination)], {node: frame})
            reports[node] = frame

        chorus = self._chorus
        chorus.broadcast(part - self._loaded, bundle.deep())
        self._loaded |= part
        frames = {node: self._frame(node, number, trials, trace=trace, pcap=pcap) for node in part}
        chorus.send(frames)
        most = max((sum(len(t.shots) for t in trials if t.source == n) for n in part), default=0)
        chorus.until(part, "ready", number, _SETTLE_S + _GRACE_S)
        chorus.broadcast(part, {"t": "go"})
        chorus.until(part, "sent", number, most / _RATE + _GRACE_S, keep)
        rest = part - reports.keys()
        wait = _WAIT_S if trace else _WAIT_S / 2
        if any(trial.again is not None for trial in trials):
            wait = _WAIT_AGAIN_S
        chorus.broadcast(rest, {"t": "drain", "wait": wait})
        chorus.until(rest, "report", number, wait + _GRACE_S, keep)
        if pcap:
            for node, frame in reports.items():
                self.captured.setdefault(node, []).extend(frame.get("pcap") or ())
        told = [t for t in trials if t.source in reports]
        seen = observe(told, _only(reports, told))
        for observed in seen.values():
            trial = observed.trial
            observed.source_address = self._address(trial.source, trial.family)
            observed.destination_address = self._address(trial.destination, trial.family)
        return seen

    def _frame(
        self, node: int, number: int, trials: Sequence[Trial], *, trace: bool, pcap: bool
    ) -> dict[str, Any]:
        return {
            "t": "deep",
            "number": number,
            "rate": _RATE,
            "trace": f"{self._run}_{node}" if trace else "",  # a machine may be two nodes
            "settle": _SETTLE_S if trace else 0,
            "pcap": pcap,
            "trials": [self._part(node, t) for t in trials if node in (t.source, t.destination)],
        }

    def _part(self, node: int, trial: Trial) -> dict[str, Any]:
        probe = self._scope.probes[trial.probe]
        number = _NUMBERS[probe.protocol]
        if probe.protocol is Protocol.ICMP and trial.family is Family.IPV6:
            number = _ICMPV6
        source = node == trial.source
        ends = (trial.source, trial.destination) if source else (trial.destination, trial.source)
        own, far = (self._address(n, trial.family) for n in ends)
        used = list(dict.fromkeys(shot.form for shot in trial.shots))
        return {
            "id": trial.number,
            "role": "source" if source else "destination",
            "source": trial.source,
            "destination": trial.destination,
            "family": _VERSIONS[trial.family],
            "protocol": number,
            "port": 0 if probe.protocol is Protocol.ICMP else probe.port,
            "tag_at": tag_offset(probe),
            "own": own,
            "far": far,
            "forms": {form: self._craft(probe, trial.family, form) for form in used},
            "shots": [_row(shot) for shot in trial.shots],
            "again": trial.again,
            "back": trial.back,
        }

    def _address(self, node: int, family: Family) -> str:
        return self._scope.nodes[node].address_in(family) or ""


def _only(
    reports: Mapping[int, Mapping[str, Any]], trials: Sequence[Trial]
) -> dict[int, Mapping[str, Any]]:
    """The reports, less what they say of other trials."""
    numbers = {trial.number for trial in trials}
    return {
        node: {**frame, "trials": [t for t in frame["trials"] if t["id"] in numbers]}
        for node, frame in reports.items()
    }


def _row(shot: Shot) -> list[object]:
    return list(shot[1:])


def _with(trial: Trial, plan: Sequence[Shot]) -> Trial:
    return Trial(
        trial.number, trial.source, trial.destination, trial.probe, trial.family, tuple(plan)
    )


def _on_link(observed: Observed, destination: str) -> bool | None:
    return observed.gateway == destination if observed.gateway else None
