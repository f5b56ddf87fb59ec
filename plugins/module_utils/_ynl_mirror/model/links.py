# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: links, addresses, policy rules and VRFs, as the kernel reports them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .routes import Address, Prefix, table_name

#: What a rule does (``FR_ACT_*`` of ``linux/fib_rules.h``).
LOOKUP, GOTO, NOP = 1, 2, 3
#: The ifindex of ``net.ipv4.conf.all``.
ALL_LINKS = -1
RULE_DISCARDS = {6: "blackhole", 7: "unreachable", 8: "prohibit"}


@dataclass(frozen=True)
class Link:
    """A network interface.

    *up* is the administrative state, *carrier* the operational one. *kind* is the rtnetlink kind (``vrf``, ``veth``,
    empty for hardware). *vrf_table* is set for VRF devices only (``IFLA_VRF_TABLE``). *master* is the ifindex of the
    VRF, bridge or bond that the link is enslaved to. *mtu* is in bytes, 0 if unknown.
    """

    index: int
    name: str
    up: bool = True
    carrier: bool = True
    master: int | None = None
    kind: str = ""
    vrf_table: int | None = None
    mtu: int = 0


@dataclass(frozen=True)
class LinkAddress:
    """An address of this machine: its link, and the prefix length of its subnet."""

    index: int
    address: Address
    length: int


@dataclass(frozen=True)
class Rule:
    """A policy rule (ip-rule(8)): which packets it means, and what becomes of them.

    *l3mdev* marks the rule that the kernel adds with the first VRF device: look up each packet in the table of its VRF.
    *conditions* has the other selectors in the words of ip-rule(8) (``fwmark 0x1``); one that this code does not know
    is there as ``attribute NUMBER``. *invert* means the packets that do not match (``not``). Of a look-up with
    *suppress*, matches of that prefix length or less do not count.
    """

    family: int
    priority: int
    table: int
    iif: str = ""
    source: Prefix | None = None
    l3mdev: bool = False
    destination: Prefix | None = None
    oif: str = ""
    uids: tuple[int, int] | None = None
    conditions: tuple[str, ...] = ()
    invert: bool = False
    action: int = LOOKUP
    goto: int | None = None
    suppress: int | None = None

    @property
    def words(self) -> str:
        """The rule in one line, as ``ip rule`` prints it: ``220: from 10.0.0.0/8 lookup 220``."""
        parts = [f"from {self.source or 'all'}"]
        parts += [f"to {self.destination}"] if self.destination else []
        parts += [f"{name} {link}" for name, link in (("iif", self.iif), ("oif", self.oif)) if link]
        parts += self.conditions
        parts += ["uidrange {}-{}".format(*self.uids)] if self.uids else []
        return f"{self.priority}: {'not ' if self.invert else ''}{' '.join(parts)} {self._action_words()}"

    def _action_words(self) -> str:
        if self.action == GOTO:
            return f"goto {self.goto}"
        if self.action == NOP:
            return "nop"
        if self.action != LOOKUP:
            return RULE_DISCARDS.get(self.action, f"action {self.action}")
        table = "[l3mdev-table]" if self.l3mdev else table_name(self.table)
        return f"lookup {table}" + ("" if self.suppress is None else f" suppress_prefixlength {self.suppress}")


@dataclass(frozen=True)
class NetConf:
    """Sysctls of a link (``net.ipv4.conf.LINK``), as far as they decide how packets are forwarded.

    Index ALL_LINKS stands for ``all``, -2 for ``default``. *ignores_linkdown*: routes by a link without carrier are not
    used (``ignore_routes_with_linkdown``). None: a message that has no word on it.
    """

    family: int
    index: int
    forwarding: bool | None = None
    ignores_linkdown: bool | None = None


@dataclass(frozen=True)
class Vrf:
    """A VRF: its name, its table, and the ifindexes of its links."""

    name: str
    table: int
    links: frozenset[int] = frozenset()
