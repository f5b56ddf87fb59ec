# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Link, address and rule messages -> values, with nothing but Python: for a machine that has no pyroute2 yet.

The same functions as in link_codec.py, for whoever looks at a machine before anything is installed there; the tests
hold the two against each other. Layout and numbers: ``linux/if_link.h``, ``linux/if_addr.h``, ``linux/fib_rules.h``.
"""

from __future__ import annotations

import struct

from ..model.links import Link, LinkAddress, Rule
from ..model.routes import WIDTH, Address, Prefix
from .rtnetlink import NLMSGHDR, WireError, attributes

_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_FIB_RULE_HDR = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_OPERSTATE, _IFLA_LINKINFO = 3, 4, 10, 16, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VRF_TABLE = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE, _FRA_L3MDEV = 2, 3, 6, 15, 19
#: IF_OPER_NOTPRESENT, IF_OPER_DOWN and IF_OPER_LOWERLAYERDOWN of RFC 2863: no frame would get out.
_NO_CARRIER = (b"\1", b"\2", b"\3")


def decode_link(message: bytes) -> Link:
    """One RTM_NEWLINK or RTM_DELLINK, with its header. WireError when it is cut short."""
    _family, _pad, _type, index, flags, _change = _header(_IFINFOMSG, message)
    found = _attributes(_IFINFOMSG, message)
    info = _nested(found.get(_IFLA_LINKINFO, b""))
    kind = _text(info.get(_IFLA_INFO_KIND, b""))
    data = _nested(info.get(_IFLA_INFO_DATA, b"")) if kind == "vrf" else {}
    state = found.get(_IFLA_OPERSTATE, b"\0")
    return Link(
        index=index,
        name=_text(found.get(_IFLA_IFNAME, b"")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP) and state[:1] not in _NO_CARRIER,
        master=_number(found.get(_IFLA_MASTER)),
        kind=kind,
        vrf_table=_number(data.get(_IFLA_VRF_TABLE)),
        mtu=_number(found.get(_IFLA_MTU)) or 0,
    )


def decode_address(message: bytes) -> LinkAddress:
    """One RTM_NEWADDR or RTM_DELADDR, with its header. WireError when it is cut short."""
    family, length, _flags, _scope, index = _header(_IFADDRMSG, message)
    found = _attributes(_IFADDRMSG, message)
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where there is one, is always ours.
    return LinkAddress(index, _address(family, found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")), length)


def decode_rule(message: bytes) -> Rule:
    """One RTM_NEWRULE or RTM_DELRULE, with its header. WireError when it is cut short."""
    family, _dst, source_length, _tos, table, _res1, _res2, _action, _flags = _header(_FIB_RULE_HDR, message)
    found = _attributes(_FIB_RULE_HDR, message)
    source = found.get(_FRA_SRC)
    wide = _number(found.get(_FRA_TABLE))
    return Rule(
        family=family,
        priority=_number(found.get(_FRA_PRIORITY)) or 0,
        table=table if wide is None else wide,
        iif=_text(found.get(_FRA_IIFNAME, b"")),
        source=Prefix(family, _address(family, source).value, source_length) if source and family in WIDTH else None,
        l3mdev=found.get(_FRA_L3MDEV, b"\0")[:1] == b"\1",
    )


def _header(layout: struct.Struct, message: bytes) -> tuple[int, ...]:
    if len(message) < NLMSGHDR.size + layout.size:
        raise WireError(f"{len(message)} bytes where {NLMSGHDR.size + layout.size} are the least")
    return layout.unpack_from(message, NLMSGHDR.size)


def _attributes(layout: struct.Struct, message: bytes) -> dict[int, bytes]:
    return dict(attributes(message, NLMSGHDR.size + layout.size, len(message)))


def _nested(payload: bytes) -> dict[int, bytes]:
    return dict(attributes(payload, 0, len(payload)))


def _text(payload: bytes) -> str:
    return payload.split(b"\0")[0].decode(errors="replace")


def _number(payload: bytes | None) -> int | None:
    if payload is None:
        return None
    if len(payload) != _U32.size:
        raise WireError(f"a number of {len(payload)} bytes")
    return int(_U32.unpack(payload)[0])


def _address(family: int, payload: bytes) -> Address:
    if len(payload) * 8 != WIDTH.get(family):
        raise WireError(f"an address of {len(payload)} bytes in family {family}")
    return Address(family, int.from_bytes(payload, "big"))
