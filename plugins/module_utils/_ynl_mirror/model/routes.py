# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values: prefixes, addresses, next hops, paths and routes, and the names of their numbers. Pure.

A *route* is a prefix and a *path*. The path is everything else about the route: table, type, protocol, metric, next
hops. A million routes usually share a handful of paths, which is why the two are kept apart: replicas store one small
integer (the prefix, see :attr:`Prefix.key`) and a reference to a shared :class:`Path`.

Numbers are those of ``linux/rtnetlink.h``.
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

#: Route protocol (``rtm_protocol``) of mirrored routes, and of routes posted over HTTP.
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
RTN_THROW = 9
#: The type of an announced route that stays on the slow path by decision: somebody else resolves it.
RTN_XRESOLVE = 11
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
    "throw": RTN_THROW,
    "nat": 10,
    "xresolve": RTN_XRESOLVE,
}
ROUTE_TYPE_NAMES = {number: name for name, number in ROUTE_TYPES.items()}
#: Types that discard packets: a next hop makes no sense for them.
DISCARD_TYPES = frozenset((RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT))

RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
RT_SCOPE_NOWHERE = 255

#: ``rtnh_flags``: ONLINK is set by users, the others are reported by the kernel.
RTNH_F_DEAD = 1
RTNH_F_ONLINK = 4
RTNH_F_LINKDOWN = 16

#: Metric of an IPv6 route that was added without one (``IP6_RT_PRIO_USER``).
IPV6_DEFAULT_METRIC = 1024


def _refuse_zone(text: str) -> None:
    """ValueError for ``fe80::1%eth0``: the link is given separately everywhere."""
    address, found, rest = text.partition("%")
    if found:
        length = "".join(rest.partition("/")[1:])
        raise ValueError(f"{text!r} names a link; write {address}{length} and give the link separately (dev)")


#: What identifies a table of one family: (family, table number).
TableKey = tuple[int, int]


class Address(NamedTuple):
    """An IP address: family and value as an integer, so that prefix arithmetic is a shift."""

    family: int
    value: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address; a ValueError quotes the text."""
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
        """Whether the address is valid on one link only (RFC 4291 section 2.5.6, RFC 3927)."""
        if self.family == AF_INET6:
            return self.value >> 118 == 0xFE80 >> 6
        return self.value >> 16 == 0xA9FE

    def __str__(self) -> str:
        if self.family == AF_INET:
            value = self.value  # five times as fast as ipaddress, which counts in tasks with many routes
            return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
        return str(ipaddress.IPv6Address(self.value))


_OCTETS = {str(number): number for number in range(256)}
_LENGTHS = {str(number): number for number in range(33)}


def _plain_ipv4_prefix(text: str) -> tuple[int, int] | None:
    """Value and length of ``10.0.0.0/8`` in canonical form, None for all else: a fast path around ipaddress."""
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
        """Parse ``10.0.0.0/8``, ``fd00::1`` (a host prefix) or ``default`` (of *family*, IPv4 if that is None).

        A ValueError quotes the text and, if host bits are set, suggests the prefix without them.
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
        """The prefix as one integer, unique within its family: the length above the network bits. Replicas index by it.

        Adjacent prefixes get adjacent numbers. CPython hashes an integer to itself, so in a dictionary of a million
        prefixes neighbours share cache lines; with the host bits left in, look-ups were six times slower.
        """
        width = WIDTH[self.family]
        return self.length << width | self.value >> (width - self.length)

    def masked(self) -> Prefix:
        """The same without host bits."""
        shift = WIDTH[self.family] - self.length
        return self._replace(value=self.value >> shift << shift)

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
    """A next hop: gateway, outgoing link (ifindex) or both, its weight (1..256), and whether the gateway is onlink.

    The gateway's family may differ from the route's (RTA_VIA, RFC 8950).
    """

    gateway: Address | None = None
    oif: int | None = None
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True)
class Path:
    """Everything about a route but its prefix. Compares and hashes by value.

    *metric* is ``RTA_PRIORITY``, 0 if absent. *nh_id* is the number of a nexthop object; *nexthops* has its resolved
    hops if they are known. *extras* names what a path has no field for (``encap``, ``iif`` ...), so that a consumer can
    refuse the route instead of losing a part of it. *dead_links* are the ifindexes of dead hops, which the kernel skips
    for now: they are no part of *nexthops*, but events on those links still concern this path. *reason* says
    why an announced route stays on the slow path (type RTN_XRESOLVE); no kernel has it.
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
    reason: str | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Paths are dictionary keys in the hottest loops: hash the fields once, not at every look-up.
        identity = (
            *(self.family, self.table, self.type, self.protocol, self.scope, self.tos, self.metric),
            *(self.src, self.mtu, self.nexthops, self.nh_id, self.extras, self.dead_links, self.reason),
        )
        object.__setattr__(self, "_hash", hash(identity))

    def __hash__(self) -> int:
        return self._hash

    @property
    def oifs(self) -> frozenset[int]:
        """The ifindexes of its outgoing links."""
        return frozenset(hop.oif for hop in self.nexthops if hop.oif is not None)

    @property
    def links(self) -> frozenset[int]:
        """The ifindexes of all links it was configured with: outgoing links, and links of dead hops."""
        return self.oifs.union(self.dead_links)

    def with_nexthops(self, *nexthops: NextHop) -> Path:
        """The same path with other next hops."""
        return replace(self, nexthops=nexthops)


@dataclass(frozen=True)
class Route:
    """A prefix and its path."""

    prefix: Prefix
    path: Path

    @property
    def key(self) -> RouteKey:
        """What identifies the route in the kernel; protocol and next hops do not (fib_table_insert)."""
        return RouteKey(self.path.table, self.prefix, self.path.tos, self.path.metric)


class RouteKey(NamedTuple):
    """Identity of a route in the kernel: two routes with the same key collide, even if their protocols differ."""

    table: int
    prefix: Prefix
    tos: int
    metric: int


def protocol_number(value: object) -> int:
    """The number of a protocol, given as a number, digits or a name of ``rt_protos``; else ValueError."""
    return _number(value, PROTOCOLS, "protocol", 255)


def table_number(value: object) -> int:
    """The number of a table, given as a number, digits, or ``main``, ``local`` or ``default``; else ValueError."""
    return _number(value, TABLES, "table", 0xFFFFFFFF)


def protocol_name(number: int) -> str:
    """The protocol's name as ``ip route`` prints it, or its digits."""
    return PROTOCOL_NAMES.get(number, str(number))


def table_name(number: int) -> str:
    """The name of a well-known table, or its digits."""
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
