# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sans-IO replica of one network namespace: routes, links, addresses, rules, and sysctls of forwarding.

Route notifications are applied by the :class:`~.rib.Rib`. This file knows which *other* events change routes silently,
and requests a re-read of the affected ones. All notifications come from one socket, so that they keep their order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..model.links import ALL_LINKS, Link, LinkAddress, NetConf, Rule
from ..model.routes import AF_INET, AF_INET6, RT_TABLE_LOCAL
from ..netlink import link_codec, netconf_codec, rtnetlink
from . import nexthops
from .rib import Rib

#: The ifindex of ``lo`` (LOOPBACK_IFINDEX).
_LOOPBACK = 1


@dataclass
class Replica:
    """What is known of the namespace. *view_changed* is set when links, addresses or rules change.

    *netconf* has the sysctls of forwarding by family and ifindex (ALL_LINKS for `all`), *netconf_changed* those that
    have changed since its reader has emptied it.
    """

    rib: Rib
    links: dict[int, Link] = field(default_factory=dict)
    addresses: set[LinkAddress] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)
    view_changed: bool = False
    netconf: dict[tuple[int, int], NetConf] = field(default_factory=dict)
    netconf_changed: dict[tuple[int, int], NetConf] = field(default_factory=dict)

    def apply(self, buffer: bytes) -> None:
        """Apply one notification. WireError if it is malformed."""
        if len(buffer) < rtnetlink.NLMSGHDR.size:
            raise rtnetlink.WireError(f"notification of {len(buffer)} bytes")
        kind: int = struct.unpack_from("=H", buffer, 4)[0]
        if kind in (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE):
            self.rib.apply(buffer)
            return
        for kind, _flags, start, end in rtnetlink.messages(buffer):
            message = buffer[start:end]
            if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
                self._link(kind == rtnetlink.RTM_NEWLINK, message)
            elif kind in (rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR):
                self._address(kind == rtnetlink.RTM_NEWADDR, link_codec.decode_address(message))
            elif kind in (rtnetlink.RTM_NEWRULE, rtnetlink.RTM_DELRULE):
                self._rule(kind == rtnetlink.RTM_NEWRULE, link_codec.decode_rule(message))
            elif kind in (rtnetlink.RTM_NEWNETCONF, rtnetlink.RTM_DELNETCONF):
                self._netconf(kind == rtnetlink.RTM_NEWNETCONF, netconf_codec.decode(message))
            elif kind in (rtnetlink.RTM_NEWNEXTHOP, rtnetlink.RTM_DELNEXTHOP):
                self._nexthop_object(message)

    def load(
        self,
        links: Iterable[Link],
        addresses: Iterable[LinkAddress],
        rules: Iterable[Rule],
        netconf: Iterable[NetConf] = (),
    ) -> None:
        """Replace all but the routes by what a full resync has read."""
        found = {link.index: link for link in links}
        if (found, set(addresses), list(rules)) != (self.links, self.addresses, self.rules):
            self.view_changed = True
        self.rib.objects.forget()  # events about them may be lost as well
        self.links, self.addresses, self.rules = found, set(addresses), list(rules)
        known, self.netconf = self.netconf, {(conf.family, conf.index): conf for conf in netconf}
        self.netconf_changed.update({key: conf for key, conf in self.netconf.items() if known.get(key) != conf})

    def ruled_tables(self, ignored: Iterable[int] = ()) -> set[int]:
        """The tables that forwarded packets may be looked up in. *ignored*: priorities of rules that do not count."""
        without = set(ignored)
        return {rule.table for rule in self.rules if rule.table and rule.priority not in without} | {RT_TABLE_LOCAL}

    def _netconf(self, exists: bool, conf: NetConf) -> None:
        key = (conf.family, conf.index)
        if not exists:
            self.netconf.pop(key, None)
            self.netconf_changed.pop(key, None)
            return
        old = self.netconf.get(key, NetConf(*key))
        new = replace(
            conf,
            forwarding=old.forwarding if conf.forwarding is None else conf.forwarding,
            ignores_linkdown=old.ignores_linkdown if conf.ignores_linkdown is None else conf.ignores_linkdown,
        )
        self.netconf[key] = new
        if old.forwarding != new.forwarding:
            self.netconf_changed[key] = new
        if bool(old.ignores_linkdown) != bool(new.ignores_linkdown) and conf.family in (AF_INET, AF_INET6):
            # Routes by links without carrier are used again, or no longer; there is no route event for either.
            self.rib.ask(None if conf.index == ALL_LINKS else conf.index, (conf.family,))

    def _nexthop_object(self, message: bytes) -> None:
        # A group that loses a member, or an object that is deleted, changes or removes IPv4 routes without an event
        # (net/ipv4/nexthop.c); only a dump shows which ones. An object that no route has used changes none, and when a
        # member is replaced the kernel notifies each route of its groups. Routing daemons create objects all the time.
        self.rib.objects.learn(message)
        self.rib.ask_for_object(nexthops.decode(message).number)

    def _link(self, exists: bool, message: bytes) -> None:
        # AF_BRIDGE uses the same message type for bridge ports, without the state of the link itself.
        if message[16:17] != b"\0":
            return
        link = link_codec.decode_link(message)
        old = self.links.get(link.index)
        if exists:
            self.links[link.index] = link
        else:
            self.links.pop(link.index, None)
        if exists and old == link:
            return
        self.view_changed = True
        if not exists:
            self.addresses = {address for address in self.addresses if address.index != link.index}
        if old is None or not exists or _routing_state(old) != _routing_state(link):
            # Down, up, carrier, another VRF, deleted: IPv4 routes and nexthop objects vanish or revive silently.
            self.rib.objects.forget_link(link.index)
            self.rib.ask(link.index)
            if link.index == _LOOPBACK:
                # Discard routes of IPv6 are by this link, but name none; they go silently if so configured
                # (net.ipv6.route.skip_notify_on_dev_down).
                self.rib.ask(None, (AF_INET6,))
        elif old.mtu != link.mtu:
            # IPv6 routes with an MTU of their own get the link's, silently (rt6_mtu_change).
            self.rib.ask(link.index, (AF_INET6,))

    def _address(self, exists: bool, address: LinkAddress) -> None:
        known = address in self.addresses
        if exists:
            self.addresses.add(address)
        else:
            self.addresses.discard(address)
        if known != exists:
            self.view_changed = True
        if not exists or (not known and address.address.family == AF_INET):
            # With the last IPv4 address of a link go all its IPv4 routes, in any table (fib_disable_ip); multipath ones
            # lose a hop, which the first address revives (fib_sync_up). There is no route event for either.
            self.rib.ask(address.index)
        if not exists:
            # IPv6 routes lose it as their preferred source, silently (fib6_remove_prefsrc). IPv4 routes that have it as
            # their source are deleted, on older kernels silently as well (fib_sync_down_addr).
            self.rib.ask_for_source(address.address)

    def _rule(self, exists: bool, rule: Rule) -> None:
        if exists and rule not in self.rules:
            self.rules = sorted([*self.rules, rule], key=lambda r: r.priority)
        elif not exists and rule in self.rules:
            self.rules = [known for known in self.rules if known != rule]
        else:
            return
        self.view_changed = True


def _routing_state(link: Link) -> tuple[bool, bool, int | None]:
    return link.up, link.carrier, link.master
