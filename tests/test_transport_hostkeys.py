"""known_hosts: every kind of line, checked against ssh-keygen, and what a host's key is worth."""

import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sshd import make_key, public

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport.endpoint import Endpoint, Endpoints
from preflight.transport.hostcheck import HostCheck
from preflight.transport.hostkeys import (
    KnownHosts,
    Standing,
    fingerprint,
    host_name,
    opinion,
    parse_line,
)
from preflight.transport.keyfile import read_public_key
from preflight.transport.sshconfig import SshConfig

ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Type and blob of host keys, by name."""
    place = tmp_path_factory.mktemp("keys")
    kinds = {"ed": "ed25519", "ed2": "ed25519", "ec": "ecdsa", "rsa": "rsa"}
    made = {name: make_key(place / name, kind) for name, kind in kinds.items()}
    return {name: " ".join(public(path).split()[:2]) for name, path in made.items()}


def key_of(line: str) -> tuple[str, bytes]:
    parsed = parse_line(f"x {line}", "test")
    assert parsed is not None
    return parsed[1].kind, parsed[1].key


def standing(tmp_path: Path, text: str, name: str, line: str) -> tuple[Standing, str | None]:
    file = tmp_path / "known_hosts"
    file.write_text(text)
    verdict, entry = opinion(KnownHosts().find([str(file)], name), *key_of(line))
    return verdict, entry.where.rpartition(":")[2] if entry else None


def test_names() -> None:
    assert host_name("N1.Example.org", 22) == "n1.example.org"
    assert host_name("10.0.0.1", 2222) == "[10.0.0.1]:2222"
    assert host_name("fd00::1", 22) == "fd00::1"
    assert host_name("10.0.0.1", 2222, "alias") == "alias"


def test_fingerprints_are_ssh_keygens(tmp_path: Path) -> None:
    key = make_key(tmp_path / "k")
    shown = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True)
    blob = read_public_key(f"{key}.pub")
    assert blob is not None
    assert fingerprint(blob) == shown.stdout.split()[1]


def test_standings(tmp_path: Path, keys: dict[str, str]) -> None:
    ed, ed2, ec, rsa = (keys[name] for name in ("ed", "ed2", "ec", "rsa"))
    known, unknown = (Standing.KNOWN, Standing.UNKNOWN)
    cases = [
        (f"n1 {ed}", "n1", ed, (known, "1")),
        (f"n1,10.0.0.1 {ed} comment here", "10.0.0.1", ed, (known, "1")),
        (f"N1 {ed}", "n1", ed, (known, "1")),
        (f"n2 {ed}", "n1", ed, (unknown, None)),
        (f"# note\n\nn1 {ed2}", "n1", ed, (Standing.CHANGED, "3")),
        (f"n1 {ec}\nn1 {ed2}\nn1 {rsa}", "n1", ed, (Standing.CHANGED, "2")),
        (f"n1 {ed2}\nn1 {ed}", "n1", ed, (known, "2")),
        (f"n1 {rsa}", "n1", ed, (Standing.CHANGED, "1")),
        (f"n? {ed}", "n1", ed, (known, "1")),
        (f"*.org,!b.org {ed}", "a.org", ed, (known, "1")),
        (f"*.org,!b.org {ed}", "b.org", ed, (unknown, None)),
        (f"!n1,* {ed}", "n1", ed, (unknown, None)),
        (f"[10.0.0.1]:2222 {ed}", "[10.0.0.1]:2222", ed, (known, "1")),
        (f"[10.0.0.*]:2222 {ed}", "[10.0.0.1]:2222", ed, (known, "1")),
        (f"[10.0.0.1]:22 {ed}", "10.0.0.1", ed, (unknown, None)),
        (f"n1 {ed}\n@revoked * {ed}", "n1", ed, (Standing.REVOKED, "2")),
        (f"@revoked n1 {ed}\nn1 {ed}", "n1", ed, (Standing.REVOKED, "1")),
        (f"@revoked n1 {ed2}\nn1 {ed}", "n1", ed, (known, "2")),
        (f"@revoked n1 {ed2}", "n1", ed, (unknown, None)),
        (f"@cert-authority * {ed}", "n1", ed, (unknown, None)),
        (f"@odd n1 {ed}\nn1\nn1 ssh-ed25519 !!!\nn1 ssh-rsa AAAA\nn1 {ed}", "n1", ed, (known, "5")),
        (f"|1|bad\n|2|YQ==|YQ== {ed}\n|1|=|= {ed}\nn1 {ed}", "n1", ed, (known, "4")),
        (f"\x00\udcff n1\nn1 {ed}".encode("utf-8", "ignore").decode(), "n1", ed, (known, "2")),
    ]
    for text, name, line, expected in cases:
        assert standing(tmp_path, text, name, line) == expected, text


def test_hashed_names(tmp_path: Path, keys: dict[str, str]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"n1,10.0.0.1 {keys['ed']}\n[n2]:2222 {keys['rsa']}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "[n2]" not in file.read_text()
    known = KnownHosts()
    for name, key in (("n1", "ed"), ("10.0.0.1", "ed"), ("[n2]:2222", "rsa")):
        entries = known.find([str(file)], name)
        assert opinion(entries, *key_of(keys[key])).standing is Standing.KNOWN
    assert known.find([str(file)], "n2") == []


@pytest.mark.parametrize("hashed", [False, True])
def test_adding_a_key(tmp_path: Path, keys: dict[str, str], hashed: bool) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    known = KnownHosts()
    known.add(str(file), "[n1]:2222", *key_of(keys["ed"]), hashed=hashed)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert ("[n1]" in file.read_text()) is not hashed
    for reader in (known, KnownHosts()):
        entries = reader.find([str(file)], "[n1]:2222")
        assert opinion(entries, *key_of(keys["ed"])).standing is Standing.KNOWN
    found = subprocess.run(
        ["ssh-keygen", "-F", "[n1]:2222", "-f", file], capture_output=True, text=True, check=True
    )
    assert keys["ed"] in found.stdout


def test_adding_leaves_other_lines_alone(tmp_path: Path, keys: dict[str, str]) -> None:
    file = tmp_path / "known_hosts"
    before = f"# mine\nbroken line\nn0 {keys['rsa']}"  # no newline at the end
    file.write_text(before)
    KnownHosts().add(str(file), "n1", *key_of(keys["ed"]))
    assert file.read_text() == f"{before}\nn1 {keys['ed']}\n"


def test_adding_from_many_threads_and_runs(tmp_path: Path, keys: dict[str, str]) -> None:
    file = tmp_path / "known_hosts"
    runs = [KnownHosts() for _ in range(4)]
    threads = [
        threading.Thread(target=run.add, args=(str(file), f"n{i}-{j}", *key_of(keys["rsa"])))
        for i, run in enumerate(runs)
        for j in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.read_text().splitlines()
    assert sorted(lines) == sorted(f"n{i}-{j} {keys['rsa']}" for i in range(4) for j in range(10))


@given(st.text())
def test_any_line_is_an_entry_or_nothing(line: str) -> None:
    parsed = parse_line(line, "x:1")
    assert parsed is None or parsed[1].key[4:].startswith(parsed[1].kind.encode())


@pytest.fixture
def end(tmp_path: Path) -> Endpoint:
    """A host with its own known_hosts file."""
    node = Node(
        name="n1", addresses=("192.0.2.1",), host="10.0.0.1", known_hosts=str(tmp_path / "kh")
    )
    return replace(Endpoints(SshConfig([])).of(node), global_known_hosts=())


def refusal(end: Endpoint, line: str, *, accept_new: bool = False) -> str:
    notes: list[str] = []
    with pytest.raises(NodeError) as caught:
        HostCheck(accept_new=accept_new, notify=notes.append).check(end, *key_of(line))
    assert caught.value.state == AgentState.HOST_KEY
    assert notes == []
    return str(caught.value)


def test_an_unknown_key_is_refused_with_advice(end: Endpoint, keys: dict[str, str]) -> None:
    said = refusal(end, keys["ed"])
    assert f"ED25519 {fingerprint(key_of(keys['ed'])[1])} is not in {end.known_hosts[0]}" in said
    assert "--accept-new-host-keys, or add it with ssh-keyscan 10.0.0.1" in said
    said = refusal(replace(end, port=2222), keys["ed"])
    assert "10.0.0.1:2222" in said
    assert "ssh-keyscan -p 2222 10.0.0.1" in said


def test_an_unknown_key_is_added_on_request(end: Endpoint, keys: dict[str, str]) -> None:
    notes: list[str] = []
    check = HostCheck(accept_new=True, notify=notes.append)
    check.check(end, *key_of(keys["ed"]))
    check.check(end, *key_of(keys["ed"]))
    assert Path(end.known_hosts[0]).read_text() == f"10.0.0.1 {keys['ed']}\n"
    assert len(notes) == 1
    assert f"added host key of 10.0.0.1:22 to {end.known_hosts[0]}: ED25519 SHA256:" in notes[0]
    assert "HAS CHANGED" in refusal(end, keys["ed2"], accept_new=True)


@pytest.mark.parametrize("accept_new", [False, True])
def test_a_changed_key_is_always_refused(
    end: Endpoint,
    keys: dict[str, str],
    accept_new: bool,
) -> None:
    Path(end.known_hosts[0]).write_text(f"# x\n10.0.0.1 {keys['ed']}\n")
    for other in ("ed2", "rsa"):
        said = refusal(end, keys[other], accept_new=accept_new)
        assert "HAS CHANGED" in said
        assert f"{end.known_hosts[0]}:2 lists ED25519 SHA256:" in said
        assert "accept" not in said
    assert Path(end.known_hosts[0]).read_text() == f"# x\n10.0.0.1 {keys['ed']}\n"


def test_a_revoked_key_is_always_refused(end: Endpoint, keys: dict[str, str]) -> None:
    Path(end.known_hosts[0]).write_text(f"10.0.0.1 {keys['ed']}\n@revoked * {keys['ed']}\n")
    said = refusal(end, keys["ed"], accept_new=True)
    assert f"is revoked at {end.known_hosts[0]}:2" in said
    assert "accept" not in said


def test_a_key_listed_without_its_port_vouches_but_forbids_nothing(
    end: Endpoint, keys: dict[str, str]
) -> None:
    Path(end.known_hosts[0]).write_text(f"10.0.0.1 {keys['ed']}\n")
    end = replace(end, port=2222)
    notes: list[str] = []
    check = HostCheck(accept_new=True, notify=notes.append)
    check.check(end, *key_of(keys["ed"]))
    assert notes == []
    check.check(end, *key_of(keys["ed2"]))
    assert len(notes) == 1


def test_strict_configuration_beats_accepting(end: Endpoint, keys: dict[str, str]) -> None:
    said = refusal(replace(end, never_accept_new=True), keys["ed"], accept_new=True)
    assert "StrictHostKeyChecking yes" in said
    assert not Path(end.known_hosts[0]).exists()


def test_a_certificate_authority_is_told_of(end: Endpoint, keys: dict[str, str]) -> None:
    Path(end.known_hosts[0]).write_text(f"@cert-authority * {keys['ed2']}\n")
    assert "@cert-authority line is, which preflight does not support" in refusal(end, keys["ed"])


def test_without_a_file_keys_are_accepted_for_this_run_alone(
    end: Endpoint, keys: dict[str, str]
) -> None:
    end = replace(end, known_hosts=())
    assert "UserKnownHostsFile none" in refusal(end, keys["ed"])
    notes: list[str] = []
    HostCheck(accept_new=True, notify=notes.append).check(end, *key_of(keys["ed"]))
    assert "not stored" in notes[0]


def test_a_file_that_cannot_be_written(end: Endpoint, keys: dict[str, str], tmp_path: Path) -> None:
    shutil.copy("/dev/null", tmp_path / "file")
    end = replace(end, known_hosts=(str(tmp_path / "file/kh"),))
    assert "cannot be added to" in refusal(end, keys["ed"], accept_new=True)


def test_known_types_are_asked_for_first(end: Endpoint, keys: dict[str, str]) -> None:
    check = HostCheck(accept_new=False, notify=print)
    assert check.kinds(end, ALGORITHMS) == ALGORITHMS
    Path(end.known_hosts[0]).write_text(f"10.0.0.1 {keys['rsa']}\n@revoked * {keys['ec']}\n")
    check = HostCheck(accept_new=False, notify=print)
    assert check.kinds(end, ALGORITHMS) == (*ALGORITHMS[2:], *ALGORITHMS[:2])
    assert check.kinds(replace(end, port=2222), ALGORITHMS) == (*ALGORITHMS[2:], *ALGORITHMS[:2])
