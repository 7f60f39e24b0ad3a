"""EKS Anywhere's hardware.csv as an inventory: the machines, their roles, and no secret."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import Run

from preflight import inventory
from preflight.core.model import Inventory
from preflight.errors import FileError
from preflight.inventory import hardware
from preflight.inventory.build import native
from preflight.inventory.document import parse
from preflight.inventory.draft import Remarks
from preflight.inventory.native import render
from preflight.inventory.problems import Problems
from preflight.runs.preparation import with_roles
from preflight.spec import load as load_spec

FIXTURES = Path(__file__).parent / "fixtures"
FILE = FIXTURES / "inventories" / "hardware.csv"
HEADER = "hostname,bmc_ip,bmc_username,bmc_password,mac,ip_address,netmask,labels,disk"
SECRET = "SECRET"


_AMONG = (
    "{}: 3 machines have type=worker and bare-metal.yaml asks for 2 (md-0): a spare is among them, "
    "which is known once the others have been taken"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "hardware.csv"
    path.write_text(text, "utf-8")
    return path


def test_machines_roles_and_labels() -> None:
    loaded = inventory.load(FILE)
    assert [(n.name, n.address, dict(n.labels)) for n in loaded.nodes][:3] == [
        ("eksa-cp01", "10.10.50.2", {"type": "cp", "rack": "a", "role": "control-plane"}),
        ("eksa-cp02", "10.10.50.3", {"type": "cp", "rack": "b", "role": "control-plane"}),
        ("eksa-wk01", "10.10.50.5", {"type": "worker", "rack": "a", "role": "worker"}),
    ]
    assert loaded.nodes[-1].labels == {}
    assert loaded.remarks == (
        f"{FILE}:1: bmc_ip, bmc_username, bmc_password: not read",
        f"{FILE}:7: no label type: no role is known; a spare, unless the cluster spec selects it",
    )
    assert SECRET not in repr(loaded)


def test_spares_by_the_spec() -> None:
    spec = load_spec(FIXTURES / "specs" / "bare-metal.yaml")
    told = with_roles(inventory.load(FILE), spec).remarks[-2:]
    assert told == (
        _AMONG.format(FILE),
        f"{FILE}: eksa-spare: no machine config of bare-metal.yaml selects it, so a spare",
    )


def test_the_specs_selectors_give_the_roles(tmp_path: Path) -> None:
    rows = "cp,,,,m,10.0.0.1,n,pool=blue,d\nw,,,,m,10.0.0.2,n,pool=green,d\n"
    text = (FIXTURES / "specs" / "bare-metal.yaml").read_text("utf-8")
    path = tmp_path / "spec.yaml"
    path.write_text(
        text.replace("type: cp", "pool: blue").replace("type: worker", "pool: green"), "utf-8"
    )
    known = with_roles(inventory.load(write(tmp_path, f"{HEADER}\n{rows}")), load_spec(path))
    assert [node.labels["role"] for node in known.nodes] == ["control-plane", "worker"]
    asks = "and spec.yaml asks for 2"
    assert known.remarks[-2:] == (
        f"{tmp_path / 'hardware.csv'}: 1 machine has pool=blue, {asks} (control-plane)",
        f"{tmp_path / 'hardware.csv'}: 1 machine has pool=green, {asks} (md-0)",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"\ufeff{HEADER}\r\nn1,,,,m,10.0.0.1,n,type=cp,d\r\n", ["n1"]),  # as Excel saves it
        (f"{HEADER}\n\nn1,,,,m,10.0.0.1,n,type=cp,d\n,,,,,,,,\n", ["n1"]),
        ('hostname,"mac",ip_address\n"n1",m,10.0.0.1\n', ["n1"]),
        ("id,IP_Address,gateway,mac,hostname,vendor,bmc_ip\n1,fd00::1,g,mac,n1,Dell,x\n", ["n1"]),
        (f'{HEADER}\nn1,,,"pa""ss,wo\nrd",m,10.0.0.1,n,type=cp,d\nn2,,,,m,10.0.0.2,n,,d\n',
         ["n1", "n2"]),
    ],
)  # fmt: skip
def test_variants(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert [node.name for node in inventory.load(write(tmp_path, text)).nodes] == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEADER}\n", ":1: names no machine"),
        ("hostname,mac,netmask\nn1,m,n\n", ":1: ip_address: is missing in the header"),
        ("hostname,hostname,mac,ip_address\na,b,m,10.0.0.1\n",
         ":1: hostname: is given twice in the header"),
        (f"{HEADER}\nn1,10.9.9.9,root,{SECRET},{SECRET},m,10.0.0.1,n,,d\n",
         ":2: the row: has 10 cells, the header 9; a cell with a comma in it"),
        (f"{HEADER}\nn1,10.9.9.9,root,m,{SECRET},,n,,d\n", ":2: ip_address: is no address"),
        (f"{HEADER}\nn1,,,x,m,{SECRET},n,,d\n", ":2: ip_address: is no address"),
        (f"{HEADER}\n{SECRET} x,,,,m,10.0.0.1,n,,d\n", ":2: hostname: is no name without spaces"),
        (f"{HEADER}\nn1,,,{SECRET},m,10.0.0.1,n,,d\nn1,,,,m,10.0.0.2,n,,d\n",
         ":3: hostname: is that of line 2 too"),
        (f"{HEADER}\nn1,,,{SECRET},m,10.0.0.1,n,,d\nn2,,,,m,10.0.0.1,n,,d\n",
         ":3: ip_address: is that of line 2 too"),
        (f'{HEADER}\nn1,,,"{SECRET}"x,m,10.0.0.1,n,,d\n', "not valid CSV"),
        (f'{HEADER}\nn1,,,"{SECRET},m,10.0.0.1,n,,d\n', "not valid CSV"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_without_a_cell(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(FileError) as caught:
        inventory.load(path)
    assert f"{path}" in str(caught.value)
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)


CELL = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), max_size=12
)
PASSWORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=9, max_size=20)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_no_password_comes_out_however_broken_the_file(data: st.DataObject) -> None:
    """Rows of any cells, with a secret in every BMC cell: nothing that is told or kept holds it."""
    columns = data.draw(st.permutations(HEADER.split(",")))
    lines = [",".join(columns)]
    secrets = []
    for number in range(data.draw(st.integers(1, 3))):
        row = []
        for column in columns:
            if column.startswith("bmc"):
                secret = f"{data.draw(PASSWORD)}{number}"
                secrets.append(secret.replace('"', ""))
                row.append(
                    data.draw(st.sampled_from([secret, '"' + secret.replace('"', '""') + '"']))
                )
            else:
                good = {"hostname": f"n{number}", "ip_address": f"10.0.0.{number + 1}"}.get(
                    column, ""
                )
                row.append(data.draw(st.sampled_from([good, good, data.draw(CELL)])))
        lines.append(",".join(row))
    text = "\n".join(lines)
    problems = Problems("hardware.csv")
    remarks = Remarks("hardware.csv")
    try:
        nodes = hardware.read(text, problems, remarks)
        problems.raise_any()
        out = render(Inventory("hardware.csv", nodes, ()), remarks.all())
    except FileError as error:
        out = str(error)
    shifted = any(len(line.split(",")) != len(columns) for line in lines)
    for secret in secrets:
        assert secret not in out or shifted, (secret, out)


LABELS = st.dictionaries(
    st.text(st.characters(whitelist_categories=("L", "N", "P", "S")), min_size=1, max_size=6)
    .filter(lambda text: "=" not in text and "|" not in text),
    st.text(st.characters(whitelist_categories=("L", "N", "P", "S", "Zs")), max_size=6)
    .map(str.strip).filter(lambda text: "|" not in text and text.isprintable()),
    max_size=3,
)  # fmt: skip
NAMES = st.text(st.characters(whitelist_categories=("L", "N", "P", "S")), min_size=1, max_size=9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NAMES, LABELS), min_size=1, max_size=4, unique_by=lambda row: row[0]))
def test_what_is_written_is_read_back(rows: list[tuple[str, dict[str, str]]]) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    text = "hostname,mac,ip_address,labels\n" + "".join(
        f"{cell(name)},m,10.0.0.{number},{cell('|'.join(f'{k}={v}' for k, v in labels.items()))}\n"
        for number, (name, labels) in enumerate(rows, 1)
    )
    problems = Problems("h.csv")
    nodes = hardware.read(text, problems, Remarks("h.csv"))
    problems.raise_any()
    assert [node.name for node in nodes] == [name for name, _ in rows]
    for node, (_, labels) in zip(nodes, rows, strict=True):
        assert labels.items() <= node.labels.items()
    written = render(Inventory("h.csv", nodes, ()), ["a\x1b comment", "x" * 300])
    again = native(parse(written, problems), "h.csv", problems)
    assert again.nodes == nodes


def test_import_and_check_leave_secrets_where_they_are(tmp_path: Path, cli: Run) -> None:
    out, snapshot = tmp_path / "nodes.yaml", tmp_path / "snapshot.json"
    done = cli("inventory", "import", FILE, "-o", out, "--user", "ec2-user", "--become")
    assert done.returncode == 0
    spec = FIXTURES / "specs" / "bare-metal.yaml"
    plan = cli("check", "-i", FILE, "--cluster-spec", spec, "--dry-run")
    told = [done.stdout, done.stderr, plan.stdout, plan.stderr, out.read_text("utf-8")]
    checked = cli(
        "check", "-i", FILE, "--local", "eksa-cp01", "--format", "json", "--output", snapshot,
    )  # fmt: skip
    told += [checked.stdout, checked.stderr, snapshot.read_text("utf-8")]
    assert checked.returncode == 4
    assert json.loads(checked.stdout)["schema"]
    for text in told:
        assert SECRET not in text
        assert "10.10.44." not in text
    loaded = inventory.load(out)
    assert {(n.user, n.become) for n in loaded.nodes} == {("ec2-user", "sudo")}
    assert cli("inventory", "check", out).returncode == 0


@pytest.mark.parametrize("option", [("--user", "-x"), ("--proxy-jump", "a b"),
                                    ("--identity-file", "k.pub")])  # fmt: skip
def test_a_wrong_option_of_import_is_named(option: tuple[str, str], cli: Run) -> None:
    done = cli("inventory", "import", FILE, *option)
    assert done.returncode == 2
    assert done.stderr.startswith(f"preflight: {option[0]}: ")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"apiVersion": "v1", "kind": "Config"}', "is a kubeconfig"),
        ('{\n "kind": "Config"\n}', "is a kubeconfig"),
        ("apiVersion: v1\nkind: Config\n", "is a kubeconfig: name it with --kubeconfig"),
        ("apiVersion: a/v1\nkind: Cluster\n---\napiVersion: a/v1\nkind: X\n",
         "holds Kubernetes objects, no inventory: a cluster's spec goes with --cluster-spec"),
        ("#!/bin/sh\necho\n", "is a program"),
        ("plugin: aws_ec2\nregions: [x]\n", "asks a plugin of Ansible's for the hosts"),
        ("nodes: [{name: a, address: 10.0.0.1}]\nall: {hosts: {}}\n",
         "may be an inventory of ours (for its nodes:) or of Ansible's"),
        ("n1 10.0.0.1\n", 'must be a mapping that begins with "nodes:"'),
    ],
)  # fmt: skip
def test_files_that_are_no_inventory_say_what_they_are(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text, "utf-8")
    with pytest.raises(FileError) as caught:
        inventory.load(path)
    assert str(caught.value).startswith(f"{path}:")
    assert says in str(caught.value)


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("quote", ["", '"'])
def test_columns_that_commas_do_not_separate(
    tmp_path: Path, separator: str, name: str, quote: str
) -> None:
    rows = [HEADER.split(","), ["hostname", "ip_address"]]
    for columns in rows:
        header = separator.join(f"{quote}{column}{quote}" for column in columns)
        file = write(tmp_path, f"\ufeff{header}\r\nn1{separator}10.0.0.1\r\n")
        with pytest.raises(FileError, match=f"separated by {name}; save it as CSV with commas"):
            inventory.load(file)
