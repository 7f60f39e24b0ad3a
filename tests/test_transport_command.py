"""The command line that runs on a node: every shell, every interpreter, every way to fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sshd import BOOT

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.command import (
    NO_PYTHON,
    TAIL,
    explain_exit,
    marker,
    own_words,
    printed_tail,
    readable_tail,
    shell_command,
)
from preflight.transport.start import new_prompt

SHELLS = [
    shell
    for name in ("sh", "bash", "dash", "ksh", "csh", "bsd-csh", "tcsh", "zsh", "fish", "busybox")
    if (shell := shutil.which(name))
]


def run(command: str, shell: str = "/bin/sh") -> subprocess.CompletedProcess[bytes]:
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    return subprocess.run(
        [*words, "-c", command], input=b"x", capture_output=True, check=False, timeout=30
    )


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("asked", [False, True])
def test_every_login_shell_starts_python(shell: str, asked: bool) -> None:
    prompt = new_prompt() if asked else None
    done = run(shell_command(None, None, BOOT, prompt), shell)
    mark = marker(prompt).encode() if prompt else b""
    assert (done.stdout, done.stderr, done.returncode) == (mark + b"ok\n", b"", 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["py", 'it\'s a $HOME `x` "p" (1); & * ?', "--help"])
def test_a_given_interpreter_is_told_to_every_shell(shell: str, name: str, tmp_path: Path) -> None:
    link = tmp_path / name
    link.symlink_to(sys.executable)
    done = run(shell_command(str(link), None, BOOT, None), shell)
    assert (done.stdout, done.stderr, done.returncode) == (b"ok\n", b"", 0)


def test_a_given_name_is_searched_in_path() -> None:
    assert run(shell_command("python3", None, BOOT, None)).stdout == b"ok\n"


def test_only_the_given_interpreter_is_tried() -> None:
    done = run(shell_command("/no/such/python3", None, BOOT, None))
    assert done.returncode == NO_PYTHON
    state, reason = explain_exit(done.returncode, readable_tail(done.stderr))
    assert state is AgentState.NO_PYTHON
    assert "/no/such/python3 cannot be run" in reason
    assert "python: in the inventory" in reason


@pytest.mark.parametrize("python", ["/x\ny", "/x!y", "/x\\y", "\x1b[2J", ""])
def test_an_interpreter_that_some_shell_misreads_is_refused(python: str) -> None:
    with pytest.raises(NodeError, match="is no path that every shell takes") as caught:
        shell_command(python, None, BOOT, None)
    assert caught.value.state == AgentState.NO_PYTHON


@pytest.mark.parametrize("boot", ["print('x')", 'print("x")', "a\nb", "$x", "!x", "\\x", "`x`"])
def test_boot_code_that_some_shell_misreads_is_our_bug(boot: str) -> None:
    with pytest.raises(ValueError, match="boot code"):
        shell_command(None, None, boot, None)


@given(
    st.text(
        st.characters(blacklist_characters="!\\", blacklist_categories=("Cc", "Cs")), min_size=1
    )
)
@settings(max_examples=40, deadline=None)
def test_no_path_breaks_out_of_its_quotes(path: str) -> None:
    done = run(shell_command(f"/no/{path}", None, BOOT, None))
    assert done.returncode == NO_PYTHON
    assert done.stdout == b""
    assert f"/no/{path} cannot be run".encode() in done.stderr


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """A root directory with a shell and nothing else, to be chrooted into."""
    (tmp_path / "bin").mkdir()
    copy_with_libraries(Path("/bin/dash"), tmp_path)
    (tmp_path / "bin/sh").symlink_to("dash")
    return tmp_path


def copy_with_libraries(program: Path, root: Path) -> None:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    files = [word for word in listed.split() if word.startswith("/")]
    for file in (*files, str(program)):
        target = root / file.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


FAKE = '#!/bin/sh\necho "$0" "$*"\n'


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (["usr/bin/python3", "usr/libexec/platform-python", "bin/python3"], "usr/bin/python3"),
        (["usr/libexec/platform-python", "bin/python3"], "usr/libexec/platform-python"),
        (["bin/python3", "usr/local/bin/python3"], "bin/python3"),
        (["usr/local/bin/python3"], "usr/local/bin/python3"),
    ],
)
def test_where_an_interpreter_is_looked_for(jail: Path, present: list[str], chosen: str) -> None:
    for name in present:
        fake = jail / name
        fake.parent.mkdir(parents=True, exist_ok=True)
        fake.write_text(FAKE)
        fake.chmod(0o755)
    done = in_jail(jail, shell_command(None, None, "pass", None))
    assert done.stdout.decode() == f"/{chosen} -IBS -u -c pass\n"


def test_no_interpreter_anywhere(jail: Path) -> None:
    done = in_jail(jail, shell_command(None, None, "pass", new_prompt()))
    assert done.returncode == NO_PYTHON
    assert done.stdout == b""
    state, reason = explain_exit(done.returncode, readable_tail(done.stderr))
    assert state is AgentState.NO_PYTHON
    assert "no python3 in /usr/bin, /usr/libexec, PATH or /usr/local/bin" in reason
    assert "install Python 3.6 or newer" in reason


def in_jail(jail: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    # PATH as in the jail, or chroot itself would look into ours.
    return subprocess.run(
        [shutil.which("chroot") or "chroot", jail, "/bin/sh", "-c", command],
        env={"PATH": "/bin"},
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("status", "stderr", "state", "words"),
    [
        (1, "sudo: a password is required", AgentState.BECOME, "--ask-become-pass"),
        (1, "sudo: interactive authentication is required", AgentState.BECOME, "--ask-become-pass"),
        (
            1,
            "sudo: a terminal is required to read the password; either use the -S option",
            AgentState.BECOME,
            "--ask-become-pass",
        ),
        (1, "ann is not in the sudoers file.", AgentState.BECOME, "allow it in sudoers"),
        (
            1,
            "Sorry, user ann is not allowed to execute '/bin/sh -c x' as root on n1.",
            AgentState.BECOME,
            "allow it in sudoers",
        ),
        (1, "sudo: I'm sorry ann. I'm afraid I can't do that", AgentState.BECOME, "sudoers"),
        (1, "sudo: sorry, you must have a tty to run sudo", AgentState.BECOME, "requiretty"),
        (1, "Sorry, try again.; sudo: no password was provided", AgentState.BECOME, "refused"),
        (1, "sudo: 3 incorrect password attempts", AgentState.BECOME, "refused the password"),
        (127, "env: 'sudo': No such file or directory", AgentState.BECOME, "not installed"),
        (127, "bash: line 1: sudo: command not found", AgentState.BECOME, "not installed"),
        (127, "zsh:1: command not found: sudo", AgentState.BECOME, "not installed"),
        (1, "sudo: /etc/sudoers is world writable", AgentState.BECOME, "world writable"),
        (1, "This account is currently not available.", AgentState.FAILED, "runs no commands"),
        (
            1,
            "WARNING: Your password has expired.; Password change required but no TTY available.",
            AgentState.AUTH,
            "expired",
        ),
        (98, "preflight: /usr/bin/python3 is Python 3.4", AgentState.NO_PYTHON, "older than 3.6"),
        (126, "sh: 1: Permission denied", AgentState.NO_PYTHON, "may not be executed"),
        (127, "sh: not found", AgentState.NO_PYTHON, "/bin/sh"),
        (96, "", AgentState.LOST, "connection was lost"),
        (255, "", AgentState.LOST, "sshd log"),
        (0, "", AgentState.FAILED, "forced command"),
        (None, "", AgentState.LOST, "lost"),
        (None, "Killed", AgentState.LOST, "Killed"),
        (
            1,
            "sudo: unable to resolve host n1: Name or service not known; MemoryError",
            AgentState.FAILED,
            "status 1: sudo: unable to resolve host",
        ),
        (7, "odd", AgentState.FAILED, "status 7: odd"),
    ],
)
def test_what_an_exit_means(status: int | None, stderr: str, state: AgentState, words: str) -> None:
    got, reason = explain_exit(status, stderr)
    assert (got, words in reason) == (state, True), reason


@pytest.mark.parametrize(
    ("status", "stderr", "printed", "words"),
    [
        (1, "", "This account is currently not available.", "(This account is currently not"),
        (1, "stdin: is not a tty", "nologin: no", "log in as another user"),
        (97, "preflight: no python3", "Welcome; your password has expired", "no python3 to start"),
        (0, "", "1) status 2) quit", "status 0 and said: 1) status 2) quit (does a forced command"),
        (3, "odd", "Welcome", "status 3 and said: odd; Welcome"),
        (None, "", "Bye", "killed and said: Bye"),
    ],
)
def test_what_it_printed_counts_where_its_errors_tell_nothing(
    status: int | None, stderr: str, printed: str, words: str
) -> None:
    assert words in explain_exit(status, stderr, printed)[1]


def test_what_it_printed_is_told_once_and_short() -> None:
    assert printed_tail(b"a\r\nb\nb\n\x1b[1mb\x1b[0m\nb\na\n") == "a; b; b"
    assert len(printed_tail(b"".join(b"%d\n" % n for n in range(999)))) == 200


def test_what_comes_back_of_what_was_sent_is_not_a_nodes_own_words() -> None:
    sent = b"exec('import x')" + bytes(range(256)) + b'{"t":"setup","key":"89a48f11687b1146"}\n'
    for back in (sent, sent[200:], b"\xde^B\n" + sent[-30:].replace(b"\n", b"\r\n")):
        assert own_words(b"Welcome\r\n\xb5 \n" + back, sent) == b"Welcome\r"
    for own in (b"", b"1) status 2) quit\n", b" " * 40, b"import x"):
        assert own_words(own, sent + b" " * 40) == own


@given(st.one_of(st.none(), st.integers(0, 255)), st.binary(max_size=3000))
def test_every_exit_has_one_readable_line(status: int | None, stderr: bytes) -> None:
    state, reason = explain_exit(status, readable_tail(stderr))
    assert isinstance(state, AgentState)
    assert reason.isprintable()


@given(st.binary())
def test_a_tail_is_short_and_has_no_control_characters(data: bytes) -> None:
    tail = readable_tail(data)
    assert len(tail) <= TAIL
    assert tail.isprintable()


def test_a_tail_keeps_the_last_lines() -> None:
    data = b"old\r\n" * 500 + b"\x1b[31mred\x1b[0m  alert\n\n\x1b]0;title\x07end\n"
    assert readable_tail(data).endswith("old; red alert; end")
    assert readable_tail(data).startswith("…")
