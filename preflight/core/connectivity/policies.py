"""Which network policies already apply to the pods of a namespace.

Cilium knows a pod by its labels, each with a source (`k8s:`), to which it adds the namespace, the
namespace's own labels, the service account and the cluster's name
(docs.cilium.io, "Identity-relevant labels"). A selector that asks for a label which cannot be
known here is said to apply perhaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

Values = Mapping[str, object]


class Applies(StrEnum):
    """To the pods of the check."""

    NO = "no"
    PERHAPS = "perhaps"
    YES = "yes"


class Applying(NamedTuple):
    """A policy that is in the way."""

    kind: str
    name: str
    applies: Applies


class Subject(NamedTuple):
    """What the pods are known by."""

    namespace: str
    namespace_labels: Mapping[str, str]
    pods: Sequence[Mapping[str, str]]  # labels of each
    cluster: str | None = None  # cluster-name in Cilium's configuration; None not known
    service_account: str = "default"

    def cilium_labels(self) -> Iterator[dict[str, str | None]]:
        """Each pod's labels as Cilium knows them; None where the value is not known."""
        common: dict[str, str | None] = {
            "io.kubernetes.pod.namespace": self.namespace,
            "io.cilium.k8s.policy.serviceaccount": self.service_account,
            "io.cilium.k8s.policy.cluster": self.cluster,
        }
        for key, value in self.namespace_labels.items():
            common[f"io.cilium.k8s.namespace.labels.{key}"] = value
        for labels in self.pods:
            yield {**common, **labels}


def in_namespace(kind: str, found: Iterable[Values], own: Iterable[str] = ()) -> Iterator[Applying]:
    """Policies of the namespace itself; `own` are the names of the check's."""
    mine = set(own)
    for policy in found:
        name = _name(policy)
        if name not in mine:
            yield Applying(kind, name, Applies.YES)


def cilium_clusterwide(found: Iterable[Values], subject: Subject) -> Iterator[Applying]:
    """CiliumClusterwideNetworkPolicies; those for nodes (host policies) select no pod."""
    pods = list(subject.cilium_labels())
    for policy in found:
        selectors = [
            selector
            for _, spec in specs([policy])
            if isinstance(selector := spec.get("endpointSelector"), dict)
        ]
        answer = most(matches(selector, labels) for selector in selectors for labels in pods)
        if answer is not Applies.NO:
            yield Applying("CiliumClusterwideNetworkPolicy", _name(policy), answer)


def host_policies(found: Iterable[Values]) -> list[str]:
    """Names of clusterwide policies for nodes: they meet what pods send to a node's own ports."""
    return list(dict.fromkeys(name for name, spec in specs(found) if "nodeSelector" in spec))


def specs(found: Iterable[Values]) -> Iterator[tuple[str, Values]]:
    """Each specification of Cilium's policies, with the policy's name."""
    for policy in found:
        many = policy.get("specs")
        for spec in (policy.get("spec"), *(many if isinstance(many, list) else ())):
            if isinstance(spec, dict):
                yield _name(policy), spec


def admin(kind: str, found: Iterable[Values], subject: Subject) -> Iterator[Applying]:
    """AdminNetworkPolicy, its baseline, and ClusterNetworkPolicy: `spec.subject`."""
    namespace = {**subject.namespace_labels, "kubernetes.io/metadata.name": subject.namespace}
    known: Mapping[str, str | None] = dict(namespace)
    for policy in found:
        spec = policy.get("spec")
        about = spec.get("subject") if isinstance(spec, dict) else None
        if not isinstance(about, dict):
            continue
        answer = Applies.NO
        if isinstance(about.get("namespaces"), dict):
            answer = matches(about["namespaces"], known)
        elif isinstance(about.get("pods"), dict):
            pods = about["pods"]
            inside = matches(_selector(pods, "namespaceSelector"), known)
            selector = _selector(pods, "podSelector")
            own = most(matches(selector, dict(labels)) for labels in subject.pods)
            answer = least((inside, own))
        if answer is not Applies.NO:
            yield Applying(kind, _name(policy), answer)


_ORDER = (Applies.NO, Applies.PERHAPS, Applies.YES)


def most(answers: Iterable[Applies]) -> Applies:
    """What any of them says, the surest first; none says no."""
    return max(answers, key=_ORDER.index, default=Applies.NO)


def least(answers: Iterable[Applies]) -> Applies:
    """What all of them say together; none says yes."""
    return min(answers, key=_ORDER.index, default=Applies.YES)


def matches(
    selector: Values, labels: Mapping[str, str | None], sources: Sequence[str] = ("k8s", "any")
) -> Applies:
    """All requirements of a label selector; an empty one matches everything.

    `labels` are without their source; `sources` are those that a key may name for them.
    """
    answers = []
    wanted = selector.get("matchLabels")
    for key, value in (wanted if isinstance(wanted, dict) else {}).items():
        answers.append(_requirement(str(key), "In", [value], labels, sources))
    expressions = selector.get("matchExpressions")
    for one in expressions if isinstance(expressions, list) else ():
        if isinstance(one, dict):
            values = one.get("values")
            values = values if isinstance(values, list) else []
            key, operator = str(one.get("key")), one.get("operator")
            answers.append(_requirement(key, operator, values, labels, sources))
    return least(answers)


def _requirement(
    key: str,
    operator: object,
    values: Sequence[object],
    labels: Mapping[str, str | None],
    sources: Sequence[str],
) -> Applies:
    source, name = _split(key)
    there = source in sources and name in labels
    if there and labels[name] is None:
        if operator in ("Exists", "DoesNotExist"):
            return _answer(operator == "Exists")
        return Applies.PERHAPS
    value = labels.get(name) if there else None
    if operator == "In":
        return _answer(there and value in values)
    if operator == "NotIn":
        return _answer(not there or value not in values)
    if operator == "Exists":
        return _answer(there)
    if operator == "DoesNotExist":
        return _answer(not there)
    return Applies.PERHAPS


def _answer(yes: bool) -> Applies:
    return Applies.YES if yes else Applies.NO


_SOURCES = ("k8s", "any", "reserved", "cidr", "cidrgroup", "fqdn", "unspec", "container", "node")


def _split(key: str) -> tuple[str, str]:
    """A key's source and name: `k8s:app`, and `app`, which is any source's."""
    source, found, name = key.partition(":")
    if found and source in _SOURCES:
        return source, name
    return "any", key


def _selector(value: Mapping[str, object], key: str) -> Values:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _name(policy: Values) -> str:
    metadata = policy.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else "?"
