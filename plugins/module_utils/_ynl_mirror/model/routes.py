# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: prefixes, addresses, next hops, paths and routes, and the names the field gives to their numbers.

A *route* is a prefix and a *path*. The path is everything else about the route: table, type, owner (protocol),
metric, next hops. A million routes usually share a handful of paths, which is why the two are kept apart: replicas
store one small integer (the prefix, see :attr:`Prefix.key`) and a reference to a shared :class:`Path`.

No socket, no clock and no Ansible in here. Numbers are those of ``linux/rtnetlink.h``.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

AF_INET = 2
AF_INET6 = 10
#: Address width in bits, by address family.
WIDTH = {AF_INET: 32, AF_INET6: 128}
FAMILY_NAMES = {AF_INET: "ipv4", AF_INET6: "ipv6"}
FAMILIES = {name: number for number, name in FAMILY_NAMES.items()}

#: Owner of every mirrored route (``rtm_protocol``), and of those posted over HTTP.
PROTO_MIRROR = 121
PROTO_MANUAL = 122

PROTOCOLS = {
    "unspec": 0,
    "redirect": 1,
    "kernel": 2,
    "boot": 3,
    "static": 4,
    "gated": 8,
    "ra": 9,
    "mrt": 10,
    "zebra": 11,
    "bird": 12,
    "dnrouted": 13,
    "xorp": 14,
    "ntk": 15,
    "dhcp": 16,
    "keepalived": 18,
    "babel": 42,
    "ovn": 84,
    "openr": 99,
    "ynl_mirror": PROTO_MIRROR,
    "ynl_manual": PROTO_MANUAL,
    "bgp": 186,
    "isis": 187,
    "ospf": 188,
    "rip": 189,
    "eigrp": 192,
}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

RT_TABLE_MAIN = 254
RT_TABLE_LOCAL = 255
TABLES = {"default": 253, "main": RT_TABLE_MAIN, "local": RT_TABLE_LOCAL}
TABLE_NAMES = {number: name for name, number in TABLES.items()}

RTN_UNICAST = 1
RTN_LOCAL = 2
RTN_BROADCAST = 3
RTN_ANYCAST = 4
RTN_MULTICAST = 5
RTN_BLACKHOLE = 6
RTN_UNREACHABLE = 7
RTN_PROHIBIT = 8
ROUTE_TYPES = {
    "unspec": 0,
    "unicast": RTN_UNICAST,
    "local": RTN_LOCAL,
    "broadcast": RTN_BROADCAST,
    "anycast": RTN_ANYCAST,
    "multicast": RTN_MULTICAST,
    "blackhole": RTN_BLACKHOLE,
    "unreachable": RTN_UNREACHABLE,
    "prohibit": RTN_PROHIBIT,
    "throw": 9,
    "nat": 10,
    "xresolve": 11,
}
ROUTE_TYPE_NAMES = {number: name for name, number in ROUTE_TYPES.items()}
#: Types whose packets go nowhere, so that a next hop makes no sense for them.
DISCARD_TYPES = frozenset((RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT))

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
RT_SCOPE_NOWHERE = 255

#: ``rtnh_flags``: the part a user sets, and the part the kernel reports.
RTNH_F_DEAD = 1
RTNH_F_ONLINK = 4
RTNH_F_LINKDOWN = 16

#: Metric the kernel gives to an IPv6 route that names none (``IP6_RT_PRIO_USER``).
IPV6_DEFAULT_METRIC = 1024


def _refuse_zone(text: str) -> None:
    """ValueError for ``fe80::1%eth0``: where an address stands, the link has a place of its own."""
    address, found, rest = text.partition("%")
    if found:
        length = "".join(rest.partition("/")[1:])
        raise ValueError(f"{text!r} names a link; write {address}{length}, and the link by itself (dev)")


#: What identifies a table of one family: (family, table number).
TableKey = tuple[int, int]


class Address(NamedTuple):
    """An IP address: family and value as an integer, so that prefix arithmetic is a shift."""

    family: int
    value: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; ValueError with the offending text when it is none."""
        _refuse_zone(text)
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address") from None
        return cls(AF_INET if address.version == 4 else AF_INET6, int(address))

    @property
    def packed(self) -> bytes:
        """The address in network order, 4 or 16 bytes."""
        return self.value.to_bytes(WIDTH[self.family] // 8, "big")

    @property
    def is_link_local(self) -> bool:
        """Whether the address means nothing without a link (RFC 4291 section 2.5.6, RFC 3927)."""
        if self.family == AF_INET6:
            return self.value >> 118 == 0xFE80 >> 6
        return self.value >> 16 == 0xA9FE

    def __str__(self) -> str:
        if self.family == AF_INET:
            value = self.value  # ipaddress takes five times as long, which counts in tasks of many routes
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return str(ipaddress.IPv6Address(self.value))


_OCTETS = {str(number): number for number in range(256)}
_LENGTHS = {str(number): number for number in range(33)}


def _plain_ipv4_prefix(text: str) -> tuple[int, int] | None:
    """Value and length of ``10.0.0.0/8`` in its usual spelling, None for all else: a short cut past ipaddress."""
    head, _slash, tail = text.partition("/")
    parts = head.split(".")
    length = _LENGTHS.get(tail, -1)
    if length < 0 or len(parts) != 4:
        return None
    value = 0
    for part in parts:
        octet = _OCTETS.get(part)
        if octet is None:
            return None
        value = value << 8 | octet
    return (value, length) if not value & ((1 << (32 - length)) - 1) else None


class Prefix(NamedTuple):
    """A destination: family, network address as an integer, and length in bits."""

    family: int
    value: int
    length: int

    @classmethod
    def parse(cls, text: str, family: int | None = None) -> Prefix:
        """Read ``10.0.0.0/8``, ``fd00::1`` (a host prefix) or ``default`` (which needs *family*; IPv4 if none).

        ValueError names the text and, when host bits are set, the prefix that was probably meant.
        """
        text = text.strip()
        if text in ("default", "any", "all"):
            return cls(family or AF_INET, 0, 0)
        plain = _plain_ipv4_prefix(text)
        if plain is not None and family in (None, AF_INET):
            return cls(AF_INET, *plain)
        _refuse_zone(text)
        try:
            interface = ipaddress.ip_interface(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a prefix, an address or 'default'") from None
        found = AF_INET if interface.version == 4 else AF_INET6
        if family is not None and family != found:
            raise ValueError(f"{text!r} is not an {FAMILY_NAMES[family]} prefix")
        network = interface.network
        if int(interface.ip) != int(network.network_address):
            raise ValueError(f"{text!r} has host bits set; did you mean {network}?")
        return cls(found, int(network.network_address), network.prefixlen)

    @classmethod
    def from_key(cls, family: int, key: int) -> Prefix:
        """The prefix that has this :attr:`key`."""
        width = WIDTH[family]
        length = key >> width
        return cls(family, (key & ((1 << width) - 1)) << (width - length), length)

    @property
    def key(self) -> int:
        """One integer for a prefix within its family: the length above the network's own bits. Replicas index by it.

        Neighbours get neighbouring numbers. CPython hashes an integer to itself, so a dictionary of a million
        prefixes keeps neighbours in one cache line; with the bits of the host part below it is six times slower.
        """
        width = WIDTH[self.family]
        return self.length << width | self.value >> (width - self.length)

    def covers(self, other: Prefix) -> bool:
        """Whether every address of *other* is in this prefix."""
        if self.family != other.family or self.length > other.length:
            return False
        shift = WIDTH[self.family] - self.length
        return self.value >> shift == other.value >> shift

    def __str__(self) -> str:
        return f"{Address(self.family, self.value)}/{self.length}"


@dataclass(frozen=True)
class NextHop:
    """One way out: gateway and/or outgoing link (ifindex), its weight (1..256) and whether the gateway is onlink.

    The gateway's family may differ from the route's (RTA_VIA, RFC 8950).
    """

    gateway: Address | None = None
    oif: int | None = None
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True)
class Path:
    """Everything about a route but its prefix. Compares and hashes by value.

    *metric* is ``rta_priority`` as the kernel reports it (an absent one is 0). *nh_id* names a nexthop object; the
    flattened hops stand in *nexthops* as well when the kernel gave them. *extras* names what this library keeps no
    value for (``encap``, ``nat`` ...), so that a consumer can refuse instead of losing it. *dead_links* are the
    ifindexes of hops that the kernel passes over for now: no part of *nexthops*, but what happens to those links still
    happens to this path.
    """

    family: int
    table: int = RT_TABLE_MAIN
    type: int = RTN_UNICAST
    protocol: int = 0
    scope: int = RT_SCOPE_UNIVERSE
    tos: int = 0
    metric: int = 0
    src: Address | None = None
    mtu: int | None = None
    nexthops: tuple[NextHop, ...] = ()
    nh_id: int | None = None
    extras: tuple[str, ...] = ()
    dead_links: tuple[int, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Paths are dictionary keys on the hot path: hash the fields once, not at every look-up.
        identity = (
            *(self.family, self.table, self.type, self.protocol, self.scope, self.tos, self.metric),
            *(self.src, self.mtu, self.nexthops, self.nh_id, self.extras, self.dead_links),
        )
        object.__setattr__(self, "_hash", hash(identity))

    def __hash__(self) -> int:
        return self._hash

    @property
    def oifs(self) -> frozenset[int]:
        """The ifindexes of the links this path leaves by."""
        return frozenset(hop.oif for hop in self.nexthops if hop.oif is not None)

    @property
    def links(self) -> frozenset[int]:
        """The ifindexes of the links it was configured over: those it leaves by and those of dead hops."""
        return self.oifs.union(self.dead_links)

    def with_nexthops(self, *nexthops: NextHop) -> Path:
        """The same path through other next hops."""
        return replace(self, nexthops=nexthops)


@dataclass(frozen=True)
class Route:
    """A prefix and the path that leads to it."""

    prefix: Prefix
    path: Path

    @property
    def key(self) -> RouteKey:
        """What identifies the route to the kernel; protocol and next hops are no part of it (fib_table_insert)."""
        return RouteKey(self.path.table, self.prefix, self.path.tos, self.path.metric)


class RouteKey(NamedTuple):
    """Identity of a route in the kernel: two routes with the same key collide, whoever installed them."""

    table: int
    prefix: Prefix
    tos: int
    metric: int


def protocol_number(value: object) -> int:
    """A protocol's number from a number, its digits, or a name of ``rt_protos``; ValueError otherwise."""
    return _number(value, PROTOCOLS, "protocol", 255)


def table_number(value: object) -> int:
    """A table's number from a number, its digits, or main, local or default; ValueError otherwise."""
    return _number(value, TABLES, "table", 0xFFFFFFFF)


def protocol_name(number: int) -> str:
    """The name ``ip route`` would print, or the digits."""
    return PROTOCOL_NAMES.get(number, str(number))


def table_name(number: int) -> str:
    """The name of a well-known table, or the digits."""
    return TABLE_NAMES.get(number, str(number))


def _number(value: object, names: dict[str, int], what: str, highest: int) -> int:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a {what}")
    if isinstance(value, str):
        value = names.get(value, value)
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a {what}: give a number or one of {', '.join(names)}") from None
    if not 0 <= number <= highest:
        raise ValueError(f"{what} {number} is out of range 0..{highest}")
    return int(number)
