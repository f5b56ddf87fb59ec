# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which events of links, addresses and nexthop objects silently change routes, and what is re-read for them."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import (
    ALL_LINKS,
    Link,
    LinkAddress,
    NetConf,
    Rule,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTN_UNICAST,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.route_codec import RouteWriter
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.netlink.rtnetlink import (
    NLM_F_CREATE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNETCONF,
    RTM_DELNEXTHOP,
    RTM_DELRULE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWNEXTHOP,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    WireError,
    attribute,
    request,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.replica import Replica
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.replica.rib import Reread, Rib
from ansible_collections.ekho.ynl_mirror.tests.support.build.messages import address, link, rule, single

AF_BRIDGE = 7
ETH1 = Link(3, "eth1", master=9)
LAB = Rule(AF_INET, 1000, 10, "eth1")


@pytest.fixture
def replica() -> Replica:
    """Knows eth1 with two addresses and a rule, and follows table 10; no re-read is requested."""
    made = Replica(Rib([10]))
    made.load(
        [ETH1],
        [
            LinkAddress(3, Address.parse("192.0.2.1"), 24),
            LinkAddress(3, Address.parse("fd00::1"), 64),
            LinkAddress(4, Address.parse("192.0.2.2"), 24),
        ],
        [LAB],
    )
    made.view_changed = False
    return made


def reread(replica: Replica) -> set[int | None]:
    """The links whose routes are to be re-read (None: all routes), in both families alike."""
    scopes = replica.rib.take_rereads()
    links = {scope.oif for scope in scopes}
    expected = {Reread(family, 10, oif) for family in (AF_INET, AF_INET6) for oif in links}
    assert set(scopes) == expected
    return links


@pytest.mark.parametrize(
    "state",
    [
        Link(3, "eth1", up=False, carrier=False, master=9),
        Link(3, "eth1", carrier=False, master=9),
        Link(3, "eth1", master=8),
        Link(3, "eth1", master=None),
    ],
    ids=["down", "no carrier", "another VRF", "no VRF"],
)
def test_a_link_event_silently_changes_ipv4_routes(replica: Replica, state: Link) -> None:
    replica.apply(link(state))
    assert replica.links[3] == state
    assert reread(replica) == {3}
    assert replica.view_changed
    replica.view_changed = False
    replica.apply(link(ETH1))  # and back
    assert reread(replica) == {3}
    assert replica.view_changed


def test_a_new_mtu_silently_changes_ipv6_routes(replica: Replica) -> None:
    replica.apply(link(Link(3, "eth1", master=9, mtu=1300)))
    assert replica.rib.take_rereads() == [Reread(AF_INET6, 10, 3)]


def test_a_renamed_link_changes_the_view_and_no_route(replica: Replica) -> None:
    replica.apply(link(Link(3, "uplink", master=9)))
    assert replica.links[3].name == "uplink"
    assert replica.view_changed
    assert reread(replica) == set()


def test_a_repeated_or_bridge_port_notification_changes_nothing(replica: Replica) -> None:
    replica.apply(link(ETH1))
    replica.apply(link(Link(3, "eth1", up=False), family=AF_BRIDGE))  # about a bridge port
    assert replica.links == {3: ETH1}
    assert not replica.view_changed
    assert reread(replica) == set()


def test_a_new_link_may_reuse_a_known_index(replica: Replica) -> None:
    replica.apply(link(ETH1, RTM_DELLINK))
    assert replica.links == {}
    assert {known.index for known in replica.addresses} == {4}
    assert reread(replica) == {3}
    assert replica.view_changed
    replica.apply(link(Link(3, "eth7")))
    assert replica.links == {3: Link(3, "eth7")}
    assert reread(replica) == {3}


def test_a_vrf_device_has_its_table(replica: Replica) -> None:
    vrf = Link(9, "a", kind="vrf", vrf_table=1234)
    replica.apply(link(vrf))
    assert replica.links[9] == vrf


@pytest.mark.parametrize("text", ["192.0.2.1", "fd00::1"])
def test_a_deleted_address_causes_a_reread_of_its_link(replica: Replica, text: str) -> None:
    length = 24 if "." in text else 64
    replica.apply(address(3, text, length, RTM_DELADDR))
    assert LinkAddress(3, Address.parse(text), length) not in replica.addresses
    assert len(replica.addresses) == 2
    assert reread(replica) == {3}
    assert replica.view_changed


@pytest.mark.parametrize("text", ["192.0.2.1", "fd00::1"])
def test_a_deleted_address_causes_a_reread_of_routes_that_had_it_as_source(replica: Replica, text: str) -> None:
    source, length = Address.parse(text), 24 if "." in text else 64
    for table, oif in ((10, 5), (11, 5), (10, None)):
        hops, kind = ((NextHop(None, oif),), RTN_UNICAST) if oif else ((), RTN_BLACKHOLE)
        path = Path(source.family, table, src=source, nexthops=hops, type=kind)
        replica.apply(RouteWriter(RTM_NEWROUTE, NLM_F_CREATE).message(Prefix(source.family, 0, 0).key, path))
    replica.apply(address(3, "192.0.2.9", 24, RTM_DELADDR))
    assert reread(replica) == {3}
    replica.apply(address(3, text, length, RTM_DELADDR))
    narrow = {Reread(family, 10, 3) for family in (AF_INET, AF_INET6) if family != source.family}
    assert set(replica.rib.take_rereads()) == {*narrow, Reread(source.family, 10)}  # the blackhole has no link


def test_a_first_ipv4_address_revives_the_dead_hops_of_its_link(replica: Replica) -> None:
    replica.apply(address(5, "198.51.100.1", 24))
    assert LinkAddress(5, Address.parse("198.51.100.1"), 24) in replica.addresses
    assert reread(replica) == {5}
    assert replica.view_changed


def test_a_refreshed_address_or_a_new_ipv6_one_changes_no_route(replica: Replica) -> None:
    replica.apply(address(3, "192.0.2.1", 24))
    assert not replica.view_changed
    replica.apply(address(3, "fd00::2", 64))
    assert replica.view_changed
    assert reread(replica) == set()


def test_the_same_address_on_two_links_is_two_addresses(replica: Replica) -> None:
    replica.apply(address(3, "192.0.2.2", 24))
    replica.apply(address(4, "192.0.2.2", 24, RTM_DELADDR))
    assert {known.index for known in replica.addresses if str(known.address) == "192.0.2.2"} == {3}


def test_on_a_point_to_point_link_the_local_address_is_kept(replica: Replica) -> None:
    replica.apply(address(3, "10.0.0.1", 32, peer="10.0.0.2"))
    replica.apply(address(3, "fd00:7::1", 128, peer="fd00:7::2"))
    known = {str(item.address) for item in replica.addresses}
    assert {"10.0.0.1", "fd00:7::1"} <= known
    assert not {"10.0.0.2", "fd00:7::2"} & known


def test_rules_change_the_view_and_are_kept_by_priority(replica: Replica) -> None:
    first = Rule(AF_INET, 5, 300, "eth2")
    from_source = Rule(AF_INET6, 2000, 20, source=Prefix.parse("fd00:1::/64"))
    for new in (from_source, first, first):
        replica.apply(rule(new))
    assert replica.rules == [first, LAB, from_source]
    assert replica.view_changed
    replica.apply(rule(LAB, RTM_DELRULE))
    assert replica.rules == [first, from_source]
    replica.view_changed = False
    replica.apply(rule(LAB, RTM_DELRULE))
    replica.apply(rule(first))
    assert not replica.view_changed
    assert reread(replica) == set()


@pytest.mark.parametrize("kind", [RTM_NEWNEXTHOP, RTM_DELNEXTHOP])
def test_a_nexthop_object_silently_changes_routes_that_use_it(replica: Replica, kind: int) -> None:
    used, other = (single(number, "192.0.2.2", 3, kind) for number in (7, 8))
    replica.apply(used)
    assert reread(replica) == set()
    path = Path(AF_INET, 10, nh_id=7, nexthops=(NextHop(None, 3),))
    replica.apply(RouteWriter(RTM_NEWROUTE, NLM_F_CREATE).message(Prefix.parse("10.0.0.0/8").key, path))
    replica.apply(other)
    assert reread(replica) == set()
    replica.apply(used)
    assert replica.rib.take_rereads() == [Reread(AF_INET, 10)]


def test_a_full_resync_marks_the_view_as_changed_only_if_it_differs(replica: Replica) -> None:
    links, addresses, rules = list(replica.links.values()), list(replica.addresses), list(replica.rules)
    replica.load(links, addresses, rules)
    assert not replica.view_changed
    replica.load(links, addresses[1:], rules)
    assert replica.view_changed
    assert replica.addresses == set(addresses[1:])


@pytest.mark.parametrize("kind", [RTM_NEWLINK, RTM_NEWADDR, RTM_NEWRULE])
def test_a_truncated_notification_is_a_wire_error(replica: Replica, kind: int) -> None:
    with pytest.raises(WireError):
        replica.apply(request(kind, 0, bytes(5)))


def test_all_messages_of_one_notification_are_applied(replica: Replica) -> None:
    route = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE)
    path = Path(AF_INET, 10, nexthops=(NextHop(None, 3),))
    keys = [Prefix.parse(text).key for text in ("10.0.0.0/8", "11.0.0.0/8")]
    replica.apply(b"".join(route.message(key, path) for key in keys))
    assert list(replica.rib.tables[AF_INET, 10]) == keys
    replica.apply(link(Link(3, "eth1", up=False, master=9)) + link(Link(4, "eth2")))
    assert reread(replica) == {3, 4}


# -- sysctls ----------------------------------------------------------------------------------------------------------


def netconf(index: int, kind: int = RTM_NEWNETCONF, **values: bool) -> bytes:
    numbers = {"forwarding": 2, "ignores_linkdown": 6}
    body = bytes((AF_INET, 0, 0, 0)) + attribute(1, struct.pack("=i", index))
    for name, value in values.items():
        body += attribute(numbers[name], struct.pack("=i", value))
    return request(kind, 0, body)


def test_sysctls_of_forwarding_are_known_and_their_changes_reported(replica: Replica) -> None:
    read = [NetConf(AF_INET, 3, True, False), NetConf(AF_INET, ALL_LINKS, True, False)]
    replica.load(replica.links.values(), replica.addresses, replica.rules, read)
    assert replica.netconf == replica.netconf_changed == {(conf.family, conf.index): conf for conf in read}
    replica.netconf_changed.clear()
    replica.apply(netconf(3, forwarding=True))
    assert not replica.netconf_changed
    replica.apply(netconf(3, forwarding=False))
    assert replica.netconf_changed == {(AF_INET, 3): NetConf(AF_INET, 3, False, False)}
    assert replica.netconf[AF_INET, 3] == NetConf(AF_INET, 3, False, False)
    replica.apply(netconf(3, RTM_DELNETCONF))
    assert (AF_INET, 3) not in replica.netconf
    assert not replica.netconf_changed
    assert replica.rib.take_rereads() == []


def test_routes_without_carrier_are_read_again_when_their_use_is_switched(replica: Replica) -> None:
    replica.apply(netconf(3, ignores_linkdown=True))
    assert replica.rib.take_rereads() == [Reread(AF_INET, 10, 3)]
    replica.apply(netconf(ALL_LINKS, ignores_linkdown=True))
    assert replica.rib.take_rereads() == [Reread(AF_INET, 10)]
    replica.apply(netconf(ALL_LINKS, ignores_linkdown=True))
    replica.apply(netconf(4, ignores_linkdown=False))
    assert replica.rib.take_rereads() == []


def test_discard_routes_of_ipv6_are_read_again_when_lo_goes_down(replica: Replica) -> None:
    replica.apply(link(Link(1, "lo")))
    replica.rib.take_rereads()
    replica.apply(link(Link(1, "lo", up=False, carrier=False)))
    assert Reread(AF_INET6, 10) in replica.rib.take_rereads()
