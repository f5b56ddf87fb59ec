# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fates of a case's packets with the mirror and without: what differs, and how many detours were cut short."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from ansible_collections.ekho.ynl_mirror.tests.equivalence import kernel as k
from ansible_collections.ekho.ynl_mirror.tests.equivalence.case import DPU, Case
from ansible_collections.ekho.ynl_mirror.tests.equivalence.lab import Lab
from ansible_collections.ekho.ynl_mirror.tests.equivalence.model import Fate, Flow, Place, Way, World, walk

#: Addresses of one family that are looked up in a case, and how many of them are random.
ADDRESSES, RANDOM = 140, 10
#: Packets of one comparison; more of them are sampled.
PACKETS = 2500
Packet = tuple[Flow, Place]
_UNROUTED = {
    4: [ipaddress.ip_network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")],
    16: [ipaddress.ip_network(text) for text in ("::/96", "::ffff:0:0/96", "ff00::/8", "fe80::/10")],
}


@dataclass(frozen=True)
class Difference:
    """A packet that ends elsewhere. *what*: fate, model (the model is wrong), bypassed (an excluded prefix)."""

    case: Case
    changes: int  # how many had happened
    what: str
    packet: Packet
    without: tuple[Way, ...]
    with_: tuple[Way, ...]
    kernels: Way

    def __str__(self) -> str:
        flow, (machine, link) = self.packet
        lines = [f"{self.what}: {flow} in by {link} of {machine}; {self.case.name}, after {self.changes} changes"]
        for title, ways in (
            ("without the mirror", self.without),
            ("with it", self.with_),
            ("kernels", (self.kernels,)),
        ):
            for way in ways:
                lines += [f"  {title}: {way.fate}", *(f"    {step}" for step in way.steps)]
        return "\n".join(lines)

    def script(self) -> str:
        """The case as a script that ends with the look-ups of this packet."""
        flow, _at = self.packet
        asked = f"{k.text(flow.destination)} from {k.text(flow.source)}"
        tos = f" tos {flow.tos:#x}" if flow.tos else ""
        looks = []
        for step in self.kernels.steps:
            mark = f" mark {flow.mark}" if flow.mark and step.machine != DPU else ""
            looks.append(f"ip -n {step.machine} route get {asked} iif {step.iif}{mark}{tos}")
        told = [f"# {line}" for line in str(self).splitlines()]
        return self.case.script([*told, *looks])


@dataclass
class Tally:
    """What was seen, of one feature or of all."""

    cases: int = 0
    fates: int = 0
    wrong: int = 0
    wrong_cases: int = 0
    mirrored: int = 0  # fates that begin with a mirrored route
    detours: int = 0
    shortened: int = 0
    provable: int = 0
    provable_shortened: int = 0
    uneven: int = 0  # legs alike, but not by the same shares
    kinds: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)  # why detours that stay are not provable

    def add(self, other: Tally) -> None:
        """Add what another one has seen."""
        for name in ("cases", "fates", "wrong", "wrong_cases", "mirrored", "detours", "shortened"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("provable", "provable_shortened", "uneven"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds += other.kinds
        self.doubts += other.doubts


# -- which packets


def packets(world: World, case: Case, seed: int, number: int = ADDRESSES) -> list[Packet]:
    """Packets to the edges of every prefix in any table, into every VRF: by an end link, and from the host."""
    rng = random.Random(seed)
    found: list[Packet] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        addresses = list(edges(world, family))
        if not addresses:
            continue
        addresses = rng.sample(addresses, min(len(addresses), number))
        addresses += [_random(rng, family) for _time in range(RANDOM)]
        kinds = list(_kinds(world, family))
        for at, source in _entries(world, case, family):
            for address in addresses:
                found += [(Flow(address, source, *kind), at) for kind in kinds]
            for kind, other in _sources(world, family, kinds):
                found += [(Flow(address, other, *kind), at) for address in addresses[::3]]
    return found if len(found) <= PACKETS else rng.sample(found, PACKETS)


def edges(world: World, family: int) -> Iterator[bytes]:
    """First, last, just before and just after: of every prefix in any table that may be forwarded."""
    bits = 32 if family == socket.AF_INET else 128
    seen: set[int] = set()
    for machine in world.machines.values():
        for (of, _table), routes in machine.tables.items():
            if of == family:
                for first, length in routes.prefixes():
                    after = first + (1 << (bits - length))
                    seen |= {first, after - 1, first - 1, after, first + 1}
        for rule in machine.rules[family]:
            if rule.destination_length:
                first = int.from_bytes(rule.destination, "big")
                seen |= {first, first - 1, first + (1 << (bits - rule.destination_length))}
    for value in sorted(seen):
        if 0 <= value < 1 << bits:
            address = value.to_bytes(bits // 8, "big")
            if not _unrouted(address):
                yield address


def _unrouted(address: bytes) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _UNROUTED[len(address)])


def _random(rng: random.Random, family: int) -> bytes:
    while True:
        if family == socket.AF_INET:
            address = bytes(
                [rng.choice((10, rng.randrange(256))), rng.randrange(6), rng.randrange(256), rng.randrange(256)]
            )
        else:
            address = bytes([0xFD, 0x10, 0, rng.randrange(6)]) + rng.randbytes(12)
        if not _unrouted(address):
            return address


def _kinds(world: World, family: int) -> Iterator[tuple[int, int, int, int]]:
    """Marks, types of service, protocols and ports: a plain packet, and one for each condition of a rule or route."""
    found = {(0, 0, 0, 0)}
    for machine in world.machines.values():
        if machine.name == DPU:
            continue
        for rule in machine.rules[family]:
            if rule.mask or rule.tos or rule.protocol:
                ports = rule.destination_ports or (0, 0)
                found.add((rule.mark, rule.tos, rule.protocol, ports[0]))
        for (of, _table), routes in machine.tables.items():
            if of == socket.AF_INET == family:
                found |= {(0, tos, 0, 0) for tos in routes.types_of_service()}
    yield from sorted(found)


def _sources(
    world: World, family: int, kinds: list[tuple[int, int, int, int]]
) -> Iterator[tuple[tuple[int, int, int, int], bytes]]:
    """Another source, where a rule of a host asks for one."""
    asked = any(rule.source_length for name, one in world.machines.items() if name != DPU for rule in one.rules[family])
    if asked:
        text = "198.51.100.7" if family == socket.AF_INET else "2001:db8::7"
        yield kinds[0], ipaddress.ip_address(text).packed


def _entries(world: World, case: Case, family: int) -> Iterator[tuple[Place, bytes]]:
    """Where packets come in, each with a source that fits: one end link of each VRF, and one uplink."""
    up = world.machines[DPU].up
    for vrf in case.vrfs:
        for links in (vrf.ends, vrf.uplinks):
            link = next((link for link in links if link in up), None)
            own = link and neighbour(world, link, family, 77 if links is vrf.ends else 2)
            if link and own:
                yield (DPU, link), own


def neighbour(world: World, link: str, family: int, number: int) -> bytes | None:
    """An address in the subnet of a link of the DPU; None without a subnet."""
    size, subnets = (4, b"\xc0\xa8") if family == socket.AF_INET else (16, b"\xfd\x00")
    for address in sorted(world.machines[DPU].addresses.get(link, ())):
        if len(address) == size and address[:2] == subnets and address[-1] == 1:
            # The text of an IPv6 address ends in the same digits, read as hexadecimal.
            return address[:-1] + bytes([number if size == 4 else int(str(number), 16)])
    return None


# -- what becomes of them


def check_model(lab: Lab, world: World, asked: list[Packet]) -> list[Difference]:
    """The kernels' fates that the model does not know, before there is a mirror."""
    assert lab.case is not None
    found = []
    for packet, kernels in zip(asked, walk(world, lab.kernels, asked)):
        ways = tuple(world.ways(*packet))
        if kernels.fate not in {way.fate for way in ways}:
            found.append(Difference(lab.case, 0, "model", packet, ways, (), kernels))
    return found


@dataclass
class Comparison:
    """One comparison: what differs, and the numbers."""

    differences: list[Difference]
    tally: Tally


def compare(lab: Lab, asked: list[Packet], changes: int) -> Comparison:
    """All fates with the mirror and without it, at this moment."""
    assert lab.case is not None
    without, with_ = lab.worlds()
    walked = walk(with_, lab.kernels, asked)
    found = Comparison([], Tally(cases=1))
    judge = _Judge(lab.case, changes)
    for packet, kernels in zip(asked, walked):
        ways = tuple(without.ways(*packet))
        mirrored = tuple(with_.ways(*packet))
        judge.take(found, packet, ways, mirrored, kernels)
    return found


class _Judge:
    """Judges packet by packet."""

    def __init__(self, case: Case, changes: int) -> None:
        self._case = case
        self._changes = changes
        self._excluded = [ipaddress.ip_network(text) for text in case.excluded]

    def take(
        self, found: Comparison, packet: Packet, without: tuple[Way, ...], with_: tuple[Way, ...], kernels: Way
    ) -> None:
        tally = found.tally
        tally.fates += 1
        wanted = {way.fate for way in without}
        expected = {way.fate for way in with_}
        excluded = self._is_excluded(packet)
        shorter = len(kernels.steps) < min(len(way.steps) for way in without)
        what = ""
        if kernels.fate not in expected:
            what = "model"
        elif wanted != expected:
            what = "fate"
        elif shorter and excluded:
            what = "bypassed"
        if what:
            tally.wrong += 1
            kind = what if what != "fate" else f"{_kind(wanted)} -> {_kind(expected)}"
            tally.kinds[kind] += 1
            found.differences.append(Difference(self._case, self._changes, what, packet, without, with_, kernels))
        tally.mirrored += {way.steps[0].said for way in without} != {way.steps[0].said for way in with_}
        tally.uneven += not what and len(wanted) > 1 and _shares(without) != _shares(with_)
        self._count(tally, packet, without, with_, excluded)

    def _count(
        self, tally: Tally, packet: Packet, without: tuple[Way, ...], with_: tuple[Way, ...], excluded: bool
    ) -> None:
        if not all(_is_detour(way) for way in without):
            return
        doubts = {
            doubt
            for way in without
            for step in way.steps
            for doubt in step.doubts
            if (step.machine != DPU) is (doubt != "metric")
        }
        doubts |= set(self._case.doubts) | ({"excluded"} if excluded else set())
        shortened = all(len(way.steps) == 1 for way in with_)
        tally.detours += 1
        tally.shortened += shortened
        if not doubts:
            tally.provable += 1
            tally.provable_shortened += shortened
        elif not shortened:
            tally.doubts.update(doubts)

    def _is_excluded(self, packet: Packet) -> bool:
        if not self._excluded:
            return False
        address = ipaddress.ip_address(packet[0].destination)
        return any(address in network for network in self._excluded)


def _is_detour(way: Way) -> bool:
    """DPU, host, DPU, and out of it."""
    machines = way.machines
    return way.fate.kind == "out" and way.fate.machine == DPU and len(machines) == 3 and machines[1] != DPU


def _shares(ways: Iterable[Way]) -> dict[Fate, Fraction]:
    found: dict[Fate, Fraction] = {}
    for way in ways:
        found[way.fate] = found.get(way.fate, Fraction(0)) + way.share
    return found


def _kind(fates: Iterable[Fate]) -> str:
    words = {fate.kind if fate.kind != "out" else f"out of {fate.machine}" for fate in fates}
    return "/".join(sorted(words))
