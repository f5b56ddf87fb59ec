# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host shows of itself: its gateways, addresses and subnets, and which links of the DPU lead to it."""

from __future__ import annotations

import pytest

from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.host import HostFacts, Uplinks
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.placement import Mapper
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.mapping.policy import MappingRule, Policy
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.links import Link
from ansible_collections.ekho.ynl_mirror.plugins.module_utils._ynl_mirror.model.routes import (
    AF_INET,
    AF_INET6,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    Address,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.tests.support.build.mapping_dpu import (
    LAB_OF_THREE,
    LINKS,
    THREE_VRFS,
    A,
    B,
    C,
    hops,
    host,
    reason,
    told,
    view,
)


def note(facts: HostFacts, prefix: str, way: str | None, kind: int = 1) -> None:
    """The host announces a prefix, or withdraws it."""
    wanted = Prefix.parse(prefix)
    path = None if way is None else Path(wanted.family, type=kind, nexthops=hops(way))
    facts.note(wanted.family, wanted.key, path)


def uplinks(facts: HostFacts, *named: str) -> Uplinks:
    return Uplinks(view(), facts, named)


# -- what is remembered


def test_addresses_and_connected_prefixes_are_noted_until_they_are_withdrawn() -> None:
    facts = HostFacts()
    note(facts, "192.168.101.0/24", "@7")
    note(facts, "192.168.101.2/32", "@7", RTN_LOCAL)
    subnet, address = (Prefix.parse(text).key for text in ("192.168.101.0/24", "192.168.101.2/32"))
    assert (facts.connected, facts.addresses) == ({(AF_INET, subnet): 7}, {(AF_INET, address): 7})
    assert facts.told(AF_INET) == {subnet, address}
    assert facts.told(AF_INET6) == set()
    note(facts, "192.168.101.0/24", None)
    assert facts.told(AF_INET) == {address}
    note(facts, "192.168.101.2/32", "192.168.102.1@8")  # a route like any other now
    assert facts.told(AF_INET) == set()


@pytest.mark.parametrize(
    ("way", "kind"),
    [("192.168.102.1@7", 1), ("@7 @8", 1), ("", RTN_BLACKHOLE), ("@7", RTN_BLACKHOLE)],
)
def test_other_routes_tell_nothing(way: str, kind: int) -> None:
    facts = HostFacts()
    note(facts, "192.168.101.0/24", way, kind)
    assert facts.told(AF_INET) == set()
    assert facts.version == 0
    assert not HostFacts.may_tell(Path(AF_INET, type=kind, nexthops=hops(way)))


def test_a_local_prefix_is_no_address() -> None:
    facts = HostFacts()
    note(facts, "127.0.0.0/8", "@1", RTN_LOCAL)
    assert facts.addresses == {}


def test_only_news_change_the_version() -> None:
    facts = HostFacts()
    for way, version in (("@7", 1), ("@7", 1), ("@8", 2), (None, 3), (None, 3)):
        note(facts, "192.168.101.0/24", way)
        assert facts.version == version


def test_a_gateway_is_news_if_the_dpu_has_the_address() -> None:
    facts, owners = HostFacts(), view().owners
    facts.learn_gateways(Path(AF_INET, nexthops=hops("192.168.99.1@7")), owners)
    assert facts.version == 0
    for _time in range(2):
        facts.learn_gateways(Path(AF_INET, nexthops=hops("192.168.102.1@7 @8")), owners)
        assert facts.version == 1
    assert facts.gateways == {Address.parse("192.168.99.1"), Address.parse("192.168.102.1")}


# -- the links that lead to the host


def test_links_lead_to_the_host_by_name_by_gateway_and_by_subnet() -> None:
    facts = HostFacts()
    assert uplinks(facts).links == set()
    assert uplinks(facts, "eth5", "gone").links == {5}
    facts.gateways.add(Address.parse("192.168.101.1"))
    note(facts, "fd00:102::/64", "@8")
    assert uplinks(facts).links == {1, 2}


def test_so_does_what_runs_on_top_of_one() -> None:
    """A VLAN or macvlan link; but not what runs on top of another link, and no VRF device."""
    more = {
        21: Link(21, "eth1.5", kind="vlan", lower=1),
        22: Link(22, "eth3.5", kind="vlan", lower=3),
        23: Link(23, "a", kind="vrf", vrf_table=A, lower=1),
    }
    assert Uplinks(view(links={**LINKS, **more}), HostFacts(), ("eth1",)).links == {1, 21}


def test_links_that_share_a_subnet_are_the_ends_of_one_cable() -> None:
    facts = HostFacts()
    note(facts, "192.168.101.0/24", "@7")
    note(facts, "fd00:102::/64", "@8")
    note(facts, "172.16.0.0/24", "@9")
    assert uplinks(facts).pairs == {7: {1}, 8: {2}}
    note(facts, "192.168.102.0/24", "@7")  # a bridge of the host's, for example
    assert uplinks(facts).pairs == {7: {1, 2}, 8: {2}}


def test_link_local_subnets_and_single_addresses_pair_nothing() -> None:
    facts = HostFacts()
    note(facts, "fe80::/64", "@7")
    note(facts, "192.168.101.1/32", "@7")
    assert uplinks(facts).pairs == {}


def test_an_address_may_be_the_hosts_unless_it_has_announced_others() -> None:
    facts = HostFacts()
    addresses = {text: Address.parse(text) for text in ("192.168.101.2", "192.168.101.9", "fe80::7", "fd00:101::2")}
    assert all(map(uplinks(facts).is_host, addresses.values()))
    note(facts, "192.168.101.2/32", "@7", RTN_LOCAL)
    assert {text for text, address in addresses.items() if uplinks(facts).is_host(address)} == {
        "192.168.101.2",
        "fe80::7",  # is on one link only, and nobody announces it
        "fd00:101::2",  # it has announced none of this family
    }


def test_the_host_forwards_what_it_does_not_refuse() -> None:
    facts = HostFacts()
    note(facts, "192.168.101.0/24", "@7")
    note(facts, "192.168.102.0/24", "@8")
    assert uplinks(facts).forwards(AF_INET, 1)
    facts.forwarding = {(AF_INET, 7): False, (AF_INET, -1): True, (AF_INET6, -1): False, (AF_INET6, 7): True}
    seen = uplinks(facts, "eth5")
    # Link 5 has no pair: as long as any link of the host's is closed, it may be the one.
    assert [seen.forwards(AF_INET, link) for link in (1, 2, 5)] == [False, True, False]
    assert [seen.forwards(AF_INET6, link) for link in (1, 2, 5)] == [False, False, False]  # by one setting for all
    facts.forwarding = {(AF_INET, -1): False, (AF_INET, 7): True}
    assert [seen.forwards(AF_INET, link) for link in (1, 2, 5)] == [True, True, False]


# -- what is learnt late


def test_a_link_to_the_host_is_learnt_late_and_what_was_mapped_before_is_mapped_again() -> None:
    # A route to the host's other uplink: until a gateway on eth2 is seen, eth2 looks like any other link.
    detour = host("192.168.102.0/24", "192.168.101.1@9")
    by_static = Policy(static=(MappingRule("b", "eth2", prefix=Prefix.parse("192.168.102.0/24")),))
    mapper = Mapper(view(), by_static)
    assert told(mapper.map(*detour)) == {A: "@2"}
    assert mapper.learnt  # eth1
    mapper.learnt = False
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@8"))
    assert not mapper.learnt
    mapper.map(*host("192.168.12.0/24", "192.168.102.1@9"))
    assert mapper.learnt
    assert mapper.host_links == {1, 2}
    assert "egress link eth2 leads back to the host" in reason(mapper.map(*detour))


def test_an_egress_found_before_its_link_was_learnt_is_not_cached() -> None:
    seen = view((B, "10.0.0.0/8", "192.168.101.9@1"), routes=LAB_OF_THREE, vrfs=THREE_VRFS)
    mapper = Mapper(seen, Policy(host_links=("eth2", "eth5")))
    route = host("10.0.0.0/8", "192.168.102.1@9")
    assert told(mapper.map(*route)) == {C: "192.168.101.9@1!"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "egress link eth1 leads back to the host" in reason(mapper.map(*route))


def test_nor_is_one_that_a_rule_for_the_gateway_gave() -> None:
    rule = MappingRule("a", "eth1", gateway=Address.parse("192.168.99.1"))
    mapper = Mapper(view(), Policy(static=(rule,), host_links=("eth2",)))
    route = host("10.0.0.0/8", "192.168.99.1@9")
    assert told(mapper.map(*route)) == {B: "@1"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "egress link eth1 leads back to the host" in reason(mapper.map(*route))


def test_a_vrf_is_learnt_to_send_to_the_host() -> None:
    mapper = Mapper(view(), Policy())
    route = host("192.168.12.0/24", "192.168.102.1@9")
    assert told(mapper.map(*route)) == {}
    mapper.learnt = False
    note(mapper.facts, "192.168.101.0/24", "@7")
    mapper.look_at_host()
    assert mapper.learnt
    assert told(mapper.map(*route)) == {A: "@4"}


def test_what_changes_no_decision_is_nothing_to_learn() -> None:
    mapper = Mapper(view(), Policy(host_links=("eth1", "eth2")))
    note(mapper.facts, "172.16.0.0/24", "@9")
    mapper.map(*host("192.168.12.0/24", "192.168.102.1@9"))
    assert not mapper.learnt


def test_what_is_known_of_the_host_is_handed_on_to_the_mapper_of_the_next_view() -> None:
    facts = HostFacts()
    Mapper(view(), Policy(), facts).map(*host("192.168.12.0/24", "192.168.102.1@9"))
    after = Mapper(view(), Policy(), facts)
    assert after.host_links == {2}
    assert not after.learnt


def test_prefixes_that_nothing_names_share_one_reason() -> None:
    mapper = Mapper(view(), Policy())
    for gateway in ("192.168.99.1@9", "192.168.102.1@9"):
        first, second = (mapper.map(*host(prefix, gateway)) for prefix in ("10.1.0.0/16", "10.2.0.0/16"))
        assert first.reason is second.reason
        assert reason(first)
