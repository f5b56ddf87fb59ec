# Copyright (c) 2026 ynl-mirror contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mapping: the lab's two routes in both families, everything that must stay unmapped, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ekho.ynl_mirror.plugins.module_utils.links import Link, LinkAddress, Rule, Vrf
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.mapping import (
    INFERENCES,
    Mapper,
    MappingRule,
    Outcome,
    Policy,
    View,
    address_owners,
    discover_vrfs,
    own_routes,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.rib import Rib
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.routes import (
    AF_INET,
    AF_INET6,
    PROTO_MIRROR,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_UNREACHABLE,
    Address,
    NextHop,
    Path,
    Prefix,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.wire import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_NEWROUTE,
)
from ansible_collections.ekho.ynl_mirror.plugins.module_utils.wire_routes import RouteWriter

A, B, C = 10, 20, 30  # the VRFs' tables
ETH = {f"eth{number}": number for number in range(1, 7)}
LINKS = {index: Link(index, name) for name, index in ETH.items()}
VRFS = (Vrf("a", A, frozenset((1, 3))), Vrf("b", B, frozenset((2, 4))))
THREE_VRFS = (*VRFS, Vrf("c", C, frozenset((5, 6))))
ADDRESSES = tuple(
    LinkAddress(ETH[link], Address.parse(address), length)
    for link, address, length in (
        ("eth1", "192.168.101.1", 24),
        ("eth2", "192.168.102.1", 24),
        ("eth3", "192.168.11.1", 24),
        ("eth4", "192.168.12.1", 24),
        ("eth1", "fd00:101::1", 64),
        ("eth2", "fd00:102::1", 64),
        ("eth3", "fd00:11::1", 64),
        ("eth4", "fd00:12::1", 64),
        ("eth1", "fe80::101", 64),
        ("eth1", "fe80::1", 64),
        ("eth3", "fe80::1", 64),
        ("eth5", "192.168.103.1", 24),
    )
)
#: (table, prefix, next hops): the lab's DPU, each VRF with a default route to the host.
LAB = (
    (A, "192.168.11.0/24", "@3"),
    (A, "192.168.101.0/24", "@1"),
    (A, "0.0.0.0/0", "192.168.101.2@1"),
    (B, "192.168.12.0/24", "@4"),
    (B, "192.168.102.0/24", "@2"),
    (B, "0.0.0.0/0", "192.168.102.2@2"),
    (A, "fd00:11::/64", "@3"),
    (A, "fd00:101::/64", "@1"),
    (A, "::/0", "fd00:101::2@1"),
    (B, "fd00:12::/64", "@4"),
    (B, "fd00:102::/64", "@2"),
    (B, "::/0", "fd00:102::2@2"),
)
Own = tuple[int, str, str]


def hop(text: str) -> NextHop:
    """``192.0.2.2@3*5``: gateway, link and weight; each but the gateway or the link may be missing."""
    text, _star, weight = text.partition("*")
    gateway, _at, oif = text.partition("@")
    return NextHop(Address.parse(gateway) if gateway else None, int(oif) if oif else None, int(weight or 1))


def hops(text: str) -> tuple[NextHop, ...]:
    return tuple(map(hop, text.split()))


def own(table: int, prefix: str, way: str, **fields: object) -> tuple[Prefix, Path]:
    """A route of the DPU's own; *way* is its next hops."""
    wanted = Prefix.parse(prefix)
    path = Path(wanted.family, table, protocol=4, nexthops=hops(way), **fields)  # type: ignore[arg-type]
    return wanted, path


def view(
    *more: Own,
    routes: Iterable[Own] = LAB,
    others: Iterable[tuple[Prefix, Path]] = (),
    vrfs: tuple[Vrf, ...] = VRFS,
    links: dict[int, Link] = LINKS,
) -> View:
    made = View(vrfs, links, address_owners(ADDRESSES))
    for prefix, path in (*(own(*route) for route in (*routes, *more)), *others):
        made.lpm(prefix.family, path.table).set(prefix.key, path)
    return made


def host(prefix: str, way: str, **fields: object) -> tuple[int, Path]:
    """A route of the host: prefix key and path."""
    wanted = Prefix.parse(prefix)
    return wanted.key, Path(wanted.family, nexthops=hops(way), **{"protocol": 4, **fields})  # type: ignore[arg-type]


def mapped(prefix: str, way: str, seen: View | None = None, policy: Policy | None = None, **fields: object) -> Outcome:
    return Mapper(seen or view(), policy or Policy()).map(*host(prefix, way, **fields))


def told(outcome: Outcome) -> dict[int, str]:
    """The outcome in the words of these tests: table -> next hops, a ``!`` behind each that is onlink."""
    return {
        table: " ".join(
            f"{one.gateway or ''}@{one.oif}" + (f"*{one.weight}" if one.weight > 1 else "") + "!" * one.onlink
            for one in path.nexthops
        )
        for table, path in outcome.targets.items()
    }


def reason(outcome: Outcome) -> str:
    assert not outcome.targets
    assert outcome.reason
    return outcome.reason


# -- the lab


@pytest.mark.parametrize(
    ("prefix", "gateway", "expected"),
    [
        ("192.168.11.0/24", "192.168.101.1", {B: "@3"}),
        ("192.168.12.0/24", "192.168.102.1", {A: "@4"}),
        ("fd00:11::/64", "fd00:101::1", {B: "@3"}),
        ("fd00:12::/64", "fd00:102::1", {A: "@4"}),
        ("192.168.12.0/25", "192.168.102.1", {A: "@4"}),  # a part of what the DPU knows
        ("fd00:12::7/128", "fd00:102::1", {A: "@4"}),
        ("192.168.12.0/24", "fd00:102::1", {A: "@4"}),  # an IPv6 gateway for an IPv4 prefix (RFC 8950)
    ],
)
def test_the_seeds_routes_land_in_the_other_vrf(prefix: str, gateway: str, expected: dict[int, str]) -> None:
    assert told(mapped(prefix, f"{gateway}@9")) == expected


def test_a_mirrored_route_is_written_as_the_kernel_will_report_it() -> None:
    (path,) = mapped("192.168.12.0/24", "192.168.102.1@9").targets.values()
    assert path == Path(AF_INET, A, protocol=PROTO_MIRROR, scope=RT_SCOPE_LINK, nexthops=(NextHop(None, 4),))
    (path,) = mapped("fd00:12::/64", "fd00:102::1@9").targets.values()
    assert path == Path(AF_INET6, A, protocol=PROTO_MIRROR, metric=1024, nexthops=(NextHop(None, 4),))
    behind = view((B, "10.0.0.0/8", "192.168.12.9@4"))
    (path,) = mapped("10.0.0.0/8", "192.168.102.1@9", behind).targets.values()
    assert path.scope == RT_SCOPE_UNIVERSE


def test_owner_and_metric_of_mirrored_routes_are_the_users() -> None:
    policy = Policy(protocol=77, metric=50)
    for prefix, gateway in (("192.168.12.0/24", "192.168.102.1"), ("fd00:12::/64", "fd00:102::1")):
        (path,) = mapped(prefix, gateway, policy=policy).targets.values()
        assert (path.protocol, path.metric) == (77, 50)


def test_equal_outcomes_are_one_object() -> None:
    mapper = Mapper(view(), Policy())
    first = mapper.map(*host("192.168.12.0/25", "192.168.102.1@9"))
    again = mapper.map(*host("192.168.12.128/25", "192.168.102.1@9"))
    assert first.targets[A] is again.targets[A]
    other = mapper.map(*host("192.168.12.0/26", "192.168.102.1@9", metric=3))
    assert other.targets[A] is first.targets[A]


# -- what has no exit


def test_a_default_route_of_the_dpu_that_points_at_the_host_is_a_loop() -> None:
    words = reason(mapped("10.9.0.0/16", "192.168.102.1@9"))
    assert "nexthop: the exit eth2 leads back to the host" in words


def test_the_default_route_of_the_host_covers_subnets_that_leave_another_way() -> None:
    for default, gateway in (("0.0.0.0/0", "192.168.102.1"), ("::/0", "fd00:102::1")):
        words = reason(mapped(default, gateway))
        assert "nexthop: ambiguous: vrf b sends a part" in words
        assert f"prefix: ambiguous: {default} is in the VRFs a, b" in words


def test_a_link_to_the_host_that_the_user_names_is_no_exit_either() -> None:
    assert "the exit eth4 leads back to the host" in reason(
        mapped("192.168.12.0/24", "192.168.102.1@9", policy=Policy(host_links=("eth4",)))
    )


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
    assert "the exit eth2 leads back to the host" in reason(mapper.map(*detour))


def test_an_exit_found_by_nexthop_before_its_link_was_learnt_is_not_remembered() -> None:
    mapper = Mapper(view((B, "10.0.0.0/8", "192.168.101.9@1")), Policy())
    route = host("10.0.0.0/8", "192.168.102.1@9")
    assert told(mapper.map(*route)) == {A: "192.168.101.9@1!"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "the exit eth1 leads back to the host" in reason(mapper.map(*route))


def test_nor_is_one_that_a_rule_for_the_gateway_gave() -> None:
    rule = MappingRule("a", "eth1", gateway=Address.parse("192.168.99.1"))
    mapper = Mapper(view(), Policy(static=(rule,)))
    assert told(mapper.map(*host("10.0.0.0/8", "192.168.99.1@9"))) == {B: "@1"}
    mapper.map(*host("192.168.11.0/24", "192.168.101.1@9"))
    assert "the exit eth1 leads back to the host" in reason(mapper.map(*host("10.0.0.0/8", "192.168.99.1@9")))


def test_prefixes_that_nothing_names_share_one_reason() -> None:
    mapper = Mapper(view(), Policy())
    for gateway in ("192.168.99.1@9", "192.168.102.1@9"):
        first, second = (mapper.map(*host(prefix, gateway)) for prefix in ("10.1.0.0/16", "10.2.0.0/16"))
        assert first.reason is second.reason
        assert reason(first)


def test_gateways_are_handed_on_to_the_mapper_of_the_next_view() -> None:
    gateways: set[Address] = set()
    Mapper(view(), Policy(), gateways).map(*host("192.168.12.0/24", "192.168.102.1@9"))
    after = Mapper(view(), Policy(), gateways)
    assert after.host_links == {2}
    assert not after.learnt


def test_a_connected_route_of_the_host_is_not_mirrored() -> None:
    assert reason(mapped("192.168.102.0/24", "@9")) == "connected on the host: no gateway"
    assert reason(mapped("10.0.0.0/8", "192.168.102.1@9 @8")) == "connected on the host: no gateway"


@pytest.mark.parametrize("kind", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_LOCAL])
def test_a_route_that_forwards_nothing_has_no_exit(kind: int) -> None:
    assert "has no exit" in reason(mapped("192.168.12.0/24", "", type=kind))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tos": 16}, "for tos 0x10 only"),
        ({"extras": ("encap", "newdst")}, "cannot express encap, newdst"),
    ],
)
def test_what_the_dpu_cannot_express_is_said_and_not_dropped(fields: dict[str, object], words: str) -> None:
    assert words in reason(mapped("192.168.12.0/24", "192.168.102.1@9", **fields))


def test_a_route_without_next_hops_says_so() -> None:
    assert reason(mapped("10.0.0.0/8", "")) == "no next hop"
    assert reason(mapped("10.0.0.0/8", "", nh_id=7)) == "nexthop object 7 came without its next hops"


def test_an_unknown_gateway_is_named() -> None:
    words = reason(mapped("192.168.12.0/24", "192.168.99.1@9", policy=Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.99.1 is no address of the DPU"


def test_a_gateway_on_a_link_outside_all_vrfs_is_named() -> None:
    words = reason(mapped("192.168.12.0/24", "192.168.103.1@9", policy=Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.103.1 is on eth5, which is in no VRF"


def test_a_link_local_gateway_says_where_only_when_one_link_owns_it() -> None:
    assert told(mapped("fd00:11::/64", "fe80::101@9")) == {B: "@3"}
    words = reason(mapped("fd00:10::/64", "fe80::1@9"))
    assert "gateway fe80::1 is an address of several links: eth1, eth3" in words


@pytest.mark.parametrize("state", [{"up": False}, {"carrier": False}])
def test_an_exit_link_that_is_down_is_no_exit(state: dict[str, bool]) -> None:
    links = {**LINKS, 4: replace(LINKS[4], **state)}
    assert "the exit link eth4 is down" in reason(mapped("192.168.12.0/24", "192.168.102.1@9", view(links=links)))


def test_an_exit_link_that_is_gone_is_no_exit() -> None:
    links = {index: link for index, link in LINKS.items() if index != 4}
    words = reason(mapped("192.168.12.0/24", "192.168.102.1@9", view(links=links)))
    assert "its exit link does not exist" in words


def test_the_unreachable_default_of_a_vrf_table_is_no_exit() -> None:
    routes = [route for route in LAB if "/0" not in route[1]]
    for default, gateway, wanted in (
        ("0.0.0.0/0", "192.168.102.1", "10.0.0.0/8"),
        ("::/0", "fd00:102::1", "fd99::/16"),
    ):
        stop = own(B, default, "", type=RTN_UNREACHABLE, metric=4278198272)
        words = reason(mapped(wanted, gateway, view(routes=routes, others=[stop])))
        assert f"nexthop: vrf b says unreachable for {default}" in words


def test_a_route_of_the_dpu_with_an_encap_or_without_hops_is_no_exit() -> None:
    for fields in ({"extras": ("encap",)}, {"nexthops": ()}):
        prefix, path = own(B, "10.0.0.0/8", "@4")
        words = reason(mapped("10.0.0.0/8", "192.168.102.1", view(others=[(prefix, replace(path, **fields))])))
        assert "nexthop: the route of vrf b to 10.0.0.0/8 has no plain next hop" in words


# -- more-specific routes of the source VRF


def test_a_part_that_leaves_another_way_makes_the_route_ambiguous() -> None:
    crowded = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "10.1.0.0/16", "192.168.12.8@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.102.1", crowded, Policy(inference=("nexthop",))))
    assert words == "nexthop: ambiguous: vrf b sends a part, 10.1.0.0/16, another way than 10.0.0.0/8"
    assert told(mapped("10.1.0.0/16", "192.168.102.1", crowded)) == {A: "192.168.12.8@4!"}
    assert told(mapped("10.2.0.0/16", "192.168.102.1", crowded)) == {A: "192.168.12.9@4!"}


def test_a_part_that_leaves_the_same_way_does_not() -> None:
    crowded = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "10.1.0.0/16", "192.168.12.9@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", crowded)) == {A: "192.168.12.9@4!"}


@pytest.mark.parametrize("kind", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT])
def test_a_part_that_the_source_vrf_discards_makes_the_route_ambiguous(kind: int) -> None:
    hole = own(B, "10.1.0.0/16", "", type=kind)
    seen = view((B, "10.0.0.0/8", "192.168.12.9@4"), others=[hole])
    assert "ambiguous: vrf b sends a part, 10.1.0.0/16, another way" in reason(
        mapped("10.0.0.0/8", "192.168.102.1", seen, Policy(inference=("nexthop",)))
    )


def test_the_dpus_own_addresses_in_a_subnet_do_not() -> None:
    # The table of a VRF device holds its local and broadcast routes.
    address = own(B, "192.168.12.1/32", "@4", type=RTN_LOCAL)
    assert told(mapped("192.168.12.0/24", "192.168.102.1", view(others=[address]))) == {A: "@4"}


# -- gateways, several hops, several VRFs


def test_a_gateway_exit_is_onlink_since_the_other_vrf_has_no_route_to_it() -> None:
    behind = view((B, "10.0.0.0/8", "192.168.12.9@4"), (B, "fd99::/16", "fd00:12::9@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", behind)) == {A: "192.168.12.9@4!"}
    assert told(mapped("fd99::/16", "fd00:102::1", behind)) == {A: "fd00:12::9@4!"}


def test_a_multipath_exit_keeps_its_weights() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4"))
    assert told(mapped("10.0.0.0/8", "192.168.102.1", spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4!"}


def test_host_hops_into_several_vrfs_leave_only_the_others_to_install_in() -> None:
    both = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"), vrfs=THREE_VRFS)
    way = "192.168.101.1@8*3 192.168.102.1@9*2"
    assert told(mapped("10.0.0.0/8", way, both)) == {C: "192.168.11.9@3*3! 192.168.12.9@4*2!"}
    only_two = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    assert reason(mapped("10.0.0.0/8", way, only_two)) == "no other VRF imports from vrf a, b"


def test_equal_exits_of_several_host_hops_are_one() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4*3 192.168.12.8@4*2"))
    way = "192.168.102.1@9*2 192.168.102.1@8*3"
    assert told(mapped("10.0.0.0/8", way, spread)) == {A: "192.168.12.9@4*3! 192.168.12.8@4*2!"}
    assert told(mapped("192.168.12.0/24", way)) == {A: "@4"}


@pytest.mark.parametrize(
    ("way_a", "way_b", "host_weights", "expected"),
    [
        ("192.168.11.9@3", "192.168.12.9@4", (1, 1), (1, 1)),
        ("192.168.11.9@3 192.168.11.8@3", "192.168.12.9@4", (1, 1), (1, 1, 2)),
        ("192.168.11.9@3*2 192.168.11.8@3", "192.168.12.9@4", (1, 2), (2, 1, 6)),
        ("192.168.11.9@3*100 192.168.11.8@3*50", "192.168.12.9@4", (100, 100), (2, 1, 3)),
        ("192.168.11.9@3*256 192.168.11.8@3*1", "192.168.12.9@4", (1, 1), (255, 1, 256)),
    ],
)
def test_what_a_host_hop_carries_is_divided_among_the_hops_of_its_exit(
    way_a: str, way_b: str, host_weights: tuple[int, int], expected: tuple[int, ...]
) -> None:
    both = view((A, "10.0.0.0/8", way_a), (B, "10.0.0.0/8", way_b), vrfs=THREE_VRFS)
    outcome = mapped("10.0.0.0/8", "192.168.101.1@8*{} 192.168.102.1@9*{}".format(*host_weights), both)
    assert tuple(one.weight for one in outcome.targets[C].nexthops) == expected


def test_one_hop_without_an_exit_leaves_the_whole_route_unmapped() -> None:
    spread = view((B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.102.1@9 192.168.99.1@9", spread, Policy(inference=("nexthop",))))
    assert words == "nexthop: gateway 192.168.99.1 is no address of the DPU"


def test_every_other_vrf_imports_unless_a_policy_says_from_whom() -> None:
    seen = view(vrfs=THREE_VRFS)
    route = ("192.168.12.0/24", "192.168.102.1@9")
    assert told(mapped(*route, seen)) == {A: "@4", C: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a",)}))) == {A: "@4"}
    assert told(mapped(*route, seen, Policy(imports={"c": ("a", "b"), "a": ()}))) == {C: "@4"}
    nobody = Policy(imports={"a": (), "c": ()})
    assert reason(mapped(*route, seen, nobody)) == "no other VRF imports from vrf b"


#: The devices of the VRFs b and c, as links.
DEVICES = {8: Link(8, "b", kind="vrf", vrf_table=B), 9: Link(9, "c", kind="vrf", vrf_table=C)}


@pytest.mark.parametrize(("prefix", "gateway"), [("10.1.0.0/16", "192.168.101.1"), ("fd10:1::/32", "fd00:101::1")])
def test_a_route_leaked_into_a_vrf_through_its_device_is_no_route_of_that_vrf(prefix: str, gateway: str) -> None:
    leaked = ((A, "10.0.0.0/8", "@8"), (A, "fd10::/16", "@8"))
    seen = view(*leaked, vrfs=THREE_VRFS, links={**LINKS, **DEVICES})
    assert told(mapped(prefix, f"{gateway}@9", seen)) == {C: "@8"}
    words = reason(mapped(prefix, f"{gateway}@9", view(*leaked, links={**LINKS, **DEVICES})))
    assert words == "the exit dev b leads into a VRF, and no other VRF imports from vrf a"


def test_an_address_of_a_vrfs_device_is_in_that_vrf() -> None:
    """Its loopback, as routing daemons call it."""
    address = LinkAddress(8, Address.parse("192.0.2.1"), 32)
    seen = replace(view(links={**LINKS, **DEVICES}), owners=address_owners((*ADDRESSES, address)))
    assert told(mapped("192.168.12.0/24", "192.0.2.1@9", seen)) == {A: "@4"}


@pytest.mark.parametrize("table", [0, 253, 254, 255])
def test_the_tables_that_every_machine_has_are_never_written(table: int) -> None:
    seen = view(vrfs=(*VRFS, Vrf("whole", table, frozenset((5,)))))
    assert told(mapped("192.168.12.0/24", "192.168.102.1@9", seen)) == {A: "@4"}


# -- prefix and static


def test_a_dpu_route_to_the_same_prefix_tells_the_source_vrf_where_the_gateway_does_not() -> None:
    assert told(mapped("192.168.12.0/24", "192.168.99.1@9")) == {A: "@4"}
    assert told(mapped("192.168.12.0/24", "192.168.99.1@9", view(vrfs=THREE_VRFS))) == {A: "@4", C: "@4"}
    words = reason(mapped("192.168.12.0/25", "192.168.99.1@9"))
    assert "prefix: no VRF has a route of its own to this prefix" in words


def test_the_same_prefix_in_two_vrfs_is_ambiguous() -> None:
    both = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/8", "192.168.12.9@4"))
    words = reason(mapped("10.0.0.0/8", "192.168.99.1@9", both))
    assert "prefix: ambiguous: 10.0.0.0/8 is in the VRFs a, b" in words


def test_static_rules_match_by_prefix_or_gateway_and_the_first_one_counts() -> None:
    rules = (
        MappingRule("b", "eth4", prefix=Prefix.parse("10.1.0.0/16"), via=Address.parse("192.168.12.9")),
        MappingRule("a", "eth3", gateway=Address.parse("192.168.99.1")),
        MappingRule("b", "eth4", prefix=Prefix.parse("0.0.0.0/0")),
    )
    policy = Policy(inference=("static",), static=rules)
    assert told(mapped("10.1.2.0/24", "192.168.99.1@9", policy=policy)) == {A: "192.168.12.9@4!"}
    assert told(mapped("10.0.0.0/8", "192.168.99.1@9", policy=policy)) == {B: "@3"}
    assert told(mapped("10.0.0.0/8", "192.168.98.1@9", policy=policy)) == {A: "@4"}
    assert reason(mapped("fd99::/16", "fd00:98::1@9", policy=policy)) == "static: no rule matches"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (MappingRule("x", "eth4", prefix=Prefix.parse("10.0.0.0/8")), "the rule names vrf x, which does not exist"),
        (MappingRule("b", "eth9", prefix=Prefix.parse("10.0.0.0/8")), "the rule names link eth9, which does not exist"),
    ],
)
def test_a_rule_about_what_does_not_exist_says_so(rule: MappingRule, words: str) -> None:
    assert words in reason(mapped("10.0.0.0/8", "192.168.99.1@9", policy=Policy(static=(rule,))))


def test_the_order_of_inferences_is_the_users() -> None:
    seen = view((A, "10.0.0.0/8", "192.168.11.9@3"), (B, "10.0.0.0/7", "192.168.12.9@4"))
    rule = MappingRule("b", "eth4", prefix=Prefix.parse("10.0.0.0/8"))
    route = ("10.0.0.0/8", "192.168.102.1@9")
    expected = {"nexthop": {A: "192.168.12.9@4!"}, "prefix": {B: "192.168.11.9@3!"}, "static": {A: "@4"}}
    for first in INFERENCES:
        order = (first, *(name for name in INFERENCES if name != first))
        assert told(mapped(*route, seen, Policy(inference=order, static=(rule,)))) == expected[first]


def test_the_reason_names_every_inference_that_was_tried() -> None:
    words = reason(mapped("10.0.0.0/8", "192.168.99.1@9"))
    assert [part.split(":")[0] for part in words.split("; ")] == list(INFERENCES)


def test_each_step_is_told() -> None:
    steps: list[str] = []
    Mapper(view(), Policy()).trace(*host("192.168.12.0/24", "192.168.102.1@9"), steps.append)
    assert steps == [
        "nexthop: gateway 192.168.102.1 is on eth2 in vrf b (table 20)",
        "nexthop: vrf b reaches 192.168.12.0/24 by 192.168.12.0/24 dev eth4 proto static",
        "nexthop: exit dev eth4, known in vrf b",
        "goes into vrf a: every VRF that imports but the source",
    ]


# -- the short cut


@pytest.mark.parametrize("order", [("nexthop", "prefix", "static"), ("nexthop", "static", "prefix")])
def test_routes_that_share_a_match_share_no_exit_that_another_inference_found(order: tuple[str, ...]) -> None:
    # Both match vrf b's default route, which leads back to the host; only the first is known elsewhere.
    seen = view((A, "10.1.0.0/16", "192.168.11.9@3"))
    rule = MappingRule("a", "eth3", prefix=Prefix.parse("10.2.0.0/16"))
    mapper = Mapper(seen, Policy(inference=order, static=(rule,)))
    assert told(mapper.map(*host("10.1.0.0/16", "192.168.102.1@9"))) == {B: "192.168.11.9@3!"}
    assert told(mapper.map(*host("10.2.0.0/16", "192.168.102.1@9"))) == {B: "@3"}
    words = reason(mapper.map(*host("10.3.0.0/16", "192.168.102.1@9")))
    assert "no VRF has a route of its own to this prefix" in words


PLACES = ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/10", "10.192.0.0/10", "10.0.0.0/32")
WAYS = ("@3", "@4", "192.168.11.9@3", "192.168.12.9@4", "192.168.101.2@1", "192.168.102.2@2", "@4*2 @3", "@77")
GATEWAYS = ("192.168.101.1", "192.168.102.1", "192.168.103.1", "192.168.99.1", "192.168.11.1")
KINDS = (1, 1, 1, 1, RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_LOCAL)


@st.composite
def views(draw: st.DrawFn) -> View:
    others = []
    for _number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(KINDS))
        way = draw(st.sampled_from(WAYS)) if kind in (1, RTN_LOCAL) else ""
        others.append(own(draw(st.sampled_from((A, B, C))), draw(st.sampled_from(PLACES)), way, type=kind))
    down = draw(st.sampled_from((None, None, 3, 4)))
    links = {index: replace(link, up=index != down) for index, link in LINKS.items()}
    return view(routes=(), others=others, vrfs=draw(st.sampled_from((VRFS, THREE_VRFS))), links=links)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rule = MappingRule(
        draw(st.sampled_from(("a", "b", "x"))), "eth3", prefix=Prefix.parse(draw(st.sampled_from(PLACES)))
    )
    return Policy(
        inference=tuple(draw(st.permutations(INFERENCES))[: draw(st.integers(1, 3))]),
        static=draw(st.sampled_from(((), (rule,)))),
        imports=draw(st.sampled_from(({}, {"a": ("b",)}, {"a": (), "c": ("b",)}))),
        host_links=draw(st.sampled_from(((), ("eth4",)))),
    )


routes_of_a_host = st.lists(
    st.tuples(
        st.sampled_from(PLACES),
        st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2).map(" ".join),
        st.sampled_from((0, 0, 0, 16)),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=400)
@given(views(), policies(), routes_of_a_host)
def test_the_short_cut_never_differs_from_the_long_way(
    seen: View, policy: Policy, routes: list[tuple[str, str, int]]
) -> None:
    fast, slow = Mapper(seen, policy), Mapper(seen, policy)
    for prefix, way, tos in routes:
        key, path = host(prefix, way, tos=tos)
        assert fast.map(key, path) == slow.trace(key, path), prefix
        assert fast.host_links == slow.host_links
        assert fast.learnt == slow.learnt


@given(views(), policies(), routes_of_a_host)
def test_no_target_is_a_source_a_loop_or_a_link_that_is_down(
    seen: View, policy: Policy, routes: list[tuple[str, str, int]]
) -> None:
    mapper = Mapper(seen, policy)
    for prefix, way, tos in routes:
        outcome = mapper.map(*host(prefix, way, tos=tos))
        assert (outcome.reason is None) == bool(outcome.targets)
        for table, path in outcome.targets.items():
            assert table == path.table
            assert table in {vrf.table for vrf in seen.vrfs}
            assert path.oifs
            assert not path.oifs & mapper.host_links
            assert all(seen.links[index].up for index in path.oifs)


# -- the view


def test_vrf_devices_are_found_with_their_links() -> None:
    links = {
        1: Link(1, "lo"),
        2: Link(2, "b", kind="vrf", vrf_table=20),
        3: Link(3, "a", kind="vrf", vrf_table=10),
        4: Link(4, "eth1", master=3),
        5: Link(5, "eth2", master=2),
        6: Link(6, "br0", kind="bridge", master=2),
        7: Link(7, "port", master=6),
    }
    assert discover_vrfs(links, (), {}) == (Vrf("b", 20, frozenset((5, 6))), Vrf("a", 10, frozenset((4,))))


def test_named_vrfs_have_the_links_that_the_user_or_the_rules_give_them() -> None:
    rules = [Rule(AF_INET, 1, 10, "eth1"), Rule(AF_INET6, 1, 10, "eth3"), Rule(AF_INET, 2, 20), Rule(AF_INET, 0, 255)]
    found = discover_vrfs(LINKS, rules, {"a": (10, ()), "b": (20, ("eth2", "eth4", "gone"))})
    assert found == (Vrf("a", 10, frozenset((1, 3))), Vrf("b", 20, frozenset((2, 4))))


def test_the_dpus_own_routes_are_its_winners_in_the_vrfs_tables() -> None:
    rib = Rib([A, 99])
    writer = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL)
    append = RouteWriter(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
    prefix, best = own(A, "10.0.0.0/8", "@3", metric=5)
    rib.apply(writer.message(prefix.key, best))
    rib.apply(writer.message(prefix.key, replace(best, metric=9)))
    rib.apply(writer.message(prefix.key, replace(best, tos=16)))
    rib.apply(append.message(prefix.key, best.with_nexthops(NextHop(None, 4))))
    elsewhere, far = own(99, "10.0.0.0/8", "@4")
    rib.apply(writer.message(elsewhere.key, far))
    tables = own_routes(rib, VRFS)
    assert set(tables) == {(AF_INET, A), (AF_INET6, A), (AF_INET, B), (AF_INET6, B)}
    assert tables[AF_INET, A].exact(prefix.key) == best
    assert sum(map(len, tables.values())) == 1
