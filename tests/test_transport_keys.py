"""Key files of every kind, a real ssh-agent, and what is offered to a host."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sshd import make_key, run_agent

from preflight.core.model import AgentState, Node
from preflight.errors import NodeError
from preflight.transport.endpoint import Endpoint, Endpoints
from preflight.transport.keyfile import (
    KeyFileError,
    WrongPassphraseError,
    certifies,
    read_key_file,
    read_public_key,
    unlock,
)
from preflight.transport.keyring import Keyring, Offer
from preflight.transport.ssh import FileKey
from preflight.transport.sshagent import AgentError, SshAgent
from preflight.transport.sshconfig import SshConfig

KINDS = [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "521"), ("rsa", "2048")]
ARMOUR = b"-----BEGIN %s PRIVATE KEY-----\n%s\n-----END %s PRIVATE KEY-----\n"
FORMATS = ["RFC4716", "PEM", "PKCS8"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("passphrase", ["", "open sesame ü"])
def test_every_kind_of_key_file(
    tmp_path: Path, kind: str, bits: str, form: str, passphrase: str
) -> None:
    path = make_key(tmp_path / "key", kind, passphrase, bits, form)
    file = read_key_file(str(path))
    assert file.encrypted is bool(passphrase)
    assert file.public == read_public_key(f"{path}.pub")
    if passphrase:
        for wrong in ("wrong", ""):
            with pytest.raises(WrongPassphraseError):
                unlock(file, wrong)
    key = FileKey(unlock(file, passphrase or None))
    assert key.public() == file.public
    assert key.sign(b"data", "rsa-sha2-512" if kind == "rsa" else "")
    assert "PRIVATE" not in repr(file)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds no private key"),
        (b"ssh-ed25519 AAAA me", "holds a public key"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
            "damaged",
        ),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n%\n-----END OPENSSH PRIVATE KEY-----", "damaged"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", "damaged"),
    ],
)
def test_files_that_are_no_private_keys(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=said):
        unlock(read_key_file(str(path)), None)


@given(st.binary(), st.integers(0, 300))
def test_a_damaged_key_is_refused_and_does_no_harm(junk: bytes, at: int) -> None:
    data = KEY[:at] + junk + KEY[at + len(junk) :]
    DAMAGED.write_bytes(data)
    try:
        FileKey(unlock(read_key_file(str(DAMAGED)), None))
    except (KeyFileError, WrongPassphraseError):
        return
    assert b"PRIVATE KEY" in data


@pytest.fixture(autouse=True, scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> None:
    global DAMAGED, KEY  # noqa: PLW0603 - hypothesis wants no fixture that changes by function
    place = tmp_path_factory.mktemp("damaged")
    KEY = make_key(place / "key").read_bytes()
    DAMAGED = place / "damaged"


DAMAGED: Path
KEY: bytes


def certify(key: Path, authority: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", "root", f"{key}.pub"], check=True
    )
    return Path(f"{key}-cert.pub")


def test_certificates_belong_to_their_keys(tmp_path: Path) -> None:
    authority = make_key(tmp_path / "ca")
    blobs = {}
    for kind in ("ed25519", "ecdsa", "rsa"):
        key = make_key(tmp_path / kind, kind)
        blobs[kind] = read_public_key(f"{key}.pub"), read_public_key(str(certify(key, authority)))
    for kind, (plain, _) in blobs.items():
        for other, (_, certificate) in blobs.items():
            assert plain is not None
            assert certificate is not None
            assert certifies(certificate, plain) is (kind == other)
    assert not certifies(b"", b"")


def test_an_agent_lists_its_keys_and_signs(tmp_path: Path) -> None:
    keys = [make_key(tmp_path / kind, kind) for kind in ("ed25519", "rsa")]
    with run_agent(tmp_path, *keys) as path:
        agent = SshAgent(str(path), 5, 5)
        held = agent.identities()
        assert [(each.kind, each.comment) for each in held] == [
            ("ssh-ed25519", "ed25519"),
            ("ssh-rsa", "rsa"),
        ]
        assert [each.blob for each in held] == [read_public_key(f"{key}.pub") for key in keys]
        signatures: list[bytes] = []
        threads = [
            threading.Thread(
                target=lambda: signatures.append(agent.sign(held[1].blob, b"x", "rsa-sha2-512"))
            )
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = FileKey(unlock(read_key_file(str(keys[1])), None)).sign(b"x", "rsa-sha2-512")
        assert signatures == [expected] * 20
        with pytest.raises(AgentError, match="refused to sign"):
            agent.sign(read_public_key(f"{make_key(tmp_path / 'other')}.pub") or b"", b"x", "")
        agent.close()


def answering(path: Path, answer: Callable[[socket.socket], None]) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as peer:
            answer(peer)

    threading.Thread(target=serve, daemon=True).start()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "hung up"),
        (b"\0\0\0", "hung up"),
        (b"\xff\xff\xff\xff", "no agent's answer"),
        (b"\0\0\0\0", "no agent's answer"),
        (b"\0\0\0\1\5", "lists no keys"),
        (b"\0\0\0\5\x0c\0\0\0\1", "broken list"),
        (b"\0\0\0\x0d\x0c\0\0\0\1\0\0\0\1\0\0\0\0", "broken list"),
    ],
)
def test_an_agent_that_talks_nonsense(tmp_path: Path, answer: bytes, said: str) -> None:
    def reply(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(answer)

    answering(tmp_path / "agent", reply)
    with (
        contextlib.closing(SshAgent(str(tmp_path / "agent"), 5, 5)) as agent,
        pytest.raises(AgentError, match=said),
    ):
        agent.identities()


def test_an_agent_that_says_nothing(tmp_path: Path) -> None:
    def listen(peer: socket.socket) -> None:
        while peer.recv(100):
            pass

    answering(tmp_path / "agent", listen)
    agent = SshAgent(str(tmp_path / "agent"), 0.1, 5)
    with pytest.raises(AgentError, match="timed out"):
        agent.identities()


@dataclass
class User:
    """Answers prompts, and reads messages."""

    answers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ask(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.answers.pop(0)

    @contextlib.contextmanager
    def keyring(self, *, has_password: bool = False) -> Iterator[Keyring]:
        keyring = Keyring(FileKey, self.ask, self.notes.append, 5, has_password=has_password)
        try:
            yield keyring
        finally:
            keyring.close()

    def offer(self, end: Endpoint, *, has_password: bool = False) -> Offer:
        with self.keyring(has_password=has_password) as keyring:
            return keyring.offer(end)


def endpoint(**changes: object) -> Endpoint:
    node = Node(name="n1", addresses=("192.0.2.1",), host="10.0.0.1")
    return replace(Endpoints(SshConfig([])).of(node), **changes)  # type: ignore[arg-type]


def labels(offer: Offer) -> list[str]:
    return [candidate.label for candidate in offer.candidates]


def test_the_usual_keys(home: Path) -> None:
    for kind in ("rsa", "ed25519"):
        make_key(home / f".ssh/id_{kind}", kind)
    offer = User().offer(endpoint())
    assert labels(offer) == ["~/.ssh/id_ed25519", "~/.ssh/id_rsa"]
    assert offer.left_out == ()


def test_named_keys_stand_in_for_the_usual_ones(home: Path) -> None:
    make_key(home / ".ssh/id_ed25519")
    key = make_key(home / "mine")
    offer = User().offer(endpoint(identity_files=(str(key), "/no/such/key")))
    assert labels(offer) == ["~/mine"]
    assert offer.left_out == ("/no/such/key: No such file or directory",)


def test_what_the_agent_holds(home: Path) -> None:
    first, second, other = (make_key(home / name) for name in ("first", "second", "other"))
    with run_agent(home, first, other) as path, User().keyring() as keyring:
        end = endpoint(identity_agent=str(path), identity_files=(str(second), str(first)))
        offer = keyring.offer(end)
        assert labels(offer) == ["~/second", "~/first (agent)", "the agent's other"]
        offer = keyring.offer(replace(end, identities_only=True))
        assert labels(offer) == ["~/second", "~/first (agent)"]


def test_a_key_that_the_agent_holds_is_not_unlocked(home: Path) -> None:
    first, second = make_key(home / "first"), make_key(home / "second")
    third = make_key(home / "third", passphrase="secret")
    user = User(answers=["secret"])
    with run_agent(home, first, second) as path, user.keyring() as keyring:
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "x", "-f", first], check=True)
        second.unlink()  # only its public half is left here
        files = (str(first), str(second), str(third))
        offer = keyring.offer(endpoint(identity_agent=str(path), identity_files=files))
        assert labels(offer) == ["~/first (agent)", "~/second (agent)", "~/third"]
        assert user.asked == [f"Passphrase for {third}: "]


def test_a_passphrase_is_asked_for_once_for_all_nodes(home: Path) -> None:
    key = make_key(home / "key", passphrase="secret")
    user = User(answers=["wrong", "secret"])
    with user.keyring() as keyring:
        for port in range(3):
            end = endpoint(port=port, identity_files=(str(key),), identities_only=port == 2)
            assert labels(keyring.offer(end)) == ["~/key"]
    assert user.asked == [f"Passphrase for {key}: "] * 2
    assert user.notes == [f"wrong passphrase for {key}"]


def test_three_wrong_passphrases_are_enough(home: Path) -> None:
    key = make_key(home / "key", passphrase="secret")
    user = User(answers=["a", "b", "c", "secret"])
    end = endpoint(identity_files=(str(key),))
    wrong = "~/key: the passphrase was wrong 3 times"
    with user.keyring() as keyring:
        for _ in range(2):
            assert keyring.offer(end).left_out == (wrong,)
        with pytest.raises(NodeError, match=f"identity_file {wrong}"):
            keyring.offer(replace(end, identities_required=True))
    assert len(user.asked) == 3


def test_a_locked_key_that_nobody_named_is_asked_for_last(home: Path) -> None:
    locked = make_key(home / ".ssh/id_rsa", "rsa", passphrase="secret")
    user = User(answers=["secret"])
    assert labels(user.offer(endpoint())) == ["~/.ssh/id_rsa"]
    assert user.asked == [f"Passphrase for {locked}: "]
    user = User()
    assert labels(user.offer(endpoint(), has_password=True)) == []
    make_key(home / ".ssh/id_ed25519")
    offer = user.offer(endpoint())
    assert labels(offer) == ["~/.ssh/id_ed25519"]
    assert offer.left_out == ("~/.ssh/id_rsa: encrypted; name it, or use ssh-add",)
    assert user.asked == []


def test_a_key_that_the_inventory_names_must_be_there(home: Path) -> None:
    end = endpoint(identity_files=(str(home / "none"),), identities_required=True)
    with pytest.raises(NodeError, match="identity_file ~/none: No such file") as caught:
        User().offer(end)
    assert caught.value.state == AgentState.AUTH
    (home / "none").write_text("nothing")
    with pytest.raises(NodeError, match="~/none: it holds no private key: correct it"):
        User().offer(end)


def test_certificates_go_before_their_keys(home: Path) -> None:
    authority = make_key(home / "ca")
    key, other = make_key(home / "key"), make_key(home / "other", "rsa")
    certify(key, authority)
    elsewhere = certify(other, authority).rename(home / "elsewhere.pub")
    end = endpoint(
        identity_files=(str(key), str(other)), certificate_files=(str(elsewhere), "/none")
    )
    offer = User().offer(end)
    assert labels(offer) == ["~/key-cert.pub", "~/key", "~/elsewhere.pub", "~/other"]
    assert [candidate.kind for candidate in offer.candidates] == [
        "ssh-ed25519-cert-v01@openssh.com",
        "ssh-ed25519",
        "ssh-rsa-cert-v01@openssh.com",
        "ssh-rsa",
    ]


def test_without_its_agent_a_run_goes_on(home: Path) -> None:
    make_key(home / ".ssh/id_ed25519")
    user = User()
    offer = user.offer(endpoint(identity_agent=str(home / "none")))
    assert labels(offer) == ["~/.ssh/id_ed25519"]
    assert user.notes == [
        f"going on without ssh-agent: ssh-agent at {home}/none: No such file or directory"
    ]


def test_no_key_shows_itself(home: Path) -> None:
    key = make_key(home / "key", passphrase="secret")
    with User(answers=["secret"]).keyring() as keyring:
        offer = keyring.offer(endpoint(identity_files=(str(key),)))
    body = key.read_text().splitlines()[2]
    for shown in (repr(offer), repr(vars(keyring)), str(offer.candidates[0].sign)):
        assert body not in shown
        assert "secret" not in shown
