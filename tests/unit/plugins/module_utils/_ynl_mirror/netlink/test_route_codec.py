# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Route messages: against pyroute2 as the oracle, and against damaged and random bytes."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    DISCARD_TYPES,
    RTN_BLACKHOLE,
    RTN_UNICAST,
    RTNH_F_DEAD,
    RTNH_F_ONLINK,
    WIDTH,
    Address,
    NextHop,
    Path,
    Prefix,
    Route,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import (
    ForeignFamily,
    RouteReader,
    RouteWriter,
    decode_route,
    encode_route,
    with_route_flags,
)

U32 = st.integers(0, 0xFFFFFFFF)
BYTE = st.integers(0, 255)
FAMILIES = st.sampled_from((AF_INET, AF_INET6))


def addresses(family: int) -> st.SearchStrategy[Address]:
    return st.integers(1, (1 << WIDTH[family]) - 1).map(lambda value: Address(family, value))


@st.composite
def prefixes(draw: Any, family: int) -> Prefix:
    length = draw(st.integers(0, WIDTH[family]))
    host = WIDTH[family] - length
    return Prefix(family, draw(st.integers(0, (1 << WIDTH[family]) - 1)) >> host << host, length)


@st.composite
def hops(draw: Any, family: int, single: bool) -> NextHop:
    other = AF_INET6 if family == AF_INET else AF_INET
    gateway = draw(st.none() | addresses(family) | addresses(other))
    oif = draw(st.integers(1, 0x7FFFFFFF) if gateway is None else st.none() | st.integers(1, 0x7FFFFFFF))
    return NextHop(gateway, oif, 1 if single else draw(st.integers(1, 256)), draw(st.booleans()))


@st.composite
def routes(draw: Any) -> Route:
    family = draw(FAMILIES)
    kind = draw(st.sampled_from((RTN_UNICAST, RTN_BLACKHOLE, 7, 8)))
    count = 0 if kind in DISCARD_TYPES else draw(st.integers(1, 4))
    path = Path(
        family,
        table=draw(st.integers(1, 0xFFFFFFFF)),
        type=kind,
        protocol=draw(BYTE),
        scope=draw(BYTE),
        tos=draw(BYTE),
        metric=draw(U32),
        src=draw(st.none() | addresses(family)),
        mtu=draw(st.none() | st.integers(1, 0xFFFF)),
        nexthops=tuple(draw(hops(family, count == 1)) for _count in range(count)),
    )
    return Route(draw(prefixes(family)), path)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
@pytest.mark.parametrize("text", ["", "rule 220: from 10.0.0.0/8 lookup 220 may apply", "grün " * 80, "x" * 300])
def test_a_reason_travels_with_the_route_as_far_as_it_fits(family: int, text: str) -> None:
    path = Path(family, type=11, reason=text)
    key = Prefix(family, 0, 0).key
    message = RouteWriter(rtnetlink.RTM_NEWROUTE, 0).message(key, path)
    reader = RouteReader()
    (first,), (second,) = reader.routes(message), reader.routes(message)
    assert first.path is second.path
    assert first.path.reason is not None
    assert text.startswith(first.path.reason)
    size = len(first.path.reason.encode())
    assert size == len(text.encode()) or 252 <= size <= 255
    assert (first.key, first.path.with_nexthops()) == (key, Path(family, type=11, reason=first.path.reason))
    assert path != Path(family, type=11)
    assert hash(first.path) == hash(Path(family, type=11, reason=first.path.reason))


@pytest.mark.parametrize(
    ("payload", "found"),
    [(b"", ""), (b"no end", "no end"), (b"\xff\0", "\\xff"), (b"one\0two\0", "one"), (b"x" * 5000, "x" * 255)],
)
def test_a_strange_reason_is_no_error(payload: bytes, found: str) -> None:
    message = encode_route(Route(Prefix(AF_INET, 0, 0), Path(AF_INET)), rtnetlink.RTM_NEWROUTE, 0)
    message = rtnetlink.request(24, 0, message[16:] + rtnetlink.attribute(rtnetlink.RTA_REASON, payload))
    assert decode_route(message, 0, len(message))[1].reason == found


def gateway_of(part: Any) -> str | None:
    via = part.get_attr("RTA_VIA")
    return via["addr"] if via else part.get_attr("RTA_GATEWAY")


@given(routes())
def test_pyroute2_reads_our_messages(route: Route) -> None:
    message = rtmsg(encode_route(route, rtnetlink.RTM_NEWROUTE, rtnetlink.NLM_F_REQUEST | rtnetlink.NLM_F_CREATE))
    message.decode()
    path = route.path
    assert (message["header"]["type"], message["header"]["flags"]) == (24, 0x401)
    assert message["header"]["length"] == len(encode_route(route, 24, 0x401))
    assert (message["family"], message["dst_len"]) == (path.family, route.prefix.length)
    assert (message["proto"], message["scope"], message["tos"], message["type"]) == (
        *(path.protocol, path.scope, path.tos, path.type),
    )
    assert message["table"] == (path.table if path.table < 256 else 252)
    assert Address.parse(message.get_attr("RTA_DST")).value == route.prefix.value
    assert message.get_attr("RTA_TABLE") == path.table
    assert (message.get_attr("RTA_PRIORITY") or 0) == path.metric
    source = message.get_attr("RTA_PREFSRC")
    assert (Address.parse(source) if source else None) == path.src
    metrics = message.get_attr("RTA_METRICS")
    assert (metrics.get_attr("RTAX_MTU") if metrics else None) == path.mtu
    read = message.get_attr("RTA_MULTIPATH") or []
    if len(path.nexthops) > 1:
        assert [hop["oif"] for hop in read] == [hop.oif or 0 for hop in path.nexthops]
        assert [hop["hops"] + 1 for hop in read] == [hop.weight for hop in path.nexthops]
        assert [bool(hop["flags"] & RTNH_F_ONLINK) for hop in read] == [hop.onlink for hop in path.nexthops]
    elif path.nexthops:
        read = [message]
        assert message.get_attr("RTA_OIF") == path.nexthops[0].oif
        assert bool(message["flags"] & RTNH_F_ONLINK) == path.nexthops[0].onlink
    found = [Address.parse(text) if text else None for text in map(gateway_of, read)]
    assert found == [hop.gateway for hop in path.nexthops]


def pyroute2_hop(hop: NextHop, family: int) -> list[tuple[str, Any]]:
    if hop.gateway is None:
        return []
    if hop.gateway.family == family:
        return [("RTA_GATEWAY", str(hop.gateway))]
    return [("RTA_VIA", {"family": hop.gateway.family, "addr": str(hop.gateway)})]


def pyroute2_message(route: Route) -> bytes:
    path = route.path
    message = rtmsg()
    message["header"]["type"] = 24
    for name, value in (
        ("family", path.family),
        ("dst_len", route.prefix.length),
        ("tos", path.tos),
        ("table", 252),
        ("proto", path.protocol),
        ("scope", path.scope),
        ("type", path.type),
    ):
        message[name] = value
    attrs: list[tuple[str, Any]] = [("RTA_DST", str(Address(path.family, route.prefix.value)))]
    attrs += [("RTA_TABLE", path.table), ("RTA_PRIORITY", path.metric)]
    if path.src:
        attrs.append(("RTA_PREFSRC", str(path.src)))
    if path.mtu:
        attrs.append(("RTA_METRICS", {"attrs": [("RTAX_MTU", path.mtu)]}))
    if len(path.nexthops) == 1:
        message["flags"] = RTNH_F_ONLINK if path.nexthops[0].onlink else 0
        attrs += pyroute2_hop(path.nexthops[0], path.family)
        attrs += [("RTA_OIF", path.nexthops[0].oif)] if path.nexthops[0].oif else []
    elif path.nexthops:
        attrs.append(
            (
                "RTA_MULTIPATH",
                [
                    {
                        "oif": hop.oif or 0,
                        "hops": hop.weight - 1,
                        "flags": RTNH_F_ONLINK if hop.onlink else 0,
                        "attrs": pyroute2_hop(hop, path.family),
                    }
                    for hop in path.nexthops
                ],
            )
        )
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data)


@given(routes())
def test_we_read_the_messages_of_pyroute2(route: Route) -> None:
    message = pyroute2_message(route)
    prefix, path = decode_route(message, 0, len(message))
    assert Route(prefix, path) == route


@given(st.lists(routes(), min_size=1, max_size=20))
def test_reader_and_writer_agree_on_many_routes(many: list[Route]) -> None:
    writer = RouteWriter(rtnetlink.RTM_NEWROUTE, 0)
    buffer = b"".join(writer.batch([(route.prefix.key, route.path) for route in many]))
    reader = RouteReader()
    for _count in range(2):  # the second time from templates
        found = list(reader.routes(buffer))
        assert [Route(Prefix.from_key(m.path.family, m.key), m.path) for m in found] == many
    interned: dict[Path, Path] = {}
    for message in found:
        assert interned.setdefault(message.path, message.path) is message.path


@given(routes(), routes())
def test_templates_decode_what_the_full_decoder_decodes(one: Route, other: Route) -> None:
    """Also with a message of another layout in between, which must not match a template."""
    reader = RouteReader()
    for route in (one, other, one):
        for message in (encode_route(route, 24, 0), pyroute2_message(route)):
            key, path = reader.read(message, 0, len(message))
            assert Route(Prefix.from_key(path.family, key), path) == route


def test_dead_hops_are_part_of_the_path_only_on_request() -> None:
    gone, left = NextHop(Address.parse("192.0.2.1"), 2), NextHop(Address.parse("192.0.2.2"), 3)
    path = Path(AF_INET, nexthops=(gone, left))
    message = bytearray(encode_route(Route(Prefix.parse("10.0.0.0/8"), path), 24, 0))
    first = message.index(struct.pack("=HBBi", 16, 0, 0, 2))
    message[first + 2] = RTNH_F_DEAD
    read = decode_route(bytes(message), 0, len(message))[1]
    assert (read.nexthops, read.dead_links, read.links) == ((left,), (2,), {2, 3})
    assert decode_route(bytes(message), 0, len(message), dead_hops=True)[1].nexthops == (gone, left)


def test_a_route_whose_only_hop_is_dead_is_marked() -> None:
    path = Path(AF_INET, nexthops=(NextHop(None, 2),))
    message = with_route_flags(encode_route(Route(Prefix.parse("10.0.0.0/8"), path), 24, 0), RTNH_F_DEAD)
    assert decode_route(message, 0, len(message))[1].extras == ("dead",)
    assert decode_route(message, 0, len(message), dead_hops=True)[1] == path


@pytest.mark.parametrize("attribute", [rtnetlink.RTA_ENCAP, rtnetlink.RTA_NEWDST, rtnetlink.RTA_IIF])
def test_attributes_that_a_path_has_no_field_for_are_named(attribute: int) -> None:
    message = encode_route(Route(Prefix.parse("10.0.0.0/8"), Path(AF_INET, nexthops=(NextHop(None, 2),))), 24, 0)
    message += rtnetlink.attribute(attribute, b"\0\0\0\1")
    message = struct.pack("=I", len(message)) + message[4:]
    assert len(decode_route(message, 0, len(message))[1].extras) == 1


def test_attributes_that_a_hop_has_no_field_for_are_named() -> None:
    path = Path(AF_INET, nexthops=(NextHop(Address.parse("192.0.2.1"), 2), NextHop(Address.parse("192.0.2.2"), 3)))
    message = encode_route(Route(Prefix.parse("10.0.0.0/8"), path), 24, 0)
    extra = rtnetlink.attribute(rtnetlink.RTA_ENCAP, b"") + rtnetlink.attribute(
        21, b"\1\0"
    )  # behind the last hop, and inside it
    at = message.index(struct.pack("=HBBi", 16, 0, 0, 3))
    outer = at - 16 - 4
    message = message[:at] + struct.pack("=H", 16 + len(extra)) + message[at + 2 :] + extra
    message = message[:outer] + struct.pack("=H", 4 + 32 + len(extra)) + message[outer + 2 :]
    message = struct.pack("=I", len(message)) + message[4:]
    assert decode_route(message, 0, len(message))[1] == replace(path, extras=("encap",))


def test_a_route_of_another_family_is_handed_over_as_no_route_of_ours() -> None:
    ours = encode_route(Route(Prefix.parse("10.0.0.0/8"), Path(AF_INET, nexthops=(NextHop(None, 2),))), 24, 0)
    label = rtnetlink.request(
        24, 0, struct.pack("=BBBBBBBBI", 28, 20, 0, 0, 254, 11, 0, 1, 0) + b"\x08\0\1\0\0\0\x64\1"
    )
    multicast = rtnetlink.request(25, 0, struct.pack("=BBBBBBBBI", 128, 32, 32, 0, 254, 17, 0, 5, 0))
    found = list(RouteReader().scan(label + ours + multicast))
    assert [(kind, path is None) for kind, _flags, _start, _end, _key, path in found] == [
        (24, True),
        (24, False),
        (25, True),
    ]
    assert len(list(RouteReader().routes(label + ours + multicast))) == 1
    with pytest.raises(ForeignFamily, match="address family 28"):
        decode_route(label, 0, len(label))


# -- damaged and random bytes -----------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_raise_nothing_but_wire_error(data: bytes) -> None:
    for walk in (
        lambda: list(RouteReader().routes(data)),
        lambda: decode_route(data, 0, len(data)),
        lambda: RouteReader().read(data, 0, len(data)),
    ):
        try:
            walk()
        except rtnetlink.WireError as error:
            assert str(error)


@given(routes(), st.data())
@settings(max_examples=300)
def test_a_damaged_message_raises_nothing_but_wire_error(route: Route, data: st.DataObject) -> None:
    message = bytearray(encode_route(route, 24, 0))
    for _count in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(BYTE)
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])
    reader = RouteReader()
    for buffer in (bytes(message), cut):
        for _count in range(2):
            try:
                list(reader.routes(buffer))
            except rtnetlink.WireError as error:
                assert str(error)


def test_a_prefix_with_host_bits_is_refused() -> None:
    message = bytearray(encode_route(Route(Prefix.parse("10.0.0.0/8"), Path(AF_INET)), 24, 0))
    message[message.index(b"\x0a\0\0\0") + 3] = 1
    with pytest.raises(rtnetlink.WireError, match=r"10\.0\.0\.1/8 has host bits set"):
        decode_route(bytes(message), 0, len(message))
