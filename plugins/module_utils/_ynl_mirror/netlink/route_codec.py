# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route messages of rtnetlink <-> values, with templates that keep a million of them affordable. Pure.

Routes with the same path have messages that differ only in the four or sixteen bytes of the destination.
:class:`RouteReader` decodes one such message in full, keeps the rest of its bytes as a template, and decodes the next
ones with one dictionary look-up; :class:`RouteWriter` does the reverse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from ..model.routes import (
    AF_INET,
    DISCARD_TYPES,
    RTNH_F_DEAD,
    RTNH_F_ONLINK,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from .rtnetlink import (
    LENGTH_TYPE_FLAGS,
    NLMSGHDR,
    RTA_DST,
    RTA_ENCAP,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_NEWDST,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_REASON,
    RTA_SRC,
    RTA_TABLE,
    RTA_VIA,
    RTATTR,
    RTAX_MTU,
    RTM_DELROUTE,
    RTM_F_CLONED,
    RTM_NEWROUTE,
    RTMSG,
    U32,
    WireError,
    address_value,
    attribute,
    attributes,
    index_value,
    text_value,
    u32_value,
)

#: Attributes that a :class:`Path` has no field for.
_EXTRAS = {RTA_SRC: "source prefix", RTA_IIF: "iif", RTA_NEWDST: "newdst", RTA_ENCAP: "encap"}
_RTNEXTHOP = struct.Struct("=HBBi")
_BE32 = struct.Struct(">I")
#: Offset of the first attribute, after nlmsghdr and rtmsg.
_ATTRIBUTES = 28
_FLAGS_AT = 24
#: Bytes of the text of RTA_REASON, without its NUL.
LONGEST_REASON = 255

#: A reader drops its templates beyond this many: a producer that keeps sending new attributes must not fill memory.
MAX_TEMPLATES = 65536
#: Most next hops of all interned paths together, and the longest message in bytes that becomes a template.
_MAX_HOPS = 4 * MAX_TEMPLATES
_LONGEST_TEMPLATE = 2048


class ForeignFamily(WireError):
    """A route of another address family than IPv4 and IPv6, such as MPLS: well-formed, but no route of ours."""


class RouteMessage(NamedTuple):
    """One RTM_NEWROUTE or RTM_DELROUTE: type, nlmsg_flags, rtm_flags, prefix key and path."""

    type: int
    nlflags: int
    rtflags: int
    key: int
    path: Path


#: What :meth:`RouteReader.scan` yields: type, nlmsg_flags, start, end, prefix key, path.
Scanned = tuple[int, int, int, int, int, "Path | None"]


def with_route_flags(message: bytes, rtflags: int) -> bytes:
    """The same route message with these rtm_flags."""
    return message[:_FLAGS_AT] + U32.pack(rtflags) + message[_FLAGS_AT + 4 :]


# -- values -> bytes ------------------------------------------------------------------------------------------------


def _gateway(family: int, gateway: Address) -> bytes:
    if gateway.family == family:
        return attribute(RTA_GATEWAY, gateway.packed)
    return attribute(RTA_VIA, struct.pack("=H", gateway.family) + gateway.packed)


def _multipath(path: Path) -> bytes:
    hops = b""
    for hop in path.nexthops:
        body = b"" if hop.gateway is None else _gateway(path.family, hop.gateway)
        flags = RTNH_F_ONLINK if hop.onlink else 0
        hops += _RTNEXTHOP.pack(_RTNEXTHOP.size + len(body), flags, hop.weight - 1, hop.oif or 0) + body
    return attribute(RTA_MULTIPATH, hops)


def path_attributes(path: Path) -> bytes:
    """All attributes of a path except table and destination, in the kernel's order."""
    parts = []
    if path.metric:
        parts.append(attribute(RTA_PRIORITY, U32.pack(path.metric)))
    if path.mtu is not None:
        parts.append(attribute(RTA_METRICS, attribute(RTAX_MTU, U32.pack(path.mtu))))
    if path.src is not None:
        parts.append(attribute(RTA_PREFSRC, path.src.packed))
    if path.nh_id is not None:
        parts.append(attribute(RTA_NH_ID, U32.pack(path.nh_id)))
    elif len(path.nexthops) > 1:
        parts.append(_multipath(path))
    elif path.nexthops:
        hop = path.nexthops[0]
        if hop.gateway is not None:
            parts.append(_gateway(path.family, hop.gateway))
        if hop.oif is not None:
            parts.append(attribute(RTA_OIF, U32.pack(hop.oif)))
    if path.reason is not None:
        parts.append(attribute(RTA_REASON, reason_bytes(path.reason) + b"\0"))
    return b"".join(parts)


def reason_bytes(reason: str) -> bytes:
    """The text of a reason as it goes on the wire: cut to LONGEST_REASON bytes, between two characters."""
    text = reason.encode(errors="backslashreplace").split(b"\0")[0]
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON].decode(errors="ignore").encode()


def _rtm_flags(path: Path) -> int:
    return RTNH_F_ONLINK if len(path.nexthops) == 1 and path.nexthops[0].onlink else 0


class RouteWriter:
    """Values -> messages of one type, by a template for each path and prefix length."""

    def __init__(self, kind: int, nlflags: int) -> None:
        self._kind = kind
        self._nlflags = nlflags
        self._parts: dict[tuple[Path, int], tuple[bytes, bytes]] = {}

    def parts(self, path: Path, length: int) -> tuple[bytes, bytes]:
        """The bytes before and after the destination in a message for a prefix of this *length*."""
        found = self._parts.get((path, length))
        if found is None:
            if len(self._parts) >= MAX_TEMPLATES:
                self._parts.clear()
            found = self._build(path, length)
            if len(found[1]) <= _LONGEST_TEMPLATE:
                self._parts[path, length] = found
        return found

    def _build(self, path: Path, length: int) -> tuple[bytes, bytes]:
        width = WIDTH[path.family] // 8
        tail = path_attributes(path)
        table = attribute(RTA_TABLE, U32.pack(path.table))
        compat = path.table if path.table < 256 else 252  # RT_TABLE_COMPAT: the real one is in RTA_TABLE
        rtmsg = RTMSG.pack(
            path.family, length, 0, path.tos, compat, path.protocol, path.scope, path.type, _rtm_flags(path)
        )
        size = _ATTRIBUTES + len(table) + RTATTR.size + width + len(tail)
        header = NLMSGHDR.pack(size, self._kind, self._nlflags, 0, 0)
        return header + rtmsg + table + RTATTR.pack(RTATTR.size + width, RTA_DST), tail

    def message(self, key: int, path: Path) -> bytes:
        """The message for one route, given its prefix key."""
        return self.batch([(key, path)])[0]

    def batch(self, routes: Iterable[tuple[int, Path]]) -> list[bytes]:
        """The messages for many routes, in order."""
        out: list[bytes] = []
        add = out.append
        last: Path | None = None
        head = tail = b""
        first = beyond = shift = size = 0  # keys of one length lie in first..beyond
        for key, path in routes:
            if path is not last or not first <= key < beyond:
                width = WIDTH[path.family]
                length = key >> width
                head, tail = self.parts(path, length)
                first, beyond = length << width, (length + 1) << width
                shift, size, last = width - length, width // 8, path
            add(head + ((key - first) << shift).to_bytes(size, "big") + tail)
        return out


def encode_route(route: Route, kind: int, nlflags: int) -> bytes:
    """One route message; for many use a :class:`RouteWriter`."""
    return RouteWriter(kind, nlflags).message(route.prefix.key, route.path)


# -- bytes -> values ------------------------------------------------------------------------------------------------


def _via(payload: bytes) -> Address:
    if len(payload) < 2:
        raise WireError("RTA_VIA is too short")
    return address_value(struct.unpack_from("=H", payload)[0], payload[2:])


def _parse_multipath(
    family: int, payload: bytes, dead_hops: bool, extras: list[str]
) -> tuple[list[NextHop], list[int]]:
    """The living hops, and the links of dead ones. What a :class:`NextHop` has no field for is added to *extras*."""
    living: list[NextHop] = []
    dead: list[int] = []
    start, size = 0, len(payload)
    while start + _RTNEXTHOP.size <= size:
        length, flags, hops, oif = _RTNEXTHOP.unpack_from(payload, start)
        if length < _RTNEXTHOP.size or start + length > size:
            raise WireError(f"next hop of {length} bytes, but only {size - start} are left")
        gateway = None
        for kind, value in attributes(payload, start + _RTNEXTHOP.size, start + length):
            if kind == RTA_GATEWAY:
                gateway = address_value(family, value)
            elif kind == RTA_VIA:
                gateway = _via(value)
            elif kind in _EXTRAS and _EXTRAS[kind] not in extras:
                extras.append(_EXTRAS[kind])
        if dead_hops or not flags & RTNH_F_DEAD:
            living.append(NextHop(gateway, index_value(oif) or None, hops + 1, bool(flags & RTNH_F_ONLINK)))
        else:
            dead.append(index_value(oif))
        start += (length + 3) & ~3
    return living, dead


def decode_route(buffer: bytes, start: int, end: int, dead_hops: bool = False) -> tuple[Prefix, Path]:
    """Decode one route message in full. WireError if it is malformed, ForeignFamily if it is neither IPv4 nor IPv6.

    The kernel skips a hop whose link is down (RTNH_F_DEAD), so dead hops are no part of the path; with *dead_hops* they
    are, as the route was configured. If all hops are dead, *extras* has ``dead``.
    """
    if end - start < _ATTRIBUTES:
        raise WireError(f"route message of {end - start} bytes")
    family, length, src_len, tos, table, protocol, scope, kind, rtflags = RTMSG.unpack_from(buffer, start + 16)
    if family not in WIDTH:
        raise ForeignFamily(f"route of address family {family}")
    if length > WIDTH[family]:
        raise WireError(f"prefix length {length} in family {family}")
    found = dict(attributes(buffer, start + _ATTRIBUTES, end))
    destination = address_value(family, found[RTA_DST]).value if RTA_DST in found else 0
    if destination & ((1 << (WIDTH[family] - length)) - 1):
        raise WireError(f"{Address(family, destination)}/{length} has host bits set")
    extras = [name for number, name in _EXTRAS.items() if number in found]
    if src_len and RTA_SRC not in found:
        extras.append("source prefix")
    if rtflags & RTM_F_CLONED:
        extras.append("cloned")
    discard = kind in DISCARD_TYPES
    nexthops, dead_links = ((), ()) if discard else _nexthops(family, found, rtflags, dead_hops, extras)
    if (rtflags & RTNH_F_DEAD or RTA_MULTIPATH in found) and not nexthops and not discard:
        extras.append("dead")
    path = Path(
        family=family,
        table=u32_value(found[RTA_TABLE], "RTA_TABLE") if RTA_TABLE in found else table,
        type=kind,
        protocol=protocol,
        scope=scope,
        tos=tos,
        metric=u32_value(found[RTA_PRIORITY], "RTA_PRIORITY") if RTA_PRIORITY in found else 0,
        src=address_value(family, found[RTA_PREFSRC]) if RTA_PREFSRC in found else None,
        mtu=_mtu(found),
        nexthops=nexthops,
        nh_id=u32_value(found[RTA_NH_ID], "RTA_NH_ID") if RTA_NH_ID in found else None,
        extras=tuple(extras),
        dead_links=dead_links,
        reason=text_value(found[RTA_REASON][:LONGEST_REASON]) if RTA_REASON in found else None,
    )
    return Prefix(family, destination, length), path


def _nexthops(
    family: int, found: dict[int, bytes], rtflags: int, dead_hops: bool, extras: list[str]
) -> tuple[tuple[NextHop, ...], tuple[int, ...]]:
    """The hops of the path, and the links of dead hops that are left out."""
    if RTA_MULTIPATH in found:
        hops, dead = _parse_multipath(family, found[RTA_MULTIPATH], dead_hops, extras)
        # The last living hop of several gets all packets, like the only hop of a route: same path, same weight.
        if len(hops) == 1 and not dead_hops:
            hops = [replace(hops[0], weight=1)]
        return tuple(hops), tuple(sorted(set(dead)))
    gateway = None
    if RTA_GATEWAY in found:
        gateway = address_value(family, found[RTA_GATEWAY])
    elif RTA_VIA in found:
        gateway = _via(found[RTA_VIA])
    oif = index_value(u32_value(found[RTA_OIF], "RTA_OIF")) if RTA_OIF in found else None
    if gateway is None and oif is None:
        return (), ()
    if rtflags & RTNH_F_DEAD and not dead_hops:
        return (), () if oif is None else (oif,)
    return (NextHop(gateway, oif, 1, bool(rtflags & RTNH_F_ONLINK)),), ()


def _mtu(found: dict[int, bytes]) -> int | None:
    if RTA_METRICS in found:
        for kind, value in attributes(found[RTA_METRICS], 0, len(found[RTA_METRICS])):
            if kind == RTAX_MTU:
                return u32_value(value, "RTAX_MTU")
    return None


class RouteReader:
    """Messages -> values, by templates (see the module's docstring).

    Equal paths are returned as the *same* object, so ``is`` shows whether a route changed.
    """

    def __init__(self, dead_hops: bool = False) -> None:
        self._dead_hops = dead_hops
        # Message without header and destination -> its path, and how to make a key of the destination: the length's
        # part of the key, the number of bits to shift out, the mask of the host bits (which must be 0). None: the
        # layout of such messages is another one, so they are decoded in full.
        self._templates: dict[bytes, tuple[Path, int, int, int] | None] = {}
        self._paths: dict[Path, Path] = {}
        self._hops = 0  # of all these paths

    def intern(self, path: Path) -> Path:
        """The shared object of all paths that equal *path*."""
        found = self._paths.get(path)
        if found is None:
            if len(self._paths) >= MAX_TEMPLATES or self._hops >= _MAX_HOPS:
                self._forget()
            self._hops += len(path.nexthops)
            found = self._paths[path] = path
        return found

    def _forget(self) -> None:
        self._templates.clear()
        self._paths.clear()
        self._hops = 0

    def read(self, buffer: bytes, start: int, end: int) -> tuple[int, Path]:
        """One route message's (prefix key, path). WireError when it is malformed."""
        if end - start < _ATTRIBUTES:
            raise WireError(f"route message of {end - start} bytes")
        # The two layouts in use: RTA_TABLE, RTA_DST, ... (the kernel, this library) and RTA_DST, ... (zebra).
        family = buffer[start + 16]
        at = start + (40 if end - start > 30 and buffer[start + 30] == RTA_TABLE else 32)
        behind = at + (4 if family == AF_INET else 16)
        if behind > end or end - start > _LONGEST_TEMPLATE:
            prefix, path = decode_route(buffer, start, end, self._dead_hops)
            return prefix.key, self.intern(path)
        signature = buffer[start + 16 : at] + buffer[behind:end]
        template = self._templates.get(signature)
        if template is not None:
            path, base, shift, host_bits = template
            value = int.from_bytes(buffer[at:behind], "big")
            if not value & host_bits:
                return base | value >> shift, path
        prefix, path = decode_route(buffer, start, end, self._dead_hops)
        path = self.intern(path)
        if signature not in self._templates:
            plain = self._is_plain(buffer, start + _ATTRIBUTES, at, end)
            width = WIDTH[path.family]
            shift = width - prefix.length
            template = (path, prefix.length << width, shift, (1 << shift) - 1) if plain else None
            if len(self._templates) >= MAX_TEMPLATES:
                self._forget()
            self._templates[signature] = template
        return prefix.key, path

    @staticmethod
    def _is_plain(buffer: bytes, start: int, at: int, end: int) -> bool:
        """Whether the bytes that were cut out are the only destination, first or after one 32-bit attribute."""
        width = 4 if buffer[start - 12] == AF_INET else 16
        if RTATTR.unpack_from(buffer, at - 4) != (4 + width, RTA_DST):
            return False
        if at - start > 4 and RTATTR.unpack_from(buffer, start)[0] != 8:
            return False
        return sum(kind == RTA_DST for kind, _value in attributes(buffer, start, end)) == 1

    def scan(self, buffer: bytes) -> Iterator[Scanned]:
        """All messages in *buffer*: routes with prefix key and path, others with key -1 and no path.

        Others are also the routes of foreign address families.
        """
        # One loop with everything inline and plain tuples: a million routes spend their time here.
        size, start = len(buffer), 0
        templates, header, be32 = self._templates, LENGTH_TYPE_FLAGS.unpack_from, _BE32.unpack_from
        while start < size:
            if size - start < NLMSGHDR.size:
                raise WireError(f"{size - start} stray bytes after the last netlink message")
            length, kind, nlflags = header(buffer, start)
            end = start + length
            if length < NLMSGHDR.size or end > size:
                raise WireError(f"netlink message of {length} bytes, but only {size - start} are left")
            if kind not in (RTM_NEWROUTE, RTM_DELROUTE):
                yield kind, nlflags, start, end, -1, None
            else:
                template = None
                value = 0
                if length >= 44 and buffer[start + 16] == AF_INET:
                    at = start + (40 if buffer[start + 30] == RTA_TABLE else 32)
                    template = templates.get(buffer[start + 16 : at] + buffer[at + 4 : end])
                    value = be32(buffer, at)[0]
                if template is not None and not value & template[3]:
                    path, base, shift, _host_bits = template
                    yield kind, nlflags, start, end, base | value >> shift, path
                else:
                    try:
                        key, path = self.read(buffer, start, end)
                    except ForeignFamily:
                        yield kind, nlflags, start, end, -1, None
                    else:
                        yield kind, nlflags, start, end, key, path
            start = end + 3 & ~3

    def routes(self, buffer: bytes) -> Iterator[RouteMessage]:
        """All route messages in *buffer*; other messages are skipped."""
        for kind, nlflags, start, _end, key, path in self.scan(buffer):
            if path is not None:
                yield RouteMessage(kind, nlflags, U32.unpack_from(buffer, start + _FLAGS_AT)[0], key, path)
