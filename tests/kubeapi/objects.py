"""What becomes of an object when it is made, changed or ended: what every kind has in common."""

import copy
import uuid
from datetime import UTC, datetime
from typing import Any

from kubeapi.answers import ApiError, bad, conflict, forbidden, invalid
from kubeapi.kinds import BUILTIN, Kind
from kubeapi.schema import checked, ruled
from kubeapi.store import Object, Store

_NAMESPACES = next(kind for kind in BUILTIN if kind.plural == "namespaces")
_SERVICES = next(kind for kind in BUILTIN if kind.plural == "services")
# What the server alone writes.
_SYSTEM = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
           "generation", "selfLink", "managedFields")  # fmt: skip
_GRACE = 30  # seconds that a pod has by default


def now() -> str:
    """As the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """Objects by the rules of the API server, on top of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(
        self, kind: Kind, item: Any, namespace: str | None, *, strict: bool = False
    ) -> Object:
        """Make one."""
        item = self._addressed(kind, checked(kind, item, strict=strict), namespace)
        about = {k: v for k, v in item["metadata"].items() if k not in _SYSTEM}
        if about.get("resourceVersion"):
            raise bad("resourceVersion should not be set on objects to be created")
        if not about.get("name") and about.get("generateName"):
            about["name"] = f"{about['generateName']}{uuid.uuid4().hex[:5]}"
        about |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if kind.generation or kind.model is None:
            about["generation"] = 1
        item["metadata"] = about
        if kind.status and kind.plural not in ("nodes", "pods"):
            item.pop("status", None)
        if kind.plural == "pods":
            item["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
        ruled(kind, item)
        with self.store.changed:
            if kind.namespaced:
                self._open(kind, about)
            self._defaults(kind, item)
            return self.store.create(kind, item)

    def update(
        self,
        kind: Kind,
        name: str,
        namespace: str | None,
        item: Any,
        *,
        sub: str = "",
        strict: bool = False,
    ) -> Object:
        """Put one in the place of its former self, or only its status."""
        with self.store.changed:
            before = self.store.get(kind, namespace or "", name)
            item = self._addressed(kind, checked(kind, item, strict=strict), namespace)
            about = item["metadata"]
            if about.get("name") != name:
                raise bad(f"the name of the object ({about.get('name')}) does not match {name}")
            old = before["metadata"]
            if about.get("uid", old["uid"]) != old["uid"]:
                why = (
                    f"Precondition failed: UID in precondition: {about['uid']}, "
                    f"UID in object meta: {old['uid']}"
                )
                raise conflict(kind.resource, name, why)
            if about.get("resourceVersion", old["resourceVersion"]) != old["resourceVersion"]:
                raise conflict(kind.resource, name)
            return self._replace(kind, before, item, sub)

    def _replace(self, kind: Kind, before: Object, item: Object, sub: str) -> Object:
        old, about = before["metadata"], dict(item["metadata"])
        for key in _SYSTEM:
            about.pop(key, None)
            if key in old:
                about[key] = old[key]
        if sub == "status":
            item = {**before, "status": item.get("status") or {}}
        elif sub == "finalize":
            item = {**before, "spec": item.get("spec") or {}}
        else:
            item = {**item, "metadata": about}
            if kind.status:
                item.pop("status", None)
                if "status" in before:
                    item["status"] = before["status"]
            if kind.generation and item.get("spec") != before.get("spec"):
                about["generation"] = old.get("generation", 1) + 1
            if "deletionTimestamp" in old:
                added = set(about.get("finalizers") or ()) - set(old.get("finalizers") or ())
                if added:
                    why = f"no new finalizers can be added if the object is being deleted: {added}"
                    raise invalid(kind.kind, old["name"], f"metadata.finalizers: Forbidden: {why}")
            self._immutable(kind, before, item)
            self._defaults(kind, item, before)
            ruled(kind, item)
        made = self.store.update(kind, item, old["resourceVersion"])
        return self._finish(kind, made)

    def _finish(self, kind: Kind, item: Object) -> Object:
        """An object that waits for its end, and for nothing else any more, is gone."""
        about = item["metadata"]
        if "deletionTimestamp" not in about or about.get("finalizers"):
            return item
        if about.get("deletionGracePeriodSeconds"):
            return item
        if kind.plural == "namespaces" and (item.get("spec") or {}).get("finalizers"):
            return item
        return self.store.remove(kind, item)

    def delete(
        self, kind: Kind, name: str, namespace: str | None, options: dict[str, Any]
    ) -> tuple[Object, bool]:
        """Ask for an object's end; the object, and whether it is gone."""
        with self.store.changed:
            item = self.store.get(kind, namespace or "", name)
            about = item["metadata"]
            wanted = options.get("preconditions") or {}
            for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
                if wanted.get(key, about[key]) != about[key]:
                    why = (
                        f"Precondition failed: {word} in precondition: {wanted[key]}, "
                        f"{word} in object meta: {about[key]}"
                    )
                    raise conflict(kind.resource, name, why)
            finalizers = list(about.get("finalizers") or ())
            policy = options.get("propagationPolicy")
            for word, finalizer in (
                ("Foreground", "foregroundDeletion"),
                ("Orphan", "orphan"),
            ):
                if policy == word and finalizer not in finalizers:
                    finalizers.append(finalizer)
            grace = self._grace(kind, item, options)
            changed = copy.deepcopy(item)
            later = changed["metadata"]
            if finalizers:
                later["finalizers"] = finalizers
            later.setdefault("deletionTimestamp", now())
            shorter = min(grace, later.get("deletionGracePeriodSeconds", grace))
            later["deletionGracePeriodSeconds"] = shorter
            waits = finalizers or shorter
            if kind.plural == "namespaces":
                changed["status"] = {**(changed.get("status") or {}), "phase": "Terminating"}
                waits = waits or changed["spec"].get("finalizers")
            if not waits:
                return self.store.remove(kind, item), True
            return self.store.update(kind, changed, about["resourceVersion"]), False

    def _grace(self, kind: Kind, item: Object, options: dict[str, Any]) -> int:
        if kind.plural != "pods" or not (item.get("spec") or {}).get("nodeName"):
            return 0
        if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return 0
        own = (item.get("spec") or {}).get("terminationGracePeriodSeconds", _GRACE)
        asked = options.get("gracePeriodSeconds")
        return int(own if asked is None else asked)

    def _addressed(self, kind: Kind, item: Object, namespace: str | None) -> Object:
        if item.get("apiVersion", kind.api) != kind.api or item.get("kind", kind.kind) != kind.kind:
            raise bad(
                f"{item.get('kind')} in version {item.get('apiVersion')} cannot be handled as a "
                f"{kind.kind}: no kind is registered for the type"
            )
        about = dict(item.get("metadata") or {})
        if kind.namespaced:
            if about.get("namespace", namespace) != namespace:
                raise bad(
                    "the namespace of the provided object does not match the namespace sent on "
                    "the request"
                )
            about["namespace"] = namespace
        return {**item, "apiVersion": kind.api, "kind": kind.kind, "metadata": about}

    def _open(self, kind: Kind, about: dict[str, Any]) -> None:
        """Nothing is made in a namespace that is not there or is on its way out."""
        space = self.store.get(_NAMESPACES, "", about["namespace"])
        if "deletionTimestamp" in space["metadata"]:
            error = forbidden(
                kind.resource,
                about["name"],
                f"unable to create new content in namespace {about['namespace']} because it is "
                "being terminated",
            )
            error.status["details"]["causes"] = [{"reason": "NamespaceTerminating"}]
            raise error

    def _immutable(self, kind: Kind, before: Object, item: Object) -> None:
        old, new = before.get("spec") or {}, item.get("spec") or {}
        what = ""
        if kind.plural in ("deployments", "daemonsets", "replicasets"):
            what = "selector" if old.get("selector") != new.get("selector") else ""
        elif kind.plural == "pods":
            free = ("activeDeadlineSeconds", "tolerations", "containers", "initContainers")
            old, new = ({k: v for k, v in s.items() if k not in free} for s in (old, new))
            what = "" if old == new else "pod updates may not change fields other than the image"
        if what:
            raise invalid(kind.kind, item["metadata"]["name"], f"spec.{what}: field is immutable")

    def _defaults(self, kind: Kind, item: Object, before: Object | None = None) -> None:
        spec = item.get("spec") or {}
        match kind.plural:
            case "namespaces":
                if before is None:
                    item["spec"] = {"finalizers": ["kubernetes"]}
                    item["status"] = {"phase": "Active"}
                else:
                    item["spec"] = before["spec"]
                name = item["metadata"]["name"]
                labels = {**(item["metadata"].get("labels") or {})}
                item["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": name}
            case "deployments":
                spec.setdefault("replicas", 1)
                spec.setdefault("strategy", {"type": "RollingUpdate"})
            case "daemonsets":
                spec.setdefault("updateStrategy", {"type": "RollingUpdate"})
            case "replicasets":
                spec.setdefault("replicas", 1)
            case "pods":
                for key, value in (
                    ("restartPolicy", "Always"),
                    ("schedulerName", "default-scheduler"),
                    ("terminationGracePeriodSeconds", _GRACE),
                ):
                    spec.setdefault(key, value)
            case "services":
                self._addresses(item, spec, before)

    def _addresses(self, item: Object, spec: dict[str, Any], before: Object | None) -> None:
        spec.setdefault("type", "ClusterIP")
        if before is not None and "clusterIP" not in spec:
            spec["clusterIP"] = before["spec"]["clusterIP"]
        others, _ = self.store.listed(_SERVICES, None)
        uid = item["metadata"]["uid"]
        used = {
            port["nodePort"]
            for other in others
            if other["metadata"]["uid"] != uid
            for port in other["spec"].get("ports") or ()
            if "nodePort" in port
        }
        spec.setdefault("clusterIP", f"10.96.{len(others) // 250}.{len(others) % 250 + 1}")
        for i, port in enumerate(spec.get("ports") or ()):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
            if spec["type"] != "NodePort":
                continue
            number = port.setdefault(
                "nodePort", next(n for n in range(30000, 32768) if n not in used)
            )
            if number in used:
                name = item["metadata"]["name"]
                problem = f"Invalid value: {number}: provided port is already allocated"
                raise invalid("Service", name, f"spec.ports[{i}].nodePort: {problem}")


def apply_refused() -> ApiError:
    """Server-side apply is not emulated, and says so rather than doing something else."""
    return ApiError(
        415, "UnsupportedMediaType", "server-side apply is not served by this test server"
    )
