"""Who makes closer looks: what each sample is asked, round by round, and what the answers prove."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.closer.allowance import Allowance
from preflight.closer.rounds import Craft, Rounds, lasts_s
from preflight.core.diagnosis.conclude import by_request, conclude, in_brief, passing
from preflight.core.diagnosis.conclusions import Diagnosis
from preflight.core.diagnosis.discovery import culprits
from preflight.core.diagnosis.hops import ends_at
from preflight.core.diagnosis.plan import brief_shots, by_connection, hops_back, shots
from preflight.core.diagnosis.searches import Search, answers, search_for
from preflight.core.diagnosis.trial import Form, Observed, Purpose, Shot, Trial
from preflight.core.findings.samples import Sample
from preflight.core.model import Cause, Family, Phase, Place
from preflight.core.scope import Scope
from preflight.crew.chorus import Chorus

Ports = Callable[[int, Family, tuple[int, int]], Sequence[int]]  # of a probe's pair

_FIRST_PORT, _PORTS, _STEP = 32768, 28000, 997  # of those that programs' own connections have


class Examiner:
    """Has trials run by a fleet, and concludes from them.

    After the first round none begins that there is not time enough for.
    """

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
        allowance: Allowance,
        mtus: Mapping[tuple[int, Family], int] | None = None,
    ) -> None:
        self._rounds = Rounds(scope, chorus, craft, run, allowance)
        self._allowance = allowance
        self._begun = False
        self._scope = scope
        self._chorus = chorus
        self._craft = craft
        self._draw = zlib.crc32(run.encode())
        self._phase = phase
        self._inert = inert
        self._ports = ports
        self._mtus = mtus or {}

    @property
    def captured(self) -> dict[int, list[Sequence[Any]]]:
        """Packets by node, where `pcap` was asked."""
        return self._rounds.captured

    def examine(
        self,
        wanted: Mapping[int, Sample],
        *,
        thorough: bool = False,
        sizes: bool = False,
        pcap: bool = False,
    ) -> dict[int, Diagnosis]:
        """What is found out about each sample, by its key.

        Those that could not be tried lack, and those that there was no time for.

        `thorough` sends more of everything, `sizes` searches the largest size of every sample.
        """
        trials = {
            number: (key, self._trial(number, sample, thorough=thorough))
            for number, (key, sample) in enumerate(wanted.items())
        }
        plans = [trial for _, trial in trials.values()]
        if self._begun and not self._in_time(plans, trace=True):
            return {}
        self._begun = True
        seen = self._rounds.run(plans, trace=True, pcap=pcap)
        self._ask_witnesses(seen, {n: wanted[key] for n, (key, _) in trials.items()})
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
        rounds = self._search(searches, seen, trace=inside, pcap=pcap)
        out = {}
        for number, observed in seen.items():
            key, trial = trials[number]
            probe, kind = self._scope.probes[trial.probe], wanted[key].kind
            on_link = _on_link(observed, self._address(trial.destination, trial.family))
            if observed.trial.ask:
                met = by_request(observed, kind)
                if met.hits or not wanted[key].brief:
                    out[key] = met
                continue
            if wanted[key].quiet:
                out[key] = Diagnosis(passing=passing(observed, probe, kind))
                continue
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

    def _ask_witnesses(self, seen: Mapping[int, Observed], wanted: Mapping[int, Sample]) -> None:
        """Have nodes that others send by say which of their rules end what they forward."""
        owners = {a: n for n, node in enumerate(self._scope.nodes) for a in node.addresses}
        asked = {}
        for number, observed in seen.items():
            node = owners.get(ends_at(observed, wanted[number].kind))
            trial = observed.trial
            ends = (None, trial.source, trial.destination)
            if node not in ends and node in self._chorus.alive and not wanted[number].brief:
                asked[number] = replace(trial, witness=node)
        more = list(asked.values())
        if more and self._in_time(more, trace=True) and not self._chorus.interrupted:
            found = self._rounds.run(more, trace=True, pcap=False)
            for number, observed in found.items():
                # What it translates and what is not seen again there are hard to tell apart.
                own = (hit for hit in observed.hits if hit.node == asked[number].witness)
                seen[number].hits += [hit for hit in own if not hit.rule.rewrites]

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
        *,
        trace: bool,
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
            if not trials or self._chorus.interrupted or not self._in_time(trials, trace=trace):
                break  # each search knows by now what became of its last round
            latest = self._rounds.run(trials, trace=trace, pcap=pcap)
            trace = False
            for number, observed in latest.items():
                rounds[number].append(observed)
        return rounds

    def _in_time(self, trials: Sequence[Trial], *, trace: bool) -> bool:
        return lasts_s(trials, trace=trace) <= self._allowance.left_s

    def _trial(self, number: int, sample: Sample, *, thorough: bool) -> Trial:
        probe = self._scope.probes[sample.probe]
        inert = sample.destination in self._inert[sample.probe]
        pair = sample.source, sample.destination
        if by_connection(sample.kind):
            port = _FIRST_PORT + (self._draw + _STEP * number) % _PORTS
            return Trial(number, *pair, sample.probe, sample.family, (), ask=port)
        known = self._ports(sample.probe, sample.family, pair) if probe.one_way else ()
        if sample.brief:
            few = brief_shots(probe, self._phase, inert, sample.kind, known, self._draw)
            if sample.quiet:
                few = tuple(shot for shot in few if shot.purpose is Purpose.PLAIN)
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

    def _address(self, node: int, family: Family) -> str:
        return self._scope.nodes[node].address_in(family) or ""


def _with(trial: Trial, plan: Sequence[Shot]) -> Trial:
    return Trial(
        trial.number, trial.source, trial.destination, trial.probe, trial.family, tuple(plan)
    )


def _on_link(observed: Observed, destination: str) -> bool | None:
    return observed.gateway == destination if observed.gateway else None
