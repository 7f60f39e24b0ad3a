"""Addresses that two nodes have, and those that their own node does not use.

Rules of this file:
1. Who has whose address is the kernel's word on its own node, and explains what is lost between
   these two, whatever else does.
2. What others lose on their way to the owner is explained only where packets for it came to the
   other holder.
3. Two nodes that each have the other's address may be one machine: nobody is told to give it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address

from preflight.core.findings.claims import Cells, Claim, Claims, Told, ip, lasting
from preflight.core.findings.model import Cause, Change
from preflight.core.model import Cause as CellCause
from preflight.core.model import Connection, Family, Leg, Outcome, Place, Verdict, family_of
from preflight.core.naming import Naming
from preflight.core.tables import Held, Tables, Unused
from preflight.core.terms import listed
from preflight.core.ways import lost_back, lost_there

Astray = Mapping[int, set[tuple[int, str]]]  # see `core.findings.build`
_SHOWN = 4
_MISSING = "missing"
_IPVS = "kube-ipvs0"  # kube-proxy's, of services' addresses
_MISLED = (CellCause.DROPPED, CellCause.REJECTED, CellCause.INTERCEPTED)


def addresses(claims: Claims, tables: Mapping[int, Tables], astray: Astray) -> None:
    """Claim what these explain."""
    held: dict[tuple[int, tuple[int, ...]], list[tuple[int, Held]]] = {}
    by_address: dict[tuple[int, str], list[tuple[int, Held]]] = {}
    for node, told in sorted(tables.items()):
        for one in told.held:
            by_address.setdefault((one.owner, one.address), []).append((node, one))
    for (owner, _), own in by_address.items():
        held.setdefault((owner, tuple(node for node, _ in own)), []).extend(own)
    mutual = {
        (owner, node)
        for owner, nodes in held
        for node in nodes
        if any(one.owner == node for one in (tables[owner].held if owner in tables else ()))
    }
    for (owner, nodes), own in held.items():
        if any((owner, node) in mutual for node in nodes):
            if len(nodes) > 1 or owner < nodes[0]:
                _one_machine(claims, owner, nodes, own)
        else:
            _Duplicate(claims, tables, astray, owner, own).tell()
    known = {(one.owner, one.address) for own in held.values() for _, one in own}
    for node, told in sorted(tables.items()):
        for unused in told.unused:
            if (node, unused.address) not in known:
                _unused(claims, node, unused)


class _Duplicate:
    """One node's addresses at the same others."""

    def __init__(
        self,
        claims: Claims,
        tables: Mapping[int, Tables],
        astray: Astray,
        owner: int,
        own: Sequence[tuple[int, Held]],
    ) -> None:
        self._claims = claims
        self._tables = tables
        self._astray = astray
        self._owner = owner
        self._own = own
        self._nodes = claims.matrix.nodes
        self._holders = sorted({node for node, _ in own})
        self._addresses = list(dict.fromkeys(one.address for _, one in own))
        found = tables[owner].unused if owner in tables else ()
        self._unused = [one for one in found if one.address in self._addresses]

    def tell(self) -> None:
        """Claim its cells, and make the finding."""
        cells: list[Cells] = []
        came: dict[int, set[str]] = {}
        for address in self._addresses:
            family = family_of(address)
            here = sum(1 << node for node, one in self._own if one.address == address)
            cells.append(self._claims.take(family, self._between(here, family)))
            for node, one in self._own:
                senders = self._astray_from(node, family) if one.address == address else set()
                if senders:
                    came.setdefault(node, set()).update(senders)
                    cells.append(self._claims.take(family, self._others()))
        cells += [
            self._claims.take(family_of(one.address), _of_unused(len(self._nodes), self._owner))
            for one in self._unused
        ]
        cut_off = bool(came) and self._cut_off()
        if cut_off:
            cells += [self._claims.take(f, self._without_agent()) for f in self._claims.ways]
        self._claims.tell(
            cells,
            Told(
                Cause.ADDRESS,
                self._title(),
                self._holders,
                [*self._evidence(came, cut_off=cut_off)],
                [*self._changes()],
                " ".join(self._advice(came)),
            ),
        )

    def _changes(self) -> Iterator[Change]:
        for node, one in self._own:
            if one.device not in ("", _IPVS):
                yield _removal(self._nodes[node].name, one)
        for unused in self._unused:
            if unused.device:
                yield Change(self._nodes[self._owner].name, "ip", _anew(unused), ())

    def _between(self, here: int, family: Family) -> Iterator[Claim]:
        rows = dict.fromkeys([node for node, _ in self._own], 1 << self._owner)
        wanted = kept_over_ipv6 if family is Family.IPV6 else all_but_unknown
        yield Claim({**rows, self._owner: here}, wanted)

    def _others(self) -> Iterator[Claim]:
        every = (1 << len(self._nodes)) - 1
        yield Claim(dict.fromkeys(range(len(self._nodes)), 1 << self._owner), _astray_there)
        yield Claim({self._owner: every}, _astray_back)

    def _without_agent(self) -> Iterator[Claim]:
        known = sum(1 << node for node in self._tables)
        rows = dict.fromkeys(self._tables, 1 << self._owner)
        yield Claim({**rows, self._owner: known}, _no_agent)

    def _astray_from(self, holder: int, family: Family) -> set[str]:
        """Other nodes' addresses from which packets for the owner came to the holder."""
        own = {*self._nodes[holder].addresses, *self._addresses}
        return {
            sender
            for _, sender in self._astray.get(holder, ())
            if sender not in own and family_of(sender) is family
        }

    def _cut_off(self) -> bool:
        """The controller, too, reaches the owner by that address, and did not."""
        node = self._nodes[self._owner]
        by_it = node.host in self._addresses and node.connection is Connection.SSH
        return by_it and self._owner not in self._tables

    @property
    def _certain(self) -> bool:
        """The owner's own agent is there: it would not be without that address."""
        return self._owner in self._tables

    def _title(self) -> str:
        word = "address" if len(self._addresses) == 1 else "addresses"
        verb = "is" if len(self._addresses) == 1 else "are"
        has = self._certain and not any(one.flag == _MISSING for one in self._unused)
        also = "also " if has else ""
        who = Naming(self._nodes).name(sum(1 << node for node in self._holders))
        return (
            f"{self._nodes[self._owner].name}'s {word} {listed(self._addresses)} {verb} {also}"
            f"configured on {who}"
        )

    def _evidence(self, came: Mapping[int, set[str]], *, cut_off: bool) -> Iterator[str]:
        owner = self._nodes[self._owner].name
        for node in self._holders[:_SHOWN]:
            own = [one for holder, one in self._own if holder == node]
            devices = listed(dict.fromkeys(one.device for one in own if one.device))
            at = f" on {devices}" if devices else ""
            has = listed(f"{one.address}/{one.length}" for one in own)
            # Linux takes in over IPv6 what claims to be from an address of its own.
            four = any(family_of(one.address) is Family.IPV4 for one in own)
            drops = ", and drops what comes from there over IPv4" if four else ""
            yield (
                f"{self._nodes[node].name} has {has}{at}: its kernel keeps what it sends to "
                f"{owner} to itself{drops}"
            )
        for unused in self._unused:
            yield _shown(owner, unused)
        for node, senders in came.items():
            some = sorted(senders, key=ip_address)[:_SHOWN]
            yield f"packets for {owner} from {listed(some)} came to {self._nodes[node].name}"
        if cut_off:
            yield f"no agent could be started on {owner}, whose address for SSH is the same"

    def _advice(self, came: Mapping[int, set[str]]) -> Iterator[str]:
        owner = self._nodes[self._owner].name
        if any(one.device == _IPVS for _, one in self._own):
            yield (
                f"kube-proxy puts services' addresses on {_IPVS}: find the service that has it as "
                "an external or a load balancer's address (kubectl get services -A -o wide)."
            )
        if came:
            yield (
                "Its neighbours may send to the former holder for another minute: `arping -U -c 3 "
                f"-I DEVICE ADDRESS` on {owner} tells them at once."
            )
        if not self._certain:
            yield (
                f"{owner} itself could not be asked: if the address is not {owner}'s, correct the "
                "inventory instead."
            )


def _removal(node: str, one: Held) -> Change:
    command = f"{ip(family_of(one.address))} addr del {one.address}/{one.length} dev {one.device}"
    return Change(node, "ip", (command,), (lasting("a failover daemon (keepalived)"),))


def _one_machine(
    claims: Claims, owner: int, nodes: Sequence[int], own: Sequence[tuple[int, Held]]
) -> None:
    every = [owner, *nodes]
    names = listed(claims.matrix.nodes[n].name for n in every)
    here = sum(1 << n for n in every)
    rows = dict.fromkeys(every, here)
    told = Told(
        Cause.ADDRESS,
        f"{names} have each other's addresses: one machine, or two with the same ones",
        every,
        [f"{claims.matrix.nodes[n].name} has {one.address}, too" for n, one in own[:_SHOWN]],
        (),
        "See whether SSH led to one machine twice (`hostname`, `ip address` over both): then the "
        "inventory has it twice, or one address is on the wrong machine.",
    )
    families = dict.fromkeys(family_of(one.address) for _, one in own)
    claims.tell([claims.take(f, [Claim(rows, lambda _: True)]) for f in families], told)


def _of_unused(nodes: int, node: int) -> Iterator[Claim]:
    """What is lost of a node whose address is not used: nothing finds it, and nothing leaves."""
    to = {source: 1 << node for source in range(nodes) if source != node}
    yield Claim(to, lambda o: o.place is not Place.SOURCE or o.cause is CellCause.NO_NEIGHBOUR)
    yield Claim({node: (1 << nodes) - 1}, lambda o: o.place is not Place.DESTINATION)


def _unused(claims: Claims, node: int, one: Unused) -> None:
    family, name = family_of(one.address), claims.matrix.nodes[node].name
    cells = claims.take(family, _of_unused(len(claims.matrix.nodes), node))
    if one.flag == "dadfailed":
        title = f"{name} does not use its own address {one.address}: another machine has it, too"
        anew = listed(f"`{command}`" for command in _anew(one))
        advice = (
            f"Find who else has {one.address}, by its MAC address (`ip -6 neigh` on {name}'s "
            f"neighbours), and remove it there. Then, on {name}: {anew}."
        )
    elif one.flag == _MISSING:
        title = f"{name} does not have its own address {one.address}"
        off = ", and whether IPv6 is switched off (sysctl net.ipv6.conf.*.disable_ipv6)"
        advice = (
            f"{name}: see `ip address`{off if family is Family.IPV6 else ''}. Give it the address, "
            "or correct the inventory."
        )
    else:
        title = f"{name} does not use its own address {one.address}: it is still tentative"
        advice = f"{name}: see `ip -6 addr` and `ip link` for its device's carrier, and wait."
    claims.tell([cells], Told(Cause.ADDRESS, title, [node], [_shown(name, one)], (), advice))


def _shown(name: str, one: Unused) -> str:
    if one.flag == _MISSING:
        return f"`ip address` on {name} does not show {one.address}"
    said = "duplicate address detection has not ended, as where a link has no carrier"
    if one.flag == "dadfailed":
        said = "duplicate address detection found another holder"
    at = f" on {one.device}" if one.device else ""
    return f"`ip -6 addr` on {name} shows {one.address}/{one.length}{at} {one.flag}: {said}"


def _anew(one: Unused) -> tuple[str, str]:
    """How the address is taken into use again."""
    what = f"{one.address}/{one.length} dev {one.device or 'DEVICE'}"
    return f"ip -6 addr del {what}", f"ip -6 addr add {what}"


def all_but_unknown(outcome: Outcome) -> bool:
    """All between the two: over IPv4 it dies at the latest where the sender's address is known."""
    return outcome.verdict is not Verdict.UNKNOWN


def kept_over_ipv6(outcome: Outcome) -> bool:
    """Over IPv6 probes from the owner are taken in: what never arrives dies of something else."""
    return all_but_unknown(outcome) and not lost_there(outcome) and not lost_back(outcome)


def _astray_there(outcome: Outcome) -> bool:
    """Delivered to another, and answered by it or not."""
    if outcome.verdict is Verdict.UNKNOWN:
        return outcome.cause is CellCause.NO_AGENT and bool(outcome.evidence.left)
    forward = outcome.leg is Leg.FORWARD and outcome.place in (Place.PATH, None)
    return forward and outcome.cause in _MISLED


def _astray_back(outcome: Outcome) -> bool:
    return outcome.leg is Leg.REPLY and outcome.place is Place.PATH


def _no_agent(outcome: Outcome) -> bool:
    return outcome.verdict is Verdict.UNKNOWN and outcome.cause is CellCause.NO_AGENT
