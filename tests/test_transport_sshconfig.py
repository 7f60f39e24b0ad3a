"""~/.ssh/config, checked against the ssh client itself."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preflight.core.model import Node
from preflight.errors import FileError
from preflight.transport.endpoint import Endpoint, Endpoints
from preflight.transport.sshconfig import SshConfig, host_name

# The home directory may serve all examples.
SAME_HOME = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def node(host: str = "web", **more: Any) -> Node:
    return Node(name="n1", addresses=("192.0.2.1",), host=host, **more)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path


def endpoint(text: str, home: Path, **more: Any) -> Endpoint:
    (home / ".ssh/config").write_text(text)
    return Endpoints(SshConfig([home / ".ssh/config"])).of(node(**more))


def ask_ssh(config: Path, host: str) -> dict[str, list[str]]:
    """What OpenSSH makes of `config`."""
    done = subprocess.run(
        ["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True
    )
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    return said


def compare(config: Path, host: str) -> None:
    said = ask_ssh(config, host)
    ours = SshConfig([config])
    options = ours.lookup(host)
    assert said["hostname"] == [host_name(options, host)]
    assert said["port"] == [options.first("port") or "22"]
    assert said["user"] == [options.first("user") or ours.local_user]
    assert said.get("hostkeyalias") == ([a] if (a := options.first("hostkeyalias")) else None)
    jump, command = options.first("proxyjump"), options.first("proxycommand")
    if jump and not command:
        assert said.get("proxyjump") == [jump]
    if files := options.words("identityfile"):
        assert said["identityfile"] == files
    if known := options.words("userknownhostsfile"):
        assert said["userknownhostsfile"] == [" ".join(known)]


CASES = """
Host web
  HostName 10.0.0.5
  Port=2222
  User "ann b"
  IdentityFile ~/.ssh/one   # a comment
  IdentityFile "/with space/two"
Host web db !other
  Port 1
  User nobody
Host other
  HostKeyAlias alias
Host *.example.org 10.0.?.5
  ProxyJump ann@b1:22
Match host 10.0.0.5 user "ann b"
  UserKnownHostsFile /kh1 /kh2
Match originalhost web
  HostKeyAlias weba
Match !originalhost web
  HostKeyAlias notweb
Match exec "test %n = exec"
  Port 77
Match exec "test %n != exec" originalhost web2
  Port 78
Match all
  IdentityFile /three
Match final host 10.0.0.5
  ProxyJump final
Host=equals
  Port 5
"""


@pytest.mark.parametrize(
    "host",
    ["web", "db", "other", "a.example.org", "10.0.1.5", "10.0.11.5", "exec", "web2", "equals"],
)
def test_it_is_read_as_openssh_reads_it(host: str, home: Path) -> None:
    config = home / "config"
    config.write_text(CASES)
    compare(config, host)


names = st.sampled_from(["web", "db1", "db2", "10.0.0.1", "a.b.c"])
patterns = st.sampled_from(["web", "db?", "!db1", "*", "10.*", "a.*.c", "[dw]*", "!*"])
settings_lines = st.sampled_from(
    [
        "Port 22", "Port 2022", "port = 33", "User ann", 'User "bob"', "HostName 10.0.0.9",
        "HostName %h.example.org", "IdentityFile /a", "IdentityFile /b", "IdentityFile '/c d'",
        "HostKeyAlias x", "UserKnownHostsFile /x /y", "ProxyJump j1", "ProxyJump j2,j3", "# note",
    ]
)  # fmt: skip
conditions = st.one_of(
    st.lists(patterns, min_size=1, max_size=3).map(lambda p: "Host " + " ".join(p)),
    st.sampled_from(
        [
            "Match all",
            "Match host 10.0.0.9",
            "Match host *.example.org,web",
            "Match originalhost db*,!db2",
            "Match user ann",
            "Match !user ann",
            "Match localuser root host web",
            "Match final host 10.*",
            "Match final all",
        ]
    ),
)


@given(lines=st.lists(st.one_of(settings_lines, conditions), max_size=12), host=names)
@settings(SAME_HOME, max_examples=120)
def test_any_file_is_read_as_openssh_reads_it(lines: list[str], host: str, home: Path) -> None:
    config = home / "config"
    config.write_text("\n".join(lines))
    compare(config, host)


def test_includes(home: Path) -> None:
    ssh = home / ".ssh"
    (ssh / "conf.d").mkdir()
    (ssh / "conf.d/1").write_text("User one\nHost web\nPort 11\n")
    (ssh / "conf.d/2").write_text("User two\n")
    (home / "absolute").write_text("HostName 10.9.9.9\n")
    text = f"Host web\n  Include conf.d/*\nPort 12\nHost db\nInclude {home}/absolute\n"
    end = endpoint(text, home)
    assert (end.user, end.port, end.host) == ("one", 11, "web")
    assert endpoint(text, home, host="db").host == "10.9.9.9"
    assert endpoint(text, home, host="db").user == "root"


def test_what_is_passed_over(home: Path) -> None:
    end = endpoint("SendEnv LANG\nCiphers +x\nHost web\nForwardAgent yes\nCompression yes", home)
    assert end.host == "web"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Host web\n  Port abc", "config:2: port: 'abc' is no whole number up to 65535"),
        ("Port 70000", "config:1: port: '70000' is no whole number"),
        ("Port", "config:1: not a keyword and its value: 'Port'"),
        ('User "ann', "config:1: a quote is not closed"),
        ("Match host", "config:1: Match host lacks its value"),
        ("Match colour red", "config:1: Match colour is not known"),
        ("ProxyJump a:b:c@d:99999", "ProxyJump: 'a:b:c@d:99999' is not"),
        ("ProxyJump [::1", r"is not \[user@\]host\[:port\]"),
        ("User ''", "config:1: User lacks its value"),
        ("Include config", "include each other more than 16 deep"),
    ],
)
def test_mistakes_name_file_and_line(text: str, said: str, home: Path) -> None:
    with pytest.raises(FileError, match=said) as caught:
        endpoint(text, home)
    assert "\n" not in str(caught.value)


@given(text=st.text(max_size=200))
@settings(SAME_HOME)
def test_any_text_is_understood_or_refused_in_one_line(text: str, home: Path) -> None:
    if "match" in text.lower() or "include" in text.lower():
        return  # they may run commands, and read other files
    refusals: list[FileError] = []
    try:
        endpoint(text, home)
    except FileError as error:
        refusals.append(error)
    assert not any("\n" in str(error) for error in refusals)


def test_an_unreadable_file_is_told(home: Path) -> None:
    (home / ".ssh/config").mkdir()
    with pytest.raises(FileError, match=r"\.ssh/config: Is a directory"):
        SshConfig([home / ".ssh/config"])


def test_without_files_defaults_hold(home: Path) -> None:
    end = Endpoints(SshConfig([home / "none"])).of(node())
    assert (end.host, end.port, end.user, end.jumps) == ("web", 22, "root", ())
    assert end.identity_files == ()
    assert end.known_hosts == (f"{home}/.ssh/known_hosts", f"{home}/.ssh/known_hosts2")
    assert end.global_known_hosts == ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    assert end.identity_agent is None


def test_the_inventory_goes_first(home: Path) -> None:
    text = (
        "Host web\nUser cfg\nPort 1\nIdentityFile /cfg\nUserKnownHostsFile /cfgkh\n"
        "ProxyJump cfgjump\nHost cfgjump invjump\nHostName 10.0.0.1\n"
    )
    given_ = {
        "user": "inv", "port": 2, "identity_file": "~/inv", "known_hosts": "/invkh",
        "proxy_jump": "invjump",
    }  # fmt: skip
    end = endpoint(text, home, **given_)
    assert (end.user, end.port) == ("inv", 2)
    assert (end.identity_files, end.identities_required) == ((f"{home}/inv",), True)
    assert end.known_hosts == ("/invkh",)
    assert [jump.name for jump in end.jumps] == ["invjump"]
    end = endpoint(text, home)
    assert (end.user, end.port, end.identity_files) == ("cfg", 1, ("/cfg",))
    assert (end.known_hosts, end.identities_required) == (("/cfgkh",), False)
    assert [jump.name for jump in end.jumps] == ["cfgjump"]
    assert endpoint(text, home, proxy_jump="none").jumps == ()


def test_match_user_sees_the_inventorys_user(home: Path) -> None:
    assert endpoint("Match user inv\nPort 9\n", home, user="inv").port == 9


def test_tokens_and_variables(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    text = (
        "Host web\nHostName %h.example.org\nUser ann\nPort 5\nHostKeyAlias al\n"
        "IdentityFile ${KEYS}/%h/%n/%p/%r/%u/%i/%k/%L/%%\nUserKnownHostsFile %d/kh ~/kh2\n"
        "CertificateFile /cert\nIdentityAgent ~/agent\n"
    )
    end = endpoint(text, home)
    local = socket.gethostname().split(".")[0]
    assert end.identity_files == (
        f"/keys/web.example.org/web/5/ann/root/{os.getuid()}/al/{local}/%",
    )
    assert end.known_hosts == (f"{home}/kh", f"{home}/kh2")
    assert (end.certificate_files, end.identity_agent) == (("/cert",), f"{home}/agent")


def test_none_means_none(home: Path) -> None:
    text = (
        "IdentityFile none\nUserKnownHostsFile none\nGlobalKnownHostsFile none\nProxyJump none\n"
        "ProxyCommand none\nIdentityAgent none\n"
    )
    end = endpoint(text, home)
    assert (end.identity_files, end.known_hosts, end.global_known_hosts) == ((), (), ())
    assert (end.jumps, end.proxy_command, end.identity_agent) == ((), None, None)


def test_the_agent_is_the_environments(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("MINE", "/run/mine")
    assert endpoint("", home).identity_agent == "/run/agent"
    assert endpoint("IdentityAgent SSH_AUTH_SOCK", home).identity_agent == "/run/agent"
    assert endpoint("IdentityAgent $MINE", home).identity_agent == "/run/mine"


def test_the_rest_of_an_endpoint(home: Path) -> None:
    text = (
        "IdentitiesOnly yes\nStrictHostKeyChecking yes\nHashKnownHosts yes\nConnectTimeout 3\n"
        "AddressFamily inet6\n"
    )
    end = endpoint(text, home)
    assert (end.identities_only, end.never_accept_new, end.hash_known_hosts) == (True, True, True)
    assert (end.connect_timeout, end.family) == (3, socket.AF_INET6)
    assert not endpoint("StrictHostKeyChecking no", home).never_accept_new


def test_a_chain_of_bastions(home: Path) -> None:
    text = (
        "Host b1\nHostName 10.0.0.1\nUser u1\nPort 21\nIdentityFile /k1\nProxyJump b0\n"
        "Host b2\nHostName 10.0.0.2\nProxyJump never\n"
    )
    end = endpoint(text, home, proxy_jump="b1, ann@b2:22", identity_file="/mine", known_hosts="/kh")
    assert [str(jump) for jump in end.jumps] == ["b0:22", "b1 (10.0.0.1:21)", "b2 (10.0.0.2:22)"]
    assert [jump.user for jump in end.jumps] == ["root", "u1", "ann"]
    # The inventory's identity serves where ssh's own configuration names none.
    assert [jump.identity_files for jump in end.jumps] == [("/mine",), ("/k1",), ("/mine",)]
    assert [jump.identities_required for jump in end.jumps] == [False] * 3
    assert end.jumps[0].known_hosts[0] == "/kh"
    assert f"{home}/.ssh/known_hosts" in end.jumps[0].known_hosts


@pytest.mark.parametrize(
    ("jump", "shown"),
    [
        ("ssh://ann@b:2222/", "b:2222"),
        ("[fd00::1]:2222", "[fd00::1]:2222"),
        ("fd00::1", "[fd00::1]:22"),
        ("ann@10.0.0.1", "10.0.0.1:22"),
    ],
)
def test_how_a_bastion_is_written(jump: str, shown: str, home: Path) -> None:
    assert str(endpoint("", home, proxy_jump=jump).jumps[0]) == shown


def test_a_jump_for_all_hosts_does_not_go_round_in_circles(home: Path) -> None:
    assert [j.name for j in endpoint("Host *\nProxyJump b1", home).jumps] == ["b1"]
    text = "Host b2\nProxyJump b1\nHost *\nProxyJump b2"
    assert [j.name for j in endpoint(text, home).jumps] == ["b1", "b2"]


def test_a_command_or_a_jump_whichever_is_first(home: Path) -> None:
    end = endpoint("ProxyCommand nc -X 5 '%h' %p # %r\nUser ann\nPort 5", home)
    assert end.proxy_command == "nc -X 5 'web' 5 # ann"
    assert endpoint("ProxyCommand nc", home, proxy_jump="b1").proxy_command is None
    assert (
        endpoint("Host web\nProxyCommand none\nHost *\nProxyCommand nc", home).proxy_command is None
    )
