"""What is said of a watch, in words: times, turns, what stands, nodes."""

from __future__ import annotations

import time

from preflight.core.groups import Kind
from preflight.core.matrix import Matrix
from preflight.core.model import AgentState, Severity, Verdict
from preflight.core.terms import plural
from preflight.core.watch import UNSEEN, Sort, Standing
from preflight.core.watch_groups import Extent, Turned
from preflight.core.watch_round import Ending, NodesNews
from preflight.report.words import STATES, headline, tests_in_words

ENDINGS = {
    Ending.INTERRUPTED: "ended: interrupted",
    Ending.COUNT: "ended: as many rounds as were asked for",
    Ending.FOR: "ended: as long as was asked for",
    Ending.NO_NODE: "ended: no node has an agent, and none is tried again",
}


def clock(at: float) -> str:
    """The local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def stamp(at: float) -> str:
    """The local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def zone(at: float) -> str:
    """What local time means: `UTC`, `CEST (UTC+02:00)`."""
    local = time.localtime(at)
    if not local.tm_gmtoff:
        return "UTC"
    offset = time.strftime("%z", local)
    return f"{local.tm_zone} (UTC{offset[:3]}:{offset[3:5]})"


def span(seconds: float) -> str:
    """`12 s`, `3 min`, `2 h 5 min`: what one would say."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 600 and whole % 60:
        return f"{whole // 60} min {whole % 60} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def every(seconds: float) -> str:
    """An interval, to the tenth."""
    return f"{seconds:g} s" if seconds < 60 else span(seconds)


def state(kind: Kind) -> str:
    """`blocked inside the destination, dropped`."""
    return headline(kind, None) if kind.verdict is not Verdict.OPEN else "open"


def cells_of(extent: Extent, matrix: Matrix) -> str:
    """`geneve all → n2`; families are named only where not all of the matrix's are meant."""
    probes = {test.probe for test in extent.tests}
    if len(extent.tests) == len(probes) * len(matrix.families):
        return f"{', '.join(matrix.probes[p].name for p in sorted(probes))} {extent.where}"
    return f"{tests_in_words(extent.tests, matrix)} {extent.where}"


def turn(change: Turned) -> str:
    """What became of some cells: `open again after 3 min; was blocked on the path, dropped`."""
    if change.sort is Sort.UNSTEADY:
        return "unsteady: it turns again and again, which is not told until it has stopped"
    if change.sort is Sort.STEADY:
        return f"steady again, {state(change.now)}"
    was = f"was {state(change.was)}"
    if change.was_since is None:
        since = "" if change.was.verdict is Verdict.OPEN else ", since the start"
        return f"{state(change.now)}; {was}{since}"
    lasted = span(change.at - change.was_since)
    if change.now.verdict is Verdict.OPEN and change.was.verdict is not Verdict.UNKNOWN:
        return f"open again after {lasted}; {was}"
    return f"{state(change.now)}; {was}, for {lasted}"


def since(standing: Standing, now: float) -> str:
    """`since 14:02:11 (3 min): blocked on the path, dropped`."""
    if standing.kind == UNSEEN:
        return stands(standing)
    when = "since the start"
    if standing.since is not None:
        when = f"since {clock(standing.since)} ({span(now - standing.since)})"
    return f"{when}: {stands(standing)}"


def stands(standing: Standing) -> str:
    """What some cells are."""
    return f"unsteady, now {state(standing.kind)}" if standing.unsteady else state(standing.kind)


def style(extent: Extent, verdict: Verdict) -> str:
    """The style of what is told of some cells."""
    if verdict in (Verdict.OPEN, Verdict.UNKNOWN):
        return "good" if verdict is Verdict.OPEN else "unknown"
    return "bad" if extent.severity is Severity.REQUIRED else "warn"


def nodes(news: NodesNews) -> str:
    """What became of some nodes' agents."""
    one = len(news.nodes) == 1
    if news.info.state is AgentState.OK:
        back = "" if news.gone_since is None else f" after {span(news.at - news.gone_since)}"
        joined = "is back" if one else "are back"
        if news.gone_since is None:
            joined = "is there now" if one else "are there now"
        return f"{news.names} {joined}{back}: part of the next round"
    what = "has no agent" if one else "have no agent"
    later = "trying again" if news.again else "NOT tried again: start anew once that is mended"
    return f"{news.names} {what} ({STATES[news.info.state]}): {news.info.reason}; {later}"


def counts(matrix: Matrix) -> str:
    """`60 open, 12 blocked`."""
    numbers = dict.fromkeys(Verdict, 0)
    for outcome, number in matrix.outcomes().items():
        numbers[outcome.verdict] += number
    return ", ".join(f"{number:,} {verdict}" for verdict, number in numbers.items() if number)


def pairs(extent: Extent) -> str:
    """`3 pairs`."""
    return plural(extent.pairs, "pair")
