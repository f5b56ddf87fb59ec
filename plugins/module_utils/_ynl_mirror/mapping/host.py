# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the DPU knows of its host, from what the host announces: gateways, addresses, connected prefixes. Pure.

Two questions follow from it. Which links of the DPU lead to the host? And which of them does a packet come back by
that the host sends by its own link h to gateway G? Links are paired: a link of the host and one of the DPU that share a
subnet are the two ends of one cable. The owner of G alone does not tell, since an address may be on several links.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model.routes import AF_INET, RTN_LOCAL, RTN_UNICAST, WIDTH, Address, Path
from .view import View

#: Gateways that are remembered: a host may send new ones all the time.
_MOST_GATEWAYS = 65536
#: Ifindexes that stand for every link in what the host says of its forwarding (NETCONFA_IFINDEX_ALL).
_ALL_LINKS = -1


class HostFacts:
    """What one host has shown of itself. *forwarding* is what it says of (family, its ifindex): does it forward?"""

    def __init__(self) -> None:
        self.gateways: set[Address] = set()
        self.forwarding: Mapping[tuple[int, int], bool] = {}
        #: Prefixes (family, key) that tell something, with the host's link: its addresses, and its connected prefixes.
        self.addresses: dict[tuple[int, int], int | None] = {}
        self.connected: dict[tuple[int, int], int | None] = {}
        self.version = 0
        self._told: dict[int, frozenset[int]] = {}
        self._told_at = -1

    def note(self, family: int, key: int, path: Path | None) -> None:
        """The host announces this prefix by this path now, or (None) no longer."""
        place = (family, key)
        address = path is not None and path.type == RTN_LOCAL and key >> WIDTH[family] == WIDTH[family]
        connected = path is not None and path.type == RTN_UNICAST and _is_connected(path)
        oif = path.nexthops[0].oif if path is not None and path.nexthops else None
        for known, is_one in ((self.addresses, address), (self.connected, connected)):
            if is_one and (place not in known or known[place] != oif):
                known[place] = oif
                self.version += 1
            elif not is_one and place in known:
                del known[place]
                self.version += 1

    @staticmethod
    def may_tell(path: Path | None) -> bool:
        """Whether routes with this path tell something: addresses of the host and connected prefixes."""
        return path is not None and (path.type == RTN_LOCAL or (path.type == RTN_UNICAST and _is_connected(path)))

    def told(self, family: int) -> frozenset[int]:
        """The prefixes (keys) that something was learnt from."""
        if self._told_at != self.version:
            places = [*self.addresses, *self.connected]
            self._told = {f: frozenset(key for of, key in places if of == f) for f in WIDTH}
            self._told_at = self.version
        return self._told[family]

    def learn_gateways(self, path: Path, used: Mapping[Address, tuple[int, ...]]) -> None:
        """Remember the gateways of a path; *used* are the addresses of the DPU, with their links."""
        for hop in path.nexthops:
            if hop.gateway is not None and hop.gateway not in self.gateways:
                if len(self.gateways) >= max(_MOST_GATEWAYS, 2 * len(used)):
                    # Gateways in use are learnt again when the DPU gets such an address.
                    self.gateways.intersection_update(used)
                self.gateways.add(hop.gateway)
                if hop.gateway in used:
                    self.version += 1


def _is_connected(path: Path) -> bool:
    return len(path.nexthops) == 1 and path.nexthops[0].gateway is None


class Uplinks:
    """The links of the DPU that lead to the host, for one state of the DPU and of what is known of the host."""

    def __init__(self, view: View, facts: HostFacts, named: tuple[str, ...]) -> None:
        self._facts = facts
        self._view = view
        self.pairs = self._pair()
        links = {index for index, link in view.links.items() if link.name in named}
        for gateway in facts.gateways:
            links.update(view.owners.get(gateway, ()))
        for paired in self.pairs.values():
            links.update(paired)
        # What runs on top of an uplink leads to the host as well.
        upper = {index for index, link in view.links.items() if link.lower in links and link.vrf_table is None}
        self.links = frozenset(links | upper)
        self._own = {Address(f, key & ((1 << WIDTH[f]) - 1)) for f, key in facts.addresses}

    def _pair(self) -> dict[int, frozenset[int]]:
        """By link of the host: the DPU's links that have an address in the same subnet."""
        found: dict[int, set[int]] = {}
        for place, oif in self._facts.connected.items():
            links = self._view.subnets.get(place)
            if links and oif is not None:
                found.setdefault(oif, set()).update(links)
        return {oif: frozenset(links) for oif, links in found.items()}

    def is_host(self, gateway: Address) -> bool:
        """Whether an address on an uplink may be the host's: one of those that it announces, if it announces any."""
        own = self._own
        return gateway in own or gateway.is_link_local or not any(one.family == gateway.family for one in own)

    def forwards(self, family: int, link: int) -> bool:
        """Whether the host forwards what it receives by this link; also when it does not say.

        Of a link without a pair the answer is that of all its links together.
        """
        told = self._facts.forwarding
        if not told:
            return True
        ends = [oif for oif, links in self.pairs.items() if link in links]
        if family != AF_INET:  # IPv6 forwards by the setting for all links
            ends = [_ALL_LINKS]
        elif not ends:
            ends = [_ALL_LINKS, *(oif for of, oif in told if of == family and oif > 0)]
        return all(told.get((family, oif), True) for oif in ends)

    @property
    def identity(self) -> tuple[object, ...]:
        """What decisions depend on: of the host's addresses those that the DPU sends packets to."""
        used = self._own & self._view.gateways
        return self.links, self.pairs, used, {one.family for one in self._own}
