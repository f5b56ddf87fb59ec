# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rtnetlink messages: numbers, headers, attributes, requests and answers.

Layout and numbers: ``linux/netlink.h``, ``linux/rtnetlink.h``; rtnetlink(7). Integers are in the machine's byte
order, addresses in network order. Route messages are decoded in route_codec.py, links, addresses and rules in
link_codec.py. Pure: bytes in, values out, and back.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from ..model.routes import AF_INET, WIDTH, Address

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
RTM_NEWLINK, RTM_DELLINK = 16, 17
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_GETLINK = 18
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNETCONF, RTM_DELNETCONF, RTM_GETNETCONF = 80, 81, 82
RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_GETNEXTHOP = 104, 105, 106

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

RTM_F_CLONED = 0x200
RTM_F_OFFLOAD = 0x4000
RTM_F_TRAP = 0x8000
RTM_F_OFFLOAD_FAILED = 0x20000000

RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = range(1, 10)
RTA_TABLE = 15
RTA_VIA = 18
RTA_NEWDST = 19
RTA_ENCAP = 22
RTA_NH_ID = 30
#: Of this project: why a route stays on the slow path, as text. Types this high are passed over by other consumers.
RTA_REASON = 0x1079
RTAX_MTU = 2
_ATTRIBUTE_TYPE = 0x3FFF

NLMSGHDR = struct.Struct("=IHHII")
RTMSG = struct.Struct("=BBBBBBBBI")
RTATTR = struct.Struct("=HH")
LENGTH_TYPE_FLAGS = struct.Struct("=IHH")
U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")


class WireError(ValueError):
    """A netlink message is truncated or malformed."""


class Acknowledgement(NamedTuple):
    """An NLMSG_ERROR: errno (0 means success), the kernel's extended-ack text, and the echoed request."""

    errno: int
    text: str
    request: bytes


def chunks(messages: Sequence[bytes], limit: int) -> Iterator[tuple[int, int]]:
    """Split *messages* into batches of at most *limit* bytes (or one longer message): (start, stop) of each."""
    ends = list(accumulate(map(len, messages)))
    start = done = 0
    while start < len(messages):
        stop = max(start + 1, bisect_right(ends, done + limit))
        yield start, stop
        start, done = stop, ends[stop - 1]


def messages(buffer: bytes, start: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """Walk the messages in *buffer*: (type, nlmsg_flags, start, end) of each. WireError if one is truncated."""
    size = len(buffer)
    while start < size:
        if size - start < NLMSGHDR.size:
            raise WireError(f"{size - start} stray bytes after the last netlink message")
        length, kind, flags = LENGTH_TYPE_FLAGS.unpack_from(buffer, start)
        if length < NLMSGHDR.size or start + length > size:
            raise WireError(f"netlink message of {length} bytes, but only {size - start} are left")
        yield kind, flags, start, start + length
        start += (length + 3) & ~3


def attributes(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Walk rtattrs: (type without the nested and byte-order bits, payload). WireError if one is truncated."""
    while start + RTATTR.size <= end:
        length, kind = RTATTR.unpack_from(buffer, start)
        if length < RTATTR.size or start + length > end:
            raise WireError(f"attribute {kind & _ATTRIBUTE_TYPE} of {length} bytes, but only {end - start} are left")
        yield kind & _ATTRIBUTE_TYPE, buffer[start + RTATTR.size : start + length]
        start += (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """One rtattr, padded to four bytes."""
    return RTATTR.pack(RTATTR.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def family_of(message: bytes) -> int:
    """The address family of an address, rule or route message."""
    return message[NLMSGHDR.size] if len(message) > NLMSGHDR.size else AF_INET


# -- attribute payloads -> values; WireError if the size is wrong. *what* is the attribute's name for the error


def u8_value(payload: bytes, what: str) -> int:
    """A number of one byte."""
    if len(payload) != 1:
        raise WireError(f"{what} of {len(payload)} bytes")
    return payload[0]


def u32_value(payload: bytes, what: str) -> int:
    """A number of four bytes."""
    if len(payload) != U32.size:
        raise WireError(f"{what} of {len(payload)} bytes")
    return int(U32.unpack(payload)[0])


def index_value(number: int) -> int:
    """An ifindex, which the kernel keeps in a signed number."""
    if not 0 <= number <= 0x7FFFFFFF:
        raise WireError(f"ifindex {number} is out of range")
    return number


def address_value(family: int, payload: bytes) -> Address:
    """An address of that family."""
    if len(payload) * 8 != WIDTH.get(family):
        raise WireError(f"an address of {len(payload)} bytes in family {family}")
    return Address(family, int.from_bytes(payload, "big"))


def text_value(payload: bytes) -> str:
    """A string, up to its first NUL. A link name need not be UTF-8: other bytes are escaped, so names stay distinct."""
    return payload.split(b"\0")[0].decode(errors="backslashreplace")


# -- requests and answers


def request(kind: int, flags: int, payload: bytes = b"", seq: int = 0) -> bytes:
    """A whole netlink message around *payload*."""
    return NLMSGHDR.pack(NLMSGHDR.size + len(payload), kind, flags, seq, 0) + payload


def route_dump_request(
    family: int, table: int | None = None, protocol: int = 0, oif: int | None = None, seq: int = 0
) -> bytes:
    """A route dump request that the kernel filters (the socket needs NETLINK_GET_STRICT_CHK)."""
    payload = RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    if table is not None:
        payload += attribute(RTA_TABLE, U32.pack(table))
    if oif is not None:
        payload += attribute(RTA_OIF, U32.pack(oif))
    return request(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, payload, seq)


def parse_acknowledgement(buffer: bytes, start: int, end: int) -> Acknowledgement:
    """Parse an NLMSG_ERROR, with the text of NETLINK_EXT_ACK if it has one (netlink(7))."""
    if end - start < NLMSGHDR.size + 4 + NLMSGHDR.size:
        raise WireError("NLMSG_ERROR without the header of its request")
    flags = LENGTH_TYPE_FLAGS.unpack_from(buffer, start)[2]
    (error,) = _I32.unpack_from(buffer, start + 16)
    origin = start + 20
    length = NLMSGHDR.size if flags & NLM_F_CAPPED or not error else U32.unpack_from(buffer, origin)[0]
    if length < NLMSGHDR.size or origin + length > end:
        raise WireError(f"NLMSG_ERROR for a request of {length} bytes, but only {end - origin} are left")
    text = ""
    if flags & NLM_F_ACK_TLVS:
        for kind, payload in attributes(buffer, origin + ((length + 3) & ~3), end):
            if kind == NLMSGERR_ATTR_MSG:
                text = text_value(payload)
    return Acknowledgement(-error, text, buffer[origin : origin + length])


def encode_error(message: bytes, errno: int, text: str) -> bytes:
    """An NLMSG_ERROR with extended-ack text for *message*: the agent's reason for a route that is not offloaded."""
    body = (
        _I32.pack(-errno)
        + message
        + bytes(-len(message) % 4)
        + attribute(NLMSGERR_ATTR_MSG, text.encode()[:480] + b"\0")
    )
    return request(NLMSG_ERROR, NLM_F_ACK_TLVS, body)


def encode_done() -> bytes:
    """The NLMSG_DONE that ends a replay."""
    return request(NLMSG_DONE, 0, _I32.pack(0))
