# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other end of an FPM connection, written by hand from FRR's fpm/fpm.h and linux/rtnetlink.h, byte by byte.

It shares no code with the library, so that a mistake there cannot cancel itself out. ``Producer`` plays a host towards
the agent, ``Consumer`` a foreign forwarding plane towards the listener.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

NLMSG_ERROR, NLMSG_DONE, RTM_NEWROUTE, RTM_DELROUTE = 2, 3, 24, 25
RTM_NEWNEXTHOP, RTM_DELNEXTHOP = 104, 105
OFFLOAD, TRAP, OFFLOAD_FAILED = 0x4000, 0x8000, 0x20000000
_DST, _OIF, _GATEWAY, _PRIORITY, _MULTIPATH, _VIA, _NH_ID = 1, 4, 5, 6, 9, 18, 30
_NHA_ID, _NHA_GROUP, _NHA_GROUP_TYPE, _NHA_OIF, _NHA_GATEWAY = 1, 2, 3, 5, 6
_SECONDS = 20


def route(prefix: str, gateway: str | None = None, kind: int = RTM_NEWROUTE, table: int = 254) -> bytes:
    """A route message as zebra sends it: the table in the header, the destination first; a delete names that only."""
    network = ipaddress.ip_network(prefix)
    family = 2 if network.version == 4 else 10
    # rtm_family, dst_len, src_len, tos, table, protocol (zebra), scope, type (unicast), flags
    header = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, table, 11, 0, 1, 0)
    attributes = _attribute(_DST, network.network_address.packed)
    if gateway is not None:
        attributes += _attribute(_PRIORITY, struct.pack("=I", 20))
        attributes += _attribute(_GATEWAY, ipaddress.ip_address(gateway).packed)
        attributes += _attribute(_OIF, struct.pack("=I", 2))
    return message(kind, header + attributes)


def wide_route(prefix: str, gateway: str, hops: int, metric: int) -> bytes:
    """A route through *hops* next hops, all of them the same."""
    network = ipaddress.IPv4Network(prefix)
    header = struct.pack("=BBBBBBBBI", 2, network.prefixlen, 0, 0, 254, 11, 0, 1, 0)
    via = _attribute(_GATEWAY, ipaddress.ip_address(gateway).packed)
    # rtnh_len, rtnh_flags, rtnh_hops (the weight less 1), rtnh_ifindex
    multipath = (struct.pack("=HBBi", 8 + len(via), 0, 0, 2) + via) * hops
    attributes = _attribute(_DST, network.network_address.packed) + _attribute(_PRIORITY, struct.pack("=I", metric))
    return message(RTM_NEWROUTE, header + attributes + _attribute(_MULTIPATH, multipath))


def label_route(label: int, gateway: str) -> bytes:
    """An MPLS route as zebra sends it: packets with this label go to a gateway. Its family is 28."""
    header = struct.pack("=BBBBBBBBI", 28, 20, 0, 0, 254, 11, 0, 1, 0)
    via = struct.pack("=H", 2) + ipaddress.ip_address(gateway).packed
    attributes = _attribute(_DST, struct.pack(">I", label << 12 | 1 << 8)) + _attribute(_VIA, via)
    return message(RTM_NEWROUTE, header + attributes + _attribute(_OIF, struct.pack("=I", 2)))


def foreign_route(family: int) -> bytes:
    """A route of another family, such as 128 (IPv4 multicast), of which nobody here can read more than the header."""
    return message(RTM_NEWROUTE, struct.pack("=BBBBBBBBI", family, 32, 32, 0, 254, 17, 0, 5, 0))


def sysctl(forwarding: bool, family: int = 2, index: int = -1) -> bytes:
    """An RTM_NEWNETCONF: whether packets that come in by a link (-1: any) are forwarded."""
    ifindex, forwards = (_attribute(kind, struct.pack("=i", value)) for kind, value in ((1, index), (2, forwarding)))
    return message(80, struct.pack("=Bxxx", family) + ifindex + forwards)


def nexthop(number: int, gateway: str, oif: int = 2) -> bytes:
    """A nexthop object, as zebra sends it."""
    address = ipaddress.ip_address(gateway)
    # nh_family, nh_scope, nh_protocol (zebra), reserved, flags
    header = struct.pack("=BBBBI", 2 if address.version == 4 else 10, 0, 11, 0, 0)
    attributes = _attribute(_NHA_ID, struct.pack("=I", number)) + _attribute(_NHA_GATEWAY, address.packed)
    return message(RTM_NEWNEXTHOP, header + attributes + _attribute(_NHA_OIF, struct.pack("=I", oif)))


def group(number: int, members: dict[int, int]) -> bytes:
    """A nexthop group: the numbers of its members, each with its weight, of which the third byte has the high half."""
    packed = [struct.pack("=IBBH", n, weight - 1 & 255, weight - 1 >> 8, 0) for n, weight in members.items()]
    attributes = _attribute(_NHA_ID, struct.pack("=I", number)) + _attribute(_NHA_GROUP_TYPE, struct.pack("=H", 0))
    return message(
        RTM_NEWNEXTHOP, struct.pack("=BBBBI", 0, 0, 11, 0, 0) + attributes + _attribute(_NHA_GROUP, b"".join(packed))
    )


def nexthop_gone(number: int) -> bytes:
    """The end of an object or a group."""
    header = struct.pack("=BBBBI", 0, 0, 11, 0, 0)
    return message(RTM_DELNEXTHOP, header + _attribute(_NHA_ID, struct.pack("=I", number)))


def route_through(prefix: str, number: int) -> bytes:
    """A route that names a nexthop object, as zebra sends it."""
    network = ipaddress.ip_network(prefix)
    family = 2 if network.version == 4 else 10
    header = struct.pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, 254, 11, 0, 1, 0)
    attributes = _attribute(_DST, network.network_address.packed) + _attribute(_PRIORITY, struct.pack("=I", 20))
    return message(RTM_NEWROUTE, header + attributes + _attribute(_NH_ID, struct.pack("=I", number)))


def message(kind: int, payload: bytes) -> bytes:
    """A netlink message."""
    return struct.pack("=IHHII", 16 + len(payload), kind, 0x501, 0, 0) + payload


def frame(*messages: bytes) -> bytes:
    """An FPM frame around netlink messages: version 1, type 1, length in network order."""
    payload = b"".join(messages)
    return struct.pack(">BBH", 1, 1, 4 + len(payload)) + payload


DONE = message(NLMSG_DONE, struct.pack("=i", 0))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


class Message(NamedTuple):
    """A message that came: its type, and of a route message prefix, table and flags (0 of others)."""

    kind: int
    prefix: str = ""
    table: int = 0
    flags: int = 0


class _Stream:
    """Frames in and out of a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(_SECONDS)
        self._rest = b""
        self._last = b""
        self._texts: dict[str, bytes] = {}  # by prefix, the last route message

    def send(self, *messages: bytes) -> None:
        """Send messages in one frame."""
        self.sock.sendall(frame(*messages))

    def read(self) -> Iterator[Message]:
        """The messages as they come; ends when the other side closes."""
        while True:
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                return
            if not data:
                return
            self._rest += data
            while len(self._rest) >= 4:
                version, kind, length = struct.unpack_from(">BBH", self._rest)
                assert (version, kind) == (1, 1)
                if len(self._rest) < length:
                    break
                payload, self._rest = self._rest[4:length], self._rest[length:]
                for item, text in messages_of(payload):
                    if item.kind in (RTM_NEWROUTE, RTM_DELROUTE):
                        self._last = self._texts[item.prefix] = text
                    yield item

    def take(self, count: int) -> list[Message]:
        """The next ``count`` messages."""
        found = []
        for item in self.read():
            found.append(item)
            if len(found) == count:
                return found
        raise AssertionError(f"the connection ended after {found}")

    def replay(self) -> list[Message]:
        """The next messages up to the end of a replay, without that."""
        found: list[Message] = []
        for item in self.read():
            if item.kind == NLMSG_DONE:
                return found
            found.append(item)
        raise AssertionError(f"the connection ended after {found}")

    def flagged(self, flags: int, prefix: str | None = None) -> bytes:
        """The route message that came last (to a prefix), with rtm_flags set: what an answer is."""
        text = self._last if prefix is None else self._texts[prefix]
        return text[:24] + struct.pack("=I", flags) + text[28:]

    def closed(self) -> bool:
        """Whether the other side closes the connection (bounded), whatever it sends before."""
        for _item in self.read():
            pass
        return True

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def messages_of(payload: bytes) -> Iterator[tuple[Message, bytes]]:
    """The messages of a frame's payload, each with its bytes."""
    for kind, text in _messages(payload):
        yield _message(kind, text[16:]), text


def _messages(payload: bytes) -> Iterator[tuple[int, bytes]]:
    while payload:
        size, kind = struct.unpack_from("=IH", payload)
        yield kind, payload[:size]
        payload = payload[(size + 3) & ~3 :]


def _message(kind: int, body: bytes) -> Message:
    if kind not in (RTM_NEWROUTE, RTM_DELROUTE):
        return Message(kind)
    family, length, _src, _tos, table, _protocol, _scope, _type, flags = struct.unpack_from("=BBBBBBBBI", body)
    destination, at = bytes(4 if family == 2 else 16), 12
    while at < len(body):
        size, attribute = struct.unpack_from("=HH", body, at)
        if attribute == _DST:
            destination = body[at + 4 : at + size]
        if attribute == 15:  # RTA_TABLE
            (table,) = struct.unpack_from("=I", body, at + 4)
        at += (size + 3) & ~3
    return Message(kind, f"{ipaddress.ip_address(destination)}/{length}", table, flags)


class Producer(_Stream):
    """A host that speaks to the agent from a namespace; ``source`` chooses among its addresses."""

    def __init__(
        self,
        namespace: Namespace,
        address: str = "192.168.101.1",
        source: str | None = None,
        context: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        with namespace.entered():
            sock = socket.create_connection((address, 2620), _SECONDS, (source, 0) if source else None)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=server_name)
        super().__init__(sock)


class Consumer:
    """A plain FPM server in a namespace, such as another vendor's forwarding plane."""

    def __init__(self, namespace: Namespace, address: str, receive_buffer: int | None = None) -> None:
        with namespace.entered():
            self._server = socket.create_server((address, 2620))
        if receive_buffer is not None:  # connections inherit it
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._server.settimeout(_SECONDS)

    def accept(self) -> _Stream:
        """The next connection."""
        return _Stream(self._server.accept()[0])

    def close(self) -> None:
        """Close the listening socket."""
        self._server.close()
