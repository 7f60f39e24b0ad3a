"""Reads an EKS Anywhere cluster spec: the file that `eksctl anywhere create cluster -f` takes.

It holds several documents, one of kind Cluster and one for each kind of machine. Only what is
needed is looked at; the rest may be of any EKS Anywhere version. A message names file, line and key
and never a value: a spec may hold secrets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.core.cilium.config import ConfigError
from preflight.core.cilium.eksa import HELM_VALUES, ClusterSpec, Group, derive, version_of
from preflight.core.facts.ranges import parse_range
from preflight.core.facts.risk import Network
from preflight.inventory import document
from preflight.inventory.document import Kind, Scalar, Sequence, Value
from preflight.inventory.problems import Problems, printable
from preflight.spec.plain import at, is_unusable, line_at, plain

_GROUP = "anywhere.eks.amazonaws.com/"
_WHAT = "cluster spec"
_NOT_ONE = (
    "holds no EKS Anywhere cluster (kind: Cluster, apiVersion: anywhere.eks.amazonaws.com/…): "
    "name the file that `eksctl anywhere create cluster -f` takes"
)


def load(path: str | os.PathLike[str]) -> ClusterSpec:
    """The cluster spec in the file at `path`.

    Raises FileError; its text has one line for each problem: file, line, key, what to write.
    """
    file = os.fspath(path)
    problems = Problems(file)
    documents = document.read_all(file, _WHAT)
    clusters = [d for d in documents if _kind(d) == "Cluster"]
    if not clusters:
        raise problems.fatal(_NOT_ONE)
    if len(clusters) > 1:
        raise problems.fatal(
            "holds more than one cluster: give each its own file", clusters[1].line
        )
    spec = _read(clusters[0], documents, file, problems)
    problems.raise_any()
    try:
        derive(spec)
    except ConfigError as error:
        key = f"{HELM_VALUES}.{error.key}"
        problems.add(line_at(clusters[0], key), key, str(error))
    problems.raise_any()
    return spec


def _kind(value: Value) -> str:
    """The kind of an EKS Anywhere object; empty for anything else."""
    version, kind = plain(at(value, "apiVersion")), plain(at(value, "kind"))
    ours = isinstance(version, str) and version.startswith(_GROUP)
    return kind if ours and isinstance(kind, str) else ""


def _read(cluster: Value, documents: list[Value], file: str, problems: Problems) -> ClusterSpec:
    source = printable(os.path.basename(file))
    spec = at(cluster, "spec")
    network = at(spec, "clusterNetwork")
    cni = at(network, "cniConfig")
    if plain(at(network, "cni")) == "kindnetd" or at(cni, "kindnetd") is not None:
        raise problems.fatal(
            "the cluster gets kindnetd, not Cilium: nothing follows from it",
            line_at(cluster, "spec.clusterNetwork"),
        )
    helm = at(cni, "cilium", "helmValues")
    values = plain(helm)
    if (values is not None and not isinstance(values, Mapping)) or is_unusable(helm):
        problems.add(line_at(cluster, HELM_VALUES), HELM_VALUES, "is not a mapping")
        values = None
    machines = {(_kind(d), name): d for d in documents if isinstance(name := _name(d), str)}
    return ClusterSpec(
        source=source,
        name=_name(cluster),
        version=version_of(_text(at(spec, "eksaVersion"))),
        pod_ranges=_ranges(cluster, "pods", problems),
        service_ranges=_ranges(cluster, "services", problems),
        helm_values=values,
        routing_mode=_text(at(cni, "cilium", "routingMode")),
        own_cilium=plain(at(cni, "cilium", "skipUpgrade")) is True,
        groups=tuple(_groups(cluster, machines, problems)),
        addresses=dict(_addresses(spec, documents)),
        users=tuple(dict.fromkeys(_users(documents))),
    )


def _name(value: Value) -> str:
    return _text(at(value, "metadata", "name"))


def _text(value: Value | None) -> str:
    return value.text if isinstance(value, Scalar) and value.kind is not Kind.NULL else ""


def _ranges(cluster: Value, which: str, problems: Problems) -> tuple[Network, ...]:
    path = f"spec.clusterNetwork.{which}.cidrBlocks"
    blocks = at(cluster, *path.split("."))
    found: list[Network] = []
    if blocks is not None and not isinstance(blocks, Sequence):
        problems.add(blocks.line, path, "is not a list of ranges")
    for number, item in enumerate(blocks.items if isinstance(blocks, Sequence) else ()):
        try:
            found.append(parse_range(_text(item)))
        except ValueError as error:
            problems.add(item.line, f"{path}[{number}]", str(error))
    return tuple(found)


def _groups(
    cluster: Value, machines: Mapping[tuple[str, str], Value], problems: Problems
) -> Iterator[Group]:
    spec = at(cluster, "spec")
    workers = at(spec, "workerNodeGroupConfigurations")
    listed = workers.items if isinstance(workers, Sequence) else ()
    places = [
        ("control-plane", "spec.controlPlaneConfiguration", at(spec, "controlPlaneConfiguration")),
        ("etcd", "spec.externalEtcdConfiguration", at(spec, "externalEtcdConfiguration")),
        *(
            ("worker", f"spec.workerNodeGroupConfigurations[{i}]", item)
            for i, item in enumerate(listed)
        ),
    ]
    for role, path, one in places:
        if one is None or is_unusable(one):
            continue
        ref = at(one, "machineGroupRef")
        machine = machines.get((_text(at(ref, "kind")), _text(at(ref, "name"))))
        selector = plain(at(machine, "spec", "hardwareSelector"))
        least = most = _count(at(one, "count"), f"{path}.count", problems)
        scaling = at(one, "autoscalingConfiguration")
        if scaling is not None:
            key = f"{path}.autoscalingConfiguration"
            least = _count(at(scaling, "minCount"), f"{key}.minCount", problems)
            most = _count(at(scaling, "maxCount"), f"{key}.maxCount", problems)
        yield Group(
            name=_text(at(one, "name")) or role,
            role=role,
            least=least,
            most=max(least, most),
            selector={k: str(v) for k, v in selector.items()}
            if isinstance(selector, Mapping)
            else {},
        )


def _count(value: Value | None, path: str, problems: Problems) -> int:
    found = plain(value)
    if found is None:
        return 0
    if not isinstance(found, int) or isinstance(found, bool):
        assert value is not None
        problems.add(value.line, path, "is not a number of machines")
        return 0
    return found


def _addresses(spec: Value | None, documents: list[Value]) -> Iterator[tuple[str, str]]:
    endpoint = _text(at(spec, "controlPlaneConfiguration", "endpoint", "host"))
    if endpoint:
        yield "the control plane's endpoint", endpoint
    for one in documents:
        tinkerbell = _text(at(one, "spec", "tinkerbellIP"))
        if _kind(one) == "TinkerbellDatacenterConfig" and tinkerbell:
            yield "Tinkerbell's address", tinkerbell


def _users(documents: list[Value]) -> Iterator[str]:
    """The login names that the machines will have."""
    for one in documents:
        if _kind(one).endswith("MachineConfig"):
            users = at(one, "spec", "users")
            for user in users.items if isinstance(users, Sequence) else ():
                if name := _text(at(user, "name")):
                    yield name
