"""What the controller and an agent say to each other: the only thing the two machines share.

The agent is `python3` reading itself from standard input. Its standard output may start with noise
(motd, a chatty shell profile), so everything before `marker(run)` is skipped. After it both sides
speak frames: one JSON object a line, `t` naming its type.

    controller -> agent
    setup   run, key, tag, me, addresses, filters, load: who the node is, what its sockets let
            through; an empty tag is the one that follows from the key
    look    number, peers, cells, templates, rate, wait, taps, at: what to send and to expect, and
            when, where that is not at once
    deep    number, rate, settle, trace, pcap, trials: a deep look, see below
    go      everybody is ready (looks with taps, deep looks)
    drain   wait: everybody has sent; so many seconds for what is missing, then report. With a
            number it holds for that look even where the node has not begun it
    links   number, to, forbidden, trails, probes, macs: what its tables say of the run's
            addresses, see below
    facts   number, parts, peers, udp, tcp, libraries: what to tell of the node, see below
    get     number, rate, wait, parallel, cells: real requests to make, see below
    ear     number, ports: listen at the devices for connections to these TCP ports, from now on
    echo    number, rate, wait, cells, addresses, token, ident, small, full: see below
    sums    number: tell how many TCP segments had a wrong checksum
    load    modules: source text of what only later looks need
    beat    nothing but a sign of life

    agent -> controller
    hello   state, reason and facts of the node
    ready   the look's taps are open
    sent    everything was sent
    report  what each vantage point saw, where that differs from what was planned; of a deep look,
            what became of each shot
    links   number, held, unused, macs, hops, gateways, forbidden, trails, forwards, lengths; or
            failed, why
            there are none
    facts   number, facts, sources, unknown, cpu_us, clock: what is known of the node
    got     number, answers: what came of the requests
    ear     number, flows, lost, full: what was heard since the last ear frame, packets missed, and
            ports that had no room for a connection
    echoed  number, cells: what came of the echo requests
    sums    number, tcp: so many so far, in all network namespaces

A deep look is ordered as a look with taps is: load, deep, ready, go, sent, drain, report. Its
number is of the looks' and no look of the run may have it. `settle` are seconds in which nothing is
sent, so that what moves without us is known; `trace` is a name, the run's and the node's, where
rules are to be traced and counters read, else empty; `pcap` asks for the packets. `trials` are
those that the node has a part in; both its ends get the same but for `role`, `own` and `far`:

    id, source, destination  0 to 255, and the nodes' positions: part of every token
    role, own, far           source or destination; this node's address, and the other end's; a
                             third node, which forwards, gets what the destination does, and of its
                             report the hits alone count
    family, protocol, port   4 or 6; 17, 6, 1 or 58; 0 for ICMP
    tag_at                   offset of the run's tag in a UDP payload
    forms                    plain, harmless, random: {packet, protocol, token} of those used
    shots                    [form, source port, port, ttl, size, don't fragment, tos], at most
                             1,024, in the order of their leaving; ICMP: sequence number and 0 for
                             the ports; tos may be missing
    again                    position of the shot to be sent again all the while, that neighbours
                             are asked for; may be missing

Its report has `trials`, in the same order (bit i of a mask is shot i):

    id, masks        mask by vantage point, of those that were watched: at the source sent, left,
                     returned, received, at the destination arrived, accepted, answered; a one-way
                     shot has no answer
    lost             vantage points whose sockets lost packets, so that a blank is none there; also
                     `errors`
    resets           answered, received: mask of those that were RSTs (TCP)
    passages         left, returned, arrived, answered: [shot, device, source, source port,
                     destination, port, ttl, tos, size, don't fragment] as first seen by the tap
    hits             [forward or reply, position in `rules`, shot or null]: a rule that ended it, or
                     where that has `rewrites` made another packet of it;
                     over IPv6 also [sought, asked or seeks, position in `rules`, null]: one that
                     ended neighbour discovery, so that whoever brings the other end's packets (that
                     end on a link, else a router) asks in vain for this node, or somebody does who
                     may be that router, or this node seeks its next hop to the other end
    send_errors      at the source: [shot, errno]
    errors           at the source: [shot, sender, type, code, MTU] of every ICMP error that quotes
                     one of its shots, seen by the tap or by a socket
    route            [next hop to the other end, its device's MTU], the former empty where there is
                     no route, and the other end itself on a link
    device           the one that leads there, by name; empty likewise
    picked           the source address that routes pick for it, empty where not known
    neighbour_failed that next hop does not answer ARP or neighbour discovery, and what should have
                     left, shots or answers to them, has not
    mute             whoever brings the other end's packets asks for this node, and it sends nobody
                     an answer

and `node`: `trace`, why rules were not or not all traced, empty where they were; `rules`, of
`agent.ruletext`, with the path of chains that led there, `rewrites` (source or destination) and
`becomes` (of `agent.rewriting`) where they translate, `queue` and `reader` (of `agent.queues`)
where they hand packets to a program; `counters` {settings, idle, moved, seconds}, the last being
how long either took; `drops` and `idle_drops`, of `agent.drops`; `failed`, what of all this the
node could not tell, and why.
`pcap` are [seconds since the epoch, out or in, device, packet from its IP header], the packet in
hexadecimal and at most 256 bytes of it, at most 2,000 of them, in the order they were read.

A `links` frame comes after the load that brings its readers. By family, 4 and 6, `to` has the peers
to which nothing comes of what the node sends, `forbidden` those to which it can or does send
nothing, `trails` those with which anything is blocked, and `probes` [protocol, port] of each;
`macs` asks for those of its devices. Its answer:

    held       [peer, address, prefix length, device]: a peer's address that it has itself
    unused     [address, dadfailed, tentative or missing, prefix length, device] of its own
               addresses; the last two are empty where it is missing
    macs       MAC addresses of all its devices; null where not asked
    hops       [family, peer, next hop, device, MAC, permanent, another address has that MAC] of the
               peers in `to`, where the kernel knows the MAC
    gateways   [family, address, device, MAC, permanent, peers that are reached by it: a bit set in
               hexadecimal] of each next hop that is no peer
    forbidden  [family, peer, protocol, port, words, command, way in]: the route, or `ip rule`, that
               alone can have refused, as `ip` prints it, and what deletes it; protocol and port 0
               for all; the way in is what becomes of packets from there, see `agent.kernel.fib`
    trails     [family, peer, kind, gateway, device, own, words, command, way in, peers beside, next
               hops, rule] of the route to each peer in `trails`: the gateway is empty on a link,
               and with the device where there are several; own where that device has the node's
               address; what deletes it may be empty; the peers, bits as above, are reached by that
               device too, or where it is own by that gateway; of each next hop [address, device,
               MAC, silent, taken, command], the MAC empty where not known, silent where it does
               not answer, taken where packets to the peer may go by it, and what takes it out of
               the route, or empty; the rule that leads to its table and what deletes that, or none
    forwards   families of which a device forwards packets
    lengths    [family, prefix length] of its own addresses

A `facts` frame comes after the load that brings its readers. `parts` are of network, ports,
services and firewall; `peers` has by family, 4 and 6, an address or null for each node of the run;
`udp` and `tcp` are the ports whose holders are wanted; `libraries` asks to use those that the load
has brought, where the node can run them. Its answer has each fact by its name in
`facts`, in the shapes that `core.facts.parse` reads, and where it is from in `sources`; a fact that
could not be read is in `unknown` instead, with the reason. `cpu_us` is what each cost, `clock` the
node's time (seconds since the epoch) when it began and when it answered.

A `get` frame's `cells` are {family, port, out}: each peer in `out` is sent `GET /hello` over a
connection of its own, from the node's address; the node itself may be among them. At most `rate`
are begun a second, `parallel` are open at once, and `wait` seconds are given to each. In its
answer `answers` are [connected, end, errno, bytes, first 1,024 bytes, [[cell, peer, own port],
...]], alike ones together, the first bytes in hexadecimal; `end` is of `core.hello.End`. An `ear`
frame without ports ends the listening; `flows` are [the other end's address, the client's port,
the server's, sum of `core.hello.Passed`]. With `addresses`, by family, 4 and 6, those of the run's
nodes in their order or null, a `get` goes there instead, and the kernel picks the node's own.

An `echo` frame's `cells` are {family, out}: each peer in `out`, by the frame's `addresses`, is sent
`small` echo requests and then `full` of its route's full MTU with DF set; `token` is hexadecimal
and in each of them, `ident` their ICMP identifier. In the answer `cells` are [cell, peer, small
sent, full sent, small answered, full answered, errno of a send, [sender, type, code, MTU] of an
ICMP error or null, bytes of a full-size one, least round-trip time in microseconds or null].

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
