"""The connectivity check, on a page: look, make, follow, take away, say what it means.

Whatever happens after the namespace was made, it is taken away again, or the user is told that
and why it was left, and how to remove it.
"""

from __future__ import annotations

import getpass
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from preflight.cluster.api import Cluster
from preflight.cluster.apply import Kinds, Refusal, apply
from preflight.cluster.connectivity import scene
from preflight.cluster.connectivity.follow import OWNERS, Seen, Teller, follow
from preflight.cluster.connectivity.making import make_all
from preflight.cluster.connectivity.reckoning import reckon
from preflight.cluster.errors import ClusterError, Fault
from preflight.cluster.namespace import found, keep, make, remove
from preflight.cluster.patience import StoppedError
from preflight.cluster.resources import (
    CILIUM_POLICIES,
    DEPLOYMENTS,
    SECRETS,
    SERVICES,
    Resource,
)
from preflight.core.connectivity.manifest import PART_OF, Settings, planned
from preflight.core.connectivity.options import Options
from preflight.core.connectivity.ownership import Existing, Whose
from preflight.core.connectivity.result import Ending, LeftBehind, Result, how_to_remove
from preflight.core.connectivity.workloads import WORKLOADS
from preflight.errors import ExitCode, PreflightError, UsageError
from preflight.report.text import clean

_AFTER = 5.0  # seconds for what is asked once the pods were seen
_OWN = (SERVICES, CILIUM_POLICIES, DEPLOYMENTS)


class InterruptedRunError(ClusterError):
    """The user wanted to end while the cluster was being asked for something."""

    def __init__(self, fault: Fault, text: str, **more: Any) -> None:
        super().__init__(fault, text, **more)
        self.exit_code = ExitCode.INTERRUPTED


class LeftError(PreflightError):
    """The user did not wait for the namespace to be taken away."""

    exit_code = ExitCode.INTERRUPTED


def check(
    cluster: Cluster,
    options: Options,
    teller: Teller,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Run it. Raises UsageError, ClusterError where it cannot be, LeftError on a second Ctrl-C."""
    started, run = _now(), secrets.token_hex(4)
    name = options.settings.namespace
    teller.phase("looking at the cluster")
    looking = cluster.bounded(seconds=options.timeout, stop=stop)
    plan = _plan(looking, options)
    before = scene.survey(looking, plan)
    settings = _fitted(options.settings, before, given=options.given is not None)
    teller.phase(f"making namespace {name}")
    _vacated(cluster, before.there, name, options, teller, stop)
    if stop.is_set():
        raise KeyboardInterrupt  # nothing was made yet
    notes = list(before.notes)
    left: LeftBehind | None = None
    seen: Seen | None = None
    error: ClusterError | None = None
    own: Existing | None = None
    abandoned = False
    with _not_abandoned(name, options.where):
        try:
            using = cluster.bounded(seconds=options.timeout, stop=stop)
            own = make(using, name, run, started, _who())
            seen = _within(using, options, settings, before, plan, notes, stop, teller, clock)
        except ClusterError as problem:
            error = problem
        except StoppedError:
            error = _stopped(cluster, name, options, teller)
        except KeyboardInterrupt:
            abandoned = True
            raise
        finally:
            if not abandoned:
                left = _tidied(cluster, name, run, own, options, teller, notes)
    if seen is None:
        assert error is not None
        if isinstance(error, InterruptedRunError) and left is None and not options.keep:
            raise KeyboardInterrupt
        kept = name if options.keep and own is not None else ""
        raise _with_remains(error, left, kept, options.where)
    # After Ctrl-C, or a server that says nothing, it is not asked for long what it is like.
    asked = cluster.bounded(seconds=_AFTER if left is None else 0)
    judged, findings = reckon(asked, options, settings, before, seen, notes)
    return Result(
        cluster=cluster.name,
        server=cluster.server,
        version=before.version,
        namespace=name,
        run=run,
        started=started,
        finished=_now(),
        ending=seen.ending,
        workers=None if before.workers is None else before.workers.taking,
        images=() if options.given else (settings.image_echo, settings.image_client),
        settings=before.settings,
        judged=judged,
        findings=findings,
        notes=tuple(dict.fromkeys(notes)),
        kept=options.keep and left is None,
        left_behind=left,
        where=options.where,
    )


def clean_up(
    cluster: Cluster, name: str, seconds: float, teller: Teller, where: str = ""
) -> LeftBehind | None:
    """Take away what an earlier run left. None where it is gone.

    Raises UsageError for a namespace that is not ours.
    """
    there = found(cluster.bounded(seconds=seconds), name)
    if there.whose is Whose.OTHERS:
        raise UsageError(
            f"cluster {cluster.name}: namespace {name} was not made by this check: left alone"
        )
    if there.whose is Whose.NOBODY:
        teller.note(f"cluster {cluster.name}: there is no namespace {name}")
        return None
    with _not_abandoned(name, where):
        return _removed(cluster, name, there.uid, seconds, teller)


def _plan(cluster: Cluster, options: Options) -> scene.Plan:
    """Rights and labels; the user's own kinds are looked up."""
    name = options.settings.namespace
    if options.given is None:
        kinds: Sequence[Resource] = _OWN
        watched: Sequence[Resource] = (DEPLOYMENTS,)
        own = [w.name for w in WORKLOADS if w.policy]
        labels = [{**PART_OF, "name": w.name} for w in planned(options.settings)]
    else:
        kinds = _kinds(cluster, options.given.objects)
        watched = [OWNERS[one.kind] for one in options.given.plan if one.kind in OWNERS]
        policies = ("NetworkPolicy", "CiliumNetworkPolicy")
        metadata = [(o["kind"], o["metadata"]) for o in options.given.objects]
        own = [str(m["name"]) for kind, m in metadata if kind in policies and isinstance(m, dict)]
        labels = [_labels(one) for one in options.given.objects]
    more = (SECRETS,) if options.registry_login else ()
    return scene.Plan(
        namespace=name,
        kinds=(*kinds, *more),
        watched=watched,
        own_policies=own,
        pod_labels=labels,
        secret=options.copied_secret,
        keep=options.keep,
        despite_policies=options.despite_policies,
    )


def _labels(body: Mapping[str, Any]) -> dict[str, str]:
    """Of the pods that an object makes."""
    template = (body.get("spec") or {}).get("template") or body
    return dict((template.get("metadata") or {}).get("labels") or {})


def _kinds(cluster: Cluster, bodies: Sequence[Mapping[str, Any]]) -> list[Resource]:
    """Raises UsageError for a kind that is not served, or not kept in a namespace."""
    kinds = Kinds(cluster)
    out = []
    for body in bodies:
        version, kind = str(body["apiVersion"]), str(body["kind"])
        resource = kinds.resource(version, kind)
        if resource is None:
            raise UsageError(
                f"the manifest: cluster {cluster.name} does not serve {version} {kind}"
            )
        if not resource.namespaced:
            raise UsageError(
                f"the manifest: {kind} {body['metadata']['name']} belongs to no namespace: it "
                "could not be taken away with it"
            )
        out.append(resource)
    return list(dict.fromkeys(out))


def _fitted(settings: Settings, before: scene.Scene, *, given: bool) -> Settings:
    """The settings that this cluster's nodes allow."""
    if before.workers is None or given:
        return settings
    if not before.workers.taking:
        others = ", ".join(f"{name} ({why})" for name, why in before.workers.others[:5])
        raise ClusterError(
            Fault.CONFLICT,
            "no node takes pods, so that nothing can be tested: "
            + (others or "there is none")
            + ". Nothing was made",
        )
    return settings._replace(
        multi_node=len(before.workers.taking) > 1, linux_only=before.workers.mixed
    )


def _vacated(
    cluster: Cluster,
    there: Existing,
    name: str,
    options: Options,
    teller: Teller,
    stop: threading.Event,
) -> None:
    """See that the name is free: what an earlier run was told to keep goes."""
    refusal = scene.whose(there, cluster, name, how_to_remove(name, options.where))
    if refusal is not None:
        raise UsageError(refusal)
    if there.whose is Whose.NOBODY:
        return
    what = "is still being deleted" if there.ending else "was kept by an earlier run: removing it"
    teller.note(f"namespace {name} {what}")
    left = _removed(cluster, name, there.uid, options.clean_up, teller, stop)
    if left is not None and not stop.is_set():
        held = f": {clean('; '.join(left.holding))}" if left.holding else ""
        raise ClusterError(
            Fault.CONFLICT,
            f"cluster {cluster.name}: namespace {name} of an earlier run is not gone: "
            f"{left.why}{held}",
        )


def _within(
    cluster: Cluster,
    options: Options,
    settings: Settings,
    before: scene.Scene,
    plan: scene.Plan,
    notes: list[str],
    stop: threading.Event,
    teller: Teller,
    clock: Callable[[], float],
) -> Seen:
    """Everything that happens while the namespace is there."""
    until = clock() + options.timeout
    # A cluster may put policies and labels of its own into every namespace that is made.
    scene.applying(cluster, plan, before.cluster_name, notes, made=True)
    teller.phase("making the workloads")

    def put(bodies: Sequence[Mapping[str, Any]]) -> list[Refusal]:
        return apply(
            cluster, bodies, settings.namespace,
            until=until, stop=stop, tell=teller.phase, clock=clock,
        )  # fmt: skip

    made = make_all(cluster, options, settings, put)
    notes += made.notes
    teller.phase("waiting for the pods")
    seen = follow(
        cluster,
        settings.namespace,
        made.plan,
        {(one.kind, one.name): one.message for one in made.refused},
        events=before.events,
        patience=options.patience,
        until=until,
        stop=stop,
        teller=teller,
        clock=clock,
    )
    if seen.ending is Ending.INTERRUPTED:
        _tell_interrupted(settings.namespace, options, teller)
    if seen.ending in (Ending.STUCK, Ending.TIMEOUT):
        try:
            scene.applying(cluster, plan, before.cluster_name, notes, made=True)
        except ClusterError as error:
            if error.fault is Fault.CONFLICT:
                raise
            notes.append(f"whether policies came to apply meanwhile is not known: {error}")
    return seen


def _tell_interrupted(name: str, options: Options, teller: Teller) -> None:
    if not options.keep:
        teller.note(f"interrupted: removing namespace {name}; Ctrl-C again leaves it there")


def _stopped(cluster: Cluster, name: str, options: Options, teller: Teller) -> InterruptedRunError:
    _tell_interrupted(name, options, teller)
    return InterruptedRunError(
        Fault.UNREACHABLE, f"cluster {cluster.name}: interrupted before the pods were seen"
    )


@contextmanager
def _not_abandoned(name: str, where: str) -> Iterator[None]:
    """A second Ctrl-C leaves everything as it is."""
    try:
        yield
    except KeyboardInterrupt:
        raise LeftError(
            f"interrupted again: namespace {name} and its pods were left behind. Remove them: "
            f"{how_to_remove(name, where)}"
        ) from None


def _tidied(
    cluster: Cluster,
    name: str,
    run: str,
    own: Existing | None,
    options: Options,
    teller: Teller,
    notes: list[str],
) -> LeftBehind | None:
    """Take the namespace away, or leave it as the user wants; `own` is None if it was not seen."""
    cluster = cluster.bounded(seconds=options.clean_up)
    if own is None:
        try:
            own = found(cluster, name)  # the answer to its making may have been lost
        except ClusterError as error:
            return LeftBehind(name, f"it may have been made: {error}", ())
        if own.run != run:
            return None
    if options.keep:
        try:
            keep(cluster, name)
        except ClusterError as error:
            notes.append(f"namespace {name} could not be marked as kept: {error}")
        again = how_to_remove(name, options.where)
        notes.append(f"namespace {name} was kept. Remove it: {again}")
        return None
    return _removed(cluster, name, own.uid, options.clean_up, teller)


def _removed(
    cluster: Cluster,
    name: str,
    uid: str,
    seconds: float,
    teller: Teller,
    stop: threading.Event | None = None,
) -> LeftBehind | None:
    """What is left where it was not gone in time."""
    teller.phase(f"removing namespace {name}")
    stuck = remove(
        cluster.bounded(seconds=seconds, stop=stop),
        name,
        uid=uid,
        seconds=seconds,
        tell=lambda why: teller.phase(f"removing namespace {name}: {why}"),
        stop=stop,
    )
    return None if stuck is None else LeftBehind(name, *stuck)


def _with_remains(
    error: ClusterError, left: LeftBehind | None, kept: str, where: str
) -> ClusterError:
    """The same, with what is still there because of it."""
    if left is not None:
        rest = f"Namespace {left.namespace} may be left behind ({left.why})"
    elif kept:
        rest = f"Namespace {kept} was kept"
    else:
        return error
    text = f"{error}. {rest}: {how_to_remove(left.namespace if left else kept, where)}"
    return type(error)(
        error.fault, text, status=error.status, reason=error.reason, message=error.message
    )


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return "somebody"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
