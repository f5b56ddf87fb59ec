# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links, addresses and rules: against known messages, against pyroute2 as the oracle, and against damaged bytes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link, LinkAddress, Rule
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    WIDTH,
    Address,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.link_codec import (
    decode_address,
    decode_link,
    decode_rule,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.oracle import PAIRS

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
    "not present": (link("eth0", state="NOTPRESENT"), Link(7, "eth0", carrier=False)),
    "dormant": (link("eth0", state="DORMANT"), Link(7, "eth0")),
    "large frames": (link("eth0", IFLA_MTU=9216), Link(7, "eth0", mtu=9216)),
    "veth": (link("eth1", **device("veth")), Link(7, "eth1", kind="veth")),
    "vlan": (link("eth1.5", **device("vlan", ("IFLA_VLAN_ID", 5))), Link(7, "eth1.5", kind="vlan")),
    "vrf of unknown table": (link("red", **device("vrf")), Link(7, "red", kind="vrf")),
    "alternative names": (
        link("eth0", IFLA_PROP_LIST={"attrs": [("IFLA_ALT_IFNAME", "n" * 120), ("IFLA_ALT_IFNAME", "second")]}),
        Link(7, "eth0"),
    ),
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
    "local": (
        encoded(fibmsg, {"family": AF_INET, "table": 255, "action": 1}, ("FRA_TABLE", 255)),
        Rule(AF_INET, 0, 255),
    ),
    "link": (
        encoded(
            fibmsg,
            {"family": AF_INET6, "table": 0, "action": 1},
            ("FRA_PRIORITY", 1000),
            ("FRA_TABLE", 3000),
            ("FRA_IIFNAME", "eth1"),
        ),
        Rule(AF_INET6, 1000, 3000, "eth1"),
    ),
    "source": (
        encoded(fibmsg, {"family": AF_INET, "table": 20, "src_len": 24, "action": 1}, ("FRA_SRC", "192.0.2.0")),
        Rule(AF_INET, 0, 20, source=Prefix.parse("192.0.2.0/24")),
    ),
    "l3mdev": (
        encoded(fibmsg, {"family": AF_INET, "table": 0, "action": 1}, ("FRA_PRIORITY", 1000), ("FRA_L3MDEV", 1)),
        Rule(AF_INET, 1000, 0, l3mdev=True),
    ),
    "wg-quick": (
        encoded(
            fibmsg,
            {"family": AF_INET, "table": 252, "action": 1, "flags": 2},
            *(("FRA_PRIORITY", 32765), ("FRA_TABLE", 51820), ("FRA_FWMARK", 51820), ("FRA_FWMASK", 0xFFFFFFFF)),
            ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF),
        ),
        Rule(AF_INET, 32765, 51820, conditions=("fwmark 0xca6c",), invert=True),
    ),
    "suppress": (
        encoded(fibmsg, {"family": AF_INET, "table": 254, "action": 1}, ("FRA_SUPPRESS_PREFIXLEN", 0)),
        Rule(AF_INET, 0, 254, suppress=0),
    ),
    "goto": (
        encoded(
            fibmsg,
            {"family": AF_INET6, "dst_len": 16, "action": 2},
            *(("FRA_DST", "fd00:1::"), ("FRA_GOTO", 300)),
        ),
        Rule(AF_INET6, 0, 0, destination=Prefix.parse("fd00::/16"), action=2, goto=300),
    ),
    "everything": (
        encoded(
            fibmsg,
            {"family": AF_INET, "table": 20, "tos": 16, "action": 7, "flags": 8},
            *(("FRA_OIFNAME", "eth2"), ("FRA_UID_RANGE", "0:5"), ("FRA_IP_PROTO", 6), ("FRA_TUN_ID", 7)),
            *(("FRA_FWMASK", 255), ("FRA_SPORT_RANGE", "80:80"), ("FRA_DPORT_RANGE", "1:9")),
            ("FRA_SUPPRESS_IFGROUP", 3),
        ),
        Rule(
            *(AF_INET, 0, 20),
            oif="eth2",
            uids=(0, 5),
            conditions=(
                *("tos 0x10", "fwmark 0x0/0xff", "tun_id 7", "suppress_ifgroup 3"),
                *("ipproto 6", "sport 80", "dport 1-9"),
            ),
            action=7,
        ),
    ),
}
CASES = [
    pytest.param(name, message, value, id=f"{name}-{case}")
    for name, cases in (("link", LINKS), ("address", ADDRESSES), ("rule", RULES))
    for case, (message, value) in cases.items()
]


@pytest.mark.parametrize(("name", "message", "value"), CASES)
def test_a_known_message_is_read_by_the_codec_and_by_the_oracle(name: str, message: bytes, value: object) -> None:
    assert PAIRS[name].ours(message) == value
    assert PAIRS[name].theirs(message) == value


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("local", "0: from all lookup local"),
        ("link", "1000: from all iif eth1 lookup 3000"),
        ("source", "0: from 192.0.2.0/24 lookup 20"),
        ("l3mdev", "1000: from all lookup [l3mdev-table]"),
        ("wg-quick", "32765: not from all fwmark 0xca6c lookup 51820"),
        ("suppress", "0: from all lookup main suppress_prefixlength 0"),
        ("goto", "0: from all to fd00::/16 goto 300"),
        (
            "everything",
            (
                "0: from all oif eth2 tos 0x10 fwmark 0x0/0xff tun_id 7 suppress_ifgroup 3 ipproto 6 sport 80 "
                "dport 1-9 uidrange 0-5 unreachable"
            ),
        ),
    ],
)
def test_a_rule_reads_as_ip_rule_prints_it(case: str, words: str) -> None:
    assert RULES[case][1].words == words


# -- any message that a kernel may send, against the oracle -----------------------------------------------------------

U8, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF)
INDEXES = st.integers(0, 0x7FFFFFFF)
FAMILIES = st.sampled_from((AF_INET, AF_INET6))
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15)
#: Attributes that no value has a field for, some of them long, some nested; their numbers are reserved by nobody yet.
UNKNOWN = st.dictionaries(st.integers(0x1000, 0x3FFF), st.binary(max_size=300), max_size=3)
Attributes = dict[int, bytes]


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def known(**strategies: st.SearchStrategy[bytes]) -> st.SearchStrategy[Attributes]:
    """Some of these attributes; each is named `_NUMBER`."""
    numbered = {int(name[1:]): strategy for name, strategy in strategies.items()}
    return st.fixed_dictionaries({}, optional=numbered)


def nested(inner: st.SearchStrategy[Attributes]) -> st.SearchStrategy[bytes]:
    """By number, as the kernel writes them: pyroute2 reads IFLA_INFO_DATA only after IFLA_INFO_KIND."""
    return inner.map(lambda found: b"".join(rtnetlink.attribute(*item) for item in sorted(found.items())))


@st.composite
def messages(draw: st.DrawFn, kind: int, header: bytes, parts: st.SearchStrategy[Attributes]) -> bytes:
    """Attributes in any order, among unknown ones, with and without the bit that marks a nested one."""
    found = {**draw(parts), **draw(UNKNOWN)}
    marks = st.sampled_from((0, 0x8000))
    body = [rtnetlink.attribute(number | draw(marks), found[number]) for number in draw(st.permutations(list(found)))]
    return rtnetlink.request(kind, 0, header + b"".join(body))


def device_data(kind: str) -> st.SearchStrategy[bytes]:
    """IFLA_INFO_DATA of a kind of link: IFLA_VRF_TABLE, IFLA_VLAN_ID, IFLA_MACVLAN_MODE, IFLA_BR_FORWARD_DELAY."""
    numbers: dict[str, Any] = {"vrf": U32.map(u32), "vlan": st.binary(min_size=2, max_size=2)}
    return nested(known(_1=numbers.get(kind, U32.map(u32))))


@st.composite
def link_messages(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(("vrf", "vrf", "veth", "bridge", "vlan", "macvlan", "some-kind-of-the-future")))
    info = st.just(text(kind)).flatmap(lambda name: nested(known(_1=st.just(name), _2=device_data(kind))))
    header = struct.pack("=BBHiII", 0, 0, draw(st.integers(0, 0xFFFF)), draw(INDEXES), draw(U32), draw(U32))
    parts = known(
        _1=st.binary(min_size=6, max_size=6),  # IFLA_ADDRESS
        _3=NAMES.map(text),
        _4=U32.map(u32),
        _10=INDEXES.map(u32),
        _13=U32.map(u32),  # IFLA_TXQLEN
        _16=st.integers(0, 6).map(lambda state: bytes((state,))),
        _18=info,
        _20=NAMES.map(text),  # IFLA_IFALIAS
        _52=nested(known(_53=NAMES.map(text))),  # IFLA_PROP_LIST
    )
    return draw(messages(draw(st.sampled_from((16, 17))), header, parts))


def packed(family: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=WIDTH[family] // 8, max_size=WIDTH[family] // 8)


@st.composite
def address_messages(draw: st.DrawFn) -> bytes:
    family = draw(FAMILIES)
    header = struct.pack("=BBBBI", family, draw(st.integers(0, WIDTH[family])), draw(U8), draw(U8), draw(INDEXES))
    both = known(_2=packed(family), _3=NAMES.map(text), _4=packed(family), _6=st.binary(min_size=16, max_size=16))
    address = packed(family).flatmap(lambda value: both.map(lambda found: {1: value, **found}))
    return draw(messages(draw(st.sampled_from((20, 21))), header, address))


@st.composite
def rule_messages(draw: st.DrawFn) -> bytes:
    family = draw(FAMILIES)
    length = draw(st.integers(0, WIDTH[family]))
    to_length = draw(st.integers(0, WIDTH[family]))
    header = struct.pack("=BBBBBBBBI", family, to_length, length, draw(U8), draw(U8), 0, 0, draw(U8), draw(U32))
    parts = known(
        _1=packed(family),  # FRA_DST
        _2=packed(family),
        _3=NAMES.map(text),
        _6=U32.map(u32),
        _4=U32.map(u32),  # FRA_GOTO
        _10=U32.map(u32),  # FRA_FWMARK
        _12=st.binary(min_size=8, max_size=8),  # FRA_TUN_ID
        _13=(U32 | st.just(0xFFFFFFFF)).map(u32),  # FRA_SUPPRESS_IFGROUP
        _14=(U32 | st.just(0xFFFFFFFF)).map(u32),  # FRA_SUPPRESS_PREFIXLEN
        _15=U32.map(u32),
        _17=NAMES.map(text),  # FRA_OIFNAME
        _19=U8.map(lambda number: bytes((number,))),
        _16=(U32 | st.just(0xFFFFFFFF)).map(u32),  # FRA_FWMASK
        _20=st.binary(min_size=8, max_size=8),  # FRA_UID_RANGE
        _22=U8.map(lambda number: bytes((number,))),  # FRA_IP_PROTO
        _23=st.binary(min_size=4, max_size=4),  # FRA_SPORT_RANGE
        _24=st.binary(min_size=4, max_size=4),  # FRA_DPORT_RANGE
    )
    return draw(messages(draw(st.sampled_from((32, 33))), header, parts))


@given(link_messages())
def test_any_link_is_read_as_pyroute2_reads_it(message: bytes) -> None:
    assert PAIRS["link"].ours(message) == PAIRS["link"].theirs(message)


@given(address_messages())
def test_any_address_is_read_as_pyroute2_reads_it(message: bytes) -> None:
    assert PAIRS["address"].ours(message) == PAIRS["address"].theirs(message)


@given(rule_messages())
def test_any_rule_is_read_as_pyroute2_reads_it(message: bytes) -> None:
    assert PAIRS["rule"].ours(message) == PAIRS["rule"].theirs(message)


# -- damaged and random bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "message", "value"), CASES)
def test_a_truncated_message_is_an_error_or_lacks_attributes(name: str, message: bytes, value: object) -> None:
    for end in range(len(message)):
        try:
            PAIRS[name].ours(message[:end])
        except rtnetlink.WireError:
            continue
        assert end >= rtnetlink.NLMSGHDR.size  # cut between two attributes: those before it have been read


def test_an_address_of_the_wrong_length_is_an_error() -> None:
    message = ADDRESSES["ipv4"][0]
    with pytest.raises(rtnetlink.WireError, match="an address of 4 bytes in family 10"):
        decode_address(message[:16] + bytes([AF_INET6]) + message[17:])


def test_an_address_of_another_family_is_an_error() -> None:
    message = ADDRESSES["ipv4"][0]
    with pytest.raises(rtnetlink.WireError, match="an address of 4 bytes in family 45"):
        decode_address(message[:16] + bytes([45]) + message[17:])


def message(kind: int, header: bytes, *attributes: tuple[int, bytes]) -> bytes:
    return rtnetlink.request(kind, 0, header + b"".join(rtnetlink.attribute(*attribute) for attribute in attributes))


IFINFOMSG = struct.pack("=BBHiII", 0, 0, 1, 7, 0, 0)
FIB_RULE_HDR = struct.pack("=BBBBBBBBI", AF_INET, 0, 24, 0, 254, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        ((4, b"\0\0"), "IFLA_MTU of 2 bytes"),
        ((10, b""), "IFLA_MASTER of 0 bytes"),
        ((16, b""), "IFLA_OPERSTATE of 0 bytes"),
        ((16, u32(6)), "IFLA_OPERSTATE of 4 bytes"),
        ((18, b"\3\0\1\0"), "attribute 1 of 3 bytes"),
        (
            (18, rtnetlink.attribute(1, b"vrf\0") + rtnetlink.attribute(2, rtnetlink.attribute(1, bytes(8)))),
            "IFLA_VRF_TABLE of 8 bytes",
        ),
    ],
)
def test_a_link_attribute_of_the_wrong_size_is_an_error(attribute: tuple[int, bytes], found: str) -> None:
    with pytest.raises(rtnetlink.WireError, match=found):
        decode_link(message(rtnetlink.RTM_NEWLINK, IFINFOMSG, attribute))


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        ((2, bytes(16)), "an address of 16 bytes in family 2"),
        ((6, b"\0"), "FRA_PRIORITY of 1 bytes"),
        ((15, b"\0\0"), "FRA_TABLE of 2 bytes"),
        ((19, u32(1)), "FRA_L3MDEV of 4 bytes"),
        ((1, bytes(16)), "an address of 16 bytes in family 2"),
        ((10, b"\0"), "FRA_FWMARK of 1 bytes"),
        ((14, b""), "FRA_SUPPRESS_PREFIXLEN of 0 bytes"),
        ((20, bytes(4)), "FRA_UID_RANGE of 4 bytes"),
        ((23, bytes(8)), "FRA_SPORT_RANGE of 8 bytes"),
    ],
)
def test_a_rule_attribute_of_the_wrong_size_is_an_error(attribute: tuple[int, bytes], found: str) -> None:
    with pytest.raises(rtnetlink.WireError, match=found):
        decode_rule(message(rtnetlink.RTM_NEWRULE, FIB_RULE_HDR, attribute))


def test_a_prefix_length_beyond_the_familys_width_is_an_error() -> None:
    rule = FIB_RULE_HDR[:2] + b"\x21" + FIB_RULE_HDR[3:]
    with pytest.raises(rtnetlink.WireError, match="prefix length 33 in family 2"):
        decode_rule(message(rtnetlink.RTM_NEWRULE, rule, (2, bytes(4))))
    with pytest.raises(rtnetlink.WireError, match="prefix length 33 in family 2"):
        decode_address(message(rtnetlink.RTM_NEWADDR, struct.pack("=BBBBI", AF_INET, 33, 0, 0, 7), (1, bytes(4))))


def test_a_negative_ifindex_is_an_error() -> None:
    with pytest.raises(rtnetlink.WireError, match="ifindex -1 is out of range"):
        decode_link(message(rtnetlink.RTM_NEWLINK, struct.pack("=BBHiII", 0, 0, 1, -1, 0, 0)))
    with pytest.raises(rtnetlink.WireError, match="ifindex 4294967295 is out of range"):
        decode_address(
            message(rtnetlink.RTM_NEWADDR, struct.pack("=BBBBI", AF_INET, 24, 0, 0, 0xFFFFFFFF), (1, bytes(4)))
        )


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_wire_error_in_any_decoder(data: bytes) -> None:
    for pair in PAIRS.values():
        try:
            pair.ours(data)
        except rtnetlink.WireError as error:
            assert str(error)


def test_names_that_are_not_utf8_stay_distinct() -> None:
    names = {
        decode_link(message(rtnetlink.RTM_NEWLINK, IFINFOMSG, (3, b"x" + bytes((byte, 0))))).name
        for byte in (0xFE, 0xFF)
    }
    assert names == {"x\\xfe", "x\\xff"}
