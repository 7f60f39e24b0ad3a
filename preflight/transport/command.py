"""The one command line that runs on a node, and what it means when that ends.

The login shell may be bash, dash, ksh, csh, tcsh, zsh or fish. All of them read a word in single
quotes alike as long as it holds no `!`, no backslash and no newline, so nothing else is sent.
"""

import re

from preflight.core.model import AgentState
from preflight.errors import NodeError

NO_PYTHON = 97
"""Exit status of the command line: no interpreter was found."""
OLD_PYTHON = 98
"""Exit status of the boot code: the interpreter is older than Python 3.6."""
NO_INPUT = 96
"""Exit status of the boot code: stdin ended before all of it had come."""

TAIL = 500
"""The most characters of a node's stderr that a message carries."""
_PRINTED = 200  # the most of its stdout
_ALIKE = 16  # bytes of what was sent are no chance
_UNLIKE = 6  # of them, so that indentation and rulers are nothing that was sent

# $1 is the boot code, $2 the only interpreter to try. /usr/bin/python3 goes before PATH, where
# python3 may be a slow shim; `command -v` forks, so it comes late.
_RUN = 'r() { [ -x "$1" ] && MARK exec "$1" -IBS -u -c "$b"; }; b=$1; '
_SEARCH = (
    "r /usr/bin/python3; r /usr/libexec/platform-python; "
    'r "$(command -v python3)"; r /usr/local/bin/python3; '
    "echo preflight: no python3 in /usr/bin, /usr/libexec, PATH or /usr/local/bin >&2; "
    f"exit {NO_PYTHON}"
)
_GIVEN = f'r "$(command -v "$2")"; echo preflight: "$2" cannot be run >&2; exit {NO_PYTHON}'

_UNSAFE_BOOT = re.compile(r"""['"$\\!`\x00-\x1f\x7f]""")
_UNSAFE_PATH = re.compile(r"[\\!\x00-\x1f\x7f]")
_PLAIN = re.compile(rb"[\x20-\x7e]*\r?")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours and cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: window titles
)


def shell_command(python: str | None, become: str | None, boot: str, prompt: str | None) -> str:
    """The command line that starts `boot` in a node's python, through any login shell.

    `python` is the only interpreter to try, None to look for one. `become` is None or "sudo".
    `boot` is Python on one line without quotes, dollars, backslashes and exclamation marks.
    With `prompt`, from `start.new_prompt`, sudo asks for its password with it, and just before
    python starts `marker(prompt)` goes to stdout; without it sudo must not ask.

    Raises NodeError (no-python) for a `python` that not every shell could be told.
    """
    if _UNSAFE_BOOT.search(boot):
        raise ValueError("boot code must hold no quotes, dollars, backslashes, marks or newlines")
    if python is not None and (not python or _UNSAFE_PATH.search(python)):
        raise NodeError(
            AgentState.NO_PYTHON,
            f"python: {python!r} is no path that every shell takes: "
            "use one without exclamation marks, backslashes and control characters",
        )
    # A shell that traces its commands prints the doubled percent sign, sudo and printf print one:
    # so an echo of this line is never taken for the prompt or the marker.
    mark = "" if prompt is None else f'printf "{_doubled(marker(prompt))}" &&'
    script = _RUN.replace("MARK", mark) + (_SEARCH if python is None else _GIVEN)
    words = ["/bin/sh", "-c", _quoted(script), "preflight", _quoted(boot)]
    if python is not None:
        words.append(_quoted(python))
    if become is not None:
        # LC_ALL=C: sudo's refusals are told apart by their English words.
        ask = ["-n"] if prompt is None else ["-S", "-p", _quoted(_doubled(prompt))]
        words = ["env", "LC_ALL=C", "sudo", *ask, "--", *words]
    return " ".join(["exec", *words])


def marker(prompt: str) -> str:
    """What the command line prints just before python starts, if it was given `prompt`."""
    return f"started-{prompt}"


def _doubled(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def readable_tail(data: bytes) -> str:
    """The last lines of `data` that are not empty, fit for one line of a terminal."""
    text = _ESCAPES.sub("", data.decode("utf-8", "replace"))
    text = "".join(c for c in text if c.isprintable() or c.isspace())
    joined = "; ".join(" ".join(line.split()) for line in text.split("\n") if line.strip())
    return joined if len(joined) <= TAIL else "…" + joined[1 - TAIL :]


def _row(
    status: int | None, pattern: str, state: AgentState, reason: str
) -> tuple[int | None, re.Pattern[str], AgentState, str]:
    return status, re.compile(pattern), state, reason


def own_words(printed: bytes, sent: bytes) -> bytes:
    """What a node printed before it began to send back what it is sent, as a terminal does.

    A terminal garbles that, and forgets what is too long for a line; the run's key is in it.
    """
    known = {sent[at : at + _ALIKE] for at in range(len(sent) - _ALIKE + 1)}
    for at in range(len(printed) - _ALIKE + 1):
        piece = printed[at : at + _ALIKE]
        if piece in known and len(set(piece)) >= _UNLIKE:
            lines = printed[:at].split(b"\n")[:-1]
            return b"\n".join(line for line in lines if _PLAIN.fullmatch(line))
    return printed


def printed_tail(data: bytes) -> str:
    """Likewise of what a node printed before the agent was there: shorter, each line once."""
    lines = dict.fromkeys(line.strip() for line in data.replace(b"\r", b"\n").split(b"\n"))
    joined = readable_tail(b"\n".join(lines))
    return joined if len(joined) <= _PRINTED else "…" + joined[1 - _PRINTED :]


# The first row that fits wins. A status of None fits every status; {0} is the stderr.
_EXITS = (
    _row(
        None,
        r"a password is required|interactive authentication is required|interaction required"
        r"|a terminal is required to (?:read|authenticate)|no askpass program",
        AgentState.BECOME,
        "sudo wants a password: use --ask-become-pass, or allow the user NOPASSWD in sudoers",
    ),
    _row(
        None,
        r"must have a tty to run sudo|no tty present",
        AgentState.BECOME,
        "sudo wants a terminal: turn requiretty off for this user in sudoers",
    ),
    _row(
        None,
        r"not in the sudoers|may not run sudo|not allowed to (?:run sudo|execute)"
        r"|afraid I can't do that",
        AgentState.BECOME,
        "sudo does not let this user run /bin/sh as root: allow it in sudoers ({0})",
    ),
    _row(
        None,
        r"incorrect (?:password )?(?:authentication )?attempt|[Mm]aximum \d+ incorrect"
        r"|sudo: Authentication failed|Sorry, try again|no password was provided",
        AgentState.BECOME,
        "sudo refused the password: give the right one with --ask-become-pass",
    ),
    _row(
        127,
        r"\bsudo\b.*(?:not found|No such file)|not found: sudo|Unknown command:? \W*sudo",
        AgentState.BECOME,
        "sudo is not installed there: install it, or log in with user: root and without become",
    ),
    _row(
        1,
        r"(?:^|; )sudo: (?!unable to resolve host|setrlimit)",
        AgentState.BECOME,
        "sudo failed: {0}",
    ),
    _row(
        None,
        r"account is (?:currently )?not available|nologin",
        AgentState.FAILED,
        "the user's login shell runs no commands ({0}): log in as another user",
    ),
    _row(
        None,
        r"[Pp]assword has expired|[Pp]assword change required|must change your password",
        AgentState.AUTH,
        "the user's password has expired: log in by hand once and change it",
    ),
    _row(
        NO_PYTHON,
        "",
        AgentState.NO_PYTHON,
        "no python3 to start ({0}): install Python 3.6 or newer, "
        "or name one with python: in the inventory",
    ),
    _row(
        2,
        r"Unknown option: -I",
        AgentState.NO_PYTHON,
        "python there is older than 3.6 (it knows no -I): set `python:` in the inventory",
    ),
    _row(
        OLD_PYTHON,
        "",
        AgentState.NO_PYTHON,
        "its python is older than 3.6 ({0}): name a newer one with python: in the inventory",
    ),
    _row(
        126,
        "",
        AgentState.NO_PYTHON,
        "python or /bin/sh may not be executed ({0}): check its permissions and mount options",
    ),
    _row(
        127,
        "",
        AgentState.NO_PYTHON,
        "a command was not found ({0}): the node needs /bin/sh and Python 3.6 or newer",
    ),
    _row(
        NO_INPUT,
        "",
        AgentState.LOST,
        "its stdin ended before the agent was there: the connection was lost",
    ),
    _row(
        255,
        "",
        AgentState.LOST,
        "the session was cut off ({0}): look into the node's sshd log",
    ),
    _row(
        0,
        r"^$",
        AgentState.FAILED,
        "the command ended at once and said nothing: a forced command "
        "(ForceCommand, or command= in authorized_keys) seems to run instead of it",
    ),
)


def explain_exit(status: int | None, stderr: str, printed: str = "") -> tuple[AgentState, str]:
    """Why a node's python ended before it said a word: the agent's state and a one-line reason.

    `status` and `stderr` are what `Session.ending` gave, `printed` is `printed_tail` of its stdout.
    """
    for text in [text for text in (stderr, printed) if text] or [""]:
        for wanted, pattern, state, reason in _EXITS:
            if wanted in (None, status) and pattern.search(text):
                return state, reason.format(text or "it said nothing")
    said = f": {stderr}" if stderr else " and said nothing"
    if printed:
        said = f" and said: {'; '.join(filter(None, (stderr, printed)))}"
    if printed and not stderr and status is not None:
        said += " (does a forced command, or a login shell of its own, run in its place?)"
    if status is None:
        return AgentState.LOST, f"the connection was lost, or its command killed{said}"
    return AgentState.FAILED, f"the command ended with status {status}{said}"
