# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: links, addresses, policy rules and VRFs, as the kernel reports them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .routes import Address, Prefix


@dataclass(frozen=True)
class Link:
    """A network interface.

    *up* is the administrative state, *carrier* the operational one. *kind* is the rtnetlink kind (``vrf``, ``veth``,
    empty for hardware). *vrf_table* is set for VRF devices only (``IFLA_VRF_TABLE``). *master* is the ifindex of the
    VRF, bridge or bond that the link is enslaved to. *mtu* is in bytes, 0 if unknown. *lower* is the ifindex of what a
    VLAN or macvlan link runs on.
    """

    index: int
    name: str
    up: bool = True
    carrier: bool = True
    master: int | None = None
    kind: str = ""
    vrf_table: int | None = None
    mtu: int = 0
    lower: int | None = None


@dataclass(frozen=True)
class LinkAddress:
    """An address of this machine: its link, and the prefix length of its subnet."""

    index: int
    address: Address
    length: int


@dataclass(frozen=True)
class Rule:
    """A policy rule (ip-rule(8)), as far as VRF-lite uses it: ``iif NAME lookup TABLE``.

    *l3mdev* marks the rule that the kernel adds with the first VRF device: look up each packet in the table of its VRF.
    """

    family: int
    priority: int
    table: int
    iif: str = ""
    source: Prefix | None = None
    l3mdev: bool = False


@dataclass(frozen=True)
class Vrf:
    """A VRF: its name, its table, and the ifindexes of its links."""

    name: str
    table: int
    links: frozenset[int] = frozenset()
