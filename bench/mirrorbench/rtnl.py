# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw rtnetlink for the benchmark: write, count, read and watch IPv4 routes at the kernel's own rate.

The mirror's own library is not used here on purpose: a benchmark that shares code with what it measures would share its
mistakes as well.  All routes here have one shape, so messages are made and read by pasting bytes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

NETLINK_ROUTE = 0
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_GET_STRICT_CHK = 12
SO_RCVBUFFORCE = 33
CLONE_NEWNET = 0x40000000
RTNLGRP_IPV4_ROUTE_MASK = 0x40

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x300, 0x200, 0x400
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 4, 5, 15
RTPROT_STATIC = 4

#: nlmsghdr + rtmsg, the offset of the first attribute.
ATTRIBUTES = 28
#: One send; the kernel takes bigger ones, but is not faster for it.
BATCH_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Run the body in a named network namespace; sockets and /proc/net files opened there stay there.

    Moves the calling thread only.  Raises OSError when the namespace does not exist.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_socket(namespace: str, groups: int = 0, receive_buffer: int = 0) -> socket.socket:
    """Return a strict rtnetlink socket in ``namespace``, in the multicast groups of the mask ``groups``."""
    with inside(namespace):
        handle = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    handle.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
    handle.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
    if receive_buffer:
        handle.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer)
    handle.bind((0, groups))
    return handle


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload


@dataclass(frozen=True)
class Template:
    """The bytes of a route message around its 4-byte destination."""

    head: bytes
    tail: bytes

    @classmethod
    def of(cls, kind: int, gateway: str, oif: int, prefix_length: int = 24, table: int = 254) -> Template:
        """Return the template of RTM_NEWROUTE (new routes only) or RTM_DELROUTE via ``gateway`` on link ``oif``."""
        flags = NLM_F_REQUEST | (NLM_F_CREATE | NLM_F_EXCL if kind == RTM_NEWROUTE else 0)
        tail = _attribute(RTA_GATEWAY, socket.inet_aton(gateway)) + _attribute(RTA_OIF, struct.pack("=I", oif))
        length = ATTRIBUTES + 8 + len(tail)
        head = struct.pack("=IHHII", length, kind, flags, 1, 0)
        head += struct.pack("=8BI", socket.AF_INET, prefix_length, 0, 0, table, RTPROT_STATIC, 0, 1, 0)
        return cls(head + struct.pack("=HH", 8, RTA_DST), tail)

    def message(self, destination: bytes) -> bytes:
        """Return one message; ``destination`` is 4 bytes in network order."""
        return self.head + destination + self.tail

    def batches(self, destinations: list[bytes]) -> list[bytes]:
        """Return the messages for all destinations, in their order, in sends of at most BATCH_BYTES."""
        seam = self.tail + self.head
        step = BATCH_BYTES // len(self.message(b"\0\0\0\0"))
        parts = (destinations[at : at + step] for at in range(0, len(destinations), step))
        return [self.head + seam.join(part) + self.tail for part in parts]


def write(handle: socket.socket, batches: Iterable[bytes]) -> None:
    """Send batches as fast as the kernel takes them, without acknowledgements; raise OSError on any refused message.

    The kernel works inside send(), so when this returns every route is in place.
    """
    for batch in batches:
        handle.send(batch)
    # Nothing was to be acknowledged: whatever can be read is an error.
    try:
        answer = handle.recv(65536, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    number = -struct.unpack_from("=i", answer, 16)[0]
    raise OSError(number, f"the kernel refused a route of the workload: {os.strerror(number)}")


class TableCounter:
    """Counts the IPv4 routes of one table, in the kernel.

    ``/proc/net/fib_triestat`` walks the table in C, which takes a tenth of the time of a dump and copies nothing, so
    that looking does not disturb what is measured.
    """

    def __init__(self, namespace: str, table: int) -> None:
        """Open the statistics of ``namespace``; the open file stays bound to it."""
        with inside(namespace):
            self._file: TextIO = open("/proc/thread-self/net/fib_triestat", encoding="ascii")  # noqa: SIM115 - closed by close()
        self._pattern = re.compile(rf"^Id {table}:\n(?:\t.*\n)*?\tPrefixes:\s+(\d+)", re.MULTILINE)

    def count(self) -> int:
        """Return the number of prefixes in the table; a table that does not exist has none."""
        self._file.seek(0)
        found = self._pattern.search(self._file.read())
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Close the file, so that the namespace can go."""
        self._file.close()


def routes_of(namespace: str, table: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (message with destination 0.0.0.0, destination) for each IPv4 /24 of a table, by a strict dump.

    The first of the pair is the same object for routes of one shape, so a caller needs to parse few of them.  Raises
    OSError as the kernel does; a table that does not exist yields nothing.
    """
    shapes: dict[bytes, bytes] = {}
    request = struct.pack("=IHHII", 36, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    request += struct.pack("=8BI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    with open_socket(namespace) as handle:
        handle.send(request + _attribute(RTA_TABLE, struct.pack("=I", table)))
        while True:
            data = handle.recv(1 << 20)
            at = 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    _check_end(struct.unpack_from("=i", data, at + 16)[0])
                    return
                if data[at + 17] == 24:
                    destination_at = at + _offset_of(data, at, length, RTA_DST)
                    shape = data[at:destination_at] + b"\0\0\0\0" + data[destination_at + 4 : at + length]
                    yield shapes.setdefault(shape, shape), data[destination_at : destination_at + 4]
                at += length


def _check_end(status: int) -> None:
    if status and -status != errno.ENOENT:
        raise OSError(-status, f"route dump failed: {os.strerror(-status)}")


def _offset_of(data: bytes, at: int, length: int, kind: int) -> int:
    """Return where the payload of attribute ``kind`` starts, relative to its message; KeyError when there is none."""
    offset = ATTRIBUTES
    while offset < length:
        size, found = struct.unpack_from("=HH", data, at + offset)
        if found == kind:
            return offset + 4
        offset += (size + 3) & ~3
    raise KeyError(kind)


def exit_of(message: bytes) -> tuple[int, str]:
    """Return (link index, gateway) of a route message; 0 and "" for what it does not have."""
    values: list[bytes] = []
    for kind in (RTA_OIF, RTA_GATEWAY):
        try:
            offset = _offset_of(message, 0, len(message), kind)
        except KeyError:
            values.append(b"")
        else:
            values.append(message[offset : offset + 4])
    oif, gateway = values
    return (struct.unpack("=I", oif)[0] if oif else 0, socket.inet_ntoa(gateway) if gateway else "")


class Watcher:
    """Sees single changes of one table of a namespace as the kernel announces them."""

    def __init__(self, namespace: str, table: int) -> None:
        """Subscribe to the IPv4 route notifications of ``namespace``."""
        self._socket = open_socket(namespace, RTNLGRP_IPV4_ROUTE_MASK, receive_buffer=8 << 20)
        self._table = table

    def wait(self, kind: int, destination: bytes, timeout: float) -> int | None:
        """Return the CLOCK_MONOTONIC nanoseconds at which the change was seen, or None after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            data = self._socket.recv(65536)
            now = time.monotonic_ns()
            if self._matches(data, kind, destination):
                return now
        return None

    def _matches(self, data: bytes, kind: int, destination: bytes) -> bool:
        length, found = struct.unpack_from("=IH", data)
        if found != kind or data[20] != self._table:
            return False
        offset = _offset_of(data, 0, length, RTA_DST)
        return data[offset : offset + 4] == destination

    def drain(self) -> None:
        """Forget what was announced so far; an overrun does not matter here."""
        while select.select([self._socket], [], [], 0)[0]:
            try:
                self._socket.recv(65536)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """Leave the groups."""
        self._socket.close()
