# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of pcapng that captures of netlink messages need: values -> blocks, and back. Pure.

The format is draft-ietf-opsawg-pcapng. A file is a sequence of sections, each with a header, interfaces and packets.
All integers are in the byte order of the machine that wrote them, as in netlink. A packet of link type LINKTYPE_NETLINK
(253) is a datagram after the 16 bytes of header that the kernel's nlmon devices write, so that Wireshark and tshark
decode it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
LINKTYPE_NETLINK = 253
#: Longer than any block that is written here: a larger length is damage.
LONGEST_BLOCK = 1 << 24

_COMMENT, _SYSTEM, _APPLICATION = 1, 3, 4  # options of a section
_NAME = 2  # option of an interface
_MAGIC = 0x1A2B3C4D
_SWAPPED_MAGIC = 0x4D3C2B1A
#: Type, length, and the first four bytes after them: the shortest block has as many.
_HEAD = struct.Struct("=III")
_START = struct.pack("=I", SECTION)
_SECTION = struct.Struct("=IHHq")
_INTERFACE = struct.Struct("=HHI")
_PACKET = struct.Struct("=IIIIIII")
_TAIL = struct.Struct("=I")
_OPTION = struct.Struct("=HH")
#: The nlmon header: hardware type ARPHRD_NETLINK and protocol NETLINK_ROUTE (0) in network order, the rest unused.
_COOKED = struct.pack(">HH10xH", 0, 824, 0)


class Damaged(ValueError):
    """The file is damaged at byte *offset*; all blocks before it are intact."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"byte {offset}: {why}")
        self.offset = offset


class CutOff(Damaged):
    """The file ends within a block: its writer was killed, or it was copied while it was written."""


class Section(NamedTuple):
    """The header of a section: the program and system that wrote it, and a comment."""

    application: str
    system: str
    comment: str


class Packet(NamedTuple):
    """A netlink datagram: the number of its interface in the section, microseconds since 1970, and the bytes."""

    interface: int
    time: int
    data: bytes


def section(header: Section, interfaces: Sequence[str]) -> bytes:
    """The blocks that start a section: its header, and an interface for each name."""
    options = _options(
        (_COMMENT, header.comment), (_SYSTEM, header.system), (_APPLICATION, header.application), (0, "")
    )
    out = _block(SECTION, _SECTION.pack(_MAGIC, 1, 0, -1) + options)
    for name in interfaces:
        out += _block(INTERFACE, _INTERFACE.pack(LINKTYPE_NETLINK, 0, 0) + _options((_NAME, name), (0, "")))
    return out


def packet(interface: int, time: int, data: bytes) -> bytes:
    """The block of one packet; arguments as in :class:`Packet`."""
    size = len(_COOKED) + len(data)
    length = _PACKET.size + size + (-size & 3) + _TAIL.size
    head = _PACKET.pack(PACKET, length, interface, time >> 32, time & 0xFFFFFFFF, size, size)
    return b"".join((head, _COOKED, data, bytes(-size & 3), _TAIL.pack(length)))


def read(stream: BinaryIO) -> Iterator[Section | Packet]:
    """Section headers and packets, up to the first damage, which is raised as Damaged. Other blocks are skipped."""
    kinds: list[int] = []  # link types of the section's interfaces
    for offset, kind, body in blocks(stream):
        if kind == SECTION:
            kinds = []
            yield _read_section(body)
        elif kind == INTERFACE and len(body) >= _INTERFACE.size:
            kinds.append(_INTERFACE.unpack_from(body)[0])
        elif kind == PACKET:
            yield _read_packet(offset, body, kinds)


def blocks(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """All intact blocks: (offset, type, body) of each; Damaged after the last one if there are more bytes."""
    offset = 0
    while head := stream.read(_HEAD.size):
        if offset == 0 and not head.startswith(_START):
            raise Damaged(offset, "not a pcapng file")
        if len(head) < _HEAD.size:
            raise CutOff(offset, "truncated")
        kind, length, magic = _HEAD.unpack(head)
        if kind == SECTION and magic == _SWAPPED_MAGIC:
            raise Damaged(
                offset, f"written on a machine that is not {sys.byteorder}-endian like this one; replay it there"
            )
        if kind == SECTION and magic != _MAGIC:
            raise Damaged(offset, "invalid section header")
        if length < 12 or length % 4 or length > LONGEST_BLOCK:
            raise Damaged(offset, f"block with an invalid length of {length} bytes")
        block = head + stream.read(length - _HEAD.size)
        if len(block) < length:
            raise CutOff(offset, "truncated")
        if _TAIL.unpack_from(block, length - _TAIL.size)[0] != length:
            raise Damaged(offset, "block whose two lengths differ")
        yield offset, kind, block[8:-4]
        offset += length


def _read_section(body: bytes) -> Section:
    found = dict(_read_options(body, _SECTION.size))
    texts = (found.get(kind, b"").decode(errors="replace") for kind in (_APPLICATION, _SYSTEM, _COMMENT))
    return Section(*texts)


def _read_packet(offset: int, body: bytes, kinds: Sequence[int]) -> Packet:
    if len(body) < 20 + len(_COOKED):
        raise Damaged(offset, f"packet block of {len(body)} bytes, too short for a netlink datagram")
    interface, high, low, size, _original = struct.unpack_from("=IIIII", body)
    if interface >= len(kinds) or kinds[interface] != LINKTYPE_NETLINK:
        raise Damaged(offset, f"packet of interface {interface}, which is not a netlink interface")
    if not len(_COOKED) <= size <= len(body) - 20:
        raise Damaged(offset, f"packet of {size} bytes in a block with room for {len(body) - 20}")
    return Packet(interface, high << 32 | low, body[20 + len(_COOKED) : 20 + size])


def _block(kind: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return struct.pack("=II", kind, length) + body + _TAIL.pack(length)


def _options(*options: tuple[int, str]) -> bytes:
    out = b""
    for kind, text in options:
        value = text.encode()[:0xFFFC]
        out += _OPTION.pack(kind, len(value)) + value + bytes(-len(value) & 3)
    return out


def _read_options(body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start + _OPTION.size <= len(body):
        kind, length = _OPTION.unpack_from(body, start)
        yield kind, body[start + _OPTION.size : start + _OPTION.size + length]
        start += _OPTION.size + length + (-length & 3)
