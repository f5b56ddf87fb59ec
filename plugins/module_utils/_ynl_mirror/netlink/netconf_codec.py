# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages about the sysctls of links (``linux/netconf.h``) <-> values. Pure: bytes in, values out, and back.

The kernel reports a sysctl of forwarding this way only, and a listener passes the same messages on to its agents.
"""

from __future__ import annotations

import struct

from ..model.links import NetConf
from . import rtnetlink
from .rtnetlink import NLMSGHDR, WireError, attribute, attributes

#: struct netconfmsg has one byte. Attributes begin at a multiple of four, and a strict dump request ends there.
_HEADER = 4
_NETCONFA_IFINDEX, _NETCONFA_FORWARDING, _NETCONFA_LINKDOWN = 1, 2, 6
_S32 = struct.Struct("=i")


def decode(message: bytes) -> NetConf:
    """One RTM_NEWNETCONF or RTM_DELNETCONF, with its header. A notification has the sysctl that has changed only."""
    if len(message) <= NLMSGHDR.size:
        raise WireError(f"netconf message of {len(message)} bytes")
    found = dict(attributes(message, NLMSGHDR.size + _HEADER, len(message)))
    return NetConf(
        family=message[NLMSGHDR.size],
        index=_s32(found.get(_NETCONFA_IFINDEX, b""), "NETCONFA_IFINDEX"),
        forwarding=_flag(found, _NETCONFA_FORWARDING, "NETCONFA_FORWARDING"),
        ignores_linkdown=_flag(found, _NETCONFA_LINKDOWN, "NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN"),
    )


def encode(conf: NetConf) -> bytes:
    """The RTM_NEWNETCONF that tells another machine whether a link forwards."""
    body = bytes((conf.family,)) + bytes(_HEADER - 1) + attribute(_NETCONFA_IFINDEX, _S32.pack(conf.index))
    if conf.forwarding is not None:
        body += attribute(_NETCONFA_FORWARDING, _S32.pack(conf.forwarding))
    return rtnetlink.request(rtnetlink.RTM_NEWNETCONF, 0, body)


def dump_request(family: int) -> bytes:
    """A request for the sysctls of all links of a family."""
    flags = rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP
    return rtnetlink.request(rtnetlink.RTM_GETNETCONF, flags, bytes((family,)) + bytes(_HEADER - 1))


def _flag(found: dict[int, bytes], kind: int, what: str) -> bool | None:
    return _s32(found[kind], what) != 0 if kind in found else None


def _s32(payload: bytes, what: str) -> int:
    if len(payload) != _S32.size:
        raise WireError(f"{what} of {len(payload)} bytes")
    return int(_S32.unpack(payload)[0])
