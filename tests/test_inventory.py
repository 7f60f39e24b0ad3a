"""The inventory file: what it means, and what is said about one that is wrong."""

import json
import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from preflight import inventory
from preflight.cli.inventory import app
from preflight.core.model import (
    BUILT_IN_PROBES,
    ECHO,
    GENEVE,
    HEALTH,
    Connection,
    Family,
    Inventory,
    Node,
    Probe,
    ProbeKind,
    Protocol,
    Severity,
)
from preflight.errors import ExitCode, FileError
from preflight.inventory import document, fields

EXAMPLES = sorted((Path(__file__).parent.parent / "inventory").glob("*.yaml"))


@pytest.fixture(params=["CSafeLoader", "SafeLoader"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML's two parsers word and place some things differently: both must do."""
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, request.param))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nodes.yaml"


def load(file: Path, text: str) -> Inventory:
    file.write_bytes(text.encode())
    return inventory.load(file)


def problems(file: Path, text: str) -> list[str]:
    """What is said about `text`, without the file's name: `LINE: KEY: message`."""
    with pytest.raises(FileError) as caught:
        load(file, text)
    assert caught.value.exit_code == ExitCode.USAGE
    lines = str(caught.value).split("\n")
    assert all(line.startswith(f"{file}:") and line.isprintable() for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def one_node(keys: str) -> str:
    return f"nodes:\n- {{name: a, address: 10.0.0.1, {keys}}}\n"


# --- what a good file means ---


def test_every_key_of_a_node(file: Path) -> None:
    loaded = load(
        file,
        """
defaults: {user: ubuntu, port: 22, identity_file: ~/.ssh/id_ed25519, become: sudo}
probes: [geneve, {name: vxlan, protocol: udp, port: 8472, severity: recommended}]
nodes:
  - name: cp-1
    address: [10.0.1.11, 'fd00:0::b']
    host: cp-1.example.internal
    connection: local
    user: root
    port: 2222
    identity_file: /keys/one
    known_hosts: ~/.ssh/kh
    proxy_jump: admin@bastion:2222,[2001:db8::1]:22
    become: null
    python: /usr/libexec/platform-python
    labels: {rack: a, node-role.kubernetes.io/control-plane: ""}
    cluster: prod
  - name: w-1
    address: 10.0.1.21
""",
    )
    assert loaded == Inventory(
        str(file),
        (
            Node(
                name="cp-1",
                addresses=("10.0.1.11", "fd00::b"),
                host="cp-1.example.internal",
                connection=Connection.LOCAL,
                user="root",
                port=2222,
                identity_file="/keys/one",
                known_hosts="~/.ssh/kh",
                proxy_jump="admin@bastion:2222,[2001:db8::1]:22",
                become=None,
                python="/usr/libexec/platform-python",
                labels={"rack": "a", "node-role.kubernetes.io/control-plane": ""},
                cluster="prod",
            ),
            Node(
                name="w-1",
                addresses=("10.0.1.21",),
                host="10.0.1.21",
                user="ubuntu",
                port=22,
                identity_file="~/.ssh/id_ed25519",
                become="sudo",
            ),
        ),
        (
            GENEVE,
            Probe("vxlan", ProbeKind.VXLAN, Protocol.UDP, 8472, Severity.RECOMMENDED),
        ),
    )


def test_what_is_left_out(file: Path) -> None:
    loaded = load(file, "nodes: [{name: a, address: 10.0.0.1}]")
    assert loaded.nodes == (Node("a", ("10.0.0.1",), "10.0.0.1"),)
    assert loaded.probes == tuple(BUILT_IN_PROBES.values())


@pytest.mark.parametrize("written", ["null", "false", "no", ""])
def test_a_node_takes_a_default_away(file: Path, written: str) -> None:
    text = f"""
defaults: {{become: sudo, user: u, proxy_jump: b, connection: none}}
nodes:
- name: a
  address: 10.0.0.1
  become: {written}
  user: null
  proxy_jump:
"""
    node = load(file, text).nodes[0]
    assert (node.become, node.user, node.proxy_jump) == (None, None, None)
    assert node.connection is Connection.NONE


@pytest.mark.usefixtures("parser")
def test_anchors_and_merge_keys(file: Path) -> None:
    loaded = load(
        file,
        """
nodes:
- &first {name: a, address: 10.0.0.1, user: u, labels: &l {rack: a, role: =}}
- {<<: *first, name: b, address: 10.0.0.2, labels: {<<: *l, rack: b}}
- {<<: [{user: v}, *first], name: &n c, address: 10.0.0.3, cluster: *n}
""",
    )
    a, b, c = loaded.nodes
    assert (a.user, b.user, c.user) == ("u", "u", "v")
    assert b.labels == {"rack": "b", "role": "="}
    assert c.cluster == "c"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffnodes:\r\n- name: a\r\n  address: 10.0.0.1\r\n",
        '{"nodes": [{"name": "a", "address": "10.0.0.1"}]}',
        "%YAML 1.1\n---\nnodes:\n- {name: !!str a, address: [10.0.0.1]}\n...\n",
        "defaults:\nnodes:\n- {name: a, address: 10.0.0.1, labels: , host: , cluster: null}",
    ],
)
@pytest.mark.usefixtures("parser")
def test_other_ways_to_write_the_same(file: Path, text: str) -> None:
    assert load(file, text).nodes == (Node("a", ("10.0.0.1",), "10.0.0.1"),)


def test_several_nodes_behind_one_host(file: Path) -> None:
    text = """nodes:
- {name: a, address: 10.0.0.1, host: gate, port: 2201}
- {name: b, address: 10.0.0.2, host: gate, port: 2201}
"""
    assert [node.host for node in load(file, text).nodes] == ["gate", "gate"]


# --- one wrong value ---


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.0.1.300", '"10.0.1.300" is not an IPv4 or IPv6 address'),
        ("10.0.0.1/24", "write 10.0.0.1 without the prefix length"),
        ("10.0.0.1:22", "write it without brackets or a port"),
        ('"[fd00::1]"', "write it without brackets or a port"),
        ("cp-1.example.com", "write the address here, and a name for SSH as host:"),
        ("10.0.0.1, fd00::1", "write several as a list"),
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("169.254.1.1", "a link-local address"),
        ("fe80::1", "a link-local address"),
        ("fd00::1%eth0", "has a zone"),
        ("fe80::1%eth0", "has a zone"),
        ("224.0.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
        ("0.0.0.0", "the unspecified address"),
        ('"::"', "the unspecified address"),
        ("255.255.255.255", "the broadcast address"),
        ("::ffff:10.0.0.1", "is an IPv4 address; write 10.0.0.1"),
        ("10.1", '"10.1" is not an IPv4 or IPv6 address'),
        ("010.0.0.1", '"010.0.0.1" is not an IPv4 or IPv6 address'),
        ("[]", "is empty; write the address that Kubernetes uses"),
        ("null", "has no value"),
        ("{a: b}", "is a mapping; write a single value"),
        ("[[10.0.0.1]]", "is a list; write a single value"),
        ("[10.0.0.1, 10.0.0.1]", "10.0.0.1 is a second IPv4 address (10.0.0.1 is the first)"),
        ("[fd00::1, fd00::2]", "fd00::2 is a second IPv6 address (fd00::1 is the first)"),
    ],
)
def test_addresses_that_cannot_be_probed(file: Path, address: str, message: str) -> None:
    [found] = problems(file, f"nodes:\n- name: a\n  address: {address}\n")
    assert re.match(r"3: nodes\[0\]\.address(\[\d\])?: ", found)
    assert message in found


def test_an_address_that_yaml_takes_for_a_number(file: Path) -> None:
    loaded = load(file, "nodes: [{name: a, address: 2001:10:20:30:40:50:1:2}]")
    assert loaded.nodes[0].address == "2001:10:20:30:40:50:1:2"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("host: 12", 'host: 12 is a number to YAML; put it in quotes: "12"'),
        ("host: root@b", 'host: "root@b": write "host: b" and "user: root" apart'),
        ("host: b:22", 'host: "b:22" is not a host name or address; a port goes into port:'),
        ("host: '[fd00::1]:22'", "write the address without brackets, and port: apart"),
        ("host: ssh://b", 'host: "ssh://b" is not a host name or address'),
        ("host: -oProxyCommand=x", 'host: "-oProxyCommand=x" is not a host name or address'),
        ("host: a b", 'host: "a b" has a space in it'),
        ("user: 1000", "user: 1000 is a number to YAML"),
        ("user: -l", 'user: "-l" is not a login name'),
        ("user: ''", "user: is empty; write a value or leave the key out"),
        ("port: 0", 'port: "0" is not a port; write a number from 1 to 65535'),
        ("port: 65536", 'port: "65536" is not a port'),
        ("port: 022", 'port: "022" is not a port'),  # octal to YAML
        ("port: 0x16", 'port: "0x16" is not a port'),
        ("port: 1:30", 'port: "1:30" is not a port'),  # base 60 to YAML
        ("port: 22.0", 'port: "22.0" is not a port'),
        ("port: ssh", 'port: "ssh" is not a port'),
        ("port: '22'", 'port: "22" is text to YAML; write it without quotes'),
        ("port: [22]", "port: is a list; write a single value"),
        ("become: yes", 'become: "yes" is not known; write "sudo", or null for none'),
        ("become: doas", 'become: "doas" is not known'),
        ("connection: paramiko", 'connection: "paramiko" is not known; write one of: ssh, local,'),
        ("connection: null", "connection: has no value; write ssh, local, kubernetes, none"),
        ("python: python3", 'python: "python3" is not an absolute path'),
        ("python: 3.11", 'python: "3.11" is not an absolute path'),
        ("python: '/usr/bin/python3\\n'", None),
        ('python: "/usr/bin/python3\\n"', "holds a line break or an invisible character"),
        ("identity_file: ~/.ssh/id.pub", 'is the public half; write "~/.ssh/id"'),
        ("identity_file: [a, b]", "identity_file: is a list; write a single value"),
        ("proxy_jump: 'a,,b'", 'proxy_jump: "" is no jump host; write bastion or admin@bastion:22'),
        ("proxy_jump: 'b:ssh'", 'proxy_jump: "b:ssh" is no jump host'),
        ("proxy_jump: 'b:70000'", 'proxy_jump: "b:70000": 70000 is not a port'),
        ("proxy_jump: 'fd00::1'", 'proxy_jump: "fd00::1" is no jump host'),
        ("proxy_jump: '-oX=y'", 'proxy_jump: "-oX=y" is no jump host'),
        ("labels: [a]", "labels: must be a mapping such as {rack: a}"),
        ("labels: {rack: 1}", 'labels.rack: 1 is a number to YAML; put it in quotes: "1"'),
        ("labels: {rack: yes}", "labels.rack: yes is a yes/no value to YAML"),
        ("labels: {rack: }", 'labels.rack: has no value; write ""'),
        ("labels: {1: a}", 'labels.1: 1 is a number to YAML; put it in quotes: "1"'),
        ("labels: {a=b: c}", 'labels.a=b: "a=b" is no label'),
        ("labels: {[a]: b}", "labels: holds a key that is no text"),
        ("cluster: 2024-01-01", "cluster: 2024-01-01 is a date to YAML"),
        ("adress: x", 'adress: unknown key; did you mean "address"?'),
        ("identity-file: x", 'identity-file: unknown key; did you mean "identity_file"?'),
        ("zzz: x", "zzz: unknown key; known here: name, address, host, labels, cluster,"),
        ('"\\u2028": x', r'"\u2028": unknown key'),
        ("'': x", '"": unknown key'),
        ("host: !secret x", "host: the tag !secret is not known here; remove it"),
        ("labels: !!omap [a: b]", "labels: the tag tag:yaml.org,2002:omap is not known here"),
        ("host: *no", "host: *no has no anchor above it; write &no where it is set"),
        ("labels: &l {a: *l}", "labels.a: *l stands inside its own anchor &l"),
        ("<<: x", "<<: takes a mapping (as *anchor) or a list of mappings"),
        ("<<: [{user: a}, x]", "<<: takes a mapping (as *anchor) or a list of mappings"),
    ],
)
@pytest.mark.usefixtures("parser")
def test_wrong_values(file: Path, keys: str, message: str | None) -> None:
    if message is None:
        assert load(file, one_node(keys))
        return
    found = problems(file, one_node(keys))
    assert len(found) == 1
    assert found[0].startswith("2: nodes[0]")
    assert message in found[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no", 'no is a yes/no value to YAML; put it in quotes: "no"'),
        ("12", '12 is a number to YAML; put it in quotes: "12"'),
        ("1.5", "1.5 is a decimal number to YAML"),
        ("", "has no value"),
        ("''", "is empty"),
        ("a b", '"a b" has a space in it'),
        ('"a\\u00a0b"', r'"a\xa0b" holds a line break or an invisible character'),
        ('"a\\tb"', r'"a\tb" holds a line break or an invisible character'),
        ('"\\e[31mred"', r'"\x1b[31mred" holds a line break or an invisible character'),
        ("x" * 254, "is longer than 253 characters"),
    ],
)
def test_names_that_cannot_be_shown_or_typed(file: Path, name: str, message: str) -> None:
    found = problems(file, f"nodes:\n- address: 10.0.0.1\n  name: {name}\n")
    assert len(found) == 1
    assert found[0].startswith("3: nodes[0].name: ")
    assert message in found[0]


@pytest.mark.parametrize("name", ['"12"', "x" * 253, "[red]node", "köln-1", "節点", "a.b_c"])
def test_names_that_can(file: Path, name: str) -> None:
    text = f"nodes:\n- address: 10.0.0.1\n  name: '{name.strip(chr(34))}'\n"
    assert load(file, text).nodes[0].name == name.strip('"')


# --- the whole file ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", '1: is empty; an inventory has at least "nodes:"'),
        ("# nothing\n", "1: is empty"),
        ("[]", '1: the file: must be a mapping that begins with "nodes:"'),
        ("cp-1", "1: the file: must be a mapping"),
        ("defaults: {}", "1: nodes: is missing; write the nodes, each as {name: cp-1, address:"),
        ("\nnode: []", '2: node: unknown key; did you mean "nodes"?'),
        ("nodes:", "1: nodes: is empty"),
        ("nodes: []", "1: nodes: is empty"),
        ("nodes: {cp-1: 10.0.0.1}", "1: nodes: must be a list"),
        ("nodes:\n- cp-1", "2: nodes[0]: must be a mapping such as {name: cp-1, address: "),
        ("nodes:\n  -\n", "2: nodes[0]: must be a mapping"),
        ("nodes:\n- {name: a}", "2: nodes[0].address: is missing; write the address that"),
        ("nodes:\n- {address: 10.0.0.1}", "2: nodes[0].name: is missing"),
        (
            "nodes: !!set {a}",
            "1: nodes: the tag tag:yaml.org,2002:set is not known here; remove it",
        ),
        ("nodes: &n [*n]", "1: nodes[0]: *n stands inside its own anchor &n"),
        ("defaults: [a]\n" + one_node(""), "1: defaults: must be a mapping such as"),
        (
            "defaults: {labels: {}}\n" + one_node(""),
            "1: defaults.labels: belongs to a node, not to all; write it under nodes",
        ),
        (
            "defaults: {port: x}\n" + one_node("") + "- {name: b, address: 10.0.0.2}\n",
            "1: defaults",
        ),
        ("nodes: []\nnodes: []", "2: nodes: is given twice, first on line 1"),
        (one_node("name: b"), "2: nodes[0].name: is given twice, first on line 2"),
    ],
)
@pytest.mark.usefixtures("parser")
def test_wrong_files(file: Path, text: str, message: str) -> None:
    found = problems(file, text)
    assert any(line.startswith(message) for line in found)
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes:\n\t- name: a", "2: not valid YAML: a tab where spaces belong; indent with spaces"),
        ("nodes:\n- @a", '2: not valid YAML: a value cannot begin with @; put it in "quotes"'),
        ("nodes:\n- name: a: b", "2: not valid YAML: mapping values are not allowed"),
        ("nodes: [\n  a\n", "2: not valid YAML: "),
        ('nodes:\n- name: "a\n', "2: not valid YAML: found unexpected end of stream"),
        ('nodes: "\\UFFFFFFFF"', ""),
        ('nodes: "\\U00FFFFFF"', ""),
        ("nodes: !<%ff> a", "1: not valid YAML: "),
        ("nodes: []\n---\nnodes: []", '2: a second document begins here; remove the "---"'),
        ("nodes:\n- a\x00", "2: the control character U+0000 does not belong in a text file"),
        ("nodes:\n- a\x1b[0m", "2: the control character U+001B does not belong in a text file"),
        ("nodes: " + "[" * 100_000, "1: nested more than 30 levels deep"),
        ("{a: " * 100_000, "1: nested more than 30 levels deep"),
        ("- " * 100_000, "1: nested more than 30 levels deep"),
    ],
)
@pytest.mark.usefixtures("parser")
def test_files_that_are_no_yaml(file: Path, text: str, message: str) -> None:
    found = problems(file, text)
    assert len(found) == 1
    assert found[0].startswith(message)
    assert "chr()" not in found[0]


def test_an_unclosed_bracket_is_told_with_its_beginning(file: Path) -> None:
    [found] = problems(file, "nodes:\n- {name: a, address: 10.0.0.1\n\n- {name: b}\n")
    assert found.startswith("4: not valid YAML: ")
    assert found.endswith("that begins on line 2")


def nested_aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def nested_merges(levels: int) -> str:
    lines = ["a0: &a0 {k0: x}"]
    lines += [f"a{i}: &a{i} {{<<: *a{i - 1}, k{i}: x}}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [nested_aliases(60), nested_merges(3000)])
@pytest.mark.usefixtures("parser")
def test_aliases_cannot_grow_without_bound(file: Path, text: str) -> None:
    [found] = problems(file, text)
    assert re.match(r"\d+: holds more than 1,000,000 values, counting aliases", found)


def test_a_file_of_nothing_but_problems_is_cut(file: Path) -> None:
    found = problems(file, "".join(f"{'x' * 50}{i}: 1\n" for i in range(11_000)))
    assert len(found) == 10_001
    assert found[-1] == " more than 10,000 problems; the rest is not told"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.yaml", "there is no such file"),
        ("", "is a directory; name the inventory file in it"),
        ("nodes.yaml/x", "cannot be read: Not a directory"),
        ("a\0b", "is not a file name: embedded null byte"),
    ],
)
def test_files_that_cannot_be_read(file: Path, path: str, message: str) -> None:
    file.touch()
    with pytest.raises(FileError, match=message + "$") as caught:
        inventory.load(f"{file.parent}/{path}")
    assert str(caught.value).isprintable()


def test_a_device_is_not_read_to_its_end() -> None:
    with pytest.raises(FileError, match="/dev/zero: is larger than 16 MiB"):
        inventory.load("/dev/zero")


@pytest.mark.parametrize("data", [b"nodes:\n- caf\xe9\n", "nodes:\n- \u00e9".encode("utf-16-le")])
def test_other_encodings(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(FileError) as caught:
        inventory.load(file)
    assert re.search(r"yaml:[12]: (is not UTF-8|the control character)", str(caught.value))


# --- between nodes ---


def test_everything_wrong_is_told_at_once_in_order(file: Path) -> None:
    text = """\
defaults:
  prot: 22
probes:
  - geneve
  - vxlan
nodes:
  - name: a
    address: 10.0.0.1
    connection: local
  - name: b
    address:
      - fd00::1
      - 10.0.0.1
    port: 99999
  - name: a
    address: fd00:0::1
    connection: local
  - name: d
    address: 10.0.1.300
    labels:
      rack: 1
"""
    expected = """\
2: defaults.prot: unknown key; did you mean "port"?
5: probes[1]: "vxlan" is not built in (geneve, health, echo are); write a probe of your own as \
{name: vxlan, protocol: udp, port: 8472}
13: nodes[1].address[1]: 10.0.0.1 is the address of nodes[0] (line 7) too; write another
14: nodes[1].port: "99999" is not a port; write a number from 1 to 65535
15: nodes[2].name: "a" is the name of nodes[0] (line 7) too; write another
16: nodes[2].address: fd00::1 is the address of nodes[1] (line 10) too; write another
17: nodes[2].connection: only one node can be this machine, and nodes[0] (line 7) is; write ssh
19: nodes[3].address: "10.0.1.300" is not an IPv4 or IPv6 address
21: nodes[3].labels.rack: 1 is a number to YAML; put it in quotes: "1"
"""
    assert problems(file, text) == expected.splitlines()


def test_only_one_node_is_this_machine_by_default_too(file: Path) -> None:
    text = "defaults: {connection: local}\n" + one_node("") + "- {name: b, address: 10.0.0.2}\n"
    [found] = problems(file, text)
    assert found.startswith("4: nodes[1].connection: only one node can be this machine")


def test_a_node_repeated_by_alias_is_a_duplicate(file: Path) -> None:
    found = problems(file, "nodes:\n- &a {name: a, address: 10.0.0.1}\n- *a\n")
    assert [re.sub(":.*", "", line.partition(": ")[2]) for line in found] == [
        "nodes[1].name",
        "nodes[1].address",
    ]


# --- probes ---


def probes(file: Path, written: str) -> tuple[Probe, ...]:
    return load(file, f"{one_node('')}probes: {written}\n").probes


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[echo, geneve]", (ECHO, GENEVE)),
        (
            "[{name: geneve, port: 6082}]",
            (Probe("geneve", ProbeKind.GENEVE, Protocol.UDP, 6082, Severity.REQUIRED),),
        ),
        (
            "[{name: health, protocol: tcp, severity: required}]",
            (Probe("health", ProbeKind.HEALTH, Protocol.TCP, 4240, Severity.REQUIRED),),
        ),
        (
            "[{name: echo, protocol: icmp, severity: required}]",
            (Probe("echo", ProbeKind.ECHO, Protocol.ICMP, None, Severity.REQUIRED),),
        ),
        ("[{name: health}]", (HEALTH,)),
        (
            "[{name: dns, protocol: udp, port: 53}, {name: dns-tcp, protocol: tcp, port: 53}]",
            (
                Probe("dns", ProbeKind.UDP, Protocol.UDP, 53, Severity.REQUIRED),
                Probe("dns-tcp", ProbeKind.TCP, Protocol.TCP, 53, Severity.REQUIRED),
            ),
        ),
    ],
)
def test_probes(file: Path, written: str, expected: tuple[Probe, ...]) -> None:
    assert probes(file, written) == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "probes: is empty; write names such as [geneve, health, echo]"),
        ("[]", "probes: is empty"),
        ("geneve", "probes: must be a list"),
        ("[[geneve]]", "probes[0]: must be a name or a mapping such as {name: NAME"),
        ("[6081]", 'probes[0]: 6081 is a number to YAML; put it in quotes: "6081"'),
        ("[dns]", 'probes[0]: "dns" is not built in (geneve, health, echo are)'),
        ("[geneve, geneve]", 'probes[1]: "geneve" is probes[0] (line 3) too'),
        ("[{protocol: udp, port: 1}]", "probes[0].name: is missing"),
        ("[{name: dns, port: 53}]", "probes[0].protocol: is missing; write udp or tcp"),
        ("[{name: dns, protocol: udp}]", "probes[0].port: is missing"),
        ("[{name: dns, protocol: sctp, port: 1}]", 'probes[0].protocol: "sctp" is not known'),
        ("[{name: dns, protocol: icmp, port: 1}]", 'only the probe "echo" is icmp'),
        ("[{name: dns, protocol: udp, port: 0}]", 'probes[0].port: "0" is not a port'),
        ("[{name: DNS, protocol: udp, port: 1}]", 'probes[0].name: "DNS" is not a probe\'s name'),
        ("[{name: d, protocol: udp, port: 1, severity: high}]", 'severity: "high" is not known'),
        ("[{name: d, protocol: udp, ports: 1}]", 'ports: unknown key; did you mean "port"?'),
        ("[{name: vxlan, protocol: tcp, port: 1}]", "probes[0].protocol: VXLAN is udp"),
        ("[{name: geneve, protocol: tcp}]", "probes[0].protocol: geneve is udp"),
        ("[{name: health, protocol: udp}]", "probes[0].protocol: health is tcp"),
        ("[{name: echo, port: 7}]", "probes[0].port: echo has no port; leave the key out"),
        ("[{name: echo, protocol: udp}]", "probes[0].protocol: echo is icmp; leave the key out"),
        (
            "[geneve, {name: x, protocol: udp, port: 6081}]",
            "probes[1]: udp port 6081 is probed by probes[0] (line 3) too; keep one",
        ),
        (
            "[{name: x, protocol: tcp, port: 4240}, health]",
            "probes[1]: tcp port 4240 is probed by probes[0] (line 3) too; keep one",
        ),
    ],
)
def test_wrong_probes(file: Path, written: str, message: str) -> None:
    found = problems(file, f"{one_node('')}probes: {written}\n")
    assert len(found) == 1
    assert found[0].startswith("3: probes")
    assert message in found[0]


# --- what it makes to test ---


def nodes(*written: str) -> Inventory:
    """Nodes written as `name address[+address] [cluster]`."""
    made = []
    for one in written:
        name, addresses, *cluster = one.split()
        known = tuple(addresses.split("+"))
        made.append(Node(name, known, known[0], cluster=next(iter(cluster), None)))
    return Inventory("nodes.yaml", tuple(made), (GENEVE,))


def test_pairs_are_counted_per_family_and_cluster() -> None:
    counted = inventory.pair_counts(
        nodes(
            "a 10.0.0.1+fd00::1 x",
            "b 10.0.0.2+fd00::2 x",
            "c 10.0.0.3 x",
            "d 10.0.0.4 y",
            "e 10.0.0.5",
            "f 10.0.0.6",
        )
    )
    assert counted == {Family.IPV4: 6 + 2, Family.IPV6: 2}


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        (nodes("a 10.0.0.1", "b 10.0.0.2"), ""),
        (nodes("a 10.0.0.1+fd00::1", "b 10.0.0.2", "c fd00::3+10.0.0.3"), ""),
        (nodes("a 10.0.0.1 x", "b 10.0.0.2 x", "c fd00::1 y", "d fd00::2 y"), ""),
        (
            nodes("a 10.0.0.1", "b 10.0.0.2", "c fd00::1"),
            (
                "a, b (IPv4 only) and c (IPv6 only) share no address family: "
                "4 ordered pairs are not probed"
            ),
        ),
        (
            nodes("a 10.0.0.1 x", "b 10.0.0.2 x", "c 10.0.0.3 y", "d 10.0.0.4"),
            (
                'cluster "y" has one node, c, and so makes no pair\n'
                "d has no cluster: no pair is made with the nodes of one"
            ),
        ),
        (
            nodes(*(f"n{i} 10.0.0.{i}" for i in range(1, 8)), "six fd00::1"),
            (
                "n1, n2, n3, n4, n5 and 2 more (IPv4 only) and six (IPv6 only) "
                "share no address family: 14 ordered pairs are not probed"
            ),
        ),
    ],
)
def test_warnings(loaded: Inventory, expected: str) -> None:
    assert "\n".join(inventory.warnings(loaded)) == expected


def test_a_warning_where_nobody_can_send(file: Path) -> None:
    text = "defaults: {connection: none}\n" + one_node("") + "- {name: b, address: 10.0.0.2}\n"
    [found] = inventory.warnings(load(file, text))
    assert "--local NAME" in found


# --- preflight inventory check ---


def test_check_says_what_is_tested(file: Path) -> None:
    file.write_text(
        one_node("cluster: x") + "- {name: b, address: [10.0.0.2, fd00::2], cluster: x}\n"
        "- {name: c, address: 10.0.0.3}\n"
    )
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 0
    assert done.stdout == (
        f"{file}: 3 nodes; probes geneve, health, echo; ordered pairs: 2 over ipv4\n"
    )
    assert done.stderr == (
        f"{file}: warning: c has no cluster: no pair is made with the nodes of one\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (one_node(""), "nodes: one node makes no pair; write at least two"),
        (
            one_node("") + "- {name: b, address: fd00::1}\n",
            "nodes: no two nodes share a cluster and an address family: nothing to probe",
        ),
        (one_node("port: 0"), 'nodes[0].port: "0" is not a port'),
    ],
)
def test_check_refuses(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    done = CliRunner().invoke(app, ["check", str(file)])
    assert isinstance(done.exception, FileError)
    assert done.exception.exit_code == ExitCode.USAGE
    assert message in str(done.exception)
    assert done.stdout == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples(path: Path) -> None:
    loaded = inventory.load(path)
    assert inventory.pair_counts(loaded)
    done = CliRunner().invoke(app, ["check", str(path)])
    assert (done.exit_code, done.exception) == (0, None)
    documentation = re.compile(r"10\.|192\.0\.2\.|198\.51\.100\.|2001:db8:")
    assert all(documentation.match(a) for node in loaded.nodes for a in node.addresses)


def test_there_is_an_example_for_each_way_to_run() -> None:
    loaded = {path.stem: inventory.load(path) for path in EXAMPLES}
    assert set(loaded) == {"bare-metal", "dual-stack", "minimal", "one-sided"}
    assert any(node.proxy_jump and node.become for node in loaded["bare-metal"].nodes)
    assert len(inventory.pair_counts(loaded["dual-stack"])) == 2
    assert all(node.connection is Connection.NONE for node in loaded["one-sided"].nodes)


# --- whatever is in the file ---


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inventory") / "nodes.yaml"


def load_or_be_told(file: Path, data: bytes) -> None:
    """An inventory, or FileError with one printable line for each problem; nothing else."""
    file.write_bytes(data)
    try:
        loaded = inventory.load(file)
    except FileError as exc:
        for line in str(exc).split("\n"):
            assert line.isprintable()
            assert re.match(rf"{re.escape(str(file))}:(\d+:)? \S", line)
    else:
        assert loaded.nodes
        assert all(node.name and node.addresses and node.host for node in loaded.nodes)
        inventory.warnings(loaded)
        inventory.pair_counts(loaded)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
@example(data=b"\xff\xfe")
def test_any_bytes(scratch: Path, data: bytes) -> None:
    load_or_be_told(scratch, data)


WORDS = r"""nodes: |defaults: |probes: |name: |address: |labels: |become: |port: |host: |- |, |: |
? |&a |*a |<<: |! |!!int |!!str |---|...|[|]|{|}|'|"|\x|\UFFFFFFFF|#|%|>|=|@|no|12|~|1:30|10.0.0.1|
fd00::1|geneve|udp"""
PIECES = st.sampled_from(
    [*WORDS.replace("\n", "").split("|"), *"|\n\t\r\x85\u2028\ufeffé", "\n  ", "\n- "]
)


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join),
    head=st.sampled_from(["", "nodes:\n- {name: a, address: 10.0.0.1}\n"]),
)
def test_any_text(scratch: Path, text: str, head: str) -> None:
    load_or_be_told(scratch, (head + text).encode("utf-8", "surrogatepass"))


WORDS_FOR_KEYS = """nodes defaults probes name address host labels cluster connection user port
identity_file known_hosts proxy_jump become python protocol severity"""
KEYS = st.sampled_from(WORDS_FOR_KEYS.split())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.dates()
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.1", "fd00::1", "geneve", "vxlan", "udp", "sudo", "local", "a"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)
NODES = st.dictionaries(KEYS, TREES, max_size=6)


@settings(max_examples=300, deadline=None)
@given(
    tree=TREES
    | st.fixed_dictionaries(
        {"nodes": TREES | st.lists(NODES, max_size=4)},
        optional={"defaults": TREES | NODES, "probes": TREES | st.lists(NODES | SCALARS)},
    )
)
def test_any_yaml(scratch: Path, tree: Any) -> None:
    load_or_be_told(scratch, yaml.safe_dump(tree, allow_unicode=True).encode())


USABLE = st.one_of(
    st.integers(2**24, 2**32 - 2).map(IPv4Address),
    st.integers(2**120, 2**128 - 1).map(IPv6Address),
).filter(lambda a: not (a.is_loopback or a.is_link_local or a.is_multicast))
NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], codec="utf-8"), min_size=1, max_size=20
).filter(str.isprintable)


@settings(max_examples=100, deadline=None)
@given(
    written=st.lists(
        st.tuples(NAMES, USABLE), min_size=1, max_size=6, unique_by=(lambda n: n[0], lambda n: n[1])
    ),
    bad=st.none() | st.integers(0, 5),
)
def test_good_nodes_come_back_and_a_bad_one_is_found(
    scratch: Path, written: list[tuple[str, IPv4Address | IPv6Address]], bad: int | None
) -> None:
    lines = ["nodes:"]
    for name, address in written:
        # exploded: the file's spelling of an address is not the inventory's
        lines += [f"- name: {json.dumps(name, ensure_ascii=False)}"]
        lines += [f"  address: {address.exploded}"]
    if bad is None or bad >= len(written):
        scratch.write_text("\n".join(lines), encoding="utf-8")
        loaded = inventory.load(scratch)
        assert [(n.name, n.addresses) for n in loaded.nodes] == [(n, (str(a),)) for n, a in written]
        return
    lines[2 * bad + 2] += "/x"
    scratch.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(FileError) as caught:
        inventory.load(scratch)
    [found] = str(caught.value).split("\n")
    assert found.startswith(f"{scratch}:{2 * bad + 3}: nodes[{bad}].address: ")


@given(written=st.text(max_size=40))
@example(written="admin@bastion:22")
def test_a_jump_host_that_passes_has_a_name_and_a_port_that_fits(written: str) -> None:
    value = document.Scalar(1, written, document.Kind.TEXT)
    try:
        accepted = fields.proxy_jump(value)
    except fields.Invalid:
        return
    for hop in accepted.split(","):
        host, _, port = hop.rpartition("@")[2].partition(":") if "[" not in hop else ("x", "", "")
        assert host
        assert not port or 0 < int(port) < 65536
