# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and rules read without pyroute2, held against what pyroute2 writes and reads."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    Address,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import (
    link_codec,
    plain_links,
    rtnetlink,
)

IFF_UP, IFF_LOWER_UP = 0x1, 0x10000


def encoded(kind: Any, fields: dict[str, Any], *attributes: tuple[str, Any]) -> bytes:
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message.encode()
    return bytes(message.data)


def link(name: str, flags: int = IFF_UP | IFF_LOWER_UP, state: str = "UP", **more: Any) -> bytes:
    attributes = [("IFLA_IFNAME", name), ("IFLA_OPERSTATE", state), *more.items()]
    return encoded(ifinfmsg, {"family": 0, "index": 7, "flags": flags}, *attributes)


def device(kind: str, *data: tuple[str, Any]) -> dict[str, Any]:
    info = [("IFLA_INFO_KIND", kind), *([("IFLA_INFO_DATA", {"attrs": list(data)})] if data else [])]
    return {"IFLA_LINKINFO": {"attrs": info}}


LINKS: dict[str, tuple[bytes, Link]] = {
    "hardware": (link("eth0"), Link(7, "eth0")),
    "down": (link("eth0", flags=0, state="DOWN"), Link(7, "eth0", up=False, carrier=False)),
    "no carrier": (link("eth0", flags=IFF_UP, state="DOWN"), Link(7, "eth0", carrier=False)),
    "lower layer down": (link("eth0", state="LOWERLAYERDOWN"), Link(7, "eth0", carrier=False)),
    "member": (link("eth1", IFLA_MASTER=3), Link(7, "eth1", master=3)),
    "veth": (link("eth1", **device("veth")), Link(7, "eth1", kind="veth")),
    "vrf": (
        link("red", **device("vrf", ("IFLA_VRF_TABLE", 4_000_000_000))),
        Link(7, "red", kind="vrf", vrf_table=4_000_000_000),
    ),
}
ADDRESSES: dict[str, tuple[bytes, LinkAddress]] = {
    "ipv4": (
        encoded(ifaddrmsg, {"family": AF_INET, "prefixlen": 24, "index": 3}, ("IFA_ADDRESS", "192.0.2.1")),
        LinkAddress(3, Address.parse("192.0.2.1"), 24),
    ),
    "peer": (
        encoded(
            ifaddrmsg,
            {"family": AF_INET, "prefixlen": 32, "index": 3},
            ("IFA_ADDRESS", "192.0.2.2"),
            ("IFA_LOCAL", "192.0.2.1"),
        ),
        LinkAddress(3, Address.parse("192.0.2.1"), 32),
    ),
    "ipv6": (
        encoded(ifaddrmsg, {"family": AF_INET6, "prefixlen": 64, "index": 3}, ("IFA_ADDRESS", "fd00:1::1")),
        LinkAddress(3, Address.parse("fd00:1::1"), 64),
    ),
}
RULES: dict[str, tuple[bytes, Rule]] = {
    "local": (encoded(fibmsg, {"family": AF_INET, "table": 255}, ("FRA_TABLE", 255)), Rule(AF_INET, 0, 255)),
    "link": (
        encoded(
            fibmsg,
            {"family": AF_INET6, "table": 0},
            ("FRA_PRIORITY", 1000),
            ("FRA_TABLE", 3000),
            ("FRA_IIFNAME", "eth1"),
        ),
        Rule(AF_INET6, 1000, 3000, "eth1"),
    ),
    "source": (
        encoded(fibmsg, {"family": AF_INET, "table": 20, "src_len": 24}, ("FRA_SRC", "192.0.2.0")),
        Rule(AF_INET, 0, 20, source=Prefix.parse("192.0.2.0/24")),
    ),
    "l3mdev": (
        encoded(fibmsg, {"family": AF_INET, "table": 0}, ("FRA_PRIORITY", 1000), ("FRA_L3MDEV", 1)),
        Rule(AF_INET, 1000, 0, l3mdev=True),
    ),
}
CASES = [
    pytest.param(name, message, value, id=f"{name}-{case}")
    for name, cases in (("decode_link", LINKS), ("decode_address", ADDRESSES), ("decode_rule", RULES))
    for case, (message, value) in cases.items()
]


@pytest.mark.parametrize(("name", "message", "value"), CASES)
def test_both_read_the_same(name: str, message: bytes, value: object) -> None:
    assert getattr(plain_links, name)(message) == value
    assert getattr(link_codec, name)(message) == value


@pytest.mark.parametrize(("name", "message", "value"), CASES)
def test_bytes_cut_short_are_an_error_or_less(name: str, message: bytes, value: object) -> None:
    for end in range(len(message)):
        try:
            getattr(plain_links, name)(message[:end])
        except rtnetlink.WireError:
            continue
        # Cut between two attributes: what is there has been read.
        assert end >= rtnetlink.NLMSGHDR.size


def test_an_address_of_a_wrong_length_is_an_error() -> None:
    message = ADDRESSES["ipv4"][0]
    with pytest.raises(rtnetlink.WireError, match="an address of 4 bytes in family 10"):
        plain_links.decode_address(message[:16] + bytes([AF_INET6]) + message[17:])
