"""Ansible's inventories as ours: groups, variables in Ansible's own order, and no secret."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import Run

from preflight import inventory
from preflight.core.model import Connection, Inventory, Node
from preflight.errors import FileError
from preflight.inventory import document
from preflight.inventory.ansible import arguments, ini, variables
from preflight.inventory.ansible.tree import expanded
from preflight.inventory.build import native
from preflight.inventory.draft import Remarks
from preflight.inventory.native import render
from preflight.inventory.problems import Problems

FIXTURES = Path(__file__).parent / "fixtures" / "inventories"
SECRET = "SECRET"
NO_NODES = "taken for no node of the cluster, by group, and left out"


def load(folder: Path, text: str, name: str = "hosts") -> Inventory:
    path = folder / name
    path.write_text(text, "utf-8")
    return inventory.load(path)


def told(folder: Path, text: str) -> list[str]:
    """What is said about `text`, without the file's name: `LINE: KEY: message`."""
    with pytest.raises(FileError) as caught:
        load(folder, text)
    assert SECRET not in str(caught.value)
    return [line.removeprefix(f"{folder / 'hosts'}:") for line in str(caught.value).splitlines()]


def only(folder: Path, settings: str) -> Node:
    """The node that one host line with these variables makes."""
    return load(folder, f"[workers]\nn1 ansible_host=10.0.0.1 {settings}\n").nodes[0]


# --- Ansible itself is the oracle ---


@pytest.mark.parametrize("folder", sorted((FIXTURES / "recorded").iterdir()), ids=lambda p: p.name)
def test_groups_and_variables_are_those_that_ansible_sees(folder: Path) -> None:
    """recorded.json is what `ansible-inventory --list` of ansible-core 2.19 said of inv.ini."""
    recorded = json.loads((folder / "recorded.json").read_text("utf-8"))
    path = str(folder / "inv.ini")
    problems = Problems(path)
    tree = ini.read(document.text_of(path, problems), problems)
    tree.check(problems)
    found = variables.of_hosts(tree, path, problems, Remarks(path))
    problems.raise_any()
    ours = {
        host: {k: v.given.text for k, v in own.items() if k != "ansible_group_priority"}
        for host, own in found.items()
    }
    assert ours == recorded["hosts"]
    assert {g: sorted(tree.members(g)) for g in recorded["groups"]} == recorded["groups"]


# --- whole inventories ---


def test_an_inventory_of_kubespray() -> None:
    loaded = inventory.load(FIXTURES / "kubespray" / "inventory.ini")
    common = {"identity_file": "~/.ssh/kubespray", "proxy_jump": "jump@203.0.113.5",
              "become": "sudo"}  # fmt: skip
    assert loaded.nodes == (
        Node("node1", ("10.3.0.1",), "203.0.113.11", user="ubuntu",
             labels={"role": "control-plane", "rack": "a"}, **common),
        Node("node2", ("10.3.0.2",), "203.0.113.12", user="ubuntu",
             labels={"role": "control-plane", "rack": "b"}, **common),
        Node("node3", ("10.3.0.3", "fd00:3::3"), "203.0.113.13", user="ubuntu", port=2222,
             labels={"role": "worker", "rack": "a"}, **common),
        Node("node4", ("10.3.0.4",), "node4", user="core", port=2222,
             labels={"role": "worker", "rack": "b"}, **common),
    )  # fmt: skip
    said = "\n".join(loaded.remarks)
    assert SECRET not in said
    assert "bastion: taken for no node of the cluster" in said
    assert "ansible_become_password: passwords are not copied" in said
    assert "all.yml:5: ansible_python_interpreter is a template" in said
    assert "inventory.ini:35: ansible_ssh_common_args: StrictHostKeyChecking is not copied" in said


def test_what_ansible_inventory_writes(tmp_path: Path) -> None:
    tree = {
        "_meta": {"hostvars": {"cp": {"ansible_host": "10.0.0.1", "ansible_port": 2222},
                               "w": {"ansible_host": "fd00::2", "ansible_become": True}}},
        "all": {"children": ["ungrouped", "masters", "workers"]},
        "masters": {"hosts": ["cp"]},
        "workers": {"hosts": ["w"]},
    }  # fmt: skip
    loaded = load(tmp_path, json.dumps(tree, indent=1), "list.json")
    assert loaded.nodes == (
        Node("cp", ("10.0.0.1",), "10.0.0.1", port=2222, labels={"role": "control-plane"}),
        Node("w", ("fd00::2",), "fd00::2", become="sudo", labels={"role": "worker"}),
    )


def test_yaml_with_nested_groups(tmp_path: Path) -> None:
    text = (FIXTURES / "hosts.yml").read_text("utf-8")
    text = text.replace("        w[01:02].example:\n", "")
    loaded = load(tmp_path, text, "hosts.yml")
    assert loaded.nodes == (
        Node("cp-1", ("10.0.1.11",), "10.0.1.11", user="ec2-user",
             proxy_jump="admin@bastion.example.com:2222", labels={"role": "control-plane"}),
        Node("w03.example", ("10.0.1.23",), "10.0.1.23", user="ec2-user",
             proxy_jump="admin@bastion.example.com:2222", become="sudo",
             identity_file="/keys/w03", labels={"role": "worker", "rack": "b"}),
    )  # fmt: skip
    with pytest.raises(FileError) as caught:
        inventory.load(FIXTURES / "hosts.yml")
    assert str(caught.value).splitlines() == [
        f"{FIXTURES / 'hosts.yml'}:12: w0{n}.example: ansible_host: no address is known, and names "
        "are not looked up: add node_ip=ADDRESS, the node's InternalIP"
        for n in (1, 2)
    ]


def test_a_group_called_nodes_is_a_group(tmp_path: Path) -> None:
    loaded = load(tmp_path, "nodes:\n  hosts:\n    a: {ip: 10.0.0.1}\n", "h.yml")
    assert loaded.nodes == (Node("a", ("10.0.0.1",), "a", labels={"role": "worker"}),)
    with pytest.raises(FileError, match="nodes: must be a list"):
        load(tmp_path, "nodes:\n  a: {address: 10.0.0.1}\n", "h.yml")


# --- one variable at a time ---


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", {}),
        ("ansible_user=ubuntu ansible_port=2222", {"user": "ubuntu", "port": 2222}),
        ("ansible_ssh_user=u ansible_ssh_port=22", {"user": "u", "port": 22}),
        ("ansible_ssh_private_key_file='~/.ssh/a key'", {"identity_file": "~/.ssh/a key"}),
        ("ansible_become=yes", {"become": "sudo"}),
        ("ansible_become=true ansible_become_method=ansible.builtin.sudo", {"become": "sudo"}),
        ("ansible_become=false", {}),
        ("ansible_become=true ansible_become_method=su", {}),
        ("ansible_python_interpreter=/usr/libexec/platform-python",
         {"python": "/usr/libexec/platform-python"}),
        ("ansible_python_interpreter=auto_silent", {}),
        ("ansible_connection=local", {"connection": Connection.LOCAL}),
        ("ansible_connection=paramiko", {}),
        ("ansible_connection=winrm", {"connection": Connection.NONE}),
        ("ip=10.3.0.1", {"addresses": ("10.3.0.1",)}),
        ("node_ip=10.3.0.1,fd00::1", {"addresses": ("10.3.0.1", "fd00::1")}),
        ("rack=a zone=z1 row=''", {"labels": {"role": "worker", "rack": "a", "zone": "z1"}}),
        ("ansible_user='{{ someone }}'", {}),
        ("ansible_ssh_common_args='-J a,b:2222'", {"proxy_jump": "a,b:2222"}),
        ("ansible_ssh_common_args='-o ProxyJump=a -F /x'", {"proxy_jump": "a"}),
        ("ansible_ssh_extra_args='-o UserKnownHostsFile=/kh -i /key -p 23 -l me'",
         {"known_hosts": "/kh", "identity_file": "/key", "port": 23, "user": "me"}),
        ("ansible_user=u ansible_ssh_common_args='-l other'", {"user": "u"}),
    ],
)  # fmt: skip
def test_one_host(tmp_path: Path, settings: str, expected: dict[str, object]) -> None:
    default = {"addresses": ("10.0.0.1",), "labels": {"role": "worker"}}
    wanted = Node("n1", host="10.0.0.1", **{**default, **expected})  # type: ignore[arg-type]
    assert only(tmp_path, settings) == wanted


@pytest.mark.parametrize(
    ("command", "jump"),
    [
        ("ssh -W %h:%p -q user@bastion", "user@bastion"),
        ("/usr/bin/ssh -q -W [%h]:%p -p 2222 bastion", "bastion:2222"),
        ("ssh -l user -W%h:%p bastion.example", "user@bastion.example"),
        ("ssh -W %h:%p -i key user@bastion", "user@bastion"),
        ("ssh bastion nc %h %p", None),
        ("nc -X 5 -x proxy:1080 %h %p", None),
        (f"sshpass -p {SECRET} ssh -W %h:%p user@bastion", None),
        ("ssh -W %h:%p $JUMP", None),
        ("ssh -W other:22 bastion", None),
        ("none", None),
    ],
)
def test_proxy_commands(command: str, jump: str | None) -> None:
    found = arguments.read(f"-o ProxyCommand='{command}'")
    assert found.proxy_jump == jump
    assert bool(found.told) is (jump is None and command != "none") or "-i" in command
    assert SECRET not in "".join(found.told)


@settings(deadline=None)
@given(st.lists(st.sampled_from(
    ["-o", "ProxyCommand=ssh -W %h:%p b", "-oProxyJump=x", "-J", "-i", "k", "'", '"', "-", "--",
     "-p", "ssh", "-W", "%h:%p", "=", "-oX=SECRET", "SECRET"]), max_size=8))  # fmt: skip
def test_any_arguments_are_read(words: list[str]) -> None:
    found = arguments.read(" ".join(words))
    assert SECRET not in "".join(found.told)


def test_passwords_stay_where_they_are(tmp_path: Path) -> None:
    keys = ("ansible_password", "ansible_ssh_pass", "ansible_become_password",
            "ansible_become_pass", "ansible_sudo_pass", "vault_of_mine")  # fmt: skip
    line = " ".join(f"{key}={SECRET}-{i}" for i, key in enumerate(keys))
    loaded = load(tmp_path, f"n1 ansible_host=10.0.0.1 {line}\n")
    out = render(loaded, loaded.remarks)
    assert SECRET not in repr(loaded) + out
    assert all(f"{key}: passwords are not copied" in out.replace("\n# ", " ") for key in keys[:-1])


def test_vaults_are_told_and_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "group_vars"
    folder.mkdir()
    (folder / "all.yml").write_text(f"$ANSIBLE_VAULT;1.1;AES256\n{SECRET}\n", "utf-8")
    (folder / "workers").mkdir()
    (folder / "workers" / "a.yml").write_text(
        "ansible_user: !vault |\n  x\nip: 10.3.0.1\n", "utf-8"
    )
    (folder / "workers" / "b.txt").write_text(f"{{ {SECRET}", "utf-8")
    loaded = load(tmp_path, "[workers]\nn1 ansible_host=203.0.113.1\n")
    assert (loaded.nodes[0].address, loaded.nodes[0].user) == ("10.3.0.1", None)
    assert any("encrypted with Ansible Vault: not read" in text for text in loaded.remarks)
    assert any("ansible_user is encrypted: not used" in text for text in loaded.remarks)


# --- which hosts are nodes, and in which roles ---


def test_hosts_that_are_no_nodes(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "localhost ansible_connection=local\nx ansible_host=10.0.0.9\n[bastion]\n"
        "b ansible_host=10.0.0.8\n[masters]\nm ansible_host=10.0.0.1\n[storage]\n"
        "s ansible_host=10.0.0.2\n",
    )
    assert [node.name for node in loaded.nodes] == ["x", "m", "s"]
    assert loaded.remarks == (f"{tmp_path / 'hosts'}: localhost, b: {NO_NODES}",)


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("kube-master", "control-plane"), ("kube_control_plane etcd kube_node", "control-plane"),
        ("etcd", "etcd"), ("kube_node etcd", "worker"), ("agent", "worker"), ("gpu", None),
    ],
)  # fmt: skip
def test_roles(tmp_path: Path, groups: str, role: str | None) -> None:
    sections = "".join(f"[{group}]\nn1\n" for group in groups.split())
    (node,) = load(tmp_path, f"n1 ansible_host=10.0.0.1\n{sections}").nodes
    assert node.labels.get("role") == role


# --- what is wrong ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a:b]\nx\n", ["1: the section: is none of [group], [group:children] and [group:vars]"]),
        ("[a]\nn1 ip=10.0.0.1 SECRET\n", ["2: [a]: after the host's name comes key=value"]),
        ("[a]\nn1 ansible_password='SECRET\n", ["2: [a]: has a quote that does not end"]),
        ("[a:vars]\nansible_password SECRET\n", ["2: [a:vars]: takes key=value, one on a line",
                                                 '1: [a:vars]: there is no group "a"']),
        ("[a:children]\nb\n[c]\nx\n", ['2: [a:children]: there is no group "b"; write [b] for it']),
        ("[a:children]\nb\n[b:children]\na\n", ["2: a.children: b contains a",
                                               "4: b.children: a contains b"]),
        ("[a]\nn[5:1]\n", ["2: [a]: has a range whose end is before its start"]),
        ("[a]\nn[1:99999999]\n", ["2: [a]: stands for more than 10,000 hosts"]),
        ("[a]\nn[1:9999][1:9999]\n", ["2: [a]: stands for more than 10,000 hosts"]),
        ("[a]\nn1 ansible_host=10.0.0.1 ansible_port=SECRETx\n".replace("SECRET", "9"),
         ['2: n1: ansible_port: "9x" is not a port; write a number from 1 to 65535']),
        ("[a]\nn1 ip=10.0.0.1/24\n", ['2: n1: ip: "10.0.0.1/24" is not an IPv4 or IPv6 address']),
        ("[a]\nn1 ansible_host=10.0.0.1\nn2 ansible_host=10.0.0.1\n",
         ["3: n2: ansible_host: is that of n1 (line 2) too; each node has its own"]),
        ("[a]\nn1 ansible_host=name.example\n", ["2: n1: ansible_host: no address is known"]),
        ("[a]\nn1 ip={{address}}\n", ["2: n1: ansible_host: no address is known"]),
        ("[a]\na ip=10.0.0.1 ansible_connection=local\nb ip=10.0.0.2 ansible_connection=local\n",
         ["3: host: only one node can be this machine, and a (line 2) is"]),
        ("[bastion]\nb ansible_host=10.0.0.1\n", ["1: the inventory: names no host"]),
        ("all: {hosts: {n1: [SECRET]}}\n", ["1: all.hosts.n1: must be a mapping of variables"]),
        ("all: {hosts: SECRET}\n", ["1: all.hosts: must be a mapping of hosts"]),
        ("all:\n  host: {n1: {}}\n", ["2: all.host: is none of hosts, children, vars"]),
        ("all: {children: {a: {children: {a: {}}}}}\n", ["1: a.children: a contains a"]),
    ],
)  # fmt: skip
def test_a_wrong_inventory_is_told_by_line_and_key(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    found = told(tmp_path, text)
    for one in says:
        assert any(line.startswith(one) for line in found), found


def test_a_wrong_file_beside_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    beside = tmp_path / "host_vars" / "n1.yml"
    beside.write_text("ip: 10.0.0.300\n", "utf-8")
    with pytest.raises(FileError) as caught:
        load(tmp_path, "[a]\nn1\n")
    assert str(caught.value).startswith(f'{beside}:1: n1: ip: "10.0.0.300" is not an IPv4')
    beside.write_text(f"- {SECRET}\n", "utf-8")
    with pytest.raises(FileError, match=r"n1\.yml:1: the file: must be a mapping of variables"):
        load(tmp_path, "[a]\nn1 ip=10.0.0.1\n")


# --- ranges, and anything at all ---


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 40), st.integers(1, 5), st.integers(1, 4))
def test_numbered_ranges(first: int, more: int, step: int, width: int) -> None:
    last = first + more
    low, high = str(first).zfill(width), str(last).zfill(width)
    if low.startswith("0") and len(low) != len(high):
        with pytest.raises(ValueError, match="one width"):
            list(expanded(f"n[{low}:{high}:{step}].x"))
        return
    padded = len(low) if low.startswith("0") else 0
    expected = [f"n{str(i).zfill(padded)}.x" for i in range(first, last + 1, step)]
    assert list(expanded(f"n[{low}:{high}:{step}].x")) == expected


PARTS = st.sampled_from(
    ["n1", "n[1:3]", "[a]", "[a:children]", "[a:vars]", "[b]", "a", "b", "x=1", "ansible_host=",
     "10.0.0.1", "ip=10.0.0.2", "ansible_connection=local", "'", '"', " ", "\n", "\n", "#", ":",
     "[", "]", "::1", "{{", "=", "\t", "ansible_ssh_common_args='-J x'", "all:", "hosts:", "  ",
     "!vault x", "- ", "é", "\u2028", "nodes:"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, max_size=25).map("".join))
def test_any_text_is_an_inventory_or_an_error_of_the_files(folder: Path, text: str) -> None:
    path = folder / "hosts"
    path.write_text(text, "utf-8")
    said = str(path)
    try:
        loaded = inventory.load(path)
    except FileError as caught:
        said = str(caught)
    else:
        again = native(document.parse(render(loaded), Problems("x")), "x", Problems("x"))
        assert again.nodes == loaded.nodes
    assert said.startswith(str(path))
    assert said.replace("\n", "").isprintable()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ansible")


def test_import_writes_what_check_reads(tmp_path: Path, cli: Run) -> None:
    source, out = FIXTURES / "kubespray" / "inventory.ini", tmp_path / "nodes.yaml"
    done = cli("inventory", "import", source, "-o", out)
    assert (done.returncode, done.stdout) == (0, "")
    assert SECRET not in done.stderr + out.read_text("utf-8")
    assert inventory.load(out).nodes == inventory.load(source).nodes
    for file in (source, out):
        checked = cli("inventory", "check", file)
        assert checked.returncode == 0
        assert "4 nodes; probes geneve, health, echo; ordered pairs: 12 over ipv4" in checked.stdout
