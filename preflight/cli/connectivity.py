"""`preflight cilium connectivity-check`: the pods that test the pod network, and what they say."""

import re
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from preflight.cli.options import (
    ClusterKubeconfig,
    Colour,
    ColourOption,
    Context,
    Format,
    FormatOption,
    Quiet,
    Strict,
)
from preflight.core.connectivity.manifest import (
    CLIENT_IMAGE,
    ECHO_IMAGE,
    NAMESPACE,
    Settings,
    mirrored,
)
from preflight.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from preflight.cluster.api import Cluster
    from preflight.core.connectivity.given import Given
    from preflight.core.connectivity.options import Options
    from preflight.core.connectivity.result import LeftBehind

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SYSTEM = ("default", "kube-system", "kube-public", "kube-node-lease")
_PULL = "preflight-pull"


def connectivity_check(
    kubeconfig: ClusterKubeconfig = None,
    context: Context = None,
    namespace: Annotated[
        str,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="Made for the check, and taken away after it."
        ),
    ] = NAMESPACE,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read the findings together with what `check --output` saved."
        ),
    ] = None,
    external: Annotated[
        bool, typer.Option(help="With the two workloads that ask the Internet.")
    ] = True,
    image_echo: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Of the echo servers.")
    ] = None,
    image_client: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Of the clients: with curl and ash.")
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(metavar="HOST[/PATH]", help="Mirror with both images, for quay.io."),
    ] = None,
    pull_secret: Annotated[
        str | None,
        typer.Option(metavar="NAMESPACE/NAME", help="Secret to be copied, for the registry."),
    ] = None,
    registry_login: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A docker config.json with the registry's login."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="These objects in place of our own.")
    ] = None,
    print_manifest: Annotated[
        bool, typer.Option("--print-manifest", help="Print our objects as YAML, and make nothing.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=1, max=7200, help="Seconds until the pods must have had their say.")
    ] = 300.0,
    settle: Annotated[
        float,
        typer.Option(
            min=1,
            max=3600,
            help="Seconds from the last pod placed until red counts.",
        ),
    ] = 75.0,
    clean_up_timeout: Annotated[
        float, typer.Option(min=1, max=7200, help="Seconds to wait for the namespace to be gone.")
    ] = 180.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the namespace, to look at the pods.")
    ] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Only take away what an earlier run left.")
    ] = False,
    despite_policies: Annotated[
        bool,
        typer.Option("--despite-policies", help="Although network policies apply already."),
    ] = False,
    format_: FormatOption = Format.TABLE,
    colour: ColourOption = Colour.AUTO,
    quiet: Quiet = False,
    strict: Strict = False,
) -> int:
    """Run Cilium's connectivity check and say what its pods mean; then take it away again.

    16 small deployments in a namespace of their own: two echo servers, one of them on its node
    too, and clients whose readiness is the test. Needs no kubectl.
    """
    from preflight.core.connectivity.options import Options
    from preflight.core.connectivity.settle import Patience

    _namespace(namespace)
    settings = Settings(
        namespace=namespace,
        image_echo=_image(image_echo, ECHO_IMAGE, registry),
        image_client=_image(image_client, CLIENT_IMAGE, registry),
        external=external,
        pull_secret=_PULL if pull_secret or registry_login else None,
    )
    if print_manifest:
        return _print(settings, manifest)
    options = Options(
        settings=settings,
        given=_given(manifest, namespace),
        copied_secret=_secret(pull_secret, registry_login),
        registry_login=_login(registry_login),
        timeout=timeout,
        clean_up=clean_up_timeout,
        patience=Patience(settle=settle, confirm=min(Patience().confirm, settle)),
        keep=keep,
        despite_policies=despite_policies,
        snapshot_file=str(snapshot or ""),
        where=_where(kubeconfig, context),
    )
    if snapshot is not None:
        from dataclasses import replace

        from preflight.store import load

        options = replace(options, snapshot=load(snapshot))
    from preflight.cluster.api import Access, connect

    with connect(Access(kubeconfig, context)) as cluster:
        if clean_up:
            return _clean_up(cluster, options, quiet=quiet)
        return _run(cluster, options, format_, colour, quiet=quiet, strict=strict)


def _run(
    cluster: "Cluster",
    options: "Options",
    format_: Format,
    colour: Colour,
    *,
    quiet: bool,
    strict: bool,
) -> int:
    from preflight.interrupt import interruptible
    from preflight.report.connectivity_progress import PodProgress
    from preflight.runs.connectivity import check

    progress = PodProgress(sys.stderr, quiet=quiet)
    try:
        with interruptible(lambda: None) as stop:
            result = check(cluster, options, progress, stop)
    finally:
        progress.close()
    if format_ is Format.JSON:
        from preflight.report.connectivity_json import dump

        dump(result, sys.stdout, strict=strict)
    else:
        from preflight.report.connectivity import render
        from preflight.report.terminal import coloured, width

        color = coloured(colour, sys.stdout)
        render(result, strict=strict, width=width(), color=color, file=sys.stdout)
    sys.stdout.flush()
    return int(result.exit_code(strict=strict))


def _clean_up(cluster: "Cluster", options: "Options", *, quiet: bool) -> int:
    from preflight.report.connectivity_progress import PodProgress
    from preflight.runs.connectivity import clean_up

    progress = PodProgress(sys.stderr, quiet=quiet)
    try:
        name = options.settings.namespace
        left = clean_up(cluster, name, options.clean_up, progress, options.where)
        if left is not None:
            progress.note(_held(left))
    finally:
        progress.close()
    return int(ExitCode.OK if left is None else ExitCode.INCOMPLETE)


def _held(left: "LeftBehind") -> str:
    holding = f": {'; '.join(left.holding)}" if left.holding else ""
    return f"namespace {left.namespace} is not gone: {left.why}{holding}"


def _print(settings: Settings, manifest: Path | None) -> int:
    if manifest is not None:
        raise UsageError("--print-manifest prints our own manifest: not together with --manifest")
    from preflight.core.connectivity.manifest import namespace_object, objects
    from preflight.report.manifest import write

    write([namespace_object(settings.namespace), *objects(settings)], sys.stdout)
    sys.stdout.flush()
    return int(ExitCode.OK)


def _where(kubeconfig: Path | None, context: str | None) -> str:
    """How the user named the cluster, for a command to be copied."""
    words = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    words += ["--context", context] if context else []
    return " ".join(map(quote, words))


def _namespace(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--namespace {name}: not a name that Kubernetes takes: at most 63 of a-z, 0-9 and -"
        )
    if name in _SYSTEM:
        raise UsageError(f"--namespace {name}: one of the cluster's own; the check makes its own")


def _image(given: str | None, default: str, registry: str | None) -> str:
    if given is not None:
        return given
    return default if registry is None else mirrored(default, registry)


def _given(manifest: Path | None, namespace: str) -> "Given | None":
    if manifest is None:
        return None
    from preflight.cluster.connectivity.files import read_manifest

    return read_manifest(manifest, namespace)


def _secret(text: str | None, login: Path | None) -> tuple[str, str] | None:
    if text is None:
        return None
    if login is not None:
        raise UsageError("--pull-secret and --registry-login: only one of them")
    namespace, slash, name = text.partition("/")
    if not (slash and namespace and name) or "/" in name:
        raise UsageError(f"--pull-secret {text}: not NAMESPACE/NAME")
    return namespace, name


def _login(path: Path | None) -> str | None:
    if path is None:
        return None
    from preflight.cluster.connectivity.files import read_login

    return read_login(path)
