# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink messages about links, addresses, rules and nexthop objects, worded as the kernel words them.

Those about routes the library writes itself: ``wire_routes.RouteWriter``.
"""

from __future__ import annotations

import struct

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import AF_INET, Address
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_OPER_DOWN, _OPER_UP = 2, 6


def u32(number: int) -> bytes:
    """Four bytes in the machine's order."""
    return struct.pack("=I", number)


def link(link: Link, kind: int = rtnetlink.RTM_NEWLINK, family: int = 0) -> bytes:
    """An RTM_NEWLINK or RTM_DELLINK (rtnl_fill_ifinfo)."""
    flags = (_IFF_UP if link.up else 0) | (_IFF_LOWER_UP if link.carrier else 0)
    body = struct.pack("=BxHiII", family, 1, link.index, flags, 0)
    body += rtnetlink.attribute(3, link.name.encode() + b"\0")
    body += rtnetlink.attribute(16, bytes([_OPER_UP if link.carrier else _OPER_DOWN]))
    if link.mtu:
        body += rtnetlink.attribute(4, u32(link.mtu))
    if link.master is not None:
        body += rtnetlink.attribute(10, u32(link.master))
    if link.kind:
        info = rtnetlink.attribute(1, link.kind.encode() + b"\0")
        if link.vrf_table is not None:
            info += rtnetlink.attribute(2, rtnetlink.attribute(1, u32(link.vrf_table)))
        body += rtnetlink.attribute(18, info)
    return rtnetlink.request(kind, 0, body)


def address(index: int, text: str, length: int, kind: int = rtnetlink.RTM_NEWADDR, peer: str | None = None) -> bytes:
    """An RTM_NEWADDR or RTM_DELADDR (inet_fill_ifaddr: IFA_ADDRESS is the peer's on a point-to-point link)."""
    own = Address.parse(text)
    body = struct.pack("=BBBBI", own.family, length, 0, 0, index)
    body += rtnetlink.attribute(1, (Address.parse(peer) if peer else own).packed)
    if own.family == AF_INET or peer:
        body += rtnetlink.attribute(2, own.packed)
    return rtnetlink.request(kind, 0, body)


def rule(rule: Rule, kind: int = rtnetlink.RTM_NEWRULE) -> bytes:
    """An RTM_NEWRULE or RTM_DELRULE (fib_nl_fill_rule)."""
    compat = rule.table if rule.table < 256 else 252
    source = rule.source
    body = struct.pack("=BBBBBBBBI", rule.family, 0, source.length if source else 0, 0, compat, 0, 0, 1, 0)
    body += rtnetlink.attribute(15, u32(rule.table)) + rtnetlink.attribute(6, u32(rule.priority))
    if rule.iif:
        body += rtnetlink.attribute(3, rule.iif.encode() + b"\0")
    if source:
        body += rtnetlink.attribute(2, Address(source.family, source.value).packed)
    return rtnetlink.request(kind, 0, body)


# -- nexthop objects (nh_fill_node)


def nexthop(
    number: int, *parts: bytes, kind: int = rtnetlink.RTM_NEWNEXTHOP, family: int = AF_INET, flags: int = 0
) -> bytes:
    """An RTM_NEWNEXTHOP or RTM_DELNEXTHOP; *parts*: the attributes behind the object's number."""
    body = struct.pack("=BBBBI", family, 0, 0, 0, flags) + rtnetlink.attribute(1, u32(number))
    return rtnetlink.request(kind, 0, body + b"".join(parts))


def single(number: int, gateway: str, oif: int, kind: int = rtnetlink.RTM_NEWNEXTHOP) -> bytes:
    """The same about an object with a gateway."""
    address = Address.parse(gateway)
    parts = (rtnetlink.attribute(5, u32(oif)), rtnetlink.attribute(6, address.packed))
    return nexthop(number, *parts, kind=kind, family=address.family)


def group(number: int, **members: int) -> bytes:
    """``group(3, _1=1, _2=5)``: members by number, with their weights."""
    packed = [
        struct.pack("=IBBH", int(name[1:]), weight - 1 & 255, weight - 1 >> 8, 0) for name, weight in members.items()
    ]
    return nexthop(number, rtnetlink.attribute(2, b"".join(packed)), rtnetlink.attribute(3, b"\0\0"), family=0)
