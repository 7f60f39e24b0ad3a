"""What an API server does, asked of the emulator and, where there is one, of a real one."""

import json

import pytest
from kubeapi.raw import Raw, Server

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
CONTAINER = {"name": "c", "image": "example.org/image:1"}


def config_map(name: str, **labels: str) -> dict:
    return {"metadata": {"name": name, "labels": labels}, "data": {"key": name}}


def test_an_object_has_what_only_the_server_writes(raw: Raw) -> None:
    made = raw.make(MAPS, config_map("a"))
    about = made["metadata"]
    assert about["uid"]
    assert about["creationTimestamp"].endswith("Z")
    assert int(about["resourceVersion"]) > 0
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
    assert raw.get(f"{MAPS}/a") == made


def test_status_objects_say_what_is_wrong(raw: Raw) -> None:
    missing = raw.ask("GET", f"{MAPS}/none")
    assert missing.status == 404
    assert missing.body["kind"] == "Status"
    assert missing.body["reason"] == "NotFound"
    assert missing.body["message"] == 'configmaps "none" not found'
    assert missing.body["details"] == {"name": "none", "kind": "configmaps"}
    raw.make(MAPS, config_map("a"))
    taken = raw.ask("POST", MAPS, config_map("a"))
    assert (taken.status, taken.body["reason"]) == (409, "AlreadyExists")
    apps = raw.ask("GET", "/apis/apps/v1/namespaces/default/daemonsets/none")
    assert apps.body["message"] == 'daemonsets.apps "none" not found'
    unserved = raw.ask("GET", "/apis/example.org/v1/things")
    assert unserved.status == 404


def test_who_is_not_known_and_who_may_not(kube: Server) -> None:
    unknown = Raw(kube, "stranger").ask("GET", MAPS)
    assert (unknown.status, unknown.body["reason"]) == (401, "Unauthorized")
    refused = Raw(kube, "nobody").ask("GET", "/api/v1/nodes")
    assert (refused.status, refused.body["reason"]) == (403, "Forbidden")
    assert refused.body["message"] == (
        'nodes is forbidden: User "nobody" cannot list resource "nodes" in API group "" '
        "at the cluster scope"
    )


def test_rights_come_from_roles(kube: Server, raw: Raw) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["list"]}]
    raw.make(f"{rbac}/clusterroles", {"metadata": {"name": "sees-pods"}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    raw.make(
        f"{rbac}/namespaces/default/rolebindings",
        {
            "metadata": {"name": "viewer"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "sees-pods"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "viewer"}],
        },
    )
    viewer = Raw(kube, "viewer")

    def review(verb: str, namespace: str, sub: str = "") -> bool:
        resource = {"verb": verb, "resource": "pods", "namespace": namespace, "subresource": sub}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": resource},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return viewer.make(path, body)["status"]["allowed"]

    raw.until(MAPS, lambda _: review("list", "default"))  # the real one learns of it in a moment
    assert viewer.ask("GET", PODS).status == 200
    assert viewer.ask("GET", "/api/v1/pods").status == 403
    assert viewer.ask("DELETE", f"{PODS}/x").status == 403
    assert review("list", "default", "log")
    assert not review("get", "default")
    assert not review("list", "kube-system")


def test_a_change_of_an_old_version_is_a_conflict(raw: Raw) -> None:
    old = raw.make(MAPS, config_map("a"))
    new = raw.ask("PUT", f"{MAPS}/a", {**old, "data": {"key": "b"}})
    assert new.status == 200
    assert new.body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"]
    late = raw.ask("PUT", f"{MAPS}/a", {**old, "data": {"key": "c"}})
    assert (late.status, late.body["reason"]) == (409, "Conflict")
    unconditional = raw.ask("PUT", f"{MAPS}/a", config_map("a"))
    assert unconditional.status == 200


def test_a_change_of_nothing_is_no_new_version(raw: Raw) -> None:
    old = raw.make(MAPS, config_map("a"))
    same = raw.ask("PUT", f"{MAPS}/a", old)
    assert same.body["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]


@pytest.mark.parametrize(
    ("content", "body", "expected"),
    [
        ("merge-patch", {"data": {"key": None, "more": "x"}}, {"more": "x"}),
        ("strategic-merge-patch", {"data": {"more": "x"}}, {"key": "a", "more": "x"}),
        ("json-patch", [{"op": "replace", "path": "/data/key", "value": "y"}], {"key": "y"}),
    ],
)
def test_patches(raw: Raw, content: str, body: object, expected: dict) -> None:
    raw.make(MAPS, config_map("a"))
    answer = raw.ask("PATCH", f"{MAPS}/a", body, f"application/{content}+json")
    assert (answer.status, answer.body["data"]) == (200, expected)


def test_patches_that_fail(raw: Raw) -> None:
    raw.make(MAPS, config_map("a"))
    test = [{"op": "test", "path": "/data/key", "value": "other"}]
    assert raw.ask("PATCH", f"{MAPS}/a", test, "application/json-patch+json").status == 422
    assert raw.ask("PATCH", f"{MAPS}/a", {}, "application/json").status == 415
    assert raw.ask("PATCH", f"{MAPS}/b", {}, "application/merge-patch+json").status == 404


def test_a_strategic_merge_knows_list_members_by_name(raw: Raw) -> None:
    spec = {"containers": [CONTAINER, {"name": "d", "image": "example.org/other:1"}]}
    raw.make(PODS, {"metadata": {"name": "p"}, "spec": spec})
    change = {"spec": {"containers": [{"name": "d", "image": "example.org/other:2"}]}}
    kind = "application/strategic-merge-patch+json"
    told = raw.ask("PATCH", f"{PODS}/p", change, kind).body["spec"]["containers"]
    images = {c["name"]: c["image"] for c in told}
    assert images == {"c": "example.org/image:1", "d": "example.org/other:2"}


def test_lists_come_in_pages_of_one_moment(raw: Raw) -> None:
    for name in "abcde":
        raw.make(MAPS, config_map(name))
    selector = {"fieldSelector": "metadata.name!=kube-root-ca.crt"}
    first = raw.get(MAPS, limit="2", **selector)
    assert [i["metadata"]["name"] for i in first["items"]] == ["a", "b"]
    raw.drop(f"{MAPS}/d")
    names, token = [], first["metadata"]["continue"]
    while token:
        page = raw.get(MAPS, limit="2", **{"continue": token}, **selector)
        names += [i["metadata"]["name"] for i in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        token = page["metadata"].get("continue", "")
    assert names == ["c", "d", "e"]
    assert raw.ask("GET", MAPS, limit="2", **{"continue": "nonsense"}).status == 400


def test_members_of_lists_name_no_kind(raw: Raw) -> None:
    raw.make(MAPS, config_map("a"))
    told = raw.get(MAPS)
    assert told["kind"] == "ConfigMapList"
    assert not any("kind" in item for item in told["items"])


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("rack=a", "p"),
        ("rack!=a,rack", "q"),
        ("rack in (a,b)", "pq"),
        ("rack notin (a),rack", "q"),
        ("!rack", "r"),
        ("rack,spare", ""),
    ],
)
def test_label_selectors(raw: Raw, selector: str, names: str) -> None:
    for name, labels in (("p", {"rack": "a"}), ("q", {"rack": "b"}), ("r", {})):
        raw.make(MAPS, config_map(name, **labels))
    fields = "metadata.name!=kube-root-ca.crt"
    found = raw.get(MAPS, labelSelector=selector, fieldSelector=fields)
    assert "".join(i["metadata"]["name"] for i in found["items"]) == names


def test_selectors_that_cannot_be(raw: Raw) -> None:
    assert raw.ask("GET", MAPS, labelSelector="a in b").status == 400
    assert raw.ask("GET", MAPS, fieldSelector="data.key=a").status == 400
    assert raw.ask("GET", PODS, fieldSelector="spec.nodeName=n1").status == 200


def test_a_watch_tells_what_happened_since(raw: Raw) -> None:
    since = raw.get(MAPS)["metadata"]["resourceVersion"]
    raw.make(MAPS, config_map("a"))
    raw.patch(f"{MAPS}/a", {"data": {"key": "b"}})
    raw.drop(f"{MAPS}/a")
    told = [t for t in raw.watch(MAPS, 1, resourceVersion=since) if t[0] != "BOOKMARK"]
    assert [word for word, _ in told] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(item["metadata"]["resourceVersion"]) for _, item in told]
    assert versions == sorted(set(versions))
    assert versions[0] > int(since)


def test_a_watch_by_label_sees_what_leaves_it_as_deleted(raw: Raw) -> None:
    since = raw.get(MAPS)["metadata"]["resourceVersion"]
    raw.make(MAPS, config_map("a", rack="a"))
    raw.patch(f"{MAPS}/a", {"metadata": {"labels": {"rack": "b"}}})
    told = list(raw.watch(MAPS, 1, resourceVersion=since, labelSelector="rack=a"))
    assert [word for word, _ in told if word != "BOOKMARK"] == ["ADDED", "DELETED"]


def test_an_object_with_a_finalizer_waits_for_it(raw: Raw) -> None:
    held = config_map("a")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    raw.make(MAPS, held)
    assert raw.drop(f"{MAPS}/a").status == 200
    waiting = raw.get(f"{MAPS}/a")
    assert waiting["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}
    kind = "application/merge-patch+json"
    assert raw.ask("PATCH", f"{MAPS}/a", more, kind).status == 422
    raw.ask("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, kind)
    assert raw.ask("GET", f"{MAPS}/a").status == 404


def test_deletion_of_that_very_one(raw: Raw) -> None:
    raw.make(MAPS, config_map("a"))
    refused = raw.drop(f"{MAPS}/a", preconditions={"uid": "another"})
    assert (refused.status, refused.body["reason"]) == (409, "Conflict")
    assert raw.drop(f"{MAPS}/none").status == 404


def test_a_namespace_goes_with_what_is_in_it(raw: Raw) -> None:
    raw.make("/api/v1/namespaces", {"metadata": {"name": "x"}})
    space = "/api/v1/namespaces/x"
    raw.make(f"{space}/configmaps", config_map("a"))
    raw.drop(space)
    raw.until(space, lambda found: found is None)
    assert raw.ask("GET", f"{space}/configmaps/a").status == 404
    assert raw.ask("POST", f"{space}/configmaps", config_map("a")).status == 404


def test_a_namespace_stuck_on_a_finalizer_says_so(raw: Raw) -> None:
    space = "/api/v1/namespaces/x"
    raw.make("/api/v1/namespaces", {"metadata": {"name": "x"}})
    held = config_map("a")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    raw.make(f"{space}/configmaps", held)
    raw.drop(space)

    def stuck(found: dict) -> bool:
        conditions = {c["type"]: c for c in found["status"].get("conditions") or ()}
        condition = conditions.get("NamespaceFinalizersRemaining", {})
        return condition.get("status") == "True" and "example.org/hold" in condition["message"]

    assert raw.until(space, stuck)["status"]["phase"] == "Terminating"
    refused = raw.ask("POST", f"{space}/configmaps", config_map("b"))
    assert refused.status == 403
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    raw.patch(f"{space}/configmaps/a", {"metadata": {"finalizers": None}})
    raw.until(space, lambda found: found is None)


def workload(name: str, **spec: object) -> dict:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}}
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def node(name: str, *taints: dict, **spec: object) -> dict:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": list(taints), **spec} if taints else spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
            "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"},
        },
    }


def make_nodes(raw: Raw, *nodes: dict) -> None:
    """The real server taints a new node until its lifecycle controller saw it ready."""
    for one in nodes:
        raw.make("/api/v1/nodes", one)
    for one in nodes:
        path = f"/api/v1/nodes/{one['metadata']['name']}"
        wanted = taints(one)
        raw.until(path, lambda found, wanted=wanted: taints(found) == wanted)


def taints(one: dict) -> set[str]:
    found = {taint["key"] for taint in one["spec"].get("taints", ())}
    return found - {"node.kubernetes.io/unschedulable"}


DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DAEMONS = "/apis/apps/v1/namespaces/default/daemonsets"


def pods_of(raw: Raw, count: int, **query: str) -> list[dict]:
    path = PODS + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")
    return raw.until(path, lambda found: len(found["items"]) == count)["items"]


def test_a_deployment_makes_a_set_that_makes_pods(raw: Raw) -> None:
    make_nodes(raw, node("n1"), node("n2"))
    made = raw.make(DEPLOYMENTS, workload("web", replicas=2))
    assert made["metadata"]["generation"] == 1
    pods = pods_of(raw, 2)
    owner = pods[0]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
    raw.until(
        PODS, lambda found: {p["spec"].get("nodeName") for p in found["items"]} == {"n1", "n2"}
    )
    for pod in pods:
        name = pod["metadata"]["name"]
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        raw.patch(f"{PODS}/{name}/status", {"status": ready})
    found = raw.until(f"{DEPLOYMENTS}/web", lambda found: found["status"].get("readyReplicas") == 2)
    assert found["status"]["observedGeneration"] == 1
    raw.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 3}})
    found = raw.until(
        f"{DEPLOYMENTS}/web", lambda found: found["status"]["observedGeneration"] == 2
    )
    pods_of(raw, 3)
    raw.drop(f"{DEPLOYMENTS}/web", propagationPolicy="Background")
    raw.until(PODS, lambda found: all("deletionTimestamp" in p["metadata"] for p in found["items"]))


def test_a_pod_on_a_node_waits_for_its_kubelet(raw: Raw) -> None:
    spec = {"nodeName": "n1", "containers": [CONTAINER]}
    raw.make(PODS, {"metadata": {"name": "p"}, "spec": spec})
    raw.drop(f"{PODS}/p")
    assert raw.get(f"{PODS}/p")["metadata"]["deletionGracePeriodSeconds"] == 30
    raw.drop(f"{PODS}/p", gracePeriodSeconds=0)
    assert raw.ask("GET", f"{PODS}/p").status == 404
    raw.make(PODS, {"metadata": {"name": "q"}, "spec": {"containers": [CONTAINER]}})
    raw.drop(f"{PODS}/q", gracePeriodSeconds=0)
    assert raw.ask("GET", f"{PODS}/q").status == 404


def test_a_daemon_set_is_on_every_node_that_it_tolerates(raw: Raw) -> None:
    taint = {"key": "special", "value": "yes", "effect": "NoSchedule"}
    make_nodes(raw, node("n1"), node("n2", unschedulable=True), node("n3", taint))
    raw.make(DAEMONS, workload("agent"))
    pods = raw.until(
        PODS, lambda found: sorted(p["spec"].get("nodeName", "") for p in found["items"])
        == ["n1", "n2"],
    )["items"]  # fmt: skip
    assert pods[0]["metadata"]["labels"]["controller-revision-hash"]
    status = raw.until(
        f"{DAEMONS}/agent", lambda found: found["status"].get("currentNumberScheduled") == 2
    )["status"]
    assert status["desiredNumberScheduled"] == 2
    assert status["numberReady"] == 0
    raw.drop("/api/v1/nodes/n1")
    make_nodes(raw, node("n4"))
    raw.until(PODS, lambda found: any(p["spec"].get("nodeName") == "n4" for p in found["items"]))
    left = [p for p in raw.get(PODS)["items"] if p["spec"]["nodeName"] == "n1"]
    assert len(left) == 1  # on a node that is gone: not this controller's to delete
    assert "deletionTimestamp" not in left[0]["metadata"]


def test_a_pod_that_fits_nowhere_says_why(raw: Raw) -> None:
    make_nodes(raw, node("n1"), node("n2", unschedulable=True))
    rule = {"labelSelector": {"matchLabels": {"app": "web"}}}
    rule["topologyKey"] = "kubernetes.io/hostname"
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [rule]}
    body = workload("web", replicas=2)
    body["spec"]["template"]["spec"]["affinity"] = {"podAntiAffinity": required}
    raw.make(DEPLOYMENTS, body)

    def told(found: dict) -> bool:
        waiting = [p for p in found["items"] if not p["spec"].get("nodeName")]
        conditions = [c for p in waiting for c in p["status"].get("conditions") or ()]
        return len(found["items"]) == 2 and any(
            c["reason"] == "Unschedulable"
            and "0/2 nodes are available" in c["message"]
            and "unschedulable" in c["message"]
            and "affinity" in c["message"]
            for c in conditions
            if c["type"] == "PodScheduled" and c["status"] == "False"
        )

    raw.until(PODS, told)
    events = raw.until(
        "/api/v1/namespaces/default/events",
        lambda found: any(e["reason"] == "FailedScheduling" for e in found["items"]),
    )
    event = next(e for e in events["items"] if e["reason"] == "FailedScheduling")
    assert event["involvedObject"]["kind"] == "Pod"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (MAPS, {"metadata": {"name": "Not_A_Name"}}, 422),
        (MAPS, {"metadata": {"name": "a", "labels": {"k": "not a value"}}}, 422),
        (MAPS, {"metadata": {"name": "a"}, "data": {"key": 1}}, 400),
        (MAPS, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}, 400),
        (MAPS, {"metadata": {"name": "a", "namespace": "other"}}, 400),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": []}}, 422),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}}, 422),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": "c"}}, 400),
        (PODS, {"metadata": {"name": "a"}, "spec": {"containers": [CONTAINER, CONTAINER]}}, 422),
        (DEPLOYMENTS, workload("a", selector={"matchLabels": {"app": "b"}}), 422),
        (DEPLOYMENTS, workload("a", replicas="2"), 400),
        (DEPLOYMENTS, workload("a", replicas=-1), 422),
        (
            "/api/v1/namespaces/default/services",
            {
                "metadata": {"name": "a"},
                "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            },
            422,
        ),
        ("/api/v1/namespaces/none/configmaps", {"metadata": {"name": "a"}}, 404),
    ],
)
def test_objects_are_checked(raw: Raw, path: str, body: dict, status: int) -> None:
    answer = raw.ask("POST", path, body)
    assert answer.status == status, answer
    assert answer.body["kind"] == "Status"


def test_a_field_that_is_not_in_the_schema_is_dropped(raw: Raw) -> None:
    body = {"metadata": {"name": "p"}, "spec": {"containers": [CONTAINER], "nonsense": 1}}
    assert "nonsense" not in raw.make(PODS, body)["spec"]


def test_a_node_port_that_is_taken(raw: Raw) -> None:
    services = "/api/v1/namespaces/default/services"
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 31414}]}
    raw.make(services, {"metadata": {"name": "a"}, "spec": spec})
    refused = raw.ask("POST", services, {"metadata": {"name": "b"}, "spec": spec})
    assert refused.status == 422
    assert "provided port is already allocated" in refused.body["message"]


def test_custom_resources_are_served_once_they_are_defined(raw: Raw) -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {"size": {"type": "integer"}},
            }
        },
    }
    definition = {
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Cluster",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    things = "/apis/example.org/v1/things"
    assert raw.ask("GET", things).status == 404
    raw.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    raw.until(things, lambda found: found is not None)
    head = {"apiVersion": "example.org/v1", "kind": "Thing"}
    made = raw.make(things, {**head, "metadata": {"name": "a"}, "spec": {"size": 1, "x": 2}})
    assert made["spec"] == {"size": 1}
    for wrong in ({"size": "1"}, {}):
        answer = raw.ask("POST", things, {**head, "metadata": {"name": "b"}, "spec": wrong})
        assert answer.status == 422, answer
    assert json.dumps(raw.get(things)["items"][0]).count("Thing") == 1
    change = {"spec": {"size": 2}}
    assert raw.patch(f"{things}/a", change)["spec"] == change["spec"]
    kind = "application/strategic-merge-patch+json"
    assert raw.ask("PATCH", f"{things}/a", change, kind).status == 415
