# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases from seeds: the plain one, in which everything leads where it should, and the features that make it hard.

``case(seed, features)`` is the same case for ever. A plain case has VRFs that all lead to the host by a default route,
each with end links and prefixes of its own, and a host that knows the way to most of them. Each feature adds to that.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import (
    DPU,
    ENDS,
    SECOND_UPLINKS,
    UPLINKS,
    Case,
    Change,
    Line,
    Vrf,
)

HOST = "host"
DISCARDS = ("blackhole", "unreachable", "prohibit")
PORT = 2620


@dataclass
class Space:
    """The addresses of one family: a space per VRF with room for nested prefixes, and subnets for links."""

    family: int

    @property
    def default(self) -> str:
        """The default route, by its prefix: ``default`` is the same word in both families."""
        return "0.0.0.0/0" if self.family == 4 else "::/0"

    def own(self, number: int) -> str:
        """The space of VRF *number*."""
        return f"10.{number}.0.0/16" if self.family == 4 else f"fd10:{number}::/32"

    def other(self, number: int) -> str:
        """Another prefix of that VRF, elsewhere."""
        return f"172.{16 + number}.0.0/16" if self.family == 4 else f"fd17:{number}::/32"

    def cover(self, rng: random.Random) -> str:
        """A prefix that covers the spaces of all VRFs."""
        return rng.choice(("10.0.0.0/8", "10.0.0.0/12") if self.family == 4 else ("fd10::/16", "fd10::/28"))

    def nested(self, number: int, rng: random.Random) -> str:
        """A prefix inside the space of VRF *number*."""
        part = rng.choice((0, 1, 128))
        if self.family == 4:
            last = rng.choice((0, 1, 5, 129, 255))
            start = f"10.{number}.{part}"
            halves = f"{start}.0/25", f"{start}.128/25", f"10.{number}.128.0/17"
            return rng.choice((*halves, f"{start}.0/24", f"{start}.{last}/32", f"{start}.4/30"))
        last = rng.choice((0, 1, 5, 0xFFFF))
        start = f"fd10:{number}:{part:x}"
        return rng.choice(
            (
                f"{start}::/48",
                f"{start}::/64",
                f"{start}:8000::/49",
                f"{start}::{last:x}/128",
                f"fd10:{number}:8000::/33",
            )
        )

    def single(self, number: int, rng: random.Random) -> str:
        """An address inside the space of VRF *number*."""
        part, last = rng.choice((0, 1, 128)), rng.choice((1, 5, 129))
        return f"10.{number}.{part}.{last}" if self.family == 4 else f"fd10:{number}:{part:x}::{last:x}"

    def subnet(self, link: str) -> str:
        """The subnet of a link."""
        return f"192.168.{_subnet(link)}.0/24" if self.family == 4 else f"fd00:{_subnet(link)}::/64"

    def at(self, link: str, number: int) -> str:
        """An address in it: 1 is the DPU's, 2 the other side's, 77 nobody's."""
        return f"192.168.{_subnet(link)}.{number}" if self.family == 4 else f"fd00:{_subnet(link)}::{number}"

    def bits(self, link: str, number: int) -> str:
        """The same with the subnet's length."""
        return f"{self.at(link, number)}/{24 if self.family == 4 else 64}"

    @property
    def alone(self) -> int:
        """The length of a single address."""
        return 32 if self.family == 4 else 128


def _subnet(link: str) -> int:
    return {"e": 10, "u": 100, "w": 110, "d": 120}[link[0]] + int(link[1:])


@dataclass
class PlannedVrf:
    """A VRF while it is made."""

    number: int
    host: str = HOST
    uplinks: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """a, b, c, ..."""
        return "abcdefgh"[self.number - 1]

    @property
    def table(self) -> int:
        """10, 20, 30, ..."""
        return 10 * self.number


class Builder:
    """A case in the making: no two routes of one key, so that every line works."""

    def __init__(self, seed: int, features: Iterable[str]) -> None:
        self.features = tuple(features)
        self.rng = random.Random(f"{seed} {' '.join(self.features)}")
        self.seed = seed
        self.spaces = [Space(family) for family in self.rng.choice(((4,), (6,), (4, 6)))]
        self.vrfs: list[PlannedVrf] = []
        self.hosts = [HOST]
        self.agent: dict[str, Any] = {}
        self.listeners: dict[str, dict[str, Any]] = {}
        self.doubts: list[str] = []
        self.excluded: list[str] = []
        self.changes: list[Change] = []
        self.control = "uplink"
        self._first: list[Line] = []  # addresses, and what they need
        self._lines: list[Line] = []
        self._last: list[Line] = []  # rules of hosts, which the kernel asks when it checks a route's gateway
        self._keys: dict[tuple[str, int, str, str, str], Line] = {}
        self._free_ends = list(ENDS)
        self._free_uplinks = {HOST: list(UPLINKS), "host2": list(SECOND_UPLINKS)}
        self._addressed: set[tuple[str, str, int]] = set()

    # -- parts

    def line(self, machine: str, family: int, text: str) -> None:
        """Any line."""
        self._lines.append(Line(machine, family, text))

    def last(self, machine: str, family: int, text: str) -> None:
        """A line that comes after all routes."""
        self._last.append(Line(machine, family, text))

    def address(self, machine: str, family: int, text: str) -> None:
        """A line that comes before all routes."""
        if Line(machine, family, text) not in self._first:
            self._first.append(Line(machine, family, text))

    def route(
        self, machine: str, space: Space, prefix: str, how: str, table: int = 254, metric: int = 0, kind: str = ""
    ) -> Line | None:
        """A route, unless there is one of the same key; ``how`` is what leads on, ``kind`` a discard instead."""
        made = self.route_line(machine, space, prefix, how, table, metric, kind)
        key = self._key(machine, space.family, prefix, table, metric, how)
        if key in self._keys:
            return None
        self._keys[key] = made
        self._lines.append(made)
        return made

    @staticmethod
    def route_line(
        machine: str, space: Space, prefix: str, how: str, table: int = 254, metric: int = 0, kind: str = ""
    ) -> Line:
        """The line alone."""
        words = ("route add", kind, prefix, f"table {table}", f"metric {metric}" if metric else "", how)
        return Line(machine, space.family, " ".join(filter(None, words)))

    @staticmethod
    def _key(
        machine: str, family: int, prefix: str, table: int, metric: int, how: str
    ) -> tuple[str, int, str, str, str]:
        metric = metric or (1024 if family == 6 else 0)
        return machine, family, prefix, str(table), f"{metric}{' tos' if ' tos ' in f' {how} ' else ''}"

    def drop(self, line: Line) -> None:
        """Take a route out again."""
        if line in self._lines:
            self._lines.remove(line)
            self._keys = {key: kept for key, kept in self._keys.items() if kept is not line}

    def routes_of(self, machine: str) -> list[Line]:
        """The route lines of a machine so far."""
        return [line for line in self._lines if line.machine == machine and line.text.startswith("route add")]

    # -- VRFs

    def add_vrf(self, ends: int = 1, uplink: bool = True, default: bool = True, host: str = HOST) -> PlannedVrf | None:
        """One more VRF; None where there is no link left."""
        if len(self._free_ends) < ends or (uplink and not self._free_uplinks[host]) or len(self.vrfs) == 8:
            return None
        vrf = PlannedVrf(len(self.vrfs) + 1, host)
        self.vrfs.append(vrf)
        for _end in range(ends):
            self.add_end(vrf)
        if uplink:
            self.add_uplink(vrf)
        for space in self.spaces:
            self.route(DPU, space, space.own(vrf.number), self.by_end(vrf, space, 0), vrf.table)
            if default and uplink:
                self.route(DPU, space, space.default, self.to_host(vrf, space), vrf.table)
        return vrf

    def add_end(self, vrf: PlannedVrf) -> bool:
        """One more end link for a VRF."""
        if not self._free_ends:
            return False
        link = self._free_ends.pop(0)
        vrf.ends.append(link)
        self._bind(vrf, link)
        return True

    def add_uplink(self, vrf: PlannedVrf) -> bool:
        """One more uplink for a VRF."""
        if not self._free_uplinks[vrf.host]:
            return False
        link = self._free_uplinks[vrf.host].pop(0)
        vrf.uplinks.append(link)
        self._bind(vrf, link)
        for space in self.spaces:
            self.address(vrf.host, space.family, f"address add {space.bits(link, 2)} dev {link}{nodad(space)}")
            self.address(DPU, space.family, f"rule add pref 1000 from {space.at(link, 1)} lookup {vrf.table}")
        return True

    def _bind(self, vrf: PlannedVrf, link: str) -> None:
        """Addresses, the connected route in the VRF's table, and the rule."""
        for space in self.spaces:
            self.address(DPU, space.family, f"address add {space.bits(link, 1)} dev {link} noprefixroute{nodad(space)}")
            self.address(DPU, space.family, f"rule add pref 1000 iif {link} lookup {vrf.table}")
            more = f" src {space.at(link, 1)} scope link" if space.family == 4 else ""
            self.address(
                DPU,
                space.family,
                f"route add {space.subnet(link)} dev {link} proto kernel{more} table {vrf.table}"
                + ("" if space.family == 4 else " metric 256"),
            )

    # -- where routes lead

    def by_end(self, vrf: PlannedVrf, space: Space, place: int | None = None) -> str:
        """To a gateway behind an end link of a VRF, or to the link itself."""
        link = vrf.ends[place] if place is not None else self.rng.choice(vrf.ends)
        number = self.rng.choice((2, 2, 3, 77))
        return f"via {space.at(link, number)} dev {link}"

    def to_host(self, vrf: PlannedVrf, space: Space) -> str:
        """To the host, by an uplink of a VRF."""
        link = self.rng.choice(vrf.uplinks)
        return f"via {space.at(link, 2)} dev {link}"

    def to_dpu(self, vrf: PlannedVrf, space: Space) -> str:
        """From the host to a VRF of the DPU."""
        link = self.rng.choice(vrf.uplinks)
        return f"via {space.at(link, 1)} dev {link}"

    def host_link(self, host: str, space: Space, link: str = "d2") -> str:
        """To a gateway on a link of the host's own."""
        self.address(host, space.family, f"address add {space.bits(link, 1)} dev {link}{nodad(space)}")
        return f"via {space.at(link, 2)} dev {link}"

    # -- choices

    @property
    def leading(self) -> list[PlannedVrf]:
        """The VRFs with an uplink."""
        return [vrf for vrf in self.vrfs if vrf.uplinks]

    def one(self) -> PlannedVrf:
        """A VRF with an uplink."""
        return self.rng.choice(self.leading)

    def two(self) -> tuple[PlannedVrf, PlannedVrf]:
        """Two of them, of one host."""
        first = self.one()
        others = [vrf for vrf in self.leading if vrf is not first and vrf.host == first.host]
        return first, self.rng.choice(others or [first])

    def times(self, low: int = 1, high: int = 3) -> range:
        """Some."""
        return range(self.rng.randint(low, high))

    def done(self) -> Case:
        """The case."""
        for host in self.hosts:
            self.listeners.setdefault(host, {})["agents"] = [{"address": self._control(host)}]
        vrfs = tuple(Vrf(vrf.name, vrf.table, tuple(vrf.uplinks), tuple(vrf.ends)) for vrf in self.vrfs)
        return Case(
            seed=self.seed,
            features=self.features,
            vrfs=vrfs,
            lines=(*self._first, *self._lines, *self._last),
            hosts=tuple(self.hosts),
            changes=tuple(self.changes),
            agent=self.agent,
            listeners=self.listeners,
            doubts=tuple(self.doubts),
            excluded=tuple(self.excluded),
        )

    def _control(self, host: str) -> str:
        """The DPU's address that the listener connects to: on an uplink, unless the links may go down."""
        if self.control == "management" and host == HOST:
            for machine, number in ((DPU, 1), (HOST, 2)):
                self.address(machine, 6, f"address add fe80::a:{number}/64 dev mgmt nodad")
            return "fe80::a:1%mgmt"
        link = next(vrf.uplinks[0] for vrf in self.leading if vrf.host == host)
        return self.spaces[0].at(link, 1)


def nodad(space: Space) -> str:
    """IPv6 addresses are of use at once."""
    return " nodad" if space.family == 6 else ""


FEATURES: dict[str, Callable[[Builder], None]] = {}


def feature(function: Callable[[Builder], None]) -> Callable[[Builder], None]:
    """Register one under its name."""
    FEATURES[function.__name__] = function
    return function


def case(seed: int, features: Iterable[str] = ()) -> Case:
    """The case of a seed with some features; those that change something come last, as in FEATURES."""
    wanted = set(features)
    unknown = wanted - set(FEATURES)
    if unknown:
        raise ValueError(f"no feature {', '.join(sorted(unknown))}; there are {', '.join(FEATURES)}")
    ordered = [name for name in FEATURES if name in wanted]
    builder = Builder(seed, ordered)
    _plain(builder)
    for name in ordered:
        FEATURES[name](builder)
    return builder.done()


def _plain(b: Builder) -> None:
    for _vrf in range(b.rng.randint(2, 3)):
        b.add_vrf(ends=b.rng.randint(1, 2))
    for vrf in b.vrfs:
        for space in b.spaces:
            _announce_own(b, vrf, space)


def _announce_own(b: Builder, vrf: PlannedVrf, space: Space) -> None:
    """The DPU has another prefix in a VRF at times, and the host knows the way to most of what the VRF has."""
    if b.rng.random() < 0.5:
        b.route(DPU, space, space.other(vrf.number), b.by_end(vrf, space), vrf.table)
        b.route(vrf.host, space, space.other(vrf.number), b.to_dpu(vrf, space))
    b.route(vrf.host, space, space.own(vrf.number), b.to_dpu(vrf, space))
    for link in vrf.ends:
        if b.rng.random() < 0.8:
            b.route(vrf.host, space, space.subnet(link), b.to_dpu(vrf, space))


# -- the DPU


@feature
def isolated_vrf(b: Builder) -> None:
    """A VRF that never led to the host, or has an uplink and no route to it."""
    how = b.rng.choice(("no uplink", "unreachable", "blackhole", "return only"))
    vrf = b.add_vrf(ends=1, uplink=how == "return only", default=False)
    if vrf is None:
        return
    for space in b.spaces:
        if how in DISCARDS:
            metric = 4278198272 if how == "unreachable" else 0
            b.route(DPU, space, space.default, "", vrf.table, metric, kind=how)
        if how == "return only":
            b.route(HOST, space, space.own(vrf.number), b.to_dpu(vrf, space))


@feature
def specific_to_host(b: Builder) -> None:
    """A VRF leads to the host for some prefixes only."""
    vrf, other = b.two()
    for space in b.spaces:
        for line in b.routes_of(DPU):
            if line.text.startswith(f"route add {space.default} table {vrf.table} via"):
                b.drop(line)
        for _time in b.times(1, 3):
            prefix = b.rng.choice(
                (
                    space.own(other.number),
                    space.nested(other.number, b.rng),
                    space.cover(b.rng),
                    space.subnet(other.ends[0]),
                )
            )
            b.route(DPU, space, prefix, b.to_host(vrf, space), vrf.table)


@feature
def dpu_nested(b: Builder) -> None:
    """Own routes of the DPU inside what is mirrored: in the VRF that has it, and in one that imports it."""
    for space in b.spaces:
        for _time in b.times():
            vrf, other = b.two()
            if len(vrf.ends) == 1:
                b.add_end(vrf)
            b.route(DPU, space, space.nested(vrf.number, b.rng), b.by_end(vrf, space), vrf.table)
            if b.rng.random() < 0.5:
                b.route(DPU, space, space.nested(vrf.number, b.rng), b.to_host(other, space), other.table)


@feature
def dpu_metric(b: Builder) -> None:
    """Several own routes to one prefix with different metrics, some to the host and some not."""
    for space in b.spaces:
        for _time in b.times():
            vrf, other = b.two()
            prefix = b.rng.choice((space.own(vrf.number), space.default, space.nested(vrf.number, b.rng)))
            owner = b.rng.choice((vrf, other))
            low, high = sorted(b.rng.sample((0, 1, 50, 100, 1024, 2000), 2))
            ways = [b.by_end(owner, space), b.to_host(owner, space)]
            b.rng.shuffle(ways)
            b.route(DPU, space, prefix, ways[0], owner.table, low)
            b.route(DPU, space, prefix, ways[1], owner.table, high)


@feature
def dpu_discard(b: Builder) -> None:
    """Discards on the DPU, in either VRF."""
    for space in b.spaces:
        for _time in b.times():
            vrf, other = b.two()
            kind = b.rng.choice((*DISCARDS, "throw"))
            owner = b.rng.choice((vrf, other))
            prefix = b.rng.choice(
                (space.nested(vrf.number, b.rng), space.nested(vrf.number, b.rng), space.own(vrf.number))
            )
            b.route(DPU, space, prefix, "", owner.table, b.rng.choice((0, 0, 100)), kind=kind)


@feature
def dpu_foreign(b: Builder) -> None:
    """A VRF has a route of its own to what the host sends to another VRF."""
    for space in b.spaces:
        for _time in b.times(1, 2):
            vrf, other = b.two()
            prefix = b.rng.choice(
                (space.own(vrf.number), space.nested(vrf.number, b.rng), space.other(vrf.number), space.cover(b.rng))
            )
            b.route(DPU, space, prefix, b.by_end(other, space), other.table, b.rng.choice((0, 0, 100)))


@feature
def dpu_hole(b: Builder) -> None:
    """The VRF that a packet comes back to sends a part of the prefix to the host again."""
    for space in b.spaces:
        for _time in b.times(1, 2):
            vrf = b.one()
            b.route(DPU, space, space.nested(vrf.number, b.rng), b.to_host(vrf, space), vrf.table)


@feature
def dpu_multipath(b: Builder) -> None:
    """An own route of the DPU with two next hops."""
    for space in b.spaces:
        vrf = b.one()
        if len(vrf.ends) == 1 and not b.add_end(vrf):
            continue
        one, two = b.rng.sample(vrf.ends, 2)
        hops = f"nexthop via {space.at(one, 2)} dev {one} weight {b.rng.choice((1, 3))}"
        hops += f" nexthop via {space.at(two, 2)} dev {two} weight 1"
        prefix = b.rng.choice((space.nested(vrf.number, b.rng), f"{_share(space, vrf.number)}"))
        b.route(DPU, space, prefix, hops, vrf.table)
        b.route(vrf.host, space, prefix, b.to_dpu(vrf, space))


@feature
def second_uplink(b: Builder) -> None:
    """A VRF has two uplinks to its host, and its default route takes either of them or both."""
    vrf = b.one()
    if not b.add_uplink(vrf):
        return
    for space in b.spaces:
        hops = " ".join(f"nexthop via {space.at(link, 2)} dev {link} weight 1" for link in vrf.uplinks)
        for line in b.routes_of(DPU):
            default = line.text.startswith(f"route add {space.default} table {vrf.table} via")
            if default and b.rng.random() < 0.5:
                b.drop(line)
                b.route(DPU, space, space.default, hops, vrf.table)
        b.route(vrf.host, space, space.nested(vrf.number, b.rng), b.to_dpu(vrf, space))


# -- the host


@feature
def host_nested(b: Builder) -> None:
    """Routes of the host inside others, by the same or by another uplink."""
    for space in b.spaces:
        for _time in b.times(1, 4):
            vrf, other = b.two()
            by = b.rng.choice((vrf, other))
            prefix = b.rng.choice(
                (space.nested(vrf.number, b.rng), space.cover(b.rng), space.nested(vrf.number, b.rng))
            )
            b.route(by.host, space, prefix, b.to_dpu(by, space))
            if b.rng.random() < 0.5 and prefix != space.own(vrf.number):
                b.route(DPU, space, prefix, b.by_end(by, space), by.table)


@feature
def host_default(b: Builder) -> None:
    """The host's default route leads to a VRF of the DPU, which has one of its own by an end link."""
    vrf = b.add_vrf(ends=1, default=False)
    if vrf is None:
        return
    for space in b.spaces:
        b.route(DPU, space, space.default, b.by_end(vrf, space), vrf.table)
        b.route(HOST, space, space.default, b.to_dpu(vrf, space))
        if b.rng.random() < 0.5:
            b.route(HOST, space, space.own(vrf.number), b.to_dpu(vrf, space))
        for other in b.vrfs[: b.rng.choice((0, 1, 2))]:
            b.route(DPU, space, space.own(other.number), b.to_host(vrf, space), vrf.table)


@feature
def host_local(b: Builder) -> None:
    """Addresses of the host inside what is mirrored."""
    for space in b.spaces:
        for _time in b.times():
            vrf, link = b.one(), b.rng.choice(("lo", "d1"))
            text = f"address add {space.single(vrf.number, b.rng)}/{space.alone} dev {link}{nodad(space)}"
            b.address(vrf.host, space.family, text)


@feature
def host_link(b: Builder) -> None:
    """A link of the host's own whose subnet is inside what is mirrored, such as docker0."""
    for space in b.spaces:
        vrf, length = b.one(), b.rng.choice((24, 30) if space.family == 4 else (64, 126))
        text = f"address add {space.single(vrf.number, b.rng)}/{length} dev d1{nodad(space)}"
        b.address(vrf.host, space.family, text)


@feature
def host_discard(b: Builder) -> None:
    """Discards on the host."""
    for space in b.spaces:
        for _time in b.times():
            vrf = b.one()
            kind = b.rng.choice((*DISCARDS, "throw"))
            b.route(vrf.host, space, space.nested(vrf.number, b.rng), "", kind=kind)


@feature
def host_gateway(b: Builder) -> None:
    """Gateways that are not the DPU's: on a link of the host's own, or on an uplink."""
    for space in b.spaces:
        for _time in b.times():
            vrf = b.one()
            stranger = f"via {space.at(vrf.uplinks[0], 77)} dev {vrf.uplinks[0]}"
            how = b.rng.choice((stranger, b.host_link(vrf.host, space)))
            b.route(vrf.host, space, space.nested(vrf.number, b.rng), how)


@feature
def host_other_link(b: Builder) -> None:
    """A gateway of the DPU's that is reached by another link than its own; no kernel takes that in IPv6."""
    for space in (space for space in b.spaces if space.family == 4):
        vrf, other = b.two()
        how = f"via {space.at(other.uplinks[0], 1)} dev {vrf.uplinks[0]} onlink"
        b.route(vrf.host, space, space.nested(b.rng.choice((vrf, other)).number, b.rng), how)


@feature
def anycast(b: Builder) -> None:
    """The DPU has the same gateway address on every uplink."""
    for space in b.spaces:
        gateway = "169.254.1.1" if space.family == 4 else "fe80::1"
        for vrf in b.leading:
            for link in vrf.uplinks:
                scope = f"/32 dev {link} noprefixroute" if space.family == 4 else f"/64 dev {link} nodad"
                b.address(DPU, space.family, f"address add {gateway}{scope}")
                if b.rng.random() < 0.7:
                    how = f"via {gateway} dev {link} onlink"
                    b.route(vrf.host, space, space.nested(vrf.number, b.rng), how)


@feature
def host_multipath(b: Builder) -> None:
    """The host has a prefix by two uplinks."""
    for space in b.spaces:
        vrf, other = b.two()
        prefix = _share(space, vrf.number)
        hops = [f"nexthop {b.to_dpu(one, space)} weight {b.rng.choice((1, 1, 2))}" for one in (vrf, other)]
        if b.rng.random() < 0.3:
            hops[1] = f"nexthop {b.host_link(vrf.host, space)} weight 1"
        if hops[0].split()[2] == hops[1].split()[2]:
            continue
        b.route(vrf.host, space, prefix, " ".join(hops))
        for one in (vrf, other):
            if b.rng.random() < 0.8:
                b.route(DPU, space, prefix, b.by_end(one, space), one.table)


def _share(space: Space, number: int) -> str:
    return f"172.3{number % 2}.0.0/16" if space.family == 4 else f"fd18:{number}::/32"


@feature
def host_metric(b: Builder) -> None:
    """The host has several routes to one prefix, with different metrics."""
    for space in b.spaces:
        for _time in b.times(1, 2):
            vrf, other = b.two()
            prefix = b.rng.choice((space.own(vrf.number), space.nested(vrf.number, b.rng)))
            one, two = b.rng.sample((5, 50, 1024, 3000), 2)
            b.route(vrf.host, space, prefix, b.to_dpu(vrf, space), metric=one)
            b.route(
                vrf.host,
                space,
                prefix,
                b.rng.choice((b.to_dpu(other, space), b.host_link(vrf.host, space))),
                metric=two,
            )


@feature
def nexthop_objects(b: Builder) -> None:
    """Routes by nexthop objects, on both machines."""
    number = 0
    for space in b.spaces:
        for machine, table in ((HOST, 254), (DPU, None)):
            vrf, number = b.rng.choice([one for one in b.leading if one.host == HOST]), number + 1
            how = b.to_dpu(vrf, space) if machine == HOST else b.by_end(vrf, space)
            b.line(machine, space.family, f"nexthop add id {number} {how} onlink")
            b.route(machine, space, space.nested(vrf.number, b.rng), f"nhid {number}", table or vrf.table)


@feature
def mtu(b: Builder) -> None:
    """Routes that name an MTU."""
    for space in b.spaces:
        vrf, other = b.two()
        one, two = b.rng.sample((1280, 1300, 1400, 1450), 2)
        prefix = space.nested(vrf.number, b.rng)
        b.route(vrf.host, space, prefix, f"{b.to_dpu(vrf, space)} mtu {one}")
        if b.rng.random() < 0.7:
            b.route(DPU, space, prefix, f"{b.by_end(vrf, space)} mtu {two}", vrf.table)
        if b.rng.random() < 0.3:
            b.route(DPU, space, space.own(vrf.number), f"{b.to_host(other, space)} mtu 1350", other.table)


@feature
def host_tos(b: Builder) -> None:
    """A prefix of the host has another path for some type of service (IPv4 only has that)."""
    for space in b.spaces:
        if space.family == 4:
            vrf, other = b.two()
            prefix = b.rng.choice((space.own(vrf.number), space.nested(vrf.number, b.rng)))
            b.route(vrf.host, space, prefix, f"{b.to_dpu(vrf, space)}")
            b.route(vrf.host, space, prefix, f"{b.to_dpu(other, space)} tos 0x10")


# -- rules of the host


def _tunnel(b: Builder, space: Space, table: int, prefix: str) -> None:
    """A table that sends a prefix elsewhere: by a link of the host's own."""
    b.route(HOST, space, prefix, b.host_link(HOST, space, "d3"), table)


def _rule(b: Builder, space: Space, preference: int, text: str) -> None:
    b.last(HOST, space.family, f"rule add pref {preference} {text}")


def _target(b: Builder, space: Space) -> str:
    """A prefix that something is mirrored for."""
    vrf = b.one()
    return b.rng.choice((space.own(vrf.number), space.nested(vrf.number, b.rng), space.nested(vrf.number, b.rng)))


@feature
def rule_to(b: Builder) -> None:
    """A rule of the host for a destination."""
    for space in b.spaces:
        prefix = _target(b, space)
        action = b.rng.choice((*DISCARDS, "lookup 77"))
        _rule(b, space, 100, f"to {prefix} {action}")
        _tunnel(b, space, 77, b.rng.choice((space.default, prefix)))


@feature
def rule_from(b: Builder) -> None:
    """A rule of the host for a source."""
    for space in b.spaces:
        every = "192.168.0.0/19" if space.family == 4 else "fd00:10::/28"  # every end link, and no uplink
        source = b.rng.choice((space.subnet(b.one().ends[0]), every))
        action = b.rng.choice(("unreachable", "lookup 78", "lookup 78"))
        _rule(b, space, 110, f"from {source} {action}")
        _tunnel(b, space, 78, b.rng.choice((space.default, _target(b, space))))


@feature
def rule_mark(b: Builder) -> None:
    """A rule of the host for a mark of its firewall."""
    for space in b.spaces:
        _rule(b, space, 120, f"{b.rng.choice(('', 'not '))}fwmark 0x7 lookup 79")
        _tunnel(b, space, 79, _target(b, space))


@feature
def rule_suppress(b: Builder) -> None:
    """What wg-quick makes: main without its default route, then a table for all that carries no mark."""
    for space in b.spaces:
        _rule(b, space, 130, "lookup main suppress_prefixlength 0")
        _rule(b, space, 131, "not fwmark 0xca6c lookup 51820")
        _tunnel(b, space, 51820, space.default)
        vrf = b.one()
        b.route(HOST, space, space.default, b.to_dpu(vrf, space))
        if b.rng.random() < 0.7:
            b.route(DPU, space, space.default, b.by_end(vrf, space), vrf.table, b.rng.choice((0, 7)))


@feature
def rule_iif(b: Builder) -> None:
    """A rule of the host for the link that a packet comes in by: an uplink, another one, or its own packets."""
    for space in b.spaces:
        link = b.rng.choice((b.one().uplinks[0], b.one().uplinks[0], "lo", "d1"))
        # A rule for all of the host's own packets would take the mirror's connection with it.
        to = b.rng.choice(("" if link != "lo" else f"to {_target(b, space)} ", f"to {_target(b, space)} "))
        _rule(b, space, 140, f"iif {link} {to}{b.rng.choice(('lookup 80', 'lookup 80', 'unreachable'))}")
        _tunnel(b, space, 80, b.rng.choice((space.default, _target(b, space))))
        vrf = b.one()
        b.route(HOST, space, space.own(vrf.number), b.to_dpu(b.one(), space), 80)


@feature
def rule_protocol(b: Builder) -> None:
    """A rule of the host for a protocol, a port or a type of service."""
    for space in b.spaces:
        condition = b.rng.choice(("ipproto tcp dport 443", "ipproto udp", "tos 0x10"))
        _rule(b, space, 150, f"{condition} lookup 81")
        _tunnel(b, space, 81, _target(b, space))


@feature
def rule_table(b: Builder) -> None:
    """Tables of the host that every packet is looked up in, before main (as IPsec's 220) and after it."""
    for space in b.spaces:
        if b.rng.random() < 0.7:
            _rule(b, space, 220, "lookup 220")
            _tunnel(b, space, 220, _target(b, space))
            if b.rng.random() < 0.5:
                vrf = b.one()
                b.route(HOST, space, space.nested(vrf.number, b.rng), b.to_dpu(b.one(), space), 220)
            if b.rng.random() < 0.3:
                b.route(HOST, space, _target(b, space), "", 220, kind="throw")
        else:
            _rule(b, space, 33000, "lookup 200")
            vrf = b.one()
            b.route(HOST, space, _share(space, vrf.number), b.to_dpu(vrf, space), 200)
            b.route(DPU, space, _share(space, vrf.number), b.by_end(vrf, space), vrf.table)


# -- settings


@feature
def forwarding_off(b: Builder) -> None:
    """The host forwards nothing: at all, or from one of the uplinks."""
    for space in b.spaces:
        if space.family == 6:
            b.last(HOST, 0, "net.ipv6.conf.all.forwarding=0")
        elif b.rng.random() < 0.5:
            b.last(HOST, 0, "net.ipv4.ip_forward=0")
        else:
            b.last(HOST, 0, f"net.ipv4.conf.{b.one().uplinks[0]}.forwarding=0")
    b.doubts.append("forwarding")


@feature
def exclude_listener(b: Builder) -> None:
    """Prefixes that the listener's filters exclude."""
    prefixes = _excluded(b)
    b.listeners.setdefault(HOST, {})["filters"] = {"exclude_prefixes": prefixes}
    b.excluded += prefixes


def _excluded(b: Builder) -> list[str]:
    return sorted({_target(b, space) for space in b.spaces for _time in b.times(1, 2)})


@feature
def exclude_agent(b: Builder) -> None:
    """Prefixes that the agent's policy excludes."""
    prefixes = _excluded(b)
    b.agent.setdefault("host_defaults", {})["exclude_prefixes"] = prefixes
    b.excluded += prefixes


@feature
def limits(b: Builder) -> None:
    """Fewer routes are allowed than there are."""
    _also_nested(b)
    if b.rng.random() < 0.5:
        b.agent.setdefault("host_defaults", {})["routes"] = b.rng.randint(1, 4)
    else:
        b.agent["vrf_limits"] = {b.one().name: b.rng.randint(1, 3)}
    b.doubts.append("limit")


@feature
def policy(b: Builder) -> None:
    """Only some VRFs may get routes, or only some prefixes."""
    _also_nested(b)
    if b.rng.random() < 0.5:
        b.agent.setdefault("host_defaults", {})["vrfs"] = [b.one().name]
    else:
        b.agent.setdefault("host_defaults", {})["prefixes"] = [_target(b, space) for space in b.spaces]
    b.doubts.append("policy")


def _also_nested(b: Builder) -> None:
    for space in b.spaces:
        for _time in b.times(1, 2):
            vrf, other = b.two()
            prefix = space.nested(vrf.number, b.rng)
            b.route(other.host, space, prefix, b.to_dpu(other, space))
            b.route(DPU, space, prefix, b.by_end(other, space), other.table)


@feature
def control_inside(b: Builder) -> None:
    """The host speaks to the agent from an address inside a prefix that it announces."""
    space = b.spaces[0]
    vrf = next(one for one in b.leading if one.host == HOST)
    other = b.rng.choice([one for one in b.leading if one.host == HOST and one is not vrf] or [vrf])
    address = space.single(other.number, b.rng)
    b.address(HOST, space.family, f"address add {address}/{space.alone} dev lo{nodad(space)}")
    link = vrf.uplinks[0]
    b.line(HOST, space.family, f"route add {space.at(link, 1)}/{space.alone} dev {link} src {address}")
    b.doubts.append("control")


@feature
def two_hosts(b: Builder) -> None:
    """A second host with VRFs, routes and a listener of its own."""
    b.hosts.append("host2")
    for _vrf in range(2):
        vrf = b.add_vrf(ends=1, host="host2")
        if vrf is None:
            break
        for space in b.spaces:
            _announce_own(b, vrf, space)
    theirs = [vrf for vrf in b.vrfs if vrf.host == "host2"]
    ours = [vrf for vrf in b.leading if vrf.host == HOST]
    for space in b.spaces:
        for mine, other in ((b.rng.choice(theirs), b.rng.choice(ours)), (b.rng.choice(ours), b.rng.choice(theirs))):
            if b.rng.random() < 0.7:  # the one host knows a way for the other's prefixes too: by its own uplink
                b.route(mine.host, space, space.nested(other.number, b.rng), b.to_dpu(mine, space))
            if b.rng.random() < 0.5:
                b.route(DPU, space, space.nested(other.number, b.rng), b.to_host(mine, space), mine.table)


# -- what happens


def _on_host(b: Builder) -> Line:
    space = b.rng.choice(b.spaces)
    vrf, other = b.two()
    kind = b.rng.choice(("", "", "", "blackhole", "unreachable"))
    how = "" if kind else b.rng.choice((b.to_dpu(vrf, space), b.to_dpu(other, space), b.host_link(vrf.host, space)))
    prefix = b.rng.choice((space.nested(vrf.number, b.rng), space.own(vrf.number), space.cover(b.rng)))
    return b.route_line(vrf.host, space, prefix, how, metric=b.rng.choice((0, 0, 9)), kind=kind)


def _on_dpu(b: Builder) -> Line:
    space = b.rng.choice(b.spaces)
    vrf, other = b.two()
    kind = b.rng.choice(("", "", "", "blackhole", "unreachable"))
    owner = b.rng.choice((vrf, other))
    how = "" if kind else b.rng.choice((b.by_end(owner, space), b.to_host(owner, space)))
    prefix = b.rng.choice((space.nested(vrf.number, b.rng), space.own(vrf.number), space.default))
    return b.route_line(DPU, space, prefix, how, owner.table, b.rng.choice((0, 0, 9)), kind)


def _vary(b: Builder, line: Line, machine: str) -> Line:
    """Add a route, replace one by it, or delete one that is there."""
    choice = b.rng.choice(("add", "replace", "delete"))
    if choice == "delete":
        line = b.rng.choice(b.routes_of(machine))
        return line._replace(text=line.text.replace("route add", "route del", 1))
    return line._replace(text=line.text.replace("route add", f"route {choice}", 1))


@feature
def mutate_host(b: Builder) -> None:
    """Routes of the host come, change and go."""
    for _time in b.times(3, 6):
        line = _on_host(b)
        b.changes.append(Change((_vary(b, line, line.machine),)))


@feature
def mutate_dpu(b: Builder) -> None:
    """The DPU's own routes come, change and go."""
    for _time in b.times(3, 6):
        b.changes.append(Change((_vary(b, _on_dpu(b), DPU),)))


@feature
def mutate_rule(b: Builder) -> None:
    """Rules of the host come and go."""
    for space in b.spaces:
        _tunnel(b, space, 90, space.default)
        texts = [
            f"pref 160 to {_target(b, space)} unreachable",
            f"pref 161 to {_target(b, space)} lookup 90",
            f"pref 162 from {space.subnet(b.one().ends[0])} lookup 90",
            f"pref 163 iif {b.one().uplinks[0]} lookup 90",
        ]
        text = b.rng.choice(texts)
        for word in ("add", "del"):
            b.changes.append(Change((Line(HOST, space.family, f"rule {word} {text}"),)))


@feature
def mutate_address(b: Builder) -> None:
    """Addresses of the host and of the DPU come and go."""
    for space in b.spaces:
        vrf = b.one()
        machine, link = b.rng.choice(((HOST, "lo"), (HOST, "d1"), (DPU, vrf.ends[0])))
        length = b.rng.choice((space.alone, 24 if space.family == 4 else 64)) if machine == HOST else space.alone
        text = f"{space.single(vrf.number, b.rng)}/{length} dev {link}"
        b.changes.append(Change((Line(machine, space.family, f"address add {text}{nodad(space)}"),)))
        b.changes.append(Change((Line(machine, space.family, f"address del {text}"),)))


@feature
def mutate_link(b: Builder) -> None:
    """Links of the DPU and of the host go down and come up."""
    b.control = "management"
    vrf = b.one()
    choices = [(DPU, link) for link in vrf.ends] + [(DPU, vrf.uplinks[0]), (HOST, vrf.uplinks[0])]
    family = b.spaces[0].family
    for machine, link in b.rng.sample(choices, 2):
        b.changes.append(Change((Line(machine, family, f"link set {link} down"),)))
        b.changes.append(Change((Line(machine, family, f"link set {link} up"),)))


@feature
def restart(b: Builder) -> None:
    """A daemon is killed and started again."""
    for _time in b.times(1, 2):
        b.changes.append(Change(restart=b.rng.choice(("agent", HOST))))


#: Features after which something happens to a running mirror.
CHANGING = ("mutate_host", "mutate_dpu", "mutate_rule", "mutate_address", "mutate_link", "restart")
#: What a DPU does not do: it takes one host at a time. It has to be asked for by name.
NOT_DONE = ("two_hosts",)
#: Those that make a case hard from the start.
STANDING = tuple(name for name in FEATURES if name not in CHANGING and name not in NOT_DONE)
#: Those that meet others. The host's rules may take its own connection away, with a mirror and without.
TOGETHER = tuple(name for name in STANDING if name != "control_inside")
#: How likely a feature is in a mix.
_LIKELY = 0.2


def mix(seed: int) -> tuple[str, ...]:
    """Some features, and things that happen in one case of three."""
    rng = random.Random(f"mix {seed}")
    found = [name for name in TOGETHER if rng.random() < _LIKELY]
    if rng.random() < 1 / 3:
        found.append(rng.choice(CHANGING))
    return tuple(found)
