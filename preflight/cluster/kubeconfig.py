"""From a kubeconfig file, or from inside a pod, to an open way to one API server."""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preflight.cluster import kubefile, plugin
from preflight.cluster.kubefile import is_url
from preflight.errors import FileError, UsageError
from preflight.report.text import clean

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

MISSING_EXTRA = (
    "this needs the Kubernetes client, which is not installed: pip install 'preflight[kubernetes]'"
)
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
_LONGEST = 200  # characters of the client's own words
_DEFAULT = "~/.kube/config"


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster, as the user names it."""

    kubeconfig: Path | None = None  # None: $KUBECONFIG, ~/.kube/config, or the pod's own account
    context: str | None = None  # None: the file's current one


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A client that is ready, and what to call it."""

    client: ApiClient
    name: str  # the cluster's name in the kubeconfig
    server: str  # its URL
    namespace: str | None  # the context's
    expired: str | None  # why the credentials cannot be good, where the file alone tells


class _Heard(logging.Handler):
    """The client logs what a credential plugin did wrong, and goes on without credentials."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = self.said or clean(record.getMessage())


def endpoint(access: Access) -> Endpoint:
    """Load the client's configuration. Sends nothing, but runs a credential plugin.

    Raises FileError for a file that cannot be used, UsageError where the client is not installed.
    """
    try:
        from kubernetes import client, config  # noqa: F401  # the whole of it, or nothing
    except ImportError as error:
        raise UsageError(MISSING_EXTRA) from error
    paths = _paths(access)
    if paths is None:
        return _in_cluster()
    return _from_files(paths, access.context)


def _paths(access: Access) -> str | None:
    """The files in the form that KUBECONFIG has; None is the pod's own account."""
    if access.kubeconfig is not None:
        return str(access.kubeconfig)
    listed = os.environ.get("KUBECONFIG", "")
    if listed.strip(os.pathsep):
        return listed
    default = Path(_DEFAULT).expanduser()
    if default.exists() or _IN_CLUSTER not in os.environ:
        return str(default)
    return None


def _from_files(paths: str, context: str | None) -> Endpoint:
    from kubernetes import config

    shown = clean(paths)
    _readable(paths)
    names = kubefile.names_of(paths)
    if context is not None and context not in names.contexts:
        there = ", ".join(map(clean, names.contexts)) or "none"
        raise UsageError(f"{shown}: no context {clean(context)}; it has {there}")
    name, cluster = kubefile.chosen(names, context, shown)
    plugin.bound()
    heard = _Heard()
    logging.getLogger().addHandler(heard)
    try:
        client = config.new_client_from_config(
            config_file=paths, context=name, persist_config=False
        )
    except Exception as error:
        raise FileError(f"{shown}: not a usable kubeconfig: {_words(error)}") from error
    finally:
        logging.getLogger().removeHandler(heard)
    if heard.said:
        raise FileError(
            f"{shown}: context {clean(name)}: its credential plugin failed: "
            f"{heard.said}; run it by hand to see why"
        )
    return _endpoint(client, clean(cluster), names.contexts[name].namespace, shown)


def _words(error: Exception) -> str:
    """What the client says, as far as it is about the file and does not quote it: secrets."""
    from kubernetes.config import ConfigException

    if isinstance(error, (ConfigException, OSError)):
        said = clean(str(error)).partition("{")[0].strip()
        return said[:_LONGEST]
    return f"the Kubernetes client cannot read it ({type(error).__name__})"


def _readable(paths: str) -> None:
    """The client passes over files that are not there, and then knows of no configuration."""
    listed = [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    problem = None
    for path in listed:
        try:
            path.open("rb").close()
        except OSError as error:
            problem = FileError(
                f"{clean(str(path))}: {error.strerror}: name a kubeconfig: --kubeconfig FILE"
            )
            if not isinstance(error, FileNotFoundError) or len(listed) == 1:
                raise problem from error
        else:
            problem = None
            break
    if problem is not None:
        raise problem


def _in_cluster() -> Endpoint:
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise FileError(
            f"no kubeconfig, and not in a pod either: {clean(str(error))}; --kubeconfig FILE"
        ) from error
    return _endpoint(client.ApiClient(configuration), "in-cluster", None, "the service account")


def _endpoint(client: ApiClient, name: str, namespace: object, shown: str) -> Endpoint:
    configuration = client.configuration
    server = str(configuration.host)
    if not is_url(server):
        raise FileError(f"{shown}: cluster {name}: server is not a URL: {clean(server)}")
    expired = None
    if server.startswith("https:"):
        _loadable(configuration, f"{shown}: cluster {name}")
        expired = _expired(configuration.cert_file)
    if not configuration.verify_ssl:
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Endpoint(client, name, server, str(namespace) if namespace else None, expired)


def tls(configuration: Any) -> ssl.SSLContext:
    """A TLS context as the configuration wants it."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _loadable(configuration: Any, where: str) -> None:
    """Certificates that cannot be loaded are the file's fault, and found before any request."""
    try:
        tls(configuration)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise FileError(
            f"{where}: its certificates or its key cannot be loaded: {clean(str(error))}"
        ) from error


def _expired(cert_file: str | None) -> str | None:
    if not cert_file:
        return None
    from cryptography import x509

    try:
        until = x509.load_pem_x509_certificate(Path(cert_file).read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
    if until > datetime.now(UTC):
        return None
    return f"the client certificate expired on {until:%Y-%m-%d}"
