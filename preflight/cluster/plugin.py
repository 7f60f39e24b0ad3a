"""Credential plugins of a kubeconfig, with a bound: the client itself waits for them for ever."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from typing import Any

SECONDS = (
    30.0  # for an answer; a plugin that has somebody log in keeps what it got for the next run
)
_running: set[subprocess.Popen[str]] = set()


class PluginError(Exception):
    """What a plugin did wrong, in one line."""


@cache
def bound() -> None:
    """Have the client run plugins by `answer`, now and when a credential has expired."""
    from kubernetes.config import kube_config

    class Provider(kube_config.ExecProvider):  # type: ignore[misc]  # untyped
        def run(self, previous_response: Any = None) -> Any:
            return answer(self, previous_response)

    kube_config.ExecProvider = Provider
    atexit.register(_end_all)


def answer(plugin: Any, before: Any = None) -> dict[str, Any]:
    """The `status` of the ExecCredential that a plugin prints; `before` is the server's answer to
    its last one. Raises PluginError. The plugin does not outlive this call, nor the process.

    Source: Kubernetes documentation, "Authenticating", client-go credential plugins.
    """
    talks = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    about: dict[str, Any] = {"interactive": talks}
    if before:
        about["response"] = before
    given = getattr(plugin, "cluster", None)  # older clients do not have it
    if given:
        cluster = given.value
        own = [e for e in cluster.get("extensions") or () if e.get("name") == _EXTENSION]
        about["cluster"] = {**cluster, "config": own[0].get("extension")} if own else cluster
    request = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": about}
    told = _run(plugin, json.dumps(request), talks=talks)
    try:
        credential = json.loads(told)
    except ValueError as error:
        raise PluginError(f"{plugin.args[0]} did not print JSON") from error
    status = credential.get("status") if isinstance(credential, dict) else None
    if not isinstance(status, dict):
        raise PluginError(f"{plugin.args[0]} did not print an ExecCredential with a status")
    if credential.get("apiVersion") != plugin.api_version:
        said = credential.get("apiVersion")
        raise PluginError(f"{plugin.args[0]} speaks {said}, and not {plugin.api_version}")
    return status


_EXTENSION = "client.authentication.k8s.io/exec"


def _run(plugin: Any, request: str, *, talks: bool) -> str:
    """What it prints. Where there is a terminal it stays in our group, to be able to ask there."""
    name = plugin.args[0]
    own_group = not _terminal()
    try:
        process = subprocess.Popen(
            plugin.args,
            stdin=None if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if talks else subprocess.PIPE,
            cwd=plugin.cwd,
            env={**plugin.env, "KUBERNETES_EXEC_INFO": request},
            text=True,
            errors="replace",
            process_group=0 if own_group else None,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise PluginError(f"{name} cannot be run: {why}") from error
    _running.add(process)
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PluginError(f"{name} did not answer in {SECONDS:.0f} s and was ended") from error
    finally:
        _end(process, whole_group=own_group)
    if process.returncode:
        said = " ".join((err or "").split())
        raise PluginError(f"{name} ended with {process.returncode}" + (f": {said}" if said else ""))
    return out


def _terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[str], *, whole_group: bool) -> None:
    """Kill what is left of it. What it started may hold its output open: not read any more."""
    _running.discard(process)
    if process.returncode is None:
        with suppress(OSError):
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _end_all() -> None:
    for process in tuple(_running):
        with suppress(OSError):
            whole = os.getpgid(process.pid) == process.pid
            _end(process, whole_group=whole)
