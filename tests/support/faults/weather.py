# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A link between two namespaces that goes through this process, so that it can have any weather.

A TUN device on either side; what one sends is read here and written to the other: late, not at all, or with the RST
bit set. It does what the kernel's netem does, for kernels that have none.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time

from ansible_collections.ekho.ynl_mirror.tests.support.labs.netns import Namespace

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_MTU = 1500
_TCP = 6


class Weather:
    """The link: *left* has the address 192.168.SUBNET.1, *right* 192.168.SUBNET.2. All may be changed at any time.

    *delay*: seconds, one way. *loss*: the share of packets that is lost. *cut*: nothing passes, silently.
    """

    def __init__(self, left: Namespace, right: Namespace, subnet: int = 109, link: str = "ctl") -> None:
        self.delay = 0.0
        self.loss = 0.0
        self.cut = False
        self._resets: set[int] = set()
        self._draw = random.Random(subnet)
        self._ends = [_tun(end, link, f"192.168.{subnet}.{n}/24") for n, end in enumerate((left, right), 1)]
        self._wake, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._run, name="weather")
        self._thread.start()

    def fine(self) -> None:
        """No weather."""
        self.delay, self.loss, self.cut = 0.0, 0.0, False
        self._resets.clear()

    def reset(self) -> None:
        """End a connection that has something to say: both sides hear a TCP reset instead of their next data."""
        self._resets.update((0, 1))

    def close(self) -> None:
        """Take the link away."""
        os.close(self._ended)
        self._thread.join(10)
        for fd in (*self._ends, self._wake):
            os.close(fd)

    def _run(self) -> None:
        late: list[tuple[float, int, int, bytes]] = []
        numbers = itertools.count()
        while True:
            pause = max(0.0, late[0][0] - time.monotonic()) if late else None
            readable = select.select([*self._ends, self._wake], [], [], pause)[0]
            if self._wake in readable:
                return
            for side, end in enumerate(self._ends):
                if end in readable:
                    packet = os.read(end, _MTU)
                    if not self.cut and self._draw.random() >= self.loss:
                        packet = self._with_reset(side, packet)
                        heapq.heappush(late, (time.monotonic() + self.delay, next(numbers), side, packet))
            while late and late[0][0] <= time.monotonic():
                _due, _number, side, packet = heapq.heappop(late)
                if not self.cut:
                    with contextlib.suppress(OSError):  # the other side's link is down
                        os.write(self._ends[1 - side], packet)

    def _with_reset(self, side: int, packet: bytes) -> bytes:
        if side not in self._resets or packet[0] >> 4 != 4 or packet[9] != _TCP:
            return packet
        headers = (packet[0] & 15) * 4
        if len(packet) == headers + (packet[headers + 12] >> 4) * 4:
            return packet  # it carries no data: the beginning or the end of a connection
        self._resets.discard(side)
        return _as_reset(packet)


def _tun(namespace: Namespace, link: str, address: str) -> int:
    with namespace.entered():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH14x", link.encode(), _IFF_TUN_NO_PI))
    namespace.ip(f"link set {link} up mtu {_MTU}")
    namespace.ip(f"address add {address} dev {link}")
    return fd


def _as_reset(packet: bytes) -> bytes:
    """The same TCP segment (RFC 9293) with RST and ACK set, without its data."""
    words = (packet[0] & 15) * 4
    ip, tcp = bytearray(packet[:words]), bytearray(packet[words : words + 20])
    tcp[12], tcp[13] = 5 << 4, 0x14
    struct.pack_into(">H", ip, 2, words + 20)
    for header, at, data in ((ip, 10, ip), (tcp, 16, ip[12:20] + struct.pack(">HH", _TCP, 20) + tcp)):
        struct.pack_into(">H", data, at if header is ip else at + 12, 0)
        struct.pack_into(">H", header, at, _checksum(bytes(data)))
    return bytes(ip + tcp)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
