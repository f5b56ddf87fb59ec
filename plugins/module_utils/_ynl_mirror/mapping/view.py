# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The view of the DPU that the mapping uses: its VRFs, links, addresses, and the routes that are not mirrored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..model.links import Link, LinkAddress, Rule, Vrf
from ..model.routes import AF_INET, AF_INET6, WIDTH, Address, TableKey
from ..replica.entry import best_path
from ..replica.rib import Rib
from .lpm import Lpm


@dataclass
class View:
    """One state of the DPU: VRFs, links, who owns addresses, links by (family, subnet key), own routes by VRF table."""

    vrfs: tuple[Vrf, ...] = ()
    links: Mapping[int, Link] = field(default_factory=dict)
    owners: Mapping[Address, tuple[int, ...]] = field(default_factory=dict)
    tables: dict[TableKey, Lpm] = field(default_factory=dict)
    subnets: Mapping[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def gateways(self) -> frozenset[Address]:
        """The gateways of all its routes."""
        paths = {id(path): path for lpm in self.tables.values() for path in lpm.paths()}
        return frozenset(hop.gateway for path in paths.values() for hop in path.nexthops if hop.gateway is not None)

    def vrf_of_link(self, index: int) -> Vrf | None:
        """The VRF that a link belongs to; a VRF device, which may have addresses, belongs to its VRF."""
        link = self.links.get(index)
        own = link.vrf_table if link else None
        return next((vrf for vrf in self.vrfs if index in vrf.links or vrf.table == own), None)

    def vrf_named(self, name: str) -> Vrf | None:
        """The VRF of that name."""
        return next((vrf for vrf in self.vrfs if vrf.name == name), None)

    def link_name(self, index: int | None) -> str:
        """The name of a link, or ``if7`` if there is no such link."""
        link = self.links.get(index) if index is not None else None
        return link.name if link else f"if{index}"

    def is_up(self, index: int) -> bool:
        """Whether frames get out of a link, and in."""
        link = self.links.get(index)
        return link is not None and link.up and link.carrier

    def lpm(self, family: int, table: int) -> Lpm:
        """The VRF's own routes of one family."""
        found = self.tables.get((family, table))
        if found is None:
            found = self.tables[family, table] = Lpm(family)
        return found


def discover_vrfs(
    links: Mapping[int, Link], rules: Iterable[Rule], named: Mapping[str, tuple[int, tuple[str, ...]]]
) -> tuple[Vrf, ...]:
    """The VRFs of this machine: those in the configuration, *named* (name -> (table, link names)), or the VRF devices.

    If a named VRF lists no links, it has those that a policy rule ``iif LINK lookup TABLE`` binds to its table.
    """
    if not named:
        return tuple(
            Vrf(link.name, link.vrf_table, frozenset(i for i, other in links.items() if other.master == link.index))
            for link in sorted(links.values(), key=lambda link: link.index)
            if link.vrf_table is not None
        )
    by_name = {link.name: index for index, link in links.items()}
    found = []
    for name, (table, wanted) in named.items():
        members = wanted or {rule.iif for rule in rules if rule.iif and rule.table == table}
        found.append(Vrf(name, table, frozenset(by_name[link] for link in members if link in by_name)))
    return tuple(found)


def address_owners(addresses: Iterable[LinkAddress]) -> dict[Address, tuple[int, ...]]:
    """The links that own each address (a link-local address may be on several)."""
    owners: dict[Address, tuple[int, ...]] = {}
    for item in addresses:
        owners[item.address] = (*owners.get(item.address, ()), item.index)
    return owners


def shared_subnets(addresses: Iterable[LinkAddress]) -> dict[tuple[int, int], tuple[int, ...]]:
    """The links that have an address in each (family, subnet key); no link-local ones, which are everywhere."""
    found: dict[tuple[int, int], tuple[int, ...]] = {}
    for item in addresses:
        family, width = item.address.family, WIDTH[item.address.family]
        if not item.address.is_link_local and item.length not in (0, width):
            key = item.length << width | item.address.value >> (width - item.length)
            if item.index not in found.get((family, key), ()):
                found[family, key] = (*found.get((family, key), ()), item.index)
    return found


def own_routes(rib: Rib, vrfs: Iterable[Vrf]) -> dict[TableKey, Lpm]:
    """The look-up tables of the VRFs, from a replica without mirrored routes."""
    tables: dict[TableKey, Lpm] = {}
    for vrf in vrfs:
        for family in (AF_INET, AF_INET6):
            lpm = tables[family, vrf.table] = Lpm(family)
            for key, entry in rib.tables.get((family, vrf.table), {}).items():
                path = best_path(entry)
                if path is not None:
                    lpm.set(key, path)
    return tables
