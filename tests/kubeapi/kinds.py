"""The kinds that the emulator serves, and which of their fields a field selector may name."""

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of object. `model` is the client's class whose schema it has; None for CRDs'."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    model: str | None
    status: bool = False  # has a status subresource
    generation: bool = False  # counts changes of its spec
    schema: dict | None = None  # a CRD's openAPIV3Schema
    short: bool = False  # may only be created, and is not kept

    @property
    def api(self) -> str:
        """As in apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`daemonsets.apps`, as messages call it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_RBAC = ("rbac.authorization.k8s.io", "v1")
BUILTIN = (
    Kind("", "v1", "namespaces", "Namespace", False, "V1Namespace", True),
    Kind("", "v1", "nodes", "Node", False, "V1Node", True),
    Kind("", "v1", "pods", "Pod", True, "V1Pod", True),
    Kind("", "v1", "events", "Event", True, "CoreV1Event"),
    Kind("", "v1", "services", "Service", True, "V1Service", True),
    Kind("", "v1", "endpoints", "Endpoints", True, "V1Endpoints"),
    Kind("", "v1", "configmaps", "ConfigMap", True, "V1ConfigMap"),
    Kind("", "v1", "secrets", "Secret", True, "V1Secret"),
    Kind("", "v1", "serviceaccounts", "ServiceAccount", True, "V1ServiceAccount"),
    Kind("apps", "v1", "deployments", "Deployment", True, "V1Deployment", True, True),
    Kind("apps", "v1", "replicasets", "ReplicaSet", True, "V1ReplicaSet", True, True),
    Kind("apps", "v1", "daemonsets", "DaemonSet", True, "V1DaemonSet", True, True),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", True, "V1NetworkPolicy",
         False, True),
    Kind(*_RBAC, "roles", "Role", True, "V1Role"),
    Kind(*_RBAC, "rolebindings", "RoleBinding", True, "V1RoleBinding"),
    Kind(*_RBAC, "clusterroles", "ClusterRole", False, "V1ClusterRole"),
    Kind(*_RBAC, "clusterrolebindings", "ClusterRoleBinding", False, "V1ClusterRoleBinding"),
    Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition",
         False, "V1CustomResourceDefinition", True, True),
    Kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview",
         False, "V1SelfSubjectAccessReview", short=True),
)  # fmt: skip

FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "events": ("involvedObject.kind", "involvedObject.name", "involvedObject.namespace",
               "involvedObject.uid", "reason", "type", "source"),
    "secrets": ("type",),
    "replicasets": ("status.replicas",),
}  # fmt: skip
