"""The EKS Anywhere cluster spec as a file: what is read of it, and what is said of a wrong one."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.core.cilium.eksa import counted, derive, inside_ranges
from preflight.core.model import Node
from preflight.errors import FileError
from preflight.spec import load

SPECS = Path(__file__).parent / "fixtures" / "specs"
NODES = (Node("a", ("10.0.0.1",), "a", labels={"role": "worker"}),)


def test_a_spec_file() -> None:
    spec = load(SPECS / "bare-metal.yaml")
    assert (spec.source, spec.name, spec.version) == ("bare-metal.yaml", "prod", (0, 22, 1))
    assert list(map(str, (*spec.pod_ranges, *spec.service_ranges))) == [
        "192.168.0.0/16", "10.96.0.0/12",
    ]  # fmt: skip
    assert spec.helm_values is None
    assert [(g.role, g.least, g.most, dict(g.selector)) for g in spec.groups] == [
        ("control-plane", 2, 2, {"type": "cp"}),
        ("worker", 2, 2, {"type": "worker"}),
    ]
    assert spec.users == ("ec2-user",)
    assert set(spec.addresses.values()) == {"10.10.50.100", "10.10.50.99"}
    assert load(SPECS / "helm-values.yaml").helm_values == {"hubble": {"enabled": True}}


SECRET_PORT = "{tunnelPort: SECRET}}}}}"
HEAD = "apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: Cluster\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": holds no EKS Anywhere cluster"),
        ("nodes: []\n", ": holds no EKS Anywhere cluster"),
        ("apiVersion: cluster.x-k8s.io/v1\nkind: Cluster\n", ": holds no EKS Anywhere cluster"),
        (f"{HEAD}---\n{HEAD}", ":5: holds more than one cluster"),
        (f"{HEAD}spec: {{clusterNetwork: {{cniConfig: {{kindnetd: {{}}}}}}}}\n",
         ":4: the cluster gets kindnetd, not Cilium"),
        (f"{HEAD}spec:\n  clusterNetwork:\n    pods:\n      cidrBlocks: [192.168.0.1/16]\n",
         ":7: spec.clusterNetwork.pods.cidrBlocks[0]: an address, not a range"),
        (f"{HEAD}spec: {{clusterNetwork: {{cniConfig: {{cilium: {{helmValues:\n  {SECRET_PORT}",
         ":5: spec.clusterNetwork.cniConfig.cilium.helmValues.tunnelPort: is not a port"),
        (f"{HEAD}spec:\n  clusterNetwork: {{cniConfig: {{cilium: {{helmValues: [SECRET]}}}}}}\n",
         ":5: spec.clusterNetwork.cniConfig.cilium.helmValues: is not a mapping"),
        (f"{HEAD}spec: {{clusterNetwork: {{services: {{cidrBlocks: 10.96.0.0/12}}}}}}\n",
         ":4: spec.clusterNetwork.services.cidrBlocks: is not a list of ranges"),
        (f"{HEAD}spec:\n  controlPlaneConfiguration: {{count: SECRET}}\n",
         ":5: spec.controlPlaneConfiguration.count: is not a number of machines"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_told_by_file_line_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(FileError) as caught:
        load(path)
    assert f"{path}{says}" in str(caught.value)
    assert "SECRET" not in str(caught.value)


# --- anything at all ---

SCALAR = st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(
    ["10.0.0.0/8", "v0.1.2", "a", "", "direct", "fd00::/8", "geneve"]
)  # fmt: skip
TREE = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "tunnelPort", "tunnelProtocol", "ipv4"]), inner)
    ),
    max_leaves=4,
)


def maybe(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Such a mapping, with any of these keys, or something else entirely."""
    return st.fixed_dictionaries({}, optional=keys) | TREE


MACHINES = maybe(
    count=TREE,
    name=TREE,
    machineGroupRef=maybe(kind=TREE, name=TREE),
    endpoint=maybe(host=TREE),
    autoscalingConfiguration=maybe(minCount=TREE, maxCount=TREE),
)
RANGES = maybe(cidrBlocks=st.lists(SCALAR, max_size=2) | TREE)
CILIUM = maybe(helmValues=TREE, routingMode=TREE, skipUpgrade=TREE)
SPEC = maybe(
    eksaVersion=TREE,
    controlPlaneConfiguration=MACHINES,
    externalEtcdConfiguration=MACHINES,
    workerNodeGroupConfigurations=st.lists(MACHINES, max_size=2) | TREE,
    clusterNetwork=maybe(
        pods=RANGES, services=RANGES, cni=TREE, cniConfig=maybe(cilium=CILIUM, kindnetd=TREE)
    ),
)
API = {"apiVersion": "anywhere.eks.amazonaws.com/v1alpha1"}
CLUSTER = st.fixed_dictionaries({"spec": SPEC}, optional={"metadata": maybe(name=TREE)})
MACHINE_CONFIG = st.fixed_dictionaries(
    {"spec": maybe(hardwareSelector=TREE, users=st.lists(maybe(name=TREE)), tinkerbellIP=TREE)}
)


@settings(max_examples=200, deadline=None)
@given(CLUSTER, MACHINE_CONFIG, TREE)
def test_any_spec_is_read_or_told(
    folder: Path, cluster: dict[str, Any], machine: dict[str, Any], other: Any
) -> None:
    path = folder / "cluster.yaml"
    documents = [
        {**cluster, **API, "kind": "Cluster"},
        {**machine, **API, "kind": "TinkerbellMachineConfig"},
        other,
    ]
    path.write_text("\n---\n".join(map(json.dumps, documents)), "utf-8")
    said = str(path)
    try:
        spec = load(path)
    except FileError as error:
        said = str(error)
    else:
        derive(spec)
        inside_ranges(spec)
        counted(spec, NODES, "nodes.yaml")
    assert all(line.startswith(str(path)) for line in said.splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")
