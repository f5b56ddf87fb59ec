# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a packet: a model of the DPU and its host, written without the code that it judges.

Tables are dictionaries of `ipaddress` networks, a route is a kind and its next hops, and a packet walks: from VRF to
host, from host to VRF, until it leaves, is delivered, is dropped, or has been in a VRF before. With several next hops
it goes every way by its share, so a fate is a distribution.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Ip = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
#: Where a packet ends, with the share of packets that do.
Fate = Mapping[tuple[object, ...], Fraction]
_Sums = defaultdict[tuple[object, ...], Fraction]


class Hop(NamedTuple):
    """A next hop: gateway (as text), link, weight."""

    gateway: str | None
    link: int | None
    weight: int = 1


class Way(NamedTuple):
    """What a table says of a prefix: unicast by hops, or the name of another type."""

    kind: str
    hops: tuple[Hop, ...] = ()
    metric: int = 0
    words: str | None = None


Table = Mapping[Network, Way]


@dataclass
class World:
    """A DPU and its host.

    *uplinks* are links of the DPU that are cabled to the host: DPU link -> (host link, table of its VRF). *devices* are
    VRF devices: link -> table. *gateways* are the DPU's addresses with their links; *host* are the host's addresses.
    *deaf* are host links by which it takes nothing to forward.
    """

    own: Mapping[int, Table]
    announced: Table
    uplinks: Mapping[int, tuple[int, int]]
    gateways: Mapping[str, int]
    host: frozenset[str]
    devices: Mapping[int, int] = field(default_factory=dict)
    deaf: frozenset[int] = frozenset()

    def fate(self, table: int, address: Ip, mirrored: Mapping[int, Table] | None = None) -> Fate:
        """Of a packet to this address that enters the DPU in the VRF of this table."""
        found: _Sums = defaultdict(Fraction)
        self._in_vrf(table, address, mirrored or {}, frozenset(), Fraction(1), found)
        return dict(found)

    def edges(self) -> list[Ip]:
        """The first and last address of every prefix, and those beside it."""
        found: set[Ip] = set()
        for network in {*self.announced, *(network for table in self.own.values() for network in table)}:
            first, last = int(network.network_address), int(network.broadcast_address)
            kind = type(network.network_address)
            limit = (1 << network.max_prefixlen) - 1
            found.update(kind(value) for value in (first - 1, first, last, last + 1) if 0 <= value <= limit)
        return sorted(found, key=int)

    def _in_vrf(
        self,
        table: int,
        address: Ip,
        mirrored: Mapping[int, Table],
        been: frozenset[int],
        share: Fraction,
        found: _Sums,
    ) -> None:
        if table in been:
            found[("loop",)] += share
            return
        way = _chosen(address, self.own.get(table, {}), mirrored.get(table, {}))
        if way is None:
            found["nothing", table] += share
        elif way.kind == "local":
            found["delivered", table] += share
        elif way.kind != "unicast":
            found["dropped", way.kind] += share
        else:
            total = sum(hop.weight for hop in way.hops)
            for hop in way.hops:
                self._by_hop(hop, address, mirrored, been | {table}, share * hop.weight / total, found)

    def _by_hop(
        self,
        hop: Hop,
        address: Ip,
        mirrored: Mapping[int, Table],
        been: frozenset[int],
        share: Fraction,
        found: _Sums,
    ) -> None:
        assert hop.link is not None
        if hop.link in self.devices:
            self._in_vrf(self.devices[hop.link], address, mirrored, been, share, found)
        elif hop.link in self.uplinks and hop.gateway in self.host:
            self._at_host(self.uplinks[hop.link][0], address, mirrored, been, share, found)
        else:
            found["left", hop.link, hop.gateway] += share

    def _at_host(
        self,
        link: int,
        address: Ip,
        mirrored: Mapping[int, Table],
        been: frozenset[int],
        share: Fraction,
        found: _Sums,
    ) -> None:
        way = _chosen(address, self.announced, {})
        if way is not None and way.kind == "local":
            found["the host's",] += share
        elif link in self.deaf:
            found["not forwarded by the host",] += share
        elif way is None:
            found["nothing", "host"] += share
        elif way.kind != "unicast":
            found["host", way.kind, way.words] += share
        else:
            total = sum(hop.weight for hop in way.hops)
            for hop in way.hops:
                mine = share * hop.weight / total
                table = self._arrives(hop)
                if table is None:
                    found["host", hop.gateway, hop.link] += mine
                else:
                    self._in_vrf(table, address, mirrored, been, mine, found)

    def _arrives(self, hop: Hop) -> int | None:
        """The table of the VRF by which the host's packets come back; None if they do not."""
        for link, (host_link, table) in self.uplinks.items():
            if host_link == hop.link and hop.gateway is not None and self.gateways.get(hop.gateway) == link:
                return table
        return None


def _chosen(address: Ip, own: Table, mirrored: Table) -> Way | None:
    """Longest match, then the smaller metric. A mirrored route of the same metric stands in front of the other."""
    for network in sorted({*own, *mirrored}, key=lambda network: -network.prefixlen):
        if address in network:
            ours, theirs = mirrored.get(network), own.get(network)
            return ours if ours is not None and (theirs is None or ours.metric <= theirs.metric) else theirs
    return None


def in_words(fate: Fate) -> list[str]:
    """A fate in a form that is easy to read in a failed test."""
    return sorted(f"{share} {' '.join(map(str, end))}" for end, share in fate.items())
