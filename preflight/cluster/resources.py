"""The kinds of objects that are asked for: where the API server keeps them."""

from typing import NamedTuple
from urllib.parse import quote


class Resource(NamedTuple):
    """One kind: `version` as in apiVersion, `plural` as in the path."""

    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """`apps` of `apps/v1`; the core group's name is empty."""
        return self.version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None, sub: str = "") -> str:
        """Its path below the server's address; without `name` that of the collection."""
        root = "/apis" if "/" in self.version else "/api"
        parts = [root, self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        return "/".join([*parts, sub] if sub else parts)

    def __str__(self) -> str:
        return self.plural


NAMESPACES = Resource("v1", "namespaces", "Namespace", namespaced=False)
NODES = Resource("v1", "nodes", "Node", namespaced=False)
PODS = Resource("v1", "pods", "Pod")
EVENTS = Resource("v1", "events", "Event")
SERVICES = Resource("v1", "services", "Service")
ENDPOINTS = Resource("v1", "endpoints", "Endpoints")
CONFIG_MAPS = Resource("v1", "configmaps", "ConfigMap")
SECRETS = Resource("v1", "secrets", "Secret")
SERVICE_ACCOUNTS = Resource("v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENTS = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps/v1", "replicasets", "ReplicaSet")
DAEMON_SETS = Resource("apps/v1", "daemonsets", "DaemonSet")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
_RBAC = "rbac.authorization.k8s.io/v1"
ROLES = Resource(_RBAC, "roles", "Role")
ROLE_BINDINGS = Resource(_RBAC, "rolebindings", "RoleBinding")
CLUSTER_ROLES = Resource(_RBAC, "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    _RBAC, "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io/v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io/v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
)
CILIUM_NODES = Resource("cilium.io/v2", "ciliumnodes", "CiliumNode", namespaced=False)
CILIUM_POLICIES = Resource("cilium.io/v2", "ciliumnetworkpolicies", "CiliumNetworkPolicy")
CILIUM_CLUSTER_POLICIES = Resource(
    "cilium.io/v2", "ciliumclusterwidenetworkpolicies", "CiliumClusterwideNetworkPolicy", False
)
CILIUM_IDENTITIES = Resource("cilium.io/v2", "ciliumidentities", "CiliumIdentity", False)
