# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pyroute2, which others wrote, as the oracle of link_codec.py: the same values from the same messages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import WIDTH, Address, Prefix
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import link_codec, rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.sockets import Requests

_NO_CARRIER = ("DOWN", "LOWERLAYERDOWN", "NOTPRESENT")


class _Message:
    """A message as pyroute2 reads it; of an attribute that is there twice the last one, as the kernel takes it."""

    def __init__(self, kind: Any, message: bytes) -> None:
        self.fields = kind(message)
        self.fields.decode()

    def get(self, *names: str) -> Any:
        """The value of an attribute, by its name behind those that it is nested in; None when it is not there."""
        slot = self._slot(*names)
        return slot and slot.value

    def text(self, *names: str) -> str:
        """The same of a name. pyroute2 strips NULs at both ends, and hands on as bytes what is no UTF-8."""
        slot = self._slot(*names)
        if slot is None or slot.nla.data[slot.nla.offset + 4 :][:1] == b"\0":
            return ""
        value = slot.value.decode(errors="backslashreplace") if isinstance(slot.value, bytes) else slot.value
        return str(value.split("\0")[0])

    def has(self, name: str) -> bool:
        """Whether the message has an attribute."""
        return self._slot(name) is not None

    def unknown(self) -> set[int]:
        """The numbers of the attributes that pyroute2 does not know."""
        slots = [slot for slot in self.fields["attrs"] if slot.name.startswith("UNKNOWN")]
        return {struct.unpack_from("=H", slot.nla.data, slot.nla.offset + 2)[0] & 0x3FFF for slot in slots}

    def _slot(self, *names: str) -> Any:
        found, slot = self.fields, None
        for name in names:
            slots = [slot for slot in found["attrs"] if slot.name == name] if found else []
            slot = slots[-1] if slots else None
            found = slot and slot.value
        return slot


def link(message: bytes) -> Link:
    """What decode_link has to make of it. Any exception: pyroute2 cannot read the message."""
    found = _Message(ifinfmsg, message)
    kind, flags = found.text("IFLA_LINKINFO", "IFLA_INFO_KIND"), found.fields["flags"]
    return Link(
        index=found.fields["index"],
        name=found.text("IFLA_IFNAME"),
        up=bool(flags & 0x1),
        carrier=found.get("IFLA_OPERSTATE") not in _NO_CARRIER and bool(flags & 0x10000),
        master=found.get("IFLA_MASTER"),
        kind=kind,
        vrf_table=found.get("IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_VRF_TABLE") if kind == "vrf" else None,
        mtu=found.get("IFLA_MTU") or 0,
        lower=found.get("IFLA_LINK") if kind in ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap") else None,
    )


def address(message: bytes) -> LinkAddress:
    """What decode_address has to make of it."""
    found = _Message(ifaddrmsg, message)
    text = found.get("IFA_LOCAL") or found.get("IFA_ADDRESS")
    return LinkAddress(found.fields["index"], Address.parse(text), found.fields["prefixlen"])


def rule(message: bytes) -> Rule:
    """What decode_rule has to make of it."""
    found = _Message(fibmsg, message)
    fields, family, table = found.fields, found.fields["family"], found.get("FRA_TABLE")
    source, destination = (
        Prefix(family, Address.parse(text).value, fields[length]) if text and family in WIDTH else None
        for text, length in ((found.get("FRA_SRC"), "src_len"), (found.get("FRA_DST"), "dst_len"))
    )
    uids, suppress = found.get("FRA_UID_RANGE"), found.get("FRA_SUPPRESS_PREFIXLEN")
    first, _dash, last = (uids or "").partition(":")
    return Rule(
        family=family,
        priority=found.get("FRA_PRIORITY") or 0,
        table=fields["table"] if table is None else table,
        iif=found.text("FRA_IIFNAME"),
        source=source,
        l3mdev=found.get("FRA_L3MDEV") == 1,
        destination=destination and destination.masked(),
        oif=found.text("FRA_OIFNAME"),
        uids=None if uids is None else (int(first), int(last)),
        conditions=tuple(_conditions(found)),
        invert=bool(fields["flags"] & 2),
        action=fields["action"],
        goto=(found.get("FRA_GOTO") or 0) if fields["action"] == 2 else None,
        suppress=None if suppress == 0xFFFFFFFF else suppress,
    )


def _conditions(found: _Message) -> Iterator[str]:
    """The selectors of a rule that a Rule has no field for."""
    if found.fields["tos"]:
        yield f"tos {found.fields['tos']:#x}"
    mark, mask = found.get("FRA_FWMARK"), found.get("FRA_FWMASK")
    if mark is not None or mask is not None:
        yield f"fwmark {mark or 0:#x}" + ("" if mask in (None, 0xFFFFFFFF) else f"/{mask:#x}")
    group = found.get("FRA_SUPPRESS_IFGROUP")
    words = {12: ("tun_id", "FRA_TUN_ID"), 22: ("ipproto", "FRA_IP_PROTO")}
    numbered = {number: f"{word} {found.get(name)}" for number, (word, name) in words.items() if found.has(name)}
    if group not in (None, 0xFFFFFFFF):
        numbered[13] = f"suppress_ifgroup {group}"
    for number, name in ((23, "sport"), (24, "dport")):
        ports = found.get(f"FRA_{name.upper()}_RANGE")
        if ports is not None:
            first, last = ports.split(":")
            numbered[number] = f"{name} {first}" if first == last else f"{name} {first}-{last}"
    numbered.update({number: f"attribute {number}" for number in found.unknown()})
    yield from (numbered[number] for number in sorted(numbered))


class Pair(NamedTuple):
    """A decoder of the project, and the oracle's of the same messages."""

    ours: Callable[[bytes], Any]
    theirs: Callable[[bytes], Any]


PAIRS = {
    "link": Pair(link_codec.decode_link, link),
    "address": Pair(link_codec.decode_address, address),
    "rule": Pair(link_codec.decode_rule, rule),
}
_DUMPS = (
    ("link", rtnetlink.RTM_GETLINK, bytes(16)),
    ("address", rtnetlink.RTM_GETADDR, bytes(8)),
    ("rule", rtnetlink.RTM_GETRULE, bytes((2,)) + bytes(11)),
    ("rule", rtnetlink.RTM_GETRULE, bytes((10,)) + bytes(11)),
)


def kernel_messages(requests: Requests) -> Iterator[tuple[str, bytes]]:
    """All links, IP addresses and rules of a namespace as the kernel writes them: ("link", message), ..."""
    for name, kind, body in _DUMPS:
        request = rtnetlink.request(kind, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_DUMP, body)
        for chunk in requests.dump_whole(request):
            for _kind, _flags, start, end in rtnetlink.messages(chunk):
                message = chunk[start:end]
                if name != "address" or rtnetlink.family_of(message) in WIDTH:
                    yield name, message


def compare_with_kernel(requests: Requests) -> dict[str, list[Any]]:
    """Read everything by both decoders, and compare; the values by kind of message."""
    found: dict[str, list[Any]] = {name: [] for name in PAIRS}
    for name, message in kernel_messages(requests):
        value = PAIRS[name].ours(message)
        assert value == PAIRS[name].theirs(message), message.hex()
        found[name].append(value)
    return found
