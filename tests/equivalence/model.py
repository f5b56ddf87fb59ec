# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a packet ends, walked over several machines: by an independent model of their tables, and by their kernels.

A *fate* is the end of a packet's way: out by a link to a next hop, delivered to a machine, dropped, or in a loop. The
model computes it from dumps of rules and tables, with or without the routes of a protocol, so it knows what the fate
would be without the mirror while the mirror runs. It has every leg of a multipath route, of which the kernel takes one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from ansible_collections.ekho.ynl_mirror.tests.equivalence import kernel as k
from ansible_collections.ekho.ynl_mirror.tests.equivalence.kernel import Hop, Kernel, Question, Route, Rule

#: Steps after which a packet that still goes on is in a loop.
STEPS = 16
MAIN, LOCAL_TABLE = 254, 255


class Flow(NamedTuple):
    """A packet. *mark* is what the hosts' own firewalls put on it; the DPU marks none."""

    destination: bytes
    source: bytes
    mark: int = 0
    tos: int = 0
    protocol: int = 0
    port: int = 0

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET if len(self.destination) == 4 else socket.AF_INET6

    def __str__(self) -> str:
        more = "".join(f" {name} {value}" for name, value in zip(self._fields[2:], self[2:]) if value)
        return f"{k.text(self.destination)} from {k.text(self.source)}{more}"


class Fate(NamedTuple):
    """The end of a way; *hop* is None for a neighbour on the link, *mtu* the smallest that a route on the way names."""

    kind: str  # out, local, dropped, loop
    machine: str = ""
    link: str = ""
    hop: bytes | None = None
    mtu: int = 0

    def __str__(self) -> str:
        if self.kind == "local":
            return f"delivered to {self.machine}"
        if self.kind != "out":
            return self.kind
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        return f"out of {self.machine} by {self.link} to {k.text(self.hop) if self.hop else 'the neighbour'}{mtu}"


class Step(NamedTuple):
    """A machine on the way: in by a link, what its tables say, and why a mirror may doubt that (*doubts*)."""

    machine: str
    iif: str
    said: str
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.machine} in by {self.iif}: {self.said}"


class Way(NamedTuple):
    """One way of a packet, and its end."""

    fate: Fate
    steps: tuple[Step, ...]
    share: Fraction = Fraction(1)  # of the packets, by the weights of hops

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines on the way."""
        return tuple(step.machine for step in self.steps)


class Verdict(NamedTuple):
    """What one machine does with a packet; *table* is the one that decided, 0 for a rule."""

    kind: str  # unicast, local, dropped
    hops: tuple[Hop, ...] = ()
    table: int = 0
    mtu: int = 0
    doubts: tuple[str, ...] = ()


class Lpm:
    """The routes of one table and family, by prefix length."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._prefixes: dict[int, dict[int, list[Route]]] = {}
        self._lengths: list[int] = []

    def add(self, route: Route) -> None:
        """Add one; those of one prefix come in the order of the dump."""
        key = int.from_bytes(route.destination, "big") >> (self._bits - route.length)
        self._prefixes.setdefault(route.length, {}).setdefault(key, []).append(route)

    def done(self) -> None:
        """All are added: order them as the kernel does."""
        self._lengths = sorted(self._prefixes, reverse=True)
        for prefixes in self._prefixes.values():
            for routes in prefixes.values():
                routes.sort(key=lambda route: (-route.tos, route.metric))

    def matches(self, destination: int) -> Iterator[list[Route]]:
        """The routes of each prefix that covers it, the longest first."""
        for length in self._lengths:
            found = self._prefixes[length].get(destination >> (self._bits - length))
            if found:
                yield found

    def types_of_service(self) -> set[int]:
        """Those that a route asks for."""
        return {
            route.tos
            for prefixes in self._prefixes.values()
            for routes in prefixes.values()
            for route in routes
            if route.tos
        }

    def prefixes(self) -> Iterator[tuple[int, int]]:
        """(first address as a number, length) of each prefix."""
        for length, prefixes in self._prefixes.items():
            for key in prefixes:
                yield key << (self._bits - length), length


@dataclass
class Machine:
    """A machine's state as of its dumps, without the routes of some protocols."""

    name: str
    tables: dict[tuple[int, int], Lpm] = field(default_factory=dict)
    rules: dict[int, list[Rule]] = field(default_factory=lambda: {socket.AF_INET: [], socket.AF_INET6: []})
    names: dict[int, str] = field(default_factory=dict)
    up: set[str] = field(default_factory=set)
    addresses: dict[str, set[bytes]] = field(default_factory=dict)
    forwards: set[tuple[int, int]] = field(default_factory=set)
    ignores_linkdown: set[tuple[int, int]] = field(default_factory=set)

    @property
    def index(self) -> dict[str, int]:
        """Links by name."""
        return {name: index for index, name in self.names.items()}

    # -- one look-up

    def look_up(self, flow: Flow, iif: str, mark: int) -> Verdict:
        """What this machine does with a packet that comes in by a link."""
        destination = int.from_bytes(flow.destination, "big")
        doubts: list[str] = []
        for rule in self.rules[flow.family]:
            if not _meets(rule, flow, iif, mark):
                if _conditional(rule) and self._concerns(rule, destination, flow):
                    doubts.append("rule")
                continue
            if _conditional(rule) and self._concerns(rule, destination, flow):
                doubts.append("rule")
            if rule.action == k.NOP:
                continue
            if rule.action != k.TO_TABLE:
                return Verdict("dropped", doubts=tuple(doubts))
            found = self._in_table(rule, destination, flow)
            if found is not None:
                return self._verdict(flow, iif, *found, doubts)
            if self._is_thrown(rule, destination):
                doubts.append("throw")
        return Verdict("dropped", doubts=tuple(doubts))

    def _is_thrown(self, rule: Rule, destination: int) -> bool:
        """Whether a table sends a packet on to the next rule by a route; the listener says slow."""
        table = self.tables.get((rule.family, rule.table))
        return table is not None and any(
            route.type == k.THROW for routes in table.matches(destination) for route in routes
        )

    def _verdict(self, flow: Flow, iif: str, route: Route, tossed: bool, doubts: list[str]) -> Verdict:
        if tossed:
            doubts.append("tos")
        if route.table not in (MAIN, LOCAL_TABLE):
            doubts.append("table")
        if route.family == socket.AF_INET6 and route.metric == 1:
            doubts.append("metric")  # no mirrored route can win over it
        told = tuple(doubts)
        if route.type in (k.LOCAL, k.BROADCAST, k.ANYCAST):
            return Verdict("local", table=route.table, doubts=told)
        if route.type != k.UNICAST or not self.is_router(flow.family, iif):
            return Verdict("dropped", table=route.table, doubts=told)
        return Verdict("unicast", self._alive(route), route.table, route.mtu, told)

    def is_router(self, family: int, iif: str) -> bool:
        """Whether it forwards what comes in by a link."""
        if family == socket.AF_INET6:
            return (family, -1) in self.forwards
        return (family, self.index[iif]) in self.forwards

    def _in_table(self, rule: Rule, destination: int, flow: Flow) -> tuple[Route, bool] | None:
        table = self.tables.get((flow.family, rule.table))
        if table is None:
            return None
        for routes in table.matches(destination):
            tossed = len({route.tos for route in routes}) > 1 or any(route.tos for route in routes)
            for route in routes:
                if route.tos and route.tos != flow.tos:
                    continue
                if route.type == k.THROW:
                    return None
                if route.hops and route.type not in (k.LOCAL, k.ANYCAST) and not self._alive(route):
                    continue
                delivered = route.type in (k.UNICAST, k.LOCAL, k.BROADCAST, k.ANYCAST)
                if delivered and rule.suppress is not None and route.length <= rule.suppress:
                    return None
                return route, tossed
        return None

    def _alive(self, route: Route) -> tuple[Hop, ...]:
        return tuple(
            hop
            for hop in route.hops
            if not hop.dead and not (hop.linkdown and (route.family, hop.oif) in self.ignores_linkdown)
        )

    def _concerns(self, rule: Rule, destination: int, flow: Flow) -> bool:
        """Whether a rule would decide for this destination if its other conditions were met."""
        if not _within(flow.destination, rule.destination, rule.destination_length) and not rule.inverted:
            return False
        if rule.action == k.TO_TABLE:
            return self._in_table(rule, destination, flow._replace(tos=0)) is not None
        return rule.action != k.NOP

    # -- who answers for an address

    def answers(self, link: str, address: bytes) -> bool:
        """Whether it answers ARP or neighbour solicitations for an address on a link: IPv4 for any of its own."""
        if link not in self.up:
            return False
        if len(address) == 16:
            return address in self.addresses.get(link, ())
        table = self.tables.get((socket.AF_INET, LOCAL_TABLE))
        found = next(table.matches(int.from_bytes(address, "big")), None) if table else None
        return found is not None and found[0].type == k.LOCAL


def _within(address: bytes, prefix: bytes, length: int) -> bool:
    shift = 8 * len(address) - length
    return int.from_bytes(address, "big") >> shift == int.from_bytes(prefix, "big") >> shift


def _meets(rule: Rule, flow: Flow, iif: str, mark: int) -> bool:
    met = (
        (rule.iif is None or rule.iif == iif)
        and rule.oif is None
        and _within(flow.source, rule.source, rule.source_length)
        and _within(flow.destination, rule.destination, rule.destination_length)
        and (rule.mark ^ mark) & rule.mask == 0
        and (not rule.tos or rule.tos == flow.tos)
        and (not rule.protocol or rule.protocol == (flow.protocol or 17))
        and all(
            ports is None or ports[0] <= flow.port <= ports[1] for ports in (rule.source_ports, rule.destination_ports)
        )
    )
    return met != rule.inverted


def _conditional(rule: Rule) -> bool:
    """Whether some packets that come in meet it and others do not, with the same destination."""
    if rule.oif is not None:
        return False
    asks = (rule.iif, rule.source_length, rule.mask, rule.tos, rule.protocol, rule.source_ports, rule.destination_ports)
    return any(asks) and rule.iif != "lo"


def machine_of(name: str, kernel: Kernel, without: Iterable[int] = ()) -> Machine:
    """What a kernel says of itself now."""
    left_out = set(without)
    made = Machine(name)
    for link in kernel.links():
        made.names[link.number] = link.name
        if link.up and link.carrier:
            made.up.add(link.name)
    for route in kernel.routes():
        if route.protocol not in left_out:
            bits = 32 if route.family == socket.AF_INET else 128
            made.tables.setdefault((route.family, route.table), Lpm(bits)).add(route)
    for table in made.tables.values():
        table.done()
    for rule in kernel.rules():
        made.rules[rule.family].append(rule)
    for address in kernel.addresses():
        made.addresses.setdefault(made.names[address.link], set()).add(address.address)
    for conf in kernel.netconf():
        if conf.forwarding:
            made.forwards.add((conf.family, conf.link))
        if conf.ignores_linkdown:
            made.ignores_linkdown.add((conf.family, conf.link))
    return made


Place = tuple[str, str]  # machine and link


class World:
    """Machines and the wires between their links; *wires* has each wire from both its ends."""

    def __init__(self, machines: Iterable[Machine], wires: Mapping[Place, Place], dpu: str = "dpu") -> None:
        self.machines = {machine.name: machine for machine in machines}
        self.wires = wires
        self.dpu = dpu

    # -- the model

    def ways(self, flow: Flow, at: Place) -> list[Way]:
        """All ways that a packet may take from a link on."""
        return list(self._ways(flow, at, (), 0, Fraction(1)))

    def _ways(self, flow: Flow, at: Place, steps: tuple[Step, ...], mtu: int, share: Fraction) -> Iterator[Way]:
        if len(steps) >= STEPS or any((step.machine, step.iif) == at for step in steps):
            yield Way(Fate("loop"), steps, share)
            return
        name, iif = at
        machine = self.machines[name]
        verdict = machine.look_up(flow, iif, self.mark(flow, name))
        if verdict.kind != "unicast":
            step = Step(name, iif, f"{verdict.kind} (table {verdict.table})", verdict.doubts)
            yield Way(Fate(verdict.kind, name if verdict.kind == "local" else ""), (*steps, step), share)
            return
        mtu = smaller(mtu, verdict.mtu)
        total = sum(hop.weight for hop in verdict.hops)
        for hop in verdict.hops:
            part = share if hop.weight == total else share * Fraction(hop.weight, total)
            link = machine.names[hop.oif]
            doubts = verdict.doubts + self._doubts(name, link, hop.gateway)
            step = Step(name, iif, f"to {k.text(hop.gateway)} by {link} (table {verdict.table})", doubts)
            following = self.onward(name, link, hop.gateway, flow.destination)
            if following is None:
                yield Way(Fate("out", name, link, hop.gateway, mtu), (*steps, step), part)
            else:
                yield from self._ways(flow, following, (*steps, step), mtu, part)

    def mark(self, flow: Flow, machine: str) -> int:
        """The mark that a packet has on a machine."""
        return 0 if machine == self.dpu else flow.mark

    def onward(self, machine: str, link: str, gateway: bytes | None, destination: bytes) -> Place | None:
        """Where a packet comes in that leaves by a link; None: at a machine that is not looked at."""
        peer = self.wires.get((machine, link))
        if peer is None or not self.machines[peer[0]].answers(peer[1], gateway or destination):
            return None
        return peer

    def _doubts(self, machine: str, link: str, gateway: bytes | None) -> tuple[str, ...]:
        """A gateway whose owner does not tell the link that it is reached by."""
        peer = self.wires.get((machine, link))
        if peer is None or gateway is None or machine == self.dpu:
            return ()
        owners = [name for name, own in self.machines[peer[0]].addresses.items() if gateway in own]
        return () if owners == [peer[1]] else ("pair",)


def smaller(one: int, other: int) -> int:
    """The smaller of two MTUs; 0 is none."""
    return min(one, other) if one and other else one or other


# -- the kernels


def walk(world: World, kernels: Mapping[str, Kernel], packets: Sequence[tuple[Flow, Place]]) -> list[Way]:
    """The way of each packet, by look-ups in the kernels. *world* says which links are joined and who answers there."""
    places = [at for _flow, at in packets]
    steps: list[tuple[Step, ...]] = [() for _packet in packets]
    mtus = [0] * len(packets)
    fates: list[Fate | None] = [None] * len(packets)
    for _round in range(STEPS):
        open_ = [number for number, fate in enumerate(fates) if fate is None]
        for name, asked in kernels.items():
            here = [number for number in open_ if places[number][0] == name]
            if not here:
                continue
            index = world.machines[name].index
            questions = [_question(world, packets[number][0], name, index[places[number][1]]) for number in here]
            for number, answer in zip(here, asked.lookup(questions)):
                flow, (_name, iif) = packets[number][0], places[number]
                said, fate, place, mtus[number] = _follow(world, flow, places[number], answer, mtus[number])
                steps[number] += (Step(name, iif, f"{said} (table {answer.table})"),)
                fates[number] = fate
                if place is not None:
                    places[number] = place
        if all(fates):
            break
    return [Way(fate or Fate("loop"), way) for fate, way in zip(fates, steps)]


def _question(world: World, flow: Flow, machine: str, iif: int) -> Question:
    mark = world.mark(flow, machine)
    return Question(flow.destination, flow.source, iif, mark, flow.tos, flow.protocol, flow.port)


def _follow(
    world: World, flow: Flow, at: Place, answer: k.Answer, mtu: int
) -> tuple[str, Fate | None, Place | None, int]:
    """What a kernel's answer means: words for it, and the fate or the next place."""
    machine = world.machines[at[0]]
    if answer.kind != "unicast":
        return answer.kind, Fate(answer.kind, at[0] if answer.kind == "local" else ""), None, mtu
    if flow.family == socket.AF_INET6 and not machine.is_router(flow.family, at[1]):
        return "dropped", Fate("dropped"), None, mtu  # the look-up does not ask for that in IPv6
    link = machine.names[answer.oif]
    said = f"to {k.text(answer.gateway)} by {link}"
    following = world.onward(at[0], link, answer.gateway, flow.destination)
    mtu = smaller(mtu, answer.mtu)
    if following is None:
        return said, Fate("out", at[0], link, answer.gateway, mtu), None, mtu
    return said, None, following, mtu
