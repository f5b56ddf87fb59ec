# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nexthop objects: how their messages are decoded, and how routes get next hops from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTNH_F_ONLINK,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink import rtnetlink
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica import nexthops
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.entry import paths_of
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.nexthops import NexthopObject
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.messages import group, nexthop, single, u32

MAIN = 254
KEY = Prefix.parse("10.1.0.0/16").key
ROUTE = Path(AF_INET, nh_id=3)
CREATED = rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL


def hop(text: str, oif: int, weight: int = 1) -> NextHop:
    return NextHop(Address.parse(text), oif, weight)


def test_messages_are_decoded_into_objects() -> None:
    assert nexthops.decode(single(1, "192.0.2.1", 3)) == NexthopObject(1, hop("192.0.2.1", 3))
    assert nexthops.decode(group(3, _1=1, _2=256)) == NexthopObject(3, members=((1, 1), (2, 256)))
    assert nexthops.decode(nexthop(9, rtnetlink.attribute(4, b""))) == NexthopObject(9, blackhole=True)
    onlink = nexthop(5, rtnetlink.attribute(5, u32(4)), flags=RTNH_F_ONLINK)
    assert nexthops.decode(onlink) == NexthopObject(5, NextHop(None, 4, onlink=True))
    encap = nexthop(6, rtnetlink.attribute(5, u32(4)), rtnetlink.attribute(7, b"\1\0"), rtnetlink.attribute(8, b""))
    assert nexthops.decode(encap).encap


@pytest.mark.parametrize(
    "broken",
    [
        rtnetlink.request(rtnetlink.RTM_NEWNEXTHOP, 0, b"\0"),
        rtnetlink.request(rtnetlink.RTM_NEWNEXTHOP, 0, bytes(8)),
        nexthop(1, rtnetlink.attribute(6, b"\1\2\3")),
        nexthop(1, rtnetlink.attribute(2, bytes(7))),
    ],
    ids=["short", "no number", "half an address", "half a member"],
)
def test_a_malformed_message_is_a_wire_error(broken: bytes) -> None:
    with pytest.raises(rtnetlink.WireError):
        nexthops.decode(broken)


def route(kind: int = rtnetlink.RTM_NEWROUTE, path: Path = ROUTE) -> bytes:
    return RouteWriter(kind, CREATED).message(KEY, path)


def held(replica: Replica) -> tuple[Path, ...]:
    return paths_of(replica.rib.tables.get((AF_INET, MAIN), {}).get(KEY))


@pytest.fixture
def replica() -> Replica:
    """Knows objects 1 and 2, their group 3, and a route that uses the group."""
    made = Replica(Rib([MAIN]))
    for message in (single(1, "192.0.2.1", 3), single(2, "fe80::2", 4), group(3, _1=1, _2=5), route()):
        made.apply(message)
    made.rib.recording = True
    return made


def test_a_route_gets_the_hops_of_its_group(replica: Replica) -> None:
    assert [path.nexthops for path in held(replica)] == [(hop("192.0.2.1", 3), hop("fe80::2", 4, 5))]
    assert not replica.rib.objects.missing
    assert not replica.rib.rereads


def test_trap_18_an_unknown_object_is_missing_until_it_is_fetched() -> None:
    replica = Replica(Rib([MAIN]))
    replica.rib.recording = True
    replica.apply(route())
    assert list(replica.rib.objects.missing) == [3]
    assert [path.nexthops for path in held(replica)] == [()]
    replica.rib.take_changed()
    replica.rib.objects.learn(group(3, _1=1))
    replica.rib.resolve()
    assert list(replica.rib.objects.missing) == [1]  # the group's member
    replica.rib.objects.learn(single(1, "192.0.2.1", 3))
    replica.rib.resolve()
    assert not replica.rib.objects.missing
    assert [path.nexthops for path in held(replica)] == [(hop("192.0.2.1", 3),)]
    assert replica.rib.take_changed() == {(AF_INET, MAIN): {KEY}}


def test_trap_18_a_dump_notes_missing_objects() -> None:
    rib = Rib([MAIN])
    reading = rib.reading(Reread(AF_INET, MAIN))
    reading.feed(route())
    reading.finish()
    assert list(rib.objects.missing) == [3]


def test_a_changed_member_causes_a_reread_of_the_routes_of_its_groups(replica: Replica) -> None:
    replica.apply(single(1, "192.0.2.9", 3))
    assert replica.rib.take_rereads() == [Reread(AF_INET, MAIN)]
    reading = replica.rib.reading(Reread(AF_INET, MAIN))
    reading.feed(route())
    reading.finish()
    assert held(replica)[0].nexthops[0] == hop("192.0.2.9", 3)
    assert replica.rib.take_changed() == {(AF_INET, MAIN): {KEY}}


def test_a_link_event_forgets_its_objects_and_their_groups(replica: Replica) -> None:
    replica.rib.objects.forget_link(4)
    assert set(replica.rib.objects.known) == {1}


def test_a_route_deleted_after_its_object_is_found_by_the_objects_number(replica: Replica) -> None:
    replica.apply(single(1, "192.0.2.1", 3, rtnetlink.RTM_DELNEXTHOP))
    replica.rib.take_rereads()
    replica.apply(route(rtnetlink.RTM_DELROUTE))
    assert held(replica) == ()
    assert not replica.rib.rereads


def test_a_blackhole_member_and_an_encapsulation_pass_on_to_the_route() -> None:
    objects = nexthops.Objects()
    objects.learn(nexthop(1, rtnetlink.attribute(4, b"")) + group(3, _1=1))
    assert objects.flattened(ROUTE)[0].type == RTN_BLACKHOLE
    objects.learn(nexthop(2, rtnetlink.attribute(5, u32(4)), rtnetlink.attribute(8, b"")) + group(3, _2=7))
    flat, named = objects.flattened(ROUTE)
    assert (flat.nexthops, flat.extras, named) == ((NextHop(None, 4),), ("encap",), [3, 2])


def test_weights_have_16_bits_and_their_shares_stay_in_the_8_bits_of_a_route() -> None:
    assert nexthops.decode(group(3, _1=1, _2=257, _4=65536)).members == ((1, 1), (2, 257), (4, 65536))
    objects = nexthops.Objects()
    objects.learn(single(1, "192.0.2.1", 3) + single(2, "192.0.2.2", 3))
    for weights, expected in (
        ((1, 256), (1, 256)),
        ((1000, 500), (2, 1)),
        ((65536, 1), (256, 1)),
        ((601, 300), (256, 128)),
    ):
        objects.learn(group(3, _1=weights[0], _2=weights[1]))
        flat, _named = objects.flattened(ROUTE)
        assert tuple(hop.weight for hop in flat.nexthops) == expected
        RouteWriter(rtnetlink.RTM_NEWROUTE, 0).message(KEY, replace(flat, nh_id=None))


def test_a_group_in_a_group_is_named_and_not_half_of_its_hops_taken() -> None:
    objects = nexthops.Objects()
    objects.learn(single(1, "192.0.2.1", 3) + group(2, _1=1) + group(3, _1=1, _2=1))
    assert objects.flattened(ROUTE)[0].extras == ("nested group",)


def test_an_ipv6_route_gets_the_hops_of_its_object() -> None:
    replica = Replica(Rib([MAIN]))
    replica.apply(single(4, "fd00:1::2", 3))
    replica.apply(RouteWriter(rtnetlink.RTM_NEWROUTE, CREATED).message(0, Path(AF_INET6, metric=1024, nh_id=4)))
    assert [path.nexthops for path in paths_of(replica.rib.tables[AF_INET6, MAIN][0])] == [(hop("fd00:1::2", 3),)]


def test_a_group_that_loses_a_member_while_it_is_fetched_is_fetched_again() -> None:
    replica = Replica(Rib([MAIN]))
    replica.apply(route())
    replica.rib.objects.learn(group(3, _1=1, _2=5) + single(1, "192.0.2.1", 3))
    replica.rib.resolve()
    assert list(replica.rib.objects.missing) == [2]  # which is gone
    assert replica.rib.objects.forget_torn()
    replica.rib.resolve()
    assert list(replica.rib.objects.missing) == [3]
    replica.rib.objects.learn(group(3, _1=1))
    replica.rib.resolve()
    assert not replica.rib.objects.forget_torn()
    assert [path.nexthops for path in held(replica)] == [(hop("192.0.2.1", 3),)]
