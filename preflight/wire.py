"""What the controller and an agent say to each other: the only thing the two machines share.

The agent is `python3` reading itself from standard input. Its standard output may start with noise
(motd, a chatty shell profile), so everything before `marker(run)` is skipped. After it both sides
speak frames: one JSON object a line, `t` naming its type.

    controller -> agent
    setup   run, key, me, addresses, filters, load: who the node is, what its sockets let through
    look    number, peers, cells, templates, rate, wait, taps: what to send and what to expect
    go      everybody is ready (looks with taps only)
    drain   everybody has sent: wait that many seconds for what is missing, then report
    load    modules: source text of what only later looks need
    beat    nothing but a sign of life

    agent -> controller
    hello   state, reason and facts of the node
    ready   the look's taps are open
    sent    everything was sent
    report  what each vantage point saw, where that differs from what was planned

Standard library of Python 3.6 only, and no import that the interpreter has not already made: an
agent's start is most of what a run costs a node.
"""

BEAT_S = 2  # the controller's sign of life
SILENCE_S = 10  # an agent that hears nothing for so long is alone, and ends


def marker(run: str) -> bytes:
    """The bytes after which an agent's output is frames; `run` makes it unlike any noise."""
    return b"\0\0PREFLIGHT-1 " + run.encode() + b"\n"


def encode(frame: object) -> bytes:
    """One frame as a line of JSON. Takes dict, list, tuple, str, int, float, bool and None."""
    return _json(frame).encode() + b"\n"


def _json(value: object) -> str:
    # json costs an agent 8 ms of imports; this is all of it that the agent needs.
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, dict):
        return "{" + ",".join(_string(str(k)) + ":" + _json(v) for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_json, value)) + "]"
    raise TypeError("no frame can carry a " + type(value).__name__)


def _string(text: str) -> str:
    plain = text.isalnum() and len(text) == len(text.encode("utf-8", "replace"))
    return '"' + (text if plain else "".join(map(_character, text))) + '"'


def _character(c: str) -> str:
    if c in '"\\':
        return "\\" + c
    if " " <= c <= "~":
        return c
    code = ord(c)
    if code > 0xFFFF:
        code -= 0x10000
        return "\\u%04x\\u%04x" % (0xD800 | code >> 10, 0xDC00 | code & 0x3FF)
    return "\\u%04x" % code


def decode_trusted(line: bytes) -> dict:  # type: ignore[type-arg]
    """A frame from the controller, on the agent: it already runs that side's code, so eval is safe.

    Never for what comes from a node; the controller reads that with a real JSON parser.
    """
    names: dict[str, object] = {"__builtins__": {}, "null": None, "true": True, "false": False}
    return eval(line.decode(), names)  # type: ignore[no-any-return]  # noqa: S307
