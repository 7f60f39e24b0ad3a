"""The agent's life: take the streams, say hello, look when told, end when nobody is there.

It listens on no port, writes no file, and has nothing to undo: its sockets go with the process. An
alarm that only the controller's sign of life puts off ends it also where it is stuck in a write.
"""

import _signal
import _socket as socket
import errno
import posix
import select
import sys
from time import monotonic, time

from preflight import wire
from preflight.agent import host
from preflight.agent.bpf import Filters
from preflight.agent.inet import packed
from preflight.agent.look import Look, Run
from preflight.agent.packets import TCP, UDP, run_ident, run_tag
from preflight.agent.policed import Policed
from preflight.agent.report import AT_DEVICES, report
from preflight.agent.route import Routes
from preflight.agent.send import Sender
from preflight.agent.sockets import PROTOCOLS, RawSocket
from preflight.agent.watch import MAX_READ, Watcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TICK_S = 0.005  # sockets are read so often: waking for every packet costs ten times as much
_POLL_S = 0.001  # what poll can tell apart
_BUFFER = 4 << 20  # bytes; the default kept 256 of 980 probes that arrived together


class GoneError(Exception):
    """The controller closed our standard input."""


class Agent:
    """One node's agent."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._rest = b""
        self._frames: list[dict[str, Any]] = []
        self._raw: list[RawSocket] = []
        self._policed = Policed()
        self._poll = select.poll()
        self._poll.register(incoming, select.POLLIN)
        self._readers: list[Any] = []
        self._drain: float | None = None
        self._drained: int | None = None
        self._setup: dict[str, Any] = {}
        self._own: dict[int, str] = {}
        self._run: Any = None
        self._routes: Any = None
        self._sender: Any = None
        self._ear: Any = None

    def serve(self) -> None:
        """Until the controller goes."""
        while True:
            frame = self._next()
            kind = frame["t"]
            if kind == "setup":
                self._say(self._hello(frame))
            elif kind == "rest":
                self._stand_down()
            elif kind == "load":
                sys.modules["preflight.agent"].load(frame["modules"])
            elif kind == "peers":
                addresses = {int(f): a for f, a in frame["addresses"].items()}
                self._run = Run(self._key, self._setup["me"], addresses)
            elif kind == "look":
                self._look(Look(self._run, frame))
            elif kind == "deep":
                self._deep(frame)
            elif kind in ("get", "echo", "sums"):
                self._say(self._real(frame))
                self._flush()
            elif kind == "ear":
                self._say(self._listen(frame))
            elif kind == "links":
                self._say(self._links(frame))
            elif kind == "facts":
                from preflight.agent.facts.answer import answer

                self._say(answer(frame, self._breathe))

    # --- the node

    def _packed_own(self) -> "dict[int, bytes]":
        return {family: packed(family, address) for family, address in self._own.items()}

    def _hello(self, setup: "dict[str, Any]") -> "dict[str, Any]":
        self._setup = setup
        self._key = bytes.fromhex(setup["key"])
        self._own = {int(family): a for family, a in setup["own"].items()}
        self._offsets = {int(port): offset for port, offset in setup["udp"].items()}
        hello: dict[str, Any] = {"t": "hello", "state": "ok", "reason": None}
        hello["number"] = setup.get("number", 0)
        hello.update(host.identity())
        try:
            self._open(setup)
        except PermissionError:
            hello["state"] = "no-privilege"
            return hello
        here = host.addresses()
        own = self._packed_own()
        hello["absent"] = [a for family, a in self._own.items() if own[family] not in here]
        devices = {f: here[p] for f, p in own.items() if p in here}
        hello["mtu"] = {str(f): self._routes.mtu(device) for f, device in devices.items()}
        names = {socket.if_indextoname(device) for device in devices.values()}
        hello["drivers"] = sorted({driver for name in names for driver in host.drivers(name)})
        udp, tcp = host.udp_sockets(), host.listeners()
        wanted = {"udp": set(self._offsets), "tcp": set(setup["tcp"])}
        hello["udp"] = host.ports(udp, wanted["udp"])
        hello["tcp"] = host.ports(tcp, wanted["tcp"])
        hello["served"] = {
            str(family): host.served(family, packed(family, address), wanted, udp, tcp)
            for family, address in self._own.items()
        }
        hello["echo_ignored"] = host.echo_ignored()
        return hello

    def _open(self, setup: "dict[str, Any]") -> None:
        self._stand_down()
        # A meeting's tag is known to whoever meets, so that who has another key can be told.
        tag = bytes.fromhex(setup["tag"]) if setup.get("tag") else run_tag(self._key)
        ident = run_ident(self._key)
        filters = Filters(self._offsets, setup["tcp"], setup["echo"], tag, ident)
        needed = {UDP: bool(self._offsets), TCP: bool(setup["tcp"])}
        for family in self._own:
            try:
                for protocol in PROTOCOLS[family]:
                    if needed.get(protocol, True):
                        self._raw.append(RawSocket(family, protocol, filters, _BUFFER))
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # then the address is told to be absent
                    raise
        self._policed = Policed()
        self._filters = filters
        self._routes = Routes()
        self._sender = Sender(tag, ident, self._own, self._routes)

    def _stand_down(self) -> None:
        """Hold nothing of a round that is over: the next one has a key and sockets of its own."""
        for raw in self._raw:
            raw.close()
        self._raw = []
        if self._routes is not None:
            self._routes.close()
        if self._run is not None:
            self._run.forget()
        if self._ear is not None:
            self._ear.close()
        self._ear = None
        self._sender = self._routes = self._run = None

    # --- a look

    def _look(self, look: "Look") -> None:
        watcher = Watcher(look, self._offsets)
        tap = None
        for raw in self._raw:
            self._readers.append(lambda raw=raw: watcher.read(raw))
        self._begin(look.number)
        try:
            if look.taps:
                tap = self._tap(look)
                self._readers.append(tap.read)
                for raw in self._raw:
                    watcher.read(raw)  # strangers' packets, and what was lost for them,
                self._policed.lost(self._raw)  # between two looks: all wait until all are ready
                self._say({"t": "ready", "number": look.number})
                self._await("go")
            if look.at:
                self._idle(look.at - time())
            self._sender.run(look, self._idle)
            self._say({"t": "sent", "number": look.number})
            while not self._over(look):
                self._watch_once(_TICK_S)
            self._lost(look, tap)
            look.remember()
            out = report(look)
            if tap is not None:
                out["neighbours"] = self._silent(look)
        finally:
            self._readers = []
            if tap is not None:
                tap.close()
        self._say(out)

    def _begin(self, number: int) -> None:
        """Nobody has said yet that all have sent; unless this node was too slow to hear it now."""
        if self._drained != number:
            self._drain = None

    def _tap(self, look: "Look") -> "Any":
        from preflight.agent.taps import Tap

        return Tap(look, self._filters, self._offsets, _BUFFER)

    def _over(self, look: "Look") -> bool:
        if self._drain is not None and monotonic() >= self._drain:
            return True
        if look.missing > 0 or look.settle:
            return False
        return self._drain is not None or not look.taps

    def _lost(self, look: "Look", tap: "Any") -> None:
        everywhere = range(len(look.cells))
        if tap is not None and tap.lost():
            look.lost |= {(vantage, c) for vantage in AT_DEVICES for c in everywhere}
        for raw in self._policed.lost(self._raw):
            for cell in look.cells:
                if (cell.family, cell.protocol) == (raw.family, raw.protocol):
                    look.lost |= {("accepted", cell.number), ("received", cell.number)}

    def _silent(self, look: "Look") -> "list[list[int]]":
        """[cell, peer] where nothing left because the next hop does not answer."""
        from preflight.agent.taps import silent_neighbours

        silent = silent_neighbours()
        out = []
        for cell in look.cells:
            for flight in look.flights[cell.number]:
                if look.seen["left"][flight.slot] != look.seen["sent"][flight.slot]:
                    route = self._routes.to(cell.family, flight.address)
                    if (route.device, route.gateway) in silent:
                        out.append([cell.number, flight.peer])
        return out

    # --- a deep look

    def _deep(self, frame: "dict[str, Any]") -> None:
        from preflight.agent.deep.look import Deep

        deep = Deep(frame, self._key, run_tag(self._key), run_ident(self._key), self._breathe)
        self._begin(deep.number)
        try:
            deep.open()
            self._readers.append(deep.read)
            self._idle(frame["settle"])
            deep.settle()
            self._say({"t": "ready", "number": deep.number})
            self._await("go")
            deep.send(self._idle)
            self._say({"t": "sent", "number": deep.number})
            while self._drain is None or not (deep.complete or monotonic() >= self._drain):
                deep.again()
                self._watch_once(_TICK_S)
            told = deep.report()
        finally:
            self._readers = []
            deep.close()
            self._forget(deep.tokens)
        self._say(told)

    # --- the node's own tables

    def _links(self, frame: "dict[str, Any]") -> "dict[str, Any]":
        from preflight.agent.links import answer

        try:
            return answer(frame, self._run.addresses, self._own, self._routes)
        except OSError as error:  # the kernel says no: then it has said nothing
            return {"t": "links", "number": frame["number"], "failed": str(error)}

    # --- real connections

    def _real(self, frame: "dict[str, Any]") -> "dict[str, Any]":
        """What the kernel itself gets from others, and what it throws away."""
        if frame["t"] == "sums":
            from preflight.agent.overlay import wrong_checksums

            return {"t": "sums", "number": frame["number"], "tcp": wrong_checksums()}
        if frame["t"] == "echo":
            from preflight.agent.overlay import Echoer

            return Echoer(frame).run(self._breathe)
        from preflight.agent.hello import Asker

        addresses, own = self._run.addresses, self._own
        if "addresses" in frame:  # from whichever of our own the kernel picks
            addresses = {int(f): a for f, a in frame["addresses"].items()}
            own = {4: "0.0.0.0", 6: "::"}  # noqa: S104
        return Asker(frame, addresses, own).run(self._breathe)

    def _listen(self, frame: "dict[str, Any]") -> "dict[str, Any]":
        """Begin to listen, or tell what was heard since."""
        from preflight.agent.ear import Ear

        heard: dict[str, Any] = {"t": "ear", "number": frame["number"], "flows": [], "lost": 0}
        heard["full"] = []
        if self._ear is not None:
            heard.update(flows=self._ear.heard(), lost=self._ear.lost(), full=self._ear.full())
            self._ear.close()
        self._ear = Ear(frame["ports"]) if frame["ports"] else None
        return heard

    def _flush(self) -> None:
        """What has come up between two looks is read away: it was nobody's probe."""
        for raw in self._raw:
            for _ in range(MAX_READ):
                if raw.receive() is None:
                    break
        self._policed.lost(self._raw)

    def _forget(self, tokens: "list[bytes]") -> None:
        """What came up in a deep look is no stray of a later look, now or late."""
        self._flush()
        if self._run is not None:
            self._run.past.update(dict.fromkeys(tokens, ("", 0, 0, 0)))

    # --- the streams

    def _idle(self, seconds: float) -> bool:
        """Watch for so long, at least once; False where the look is to end now."""
        end = monotonic() + seconds
        while True:
            self._watch_once(end - monotonic())
            if self._drain is not None:
                return False
            if end - monotonic() < _POLL_S:
                return True

    def _watch_once(self, seconds: float) -> None:
        pause = min(max(seconds, 0), _TICK_S)
        if self._poll.poll(int(pause * 1000)):
            self._hear()
        for read in self._readers:
            read()

    def _breathe(self) -> None:
        """Hear the controller where nothing else is to be watched for a while."""
        if self._poll.poll(0):
            self._hear()

    def _next(self) -> "dict[str, Any]":
        while not self._frames:
            self._poll.poll()
            self._hear()
        return self._frames.pop(0)

    def _await(self, kind: str) -> None:
        while self._next()["t"] != kind:
            pass

    def _hear(self) -> None:
        data = posix.read(self._incoming, 1 << 16)
        if not data:
            raise GoneError
        _signal.alarm(wire.SILENCE_S)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            frame = wire.decode_trusted(line)
            if frame["t"] == "drain":
                self._drain = monotonic() + frame["wait"]
                self._drained = frame.get("number")
            elif frame["t"] != "beat":
                self._frames.append(frame)

    def _say(self, frame: "dict[str, Any]") -> None:
        data = wire.encode(frame)
        while data:
            data = data[posix.write(self._outgoing, data) :]


def start(run: str) -> None:
    """Run an agent on standard input and output, and end the process with it."""
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)  # whatever our parent did to it
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
    _signal.alarm(wire.SILENCE_S)
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # Ctrl-C is for the controller beside us
    outgoing = posix.dup(1)
    posix.dup2(2, 1)  # a stray print may not corrupt the frames
    posix.write(outgoing, wire.marker(run))
    code = 0
    try:
        Agent(0, outgoing).serve()
    except (GoneError, BrokenPipeError):
        pass
    except Exception as error:  # noqa: BLE001 - the last line of stderr is what the user is told
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = "%s:%d" % (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else "?"
        text = "agent: %s: %s (%s)\n" % (type(error).__name__, error, where)
        posix.write(2, text.encode("utf-8", "replace"))
        code = 99
    posix._exit(code)  # noqa: SLF001 - no interpreter shutdown: nothing to flush
