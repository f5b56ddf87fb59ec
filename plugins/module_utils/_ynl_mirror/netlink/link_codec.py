# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Link, address and rule messages -> values.

They are few and seldom, so pyroute2 does the decoding; only routes have a decoder of their own (route_codec.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ..model.links import Link, LinkAddress, Rule
from ..model.routes import AF_INET, WIDTH, Address, Prefix
from .rtnetlink import NLMSGHDR, WireError

try:
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
except ImportError:  # daemons refuse to start without it; modules bring this file along and do without (plain_links)
    fibmsg = ifaddrmsg = ifinfmsg = None

IFF_UP = 0x1
IFF_LOWER_UP = 0x10000
#: IF_OPER_DOWN and IF_OPER_LOWERLAYERDOWN of RFC 2863: no frame would get out.
_NO_CARRIER = ("DOWN", "LOWERLAYERDOWN", "NOTPRESENT")

Value = TypeVar("Value", Link, LinkAddress, Rule)
Decoder = Callable[[bytes], Value]


def _refusing(decode: Decoder[Value]) -> Decoder[Value]:
    """The same decoder, with WireError for whatever pyroute2 raises about bytes that are no such message."""

    @functools.wraps(decode)
    def decoded(message: bytes) -> Value:
        try:
            return decode(message)
        except WireError:
            raise
        except Exception as error:  # of many kinds, and some only when an attribute is asked for
            raise WireError(f"{decode.__name__}: not such a message: {type(error).__name__}: {error}") from None

    return decoded


def _fields(kind: Any, message: bytes) -> Any:
    if len(message) < NLMSGHDR.size:
        raise WireError(f"netlink message of {len(message)} bytes")
    found = kind(message)
    found.decode()
    return found


@_refusing
def decode_link(message: bytes) -> Link:
    """One RTM_NEWLINK or RTM_DELLINK, with its header."""
    link = _fields(ifinfmsg, message)
    info = link.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
    table: int | None = None
    if kind == "vrf":
        data = info.get_attr("IFLA_INFO_DATA")
        table = data.get_attr("IFLA_VRF_TABLE") if data else None
    return Link(
        index=link["index"],
        name=link.get_attr("IFLA_IFNAME") or "",
        up=bool(link["flags"] & IFF_UP),
        carrier=link.get_attr("IFLA_OPERSTATE") not in _NO_CARRIER and bool(link["flags"] & IFF_LOWER_UP),
        master=link.get_attr("IFLA_MASTER"),
        kind=kind,
        vrf_table=table,
        mtu=link.get_attr("IFLA_MTU") or 0,
    )


@_refusing
def decode_address(message: bytes) -> LinkAddress:
    """One RTM_NEWADDR or RTM_DELADDR, with its header."""
    found = _fields(ifaddrmsg, message)
    # On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where there is one, is always ours.
    text = found.get_attr("IFA_LOCAL") or found.get_attr("IFA_ADDRESS")
    return LinkAddress(found["index"], Address.parse(text), found["prefixlen"])


@_refusing
def decode_rule(message: bytes) -> Rule:
    """One RTM_NEWRULE or RTM_DELRULE, with its header."""
    found = _fields(fibmsg, message)
    family = found["family"]
    source = found.get_attr("FRA_SRC")
    table = found.get_attr("FRA_TABLE")
    return Rule(
        family=family,
        priority=found.get_attr("FRA_PRIORITY") or 0,
        table=found["table"] if table is None else table,
        iif=found.get_attr("FRA_IIFNAME") or "",
        source=Prefix(family, Address.parse(source).value, found["src_len"]) if source and family in WIDTH else None,
        l3mdev=found.get_attr("FRA_L3MDEV") == 1,
    )


def family_of(message: bytes) -> int:
    """The address family that an address, rule or route message speaks of."""
    return message[16] if len(message) > 16 else AF_INET
