"""A cluster's own word: its nodes as an inventory, and Cilium's configuration as probes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from inprocess import Done, Run
from kubeapi.raw import Raw, Server
from kubeapi.wire import Wire

from preflight import inventory

CONFIG_MAPS = "/api/v1/namespaces/kube-system/configmaps"
NODES = "/api/v1/nodes"
SPEC = Path(__file__).parent / "fixtures" / "specs" / "bare-metal.yaml"


def node(name: str, *addresses: str, **labels: str) -> dict[str, Any]:
    keys = {"role": "node-role.kubernetes.io/", "zone": "topology.kubernetes.io/zone"}
    told = {
        (keys["role"] + value if key == "role" else keys[key]): "" if key == "role" else value
        for key, value in labels.items()
    }
    listed = [{"type": "InternalIP", "address": a} for a in addresses]
    return {
        "metadata": {"name": name, "labels": told},
        "spec": {},
        "status": {"addresses": [*listed, {"type": "Hostname", "address": name}]},
    }


def config(raw: Raw, **data: str) -> None:
    keys = {key.replace("_", "-"): value for key, value in data.items()}
    raw.make(CONFIG_MAPS, {"metadata": {"name": "cilium-config"}, "data": keys})


@pytest.fixture
def cluster(kube: Server, raw: Raw, cli: Run) -> Run:
    """Three nodes, and a way to run preflight with the kubeconfig of a user."""
    raw.make(NODES, node("cp", "10.0.0.1", "fd00::1", role="control-plane", zone="z1"))
    raw.make(NODES, node("w1", "10.0.0.11", zone="z2"))
    raw.make(NODES, node("w2", "10.0.0.12"))

    def with_kubeconfig(*arguments: object, user: str = "admin") -> Done:
        done = cli(*(kube.kubeconfig(user) if a == "KUBECONFIG" else a for a in arguments))
        assert "token-of" not in done.stdout + done.stderr
        return done

    return with_kubeconfig


def probes(plan: str) -> list[str]:
    """`geneve UDP 6081`, from a dry run."""
    lines = iter(plan.splitlines())
    next(line for line in lines if line.startswith("  probe "))
    told = []
    for line in lines:
        if not line.strip() or " only " in line:
            break
        told.append(" ".join(line.split()[:3]))
    return told


def test_the_clusters_nodes_as_an_inventory(cluster: Run, tmp_path: Path) -> None:
    out = tmp_path / "nodes.yaml"
    done = cluster("inventory", "import", "KUBECONFIG", "-o", out, "--user", "ec2-user")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(out.read_text("utf-8")) == {
        "defaults": {"user": "ec2-user"},
        "nodes": [
            {"name": "cp", "address": ["10.0.0.1", "fd00::1"],
             "labels": {"role": "control-plane", "zone": "z1"}},
            {"name": "w1", "address": "10.0.0.11", "labels": {"role": "worker", "zone": "z2"}},
            {"name": "w2", "address": "10.0.0.12", "labels": {"role": "worker"}},
        ],
    }  # fmt: skip
    assert len(inventory.load(out).nodes) == 3


def test_ports_follow_from_the_configmap(cluster: Run, raw: Raw) -> None:
    config(raw, tunnel_protocol="geneve", tunnel_port="7000", enable_wireguard="true",
           cluster_health_port="4241")  # fmt: skip
    done = cluster("check", "--kubeconfig", "KUBECONFIG", "--phase", "after", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert probes(done.stdout) == [
        "geneve UDP 7000", "wireguard UDP 51871", "health TCP 4241", "echo ICMP echo",
    ]  # fmt: skip
    assert "the probes follow from cluster test-cluster: GENEVE on UDP 7000" in done.stdout
    assert "--phase after" not in done.stdout


def test_a_cluster_without_cilium(cluster: Run) -> None:
    done = cluster("check", "--kubeconfig", "KUBECONFIG", "--dry-run")
    assert done.returncode == 0
    assert probes(done.stdout) == ["geneve UDP 6081", "health TCP 4240", "echo ICMP echo"]
    assert "has no ConfigMap kube-system/cilium-config" in done.stdout


def test_spec_cluster_and_inventory_side_by_side(cluster: Run, raw: Raw, tmp_path: Path) -> None:
    config(raw, tunnel_protocol="vxlan", routing_mode="tunnel")
    file = tmp_path / "nodes.yaml"
    file.write_text(
        "probes: [geneve]\nnodes:\n- {name: cp, address: 10.0.0.9}\n"
        "- {name: w1, address: 10.0.0.11}\n- {name: gone, address: 10.0.0.99}\n",
        "utf-8",
    )
    done = cluster(
        "check", "-i", file, "--kubeconfig", "KUBECONFIG", "--cluster-spec", SPEC, "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "required: bare-metal.yaml and cluster test-cluster disagree: GENEVE on UDP 6081 there, VX",
        "required: the probes of nodes.yaml are not those that cluster test-cluster needs.",
        "required: cp: the address that was tested is not the cluster's InternalIP.",
        "- cp: 10.0.0.9 in nodes.yaml, 10.0.0.1 in cluster test-cluster",
        "recommended: w2 of cluster test-cluster is not in nodes.yaml, and so not tested.",
        "recommended: gone of nodes.yaml is not in cluster test-cluster.",
        "note: cluster test-cluster has Cilium already: --phase after also tests that it answers",
    ):
        assert text in done.stdout
    assert probes(done.stdout) == [
        "vxlan UDP 8472", "health TCP 4240", "echo ICMP echo", "geneve UDP 6081",
    ]  # fmt: skip


def grant(raw: Raw, user: str, *resources: str) -> None:
    rules = [
        {"apiGroups": ["", "cilium.io"], "resources": list(resources), "verbs": ["get", "list"]}
    ]
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    raw.make(f"{rbac}/clusterroles", {"metadata": {"name": "some"}, "rules": rules})
    group = "rbac.authorization.k8s.io"
    raw.make(
        f"{rbac}/clusterrolebindings",
        {
            "metadata": {"name": "some"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "some"},
            "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
        },
    )


def test_nodes_may_be_read_and_the_configmap_may_not(cluster: Run, raw: Raw) -> None:
    config(raw, tunnel_protocol="geneve")
    grant(raw, "viewer", "nodes")
    done = cluster("check", "--kubeconfig", "KUBECONFIG", "--dry-run", user="viewer")
    assert done.returncode == 0, done.stderr
    assert "note: Cilium's configuration could not be read: " in done.stdout
    assert probes(done.stdout) == ["geneve UDP 6081", "health TCP 4240", "echo ICMP echo"]


def test_the_configmap_may_be_read_and_nodes_may_not(
    cluster: Run, raw: Raw, tmp_path: Path
) -> None:
    config(raw, tunnel_protocol="vxlan")
    grant(raw, "viewer", "configmaps")
    file = tmp_path / "nodes.yaml"
    file.write_text("nodes:\n- {name: a, address: 10.0.0.9}\n- {name: b, address: 10.0.0.8}\n")
    with_own = cluster(
        "check", "-i", file, "--kubeconfig", "KUBECONFIG", "--dry-run", user="viewer"
    )
    assert with_own.returncode == 0, with_own.stderr
    assert "note: the inventory is not compared with the cluster's nodes: " in with_own.stdout
    assert "is not in cluster" not in with_own.stdout
    assert probes(with_own.stdout)[0] == "vxlan UDP 8472"
    alone = cluster("check", "--kubeconfig", "KUBECONFIG", "--dry-run", user="viewer")
    assert alone.returncode == 3
    assert alone.stdout == ""
    assert "nodes" in alone.stderr


def test_a_configuration_that_cilium_would_not_take(cluster: Run, raw: Raw) -> None:
    config(raw, tunnel_port="SECRET")
    done = cluster("check", "--kubeconfig", "KUBECONFIG", "--dry-run")
    assert done.returncode == 2
    assert done.stderr == (
        "preflight: cluster test-cluster: ConfigMap kube-system/cilium-config: tunnel-port: is not "
        "a port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "whose nodes? Name an inventory with -i, or a cluster with --kubeconfig"),
        (("--context", "x", "-i", "f"), "--context x: name the kubeconfig too"),
        (("--kubeconfig", "/nonexistent"), "/nonexistent"),
        (("--cluster-spec", "/nonexistent", "-i", "f"), "/nonexistent: there is no such file"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], says: str, cli: Run) -> None:
    done = cli("check", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_server_that_refuses_is_told_as_that(kube: Server, cli: Run) -> None:
    """And not as what was found out of the file on the way."""
    with Wire(kube.url) as wire:
        wire.down()
        done = cli("inventory", "import", kube.kubeconfig("admin", wire.url))
    assert done.returncode == 4
    assert done.stderr.rstrip().endswith("to read nodes: Connection refused")
