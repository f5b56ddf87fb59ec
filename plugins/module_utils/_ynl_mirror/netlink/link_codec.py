# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Link, address and rule messages of rtnetlink -> values. Pure: bytes in, values out.

Layout and numbers: ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/fib_rules.h``. Attributes that the values have no
field for are skipped; those that they have must be of the right size, else WireError.
"""

from __future__ import annotations

import struct

from ..model.links import GOTO, Link, LinkAddress, Rule
from ..model.routes import WIDTH, Prefix
from .rtnetlink import NLMSGHDR, WireError, address_value, attributes, index_value, text_value, u8_value, u32_value

_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_OPERSTATE, _IFLA_LINKINFO = 3, 4, 10, 16, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VRF_TABLE = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY = 1, 2, 3, 4, 6
_FRA_FWMARK, _FRA_FLOW, _FRA_TUN_ID, _FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN = 10, 11, 12, 13, 14
_FRA_TABLE, _FRA_FWMASK, _FRA_OIFNAME, _FRA_PAD, _FRA_L3MDEV, _FRA_UID_RANGE = 15, 16, 17, 18, 19, 20
_FRA_PROTOCOL, _FRA_IP_PROTO, _FRA_SPORT_RANGE, _FRA_DPORT_RANGE = 21, 22, 23, 24
#: Attributes of rules that select no packets, or that a Rule has a field for; every other one is a condition.
_NO_CONDITION = frozenset(
    (
        *(0, _FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY, _FRA_FLOW, _FRA_SUPPRESS_PREFIXLEN),
        *(_FRA_TABLE, _FRA_OIFNAME, _FRA_PAD, _FRA_L3MDEV, _FRA_UID_RANGE, _FRA_PROTOCOL, _FRA_FWMASK),
    )
)
_FIB_RULE_INVERT = 2
_NOT_SET = 0xFFFFFFFF
_NONE = struct.pack("=I", _NOT_SET)
_U32_RANGE, _U16_RANGE = struct.Struct("=II"), struct.Struct("=HH")
_RANGES = {_FRA_SPORT_RANGE: "sport", _FRA_DPORT_RANGE: "dport"}
#: IF_OPER_NOTPRESENT, IF_OPER_DOWN and IF_OPER_LOWERLAYERDOWN of RFC 2863: no frame would get out.
_NO_CARRIER = (1, 2, 3)


def decode_link(message: bytes) -> Link:
    """One RTM_NEWLINK or RTM_DELLINK, with its header."""
    _family, _pad, _type, index, flags, _change = _header(_IFINFOMSG, message)
    found = _attributes(_IFINFOMSG, message)
    info = _nested(found, _IFLA_LINKINFO)
    kind = text_value(info.get(_IFLA_INFO_KIND, b""))
    data = _nested(info, _IFLA_INFO_DATA) if kind == "vrf" else {}
    state = u8_value(found[_IFLA_OPERSTATE], "IFLA_OPERSTATE") if _IFLA_OPERSTATE in found else 0
    return Link(
        index=index_value(index),
        name=text_value(found.get(_IFLA_IFNAME, b"")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP) and state not in _NO_CARRIER,
        master=u32_value(found[_IFLA_MASTER], "IFLA_MASTER") if _IFLA_MASTER in found else None,
        kind=kind,
        vrf_table=u32_value(data[_IFLA_VRF_TABLE], "IFLA_VRF_TABLE") if _IFLA_VRF_TABLE in data else None,
        mtu=u32_value(found[_IFLA_MTU], "IFLA_MTU") if _IFLA_MTU in found else 0,
    )


def decode_address(message: bytes) -> LinkAddress:
    """One RTM_NEWADDR or RTM_DELADDR, with its header."""
    family, length, _flags, _scope, index = _header(_IFADDRMSG, message)
    found = _attributes(_IFADDRMSG, message)
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where there is one, is always ours.
    payload = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b""))
    return LinkAddress(index_value(index), address_value(family, payload), _prefix_length(family, length))


def decode_rule(message: bytes) -> Rule:
    """One RTM_NEWRULE or RTM_DELRULE, with its header."""
    family, to_length, from_length, tos, table, _res1, _res2, action, flags = _header(_FIB_RULE_HDR, message)
    found = _attributes(_FIB_RULE_HDR, message)
    destination = _selector(found, _FRA_DST, family, to_length)
    if destination is not None:
        destination = destination.masked()
    suppress = u32_value(found.get(_FRA_SUPPRESS_PREFIXLEN, _NONE), "FRA_SUPPRESS_PREFIXLEN")
    return Rule(
        family=family,
        priority=u32_value(found[_FRA_PRIORITY], "FRA_PRIORITY") if _FRA_PRIORITY in found else 0,
        table=u32_value(found[_FRA_TABLE], "FRA_TABLE") if _FRA_TABLE in found else table,
        iif=text_value(found.get(_FRA_IIFNAME, b"")),
        source=_selector(found, _FRA_SRC, family, from_length),
        l3mdev=_FRA_L3MDEV in found and u8_value(found[_FRA_L3MDEV], "FRA_L3MDEV") == 1,
        destination=destination,
        oif=text_value(found.get(_FRA_OIFNAME, b"")),
        uids=_range(found[_FRA_UID_RANGE], _U32_RANGE, "FRA_UID_RANGE") if _FRA_UID_RANGE in found else None,
        conditions=_conditions(found, tos),
        invert=bool(flags & _FIB_RULE_INVERT),
        action=action,
        goto=u32_value(found.get(_FRA_GOTO, bytes(4)), "FRA_GOTO") if action == GOTO else None,
        suppress=None if suppress == _NOT_SET else suppress,
    )


def _selector(found: dict[int, bytes], kind: int, family: int, length: int) -> Prefix | None:
    """The prefix after `from` or `to`. The kernel keeps host bits that the user has set; its look-up masks them."""
    if kind not in found or family not in WIDTH:
        return None
    return Prefix(family, address_value(family, found[kind]).value, _prefix_length(family, length))


def _conditions(found: dict[int, bytes], tos: int) -> tuple[str, ...]:
    """What else a packet has to have, in the words of ip-rule(8)."""
    words = [f"tos {tos:#x}"] if tos else []
    if _FRA_FWMARK in found or _FRA_FWMASK in found:
        mark = u32_value(found.get(_FRA_FWMARK, bytes(4)), "FRA_FWMARK")
        mask = u32_value(found.get(_FRA_FWMASK, _NONE), "FRA_FWMASK")
        words.append(f"fwmark {mark:#x}" + ("" if mask == _NOT_SET else f"/{mask:#x}"))
    for kind, payload in sorted(found.items()):
        if kind in _NO_CONDITION or kind == _FRA_FWMARK:
            continue
        if kind == _FRA_SUPPRESS_IFGROUP:
            group = u32_value(payload, "FRA_SUPPRESS_IFGROUP")
            words += [] if group == _NOT_SET else [f"suppress_ifgroup {group}"]
        elif kind == _FRA_TUN_ID:
            words.append(f"tun_id {int.from_bytes(payload, 'big')}")
        elif kind == _FRA_IP_PROTO:
            words.append(f"ipproto {u8_value(payload, 'FRA_IP_PROTO')}")
        elif kind in _RANGES:
            first, last = _range(payload, _U16_RANGE, f"FRA_{_RANGES[kind].upper()}_RANGE")
            words.append(f"{_RANGES[kind]} {first}" + ("" if first == last else f"-{last}"))
        else:
            words.append(f"attribute {kind}")
    return tuple(words)


def _range(payload: bytes, layout: struct.Struct, what: str) -> tuple[int, int]:
    if len(payload) != layout.size:
        raise WireError(f"{what} of {len(payload)} bytes")
    first, last = layout.unpack(payload)
    return first, last


def _header(layout: struct.Struct, message: bytes) -> tuple[int, ...]:
    if len(message) < NLMSGHDR.size + layout.size:
        raise WireError(f"message of {len(message)} bytes, shorter than its header of {NLMSGHDR.size + layout.size}")
    return layout.unpack_from(message, NLMSGHDR.size)


def _attributes(layout: struct.Struct, message: bytes) -> dict[int, bytes]:
    return dict(attributes(message, NLMSGHDR.size + layout.size, len(message)))


def _nested(found: dict[int, bytes], kind: int) -> dict[int, bytes]:
    payload = found.get(kind, b"")
    return dict(attributes(payload, 0, len(payload)))


def _prefix_length(family: int, length: int) -> int:
    if length > WIDTH[family]:
        raise WireError(f"prefix length {length} in family {family}")
    return length
