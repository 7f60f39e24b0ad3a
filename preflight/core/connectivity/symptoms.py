"""What keeps a pod from being ready, read from what the cluster's own components wrote.

Rules of this file:
1. It only names; what a symptom means for one of the check's workloads is `pods.py`'s.
2. A symptom of the network comes from the probe's own words. Without them nothing is said of
   the network.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Symptom(StrEnum):
    """Why a pod is not ready: the machine-readable word."""

    # What the probe said: these speak of the network.
    TIMEOUT = "timeout"  # no answer to the connection
    REFUSED = "refused"  # the connection was reset
    UNREACHABLE = "unreachable"  # a router or the kernel said that it cannot be reached
    RESOLVE = "resolve"  # the name did not resolve
    STALLED = "stalled"  # connected, and then nothing
    ANSWER = "answer"  # an answer, but not the one that was asked for
    GOT_THROUGH = "got-through"  # it was answered, and must not have been
    PROBE = "probe"  # the probe fails, and did not say why
    UNSTEADY = "unsteady"  # ready and not ready by turns
    SANDBOX = "pod-network"  # the CNI plugin could not give the pod a network
    # These do not.
    IMAGE = "image"
    CRASH = "crash"
    PORT_TAKEN = "port-taken"
    START = "start"  # the container cannot be made or started
    UNSCHEDULABLE = "unschedulable"
    NOT_SCHEDULED = "not-scheduled"  # and no scheduler said why
    REFUSED_POD = "admission"  # the API server does not let the pod in
    NO_POD = "no-pod"  # nobody made it
    NODE = "node"  # its node is not ready, or threw it out
    VOLUME = "volume"
    STARTING = "starting"
    GONE = "gone"  # it was there, and was deleted by somebody else
    UNSEEN = "not-seen"  # the API server has not told of it
    SERVER = "server"  # the echo server that it asks is not there
    NOTHING = "nothing"  # green, but what makes green mean something is not


PROBED = frozenset(
    {
        Symptom.TIMEOUT,
        Symptom.REFUSED,
        Symptom.UNREACHABLE,
        Symptom.RESOLVE,
        Symptom.STALLED,
        Symptom.ANSWER,
        Symptom.GOT_THROUGH,
        Symptom.PROBE,
        Symptom.UNSTEADY,
    }
)


class Reading(NamedTuple):
    """A symptom, and the words that it was read from."""

    symptom: Symptom
    words: str


_CURL = re.compile(r"curl: \((\d+)\)\s*(.*)", re.DOTALL)
_AFTER = re.compile(r"after (\d+) ?m(?:s|illiseconds)")
_PREFIX = re.compile(
    r"^(?:Readiness|Liveness|Startup) probe (?:failed|errored)(?: and resulted in \S+ \S+)?:\s*"
)
_SLOW_MS = 4000  # a connection that took this long to fail was not refused
_CODES = {6: Symptom.RESOLVE, 28: Symptom.TIMEOUT}
_ANSWERED = frozenset({1, 5, 8, 22, 35, 51, 52, 56, 60, 77, 97})  # of curl(1): somebody did answer


def probe(message: str) -> Reading:
    """What an `Unhealthy` event says of a probe that asks with curl."""
    words = _PREFIX.sub("", message.strip())
    found = _CURL.search(words)
    if found is None:
        lowered = words.lower()
        if "executable file not found" in lowered or "no such file" in lowered:
            return Reading(Symptom.START, words)
        if "timed out" in lowered or "timeout" in lowered or "deadline" in lowered:
            return Reading(Symptom.STALLED, words)
        return Reading(Symptom.PROBE, words)
    code, said = int(found[1]), found[2].strip()
    words = f"curl: ({code}) {said}".strip()
    lowered = said.lower()
    if "resolv" in lowered:  # 6, and 28 where the name itself took all the time
        return Reading(Symptom.RESOLVE, words)
    if code == 7:
        return Reading(_connection(lowered), words)
    if code == 28 and "bytes received" in lowered:
        return Reading(Symptom.STALLED, words)
    if code in _CODES:
        return Reading(_CODES[code], words)
    return Reading(Symptom.ANSWER if code in _ANSWERED else Symptom.PROBE, words)


def _connection(said: str) -> Symptom:
    """Code 7 stands for every way in which a connection is not made."""
    if "timed out" in said or "timeout" in said:
        return Symptom.TIMEOUT
    if "no route" in said or "unreachable" in said or "prohibited" in said:
        return Symptom.UNREACHABLE
    waited = _AFTER.search(said)
    if "refused" not in said and waited is not None and int(waited[1]) >= _SLOW_MS:
        return Symptom.TIMEOUT
    return Symptom.REFUSED


_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_START = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
        "ContainerCannotRun",
    }
)
_PORT = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
_KILLED = frozenset({137, 143})  # by SIGKILL, by SIGTERM: so ends who fails his liveness probe


def waiting(reason: str, message: str) -> Reading | None:
    """What a container's wait says; None for one that only takes its time."""
    if reason in _IMAGE:
        return Reading(Symptom.IMAGE, _said(reason, message))
    if reason in _START:
        return Reading(Symptom.START, _said(reason, message))
    return None


def ended(reason: str, code: int | None, words: str) -> Reading | None:
    """Why a container ends again and again; None where its liveness probe had it killed."""
    if _PORT.search(words):
        return Reading(Symptom.PORT_TAKEN, words)
    if reason in _START:
        return Reading(Symptom.START, _said(reason, words))
    if reason == "OOMKilled":
        return Reading(Symptom.CRASH, _said(reason, words))
    if code in _KILLED:
        return None
    number = "" if code is None else f", exit code {code}"
    return Reading(Symptom.CRASH, _said(f"{reason}{number}", words))


_NETWORK = re.compile(
    r"failed to (?:set ?up|setup) network|networkPlugin|plugin type=|cni\b|hostport|host ?port",
    re.IGNORECASE,
)


def sandbox(message: str) -> Reading:
    """A pod that the node could not set up."""
    if _NETWORK.search(message):
        return Reading(Symptom.SANDBOX, message)
    if "pull" in message.lower() and "image" in message.lower():
        return Reading(Symptom.IMAGE, message)
    return Reading(Symptom.START, message)


def _said(what: str, message: str) -> str:
    message = " ".join(message.split())
    return f"{what}: {message}" if message else what


class Scheduling(StrEnum):
    """Why no node takes a pod."""

    NODES = "nodes"  # too few that would take any
    AFFINITY = "affinity"  # the pod that it must be near, or away from
    PORTS = "ports"  # the port on the node is another pod's
    ROOM = "room"
    OTHER = "other"


def scheduling(message: str) -> Scheduling:
    """The scheduler's message, `0/3 nodes are available: 1 node(s) ..., 2 node(s) ....`."""
    said = message.lower()
    if "free ports" in said:
        return Scheduling.PORTS
    if "insufficient" in said or "too many pods" in said:
        return Scheduling.ROOM
    if "affinity" in said and "node affinity" not in said:
        return Scheduling.AFFINITY
    if any(w in said for w in ("taint", "unschedulable", "no nodes available", "node affinity")):
        return Scheduling.NODES
    return Scheduling.OTHER


class Refusal(StrEnum):
    """Why the API server does not let a pod in."""

    POD_SECURITY = "pod-security"
    QUOTA = "quota"
    WEBHOOK = "webhook"
    ACCOUNT = "service-account"  # not there yet, most often
    OTHER = "other"


def refusal(message: str) -> Refusal:
    """The message of a ReplicaFailure condition or a FailedCreate event."""
    said = message.lower()
    if "podsecurity" in said or "pod security polic" in said:
        return Refusal.POD_SECURITY
    if "webhook" in said or "validatingadmissionpolicy" in said or "gatekeeper" in said:
        return Refusal.WEBHOOK
    if "quota" in said:
        return Refusal.QUOTA
    if "serviceaccount" in said or "service account" in said:
        return Refusal.ACCOUNT
    return Refusal.OTHER
