# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel, asked over a netlink socket of its own: look-ups of packets by the thousand, dumps, a clean slate.

It shares no code with the collection, whose codec it helps to judge. Addresses are bytes here, 4 or 16 of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST, BLACKHOLE, UNREACHABLE, PROHIBIT, THROW = range(1, 10)
TO_TABLE, GOTO, NOP, RULE_BLACKHOLE, RULE_UNREACHABLE, RULE_PROHIBIT = 1, 2, 3, 6, 7, 8
NEW_LINK, NEW_ADDRESS, NEW_ROUTE, NEW_RULE, NEW_NEXTHOP, NEW_NETCONF = 16, 20, 24, 32, 104, 80
PROTOCOL_KERNEL = 2
MIRROR = 121

_GET_LINK, _GET_ADDRESS, _GET_ROUTE, _GET_RULE, _GET_NEXTHOP, _GET_NETCONF = 18, 22, 26, 34, 106, 82
_DELETE_OF = {NEW_ADDRESS: 21, NEW_ROUTE: 25, NEW_RULE: 33, NEW_NEXTHOP: 105}
_REQUEST, _ACK, _DUMP, _CREATE = 1, 4, 0x300, 0x400
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _EXT_ACK, _CAP_ACK, _STRICT = 270, 11, 10, 12
_LOOKUP_TABLE = 0x1000  # RTM_F_LOOKUP_TABLE
_BUFFER = 16 << 20
_AT_ONCE = 256
#: What a look-up may fail with: the discards' errors, no route at all, and forwarding that is off.
_DROPS = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINVAL, errno.EACCES}
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=8BI")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")


class Question(NamedTuple):
    """A packet that comes in by a link: what does the kernel do with it?"""

    destination: bytes
    source: bytes
    iif: int
    mark: int = 0
    tos: int = 0
    protocol: int = 0
    port: int = 0


class Answer(NamedTuple):
    """What it does: *kind* is one of unicast, local and dropped; *gateway* is None for a neighbour."""

    kind: str
    oif: int = 0
    gateway: bytes | None = None
    table: int = 0
    mtu: int = 0


class Hop(NamedTuple):
    """A next hop of a route in a dump."""

    oif: int
    gateway: bytes | None
    weight: int = 1
    dead: bool = False
    linkdown: bool = False


class Route(NamedTuple):
    """A route in a dump."""

    family: int
    table: int
    destination: bytes
    length: int
    type: int
    tos: int
    metric: int
    protocol: int
    hops: tuple[Hop, ...]
    mtu: int
    message: bytes


class Rule(NamedTuple):
    """A policy rule in a dump; None where it asks for nothing."""

    family: int
    preference: int
    action: int
    table: int
    inverted: bool
    iif: str | None
    oif: str | None
    source: bytes
    source_length: int
    destination: bytes
    destination_length: int
    mark: int
    mask: int
    tos: int
    suppress: int | None
    protocol: int
    source_ports: tuple[int, int] | None
    destination_ports: tuple[int, int] | None
    message: bytes


class Address(NamedTuple):
    """An address of a link."""

    family: int
    address: bytes
    length: int
    link: int
    message: bytes


class Link(NamedTuple):
    """A link."""

    number: int
    name: str
    up: bool
    carrier: bool
    mtu: int


class Netconf(NamedTuple):
    """What decides whether a link forwards (for all links: -1)."""

    family: int
    link: int
    forwarding: bool
    ignores_linkdown: bool


class Kernel:
    """The kernel of one namespace. Close it in the end."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        with namespace.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
        for option in (_EXT_ACK, _CAP_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._socket.settimeout(30)
        self._buffer = bytearray(1 << 17)
        self._number = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # -- look-ups

    def lookup(self, questions: Sequence[Question]) -> list[Answer]:
        """What the kernel does with each of these packets."""
        found: list[Answer] = []
        for start in range(0, len(questions), _AT_ONCE):
            found += self._lookup(questions[start : start + _AT_ONCE])
        return found

    def _lookup(self, questions: Sequence[Question]) -> list[Answer]:
        first = self._number + 1
        self._number += len(questions)
        self._socket.send(b"".join(_ask(one, first + place) for place, one in enumerate(questions)))
        answers: list[Answer | None] = [None] * len(questions)
        left = len(questions)
        buffer = self._buffer
        while left:
            size = self._socket.recv_into(buffer)
            offset = 0
            while offset < size:
                length, kind, _flags, number, _port = _HEADER.unpack_from(buffer, offset)
                place = number - first
                if 0 <= place < len(answers):
                    answers[place] = _answer(buffer, offset, length, kind, questions[place])
                    left -= 1
                offset += (length + 3) & ~3
        return [answer for answer in answers if answer is not None]

    # -- dumps

    def links(self) -> list[Link]:
        """All links."""
        return [_link(message) for message in self._dump(_GET_LINK, bytes(16))]

    def addresses(self) -> list[Address]:
        """All addresses."""
        return [_address(message) for message in self._dump(_GET_ADDRESS, bytes(8))]

    def routes(self) -> list[Route]:
        """All routes of all tables, in the order of the dump."""
        return [route for family in (socket.AF_INET, socket.AF_INET6) for route in self._routes(family)]

    def _routes(self, family: int) -> Iterator[Route]:
        for message in self._dump(_GET_ROUTE, bytes([family]) + bytes(11)):
            if not _U32.unpack_from(message, 24)[0] & 0x200:  # RTM_F_CLONED
                yield _route(message)

    def rules(self) -> list[Rule]:
        """All rules, in order."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            found += [_rule(message) for message in self._dump(_GET_RULE, bytes([family]) + bytes(11))]
        return found

    def netconf(self) -> list[Netconf]:
        """What decides on forwarding, by family and link."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in self._dump(_GET_NETCONF, bytes([family]) + bytes(3)):
                attributes = _attributes(message, 20, len(message))
                number = {key: struct.unpack("=i", value)[0] for key, value in attributes.items() if len(value) == 4}
                found.append(Netconf(family, number[1], bool(number.get(2)), bool(number.get(6))))
        return found

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        self._number += 1
        number = self._number
        self._socket.send(_HEADER.pack(16 + len(body), kind, _REQUEST | _DUMP, number, 0) + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 17)
            offset = 0
            while offset < len(data):
                length, answer, _flags, seen, _port = _HEADER.unpack_from(data, offset)
                if seen == number:
                    if answer == _DONE:
                        return found
                    if answer == _ERROR:
                        raise OSError(-struct.unpack_from("=i", data, offset + 16)[0], f"dump {kind}")
                    found.append(data[offset : offset + length])
                offset += (length + 3) & ~3

    # -- changes

    def clear(self, keep_links: Sequence[str] = ("lo",)) -> None:
        """Remove every route, rule, nexthop object and address but for the kernel's own."""
        for message in self._dump(_GET_NEXTHOP, bytes(8)):  # their routes go with them
            number = _attributes(message, 24, len(message))[1]
            self._delete(bytes(24) + _ATTRIBUTE.pack(8, 1) + number, NEW_NEXTHOP)
        for route in self.routes():
            if route.protocol != PROTOCOL_KERNEL or route.table not in (254, 255):
                self._delete(route.message, NEW_ROUTE)
        kept = [link.number for link in self.links() if link.name in keep_links]
        for address in self.addresses():
            own = address.link in kept and address.address in (b"\x7f\0\0\1", bytes(15) + b"\1")
            if not own and not _by_the_kernel(address.address):
                self._delete(address.message, NEW_ADDRESS)
        standard = {(0, 255), (32766, 254), (32767, 253)}
        found = self.rules()
        for rule in found:
            if (rule.preference, rule.table) not in standard:
                self._delete(rule.message, NEW_RULE)
        # A second pass for what stands behind what went: a route that came back, the hops of a multipath one.
        for route in self.routes():
            if route.protocol != PROTOCOL_KERNEL or route.table not in (254, 255):
                self._delete(route.message, NEW_ROUTE)

    def _delete(self, message: bytes, kind: int) -> None:
        self._number += 1
        length = len(message)
        body = message[16:]
        self._socket.send(_HEADER.pack(length, _DELETE_OF[kind], _REQUEST | _ACK, self._number, 0) + body)
        code = struct.unpack_from("=i", self._socket.recv(4096), 16)[0]
        if -code not in (0, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV):
            raise OSError(-code, f"{os.strerror(-code)}: delete {kind} {message.hex()}")


def is_link_local(address: bytes) -> bool:
    """Whether it is in fe80::/10."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _by_the_kernel(address: bytes) -> bool:
    """Whether it is a link-local address that the kernel makes of a MAC address."""
    return is_link_local(address) and address[11:13] == b"\xff\xfe"


def text(address: bytes | None) -> str:
    """An address as people write it."""
    if address is None:
        return "neighbour"
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _ask(one: Question, number: int) -> bytes:
    bits = 8 * len(one.destination)
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    size = 4 + len(one.destination)
    parts = [
        # IPv6 tells the table anyway, and takes no such flag.
        _ROUTE.pack(family, bits, bits, one.tos, 0, 0, 0, 0, _LOOKUP_TABLE if bits == 32 else 0),
        _ATTRIBUTE.pack(size, 1) + one.destination,
        _ATTRIBUTE.pack(size, 2) + one.source,
        struct.pack("=HHI", 8, 3, one.iif),
    ]
    if one.mark:
        parts.append(struct.pack("=HHI", 8, 16, one.mark))
    parts.append(struct.pack("=HHBxxx", 5, 27, one.protocol or socket.IPPROTO_UDP))
    if one.port:
        parts.append(struct.pack("=HH2sxx", 6, 28, one.port.to_bytes(2, "big")))
        parts.append(struct.pack("=HH2sxx", 6, 29, one.port.to_bytes(2, "big")))
    body = b"".join(parts)
    return _HEADER.pack(16 + len(body), _GET_ROUTE, _REQUEST, number, 0) + body


def _answer(buffer: bytearray, offset: int, length: int, kind: int, question: Question) -> Answer:
    if kind == _ERROR:
        code = -struct.unpack_from("=i", buffer, offset + 16)[0]
        complaint = code == errno.EINVAL and length > 36  # a blackhole has no words
        if code not in _DROPS or complaint:
            raise OSError(code, f"{os.strerror(code)}: look-up of {question}")
        return Answer("dropped")
    attributes = _attributes(buffer, offset + 28, offset + length)
    type_ = buffer[offset + 16 + 7]
    table = _U32.unpack(attributes[15])[0] if 15 in attributes else buffer[offset + 16 + 4]
    if type_ in (LOCAL, BROADCAST, ANYCAST):
        return Answer("local", table=table)
    if type_ != UNICAST:
        return Answer("dropped", table=table)
    return Answer("unicast", _U32.unpack(attributes[4])[0], _gateway(attributes), table, _mtu(attributes))


def _attributes(data: bytes | bytearray, offset: int, end: int) -> dict[int, bytes]:
    found = {}
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & 0x3FFF] = bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3
    return found


def _gateway(attributes: dict[int, bytes]) -> bytes | None:
    if 5 in attributes:
        return attributes[5]
    return attributes[18][2:] if 18 in attributes else None


def _mtu(attributes: dict[int, bytes]) -> int:
    if 8 not in attributes:
        return 0
    metrics = _attributes(attributes[8], 0, len(attributes[8]))
    return int(_U32.unpack(metrics[2])[0]) if 2 in metrics else 0


def _route(message: bytes) -> Route:
    family, length, _src, tos, table, protocol, _scope, type_, flags = _ROUTE.unpack_from(message, 16)
    attributes = _attributes(message, 28, len(message))
    size = 4 if family == socket.AF_INET else 16
    hops: tuple[Hop, ...] = ()
    if 9 in attributes:
        hops = tuple(_legs(attributes[9]))
    elif 4 in attributes:
        oif = _U32.unpack(attributes[4])[0]
        hops = (Hop(oif, _gateway(attributes), 1, bool(flags & 1), bool(flags & 16)),)
    return Route(
        family,
        _U32.unpack(attributes[15])[0] if 15 in attributes else table,
        attributes.get(1, bytes(size)),
        length,
        type_,
        tos,
        _U32.unpack(attributes[6])[0] if 6 in attributes else 0,
        protocol,
        hops,
        _mtu(attributes),
        message,
    )


def _legs(data: bytes) -> Iterator[Hop]:
    offset = 0
    while offset + 8 <= len(data):
        length, flags, weight, oif = struct.unpack_from("=HBBi", data, offset)
        attributes = _attributes(data, offset + 8, offset + length)
        yield Hop(oif, _gateway(attributes), weight + 1, bool(flags & 1), bool(flags & 16))
        offset += (length + 3) & ~3


def _rule(message: bytes) -> Rule:
    family, to_length, from_length, tos, table, _r1, _r2, action, flags = _ROUTE.unpack_from(message, 16)
    attributes = _attributes(message, 28, len(message))
    size = 4 if family == socket.AF_INET else 16

    def number(kind: int, otherwise: int = 0) -> int:
        return int(_U32.unpack(attributes[kind])[0]) if kind in attributes else otherwise

    def name(kind: int) -> str | None:
        return attributes[kind].rstrip(b"\0").decode() if kind in attributes else None

    def ports(kind: int) -> tuple[int, int] | None:
        return struct.unpack("=HH", attributes[kind]) if kind in attributes else None

    suppress = number(14, 0xFFFFFFFF)
    return Rule(
        family=family,
        preference=number(6),
        action=action,
        table=number(15, table),
        inverted=bool(flags & 2),
        iif=name(3),
        oif=name(17),
        source=attributes.get(2, bytes(size)),
        source_length=from_length,
        destination=attributes.get(1, bytes(size)),
        destination_length=to_length,
        mark=number(10),
        mask=number(16, 0xFFFFFFFF) if 10 in attributes or 16 in attributes else 0,
        tos=tos or (attributes[25][0] << 2 if 25 in attributes else 0),
        suppress=None if suppress == 0xFFFFFFFF else suppress,
        protocol=attributes[22][0] if 22 in attributes else 0,
        source_ports=ports(23),
        destination_ports=ports(24),
        message=message,
    )


def _address(message: bytes) -> Address:
    family, length, _flags, _scope, link = struct.unpack_from("=BBBBI", message, 16)
    attributes = _attributes(message, 24, len(message))
    return Address(family, attributes.get(2, attributes.get(1, b"")), length, link, message)


def _link(message: bytes) -> Link:
    index, flags = struct.unpack_from("=iI", message, 20)
    attributes = _attributes(message, 32, len(message))
    name = attributes[3].rstrip(b"\0").decode()
    return Link(index, name, bool(flags & 1), attributes.get(33, b"\1") == b"\1", _U32.unpack(attributes[4])[0])


@contextlib.contextmanager
def kernel_of(namespace: Namespace) -> Iterator[Kernel]:
    """A namespace's kernel for as long as the block lasts."""
    kernel = Kernel(namespace)
    try:
        yield kernel
    finally:
        kernel.close()
