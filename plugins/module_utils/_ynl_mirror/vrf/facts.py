# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRFs, links, addresses, rules and routes of a machine as plain data: the work of the module vrf_info."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..mapping.view import discover_vrfs
from ..model.links import Link
from ..model.routes import (
    AF_INET,
    AF_INET6,
    FAMILIES,
    FAMILY_NAMES,
    RT_TABLE_MAIN,
)
from ..netlink.rtnetlink import WireError
from ..netlink.sockets import KernelError, Requests, read_addresses, read_links, read_routes, read_rules
from .items import LinkNames, to_fact
from .target import TaskError

SUBSETS = ("vrfs", "links", "addresses", "rules", "routes")


@dataclass(frozen=True)
class Question:
    """What to return. *vrfs* are VRFs without a device: name -> (table, link names).

    *tables* None: main and those of the VRFs. Empty *families* or *protocols*: all.
    """

    subset: tuple[str, ...] = SUBSETS
    vrfs: Mapping[str, tuple[int, tuple[str, ...]]] | None = None
    tables: tuple[int, ...] | None = None
    families: tuple[str, ...] = ()
    protocols: tuple[int, ...] = ()


def gather(question: Question) -> dict[str, Any]:
    """Read what the question asks for in this network namespace. TaskError when the kernel cannot be read."""
    try:
        with Requests() as requests:
            return _Facts(question, requests).all()
    except (KernelError, WireError) as error:
        raise TaskError(f"cannot read the kernel: {error}") from None


class _Facts:
    def __init__(self, question: Question, requests: Requests) -> None:
        self.question = question
        self.requests = requests
        self.links = {link.index: link for link in read_links(requests)}
        self.rules = read_rules(requests)
        self.vrfs = discover_vrfs(self.links, self.rules, _known(question.vrfs or {}, self.links.values()))
        self.vrf_of = {index: vrf.name for vrf in self.vrfs for index in vrf.links}
        # A VRF device is in its own VRF, and its addresses with it.
        names = {vrf.table: vrf.name for vrf in self.vrfs}
        devices = {index: names.get(link.vrf_table or 0) for index, link in self.links.items()}
        self.vrf_of.update({index: name for index, name in devices.items() if name is not None})

    def all(self) -> dict[str, Any]:
        """The requested subsets, by name."""
        makers = {
            "vrfs": self._vrfs,
            "links": self._links,
            "addresses": self._addresses,
            "rules": self._rules,
            "routes": self._routes,
        }
        return {name: makers[name]() for name in SUBSETS if name in self.question.subset}

    def _name(self, index: int) -> str:
        link = self.links.get(index)
        return link.name if link else f"if{index}"

    def _vrfs(self) -> list[dict[str, Any]]:
        devices = {link.name for link in self.links.values() if link.vrf_table is not None}
        return [
            {
                "name": vrf.name,
                "table": vrf.table,
                "links": sorted(self._name(index) for index in vrf.links),
                "device": vrf.name in devices,
            }
            for vrf in self.vrfs
        ]

    def _links(self) -> list[dict[str, Any]]:
        return [
            {
                "name": link.name,
                "index": index,
                "kind": link.kind,
                "up": link.up,
                "carrier": link.carrier,
                "master": self._name(link.master) if link.master is not None else None,
                "vrf": self.vrf_of.get(index),
                "table": link.vrf_table,
                "mtu": link.mtu,
                "lower": self._name(link.lower) if link.lower is not None else None,
            }
            for index, link in self.links.items()
        ]

    def _addresses(self) -> list[dict[str, Any]]:
        wanted = self._families()
        return [
            {
                "address": str(item.address),
                "prefix_length": item.length,
                "family": FAMILY_NAMES[item.address.family],
                "link": self._name(item.index),
                "vrf": self.vrf_of.get(item.index),
            }
            for item in read_addresses(self.requests)
            if item.address.family in wanted
        ]

    def _rules(self) -> list[dict[str, Any]]:
        wanted = self._families()
        return [
            {
                "family": FAMILY_NAMES[rule.family],
                "priority": rule.priority,
                "table": None if rule.l3mdev else rule.table,
                "iif": rule.iif or None,
                "source": str(rule.source) if rule.source else None,
                "l3mdev": rule.l3mdev,
            }
            for rule in self.rules
            if rule.family in wanted
        ]

    def _routes(self) -> list[dict[str, Any]]:
        tables = self.question.tables
        if tables is None:
            tables = tuple(dict.fromkeys([*(vrf.table for vrf in self.vrfs), RT_TABLE_MAIN]))
        names = LinkNames({link.name: index for index, link in self.links.items()})
        vrfs = {vrf.table: vrf.name for vrf in self.vrfs}
        return [
            {**to_fact(route, names), "vrf": vrfs.get(table)}
            for table in tables
            for family in self._families()
            for route in read_routes(self.requests, family, table, dead_hops=True)
            if not self.question.protocols or route.path.protocol in self.question.protocols
        ]

    def _families(self) -> tuple[int, ...]:
        return tuple(FAMILIES[name] for name in self.question.families) or (AF_INET, AF_INET6)


def _known(
    vrfs: Mapping[str, tuple[int, tuple[str, ...]]], links: Iterable[Link]
) -> Mapping[str, tuple[int, tuple[str, ...]]]:
    """The VRFs that the user listed; TaskError for one with a link that does not exist."""
    names = {link.name for link in links}
    for vrf, (_table, members) in vrfs.items():
        for member in members:
            if member not in names:
                known = ", ".join(sorted(names))
                raise TaskError(f"vrfs.{vrf}.links: no link {member!r} on this machine; choose from: {known}")
    return vrfs
