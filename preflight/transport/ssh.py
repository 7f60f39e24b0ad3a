"""One SSH connection: key exchange, host key, authentication, channels. All of paramiko is here.

Only this file knows paramiko, and all paramiko's errors become NodeErrors here.
"""

import contextlib
import io
import logging
import threading
import time
from collections.abc import Callable

from preflight.core.model import AgentState
from preflight.errors import NodeError
from preflight.transport.auth import Reply, authenticate
from preflight.transport.base import Timeouts
from preflight.transport.dial import Wire
from preflight.transport.endpoint import Endpoint
from preflight.transport.hostcheck import HostCheck
from preflight.transport.imports import without
from preflight.transport.keyring import Candidate, Offer
from preflight.transport.narrow import narrow
from preflight.transport.session import SshSession
from preflight.transport.sshagent import AgentError

# `Match exec` is ours to run (`sshconfig`), and invoke is half of paramiko's import time.
with without("invoke"):
    import paramiko
    from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
    from paramiko.packet import Packetizer
    from paramiko.ssh_exception import IncompatiblePeer, PartialAuthentication

# Its threads would print tracebacks to stderr.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

TROUBLE = (paramiko.SSHException, OSError, EOFError)
"""What a channel raises once its connection is gone."""


class HungUpError(Exception):
    """The connection ended before the server's banner; the message may be empty."""


class Connection:
    """A connection to `end`. Not yet more than a byte stream until `log_in`."""

    def __init__(self, end: Endpoint, wire: Wire, timeouts: Timeouts) -> None:
        self.end = end
        self._wire = wire
        self._timeouts = timeouts
        self._transport = paramiko.Transport(wire, packetizer_class=_Packetizer)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close it, and all channels. May be called twice, and from any thread."""
        self._transport.close()
        self._wire.close()

    def log_in(self, host_check: HostCheck, offer: Offer | NodeError, password: str | None) -> None:
        """Exchange keys, check the host's, authenticate. It closes itself where that fails.

        Raises NodeError, and HungUpError where there was no banner, which may be tried again.
        """
        transport = self._transport
        try:
            options = transport.get_security_options()
            options.key_types = host_check.kinds(self.end, options.key_types)
            # One pass over the bytes where others need a second one, in Python, for the MAC.
            options.ciphers = sorted(options.ciphers, key=lambda name: "-gcm@" not in name)
            self._exchange_keys()
            key = transport.get_remote_server_key()
            host_check.check(self.end, key.get_name(), key.asbytes())
            if isinstance(offer, NodeError):
                raise NodeError(offer.state, str(offer))  # noqa: TRY301
            door = _Door(transport, self.end, self._timeouts.auth)
            authenticate(self.end, offer, password, door)
        except TROUBLE as exc:
            self.close()
            raise self._broken(exc) from exc
        except BaseException:
            self.close()
            raise

    def _exchange_keys(self) -> None:
        transport, seconds = self._transport, self._timeouts.banner
        transport.banner_timeout = seconds
        done = threading.Event()
        transport.start_client(event=done)
        in_time = done.wait(2 * seconds)
        if in_time and transport.is_active():
            return
        error, perhaps = transport.get_exception(), ""
        if transport.remote_version and in_time:
            raise error or EOFError
        if transport.remote_version:
            late = f"no key exchange with {self.end} within {2 * seconds:g} s (2 banner timeouts)"
            perhaps = f"; or {narrow(self.end.host)}"
        elif in_time and error is not None and not isinstance(error.__context__, TimeoutError):
            raise HungUpError(self._wire.said()) from error
        else:
            late = f"no SSH banner from {self.end} within {seconds:g} s (banner timeout)"
        raise NodeError(
            AgentState.UNREACHABLE,
            f"{late}: check that sshd answers on that port and is not overloaded{perhaps}",
        )

    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return bool(self._transport.is_active())

    def through(self, end: Endpoint) -> Wire:
        """A byte stream from here to `end`. Raises NodeError."""
        seconds = self._timeouts.connect
        try:
            channel = self._transport.open_channel(
                "direct-tcpip", (end.host, end.port), ("127.0.0.1", 0), timeout=seconds
            )
        except paramiko.ChannelException as exc:
            if exc.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
                why = "it forbids that: check AllowTcpForwarding and PermitOpen in its sshd"
            else:
                why = f"{exc.text or 'failed'}: check the address, and that sshd runs there"
            raise self._not_through(end, why) from exc
        except TROUBLE as exc:
            if self._transport.is_active():
                why = f"no answer within {seconds:g} s (connect timeout): check the firewalls there"
            else:
                why = "the connection to it was lost"
            raise self._not_through(end, why) from exc
        return Wire(channel, self._timeouts.send, trouble=TROUBLE)

    def _not_through(self, end: Endpoint, why: str) -> NodeError:
        return NodeError(
            AgentState.UNREACHABLE, f"from bastion {self.end} to {end.host} port {end.port}: {why}"
        )

    def run(self, command: str) -> SshSession:
        """Start `command` in the user's login shell, without a terminal. Raises NodeError."""
        seconds = self._timeouts.channel
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.close()

        # paramiko waits for the command's confirmation without end.
        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            channel = self._transport.open_session(timeout=seconds + 1)
            channel.exec_command(command)
        except paramiko.ChannelException as exc:
            raise NodeError(
                AgentState.FAILED,
                f"{self.end} opens no session ({exc.text}): check MaxSessions and the limits",
            ) from exc
        except TROUBLE as exc:
            if late.is_set():
                raise NodeError(
                    AgentState.UNREACHABLE,
                    f"{self.end} started no command within {seconds:g} s (channel timeout): "
                    "check that the node is not overloaded",
                ) from exc
            if self._transport.is_active():
                raise NodeError(
                    AgentState.FAILED,
                    f"{self.end} refuses to run commands: check the user's login shell",
                ) from exc
            raise self._broken(exc) from exc
        finally:
            timer.cancel()
        return SshSession(channel, self.close, str(self.end), self._timeouts, TROUBLE)

    def _broken(self, error: Exception) -> NodeError:
        if isinstance(error, IncompatiblePeer):
            why = f"shares no algorithm with us ({error}): update its sshd, or its configuration"
        elif isinstance(error, EOFError | ConnectionError):
            why = "hung up during the login: look into its sshd log"
        else:
            why = f"broke off the login: {error or type(error).__name__}"
        return NodeError(AgentState.UNREACHABLE, f"{self.end} {why}")


class FileKey:
    """A private key from a file; see `keyring.PrivateKey`."""

    def __init__(self, text: str) -> None:
        """`text` is unencrypted, in OpenSSH's format."""
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            with contextlib.suppress(paramiko.SSHException):
                self._key: paramiko.PKey = kind.from_private_key(io.StringIO(text))
                return
        raise AssertionError("keyfile.unlock lets only these types pass")

    def public(self) -> bytes:
        """Its public half."""
        return self._key.asbytes()

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """A signature of `data` in SSH's format."""
        return self._key.sign_ssh_data(data, algorithm).asbytes()


class _Packetizer(Packetizer):
    def start_handshake(self, timeout: float) -> None:
        """No timer thread for each login: `_exchange_keys` watches the time."""


class _OfferedKey(paramiko.PKey):
    """A candidate, as paramiko wants it."""

    def __init__(self, candidate: Candidate) -> None:
        super().__init__()
        self.public_blob = None
        self._candidate = candidate

    def get_name(self) -> str:
        return self._candidate.kind

    def asbytes(self) -> bytes:
        return self._candidate.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> paramiko.Message:
        try:
            signature = self._candidate.sign(data, algorithm or self._candidate.kind)
        except AgentError:
            # An exception here would end the connection; the server just refuses this one.
            signature = b""
        return paramiko.Message(signature)


class _Door:
    """Authentication attempts on one connection; see `auth.Door`."""

    def __init__(self, transport: paramiko.Transport, end: Endpoint, seconds: float) -> None:
        self._transport = transport
        self._end = end
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def none(self) -> Reply:
        return self._blocking(lambda: self._transport.auth_none(self._end.user))

    def key(self, candidate: Candidate) -> Reply:
        key = _OfferedKey(candidate)
        return self._attempt(
            lambda done: self._transport.auth_publickey(self._end.user, key, event=done)
        )

    def password(self, password: str) -> Reply:
        user = self._end.user
        return self._attempt(
            lambda done: self._transport.auth_password(user, password, event=done, fallback=False)
        )

    def interactive(self, password: str) -> Reply:
        asked = 0

        def answer(_title: str, _text: str, prompts: list[tuple[str, bool]]) -> list[str]:
            nonlocal asked
            asked += len(prompts)
            hidden = len(prompts) == asked == 1 and not prompts[0][1]
            return [password] if hidden else [""] * len(prompts)

        return self._blocking(lambda: self._transport.auth_interactive(self._end.user, answer))

    def _attempt(self, begin: Callable[[threading.Event], object]) -> Reply:
        done = threading.Event()
        try:
            begin(done)
        except TROUBLE:
            return Reply(accepted=False, over=True)
        if not done.wait(max(0.0, self._deadline - time.monotonic())):
            raise self._late()
        if self._transport.is_authenticated():
            return Reply(accepted=True)
        return self._reply(self._transport.get_exception())

    def _blocking(self, attempt: Callable[[], list[str]]) -> Reply:
        self._transport.auth_timeout = max(0.1, self._deadline - time.monotonic())
        try:
            wanted = attempt()
        except TROUBLE as exc:
            if time.monotonic() >= self._deadline:
                raise self._late() from exc
            return self._reply(exc)
        return Reply(accepted=not wanted, partial=bool(wanted), methods=tuple(wanted))

    def _reply(self, error: Exception | None) -> Reply:
        methods: tuple[str, ...] = ()
        if isinstance(error, paramiko.BadAuthenticationType | PartialAuthentication):
            methods = tuple(error.allowed_types)
        return Reply(
            accepted=False,
            partial=isinstance(error, PartialAuthentication),
            methods=methods,
            over=not self._transport.is_active(),
        )

    def _late(self) -> NodeError:
        return NodeError(
            AgentState.AUTH,
            f"{self._end} did not decide on {self._end.user} within {self._seconds:g} s "
            "(auth timeout): check its sshd log, and ssh-agent here if a key wants consent",
        )
