# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nexthop objects and groups (ip-nexthop(8), ``linux/nexthop.h``), and how routes get their next hops from them. Pure.

By default the kernel adds the next hops to a route that uses an object. With ``net.ipv4.nexthop_compat_mode`` 0 such a
route has the object's number only, and the replica resolves it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

from ..model.routes import DISCARD_TYPES, RTN_BLACKHOLE, RTNH_F_DEAD, RTNH_F_ONLINK, NextHop, Path
from ..netlink import rtnetlink

#: struct nhmsg: family, scope, protocol, reserved, flags.
_NHMSG = struct.Struct("=BBBBI")
#: struct nexthop_grp: object, weight less one, its high byte (since Linux 6.12, 0 before), reserved.
_MEMBER = struct.Struct("=IBBH")
#: The largest weight of a next hop in a route (rtnh_hops is one byte: the weight less one).
_MOST_WEIGHT = 256
_NHA_ID, _NHA_GROUP, _NHA_BLACKHOLE, _NHA_OIF, _NHA_GATEWAY, _NHA_ENCAP = 1, 2, 4, 5, 6, 8


@dataclass(frozen=True)
class NexthopObject:
    """One object: a hop, a blackhole, or a group, whose *members* are the numbers of other objects with weights."""

    number: int
    hop: NextHop | None = None
    members: tuple[tuple[int, int], ...] = ()
    blackhole: bool = False
    encap: bool = False


def decode(message: bytes) -> NexthopObject:
    """One RTM_NEWNEXTHOP or RTM_DELNEXTHOP, with its header. WireError if it is malformed."""
    if len(message) < rtnetlink.NLMSGHDR.size + _NHMSG.size:
        raise rtnetlink.WireError(f"nexthop message of {len(message)} bytes")
    family, _scope, _protocol, _reserved, flags = _NHMSG.unpack_from(message, rtnetlink.NLMSGHDR.size)
    found = dict(rtnetlink.attributes(message, rtnetlink.NLMSGHDR.size + _NHMSG.size, len(message)))
    number = rtnetlink.u32_value(found.get(_NHA_ID, b""), "NHA_ID")
    if _NHA_GROUP in found:
        group = found[_NHA_GROUP]
        if len(group) % _MEMBER.size:
            raise rtnetlink.WireError(f"nexthop group of {len(group)} bytes")
        members = tuple((member, low + 256 * high + 1) for member, low, high, _none in _MEMBER.iter_unpack(group))
        return NexthopObject(number, members=members)
    if _NHA_BLACKHOLE in found:
        return NexthopObject(number, blackhole=True)
    gateway = rtnetlink.address_value(family, found[_NHA_GATEWAY]) if _NHA_GATEWAY in found else None
    oif = rtnetlink.u32_value(found[_NHA_OIF], "NHA_OIF") if _NHA_OIF in found else None
    hop = None if flags & RTNH_F_DEAD else NextHop(gateway, oif, 1, bool(flags & RTNH_F_ONLINK))
    return NexthopObject(number, hop, encap=_NHA_ENCAP in found)


def request(number: int | None = None) -> bytes:
    """A request for one object (an acknowledgement ends the answer), or for all."""
    payload = _NHMSG.pack(0, 0, 0, 0, 0)
    if number is None:
        return rtnetlink.request(rtnetlink.RTM_GETNEXTHOP, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, payload)
    payload += rtnetlink.attribute(_NHA_ID, struct.pack("=I", number))
    return rtnetlink.request(rtnetlink.RTM_GETNEXTHOP, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_ACK, payload)


def lacks_hops(path: Path) -> bool:
    """Whether a path has the number of an object, and no next hops."""
    return path.nh_id is not None and not path.nexthops and path.type not in DISCARD_TYPES


def in_a_byte(weights: list[int]) -> list[int]:
    """The same shares in weights of 1 to 256, all that a route's own next hops can have: as exact as that permits."""
    if max(weights) <= _MOST_WEIGHT:
        return weights
    divisor = math.gcd(*weights)
    largest = max(weights) // divisor
    if largest <= _MOST_WEIGHT:
        return [weight // divisor for weight in weights]
    return [max(1, round(weight / divisor * _MOST_WEIGHT / largest)) for weight in weights]


class Objects:
    """The known objects; *missing* are those that routes use and that are not known."""

    def __init__(self) -> None:
        self.known: dict[int, NexthopObject] = {}
        self.missing: dict[int, None] = {}

    def learn(self, buffer: bytes) -> None:
        """Apply messages about objects: notifications, or the answer to a request."""
        for kind, _flags, start, end in rtnetlink.messages(buffer):
            if kind == rtnetlink.RTM_NEWNEXTHOP:
                found = decode(buffer[start:end])
                self.known[found.number] = found
                self.missing.pop(found.number, None)
            elif kind == rtnetlink.RTM_DELNEXTHOP:
                self._forget({decode(buffer[start:end]).number})

    def forget_link(self, index: int) -> None:
        """Forget the objects of a link, and groups with them: an event on the link may have removed them silently."""
        self._forget({n for n, found in self.known.items() if found.hop is not None and found.hop.oif == index})

    def forget(self) -> None:
        """Forget all objects."""
        self.known.clear()

    def forget_torn(self) -> bool:
        """Forget groups with a member that could not be fetched: they lost it meanwhile. Whether there were any."""
        torn = [
            n for n, found in self.known.items() if any(member in self.missing for member, _weight in found.members)
        ]
        for number in torn:
            del self.known[number]
        return bool(torn)

    def _forget(self, numbers: set[int]) -> None:
        for number, found in list(self.known.items()):
            if number in numbers or any(member in numbers for member, _weight in found.members):
                del self.known[number]

    def flattened(self, path: Path) -> tuple[Path, list[int]]:
        """The path with its next hops, and the numbers of all objects that they come from.

        The path is returned unchanged if it uses no object, or if one of them is missing.
        """
        if path.nh_id is None:
            return path, []
        hops: list[NextHop] = []
        extras = list(path.extras)
        found = self.known.get(path.nh_id)
        if found is None:
            self.missing[path.nh_id] = None
            return path, [path.nh_id]
        members = found.members or ((found.number, 1),)
        named = [path.nh_id, *(number for number, _weight in members)]
        unknown = [number for number, _weight in members if number not in self.known]
        self.missing.update(dict.fromkeys(unknown))
        if unknown:
            return path, named
        for (number, _weight), weight in zip(members, in_a_byte([weight for _number, weight in members])):
            member = self.known[number]
            if member.blackhole:
                return replace(path, type=RTN_BLACKHOLE), named
            if member.hop is not None:
                hops.append(replace(member.hop, weight=weight))
            if member.encap and "encap" not in extras:
                extras.append("encap")
            if member.members and "nested group" not in extras:  # the kernel has none; half of the hops would be wrong
                extras.append("nested group")
        if len(hops) == 1:
            hops = [replace(hops[0], weight=1)]  # as decode_route does
        return replace(path, nexthops=tuple(hops), extras=tuple(extras)), named
