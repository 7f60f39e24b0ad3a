"""All facts in one frame. A source that cannot be read costs its own fact, with the reason said."""

import sys
import time

from preflight.agent.facts import media, modules, owners, routes, routing, sockets, sysctls
from preflight.agent.facts.ethtool import Ethtool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Device = dict[str, Any]
    Sources = Sequence[tuple[str, Callable[[], Any]]]  # a source's name, and reading it

_GUESTS = ("veth", "tun")  # one for each pod, container or virtual machine
_PLENTY = 256  # devices, or addresses, told


class Reading:
    """What was found, where it is from, and why the rest was not.

    `breathe` is called between two facts, to hear whether somebody still wants them.
    """

    def __init__(self, breathe: "Callable[[], None]") -> None:
        self._breathe = breathe
        self.facts: "dict[str, Any]" = {}
        self.sources: "dict[str, str]" = {}
        self.unknown: "dict[str, str]" = {}
        self.cpu_us: "dict[str, int]" = {}

    def take(self, name: str, *sources: "tuple[str, Callable[[], Any]]") -> "Any":
        """Read one fact from the first source that has it; None where none does."""
        self._breathe()
        begun = time.process_time()
        for source, read in sources:
            try:
                self.facts[name] = read()
            except Exception as error:  # noqa: BLE001 - a fact less is better than no facts
                self.unknown[name] = reason(error)
                continue
            self.unknown.pop(name, None)
            self.sources[name] = source
            break
        self.cpu_us[name] = int((time.process_time() - begun) * 1e6)
        return self.facts.get(name)


def answer(frame: "dict[str, Any]", breathe: "Callable[[], None]") -> "dict[str, Any]":
    """The answer to a `facts` frame; see `preflight.wire`."""
    begun = time.time()
    reading = Reading(breathe)
    parts = frame["parts"]
    libraries = _libraries(reading) if frame.get("libraries") else {}
    if "network" in parts:
        _network(reading, frame["peers"], libraries)
        _kernel(reading)
    if "ports" in parts:
        _ports(reading, frame["udp"], frame["tcp"], libraries)
    if "services" in parts:
        _services(reading)
    if "firewall" in parts:
        _firewall(reading)
    return {
        "t": "facts",
        "number": frame["number"],
        "facts": reading.facts,
        "sources": reading.sources,
        "unknown": reading.unknown,
        "cpu_us": reading.cpu_us,
        "clock": [begun, time.time()],
    }


def _libraries(reading: Reading) -> "dict[str, str]":
    """The libraries that can be used here, with their versions."""
    from preflight.agent.facts.shipped import Shelf

    parcels = sys.modules["preflight.agent.facts.parcels"].PARCELS
    shelf = Shelf(parcels)
    out = {}
    for name in parcels:
        try:
            out[name] = "%s %s" % (name, shelf.take(name))
        except Exception as error:  # noqa: BLE001 - the same facts have another source
            reading.unknown[name] = reason(error)
    return out


# --- the network ---------------------------------------------------------------------------------


def _network(reading: Reading, peers: "dict[str, Any]", libraries: "dict[str, str]") -> None:
    readers = _readers(reading, libraries)
    try:
        found = reading.take("links", *_each(readers, lambda r: r.links())) or []
        names = {device["index"]: device["name"] for device in found}
        by_family = {int(family): addresses for family, addresses in peers.items()}
        here = reading.take("addresses", *_each(readers, lambda r: r.addresses(names))) or []

        def ways(reader: "Any") -> "list[dict[str, Any]]":
            return routes.gather(lambda *to: reader.way(*to, names), by_family)

        def defaults(reader: "Any") -> "list[dict[str, Any]]":
            return routes.defaults(lambda *to: reader.way(*to, names))

        used = list(reading.take("ways", *_each(readers, ways)) or [])
        used += reading.take("defaults", *_each(readers, defaults)) or []
        reading.take("rules", *_each(readers, lambda r: r.rules()))
    finally:
        for _, reader in readers:
            reader.close()
    _devices(reading, found, here, used)


def _readers(reading: Reading, libraries: "dict[str, str]") -> "list[tuple[str, Any]]":
    """Whoever can ask the kernel about its network, the preferred one first."""
    out: "list[tuple[str, Any]]" = []
    if "pyroute2" in libraries:
        from preflight.agent.facts import by_pyroute2

        try:
            out.append((libraries["pyroute2"], by_pyroute2.Reader()))
        except Exception as error:  # noqa: BLE001 - the next one does as well
            reading.unknown["pyroute2"] = reason(error)
    try:
        out.append(("rtnetlink", routing.Reader()))
    except OSError as error:
        for name in () if out else ("links", "addresses", "ways", "defaults", "rules"):
            reading.unknown[name] = reason(error)
    return out


def _each(readers: "list[tuple[str, Any]]", read: "Callable[[Any], Any]") -> "Sources":
    return [(name, _bound(read, reader)) for name, reader in readers]


def _bound(read: "Callable[[Any], Any]", reader: "Any") -> "Callable[[], Any]":
    return lambda: read(reader)


def _devices(
    reading: Reading, found: "list[Device]", here: "list[Device]", ways: "list[Device]"
) -> None:
    """What is known of the devices that packets between nodes go by."""
    used = stack(found, {way["device"] for way in ways})
    # A guest's device has a link-local address too.
    addressed = {address["device"] for address in here if address["scope"] == "global"}
    if found:
        told = worth_telling(found, set(used) | addressed)
        reading.facts["links"], reading.facts["links_untold"] = told, len(found) - len(told)
    if here:
        reading.facts["addresses"] = addresses_worth_telling(here, used)
    reading.take("offloads", ("SIOCETHTOOL", lambda: _offloads(used, reading)))
    reading.take("media", ("/sys/class/net", lambda: {name: media.read(name) for name in used}))
    devices = sorted(set(used) | addressed - {"lo"})
    reading.take("rp_filter", ("/proc/sys", lambda: sysctls.rp_filter(devices)))


def _offloads(devices: "Sequence[str]", reading: Reading) -> "dict[str, Any]":
    ethtool = Ethtool()
    out = {}
    try:
        for name in devices:
            try:
                out[name] = ethtool.read(name)
            except OSError as error:
                reading.unknown["offloads of " + name] = reason(error)
    finally:
        ethtool.close()
    return out


def stack(devices: "list[Device]", names: "set[str | None]") -> "list[str]":
    """These devices and all below them: a VLAN's bearer, a bond's members, a bridge's ports.

    A bridge's ports to guests are none of it.
    """
    by_name = {device["name"]: device for device in devices}
    out: "list[str]" = []
    waiting = sorted(name for name in names if name is not None and name in by_name)
    waiting = [name for name in waiting if name != "lo"]
    while waiting:
        name = waiting.pop(0)
        if name in out:
            continue
        out.append(name)
        if by_name[name]["lower"]:
            waiting.append(by_name[name]["lower"])
        waiting += [d["name"] for d in devices if d["master"] == name and d["kind"] not in _GUESTS]
    return out


def worth_telling(devices: "list[Device]", needed: "set[str]") -> "list[Device]":
    """All devices but the many that are for guests."""
    told = [d for d in devices if d["kind"] not in _GUESTS or d["name"] in needed]
    return told[:_PLENTY]


def addresses_worth_telling(here: "list[Device]", used: "Sequence[str]") -> "list[Device]":
    """The used devices' first: kube-proxy may keep an address for each service."""
    ours = [a for a in here if a["device"] in used]
    others = [a for a in here if a["device"] not in used and a["scope"] != "link"]
    return (ours + others)[:_PLENTY]


# --- the rest ------------------------------------------------------------------------------------


def _kernel(reading: Reading) -> None:
    reading.take("kernel", ("uname", sysctls.kernel))
    reading.take("modules", ("/proc/modules, /sys/module, /lib/modules", modules.read))
    reading.take("echo_ignored", ("/proc/sys", sysctls.echo_ignored))
    reading.take("conntrack", ("/proc/sys", sysctls.conntrack))
    reading.take("neighbours", ("/proc/net/stat", sysctls.neighbours))
    reading.take("tcp", ("/proc/net/snmp", sysctls.tcp_counters))
    reading.take("nameservers", ("/etc/resolv.conf", sysctls.nameservers))


def _ports(
    reading: Reading, udp: "list[int]", tcp: "list[int]", libraries: "dict[str, str]"
) -> None:
    devices = reading.facts.get("links", ())
    # One that is down has no socket.
    tunnels = {d["tunnel"]["port"] for d in devices if d["tunnel"] and d["up"]}
    blind = 0

    def by_ourselves() -> "list[dict[str, Any]]":
        nonlocal blind
        found, blind = owners.read(sockets.read(udp, tcp), tunnels)
        return found

    known = [("/proc/net/udp, sock_diag, /proc/PID/fd", by_ourselves)]
    if "psutil" in libraries:
        from preflight.agent.facts import by_psutil

        known.insert(0, (libraries["psutil"], lambda: by_psutil.read(udp, tcp)))
    reading.take("sockets", *known)
    if blind:
        reading.unknown["owners"] = "%d processes could not be looked into: it takes root" % blind


def _services(reading: Reading) -> None:
    from preflight.agent.facts import clock, cni, services

    reading.take("services", ("/run/systemd, /etc", services.read))
    reading.take("cni", ("/etc/cni/net.d", cni.read))
    reading.take("timekeeping", ("adjtimex", clock.read))


def _firewall(reading: Reading) -> None:
    from preflight.agent.facts import iptables, nftables

    reading.take("nftables", ("nfnetlink", nftables.read))
    reading.take("iptables", ("getsockopt", iptables.read))


def reason(error: Exception) -> str:
    """Why a source could not be read, in a few words."""
    if isinstance(error, PermissionError):
        return "not permitted: it takes root"
    if isinstance(error, OSError):
        what = error.strerror or "errno %s" % error.errno
        return "%s: %s" % (error.filename, what) if error.filename else what
    return str(error) or type(error).__name__
