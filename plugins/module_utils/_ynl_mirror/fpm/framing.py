# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format of FPM, the Forwarding Plane Manager (FRR ``fpm/fpm.h``). Pure.

A stream of frames, each a four-byte header - version 1, message type 1 (netlink), length in network order *including
the header* - around whole netlink messages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ..netlink.rtnetlink import chunks

_HEADER = struct.Struct(">BBH")
_VERSION = 1
_NETLINK = 1
#: Netlink bytes in one frame at most, by its length field.
LONGEST = 65531
#: Netlink bytes in a frame that we send, unless a single message is longer.
_PAYLOAD = 32768


class FpmError(ValueError):
    """The peer does not speak FPM."""


def frames(messages: Sequence[bytes]) -> Iterator[bytes]:
    """Pack whole netlink messages (each padded to four bytes) into as few frames as reasonable."""
    for start, stop in chunks(messages, _PAYLOAD):
        yield frame(b"".join(messages[start:stop]))


def frame(payload: bytes) -> bytes:
    """One frame around whole messages of at most LONGEST bytes."""
    return _HEADER.pack(_VERSION, _NETLINK, len(payload) + _HEADER.size) + payload


class Deframer:
    """Turns bytes of the stream into payloads of whole frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payload of every frame that is complete now. FpmError when the stream is not FPM."""
        buffer = self._rest + data if self._rest else data
        start, size = 0, len(buffer)
        while size - start >= _HEADER.size:
            version, kind, length = _HEADER.unpack_from(buffer, start)
            if version != _VERSION or kind != _NETLINK or length < _HEADER.size:
                self._rest = b""
                raise FpmError(f"not an FPM frame: version {version}, type {kind}, length {length}")
            if size - start < length:
                break
            # Set before the yield: the caller may stop in between.
            self._rest = b""
            yield buffer[start + _HEADER.size : start + length]
            start += length
        self._rest = buffer[start:]

    @property
    def waiting(self) -> int:
        """Bytes received of an incomplete frame."""
        return len(self._rest)
